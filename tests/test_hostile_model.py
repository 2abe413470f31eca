"""Whatever a model answers: nothing is written, nothing is approved, and nothing outside the engine's own remedies is proposed."""

from __future__ import annotations

import os
import random
from collections import Counter

from advisor.diagnosis.grounding import gather_facts, judge_answer, parse_answer
from advisor.diagnosis.opinion import no_opinion, settle_opinion
from advisor.errors import ModelAnswerInvalid
from tests.support.assessments import assessment_of, recorded_reports
from tests.support.hostile_answers import hostile_answer
from tests.test_opinion import PLAYBOOK, history

COUNT = 20_000 if os.environ.get("ADVISOR_PROOF") else 3_000


def test_invariant_3_no_answer_of_a_model_proposes_what_the_evidence_does_not() -> None:
    chance = random.Random(20261122)
    reports = [
        r
        for r in recorded_reports()
        if any(h["cause"].get("commit") and h["cause"].get("key") for h in r["hypotheses"])
    ]
    ends: Counter[str] = Counter()
    scenes = []
    for report in chance.sample(reports, 12):
        assessment = assessment_of(report)
        facts = gather_facts(assessment, frozenset({report["incident"]["service"]}))
        scenes.append((report, assessment, facts, history(assessment)))
    for _ in range(COUNT):
        report, assessment, facts, changes = chance.choice(scenes)
        text = hostile_answer(chance, [e["id"] for e in report["evidence"]], report["hypotheses"])
        try:
            judgement = judge_answer(parse_answer(text), assessment, facts, changes, PLAYBOOK)
        except ModelAnswerInvalid as error:
            assert "\n" not in str(error)
            no_opinion("m", str(error))
            ends["refused: no answer"] += 1
            continue
        after, opinion = settle_opinion(assessment, judgement, "m", 0)
        assert set(map(repr, after.remedies)) <= set(map(repr, assessment.remedies))
        assert after.hypotheses == assessment.hypotheses
        assert after.verification == assessment.verification
        said = " ".join([after.diagnosis.summary, *(c.text for c in after.diagnosis.claims)])
        for deed in ("approved by", "already been executed", "No approval is needed", "Grant the approval"):
            assert deed not in said
        ends["used" if opinion.used else "shown beside the engine's"] += 1
    assert ends["shown beside the engine's"] > 0.3 * COUNT and ends["refused: no answer"] > 0.1 * COUNT
