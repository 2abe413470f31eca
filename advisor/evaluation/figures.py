"""Counts what was judged: one row of figures for each class, split and tag, and in total; and what an ablation loses. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from advisor.evaluation.judging import Judged
from advisor.evaluation.statistics import (
    Bin,
    Interval,
    Share,
    brier,
    brier_interval,
    expected_calibration_error,
    median,
    quantile,
    reliability,
    share,
)
from advisor.replaying import Part


@dataclass(frozen=True)
class Figures:
    """What is to be said of a group of cases.

    Attributes:
        cases: How many were run.
        first: AC@1: of the cases with a culprit, those whose first hypothesis names it.
        first_three: AC@3: the same of the first three.
        abstained: Of the cases with a culprit, those in which none was diagnosed.
        rightly_abstained: Of the others, those that end as the truth demands, inconclusive or healthy.
        outcome_right: Of all, those that end as the truth demands.
        wrong_diagnosis: Of all, those in which a cause was diagnosed that is not a true one.
        wrong_remedy: Of all, those with a proposal that calls itself a fix and is none.
        ceiling_raised: How many called a larger memory ceiling a fix although a change is guilty.
        refusals: Of the remedies that had to be refused by name, those that were.
        stated: How many stated a probability.
        bins: Reliability of what was stated.
    """

    cases: int
    first: Share
    first_three: Share
    abstained: Share
    rightly_abstained: Share
    outcome_right: Share
    wrong_diagnosis: Share
    wrong_remedy: Share
    ceiling_raised: int
    refusals: Share
    stated: int
    brier: float | None
    brier_interval: Interval | None
    bins: tuple[Bin, ...]
    calibration_error: float | None
    seconds_median: float | None
    seconds_p95: float | None


def summarise(judged: Sequence[Judged]) -> Figures:
    """Return the figures of a group."""
    culprit = [j for j in judged if j.case.truth.has_culprit]
    others = [j for j in judged if not j.case.truth.has_culprit]
    stated = [j.stated for j in judged if j.stated is not None]
    bins = reliability(stated)
    seconds = [j.answer.seconds for j in judged]
    named = sum(len(j.case.truth.remedies_refused) for j in judged)
    missing = sum(len(j.refusals_missing) for j in judged)
    return Figures(
        cases=len(judged),
        first=share([j.hit(1) for j in culprit]),
        first_three=share([j.hit(3) for j in culprit]),
        abstained=share([j.abstained for j in culprit]),
        rightly_abstained=share([j.outcome_right for j in others]),
        outcome_right=share([j.outcome_right for j in judged]),
        wrong_diagnosis=share([j.wrong_diagnosis for j in judged]),
        wrong_remedy=share([bool(j.wrong_remedies) for j in judged]),
        ceiling_raised=sum(j.ceiling_raised for j in judged),
        refusals=Share(named - missing, named),
        stated=len(stated),
        brier=brier(stated),
        brier_interval=brier_interval(stated),
        bins=bins,
        calibration_error=expected_calibration_error(bins),
        seconds_median=median(seconds),
        seconds_p95=quantile(seconds, 0.95),
    )


def by_class(judged: Sequence[Judged]) -> dict[str, Figures]:
    """Return the figures of each class, by name."""
    return _grouped(judged, lambda j: (j.case.class_name,))


def by_split(judged: Sequence[Judged]) -> dict[str, Figures]:
    """Return the figures of each split, by name."""
    return _grouped(judged, lambda j: (j.case.truth.split.value,))


def by_tag(judged: Sequence[Judged]) -> dict[str, Figures]:
    """Return the figures of each tag, by name; a case has as many as it likes."""
    return _grouped(judged, lambda j: j.case.truth.tags)


def _grouped(judged: Sequence[Judged], keys: Callable[[Judged], Iterable[str]]) -> dict[str, Figures]:
    groups: dict[str, list[Judged]] = {}
    for one in judged:
        for key in dict.fromkeys(keys(one)):
            groups.setdefault(key, []).append(one)
    return {key: summarise(groups[key]) for key in sorted(groups)}


@dataclass(frozen=True)
class Loss:
    """What is lost without one part, over the cases that ran both ways; a negative number is a gain.

    Attributes:
        compared: How many cases ran both ways.
        figures: Of these cases, without the part.
        first: How many first places fewer.
        first_three: How many among the first three fewer.
        outcome_right: How many right outcomes fewer.
        wrong_remedies: How many wrong remedies more.
        worse: The cases whose first place was lost, by name.
        better: The cases whose first place was won.
    """

    part: Part
    compared: int
    figures: Figures
    first: int
    first_three: int
    outcome_right: int
    wrong_remedies: int
    worse: tuple[str, ...]
    better: tuple[str, ...]


def compare(part: Part, full: Sequence[Judged], reduced: Sequence[Judged]) -> Loss:
    """Return what is lost without a part."""
    whole = _by_bundle(full)
    less = {key: j for key, j in _by_bundle(reduced).items() if key in whole}
    before, after = summarise([whole[key] for key in less]), summarise(list(less.values()))
    return Loss(
        part=part,
        compared=len(less),
        figures=after,
        first=before.first.count - after.first.count,
        first_three=before.first_three.count - after.first_three.count,
        outcome_right=before.outcome_right.count - after.outcome_right.count,
        wrong_remedies=after.wrong_remedy.count - before.wrong_remedy.count,
        worse=_changed(whole, less, lost=True),
        better=_changed(whole, less, lost=False),
    )


def _by_bundle(judged: Sequence[Judged]) -> dict[str, Judged]:
    return {str(j.case.bundle): j for j in judged}


def _changed(whole: Mapping[str, Judged], less: Mapping[str, Judged], lost: bool) -> tuple[str, ...]:
    return tuple(
        j.case.name
        for key, j in less.items()
        if j.case.truth.has_culprit and whole[key].hit(1) is lost and j.hit(1) is not lost
    )
