"""A possible cause under judgement, and the thresholds that every judgement shares. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from advisor.diagnosis import Cause, Term
from advisor.diagnosis.knobs import Knob
from advisor.diagnosis.picture import Picture
from advisor.evidence import CommitChange
from advisor.evidence.change_points import agreement
from advisor.evidence.config_diff import KeyChange
from advisor.evidence.signals import Array, Signal
from advisor.values import CauseKind

# The weights are judgement, set by hand and checked on recorded cases (docs/causes.md); they are log-odds, so 0.7 doubles
# the odds and 2.3 makes them ten times.
PRIOR = {
    CauseKind.CONFIG_CHANGE: -1.0,
    CauseKind.DEPLOY: -1.0,
    CauseKind.LOAD: -0.7,
    CauseKind.CAPACITY: -0.7,
    CauseKind.DEPENDENCY: -1.0,
    CauseKind.UNKNOWN: 0.0,
}
_UNLIMITED = frozenset(
    {"0", "-1", "none", "never", "unlimited", "infinite", "infinity", "off", "disabled", "false", "null", "~"}
)
AFTER_ONSET = -5.0
MOVED, FLAT = 1.5, 1.15  # growth of a metric in the middle: from here on it moved; up to here it did not
LOAD_MOVED, LOAD_FLAT = 1.4, 1.2


@dataclass(slots=True)
class Candidate:
    """One possible cause under judgement.

    Attributes:
        change: The changed key.
        told: The part of it that tells most: one flag of a command line; else the same.
    """

    kind: CauseKind
    cause: Cause
    summary: str
    terms: list[Term] = field(default_factory=list)
    change: KeyChange | None = None
    told: KeyChange | None = None
    commit: CommitChange | None = None
    knob: Knob | None = None
    middle: Signal | None = None
    middle_growth: float | None = None
    effective_at: float | None = None
    cites_for: list[str] = field(default_factory=list)
    cites_against: list[str] = field(default_factory=list)
    reverted_by: str | None = None
    next_check: str = ""

    @property
    def score(self) -> float:
        """Return the sum of the terms."""
        return sum(term.value for term in self.terms)

    def add(self, name: str, value: float, why: str) -> None:
        """Add a term; nothing is added for zero."""
        if abs(value) >= 0.005:
            self.terms.append(Term(name=name, value=round(value, 2), why=why))


def window_seconds(picture: Picture) -> float:
    """Return the seconds that the metrics cover up to the trouble: what "near" is measured against."""
    times = picture.signals.times
    if times.size < 2:
        return 3600.0
    end = picture.trouble_at if picture.trouble_at is not None else float(times[-1])
    return max(end - float(times[0]), 10 * picture.signals.step)


def together(picture: Picture, values: Array, since: float | None) -> float:
    """Return how far a signal rises and falls with the resource in trouble since an instant, from -1 to 1."""
    times = picture.signals.times
    start = since if since is not None else float(times[0])
    chosen = (times >= start) & (times <= (picture.trouble_at or float(times[-1])))
    return agreement(picture.floor[chosen], values[chosen])


def rolling_mean(values: Array, width: int) -> Array:
    """Return the mean of each stretch of some samples, by its first; NaN where less than half of it is known."""
    known = np.isfinite(values)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    number = np.concatenate([[0], np.cumsum(known)])
    have = number[width:] - number[:-width]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(2 * have >= width, (total[width:] - total[:-width]) / have, np.nan))


def direction_of(change: KeyChange) -> float | None:
    """Return > 0 where the value became larger or unlimited, < 0 where smaller, None where that cannot be said."""
    old, new = (change.old or "").strip().lower(), (change.new or "").strip().lower()
    if change.old is not None and change.new is not None:
        if (
            new in _UNLIMITED
            and old not in _UNLIMITED
            and old != "true"
            and (change.ratio is None or change.ratio <= 0)
        ):
            return 1.0
        if change.ratio is not None and change.ratio > 0:
            return math.log(change.ratio)
        if (old, new) == ("false", "true"):
            return 1.0
        if (old, new) == ("true", "false"):
            return -1.0
    return None
