"""Which service is at fault: rules a person would hold it to, on small shops made for each rule, and any input at all."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.diagnosis.localization import (
    ASPECTS,
    Array,
    Blame,
    ServiceChange,
    ServiceSeries,
    localize,
    localize_changes,
    probabilities,
)
from bench.datasets.generated import make_case
from bench.rivals import RIVALS
from bench.root_cause import main, measure, read

STEP, CALM, BAD = 60.0, 120, 20
TIMES = 1_790_000_000.0 + STEP * np.arange(CALM + BAD)
NOTICED = float(TIMES[CALM])
CHAIN = frozenset({("web", "cart"), ("cart", "stock"), ("web", "ads")})


def noisy(level: float, seed: int, share: float = 0.03) -> Array:
    return level * np.exp(np.random.default_rng(seed).normal(0, share, TIMES.size))


def risen(values: Array, by: float, late: int = 0) -> Array:
    out = values.copy()
    out[CALM + late :] += by
    return out


def service(
    name: str, seed: int, latency: float = 0.1, rises: float = 0.0, late: int = 0, **more: Array
) -> ServiceSeries:
    series = {
        "latency": (risen(noisy(latency, seed), rises, late),),
        "requests": (noisy(600, seed + 1),),
        "errors": (np.full(TIMES.size, 0.001),),
    }
    for aspect, values in more.items():
        series[aspect] = (values,)
    return ServiceSeries(name, series)


def ranked(
    services: list[ServiceSeries], calls: frozenset[tuple[str, str]] = CHAIN, **more: object
) -> tuple[Blame, ...]:
    given = {"symptom_aspect": "latency", "noticed_at": NOTICED} | more
    return localize(TIMES, services, calls, "web", **given)  # type: ignore[arg-type]


def term(blame: Blame, name: str) -> float:
    return sum(t.value for t in blame.terms if t.name == name)


def of(blames: tuple[Blame, ...], name: str) -> Blame:
    return next(b for b in blames if b.service == name)


def slow_stock() -> list[ServiceSeries]:
    return [
        service("web", 1, 0.3, 0.2),
        service("cart", 11, 0.2, 0.2),
        service("stock", 21, 0.1, 0.2),
        service("ads", 31),
    ]


def test_a_slow_callee_explains_its_callers() -> None:
    blames = ranked(slow_stock())
    assert blames[0].service == "stock"
    assert term(of(blames, "cart"), "passed on") < -1
    assert "stock" in next(t.why for t in of(blames, "cart").terms if t.name == "passed on")


def test_a_caller_whose_callees_are_well_is_itself_at_fault() -> None:
    blames = ranked(
        [service("web", 1, 0.3, 0.2), service("cart", 11, 0.2, 0.2), service("stock", 21), service("ads", 31)]
    )
    assert blames[0].service == "cart"


def test_a_callee_that_is_slower_by_too_little_explains_little() -> None:
    slower = [service("web", 1, 0.3, 0.5), service("cart", 11, 0.2, 0.5), service("stock", 21, 0.005, 0.01)]
    assert ranked(slower)[0].service == "cart"


def test_a_leaf_without_metrics_does_not_get_its_callers_blame() -> None:
    blames = ranked(
        [service("web", 1, 0.3, 0.2), service("cart", 11, 0.2, 0.2), ServiceSeries("stock", {}), service("ads", 31)]
    )
    assert blames[0].service == "cart"
    assert blames[1].service == "stock", "what nobody measures below unexplained trouble comes next"


def test_a_service_that_no_call_reaches_comes_behind_one_in_like_trouble() -> None:
    elsewhere = [*slow_stock(), service("batch", 41, 0.1, 0.2)]
    blames = ranked(elsewhere, CHAIN | {("batch", "ads")})
    assert blames[0].service == "stock"
    assert term(of(blames, "batch"), "not reached") < 0


def test_failures_are_blamed_where_they_begin() -> None:
    failing = risen(np.full(TIMES.size, 0.001), 0.2)
    half = risen(np.full(TIMES.size, 0.001), 0.1)
    services = [service("web", 1, errors=half), service("cart", 11, errors=half), service("stock", 21, errors=failing)]
    assert ranked(services, symptom_aspect="errors")[0].service == "stock"


@pytest.mark.parametrize("top", [1.0, 100.0], ids=["share", "percent"])
def test_availability_is_read_as_share_or_percent(top: float) -> None:
    low = risen(np.full(TIMES.size, top), -0.2 * top)
    services = [
        ServiceSeries("web", {"availability": (low,), "requests": (noisy(600, 1),)}),
        ServiceSeries("cart", {"availability": (low,), "requests": (noisy(600, 2),)}),
        ServiceSeries("stock", {"availability": (np.full(TIMES.size, top),), "requests": (noisy(600, 3),)}),
    ]
    blames = ranked(services, symptom_aspect="availability")
    assert blames[0].service == "cart"
    assert "20" in blames[0].terms[0].why


def test_more_traffic_is_blamed_where_it_enters() -> None:
    grown, calm = 600 + risen(np.zeros(TIMES.size), 900), np.full(TIMES.size, 600.0)
    services = [
        service("web", 1, 0.3, 0.05, requests=calm),
        service("cart", 11, 0.2, 0.1, requests=grown),
        service("stock", 21, 0.1, 0.1, requests=grown),
    ]
    blames = ranked(services)
    assert blames[0].service == "cart"
    assert term(of(blames, "stock"), "traffic") < 0 < term(of(blames, "cart"), "traffic")


def test_a_callee_that_is_newly_called_is_not_at_fault_for_that() -> None:
    never = np.zeros(TIMES.size)
    called = risen(never, 50.0)
    rare = np.where(called > 0, 0.4, np.nan)
    services = [
        service("web", 1, 0.3, 0.2),
        service("cart", 11, 0.2, 0.2),
        ServiceSeries("stock", {"latency": (rare,), "requests": (called,)}),
    ]
    blames = ranked(services)
    assert blames[0].service == "cart"
    assert term(of(blames, "cart"), "new calls") > 0


def test_a_service_that_falls_silent_while_it_is_called_is_dead() -> None:
    gone = np.where(np.arange(TIMES.size) < CALM, 1.0, np.nan)
    failing = risen(np.full(TIMES.size, 0.001), 0.6)
    dead = ServiceSeries(
        "stock", {"latency": (noisy(0.1, 5) * gone,), "cpu": (noisy(0.3, 6) * gone,), "errors": (gone * 0.001,)}
    )
    services = [service("web", 1, errors=failing), service("cart", 11, errors=failing), dead]
    blames = ranked(services, symptom_aspect="errors")
    assert blames[0].service == "stock"
    assert term(blames[0], "silence") > 2


def test_services_that_all_fall_silent_at_once_are_not_dead() -> None:
    gone = np.where(np.arange(TIMES.size) < CALM + 10, 1.0, np.nan)
    services = [
        ServiceSeries(n, {"latency": (noisy(0.1, i) * gone,), "cpu": (noisy(0.3, i + 9) * gone,)})
        for i, n in enumerate(("web", "cart", "stock"))
    ]
    assert all(term(b, "silence") == 0 for b in ranked(services))


def test_a_resource_that_grows_with_traffic_is_traffics() -> None:
    grown = 600 + risen(np.zeros(TIMES.size), 600)
    busy = risen(noisy(0.3, 3), 0.3)
    services = [service("web", 1), service("cart", 11, cpu=busy, requests=grown), service("stock", 21, cpu=busy)]
    blames = ranked(services)
    assert term(of(blames, "stock"), "resource") > term(of(blames, "cart"), "resource") + 1


def test_an_address_before_a_service_does_not_take_its_blame() -> None:
    calls = frozenset({("web", "PetSearch_AWS::ECS::Fargate"), ("web", "internal-searc-1.example.org_remote")})
    services = [
        service("web", 1, 0.3, 0.2),
        service("PetSearch_AWS::ECS::Fargate", 11, 0.01, 0.2),
        service("internal-searc-1.example.org_remote", 21, 0.01, 0.3),
    ]
    assert ranked(services, calls)[0].service == "PetSearch_AWS::ECS::Fargate"


def test_where_every_service_has_a_host_name_none_is_a_mere_address() -> None:
    long = {n: f"{n}.shop.example.org" for n in ("web", "cart", "stock", "ads")}
    services = [ServiceSeries(long[s.service], s.series) for s in slow_stock()]
    calls = frozenset((long[a], long[b]) for a, b in CHAIN)
    blames = localize(TIMES, services, calls, long["web"], "latency", NOTICED)
    assert blames[0].service == long["stock"]
    assert all(term(b, "address") == 0 for b in blames)


def test_the_same_service_under_another_spelling_is_one_node_of_the_graph() -> None:
    calls = frozenset({("web", "Cart_AWS::ECS::Fargate"), ("cart-service", "Stock_remote")})
    services = [service("web", 1, 0.3, 0.2), service("cart", 11, 0.2, 0.2), service("stock", 21, 0.1, 0.2)]
    blames = ranked(services, calls)
    assert blames[0].service == "stock"
    assert term(of(blames, "stock"), "not reached") == 0


@pytest.mark.parametrize("off", range(-5, 6))
def test_the_moment_of_noticing_may_be_off_by_five_samples(off: int) -> None:
    assert ranked(slow_stock(), noticed_at=NOTICED + off * STEP)[0].service == "stock"


def test_without_a_moment_the_symptom_tells() -> None:
    assert ranked(slow_stock(), noticed_at=None)[0].service == "stock"


@pytest.mark.parametrize("step", [1.0, 15.0, 300.0])
def test_resolution_does_not_matter(step: float) -> None:
    times = 1_790_000_000.0 + step * np.arange(TIMES.size)
    blames = localize(times, slow_stock(), CHAIN, "web", "latency", float(times[CALM]))
    assert blames[0].service == "stock"


def test_a_normal_window_of_another_month_and_level_is_read_with_the_last_minutes() -> None:
    away = np.where(np.arange(TIMES.size) < CALM - 4, 40 * 86_400.0, 0.0)
    drifted = service("ads", 31)
    drifted = ServiceSeries(
        "ads", {**drifted.series, "latency": (np.where(away > 0, 1.0, 1.6) * drifted.series["latency"][0],)}
    )
    times = TIMES + away
    services = [*slow_stock()[:3], drifted]
    blames = localize(
        times, services, CHAIN, "web", "latency", NOTICED, (float(TIMES[0] + 40 * 86_400), float(times.max()))
    )
    assert blames[0].service == "stock"
    assert term(of(blames, "ads"), "own trouble") < 0


def test_a_flat_series_that_moves_a_little_does_not_beat_one_that_moves_much() -> None:
    flicker = risen(np.full(TIMES.size, 0.1), 0.001)
    services = [*slow_stock()[:3], service("ads", 31, latency=flicker)]
    blames = ranked(services)
    assert blames[0].service == "stock"
    assert blames[-1].service == "ads"


def test_a_flat_series_that_moves_much_counts() -> None:
    jump = risen(np.full(TIMES.size, 0.1), 0.2)
    services = [*slow_stock()[:2], service("stock", 21, latency=jump)]
    assert ranked(services)[0].service == "stock"


def test_every_term_says_why_and_the_score_is_their_sum() -> None:
    for blame in ranked(slow_stock()):
        assert blame.score == pytest.approx(sum(t.value for t in blame.terms))
        assert all(t.why and t.name for t in blame.terms)


def test_of_several_changes_the_one_of_the_service_at_fault_is_named() -> None:
    changes = [
        ServiceChange("ads 2.1", "ads", NOTICED - 60),
        ServiceChange("stock 3.0", "stock", NOTICED - 120),
        ServiceChange("web 1.9", "web", NOTICED - 30),
    ]
    found = localize_changes(ranked(slow_stock()), changes, NOTICED, STEP)
    assert found[0].change.name == "stock 3.0"
    assert {c.change for c in found} == set(changes)


def test_of_two_changes_of_one_service_the_one_after_the_trouble_is_not_it() -> None:
    changes = [ServiceChange("after", "stock", NOTICED + 900), ServiceChange("before", "stock", NOTICED - 60)]
    found = localize_changes(ranked(slow_stock()), changes, NOTICED, STEP)
    assert [c.change.name for c in found] == ["before", "after"]


def test_a_change_of_a_service_that_nobody_knows_comes_last_and_is_named() -> None:
    changes = [ServiceChange("x", "nowhere", None), ServiceChange("y", "stock", None)]
    assert [c.change.name for c in localize_changes(ranked(slow_stock()), changes)] == ["y", "x"]


def test_probabilities_sum_to_one_and_keep_the_order() -> None:
    shares = probabilities([b.score for b in ranked(slow_stock())])
    assert sum(shares) == pytest.approx(1.0)
    assert list(shares) == sorted(shares, reverse=True)
    assert probabilities([]) == ()


def test_samples_out_of_order_are_put_in_order() -> None:
    order = np.random.default_rng(4).permutation(TIMES.size)
    shuffled = [
        ServiceSeries(s.service, {a: tuple(v[order] for v in vs) for a, vs in s.series.items()}) for s in slow_stock()
    ]
    again = localize(TIMES[order], shuffled, CHAIN, "web", "latency", NOTICED)
    assert [(b.service, b.score) for b in again] == [(b.service, b.score) for b in ranked(slow_stock())]


def test_the_order_of_services_does_not_matter() -> None:
    assert ranked(slow_stock()) == ranked(slow_stock()[::-1])


numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -1.0, 1e308, -1e308, 5e-324, float("nan")]),
    st.floats(0, 100),
)


@st.composite
def anything(draw: st.DrawFn) -> tuple[Array, list[ServiceSeries], frozenset[tuple[str, str]]]:
    size = draw(st.integers(0, 12))
    times = np.array(draw(st.lists(numbers, min_size=size, max_size=size)))
    names = draw(st.lists(st.sampled_from(["a", "b", "a_remote", "x.y.z", "", "ü{}\n"]), max_size=5))
    services = []
    for name in names:
        aspects = draw(st.lists(st.sampled_from([*ASPECTS, "strange"]), max_size=4, unique=True))
        lengths = st.sampled_from([size, size, size, size + 1])
        rows = {
            a: tuple(
                np.array(draw(st.lists(numbers, min_size=n, max_size=n)), dtype=np.float64) for n in [draw(lengths)]
            )
            for a in aspects
        }
        services.append(ServiceSeries(name, rows))
    pairs = st.tuples(st.sampled_from(["a", "b", "", "q"]), st.sampled_from(["a", "b", "q", "x.y.z"]))
    return times, services, frozenset(draw(st.lists(pairs, max_size=6)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything(), st.one_of(st.none(), numbers), st.sampled_from([None, "latency", "errors", "cpu", "strange"]))
def test_any_input_names_every_service_once_with_a_finite_score(
    made: tuple[Array, list[ServiceSeries], frozenset[tuple[str, str]]], noticed: float | None, aspect: str | None
) -> None:
    times, services, calls = made
    began = time.perf_counter()
    blames = localize(times, services, calls, "a", aspect, noticed, (noticed, noticed) if noticed is not None else None)
    assert time.perf_counter() - began < 1.0
    assert sorted(b.service for b in blames) == sorted({s.service for s in services})
    assert all(np.isfinite(b.score) for b in blames)
    changes = [ServiceChange("c", "a", noticed), ServiceChange("d", "zz", None)]
    assert len(localize_changes(blames, changes, noticed)) == 2


def test_the_call_graph_may_have_rings() -> None:
    ring = CHAIN | {("stock", "web"), ("stock", "stock")}
    assert ranked(slow_stock(), ring)[0].service == "stock"


def test_generated_incidents_are_the_same_for_the_same_seed() -> None:
    one, two = make_case(3, "change"), make_case(3, "change")
    assert one.changes == two.changes and one.truth == two.truth and one.calls == two.calls
    assert all(
        np.array_equal(a, b, equal_nan=True)
        for s, t in zip(one.services, two.services, strict=True)
        for aspect in s.series
        for a, b in zip(s.series[aspect], t.series[aspect], strict=True)
    )
    assert replace(one, truth=frozenset({"x"})).rank_of_truth(["y"]) == len(one.candidates) + 1


def write_petshop(folder: Path, command: str) -> Path:
    nodes = ("web", "stock_AWS::ECS::Fargate")
    header = "n,web,web,stock_AWS::ECS::Fargate\nm,latency,requests,latency\ns,Average,Sum,Average\nunix_timestamp,,,\n"
    issue, calm = folder / "low" / "train" / "issue_0", folder / "low" / "noissue"
    issue.mkdir(parents=True)
    calm.mkdir()
    (folder / "low" / "graph.csv").write_text(f",{','.join(nodes)}\n{nodes[0]},0.0,1.0\n{nodes[1]},0.0,0.0\n")
    rows = "".join(f"{9_000_000 + 300 * i}.0,0.1{i % 3},50,0.01{i % 3}\n" for i in range(60))
    (calm / "metrics.csv").write_text(header + rows)
    bad = [(0, 0.1, 0.01), (300, 0.11, 0.011), (600, 0.6, 0.5), (900, 0.61, 0.51), (1200, 0.1, "")]
    (issue / "metrics.csv").write_text(header + "".join(f"{1_000_000 + t}.0,{a},50,{b}\n" for t, a, b in bad))
    said = {
        "target": {"node": "web", "metric": "latency", "agg": "Average", "timestamp": 1_000_500},
        "root_cause": {"node": nodes[1], "metric": None},
        "metadata": {"reproducibility": {"command": command}},
    }
    (issue / "target.json").write_text(json.dumps(said))
    return folder


def test_the_petshop_layout_is_read_without_its_fault_command(tmp_path: Path) -> None:
    cases = [read(write_petshop(tmp_path / word, f"break {word}"))[0] for word in ("web", "stock")]
    assert cases[0].truth == {"stock_AWS::ECS::Fargate"} and cases[0].symptom_service == "web"
    assert cases[0].normal == (9_000_000.0, 9_000_000.0 + 300 * 59)
    answers = [
        localize(c.times, c.services, c.calls, c.symptom_service, "latency", c.noticed_at, c.normal) for c in cases
    ]
    assert answers[0] == answers[1]
    assert answers[0][0].service in cases[0].truth


def test_the_rcaeval_layout_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "carts_cpu" / "1"
    folder.mkdir(parents=True)
    names = "time,carts_cpu,carts_latency-50,front-end_latency-50,carts-db_mem,carts_container-memory-usage-bytes"
    rows = (f"{t},{0.1 if t < 60 else 0.9},0.01,0.02,5,6" for t in range(100))
    (folder / "data.csv").write_text("\n".join([names, *rows]))
    (folder / "inject_time.txt").write_text("60\n")
    case = read(tmp_path)[0]
    assert {s.service: sorted(s.series) for s in case.services} == {
        "carts": ["cpu", "latency", "memory"],
        "carts-db": ["memory"],
        "front-end": ["latency"],
    }
    assert (case.symptom_service, case.noticed_at, case.truth) == ("front-end", 60.0, {"carts"})


@pytest.mark.parametrize("wide", [True, False], ids=["wide", "long"])
def test_the_plain_layout_is_read_with_changes(tmp_path: Path, wide: bool) -> None:
    if wide:
        rows = ["time,web|latency,stock|latency|p99,stock|latency|average", *(f"{t},1,9,2" for t in range(5))]
    else:
        points = [("web", "latency", "", 1), ("stock", "latency", "p99", 9), ("stock", "latency", "average", 2)]
        rows = [
            "time,service,aspect,statistic,value",
            *(f"{t},{s},{a},{q},{v}" for t in range(5) for s, a, q, v in points),
        ]
    (tmp_path / "metrics.csv").write_text("\n".join(rows))
    (tmp_path / "calls.csv").write_text("caller,callee\nweb,stock\n")
    (tmp_path / "changes.json").write_text('[{"service": "stock", "at": 3, "name": "stock 2"}, {"service": "web"}]')
    (tmp_path / "target.json").write_text('{"symptom": {"service": "web", "noticed_at": 3}, "truth": "stock 2"}')
    case = read(tmp_path)[0]
    assert case.calls == {("web", "stock")} and case.candidates == ("stock 2", "web") and case.truth == {"stock 2"}
    stock = next(s for s in case.services if s.service == "stock")
    assert [v[0] for v in stock.series["latency"]] == [2.0, 9.0], "the average comes first"


@pytest.mark.parametrize("made", ["missing", "empty", "broken"])
def test_a_folder_that_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, made: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    if made != "missing":
        folder.mkdir()
    if made == "broken":
        (folder / "graph.csv").write_text("\n")
        (folder / "metrics.csv").write_text("")
        (folder / "target.json").write_text('{"symptom": {}, "truth": 3}')
    monkeypatch.setattr("sys.argv", ["root_cause", str(folder)])
    assert main() == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(folder) in said


def test_rivals_and_ours_answer_every_candidate_once() -> None:
    for question in ("service", "change"):
        case = make_case(11, question)
        scores = measure([case])
        assert {"localisation", "n-sigma", "graph walk"} <= set(scores)
        for rival in RIVALS.values():
            assert sorted(rival(case)) == sorted(case.candidates)
