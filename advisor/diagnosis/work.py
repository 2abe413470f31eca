"""What is wrong with the work of a service: slow answers, failures, a pool or its threads used up, a backlog, CPU, restarts.

The counterpart of the memory part of `picture`: chooses the signal that is in trouble, and when the trouble began. Every
signal of the service is looked at, so that a cause can be told by what moved with it. Pure; concludes nothing about causes.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from advisor.evidence import LogAnswer, LogTemplate, Series
from advisor.evidence.aspects import Aspect, AspectSignal, read_aspects
from advisor.evidence.change_points import agreement
from advisor.evidence.shifts import CLEAR, Shift, find_shift, find_shifts
from advisor.evidence.signals import Array
from advisor.incident import Symptom

# Which aspects show a symptom, the one that says it best first.
ASPECTS_OF: dict[Symptom, tuple[Aspect, ...]] = {
    Symptom.LATENCY: (Aspect.LATENCY,),
    Symptom.ERRORS: (Aspect.ERRORS, Aspect.AVAILABILITY, Aspect.THROTTLING),
    Symptom.POOL_EXHAUSTED: (Aspect.POOL,),
    Symptom.THREADS_EXHAUSTED: (Aspect.WORKERS, Aspect.POOL),
    Symptom.QUEUE_GROWTH: (Aspect.QUEUE,),
    Symptom.CPU_SATURATION: (Aspect.CPU, Aspect.THROTTLING),
    Symptom.RESTARTS: (Aspect.RESTARTS, Aspect.AVAILABILITY),
    Symptom.THROUGHPUT_DROP: (Aspect.REQUESTS, Aspect.AVAILABILITY),
    Symptom.DISK_FULL: (Aspect.DISK,),
}
SYMPTOM_OF: dict[str, Symptom] = {
    "latency": Symptom.LATENCY,
    "errors": Symptom.ERRORS,
    "pool": Symptom.POOL_EXHAUSTED,
    "workers": Symptom.THREADS_EXHAUSTED,
    "queue": Symptom.QUEUE_GROWTH,
    "cpu": Symptom.CPU_SATURATION,
    "restarts": Symptom.RESTARTS,
    "throughput": Symptom.THROUGHPUT_DROP,
    "disk": Symptom.DISK_FULL,
}
# The word of the mechanisms (knobs.yaml) for an aspect in trouble.
_RESOURCE_OF: dict[Aspect, str] = {
    Aspect.LATENCY: "latency",
    Aspect.ERRORS: "errors",
    Aspect.AVAILABILITY: "errors",
    Aspect.POOL: "pool",
    Aspect.WORKERS: "workers",
    Aspect.QUEUE: "queue",
    Aspect.CPU: "cpu",
    Aspect.THROTTLING: "cpu",
    Aspect.RESTARTS: "restarts",
    Aspect.REQUESTS: "throughput",
    Aspect.DISK: "disk",
}
_OF_CPU = re.compile(r"cpu|cfs|sched", re.I)


def resource_of(signal: AspectSignal) -> str:
    """Return the word of the mechanisms for what a signal shows; empty where it shows no trouble by itself."""
    if signal.aspect is Aspect.THROTTLING and not _OF_CPU.search(signal.key):
        return "errors"  # turned away by a rate limit, not slowed down by a quota
    return _RESOURCE_OF.get(signal.aspect, "")


# What users of a service notice; the rest explains it.
_FELT = (Aspect.ERRORS, Aspect.LATENCY, Aspect.AVAILABILITY, Aspect.RESTARTS, Aspect.QUEUE)
# How much of a move is worth a page, whatever the noise: factor, and absolute step where the level before was near nothing.
_MATTERS: dict[Aspect, tuple[float, float]] = {
    Aspect.LATENCY: (1.3, 0.02),
    Aspect.ERRORS: (1.5, 0.004),
    Aspect.AVAILABILITY: (1.005, 0.005),
    Aspect.POOL: (1.3, 0.1),
    Aspect.WORKERS: (1.3, 0.1),
    Aspect.QUEUE: (1.5, 1.0),
    Aspect.CPU: (1.3, 0.05),
    Aspect.THROTTLING: (1.3, 0.03),
    Aspect.RESTARTS: (1.01, 1e-9),
    Aspect.REQUESTS: (1.3, 0.0),
    Aspect.DISK: (1.1, 0.02),
}
_USED_UP = (Aspect.POOL, Aspect.WORKERS, Aspect.CPU, Aspect.DISK)
SHARE_IN_TROUBLE = 0.6  # of a limit: what is used less than this keeps nobody waiting
RECENT_SAMPLES = (
    160  # before the moment of noticing: enough for a level of its own, too few for the time of day to matter
)
RECENT_CLEARER = 2.0
FALLEN_FACTOR = 0.7
PILED_FACTOR = 1.4  # less growth than this is a working day
VISIBLE_PART = 0.4  # of the way from before to after: beyond the swing of anything that counts as a clear move
# What can pile up for hours before anybody notices, by aspect or by a word of the metric.
_PILES_UP = (Aspect.POOL, Aspect.WORKERS, Aspect.MEMORY, Aspect.QUEUE, Aspect.DISK)
_PILED = re.compile(
    r"fds|handles|descriptors|entries|sessions|sockets|objects|subscri|listeners|locks|goroutines", re.I
)
FIRST_STEP_CLEAR = 2 * CLEAR  # it is looked for in every trouble, so chance has as many tries
FIRST_STEP_SAMPLES = 24
FIRST_STEP_SECONDS = 120.0  # before the second one; nearer together they are one rollout
DAY_SECONDS = 86_400.0
USUAL_WIDTH_SECONDS = 2700.0  # a nightly job begins a little earlier or later from day to day
LOG_KEY = "log lines"


@dataclass(frozen=True, slots=True)
class Move:
    """One signal with its change point; ``shift`` is None where it went on as before.

    Attributes:
        usual: It moves so at this hour of most days.
        certain: By when it had visibly moved: a good part of the way from the level before to the one after.
    """

    signal: AspectSignal
    shift: Shift | None
    certain: float = math.inf
    usual: bool = False

    @property
    def factor(self) -> float:
        """Return the level after by the level before, 1 where nothing moved; 99 where there was nothing before."""
        if self.shift is None:
            return 1.0
        before, after = self.shift.before, self.shift.after
        if abs(before) < 1e-9:
            return 99.0 if abs(after) > 1e-9 else 1.0
        return min(99.0, max(0.01, after / before)) if after / before > 0 else 0.01

    @property
    def name(self) -> str:
        """Return what to call it in a sentence: the metric with the labels that tell it from others."""
        return self.signal.key if len(self.signal.key) <= 100 else self.signal.names[0]

    @property
    def fallen(self) -> bool:
        """Return whether less work comes in or gets done than before, clearly and by a good part."""
        shift = self.shift
        if shift is None or self.signal.aspect is not Aspect.REQUESTS or self.usual or shift.kind == "spread":
            return False
        return shift.score <= -CLEAR and self.factor <= FALLEN_FACTOR

    @property
    def far(self) -> bool:
        """Return whether it went far enough to end in trouble by itself: to most of a limit, or to several times as much."""
        if self.shift is None:
            return False
        share = self.signal.unit == "share" and self.signal.aspect in (*_USED_UP, Aspect.MEMORY)
        used = self.shift.after if self.signal.worse >= 0 else 1.0 - self.shift.after
        return used >= SHARE_IN_TROUBLE if share else max(self.factor, 1.0 / self.factor) >= 3.0

    @property
    def harmful(self) -> bool:
        """Return whether it moved clearly, in the bad direction, by enough to matter."""
        if self.shift is None or abs(self.shift.score) < CLEAR or self.signal.worse == 0 or self.shift.kind == "spread":
            return False  # what merely swings more widely harms nobody by itself
        return self.shift.score * self.signal.worse > 0 and not self.usual and self._matters()

    def _matters(self) -> bool:
        if self.shift is None:
            return False
        factor, step = _MATTERS.get(self.signal.aspect, (1.3, 0.0))
        before, after = self.shift.before, self.shift.after
        twice = max(abs(before), abs(after)) >= 2.0 * min(abs(before), abs(after))
        if abs(after - before) < (step / 2 if twice and self.signal.aspect is Aspect.LATENCY else step):
            return False
        if self.signal.aspect in _USED_UP and self.signal.unit == "share":
            used = after if self.signal.worse > 0 else 1.0 - after  # of a disk what is left is exported as often
            if used < SHARE_IN_TROUBLE:
                return False
        low, high = sorted((abs(before), abs(after)))
        return low < 1e-9 or high / low >= factor


ERROR_LEVELS = ("ERROR", "FATAL", "CRITICAL", "SEVERE")
_WARN_LEVELS = ("WARN", "WARNING")
LOUD_LEVELS = (*ERROR_LEVELS, *_WARN_LEVELS)


def log_signals(logs: LogAnswer | None, times: Array) -> tuple[AspectSignal, ...]:
    """Return the rates of error lines and of warnings on the grid; warnings stand for the work where nothing else does."""
    found = (
        log_signal(log_series(logs, ERROR_LEVELS, "error"), times, 0),
        log_signal(log_series(logs, _WARN_LEVELS, "warning"), times, -1),
    )
    return tuple(signal for signal in found if signal is not None)


_LEVEL_IN_TEXT = re.compile(
    r"[\[<( ](?P<error>error|err|fatal|crit|critical|panic|severe)[\]>):]|[\[<( ](?P<warn>warn|warning)[\]>):]", re.I
)


def level_of(template: LogTemplate) -> str:
    """Return the level of a shape in capitals; where the format has no field for it, as its beginning says it."""
    if template.level:
        return template.level.upper()
    found = _LEVEL_IN_TEXT.search(f" {template.template[:80]}")
    if found is None:
        return ""
    return "ERROR" if found["error"] else "WARN"


def log_series(logs: LogAnswer | None, levels: tuple[str, ...], name: str) -> tuple[Series, ...]:
    """Return how many lines of some levels the log had a second, as a counter's series would tell it."""
    if logs is None or logs.counted_from is None or logs.first_at is None or logs.last_at is None:
        return ()
    start, bucket_seconds = logs.counted_from.timestamp(), logs.bucket_seconds
    if bucket_seconds <= 0:
        return ()
    counts: dict[int, int] = {}
    for template in logs.templates:
        if level_of(template) in levels:
            for bucket, count in template.buckets:
                counts[bucket] = counts.get(bucket, 0) + count
    if not counts:
        return ()
    first = int((logs.first_at.timestamp() - start) // bucket_seconds)
    last = int((logs.last_at.timestamp() - start) // bucket_seconds)
    buckets = range(max(first, 0), last + 1)
    times = tuple(start + (b + 0.5) * bucket_seconds for b in buckets)
    values = tuple(counts.get(b, 0) / bucket_seconds for b in buckets)
    return (Series(name=LOG_KEY, labels=(("level", name),), times=times, values=values),) if len(times) >= 3 else ()


def log_signal(series: Iterable[Series], times: Array, rank: int) -> AspectSignal | None:
    """Return the rate of lines on the grid."""
    one = next(iter(series), None)
    if one is None or times.size < 3:
        return None
    values = np.interp(times, one.times, one.values, left=np.nan, right=np.nan)
    return AspectSignal(
        aspect=Aspect.ERRORS,
        key=f"{LOG_KEY}{{level={one.label('level')}}}",
        names=(LOG_KEY,),
        values=np.asarray(values, dtype=np.float64),
        worse=1,
        scope="inbound",
        peer="",
        unit="per second",
        series=(one,),
        rank=rank,
    )


def read_moves(signals: tuple[AspectSignal, ...], times: Array, near: float | None) -> tuple[Move, ...]:
    """Return every signal with its change point."""
    usable = [s for s in signals if np.count_nonzero(np.isfinite(s.values)) >= 5]
    if not usable:
        return ()
    matrix = np.vstack([s.values for s in usable])
    if near is not None:  # people notice before a mean shows it: a little later it certainly does
        step = float(times[1] - times[0]) if times.size > 1 else 60.0
        near = min(near + max(120.0, 4 * step), float(times[-1]))
    shifts = find_shifts(times, matrix, near=near)
    shifts = _or_recent(times, matrix, near, shifts)
    if near is not None:
        shifts = [_not_early(times, s.values, shift, near) for s, shift in zip(usable, shifts, strict=True)]
    return tuple(
        Move(
            signal,
            shift,
            _visible_at(times, signal.values, shift) if shift is not None else math.inf,
            shift is not None and abs(shift.score) >= CLEAR and is_usual(times, signal.values, shift),
        )
        for signal, shift in zip(usable, shifts, strict=True)
    )


def _or_recent(times: Array, matrix: Array, near: float | None, whole: list[Shift | None]) -> list[Shift | None]:
    """Return for each series the shift of the whole window, or of its last part where that is far clearer.

    Over a day, a slow drift with the hour can hide the step that somebody noticed; over its last part it cannot.
    """
    end = near if near is not None else float(times[-1])
    first = int(np.searchsorted(times, end)) - RECENT_SAMPLES
    if first < RECENT_SAMPLES // 2:
        return whole
    recent = find_shifts(times[first:], matrix[:, first:], near=near)
    return [
        b if b is not None and not b.censored and (a is None or abs(b.score) > RECENT_CLEARER * abs(a.score)) else a
        for a, b in zip(whole, recent, strict=True)
    ]


def _not_early(times: Array, values: Array, shift: Shift | None, near: float) -> Shift | None:
    """Return the shift, looked for anew where it becomes visible long after the moment asked about: it began later then."""
    if shift is None or abs(shift.score) < CLEAR:
        return shift
    step = float(times[1] - times[0])
    visible = _visible_at(times, values, shift)
    if shift.kind != "level" or visible <= near + max(300.0, 10 * step) or shift.at > near:
        return shift
    return find_shift(times, values, near=visible) or shift


def _visible_at(times: Array, values: Array, shift: Shift) -> float:
    """Return when a signal had come a good part of its way; never before the shift is certain."""
    way = shift.after - shift.before
    if shift.kind == "spread" or way == 0 or not math.isfinite(way):
        return shift.latest
    with np.errstate(invalid="ignore"):
        beyond = (values - shift.before) / way >= VISIBLE_PART
    beyond &= times >= shift.earliest
    found = np.flatnonzero(beyond[:-1] & beyond[1:]) if beyond.size > 1 else np.array([], dtype=np.intp)
    return max(shift.latest, float(times[found[0]])) if found.size else shift.latest


def _rises(times: Array, values: Array) -> float:
    """Return how steadily a signal rises, from -1 to 1; a restart that empties it begins a stretch of its own."""
    known = np.flatnonzero(np.isfinite(values))
    if known.size < 8:
        return 0.0
    t, v = times[known], values[known]
    cuts = np.flatnonzero(v[1:] < 0.5 * v[:-1]) + 1
    stretches = [(a, b) for a, b in itertools.pairwise([0, *cuts.tolist(), v.size]) if b - a >= 8]
    total = sum(b - a for a, b in stretches)
    return sum((b - a) * agreement(t[a:b], v[a:b]) for a, b in stretches) / total if total else 0.0


def is_usual(times: Array, values: Array, shift: Shift) -> bool:
    """Return whether a signal comes as far at about this hour on most of the days before, of which two are needed."""
    way = shift.after - shift.before
    days = int((shift.at - float(times[0])) // DAY_SECONDS)
    if days < 2 or way == 0 or shift.kind == "spread":
        return False
    alike = 0
    for day in range(1, days + 1):
        around = np.abs(times - (shift.at + USUAL_WIDTH_SECONDS / 2 - day * DAY_SECONDS)) <= USUAL_WIDTH_SECONDS
        then = values[around]
        then = then[np.isfinite(then)]
        if then.size < 3:
            continue
        reached = float(np.quantile(then, 0.9 if way > 0 else 0.1))
        alike += (reached - shift.before) / way >= 0.7
    return alike >= max(2, math.ceil(0.6 * days))


def find_precursor(moves: tuple[Move, ...], times: Array, earliest: float, step: float) -> Move | None:
    """Return what had been piling up, long before the trouble showed: descriptors, connections, memory, a queue.

    Args:
        moves: Of the service.
        times: The grid.
        earliest: Before this the trouble itself was not there.
        step: Seconds between samples.
    """
    apart = max(10 * step, 0.03 * float(times[-1] - times[0]))
    found = []
    for m in moves:
        shift = m.shift
        direction = m.signal.worse or 1
        if (
            shift is None
            or shift.score * direction < CLEAR
            or shift.at > earliest - apart
            or shift.ended_at is not None
        ):
            continue
        piles = m.signal.aspect in _PILES_UP or _PILED.search(m.signal.key) is not None
        if not piles or m.signal.scope == "outbound" or m.signal.rank < -1:
            continue
        if (m.factor if direction > 0 else 1.0 / m.factor) < PILED_FACTOR:
            continue
        chosen = (times >= shift.at) & (times <= earliest)
        if direction * _rises(times[chosen], m.signal.values[chosen]) >= 0.7:
            found.append(m)
    return max(
        found, key=lambda m: (m.signal.rank >= 0, abs(m.shift.score) if m.shift else 0.0, m.signal.key), default=None
    )


def find_first_step(work: Move, times: Array, step: float) -> Move | None:
    """Return the step with which the signal in trouble had begun to go wrong, where what was found is its second one.

    Both may be of one cause (a queue fills behind slow answers), or the larger one of another: a change may be held
    against either.
    """
    shift = work.shift
    if shift is None or shift.kind != "level" or shift.censored:
        return None
    earlier = times < shift.earliest
    if np.count_nonzero(earlier & np.isfinite(work.signal.values)) < FIRST_STEP_SAMPLES:
        return None
    t, values = times[earlier], work.signal.values[earlier]
    found = find_shift(t, values, near=float(t[-1]), worse=work.signal.worse)
    if found is None or found.kind == "spread" or found.censored or found.ended_at is not None:
        return None
    if found.kind == "slope":  # the step may lie within a climb; by day much rises that piles nothing up
        climbed = t >= found.at
        steady = (work.signal.worse or 1) * _rises(t[climbed], values[climbed]) >= 0.7
        if work.signal.aspect not in _PILES_UP or not steady:
            return None
    first = Move(work.signal, found, _visible_at(t, values, found))
    lasting = float(t[-1]) - found.at >= max(FIRST_STEP_SECONDS, 5 * step)
    return first if lasting and first.harmful and abs(found.score) >= FIRST_STEP_CLEAR else None


def choose_trouble(
    moves: tuple[Move, ...], asked: tuple[Symptom, ...], noticed: float | None, step: float, anything: bool = False
) -> Move | None:
    """Return the move that is the trouble: of what was asked about, else of what users notice.

    Where nothing measures what was asked about, whatever is used up (a pool, threads, CPU) stands in for it; so it does with
    ``anything``, for a service that was not asked about.
    """
    aspects = aspects_asked(asked)
    measured = any(m.signal.aspect in aspects and m.signal.names[:1] != (LOG_KEY,) for m in moves)
    harmful = [m for m in moves if m.harmful and _near(m, noticed, step)]
    fallen = [m for m in moves if m.fallen and m.signal.scope == "inbound" and _near(m, noticed, step)]
    if Aspect.REQUESTS in aspects:
        harmful += fallen
    whole = [m for m in harmful if m.signal.rank >= 0]
    if not asked:  # nobody complained: the time of one route or the slowest answer of a minute is no trouble by itself
        whole = [m for m in whole if m.signal.aspect is not Aspect.LATENCY or m.signal.rank >= 2]
    if whole or not asked:  # a part (one route, one statistic) speaks only where nothing speaks for the whole
        harmful = whole
    elif measured:  # and only for what was asked about; warnings of the log for nothing that is measured
        harmful = [m for m in harmful if m.signal.aspect in aspects and m.signal.names[:1] != (LOG_KEY,)]
    groups = [
        [m for m in harmful if m.signal.aspect in aspects and m.signal.scope != "outbound"],
        [m for m in harmful if m.signal.aspect in aspects],
        [m for m in harmful if m.signal.aspect in _FELT and m.signal.scope == "inbound"],
        [m for m in harmful if m.signal.aspect in _FELT and m.signal.scope == "own"],
    ]
    if anything or (asked and not measured):
        groups.append([m for m in harmful if resource_of(m.signal) and m.signal.aspect is not Aspect.REQUESTS])
    if asked and not measured:
        groups.append(fallen)  # what is late, lost or piling up is not being done
    return next((max(group, key=lambda m: _weight(m, aspects)) for group in groups if group), None)


def _weight(move: Move, aspects: tuple[Aspect, ...]) -> tuple[float, float, str]:
    """Return how well a move shows the trouble: a signal of all the work before one of a part, then the clearest."""
    shift = move.shift
    order = -aspects.index(move.signal.aspect) if move.signal.aspect in aspects else -len(aspects)
    own = {"inbound": 1.0, "own": 0.5, "outbound": 0.0}.get(move.signal.scope, 0.0)
    from_log = 0.6 if move.signal.names[:1] == (LOG_KEY,) else 0.0
    size = math.log1p(abs(shift.score)) if shift is not None else 0.0
    return order + own - from_log, 0.5 * move.signal.rank + size, move.signal.key


def _near(move: Move, noticed: float | None, step: float) -> bool:
    """Return whether a move was under way when somebody noticed; one that had ended long before is another story."""
    shift = move.shift
    if shift is None:
        return False
    if noticed is None:  # nobody complained: a moment of trouble that passed by itself is none
        return shift.ended_at is None or shift.ended_at - shift.at >= max(120.0, 10 * step)
    slack = max(300.0, 6 * step)
    return shift.at <= noticed + slack and (shift.ended_at is None or shift.ended_at >= noticed - slack)


def feels(moves: tuple[Move, ...]) -> bool:
    """Return whether anything is measured that users of a service would notice."""
    return any(m.signal.aspect in (*_FELT, Aspect.REQUESTS) for m in moves)


def resource_asked(asked: tuple[Symptom, ...]) -> str:
    """Return the word of the mechanisms for what was asked about first."""
    return next((_RESOURCE_OF[ASPECTS_OF[s][0]] for s in asked if s in ASPECTS_OF), "")


def aspects_asked(asked: tuple[Symptom, ...]) -> tuple[Aspect, ...]:
    """Return the aspects that would show the symptoms asked about."""
    return tuple(dict.fromkeys(a for s in asked for a in ASPECTS_OF.get(s, ())))


def read_all(series: Iterable[Series], times: Array, step: float, service: str) -> tuple[AspectSignal, ...]:
    """Return the service's signals by aspect; nothing without a grid."""
    return read_aspects(series, times, step, service) if times.size >= 3 else ()
