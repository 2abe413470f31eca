"""The engine on incidents whose cause is known: the right cause, cited, or an honest "not known"."""

from __future__ import annotations

import itertools
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.diagnosis import Assessment, Outcome
from advisor.diagnosis.engine import CAPPED_PROBABILITY, DIAGNOSED_FROM, diagnose
from advisor.diagnosis.knobs import parse_knobs
from advisor.evidence import ChangeAnswer, Coverage, Gathered, LogAnswer, Series, SettledCoverage, SourceStatus, settle
from advisor.incident import Symptom
from advisor.values import ActionType, CauseKind, canonical_json
from tests.diagnosis.generators import STORIES, T0, Case

KNOBS = parse_knobs((Path(__file__).parents[2] / "playbooks" / "knobs.yaml").read_text())
RUNS = ((1, 30.0), (2, 30.0), (3, 1.0))  # seed, seconds between samples
TOLD = [pytest.param(name, seed, step, id=f"{name}-{seed}-{step:g}s") for name in STORIES for seed, step in RUNS]
SYMPTOMS = {
    "metaspace_lowered": Symptom.METASPACE,
    "metaspace_leak": Symptom.METASPACE,
    "threads_raised": Symptom.NATIVE_THREAD,
    "direct_lowered": Symptom.DIRECT_MEMORY,
    "limit_lowered": Symptom.CONTAINER_KILL,
    "heap_raised_under_a_limit": Symptom.CONTAINER_KILL,
}
TIMED = {  # what is known about the beginning, as a share of the window
    "session_timeout": 0.35, "cache_raised": 0.4, "leak_by_release": 0.4, "heap_lowered": 0.6, "hot_reload": 0.35, "slow_leak": 0.3,
    "dependency": 0.4, "red_herring": 0.12, "change_after_onset": 0.25, "already_reverted": 0.5,
}  # fmt: skip


def covered(**statuses: SourceStatus) -> SettledCoverage:
    named = {"metrics": SourceStatus.OK, "changes": SourceStatus.OK, "logs": SourceStatus.OK, **statuses}
    entries = tuple(
        Coverage(
            source=s, status=status, reason=None if status is SourceStatus.OK else "no answer", required=s != "logs"
        )
        for s, status in named.items()
    )
    return settle(entries, ("metrics", "changes"))


def assess(case: Case, coverage: SettledCoverage | None = None) -> Assessment:
    return diagnose(case.incident, coverage or covered(), case.gathered, KNOBS, case.depends_on)


@cache
def told(name: str, seed: int, step: float) -> tuple[Case, Assessment]:
    case = STORIES[name](seed, step)
    return case, assess(case)


# --- the right answer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "seed", "step"), TOLD)
def test_the_cause_that_was_planted_is_found(name: str, seed: int, step: float) -> None:
    case, found = told(name, seed, step)
    diagnosis = found.diagnosis
    if case.kind is CauseKind.NONE:
        assert diagnosis.outcome is Outcome.HEALTHY
        assert (found.hypotheses, found.remedies, found.started_at) == ((), (), None)
        return
    if case.kind is CauseKind.UNKNOWN:
        assert diagnosis.outcome is Outcome.INCONCLUSIVE
        assert (diagnosis.cause, found.remedies) == (None, ())
        assert "next: " in diagnosis.summary
        return
    assert (diagnosis.outcome, diagnosis.kind) == (Outcome.DIAGNOSED, case.kind), diagnosis.summary
    assert diagnosis.cause is not None
    assert diagnosis.cause.commit == case.commit
    assert case.key in (diagnosis.cause.key or "")
    assert diagnosis.probability >= DIAGNOSED_FROM


@pytest.mark.parametrize("name", SYMPTOMS)
def test_the_kinds_of_exhaustion_are_told_apart(name: str) -> None:
    for seed, step in RUNS:
        assert told(name, seed, step)[1].symptoms[0] is SYMPTOMS[name]


@pytest.mark.parametrize("name", TIMED)
def test_the_beginning_is_found_within_a_twelfth_of_the_window(name: str) -> None:
    for seed, step in RUNS:
        case, found = told(name, seed, step)
        assert found.started_at is not None
        span = 640 * step
        assert (found.started_at.timestamp() - T0) / span == pytest.approx(TIMED[name], abs=1 / 12), (
            case.incident.question
        )


# --- remedies ----------------------------------------------------------------------------------------------------------

GROWN = [name for name in STORIES if name not in ("capacity",) and not name.startswith("healthy")]


@pytest.mark.parametrize("name", GROWN)
def test_a_larger_heap_is_refused_with_a_reason_and_never_called_a_fix(name: str) -> None:
    for seed, step in RUNS:
        case, found = told(name, seed, step)
        why = {r.action: r.why for r in found.rejected_remedies}
        assert why.get("raise_heap"), name
        for remedy in found.remedies:
            raises = remedy.action.type is ActionType.SET_VALUE and any(
                "Xmx" in k or "MaxRAM" in k for k in remedy.action.keys
            )
            assert not (raises and remedy.fixes_cause)
        if (
            case.commit is not None
            and case.kind is CauseKind.CONFIG_CHANGE
            and case.key.startswith(("server.servlet", "cache"))
        ):
            assert "delays the next OutOfMemoryError" in why["raise_heap"]
            assert case.key in why["raise_heap"]


@pytest.mark.parametrize("name", [n for n in GROWN if STORIES[n](1, 30.0).commit])
def test_what_changed_is_taken_back_exactly(name: str) -> None:
    case, found = told(name, 1, 30.0)
    best = found.remedies[0]
    assert best.fixes_cause
    assert best.action.commit == case.commit
    assert any(case.key in key for key in best.action.keys)
    assert best.action.type is (ActionType.ROLL_BACK_IMAGE if case.kind is CauseKind.DEPLOY else ActionType.REVERT_KEYS)


@pytest.mark.parametrize("name", ["load_growth", "dependency", "capacity"])
def test_what_no_change_explains_is_not_taken_back(name: str) -> None:
    _, found = told(name, 1, 30.0)
    assert {r.action.type for r in found.remedies} <= {ActionType.SCALE, ActionType.SET_VALUE, ActionType.ESCALATE}
    assert found.remedies[-1].action.type is ActionType.ESCALATE


def test_traffic_is_answered_by_scaling_out() -> None:
    _, found = told("load_growth", 1, 30.0)
    assert next((r.action.type, r.action.values) for r in found.remedies) == (ActionType.SCALE, ("2",))


def test_a_value_that_is_back_already_is_not_taken_back_again() -> None:
    case, _ = told("session_timeout", 1, 30.0)
    changes = case.gathered.changes
    assert changes is not None
    guilty = next(c for c in changes.commits if c.commit == case.commit)
    old = next(k.old for f in guilty.files for k in f.keys if case.key in k.key)
    values = tuple(v.model_copy(update={"value": old}) if v.key == case.key else v for v in changes.configuration)
    gathered = case.gathered.model_copy(update={"changes": changes.model_copy(update={"configuration": values})})
    found = assess(Case(case.incident, gathered))
    assert [r.action.type for r in found.remedies] == [ActionType.ESCALATE]
    assert "back at" in found.remedies[0].summary


# --- what holds of every assessment ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "seed", "step"), TOLD)
def test_every_assessment_is_whole(name: str, seed: int, step: float) -> None:
    case, found = told(name, seed, step)
    check_whole(found)
    queries = [c.query for c in found.verification.checks]
    assert all('job="checkout"' in q for q in queries)
    if case.kind not in (CauseKind.NONE, CauseKind.UNKNOWN):
        assert queries


def check_whole(found: Assessment) -> None:
    ids = [e.id for e in found.evidence]
    assert len(set(ids)) == len(ids)
    cited = {i for h in found.hypotheses for i in (*h.for_, *h.against)} | {
        i for c in found.diagnosis.claims for i in c.evidence
    }
    assert cited <= set(ids)
    assert all(c.evidence and c.text for c in found.diagnosis.claims)
    assert sum(h.probability for h in found.hypotheses) <= 1 + 1e-3  # each is rounded to four places
    assert [h.rank for h in found.hypotheses] == list(range(1, len(found.hypotheses) + 1))
    scores = [sum(t.value for t in h.terms) for h in found.hypotheses]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(scores)), "the terms explain the order"
    for h in found.hypotheses:
        assert h.summary and all(t.why and math.isfinite(t.value) for t in h.terms)
    top = [h.probability for h in found.hypotheses]
    assert top == sorted(top, reverse=True)


def test_odds_are_the_difference_of_the_terms() -> None:
    for name in ("session_timeout", "dependency", "heap_lowered"):
        one, two, *_ = told(name, 1, 30.0)[1].hypotheses
        difference = sum(t.value for t in one.terms) - sum(t.value for t in two.terms)
        assert math.log(one.probability / two.probability) == pytest.approx(difference, abs=0.1)


@pytest.mark.parametrize("name", ["session_timeout", "capacity", "healthy", "threads_raised"])
def test_the_same_evidence_gives_the_same_assessment(name: str) -> None:
    case, found = told(name, 1, 30.0)
    again = assess(STORIES[name](1, 30.0))
    assert again == found
    assert canonical_json(again) == canonical_json(found)
    shuffled = case.gathered.model_copy(update={"metrics": tuple(reversed(case.gathered.metrics))})
    turned = assess(Case(case.incident, shuffled, case.depends_on))
    assert turned.diagnosis.cause == found.diagnosis.cause
    assert turned.diagnosis.probability == pytest.approx(found.diagnosis.probability, abs=0.02)


def test_the_story_does_not_depend_on_when_it_is_told() -> None:
    fast, slow = told("session_timeout", 1, 1.0)[1], told("session_timeout", 1, 30.0)[1]
    assert fast.diagnosis.cause is not None and slow.diagnosis.cause is not None
    assert fast.diagnosis.cause.key == slow.diagnosis.cause.key
    assert fast.diagnosis.probability == pytest.approx(slow.diagnosis.probability, abs=0.1)


# --- missing and broken evidence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["metrics", "changes"])
@pytest.mark.parametrize("status", [SourceStatus.EMPTY, SourceStatus.UNAVAILABLE])
@pytest.mark.parametrize("name", ["session_timeout", "heap_lowered", "load_growth", "healthy"])
def test_a_missing_required_source_leaves_it_open(name: str, source: str, status: SourceStatus) -> None:
    case, _ = told(name, 1, 30.0)
    gone: dict[str, object] = {"metrics": ()} if source == "metrics" else {"changes": None}
    found = assess(Case(case.incident, case.gathered.model_copy(update=gone)), covered(**{source: status}))
    assert found.diagnosis.outcome is Outcome.INCONCLUSIVE
    assert found.diagnosis.probability <= CAPPED_PROBABILITY
    assert max(h.probability for h in found.hypotheses) <= CAPPED_PROBABILITY
    assert found.remedies == ()
    assert f"{source} {status.value}" in found.diagnosis.summary
    check_whole(found)


def test_a_source_that_is_missing_is_missed_even_where_the_rest_would_do() -> None:
    case, _ = told("session_timeout", 1, 30.0)
    found = assess(case, covered(changes=SourceStatus.UNAVAILABLE))
    assert found.diagnosis.outcome is Outcome.INCONCLUSIVE
    assert found.diagnosis.probability <= CAPPED_PROBABILITY


def test_missing_logs_are_said_and_cost_no_diagnosis() -> None:
    case, _ = told("session_timeout", 1, 30.0)
    gathered = case.gathered.model_copy(update={"logs": None})
    found = assess(Case(case.incident, gathered), covered(logs=SourceStatus.UNAVAILABLE))
    assert found.diagnosis.outcome is Outcome.DIAGNOSED
    assert found.diagnosis.cause is not None and found.diagnosis.cause.commit == case.commit
    assert any(w.startswith("logs is unavailable") for w in found.diagnosis.warnings)


def test_metrics_that_do_not_show_the_resource_leave_it_open() -> None:
    case, _ = told("session_timeout", 1, 30.0)
    rest = tuple(s for s in case.gathered.metrics if "memory" not in s.name)
    found = assess(Case(case.incident, case.gathered.model_copy(update={"metrics": rest})))
    assert found.diagnosis.outcome is Outcome.INCONCLUSIVE
    assert found.diagnosis.probability <= CAPPED_PROBABILITY
    assert "no metric shows heap" in found.diagnosis.summary


def test_a_cut_history_is_said() -> None:
    case, _ = told("session_timeout", 1, 30.0)
    assert case.gathered.changes is not None
    changes = case.gathered.changes.model_copy(update={"history_complete": False})
    found = assess(Case(case.incident, case.gathered.model_copy(update={"changes": changes})))
    assert any("history of the configuration is cut" in w for w in found.diagnosis.warnings)


@pytest.mark.parametrize("keep", [0, 1, 2, 5, 20])
def test_a_few_samples_are_no_reason_to_fail(keep: int) -> None:
    case, _ = told("session_timeout", 1, 30.0)
    short = tuple(
        s.model_copy(update={"times": s.times[-keep:] if keep else (), "values": s.values[-keep:] if keep else ()})
        for s in case.gathered.metrics
    )
    for logs in (case.gathered.logs, None):
        check_whole(assess(Case(case.incident, case.gathered.model_copy(update={"metrics": short, "logs": logs}))))


def test_nothing_at_all_gives_an_open_answer() -> None:
    case, _ = told("healthy", 1, 30.0)
    empty = Gathered(
        start=case.gathered.start,
        end=case.gathered.end,
        changes=ChangeAnswer(head="0" * 40, head_at=case.gathered.start),
        logs=LogAnswer(),
    )
    found = assess(Case(case.incident, empty))
    assert found.diagnosis.outcome is Outcome.INCONCLUSIVE
    check_whole(found)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(["session_timeout", "limit_lowered", "load_growth", "threads_raised"]),
    st.integers(0, 6),
)
def test_damaged_metrics_give_an_assessment_that_is_whole(seed: int, name: str, damage: int) -> None:
    rng = np.random.default_rng(seed)
    case, _ = told(name, 2, 30.0)

    def damaged(s: Series) -> Series:
        values, times = np.array(s.values), np.array(s.times)
        if damage == 1:
            values = values * 0
        elif damage == 2:
            values = rng.permutation(values)
        elif damage == 3:
            values = np.full(values.shape, values[0])
        elif damage == 4:
            values = -values
        elif damage == 5:
            values = values / (np.abs(values).max() + 1) * 1e300
        keep = (
            np.sort(rng.choice(values.size, size=int(rng.integers(1, values.size)), replace=False))
            if damage
            else np.arange(values.size)
        )
        return s.model_copy(update={"values": tuple(values[keep].tolist()), "times": tuple(times[keep].tolist())})

    chosen = tuple(damaged(s) for s in case.gathered.metrics if rng.random() > 0.3)
    with np.errstate(all="ignore"):  # sums of absurd samples may overflow; what comes out must still be whole
        check_whole(assess(Case(case.incident, case.gathered.model_copy(update={"metrics": chosen}), case.depends_on)))
