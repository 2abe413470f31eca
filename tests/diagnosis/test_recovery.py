"""How recovery of a service's work is asked for: PromQL that measures the signal in trouble again, and a level to reach."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st

from advisor.diagnosis.recovery import question_of
from advisor.evidence import Series
from advisor.evidence.aspects import Aspect, AspectSignal, read_aspects
from advisor.incident import Symptom
from advisor.playbook import Check, Comparison, Measure
from tests.diagnosis.work_stories import (
    BAD,
    POINTS,
    STEP,
    T0,
    Service,
    assess,
    climbing,
    gathered,
    incident,
    stepped,
)

SELECTOR = '{job="checkout"}'
TIMES = T0 + STEP * np.arange(POINTS)


def signal(service: Service, aspect: Aspect, scope: str = "") -> AspectSignal:
    """Return what the service's series tell of one aspect, as the engine reads it."""
    found = read_aspects(service.series, TIMES, STEP, service.name)
    return next(s for s in found if s.aspect is aspect and (not scope or s.scope == scope))


def failures(service: Service) -> AspectSignal:
    """Return the share of failures with every series that it is a share of."""
    found = signal(service, Aspect.ERRORS)
    return replace(found, series=tuple(s for s in service.series if s.name in found.names))


def asked(service: Service, aspect: Aspect, scope: str = "", step: float = STEP) -> tuple[str, float] | None:
    return question_of(signal(service, aspect, scope), SELECTOR, step)


def timer(base: str, scale: float = 1.0) -> Service:
    service = Service().counter(f"{base}_count", stepped(50), status="200")
    return service.counter(f"{base}_sum", stepped(50 * 0.1 * scale), status="200")


# --- the question ------------------------------------------------------------------------------------------------------


def test_latency_is_asked_for_as_seconds_by_requests() -> None:
    query, factor = asked(timer("http_server_requests_seconds"), Aspect.LATENCY) or ("", 0.0)
    assert query == (
        'sum(rate(http_server_requests_seconds_sum{job="checkout"}[120s]))'
        ' / sum(rate(http_server_requests_seconds_count{job="checkout"}[120s]))'
    )
    assert factor == 1.0


@pytest.mark.parametrize(
    ("base", "per_second"),
    [
        ("http_server_duration_milliseconds", 1e3),
        ("orders_latency_ms", 1e3),
        ("orders_latency_microseconds", 1e6),
        ("orders_latency_seconds", 1.0),
        ("orders_latency_nanoseconds", 1e9),
    ],
)
def test_the_factor_turns_our_seconds_into_the_metrics_own_unit(base: str, per_second: float) -> None:
    service = timer(base, per_second)
    found = signal(service, Aspect.LATENCY)
    assert float(np.nanmedian(found.values)) == pytest.approx(0.1, rel=0.1), "read in seconds"
    query, factor = question_of(found, SELECTOR, STEP) or ("", 0.0)
    assert factor == per_second and f"{base}_sum" in query


def test_failures_are_asked_for_by_the_label_that_tells_them_apart() -> None:
    service = Service().answers(failing=stepped(0.01, 0.2))
    query, factor = question_of(failures(service), SELECTOR, STEP) or ("", 0.0)
    failed, whole = query.split(" / ")
    assert 'status=~"500"' in failed and "status" not in whole
    assert factor == 1.0


def test_several_kinds_of_failure_are_asked_for_together_and_escaped() -> None:
    service = Service().counter("http_requests_total", stepped(50), code="200")
    for code in ("500", "503"):
        service.counter("http_requests_total", stepped(0.2), code=code)
    query, _ = question_of(failures(service), SELECTOR, STEP) or ("", 0.0)
    assert 'code=~"500|503"' in query


def test_failures_that_no_one_label_tells_apart_cannot_be_asked_for() -> None:
    series = (
        Series(name="http_requests_total", labels=(("status", "200"), ("zone", "a")), times=(T0,), values=(1.0,)),
        Series(name="http_requests_total", labels=(("status", "200"), ("zone", "b")), times=(T0,), values=(1.0,)),
    )
    one = AspectSignal(
        Aspect.ERRORS, "e", ("http_requests_total",), np.ones(POINTS), 1, "inbound", "", "share", series, 3
    )
    assert question_of(one, SELECTOR, STEP) is None


def test_a_gauge_is_summed_and_a_counter_is_a_rate() -> None:
    queue = asked(Service().gauge("orders_queue_size", stepped(5, 300)), Aspect.QUEUE)
    assert queue == ('sum(orders_queue_size{job="checkout"})', 1.0)
    requests = asked(timer("http_server_requests_seconds"), Aspect.REQUESTS)
    assert requests == ('sum(rate(http_server_requests_seconds_count{job="checkout"}[120s]))', 1.0)


def test_a_share_of_a_limit_is_made_of_two_metrics_and_not_asked_for() -> None:
    service = Service().gauge("hikaricp_connections_active", stepped(4, 10), pool="a")
    service.gauge("hikaricp_connections_max", stepped(10), noise=False, pool="a")
    found = signal(service, Aspect.POOL)
    assert found.unit == "share"
    assert question_of(found, SELECTOR, STEP) is None


def test_a_share_whose_scale_its_name_does_not_say_is_not_asked_for() -> None:
    one = AspectSignal(Aspect.CPU, "cpu", ("cpu_utilization",), np.ones(POINTS), 1, "own", "", "share", (), 1)
    assert question_of(one, SELECTOR, STEP) is None, "percent or part of one: a threshold would be wrong by a hundred"


@pytest.mark.parametrize(("step", "span"), [(1.0, "60s"), (15.0, "60s"), (30.0, "120s"), (300.0, "1200s")])
def test_the_window_of_a_rate_holds_several_samples(step: float, span: str) -> None:
    query, _ = asked(timer("http_server_requests_seconds"), Aspect.LATENCY, step=step) or ("", 0.0)
    assert query.count(f"[{span}]") == 2


def test_the_services_own_matchers_stand_in_every_part_of_the_question() -> None:
    found = failures(Service().answers(failing=stepped(0.01, 0.2)))
    query, _ = question_of(found, '{job="a",env=~"p|q"}', STEP) or ("", 0.0)
    assert query.count('job="a",env=~"p|q"') == query.count("{") == 2


@any_of(st.text(max_size=20), st.text(max_size=20))
def test_any_label_value_stays_inside_its_quotes(first: str, second: str) -> None:
    series = tuple(
        Series(name="calls_total", labels=(("outcome", v), ("status", s)), times=(T0,), values=(1.0,))
        for v, s in (("ok", "200"), (first, "500"), (second, "500"))
    )
    one = AspectSignal(Aspect.ERRORS, "e", ("calls_total",), np.ones(POINTS), 1, "inbound", "", "share", series, 3)
    query, factor = question_of(one, SELECTOR, STEP) or ("", 1.0)
    assert math.isfinite(factor)
    assert re.sub(r'"(?:[^"\\\n]|\\.)*"', "", query).count('"') == 0, "quotes are closed"


# --- the plan ----------------------------------------------------------------------------------------------------------


def back(service: Service, *symptoms: Symptom) -> Check:
    checks = assess(incident(*symptoms), gathered(service)).verification.checks
    return next(c for c in checks if c.name.endswith("is back") and "hikaricp" not in c.name)


def test_recovery_is_most_of_the_way_back_to_the_level_before() -> None:
    check = back(Service().answers(latency=stepped(0.1, 0.7)))
    assert (check.measure, check.comparison, check.unit) == (Measure.MEAN, Comparison.AT_MOST, "seconds")
    assert 0.1 < check.threshold < 0.4


def test_recovery_of_milliseconds_is_asked_for_in_milliseconds() -> None:
    service = Service().counter("http_server_duration_milliseconds_count", stepped(50))
    service.counter("http_server_duration_milliseconds_sum", stepped(50 * 100.0, 50 * 700.0))
    check = back(service)
    assert 100 < check.threshold < 400 and check.unit == ""


def test_what_fell_must_rise_again() -> None:
    check = back(Service().answers(requests=stepped(100, 10)), Symptom.THROUGHPUT_DROP)
    assert check.comparison is Comparison.AT_LEAST
    assert 50 < check.threshold < 100


def test_failures_must_be_rare_again() -> None:
    check = back(Service().answers(failing=stepped(0.002, 0.3)), Symptom.ERRORS)
    assert check.comparison is Comparison.AT_MOST and 0.002 < check.threshold < 0.2
    assert check.unit == "share"


def test_what_cannot_be_asked_for_is_not_checked_by_another_name() -> None:
    service = Service().gauge("hikaricp_connections_active", climbing(4, 10, 100), pool="a")
    service.gauge("hikaricp_connections_max", stepped(10), noise=False, pool="a")
    checks = assess(incident(Symptom.POOL_EXHAUSTED), gathered(service)).verification.checks
    assert not any("connection pool is back" in c.name for c in checks)


def test_lines_of_the_log_are_not_asked_of_prometheus() -> None:
    service = Service().gauge("house_metric", stepped(1.0)).says("payment refused by provider")
    checks = assess(incident(Symptom.ERRORS), gathered(service)).verification.checks
    assert not any("log" in c.query for c in checks)


def test_a_restart_after_the_change_is_guarded_against_where_starts_are_measured() -> None:
    service = Service().answers(latency=stepped(0.1, 0.6)).began(-500, BAD)
    checks = assess(incident(), gathered(service)).verification.checks
    guard = next(c for c in checks if c.guard)
    assert (guard.name, guard.measure, guard.threshold) == ("no restart", Measure.CHANGES, 0)


def test_the_metric_in_the_middle_must_come_back_too() -> None:
    service = Service().answers(latency=stepped(0.1, 0.6)).began(-500, BAD)
    service.gauge("hikaricp_connections_pending", stepped(0.2, 25), pool="main")
    service.change(BAD - 1, {"spring.datasource.hikari.maximum-pool-size": ("10", "2")})
    checks = assess(incident(), gathered(service)).verification.checks
    middle = next(c for c in checks if c.name == "hikaricp_connections_pending is back")
    assert 'pool="main"' in middle.query and middle.comparison is Comparison.AT_MOST
    assert 0.2 < middle.threshold < 25
