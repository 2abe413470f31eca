"""Reads all of a service's own series, in the part of the look-back in which it has samples, at their own resolution.

Bounded in series, points and bytes: where a service has more than may be read, the names that tell most about work and
memory are read and a warning says so. Decides windows and steps, never meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from advisor.errors import SourceError
from advisor.evidence import MetricAnswer, MetricRequest, MetricSource, Series
from advisor.incident import Incident
from advisor.settings import Limits

COARSE_SECONDS = 300.0  # as far as Prometheus looks back for a sample: a shorter step would find nothing more
COARSE_POINTS_MAX = 2000
FINE_SECONDS = 15.0
SAMPLES_MAX = 900_000  # of one answer, about 25 MB of JSON: more series are read in longer steps
POINTS_MIN = 240  # but never so coarse that an onset is lost
# What a cluster knows about a service's containers, under the names of cAdvisor and kube-state-metrics.
_CONTAINER_METRICS = (
    "container_memory_working_set_bytes|container_memory_rss|container_spec_memory_limit_bytes|container_oom_events_total"
    "|container_cpu_usage_seconds_total|container_cpu_cfs_periods_total|container_cpu_cfs_throttled_periods_total"
    "|container_spec_cpu_quota|container_spec_cpu_period|container_fs_usage_bytes|container_fs_limit_bytes"
    "|kube_pod_container_status_restarts_total|kube_pod_container_status_last_terminated_reason"
    "|kube_pod_container_status_terminated_reason|kube_pod_container_status_waiting_reason|kube_pod_container_status_ready"
    "|kube_pod_container_resource_limits"
)
_WORKLOAD_METRICS = "kube_(?:deployment|statefulset)_(?:spec_replicas|replicas|status_replicas.*)"
_SCALER_METRICS = "kube_horizontalpodautoscaler_(?:spec|status)_.*replicas"
_MESH_METRICS = "istio_requests_total|istio_request_duration_milliseconds_(?:sum|count)"
_GRAPH_METRICS = "traces_service_graph_request_(?:total|failed_total|(?:server|client)_seconds_(?:sum|count))"
# What other exporters say about a service: (metric names, the label that holds the service's name).
_ABOUT = (
    (_CONTAINER_METRICS, "container"),
    (_WORKLOAD_METRICS, "deployment"),
    (_SCALER_METRICS, "horizontalpodautoscaler"),
    (_MESH_METRICS, "destination_workload"),
    (_MESH_METRICS, "source_workload"),
    (_GRAPH_METRICS, "server"),
    (_GRAPH_METRICS, "client"),
)
# Where a service has more series than may be read: names with such a word are read, those of the first line before all.
_TELLING = (
    frozenset(
        "up start_time uptime requests request latency duration errors error failed failures faults fault".split()
    ),
    frozenset(
        "heap memory rss gc metaspace session sessions cache queue lag backlog pool connections pending active busy threads"
        " thread workers worker cpu throttled restarts timeout timeouts rejected retries entries".split()
    ),
    frozenset("size count total seconds bytes max limit used usage open waiting buffer disk fs availability".split()),
)
_WORDS = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class MetricWindow:
    """What was read of a service's metrics, and on which grid."""

    start: datetime
    end: datetime
    step: float
    series: tuple[Series, ...]
    warnings: tuple[str, ...]


def matcher_of(selector: str) -> str:
    """Return a selector of the settings as PromQL matchers in braces."""
    return "{" + selector.strip().rstrip(",").strip() + "}"


def read_metrics(
    metrics: MetricSource, selector: str, incident: Incident, begin: datetime, limits: Limits
) -> MetricWindow:
    """Return all of the service's series between the look-back's begin and the incident's end."""
    until = incident.until
    matcher = matcher_of(selector)
    warnings: list[str] = []
    coarse_step = max(COARSE_SECONDS, (until - begin).total_seconds() / COARSE_POINTS_MAX)
    count = metrics.query_range(
        MetricRequest(query=f"count({matcher})", start=begin, end=until, step_seconds=coarse_step)
    )
    warnings += count.warnings
    # The newest samples may lie behind the last coarse point: a service that was started minutes ago has no others.
    newest_start = max(begin, until - timedelta(seconds=coarse_step))
    fine = metrics.query_range(
        MetricRequest(query=f"count({matcher})", start=newest_start, end=until, step_seconds=FINE_SECONDS)
    )
    points = [(t, v) for s in (*count.series, *fine.series) for t, v in zip(s.times, s.values, strict=True)]
    if not points:
        return MetricWindow(begin, until, coarse_step, (), tuple(warnings))
    first = datetime.fromtimestamp(min(t for t, _ in points), until.tzinfo) - timedelta(seconds=coarse_step)
    last = datetime.fromtimestamp(max(t for t, _ in points), until.tzinfo) + timedelta(seconds=coarse_step)
    start, end = max(first, begin), min(last, until)
    newest = datetime.fromtimestamp(max(t for t, _ in points), until.tzinfo)
    counts = count_by_name(metrics, matcher, newest, newest, coarse_step)
    names = sorted(counts)
    interval = _scrape_interval(metrics, matcher, "up" if "up" in counts or not names else names[0], start, end)
    total = int(max(v for _, v in points))
    many = total > limits.series_max
    chosen = choose_names(counts, limits.series_max) if many else ()
    read = min(total, limits.series_max)
    points_max = min(limits.points_max, max(POINTS_MIN, SAMPLES_MAX // max(read, 1)))
    step = max(interval, (end - start).total_seconds() / points_max)
    step = float(round(step)) if step >= 1.5 else 1.0
    start = datetime.fromtimestamp(start.timestamp() // step * step, until.tzinfo)
    if many:
        warnings.append(
            f"the service has {total} series, more than limits.series_max {limits.series_max}; only the telling ones were read"
        )
    answer = read_series(metrics, matcher, chosen, start, end, step)
    warnings += answer.warnings
    series = list(answer.series)
    series += _series_about(metrics, incident.service, start, end, step, series, warnings)
    return MetricWindow(start, end, step, tuple(series), tuple(dict.fromkeys(warnings)))


def count_by_name(metrics: MetricSource, matcher: str, start: datetime, end: datetime, step: float) -> dict[str, int]:
    """Return how many series each metric name has at most; buckets of histograms are left out."""
    answer = metrics.query_range(
        MetricRequest(query=f"count by (__name__) ({matcher})", start=start, end=end, step_seconds=step)
    )
    found = {(s.name or s.label("__name__")): int(max(s.values, default=1)) for s in answer.series}
    return {name: count for name, count in found.items() if name and not name.endswith("_bucket")}


def choose_names(counts: dict[str, int], series_max: int) -> tuple[str, ...]:
    """Return the names that tell most, as many as fit into ``series_max`` series; one name at least."""

    def rank(name: str) -> tuple[int, int, str]:
        words = set(_WORDS.findall(name.lower()))
        telling = next((i for i, group in enumerate(_TELLING) if words & group), len(_TELLING))
        return telling, counts[name], name

    chosen: list[str] = []
    left = series_max
    for name in sorted(counts, key=rank):
        if counts[name] <= left or not chosen:
            chosen.append(name)
            left -= counts[name]
    return tuple(sorted(chosen))


def read_series(
    metrics: MetricSource, matcher: str, names: Iterable[str], start: datetime, end: datetime, step: float
) -> MetricAnswer:
    """Return the samples of a selector's series without histogram buckets; only those names where any are given."""
    listed = "|".join(re.escape(name).replace("\\", "\\\\") for name in names)
    narrowed = f',__name__=~"{listed}"' if listed else ""
    query = f'{{{matcher[1:-1]}{narrowed},__name__!~".+_bucket"}}'
    return metrics.query_range(MetricRequest(query=query, start=start, end=end, step_seconds=step))


def _scrape_interval(metrics: MetricSource, matcher: str, name: str, start: datetime, end: datetime) -> float:
    """Return the seconds between samples, from how many of them the busiest minute (or quarter hour) holds."""
    step = round(max(1.0, (end - start).total_seconds() / 40), 3)
    for span, seconds in (("1m", 60.0), ("15m", 900.0)):
        answer: MetricAnswer = metrics.query_range(
            MetricRequest(
                query=f"max(count_over_time({name}{matcher}[{span}]))", start=start, end=end, step_seconds=step
            )
        )
        most = max((v for s in answer.series for v in s.values), default=0.0)
        if most >= 2:
            return seconds / most
    return 60.0


def _series_about(
    metrics: MetricSource,
    service: str,
    start: datetime,
    end: datetime,
    step: float,
    known: list[Series],
    warnings: list[str],
) -> list[Series]:
    """Return what the cluster and the mesh say about the service, where they say it under another job."""
    name = service.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    seen = {(s.name, s.labels) for s in known}
    found: list[Series] = []
    for names, label in _ABOUT:
        query = f'{{__name__=~"{names}",{label}="{name}"}}'
        try:
            answer = metrics.query_range(MetricRequest(query=query, start=start, end=end, step_seconds=step))
        except SourceError as error:
            warnings.append(f"container metrics were not read: {error}")
            break
        for s in answer.series:
            if (s.name, s.labels) not in seen:
                seen.add((s.name, s.labels))
                found.append(s)
    return found
