"""Verification: did the incident's own signal recover after a change?

`judge` is a pure function from samples to one of four verdicts. Absence of data is never success: a window
that is not over, too few samples, samples that stop half-way, a signal that was never seen, NaN, all give
``inconclusive`` with the reason. A source that could not be asked gives ``error``. One check that is
clearly missed gives ``failed``, whatever the others say.

Beside the plan's checks stand the service's other vital signs (`vital_signs`): one that got clearly worse fails the
change although its symptom went, and traffic that fell away leaves it open.

It asks nothing itself: the workflow queries each check of the plan, before and after the change, and passes
the series in. What to do about a verdict is decided elsewhere.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from advisor.evidence import Series
from advisor.playbook import Check, Comparison, Measure, VerificationPlan
from advisor.values import Instant, Record
from advisor.verification.vital_signs import VitalSamples, read_sign

FLOOR_QUANTILE = 0.1  # below it lies what a heap keeps after collections; the minimum would be one lucky sample
SLOPE_BUCKETS_MAX = 12  # each holds some collections of a usual sawtooth, and twelve points make a line
SLOPE_BUCKETS_MIN = 3  # fewer points always lie on a line
SPAN_SHARE_MIN = 0.5  # of the window that must be covered by samples
END_SHARE_MAX = 0.25  # the newest sample must lie in the last quarter: a signal that stopped has not recovered
BORN_STEPS = 1.5  # a series that begins this many steps after the window began was not there before


class Verdict(StrEnum):
    """The outcome of a verification, or of one of its checks."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class CheckSamples(Record):
    """What a check's query gave.

    Attributes:
        before: The series in a window of the same length before the change; may be empty.
        after: The series from the change on.
        error: Why the source could not be asked; then nothing else counts.
    """

    before: tuple[Series, ...] = ()
    after: tuple[Series, ...] = ()
    error: str | None = None


class CheckResult(Record):
    """What one check measured, against what.

    Attributes:
        measured: Of the worst series after the change, in ``unit``; None if it could not be measured.
        before: The same measure before the change, where it could be measured; for people.
        samples: Usable samples inside the window, of all series.
    """

    name: str
    verdict: Verdict
    guard: bool
    measure: Measure
    comparison: Comparison
    threshold: float
    unit: str
    measured: float | None
    before: float | None
    samples: int
    series: int
    reason: str


class Verification(Record):
    """The verdict on one change, with all that it rests on.

    Attributes:
        from_at: The beginning of the window: the change plus the time to settle.
        until_at: Its end.
    """

    change_id: str
    verdict: Verdict
    at: Instant
    changed_at: Instant
    from_at: Instant
    until_at: Instant
    results: tuple[CheckResult, ...]
    reason: str


class _Unmeasured(Exception):
    pass


def judge(
    plan: VerificationPlan,
    samples: Mapping[str, CheckSamples],
    changed_at: datetime,
    now: datetime,
    change_id: str,
    vital: Sequence[VitalSamples] = (),
    vital_error: str | None = None,
) -> Verification:
    """Return the verdict on a change.

    Args:
        plan: What must hold, over which window.
        samples: By the name of the check; a missing one counts as no data.
        changed_at: When the change took effect, as far as is known; not before its commit.
        now: Samples after it are not believed.
        change_id: What is judged.
        vital: The other vital signs, as far as they are measured.
        vital_error: Why they could not be read; then nothing passes.
    """
    from_at = changed_at + timedelta(seconds=plan.settle_seconds)
    until_at = from_at + timedelta(seconds=plan.window_seconds)
    window = _Window(
        start=from_at.timestamp(),
        end=min(until_at, now).timestamp(),
        changed=changed_at.timestamp(),
        samples_min=plan.samples_min,
    )
    over = now >= until_at
    results = tuple(_judge_check(check, samples.get(check.name, CheckSamples()), window, over) for check in plan.checks)
    results += tuple(_judge_vital(vital, plan.samples_min, over))
    if vital_error is not None:
        results += (_unread(vital_error),)
    verdict, reason = _fold(results, over, until_at)
    return Verification(
        change_id=change_id,
        verdict=verdict,
        at=now,
        changed_at=changed_at,
        from_at=from_at,
        until_at=until_at,
        results=results,
        reason=reason,
    )


def measure(kind: Measure, times: Sequence[float], values: Sequence[float], born: bool = False) -> float:
    """Return one number for the samples of a series; NaN if they cannot give one.

    Args:
        kind: What is measured.
        times: Epoch seconds, increasing.
        values: Finite numbers, one for each time.
        born: Whether the series began inside the window: a counter's first value is then counted as well.
    """
    if not values:
        return math.nan
    try:
        return _measure(kind, times, values, born)
    except ArithmeticError:  # sums beyond any float, or instants too close to tell apart
        return math.nan


def _measure(kind: Measure, times: Sequence[float], values: Sequence[float], born: bool) -> float:
    match kind:
        case Measure.MEAN:
            return math.fsum(values) / len(values)
        case Measure.MAX:
            return max(values)
        case Measure.LAST:
            return values[-1]
        case Measure.FLOOR:
            return floor(values)
        case Measure.SLOPE_PER_HOUR:
            return slope_per_hour(times, values)
        case Measure.INCREASE:
            return increase(values) + (values[0] if born else 0.0)
        case Measure.CHANGES:
            return float(sum(a != b for a, b in itertools.pairwise(values)))
        case _:
            assert_never(kind)


def floor(values: Sequence[float]) -> float:
    """Return the low quantile: what stays after collections, whatever the teeth of the saw."""
    ordered = sorted(values)
    place = FLOOR_QUANTILE * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def slope_per_hour(times: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of the floor in units per hour; NaN for fewer than three buckets.

    The window is cut into equal buckets, the floor of each is taken, and the median of all slopes between two
    buckets is the answer (Theil and Sen): up to a quarter of the buckets may be anything.
    """
    span = times[-1] - times[0]
    count = min(SLOPE_BUCKETS_MAX, len(values) // 2)
    if span <= 0 or count < SLOPE_BUCKETS_MIN:
        return math.nan
    buckets: dict[int, list[tuple[float, float]]] = {}
    for time, value in zip(times, values, strict=True):
        buckets.setdefault(min(int((time - times[0]) / span * count), count - 1), []).append((time, value))
    points = [(statistics.fmean(t for t, _ in b), floor([v for _, v in b])) for _, b in sorted(buckets.items())]
    if len(points) < SLOPE_BUCKETS_MIN:
        return math.nan
    slopes = [(v2 - v1) / (t2 - t1) for i, (t1, v1) in enumerate(points) for t2, v2 in points[i + 1 :]]
    return statistics.median(slopes) * 3600.0


def increase(values: Sequence[float]) -> float:
    """Return by how much a counter grew; a fall is a restart from zero.

    Source: Prometheus documentation, ``increase()`` and counter resets; nothing is extrapolated here.
    """
    return math.fsum(b - a if b >= a else b for a, b in itertools.pairwise(values))


class _Window(Record):
    start: float
    end: float
    changed: float
    samples_min: int


class _Measured(Record):
    value: float
    samples: int
    series: int


def _judge_check(check: Check, samples: CheckSamples, window: _Window, over: bool) -> CheckResult:
    before = _before(check, samples.before, window)

    def result(verdict: Verdict, reason: str, found: _Measured | None = None) -> CheckResult:
        return CheckResult(
            name=check.name,
            verdict=verdict,
            guard=check.guard,
            measure=check.measure,
            comparison=check.comparison,
            threshold=check.threshold,
            unit=check.unit,
            measured=found.value if found else None,
            before=before,
            samples=found.samples if found else 0,
            series=found.series if found else 0,
            reason=reason,
        )

    if samples.error is not None:
        return result(Verdict.ERROR, f"the source could not be asked: {samples.error}")
    try:
        found = _measure_worst(check, samples, window, over)
    except _Unmeasured as error:
        return result(Verdict.INCONCLUSIVE, str(error))
    told = f"{_number(found.value)} {check.unit}".strip()
    limit = f"{check.comparison.value.replace('_', ' ')} {_number(check.threshold)}"
    if _holds(check.comparison, found.value, check.threshold):
        if not over:
            return result(Verdict.INCONCLUSIVE, f"{told} so far, {limit} wanted; the window is not over", found)
        return result(Verdict.PASSED, f"{told}, {limit} wanted", found)
    if check.guard and before is not None and _holds(check.comparison, found.value, before):
        # A guard asks that nothing got worse; what was bad before the change is not its doing.
        verdict = Verdict.PASSED if over else Verdict.INCONCLUSIVE
        return result(verdict, f"{told}, {limit} wanted, but no worse than {_number(before)} before", found)
    if not over:
        return result(Verdict.INCONCLUSIVE, f"{told} so far, {limit} wanted; the window is not over", found)
    return result(Verdict.FAILED, f"{told}, {limit} wanted", found)


def _judge_vital(vital: Sequence[VitalSamples], samples_min: int, over: bool) -> Iterator[CheckResult]:
    for samples in vital:
        sign = read_sign(samples, samples_min)
        if sign is None:
            continue
        if not over:
            verdict, reason = Verdict.INCONCLUSIVE, f"{sign.reason}; the window is not over"
        elif sign.worse is None:
            verdict, reason = Verdict.INCONCLUSIVE, sign.reason
        else:
            verdict, reason = (Verdict.FAILED if sign.worse else Verdict.PASSED), sign.reason
        yield CheckResult(
            name=samples.name,
            verdict=verdict,
            guard=True,
            measure=sign.measure,
            comparison=sign.comparison,
            threshold=sign.limit,
            unit=samples.unit,
            measured=sign.measured,
            before=sign.before,
            samples=len(samples.after),
            series=1,
            reason=reason,
        )


def _unread(error: str) -> CheckResult:
    return CheckResult(
        name="other vital signs",
        verdict=Verdict.ERROR,
        guard=True,
        measure=Measure.LAST,
        comparison=Comparison.AT_MOST,
        threshold=0.0,
        unit="",
        measured=None,
        before=None,
        samples=0,
        series=0,
        reason=f"the source could not be asked: {error}",
    )


def _measure_worst(check: Check, samples: CheckSamples, window: _Window, over: bool) -> _Measured:
    inside = [(s, _clip(s, window.start, window.end)) for s in samples.after]
    used = [(series, points) for series, points in inside if points]
    if not used:
        dropped = sum(series.dropped for series in samples.after)
        raise _Unmeasured(f"no data in the window{f' ({dropped} samples were not numbers)' if dropped else ''}")
    _check_coverage([points for _, points in used], window, over)
    step = _step(points for _, points in used)
    values = []
    for series, points in used:
        if len(points) < window.samples_min:
            if points[-1][0] < window.end - END_SHARE_MAX * (window.end - window.start):
                continue  # an old instance that ended soon after the change
            raise _Unmeasured(f"too few samples: {len(points)} of {window.samples_min} in {_name(series)}")
        values.append(
            measure(
                check.measure,
                [time for time, _ in points],
                [value for _, value in points],
                born=_is_born(series, points, samples, window, step),
            )
        )
    if not values:
        raise _Unmeasured(f"too few samples: no series has {window.samples_min} in the window")
    if not all(math.isfinite(value) for value in values):
        raise _Unmeasured(f"{check.measure.value} cannot be measured from these samples")
    worst = max(values) if check.comparison is Comparison.AT_MOST else min(values)
    return _Measured(value=worst, samples=sum(len(points) for _, points in used), series=len(values))


def _check_coverage(points: list[list[tuple[float, float]]], window: _Window, over: bool) -> None:
    first, last = min(p[0][0] for p in points), max(p[-1][0] for p in points)
    length = window.end - window.start
    if over and last < window.end - END_SHARE_MAX * length:
        raise _Unmeasured(f"the samples stop {window.end - last:.0f} s before the end of the window")
    if over and last - first < SPAN_SHARE_MIN * length:
        raise _Unmeasured(f"the samples cover {last - first:.0f} of {length:.0f} s")


def _is_born(
    series: Series, points: list[tuple[float, float]], samples: CheckSamples, window: _Window, step: float
) -> bool:
    # A counter that appears with its first error appears with 1: no increase to be seen, and yet there was
    # one.
    known = any(s.name == series.name and s.labels == series.labels for s in samples.before)
    earlier = any(time < window.start for time in series.times)
    return not known and not earlier and points[0][0] > window.start + BORN_STEPS * step


def _before(check: Check, series: tuple[Series, ...], window: _Window) -> float | None:
    values = []
    for each in series:
        points = _clip(each, -math.inf, window.changed)
        if len(points) >= window.samples_min:
            values.append(measure(check.measure, [t for t, _ in points], [v for _, v in points]))
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return None
    return max(values) if check.comparison is Comparison.AT_MOST else min(values)


def _clip(series: Series, start: float, end: float) -> list[tuple[float, float]]:
    # Adapters give clean series; a recorded bundle may hold anything, and one NaN would poison every
    # comparison.
    points = {
        time: value
        for time, value in zip(series.times, series.values, strict=False)
        if start <= time <= end and math.isfinite(time) and math.isfinite(value)
    }
    return sorted(points.items())


def _step(points: Iterable[list[tuple[float, float]]]) -> float:
    gaps = [b[0] - a[0] for series in points for a, b in itertools.pairwise(series)]
    return statistics.median(gaps) if gaps else 0.0


def _fold(results: tuple[CheckResult, ...], over: bool, until_at: datetime) -> tuple[Verdict, str]:
    if not any(not result.guard for result in results):
        return Verdict.INCONCLUSIVE, "no check asks whether the signal recovered"
    for verdict in (Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE):
        found = [result for result in results if result.verdict is verdict]
        if found:
            return verdict, "; ".join(f"{result.name}: {result.reason}" for result in found)
    if not over:
        return Verdict.INCONCLUSIVE, f"the window ends at {until_at.isoformat()}"
    return Verdict.PASSED, f"all {len(results)} checks hold"


def _holds(comparison: Comparison, value: float, threshold: float) -> bool:
    match comparison:
        case Comparison.AT_MOST:
            return value <= threshold
        case Comparison.AT_LEAST:
            return value >= threshold
        case _:
            assert_never(comparison)


def _number(value: float) -> str:
    return f"{value:.6g}"


def _name(series: Series) -> str:
    labels = ",".join(f'{key}="{value}"' for key, value in series.labels[:4])
    return f"{series.name}{{{labels}}}"
