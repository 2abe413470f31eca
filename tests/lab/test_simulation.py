"""The generator of simulated cases: what its model must do, and that a case is recorded the same way twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.lab.simulation.__main__ import scenarios
from tests.lab.simulation.history import BrokenEdit, Edit, Made, write_repository
from tests.lab.simulation.model import Call, Params, Switch, Trace, changed, simulate, stage, steady_wait
from tests.lab.simulation.recording import RecordingFailed, check, keep, record
from tests.lab.simulation.vocabulary import EXPORTERS
from tests.support.prometheus import require_programs

HOUR = 3600.0


def run(services: dict[str, Params], rate: float, *switches: Switch) -> dict[str, Trace]:
    first = next(iter(services))
    generator = np.random.default_rng(7)
    return simulate(services, {first: lambda _now: rate}, switches, HOUR, 30.0, generator, warm_up=1800.0)


def halves(trace: Trace, column: str) -> tuple[float, float]:
    """Return the mean of the first and of the last third."""
    values = trace.get(column)
    third = len(values) // 3
    return float(values[:third].mean()), float(values[-third:].mean())


def test_a_single_server_waits_as_the_theory_says() -> None:
    assert steady_wait(0.5, 1, 0.1) == pytest.approx(0.1)  # M/M/1: rho / (1 - rho) x service time


def test_above_saturation_the_queue_grows_until_patience_ends() -> None:
    queue, given_up = 0.0, 0.0
    for _ in range(10):
        through, wait, queue, given_up = stage(queue, 20.0, 1, 0.1, 5.0, 30.0)
    assert through == pytest.approx(10.0)
    assert wait == pytest.approx(5.0)
    assert given_up == pytest.approx(10.0)


def test_a_smaller_pool_makes_requests_wait_and_fail() -> None:
    database = Params(kind="backend", replicas=1, base=0.01, cpu_limit=32)
    service = Params(pool=10, queries=3, database="db", pool_timeout=2.0)
    seen = run({"shop": service, "db": database}, 100, Switch(HOUR / 2, "shop", {"pool": 1}))["shop"]
    before, after = halves(seen, "time")
    assert after > 20 * before
    assert halves(seen, "pool_timeouts")[1] > 1


def test_a_longer_timeout_lets_hanging_calls_through() -> None:
    provider = Params(kind="backend", base=0.1, hang_share=0.05, hang_seconds=20, cpu_limit=32)
    service = Params(calls={"provider": Call(1.0, 1.0)})
    longer = Switch(HOUR / 2, "shop", {"calls.provider.timeout": 30.0})
    seen = run({"shop": service, "provider": provider}, 20, longer)["shop"]
    assert halves(seen, "time")[1] > 3 * halves(seen, "time")[0]
    assert halves(seen, "failed")[1] < halves(seen, "failed")[0]


def test_retries_are_load_for_who_is_called() -> None:
    provider = Params(kind="backend", base=0.1, error_share=0.5, cpu_limit=32)
    service = Params(calls={"provider": Call(1.0, 2.0, 0)})
    more = Switch(HOUR / 2, "shop", {"calls.provider.retries": 3})
    seen = run({"shop": service, "provider": provider}, 20, more)["provider"]
    before, after = halves(seen, "offered")
    assert after == pytest.approx(before * 1.875, rel=0.05)  # 1 + 1/2 + 1/4 + 1/8


def test_a_consumer_with_too_few_workers_falls_behind() -> None:
    worker = Params(kind="consumer", base=0.5, workers=8)
    seen = run({"mail": worker}, 20, Switch(HOUR / 2, "mail", {"workers": 2}))["mail"]
    assert seen.get("backlog")[50] < 100
    assert seen.get("backlog")[-1] > 10_000


def test_what_is_cached_is_held_until_the_limit_kills() -> None:
    service = Params(cache_limit=1000, cache_wanted=500_000, entry_kib=2, memory=100, memory_limit=250)
    seen = run({"shop": service}, 200, Switch(600, "shop", {"cache_limit": 500_000.0}))["shop"]
    assert any(why == "OOMKilled" for r in seen.replicas for _, why in r.restarts)


def test_a_probe_that_does_not_wait_for_the_start_kills_for_ever() -> None:
    service = Params(startup=40, probe_delay=60, probe_timeout=1)
    earlier = Switch(HOUR / 2, "shop", {"probe_delay": 3.0}, all_at_once=True)
    seen = run({"shop": service}, 20, earlier)["shop"]
    assert seen.get("ready")[0] == 2
    assert seen.get("ready")[-20:].max() == 0
    assert sum(len(r.restarts) for r in seen.replicas) > 5


def test_without_a_change_nothing_happens() -> None:
    seen = run({"shop": Params(pool=10, queries=2, database="db"), "db": Params(kind="backend", cpu_limit=32)}, 50)[
        "shop"
    ]
    for column in ("time", "cpu", "done"):
        before, after = halves(seen, column)
        assert after == pytest.approx(before, rel=0.05)


def test_a_field_of_a_call_is_changed_by_its_dotted_name() -> None:
    params = Params(calls={"a": Call(1.0, 2.0), "b": Call(1.0, 2.0)})
    assert changed(params, {"calls.a.timeout": 9.0}).calls == {"a": Call(1.0, 9.0), "b": Call(1.0, 2.0)}
    with pytest.raises(TypeError):
        changed(params, {"calls.a.nothing": 1})


def test_the_same_commits_are_made_each_time(tmp_path: Path) -> None:
    made = [Made(60.0, "alice", "a change", (Edit("a.yaml", "x: 1", "x: 2"),), "guilty")]
    one = write_repository(tmp_path / "one", 1.7e9, {"a.yaml": "x: 1\n"}, made, -HOUR)
    two = write_repository(tmp_path / "two", 1.7e9, {"a.yaml": "x: 1\n"}, made, -HOUR)
    assert one == two
    assert len(one["guilty"]) == 40


def test_an_edit_that_does_not_fit_is_a_mistake(tmp_path: Path) -> None:
    made = [Made(60.0, "alice", "a change", (Edit("a.yaml", "x: 9", "x: 2"),))]
    with pytest.raises(BrokenEdit, match=r"x: 9.*a\.yaml"):
        write_repository(tmp_path / "one", 1.7e9, {"a.yaml": "x: 1\n"}, made, -HOUR)


def test_the_cases_are_as_many_and_as_varied_as_they_must_be() -> None:
    cases = scenarios().values()
    assert len(cases) >= 46
    assert len({c.klass for c in cases}) >= 12
    held_out = sum(c.held_out for c in cases)
    assert 0.35 <= held_out / len(cases) <= 0.5
    tags = [tag for c in cases for tag in c.truth.tags]
    for tag, least in {"no_culprit": 8, "missing_source": 6, "red_herring": 6, "two_changes": 4}.items():
        assert tags.count(tag) >= least
    assert all((c.truth.guilty is None) == ("no_culprit" in c.truth.tags) for c in cases)


def test_held_out_cases_have_services_of_their_own() -> None:
    cases = scenarios().values()
    names: dict[bool, set[str]] = {
        split: {n for c in cases if c.held_out is split for n in c.services} for split in (True, False)
    }
    assert not names[True] & names[False]
    assert {e for c in cases for s in c.services.values() for e in s.exports} <= set(EXPORTERS)


@pytest.mark.real
def test_a_case_is_recorded_the_same_way_twice(tmp_path: Path) -> None:
    require_programs("prometheus", "promtool", "git")
    scenario = scenarios()["rate_limit_lowered"]
    first = record(scenario)
    assert keep(first, tmp_path)
    truth: dict[str, Any] = yaml.safe_load(first.truth)
    assert truth["key"] == "rate_limit.requests_per_second"
    assert len(truth["commit"]) == 40
    again = record(scenario)
    assert again.truth == first.truth
    assert not keep(again, tmp_path)
    wrong = replace(scenario.truth, guilty=replace(scenario.truth.guilty, key="no_such_key"))  # type: ignore[type-var]
    with pytest.raises(RecordingFailed, match="no_such_key"):
        check(replace(first, scenario=replace(scenario, truth=wrong)), {"guilty": truth["commit"]})
