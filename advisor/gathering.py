"""Gathers everything an incident needs before anything is concluded: all sources at once, under one deadline.

Decides windows and steps, never meaning. Each source ends as ok, empty or unavailable; an error is never evidence.
Called by the workflow, which hands in the sources (live, recording, or played from a bundle).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from advisor.errors import AdvisorError, SourceError, one_line
from advisor.evidence import (
    ChangeAnswer,
    ChangeRequest,
    ChangeSource,
    Coverage,
    Gathered,
    LogAnswer,
    LogRequest,
    LogSource,
    MetricAnswer,
    MetricRequest,
    MetricSource,
    Series,
    SettledCoverage,
    SourceStatus,
    settle,
)
from advisor.incident import Incident
from advisor.settings import Limits, Service

COARSE_SECONDS = 300.0  # as far as Prometheus looks back for a sample: a shorter step would find nothing more
COARSE_POINTS_MAX = 2000
FINE_SECONDS = 15.0
# What a cluster knows about a service's containers, under the names of cAdvisor and kube-state-metrics.
_CONTAINER_METRICS = (
    "container_memory_working_set_bytes|container_memory_rss|container_spec_memory_limit_bytes|container_oom_events_total"
    "|kube_pod_container_status_restarts_total|kube_pod_container_status_last_terminated_reason"
    "|kube_pod_container_status_terminated_reason|kube_pod_container_resource_limits"
)
# Where a service has more series than may be read: those that memory and traffic are told by.
_TELLING_METRICS = (
    "up|jvm_.*|process_.*|base_.*|java_lang_.*|java_nio_.*|catalina_.*|tomcat_.*|container_.*|kube_pod_.*|hikaricp_.*|executor_.*"
    "|http_server_.*|http_client_.*|http_requests.*|.*session.*|.*cache.*|.*queue.*|.*pending.*|.*entries.*|.*heap.*|.*thread.*|.*pool.*|.*buffer.*"
)

Progress = Callable[[str, str], None]


@dataclass(frozen=True)
class Sources:
    """Where evidence comes from; None where nothing is configured."""

    metrics: MetricSource | None
    changes: ChangeSource | None
    logs: LogSource | None
    metrics_name: str = ""
    changes_name: str = ""
    logs_name: str = ""


@dataclass(frozen=True)
class _MetricWindow:
    start: datetime
    end: datetime
    step: float
    series: tuple[Series, ...]
    warnings: tuple[str, ...]


def gather(
    incident: Incident,
    service: Service,
    branch: str,
    sources: Sources,
    limits: Limits,
    required: tuple[str, ...],
    progress: Progress | None = None,
) -> tuple[SettledCoverage, Gathered]:
    """Return how each source ended, and what they gave.

    Args:
        incident: Says which service, and until when to read.
        service: Selector, paths and log files.
        branch: Of the configuration repository.
        sources: Live or recorded.
        limits: Deadline, look-back and sizes.
        required: Sources without which nothing may be diagnosed.
        progress: Called with (source, state) as sources begin and end.
    """
    tell = progress or (lambda _source, _state: None)
    until = incident.until
    anchor = min(until, incident.noticed_at) if incident.noticed_at else until
    begin = anchor - timedelta(hours=limits.lookback_hours)
    jobs: dict[str, Callable[[], object]] = {}
    if sources.metrics is not None:
        metrics = sources.metrics
        jobs["metrics"] = lambda: _read_metrics(metrics, service.selector, incident, begin, limits)
    if sources.changes is not None and service.configuration is not None:
        changes, configuration = sources.changes, service.configuration
        request = ChangeRequest(
            repository=configuration.repository,
            branch=branch,
            paths=configuration.paths,
            since=anchor - timedelta(days=limits.changes_days),
            until=until,
            commits_max=limits.commits_max,
        )
        jobs["changes"] = lambda: changes.changes(request)
    if sources.logs is not None and service.logs:
        logs = sources.logs
        files = tuple(pattern for entry in service.logs for pattern in entry.files)
        span = (until - begin).total_seconds()
        log_request = LogRequest(
            service=incident.service, files=files, start=begin, end=until, bucket_seconds=max(1.0, span / 500)
        )
        jobs["logs"] = lambda: logs.read(log_request)
    outcomes = _run_all(jobs, limits.deadline_seconds, tell)
    entries: list[Coverage] = []
    window = outcomes.get("metrics")
    change_answer = outcomes.get("changes")
    log_answer = outcomes.get("logs")
    for source in ("metrics", "changes", "logs"):
        entries.append(_coverage(source, source in jobs, outcomes.get(source), source in required, service, incident))
    got = window if isinstance(window, _MetricWindow) else None
    gathered = Gathered(
        metrics=got.series if got else (),
        metric_query="{" + service.selector.strip().rstrip(",").strip() + "}",
        metric_source=sources.metrics_name,
        step_seconds=got.step if got else 0.0,
        start=got.start if got else begin,
        end=got.end if got else until,
        repository=sources.changes_name,
        changes=change_answer if isinstance(change_answer, ChangeAnswer) else None,
        logs=log_answer if isinstance(log_answer, LogAnswer) and (log_answer.lines or log_answer.series) else None,
        log_source=sources.logs_name,
    )
    return settle(tuple(entries), required), gathered


def _run_all(jobs: dict[str, Callable[[], object]], deadline_seconds: float, tell: Progress) -> dict[str, object]:
    """Run the jobs side by side; what has not ended by the deadline ends as unavailable and is left behind.

    Daemon threads, because a source that never answers must not keep the process alive.
    """
    done: queue.Queue[tuple[str, object]] = queue.Queue()

    def run(name: str, job: Callable[[], object]) -> None:
        try:
            done.put((name, job()))
        except AdvisorError as error:
            done.put((name, error))
        except Exception as error:  # noqa: BLE001 - one source's defect must not take the others' evidence with it
            done.put((name, SourceError(f"{name}: unexpected {type(error).__name__}: {one_line(str(error), 160)}")))

    for name, job in jobs.items():
        tell(name, "reading")
        threading.Thread(target=run, args=(name, job), daemon=True, name=f"gather-{name}").start()
    outcomes: dict[str, object] = {}
    clock = threading.Event()
    waited = _Deadline(deadline_seconds)
    while len(outcomes) < len(jobs) and not clock.is_set():
        try:
            name, outcome = done.get(timeout=max(0.001, waited.left()))
        except queue.Empty:
            break
        outcomes[name] = outcome
        tell(name, "failed" if isinstance(outcome, Exception) else "done")
    for name in jobs:
        if name not in outcomes:
            outcomes[name] = SourceError(f"{name}: no answer within {deadline_seconds:g} s (limits.deadline_seconds)")
            tell(name, "failed")
    return outcomes


class _Deadline:
    def __init__(self, seconds: float) -> None:
        import time

        self._now = time.monotonic
        self._end = self._now() + seconds

    def left(self) -> float:
        return self._end - self._now()


def _coverage(
    source: str, asked: bool, outcome: object, required: bool, service: Service, incident: Incident
) -> Coverage:
    if not asked:
        hint = {
            "metrics": "not configured; set prometheus.url",
            "changes": f"not configured; set services.{incident.service}.configuration",
            "logs": f"not configured; set services.{incident.service}.logs",
        }[source]
        return Coverage(source=source, status=SourceStatus.UNAVAILABLE, reason=hint, required=required)
    if isinstance(outcome, Exception):
        return Coverage(source=source, status=SourceStatus.UNAVAILABLE, reason=str(outcome), required=required)
    if isinstance(outcome, _MetricWindow) and not outcome.series:
        return Coverage(
            source=source,
            status=SourceStatus.EMPTY,
            reason=f"no series matches {{{service.selector}}} in the window; check services.{incident.service}.selector",
            required=required,
        )
    if isinstance(outcome, _MetricWindow) and not any(one.values for one in outcome.series):
        return Coverage(
            source=source,
            status=SourceStatus.EMPTY,
            reason=f"no sample of {{{service.selector}}} is a number, all are NaN or infinite; look at what the service exports",
            required=required,
        )
    if isinstance(outcome, ChangeAnswer) and not outcome.commits and not outcome.configuration:
        return Coverage(
            source=source,
            status=SourceStatus.EMPTY,
            reason="no commit in the window and no file under the service's paths",
            required=required,
        )
    if isinstance(outcome, LogAnswer) and not outcome.lines and not outcome.series:
        said = f": {outcome.warnings[0]}" if outcome.warnings else ""
        return Coverage(
            source=source, status=SourceStatus.EMPTY, reason=f"no line in the window{said}", required=required
        )
    reason = None
    if isinstance(outcome, _MetricWindow) and outcome.warnings:
        reason = one_line("; ".join(outcome.warnings), 300)
    return Coverage(source=source, status=SourceStatus.OK, reason=reason, required=required)


def _read_metrics(
    metrics: MetricSource, selector: str, incident: Incident, begin: datetime, limits: Limits
) -> _MetricWindow:
    """Read all of the service's series in the part of the look-back in which it has samples, at their own resolution."""
    until = incident.until
    matcher = "{" + selector.strip().rstrip(",").strip() + "}"
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
        return _MetricWindow(begin, until, coarse_step, (), tuple(warnings))
    first = datetime.fromtimestamp(min(t for t, _ in points), until.tzinfo) - timedelta(seconds=coarse_step)
    last = datetime.fromtimestamp(max(t for t, _ in points), until.tzinfo) + timedelta(seconds=coarse_step)
    start, end = max(first, begin), min(last, until)
    newest = datetime.fromtimestamp(max(t for t, _ in points), until.tzinfo)
    by_name = metrics.query_range(
        MetricRequest(query=f"count by (__name__) ({matcher})", start=newest, end=newest, step_seconds=coarse_step)
    )
    names = sorted(
        n for n in {s.name or s.label("__name__") for s in by_name.series} if n and not n.endswith("_bucket")
    )
    interval = _scrape_interval(metrics, matcher, "up" if "up" in names or not names else names[0], start, end)
    step = max(interval, (end - start).total_seconds() / limits.points_max)
    step = float(round(step)) if step >= 1.5 else 1.0
    start = datetime.fromtimestamp(start.timestamp() // step * step, until.tzinfo)
    total = int(max(v for _, v in points))
    many = total > limits.series_max
    if many:
        warnings.append(
            f"the service has {total} series, more than limits.series_max {limits.series_max}; only the telling ones were read"
        )
    narrowed = f',__name__=~"{_TELLING_METRICS}"' if many else ""
    body = matcher[1:-1]
    answer = metrics.query_range(
        MetricRequest(query=f'{{{body}{narrowed},__name__!~".+_bucket"}}', start=start, end=end, step_seconds=step)
    )
    warnings += answer.warnings
    series = list(answer.series)
    series += _container_series(metrics, incident.service, start, end, step, series, warnings)
    return _MetricWindow(start, end, step, tuple(series), tuple(dict.fromkeys(warnings)))


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


def _container_series(
    metrics: MetricSource,
    service: str,
    start: datetime,
    end: datetime,
    step: float,
    known: list[Series],
    warnings: list[str],
) -> list[Series]:
    """Return what the cluster says about the service's containers, where it says it under another job."""
    name = service.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    query = f'{{__name__=~"{_CONTAINER_METRICS}",container="{name}"}}'
    try:
        answer = metrics.query_range(MetricRequest(query=query, start=start, end=end, step_seconds=step))
    except SourceError as error:
        warnings.append(f"container metrics were not read: {error}")
        return []
    seen = {(s.name, s.labels) for s in known}
    return [s for s in answer.series if (s.name, s.labels) not in seen]
