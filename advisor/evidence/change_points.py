"""When did it begin? Floors of sawteeth, slopes that survive restarts, and the onset of growth.

A JVM's heap is a sawtooth: what matters is the floor after collections. A restart empties it, so each process life is
read by itself, and lives are compared with one another. Numbers only; nothing here knows what a heap is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from advisor.evidence.signals import Array, Life, Positions

LIFE_POINTS_MIN = 5  # fewer samples than this say nothing about a slope


@dataclass(frozen=True, slots=True)
class Trend:
    """A straight line through the samples of a stretch.

    Attributes:
        slope: Unit of the metric per second (Theil-Sen: the median of pairwise slopes, deaf to a few outliers).
        start: Level at the beginning.
        end: Level at the end.
        agreement: From -1 to 1: how much the pairs agree on the direction (Kendall's tau).
    """

    slope: float
    start: float
    end: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Onset:
    """When growth began.

    Attributes:
        at: Epoch seconds, the best single answer.
        earliest: It cannot well have begun before this.
        latest: By now it had certainly begun; what took effect later cannot be its cause.
        censored: It had begun before the data does.
        kind: ``level`` (a jump), ``slope`` (a bend inside a life) or ``life`` (from the beginning of a process life).
    """

    at: float
    earliest: float
    latest: float
    censored: bool
    kind: str


def collection_period(values: Array) -> int:
    """Return how many points lie between two collections of a sawtooth, 1 where it is none."""
    known = values[np.isfinite(values)]
    if known.size < 8:
        return 1
    spread = float(np.quantile(known, 0.95) - np.quantile(known, 0.05))
    if spread <= 0:
        return 1
    drops = np.flatnonzero(np.diff(known) < -0.12 * spread)
    if drops.size < 3:
        return 1
    return int(max(1, np.quantile(np.diff(drops), 0.8)))


def floor_of(values: Array, lives: tuple[Life, ...]) -> Array:
    """Return what stays after collections: the lowest value around each point, within its own process life.

    Where a life shows full collections (deep drops), the floor runs through the lows behind them: between two of them a
    heap may fill to the brim and be as healthy as before. Elsewhere it is the lowest value in a window of two to three
    small collections. It never crosses a restart.
    """
    out = np.full(values.shape, np.nan)
    for life in lives:
        part = values[life.first : life.last + 1]
        known = np.flatnonzero(np.isfinite(part))
        if known.size == 0:
            continue
        half = int(min(max(2, round(1.5 * collection_period(part))), max(2, known.size // 6)))
        filled = np.interp(np.arange(part.size), known, part[known])
        padded = np.concatenate([np.full(half, np.inf), filled, np.full(half, np.inf)])
        low = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1).min(axis=1)
        lows = _lows_after_deep_drops(filled)
        if lows.size >= 2:
            period = float(np.median(np.diff(lows)))
            reach = min(part.size - 1, int(lows[-1] + 1.6 * period))
            positions = np.arange(part.size)
            envelope = np.interp(positions, lows, filled[lows])
            inside = positions <= reach  # long after the last full collection the window tells more
            low = np.where(inside, np.minimum(envelope, filled), low)
        low[: known[0]] = np.nan
        low[known[-1] + 1 :] = np.nan
        out[life.first : life.last + 1] = low
    return out


def _lows_after_deep_drops(values: Array) -> Positions:
    """Return the positions of the lows right behind drops of more than a third of the life's whole range."""
    if values.size < 8:
        return np.array([], dtype=np.intp)
    spread = float(np.quantile(values, 0.98) - np.quantile(values, 0.02))
    if spread <= 0:
        return np.array([], dtype=np.intp)
    reach = 3  # samples that a full collection may take to show whole
    fall = values[:-reach] - np.lib.stride_tricks.sliding_window_view(values[1:], reach).min(axis=1)
    deep = np.flatnonzero(fall > 0.35 * spread)
    lows: list[int] = []
    for i in deep:
        low = int(i + 1 + np.argmin(values[i + 1 : i + 1 + reach]))
        if not lows or low - lows[-1] > reach:
            lows.append(low)
        elif values[low] < values[lows[-1]]:
            lows[-1] = low
    return np.array(lows, dtype=np.intp)


def trend(times: Array, values: Array, points_max: int = 160) -> Trend | None:
    """Return the robust trend of a stretch, or None with fewer than five samples."""
    known = np.flatnonzero(np.isfinite(values))
    if known.size < LIFE_POINTS_MIN:
        return None
    if known.size > points_max:  # pairs grow with the square; 160 points give 12,720 of them
        known = known[np.linspace(0, known.size - 1, points_max).astype(int)]
    t, v = times[known], values[known]
    i, j = np.triu_indices(t.size, k=1)
    dt, dv = t[j] - t[i], v[j] - v[i]
    slope = float(np.median(dv / dt))
    middle = float(np.median(v - slope * t))
    return Trend(
        slope=slope,
        start=middle + slope * float(t[0]),
        end=middle + slope * float(t[-1]),
        agreement=float(np.mean(np.sign(dv))),
    )


def bend(times: Array, values: Array) -> tuple[float, float] | None:
    """Return where a line bends upwards within one life, and which share of the error the bend explains.

    The model is ``a + b*t + c*max(0, t - bend)`` with c > 0 and a later slope above zero; None where it explains
    nothing beyond a straight line.
    """
    known = np.flatnonzero(np.isfinite(values))
    if known.size < 12:
        return None
    if known.size > 400:
        known = known[np.linspace(0, known.size - 1, 400).astype(int)]
    t = times[known] - times[known[0]]
    v = values[known]
    scale = float(np.ptp(v))
    if scale <= 0 or t[-1] <= 0:
        return None
    t, v = t / t[-1], (v - v.min()) / scale
    straight = _residual(np.column_stack([np.ones_like(t), t]), v)[1]
    best: tuple[float, float] | None = None
    for tau in np.linspace(0.06, 0.92, 60):
        design = np.column_stack([np.ones_like(t), t, np.maximum(0.0, t - tau)])
        coefficients, residual = _residual(design, v)
        if coefficients[2] <= 0 or coefficients[1] + coefficients[2] <= 0:
            continue
        if best is None or residual < best[1]:
            best = (float(tau), residual)
    if best is None or straight <= 1e-12:
        return None
    gain = 1.0 - best[1] / straight
    at = float(times[known[0]] + best[0] * (times[known[-1]] - times[known[0]]))
    return at, gain


def _residual(design: Array, v: Array) -> tuple[Array, float]:
    coefficients, *_ = np.linalg.lstsq(design, v, rcond=None)
    error = v - design @ coefficients
    return np.asarray(coefficients, dtype=np.float64), float(error @ error)


def agreement(a: Array, b: Array) -> float:
    """Return how far two signals rise and fall together, from -1 to 1 (rank correlation); 0 with too little data."""
    both = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
    if both.size < 8:
        return 0.0
    x, y = _ranks(a[both]), _ranks(b[both])
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts).astype(float)
    return (ends - (counts - 1) / 2.0)[inverse]
