"""What is wrong, with which resource, and since when: the picture that every cause is held against.

Pure. Takes what was gathered, concludes nothing about causes.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field, replace

import numpy as np

from advisor.diagnosis.jvm import Memory, quantity_of, read_memory, size_of
from advisor.diagnosis.work import (
    SYMPTOM_OF,
    Move,
    aspects_asked,
    choose_trouble,
    find_first_step,
    find_precursor,
    log_signals,
    read_all,
    read_moves,
    resource_asked,
    resource_of,
)
from advisor.evidence import CommitChange, Gathered, LogAnswer, Relation, Series
from advisor.evidence.aspects import Aspect, AspectSignal
from advisor.evidence.change_points import Onset, bend, floor_of, trend
from advisor.evidence.signals import Array, Life, Signals, build_signals, smooth
from advisor.incident import MEMORY_SYMPTOMS, Incident, Symptom, read_symptoms

PRESSURE_RATIO = 0.82  # a floor above this share of the ceiling leaves the collector no room to work
GC_SHARE_HIGH = 0.25  # of wall time; HotSpot itself gives up at 0.98
CRASH_RATIO = 0.85  # a process that ended this near to its ceiling most likely ended of it
FAILING_SHARE = 0.02  # of requests, all along: twenty times what a common objective (99.9 %) allows
SHARP_SCORE = 10.0  # a step so far beyond the usual swing is found to a sample or two, however long the window
GROWN_FACTOR = 1.3  # a process without a known limit that takes so much more than before is worth a look
GROWN_LIFE_SAMPLES = 20  # fewer are a start that warms up
GROWTH_SHARE = 0.12  # of the ceiling; less growth over a life is warm-up or noise

ABSURD = 1e100  # no measure is as large; differences and squares of larger numbers leave the range of floats

RESOURCE = {
    Symptom.HEAP_SPACE: "heap",
    Symptom.GC_OVERHEAD: "heap",
    Symptom.HEAP_PRESSURE: "heap",
    Symptom.METASPACE: "metaspace",
    Symptom.NATIVE_THREAD: "threads",
    Symptom.DIRECT_MEMORY: "direct",
    Symptom.CONTAINER_KILL: "rss",
}
_VITAL = {
    "heap": ("heap_used", "heap_max"),
    "metaspace": ("metaspace_used", "metaspace_max"),
    "threads": ("threads", ""),
    "direct": ("direct_used", "direct_max"),
    "rss": ("rss", "memory_limit"),
}
WORDS = {
    "heap": "heap",
    "metaspace": "metaspace",
    "threads": "live threads",
    "direct": "direct memory",
    "rss": "process memory",
    "latency": "response time",
    "errors": "failures",
    "pool": "the connection pool",
    "workers": "worker threads",
    "queue": "the queue",
    "cpu": "CPU",
    "restarts": "restarts",
    "throughput": "throughput",
    "disk": "disk space",
}
_ELSEWHERE = (Aspect.QUEUE, Aspect.POOL, Aspect.DISK, Aspect.RESTARTS)
MEMORY = frozenset(_VITAL)  # what fills up; everything else is work that is done slowly, wrongly or not at all


@dataclass(slots=True)
class Picture:
    """The state of the service around the trouble.

    Attributes:
        resource: heap, metaspace, threads, direct or rss.
        vital: The resource's use on the grid; ``floor`` what stays of it after collections.
        ceiling: Its limit on the grid, NaN where unknown.
        trouble_at: The first hard sign (an error, a kill, a crash, or pressure); None if there is none.
        onset: When growth or squeeze began; None where nothing grew.
        squeezed: The ceiling came down while use stayed: no growth.
        growth: Floor at the trouble by floor before the onset; 1 where it did not grow.
        load_growth: Request rate at the trouble by the rate before the onset; None if not measured.
        heard: What a log says more of, kept by `loud_texts`: every change is held against the same lines.
    """

    signals: Signals
    memory: Memory
    commits: tuple[CommitChange, ...] = ()
    symptoms: tuple[Symptom, ...] = ()
    symptom_times: dict[Symptom, tuple[float, ...]] = field(default_factory=dict)
    resource: str = "heap"
    vital: Array = field(default_factory=lambda: np.array([]))
    floor: Array = field(default_factory=lambda: np.array([]))
    ceiling: Array = field(default_factory=lambda: np.array([]))
    trouble_at: float | None = None
    onset: Onset | None = None
    squeezed: bool = False
    growth: float = 1.0
    baseline: float | None = None
    load_growth: float | None = None
    crashes: tuple[float, ...] = ()
    slope_per_second: float = 0.0
    moves: tuple[Move, ...] = ()
    work: Move | None = None
    precursor: Move | None = None
    first_step: Move | None = None
    asked_measured: bool = True
    heard: dict[tuple[int, float | None, float], tuple[LogAnswer, tuple[str, ...]]] = field(default_factory=dict)

    @property
    def limit(self) -> float | None:
        """Return the limit as it stands at the end; None where none is known."""
        known = self.ceiling[np.isfinite(self.ceiling)]
        return float(known[-1]) if known.size else None

    @property
    def of_memory(self) -> bool:
        """Return whether the trouble is one of memory (or live threads): something that fills up."""
        return self.resource in MEMORY

    @property
    def requests(self) -> Move | None:
        """Return the move of all that comes in; None where that is not measured."""
        found = [m for m in self.moves if m.signal.aspect is Aspect.REQUESTS and m.signal.scope == "inbound"]
        return max(found, key=lambda m: (m.signal.rank, float(np.nansum(m.signal.values)), m.signal.key), default=None)

    @property
    def troubles(self) -> dict[str, float]:
        """Return what is in trouble, by the mechanisms' word, with its weight: what was chosen 1, what moved along less."""
        found = {self.resource: 1.0}
        if self.precursor is not None:
            found.setdefault(resource_of(self.precursor.signal) or "rss", 1.0)
        onset = self.onset
        for move in self.moves:
            word = resource_of(move.signal)
            if not word or not move.harmful or move.shift is None or move.signal.scope == "outbound":
                continue
            if onset is None or move.shift.latest >= onset.earliest - 2 * self.signals.step:
                found.setdefault(word, 0.8)
        return found

    @property
    def measured(self) -> bool:
        """Return whether the resource in trouble was measured at all."""
        if not self.of_memory and (self.work is None or self.trouble_at is None):
            return self.asked_measured
        return bool(np.count_nonzero(np.isfinite(self.vital)) >= 5)

    @property
    def healthy(self) -> bool:
        """Return whether nothing is wrong as far as was measured."""
        return self.measured and self.trouble_at is None

    def ratio(self) -> Array:
        """Return the floor as a share of the ceiling (of the highest use where no ceiling is known)."""
        if np.isfinite(self.ceiling).any():
            return np.asarray(self.floor / self.ceiling)
        top = np.nanmax(self.vital) if self.measured else np.nan
        return np.asarray(self.floor / top)


def draw_picture(incident: Incident, gathered: Gathered, neighbour: bool = False) -> Picture:
    """Return what is wrong and since when; of a neighbour, whatever is used up counts as trouble too."""
    logs = gathered.logs
    restarts = [at.timestamp() for at in logs.restarts] if logs else []
    gathered = gathered.model_copy(update={"metrics": _readable(gathered)})
    signals = build_signals(gathered.metrics, gathered.step_seconds or 1.0, restarts)
    memory = read_memory(gathered.changes.configuration if gathered.changes else ())
    commits = tuple(c for c in gathered.changes.commits if c.in_scope) if gathered.changes else ()
    picture = Picture(signals=signals, memory=memory, commits=commits)
    picture.symptom_times = _symptom_times(logs, signals)
    noticed = incident.noticed_at.timestamp() if incident.noticed_at else None
    if noticed is not None:  # what came after the symptom was noticed is not what was noticed, if anything came before
        slack = max(120.0, 5 * signals.step)
        earlier = {s: tuple(t for t in times if t <= noticed + slack) for s, times in picture.symptom_times.items()}
        if any(earlier.values()):
            picture.symptom_times = {s: times for s, times in earlier.items() if times}
    picture.symptoms = _symptoms(incident, picture.symptom_times)
    if signals.times.size:
        asked = incident.symptoms
        _read_work(picture, gathered, incident.service, asked, noticed)
        _choose_resource(picture, noticed)
        _find_trouble(picture, noticed)
        about_memory = bool(picture.symptom_times) or (bool(asked) and asked[0] in MEMORY_SYMPTOMS)
        if not about_memory and not _memory_presses(picture) and (asked or picture.trouble_at is None):
            _draw_work(picture, asked, noticed, neighbour)
        elif picture.trouble_at is not None:
            _find_onset(picture)
        elif about_memory and picture.resource == "rss":
            _draw_growth(picture, noticed)
        if picture.trouble_at is not None:
            picture.load_growth = _load_growth(picture)
    elif picture.symptom_times:
        picture.trouble_at = min(min(times) for times in picture.symptom_times.values())
        picture.resource = RESOURCE.get(picture.symptoms[0], "heap") if picture.symptoms else "heap"
    return picture


def _readable(gathered: Gathered) -> tuple[Series, ...]:
    """Return the series in time order, with samples from about the window only: one of next year would stretch the grid."""
    start, end = gathered.start.timestamp(), gathered.end.timestamp()
    slack = max(3600.0, end - start)
    out = []
    for s in gathered.metrics:
        times, values = np.asarray(s.times, dtype=np.float64), np.asarray(s.values, dtype=np.float64)
        good = (times >= start - slack) & (times <= end + slack) & (np.abs(values) <= ABSURD)
        if not good.all() or not (times[1:] > times[:-1]).all():
            kept, first = np.unique(times[good][::-1], return_index=True)  # of two samples at one time the later counts
            known = values[good][::-1][first]
            s = s.model_copy(update={"times": tuple(kept.tolist()), "values": tuple(known.tolist())})
        out.append(s)
    return tuple(out)


def _read_work(
    picture: Picture, gathered: Gathered, service: str, asked: tuple[Symptom, ...], noticed: float | None
) -> None:
    """Set every signal of the service with its change point; the log's error lines count as a signal too."""
    times, step = picture.signals.times, picture.signals.step
    signals = read_all(gathered.metrics, times, step, service)
    signals = (
        *signals,
        *log_signals(gathered.logs, times),
        *_shown_elsewhere(gathered, service, asked, times, step, signals),
    )
    picture.moves = read_moves(signals, times, noticed)


def _shown_elsewhere(
    gathered: Gathered,
    service: str,
    asked: tuple[Symptom, ...],
    times: Array,
    step: float,
    own: tuple[AspectSignal, ...],
) -> tuple[AspectSignal, ...]:
    """Return what a neighbour measures of this service: a broker its queue, a database its pool, a host its disk.

    By the service's name in the labels; where none has it and just that was asked about, all that a called one measures of it.
    """
    wanted = [a for a in _ELSEWHERE if not any(s.aspect is a for s in own)]
    if not wanted or times.size < 3:
        return ()
    name = re.compile(rf"(?<![a-z0-9]){re.escape(service.lower())}(?![a-z0-9])")
    named: list[AspectSignal] = []
    others: list[AspectSignal] = []
    for neighbour in gathered.neighbours:
        for signal in read_all(neighbour.metrics, times, step, neighbour.service):
            if signal.aspect in wanted and name.search(signal.key.lower()):
                named.append(replace(signal, scope="own", rank=min(signal.rank, 0)))
            elif (
                signal.aspect in wanted
                and signal.aspect in aspects_asked(asked)
                and neighbour.relation is Relation.CALLED
            ):
                others.append(replace(signal, scope="own", rank=-1))
    return tuple((named or others)[:20])


def _memory_presses(picture: Picture) -> bool:
    """Return whether memory is what slows the service down: processes that ended at their ceiling, or a busy collector."""
    if picture.trouble_at is None:
        return False
    if picture.crashes:
        return True
    gc = picture.signals.get("gc_seconds")
    if gc is None or picture.resource != "heap":
        return False
    with np.errstate(invalid="ignore"):
        busy = np.flatnonzero((smooth(gc.values, 5) >= GC_SHARE_HIGH) & (picture.ratio() >= 0.6))
    return bool(busy.size >= 5)


def _draw_growth(picture: Picture, noticed: float | None) -> None:
    """Set the trouble of a process whose memory grows towards no limit that is known, where that was asked about."""
    times, step = picture.signals.times, picture.signals.step
    grown = [
        m
        for m in picture.moves
        if m.signal.aspect is Aspect.MEMORY and m.signal.scope == "own" and m.harmful and m.factor >= GROWN_FACTOR
    ]
    best = max(grown, key=lambda m: (m.signal.rank, m.shift.score if m.shift else 0.0, m.signal.key), default=None)
    if best is None or best.shift is None:
        picture.trouble_at = _end_of_grown_life(picture, noticed)
        if picture.trouble_at is not None:
            picture.symptoms = picture.symptoms or (Symptom.HEAP_PRESSURE,)
            _find_onset(picture)
        return
    shift = best.shift
    at = max(best.certain, shift.at) + 5 * step
    picture.trouble_at = min(float(times[-1]), max(at, noticed) if noticed is not None else float(times[-1]))
    picture.onset = Onset(shift.at, shift.earliest - 2 * step, max(best.certain, shift.at), shift.censored, shift.kind)
    picture.baseline, picture.growth = None, best.factor
    picture.symptoms = picture.symptoms or (Symptom.HEAP_PRESSURE,)


def _end_of_grown_life(picture: Picture, noticed: float | None) -> float | None:
    """Return when the last process ended that had climbed steadily all its life, to be emptied by its end."""
    signals = picture.signals
    until = noticed if noticed is not None else math.inf
    for life, following in reversed(list(itertools.pairwise(signals.lives))):
        end = float(signals.times[life.last])
        if life.size < GROWN_LIFE_SAMPLES or end > until:
            continue
        line = trend(signals.times[life.first : life.last + 1], picture.floor[life.first : life.last + 1])
        anew = picture.floor[following.first : following.last + 1]
        anew = anew[np.isfinite(anew)][:GROWN_LIFE_SAMPLES]
        climbed = line is not None and line.agreement > 0.75 and line.end >= GROWN_FACTOR * max(line.start, 1.0)
        if line is not None and climbed and anew.size and float(np.min(anew)) * GROWN_FACTOR <= line.end:
            return end
    return None


def _draw_work(picture: Picture, asked: tuple[Symptom, ...], noticed: float | None, anything: bool) -> None:
    """Set the trouble of the service's work: its signal, when it began, and when it was certain."""
    times, step = picture.signals.times, picture.signals.step
    work = choose_trouble(picture.moves, asked, noticed, step, anything)
    picture.trouble_at, picture.onset, picture.squeezed, picture.growth = None, None, False, 1.0
    wanted = aspects_asked(asked)
    picture.asked_measured = not wanted or any(
        m.signal.aspect in wanted and not _silent(m, times, step, noticed) for m in picture.moves
    )
    if work is None or work.shift is None:
        if wanted:
            picture.resource = resource_asked(asked)
            own = [m for m in picture.moves if m.signal.aspect in wanted]
            if own:
                picture.vital = picture.floor = own[0].signal.values
                picture.ceiling = np.full(times.shape, np.nan)
                picture.work = own[0]
            if own and _ever_failing(own[0], asked):  # no step to explain, but nothing to call healthy either
                picture.trouble_at = min(noticed, float(times[-1])) if noticed is not None else float(times[-1])
                picture.onset = Onset(float(times[0]), float(times[0]), float(times[0]), True, "level")
        return
    shift = work.shift
    picture.work, picture.resource = work, resource_of(work.signal)
    picture.vital = picture.floor = work.signal.values
    picture.ceiling = np.full(times.shape, np.nan)
    sharp = shift.kind == "level" and abs(shift.score) >= SHARP_SCORE
    tolerance = 2 * step if sharp else max(2 * step, 0.005 * float(times[-1] - times[0]))
    picture.onset = Onset(shift.at, shift.earliest - tolerance, max(work.certain, shift.at), shift.censored, shift.kind)
    picture.precursor = find_precursor(picture.moves, times, shift.earliest, step)
    picture.first_step = find_first_step(work, times, step)
    # What was noticed late had been there before: the samples up to then tell what moved with it.
    certain = max(work.certain, shift.at) + 5 * step
    picture.trouble_at = min(
        float(times[-1]), max(certain, noticed) if noticed is not None else max(certain, float(times[-1]))
    )
    picture.baseline = shift.before
    picture.growth = max(1.0, work.factor, 1.0 / work.factor if work.signal.worse < 0 else 0.0)
    named = SYMPTOM_OF[picture.resource]
    picture.symptoms = (named, *(s for s in picture.symptoms if s is not named))


def _ever_failing(move: Move, asked: tuple[Symptom, ...]) -> bool:
    """Return whether a good part of the requests failed all along, where failures were asked about."""
    if Symptom.ERRORS not in asked or move.signal.aspect is not Aspect.ERRORS or move.signal.unit != "share":
        return False
    known = move.signal.values[np.isfinite(move.signal.values)]
    return bool(known.size and float(np.median(known)) >= FAILING_SHARE)


def _silent(move: Move, times: Array, step: float, noticed: float | None) -> bool:
    """Return whether a signal had fallen silent well before the symptom was noticed: then it shows nothing of it."""
    known = np.flatnonzero(np.isfinite(move.signal.values))
    end = noticed if noticed is not None else float(times[-1])
    return not known.size or float(times[known[-1]]) < end - max(600.0, 10 * step)


def _load_growth(picture: Picture) -> float | None:
    """Return how much the request rate grew since the onset; since the beginning of the data where the onset is not in it."""
    trouble = picture.trouble_at
    if not picture.of_memory:
        came_in = picture.requests
        return growth_of(picture, came_in.signal.values) if came_in is not None else None
    requests = picture.signals.get("requests")
    if requests is None or trouble is None:
        return None
    sudden = _sudden_growth(picture, requests.values, trouble)
    if sudden is not None:
        return sudden
    if picture.onset is not None and not picture.onset.censored:
        return growth_of(picture, requests.values)
    known = requests.values[picture.signals.times <= trouble]
    known = known[np.isfinite(known)]
    if known.size < 12:
        return None
    early, late = known[known.size // 20 : known.size // 4], known[-(known.size // 4) :]
    base = float(np.median(early))
    return float(np.median(late)) / base if base > 0 else None


def _sudden_growth(picture: Picture, requests: Array, trouble: float) -> float | None:
    """Return by how much requests jumped in the last moments before the trouble, if the resource jumped with them."""
    chosen = picture.signals.times <= trouble
    r, f = requests[chosen], picture.floor[chosen]
    both = np.isfinite(r) & np.isfinite(f)
    r, f = r[both], f[both]
    last = max(4, r.size // 50)
    if r.size < 8 * last:
        return None
    base, use = float(np.median(r[: -3 * last])), float(np.median(f[: -3 * last]))
    if base <= 0 or use <= 0:
        return None
    jump, filled = float(np.median(r[-last:])) / base, float(np.max(f[-last:])) / use
    return jump if jump >= 2.0 and filled >= 1.5 else None


def effective_at(signals: Signals, committed: float) -> float:
    """Return when a commit began to act: the first process start after it, where starts are known, else the commit."""
    tolerance = 2 * signals.step
    if signals.times.size and committed < float(signals.times[0]):
        # The process that runs as the data begins has read it, unless it is known to be older than the commit.
        if signals.first_start is None or signals.first_start >= committed - tolerance:
            return committed if signals.first_start is None else max(committed, signals.first_start)
    later = [t for t in signals.restarts if t >= committed - tolerance]
    return max(later[0], committed) if later else committed


def _symptom_times(logs: LogAnswer | None, signals: Signals) -> dict[Symptom, tuple[float, ...]]:
    found: dict[Symptom, list[float]] = {}
    for e in logs.exceptions if logs else ():
        for kind, message in ((e.root_type, e.root_message), (e.type, e.message)):
            text = f"{kind}: {message}"
            if (
                "OutOfMemoryError" not in text
                and "insufficient memory" not in text
                and "pthread_create" not in text
                and "native thread" not in text
            ):
                continue
            named = [s for s in read_symptoms(text) if s in RESOURCE]
            if named:
                found.setdefault(named[0], []).extend(at.timestamp() for at in e.at)
                break
    for at, _line in logs.kills if logs else ():
        found.setdefault(Symptom.CONTAINER_KILL, []).append(at.timestamp())
    for key, signal in signals.gauges.items():
        if "terminated_reason" in key and "OOMKilled" in key:
            risen = np.flatnonzero(np.diff(np.nan_to_num(signal.values), prepend=0.0) > 0)
            found.setdefault(Symptom.CONTAINER_KILL, []).extend(float(signals.times[i]) for i in risen)
    for key, signal in signals.rates.items():
        if key.startswith(("container_oom_events_total", "node_vmstat_oom_kill")):
            risen = np.flatnonzero((np.nan_to_num(signal.values) > 0) & (np.nan_to_num(np.roll(signal.values, 1)) <= 0))
            found.setdefault(Symptom.CONTAINER_KILL, []).extend(float(signals.times[i]) for i in risen)
    return {s: tuple(sorted(times)) for s, times in found.items() if times}


def _symptoms(incident: Incident, seen: dict[Symptom, tuple[float, ...]]) -> tuple[Symptom, ...]:
    """Return the symptoms, the one that tells most first: what was asked about if it was seen, else the first one seen."""
    asked = [s for s in incident.symptoms if s in seen]
    # A kill follows from a cause that the JVM often names itself just before; the JVM's word says more.
    order = sorted(seen, key=lambda s: (s not in asked, s is Symptom.CONTAINER_KILL, seen[s][0]))
    rest = [s for s in incident.symptoms if s not in order]
    return tuple(order + rest)


def _vital_of(picture: Picture, resource: str) -> tuple[Array, Array]:
    signals = picture.signals
    use, limit = _VITAL[resource]
    blank = np.full(signals.times.shape, np.nan)
    used = signals.get(use)
    if used is None and resource == "metaspace":
        used = signals.get("classes_loaded")
    if used is None and resource == "rss":
        used = signals.get("heap_used")  # the largest part of the process; better than nothing to see growth by
    top = signals.get(limit) if limit else None
    ceiling = top.values.copy() if top else blank
    if top is not None:  # a limit holds until it is changed: fill gaps forward, then backward
        ceiling = _filled(ceiling)
    if not np.isfinite(ceiling).any() and used is not None and used.role != "classes_loaded":
        ceiling = _configured_ceiling(picture, resource)
    return (used.values if used else blank), ceiling


_LIMIT_KEYS = {
    "heap": re.compile(r":-(?:Xmx|XX:MaxHeapSize)$"),
    "metaspace": re.compile(r":-XX:MaxMetaspaceSize$"),
    "direct": re.compile(r":-XX:MaxDirectMemorySize$"),
    "rss": re.compile(r"limits\.memory$"),
}


def _configured_ceiling(picture: Picture, resource: str) -> Array:
    """Return the limit as the configuration gave it over time: a change of it counts from the next process start."""
    times, memory = picture.signals.times, picture.memory
    now = {
        "heap": memory.heap_max,
        "metaspace": memory.metaspace_max,
        "direct": memory.direct_max,
        "rss": memory.container_limit,
    }.get(resource)
    pattern = _LIMIT_KEYS.get(resource)
    if pattern is None:
        return np.full(times.shape, np.nan)
    ceiling = np.full(times.shape, now if now else np.nan)
    read = quantity_of if resource == "rss" else size_of
    for commit in picture.commits:  # newest first: each older value holds before the next newer one took effect
        for changed_file in commit.files:
            for change in changed_file.keys:
                if not pattern.search(change.key):
                    continue
                old = read(change.old) if change.old else None
                effective = effective_at(picture.signals, commit.effective_at.timestamp())
                ceiling[times < effective] = old if old else np.nan
    return ceiling


def _filled(values: Array) -> Array:
    known = np.flatnonzero(np.isfinite(values))
    if known.size == 0:
        return values
    index = np.searchsorted(known, np.arange(values.size), side="right") - 1
    return np.asarray(values[known[np.clip(index, 0, None)]])


def _choose_resource(picture: Picture, noticed: float | None) -> None:
    if picture.symptoms and picture.symptoms[0] in RESOURCE and picture.symptom_times:
        picture.resource = RESOURCE[picture.symptoms[0]]
    elif picture.symptoms and picture.symptoms[0] in RESOURCE and picture.symptoms[0] is not Symptom.HEAP_PRESSURE:
        picture.resource = RESOURCE[picture.symptoms[0]]
    else:
        picture.resource = _most_pressed(picture)
    _set_vital(picture)
    if picture.resource == "heap" and not picture.measured and picture.signals.get("rss") is not None:
        picture.resource = "rss"  # no JVM: what the process takes is what there is to see
        _set_vital(picture)


def _set_vital(picture: Picture) -> None:
    picture.vital, picture.ceiling = _vital_of(picture, picture.resource)
    sawtooth = picture.resource in ("heap", "direct")
    picture.floor = floor_of(picture.vital, picture.signals.lives) if sawtooth else picture.vital.copy()


def _most_pressed(picture: Picture) -> str:
    pressed: list[tuple[float, str]] = []
    for resource in ("heap", "metaspace", "direct"):
        vital, ceiling = _vital_of(picture, resource)
        if np.count_nonzero(np.isfinite(vital)) < 5 or not np.isfinite(ceiling).any():
            continue
        floor = floor_of(vital, picture.signals.lives)
        with np.errstate(invalid="ignore"):
            pressed.append((float(np.nanmax(floor / ceiling)), resource))
    return max(pressed)[1] if pressed and max(pressed)[0] > 0.6 else "heap"


def _find_trouble(picture: Picture, noticed: float | None) -> None:
    """Set the first hard sign of trouble and the crashes."""
    signals = picture.signals
    resource_times = [
        t for s, times in picture.symptom_times.items() if RESOURCE.get(s) == picture.resource for t in times
    ]
    signs = list(resource_times)
    picture.crashes = tuple(t for t in signals.restarts if _crashed_before(picture, t))
    signs += [t for t in picture.crashes if picture.resource == "heap" or not resource_times]
    if not signs and picture.measured:
        signs += _pressure(picture)
    inside = [t for t in signs if signals.times[0] <= t <= signals.times[-1] + 10 * signals.step]
    if inside:
        picture.trouble_at = min(inside)
    elif signs:
        picture.trouble_at = min(signs)
    if picture.trouble_at is not None and not picture.symptoms:
        picture.symptoms = (
            Symptom.HEAP_PRESSURE
            if picture.resource == "heap"
            else next(s for s, r in RESOURCE.items() if r == picture.resource),
        )
    elif picture.trouble_at is not None and not any(RESOURCE.get(s) == picture.resource for s in picture.symptoms):
        picture.symptoms = (Symptom.HEAP_PRESSURE, *picture.symptoms)


def _crashed_before(picture: Picture, restart: float) -> bool:
    """Return whether the life before a restart ended at its ceiling, where only the top tells: the last samples."""
    signals = picture.signals
    end = int(np.searchsorted(signals.times, restart - signals.step / 2))
    start = max((life.first for life in signals.lives if life.first < end), default=0)
    top = np.nanmax(picture.ceiling) if np.isfinite(picture.ceiling).any() else np.nan
    if not np.isfinite(top) or end - start < 4:
        return False
    last = picture.floor[max(start, end - max(6, (end - start) // 12)) : end]
    ceiling = picture.ceiling[max(start, end - 6) : end]
    last, ceiling = last[np.isfinite(last)], ceiling[np.isfinite(ceiling)]
    return bool(last.size and ceiling.size and float(np.max(last)) >= CRASH_RATIO * float(np.min(ceiling)))


def _pressure(picture: Picture) -> list[float]:
    signals = picture.signals
    signs: list[float] = []
    if np.isfinite(picture.ceiling).any() and picture.resource in ("heap", "metaspace", "direct"):
        with np.errstate(invalid="ignore"):
            high = np.flatnonzero(picture.floor / picture.ceiling >= PRESSURE_RATIO)
        settled = [i for i in high if _life_position(signals, int(i)) > 5]
        grown = picture.resource == "heap" or _rising(picture)
        if len(settled) >= 3 and grown:
            signs.append(float(signals.times[settled[0]]))
    gc = signals.get("gc_seconds")
    if gc is not None and picture.resource == "heap":
        with np.errstate(invalid="ignore"):  # start-up and full collections of a roomy heap are busy too, for a moment
            busy = np.flatnonzero((smooth(gc.values, 5) >= GC_SHARE_HIGH) & (picture.ratio() >= 0.6))
        if busy.size >= 5:
            signs.append(float(signals.times[busy[0]]))
    if not signs and picture.resource == "heap" and _rising(picture):
        # Not there yet, but on the way: the newest life climbs steadily and would reach the ceiling soon.
        signs.append(float(signals.times[-1]))
    return signs


def _life_position(signals: Signals, index: int) -> int:
    return index - max((life.first for life in signals.lives if life.first <= index), default=0)


def _rising(picture: Picture) -> bool:
    """Return whether the last life climbs steadily towards the ceiling, with no sign of levelling off."""
    lives = [life for life in picture.signals.lives if life.size >= 20]
    if not lives or not np.isfinite(picture.ceiling).any():
        return False
    life = lives[-1]
    half = life.first + life.size // 2
    late = trend(picture.signals.times[half : life.last + 1], picture.floor[half : life.last + 1])
    whole = trend(picture.signals.times[life.first : life.last + 1], picture.floor[life.first : life.last + 1])
    if late is None or whole is None:
        return False
    top = float(np.nanmax(picture.ceiling))
    ahead = (life.size * picture.signals.step) * 1.0
    return (
        late.agreement > 0.75
        and whole.agreement > 0.75
        and late.slope > 0.5 * whole.slope
        and late.end / top > 0.5
        and late.end - whole.start > 0.25 * top
        and late.end + late.slope * ahead > top
    )


def _find_onset(picture: Picture) -> None:
    """Set onset, baseline, growth, slope and squeeze, from the lives up to the trouble."""
    signals, trouble = picture.signals, picture.trouble_at
    if trouble is None or not picture.measured:
        return
    step, times = signals.step, signals.times
    lives = [
        life
        for life in signals.lives
        if times[life.first] < trouble - 2 * step
        and np.count_nonzero(np.isfinite(picture.vital[life.first : life.last + 1])) >= 4
    ]
    if not lives:
        picture.onset = Onset(trouble, float(times[0]), trouble, True, "life")
        return
    last = lives[-1]
    end = min(last.last, int(np.searchsorted(times, trouble)))
    lives[-1] = Life(last.first, max(end, last.first + 3))
    if _squeeze(picture, lives, trouble):
        return
    sick = len(lives) - 1
    while sick > 0 and _alike(picture, lives[sick - 1], lives[sick]):
        sick -= 1
    life = lives[sick]
    before = [level for one in lives[:sick] if (level := _settled(picture, one)) is not None]
    t, f = times[life.first : life.last + 1], picture.floor[life.first : life.last + 1]
    line = trend(t, f)
    picture.slope_per_second = max(0.0, line.slope) if line else 0.0
    bent = bend(t, f)
    jump = _step_up(t, f)
    top = float(np.nanmax(f)) if np.isfinite(f).any() else 0.0
    tolerance = max(3 * step, 0.03 * (times[end] - times[0]))
    if bent is not None and bent[1] > 0.45 and _flat_before(t, f, bent[0]):
        at, kind = bent[0], "slope"
        if jump is not None and jump[1] > bent[1] + 0.1:
            at, kind = jump[0], "level"
        early = f[t < at]
        early = early[np.isfinite(early)][early[np.isfinite(early)].size // 4 :]
        # A life is emptiest at its beginning: what the lives before it settled at says better what is usual.
        usual = [*before, *([float(np.median(early))] if early.size else [])]
        picture.baseline = max(usual) if usual else None
        latest = _exceeds(t, f, at, picture.baseline, top)
        after = trend(t[t >= at], f[t >= at])
        picture.slope_per_second = max(0.0, after.slope) if after else picture.slope_per_second
        picture.onset = Onset(
            at, max(at - 0.12 * (t[-1] - t[0]) - tolerance, float(t[0])), max(latest, at), False, kind
        )
    else:
        picture.baseline = float(np.median(before)) if before else None
        latest = _exceeds(t, f, float(t[0]), picture.baseline, top)
        censored = sick == 0 and life.first <= 3
        picture.onset = Onset(float(t[0]), float(t[0]) - tolerance, latest, censored, "life")
    _allow_for_doubt(picture, lives[sick:])
    reference = picture.baseline
    if reference is None:
        known = f[np.isfinite(f)]
        early = known[known.size // 12 : max(known.size // 4, known.size // 12 + 1)]  # past the warm-up
        reference = float(np.median(early)) if early.size else None
    if reference and reference > 0:
        picture.growth = max(1.0, top / reference)


def _allow_for_doubt(picture: Picture, lives: list[Life]) -> None:
    """Move the moment of certainty: lives that climbed but ended well below the limit may have been healthy."""
    onset = picture.onset
    if onset is None or len(lives) < 2:
        return
    top = float(np.nanmax(picture.ceiling)) if np.isfinite(picture.ceiling).any() else float(np.nanmax(picture.vital))
    reached = 0.0
    for life in lives:
        f = picture.floor[life.first : life.last + 1]
        if life is not lives[-1] and np.isfinite(f).any() and float(np.nanmax(f)) < 0.8 * top:
            reached = max(reached, float(np.nanmax(f)))
            continue
        above = np.flatnonzero(np.isfinite(f) & (f > 1.05 * reached)) if reached else np.array([], dtype=np.intp)
        if above.size:
            certain = float(picture.signals.times[life.first + int(above[0])])
            if certain > onset.latest:
                picture.onset = replace(onset, latest=certain)
        return


def _squeeze(picture: Picture, lives: list[Life], trouble: float) -> bool:
    """Return whether the ceiling came down while use did not grow; then that is the onset."""
    times, ceiling = picture.signals.times, picture.ceiling
    until = int(np.searchsorted(times, trouble))
    known = np.flatnonzero(np.isfinite(ceiling[: until + 1]))
    if known.size < 6:
        return False
    values = ceiling[known]
    drops = np.flatnonzero(np.diff(values) < -0.06 * values[:-1])
    if drops.size == 0:
        return False
    at = float(times[known[drops[-1] + 1]])
    before = picture.floor[times < at]
    after = picture.floor[(times >= at) & (times <= trouble)]
    before, after = before[np.isfinite(before)], after[np.isfinite(after)]
    if before.size < 4 or after.size < 1:
        return False
    usual = float(np.quantile(before, 0.9))
    reached = float(np.max(after))
    lowered_to = float(values[drops[-1] + 1])
    if reached > 1.25 * usual and usual < 0.7 * lowered_to:
        return False  # use grew far beyond what was normal, and the normal would have fitted: growth, not squeeze
    picture.squeezed = True
    picture.baseline = float(np.median(before))
    picture.growth = max(1.0, reached / usual) if usual > 0 else 1.0
    tolerance = max(3 * picture.signals.step, 0.02 * (trouble - float(times[0])))
    picture.onset = Onset(at, at - tolerance, at + tolerance, False, "ceiling")
    return True


def _settled(picture: Picture, life: Life) -> float | None:
    """Return a life's level after its warm-up."""
    values = picture.floor[life.first + life.size // 4 : life.last + 1]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size >= 3 else None


def _alike(picture: Picture, earlier: Life, later: Life) -> bool:
    """Return whether an earlier life was sick in the same way: it climbed as steeply, or ended as high."""
    times = picture.signals.times

    def line(life: Life) -> tuple[float, float] | None:
        skip = life.first + life.size // 5
        fitted = trend(times[skip : life.last + 1], picture.floor[skip : life.last + 1])
        return (fitted.slope, fitted.end) if fitted and life.size >= 8 else None

    a, b = line(earlier), line(later)
    if a is None or b is None:
        return False
    top = float(np.nanmax(picture.ceiling)) if np.isfinite(picture.ceiling).any() else float(np.nanmax(picture.vital))
    span = times[earlier.last] - times[earlier.first]
    climbed = a[0] * span > GROWTH_SHARE * top and a[0] > 0.4 * b[0] and b[0] > 0
    ended_high = a[1] > 0.8 * top and a[1] > 0.85 * b[1]
    return bool(climbed or ended_high)


def _flat_before(t: Array, f: Array, at: float) -> bool:
    """Return whether the stretch before a bend is much flatter than the one after it."""
    before, after = trend(t[t < at], f[t < at]), trend(t[t >= at], f[t >= at])
    if after is None or after.slope <= 0:
        return False
    if before is None:
        return False
    # The warm-up climbs too, but levels off: judge the later half of the stretch before the bend.
    middle = t[0] + (at - t[0]) / 2
    late = trend(t[(t >= middle) & (t < at)], f[(t >= middle) & (t < at)])
    slope = min(before.slope, late.slope) if late else before.slope
    return slope < 0.4 * after.slope


def _step_up(t: Array, f: Array) -> tuple[float, float] | None:
    """Return where the level jumps up, and which share of the error against a straight line one step explains."""
    known = np.flatnonzero(np.isfinite(f))
    if known.size < 12:
        return None
    v = f[known]
    total = np.cumsum(v)
    n = np.arange(1, v.size + 1)
    left = total[:-1] / n[:-1]
    right = (total[-1] - total[:-1]) / (v.size - n[:-1])
    gain = n[:-1] * (v.size - n[:-1]) / v.size * (right - left) ** 2
    inner = slice(3, v.size - 4)
    if gain[inner].size == 0:
        return None
    i = int(np.argmax(gain[inner])) + 3
    if right[i] <= left[i]:
        return None
    error = float(((v - v.mean()) ** 2).sum())
    x = np.column_stack([np.ones(v.size), np.arange(v.size)])
    coefficients, *_ = np.linalg.lstsq(x, v, rcond=None)
    straight = float(((v - x @ coefficients) ** 2).sum())
    after_step = error - float(gain[i])
    return float(t[known[i + 1]]), 1.0 - after_step / straight if straight > 0 else 0.0


def _exceeds(t: Array, f: Array, at: float, baseline: float | None, top: float) -> float:
    """Return when the floor was certainly above what it was before."""
    chosen = t >= at
    if baseline is None:
        return float(at + 0.25 * (t[-1] - at))
    above = np.flatnonzero(chosen & np.isfinite(f) & (f > baseline + max(0.1 * baseline, 0.3 * (top - baseline))))
    return float(t[above[0]]) if above.size else float(t[-1])


def growth_of(picture: Picture, values: Array, since: float | None = None) -> float | None:
    """Return a signal's level just before the trouble by its level before the onset; None without both.

    Args:
        picture: Gives onset and trouble.
        values: On the common grid.
        since: Instead of the onset: when a candidate took effect.
    """
    trouble = picture.trouble_at
    start = since if since is not None else (picture.onset.at if picture.onset else None)
    if trouble is None or start is None:
        return None
    times = picture.signals.times
    margin = 2 * picture.signals.step
    before = values[(times < start - margin / 2)]
    before = before[np.isfinite(before)]
    before = before[before.size // 6 :]  # warm-up at the beginning of the data
    after = values[(times > start + margin) & (times <= trouble)]
    after = after[np.isfinite(after)]
    if before.size < 4 or after.size < 3:
        return None
    late = after[-max(3, after.size // 3) :]
    base, level = float(np.median(before)), float(np.median(late))
    if abs(base) < 1e-12:  # usually none at all: compare with what there was at times
        base = float(np.quantile(before, 0.9))
    if abs(base) < 1e-12:
        return 99.0 if level > 0 else 1.0
    return level / base
