"""Did anything else get worse? Errors, latency, restarts and traffic of a service and its callers, after against before.

The symptom may go because the service answers nothing any more. So beside the incident's own signal a change is held to its
other vital signs: more errors, slower answers or a restart fail it; traffic that fell away leaves it open, because then
nothing can be told from any level that went with it. What was bad before the change is not its doing.

A restart soon after the commit is how a change takes effect; what is judged is counted from there. Pure; called by the
workflow, which reads the signals.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from enum import StrEnum

from advisor.evidence import Series
from advisor.playbook import Comparison, Measure
from advisor.values import Record

# A change is worse by a vital sign if its level exceeds both: a factor, and a step that people would notice.
ERROR_FACTOR, ERROR_SHARE = 1.5, 0.01  # one request in a hundred
ERROR_RATE_FACTOR, ERROR_RATE = 2.0, 0.1  # where requests are not counted: one more in ten seconds
LATENCY_FACTOR, LATENCY_SPREADS = 1.5, 3.0
LATENCY_SECONDS = 0.005  # below it a service is as quick as its clock
TRAFFIC_SHARE = 0.5  # less than half of the requests of before is another situation
_SPREAD_OF_MAD = 1.4826  # a median deviation as a standard deviation, for a normal distribution
# A restart this soon is the change taking effect: repositories are polled every three to five minutes as a rule.
ROLLOUT_SECONDS_MAX = 300.0
START_TIMES = frozenset({"process_start_time_seconds", "process_start_time", "jvm_start_time_seconds"})
RESTART_COUNTERS = frozenset({"kube_pod_container_status_restarts_total"})


class Vital(StrEnum):
    """Which vital sign."""

    ERRORS = "errors"
    LATENCY = "latency"
    TRAFFIC = "traffic"
    RESTARTS = "restarts"


class VitalSamples(Record):
    """One vital sign of one service, measured.

    Attributes:
        unit: ``share``, ``per second``, ``seconds`` or empty.
        before: Finite samples before the change took effect.
        after: The same from the end of the time to settle on; of restarts, how many there were.
    """

    kind: Vital
    service: str
    unit: str = ""
    before: tuple[float, ...] = ()
    after: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """Return what it is called in a verdict."""
        return f"{self.kind.value} of {self.service}"


class Sign(Record):
    """What a vital sign says: None for nothing against the change.

    Attributes:
        worse: True if it clearly got worse, None if nothing can be told, False otherwise.
    """

    worse: bool | None
    reason: str
    measured: float | None
    before: float | None
    limit: float
    comparison: Comparison = Comparison.AT_MOST
    measure: Measure = Measure.MEAN


def read_sign(samples: VitalSamples, samples_min: int) -> Sign | None:
    """Return what a vital sign says; None where there was nothing before that could be compared.

    Args:
        samples: Of one sign.
        samples_min: Fewer after the change tell nothing.
    """
    if samples.kind is Vital.RESTARTS:
        return _read_restarts(samples)
    if len(samples.before) < samples_min:
        return None
    before = statistics.median(samples.before)
    limit = _limit(samples, before)
    comparison = Comparison.AT_LEAST if samples.kind is Vital.TRAFFIC else Comparison.AT_MOST
    if len(samples.after) < samples_min:
        reason = (
            f"too few samples: {len(samples.after)} of {samples_min} after the change, {len(samples.before)} before"
        )
        return Sign(worse=None, reason=reason, measured=None, before=before, limit=limit, comparison=comparison)
    after = statistics.median(samples.after)
    told = f"{_number(after, samples.unit)}, {_number(before, samples.unit)} before"
    if samples.kind is Vital.TRAFFIC:
        fell = after < limit
        reason = f"{told}: traffic fell away, so whether the service recovered cannot be told" if fell else told
        worse = None if fell else False
    else:
        worse = after > limit
        reason = f"{told}: worse since the change" if worse else told
    return Sign(worse=worse, reason=reason, measured=after, before=before, limit=limit, comparison=comparison)


def _limit(samples: VitalSamples, before: float) -> float:
    if samples.kind is Vital.TRAFFIC:
        return TRAFFIC_SHARE * before
    if samples.kind is Vital.LATENCY:
        spread = _SPREAD_OF_MAD * statistics.median(abs(v - before) for v in samples.before)
        least = LATENCY_SECONDS if samples.unit == "seconds" else 0.0
        return max(LATENCY_FACTOR * before, before + LATENCY_SPREADS * spread, before + least)
    if samples.unit == "share":
        return max(ERROR_FACTOR * before, before + ERROR_SHARE)
    return max(ERROR_RATE_FACTOR * before, before + ERROR_RATE)


def _read_restarts(samples: VitalSamples) -> Sign:
    count = sum(samples.after)
    reason = f"{count:.0f} after the change had taken effect" if count else "none"
    return Sign(
        worse=count > 0,
        reason=reason,
        measured=count,
        before=sum(samples.before),
        limit=0.0,
        measure=Measure.CHANGES,
    )


def _number(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.3g} %"
    return f"{value:.4g} {unit}".strip()


def effective_at(series: Iterable[Series], since: float, until: float) -> float:
    """Return when a change took effect: the last first restart of a replica soon after it, else when it was made.

    Args:
        series: Of the service.
        since: When the change stood on its branch, epoch seconds.
        until: Samples after it are not believed.
    """
    starts = [since]
    for one in _start_times(series):
        lives = [start for start in _lives(one) if since < start <= min(until, since + ROLLOUT_SECONDS_MAX)]
        starts += lives[:1]  # a second life is no rollout but a restart
    return max(starts)


def restarts_between(series: Iterable[Series], start: float, end: float) -> int:
    """Return how often replicas of a service began again within a time; one that is new in it did not."""
    count = 0
    for one in series:
        if one.name in START_TIMES:
            lives = _lives(one)
            came = bool(one.times) and one.times[0] > start  # a replica that came within the time began, and not again
            count += sum(start < life <= end for life in (lives[1:] if came else lives))
        elif one.name in RESTART_COUNTERS:
            inside = [v for t, v in zip(one.times, one.values, strict=True) if start <= t <= end]
            count += sum(b > a for a, b in itertools.pairwise(inside))
    return count


def _start_times(series: Iterable[Series]) -> list[Series]:
    return [one for one in series if one.name in START_TIMES]


def _lives(one: Series) -> list[float]:
    """Return when each process of a replica began, by what it says itself."""
    lives: list[float] = []
    for value in one.values:
        start = value / 1000 if value > 1e11 else value  # some count milliseconds
        if not lives or abs(start - lives[-1]) > 1.0:  # the same start is told with a jitter by some
            lives.append(start)
    return lives


def share_of(errors: Sequence[float], requests: Sequence[float]) -> tuple[float, ...]:
    """Return failed requests by all requests, sample by sample, where there were any."""
    return tuple(e / r for e, r in zip(errors, requests, strict=True) if r > 0)
