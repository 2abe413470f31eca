"""Reads the services beside the one asked about: what it calls, what calls it, and what else is configured.

A symptom at the edge often has its cause further in. Everything is read on the grid of the service asked about, so that
instants can be compared; a neighbour that cannot be read is a problem of that neighbour and takes nothing else with it.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

from advisor.errors import AdvisorError, SourceError, one_line
from advisor.evidence import (
    ChangeAnswer,
    ChangeRequest,
    ChangeSource,
    LogAnswer,
    LogRequest,
    LogSource,
    MetricSource,
    Neighbour,
    Relation,
    Series,
)
from advisor.gathering.metrics import MetricWindow, choose_names, count_by_name, matcher_of, read_series
from advisor.path_scope import PathScope
from advisor.settings import Limits, Service

_WORKERS = 6  # questions at a time: a small Prometheus answers no faster to more


def declared_calls(services: Mapping[str, Service]) -> tuple[tuple[str, str], ...]:
    """Return the pairs (caller, callee) that the settings declare, sorted."""
    return tuple(sorted({(name, callee) for name, s in services.items() for callee in s.depends_on}))


def choose_neighbours(
    service: str, services: Mapping[str, Service], neighbours_max: int
) -> tuple[tuple[str, Relation], ...]:
    """Return the configured services to read besides ``service``: called ones by distance, then callers, then the rest."""
    calls = declared_calls(services)
    called = _reach(service, {a: [y for x, y in calls if x == a] for a, _ in calls})
    calling = _reach(service, {b: [x for x, y in calls if y == b] for _, b in calls})
    order: dict[str, Relation] = {}
    for names, relation in ((called, Relation.CALLED), (calling, Relation.CALLING), (sorted(services), Relation.OTHER)):
        for name in names:
            if name != service and name in services:
                order.setdefault(name, relation)
    return tuple(order.items())[:neighbours_max]


def _reach(start: str, following: Mapping[str, list[str]]) -> list[str]:
    """Return what can be reached from a service, nearest first; cycles end."""
    found, wave = [start], [start]
    while wave:
        wave = [n for name in wave for n in sorted(following.get(name, [])) if n not in found]
        wave = list(dict.fromkeys(wave))
        found += wave
    return found[1:]


def read_neighbours(
    chosen: tuple[tuple[str, Relation], ...],
    services: Mapping[str, Service],
    window: MetricWindow,
    since: datetime,
    until: datetime,
    limits: Limits,
    metrics: MetricSource | None,
    changes_of: Callable[[str], tuple[ChangeSource, str]],
    logs: LogSource | None,
) -> tuple[Neighbour, ...]:
    """Return what was read of each neighbour, in the order given."""
    series = _side_by_side([partial(_metrics_of, metrics, services[name], window, limits) for name, _ in chosen])
    digests = _side_by_side([partial(_logs_of, logs, name, services[name], window) for name, _ in chosen])
    histories = _changes_of_all([name for name, _ in chosen], services, since, until, limits, changes_of)
    out = []
    for i, (name, relation) in enumerate(chosen):
        problems = [f"{name}: {one_line(str(e), 200)}" for e in (series[i], digests[i]) if isinstance(e, Exception)]
        history = histories.get(name)
        if isinstance(history, Exception):
            problems.append(f"{name}: {one_line(str(history), 200)}")
        configuration = services[name].configuration
        found, digest = series[i], digests[i]
        out.append(
            Neighbour(
                service=name,
                relation=relation,
                metrics=found if isinstance(found, tuple) else (),
                metric_query=matcher_of(services[name].selector),
                repository=configuration.repository if configuration else "",
                changes=history if isinstance(history, ChangeAnswer) else None,
                logs=digest if isinstance(digest, LogAnswer) else None,
                problems=tuple(problems),
            )
        )
    return tuple(out)


def _metrics_of(
    metrics: MetricSource | None, service: Service, window: MetricWindow, limits: Limits
) -> tuple[Series, ...]:
    if metrics is None:
        return ()
    matcher = matcher_of(service.selector)
    span = (window.end - window.start).total_seconds()  # a service that died has no series at the end
    counts = count_by_name(metrics, matcher, window.start, window.end, max(1.0, round(span / 12)))
    if sum(counts.values()) <= limits.neighbour_series_max:
        names: tuple[str, ...] = ()
    else:
        names = choose_names(counts, limits.neighbour_series_max)
    return read_series(metrics, matcher, names, window.start, window.end, window.step).series


def _logs_of(logs: LogSource | None, name: str, service: Service, window: MetricWindow) -> LogAnswer | None:
    if logs is None or not service.logs:
        return None
    files = tuple(pattern for entry in service.logs for pattern in entry.files)
    span = (window.end - window.start).total_seconds()
    return read_logs(
        logs,
        LogRequest(service=name, files=files, start=window.start, end=window.end, bucket_seconds=max(1.0, span / 500)),
    )


def read_logs(logs: LogSource, request: LogRequest) -> LogAnswer:
    """Return what the logs gave, with the grid that its lines are counted on."""
    grid = {"counted_from": request.start, "bucket_seconds": request.bucket_seconds}
    return logs.read(request).model_copy(update=grid)


def _changes_of_all(
    names: list[str],
    services: Mapping[str, Service],
    since: datetime,
    until: datetime,
    limits: Limits,
    changes_of: Callable[[str], tuple[ChangeSource, str]],
) -> dict[str, ChangeAnswer | Exception]:
    """Return each service's part of its repository's history; a repository is asked once for all of them."""
    by_repository: dict[str, list[str]] = {}
    for name in names:
        configuration = services[name].configuration
        if configuration is not None:
            by_repository.setdefault(configuration.repository, []).append(name)
    out: dict[str, ChangeAnswer | Exception] = {}
    for repository, members in sorted(by_repository.items()):
        scopes = {name: services[name].configuration.paths for name in members}  # type: ignore[union-attr]
        try:
            source, branch = changes_of(repository)
            answer = source.changes(
                ChangeRequest(
                    repository=repository,
                    branch=branch,
                    paths=tuple(sorted({path for paths in scopes.values() for path in paths})),
                    since=since,
                    until=until,
                    commits_max=limits.commits_max,
                )
            )
        except AdvisorError as error:
            out |= dict.fromkeys(members, error)
            continue
        for name in members:
            out[name] = part_of(answer, PathScope(scopes[name]))
    return out


def part_of(answer: ChangeAnswer, scope: PathScope) -> ChangeAnswer:
    """Return the part of an answer that lies within some paths: whole commits, with only those files."""
    commits = []
    for commit in answer.commits:
        files = tuple(f for f in commit.files if f.path in scope)
        if files and commit.in_scope:
            commits.append(commit.model_copy(update={"files": files}))
    configuration = tuple(v for v in answer.configuration if v.path in scope)
    return answer.model_copy(update={"commits": tuple(commits), "configuration": configuration, "warnings": ()})


def _side_by_side(jobs: Sequence[Callable[[], object]]) -> list[object]:
    """Return the outcome of each job, an exception where it failed; a few run at a time, in daemon threads."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in range(len(jobs)):
        waiting.put(i)
    outcomes: list[object] = [None] * len(jobs)

    def work() -> None:
        while True:
            try:
                i = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                outcomes[i] = jobs[i]()
            except AdvisorError as error:
                outcomes[i] = error
            except Exception as error:  # noqa: BLE001 - one neighbour's defect must not take the others with it
                outcomes[i] = SourceError(f"unexpected {type(error).__name__}: {one_line(str(error), 160)}")

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(_WORKERS, len(jobs)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
