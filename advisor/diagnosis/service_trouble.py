"""What each service shows in a stretch of trouble, against its own normal and its own last minutes.

All series of all services become one matrix, so the cost is that of a few passes over it. Moves are told in spreads: how far
such a series usually strays over as many samples. Nothing here knows who calls whom.

Pure. Called by `localization`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ASPECTS = ("latency", "errors", "requests", "availability", "cpu", "memory", "queue", "pool", "workers", "other")
RESOURCES = ("cpu", "memory", "queue", "pool", "workers", "other")
# A move smaller than this is not worth waking anybody for, however steady the series: latency and resources by a tenth,
# traffic by a tenth, errors by half a percentage point. It stands in for the spread of flat series, which are thus neither
# dropped nor overvalued.
MATERIAL = {"latency": 0.07, "errors": 0.005, "requests": 0.07}
MATERIAL_ELSE = 0.07
LATE_SAMPLES = 5  # by so many samples the moment of noticing may be off, either way
RECENT_SAMPLES = 30  # what "just before" means
BORROWED = 5  # so many samples' weight has what is usual for the kind
SILENT = 0.5  # from this part on missing samples are silence rather than gaps


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


@dataclass(slots=True)
class Rows:
    """All series of all services as one matrix, on a scale on which steps compare."""

    owner: list[int] = field(default_factory=list)
    aspect: list[str] = field(default_factory=list)
    raw: Array = field(default_factory=lambda: np.empty((0, 0)))
    scaled: Array = field(default_factory=lambda: np.empty((0, 0)))
    material: Array = field(default_factory=lambda: np.empty(0))

    @classmethod
    def of(cls, times: Array, services: Sequence[ServiceSeries]) -> Rows:
        """Stack what is measured; series of another length or without two values are left out."""
        owner, aspect, raw = [], [], []
        for i, service in enumerate(services):
            requests = _first(service.series.get("requests", ()), times.size)
            for name in ASPECTS:
                for values in service.series.get(name, ()):
                    if np.shape(values) != times.shape:
                        continue
                    kept = _sane(np.asarray(values, dtype=np.float64))
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


def _sane(values: Array) -> Array:
    """Return values with what no metric measures left out: beyond 1e30 is a gap, below 1e-30 is nothing."""
    with np.errstate(invalid="ignore"):
        kept = np.where(np.abs(values) < 1e30, values, np.nan)
        return np.asarray(np.where(np.abs(kept) < 1e-30, 0.0, kept))


def _first(series: tuple[Array, ...], size: int) -> Array | None:
    return next((_sane(np.asarray(s, dtype=np.float64)) for s in series if np.shape(s) == (size,)), None)


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
class Window:
    """Which samples are the trouble, which are the long normal, and which were just before (or just after)."""

    trouble: Mask
    normal: Mask
    recent: Mask
    start: float
    seen: float  # how clearly the symptom shows in its own series, in spreads


def find_window(
    times: Array,
    rows: Rows,
    symptom: int | None,
    aspect: str | None,
    noticed_at: float | None,
    normal: tuple[float, float] | None,
) -> Window:
    """Return the stretch in which the symptom's own series is worst, near the moment it was noticed."""
    if times.size == 0:
        none = np.zeros(0, dtype=bool)
        return Window(none, none, none, 0.0, 0.0)
    if noticed_at is not None and not math.isfinite(noticed_at):
        noticed_at = None
    step = sampling_step(times)
    given = (times >= normal[0]) & (times <= normal[1]) if normal is not None else np.zeros(times.shape, dtype=bool)
    if noticed_at is None:
        free = np.flatnonzero(~given) if not given.all() else np.arange(times.size)
        first, _, _ = _worst_stretch(times, rows, free, symptom, aspect, None, step)
        noticed_at = float(times[free[first]])
    around = _around(times, given, noticed_at, step)
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
    return Window(trouble, calm, recent, start, seen)


def _around(times: Array, given: Mask, noticed_at: float, step: float) -> Mask:
    """Return what is looked at: from some samples before the moment to the end, without a normal window that lies later."""
    near = times >= noticed_at - (LATE_SAMPLES + RECENT_SAMPLES) * step
    around = near & ~(given & (times > noticed_at))
    if not np.any(around & (times >= noticed_at)):  # the moment lies in what was called normal
        around = near
    return around if around.any() else np.ones(times.shape, dtype=bool)


def sampling_step(times: Array) -> float:
    """Return the usual seconds between samples, 1 where there are too few to tell."""
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if gaps.size else 1.0


def _worst_stretch(
    times: Array,
    rows: Rows,
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
    begins = range(max(0, at - LATE_SAMPLES), min(n, at + LATE_SAMPLES + 1)) if noticed_at is not None else range(3, n)
    begins_at = np.array(begins, dtype=np.intp)[:: max(1, len(begins) // 150)]
    ends = np.unique(np.linspace(0, n, min(n, 150) + 1).astype(int))[1:]
    contrast = _contrast(badness, begins_at, ends, noticed_at is None)
    if contrast.size == 0:
        return fallback
    if noticed_at is not None:  # all else alike, what began when it was noticed
        contrast *= np.exp(-0.03 * np.abs(begins_at - at))[:, None]
    i, j = np.unravel_index(int(np.argmax(contrast)), contrast.shape)
    if contrast[i, j] < 1.5:
        return fallback
    return int(begins_at[i]), int(ends[j]) - 1, float(contrast[i, j])


def _contrast(badness: Array, begins: npt.NDArray[np.intp], ends: npt.NDArray[np.intp], just_before: bool) -> Array:
    """Return for each beginning and end by how much the stretch stands out, weighted as in a two-sample test.

    Near a known moment it stands out from all that is looked at; in a long record from what came just before it, for over a day
    the swing of the day would be the largest contrast of all.
    """
    n = badness.size
    total = np.concatenate([[0.0], np.cumsum(badness)])
    size = ends[None, :] - begins[:, None]
    valid = (size > 0) & (size < n)
    size = np.where(valid, size, 1)
    inside = total[ends][None, :] - total[begins][:, None]
    if just_before:
        rest = np.minimum(begins, RECENT_SAMPLES)[:, None] * np.ones_like(size)
        outside = (total[begins] - total[np.maximum(begins - RECENT_SAMPLES, 0)])[:, None]
    else:
        rest = np.where(valid, n - size, 1)
        outside = total[-1] - inside
    weight = np.sqrt(size * rest / (size + rest))
    return np.asarray(np.where(valid & (rest > 0), (inside / size - outside / np.maximum(rest, 1)) * weight, -np.inf))


def _symptom_rows(rows: Rows, symptom: int, aspect: str | None) -> list[int]:
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
class Trouble:
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


def measure(times: Array, services: Sequence[ServiceSeries], rows: Rows, window: Window) -> list[Trouble]:
    """Return what each service shows."""
    found = [Trouble() for _ in services]
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


def _moves(rows: Rows, window: Window) -> Array:
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


def _counting(rows: Rows, window: Window, size: int) -> Array:
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


def _before(raw: Array, window: Window) -> Array:
    """Return the level to which the stretch is compared in its own unit: the last minutes, else the long normal."""
    recent = raw[:, window.recent]
    out = np.where(np.isfinite(recent).any(axis=1), _median(recent), np.nan)
    calm = raw[:, window.normal]
    return np.where(np.isfinite(out), out, np.where(np.isfinite(calm).any(axis=1), _median(calm), np.nan))


def _usual_rate(raw: Array, window: Window) -> Array:
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
    aspects: Mapping[str, list[int]], moved: Array, level: Array, before: Array, trouble: Trouble
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


def _silence(raw: Array, window: Window) -> Array:
    """Return for each row which part of its usual samples is missing in the stretch."""
    usual = np.isfinite(raw[:, window.normal]).mean(axis=1) if window.normal.any() else np.zeros(raw.shape[0])
    last = np.isfinite(raw[:, window.recent]).mean(axis=1) if window.recent.any() else usual
    now = np.isfinite(raw[:, window.trouble]).mean(axis=1) if window.trouble.any() else usual
    expected = np.minimum(usual, last)
    return np.where(expected >= 0.8, np.clip(1.0 - now / np.maximum(expected, 1e-9), 0, 1), 0.0)


def _silent_part(silent: Array, aspects: Mapping[str, list[int]], trouble: Trouble, samples: int) -> float:
    """Return which part of a service's series fell silent; with few requests a sample, silence is chance.

    Requests that stay at zero are silence too: what counts for a dead service often goes on reporting zero.
    """
    if trouble.usual_rate is not None and trouble.usual_rate * samples < 10:
        return 0.0
    parts = [float(silent[r]) for aspect, places in aspects.items() if aspect != "requests" for r in places]
    if trouble.usual_rate is not None:
        parts.append(max(float(silent[aspects["requests"][0]]), 1.0 if trouble.growth < 0.1 else 0.0))
    return float(np.mean(parts)) * samples / (samples + 3.0) if parts else 0.0  # two missing samples are a late scrape


def _onsets(times: Array, rows: Rows, window: Window) -> list[float | None]:
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
