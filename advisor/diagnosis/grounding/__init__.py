"""Judging a model's answer against the gathered evidence: which claims stand, which cause, which remedy.

The judgement never trusts a word for being well put. It decides nothing about the incident either: `settle` in
`diagnosis.opinion` holds it beside the engine's own ranking. Pure.
"""

from __future__ import annotations

import json
import re

from pydantic import ValidationError

from advisor.diagnosis import Assessment, Cause, Hypothesis
from advisor.diagnosis.dossier import hypothesis_id
from advisor.diagnosis.grounding.claims import TIME_SLACK_SECONDS, JudgedClaim, Verdict, judge_claim
from advisor.diagnosis.grounding.facts import Fact, Facts, gather_facts
from advisor.diagnosis.model_answer import CauseAnswer, ClaimAnswer, ModelAnswer, RemedyAnswer
from advisor.errors import ModelAnswerInvalid, one_line
from advisor.evidence import ChangeAnswer
from advisor.playbook import Action, Playbook
from advisor.values import ActionType, CauseKind, Record

__all__ = [
    "Fact",
    "Facts",
    "JudgedCause",
    "JudgedClaim",
    "JudgedRemedy",
    "Judgement",
    "Verdict",
    "gather_facts",
    "judge_answer",
    "judge_claim",
    "parse_answer",
]

_COMMIT_CHARACTERS_MIN = 7  # what git shows at the least
_CHANGE_KINDS = (CauseKind.CONFIG_CHANGE, CauseKind.DEPLOY)
_MEMORY = re.compile(r"xm[xs]\b|-xm[xs]|ram_?percentage|memory|heap|java_(?:tool_)?opt", re.I)
_LARGER = re.compile(r"xm[xs]|memory|heap|limit|max|size|capacity|replicas|pool|threads|cpu|quota", re.I)


class JudgedCause(Record):
    """A cause of a model with what is known of it.

    Attributes:
        rank: Of the engine's hypothesis it names; None for a cause that the model added.
        fault: Why it cannot stand; empty where it can.
    """

    rank: int | None
    kind: CauseKind
    cause: Cause
    weight: float
    claims: tuple[JudgedClaim, ...] = ()
    fault: str = ""

    @property
    def stands(self) -> bool:
        """Return whether nothing speaks against it, and at least one of its claims is shown by evidence."""
        shown = any(c.verdict is Verdict.GROUNDED for c in self.claims)
        return not self.fault and shown and all(c.verdict is not Verdict.CONTRADICTED for c in self.claims)


class JudgedRemedy(Record):
    """The remedy that a model chose, and why it is refused, if it is."""

    action: Action
    fixes_cause: bool
    fault: str = ""


class Judgement(Record):
    """A model's answer after every part of it was checked.

    Attributes:
        faults: What a repair is asked to mend, in the order of weight.
    """

    outcome: str
    summary: JudgedClaim
    causes: tuple[JudgedCause, ...]
    claims: tuple[JudgedClaim, ...]
    remedy: JudgedRemedy | None
    would_settle: str
    faults: tuple[str, ...]

    @property
    def ungrounded(self) -> int:
        """Return how many claims were struck."""
        every = [*self.claims, *(claim for cause in self.causes for claim in cause.claims)]
        return sum(claim.verdict is not Verdict.GROUNDED for claim in every)


def parse_answer(text: str) -> ModelAnswer:
    """Return the answer inside a model's text: the one JSON object of the right shape.

    Prose or a code fence around it is forgiven; a second object that fits as well is not, because then it cannot be told
    which one was meant.

    Raises:
        ModelAnswerInvalid: There is none, or it does not fit; the message says where.
    """
    found: list[ModelAnswer] = []
    said = ""
    for candidate in _objects(text):
        try:
            found.append(ModelAnswer.model_validate_json(candidate))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the answer"
            said = said or f"{where}: {first['msg']}"
        except ValueError as error:
            said = said or str(error)
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelAnswerInvalid(f"the model gave {len(found)} answers at once; one JSON object is wanted")
    if not said:
        said = "no JSON object in it" if text.strip() else "it is empty"
    raise ModelAnswerInvalid(f"the model's answer does not fit: {one_line(said, 200)}")


def judge_answer(
    answer: ModelAnswer,
    assessment: Assessment,
    facts: Facts,
    changes: tuple[ChangeAnswer, ...],
    playbook: Playbook | None,
) -> Judgement:
    """Return what of a model's answer stands.

    Args:
        answer: As parsed.
        assessment: The engine's own.
        facts: What may be cited.
        changes: The histories that were gathered: which commit changed which key of which file.
        playbook: Of the symptom; its actions are the ones that may be chosen.
    """
    causes = tuple(_judge_cause(one, assessment, facts, changes) for one in answer.causes)
    claims = tuple(_judge(one, facts) for one in answer.claims)
    cited = tuple(
        dict.fromkeys(i for c in (*answer.claims, *(w for a in answer.causes for w in a.why)) for i in c.evidence)
    )
    summary = judge_claim(answer.summary, cited, facts)
    leading = causes[0] if causes else None
    remedy = _judge_remedy(answer.remedy, leading, assessment, facts, changes, playbook) if answer.remedy else None
    faults = [
        *(f"cause {n}: {c.fault}" for n, c in enumerate(causes, 1) if c.fault),
        *(f"remedy: {remedy.fault}" for _ in (1,) if remedy is not None and remedy.fault),
        *(f"summary: {summary.why}" for _ in (1,) if summary.verdict is Verdict.CONTRADICTED),
        *(f"claim {c.text[:80]!r}: {c.why}" for c in claims if c.verdict is not Verdict.GROUNDED),
        *(
            f"cause {n}, claim {c.text[:80]!r}: {c.why}"
            for n, one in enumerate(causes, 1)
            for c in one.claims
            if c.verdict is not Verdict.GROUNDED
        ),
    ]
    if answer.outcome == "diagnosed" and not causes:
        faults.insert(0, "outcome is diagnosed, but no cause is named")
    return Judgement(
        outcome=answer.outcome,
        summary=summary,
        causes=causes,
        claims=claims,
        remedy=remedy,
        would_settle=answer.would_settle,
        faults=tuple(faults),
    )


def _judge(claim: ClaimAnswer, facts: Facts) -> JudgedClaim:
    return judge_claim(claim.text, claim.evidence, facts)


def _judge_cause(
    answer: CauseAnswer, assessment: Assessment, facts: Facts, changes: tuple[ChangeAnswer, ...]
) -> JudgedCause:
    claims = tuple(_judge(one, facts) for one in answer.why)
    known = next((h for h in assessment.hypotheses if hypothesis_id(h.rank) == answer.hypothesis), None)
    if answer.hypothesis is not None and known is None:
        return _cause(answer, None, claims, f"{answer.hypothesis} is no hypothesis of this incident")
    if known is not None:
        return _cause(answer, known, claims, _differs(answer, known) or _too_late(known.cause, facts))
    fault, cause = _added(answer, facts, changes)
    judged = _cause(answer, None, claims, fault)
    return judged if cause is None else judged.model_copy(update={"cause": cause})


def _cause(answer: CauseAnswer, known: Hypothesis | None, claims: tuple[JudgedClaim, ...], fault: str) -> JudgedCause:
    cause = known.cause if known is not None else Cause(service=answer.service)
    kind = known.kind if known is not None else answer.kind
    rank = known.rank if known is not None else None
    return JudgedCause(rank=rank, kind=kind, cause=cause, weight=answer.weight, claims=claims, fault=fault)


def _differs(answer: CauseAnswer, known: Hypothesis) -> str:
    """Return where an answer describes a hypothesis as something else than it is."""
    cause = known.cause
    if answer.kind is not known.kind:
        return f"{answer.hypothesis} is of kind {known.kind.value}, not {answer.kind.value}"
    if answer.service.lower() != cause.service.lower():
        return f"{answer.hypothesis} is about {cause.service}, not {answer.service}"
    if answer.commit and not (cause.commit or "").startswith(answer.commit.lower()):
        return f"{answer.hypothesis} is commit {(cause.commit or 'none')[:12]}, not {answer.commit[:12]}"
    if answer.key and answer.key != cause.key:
        return f"{answer.hypothesis} is about {cause.key or 'no key'}, not {answer.key}"
    if answer.path and answer.path != cause.path:
        return f"{answer.hypothesis} is about {cause.path or 'no file'}, not {answer.path}"
    return ""


def _added(answer: CauseAnswer, facts: Facts, changes: tuple[ChangeAnswer, ...]) -> tuple[str, Cause | None]:
    """Return why a cause that the model added cannot stand, and the cause as the history has it."""
    if answer.kind not in _CHANGE_KINDS:
        if answer.commit or answer.key:
            return f"a cause of kind {answer.kind.value} is no commit", None
        if answer.service.lower() not in facts.words:
            return f"{answer.service} is no service of the settings", None
        return "", Cause(service=answer.service)
    if not answer.commit or len(answer.commit) < _COMMIT_CHARACTERS_MIN:
        return f"a cause of kind {answer.kind.value} names its commit", None
    commits = [c for a in changes for c in a.commits if c.commit.startswith(answer.commit.lower())]
    if len({c.commit for c in commits}) != 1:
        return f"no commit {answer.commit[:12]} is in the gathered history", None
    commit = commits[0]
    keys = [
        (file.path, key)
        for file in commit.files
        for key in file.keys
        if answer.path in (None, file.path) and answer.key in (None, key.key)
    ]
    if (
        (answer.key or answer.path)
        and not keys
        and not any(f.path == answer.path and not answer.key for f in commit.files)
    ):
        return f"commit {commit.commit[:12]} did not change {answer.key or answer.path}", None
    path, key = keys[0] if len(keys) == 1 else (answer.path, None)
    cause = Cause(
        service=answer.service,
        commit=commit.commit,
        path=path,
        key=key.key if key else None,
        old=key.old if key else None,
        new=key.new if key else None,
        at=commit.effective_at,
        author=commit.author,
        subject=commit.subject,
    )
    return _too_late(cause, facts), cause


def _too_late(cause: Cause, facts: Facts) -> str:
    if cause.at is None or facts.onset is None:
        return ""
    late = (cause.at - facts.onset).total_seconds()
    if late > TIME_SLACK_SECONDS:
        return f"{(cause.commit or '')[:12]} took effect {late:.0f} s after the trouble began: it cannot have caused it"
    return ""


def _judge_remedy(
    answer: RemedyAnswer,
    leading: JudgedCause | None,
    assessment: Assessment,
    facts: Facts,
    changes: tuple[ChangeAnswer, ...],
    playbook: Playbook | None,
) -> JudgedRemedy:
    action = Action(
        type=answer.type,
        commit=(answer.commit or "").lower() or None,
        path=answer.path,
        keys=answer.keys,
        values=answer.values,
        reason=one_line(answer.why.text, 200),
    )
    return JudgedRemedy(
        action=action,
        fixes_cause=answer.fixes_cause,
        fault=_remedy_fault(answer, leading, assessment, facts, changes, playbook),
    )


def _remedy_fault(
    answer: RemedyAnswer,
    leading: JudgedCause | None,
    assessment: Assessment,
    facts: Facts,
    changes: tuple[ChangeAnswer, ...],
    playbook: Playbook | None,
) -> str:
    if playbook is not None and answer.type not in playbook.allowed_actions:
        return f"{answer.type.value} is not among the actions of playbook {playbook.name}"
    if answer.type is ActionType.ESCALATE:
        return "" if not answer.fixes_cause else "escalate calls a person; it fixes nothing by itself"
    if answer.commit:
        found = [c for a in changes for c in a.commits if c.commit.startswith(answer.commit.lower())]
        if len(answer.commit) < _COMMIT_CHARACTERS_MIN or len({c.commit for c in found}) != 1:
            return f"no commit {answer.commit[:12]} is in the gathered history"
        changed = {key.key for file in found[0].files for key in file.keys if answer.path in (None, file.path)}
        missing = [key for key in answer.keys if key not in changed]
        if missing:
            return f"commit {found[0].commit[:12]} did not change {missing[0]}"
    elif answer.type in (ActionType.REVERT_COMMIT, ActionType.REVERT_KEYS):
        return f"{answer.type.value} names the commit that it takes back"
    refused = next((r for r in assessment.rejected_remedies if _is_rejected(answer, r.action)), None)
    if refused is not None:
        return f"{refused.action} was weighed and rejected: {refused.why}"
    if leading is None or leading.fault:
        return "it belongs to no cause that stands"
    if answer.fixes_cause and leading.cause.commit is not None:
        takes_back = answer.commit is not None and leading.cause.commit.startswith(answer.commit.lower())
        same_key = (
            leading.cause.key is not None and leading.cause.key in answer.keys and answer.path == leading.cause.path
        )
        if not takes_back and not same_key:
            return f"it does not take back the cause ({leading.cause.commit[:12]})"
    if answer.type is ActionType.SET_VALUE and len(answer.values) != len(answer.keys):
        return "set_value names one value for each key"
    return ""


def _is_rejected(answer: RemedyAnswer, rejected: str) -> bool:
    """Return whether a chosen remedy is one that the engine rejected for this incident, under whichever name."""
    if answer.type is ActionType.RESTART:
        return "restart" in rejected
    if answer.type not in (ActionType.SET_VALUE, ActionType.SCALE) or not rejected.startswith(
        ("raise", "larger", "more")
    ):
        return False
    touched = " ".join((*answer.keys, *answer.values))
    return bool(_MEMORY.search(touched)) if re.search("heap|memory", rejected) else bool(_LARGER.search(touched))


def _objects(text: str) -> list[str]:
    """Return the JSON objects that stand at the top level of a text, at most a few, each tried once.

    A text that is one object is the normal case. Elsewhere the decoder is asked at each opening brace outside what it has
    read already; the number of tries is bounded, so that a megabyte of braces ends at once.
    """
    stripped = text.strip()
    decoder = json.JSONDecoder()
    out: list[str] = []
    at, tries = text.find("{"), 0
    while at >= 0 and tries < 50 and len(out) < 4:
        tries += 1
        try:
            _value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        out.append(text[at:end])
        at = text.find("{", end)
    return out or ([stripped] if stripped.startswith("{") else [])
