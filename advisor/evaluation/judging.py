"""Holds an answer against the truth: was the cause named, and how early; was anything called a fix that is none. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from advisor.diagnosis import Outcome
from advisor.evaluation.cases import Case
from advisor.evaluation.running import Answer, NamedCause, NamedRemedy
from advisor.evaluation.statistics import Stated
from advisor.evaluation.truth import FurtherCause, Truth
from advisor.values import ActionType, CauseKind

_TAKES_BACK = frozenset({ActionType.REVERT_COMMIT, ActionType.REVERT_KEYS, ActionType.ROLL_BACK_IMAGE})
# What fixes a cause that is no change: honest growth is given room. All else has no fix in the service's configuration.
_GIVES_ROOM = {
    CauseKind.LOAD: frozenset({ActionType.SCALE}),
    CauseKind.CAPACITY: frozenset({ActionType.SCALE, ActionType.SET_VALUE}),
}
_BETWEEN = r"\.:\[\]/= "  # what stands between the parts of a key
_MEMORY_CEILING = re.compile(
    r"(?i)(^|[^a-z])(-?Xmx|MaxHeapSize|MaxRAMPercentage|MaxRAM|MaxMetaspaceSize|MaxDirectMemorySize|max-?old-?space-?size"
    r"|limits\.memory|mem_?limit|memory_?limit|maxmemory|GOMEMLIMIT|heap[._-]?(size|max)|max[._-]?heap)"
)


@dataclass(frozen=True)
class Judged:
    """A case, the answer, and what is to be said of it.

    Attributes:
        rank: Of the first hypothesis that names a true cause; None if none does.
        outcome_right: It ended as a perfect answer would.
        abstained: No cause was diagnosed.
        wrong_diagnosis: A cause was diagnosed, and it is not a true one.
        wrong_remedies: What was called a fix and is none, in words.
        ceiling_raised: A larger memory ceiling was called a fix where a change is guilty.
        refusals_missing: Remedies that had to be refused by name and were not.
        stated: The probability of the first hypothesis, and whether it was right; None where none was stated.
    """

    case: Case
    answer: Answer
    rank: int | None
    outcome_right: bool
    abstained: bool
    wrong_diagnosis: bool
    wrong_remedies: tuple[str, ...]
    ceiling_raised: bool
    refusals_missing: tuple[str, ...]
    stated: Stated | None

    def hit(self, k: int) -> bool:
        """Return whether one of the first k hypotheses names a true cause."""
        return self.rank is not None and self.rank <= k


def judge(case: Case, answer: Answer) -> Judged:
    """Return what is to be said of an answer."""
    truth = case.truth
    rank = first_hit(truth, answer)
    diagnosed = answer.outcome is Outcome.DIAGNOSED
    wrong = [p for p in answer.proposals if p.fixes_cause and not fixes(truth, p, answer.service)]
    return Judged(
        case=case,
        answer=answer,
        rank=rank,
        outcome_right=answer.outcome is truth.outcome,
        abstained=not diagnosed,
        wrong_diagnosis=diagnosed and rank != 1,
        wrong_remedies=tuple(_in_words(p) for p in wrong),
        ceiling_raised=any(cause.commit for cause in truth.causes) and any(raises_memory_ceiling(p) for p in wrong),
        refusals_missing=tuple(r for r in truth.remedies_refused if r not in answer.refused),
        stated=what_was_stated(truth, answer, rank),
    )


def first_hit(truth: Truth, answer: Answer) -> int | None:
    """Return the rank, from 1, of the first hypothesis that names a true cause."""
    return next(
        (
            rank
            for rank, named in enumerate(answer.hypotheses, 1)
            if any(names(named, cause, answer.service) for cause in truth.causes)
        ),
        None,
    )


def names(named: NamedCause, cause: FurtherCause, asked_service: str) -> bool:
    """Return whether a hypothesis names this cause: its service and commit, and path and key where the truth has them.

    Without a guilty commit the kind decides.
    """
    if named.service != (cause.service or asked_service):
        return False
    if cause.commit is None:
        return named.kind is cause.kind
    if named.commit != cause.commit or (cause.path is not None and named.path != cause.path):
        return False
    return cause.key is None or (named.key is not None and same_key(named.key, cause.key))


def same_key(full: str, key: str) -> bool:
    """Return whether a key is this one, or this one is whole parts of it.

    ``image`` is the key of ``spec.containers[web].image`` and not of ``base-image``; ``POOL_SIZE`` that of
    ``env[POOL_SIZE].value``; ``logging.level`` that of ``logging.level.org.example``. The commit and the path have to fit
    besides, so no more is needed to tell keys apart.
    """
    begins = rf"(?:^|(?<=[{_BETWEEN}])|(?=[{_BETWEEN}]))"
    ends = rf"(?:$|(?=[{_BETWEEN}])|(?<=[{_BETWEEN}]))"
    return re.search(begins + re.escape(key) + ends, full) is not None


def fixes(truth: Truth, remedy: NamedRemedy, asked_service: str) -> bool:
    """Return whether a proposal that calls itself a fix takes back a true cause, or gives honest growth room."""
    return any(_fixes_one(truth, cause, remedy, asked_service) for cause in truth.causes)


def _fixes_one(truth: Truth, cause: FurtherCause, remedy: NamedRemedy, asked_service: str) -> bool:
    action = remedy.action
    if cause.commit is None:
        room = _GIVES_ROOM.get(cause.kind or CauseKind.UNKNOWN, frozenset())
        return action.type in room and remedy.service == (cause.service or asked_service)
    at_path = cause.path is None or action.path is None or action.path == cause.path
    at_key = cause.key is None or any(same_key(key, cause.key) for key in action.keys)
    if action.type in _TAKES_BACK:
        whole = action.type is ActionType.REVERT_COMMIT  # the guilty key goes back with the rest of its file
        return action.commit == cause.commit and at_path and (whole or at_key)
    # The old value written again is the same inverse, if only the guilty key is set.
    back = truth.old is not None and cause.commit == truth.commit and action.values == (truth.old,)
    return action.type is ActionType.SET_VALUE and back and at_path and cause.key is not None and at_key


def raises_memory_ceiling(remedy: NamedRemedy) -> bool:
    """Return whether a proposal sets a limit of memory to another value: nobody proposes a smaller one as a fix."""
    return remedy.action.type is ActionType.SET_VALUE and any(_MEMORY_CEILING.search(k) for k in remedy.action.keys)


def what_was_stated(truth: Truth, answer: Answer, rank: int | None) -> Stated | None:
    """Return the probability of the first hypothesis, and whether it is a true one.

    ``unknown`` at the first rank is right where nothing is known of a cause. A report of ``healthy`` ranks nothing: where
    nothing is wrong it states no probability, elsewhere it counts as the certainty that it claims to be.
    """
    if not answer.hypotheses:
        return None if truth.outcome is Outcome.HEALTHY else Stated(1.0, False)
    first = answer.hypotheses[0]
    abstains_rightly = first.kind is CauseKind.UNKNOWN and not truth.has_culprit and not truth.causes
    return Stated(first.probability, rank == 1 or abstains_rightly)


def _in_words(remedy: NamedRemedy) -> str:
    action = remedy.action
    at = " ".join(filter(None, (", ".join(action.keys), action.path, (action.commit or "")[:12])))
    return f"{action.type.value} {at}".strip()
