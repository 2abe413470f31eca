"""The arithmetic of an evaluation: shares with intervals, Brier score, reliability. Pure; knows no case and no engine.

Chance enters only through a seed that stands here, so that the same answers always give the same figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959963984540054  # of the standard normal distribution: 95 % lie within this many deviations
BINS = 10  # of reliability; the usual number, and 46 cases leave a few in each that matters
RESAMPLES = 2000  # percentiles of a 95 % interval are then steady to the third digit
SEED = 20_240_229  # any; fixed so that a figure can be repeated


@dataclass(frozen=True)
class Interval:
    """From where to where the true value lies, in 95 of 100 such evaluations."""

    low: float
    high: float


@dataclass(frozen=True)
class Share:
    """So many of so many; of nothing there is no share."""

    count: int
    total: int

    @property
    def value(self) -> float | None:
        """Return the share, from 0 to 1."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> Interval | None:
        """Return its 95 % interval."""
        return wilson_interval(self.count, self.total)


def share(flags: Sequence[bool]) -> Share:
    """Return how many of these are so."""
    return Share(sum(flags), len(flags))


def wilson_interval(count: int, total: int, z: float = Z_95) -> Interval | None:
    """Return the score interval of a share; None of nothing.

    It stays inside 0 to 1 and is honest for few cases and for shares of 0 and 1, where the plain one collapses to a point.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    if total <= 0:
        return None
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is not a share")
    p, zz = count / total, z * z
    middle = (p + zz / (2 * total)) / (1 + zz / total)
    half = z / (1 + zz / total) * math.sqrt(p * (1 - p) / total + zz / (4 * total * total))
    # At the ends the exact bound is 0 or 1; rounding must not leave it a hair inside.
    low = 0.0 if count == 0 else max(0.0, middle - half)
    high = 1.0 if count == total else min(1.0, middle + half)
    return Interval(low, high)


@dataclass(frozen=True)
class Stated:
    """A probability that was stated, and whether what it was stated of is so."""

    probability: float
    right: bool


def brier(stated: Sequence[Stated]) -> float | None:
    """Return the mean squared distance of what was stated from what is so: 0 is perfect, 0.25 is saying one half always."""
    if not stated:
        return None
    return math.fsum((s.probability - s.right) ** 2 for s in stated) / len(stated)


def log_loss(stated: Sequence[Stated]) -> float | None:
    """Return the mean surprise in nats; a certainty that was wrong counts as one in a million, not as infinite."""
    if not stated:
        return None
    surprises = (max(1e-6, s.probability if s.right else 1 - s.probability) for s in stated)
    return math.fsum(-math.log(p) for p in surprises) / len(stated)


def brier_interval(stated: Sequence[Stated], resamples: int = RESAMPLES, seed: int = SEED) -> Interval | None:
    """Return the 95 % interval of the Brier score by the percentile bootstrap over cases; None for fewer than two."""
    if len(stated) < 2:
        return None
    losses = np.array([(s.probability - s.right) ** 2 for s in stated])
    chosen = np.random.default_rng(seed).integers(0, losses.size, size=(resamples, losses.size))
    low, high = np.quantile(losses[chosen].mean(axis=1), (0.025, 0.975))
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class Bin:
    """The statements between two probabilities.

    Attributes:
        mean: Of what was stated; None where nothing was.
        right: How many of them were so.
    """

    low: float
    high: float
    mean: float | None
    right: Share


def reliability(stated: Sequence[Stated], bins: int = BINS) -> tuple[Bin, ...]:
    """Return bins of equal width; a probability on a boundary belongs to the upper one, and 1 to the last."""
    members: list[list[Stated]] = [[] for _ in range(bins)]
    for s in stated:
        members[min(bins - 1, int(s.probability * bins + 1e-9))].append(s)
    return tuple(
        Bin(
            low=i / bins,
            high=(i + 1) / bins,
            mean=math.fsum(s.probability for s in inside) / len(inside) if inside else None,
            right=share([s.right for s in inside]),
        )
        for i, inside in enumerate(members)
    )


def expected_calibration_error(bins: Sequence[Bin]) -> float | None:
    """Return how far stated and true share lie apart, averaged over the statements."""
    total = sum(b.right.total for b in bins)
    if not total:
        return None
    gaps = (b.right.total * abs(b.mean - b.right.count / b.right.total) for b in bins if b.mean is not None)
    return math.fsum(gaps) / total


def quantile(values: Sequence[float], q: float) -> float | None:
    """Return the smallest value that at least this share of all values does not exceed; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(q * len(values) - 1e-9) - 1)]


def median(values: Sequence[float]) -> float | None:
    """Return the middle value, or the mean of the two in the middle."""
    if not values:
        return None
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2
