"""Is what a model says shown by the evidence that it cites? True claims must stand, made-up ones must not."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from advisor.diagnosis.grounding.claims import Verdict, judge_claim
from advisor.diagnosis.grounding.facts import Facts, gather_facts
from tests.support.assessments import assessment_of, recorded_reports, story
from tests.support.fabrications import Worded, fabricated, true_claims

COUNT = 20_000 if os.environ.get("ADVISOR_PROOF") else 2_500


def facts_of_all() -> list[Facts]:
    return [
        gather_facts(assessment_of(report), frozenset((report["incident"]["service"],)), report["incident"]["question"])
        for report in recorded_reports()
    ]


def told(found: list[tuple[Worded, str]]) -> str:
    return "\n".join(f"{w.how or 'true'}: {w.text} [{', '.join(w.cites)}] -> {why}" for w, why in found[:12])


def test_true_claims_stand() -> None:
    chance = random.Random(20261122)
    every = [(claim, facts) for facts in facts_of_all() for claim in true_claims(facts, chance)]
    chosen = chance.sample(every, min(COUNT, len(every)))
    assert len(chosen) >= 2_000
    struck = [
        (claim, judged.why)
        for claim, facts in chosen
        if (judged := judge_claim(claim.text, claim.cites, facts)).verdict is not Verdict.GROUNDED
    ]
    assert len(struck) <= 0.01 * len(chosen), told(struck)


def test_fabrications_are_found() -> None:
    chance = random.Random(4711)
    every = [
        (wrong, facts)
        for facts in facts_of_all()
        for true in true_claims(facts, chance)
        for wrong in fabricated(true, facts, chance)
    ]
    chosen = chance.sample(every, min(COUNT, len(every)))
    assert len(chosen) >= 2_000
    kinds = Counter(wrong.how for wrong, _ in chosen)
    assert set(kinds) >= {"id", "number", "time", "commit", "key", "order", "person", "deed"}
    missed = [
        (wrong, "grounded")
        for wrong, facts in chosen
        if judge_claim(wrong.text, wrong.cites, facts).verdict is Verdict.GROUNDED
    ]
    assert len(missed) <= 0.01 * len(chosen), told(missed)


def test_the_engines_own_claims_stand() -> None:
    struck, count = [], 0
    for report in recorded_reports():
        assessment = assessment_of(report)
        facts = gather_facts(assessment, frozenset((report["incident"]["service"],)), report["incident"]["question"])
        for claim in assessment.diagnosis.claims:
            count += 1
            judged = judge_claim(claim.text, claim.evidence, facts)
            if judged.verdict is not Verdict.GROUNDED:
                struck.append((Worded(claim.text, claim.evidence, True, ""), judged.why))
    assert count > 300
    assert len(struck) <= 0.02 * count, told(struck)


@pytest.fixture(scope="module")
def facts() -> Facts:
    report = story()
    return gather_facts(assessment_of(report), frozenset({"checkout", "payments"}), "")


@pytest.mark.parametrize(
    ("text", "cites", "verdict"),
    [
        ("Used heap rose from 30.8 MiB to 86.6 MiB.", ("M1",), Verdict.GROUNDED),
        ("Used heap rose from 31,539 KiB to about 87 MiB.", ("M1",), Verdict.GROUNDED),
        ("Used heap nearly tripled, ×2.8.", ("M1",), Verdict.GROUNDED),
        ("The session timeout went from 1800 s to 86400 s, 48 times as long.", ("C1",), Verdict.GROUNDED),
        ("The session timeout went from 30 minutes to 1 day.", ("C1",), Verdict.GROUNDED),
        ("The session timeout went from 24h to 30m.", ("C1",), Verdict.CONTRADICTED),
        ("Used heap fell during the incident.", ("M1",), Verdict.CONTRADICTED),
        ("Used heap rose to 412 MiB.", ("M1",), Verdict.CONTRADICTED),
        ("Commit deadbee1 raised the timeout.", ("C1",), Verdict.CONTRADICTED),
        ("The heap filled because of spring.cache.size.", ("C1",), Verdict.CONTRADICTED),
        ("Carol changed the session timeout.", ("C1",), Verdict.CONTRADICTED),
        ("Used heap rose.", ("M99",), Verdict.CONTRADICTED),
        ("Used heap rose.", (), Verdict.UNSUPPORTED),
        ("Metaspace filled up.", ("M1",), Verdict.UNSUPPORTED),
        ("The fix was approved and applied.", ("C1",), Verdict.CONTRADICTED),
        ("I have already rolled back the change.", ("C1",), Verdict.CONTRADICTED),
        ("No approval is needed for this.", ("C1",), Verdict.CONTRADICTED),
    ],
)
def test_one_claim(facts: Facts, text: str, cites: tuple[str, ...], verdict: Verdict) -> None:
    judged = judge_claim(text, cites, facts)
    assert judged.verdict is verdict, judged.why
