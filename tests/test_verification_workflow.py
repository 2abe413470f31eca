"""Verification over the workflow: the windows that are asked for, the other vital signs, and the rollback that was allowed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from advisor.approval import Approval
from advisor.errors import SourceUnavailable
from advisor.evidence import MetricAnswer, MetricRequest, Series
from advisor.lifecycle import State
from advisor.playbook import Action, Check, Comparison, Measure, VerificationPlan
from advisor.proposal import Draft, RepositoryName, build_proposal
from advisor.settings import load_settings
from advisor.values import ActionType, Risk
from advisor.verification import Verdict, Verification
from advisor.workflow import Changing
from tests.support.gate import ALICE, BAD, BOB, GOOD, NOW, PATH, TIMEOUT, fast_import, git, new_remote

PLAN = VerificationPlan(
    checks=(
        Check(
            name="sessions are back",
            query='sum(sessions{job="checkout"})',
            measure=Measure.MEAN,
            comparison=Comparison.AT_MOST,
            threshold=100.0,
        ),
    ),
    settle_seconds=60,
    window_seconds=600,
)
Curve = Callable[[float], float]  # seconds since the change -> value; NaN where there is no sample


def after(seconds: float, then: float, before: float) -> Curve:
    return lambda t: then if t >= seconds else before


def counter(rate: Curve) -> Curve:
    """Return a counter that grows by a rate, sampled every second and kept."""
    total: dict[int, float] = {-2000: 1e6}
    for second in range(-1999, 3001):
        total[second] = total[second - 1] + rate(second)
    return lambda t: total[max(-2000, min(3000, int(t)))]


@dataclass
class Metrics:
    """A Prometheus in memory: curves by name and job, counted from the change."""

    changed: float
    curves: dict[tuple[str, str, str], Curve] = field(default_factory=dict)  # name, job, status -> curve
    fail: bool = False
    asked: list[str] = field(default_factory=list)

    def query_range(self, request: MetricRequest) -> MetricAnswer:
        self.asked.append(request.query)
        if self.fail and not request.query.startswith("sum("):
            raise SourceUnavailable("metrics: connection refused")
        found = re.search(r'job="(\w+)"', request.query)
        job = found[1] if found else ""
        wanted = [(key, curve) for key, curve in self.curves.items() if key[1] == job]
        if request.query.startswith("sum("):
            wanted = [(key, curve) for key, curve in wanted if key[0] == "sessions"]
        step, times = request.step_seconds, []
        at = request.start.timestamp()
        while at <= request.end.timestamp() + 1e-6:
            times.append(at)
            at += step
        series = tuple(self._series(key, curve, times) for key, curve in wanted)
        if request.query.startswith("count by"):
            names = sorted({s.name for s in series if s.times})
            series = tuple(
                Series(name="", labels=(("__name__", name),), times=(times[-1],), values=(1.0,)) for name in names
            )
        return MetricAnswer.model_construct(series=tuple(s for s in series if s.times), warnings=(), request=request)

    def _series(self, key: tuple[str, str, str], curve: Curve, times: list[float]) -> Series:
        name, job, status = key
        points = [(t, v) for t in times if math.isfinite(v := curve(t - self.changed))]
        labels = (("instance", "a"), ("job", job), *((("status", status),) if status else ()))
        return Series(name=name, labels=labels, times=tuple(t for t, _ in points), values=tuple(v for _, v in points))


@dataclass
class Scene:
    folder: Path
    change: str
    at: datetime
    metrics: Metrics

    def set(self, name: str, curve: Curve, job: str = "checkout", status: str = "") -> None:
        self.metrics.curves[name, job, status] = curve

    def workflow(self, seconds: float = 700) -> Changing:
        made = Changing(load_settings(self.folder / "advisor.yaml"), clock=lambda: self.at + timedelta(seconds=seconds))
        made.prometheus = lambda: self.metrics  # type: ignore[assignment, method-assign, return-value]
        return made

    def verify(self, seconds: float = 700) -> Verification:
        return self.workflow(seconds).verify(self.change)

    def show(self) -> bytes:
        return git(self.folder / "remote.git", "show", f"main:{PATH}").encode()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return make_scene(tmp_path, rollback_on_failure=False)


def make_scene(folder: Path, rollback_on_failure: bool) -> Scene:
    new_remote(folder)
    fast_import(folder / "remote.git", {PATH: BAD})
    where = {"repository": "config", "paths": ["apps/checkout/**"]}
    settings: dict[str, Any] = {
        "prometheus": {"url": "http://127.0.0.1:9"},
        "repositories": {"config": {"url": "./remote.git"}},
        "services": {
            "checkout": {"selector": 'job="checkout"', "configuration": where},
            "shop": {"selector": 'job="shop"', "depends_on": ["checkout"]},
        },
        "approval": {"approvers": [ALICE, BOB]},
    }
    (folder / "advisor.yaml").write_text(json.dumps(settings))
    workflow = Changing(load_settings(folder / "advisor.yaml"), clock=lambda: NOW)
    repository = workflow.repository("config")
    draft = Draft(
        incident_id="inc-1",
        service="checkout",
        action=Action(type=ActionType.SET_VALUE, path=PATH, keys=(TIMEOUT,), values=("30m",), reason="Because."),
        risk=Risk.LOW,
        fixes_cause=True,
        summary="Sets the timeout.",
        repository=RepositoryName(name="config", url=repository.shown_url),
        branch="main",
        allowed_paths=("apps/checkout/**",),
        evidence_digest="sha256:" + "2" * 64,
        policy_version=workflow.settings.policy_version,
        verification=PLAN,
        proposer="engine",
    )
    proposal = build_proposal(repository, draft, "pro-1", "n", NOW)
    workflow.store.save_proposal(proposal)
    change = workflow.approve(proposal.id, ALICE, rollback_on_failure=rollback_on_failure).change
    assert change is not None
    made = Scene(folder, change.id, change.at, Metrics(change.at.timestamp()))
    made.set("sessions", after(30, 20.0, 900.0))
    made.set("http_requests_total", counter(lambda t: 20.0), status="200")
    made.set("process_start_time_seconds", lambda t: made.metrics.changed - 86_400)
    return made


def test_a_symptom_that_went_with_nothing_worse_passes(scene: Scene) -> None:
    found = scene.verify()
    assert found.verdict is Verdict.PASSED, found.reason
    assert {r.name for r in found.results} >= {"sessions are back", "traffic of checkout", "restarts of checkout"}


def test_a_symptom_that_went_while_errors_came_fails(scene: Scene) -> None:
    scene.set("http_requests_total", counter(after(120, 4.0, 0.0)), status="500")
    found = scene.verify()
    assert found.verdict is Verdict.FAILED
    assert "errors of checkout: " in found.reason and "worse since the change" in found.reason


def test_a_symptom_that_went_with_the_traffic_is_not_recovery(scene: Scene) -> None:
    scene.set("http_requests_total", counter(after(60, 1.0, 20.0)), status="200")
    found = scene.verify()
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "traffic of checkout: " in found.reason and "cannot be told" in found.reason


def test_a_service_that_restarts_after_the_change_took_effect_fails(scene: Scene) -> None:
    changed = scene.metrics.changed

    def start(t: float) -> float:
        return changed + (480 if t >= 480 else 90 if t >= 90 else -86_400)

    scene.set("process_start_time_seconds", start)
    found = scene.verify(900)
    assert found.verdict is Verdict.FAILED
    assert "restarts of checkout: 1 after the change had taken effect" in found.reason


def test_a_callers_errors_count(scene: Scene) -> None:
    scene.set("http_requests_total", counter(lambda t: 10.0), job="shop", status="200")
    scene.set("http_requests_total", counter(after(120, 3.0, 0.0)), job="shop", status="503")
    found = scene.verify()
    assert found.verdict is Verdict.FAILED and "errors of shop: " in found.reason


def test_the_window_counts_from_the_rollout(scene: Scene) -> None:
    changed = scene.metrics.changed
    scene.set("process_start_time_seconds", lambda t: changed + (240 if t >= 240 else -86_400))
    scene.set("sessions", after(250, 20.0, 900.0))  # until the rollout nothing got better
    early = scene.verify(700)
    assert early.changed_at == scene.at + timedelta(seconds=240)
    assert early.verdict is Verdict.INCONCLUSIVE and "the window is not over" in early.reason
    assert scene.verify(240 + 60 + 600).verdict is Verdict.PASSED


def test_vital_signs_that_cannot_be_read_let_nothing_pass(scene: Scene) -> None:
    scene.metrics.fail = True
    found = scene.verify()
    assert found.verdict is Verdict.ERROR and "connection refused" in found.reason


def test_no_samples_are_no_recovery(scene: Scene) -> None:
    scene.metrics.curves.clear()
    assert scene.verify().verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("allowed", "rolled_back"), [(True, True), (False, False)])
def test_a_failed_change_goes_back_by_itself_only_where_that_was_allowed(
    tmp_path: Path, allowed: bool, rolled_back: bool
) -> None:
    scene = make_scene(tmp_path, rollback_on_failure=allowed)
    scene.set("sessions", lambda t: 900.0)
    workflow = scene.workflow()
    assert workflow.verify(scene.change).verdict is Verdict.FAILED
    assert scene.show() == (BAD if rolled_back else GOOD)
    assert workflow.store.state_of("pro-1") is (State.ROLLED_BACK if rolled_back else State.FAILED)
    if rolled_back:
        back = next(c for c, _ in workflow.changes() if c.rolls_back == scene.change)
        (answer,) = workflow.store.answers(back.proposal_id)
        assert isinstance(answer, Approval) and "verification failed" in answer.comment
        assert answer.person == ALICE
        actions = [(e.actor, e.action) for e in workflow.store.audit_entries()]
        assert (ALICE, "change.begin_rollback") in actions


@pytest.mark.parametrize("trouble", ["traffic", "unreadable", "no data", "not over"])
def test_nothing_goes_back_by_itself_unless_it_failed(tmp_path: Path, trouble: str) -> None:
    scene = make_scene(tmp_path, rollback_on_failure=True)
    seconds = 700.0
    if trouble == "traffic":
        scene.set("http_requests_total", counter(after(60, 1.0, 20.0)), status="200")
    elif trouble == "unreadable":
        scene.metrics.fail = True
    elif trouble == "no data":
        scene.metrics.curves.clear()
    else:
        scene.set("sessions", lambda t: 900.0)
        seconds = 300.0
    found = scene.verify(seconds)
    assert found.verdict in (Verdict.INCONCLUSIVE, Verdict.ERROR)
    assert scene.show() == GOOD
