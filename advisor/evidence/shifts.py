"""When did it change? The one answer for every kind of series: latency, error share, queue, pool, cpu, a counter's rate.

An on-call engineer looks at hundreds of lines and sees which of them left their usual swing, and when. This module does the
same for a whole matrix at once. It knows no metric names, no JVM and no process lives (``change_points`` reads the floors of
sawtoothed heaps), draws no conclusion about causes, and has no clock and no chance. Called by the diagnosis.

How it works, per series:

1. Where two whole days are known and the days resemble each other, the daily pattern is taken out (``deseasoned``).
2. Samples become normal scores of their ranks, so that neither heavy tails nor one spike nor 1e308 decides anything. Every
   position is tested as the beginning of a changed stretch, with stretches of 3 samples to half of the data.
3. The best few positions are looked at closely: levels before and after by medians; beginning and end of the stretch where
   the samples change sides (a two-level fit of least absolute error, which also says how sure the moment is).
4. Effect in units of the usual swing, shrunk where few independent samples speak. A straight climb that fits better than a
   step is a ``slope`` and begins at its foot. Where no level moved, the size of the movements is tested the same way.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from advisor.evidence.signals import Array

Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# In at least 98 of 100 series of pure noise |score| stays below this: white, AR(1) with rho .8, lognormal, exponential, daily
# waves, with and without a notice (tests/test_shifts.py). Shorter than 60 samples, noise with a memory or a heavy tail
# reaches it in 3 to 7 of 100, in a dozen samples in 3 to 12. Of shifts of three swings in white noise it is passed by 86 of
# 100 that last five samples, by 98 that last eight, where somebody noticed; without a notice by 71 and 89.
CLEAR = 1.7

_SAMPLES_MIN = 6  # fewer say nothing about a usual swing
_BEFORE_MIN = 4  # samples before a change; with fewer the change is censored
_STRETCH_MIN = 3  # one spike is not a shift, nor are two; at the very end of the data there may be no more
_BEFORE_USUAL = 120  # samples looked back for the usual swing: two hours of minutes; or three times the stretch
_CANDIDATES = 3  # positions looked at closely; more than three rivals in one window is rare
# A stretch of five independent samples counts sqrt(1/2) of its effect. Around a notice in a long series fewer places are
# looked at, so chance has fewer tries: half as many samples are enough there.
_SHRINK, _SHRINK_NEAR, _SHORT = 5.0, 2.0, 60
# Of a dozen samples two are the before that there is, and what they say of the usual swing is little.
_DOZEN, _SHRINK_DOZEN = 12, 7.0
_GATHER = 96  # samples a median is taken of; more change it by less than a tenth of a swing
_CHUNK = 1 << 17  # elements worked on at once: about 1 MiB a temporary, so memory does not grow with the series
_DAY = 86_400.0
_TIME_MAX = 1e13  # epoch milliseconds still pass; differences of anything larger could overflow
_LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # at which a series is compared with itself


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of a series.

    Attributes:
        at: Epoch seconds of the first changed sample (of a slope: of its foot), the best single answer.
        earliest: It cannot well have begun before.
        latest: By now it had certainly begun.
        kind: ``level``, ``slope`` or ``spread``.
        before: The level before (median; in a daily pattern what these hours usually show). Of a spread: the deviation.
        after: The level of the changed stretch; of a slope the level at its end; of a spread the deviation.
        score: Effect in units of the usual swing, shrunk where little speaks for it; above zero is up. Beyond ``CLEAR``
            either way it is hardly chance. Comparable between series.
        censored: It was already there when the data begins, or too near to its beginning to tell.
        ended_at: When it was back at the level before; None where it was not.
    """

    at: float
    earliest: float
    latest: float
    kind: str
    before: float
    after: float
    score: float
    censored: bool
    ended_at: float | None = None


def find_shift(
    times: Array, values: Array, *, until: float | None = None, near: float | None = None, worse: int = 0
) -> Shift | None:
    """Return the shift of one series; see ``find_shifts``."""
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1:
        raise ValueError(f"values of one series have one dimension, not {row.ndim}")
    return find_shifts(times, row[np.newaxis], until=until, near=near, worse=worse)[0]


def find_shifts(
    times: Array,
    matrix: Array,
    *,
    until: float | None = None,
    near: float | None = None,
    worse: Sequence[int] | int = 0,
) -> list[Shift | None]:
    """Return the shift of each series: the strongest, or the one that explains what was noticed at ``near``.

    A shift is returned however weak it is; compare its score with ``CLEAR``. None is given where there is none to speak of:
    fewer than six samples, a constant, nothing that lasts, nothing in the direction asked for, nothing around ``near``.

    Args:
        times: Epoch seconds of the columns. Unsorted ones are put in order; of two samples at one time the later one given counts.
        matrix: One series a row; NaN and infinities are gaps.
        until: Samples after it are not looked at.
        near: When a symptom was noticed; may be wrong by a minute or by four sampling steps either way. Asked for is the
            beginning of the abnormal stretch it lies in, or else the nearest one before that had just ended.
        worse: 1 where only a rise matters, -1 where only a fall does, 0 for both; one number, or one a row.

    Raises:
        ValueError: Shapes do not fit, a time is not finite, or ``worse`` is none of -1, 0, 1.
    """
    grid, rows = _in_order(times, matrix, until)
    signs = _directions(worse, rows.shape[0])
    if near is not None and not math.isfinite(near):
        raise ValueError("near is not a finite time")
    if grid.size < _SAMPLES_MIN:
        return [None] * rows.shape[0]
    out: list[Shift | None] = []
    height = max(1, _CHUNK // grid.size)
    for top in range(0, rows.shape[0], height):
        part = slice(top, top + height)
        out.extend(_shifts_of(grid, rows[part], signs[part], near))
    return out


def growth(times: Array, values: Array, shift_or_at: Shift | float, until: float | None = None) -> float | None:
    """Return how many times its level before a series had after a moment (medians), up to ``until``.

    None without three samples on each side, and where a ratio means nothing: the sign changes, or it was zero before and
    is not after. Zero before and after is 1. The after side ends where a burst ended.
    """
    grid, rows = _in_order(times, np.asarray(values, dtype=np.float64)[np.newaxis], until)
    at = shift_or_at.at if isinstance(shift_or_at, Shift) else float(shift_or_at)
    ended = shift_or_at.ended_at if isinstance(shift_or_at, Shift) else None
    known = np.isfinite(rows[0])
    after = rows[0][known & (grid >= at) & (grid < (np.inf if ended is None else ended))]
    before = rows[0][known & (grid < at)][-max(_BEFORE_USUAL, 3 * after.size) :]
    if before.size < _STRETCH_MIN or after.size < _STRETCH_MIN:
        return None
    # Halves, so that the median of two values at the end of the range of floats cannot overflow.
    old, new = float(np.median(before / 2)), float(np.median(after / 2))
    if old == new:
        return 1.0
    if old == 0 or (old < 0) != (new < 0):
        return 0.0 if new == 0 and old > 0 else None
    with np.errstate(over="ignore"):
        ratio = float(np.float64(new) / np.float64(old))
    return ratio if np.isfinite(ratio) else None


def deseasoned(times: Array, values: Array) -> Array:
    """Return a series (or a matrix of them) less what the same hour of the other days shows; its own level is kept.

    Needs two whole days that resemble one another; otherwise the values come back unchanged. What only one day shows (an
    incident) stays: waves are fitted with far samples held back, and a sharper pattern counts only as far as every day has it.

    Raises:
        ValueError: Shapes do not fit, or a time is not finite.
    """
    given = np.asarray(values, dtype=np.float64)
    grid = np.asarray(times, dtype=np.float64)
    rows = np.atleast_2d(given)
    if grid.ndim != 1 or rows.ndim != 2 or rows.shape[1] != grid.size:
        raise ValueError(f"{grid.shape} times do not fit values of shape {given.shape}")
    if not (np.abs(grid) < _TIME_MAX).all():
        raise ValueError("a time is not finite, or no epoch second")
    if not _whole_days(grid) or not rows.size:
        return given.copy()
    order = np.argsort(grid, kind="stable")
    scaled, exponent = _scaled(rows[:, order])
    season = np.empty_like(rows)
    season[:, order] = np.ldexp(_season(grid[order], scaled), exponent[:, np.newaxis])
    out = np.where(
        np.isfinite(rows), rows / 2 - season / 2, rows
    )  # halves: two values at the end of the range may meet
    limit = np.finfo(np.float64).max / 2
    return np.asarray(np.clip(out, -limit, limit) * 2, dtype=np.float64).reshape(given.shape)


# --- what is given, put in order ---------------------------------------------------------------------------------------


def _in_order(times: Array, matrix: Array, until: float | None) -> tuple[Array, Array]:
    """Return times in order without repeats and the matrix with them, cut at ``until``."""
    grid, rows = np.asarray(times, dtype=np.float64), np.asarray(matrix, dtype=np.float64)
    if grid.ndim != 1 or rows.ndim != 2 or rows.shape[1] != grid.size:
        raise ValueError(f"times of shape {grid.shape} do not fit series of shape {rows.shape}")
    if not (np.abs(grid) < _TIME_MAX).all():
        raise ValueError("a time is not finite, or no epoch second")
    if until is not None and math.isnan(until):
        raise ValueError("until is not a time")
    if grid.size > 1 and not (np.diff(grid) > 0).all():
        order = np.argsort(grid, kind="stable")
        grid = grid[order]
        last = np.append(grid[1:] != grid[:-1], True)
        grid, rows = grid[last], rows[:, order[last]]
    if until is not None and grid.size and grid[-1] > until:
        size = int(np.searchsorted(grid, until, side="right"))
        grid, rows = grid[:size], rows[:, :size]
    return grid, rows


def _directions(worse: Sequence[int] | int, count: int) -> Indices:
    signs = np.asarray(worse)
    if signs.ndim == 0:
        signs = np.full(count, int(signs))
    if signs.shape != (count,) or not np.isin(signs, (-1, 0, 1)).all():
        raise ValueError(f"worse is -1, 0 or 1, or one of them for each of {count} series")
    return signs.astype(np.intp)


def _scaled(rows: Array) -> tuple[Array, npt.NDArray[np.int_]]:
    """Return rows brought within -1 to 1 by a power of two (no digit changes), gaps as NaN, and the exponents.

    What is 1e-100 of the largest value is nothing beside it; as zero it makes no ratio overflow.
    """
    known = np.isfinite(rows)
    largest = np.max(np.abs(np.where(known, rows, 0.0)), axis=1, initial=0.0)
    exponent = np.frexp(largest)[1].astype(np.int_)
    scaled = np.ldexp(np.where(known, rows, np.nan), -exponent[:, np.newaxis])
    scaled[np.abs(scaled) < 1e-100] = 0.0
    return np.asarray(scaled, dtype=np.float64), exponent


def _digit(rows: Array) -> Array:
    """Return the step that a series' own digits allow: 1 for whole numbers, 0.1, 0.01; 0 where they are finer."""
    columns = np.linspace(0, rows.shape[1] - 1, min(rows.shape[1], 2 * _GATHER)).astype(np.intp)
    seen = np.nan_to_num(rows[:, columns], nan=0.0, posinf=0.0, neginf=0.0)
    seen = np.where(np.abs(seen) < 1e12, seen, 0.5**40)  # beyond, digits say nothing of what was counted
    out = np.zeros(rows.shape[0])
    for step in (0.01, 0.1, 1.0):
        counted = seen / step
        whole = np.abs(counted - np.round(counted)) <= 1e-9 * np.maximum(1.0, np.abs(counted))
        whole &= (seen == 0) | (np.abs(counted) > 0.5)
        out = np.where(whole.all(axis=1) & (seen != 0).any(axis=1), step, out)
    return out


# --- one chunk of series -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Rows:
    """A chunk of series, each with its samples moved to the right end, so that gaps are gone and positions count samples.

    Attributes:
        values: Scaled values; 0 left of ``start``.
        when: Time of each sample.
        start: First position that holds a sample.
        digit: The step of each series' digits, scaled like the values.
    """

    values: Array
    when: Array
    start: Indices
    digit: Array

    def only(self, chosen: Mask) -> _Rows:
        """Return some of the rows."""
        return _Rows(self.values[chosen], self.when[chosen], self.start[chosen], self.digit[chosen])


@dataclass(slots=True)
class _Search:
    """Where to look: the directions that matter, and around which moment."""

    signs: Indices
    near: float | None
    slack: float  # how wrong ``near`` may be
    reach: float  # how long before ``near`` a burst may have ended
    fading: float  # age at which a change before ``near`` counts half
    shrink: float  # independent samples that count sqrt(1/2) of their effect
    shortest: int  # samples that a burst has at least

    def only(self, chosen: Mask) -> _Search:
        """Return the search for some of the rows."""
        return replace(self, signs=self.signs[chosen])


@dataclass(slots=True)
class _Fit:
    """One candidate of each row: a stretch ``first`` to ``end`` (not included) that left the level before.

    Attributes:
        low: Where the samples begin that tell the usual swing.
        since: Where the series last changed before, its start if it did not.
        earliest: First position at which it may have begun.
        latest: Last one.
        swing: The usual swing, with its floors.
        fitness: What the best candidate of a row is chosen by.
    """

    first: Indices
    end: Indices
    low: Indices
    since: Indices
    earliest: Indices
    latest: Indices
    before: Array
    after: Array
    swing: Array
    score: Array
    fitness: Array
    slope: Mask

    def keep_better(self, other: _Fit) -> None:
        """Take the other candidate's values in the rows where it is fitter."""
        better = other.fitness > self.fitness
        for name in _Fit.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            mine[better] = theirs[better]

    def put(self, chosen: Mask, other: _Fit) -> None:
        """Replace the chosen rows by those of a smaller fit."""
        for name in _Fit.__slots__:
            getattr(self, name)[chosen] = getattr(other, name)


def _shifts_of(grid: Array, rows: Array, signs: Indices, near: float | None) -> list[Shift | None]:
    scaled, exponent = _scaled(rows)
    season = _season(grid, scaled) if _whole_days(grid) else None
    search = _search(grid, signs, near)
    packed = _packed(grid, scaled if season is None else scaled - season, np.ldexp(_digit(rows), -exponent))
    fit = _best_level(packed, search)
    _prefer_slopes(packed, search, fit)
    spread = _spreads(packed, search, fit)
    before_data = _abnormal_from_the_start(grid, packed, scaled if season is None else scaled - season, search, fit)
    shown = (
        None if season is None else _packed(grid, np.where(np.isfinite(scaled), season, np.nan), packed.digit).values
    )
    return [
        _shift(packed, before_data if before_data.fitness[row] > 0 else fit, spread, shown, row, int(exponent[row]))
        for row in range(rows.shape[0])
    ]


def _shrink(size: int, noticed: bool) -> float:
    """Return how many independent samples count sqrt(1/2) of their effect."""
    if size <= _DOZEN:
        return _SHRINK_DOZEN
    return _SHRINK if not noticed else _SHRINK_NEAR + (_SHRINK - _SHRINK_NEAR) * min(1.0, _SHORT / size)


def _search(grid: Array, signs: Indices, near: float | None) -> _Search:
    step = float(np.median(np.diff(grid)))
    # A minute and a half, or four steps and a half: what people and alert rules are late or early by. A burst that was
    # over ten steps, or a quarter of an hour, before anybody noticed anything may still be what they noticed.
    return _Search(
        signs=signs,
        near=near,
        slack=max(90.0, 4.5 * step),
        reach=max(900.0, 10 * step),
        fading=max(20 * step, 0.3 * float(grid[-1] - grid[0])),
        shrink=_shrink(grid.size, near is not None),
        # Two samples of five minutes around a notice are ten minutes of trouble, not a spike.
        shortest=_STRETCH_MIN if near is None or step < 240.0 else 2,
    )


def _packed(grid: Array, rows: Array, digit: Array) -> _Rows:
    known = np.isfinite(rows)
    when = np.broadcast_to(grid, rows.shape)
    if known.all():
        return _Rows(rows, when, np.zeros(rows.shape[0], dtype=np.intp), digit)
    order = np.argsort(known, axis=1, kind="stable")
    start = rows.shape[1] - np.count_nonzero(known, axis=1)
    values = np.take_along_axis(np.where(known, rows, 0.0), order, axis=1)
    return _Rows(values, np.take_along_axis(when, order, axis=1), start.astype(np.intp), digit)


# --- where may something begin? ----------------------------------------------------------------------------------------

_SHARES = np.linspace(0.0, 1.0, 2049)[1:-1]
_NORMAL = np.array([NormalDist().inv_cdf(float(share)) for share in _SHARES])


def _normal_scores(rows: _Rows) -> npt.NDArray[np.float32]:
    """Return each sample's rank as a normal score of unit deviation (equal samples share theirs); 0 where there is none."""
    height, width = rows.values.shape
    position = np.arange(width)
    absent = position < rows.start[:, np.newaxis]
    filled = np.where(absent, -np.inf, rows.values)
    order = np.argsort(filled, axis=1)
    ordered = np.take_along_axis(filled, order, axis=1)
    fresh = np.ones((height, width), dtype=np.bool_)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=fresh[:, 1:])
    first = np.maximum.accumulate(np.where(fresh, position, 0), axis=1)
    closing = np.ones((height, width), dtype=np.bool_)
    closing[:, :-1] = fresh[:, 1:]
    last = np.minimum.accumulate(np.where(closing, position, width)[:, ::-1], axis=1)[:, ::-1]
    count = np.maximum(1, width - rows.start)[:, np.newaxis]
    share = ((first + last) * 0.5 - rows.start[:, np.newaxis] + 0.5) / count
    scores = np.empty((height, width))
    np.put_along_axis(scores, order, np.interp(share, _SHARES, _NORMAL), axis=1)
    scores[absent] = 0.0
    mean = scores.sum(axis=1, keepdims=True) / count
    scores = np.where(absent, 0.0, scores - mean)
    deviation = np.sqrt((scores * scores).sum(axis=1, keepdims=True) / count)
    return np.asarray(scores / np.where(deviation > 0, deviation, 1.0), dtype=np.float32)


def _lengths(width: int, shortest: int) -> list[int]:
    """Return the lengths of stretch tried, each about 1.6 times the one before."""
    out, length = [], float(shortest)
    while length < max(shortest + 1, width / 2):
        out.append(round(length))
        length *= 1.6
    return out


def _look_back(length: Indices) -> Indices:
    """Return how many samples before a stretch of some length it is compared with at first."""
    return np.asarray(np.maximum(12, 2 * length), dtype=np.intp)


Floats = npt.NDArray[np.float32]


def _contrasts(sums: Floats, start: Indices, signs: Indices, shortest: int) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Return, for each position as a beginning, the best contrast with what is before and the length that gives it.

    Args:
        sums: Running sums of the normal scores, one longer than the series.
        start: Where each series begins.
        signs: The direction that matters.
        shortest: The shortest stretch tried.
    """
    height, width = sums.shape[0], sums.shape[1] - 1
    position = np.arange(width)
    best = np.full((height, width), -1.0, dtype=np.float32)
    reach = np.full((height, width), shortest, dtype=np.int32)
    begun = start[:, np.newaxis] if start.any() else np.zeros((1, 1), dtype=np.intp)
    both, upward = (signs == 0)[:, np.newaxis], np.where(signs < 0, -1.0, 1.0)[:, np.newaxis].astype(np.float32)
    here, after, before = sums[:, :-1], np.empty_like(best), np.empty_like(best)
    needed = _BEFORE_MIN if width > _DOZEN else 2
    for length in _lengths(width, shortest):
        back = int(_look_back(np.asarray(length)))
        after_size = np.minimum(width - position, length).astype(np.float32)
        before_size = (position - np.maximum(np.maximum(position - back, 0), begun)).astype(np.float32)
        enough = before_size >= needed
        before_size = np.maximum(before_size, 1)
        after[:, : max(0, width - length)] = sums[:, length:-1]
        after[:, max(0, width - length) :] = sums[:, -1:]
        after -= here
        after *= 1.0 / after_size
        before[:, :back] = here[:, :back]
        np.subtract(here[:, back:], sums[:, : max(0, width - back)], out=before[:, back:])
        before *= 1.0 / before_size
        after -= before
        after *= np.where(enough, np.sqrt(after_size * before_size / (after_size + before_size)), 0.0)
        np.multiply(after, upward, out=after)
        np.abs(after, out=after, where=both)
        better = after > best
        np.copyto(best, after, where=better)
        np.copyto(reach, np.int32(length), where=better)
    return best, reach


def _settled_since(sums: Floats, squares: Floats, start: Indices, at: Indices) -> Indices:
    """Return since when each series had been at the level it had before a position: behind an earlier change, if any.

    An earlier change is one that explains a third of the variance before and is as sure as ten deviations; what samples with
    a memory do by chance is less.
    """
    each, position = np.arange(at.size), np.arange(sums.shape[1])
    old_size = (position - start[:, np.newaxis]).astype(np.float32)
    new_size = (at[:, np.newaxis] - position).astype(np.float32)
    usable = (old_size >= _BEFORE_MIN) & (new_size >= 12)  # with less the usual swing could not be told
    old_size, new_size = np.where(usable, old_size, 1), np.where(usable, new_size, 1)
    all_of_it = sums[each, at][:, np.newaxis]
    explained = (all_of_it - sums) / new_size - sums / old_size
    explained *= explained * (old_size * new_size / (old_size + new_size))
    explained = np.where(usable, explained, 0.0)
    best = explained.argmax(axis=1)
    size = np.maximum(1, at - start)
    variance = squares[each, at] - sums[each, at] ** 2 / size
    gain = explained[each, best]
    sure = (gain > 0.33 * variance) & (gain * size > 100.0 * (variance - gain)) & (gain > 0)
    return np.where(sure, best, start)


def _fading(search: _Search, when: Array) -> Array:
    """Return how much a beginning at each time counts: full at ``near``, less the longer before; nothing after."""
    if search.near is None:
        return np.ones(when.shape)
    age = np.maximum(0.0, search.near - when)
    return np.where(when > search.near + search.slack, 0.0, 1.0 / (1.0 + age / search.fading))


def _best_level(rows: _Rows, search: _Search, shortest: int = _STRETCH_MIN) -> _Fit:
    """Return each row's best candidate for a changed level."""
    sums = np.zeros((rows.values.shape[0], rows.values.shape[1] + 1), dtype=np.float32)
    squares = np.zeros_like(sums)
    scores = _normal_scores(rows)
    np.cumsum(scores, axis=1, out=sums[:, 1:])
    np.cumsum(scores * scores, axis=1, out=squares[:, 1:])
    contrast, reach = _contrasts(sums, rows.start, search.signs, shortest)
    promise = contrast if search.near is None else contrast * _fading(search, rows.when).astype(np.float32)
    each, position = np.arange(rows.values.shape[0]), np.arange(rows.values.shape[1])
    fits: list[_Fit] = []
    for _ in range(_CANDIDATES):
        at = promise.argmax(axis=1)
        length = reach[each, at].astype(np.intp)
        first, end = _stretch(rows, at, length)
        fit = _examined(rows, search, first, end, _settled_since(sums, squares, rows.start, first))
        fit.fitness[promise[each, at] <= 0] = -1.0
        fits.append(fit)
        apart = np.minimum(np.maximum(_STRETCH_MIN, length // 2), max(1, position.size // 8))[:, np.newaxis]
        promise[np.abs(position - at[:, np.newaxis]) <= apart] = -1.0
    for fit in fits:  # the end of a burst is no shift of its own
        for other in fits:
            ended = (other.fitness > 0) & (np.abs(other.end - fit.first) <= 3) & (other.end < position.size)
            short = other.end - other.first <= other.first - other.since  # else it is the new normal that ended
            back = np.abs(fit.after - other.before) < 0.5 * np.abs(other.after - other.before)
            fit.fitness = np.where(ended & short & back & (other.first < fit.first - 1), -1.0, fit.fitness)
    best = fits[0]
    for fit in fits[1:]:
        best.keep_better(fit)
    _set_moment(rows, search, best)
    return best


# --- a closer look at one candidate of each row ------------------------------------------------------------------------


def _gathered(values: Array, low: Indices, high: Indices) -> tuple[Array, Indices]:
    """Return up to 96 samples between two positions of each row, and how many; evenly taken where there are more."""
    size = np.maximum(0, high - low)
    count = np.minimum(size, _GATHER)
    index = np.arange(_GATHER)
    stride = (size / np.maximum(1, count))[:, np.newaxis]
    position = low[:, np.newaxis] + ((index + 0.5) * stride).astype(np.intp)
    position = np.clip(position, 0, values.shape[1] - 1)
    picked = np.take_along_axis(values, position, axis=1)
    return np.where(index < count[:, np.newaxis], picked, np.inf), count


def _quantile(ordered: Array, count: Indices, share: float) -> Array:
    """Return a quantile of each row's sorted first samples; 0 of none."""
    each = np.arange(ordered.shape[0])
    exact = np.maximum(0, count - 1) * share
    lower = exact.astype(np.intp)
    upper = np.minimum(lower + 1, np.maximum(0, count - 1))
    below = np.where(count > 0, ordered[each, lower], 0.0)
    above = np.where(count > 0, ordered[each, upper], 0.0)
    return np.asarray(below + (exact - lower) * (above - below), dtype=np.float64)


def _median(values: Array, low: Indices, high: Indices) -> Array:
    picked, count = _gathered(values, low, high)
    return _quantile(np.sort(picked, axis=1), count, 0.5)


def _middle(values: Array, low: Indices, high: Indices) -> Array:
    """Return the mean of the middle half of some samples (of five or fewer the median): deaf to spikes, surer than a median."""
    picked, count = _gathered(values, low, high)
    ordered = np.sort(picked, axis=1)
    each = np.arange(count.size)
    cut = np.where(count >= 3, np.maximum(1, count // 4), 0)
    cut = np.where(count == 5, 2, cut)  # two spikes among five are not their level
    # Where most samples are alike (a count that is nearly always zero) the rest is what tells levels apart.
    centre = count // 2
    alike = (ordered[each, centre] == ordered[each, count // 4]) & (count >= 12)
    alike &= (ordered[each, centre] != ordered[each, np.maximum(count - 1, 0)]) | (
        ordered[each, centre] != ordered[:, 0]
    )
    cut = np.where(alike, np.maximum(1, count // 20), cut)[:, np.newaxis]
    index = np.arange(ordered.shape[1])
    kept = (index >= cut) & (index < count[:, np.newaxis] - cut)
    size = np.maximum(1, np.count_nonzero(kept, axis=1))
    return np.asarray((np.where(kept, ordered, 0.0) / size[:, np.newaxis]).sum(axis=1), dtype=np.float64)


def _examined(rows: _Rows, search: _Search, first: Indices, end: Indices, low: Indices) -> _Fit:
    """Return a stretch with its levels and its score."""
    width = rows.values.shape[1]
    fit = _measured(rows, search, np.maximum(low, first - np.maximum(_BEFORE_USUAL, 3 * (end - first))), first, end)
    fit.since = low
    lasts = (end - first >= search.shortest) | ((end == width) & (end > first))
    wanted = (search.signs == 0) | (np.sign(fit.score) == search.signs)
    fit.fitness = np.where(lasts & wanted & (fit.score != 0), _fitness(rows, search, fit), -1.0)
    return fit


def _sides(rows: _Rows, old: Array, new: Array) -> Array:
    """Return running sums of each sample's vote, from -1 (as before) to 1 (changed).

    Of counts whose level moves by less than one (an error now and then, then every other minute) a count has three votes:
    most samples are zero on both sides.
    """
    half = (new - old) / 2
    rare = (np.abs(2 * half) < rows.digit)[:, np.newaxis]
    half = np.where(half != 0, half, 1.0)[:, np.newaxis]
    votes = rows.values - ((old + new) / 2)[:, np.newaxis]
    votes /= np.where(np.abs(half) > 1e-300, half, 1e-300)
    np.clip(votes, -1.0, np.where(rare, 3.0, 1.0), out=votes)
    sums = np.zeros((votes.shape[0], votes.shape[1] + 1))
    np.cumsum(votes, axis=1, out=sums[:, 1:])
    return sums


def _stretch(rows: _Rows, at: Indices, length: Indices) -> tuple[Indices, Indices]:
    """Return where the samples change sides: the stretch around a rough position with the largest sum of votes."""
    width = rows.values.shape[1]
    old = _middle(rows.values, np.maximum(rows.start, at - _look_back(length)), at)
    new = _middle(rows.values, at, np.minimum(at + length, width))
    sums = _sides(rows, old, new)
    position = np.arange(width + 1)
    around = np.maximum(length, 5)
    # Behind a burst the sums fall below what they were before it, so its beginning is looked for before its top only.
    behind = (position > at[:, np.newaxis]) & (position <= (at + 2 * around)[:, np.newaxis])
    top = np.where(behind, sums, -np.inf).argmax(axis=1)
    lowest, highest = np.maximum(rows.start + 1, at - around), np.minimum(top, width) - 1
    inside = (position >= lowest[:, np.newaxis]) & (position <= highest[:, np.newaxis])
    first = np.where(inside, sums, np.inf).argmin(axis=1)
    end = np.where(position > first[:, np.newaxis], sums, -np.inf).argmax(axis=1)
    return first, end


def _set_moment(rows: _Rows, search: _Search, fit: _Fit) -> None:
    """Set where each stretch begins now that its levels are known, and the first and last position that are as good.

    As good are beginnings that cost less than a factor of e² in likelihood (errors as Laplace's law has them).
    """
    sums = _sides(rows, fit.before, fit.after)
    gap = np.abs(fit.after - fit.before)
    allowance = np.minimum(1.4 * fit.swing / np.where(gap > 0, gap, 1.0), float(sums.shape[1]))
    each, position = np.arange(fit.first.size), np.arange(sums.shape[1])
    around = np.maximum(fit.end - fit.first, 5)
    shortest = np.minimum(_STRETCH_MIN, fit.end - fit.first)
    lowest, highest = np.maximum(fit.low + 1, fit.first - around), np.minimum(fit.first + around, fit.end - shortest)
    inside = (position >= lowest[:, np.newaxis]) & (position <= highest[:, np.newaxis])
    first = np.where(inside, sums, np.inf).argmin(axis=1)
    kept = (lowest <= highest) & ((search.near is None) | (_fading(search, rows.when[each, first]) > 0))
    fit.first = np.where(kept, first, fit.first)
    as_good = sums <= (sums[each, fit.first] + allowance)[:, np.newaxis]
    as_good &= inside
    as_good[each, fit.first] = True
    fit.earliest = as_good.argmax(axis=1)
    fit.latest = sums.shape[1] - 1 - as_good[:, ::-1].argmax(axis=1)
    _step_back(rows, fit, inside)


def _step_back(rows: _Rows, fit: _Fit, inside: Mask) -> None:
    """Let what rises by and by begin where it leaves the level before, not where it is halfway up."""
    effect = fit.after - fit.before
    part = np.maximum(0.3, np.minimum(1.0, 2.5 * fit.swing / np.where(effect != 0, np.abs(effect), 1.0)))
    sums = _sides(rows, fit.before, fit.before + part * effect)
    foot = np.where(inside, sums, np.inf).argmin(axis=1)
    each = np.arange(foot.size)
    gain = sums[each, fit.first] - sums[each, foot]
    gradual = (
        inside.any(axis=1) & (foot < fit.first) & (gain >= 4.0)
    )  # a few samples that happen to lie high are no foot
    fit.first = np.where(gradual, foot, fit.first)
    fit.earliest = np.where(gradual, np.minimum(foot, fit.earliest), fit.earliest)


def _measured(rows: _Rows, search: _Search, low: Indices, first: Indices, end: Indices) -> _Fit:
    """Return levels, swing and score of stretches, as if samples were independent."""
    before, after = _median(rows.values, low, first), _middle(rows.values, first, end)
    behind = np.minimum(rows.values.shape[1], end + _BEFORE_USUAL // 2)
    settled = _median(rows.values, end, behind)
    usual, count = _usual(rows.values, (low, first, before), (end, behind, settled))
    swing = _swing(rows, usual, count, before, after)
    # Two spikes among four samples are not the level of the four.
    fourth = end - first == 4
    if fourth.any():
        nearer = np.where(after > before, 1, 2)
        four = np.sort(_gathered(rows.values, first, end)[0], axis=1)[np.arange(first.size), nearer]
        after = np.where(fourth, four, after)
    within = _deviation(rows.values, first, end, after)
    swing = np.hypot(swing, within * np.clip(1.0 - count / 12.0, 0.0, 1.0))  # helps out where few samples come before
    # What a burst returns to is usual too: among wild samples no burst is remarkable.
    wild = _deviation(rows.values, end, behind, settled)
    swing = np.where(behind - end >= 8, np.maximum(swing, 0.8 * wild), swing)
    effect = _untailed((after - before) / swing, usual, count, end - first)
    score = effect * _weight((end - first).astype(np.float64), (first - low).astype(np.float64), search.shrink)
    flags = np.zeros(first.size, dtype=np.bool_)
    return _Fit(first, end, low, low, first, first, before, after, swing, score, np.abs(score), flags)


_Part = tuple[Indices, Indices, Array]


def _usual(values: Array, before: _Part, behind: _Part) -> tuple[Array, Indices]:
    """Return in order how far samples usually lie from their level, and how many there are.

    These are the samples before; where they are fewer than 60, those behind a burst help out.
    """
    picked, count = _gathered(values, before[0], before[1])
    more, extra = _gathered(values, behind[0], behind[1])
    helps = (count < _BEFORE_USUAL // 2) & (extra >= 8)
    if not helps.any():
        return np.sort(picked - before[2][:, np.newaxis], axis=1), count
    more = np.where(helps[:, np.newaxis], more - behind[2][:, np.newaxis], np.inf)
    both = np.concatenate([picked - before[2][:, np.newaxis], more], axis=1)
    return np.sort(both, axis=1), count + np.where(helps, extra, 0)


def _deviation(values: Array, low: Indices, high: Indices, level: Array) -> Array:
    """Return the robust deviation of samples from a level (1.4826 median distances, as for normal ones)."""
    picked, count = _gathered(values, low, high)
    return 1.4826 * _quantile(np.sort(np.abs(picked - level[:, np.newaxis]), axis=1), count, 0.5)


def _untailed(effect: Array, usual: Array, count: Indices, size: Indices) -> Array:
    """Return effects with those into a long tail made less of: between plain and logarithmic, plainer the longer it lasts.

    Where the tenth above the median lies r times as far from it as the tenth below, a logarithm (of the distance from the
    point that makes both equal) makes the samples symmetric; in it x tenths are ln(1 + x(r-1)) / ln r. On that scale alone a
    latency that rises eightfold for good would hardly count; on the plain scale three slow calls in a row would.
    """
    up, down = _quantile(usual, count, 0.9), -_quantile(usual, count, 0.1)
    rising = effect > 0
    far, close = np.where(rising, up, down), np.where(rising, down, up)
    known = (far > 0) & (close > 0) & (far > close)
    ratio = np.where(known, np.minimum(far / np.where(known, close, 1.0), 10.0), 1.0)
    ratio = 1.0 + (ratio - 1.0) * np.clip((ratio - 1.2) / 0.8, 0.0, 1.0)  # a little skewness is chance
    plain = np.minimum(np.abs(effect), 1000.0)
    tailed = ratio > 1.05
    log = np.log(np.where(tailed, ratio, np.e))
    bent = np.where(tailed, 1.2816 * np.log1p(plain / 1.2816 * (ratio - 1.0)) / log, plain)
    lasting = (size - 1.0) / (size + 40.0)
    return np.asarray(np.sign(effect) * plain**lasting * np.minimum(plain, bent) ** (1.0 - lasting), dtype=np.float64)


def _swing(rows: _Rows, usual: Array, count: Indices, before: Array, after: Array) -> Array:
    """Return the usual swing of the samples before, in the direction of the change, never below its floors."""
    away = np.abs(usual)  # absent ones stay infinite
    middle = 1.4826 * _quantile(np.sort(away, axis=1), count, 0.5)
    # A tail that often reaches far up makes a rise less remarkable than a fall: 1.2816 deviations hold nine in ten.
    up, down = _quantile(usual, count, 0.9), -_quantile(usual, count, 0.1)
    chance = 1.0 + 1.0 / np.sqrt(np.maximum(1, count))  # half the time a quantile of few samples errs by more
    swing = np.maximum(middle, np.where(after >= before, up, down) / 1.2816 / chance)
    swing = swing * (1.0 + 3.0 / np.maximum(1, count))  # few samples show less than the usual swing
    effect, level = np.abs(after - before), np.maximum(np.abs(after), np.abs(before))
    relative = effect / np.where(level > 0, level, 1.0)
    level_floor = 0.003 * level  # nobody is paged for three in a thousand
    digit_floor = 0.25 * rows.digit  # one step of a whole number is worth four swings, never more
    alike = np.count_nonzero(away <= 1e-9 * level[:, np.newaxis], axis=1) / np.maximum(1, count)
    flat = np.clip(2.0 * alike - 1.0, 0.0, 1.0)  # 1: constant before; 0: most samples differ
    # A constant that moves is a sure change with no swing to measure it by. It is worth 3 swings for being sure (less below
    # 0.1 %), up to 15 by its size: neither dropped nor above everything that has a swing.
    worth = 3.0 * relative / (relative + 5e-4) + 12.0 * relative / (relative + 0.2)
    flat_floor = flat * effect / np.maximum(worth, 1e-6)
    total = np.sqrt(swing**2 + level_floor**2 + digit_floor**2 + flat_floor**2)
    return np.asarray(np.where(total > 0, total, 1.0), dtype=np.float64)


def _weight(after_size: Array, before_size: Array, shrink: float) -> Array:
    """Return which share of an effect counts, by how many independent samples stand on both sides."""
    size = 1.0 / (1.0 / np.maximum(after_size, 0.5) + 1.0 / np.maximum(before_size, 0.5))
    return np.asarray(np.sqrt(size / (size + shrink)), dtype=np.float64)


def _fitness(rows: _Rows, search: _Search, fit: _Fit) -> Array:
    """Return what candidates of a row are compared by: clear ones first, then strength and nearness."""
    strength = np.abs(fit.score)
    clear = np.where(strength >= CLEAR, 100.0, 0.0)
    if search.near is None:
        return np.asarray(clear + strength, dtype=np.float64)
    each = np.arange(fit.first.size)
    begun = rows.when[each, fit.first]
    over = rows.when[each, np.minimum(fit.end, rows.values.shape[1] - 1)]
    gone = np.where(fit.end < rows.values.shape[1], search.near - search.slack - over, 0.0)
    counts = np.where(gone > 0, 0.2, 1.0) * _fading(search, begun)
    fitness = clear + counts * strength / (1.0 + strength / 10.0)  # an old giant does not outweigh what is at hand
    return np.where((gone > search.reach) | (counts <= 0), -1.0, fitness)


def _abnormal_from_the_start(grid: Array, packed: _Rows, rows: Array, search: _Search, fit: _Fit) -> _Fit:
    """Return the stretches that began before the data and hold ``near``: read backwards, they begin where they ended.

    Looked for only where nothing else is clear and ``near`` lies in the first half. Fitness is below 0 elsewhere.
    """
    found = _rows_of(fit, np.ones(fit.first.size, dtype=np.bool_))
    found.fitness[:] = -1.0
    unclear = (fit.fitness <= 0) | (np.abs(fit.score) < CLEAR)
    if search.near is None or search.near > (grid[0] + grid[-1]) / 2 or not unclear.any():
        return found
    back = _packed(-grid[::-1], rows[unclear][:, ::-1], packed.digit[unclear])
    width = grid.size
    around = replace(search.only(unclear), near=None)
    part = _best_level(back, around)
    _discount_memory(back, around, part)
    ended = -back.when[np.arange(part.first.size), np.minimum(part.first, width - 1)]
    good = (part.fitness > 0) & (np.abs(part.score) >= CLEAR) & (part.end == width)
    start = packed.start[unclear]
    count = width - part.first  # samples of the stretch, which is its first ones read forwards
    good &= (ended > search.near + search.slack) & (count < width - start - count)  # the longer part is the usual one
    part.fitness = np.where(good, part.fitness, -1.0)
    part.first, part.low, part.since, part.earliest, part.latest = (start.copy() for _ in range(5))
    part.end = np.minimum(start + count, width)
    found.put(unclear, part)
    return found


# --- how much independent evidence is there? ---------------------------------------------------------------------------


def _memory(residual: Array, within: Mask) -> Array:
    """Return over how many samples each row remembers itself (1: each sample is news), by its sum of autocorrelations."""
    count = np.count_nonzero(within, axis=1)
    size = np.maximum(1, count)
    mean = np.where(within, residual, 0.0).sum(axis=1) / size
    centred = np.where(within, residual - mean[:, np.newaxis], 0.0)
    power = (centred * centred).sum(axis=1)
    usable = (count >= 24) & (power > 0)  # fewer samples cannot tell memory from chance
    power = np.where(power > 0, power, 1.0)
    memory = np.ones(count.size)
    going = usable.copy()
    for number, lag in enumerate(_LAGS):
        if lag >= residual.shape[1] // 3:
            break
        width = (_LAGS[min(number + 1, len(_LAGS) - 1)] - _LAGS[max(number - 1, 0)]) / 2 if number else 1.0
        alike = np.einsum("ij,ij->i", centred[:, lag:], centred[:, :-lag]) / power * size / np.maximum(1, size - lag)
        going &= (alike > 1.5 / np.sqrt(size)) & (lag < count // 3)  # below, it is noise of the estimate
        memory += np.where(going, 2.0 * width * np.minimum(alike, 1.0), 0.0)
    # Levels were fitted to the same samples, which hides part of the memory: a quarter in 480 samples, three quarters in 40.
    return np.asarray(1.0 + (memory - 1.0) * (1.0 + 280.0 / size), dtype=np.float64)


def _independent(size: Array, memory: Array) -> Array:
    """Return how many independent samples a stretch is worth."""
    return np.asarray(1.0 + np.maximum(0.0, size - 1.0) / memory, dtype=np.float64)


def _discount_memory(rows: _Rows, search: _Search, fit: _Fit) -> Array:
    """Shrink scores, and widen the doubt about the beginning, where samples repeat one another.

    Returns:
        How sure each effect is: in deviations of the difference of two means.
    """
    position = np.arange(rows.values.shape[1])
    since, first, end = (a[:, np.newaxis] for a in (fit.since, fit.first, fit.end))
    level = np.where((position >= first) & (position < end), fit.after[:, np.newaxis], fit.before[:, np.newaxis])
    residual = np.clip((rows.values - level) / fit.swing[:, np.newaxis], -3.0, 3.0)
    memory = _memory(residual, position >= since)
    sureness = _apply_memory(fit, memory, search.shrink)
    wider = (np.sqrt(memory) * np.stack([fit.first - fit.earliest, fit.latest - fit.first])).astype(np.intp)
    fit.earliest = np.maximum(fit.low, fit.first - wider[0])
    fit.latest = np.minimum(np.maximum(fit.first, fit.end - 1), fit.first + wider[1])
    return sureness


def _apply_memory(fit: _Fit, memory: Array, shrink: float) -> Array:
    after, before = (fit.end - fit.first).astype(np.float64), (fit.first - fit.low).astype(np.float64)
    effect = fit.score / _weight(after, before, shrink)
    after, before = _independent(after, memory), _independent(before, memory)
    fit.score = effect * _weight(after, before, shrink)
    return np.asarray(np.abs(effect) / np.sqrt(1.0 / after + 1.0 / before), dtype=np.float64)


# --- slopes ------------------------------------------------------------------------------------------------------------


def _prefer_slopes(rows: _Rows, search: _Search, fit: _Fit) -> None:
    """Turn a changed level into a slope where a climb from a foot fits much better than a step."""
    _discount_memory(rows, search, fit)
    chosen = (fit.fitness > 0) & (np.abs(fit.score) >= 0.6 * CLEAR) & (fit.end - fit.first >= _STRETCH_MIN)
    # A step is a step at once: where most of the way lies between five samples and the next, no climb is looked for.
    behind = np.minimum(fit.first + 5, rows.values.shape[1])
    jump = _middle(rows.values, fit.first, behind) - _middle(
        rows.values, np.maximum(fit.first - 5, rows.start), fit.first
    )
    chosen &= np.abs(jump) < 0.7 * np.abs(fit.after - fit.before)
    if not chosen.any():
        return
    some, around = rows.only(chosen), search.only(chosen)
    part = _rows_of(fit, chosen)
    _climb(some, around, part)
    fit.put(chosen, part)


def _rows_of(fit: _Fit, chosen: Mask) -> _Fit:
    return _Fit(*(getattr(fit, name)[chosen] for name in _Fit.__slots__))


def _climb(rows: _Rows, search: _Search, fit: _Fit) -> None:
    """Replace fits by their climb where that explains the samples up to the summit better than any step does."""
    width = rows.values.shape[1]
    each = np.arange(fit.first.size)
    summit = _summit(rows, fit)
    bounds = np.minimum(fit.before, fit.after), np.maximum(fit.before, fit.after)
    held = 3.0 * fit.swing[:, np.newaxis]
    best_gain = np.full(fit.first.size, 8.0)  # in units of log likelihood: a climb is a claim that needs a reason
    peak = np.take_along_axis(rows.values, np.clip(summit - 1, 0, width - 1)[:, np.newaxis], axis=1)
    lowest = np.minimum(bounds[0][:, np.newaxis], peak) - held
    highest = np.maximum(bounds[1][:, np.newaxis], peak) + held
    values = np.clip(rows.values, lowest, highest)
    foot, low, found = fit.first.copy(), fit.low.copy(), np.zeros(fit.first.size, dtype=np.bool_)
    earliest, latest, memory = fit.earliest.copy(), fit.latest.copy(), np.ones(fit.first.size)
    for share in (1.0, 0.4, 0.15):  # how far back the straight part before the foot is looked for
        begin = np.maximum(rows.start, (summit - share * (summit - rows.start)).astype(np.intp))
        bend, gain, remembered, range_ = _bends(values, begin, summit)
        late = (bend - begin >= _BEFORE_MIN) | (begin <= rows.start)  # a foot at the edge of the part looked at is none
        better = (gain > best_gain) & (summit - bend >= 6) & (summit - begin >= 12) & late
        best_gain = np.where(better, gain, best_gain)
        foot, low, found = np.where(better, bend, foot), np.where(better, begin, low), found | better
        memory = np.where(better, remembered, memory)
        earliest, latest = np.where(better, range_[0], earliest), np.where(better, range_[1], latest)
    if not found.any():
        return
    top = np.minimum(width, np.maximum(summit, foot + 1))
    tip = np.maximum(foot, top - np.maximum(_STRETCH_MIN, (top - foot) // 6))
    slope = _measured(rows, search, np.maximum(low, foot - np.maximum(_BEFORE_USUAL, 3 * (top - foot))), foot, top)
    slope.after = _median(rows.values, tip, top)
    climbing = found & (np.sign(slope.after - slope.before) == np.sign(fit.after - fit.before))
    slope = _as_climb(rows, search, slope, foot, top, memory)
    slope.earliest, slope.latest, slope.slope = earliest, latest, climbing
    slope.end, slope.fitness = np.maximum(fit.end, top), fit.fitness
    begun = rows.when[each, foot]
    if search.near is not None:
        climbing &= begun <= search.near + search.slack
    fit.put(climbing, _rows_of(slope, climbing))


def _as_climb(rows: _Rows, search: _Search, slope: _Fit, foot: Indices, top: Indices, memory: Array) -> _Fit:
    """Return a climb with its score: from the level before its foot to its end, against the scatter around it."""
    early = foot - rows.start < _BEFORE_MIN  # no level before: the climb's own beginning stands for it
    start = _median(rows.values, foot, np.minimum(top, foot + np.maximum(_STRETCH_MIN, (top - foot) // 6)))
    slope.before = np.where(early, start, slope.before)
    position = np.arange(rows.values.shape[1])
    share = np.clip((position - foot[:, np.newaxis]) / np.maximum(1, top - foot)[:, np.newaxis], 0.0, 1.0)
    line = slope.before[:, np.newaxis] + share * (slope.after - slope.before)[:, np.newaxis]
    away, count = _gathered(np.abs(rows.values - line), np.maximum(slope.low, rows.start), top)
    scatter = 1.4826 * _quantile(np.sort(away, axis=1), count, 0.5)
    level = np.maximum(np.abs(slope.before), np.abs(slope.after))
    floors = np.sqrt((0.02 * level) ** 2 + (0.25 * rows.digit) ** 2)  # a straight line has no swing of its own
    slope.swing = np.where(early, np.hypot(scatter, floors), np.hypot(slope.swing, scatter))
    slope.swing = np.where(slope.swing > 0, slope.swing, 1.0)
    effect = np.clip((slope.after - slope.before) / slope.swing, -1000.0, 1000.0)
    after = _independent((top - foot).astype(np.float64), memory)
    before = _independent(np.where(early, top - foot, foot - slope.low).astype(np.float64), memory)
    slope.score = effect * _weight(after, before, search.shrink)
    return slope


def _summit(rows: _Rows, fit: _Fit) -> Indices:
    """Return the position behind the first sample (of five, smoothed) that comes nine tenths of the way."""
    values, width = rows.values, rows.values.shape[1]
    sums = np.zeros((values.shape[0], width + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    position = np.arange(width)
    lower, upper = np.maximum(position - 2, 0), np.minimum(position + 3, width)
    smooth = (sums[:, upper] - sums[:, lower]) / (upper - lower)
    way = (smooth - fit.before[:, np.newaxis]) * np.sign(fit.after - fit.before)[:, np.newaxis]
    inside = (position >= fit.first[:, np.newaxis]) & (position < fit.end[:, np.newaxis])
    way = np.where(inside, way, -np.inf)
    reached = way >= 0.9 * way.max(axis=1, keepdims=True)
    return np.asarray(np.minimum(width, reached.argmax(axis=1) + 2), dtype=np.intp)


def _bends(values: Array, begin: Indices, end: Indices) -> tuple[Indices, Array, Array, tuple[Indices, Indices]]:
    """Return the best foot of a climb between two positions and how much better it fits than the best step.

    Both models have a level before and one number more; every foot and every step is tried at once, by suffix sums.

    Returns:
        The foot, the gain in log likelihood over the best step, the memory of what the climb leaves over, and the first and
        last foot that fit almost as well.
    """
    position = np.arange(values.shape[1], dtype=np.float64)
    inside = (position >= begin[:, np.newaxis]) & (position < end[:, np.newaxis])
    count = np.maximum(1, end - begin).astype(np.float64)[:, np.newaxis]
    mean = np.where(inside, values, 0.0).sum(axis=1, keepdims=True) / count
    centred = np.where(inside, values - mean, 0.0)
    total = (centred * centred).sum(axis=1, keepdims=True)
    # Suffix sums from each position on: of the samples, and of samples times time since that position.
    rest = np.cumsum(centred[:, ::-1], axis=1)[:, ::-1]
    moment = np.cumsum(rest[:, ::-1], axis=1)[:, ::-1] - rest
    long = np.clip(end[:, np.newaxis] - position, 0.0, None)
    step_power = long - long * long / count
    ramp_sum = long * (long - 1) / 2
    ramp_power = long * (long - 1) * (2 * long - 1) / 6 - ramp_sum * ramp_sum / count
    usable = inside & (long >= 2) & (position > begin[:, np.newaxis])
    step_gain = np.where(usable & (step_power > 0), rest * rest / np.where(step_power > 0, step_power, 1.0), 0.0)
    usable = inside & (long >= 4)
    ramp_gain = np.where(usable & (ramp_power > 0), moment * moment / np.where(ramp_power > 0, ramp_power, 1.0), 0.0)
    foot = ramp_gain.argmax(axis=1)
    each = np.arange(foot.size)
    floor = 1e-9 * total[:, 0] + 1e-300
    step_left = np.maximum(total[:, 0] - step_gain.max(axis=1), 0.0) + floor
    ramp_left = np.maximum(total[:, 0] - ramp_gain[each, foot], 0.0) + floor
    slope = moment[each, foot] / np.where(ramp_power[each, foot] > 0, ramp_power[each, foot], 1.0)
    climb = np.clip(position - foot[:, np.newaxis], 0.0, None) * slope[:, np.newaxis]
    deviation = np.sqrt(ramp_left / count[:, 0])[:, np.newaxis]
    memory = _memory(np.clip((centred - climb) / deviation, -3.0, 3.0), inside)
    gain = 0.5 * count[:, 0] / memory * np.log(step_left / ramp_left)
    margin = ramp_left * np.expm1(np.minimum(4.0 * memory / count[:, 0], 1.0))
    as_good = usable & (total - ramp_gain <= (ramp_left + margin)[:, np.newaxis])
    as_good[each, foot] = True
    last = values.shape[1] - 1 - as_good[:, ::-1].argmax(axis=1)
    return foot, gain, memory, (as_good.argmax(axis=1).astype(np.intp), last.astype(np.intp))


# --- spread ------------------------------------------------------------------------------------------------------------

_SPREAD_STRETCH_MIN = 8  # fewer movements do not tell a wider swing from chance


def _spreads(rows: _Rows, search: _Search, fit: _Fit) -> _Fit | None:
    """Return, where no level is clear, candidates for changed movement from sample to sample; fitness below 0 elsewhere."""
    unclear = ((fit.fitness <= 0) | (np.abs(fit.score) < CLEAR)) & (search.signs >= 0)
    unclear &= rows.values.shape[1] - rows.start >= 3 * _SPREAD_STRETCH_MIN
    if not unclear.any():
        return None
    some, around = rows.only(unclear), search.only(unclear)
    size = _median(np.abs(some.values), some.start, np.full(some.start.size, some.values.shape[1], dtype=np.intp))
    floor = 0.001 * size + 0.1 * some.digit + 1e-12
    moves = np.zeros_like(some.values)
    moves[:, 1:] = np.log(np.abs(np.diff(some.values, axis=1)) + floor[:, np.newaxis])
    begun = np.minimum(some.start + 1, moves.shape[1] - 1)
    moves[np.arange(moves.shape[1]) < begun[:, np.newaxis]] = 0.0
    moved = _Rows(moves, some.when, begun, np.zeros(begun.size))
    found = _best_level(moved, around, _SPREAD_STRETCH_MIN)
    sureness = _discount_memory(moved, around, found)
    after, before = found.end - found.first, found.first - found.low
    # A doubled swing is worth 1.2 where movements are those of normal samples (whose logarithms deviate by 1.1), less where
    # they differ more from one another. It takes more of them than of levels to be sure.
    found.score = np.clip(1.8 * found.score * np.minimum(found.swing, 1.1), -15.0, 15.0)
    found.score *= np.minimum(1.0, sureness**2 / 36.0)
    long = (after >= _SPREAD_STRETCH_MIN) & (before >= _SPREAD_STRETCH_MIN)
    found.fitness = np.where(long & (found.fitness > 0), found.fitness, -1.0)
    # The median |difference| of two normal samples is 0.954 deviations.
    found.before, found.after = np.exp(found.before) / 0.954, np.exp(found.after) / 0.954
    whole = _rows_of(fit, np.ones(fit.first.size, dtype=np.bool_))
    whole.fitness[:] = -1.0
    whole.put(unclear, found)
    return whole


# --- the daily pattern -------------------------------------------------------------------------------------------------


def _whole_days(grid: Array) -> bool:
    """Return whether two whole days are known at a step that shows their pattern."""
    if grid.size < 48:
        return False
    span = float(grid.max() - grid.min())
    step = span / (grid.size - 1)
    return span + step >= 2 * _DAY - 1.0 and step <= 3600.0


def _season(grid: Array, rows: Array) -> Array:
    """Return each row's daily pattern around zero: waves where the days resemble one another, and what is sharp each day."""
    known = np.isfinite(rows)
    out = np.repeat(_row_medians(rows)[:, np.newaxis], rows.shape[1], axis=1)
    level = out.copy()
    alike = _days_alike(grid, rows)
    if alike.any():
        out[alike] += _waves(grid, rows[alike])
    out += _sharp(grid, np.where(known, rows - out, np.nan))
    return np.asarray(out - level, dtype=np.float64)


def _days_alike(grid: Array, rows: Array) -> Mask:
    """Return which rows have days of the same course: rank correlation above one half between hours of neighbouring days."""
    hour = ((grid - grid[0]) // 3600.0).astype(np.intp)
    days = int((hour[-1] + 1) // 24)
    means = np.zeros((rows.shape[0], days * 24))
    for number in range(days * 24):
        means[:, number] = _row_medians(rows[:, hour == number])
    ranks = means.reshape(rows.shape[0], days, 24).argsort(axis=2, kind="stable").argsort(axis=2, kind="stable") - 11.5
    known = np.ptp(means, axis=1) > 0
    pairs = (ranks[:, 1:] * ranks[:, :-1]).sum(axis=2) / (ranks[0, 0] @ ranks[0, 0])
    return np.asarray(known & (np.median(pairs, axis=1) > 0.5), dtype=np.bool_)


def _row_medians(part: Array) -> Array:
    """Return each row's median without its gaps; 0 where there are only gaps."""
    count = np.count_nonzero(np.isfinite(part), axis=1)
    if part.shape[1] == 0:
        return np.zeros(part.shape[0])
    return _quantile(np.sort(np.where(np.isfinite(part), part, np.inf), axis=1), count, 0.5)


def _waves(grid: Array, rows: Array) -> Array:
    """Return a level's daily waves (four harmonics), fitted with far samples held at two deviations."""
    phase = 2 * np.pi * (grid - grid[0]) / _DAY
    columns = [np.ones_like(phase)]
    for harmonic in (1, 2, 3, 4):
        columns += [np.cos(harmonic * phase), np.sin(harmonic * phase)]
    design = np.stack(columns, axis=1)
    solve = np.linalg.pinv(design)
    known = np.isfinite(rows)
    fitted = np.repeat(_row_medians(rows)[:, np.newaxis], rows.shape[1], axis=1)
    for _ in range(12):  # after a dozen rounds nothing moves by a hundredth of a swing
        residual = np.where(known, rows - fitted, 0.0)
        held = 2.0 * 1.4826 * _row_medians(np.where(known, np.abs(residual), np.nan))[:, np.newaxis]
        weights = (fitted + np.clip(residual, -held, held)) @ solve.T
        fitted = weights @ design.T
    return np.asarray(fitted - weights[:, :1], dtype=np.float64)


def _sharp(grid: Array, residual: Array) -> Array:
    """Return what is left at the same time of every day: the least of it where all days agree on the side.

    A nightly job shows each day and is taken out; an incident shows on one day and stays.
    """
    step = float(grid[-1] - grid[0]) / (grid.size - 1)
    slot = np.round((grid - grid[0]) / step).astype(np.intp)
    period = round(_DAY / step)
    phase = slot % period
    least = np.full((residual.shape[0], period), np.inf)
    most = np.full((residual.shape[0], period), -np.inf)
    for first in range(0, int(slot[-1]) + 1, period):
        day = (slot >= first) & (slot < first + period)
        here = residual[:, day]
        known = np.isfinite(here)
        least[:, phase[day]] = np.minimum(least[:, phase[day]], np.where(known, here, np.inf))
        most[:, phase[day]] = np.maximum(most[:, phase[day]], np.where(known, here, -np.inf))
    usual = 3.5 * 1.4826 * _row_medians(np.abs(residual))[:, np.newaxis]  # what is less is noise that happens to agree
    common = np.where(least > usual, least, np.where(most < -usual, most, 0.0))
    return np.asarray(np.where(np.isfinite(common), common, 0.0)[:, phase], dtype=np.float64)


# --- the answer --------------------------------------------------------------------------------------------------------


def _shift(
    rows: _Rows, level: _Fit, spread: _Fit | None, season: Array | None, row: int, exponent: int
) -> Shift | None:
    """Return one row's answer in the units that were given."""
    fit, kind = level, "slope" if level.slope[row] else "level"
    if spread is not None and spread.fitness[row] > 0 and not (fit.fitness[row] > 0 and abs(fit.score[row]) >= CLEAR):
        stronger = abs(spread.score[row]) >= CLEAR or level.fitness[row] <= 0
        fit, kind = (spread, "spread") if stronger else (level, kind)
    if fit.fitness[row] <= 0:
        return None
    first, end, start = int(fit.first[row]), int(fit.end[row]), int(rows.start[row])
    when = rows.when[row]
    usual = 0.0
    if season is not None and kind != "spread":
        usual = float(np.median(season[row, first:end]))
    early = int(fit.earliest[row])
    ended = end < when.size - 1
    return Shift(
        at=float(when[first]),
        earliest=float(when[max(start, early - 1)]),
        latest=float(when[fit.latest[row]]),
        kind=kind,
        before=_unscaled(float(fit.before[row]) + usual, exponent),
        after=_unscaled(float(fit.after[row]) + usual, exponent),
        score=float(fit.score[row]),
        censored=early - start < _BEFORE_MIN,
        ended_at=float(when[end]) if ended else None,
    )


def _unscaled(value: float, exponent: int) -> float:
    try:
        return math.ldexp(value, exponent)
    except OverflowError:  # a level beside 1e308 plus what is usual at that hour
        return math.copysign(sys.float_info.max, value)
