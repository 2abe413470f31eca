"""Gathers everything an incident needs before anything is concluded: all sources at once, under one deadline.

Decides windows and steps, never meaning. Each source ends as ok, empty or unavailable; an error is never evidence.
Called by the workflow, which hands in the sources (live, recording, or played from a bundle).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

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
    MetricSource,
    Neighbour,
    SettledCoverage,
    SourceStatus,
    settle,
)
from advisor.gathering.metrics import MetricWindow, matcher_of, read_metrics
from advisor.gathering.neighbours import choose_neighbours, declared_calls, read_logs, read_neighbours
from advisor.incident import Incident
from advisor.settings import Limits, Service

Progress = Callable[[str, str], None]


@dataclass(frozen=True)
class Sources:
    """Where evidence comes from; None where nothing is configured.

    Attributes:
        changes_of: The history of any configured repository, by name, with its branch; for the neighbours.
        neighbour_logs: Reads the log files of the other services.
        services: Every configured service: the one asked about and those beside it.
    """

    metrics: MetricSource | None
    changes: ChangeSource | None
    logs: LogSource | None
    metrics_name: str = ""
    changes_name: str = ""
    logs_name: str = ""
    changes_of: Callable[[str], tuple[ChangeSource, str]] | None = None
    neighbour_logs: LogSource | None = None
    services: Mapping[str, Service] = field(default_factory=dict)


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
    since = anchor - timedelta(days=limits.changes_days)
    jobs: dict[str, Callable[[], object]] = {}
    history_read = threading.Event()  # one reader at a time: the neighbours' history may lie in the same repository
    own_window: queue.Queue[MetricWindow] = queue.Queue()  # the neighbours are read on the grid of the own metrics
    if sources.metrics is not None:
        metrics = sources.metrics

        def own_metrics() -> MetricWindow:
            window = MetricWindow(begin, until, 60.0, (), ())
            try:
                window = read_metrics(metrics, service.selector, incident, begin, limits)
                return window
            finally:
                own_window.put(window)

        jobs["metrics"] = own_metrics
    if sources.changes is not None and service.configuration is not None:
        changes, configuration = sources.changes, service.configuration
        request = ChangeRequest(
            repository=configuration.repository,
            branch=branch,
            paths=configuration.paths,
            since=since,
            until=until,
            commits_max=limits.commits_max,
        )

        def own_changes() -> ChangeAnswer:
            try:
                return changes.changes(request)
            finally:
                history_read.set()

        jobs["changes"] = own_changes
    if sources.logs is not None and service.logs:
        logs = sources.logs
        files = tuple(pattern for entry in service.logs for pattern in entry.files)
        span = (until - begin).total_seconds()
        log_request = LogRequest(
            service=incident.service, files=files, start=begin, end=until, bucket_seconds=max(1.0, span / 500)
        )
        jobs["logs"] = lambda: read_logs(logs, log_request)
    chosen = choose_neighbours(incident.service, sources.services, limits.neighbours_max)
    if chosen and sources.metrics is not None and sources.changes_of is not None:
        history_of = sources.changes_of
        if "changes" not in jobs:
            history_read.set()

        def changes_of(repository: str) -> tuple[ChangeSource, str]:
            history_read.wait(limits.deadline_seconds)
            return history_of(repository)

        jobs["neighbours"] = lambda: read_neighbours(
            chosen,
            sources.services,
            own_window.get(timeout=limits.deadline_seconds),
            since,
            until,
            limits,
            sources.metrics,
            changes_of,
            sources.neighbour_logs,
        )
    outcomes = _run_all(jobs, limits.deadline_seconds, tell)
    entries: list[Coverage] = []
    window = outcomes.get("metrics")
    change_answer = outcomes.get("changes")
    log_answer = outcomes.get("logs")
    for source in ("metrics", "changes", "logs"):
        entries.append(_coverage(source, source in jobs, outcomes.get(source), source in required, service, incident))
    beside = outcomes.get("neighbours")
    neighbours: tuple[Neighbour, ...] = beside if isinstance(beside, tuple) else ()
    if "neighbours" in jobs:
        entries.append(_neighbour_coverage(beside, neighbours))
    got = window if isinstance(window, MetricWindow) else None
    gathered = Gathered(
        metrics=got.series if got else (),
        metric_query=matcher_of(service.selector),
        metric_source=sources.metrics_name,
        step_seconds=got.step if got else 0.0,
        start=got.start if got else begin,
        end=got.end if got else until,
        repository=sources.changes_name,
        changes=change_answer if isinstance(change_answer, ChangeAnswer) else None,
        logs=log_answer if isinstance(log_answer, LogAnswer) and (log_answer.lines or log_answer.series) else None,
        log_source=sources.logs_name,
        neighbours=neighbours,
        declared_calls=declared_calls(sources.services),
    )
    return settle(tuple(entries), required), gathered


def _neighbour_coverage(outcome: object, neighbours: tuple[Neighbour, ...]) -> Coverage:
    """Return how the services beside the one asked about ended; they are never required."""
    if isinstance(outcome, Exception):
        return Coverage(source="neighbours", status=SourceStatus.UNAVAILABLE, reason=str(outcome), required=False)
    problems = [p for n in neighbours for p in n.problems]
    if not any(n.metrics or (n.changes and n.changes.commits) for n in neighbours):
        said = f": {problems[0]}" if problems else ""
        nothing = f"no series and no commit of {', '.join(n.service for n in neighbours)}{said}"
        return Coverage(source="neighbours", status=SourceStatus.EMPTY, reason=one_line(nothing, 300), required=False)
    reason = one_line("; ".join(problems), 300) if problems else None
    return Coverage(source="neighbours", status=SourceStatus.OK, reason=reason, required=False)


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
    if isinstance(outcome, MetricWindow) and not outcome.series:
        return Coverage(
            source=source,
            status=SourceStatus.EMPTY,
            reason=f"no series matches {{{service.selector}}} in the window; check services.{incident.service}.selector",
            required=required,
        )
    if isinstance(outcome, MetricWindow) and not any(one.values for one in outcome.series):
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
    if isinstance(outcome, MetricWindow) and outcome.warnings:
        reason = one_line("; ".join(outcome.warnings), 300)
    return Coverage(source=source, status=SourceStatus.OK, reason=reason, required=required)
