"""The evaluation: its arithmetic by hand, its judgement by tables, its runs on recorded, damaged and hostile cases."""

from __future__ import annotations

import io
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.cli import run
from advisor.diagnosis import Outcome
from advisor.errors import SettingsInvalid
from advisor.evaluation import page, statistics
from advisor.evaluation.calibration import (
    Scored,
    calibrate,
    first_share,
    fit_temperature,
    is_free,
    stated_at,
)
from advisor.evaluation.cases import Case, find_cases
from advisor.evaluation.evaluate import Evaluation, document, evaluate, parse_parts
from advisor.evaluation.figures import compare, summarise
from advisor.evaluation.judging import Judged, judge, raises_memory_ceiling, same_key
from advisor.evaluation.running import Answer, NamedCause, NamedRemedy, NotRun, Task, run_task, run_tasks
from advisor.evaluation.statistics import Share, Stated
from advisor.evaluation.truth import Split, Truth, parse_truth
from advisor.evaluation.words import in_percent
from advisor.playbook import Action
from advisor.replaying import Part, replaying
from advisor.terminal import make_console
from advisor.terminal.evaluation import counting, print_evaluation
from advisor.values import ActionType, CauseKind

ROOT = Path(__file__).parent.parent
PLAYBOOKS = ROOT / "playbooks"
HEAP = PLAYBOOKS / "jvm_heap" / "cases"
A, B = "a" * 40, "b" * 40


def case_folder(target: Path, of: str = "session_timeout", **truth: Any) -> Path:
    """Copy a recorded case, with some of its truth told otherwise."""
    target.mkdir(parents=True)
    shutil.copy(HEAP / of / f"{of}.bundle.zip", target / f"{target.name}.bundle.zip")
    told = yaml.safe_load((HEAP / of / "truth.yaml").read_text()) | truth
    (target / "truth.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    return target


# --- the arithmetic, by hand -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 5, 0.5655, 1.0),
        (1, 2, 0.0945, 0.9055),
        (81, 263, 0.2553, 0.3662),  # the worked example of Newcombe 1998, method 3
    ],
)
def test_a_share_has_its_wilson_interval(count: int, total: int, low: float, high: float) -> None:
    between = statistics.wilson_interval(count, total)
    assert between is not None
    assert (round(between.low, 4), round(between.high, 4)) == (low, high)


def test_of_nothing_there_is_no_interval_and_no_score() -> None:
    assert statistics.wilson_interval(0, 0) is None
    assert Share(0, 0).value is None
    assert statistics.brier([]) is None
    assert statistics.log_loss([]) is None
    assert statistics.brier_interval([Stated(0.5, True)]) is None
    assert statistics.expected_calibration_error(statistics.reliability([])) is None
    assert statistics.quantile([], 0.95) is None
    assert statistics.median([]) is None


@pytest.mark.parametrize(("count", "total"), [(3, 2), (-1, 5)])
def test_what_is_no_share_is_refused(count: int, total: int) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        statistics.wilson_interval(count, total)


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(1, 500))
def test_an_interval_holds_its_share_and_lies_in_bounds(count: int, more: int) -> None:
    total = count + more
    between = statistics.wilson_interval(count, total)
    assert between is not None
    assert 0 <= between.low <= count / total <= between.high <= 1


def test_brier_and_log_loss_are_as_computed_by_hand() -> None:
    stated = [Stated(0.9, True), Stated(0.2, False), Stated(0.6, False)]
    assert statistics.brier(stated) == pytest.approx((0.01 + 0.04 + 0.36) / 3)
    assert statistics.log_loss(stated) == pytest.approx(-(math.log(0.9) + math.log(0.8) + math.log(0.4)) / 3)


def test_a_wrong_certainty_is_dear_but_not_infinite() -> None:
    assert statistics.log_loss([Stated(1.0, False)]) == pytest.approx(-math.log(1e-6))


def test_reliability_counts_into_the_right_bins() -> None:
    stated = [Stated(0.05, False), Stated(0.1, True), Stated(0.72, True), Stated(0.78, False), Stated(1.0, True)]
    bins = statistics.reliability(stated)
    counted = [(i, b.right.count, b.right.total) for i, b in enumerate(bins) if b.right.total]
    assert counted == [(0, 0, 1), (1, 1, 1), (7, 1, 2), (9, 1, 1)]
    assert bins[7].mean == pytest.approx(0.75)
    # (1·0.05 + 1·0.9 + 2·0.25 + 1·0) / 5
    assert statistics.expected_calibration_error(bins) == pytest.approx((0.05 + 0.9 + 2 * 0.25 + 0.0) / 5)


@pytest.mark.parametrize("i", range(11))
def test_a_probability_on_a_boundary_belongs_to_the_upper_bin(i: int) -> None:
    (found,) = [n for n, b in enumerate(statistics.reliability([Stated(i / 10, True)])) if b.right.total]
    assert found == min(i, 9)


def test_the_bootstrap_repeats_itself_and_holds_the_score() -> None:
    chance = random.Random(7)
    stated = [Stated(chance.random(), chance.random() < 0.5) for _ in range(60)]
    one, again = statistics.brier_interval(stated), statistics.brier_interval(stated)
    assert one is not None
    assert one == again
    score = statistics.brier(stated)
    assert score is not None
    assert one.low < score < one.high
    # About two standard errors to each side, as for any mean of 60 values.
    losses = [(s.probability - s.right) ** 2 for s in stated]
    error = math.sqrt(sum((x - score) ** 2 for x in losses) / 59 / 60)
    assert one.high - one.low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_equal_losses_have_no_spread() -> None:
    between = statistics.brier_interval([Stated(0.8, True)] * 9)
    assert between is not None
    assert (round(between.low, 9), round(between.high, 9)) == (0.04, 0.04)


def test_quantile_and_median_are_of_the_values() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert statistics.quantile(values, 0.95) == 5.0
    assert statistics.quantile(list(map(float, range(1, 101))), 0.95) == 95.0
    assert statistics.quantile(values, 0.5) == statistics.median(values) == 3.0
    assert statistics.median([1.0, 2.0, 3.0, 10.0]) == 2.5


# --- truth -------------------------------------------------------------------------------------------------------------

WHOLE = f"""
outcome: diagnosed
kind: config_change
commit: "{A}"
path: apps/checkout/application.yaml
key: server.session.timeout
old: 30
new: 24h
class: session_lifetime
split: held_out
source: generator
noise: 5 % of samples are missing
tags: [red_herring, two_changes]
service: sessions
also: [{{service: checkout, commit: "{B}", key: cache.size}}]
remedies_refused: [raise_heap, restart]
"""


def test_a_truth_is_read_with_all_its_keys() -> None:
    truth = parse_truth(WHOLE, "truth.yaml")
    assert (truth.class_, truth.split, truth.old) == ("session_lifetime", Split.HELD_OUT, "30")
    assert [(c.service, c.commit, c.key) for c in truth.causes] == [
        ("sessions", A, "server.session.timeout"),
        ("checkout", B, "cache.size"),
    ]
    assert truth.has_culprit


def test_noise_is_told_in_words_or_amounts() -> None:
    for noise in ("5 % of samples are missing", {"missing": 0.05, "jitter_seconds": [1, 2.5], "restarts": True}):
        assert case(kind="load", noise=noise).truth.noise


def test_the_truths_that_ship_are_valid() -> None:
    files = sorted(PLAYBOOKS.glob("*/cases/*/truth.yaml"))
    assert len(files) >= 6
    for file in files:
        parse_truth(file.read_text(encoding="utf-8"), str(file))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("outcome: diagnosed\nkind: load\ncolour: red\n", "t.yaml: colour: unknown key"),
        (f"outcome: diagnosed\nkind: load\nalso: [{{commit: '{A}', line: 3}}]\n", "t.yaml: also.0.line: unknown key"),
        ("kind: load\n", "t.yaml: outcome: missing"),
        ("outcome: maybe\nkind: load\n", "t.yaml: outcome: "),
        ("outcome: diagnosed\nkind: gremlins\n", "t.yaml: kind: "),
        ("outcome: diagnosed\nkind: load\ncommit: HEAD\n", "t.yaml: commit: "),
        ("outcome: diagnosed\nkind: load\nsplit: test\n", "t.yaml: split: "),
        ("outcome: diagnosed\nkind: load\ntags: red herring\n", "t.yaml: tags: "),
        ("outcome: diagnosed\nkind: load\nclass: ../../etc\n", "t.yaml: class: "),
        ("outcome: healthy\nkind: load\n", "t.yaml: outcome healthy has kind none"),
        ("outcome: diagnosed\nkind: load\nnoise: {a: {b: 1}}\n", "t.yaml: noise"),
        ("outcome: diagnosed\nkind: none\n", "t.yaml: outcome diagnosed needs a kind"),
        ("- outcome\n", "t.yaml: a mapping is wanted at the top, found list"),
        ("", "t.yaml: a mapping is wanted at the top, found NoneType"),
        ("outcome: [", "t.yaml: not readable as YAML"),
        ("outcome: diagnosed\nkind: load\nold: {a: 1}\n", "t.yaml: old: "),
        ("a: " + "x" * 70_000, "t.yaml: 70003 characters, more than"),
    ],
)
def test_a_wrong_truth_is_refused_by_file_and_key(text: str, told: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        parse_truth(text, "t.yaml")
    assert str(refused.value).startswith(told)
    assert "\n" not in str(refused.value)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300) | st.from_regex(r"(outcome|kind|also|commit|tags|split): .{0,20}\n", fullmatch=True))
def test_any_text_is_a_truth_or_is_refused(text: str) -> None:
    try:
        truth = parse_truth(text, "t.yaml")
    except SettingsInvalid as refused:
        assert str(refused).startswith("t.yaml: ")
    else:
        assert isinstance(truth, Truth)


# --- judging -----------------------------------------------------------------------------------------------------------


def named(kind: str = "config_change", p: float = 0.9, score: float = 3.0, **cause: Any) -> NamedCause:
    parts = {"service": "checkout", "commit": None, "path": None, "key": None} | cause
    return NamedCause(kind=CauseKind(kind), probability=p, score=score, summary="it", **parts)


def fix(kind: str, service: str = "checkout", fixes_cause: bool = True, **action: Any) -> NamedRemedy:
    return NamedRemedy(service=service, action=Action(type=ActionType(kind), **action), fixes_cause=fixes_cause)


def answer(*hypotheses: NamedCause, outcome: str = "diagnosed", **more: Any) -> Answer:
    given: dict[str, Any] = {"proposals": (), "refused": (), "sighted": True, "seconds": 0.1} | more
    kind = hypotheses[0].kind if hypotheses and outcome == "diagnosed" else CauseKind.NONE
    return Answer(service="checkout", outcome=Outcome(outcome), kind=kind, hypotheses=hypotheses, **given)


def case(**truth: Any) -> Case:
    whole: dict[str, Any] = {"outcome": "diagnosed", "kind": "config_change"} | truth
    return Case("one", "class", Path("one.bundle.zip"), Truth.model_validate(whole))


GUILTY = {"commit": A, "path": "app.yaml", "key": "session.timeout", "old": "30m", "new": "24h"}
RIGHT = named(commit=A, path="app.yaml", key="server.session.timeout")


@pytest.mark.parametrize(
    ("truth", "hypotheses", "rank"),
    [
        pytest.param(GUILTY, [RIGHT], 1, id="commit, path and key"),
        pytest.param(GUILTY, [named(commit=B), named("load"), RIGHT], 3, id="third"),
        pytest.param(GUILTY, [named(commit=B, path="app.yaml", key="session.timeout")], None, id="another commit"),
        pytest.param(GUILTY, [named(commit=A, path="b.yaml", key="session.timeout")], None, id="another path"),
        pytest.param(GUILTY, [named(commit=A, path="app.yaml", key="pool.size")], None, id="another key"),
        pytest.param(GUILTY, [named(commit=A, path="app.yaml")], None, id="no key"),
        pytest.param(GUILTY, [RIGHT.model_copy(update={"service": "payments"})], None, id="another service"),
        pytest.param({"commit": A}, [named("deploy", commit=A, path="x", key="image")], 1, id="the commit is enough"),
        pytest.param({"commit": A, "service": "payments"}, [RIGHT], None, id="guilty elsewhere"),
        pytest.param(
            {"commit": A, "service": "payments"}, [named(service="payments", commit=A)], 1, id="found elsewhere"
        ),
        pytest.param({"kind": "load"}, [named(commit=A), named("load")], 2, id="the kind decides without a commit"),
        pytest.param({"kind": "dependency", "service": "db"}, [named("dependency")], None, id="kind but not service"),
        pytest.param(
            {**GUILTY, "also": [{"commit": B, "key": "cache.size"}]},
            [named(commit=B, path="c.yaml", key="app.cache.size"), RIGHT],
            1,
            id="a further right answer",
        ),
        pytest.param({"outcome": "inconclusive", "kind": "unknown"}, [named("unknown")], None, id="nothing to name"),
        pytest.param({"kind": "load"}, [], None, id="no hypothesis"),
        pytest.param({"kind": "external", "accepted_kinds": ["dependency"]}, [named("dependency")], 1, id="as right"),
        pytest.param({**GUILTY, "accepted_kinds": ["load"]}, [named("load")], None, id="but not for a guilty commit"),
    ],
)
def test_a_hit_names_the_true_cause(truth: dict[str, Any], hypotheses: list[NamedCause], rank: int | None) -> None:
    judged = judge(case(**truth), answer(*hypotheses))
    assert judged.rank == rank
    assert [judged.hit(k) for k in (1, 2, 3)] == [rank is not None and rank <= k for k in (1, 2, 3)]


@pytest.mark.parametrize(
    ("full", "key", "same"),
    [
        ("spec.containers[web].image", "image", True),
        ("spec.containers[web].base-image", "image", False),
        ("spec.containers[web].env[JAVA_OPTS].value:-Xmx", "-Xmx", True),
        ("session.timeout", "session.timeout", True),
        ("logging.level.org.example", "logging.level", True),
        ("spec.env[POOL_SIZE].value", "POOL_SIZE", True),
        ("spec.env[MIN_POOL_SIZE].value", "POOL_SIZE", False),
        ("spec.env[POOL_SIZE_MAX].value", "POOL_SIZE", False),
        ("xsession.timeout", "session.timeout", False),
        ("session.timeout-grace", "session.timeout", False),
        ("list[3]", "[3]", True),
        ("list[31]", "[3]", False),
        ("a(b.c", "a(b", True),
        ("other", "session.timeout", False),
    ],
)
def test_a_key_is_told_by_whole_parts(full: str, key: str, same: bool) -> None:
    assert same_key(full, key) is same


LIFT = {"path": "app.yaml", "keys": ("env[JAVA_OPTS].value:-Xmx",), "values": ("2g",)}


@pytest.mark.parametrize(
    ("truth", "remedy", "wrong", "ceiling"),
    [
        pytest.param(GUILTY, fix("revert_keys", commit=A, path="app.yaml", keys=("server.session.timeout",)), 0, 0),
        pytest.param(GUILTY, fix("revert_commit", commit=A, path="app.yaml"), 0, 0),
        pytest.param(GUILTY, fix("revert_keys", commit=B, path="app.yaml", keys=("session.timeout",)), 1, 0),
        pytest.param(GUILTY, fix("revert_keys", commit=A, path="app.yaml", keys=("pool.size",)), 1, 0),
        pytest.param(GUILTY, fix("revert_keys", commit=A, path="b.yaml", keys=("session.timeout",)), 1, 0),
        pytest.param(GUILTY, fix("set_value", path="app.yaml", keys=("session.timeout",), values=("30m",)), 0, 0),
        pytest.param(GUILTY, fix("set_value", path="app.yaml", keys=("session.timeout",), values=("1h",)), 1, 0),
        pytest.param(GUILTY, fix("restart"), 1, 0),
        pytest.param(GUILTY, fix("restart", fixes_cause=False), 0, 0),
        pytest.param(GUILTY, fix("set_value", **LIFT), 1, 1, id="a larger heap is no fix of a change"),
        pytest.param(GUILTY, fix("set_value", fixes_cause=False, **LIFT), 0, 0, id="and may be offered as none"),
        pytest.param({"kind": "capacity"}, fix("set_value", **LIFT), 0, 0, id="honest growth needs room"),
        pytest.param({"kind": "load"}, fix("scale"), 0, 0),
        pytest.param({"kind": "load"}, fix("scale", service="payments"), 1, 0),
        pytest.param({"kind": "load"}, fix("set_value", **LIFT), 1, 0),
        pytest.param({"kind": "load"}, fix("revert_commit", commit=A), 1, 0, id="nothing changed, nothing to revert"),
        pytest.param({"kind": "dependency"}, fix("scale"), 1, 0),
        pytest.param({"outcome": "healthy", "kind": "none"}, fix("scale"), 1, 0),
        pytest.param({"outcome": "inconclusive", "kind": "unknown"}, fix("revert_commit", commit=A), 1, 0),
        pytest.param(
            {**GUILTY, "also": [{"commit": B}]}, fix("revert_commit", commit=B), 0, 0, id="the other half of two"
        ),
    ],
)
def test_what_is_called_a_fix_must_be_one(truth: dict[str, Any], remedy: NamedRemedy, wrong: int, ceiling: int) -> None:
    judged = judge(case(**truth), answer(RIGHT, proposals=(remedy,)))
    assert len(judged.wrong_remedies) == wrong
    assert judged.ceiling_raised == bool(ceiling)


@pytest.mark.parametrize(
    "key",
    ["JAVA_OPTS:-Xmx", "x:-XX:MaxRAMPercentage", "resources.limits.memory", "mem_limit", "GOMEMLIMIT", "maxmemory"],
)
def test_a_memory_ceiling_is_known_by_its_key(key: str) -> None:
    assert raises_memory_ceiling(fix("set_value", keys=(key,), values=("2g",)))
    assert not raises_memory_ceiling(fix("revert_keys", commit=A, keys=(key,)))


@pytest.mark.parametrize("key", ["spec.replicas", "cache.size", "maximum-pool-size", "resources.limits.cpu"])
def test_other_limits_are_no_memory_ceiling(key: str) -> None:
    assert not raises_memory_ceiling(fix("set_value", keys=(key,), values=("3",)))


@pytest.mark.parametrize(
    ("truth", "given_answer", "stated"),
    [
        pytest.param(GUILTY, answer(RIGHT), Stated(0.9, True), id="right"),
        pytest.param(GUILTY, answer(named("load", 0.7), RIGHT), Stated(0.7, False), id="wrong"),
        pytest.param(GUILTY, answer(outcome="healthy"), Stated(1.0, False), id="a wrong healthy is a certainty"),
        pytest.param({"outcome": "healthy", "kind": "none"}, answer(outcome="healthy"), None, id="healthy states none"),
        pytest.param(
            {"outcome": "healthy", "kind": "none"}, answer(named("load", 0.6)), Stated(0.6, False), id="false alarm"
        ),
        pytest.param(
            {"outcome": "inconclusive", "kind": "unknown"},
            answer(named("unknown", 0.8), outcome="inconclusive"),
            Stated(0.8, True),
            id="unknown is right where nothing is known",
        ),
        pytest.param(GUILTY, answer(named("unknown", 0.8)), Stated(0.8, False), id="and wrong where a cause is"),
    ],
)
def test_what_was_stated_is_the_first_probability(
    truth: dict[str, Any], given_answer: Answer, stated: Stated | None
) -> None:
    assert judge(case(**truth), given_answer).stated == stated


def test_refusals_are_asked_for_by_name() -> None:
    truth = {**GUILTY, "remedies_refused": ["raise_heap", "restart"]}
    judged = judge(case(**truth), answer(RIGHT, refused=("raise_heap",)))
    assert judged.refusals_missing == ("restart",)
    assert summarise([judged]).refusals == Share(1, 2)


# --- figures -----------------------------------------------------------------------------------------------------------


def some_judged() -> list[Judged]:
    """Return seven cases with every kind of outcome; their figures are counted by hand below."""
    healthy = {"outcome": "healthy", "kind": "none"}
    unknown = {"outcome": "inconclusive", "kind": "unknown", "tags": ["missing_source"]}
    pairs = [
        ({**GUILTY, "tags": ["red_herring"]}, answer(RIGHT, seconds=1.0)),
        (GUILTY, answer(named("load", 0.7), RIGHT, seconds=2.0, proposals=(fix("scale"),))),
        (GUILTY, answer(named("load", 0.4), named("capacity", 0.3), RIGHT, outcome="inconclusive", seconds=3.0)),
        ({"kind": "load"}, answer(outcome="healthy", seconds=4.0)),
        (healthy, answer(outcome="healthy", seconds=5.0)),
        (unknown, answer(named("unknown", 0.5), outcome="inconclusive", sighted=False, seconds=6.0)),
        (unknown, answer(named("load", 0.9), seconds=70.0)),
    ]
    return [
        judge(replace(case(**truth), name=f"case {i}", bundle=Path(f"{i}.bundle.zip")), given_answer)
        for i, (truth, given_answer) in enumerate(pairs)
    ]


def test_figures_are_as_counted_by_hand() -> None:
    f = summarise(some_judged())
    assert f.cases == 7
    assert (f.first, f.first_three) == (Share(1, 4), Share(3, 4))
    assert f.abstained == Share(2, 4)
    assert f.rightly_abstained == Share(2, 3)
    assert f.outcome_right == Share(4, 7)
    assert f.wrong_diagnosis == Share(2, 7)
    assert f.wrong_remedy == Share(1, 7)
    assert f.stated == 6
    assert f.brier == pytest.approx((0.01 + 0.49 + 0.16 + 1.0 + 0.25 + 0.81) / 6)
    assert (f.seconds_median, f.seconds_p95) == (4.0, 70.0)


def test_figures_of_nothing_are_nothing() -> None:
    f = summarise([])
    assert f.cases == 0
    assert f.first.value is None
    assert f.brier is None


def test_an_ablation_compares_only_what_ran_both_ways() -> None:
    full = some_judged()
    lost = judge(full[0].case, answer(named("load", 0.7)))
    won = judge(full[1].case, answer(RIGHT))
    loss = compare(Part.METRICS, full, [lost, won, full[2]])
    assert loss.compared == 3
    assert (loss.first, loss.first_three, loss.wrong_remedies) == (0, 1, -1)
    assert (loss.worse, loss.better) == (("case 0",), ("case 1",))


# --- calibration -------------------------------------------------------------------------------------------------------


def test_the_first_share_is_the_softmax() -> None:
    assert first_share([0.0, 0.0, 0.0, 0.0]) == 0.25
    assert first_share([2.0, 0.0]) == pytest.approx(1 / (1 + math.exp(-2)))
    assert first_share([2.0, 0.0], temperature=2.0) == pytest.approx(1 / (1 + math.exp(-1)))
    assert first_share([-900.0, 900.0]) == 0.0
    with pytest.raises(ValueError, match="not above 0"):
        first_share([1.0], temperature=0.0)


@pytest.mark.parametrize("loss", ["brier", "log"])
def test_the_fitted_temperature_states_the_share_that_is_right(loss: Any) -> None:
    # Two candidates two apart, right in 7 of 10: both losses are least where 1 / (1 + e^(-2/T)) = 0.7, T = 2 / ln(7/3).
    cases = [Scored((2.0, 0.0), i < 7) for i in range(10)]
    found = fit_temperature(cases, loss)
    assert found is not None
    assert found.value == pytest.approx(2 / math.log(7 / 3), abs=0.002)
    assert not found.at_edge
    assert [s.probability for s in stated_at(cases, found.value)] == pytest.approx([0.7] * 10, abs=1e-3)


def test_a_temperature_that_nothing_settles_is_marked() -> None:
    found = fit_temperature([Scored((2.0, 0.0), True)] * 3, "log")
    assert found is not None
    assert found.at_edge
    assert fit_temperature([], "log") is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(Scored, st.lists(st.floats(-50, 50), min_size=1, max_size=6).map(tuple), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_a_fitted_temperature_is_never_worse_than_none(cases: list[Scored]) -> None:
    for loss, measure in (("brier", statistics.brier), ("log", statistics.log_loss)):
        found = fit_temperature(cases, loss)  # type: ignore[arg-type]
        plain = measure(stated_at(cases, 1.0))
        assert found is not None
        assert plain is not None
        assert found.loss <= plain + 0.002  # the grid steps over 1 by at most 2 %


def test_calibration_is_fitted_on_one_split_and_judged_on_the_other() -> None:
    def one(right: bool, split: str) -> Judged:
        first, second = (RIGHT, named("load", 0.1, 0.0)) if right else (named("load", 0.95, 3.0), RIGHT)
        return judge(case(**GUILTY, split=split), answer(first, second.model_copy(update={"score": 0.0})))

    development = [one(i < 7, "development") for i in range(10)]
    held_out = [one(i < 6, "held_out") for i in range(10)]
    found = calibrate([*development, *held_out], "brier")
    assert (found.fitted_on, found.stated.cases, found.after.cases) == (10, 10, 10)
    assert found.temperature is not None
    assert found.temperature.value == pytest.approx(3 / math.log(7 / 3), abs=0.01)
    # 0.7 for all, six of ten right: 0.6 · 0.09 + 0.4 · 0.49
    assert found.after.brier == pytest.approx(0.6 * 0.09 + 0.4 * 0.49, abs=1e-3)
    assert found.stated.brier == pytest.approx(0.6 * 0.01 + 0.4 * 0.95**2)
    assert found.after.brier < found.stated.brier
    assert calibrate(held_out, "brier").temperature is None


def test_a_capped_probability_is_not_calibrated() -> None:
    blind = judge(case(**GUILTY), answer(RIGHT, outcome="inconclusive", sighted=False))
    unmeasured = judge(case(**GUILTY), answer(RIGHT.model_copy(update={"probability": 0.5}), outcome="inconclusive"))
    assert not is_free(blind)
    assert not is_free(unmeasured)
    assert is_free(judge(case(**GUILTY), answer(RIGHT)))


# --- cases -------------------------------------------------------------------------------------------------------------


def test_the_shipped_cases_are_found_in_order_with_their_playbooks_as_classes() -> None:
    found = find_cases([PLAYBOOKS])
    assert len(found) >= 6
    assert [c.name for c in found] == sorted(c.name for c in found)
    heap = next(c for c in found if c.name == "jvm_heap/session_timeout")
    assert heap.class_name == "jvm_heap"
    assert find_cases([HEAP / "session_timeout"])[0].class_name == "jvm_heap"
    (one,) = find_cases([heap.bundle])
    assert (one.name, one.class_name) == ("session_timeout", "jvm_heap")


def test_a_case_is_counted_once_however_often_it_is_named(tmp_path: Path) -> None:
    case_folder(tmp_path / "a" / "one")
    assert len(find_cases([tmp_path, tmp_path / "a", tmp_path / "a" / "one"])) == 1


def test_equal_names_are_told_apart(tmp_path: Path) -> None:
    case_folder(tmp_path / "a" / "one")
    case_folder(tmp_path / "b" / "one")
    assert len({c.name for c in find_cases([tmp_path / "a", tmp_path / "b"])}) == 2


def test_splits_are_chosen_and_an_empty_one_is_said(tmp_path: Path) -> None:
    case_folder(tmp_path / "one")
    case_folder(tmp_path / "two", split="held_out")
    assert [c.name for c in find_cases([tmp_path], Split.HELD_OUT)] == ["two"]
    assert [c.name for c in find_cases([tmp_path])] == ["one", "two"]
    with pytest.raises(SettingsInvalid, match="no case of split held_out"):
        find_cases([tmp_path / "one"], Split.HELD_OUT)


def test_a_bundle_without_truth_is_no_case(tmp_path: Path) -> None:
    (case_folder(tmp_path / "one") / "truth.yaml").unlink()
    with pytest.raises(SettingsInvalid, match="no case"):
        find_cases([tmp_path])


def test_a_truth_that_is_not_text_is_refused(tmp_path: Path) -> None:
    folder = case_folder(tmp_path / "one")
    (folder / "truth.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        find_cases([tmp_path])
    (folder / "truth.yaml").unlink()
    (folder / "truth.yaml").mkdir()
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        find_cases([tmp_path])


# --- runs --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deadly(Task):
    """A task that ends the worker which takes it."""

    def __reduce__(self) -> Any:
        return os._exit, (9,)


@dataclass(frozen=True)
class Endless(Task):
    """A task that is never answered."""

    def __reduce__(self) -> Any:
        return time.sleep, (300,)


def test_a_worker_that_dies_takes_no_other_case_with_it() -> None:
    good = Task(HEAP / "session_timeout" / "session_timeout.bundle.zip")
    told: list[tuple[int, int, str]] = []
    found = run_tasks(
        [Deadly(Path("x")), good, Deadly(Path("x")), good],
        jobs=2,
        told=lambda done, total, name: told.append((done, total, name)),
    )
    assert found[0] == found[2] == NotRun("its worker process ended (exit code 9)")
    assert isinstance(found[1], Answer)
    assert isinstance(found[3], Answer)
    assert [done for done, _, _ in told] == [1, 2, 3, 4]


def test_a_case_that_gives_no_answer_is_given_up() -> None:
    assert run_tasks([Endless(Path("x"))], seconds_max=0.5) == [NotRun("no answer within 0.5 s")]


def damage(data: bytes, how: str) -> bytes:
    return {
        "empty": b"",
        "cut": data[: len(data) // 2],
        "text": b"not a zip",
        "flipped": data[:200] + b"?" * 400 + data[600:],
    }[how]


@pytest.mark.parametrize("how", ["empty", "cut", "text", "flipped"])
def test_a_damaged_bundle_is_named_and_not_run(tmp_path: Path, how: str) -> None:
    bundle = case_folder(tmp_path / "one") / "one.bundle.zip"
    bundle.write_bytes(damage(bundle.read_bytes(), how))
    found = run_task(Task(bundle))
    assert isinstance(found, NotRun)
    assert str(bundle) in found.reason
    assert "\n" not in found.reason


def figures_without_seconds(found: Evaluation) -> str:
    whole = document(found)
    for group in (whole["total"], *whole["classes"].values(), *whole["splits"].values(), *whole["tags"].values()):
        del group["seconds"]
    for loss in whole["ablation"]:
        del loss["figures"]["seconds"]
    for one in whole["cases"]:
        del one["seconds"]
    return json.dumps(whole, sort_keys=True)


def test_the_same_bundles_give_the_same_figures_whatever_the_workers() -> None:
    cases = find_cases([HEAP / "session_timeout", HEAP / "healthy", HEAP / "traffic_growth"])
    one, other = evaluate(cases, jobs=1, calibrated=True), evaluate(cases, jobs=3, calibrated=True)
    assert figures_without_seconds(one) == figures_without_seconds(other)
    assert [j.case.name for j in one.judged] == [c.name for c in cases]


def test_a_part_left_out_is_as_if_never_configured() -> None:
    bundle = HEAP / "session_timeout" / "session_timeout.bundle.zip"
    for part, source in ((Part.METRICS, "metrics"), (Part.CHANGES, "changes"), (Part.LOGS, "logs")):
        with replaying(bundle, [part]) as recorded:
            found = recorded.investigate()
        entry = next(e for e in found.report["coverage"] if e["source"] == source)
        assert (entry["status"], entry["reason"].split(";")[0]) == ("unavailable", "not configured")
        others = [
            e["status"] for e in found.report["coverage"] if e["source"] in {"metrics", "changes", "logs"} - {source}
        ]
        assert set(others) == {"ok"}
        if entry["required"]:
            assert found.report["diagnosis"]["outcome"] == "inconclusive"
            assert not any(p["fixes_cause"] for p in found.report["proposals"])
    with replaying(bundle, [Part.MECHANISMS, Part.TOPOLOGY]) as recorded:
        assert recorded.workflow.knobs == ()
        assert set(recorded.workflow.settings.services) == {recorded.service}
        assert recorded.workflow.settings.services[recorded.service].depends_on == ()


def test_parts_are_known_by_name() -> None:
    assert parse_parts(["logs", "metrics", "logs"]) == (Part.METRICS, Part.LOGS)
    with pytest.raises(SettingsInvalid, match="--without 'traces': one of metrics, changes"):
        parse_parts(["traces"])
    with pytest.raises(SettingsInvalid, match="leave --without away"):
        evaluate((), without=[Part.LOGS], ablation=True)


# --- the command -------------------------------------------------------------------------------------------------------


def test_the_command_scores_and_tells_by_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case_folder(tmp_path / "cases" / "right")
    assert run(["eval", str(tmp_path), "--jobs", "1", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["schema"] == "advisor.evaluation/v1"
    assert whole["total"]["cases"] == 1
    assert [c["case"] for c in whole["cases"]] == ["right"]
    case_folder(tmp_path / "cases" / "torn")
    (tmp_path / "cases" / "torn" / "torn.bundle.zip").write_bytes(b"PK\x03\x04")
    assert run(["eval", str(tmp_path), "--jobs", "1"]) == 1
    shown = capsys.readouterr()
    assert "1 cases" in shown.out
    (line,) = [line for line in shown.err.splitlines() if "could not be run" in line]
    assert line.startswith("advisor: torn: could not be run: ")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--without", "traces"], "one of metrics, changes, logs, topology, mechanisms"),
        (["--ablation", "--without", "logs"], "leave --without away"),
        (["--calibrate", "--split", "development"], "--calibrate needs both splits"),
        (["--split", "test"], "--split"),
        (["--jobs", "0"], "--jobs"),
        (["--report", "{file}"], "cannot be made"),
        (["{tmp}/nowhere"], "no such folder"),
        (["{tmp}/empty"], "no case"),
    ],
)
def test_wrong_use_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    case_folder(tmp_path / "one")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    given = [a.format(tmp=tmp_path, file=tmp_path / "file") for a in arguments]
    folder = [] if given[0].startswith("/") else [str(tmp_path / "one")]
    assert run(["eval", *folder, *given]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert told in shown.err


def test_a_bad_truth_file_is_refused_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case_folder(tmp_path / "one")
    case_folder(tmp_path / "two", colour="red")
    assert run(["eval", str(tmp_path)]) == 2
    assert f"{tmp_path / 'two' / 'truth.yaml'}: colour: unknown key" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are told of a stop in another way there")
def test_a_stop_from_the_keyboard_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "advisor", "eval", str(HEAP), "--ablation", "--jobs", "2"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 60
    while not list(tmp_path.glob("advisor-eval-*/advisor-replay-*")) and time.monotonic() < until:
        time.sleep(0.05)  # until a worker is in the middle of a case
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert out == ""
    assert [line for line in err.splitlines() if "replayed" not in line] == ["advisor: stopped; nothing was written"]
    assert list(tmp_path.iterdir()) == []


# --- the report --------------------------------------------------------------------------------------------------------

HOSTILE = "<img src=x onerror=alert(1)>\u202eevil $x^$ \\frac"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Run cases whose names and truths are somebody's attempt on the reader, with everything that can be asked besides."""
    folder = tmp_path_factory.mktemp("hostile")
    case_folder(folder / HOSTILE / "cases" / "<b>x", key='"><script>alert(2)</script>', service="a\u202eb")
    case_folder(folder / HOSTILE / "cases" / "<b>y", split="held_out", tags=["red_herring"])
    torn = case_folder(folder / HOSTILE / "cases" / "<i>z") / "<i>z.bundle.zip"
    torn.write_bytes(b"<script>")
    return evaluate(find_cases([folder]), ablation=True, calibrated=True, jobs=2)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "action", "data", "srcset"):
                self.links.append(value or "")


def test_the_page_is_whole_and_does_nothing_for_a_hostile_name(hostile: Evaluation, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert page.write_report(hostile, tmp_path / "report") == [f"{tmp_path / 'report' / 'report.html'} written"]
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert len(hostile.failures) == 1  # once, not once for each part
    read = _Tags()
    read.feed(text)
    assert not read.tags & {"script", "b", "i", "iframe", "link", "object", "embed", "base", "form"}
    assert len(read.links) == 3
    assert all(link.startswith("data:image/png;base64,") for link in read.links)
    assert not re.search(r"https?://|@import|url\(", text)
    assert "\u202e" not in text
    assert "⟨U+202E⟩" in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    for told in ("What is lost without each part", "Calibration", "Could not be run", "To look at"):
        assert told in text
    assert (tmp_path / "report" / "report.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_figures_give_the_same_report(hostile: Evaluation, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("one", "other"):
        page.write_report(hostile, tmp_path / name)
    for file in (page.PAGE, page.SHEET):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_tables_fit_and_are_harmless(hostile: Evaluation, width: int) -> None:
    out = io.StringIO()
    print_evaluation(make_console(out, width=width), hostile)
    shown = out.getvalue()
    assert max(len(line) for line in shown.splitlines()) <= width
    assert "\u202e" not in shown
    assert "\x1b" not in shown
    for told in ("AC@1", "AC@3", "Brier", "temperature", in_percent(hostile.total.outcome_right), "mechanisms"):
        assert told in shown


def test_without_pictures_the_tables_are_still_written(tmp_path: Path) -> None:
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "matplotlib.py").write_text("raise ImportError('not here')\n")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "advisor",
            "eval",
            str(HEAP / "healthy"),
            "--jobs",
            "1",
            "--report",
            str(tmp_path / "r"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path / 'absent'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "AC@1" in done.stdout
    told = [line for line in done.stderr.splitlines() if "matplotlib" in line]
    assert told == [f"advisor: {page.NO_PICTURES}"]
    assert "<img" not in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert not (tmp_path / "r" / "report.png").exists()


def test_neither_tables_nor_replays_load_matplotlib() -> None:
    code = (
        "import sys, advisor.evaluation.evaluate, advisor.evaluation.page, advisor.terminal.evaluation\n"
        "sys.exit('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0


def test_progress_is_told_by_tenths_and_not_at_all_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with counting(quiet) as told:
            for done in range(1, 201):
                told(done, 200, "one\x1b[2J")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "200 of 200 replayed, last one⟨U+001B⟩[2J"
