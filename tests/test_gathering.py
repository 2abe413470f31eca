"""Gathering: every source ends as ok, empty or unavailable by the deadline, and none takes another with it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from advisor.errors import AdvisorError, IllegalTransition, SourceMalformed, SourceRefused, SourceUnavailable
from advisor.evidence import (
    ChangeAnswer,
    ChangeRequest,
    ConfigValue,
    Gathered,
    LogAnswer,
    LogRequest,
    MetricAnswer,
    MetricRequest,
    Series,
    SeriesListAnswer,
    SeriesListRequest,
    SettledCoverage,
    SourceStatus,
)
from advisor.gathering import Sources, gather
from advisor.incident import open_incident
from advisor.settings import Configuration, Limits, LogFiles, Service

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
BEGIN = NOW - timedelta(hours=24)
SERVICE = Service(
    selector='job="checkout"',
    configuration=Configuration(repository="config", paths=("apps/**",)),
    logs=(LogFiles(files=("logs/*.log",)),),
)
OK, EMPTY, UNAVAILABLE = SourceStatus.OK, SourceStatus.EMPTY, SourceStatus.UNAVAILABLE


class Metrics:
    """A metric source with samples between two instants, every ``interval`` seconds, that remembers what it was asked."""

    def __init__(
        self,
        first: datetime = NOW - timedelta(minutes=20),
        last: datetime = NOW,
        interval: float = 1.0,
        series: int = 3,
    ) -> None:
        self.first, self.last, self.interval, self.series = first.timestamp(), last.timestamp(), interval, series
        self.asked: list[MetricRequest] = []
        self.container_error: AdvisorError | None = None
        self.warnings: tuple[str, ...] = ()

    def query_range(self, request: MetricRequest) -> MetricAnswer:
        self.asked.append(request)
        if 'container="' in request.query:
            if self.container_error is not None:
                raise self.container_error
            return MetricAnswer(series=(self._series("container_memory_working_set_bytes", request, lambda _t: 5e8),))
        if request.query.startswith("count"):
            return MetricAnswer(
                series=(self._series("up", request, lambda _t: float(self.series)),), warnings=self.warnings
            )
        if "count_over_time" in request.query:
            span = 60.0 if "[1m]" in request.query else 900.0
            return MetricAnswer(
                series=(self._series("", request, lambda t: min(span, t - self.first + 1) // self.interval),)
            )
        return MetricAnswer(series=tuple(self._series(f"m{i}", request, lambda t: t % 7) for i in range(self.series)))

    def _series(self, name: str, request: MetricRequest, value: Callable[[float], float]) -> Series:
        t, times = request.start.timestamp(), []
        while t <= request.end.timestamp() + 1e-6:
            if self.first <= t <= self.last:
                times.append(t)
            t += request.step_seconds
        return Series(name=name, times=tuple(times), values=tuple(value(t) for t in times))

    def list_series(self, request: SeriesListRequest) -> SeriesListAnswer:
        raise AssertionError("not needed")


class NoMetrics(Metrics):
    """A server that answers, and has nothing."""

    def query_range(self, request: MetricRequest) -> MetricAnswer:
        self.asked.append(request)
        return MetricAnswer()


class Changes:
    """A change source that gives one answer."""

    def __init__(self, answer: ChangeAnswer | None = None) -> None:
        self.answer = answer or ChangeAnswer(
            head="a" * 40, head_at=NOW, configuration=(ConfigValue(path="a", key="b", value="c"),)
        )
        self.asked: list[ChangeRequest] = []

    def changes(self, request: ChangeRequest) -> ChangeAnswer:
        self.asked.append(request)
        return self.answer


class Logs:
    """A log source that gives one answer."""

    def __init__(self, answer: LogAnswer | None = None) -> None:
        self.answer = answer or LogAnswer(lines=10)
        self.asked: list[LogRequest] = []

    def read(self, request: LogRequest) -> LogAnswer:
        self.asked.append(request)
        return self.answer


class Failing:
    """Any source, failing its own way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def query_range(self, request: MetricRequest) -> MetricAnswer:
        raise self.error

    def list_series(self, request: SeriesListRequest) -> SeriesListAnswer:
        raise self.error

    def changes(self, request: ChangeRequest) -> ChangeAnswer:
        raise self.error

    def read(self, request: LogRequest) -> LogAnswer:
        raise self.error


class Stuck:
    """A source that answers when it is let go, which is after the deadline."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def query_range(self, request: MetricRequest) -> MetricAnswer:
        self.free.wait(20)
        return MetricAnswer()

    def list_series(self, request: SeriesListRequest) -> SeriesListAnswer:
        raise AssertionError("not needed")

    def changes(self, request: ChangeRequest) -> ChangeAnswer:
        self.free.wait(20)
        return ChangeAnswer(head="a" * 40, head_at=NOW)

    def read(self, request: LogRequest) -> LogAnswer:
        self.free.wait(20)
        return LogAnswer()


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    source = Stuck()
    yield source
    source.free.set()


def run(
    metrics: object = None, changes: object = None, logs: object = None, required: tuple[str, ...] = ("metrics", "changes"),
    limits: Limits | None = None, service: Service = SERVICE, told: list[tuple[str, str]] | None = None,
) -> tuple[SettledCoverage, Gathered]:  # fmt: skip
    incident = open_incident("inc-1", "checkout", NOW, None, NOW, "")
    sources = Sources(metrics, changes, logs, "prometheus", "config", "files")  # type: ignore[arg-type]
    progress = (lambda source, state: told.append((source, state))) if told is not None else None
    return gather(incident, service, "main", sources, limits or Limits(), required, progress)


def statuses(settled: SettledCoverage) -> dict[str, SourceStatus]:
    return {e.source: e.status for e in settled.entries}


def reason(settled: SettledCoverage, source: str) -> str:
    return next(e.reason or "" for e in settled.entries if e.source == source)


# --- how sources end ---------------------------------------------------------------------------------------------------


def test_three_good_sources_end_ok_and_tell_it() -> None:
    told: list[tuple[str, str]] = []
    settled, gathered = run(Metrics(), Changes(), Logs(), told=told)
    assert statuses(settled) == {"metrics": OK, "changes": OK, "logs": OK}
    assert settled.missing_required == ()
    assert gathered.metrics and gathered.changes and gathered.logs
    assert (gathered.metric_source, gathered.repository, gathered.log_source) == ("prometheus", "config", "files")
    assert gathered.metric_query == '{job="checkout"}'
    assert sorted(told) == sorted((s, state) for s in ("metrics", "changes", "logs") for state in ("reading", "done"))
    assert {t for t in told[:3]} == {(s, "reading") for s in ("metrics", "changes", "logs")}


@pytest.mark.parametrize("source", ["metrics", "changes", "logs"])
@pytest.mark.parametrize(
    "error",
    [
        SourceUnavailable("connection refused"), SourceRefused("403 forbidden"), SourceMalformed("HTML for JSON"), ValueError("a defect\nof ours"),
        MemoryError(), RecursionError("deep"),
    ],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_one_source_that_fails_takes_no_other_with_it(source: str, error: Exception) -> None:
    told: list[tuple[str, str]] = []
    sources: dict[str, object] = {"metrics": Metrics(), "changes": Changes(), "logs": Logs(), source: Failing(error)}
    settled, gathered = run(**sources, told=told)  # type: ignore[arg-type]
    assert statuses(settled) == {s: UNAVAILABLE if s == source else OK for s in ("metrics", "changes", "logs")}
    said = reason(settled, source)
    assert (str(error) in said) if isinstance(error, AdvisorError) else (f"unexpected {type(error).__name__}" in said)
    assert said.isprintable()
    assert (source, "failed") in told
    held = {"metrics": gathered.metrics, "changes": gathered.changes, "logs": gathered.logs}
    assert not held.pop(source)
    assert all(held.values())


@pytest.mark.parametrize("source", ["metrics", "changes", "logs"])
def test_a_source_that_does_not_answer_is_left_behind_at_the_deadline(source: str, stuck: Stuck) -> None:
    told: list[tuple[str, str]] = []
    sources: dict[str, object] = {"metrics": Metrics(), "changes": Changes(), "logs": Logs(), source: stuck}
    begin = time.monotonic()
    settled, _ = run(**sources, limits=Limits(deadline_seconds=0.6), told=told)  # type: ignore[arg-type]
    assert time.monotonic() - begin < 3
    assert statuses(settled) == {s: UNAVAILABLE if s == source else OK for s in ("metrics", "changes", "logs")}
    assert "no answer within 0.6 s (limits.deadline_seconds)" in reason(settled, source)
    assert told[-1] == (source, "failed")


def test_sources_are_read_side_by_side() -> None:
    together = threading.Barrier(3, timeout=10)

    class Meets(Metrics, Changes, Logs):
        def __init__(self) -> None:
            Metrics.__init__(self)
            self.answer = None  # type: ignore[assignment]
            self.met = False

        def query_range(self, request: MetricRequest) -> MetricAnswer:
            if not self.met:
                self.met = True
                together.wait()
            return Metrics.query_range(self, request)

        def changes(self, request: ChangeRequest) -> ChangeAnswer:
            together.wait()
            return Changes().answer

        def read(self, request: LogRequest) -> LogAnswer:
            together.wait()
            return Logs().answer

    settled, _ = run(Meets(), Meets(), Meets())
    assert set(statuses(settled).values()) == {OK}


def test_nothing_there_is_empty_and_not_an_error() -> None:
    settled, gathered = run(
        NoMetrics(),
        Changes(ChangeAnswer(head="a" * 40, head_at=NOW)),
        Logs(LogAnswer(warnings=("logs/*.log: no file matches",))),
    )
    assert statuses(settled) == {"metrics": EMPTY, "changes": EMPTY, "logs": EMPTY}
    assert 'no series matches {job="checkout"}' in reason(settled, "metrics")
    assert "services.checkout.selector" in reason(settled, "metrics")
    assert "no commit in the window" in reason(settled, "changes")
    assert "no file matches" in reason(settled, "logs")
    assert (gathered.metrics, gathered.logs) == ((), None)
    assert {e.source for e in settled.missing_required} == {"metrics", "changes"}


def test_samples_that_are_all_no_numbers_are_empty_and_said() -> None:
    class NaNs(Metrics):
        def query_range(self, request: MetricRequest) -> MetricAnswer:
            answer = super().query_range(request)
            if request.query.startswith("{"):
                return MetricAnswer(series=(Series(name="m0", dropped=1200),))
            return answer

    settled, _ = run(NaNs(), Changes(), Logs())
    assert statuses(settled)["metrics"] is EMPTY
    assert "all are NaN or infinite" in reason(settled, "metrics")


def test_what_is_not_configured_is_unavailable_and_says_which_key_to_set() -> None:
    settled, gathered = run(required=())
    assert set(statuses(settled).values()) == {UNAVAILABLE}
    assert "prometheus.url" in reason(settled, "metrics")
    assert "services.checkout.configuration" in reason(settled, "changes")
    assert "services.checkout.logs" in reason(settled, "logs")
    assert gathered.metrics == ()


def test_a_service_without_configuration_or_logs_does_not_ask_for_them() -> None:
    changes, logs = Changes(), Logs()
    settled, _ = run(Metrics(), changes, logs, service=Service(selector='job="checkout"'))
    assert statuses(settled) == {"metrics": OK, "changes": UNAVAILABLE, "logs": UNAVAILABLE}
    assert (changes.asked, logs.asked) == ([], [])


def test_a_source_that_a_playbook_requires_and_nobody_reads_stops_everything() -> None:
    with pytest.raises(IllegalTransition, match="still open: cluster"):
        run(Metrics(), Changes(), Logs(), required=("metrics", "cluster"))


# --- windows and steps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "minutes", "step"),
    [
        pytest.param(Metrics(first=NOW - timedelta(minutes=20), interval=1), 20, 1.0, id="a quarter hour at 1 s"),
        pytest.param(Metrics(first=NOW - timedelta(minutes=20), interval=15), 20, 15.0, id="a quarter hour at 15 s"),
        pytest.param(Metrics(first=BEGIN, interval=15), 24 * 60, 58.0, id="a day, as fine as points allow"),
        pytest.param(
            Metrics(first=NOW - timedelta(hours=9), last=NOW - timedelta(hours=2), interval=30),
            9 * 60,
            30.0,
            id="ended two hours ago",
        ),
        pytest.param(
            Metrics(first=NOW - timedelta(hours=20), interval=300), 20 * 60, 300.0, id="scraped every five minutes"
        ),
    ],
)
def test_the_window_is_where_the_samples_are_at_their_own_resolution(
    metrics: Metrics, minutes: float, step: float
) -> None:
    _, gathered = run(metrics, Changes(), Logs())
    coarse = timedelta(minutes=10)
    assert gathered.step_seconds == pytest.approx(step, rel=0.05)
    assert abs(gathered.start - (NOW - timedelta(minutes=minutes))) <= coarse + timedelta(seconds=step)
    assert gathered.end <= NOW
    assert gathered.start.timestamp() % gathered.step_seconds == 0, "a repeat asks for the same instants"
    times = gathered.metrics[0].times
    assert len(times) >= 70
    assert min(times) >= metrics.first


def test_a_history_shorter_than_a_coarse_step_is_found() -> None:
    _, gathered = run(Metrics(first=NOW - timedelta(minutes=9), last=NOW - timedelta(minutes=2)), Changes(), Logs())
    assert len(gathered.metrics[0].times) > 300


def test_more_series_than_allowed_are_narrowed_and_said() -> None:
    metrics = Metrics(series=50)
    settled, _ = run(metrics, Changes(), Logs(), limits=Limits(series_max=20))
    assert "more than limits.series_max 20" in reason(settled, "metrics")
    assert statuses(settled)["metrics"] is OK
    assert any('__name__=~"up"' in r.query for r in metrics.asked), "by name, those that tell most"


def test_histogram_buckets_are_not_read() -> None:
    metrics = Metrics()
    run(metrics, Changes(), Logs())
    read = [r.query for r in metrics.asked if r.query.startswith("{job")]
    assert read and all('__name__!~".+_bucket"' in q for q in read)


def test_every_query_carries_the_services_matchers() -> None:
    metrics = Metrics()
    run(metrics, Changes(), Logs(), service=SERVICE.model_copy(update={"selector": ' job="checkout", zone=~"a|b", '}))
    for request in metrics.asked:
        about = (
            "container",
            "deployment",
            "horizontalpodautoscaler",
            "destination_workload",
            "source_workload",
            "server",
            "client",
        )
        assert 'job="checkout", zone=~"a|b"' in request.query or any(
            f'{label}="checkout"' in request.query for label in about
        )
        assert not re.search(r",\s*}", request.query)


def test_container_metrics_that_fail_are_a_warning() -> None:
    metrics = Metrics()
    metrics.container_error = SourceRefused("422 too many series")
    settled, gathered = run(metrics, Changes(), Logs())
    assert statuses(settled)["metrics"] is OK
    assert "container metrics were not read: 422 too many series" in reason(settled, "metrics")
    assert [s.name for s in gathered.metrics] == ["m0", "m1", "m2"]


def test_a_servers_warnings_are_kept_once() -> None:
    metrics = Metrics()
    metrics.warnings = ("partial answer", "partial answer")
    assert reason(run(metrics, Changes(), Logs())[0], "metrics").count("partial answer") == 1


def test_changes_and_logs_are_asked_for_their_own_windows() -> None:
    changes, logs = Changes(), Logs()
    run(Metrics(), changes, logs, limits=Limits(lookback_hours=2, changes_days=3, commits_max=7))
    assert changes.asked == [
        ChangeRequest(
            repository="config",
            branch="main",
            paths=("apps/**",),
            since=NOW - timedelta(days=3),
            until=NOW,
            commits_max=7,
        )
    ]
    (asked,) = logs.asked
    assert (asked.files, asked.start, asked.end) == (("logs/*.log",), NOW - timedelta(hours=2), NOW)
    assert asked.bucket_seconds == pytest.approx(14.4)


def test_the_look_back_counts_from_when_the_symptom_was_noticed() -> None:
    changes, logs = Changes(), Logs()
    noticed = NOW - timedelta(hours=5)
    incident = open_incident("inc-1", "checkout", NOW, noticed, NOW, "")
    sources = Sources(Metrics(first=BEGIN, interval=60), changes, logs)
    gather(incident, SERVICE, "main", sources, Limits(lookback_hours=2, changes_days=3), ())
    assert (changes.asked[0].since, changes.asked[0].until) == (noticed - timedelta(days=3), NOW)
    assert (logs.asked[0].start, logs.asked[0].end) == (noticed - timedelta(hours=2), NOW)


def test_the_same_question_is_asked_the_same_way_twice() -> None:
    one, two = Metrics(), Metrics()
    run(one, Changes(), Logs())
    run(two, Changes(), Logs())
    assert one.asked == two.asked
