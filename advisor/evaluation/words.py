"""Figures as people read them; shared by the terminal and the page. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from advisor.evaluation.calibration import Calibration
from advisor.evaluation.judging import Judged
from advisor.evaluation.statistics import Interval, Share

NOTHING = "–"


def in_percent(share: Share) -> str:
    """Return a share with its interval, such as ``92% 67–99``."""
    between = share.interval
    if share.value is None or between is None:
        return NOTHING
    return f"{share.value:.0%} {between.low * 100:.0f}–{between.high * 100:.0f}"


def with_interval(value: float | None, between: Interval | None) -> str:
    """Return a score with its interval, such as ``0.041 0.012–0.090``."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" + (f" {between.low:.3f}–{between.high:.3f}" if between else "")


def what_is_wrong(j: Judged) -> str:
    """Return in one line what a person should look at."""
    truth, told = j.case.truth, []
    if not j.outcome_right:
        told.append(f"{j.answer.outcome.value}, should be {truth.outcome.value}")
    if truth.has_culprit and not j.hit(1):
        told.append("the cause is not among the hypotheses" if j.rank is None else f"the cause is at rank {j.rank}")
    if j.wrong_diagnosis:
        first = j.answer.hypotheses[0].summary if j.answer.hypotheses else j.answer.kind.value
        told.append(f"diagnosed {first}")
    told += [f"called a fix: {remedy}" for remedy in j.wrong_remedies]
    told += [f"not refused: {remedy}" for remedy in j.refusals_missing]
    return "; ".join(told)


def plain_percent(share: Share) -> str:
    """Return a share without its interval."""
    return NOTHING if share.value is None else f"{share.value:.0%}"


def difference(fewer: int, of: Share) -> str:
    """Return a loss in cases and as a part of them all, such as ``-12 (26%)``."""
    return f"{-fewer:+d} ({abs(fewer) / of.total:.0%})" if of.total and fewer else "0"


def calibration_notes(calibrations: Sequence[Calibration]) -> list[str]:
    """Return what a person should know before believing a temperature."""
    notes = [f"fitted on {calibrations[0].fitted_on} development cases with every required source; nothing was changed"]
    if not calibrations[0].stated.cases:
        notes.append("no held-out case states a probability of its own: there is nothing to judge the temperature on")
    for one in calibrations:
        if one.temperature is None:
            notes.append("no development case to fit a temperature on")
            break
        if one.temperature.at_edge:
            notes.append(
                f"by {one.loss}: the fit ran to the end of what is searched; too few answers, or too alike, settle nothing"
            )
    return notes
