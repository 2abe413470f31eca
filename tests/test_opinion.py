"""Whose diagnosis stands: the model explains, may tip what is level, and never overrules the evidence."""

from __future__ import annotations

from typing import Any

import pytest

from advisor.diagnosis import Assessment, Outcome
from advisor.diagnosis.grounding import Judgement, gather_facts, judge_answer
from advisor.diagnosis.model_answer import ModelAnswer
from advisor.diagnosis.opinion import Opinion, settle_opinion
from advisor.evidence import ChangeAnswer, CommitChange, FileChange
from advisor.evidence.config_diff import KeyChange
from advisor.playbook import Playbook
from advisor.values import ActionType
from tests.support.assessments import assessment_of, story

PLAYBOOK = Playbook(
    name="jvm_heap",
    title="Heap",
    symptoms=("java_heap_oom",),
    allowed_actions=(ActionType.REVERT_KEYS, ActionType.REVERT_COMMIT, ActionType.SET_VALUE, ActionType.ESCALATE),
)
KEY = "server.servlet.session.timeout"


@pytest.fixture
def assessment() -> Assessment:
    return assessment_of(story())


def history(assessment: Assessment) -> tuple[ChangeAnswer, ...]:
    """Return the commits of the hypotheses, as the repository gave them."""
    commits = []
    for h in assessment.hypotheses:
        if h.cause.commit and h.cause.at and h.cause.path and h.cause.key:
            key = KeyChange(path=h.cause.path, kind="changed", key=h.cause.key, old=h.cause.old, new=h.cause.new)
            commits.append(
                CommitChange(
                    commit=h.cause.commit,
                    parent=None,
                    author="bob",
                    authored_at=h.cause.at,
                    effective_at=h.cause.at,
                    subject="s",
                    in_scope=True,
                    files=(FileChange(path=h.cause.path, status="modified", keys=(key,)),),
                )
            )
    until = next(h.cause.at for h in assessment.hypotheses if h.cause.at is not None)
    return (ChangeAnswer(head="0" * 40, head_at=until, commits=tuple(commits)),)


def judged(assessment: Assessment, answer: dict[str, Any]) -> Judgement:
    facts = gather_facts(assessment, frozenset({"checkout"}))
    return judge_answer(ModelAnswer.model_validate(answer), assessment, facts, history(assessment), PLAYBOOK)


def settled(assessment: Assessment, answer: dict[str, Any]) -> tuple[Assessment, Opinion]:
    return settle_opinion(assessment, judged(assessment, answer), "openai:test", 0)


def agreeing(assessment: Assessment) -> dict[str, Any]:
    cause = assessment.hypotheses[0].cause
    return {
        "outcome": "diagnosed",
        "summary": "Sessions are kept 48 times as long and fill the heap.",
        "causes": [
            {
                "hypothesis": "H1",
                "kind": "config_change",
                "service": "checkout",
                "commit": cause.commit,
                "path": cause.path,
                "key": cause.key,
                "weight": 0.9,
                "why": [{"text": "The timeout went from 30m to 24h.", "evidence": ["C1"]}],
            }
        ],
        "claims": [{"text": "Used heap rose from 30.8 MiB to 86.6 MiB.", "evidence": ["M1"]}],
        "remedy": {
            "type": "revert_keys",
            "commit": cause.commit,
            "path": cause.path,
            "keys": [KEY],
            "fixes_cause": True,
            "why": {"text": "It takes the timeout back to 30m.", "evidence": ["C1"]},
        },
    }


def test_a_model_that_agrees_explains(assessment: Assessment) -> None:
    after, opinion = settled(assessment, agreeing(assessment))
    assert opinion.used and opinion.agrees and not opinion.struck
    assert after.diagnosis.by == "model"
    assert after.diagnosis.cause == assessment.diagnosis.cause
    assert after.diagnosis.probability == assessment.diagnosis.probability
    assert after.remedies == assessment.remedies
    assert "48 times" in after.diagnosis.summary


def test_a_struck_claim_caps_the_confidence_and_is_reported(assessment: Assessment) -> None:
    answer = agreeing(assessment)
    answer["claims"].append({"text": "Requests rose to 99,000 per second.", "evidence": ["M7"]})
    after, opinion = settled(assessment, answer)
    assert after.diagnosis.probability <= 0.8
    assert [c.text for c in opinion.struck] == ["Requests rose to 99,000 per second."]
    assert any("struck" in w for w in after.diagnosis.warnings)
    assert not any("99,000" in c.text for c in after.diagnosis.claims)


def heap_raise(assessment: Assessment) -> dict[str, Any]:
    return {
        "outcome": "diagnosed",
        "summary": "The heap is too small.",
        "causes": [
            {
                "hypothesis": "H6",
                "kind": assessment.hypotheses[5].kind.value,
                "service": "checkout",
                "weight": 1.0,
                "why": [{"text": "The heap peaked at 92.3 MiB.", "evidence": ["M1"]}],
            }
        ],
        "claims": [],
        "remedy": {
            "type": "set_value",
            "path": "apps/checkout/deployment.yaml",
            "keys": ["env[JAVA_TOOL_OPTIONS]"],
            "values": ["-Xmx512m"],
            "fixes_cause": True,
            "why": {"text": "More heap.", "evidence": ["M1"]},
        },
    }


def test_a_model_that_insists_on_a_larger_heap_changes_nothing(assessment: Assessment) -> None:
    after, opinion = settled(assessment, heap_raise(assessment))
    assert after == assessment
    assert opinion.agrees is False and not opinion.used
    assert "raise_heap was weighed and rejected" in opinion.remedy_refused
    assert all(r.action.type is ActionType.REVERT_KEYS for r in after.remedies)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        ({"hypothesis": "H99"}, "H99 is no hypothesis"),
        ({"kind": "load"}, "of kind config_change"),
        ({"service": "payments"}, "is about checkout"),
        ({"commit": "deadbeefdeadbeef"}, "not deadbeefdead"),
        ({"key": "cache.size"}, "not cache.size"),
        ({"hypothesis": None, "commit": "deadbeefdead", "key": None, "path": None}, "no commit deadbeefdead"),
        ({"hypothesis": None, "commit": None}, "names its commit"),
        ({"hypothesis": None, "kind": "load"}, "is no commit"),
        ({"hypothesis": None, "kind": "load", "commit": None, "key": None, "service": "nope"}, "no service"),
        ({"hypothesis": None, "key": "no.such.key"}, "did not change no.such.key"),
    ],
)
def test_a_cause_that_is_not_there_does_not_stand(assessment: Assessment, edit: dict[str, Any], fault: str) -> None:
    answer = agreeing(assessment)
    answer["causes"][0].update(edit)
    found = judged(assessment, answer)
    assert fault in found.causes[0].fault
    assert any(fault in f for f in found.faults)
    after, opinion = settle_opinion(assessment, found, "m", 0)
    assert after == assessment and not opinion.used


def test_a_cause_after_its_effect_does_not_stand(assessment: Assessment) -> None:
    late = assessment.hypotheses[0].cause.at
    assert late is not None
    early = assessment.model_copy(update={"started_at": late.replace(hour=late.hour - 3)})
    answer = agreeing(assessment)
    assert "after the trouble began" in judged(early, answer).causes[0].fault


@pytest.mark.parametrize(
    ("remedy", "fault"),
    [
        ({"type": "scale"}, "not among the actions"),
        ({"commit": "deadbeefdead"}, "no commit deadbeefdead"),
        ({"commit": None}, "names the commit"),
        ({"keys": ["server.port"]}, "did not change server.port"),
        ({"type": "escalate"}, "fixes nothing"),
    ],
)
def test_a_remedy_outside_the_facts_is_refused(assessment: Assessment, remedy: dict[str, Any], fault: str) -> None:
    answer = agreeing(assessment)
    answer["remedy"].update(remedy)
    found = judged(assessment, answer)
    assert found.remedy is not None and fault in found.remedy.fault
    after, _opinion = settle_opinion(assessment, found, "m", 0)
    assert after.remedies == assessment.remedies


def level(assessment: Assessment) -> Assessment:
    """Return an assessment that leaves the first cause level with others."""
    first = assessment.hypotheses[0].model_copy(update={"probability": 0.41})
    diagnosis = assessment.diagnosis.model_copy(
        update={"outcome": Outcome.INCONCLUSIVE, "cause": None, "probability": 0.41}
    )
    return assessment.model_copy(
        update={"hypotheses": (first, *assessment.hypotheses[1:]), "diagnosis": diagnosis, "remedies": ()}
    )


def test_a_model_may_tip_what_the_evidence_left_level(assessment: Assessment) -> None:
    answer = agreeing(assessment)
    answer["causes"][0]["why"].append({"text": "Used heap rose from 30.8 MiB to 86.6 MiB.", "evidence": ["M1"]})
    after, opinion = settled(level(assessment), answer)
    assert after.diagnosis.outcome is Outcome.DIAGNOSED and after.diagnosis.by == "model"
    assert after.diagnosis.probability <= 0.6
    assert [r.action.keys for r in after.remedies] == [(KEY,)]
    assert opinion.used


@pytest.mark.parametrize("spoil", ["one claim", "made up", "unlikely"])
def test_it_may_not_tip_with_less(assessment: Assessment, spoil: str) -> None:
    answer = agreeing(assessment)
    base = level(assessment)
    if spoil != "one claim":
        answer["causes"][0]["why"].append({"text": "Used heap rose from 30.8 MiB to 86.6 MiB.", "evidence": ["M1"]})
    if spoil == "made up":
        answer["causes"][0]["why"][0]["text"] = "The timeout went from 30m to 48h."
    if spoil == "unlikely":
        first = base.hypotheses[0].model_copy(update={"probability": 0.1})
        base = base.model_copy(update={"hypotheses": (first, *base.hypotheses[1:])})
    after, opinion = settled(base, answer)
    assert after == base and not opinion.used
