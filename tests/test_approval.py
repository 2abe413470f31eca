"""Approvals: who may say yes, to exactly what, until when; every other way is refused by name."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from advisor.approval import (
    Answer,
    Approval,
    Choice,
    Denial,
    Expiry,
    Grant,
    Resolution,
    decide,
    expire,
    grant,
    people_needed,
    principal,
    verify_approval,
)
from advisor.errors import (
    AdvisorError,
    ApprovalExpired,
    ApprovalMismatch,
    ApprovalMissing,
    ApprovalResolved,
    ApproverNotAllowed,
    IllegalTransition,
    NotPermitted,
)
from advisor.playbook import Action
from advisor.proposal import Proposal
from advisor.settings import ApprovalRules
from advisor.values import ActionType, Risk
from tests.support.gate import (
    ALICE,
    BOB,
    CAROL,
    KEY,
    MALLORY,
    NOW,
    POLICY,
    RULES,
    altered,
    approve,
    fake_with_cause,
    granted,
    propose,
    revert_action,
    say,
)

MS = timedelta(milliseconds=1)


def proposed(**fields: Any) -> Proposal:
    repository, commit = fake_with_cause()
    return propose(repository, revert_action(commit), **fields)


def answered(
    proposal: Proposal,
    answer: Answer,
    rules: ApprovalRules = RULES,
    policy: str = POLICY,
    answers: tuple[Resolution, ...] = (),
    now: datetime = NOW,
) -> Approval | Denial:
    return decide(proposal, answer, rules, policy, answers, now, KEY)


# --- one answer ----------------------------------------------------------------------------------------------------


def test_an_approval_carries_all_that_was_agreed_to() -> None:
    proposal = proposed()
    given = answered(proposal, say(proposal, " Alice@Example.org ", role="on-call", rollback_on_failure=True))
    assert isinstance(given, Approval)
    assert (given.person, given.role, given.digest, given.at) == (ALICE, "on-call", proposal.digest, NOW)
    assert given.rollback_on_failure
    assert given.policy_version == POLICY
    verify_approval(given, proposal, KEY)


def test_a_denial_is_signed_as_well() -> None:
    proposal = proposed()
    given = answered(proposal, say(proposal, BOB, Choice.DENY, comment="not\nnow"))
    assert isinstance(given, Denial)
    assert given.comment == "not now"
    assert given.signature.startswith("hmac-sha256:")


LATE = timedelta(minutes=30)
REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], type[AdvisorError], str]] = {
    "no_name": ({"person": ""}, {}, ApproverNotAllowed, "say who you are"),
    "blank_name": ({"person": " \t"}, {}, ApproverNotAllowed, "say who you are"),
    "not_listed": ({"person": MALLORY}, {}, ApproverNotAllowed, "mallory@example.org is not among"),
    "list_is_empty": ({}, {"rules": ApprovalRules()}, ApproverNotAllowed, "approvers is empty"),
    "other_digest": ({"digest": "sha256:" + "0" * 64}, {}, ApprovalMismatch, "another digest"),
    "no_digest": ({"digest": ""}, {}, ApprovalMismatch, "another digest"),
    "policy_changed": ({}, {"policy": "sha256:" + "9" * 64}, ApprovalMismatch, "rules changed"),
    "at_expiry": ({}, {"now": NOW + LATE}, ApprovalExpired, "ran out"),
    "after_expiry": ({}, {"now": NOW + LATE + MS}, ApprovalExpired, "ran out"),
    "clock_went_back": ({}, {"now": NOW - MS}, ApprovalExpired, "check the clock"),
    "full_width_letter": ({"person": "ａlice@example.org"}, {}, ApproverNotAllowed, "mistaken"),
    "kelvin_sign": ({"person": "bo\u212a@example.org"}, {}, ApproverNotAllowed, "mistaken"),
    "cyrillic_letter": ({"person": "\u0430lice@example.org"}, {}, ApproverNotAllowed, "not among"),
    "invisible_letter": ({"person": "alice\u200b@example.org"}, {}, ApproverNotAllowed, "mistaken"),
    "inner_blank": ({"person": "alice @example.org"}, {}, ApproverNotAllowed, "mistaken"),
    "line_break": ({"person": f"{ALICE}\nApproved-by: {BOB}"}, {}, ApproverNotAllowed, "mistaken"),
    "too_long": ({"person": "a" * 300}, {}, ApproverNotAllowed, "300 characters"),
}


@pytest.mark.parametrize(("said", "under", "error", "words"), REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("choice", Choice)
def test_an_answer_outside_the_rules_is_refused_by_name(
    said: dict[str, Any], under: dict[str, Any], error: type[AdvisorError], words: str, choice: Choice
) -> None:
    proposal = proposed()
    answer = Answer.model_validate({**say(proposal, choice=choice).model_dump(), **said})
    with pytest.raises(error, match=words):
        answered(proposal, answer, **under)


def test_the_last_millisecond_counts() -> None:
    proposal = proposed()
    assert isinstance(answered(proposal, say(proposal), now=NOW + LATE - MS), Approval)


@pytest.mark.parametrize("proposer", [ALICE, "ALICE@example.org", " alice@example.org", "ａlice@example.org"])
def test_the_proposer_never_approves(proposer: str) -> None:
    proposal = proposed(proposer=proposer)
    with pytest.raises(ApproverNotAllowed, match="proposed it"):
        answered(proposal, say(proposal, ALICE))
    assert isinstance(answered(proposal, say(proposal, BOB)), Approval)


def test_a_proposal_that_was_edited_cannot_be_approved() -> None:
    proposal = altered(proposed(), tree="f" * 40)
    with pytest.raises(ApprovalMismatch, match="does not have the digest"):
        answered(proposal, say(proposal))


def test_an_escalation_has_nothing_to_approve_but_can_be_denied() -> None:
    repository, _ = fake_with_cause()
    proposal = propose(repository, Action(type=ActionType.ESCALATE))
    with pytest.raises(NotPermitted, match="nothing to approve"):
        answered(proposal, say(proposal))
    assert isinstance(answered(proposal, say(proposal, choice=Choice.DENY)), Denial)


def test_a_short_key_signs_nothing() -> None:
    proposal = proposed()
    with pytest.raises(NotPermitted, match="signing key"):
        decide(proposal, say(proposal), RULES, POLICY, (), NOW, b"short")


# --- resolved once -------------------------------------------------------------------------------------------------


def test_a_second_answer_is_refused_and_names_the_first() -> None:
    proposal = proposed()
    first = approve(proposal, ALICE)
    for choice in Choice:
        with pytest.raises(ApprovalResolved, match=f"approved by {ALICE} at 2026-11-22T08:00:00"):
            answered(proposal, say(proposal, BOB, choice), answers=(first,))


def test_a_denial_is_final() -> None:
    proposal = proposed(risk=Risk.HIGH)
    denial = answered(proposal, say(proposal, BOB, Choice.DENY))
    answers = (approve(proposal, ALICE), denial)
    with pytest.raises(ApprovalResolved, match=f"denied by {BOB}"):
        answered(proposal, say(proposal, CAROL), answers=answers)
    with pytest.raises(ApprovalResolved, match=f"denied by {BOB}"):
        grant(proposal, answers, RULES, POLICY, NOW, KEY)


def test_what_ran_out_stays_so() -> None:
    proposal = proposed()
    with pytest.raises(IllegalTransition, match="can be answered until"):
        expire(proposal, (), NOW + LATE - MS)
    record = expire(proposal, (), NOW + LATE)
    assert record == Expiry(
        proposal_id=proposal.id, digest=proposal.digest, at=NOW + LATE, expired_at=proposal.expires_at
    )
    with pytest.raises(ApprovalResolved, match="left to run out"):
        answered(proposal, say(proposal), answers=(record,))
    with pytest.raises(ApprovalResolved):
        expire(proposal, (record,), NOW + LATE)


# --- how many people -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("risk", "since", "needed"),
    [
        (Risk.LOW, "high", 1),
        (Risk.MEDIUM, "high", 1),
        (Risk.HIGH, "high", 2),
        (Risk.MEDIUM, "medium", 2),
        (Risk.LOW, "low", 2),
        (Risk.HIGH, "never", 1),
    ],
)
def test_how_many_people_a_risk_needs(risk: Risk, since: str, needed: int) -> None:
    rules = ApprovalRules.model_validate({"approvers": (ALICE, BOB), "two_person_from_risk": since})
    proposal = proposed(risk=risk)
    assert people_needed(proposal, rules) == needed
    approvals = (approve(proposal, ALICE), approve(proposal, BOB))
    assert isinstance(grant(proposal, approvals, rules, POLICY, NOW, KEY), Grant)
    if needed == 2:
        with pytest.raises(ApprovalMissing, match="1 of 2 people"):
            grant(proposal, approvals[:1], rules, POLICY, NOW, KEY)


def test_one_person_under_two_spellings_is_one_person() -> None:
    proposal = proposed(risk=Risk.HIGH)
    first = approve(proposal, ALICE)
    with pytest.raises(ApprovalResolved, match="answered it before"):
        answered(proposal, say(proposal, " ALICE@EXAMPLE.ORG"), answers=(first,))
    with pytest.raises(ApprovalMissing, match="1 of 2"):
        grant(proposal, (first, first), RULES, POLICY, NOW, KEY)


def test_a_rollback_needs_one_person() -> None:
    assert people_needed(proposed(risk=Risk.HIGH, rolls_back="chg-1"), RULES) == 1


# --- the grant -----------------------------------------------------------------------------------------------------


def test_a_grant_holds_the_approvals_and_the_time_of_the_deciding_one() -> None:
    proposal = proposed(risk=Risk.HIGH)
    given = (approve(proposal, BOB, NOW + 5 * MS), approve(proposal, ALICE, NOW + 2 * MS))
    made = grant(proposal, given, RULES, POLICY, NOW + timedelta(minutes=1), KEY)
    assert made.people == (ALICE, BOB)
    assert made.granted_at == NOW + 5 * MS
    assert made.expires_at == proposal.expires_at
    assert not made.rollback_on_failure


def test_a_rollback_on_failure_needs_the_leave_of_all() -> None:
    proposal = proposed(risk=Risk.HIGH)
    yes, no = (approve(proposal, p, rollback_on_failure=f) for p, f in ((ALICE, True), (BOB, False)))
    also = approve(proposal, BOB, rollback_on_failure=True)
    assert not grant(proposal, (yes, no), RULES, POLICY, NOW, KEY).rollback_on_failure
    assert grant(proposal, (yes, also), RULES, POLICY, NOW, KEY).rollback_on_failure


def test_a_grant_cannot_be_made_by_hand() -> None:
    proposal = proposed()
    with pytest.raises(ApprovalMissing, match="can only be made from recorded approvals"):
        Grant(proposal.id, proposal.digest, (approve(proposal),), NOW, proposal.expires_at)


def test_no_approval_is_no_grant() -> None:
    with pytest.raises(ApprovalMissing, match="nobody has approved"):
        grant(proposed(), (), RULES, POLICY, NOW, KEY)


def _altered(approval: Approval, **fields: Any) -> Approval:
    return Approval.model_validate({**approval.model_dump(), **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"person": BOB},
        {"person": ALICE.upper()},
        {"role": "manager"},
        {"at": NOW + MS},
        {"comment": "changed"},
        {"rollback_on_failure": True},
        {"policy_version": "sha256:" + "3" * 64},
        {"digest": "sha256:" + "0" * 64},
        {"proposal_id": "prop-0002"},
        {"signature": "hmac-sha256:" + "0" * 64},
        {"signature": ""},
    ],
    ids=lambda fields: "_".join(fields),
)
def test_an_edited_approval_counts_for_nothing(fields: dict[str, object]) -> None:
    proposal = proposed()
    with pytest.raises(ApprovalMismatch):
        grant(proposal, (_altered(approve(proposal), **fields),), RULES, POLICY, NOW + MS, KEY)


def test_an_approval_signed_with_another_key_counts_for_nothing() -> None:
    proposal = proposed()
    with pytest.raises(ApprovalMismatch, match="signature"):
        grant(proposal, (approve(proposal),), RULES, POLICY, NOW, b"x" * 32)


def test_the_signature_of_a_denial_is_no_approval() -> None:
    proposal = proposed()
    denial = answered(proposal, say(proposal, choice=Choice.DENY))
    forged = Approval.model_validate({**denial.model_dump(), "rollback_on_failure": False})
    with pytest.raises(ApprovalMismatch, match="signature"):
        grant(proposal, (forged,), RULES, POLICY, NOW, KEY)


def test_somebody_struck_off_the_list_no_longer_counts() -> None:
    proposal = proposed()
    with pytest.raises(ApproverNotAllowed, match=ALICE):
        grant(proposal, (approve(proposal),), ApprovalRules(approvers=(BOB,)), POLICY, NOW, KEY)


@pytest.mark.parametrize(
    ("now", "error"),
    [(NOW + LATE, ApprovalExpired), (NOW - MS, ApprovalExpired), (NOW, ApprovalExpired)],
    ids=["expired", "before_creation", "before_the_approval"],
)
def test_a_grant_has_its_time(now: datetime, error: type[AdvisorError]) -> None:
    proposal = proposed()
    with pytest.raises(error):
        grant(proposal, (approve(proposal, now=NOW + MS),), RULES, POLICY, now, KEY)


def test_changed_rules_void_a_grant() -> None:
    proposal = proposed()
    with pytest.raises(ApprovalMismatch, match="rules changed"):
        grant(proposal, (approve(proposal),), RULES, "sha256:" + "8" * 64, NOW, KEY)


def test_two_grants_of_the_same_approvals_are_equal() -> None:
    proposal = proposed()
    assert granted(proposal) == granted(proposal)


def test_names_are_compared_without_case_and_outer_blanks() -> None:
    assert principal("  Ops-Team/Alice ") == "ops-team/alice"
    with pytest.raises(ApproverNotAllowed):
        principal("alice <alice@example.org>")
