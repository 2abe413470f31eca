"""Which service of a call graph is at fault, from the series of each, when the trouble was seen at one of them.

A careful engineer's steps, each a named term in log-odds: is this service abnormal by itself, against its own normal and its
own last minutes? Do the services that it calls account for that, second by second or error by error? Would its own part,
times how often it is called, account for what was seen? Did traffic grow, and whose callers sent it? Did a resource move that
traffic does not explain? Did it fall silent? Did it begin in time? Can it be reached from the symptom along calls at all?

Pure; it knows no vendor, no file and no clock. It does not say which change did it beyond `localize_changes`, and it does not
say that something is wrong: who calls it knows that. Called by the ranking of causes and by the benchmarks.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from advisor.diagnosis import Term

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ASPECTS = ("latency", "errors", "requests", "availability", "cpu", "memory", "queue", "pool", "workers", "other")
RESOURCES = ("cpu", "memory", "queue", "pool", "workers", "other")


@dataclass(frozen=True, slots=True)
class ServiceSeries:
    """Everything measured of one service on the common grid.

    Attributes:
        service: Its name in the call graph.
        series: Aspect -> values on the grid, NaN where nothing was sampled. Several statistics of one aspect stand side by
            side, the plain one (the average) first: only averages add up along calls. Errors and availability may be
            shares, percentages or counts.
    """

    service: str
    series: Mapping[str, tuple[Array, ...]]


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """A release or a changed configuration of one service."""

    name: str
    service: str
    at: float | None
    kind: str = "release"


@dataclass(frozen=True, slots=True)
class Blame:
    """How far one service is held responsible.

    Attributes:
        score: Sum of the terms, in natural log-odds against the other services.
        onset: Epoch seconds at which its own trouble began, None where it shows none.
    """

    service: str
    score: float
    terms: tuple[Term, ...]
    onset: float | None


@dataclass(frozen=True, slots=True)
class ChangeBlame:
    """How far one change is held responsible: its service's terms, and its timing."""

    change: ServiceChange
    score: float
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """What each kind of evidence counts. Judgement; the few that were tried on data say so in docs/causes.md."""

    own: float = 1.0
    size: float = 1.0
    resource: float = 1.0
    traffic: float = 1.0
    unreachable: float = 2.5
    address: float = 1.0
    onset: float = 1.0
    silence: float = 1.0


WEIGHTS = Weights()
# A move smaller than this is not worth waking anybody for, however steady the series: latency and resources by a tenth,
# traffic by a tenth, errors by half a percentage point. It stands in for the spread of flat series, which are thus neither
# dropped nor overvalued.
MATERIAL = {"latency": 0.07, "errors": 0.005, "requests": 0.07}
MATERIAL_ELSE = 0.07
LATE_SAMPLES = 5  # by so many samples the moment of noticing may be off, either way
CERTAIN = 12.0  # spreads
SILENT = 0.5  # from this part on missing samples are silence rather than gaps
UNKNOWN_SHARE = 0.3  # what a service amounts to of the symptom where that cannot be told
BORROWED = 5  # so many samples' weight has what is usual for the kind
RECENT_SAMPLES = 30  # what "just before" means
ADDRESS = re.compile(r"_(remote|client)$|^\d+(\.\d+){3}|^[\w-]+(\.[\w-]+){2,}(:\d+)?$|^https?://", re.IGNORECASE)


def localize(
    times: Array,
    services: Sequence[ServiceSeries],
    calls: frozenset[tuple[str, str]],
    symptom_service: str,
    symptom_aspect: str | None = None,
    noticed_at: float | None = None,
    normal: tuple[float, float] | None = None,
    weights: Weights = WEIGHTS,
) -> tuple[Blame, ...]:
    """Return every service once, the most suspicious first.

    Args:
        times: Epoch seconds of the grid, rising; gaps are allowed (a normal window of another day).
        services: What is measured; a service without series is judged by its place alone.
        calls: Pairs of caller and callee; empty where no call graph is known.
        symptom_service: Where the trouble was seen.
        symptom_aspect: In which aspect; else the one that moved most.
        noticed_at: About when it was noticed; several samples too early or too late do no harm.
        normal: When all was well; else everything before it was noticed.
        weights: Only the benchmarks give others.
    """
    if not services:
        return ()
    services = list({s.service: s for s in services}.values())
    times = np.asarray(times, dtype=np.float64)
    graph = _Graph.of([s.service for s in services], calls, symptom_service)
    rows = _Rows.of(times, services)
    window = _find_window(times, rows, graph.symptom, symptom_aspect, noticed_at, normal)
    troubles = _measure(times, services, rows, window)
    return _judge(times, services, graph, troubles, window, symptom_aspect, weights)


def probabilities(scores: Sequence[float]) -> tuple[float, ...]:
    """Return the softmax of scores."""
    if not scores:
        return ()
    values = np.asarray(scores, dtype=np.float64)
    shares = np.exp(values - values.max())
    return tuple(float(p) for p in shares / shares.sum())


@dataclass(slots=True)
class _Graph:
    """The calls between services that are candidates; calls through nodes that are none are joined."""

    names: list[str]
    callees: list[list[int]]
    callers: list[list[int]]
    symptom: int | None

    @classmethod
    def of(cls, names: list[str], calls: frozenset[tuple[str, str]], symptom: str) -> _Graph:
        """Read the calls, with names of one service spelled in two ways brought together."""
        place = {name: i for i, name in enumerate(names)}
        spelled = _spellings(names, {n for edge in calls for n in edge} | {symptom})
        outside: dict[str, int] = {}

        def number(name: str) -> int:
            known = place.get(spelled.get(name, name))
            return known if known is not None else outside.setdefault(name, len(names) + len(outside))

        edges = {(number(a), number(b)) for a, b in calls} | _views(names, calls)
        callees: dict[int, set[int]] = defaultdict(set)
        for a, b in edges:
            if a != b:
                callees[a].add(b)
        joined = [_through(i, callees, len(names)) for i in range(len(names))]
        callers: list[list[int]] = [[] for _ in names]
        for i, below in enumerate(joined):
            for c in below:
                callers[c].append(i)
        return cls(names, joined, callers, place.get(spelled.get(symptom, symptom)))

    @property
    def known(self) -> bool:
        """Return whether there is any call to reason on."""
        return any(self.callees)


def _through(start: int, callees: Mapping[int, set[int]], measured: int) -> list[int]:
    """Return the nearest candidates below a node, looking through nodes that are none."""
    found, seen, waiting = set(), {start}, list(callees.get(start, ()))
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if node < measured:
            found.add(node)
        else:
            waiting.extend(callees.get(node, ()))
    return sorted(found)


def _plain(name: str) -> str:
    """Return a name without what tracing and orchestration append to it."""
    short = re.sub(r"(_?(AWS|Database|azure|gcp)::.*|_remote|_client)$", "", name, flags=re.IGNORECASE)
    short = re.sub(r"[-_.](service|svc|server|app|deployment)$", "", short, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]", "", short.lower())


def _spellings(names: Sequence[str], others: set[str]) -> dict[str, str]:
    """Return for a name of the graph that is no candidate the one candidate that is spelled alike."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[_plain(name)].append(name)
    return {
        other: alike[_plain(other)][0]
        for other in others.difference(names)
        if _plain(other) and len(alike.get(_plain(other), ())) == 1
    }


def _views(names: Sequence[str], calls: frozenset[tuple[str, str]]) -> set[tuple[int, int]]:
    """Return the calls from an address that callers dial to the one service whose name it carries.

    A load balancer's host name is measured by its callers and is slow whenever the service behind it is; without this edge
    the host name would be the deepest slow node.
    """
    called = {b for _, b in calls}
    calling = {a for a, _ in calls}
    found = set()
    real = [(i, _plain(n)) for i, n in enumerate(names) if not ADDRESS.search(n)]
    for i, name in enumerate(names):
        if not ADDRESS.search(name) or name in calling or name not in called:
            continue
        tokens = [t for t in re.split(r"[^a-z0-9]+", name.lower().split(".")[0].removesuffix("_remote")) if len(t) >= 4]
        hits = [{j for j, plain in real if token in plain} for token in tokens]
        named = {next(iter(h)) for h in hits if len(h) == 1}
        if len(named) == 1:
            found.add((i, named.pop()))
    return found


@dataclass(slots=True)
class _Rows:
    """All series of all services as one matrix, on a scale on which steps compare."""

    owner: list[int] = field(default_factory=list)
    aspect: list[str] = field(default_factory=list)
    raw: Array = field(default_factory=lambda: np.empty((0, 0)))
    scaled: Array = field(default_factory=lambda: np.empty((0, 0)))
    material: Array = field(default_factory=lambda: np.empty(0))

    @classmethod
    def of(cls, times: Array, services: Sequence[ServiceSeries]) -> _Rows:
        """Stack what is measured; series of another length or without two values are left out."""
        owner, aspect, raw = [], [], []
        for i, service in enumerate(services):
            requests = _first(service.series.get("requests", ()), times.size)
            for name in ASPECTS:
                for values in service.series.get(name, ()):
                    if values.shape != times.shape:
                        continue
                    kept = np.where(np.isfinite(values) & (np.abs(values) < 1e150), values, np.nan)
                    if np.count_nonzero(np.isfinite(kept)) < 2:
                        continue
                    shares = _shares(name, kept, requests) if name in ("errors", "availability") else None
                    owner.append(i)
                    aspect.append(
                        "errors" if shares is not None else ("other" if name in ("errors", "availability") else name)
                    )
                    raw.append(kept if shares is None else shares)
        if not raw:
            return cls(raw=np.empty((0, times.size)), scaled=np.empty((0, times.size)))
        matrix = np.vstack(raw)
        material = np.array([MATERIAL.get(a, MATERIAL_ELSE) for a in aspect])
        return cls(owner, aspect, matrix, _scaled(matrix, aspect), material)

    def of_service(self, service: int, aspect: str) -> list[int]:
        """Return the rows of one aspect of one service."""
        return [r for r, (o, a) in enumerate(zip(self.owner, self.aspect, strict=True)) if o == service and a == aspect]


def _first(series: tuple[Array, ...], size: int) -> Array | None:
    return next((np.asarray(s, dtype=np.float64) for s in series if s.shape == (size,)), None)


def _shares(aspect: str, values: Array, requests: Array | None) -> Array | None:
    """Return the share of failed requests, whichever way it was written; None where counts have nothing to be divided by."""
    top = float(np.nanmax(values))
    if float(np.nanmin(values)) < 0:
        return None
    if aspect == "availability":
        return np.asarray(1.0 - np.clip(values / (100.0 if top > 1.5 else 1.0), 0, 1))
    if top <= 1.0:
        return values
    if requests is not None and np.nanmedian(requests) > 0:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.clip(np.where(requests > 0, values / requests, np.nan), 0, 1))
    return values / 100.0 if top <= 100.0 and np.any(np.mod(values[np.isfinite(values)], 1) != 0) else None


def _scaled(matrix: Array, aspect: Sequence[str]) -> Array:
    """Return shares as they are, and all else as the inverse hyperbolic sine of its ratio to its usual level.

    That is a logarithm for large values and a straight line through zero, so counts of zero and negative values need no rule of
    their own. A series that is usually zero is measured against what its kind usually is elsewhere.
    """
    out = np.array(matrix)
    sizes = np.abs(matrix)
    levels = _median(sizes)
    rare = np.nan_to_num(_mean(sizes))
    for kind in set(aspect) - {"errors"}:
        rows = np.flatnonzero(np.array([a == kind for a in aspect]))
        usual = levels[rows][levels[rows] > 0]
        typical = float(np.median(usual)) if usual.size else 0.0
        # An idle series gets at least a tenth of what is usual elsewhere: from nothing to that much is news, a flicker is not.
        scale = np.where(levels[rows] > 0, levels[rows], np.maximum(rare[rows], 0.1 * typical))
        scale = np.where(scale > 0, scale, 1.0)
        out[rows] = np.arcsinh(2.0 * matrix[rows] / scale[:, None])
    return out


@dataclass(frozen=True, slots=True)
class _Window:
    """Which samples are the trouble, which are the long normal, and which were just before (or just after)."""

    trouble: Mask
    normal: Mask
    recent: Mask
    start: float
    seen: float  # how clearly the symptom shows in its own series, in spreads


def _find_window(
    times: Array,
    rows: _Rows,
    symptom: int | None,
    aspect: str | None,
    noticed_at: float | None,
    normal: tuple[float, float] | None,
) -> _Window:
    """Return the stretch in which the symptom's own series is worst, near the moment it was noticed."""
    step = _step(times)
    given = (times >= normal[0]) & (times <= normal[1]) if normal is not None else np.zeros(times.shape, dtype=bool)
    around = ~given
    if noticed_at is not None:
        around &= times >= noticed_at - (LATE_SAMPLES + RECENT_SAMPLES) * step
        if not np.any(around & (times >= noticed_at)):  # the moment lies in or behind what was called normal
            around = times >= noticed_at - (LATE_SAMPLES + RECENT_SAMPLES) * step
        if not np.any(around):
            around = np.ones(times.shape, dtype=bool)
        if normal is not None:  # the end of the normal window is also what was just before
            near = (times >= noticed_at - (LATE_SAMPLES + RECENT_SAMPLES) * step) & (times <= noticed_at)
            around |= near
            later = given & (times > noticed_at)
            around &= ~later
    elif not np.any(around):
        around = np.ones(times.shape, dtype=bool)
    places = np.flatnonzero(around)
    first, last, seen = _worst_stretch(times, rows, places, symptom, aspect, noticed_at, step)
    trouble = np.zeros(times.shape, dtype=bool)
    trouble[places[first : last + 1]] = True
    start = float(times[places[first]])
    before = around & (times < start)
    recent = before if np.count_nonzero(before) >= 2 else around & ~trouble
    calm = given & ~trouble
    if not np.any(calm):
        calm = (times < start - step * min(2, LATE_SAMPLES)) if np.count_nonzero(times < start) > 6 else times < start
    if np.count_nonzero(calm) < 3:
        calm = ~trouble
    return _Window(trouble, calm, recent, start, seen)


def _step(times: Array) -> float:
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if gaps.size else 1.0


def _worst_stretch(
    times: Array,
    rows: _Rows,
    places: npt.NDArray[np.intp],
    symptom: int | None,
    aspect: str | None,
    noticed_at: float | None,
    step: float,
) -> tuple[int, int, float]:
    """Return the first and last place of the stretch that differs most from the rest around it, and by how many spreads."""
    at = int(np.searchsorted(times[places], noticed_at - step)) if noticed_at is not None else places.size // 2
    fallback = (min(at, places.size - 1), places.size - 1, 0.0)
    wanted = [] if symptom is None else _symptom_rows(rows, symptom, aspect)
    if not wanted or places.size < 3:
        return fallback
    badness = _badness(rows.scaled[wanted], rows.material[wanted], places)
    n = places.size
    begins = range(max(0, at - LATE_SAMPLES), min(n, at + LATE_SAMPLES + 1)) if noticed_at is not None else range(n)
    begins_at = np.array(begins)[:: max(1, len(begins) // 150)]
    ends = np.unique(np.linspace(0, n, min(n, 150) + 1).astype(int))[1:]
    total = np.concatenate([[0.0], np.cumsum(badness)])
    size = ends[None, :] - begins_at[:, None]
    inside = np.where(size > 0, total[ends][None, :] - total[begins_at][:, None], 0.0)
    valid = (size > 0) & (size < n)
    size = np.where(valid, size, 1)
    rest = np.where(valid, n - size, 1)
    contrast = np.where(valid, (inside / size - (total[-1] - inside) / rest) * np.sqrt(size * rest / n), -np.inf)
    contrast *= np.exp(-0.03 * np.abs(begins_at - at))[:, None]  # all else alike, what began when it was noticed
    i, j = np.unravel_index(int(np.argmax(contrast)), contrast.shape)
    if contrast[i, j] < 1.5:
        return fallback
    return int(begins_at[i]), int(ends[j]) - 1, float(contrast[i, j])


def _symptom_rows(rows: _Rows, symptom: int, aspect: str | None) -> list[int]:
    kind = "errors" if aspect == "availability" else aspect
    wanted = rows.of_service(symptom, kind) if kind else []
    wanted = wanted or rows.of_service(symptom, "latency") + rows.of_service(symptom, "errors")
    return wanted or [r for r, o in enumerate(rows.owner) if o == symptom]


def _badness(values: Array, material: Array, places: npt.NDArray[np.intp]) -> Array:
    """Return the mean over rows of how far each of some samples lies above their middle, in spreads; gaps count as the middle.

    The spread is that of the samples elsewhere where there are enough, for the trouble may be half of what is looked at.
    What is too low counts little: a symptom is too much of something.
    """
    near = values[:, places]
    elsewhere = np.delete(values, places, axis=1)
    low, middle, high = _quantiles(near, (0.25, 0.5, 0.75))
    spread = (high - low) / 1.349
    enough = np.isfinite(elsewhere).sum(axis=1) >= 20
    if enough.any():
        spread = np.where(enough, _spread(elsewhere), spread)
    scores = (near - middle[:, None]) / np.hypot(spread, material)[:, None]
    return np.asarray(np.mean(np.clip(np.nan_to_num(scores), -2, 8), axis=0))


def _median(values: Array) -> Array:
    """Return the median of each row, 0 where a row has none."""
    return _quantiles(values, (0.5,))[0]


def _quantiles(values: Array, wanted: Sequence[float]) -> list[Array]:
    """Return quantiles of each row over what is known, 0 where a row has nothing; one sort, far faster than nanquantile."""
    if values.shape[1] == 0:
        return [np.zeros(values.shape[0]) for _ in wanted]
    ordered = np.sort(values, axis=1)  # gaps sort to the end
    last = np.isfinite(values).sum(axis=1) - 1
    rows = np.arange(values.shape[0])
    out = []
    for q in wanted:
        place = np.maximum(last, 0) * q
        low = np.floor(place).astype(int)
        part = place - low
        with np.errstate(invalid="ignore"):
            found = ordered[rows, low] * (1 - part) + ordered[rows, np.minimum(low + 1, np.maximum(last, 0))] * part
        out.append(np.where(last >= 0, np.nan_to_num(found), 0.0))
    return out


def _spread(values: Array) -> Array:
    """Return how far single samples usually lie from the middle.

    The larger of what the middle half says and what all but the outer twentieth says: counts that are mostly zero have no
    middle half, and tails heavier than a bell's must be allowed for.
    """
    low, first, third, high = _quantiles(values, (0.025, 0.25, 0.75, 0.975))
    return np.asarray(np.maximum((third - first) / 1.349, (high - low) / 3.92))


@dataclass(slots=True)
class _Trouble:
    """What one service shows in the stretch of trouble, against its normal.

    Attributes:
        latency, errors, requests: How far they moved, in spreads; 0 where not measured.
        seconds: By how much the average latency rose, in its own unit.
        share: By how much the share of failed requests rose.
        growth: Requests, as a ratio.
        rate: Requests a sample in the stretch, None where not measured.
        resource: The resource that moved most beyond traffic, with its spreads and its ratio.
        silent: 0 to 1, which part of its series fell silent.
        onset: When the first of its series left its normal.
    """

    measured: set[str] = field(default_factory=set)
    latency: float = 0.0
    seconds: float = 0.0
    slower: float = 1.0
    errors: float = 0.0
    share: float = 0.0
    requests: float = 0.0
    growth: float = 1.0
    rate: float | None = None
    usual_rate: float | None = None
    resource: tuple[str, float, float] = ("", 0.0, 1.0)
    silent: float = 0.0
    onset: float | None = None


def _measure(times: Array, services: Sequence[ServiceSeries], rows: _Rows, window: _Window) -> list[_Trouble]:
    """Return what each service shows."""
    found = [_Trouble() for _ in services]
    if not rows.owner:
        return found
    moved = _moves(rows, window)
    level = _mean(rows.raw[:, window.trouble])
    before = _before(rows.raw, window)
    usual_rate = _usual_rate(rows.raw, window)
    silent = _silence(rows.raw, window)
    onsets = _onsets(times, rows, window)
    samples = int(np.count_nonzero(window.trouble))
    by_service: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for r, (owner, aspect) in enumerate(zip(rows.owner, rows.aspect, strict=True)):
        by_service[owner][aspect].append(r)
    for i, aspects in by_service.items():
        t = found[i]
        t.measured = set(aspects)
        if "requests" in aspects:
            r = aspects["requests"][0]
            t.requests = float(moved[r])
            t.rate, t.usual_rate = float(level[r]), float(usual_rate[r])
            t.growth = _ratio(level[r], usual_rate[r])
        if "latency" in aspects:
            t.latency = _top_two(moved[aspects["latency"]])
            r = aspects["latency"][0]
            t.seconds = float(level[r] - before[r]) if np.isfinite(level[r] - before[r]) else 0.0
            t.slower = _ratio(level[r], before[r])
        if "errors" in aspects:
            t.errors = _top_two(moved[aspects["errors"]])
            t.share = float(np.nan_to_num(np.max(level[aspects["errors"]] - before[aspects["errors"]])))
        t.resource = _worst_resource(aspects, moved, level, before, t)
        t.silent = _silent_part(silent, aspects, t, samples)
        strong = [r for a in aspects.values() for r in a if abs(moved[r]) > 4 and onsets[r] is not None]
        t.onset = min((onsets[r] for r in strong), default=None, key=lambda o: o if o is not None else math.inf)
    if 2 * sum(t.silent >= SILENT for t in found) > len(by_service):  # then it is the monitoring that fell silent
        for t in found:
            t.silent = 0.0
    return found


def _moves(rows: _Rows, window: _Window) -> Array:
    """Return by how many spreads the mean of the stretch differs from the normal and from the last minutes.

    The two must agree: the long normal may be of another season, the last minutes may already hold the trouble.
    """
    size = max(1, int(np.count_nonzero(window.trouble)))
    level = _mean(rows.scaled[:, window.trouble])
    calm = rows.scaled[:, window.normal]
    usual = _median(calm)
    single = _spread(calm)
    count = np.isfinite(calm).sum(axis=1)
    # What is hardly known borrows from its kind: few normal samples say little about how far a series usually strays.
    kind = _of_kind(rows.aspect, single, count)
    spread = np.sqrt((count * _spread_of_means(calm, size, single) ** 2 + BORROWED * kind**2) / (count + BORROWED))
    single = np.sqrt((count * single**2 + BORROWED * kind**2) / (count + BORROWED))
    noise = np.hypot(np.hypot(spread, rows.material), 2 * single / np.sqrt(count + 1.0))
    noise = np.hypot(noise, _counting(rows, window, size))
    long = np.where(count > 0, (level - usual) / noise, np.nan)
    recent = rows.scaled[:, window.recent]
    seen = np.isfinite(recent).sum(axis=1)
    short = (level - _median(recent)) / np.hypot(noise, single / np.sqrt(np.maximum(1, seen)))
    alike = np.sign(long) == np.sign(short)
    small, large = np.minimum(abs(long), abs(short)), np.maximum(abs(long), abs(short))
    both = np.where(alike, np.sign(long) * (0.75 * small + 0.25 * large), 0.0)
    both = np.where(seen == 0, 0.8 * long, np.where(count == 0, 0.5 * short, both))
    return np.nan_to_num(both)


def _of_kind(aspect: Sequence[str], spread: Array, count: npt.NDArray[np.intp]) -> Array:
    """Return for each row the middle spread of its kind over all services."""
    out = np.zeros(spread.size)
    for kind in set(aspect):
        places = np.array([a == kind for a in aspect])
        known = spread[places & (count >= BORROWED)]
        out[places] = float(np.median(known)) if known.size else 0.1
    return out


def _spread_of_means(calm: Array, size: int, single: Array) -> Array:
    """Return the usual spread of a mean over as many samples as the stretch has: slow swings count, noise averages out."""
    n = calm.shape[1]
    width = int(max(1, min(size, n // 8)))
    if width == 1:
        return np.asarray(single)
    known = np.isfinite(calm)
    total = np.cumsum(np.pad(np.where(known, calm, 0.0), ((0, 0), (1, 0))), axis=1)
    number = np.cumsum(np.pad(known.astype(float), ((0, 0), (1, 0))), axis=1)
    have = number[:, width:] - number[:, :-width]
    means = np.where(have > 0, (total[:, width:] - total[:, :-width]) / np.maximum(have, 1), np.nan)
    return _spread(means)


def _counting(rows: _Rows, window: _Window, size: int) -> Array:
    """Return the spread that counting alone gives: few requests make large shares and ratios by chance."""
    out = np.zeros(len(rows.owner))
    for r, aspect in enumerate(rows.aspect):
        if aspect not in ("errors", "requests"):
            continue
        counts = rows.of_service(rows.owner[r], "requests")
        if not counts:
            continue
        values = rows.raw[counts[0]][window.trouble]
        usual = rows.raw[counts[0]][window.normal]
        number = max(float(np.nan_to_num(_mean(values[None, :])[0])), float(np.nan_to_num(_median(usual[None, :])[0])))
        number = max(1.0, number) * size
        if aspect == "requests":
            out[r] = 1.0 / math.sqrt(number)
        else:
            p = float(np.clip(np.nan_to_num(_mean(rows.raw[r][window.normal][None, :])[0]), 1e-3, 0.5))
            out[r] = math.sqrt(p * (1 - p) / number)
    return out


def _mean(values: Array) -> Array:
    """Return the mean of each row, NaN where a row has none."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    return np.asarray(np.where(count > 0, np.where(known, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan))


def _before(raw: Array, window: _Window) -> Array:
    """Return the level to which the stretch is compared in its own unit: the last minutes, else the long normal."""
    recent = raw[:, window.recent]
    out = np.where(np.isfinite(recent).any(axis=1), _median(recent), np.nan)
    calm = raw[:, window.normal]
    return np.where(np.isfinite(out), out, np.where(np.isfinite(calm).any(axis=1), _median(calm), np.nan))


def _usual_rate(raw: Array, window: _Window) -> Array:
    """Return the mean level before: of rare requests the median would be none."""
    recent = _mean(raw[:, window.recent])
    return np.where(np.isfinite(recent), recent, _mean(raw[:, window.normal]))


def _ratio(now: float, before: float) -> float:
    if not (math.isfinite(now) and math.isfinite(before)):
        return 1.0
    floor = 1e-9 + 1e-3 * max(abs(now), abs(before))
    return float((abs(now) + floor) / (abs(before) + floor))


def _top_two(moves: Array) -> float:
    """Return the mean of the two largest moves: one odd percentile alone is half believed."""
    top = np.sort(moves)[::-1][:2]
    return float(np.mean(top))


def _worst_resource(
    aspects: Mapping[str, list[int]], moved: Array, level: Array, before: Array, trouble: _Trouble
) -> tuple[str, float, float]:
    best = ("", 0.0, 1.0)
    for name in RESOURCES:
        if name not in aspects:
            continue
        places = aspects[name]
        size = np.abs(moved[places]) if name == "other" else np.maximum(moved[places], -0.5 * moved[places])
        r = places[int(np.argmax(size))]
        value = _top_two(size)
        ratio = _ratio(level[r], before[r])
        if trouble.growth > 1.1 and ratio > 1.0:  # what grows with traffic is traffic's
            value *= max(0.0, 1.0 - math.log(trouble.growth) / max(math.log(ratio), 1e-9))
        value *= 0.6 if name == "other" else 1.0
        if value > best[1]:
            best = (name, value, ratio)
    return best


def _silence(raw: Array, window: _Window) -> Array:
    """Return for each row which part of its usual samples is missing in the stretch."""
    usual = np.isfinite(raw[:, window.normal]).mean(axis=1) if window.normal.any() else np.zeros(raw.shape[0])
    last = np.isfinite(raw[:, window.recent]).mean(axis=1) if window.recent.any() else usual
    now = np.isfinite(raw[:, window.trouble]).mean(axis=1) if window.trouble.any() else usual
    expected = np.minimum(usual, last)
    return np.where(expected >= 0.8, np.clip(1.0 - now / np.maximum(expected, 1e-9), 0, 1), 0.0)


def _silent_part(silent: Array, aspects: Mapping[str, list[int]], trouble: _Trouble, samples: int) -> float:
    """Return which part of a service's series fell silent; with few requests a sample, silence is chance.

    Requests that stay at zero are silence too: what counts for a dead service often goes on reporting zero.
    """
    if trouble.usual_rate is not None and trouble.usual_rate * samples < 10:
        return 0.0
    parts = [float(silent[r]) for aspect, places in aspects.items() if aspect != "requests" for r in places]
    if trouble.usual_rate is not None:
        parts.append(max(float(silent[aspects["requests"][0]]), 1.0 if trouble.growth < 0.1 else 0.0))
    return float(np.mean(parts)) * samples / (samples + 1.0) if parts else 0.0


def _onsets(times: Array, rows: _Rows, window: _Window) -> list[float | None]:
    """Return when each row left its normal, by the split of the samples around the stretch that explains most."""
    places = np.flatnonzero(window.trouble | window.recent)
    stretch = np.flatnonzero(window.trouble[places])
    if places.size < 6 or stretch.size == 0:
        return [None] * len(rows.owner)
    start, end = int(stretch[0]), int(stretch[-1]) + 1
    begin = max(0, start - RECENT_SAMPLES)
    part = rows.scaled[:, places[begin:end]]
    known = np.isfinite(part)
    filled = np.where(known, part, _median(part)[:, None])
    n = filled.shape[1]
    if n < 4:
        return [None] * len(rows.owner)
    total = np.cumsum(filled, axis=1)
    sizes = np.arange(1, n)
    left = total[:, :-1] / sizes
    right = (total[:, -1:] - total[:, :-1]) / (n - sizes)
    gain = np.abs(right - left) * np.sqrt(sizes * (n - sizes) / n)
    at = np.argmax(gain, axis=1) + 1
    return [float(times[places[begin + int(a)]]) for a in at]


def _evidence(spreads: float) -> float:
    """Return the log-odds that a move of so many spreads is trouble: even at 2, and slow to believe in hundreds.

    Metrics have tails like a Cauchy distribution rather than a bell, so the odds grow with the square only.
    """
    far = max(0.0, spreads)
    if far > CERTAIN:  # beyond doubt is beyond doubt; what is left says only which of two certain troubles is larger
        far = math.sqrt(CERTAIN * far)
    return math.log1p(far**2 / 4.0) - math.log(2.0)


def _judge(
    times: Array,
    services: Sequence[ServiceSeries],
    graph: _Graph,
    troubles: list[_Trouble],
    window: _Window,
    symptom_aspect: str | None,
    weights: Weights,
) -> tuple[Blame, ...]:
    """Return the terms of every service, best first; ties go to the one deeper below the symptom, then by name."""
    share_of_calls = _calls_per_request(graph, troubles)
    weight = _times_called(graph, share_of_calls)
    depth = _depths(graph)
    step = _step(times)
    first = _first_onset(troubles)
    blames = []
    for i, name in enumerate(graph.names):
        terms = _Terms()
        _own_trouble(terms, i, graph, troubles, share_of_calls, weights)
        _size(terms, i, graph, troubles, weight, symptom_aspect, weights)
        _resources(terms, troubles[i], weights)
        _traffic(terms, i, graph, troubles, weights)
        _place(terms, name, i, graph, depth, weights)
        _timing(terms, troubles[i], first, step, weights)
        _silenced(terms, i, graph, troubles, weights)
        blames.append(Blame(name, sum(t.value for t in terms.found), tuple(terms.found), troubles[i].onset))
    order = sorted(range(len(blames)), key=lambda i: (-blames[i].score, -(depth[i] or 0), blames[i].service))
    return tuple(blames[i] for i in order)


@dataclass(slots=True)
class _Terms:
    found: list[Term] = field(default_factory=list)

    def add(self, name: str, value: float, why: str) -> None:
        """Add a term; nothing is added for next to nothing."""
        if abs(value) >= 0.005:
            self.found.append(Term(name=name, value=round(value, 3), why=why))


def _calls_per_request(graph: _Graph, troubles: list[_Trouble]) -> dict[tuple[int, int], float]:
    """Return how often a caller calls each of its callees per request, where requests tell; else once.

    A callee's requests are divided among its callers by the callers' own requests.
    """
    out = {}
    for i, below in enumerate(graph.callees):
        for c in below:
            mine, theirs = troubles[i].usual_rate, troubles[c].usual_rate
            if not mine or theirs is None or not math.isfinite(mine + theirs):
                out[i, c] = 1.0
                continue
            rates = [troubles[k].usual_rate for k in graph.callers[c]]
            all_callers = sum(r for r in rates if r and math.isfinite(r))
            out[i, c] = float(min(20.0, theirs / max(all_callers, 1e-9)))
    return out


def _times_called(graph: _Graph, per_request: Mapping[tuple[int, int], float]) -> list[float]:
    """Return how often each service is called, along all ways, for one request at the symptom's service."""
    total = [0.0] * len(graph.names)
    if graph.symptom is None:
        return total
    wave = {graph.symptom: 1.0}
    for _ in range(min(len(graph.names), 12)):  # a chain of more calls than 12 adds nothing one could tell apart
        for i, v in wave.items():
            total[i] = min(50.0, total[i] + v)
        after: dict[int, float] = defaultdict(float)
        for i, v in wave.items():
            for c in graph.callees[i]:
                if c != graph.symptom:
                    after[c] += v * per_request[i, c]
        wave = {c: min(v, 50.0) for c, v in after.items() if v > 1e-4}
        if not wave:
            break
    return total


def _depths(graph: _Graph) -> list[int | None]:
    """Return how many calls each service lies below the symptom, None where no call leads there."""
    depth: list[int | None] = [None] * len(graph.names)
    if graph.symptom is None:
        return depth
    depth[graph.symptom] = 0
    waiting = [graph.symptom]
    for i in waiting:
        for c in graph.callees[i]:
            if depth[c] is None:
                depth[c] = (depth[i] or 0) + 1
                waiting.append(c)
    return depth


def _own_trouble(
    terms: _Terms,
    i: int,
    graph: _Graph,
    troubles: list[_Trouble],
    per_request: Mapping[tuple[int, int], float],
    weights: Weights,
) -> None:
    """Say how abnormal the service is, and which part of it the services below account for."""
    t = troubles[i]
    if not t.measured & {"latency", "errors"}:
        _unmeasured(terms, i, graph, troubles, per_request, weights, 0.0)
        return
    slow, failing = _evidence(t.latency), _evidence(t.errors)
    if failing > slow:
        text = f"failed requests rose by {t.share:.1%} of all, {t.errors:.1f} spreads from normal"
    else:
        text = f"latency ×{t.slower:.2f}, {t.latency:.1f} spreads from normal"
    terms.add("own trouble", weights.own * (max(slow, failing) + 0.3 * max(0.0, min(slow, failing))), text)
    left_slow, by_slow = _left(i, graph, troubles, per_request, "seconds")
    left_failing, by_failing = _left(i, graph, troubles, per_request, "share")
    rest_slow, rest_failing = _evidence(t.latency * left_slow), _evidence(t.errors * left_failing)
    less = (max(rest_slow, rest_failing) + 0.3 * max(0.0, min(rest_slow, rest_failing))) - (
        max(slow, failing) + 0.3 * max(0.0, min(slow, failing))
    )
    by, left = (by_failing, left_failing) if failing > slow else (by_slow, left_slow)
    if less < -0.005 and by is not None:
        terms.add(
            "passed on", weights.own * less, f"{graph.names[by]}, which it calls, accounts for {1 - left:.0%} of it"
        )
    if len(t.measured & {"latency", "errors"}) < 2:
        _unmeasured(terms, i, graph, troubles, per_request, weights, max(0.0, rest_slow, rest_failing))


def _unmeasured(
    terms: _Terms,
    i: int,
    graph: _Graph,
    troubles: list[_Trouble],
    per_request: Mapping[tuple[int, int], float],
    weights: Weights,
    own: float,
) -> None:
    """Give what nobody measures of a service its share of the unexplained trouble above it, always less than its caller has."""
    best, by, what = own, None, ""
    for kind, aspect in (("seconds", "latency"), ("share", "errors")):
        if aspect in troubles[i].measured:
            continue
        for c in graph.callers[i]:
            rest = getattr(troubles[c], aspect) * _left(c, graph, troubles, per_request, kind)[0]
            blind = sum(1 for b in graph.callees[c] if aspect not in troubles[b].measured)
            value = 0.7 * _evidence(rest) - math.log(1 + blind)
            if value > best:
                best, by, what = value, c, aspect
    if by is not None:
        text = f"its {what} is not measured, and nothing else explains that of {graph.names[by]}, which calls it"
        terms.add("not measured", weights.own * (best - own), text)
    elif not troubles[i].measured & {"latency", "errors"}:
        terms.add("not measured", -0.5 * weights.own, "neither its latency nor its errors are measured")


def _left(
    i: int, graph: _Graph, troubles: list[_Trouble], per_request: Mapping[tuple[int, int], float], kind: str
) -> tuple[float, int | None]:
    """Return which part of a rise the services below do not account for, and the one that accounts for most."""
    rise: float = getattr(troubles[i], kind)
    left, best, by = 1.0, 0.0, None
    if rise <= 0:
        return 1.0, None
    more = _sends_more(i, graph, troubles)
    for c in graph.callees[i]:
        below = troubles[c]
        if more and below.requests > 3 and below.growth >= 1.2:
            continue  # what is slow below bears the traffic that came in here
        spreads = below.latency if kind == "seconds" else below.errors
        believed = _believed(spreads)
        part = believed * max(0.0, getattr(below, kind)) * per_request[i, c] / rise
        # Slow answers below become failures above when a caller stops waiting, and retries make failures slow.
        other = below.errors if kind == "seconds" else below.latency
        across = 0.5 if kind == "seconds" else 0.9 - 0.4 / max(1.0, below.slower)  # the slower, the surer a timeout
        part = max(part, across * _believed(other) * min(1.0, per_request[i, c]))
        silent = _unasked(c, graph, troubles)
        if silent >= SILENT:
            part = max(part, min(1.0, silent + 0.3))
        left -= min(1.0, part)
        if part > best:
            best, by = part, c
    return max(0.0, left), by


def _believed(spreads: float) -> float:
    """Return the probability that a move of so many spreads is no chance."""
    return 1.0 / (1.0 + math.exp(-_evidence(spreads))) if spreads > 1 else 0.0


def _size(
    terms: _Terms,
    i: int,
    graph: _Graph,
    troubles: list[_Trouble],
    weight: Sequence[float],
    symptom_aspect: str | None,
    weights: Weights,
) -> None:
    """Say which part of the symptom's rise this service's rise amounts to, times how often it is called."""
    if graph.symptom is None or not graph.known or weight[i] <= 0 or _unasked(i, graph, troubles) >= SILENT:
        return
    seen, t = troubles[graph.symptom], troubles[i]
    wants = symptom_aspect if symptom_aspect != "availability" else "errors"
    kinds = [("latency", "seconds"), ("errors", "share")]
    seen_as = [(getattr(seen, a), a, k) for a, k in kinds if getattr(seen, k) > 0 and wants in (a, None)]
    if not seen_as:
        return
    spreads, aspect, kind = max(seen_as)
    share = weight[i] * max(0.0, getattr(t, kind)) / getattr(seen, kind)
    other = t.errors if aspect == "latency" else t.latency
    if aspect not in t.measured or share < UNKNOWN_SHARE * _believed(other):
        return  # it is in trouble of another kind, whose part of what was seen cannot be told
    # Of a symptom that its own series hardly show, parts are hardly known either.
    value = math.log(min(1.0, max(0.05, share)) / UNKNOWN_SHARE) * min(1.0, max(0.0, spreads) / 3.0)
    text = f"its rise, times {weight[i]:.2f} calls a request, is {share:.0%} of what was seen"
    terms.add("size", weights.size * value, text)


def _resources(terms: _Terms, t: _Trouble, weights: Weights) -> None:
    name, spreads, ratio = t.resource
    if name:
        terms.add(
            "resource",
            weights.resource * max(0.0, _evidence(spreads)),
            f"{name} ×{ratio:.2f}, {spreads:.1f} spreads from normal beyond what traffic explains",
        )


def _traffic(terms: _Terms, i: int, graph: _Graph, troubles: list[_Trouble], weights: Weights) -> None:
    """Say whether traffic grew, and whether callers that are measured sent it."""
    t = troubles[i]
    for c in graph.callees[i]:
        if _from_nothing(troubles[c]) and t.growth < 1.5:
            share = 1.0 / len(graph.callers[c])
            terms.add(
                "new calls", weights.traffic * share, f"it began to call {graph.names[c]}, which it hardly did before"
            )
    if t.requests < 3 or t.growth < 1.2:
        return
    senders = _senders(i, graph, troubles)
    sent = _sent(senders)
    beyond = math.log(t.growth / sent) / math.log(t.growth) if sent < t.growth else 0.0
    if _from_nothing(t) and senders:
        terms.add("traffic", -weights.traffic, "it is called where it hardly was before: its callers changed, not it")
    elif beyond > 0.5:
        value = weights.traffic * max(0.0, _evidence(t.requests * beyond)) * 0.5
        terms.add("traffic", value, f"requests ×{t.growth:.2f}, and no caller that is measured sent that many more")
    elif max(t.latency, t.errors) > 2:
        value = 0.5 * max(0.0, _evidence(max(t.latency, t.errors)))
        text = f"requests ×{t.growth:.2f}, as its callers' did: it bears others' traffic"
        terms.add("traffic", -weights.traffic * value, text)


def _senders(i: int, graph: _Graph, troubles: list[_Trouble]) -> list[_Trouble]:
    """Return the callers whose requests are measured; a client as others see it is the world outside, not a sender."""
    return [
        troubles[c]
        for c in graph.callers[i]
        if "requests" in troubles[c].measured and not ADDRESS.search(graph.names[c])
    ]


def _sends_more(i: int, graph: _Graph, troubles: list[_Trouble]) -> bool:
    """Return whether traffic that no caller sent reaches the service, and through it those below."""
    t = troubles[i]
    if t.requests < 3 or t.growth < 1.2:
        return False
    return math.log(_sent(_senders(i, graph, troubles))) < 0.5 * math.log(t.growth)


def _sent(senders: Sequence[_Trouble]) -> float:
    """Return by which factor the callers' own requests grew together, 1 where they did not."""
    now, usual = sum(s.rate or 0.0 for s in senders), sum(s.usual_rate or 0.0 for s in senders)
    return max(1.0, now / usual) if usual > 0 and math.isfinite(now / usual) else 1.0


def _from_nothing(t: _Trouble) -> bool:
    """Return whether a service is called that was hardly ever called before."""
    return t.requests > 2 and t.rate is not None and t.usual_rate is not None and t.usual_rate <= 0.02 * t.rate


def _place(terms: _Terms, name: str, i: int, graph: _Graph, depth: Sequence[int | None], weights: Weights) -> None:
    if graph.known and graph.symptom is not None and depth[i] is None:
        terms.add("not reached", -weights.unreachable, "no call leads from the symptom to it")
    if ADDRESS.search(name):
        terms.add("address", -weights.address, "it is an address or a client as others see it, not a service")


def _first_onset(troubles: Sequence[_Trouble]) -> float | None:
    known = sorted(t.onset for t in troubles if t.onset is not None)
    return known[0] if known else None


def _timing(terms: _Terms, t: _Trouble, first: float | None, step: float, weights: Weights) -> None:
    if t.onset is None or first is None:
        return
    late = (t.onset - first) / step
    if late > 2:
        value = -weights.onset * min(1.5, 0.4 * math.log2(late / 2))
        terms.add("onset", value, f"its trouble began {t.onset - first:.0f} s after the first one's")


def _silenced(terms: _Terms, i: int, graph: _Graph, troubles: list[_Trouble], weights: Weights) -> None:
    """Say whether it fell silent though its callers went on: who is not called any more has nothing to report."""
    silent = _unasked(i, graph, troubles)
    if silent >= SILENT:
        text = f"{silent:.0%} of what it usually reports is missing, though its callers went on"
        terms.add("silence", weights.silence * (2.0 + 4.0 * silent), text)


def _unasked(i: int, graph: _Graph, troubles: list[_Trouble]) -> float:
    """Return which part of its series fell silent, 0 where fewer calls explain it."""
    silent = troubles[i].silent
    callers = [troubles[c] for c in graph.callers[i] if troubles[c].measured]
    if silent < SILENT or not callers:
        return silent
    went = [(c.usual_rate or 1.0, 1.0 - c.silent if c.silent >= SILENT else min(1.0, c.growth)) for c in callers]
    went_on = sum(r * g for r, g in went) / sum(r for r, _ in went)
    return silent if went_on > 0.4 else 0.0


def localize_changes(
    blames: Sequence[Blame], changes: Sequence[ServiceChange], noticed_at: float | None = None, step: float = 60.0
) -> tuple[ChangeBlame, ...]:
    """Return the changes, the most suspicious first: their services' terms, and each one's timing.

    Args:
        blames: What `localize` returned.
        changes: What was changed where and when.
        noticed_at: When the symptom was noticed, for services that show no onset of their own.
        step: Seconds between samples: nearer than this, timing cannot tell.
    """
    by_service = {b.service: b for b in blames}
    spelled = _spellings(list(by_service), {c.service for c in changes})
    worst = min((b.score for b in blames), default=0.0)
    found = []
    for change in changes:
        blame = by_service.get(spelled.get(change.service, change.service))
        terms = blame.terms if blame else (Term(name="not measured", value=worst, why="its service is not known"),)
        timing = _change_timing(change, blame, noticed_at, step)
        terms = (*terms, timing) if timing else terms
        found.append(ChangeBlame(change, sum(t.value for t in terms), terms))
    return tuple(sorted(found, key=lambda c: (-c.score, -(c.change.at or 0.0), c.change.name)))


def _change_timing(change: ServiceChange, blame: Blame | None, noticed_at: float | None, step: float) -> Term | None:
    onset = blame.onset if blame is not None and blame.onset is not None else noticed_at
    if change.at is None or onset is None:
        return None
    lead = (onset - change.at) / step
    if lead < -LATE_SAMPLES:
        return Term(name="timing", value=-4.0, why=f"it came {-lead * step:.0f} s after the trouble had begun")
    if lead < -1.5:
        return Term(
            name="timing", value=-1.0, why=f"it came {-lead * step:.0f} s after the trouble seems to have begun"
        )
    value = 0.5 - 0.5 * math.log1p(max(0.0, lead - 1.0) / 3.0)
    return Term(name="timing", value=round(max(-2.0, value), 3), why=f"it came {lead * step:.0f} s before the trouble")
