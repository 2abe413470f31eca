"""Reading the services beside the one asked about: which, how much of them, and what happens where one cannot be read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.errors import SourceMalformed, SourceUnavailable
from advisor.evidence import (
    ChangeAnswer,
    ChangeRequest,
    ChangeSource,
    CommitChange,
    ConfigValue,
    FileChange,
    LogAnswer,
    LogRequest,
    MetricAnswer,
    MetricRequest,
    Neighbour,
    Relation,
    Series,
    SeriesListAnswer,
    SeriesListRequest,
)
from advisor.gathering.metrics import (
    POINTS_MIN,
    SAMPLES_MAX,
    MetricWindow,
    choose_names,
    count_by_name,
    matcher_of,
    read_metrics,
    read_series,
)
from advisor.gathering.neighbours import choose_neighbours, declared_calls, part_of, read_neighbours
from advisor.incident import open_incident
from advisor.path_scope import PathScope
from advisor.settings import Configuration, Limits, LogFiles, Service

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
BEGIN = NOW - timedelta(hours=2)
WINDOW = MetricWindow(BEGIN, NOW, 30.0, (), ())


def service(name: str, *calls: str, repository: str = "config", logs: bool = False) -> Service:
    return Service(
        selector=f'job="{name}"',
        configuration=Configuration(repository=repository, paths=(f"apps/{name}/**",)) if repository else None,
        logs=(LogFiles(files=(f"logs/{name}.log",)),) if logs else (),
        depends_on=calls,
    )


def shop(**calls: tuple[str, ...]) -> dict[str, Service]:
    return {name: service(name, *callees) for name, callees in calls.items()}


# --- which -------------------------------------------------------------------------------------------------------------

SHOP = shop(web=("checkout",), checkout=("stock", "payments"), payments=("bank",), stock=(), bank=(), batch=())


def test_called_services_come_first_by_distance_then_callers_then_the_rest() -> None:
    assert choose_neighbours("checkout", SHOP, 24) == (
        ("payments", Relation.CALLED),
        ("stock", Relation.CALLED),
        ("bank", Relation.CALLED),
        ("web", Relation.CALLING),
        ("batch", Relation.OTHER),
    )


@pytest.mark.parametrize("most", [0, 1, 3, 99])
def test_no_more_neighbours_are_chosen_than_asked_for(most: int) -> None:
    assert choose_neighbours("checkout", SHOP, most) == choose_neighbours("checkout", SHOP, 99)[:most]


def test_circles_end_and_a_service_is_not_its_own_neighbour() -> None:
    circle = shop(a=("b", "a"), b=("c",), c=("a",))
    assert choose_neighbours("a", circle, 9) == (("b", Relation.CALLED), ("c", Relation.CALLED))


def test_what_is_called_and_not_configured_is_passed_through_and_not_read() -> None:
    assert choose_neighbours("a", shop(a=("gone",), b=()), 9) == (("b", Relation.OTHER),)
    assert choose_neighbours("nobody", shop(a=(), b=()), 9) == (("a", Relation.OTHER), ("b", Relation.OTHER))


def test_calls_are_declared_once_each_and_in_order() -> None:
    assert declared_calls(shop(b=("c", "a", "c"), a=("b",))) == (("a", "b"), ("b", "a"), ("b", "c"))


NAMES = st.sampled_from("abcdef")


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=6).map(tuple), min_size=1), NAMES)
def test_of_any_graph_each_other_service_is_chosen_once(calls: dict[str, tuple[str, ...]], asked: str) -> None:
    chosen = [name for name, _ in choose_neighbours(asked, shop(**calls), 99)]
    assert sorted(chosen) == sorted(set(calls) - {asked})


# --- reading -----------------------------------------------------------------------------------------------------------


class Metrics:
    """A metric source that has some series for each job, and remembers what it was asked."""

    def __init__(self, counts: dict[str, int] | None = None, fail: dict[str, Exception] | None = None) -> None:
        self.counts = counts if counts is not None else {"http_requests_total": 2, "house_metric": 3}
        self.fail, self.asked = fail or {}, []  # type: ignore[var-annotated]
        self.busy, self.most, self.lock = 0, 0, threading.Lock()

    def query_range(self, request: MetricRequest) -> MetricAnswer:
        with self.lock:
            self.asked.append(request)
            self.busy += 1
            self.most = max(self.most, self.busy)
        time.sleep(0.002)
        with self.lock:
            self.busy -= 1
        for job, error in self.fail.items():
            if f'job="{job}"' in request.query:
                raise error
        at = (request.end.timestamp(),)
        if request.query.startswith("count by"):
            return MetricAnswer(
                series=tuple(Series(name=n, times=at, values=(float(c),)) for n, c in self.counts.items())
            )
        return MetricAnswer(series=(Series(name="read", labels=(("query", request.query),), times=at, values=(1.0,)),))

    def list_series(self, request: SeriesListRequest) -> SeriesListAnswer:
        raise AssertionError("not needed")


def commit(name: str, *paths: str, in_scope: bool = True) -> CommitChange:
    files = tuple(FileChange(path=p, status="modified") for p in paths)
    return CommitChange(
        commit=name, parent=None, author="a@example.org", authored_at=NOW, effective_at=NOW, subject=name,
        in_scope=in_scope, files=files,
    )  # fmt: skip


ANSWER = ChangeAnswer(
    head="a" * 40,
    head_at=NOW,
    commits=(
        commit("both", "apps/payments/a.yaml", "apps/stock/a.yaml"),
        commit("stock", "apps/stock/a.yaml"),
        commit("none", "docs/a.md"),
        commit("out", "apps/stock/b.yaml", in_scope=False),
    ),
    configuration=(
        ConfigValue(path="apps/stock/a.yaml", key="k", value="v"),
        ConfigValue(path="apps/payments/a.yaml", key="k", value="v"),
    ),
    warnings=("of the whole repository",),
)


class Changes:
    """A repository that gives one answer, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, []  # type: ignore[var-annotated]

    def changes(self, request: ChangeRequest) -> ChangeAnswer:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return ANSWER


class Logs:
    """A log source that gives one answer, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, []  # type: ignore[var-annotated]

    def read(self, request: LogRequest) -> LogAnswer:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return LogAnswer(lines=7)


def read(
    services: dict[str, Service],
    metrics: Metrics | None = None,
    changes: dict[str, Changes] | None = None,
    logs: Logs | None = None,
    limits: Limits | None = None,
) -> dict[str, Neighbour]:
    sources = changes or {"config": Changes()}

    def changes_of(repository: str) -> tuple[ChangeSource, str]:
        return sources[repository], "main"

    chosen = tuple((name, Relation.CALLED) for name in services)
    found = read_neighbours(
        chosen, services, WINDOW, BEGIN, NOW, limits or Limits(), metrics, changes_of, logs  # type: ignore[arg-type]
    )  # fmt: skip
    assert [n.service for n in found] == list(services), "in the order given"
    return {n.service: n for n in found}


def test_each_neighbour_is_read_on_the_grid_of_the_service_asked_about() -> None:
    metrics = Metrics()
    found = read(shop(payments=(), stock=()), metrics)
    for name in ("payments", "stock"):
        assert found[name].metric_query == f'{{job="{name}"}}'
        assert f'job="{name}"' in found[name].metrics[0].label("query")
    samples = [r for r in metrics.asked if not r.query.startswith("count")]
    assert {(r.start, r.end, r.step_seconds) for r in samples} == {(BEGIN, NOW, 30.0)}


def test_of_a_neighbour_with_too_many_series_the_telling_names_are_read() -> None:
    metrics = Metrics({"http_requests_total": 30, "house_metric": 900})
    found = read(shop(payments=()), metrics, limits=Limits(neighbour_series_max=50))
    query = found["payments"].metrics[0].label("query")
    assert "http_requests_total" in query and "house_metric" not in query


def test_a_repository_is_asked_once_for_all_and_each_gets_its_own_files() -> None:
    changes = Changes()
    found = read(shop(payments=(), stock=()), changes={"config": changes})
    assert len(changes.asked) == 1
    assert changes.asked[0].paths == ("apps/payments/**", "apps/stock/**")
    payments, stock = found["payments"].changes, found["stock"].changes
    assert payments is not None and stock is not None
    assert [c.commit for c in payments.commits] == ["both"]
    assert [f.path for f in payments.commits[0].files] == ["apps/payments/a.yaml"]
    assert [c.commit for c in stock.commits] == ["both", "stock"]
    assert [v.path for v in stock.configuration] == ["apps/stock/a.yaml"]


def test_a_part_of_an_answer_keeps_its_head_and_not_its_warnings() -> None:
    part = part_of(ANSWER, PathScope(("docs/**",)))
    assert (part.head, part.warnings, [c.commit for c in part.commits]) == (ANSWER.head, (), ["none"])
    assert part_of(ANSWER, PathScope(("nowhere/**",))).commits == ()


def test_a_neighbour_that_cannot_be_read_says_so_and_takes_nothing_else_with_it() -> None:
    metrics = Metrics(fail={"payments": SourceUnavailable("prometheus: no answer")})
    found = read(shop(payments=(), stock=()), metrics)
    assert found["payments"].metrics == () and found["stock"].metrics
    assert found["payments"].problems == ("payments: prometheus: no answer",)
    assert found["stock"].problems == ()
    assert found["payments"].changes is not None, "its history was read all the same"


def test_a_defect_in_reading_one_is_a_problem_in_one_line() -> None:
    metrics = Metrics(fail={"payments": ZeroDivisionError("by\nzero")})
    problem = read(shop(payments=()), metrics)["payments"].problems[0]
    assert problem == "payments: unexpected ZeroDivisionError: by zero"


def test_a_repository_that_fails_is_a_problem_of_its_services_only() -> None:
    services = {"a": service("a", repository="one"), "b": service("b", repository="two")}
    found = read(services, changes={"one": Changes(SourceMalformed("one: not a repository")), "two": Changes()})
    assert found["a"].changes is None and found["a"].problems == ("a: one: not a repository",)
    assert found["b"].changes is not None and found["b"].problems == ()


def test_logs_are_read_where_some_are_configured_and_keep_their_grid() -> None:
    logs = Logs()
    services = {"a": service("a", logs=True), "b": service("b")}
    found = read(services, logs=logs)
    assert [r.service for r in logs.asked] == ["a"]
    digest = found["a"].logs
    assert digest is not None and digest.lines == 7
    assert digest.counted_from == BEGIN and digest.bucket_seconds == logs.asked[0].bucket_seconds
    assert found["b"].logs is None


def test_logs_that_fail_are_a_problem_and_no_evidence() -> None:
    found = read({"a": service("a", logs=True)}, logs=Logs(SourceUnavailable("a.log: gone")))
    assert found["a"].logs is None and found["a"].problems == ("a: a.log: gone",)


def test_a_neighbour_without_anything_configured_is_there_and_empty() -> None:
    found = read({"a": service("a", repository="")})["a"]
    assert (found.metrics, found.changes, found.logs, found.repository, found.problems) == ((), None, None, "", ())


def test_no_neighbours_are_no_questions() -> None:
    metrics, changes = Metrics(), Changes()
    assert read({}, metrics, {"config": changes}) == {}
    assert metrics.asked == changes.asked == []


def test_fifty_neighbours_are_read_a_few_at_a_time_and_each_once() -> None:
    metrics = Metrics()
    found = read({f"s{i:02d}": service(f"s{i:02d}") for i in range(50)}, metrics)
    assert all(n.metrics for n in found.values())
    assert metrics.most <= 6
    assert len(metrics.asked) == 100


# --- questions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "matcher"),
    [('job="a"', '{job="a"}'), (' job="a", ', '{job="a"}'), ('a="1",b=~"x|y"', '{a="1",b=~"x|y"}')],
)
def test_a_selector_becomes_matchers_in_braces(selector: str, matcher: str) -> None:
    assert matcher_of(selector) == matcher


def test_series_are_counted_by_name_at_their_most_and_buckets_are_left_out() -> None:
    class Counts(Metrics):
        def query_range(self, request: MetricRequest) -> MetricAnswer:
            at = (1.0, 2.0)
            return MetricAnswer(
                series=(
                    Series(name="a", times=at, values=(3.0, 9.0)),
                    Series(name="a_bucket", times=at, values=(99.0, 99.0)),
                    Series(name="", labels=(("__name__", "b"),), times=at, values=(1.0, 1.0)),
                    Series(name="", times=at, values=(1.0, 1.0)),
                    Series(name="empty"),
                )
            )

    assert count_by_name(Counts(), '{job="a"}', BEGIN, NOW, 60.0) == {"a": 9, "b": 1, "empty": 1}


def test_names_of_work_are_chosen_before_names_that_say_nothing() -> None:
    counts = {"house_metric": 5, "http_requests_total": 5, "heap_used": 5, "pool_size": 5}
    assert choose_names(counts, 10) == ("heap_used", "http_requests_total")
    assert choose_names(counts, 1) == ("http_requests_total",), "one name at least"
    assert choose_names({}, 10) == ()


@given(st.dictionaries(st.text(max_size=12), st.integers(0, 500), max_size=20), st.integers(1, 1000))
def test_no_more_series_are_chosen_than_fit_but_for_the_first_name(counts: dict[str, int], most: int) -> None:
    chosen = choose_names(counts, most)
    assert set(chosen) <= set(counts) and list(chosen) == sorted(chosen)
    assert len(chosen) <= 1 or sum(counts[n] for n in chosen) <= max(most, max(counts[n] for n in chosen))
    assert bool(chosen) == bool(counts)


def test_odd_metric_names_are_quoted_for_the_matcher() -> None:
    metrics = Metrics()
    read_series(metrics, '{job="a"}', ("a.b", "c+d"), BEGIN, NOW, 30.0)
    assert '__name__=~"a\\\\.b|c\\\\+d"' in metrics.asked[0].query


def own_series(count: Callable[[MetricRequest], tuple[Series, ...]], limits: Limits) -> MetricWindow:
    class Source(Metrics):
        def query_range(self, request: MetricRequest) -> MetricAnswer:
            self.asked.append(request)
            return MetricAnswer(series=count(request))

    asked = open_incident("i", "a", NOW, None, NOW, "it is slow")
    return read_metrics(Source(), 'job="a"', asked, BEGIN, limits)


def test_a_service_that_was_never_scraped_has_no_window_to_read() -> None:
    found = own_series(lambda _request: (), Limits())
    assert (found.series, found.start, found.end) == ((), BEGIN, NOW)


def test_many_series_are_read_in_longer_steps_and_said() -> None:
    def answer(request: MetricRequest) -> tuple[Series, ...]:
        at = (request.start.timestamp(), request.end.timestamp())
        return (Series(name="http_requests_total", times=at, values=(5000.0, 5000.0)),)

    few = own_series(answer, Limits(series_max=10_000, points_max=11_000))
    assert any("more than limits.series_max" in w for w in own_series(answer, Limits(series_max=100)).warnings)
    many = own_series(answer, Limits(series_max=100, points_max=50))
    assert few.step < many.step, "the more that is read, the longer the steps"
    assert (NOW - BEGIN).total_seconds() / many.step <= 50 + 1
    assert 5_000 * (NOW - BEGIN).total_seconds() / few.step <= max(SAMPLES_MAX, 5_000 * POINTS_MIN) + 5_000
