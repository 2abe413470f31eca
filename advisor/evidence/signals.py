"""Series become signals: the same role under every name that users have, on one time grid, by process life.

A JVM says "heap used" under a dozen names (Micrometer, the JMX exporter old and new, OpenTelemetry, MicroProfile). Here the
names meet their role once, so that everything after this module speaks of roles only.

Pure. Called by the diagnosis and by what draws charts.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from advisor.evidence import Series

Array = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]

# Labels that tell replicas apart rather than kinds of thing.
_REPLICA_LABELS = ("pod", "instance", "pod_name", "kubernetes_pod_name", "host", "hostname", "service_instance_id")
_COUNTER_SUFFIXES = ("_total", "_count", "_sum", "_bucket", "_created")


@dataclass(frozen=True, slots=True)
class Signal:
    """One role's or one metric's values on the common grid; NaN where nothing was sampled.

    Attributes:
        names: The metric names it was made from, for citing.
        series: The digest-bearing source series.
    """

    role: str
    names: tuple[str, ...]
    values: Array
    series: tuple[Series, ...] = ()

    @property
    def present(self) -> bool:
        """Return whether there is anything to reason on."""
        return bool(np.count_nonzero(np.isfinite(self.values)) >= 3)


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the process: grid positions ``first`` to ``last``, both included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """Return how many grid positions it has."""
        return self.last - self.first + 1


@dataclass(slots=True)
class Signals:
    """Everything measured, by role and by name, on one grid.

    Attributes:
        times: Epoch seconds, ``step`` apart.
        roles: Role -> signal, only those that are present.
        gauges: Metric name (with the labels that tell kinds apart) -> signal, for metrics in the middle of a mechanism.
        rates: The same for counters, per second.
        restarts: Epoch seconds at which a process began within the window, in order.
        first_start: When the process that runs as the data begins was started; None where that is not measured.
        lives: Process lives of the instance that tells the story.
    """

    times: Array
    step: float
    roles: dict[str, Signal] = field(default_factory=dict)
    gauges: dict[str, Signal] = field(default_factory=dict)
    rates: dict[str, Signal] = field(default_factory=dict)
    restarts: tuple[float, ...] = ()
    first_start: float | None = None
    lives: tuple[Life, ...] = ()

    def get(self, role: str) -> Signal | None:
        """Return a role's signal where it is present."""
        return self.roles.get(role)


def _heap(labels: dict[str, str]) -> bool:
    kind = labels.get("area") or labels.get("jvm_memory_type") or labels.get("type") or ""
    return kind.lower().replace("_", "") == "heap"


def _pool(labels: dict[str, str]) -> str:
    return (
        labels.get("id") or labels.get("pool") or labels.get("jvm_memory_pool_name") or labels.get("name") or ""
    ).lower()


_MEMORY_USED = re.compile(
    r"^(jvm_memory_(used_bytes|bytes_used|usage_bytes|used)|process_runtime_jvm_memory_usage(_bytes)?)$"
)
_MEMORY_MAX = re.compile(
    r"^(jvm_memory_(max_bytes|bytes_max|limit_bytes|max|limit)|process_runtime_jvm_memory_limit(_bytes)?)$"
)
_POOL_USED = re.compile(r"^(jvm_memory_pool_(used_bytes|bytes_used|used)|java_lang_memorypool_usage_used)$")
_POOL_MAX = re.compile(r"^(jvm_memory_pool_(max_bytes|bytes_max|max)|java_lang_memorypool_usage_max)$")
_HEAP_POOL = re.compile(r"eden|survivor|old|tenured|zheap|shenandoah|epsilon")

_OUTBOUND = frozenset({"client", "downstream", "upstream", "outbound", "dependency", "remote", "backend"})


def _outbound(name: str) -> bool:
    """Return whether a metric is about calls that the service makes, by its words; a database pool's waiting counts."""
    return bool(_OUTBOUND & set(re.split(r"[_.:]+", name))) or name.startswith(
        ("hikaricp_connections_usage", "hikaricp_connections_acquire")
    )


Rule = tuple[str, Callable[[str, dict[str, str]], bool]]


def _name(pattern: str) -> Callable[[str, dict[str, str]], bool]:
    compiled = re.compile(pattern)
    return lambda name, _labels: compiled.search(name) is not None


# First match wins within a role; a series may play several roles. Names as Micrometer 1.x, JMX exporter 0.x and 1.x,
# client_java 0.x and 1.x, OpenTelemetry semantic conventions, MicroProfile Metrics, cAdvisor and kube-state-metrics write them.
_RULES: tuple[Rule, ...] = (
    ("heap_used", lambda n, la: _MEMORY_USED.match(n) is not None and _heap(la)),
    (
        "heap_used",
        _name(
            r"^(java_lang_memory_heapmemoryusage_used|jvm_memory_heap_used(_bytes)?|base_memory_usedheap(_bytes)?"
            r"|jvm_heap_(memory_)?used(_bytes)?|heap_(memory_)?used(_bytes)?|memory_heap_used(_bytes)?|jvm_heap_bytes)$"
        ),
    ),
    ("heap_pool_used", lambda n, la: _POOL_USED.match(n) is not None and _HEAP_POOL.search(_pool(la)) is not None),
    ("heap_max", lambda n, la: _MEMORY_MAX.match(n) is not None and _heap(la)),
    (
        "heap_max",
        _name(
            r"^(java_lang_memory_heapmemoryusage_max|jvm_memory_heap_max(_bytes)?|base_memory_maxheap(_bytes)?"
            r"|jvm_heap_(memory_)?max(_bytes)?|heap_(memory_)?max(_bytes)?|memory_heap_max(_bytes)?|jvm_heap_limit_bytes)$"
        ),
    ),
    ("heap_pool_max", lambda n, la: _POOL_MAX.match(n) is not None and _HEAP_POOL.search(_pool(la)) is not None),
    (
        "metaspace_used",
        lambda n, la: (_MEMORY_USED.match(n) or _POOL_USED.match(n)) is not None and _pool(la) == "metaspace",
    ),
    ("metaspace_used", _name(r"^(jvm_)?metaspace_used(_bytes)?$")),
    (
        "metaspace_max",
        lambda n, la: (_MEMORY_MAX.match(n) or _POOL_MAX.match(n)) is not None and _pool(la) == "metaspace",
    ),
    ("metaspace_max", _name(r"^(jvm_)?metaspace_max(_bytes)?$")),
    (
        "classes_loaded",
        _name(
            r"^(jvm_classes_loaded(_classes)?|jvm_classes_currently_loaded|jvm_class_count|java_lang_classloading_loadedclasscount|base_classloader_loadedclasses_count)$"
        ),
    ),
    (
        "direct_used",
        lambda n, la: (
            re.match(
                r"^(jvm_buffer_(memory_used|pool_used|total_used|memory_usage|usage)(_bytes)?|process_runtime_jvm_buffer_usage(_bytes)?|java_nio_bufferpool_memoryused)$",
                n,
            )
            is not None
            and "direct" in (la.get("id") or la.get("pool") or la.get("jvm_buffer_pool_name") or la.get("name") or "")
        ),
    ),
    ("direct_used", _name(r"^((jvm_)?direct_(memory|buffers?)_used(_bytes)?|netty_.*direct.*used.*)$")),
    ("direct_max", _name(r"^((jvm_)?direct_(memory|buffers?)_max(_bytes)?)$")),
    (
        "threads",
        _name(
            r"^(jvm_threads_live(_threads)?|jvm_threads_current|jvm_thread_count|java_lang_threading_threadcount|base_thread_count|process_runtime_jvm_threads_count)$"
        ),
    ),
    ("rss", _name(r"^container_memory_working_set_bytes$")),
    (
        "process_rss",
        _name(
            r"^(process_resident_memory_bytes|container_memory_rss|container_memory_usage_bytes|process_memory_rss_bytes)$"
        ),
    ),
    (
        "memory_limit",
        lambda n, la: (
            n in ("container_spec_memory_limit_bytes", "container_memory_limit_bytes", "cgroup_memory_limit_bytes")
            or (
                n in ("kube_pod_container_resource_limits", "kube_pod_container_resource_limits_memory_bytes")
                and la.get("resource", "memory") == "memory"
            )
        ),
    ),
    (
        "gc_seconds",
        _name(
            r"^(jvm_gc_pause_seconds_sum|jvm_gc_collection_seconds_sum|jvm_gc_duration_seconds_sum|process_runtime_jvm_gc_duration_seconds_sum|base_gc_time(_total)?_seconds(_total)?)$"
        ),
    ),
    (
        "gc_milliseconds",
        _name(
            r"^(java_lang_garbagecollector_collectiontime(_total)?|process_runtime_jvm_gc_duration_milliseconds_sum|jvm_gc_time_ms(_total)?)$"
        ),
    ),
    ("start_time", _name(r"^(process_start_time_seconds)$")),
    (
        "uptime",
        _name(r"^(process_uptime_seconds|jvm_uptime_seconds|java_lang_runtime_uptime|base_jvm_uptime(_seconds)?)$"),
    ),
    (
        "container_restarts",
        _name(r"^(kube_pod_container_status_restarts_total|container_restart_count|container_restarts_total)$"),
    ),
    (
        "oom_killed",
        lambda n, la: (
            n.startswith("kube_pod_container_status_")
            and n.endswith("terminated_reason")
            and la.get("reason") == "OOMKilled"
        ),
    ),
    ("oom_events", _name(r"^(container_oom_events_total|node_vmstat_oom_kill)$")),
    (
        "requests",
        _name(
            r"^(http_server_requests?(_duration)?(_seconds)?_count|http_requests_total|http_server_requests_total|http_requests_received_total|.*_http_requests?_total|tomcat_global_request_(seconds_)?count|catalina_globalrequestprocessor_requestcount(_total)?|requests_total|jetty_requests_(total|seconds_count)|undertow_request_count_total)$"
        ),
    ),
    (
        "request_seconds",
        _name(
            r"^(http_server_requests?(_duration)?(_seconds)?_sum|tomcat_global_request_(seconds_)?sum|http_request_duration_seconds_sum)$"
        ),
    ),
    (
        "sessions_created",
        _name(
            r"(?i)sessions?_created(_sessions)?(_total)?$|sessioncounter(_total)?$|sessions_opened_total$|logins?_total$"
        ),
    ),
    (
        "dependency_seconds",
        lambda n, _la: (
            _outbound(n)
            and n.endswith(("_sum", "_seconds_total"))
            and re.search(r"second|duration|latency|usage|acquire|time", n) is not None
        ),
    ),
    (
        "dependency_calls",
        lambda n, _la: (
            _outbound(n) and (n.endswith("_count") or re.search(r"(calls|requests)(_count)?_total$", n) is not None)
        ),
    ),
    ("up", _name(r"^up$")),
)


# What a process exports about the machine and about itself: never what a configuration key holds.
_OF_THE_MACHINE = (
    "disk_",
    "system_",
    "process_",
    "logback_",
    "application_",
    "scrape_",
    "jvm_info",
    "node_",
    "go_",
    "up{",
)


def is_counter(name: str) -> bool:
    """Return whether a metric name is a counter's by the naming rules of the exposition formats."""
    return name.endswith(_COUNTER_SUFFIXES) and not name.endswith("_created_sessions")


def build_signals(series: Iterable[Series], step: float, log_restarts: Iterable[float] = ()) -> Signals:
    """Return the signals of a service.

    Args:
        series: Raw samples on a grid ``step`` seconds apart, as a range query gives them.
        step: Seconds between points.
        log_restarts: Epoch seconds at which a log says that a process began.
    """
    usable = [s for s in series if len(s.times) >= 2]
    if not usable or step <= 0:
        return Signals(times=np.array([], dtype=float), step=max(step, 1.0), restarts=tuple(sorted(log_restarts)))
    first = min(s.times[0] for s in usable)
    last = max(s.times[-1] for s in usable)
    size = round((last - first) / step) + 1
    signals = Signals(times=np.asarray(first + np.arange(size) * step, dtype=np.float64), step=step)
    on_grid = {id(s): _on_grid(s, first, step, size) for s in usable}
    replica = _story_replica(usable, on_grid)
    by_role: dict[str, list[Series]] = defaultdict(list)
    for s in usable:
        labels = dict(s.labels)
        lowered = s.name.lower()
        for role, matches in _RULES:
            if matches(lowered, labels) and s not in by_role[role]:
                by_role[role].append(s)
    signals.restarts = _restarts(signals, by_role, on_grid, log_restarts)
    signals.first_start = _first_start(signals, by_role, on_grid)
    _memory_roles(signals, by_role, on_grid, replica)
    _counter_roles(signals, by_role, on_grid, usable)
    _by_name(signals, usable, on_grid)
    signals.lives = _lives(signals)
    return signals


def _on_grid(s: Series, first: float, step: float, size: int) -> Array:
    values = np.full(size, np.nan)
    index = np.clip(np.rint((np.asarray(s.times) - first) / step).astype(int), 0, size - 1)
    values[index] = np.asarray(s.values)
    return values


def _replica_of(s: Series) -> str:
    labels = dict(s.labels)
    return next((labels[name] for name in _REPLICA_LABELS if labels.get(name)), "")


def _story_replica(series: list[Series], on_grid: dict[int, Array]) -> frozenset[str]:
    """Return the replicas whose samples are stitched into one story; empty means all.

    Pods that follow one another are one story. Of replicas that run side by side, the one that comes nearest to its end
    tells it: the mean of several sawteeth has no floor.
    """
    heap = [
        s
        for s in series
        if any(role in ("heap_used", "heap_pool_used") and m(s.name.lower(), dict(s.labels)) for role, m in _RULES)
    ]
    replicas: dict[str, list[Series]] = defaultdict(list)
    for s in heap:
        replicas[_replica_of(s)].append(s)
    if len(replicas) < 2:
        return frozenset()
    spans = {
        name: (min(s.times[0] for s in group), max(s.times[-1] for s in group)) for name, group in replicas.items()
    }
    peak = {name: float(np.nanmax(_total([on_grid[id(s)] for s in group]))) for name, group in replicas.items()}
    story: list[str] = []
    for name in sorted(spans, key=lambda n: (-peak[n], n)):
        a, b = spans[name]
        overlap = max((min(b, spans[o][1]) - max(a, spans[o][0]) for o in story), default=0.0)
        if overlap <= 0.2 * (b - a):
            story.append(name)
    return frozenset(story)


def _total(arrays: list[Array]) -> Array:
    stack = np.vstack(arrays)
    total = np.nansum(stack, axis=0)
    total[np.all(np.isnan(stack), axis=0)] = np.nan
    return np.asarray(total, dtype=np.float64)


def _largest(arrays: list[Array]) -> Array:
    stack = np.vstack(arrays)
    empty = np.all(np.isnan(stack), axis=0)
    stack[:, empty] = 0.0
    largest = np.asarray(np.nanmax(stack, axis=0), dtype=float)
    largest[empty] = np.nan
    return largest


def _summed_by_replica(
    group: list[Series], on_grid: dict[int, Array], story: frozenset[str], drop_negative: bool = False
) -> Array:
    """Return the sum over pools of each replica, then the largest replica of the story at each instant."""
    per: dict[str, list[Array]] = defaultdict(list)
    for s in group:
        name = _replica_of(s)
        if story and name and name not in story:
            continue
        values = on_grid[id(s)]
        per[name].append(np.where(values < 0, np.nan, values) if drop_negative else values)
    if not per:
        return np.full(next(iter(on_grid.values())).shape, np.nan)
    return _largest([_total(arrays) for arrays in per.values()])


def _put(signals: Signals, role: str, group: list[Series], values: Array) -> None:
    signal = Signal(role, tuple(sorted({s.name for s in group})), values, tuple(group))
    if signal.present:
        signals.roles[role] = signal


def _memory_roles(
    signals: Signals, by_role: dict[str, list[Series]], on_grid: dict[int, Array], story: frozenset[str]
) -> None:
    for role, fallback in (("heap_used", "heap_pool_used"), ("heap_max", "heap_pool_max")):
        group = by_role[role] or by_role[fallback]
        # Some exporters give both the whole (no pool label) and the pools under one name: the whole is enough then.
        whole = [s for s in group if not _pool(dict(s.labels))]
        group = whole or group
        if group:
            _put(signals, role, group, _summed_by_replica(group, on_grid, story, drop_negative=True))
    for role in (
        "metaspace_used",
        "metaspace_max",
        "classes_loaded",
        "direct_used",
        "direct_max",
        "threads",
        "rss",
        "process_rss",
        "memory_limit",
    ):
        group = by_role[role]
        if group:
            values = _summed_by_replica(
                group, on_grid, story if role != "memory_limit" else frozenset(), drop_negative=True
            )
            if role.endswith(("_max", "limit")):
                # "no limit" is written as a huge number, and by cAdvisor as zero
                values = np.where((values > 2**62) | (values <= 0), np.nan, values)
            _put(signals, role, group, values)
    if by_role["start_time"]:
        _put(signals, "start_time", by_role["start_time"], _largest([on_grid[id(s)] for s in by_role["start_time"]]))
    if "rss" not in signals.roles and "process_rss" in signals.roles:
        signals.roles["rss"] = signals.roles["process_rss"]


def rate(values: Array, step: float) -> Array:
    """Return the per-second rate of a counter, resets allowed, smoothed over five points; NaN across gaps."""
    delta = np.diff(values, prepend=np.nan)
    delta = np.where(delta < 0, values, delta)  # a reset starts again from zero
    per_second = delta / step
    return smooth(per_second, 5)


def smooth(values: Array, width: int) -> Array:
    """Return the mean over a trailing window, gaps skipped."""
    if width <= 1 or values.size == 0:
        return values
    finite = np.isfinite(values)
    total = np.cumsum(np.where(finite, values, 0.0))
    count = np.cumsum(finite)
    total_before = np.concatenate([np.zeros(width), total[:-width]]) if values.size > width else np.zeros(values.size)
    count_before = np.concatenate([np.zeros(width), count[:-width]]) if values.size > width else np.zeros(values.size)
    n = count - count_before
    with np.errstate(invalid="ignore", divide="ignore"):
        out = (total - total_before) / n
    return np.where(n > 0, out, np.nan)


def _counts_requests(name: str) -> bool:
    """Return whether a counter counts work that came in, by its words: for exporters that nobody listed."""
    words = set(re.split(r"[_.:]+", name))
    incoming = bool(
        words
        & {"requests", "request", "requestcount", "orders", "messages", "events", "calls", "hits", "jobs", "checkouts"}
    )
    return (
        is_counter(name)
        and name.endswith(("_total", "_count"))
        and incoming
        and not words
        & {
            "client",
            "downstream",
            "upstream",
            "error",
            "errors",
            "failed",
            "failures",
            "rejected",
            "retry",
            "retries",
            "gc",
            "cache",
            "log",
            "logback",
            "hikaricp",
            "dropped",
            "prometheus",
            "scrape",
            "outbound",
            "dependency",
        }
    )


def _counter_roles(
    signals: Signals, by_role: dict[str, list[Series]], on_grid: dict[int, Array], on_grid_series: list[Series]
) -> None:
    for role in (
        "gc_seconds",
        "gc_milliseconds",
        "requests",
        "request_seconds",
        "sessions_created",
        "dependency_seconds",
        "dependency_calls",
    ):
        group = by_role[role]
        if group:
            _put(signals, role, group, _total([rate(on_grid[id(s)], signals.step) for s in group]))
    if "gc_seconds" not in signals.roles and "gc_milliseconds" in signals.roles:
        ms = signals.roles["gc_milliseconds"]
        signals.roles["gc_seconds"] = Signal("gc_seconds", ms.names, ms.values / 1000.0, ms.series)
    if "requests" not in signals.roles:
        other = [s for s in on_grid_series if _counts_requests(s.name.lower())]
        if other:
            _put(signals, "requests", other, _total([rate(on_grid[id(s)], signals.step) for s in other]))
    if "requests" not in signals.roles and "sessions_created" in signals.roles:
        created = signals.roles["sessions_created"]
        signals.roles["requests"] = Signal("requests", created.names, created.values, created.series)
    errors = [
        s
        for s in by_role["requests"]
        if re.match(
            r"^5|SERVER_ERROR",
            dict(s.labels).get("status")
            or dict(s.labels).get("code")
            or dict(s.labels).get("outcome")
            or dict(s.labels).get("http_response_status_code")
            or "",
        )
    ]
    if errors:
        _put(signals, "errors", errors, _total([rate(on_grid[id(s)], signals.step) for s in errors]))
    for name, top, bottom in (
        ("latency", "request_seconds", "requests"),
        ("dependency_latency", "dependency_seconds", "dependency_calls"),
    ):
        a, b = signals.get(top), signals.get(bottom)
        if a and b:
            with np.errstate(invalid="ignore", divide="ignore"):
                values = np.where(b.values > 0, a.values / b.values, np.nan)
            signal = Signal(name, a.names + b.names, values, a.series + b.series)
            if signal.present:
                signals.roles[name] = signal


def _by_name(signals: Signals, series: list[Series], on_grid: dict[int, Array]) -> None:
    groups: dict[str, list[Series]] = defaultdict(list)
    for s in series:
        kinds = [
            f"{k}={v}"
            for k, v in s.labels
            if "/" not in v  # a path is where something is, not what it is
            and k
            not in (
                *_REPLICA_LABELS,
                "job",
                "service",
                "namespace",
                "container",
                "application",
                "app",
                "node",
                "image",
                "uid",
                "endpoint",
            )
        ]
        groups[s.name + ("{" + ",".join(kinds) + "}" if kinds else "")].append(s)
    for key, group in groups.items():
        name = group[0].name
        if name.endswith("_bucket") or name.startswith(_OF_THE_MACHINE):
            continue
        arrays = [on_grid[id(s)] for s in group]
        if is_counter(name):
            signals.rates[key] = Signal(key, (name,), _total([rate(a, signals.step) for a in arrays]), tuple(group))
        else:
            signals.gauges[key] = Signal(key, (name,), _total(arrays), tuple(group))


def _restarts(
    signals: Signals, by_role: dict[str, list[Series]], on_grid: dict[int, Array], log_restarts: Iterable[float]
) -> tuple[float, ...]:
    """Return when processes began: start times first, then uptime, then container restart counts, then resets, then logs."""
    found: list[float] = []
    begin, end = float(signals.times[0]), float(signals.times[-1])
    starts = [s for s in by_role["start_time"]]
    for s in starts:
        values = on_grid[id(s)]
        distinct = np.unique(np.round(values[np.isfinite(values)]))
        found += [float(v) for v in distinct if begin + signals.step < v <= end + signals.step]
        if distinct.size and not any(begin - 86400 * 3650 < v <= end + 60 for v in distinct):
            # Start times of another clock (stretched or shifted data): the change of the value is when it began.
            found += _changes(values, signals.times)
        elif distinct.size > 1:
            seen = _changes(values, signals.times)
            if len(seen) > len([v for v in distinct if begin < v <= end]):
                found += seen
    if not found:
        for s in by_role["uptime"]:
            values = on_grid[id(s)]
            found += [float(signals.times[i]) for i in _drops(values)]
    if not found:
        for s in by_role["container_restarts"]:
            values = on_grid[id(s)]
            known = np.flatnonzero(np.isfinite(values))
            jumps = known[1:][np.diff(values[known]) > 0]
            found += [float(signals.times[i]) for i in jumps]
    if not found:
        found += _common_resets(signals, by_role, on_grid)
    measured = bool(by_role["start_time"] or by_role["uptime"] or by_role["container_restarts"])
    if not measured:  # a log says "starting" and "started", each once a start: only where no metric knows better
        found += [t for t in log_restarts if begin < t <= end]
    return _merged(found, max(3 * signals.step, (0.004 if measured else 0.02) * (end - begin)))


def _first_start(signals: Signals, by_role: dict[str, list[Series]], on_grid: dict[int, Array]) -> float | None:
    """Return when the first process of the window began; None where no plausible start time or uptime is exported."""
    begin = float(signals.times[0])
    for s in by_role["start_time"]:
        starts = on_grid[id(s)][np.isfinite(on_grid[id(s)])]
        if starts.size and begin - 86400 * 400 < starts[0] <= begin + signals.step:
            return float(starts[0])
    for s in by_role["uptime"]:
        values = on_grid[id(s)]
        known = np.flatnonzero(np.isfinite(values))
        if known.size and known[0] < 5:
            seconds = float(values[known[0]])
            return float(signals.times[known[0]]) - (seconds / 1000.0 if "uptime" == s.name[-6:].lower() else seconds)
    return None


def _changes(values: Array, times: Array) -> list[float]:
    known = np.flatnonzero(np.isfinite(values))
    return [float(times[i]) for i in known[1:][np.abs(np.diff(values[known])) > 1.0]]


def _drops(values: Array) -> Positions:
    known = np.flatnonzero(np.isfinite(values))
    return np.asarray(known[1:][np.diff(values[known]) < 0])


def _common_resets(signals: Signals, by_role: dict[str, list[Series]], on_grid: dict[int, Array]) -> list[float]:
    counters = by_role["gc_seconds"] + by_role["gc_milliseconds"] + by_role["requests"]
    if not counters:
        return []
    votes = np.zeros(signals.times.size)
    for s in counters:
        votes[_drops(on_grid[id(s)])] += 1
    return [float(signals.times[i]) for i in np.flatnonzero(votes >= max(1, len(counters) // 3))]


def _merged(instants: list[float], apart: float) -> tuple[float, ...]:
    out: list[float] = []
    for t in sorted(instants):
        if not out or t - out[-1] > apart:
            out.append(t)
    return tuple(out)


def _lives(signals: Signals) -> tuple[Life, ...]:
    if signals.times.size == 0:
        return ()
    edges = sorted({int(np.searchsorted(signals.times, t - signals.step / 2)) for t in signals.restarts})
    bounds = [0, *[e for e in edges if 0 < e < signals.times.size], signals.times.size]
    return tuple(Life(a, b - 1) for a, b in itertools.pairwise(bounds) if b > a)
