"""The engine's diagnosis and the model's, side by side: which one stands, and what would settle it where they differ.

The engine's ranking is calibrated on recorded incidents; a model's certainty is not. So the model explains what the engine
found, and may tip the scales only where the evidence left them level: then with capped confidence, and only for a cause that
the engine lists, that took effect in time, and for which every claim holds. Against a diagnosis of the engine it is shown,
never followed. Pure; called by the workflow.
"""

from __future__ import annotations

from advisor.diagnosis import Assessment, Cause, Claim, Diagnosis, Hypothesis, Outcome, Remedy
from advisor.diagnosis.grounding import JudgedCause, JudgedClaim, JudgedRemedy, Judgement, Verdict
from advisor.playbook import Action
from advisor.values import ActionType, CauseKind, Record, Risk

TIPPED_MAX = 0.6  # what a model's word may make of a cause that the evidence did not single out
TIPPED_MIN = 0.2  # a cause that the engine finds less likely than this is not tipped by words
STRUCK_MAX = 0.8  # confidence in a diagnosis whose explanation had to be struck in part
_TAKES_BACK = (ActionType.REVERT_KEYS, ActionType.REVERT_COMMIT, ActionType.ROLL_BACK_IMAGE)


class Opinion(Record):
    """What a model said, after it was checked; shown beside the diagnosis.

    Attributes:
        model: Who said it.
        used: Whether the diagnosis carries its words.
        agrees: Whether it names the engine's cause, or comes to the same end; None where it could not be used at all.
        cause: Its leading cause, in words; ``kind`` and ``leading`` as records.
        struck: Its claims that the evidence does not show, each with the reason.
        remedy_refused: Why the remedy that it chose is not proposed.
        would_settle: What would decide between it and the engine.
        note: Why it was not used.
    """

    model: str
    used: bool
    agrees: bool | None = None
    outcome: str = ""
    cause: str = ""
    kind: CauseKind | None = None
    leading: Cause | None = None
    summary: str = ""
    claims: tuple[JudgedClaim, ...] = ()
    struck: tuple[JudgedClaim, ...] = ()
    remedy_refused: str = ""
    would_settle: str = ""
    note: str = ""
    rounds: int = 0


def no_opinion(model: str, note: str, rounds: int = 0) -> Opinion:
    """Return the record that a model said nothing usable, and why."""
    return Opinion(model=model, used=False, note=note, rounds=rounds)


def settle_opinion(assessment: Assessment, judgement: Judgement, model: str, rounds: int) -> tuple[Assessment, Opinion]:
    """Return what stands once a model was heard, and its opinion as it is shown.

    Args:
        assessment: The engine's own.
        judgement: The model's answer, checked.
        model: Who answered.
        rounds: How many repairs were asked for.
    """
    leading = judgement.causes[0] if judgement.causes else None
    stands = leading is not None and leading.stands
    opinion = _opinion(judgement, leading, model, rounds)
    engine = assessment.diagnosis
    if judgement.outcome != Outcome.DIAGNOSED.value:
        same = judgement.outcome == engine.outcome.value
        return _explained(assessment, judgement, opinion, same)
    if leading is None or not stands:
        note = leading.fault if leading is not None else "it names no cause"
        told = (
            f"its cause does not stand: {note}"
            if note
            else "none of what it says for its cause is shown by the evidence"
        )
        return assessment, opinion.model_copy(update={"note": told, "agrees": False})
    if engine.outcome is Outcome.DIAGNOSED:
        first = assessment.hypotheses[0].rank if assessment.hypotheses else None
        same = (leading.rank is not None and leading.rank == first) or _same_cause(leading, engine)
        return _explained(assessment, judgement, opinion, same)
    tipped = _tipped(assessment, judgement, leading)
    if engine.outcome is Outcome.INCONCLUSIVE and tipped is not None:
        return tipped, opinion.model_copy(update={"used": True, "agrees": True})
    return assessment, opinion.model_copy(update={"agrees": False, "would_settle": _settles(assessment, judgement)})


def _explained(
    assessment: Assessment, judgement: Judgement, opinion: Opinion, same: bool
) -> tuple[Assessment, Opinion]:
    """Return the engine's diagnosis in the model's words where both agree, and as it was where they do not."""
    if not same:
        settles = _settles(assessment, judgement)
        return assessment, opinion.model_copy(update={"agrees": False, "would_settle": settles})
    engine = assessment.diagnosis
    every = [*judgement.claims, *(c for one in judgement.causes[:1] for c in one.claims)]
    shown = [c for c in every if c.verdict is Verdict.GROUNDED]
    if judgement.summary.verdict is not Verdict.GROUNDED or (not shown and engine.outcome is Outcome.DIAGNOSED):
        note = judgement.summary.why or "none of its claims is shown by the evidence"
        return assessment, opinion.model_copy(update={"agrees": True, "note": f"its words were not used: {note}"})
    struck = len(shown) < len(every)
    said = {claim.text for claim in engine.claims}
    claims = (*engine.claims, *(Claim(text=c.text, evidence=c.evidence) for c in shown if c.text not in said))
    diagnosis = Diagnosis.model_validate(
        {
            **engine.model_dump(),
            "by": "model",
            "summary": judgement.summary.text,
            "claims": tuple(dict.fromkeys(claims)),
            "probability": min(engine.probability, STRUCK_MAX) if struck else engine.probability,
            "warnings": (*engine.warnings, *_struck_warning(every)),
        }
    )
    preferred = _preferred(assessment.remedies, judgement.remedy)
    changed = assessment.model_copy(update={"diagnosis": diagnosis, "remedies": preferred})
    return changed, opinion.model_copy(update={"used": True, "agrees": True})


def _tipped(assessment: Assessment, judgement: Judgement, leading: JudgedCause) -> Assessment | None:
    """Return the assessment with a cause that the model singled out among those that the evidence left level."""
    known = next((h for h in assessment.hypotheses if h.rank == leading.rank), None)
    if known is None or known.probability < TIPPED_MIN or known.cause.commit is None:
        return None
    if any(c.verdict is not Verdict.GROUNDED for c in leading.claims) or len(leading.claims) < 2:
        return None
    if judgement.summary.verdict is not Verdict.GROUNDED:
        return None
    remedy = _own_remedy(judgement.remedy, known)
    diagnosis = Diagnosis(
        outcome=Outcome.DIAGNOSED,
        by="model",
        kind=known.kind,
        cause=known.cause,
        probability=min(known.probability, TIPPED_MAX),
        summary=judgement.summary.text,
        claims=tuple(Claim(text=c.text, evidence=c.evidence) for c in leading.claims),
        warnings=(
            *assessment.diagnosis.warnings,
            "the evidence did not single this cause out; the model chose it: check before you approve",
        ),
    )
    return assessment.model_copy(
        update={"diagnosis": diagnosis, "remedies": (remedy,) if remedy is not None else assessment.remedies}
    )


def _own_remedy(remedy: JudgedRemedy | None, known: Hypothesis) -> Remedy | None:
    if remedy is None or remedy.fault or remedy.action.type not in _TAKES_BACK or known.cause.commit is None:
        return None
    action = Action.model_validate({**remedy.action.model_dump(), "commit": known.cause.commit})
    what = ", ".join(action.keys) or known.cause.commit[:12]
    return Remedy(action=action, risk=Risk.MEDIUM, fixes_cause=True, summary=f"take back {what}, as the model chose")


def _preferred(remedies: tuple[Remedy, ...], chosen: JudgedRemedy | None) -> tuple[Remedy, ...]:
    """Return the engine's remedies, the one of the kind that the model chose first."""
    if chosen is None or chosen.fault:
        return remedies
    return tuple(sorted(remedies, key=lambda r: r.action.type is not chosen.action.type))


def _opinion(judgement: Judgement, leading: JudgedCause | None, model: str, rounds: int) -> Opinion:
    every = [judgement.summary, *judgement.claims, *(c for one in judgement.causes for c in one.claims)]
    return Opinion(
        model=model,
        used=False,
        outcome=judgement.outcome,
        cause=_in_words(leading) if leading is not None else "",
        kind=leading.kind if leading is not None else None,
        leading=leading.cause if leading is not None else None,
        summary=judgement.summary.text if judgement.summary.verdict is Verdict.GROUNDED else "",
        claims=tuple(dict.fromkeys(c for c in every[1:] if c.verdict is Verdict.GROUNDED)),
        struck=tuple(dict.fromkeys(c for c in every if c.verdict is not Verdict.GROUNDED)),
        remedy_refused=judgement.remedy.fault if judgement.remedy is not None else "",
        would_settle=judgement.would_settle,
        rounds=rounds,
    )


def _in_words(judged: JudgedCause) -> str:
    cause = judged.cause
    where = " ".join(filter(None, (cause.key, f"in {cause.path}" if cause.path else "", (cause.commit or "")[:12])))
    return f"{judged.kind.value} of {cause.service}: {where}" if where else f"{judged.kind.value} of {cause.service}"


def _same_cause(judged: JudgedCause, engine: Diagnosis) -> bool:
    cause = engine.cause
    if cause is None or judged.cause.commit is None:
        return False
    return cause.commit == judged.cause.commit and judged.cause.key in (None, cause.key)


def _settles(assessment: Assessment, judgement: Judgement) -> str:
    if judgement.would_settle:
        return judgement.would_settle
    return next((h.next_check for h in assessment.hypotheses if h.next_check), "")


def _struck_warning(claims: list[JudgedClaim]) -> tuple[str, ...]:
    struck = sum(c.verdict is not Verdict.GROUNDED for c in claims)
    if not struck:
        return ()
    return (f"{struck} of {len(claims)} claims of the model were struck: the evidence does not show them",)
