"""Approvals: who may say yes, to exactly what, until when; every other way is refused by name."""

from __future__ import annotations

import itertools
import json
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from advisor.approval import (
    Answer,
    Approval,
    Choice,
    Demand,
    Denial,
    Expiry,
    Grant,
    Resolution,
    decide,
    demand_of,
    expire,
    grant,
    people_needed,
    principal,
    same_person,
    sign,
    verify_approval,
)
from advisor.change import check_grant, prepare_commit
from advisor.errors import (
    AdvisorError,
    ApprovalExpired,
    ApprovalMismatch,
    ApprovalMissing,
    ApprovalResolved,
    ApproverNotAllowed,
    DeliveryFrozen,
    IllegalTransition,
    NotPermitted,
    SettingsInvalid,
)
from advisor.playbook import Action
from advisor.proposal import Proposal
from advisor.settings import ApprovalRules, parse_settings
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


# --- who is who ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        "ALICE@EXAMPLE.ORG",
        " alice@example.org\t",
        "alice+oncall@example.org",
        "alice+a+b@example.org",
        "ａlice@example.org",
        "\u0430lice@example.org",  # a Cyrillic a
        "al\u0456ce@example.org",  # a Cyrillic i
        "\u03b1lice@example.org",  # a Greek alpha
        "alice\u200b@example.org",
        "al ice@example.org",
        "alice@ex\u00adample.org",
        "ALİCE@example.org",
    ],
)
def test_one_person_under_another_spelling_is_one_person(other: str) -> None:
    assert same_person(ALICE, other)
    assert not same_person(BOB, other)


def test_two_people_are_two() -> None:
    people = [ALICE, BOB, CAROL, MALLORY, "alice@example.com", "alicia@example.org", "alice.b@example.org", "ops/alice"]
    for one in people:
        assert [other for other in people if same_person(one, other)] == [one]


@pytest.mark.parametrize("other", ["alice+oncall@example.org", "\u0430lice@example.org"])
def test_a_person_listed_under_two_spellings_counts_once(other: str) -> None:
    rules = ApprovalRules(approvers=(ALICE, other, BOB))
    proposal = proposed(risk=Risk.HIGH)
    first, second = (answered(proposal, say(proposal, person), rules) for person in (ALICE, other))
    with pytest.raises(ApprovalResolved, match="answered it before"):
        answered(proposal, say(proposal, other), rules, answers=(first,))
    with pytest.raises(ApprovalMissing, match="of 2 people"):
        grant(proposal, (first, second), rules, POLICY, NOW, KEY)
    with pytest.raises(ApproverNotAllowed, match="proposed it"):
        answered(proposed(proposer=other), say(proposed(proposer=other), ALICE), rules)


# --- rules ---------------------------------------------------------------------------------------------------------

DBA = "dba@example.org"


def rules(*extra: dict[str, Any], **fields: Any) -> ApprovalRules:
    return ApprovalRules.model_validate({"approvers": (ALICE, BOB, CAROL, DBA), "rules": extra, **fields})


def demanded(given: ApprovalRules, **fields: Any) -> Demand:
    return demand_of(given, proposed(**fields))


EVERYBODY = {ALICE, BOB, CAROL, DBA}


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({}, True),
        ({"service": "checkout"}, True),
        ({"service": "check*"}, True),
        ({"service": ["payments", "checkout"]}, True),
        ({"service": "payments"}, False),
        ({"path": "apps/checkout/**"}, True),
        ({"path": "**/application.yaml"}, True),
        ({"path": ["db/**", "apps/**"]}, True),
        ({"path": "db/**"}, False),
        ({"repository": "config"}, True),
        ({"repository": "other"}, False),
        ({"action": "revert_keys"}, True),
        ({"action": ["scale", "restart"]}, False),
        ({"risk": "low"}, True),
        ({"risk": ["medium", "high"]}, False),
        ({"service": "checkout", "risk": "high"}, False),
        ({"service": "checkout", "path": "apps/**", "action": "revert_keys", "risk": "low"}, True),
    ],
    ids=str,
)
def test_a_rule_matches_what_it_names(match: dict[str, Any], fits: bool) -> None:
    demand = demanded(rules({"name": "strict", "match": match, "people": 3}))
    assert demand.people == (3 if fits else 1)
    assert demand.named == (("strict",) if fits else ())


def test_of_all_matching_rules_the_most_restrictive_holds_in_any_order() -> None:
    strict: list[dict[str, Any]] = [
        {"approvers": [ALICE, BOB, DBA]},
        {"approvers": [BOB, DBA, CAROL], "people": 2},
        {"people": 3},
        {"match": {"service": "payments"}, "deny": True},
    ]
    for order in itertools.permutations(strict):
        demand = demanded(rules(*order))
        assert (demand.people, demand.allowed, demand.denied_by) == (3, {BOB, DBA}, "")


def test_a_further_rule_never_opens_what_another_closed() -> None:
    chance = random.Random(3)
    people = [ALICE, BOB, CAROL, DBA]
    for _ in range(300):
        many = [
            {
                "approvers": chance.sample(people, chance.randint(0, 4)),
                "people": chance.randint(1, 4),
                "deny": chance.random() < 0.2,
            }
            for _ in range(4)
        ]
        many = [rule for rule in many if rule["approvers"] or rule["people"] > 1 or rule["deny"]]  # type: ignore[operator]
        before = demanded(rules())
        for count in range(1, len(many) + 1):
            after = demanded(rules(*many[:count]))
            assert after.allowed <= before.allowed
            assert after.people >= before.people
            assert bool(after.denied_by) >= bool(before.denied_by)
            before = after


def test_who_a_rule_leaves_out_is_told_who_may_instead() -> None:
    proposal = proposed()
    given = rules({"name": "databases", "match": {"path": "apps/**"}, "approvers": [DBA]})
    with pytest.raises(ApproverNotAllowed, match=f"{ALICE} may not approve it .databases.*who may: {DBA}"):
        answered(proposal, say(proposal), given)
    assert isinstance(answered(proposal, say(proposal, DBA), given), Approval)
    assert isinstance(answered(proposal, say(proposal, ALICE, Choice.DENY), given), Denial)  # to say no is safe
    with pytest.raises(ApproverNotAllowed, match="databases"):
        grant(proposal, (approve(proposal, ALICE),), given, POLICY, NOW, KEY)


def test_rules_that_exclude_one_another_leave_nobody() -> None:
    proposal = proposed()
    given = rules({"approvers": [DBA]}, {"approvers": [ALICE]})
    for person in EVERYBODY:
        with pytest.raises(ApproverNotAllowed, match=r"rule 1, rule 2.*nobody"):
            answered(proposal, say(proposal, person), given)


def test_a_rule_that_denies_denies_everybody_and_at_delivery_too() -> None:
    proposal = proposed()
    given = rules({"name": "never", "deny": True}, break_glass={"people": [DBA]})
    for answer in (say(proposal), say(proposal, DBA, break_glass=True, comment="the whole shop is down")):
        with pytest.raises(NotPermitted, match=r"never of approval.rules forbids"):
            answered(proposal, answer, given)
    with pytest.raises(NotPermitted, match="forbids"):
        grant(proposal, (approve(proposal),), given, POLICY, NOW, KEY)
    assert isinstance(answered(proposal, say(proposal, choice=Choice.DENY), given), Denial)


def test_a_proposal_that_names_no_files_is_held_to_every_rule_about_files() -> None:
    proposal = altered(proposed(), paths=())
    assert demand_of(rules({"match": {"path": "db/**"}, "people": 2}), proposal).people == 2


def test_roles_are_people_too_and_admins_approve() -> None:
    given = ApprovalRules.model_validate(
        {"roles": {"approver": [ALICE], "admin": BOB, "responder": [CAROL], "viewer": [MALLORY]}}
    )
    proposal = proposed()
    for person in (ALICE, BOB):
        assert isinstance(answered(proposal, say(proposal, person), given), Approval)
    for person in (CAROL, MALLORY):
        with pytest.raises(ApproverNotAllowed, match="not among"):
            answered(proposal, say(proposal, person), given)
    only_admins = ApprovalRules.model_validate({**given.model_dump(), "rules": [{"roles": ["admin"]}]})
    with pytest.raises(ApproverNotAllowed, match=f"who may: {BOB}"):
        answered(proposal, say(proposal, ALICE), only_admins)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"rules": [{"people": 1}]}, "demands nothing"),
        ({"rules": [{"approvers": [MALLORY]}]}, "is no approver"),
        ({"rules": [{"roles": ["viewer"]}]}, "'viewer' may not approve"),
        ({"rules": [{"people": 11}]}, "less than or equal to 10"),
        ({"rules": [{"deny": True, "match": {"colour": "red"}}]}, "colour"),
        ({"rules": [{"deny": True, "match": {"risk": "huge"}}]}, "'low', 'medium' or 'high'"),
        ({"rules": [{"deny": True, "match": {"action": "explode"}}]}, "action"),
        ({"freeze": [{}]}, "start and end are wanted"),
        ({"freeze": [{"start": "2026-12-20T00:00:00", "end": "2026-12-21T00:00:00"}]}, "a time zone is wanted"),
        ({"freeze": [{"start": "soon", "end": "later"}]}, "Invalid isoformat"),
        ({"freeze": [{"start": 5, "end": 6}]}, "a time such as"),
        ({"freeze": [{"start": "2026-12-21T00:00:00Z", "end": "2026-12-20T00:00:00Z"}]}, "start stands after end"),
        ({"freeze": [{"weekly": "fri 16:00 to fri 16:00"}]}, "begins when it ends"),
        ({"freeze": [{"weekly": "fri 25:00 to mon 08:00"}]}, "no time of day"),
        ({"freeze": [{"weekly": "weekends"}]}, "is not understood"),
        ({"freeze": [{"weekly": "fri 16:00 to mon 08:00", "start": "2026-12-20T00:00:00Z"}]}, "not both"),
        ({"freeze": [{"weekly": "fri 16:00 to mon 08:00", "zone": "Mars/Olympus"}]}, "is not known here"),
        ({"freeze": [{"weekly": "fri 16:00 to mon 08:00", "zone": "../../etc/passwd"}]}, "is not known here"),
        ({"break_glass": {"people": ["alice <x>"]}}, "mistaken"),
        ({"break_glass": {"minutes": 61}}, "less than or equal to 60"),
        ({"expires_minutes": 241}, "less than or equal to 240"),
    ],
    ids=lambda x: json.dumps(x)[:60] if isinstance(x, dict) else "",
)
def test_rules_that_say_nothing_clear_are_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsInvalid, match=words) as caught:
        parse_settings(json.dumps({"approval": {"approvers": [ALICE], **section}}), Path())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "section",
    [
        {"approvers": [ALICE]},
        {"roles": {"viewer": [BOB]}},
        {"rules": [{"people": 2}]},
        {"freeze": [{"weekly": "fri 16:00 to mon 08:00"}]},
        {"break_glass": {"people": [BOB]}},
        {"break_glass": {"minutes": 5}},
        {"expires_minutes": 31},
        {"two_person_from_risk": "low"},
    ],
    ids=lambda section: json.dumps(section)[:40],
)
def test_the_policy_version_covers_every_key(section: dict[str, Any]) -> None:
    plain, other = (parse_settings(json.dumps({"approval": s}), Path()) for s in ({}, section))
    assert plain.policy_version != other.policy_version


# --- freezes -------------------------------------------------------------------------------------------------------


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


WEEKEND = {"weekly": "fri 16:00 to mon 08:00", "zone": "Europe/Berlin", "reason": "weekend"}
YEAR_END = {"start": "2026-12-20T00:00:00+01:00", "end": "2027-01-03T00:00:00+01:00"}
LOCAL = {"start": "2026-12-24", "end": "2026-12-27", "zone": "Europe/Berlin"}
NIGHTLY = {"weekly": "sun 22:00 to mon 02:00"}
SPRING = {"weekly": "sun 01:00 to sun 04:00", "zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("freeze", "now", "ends"),
    [
        (YEAR_END, "2026-12-19T22:59:59Z", None),
        (YEAR_END, "2026-12-19T23:00:00Z", "2027-01-02T23:00:00Z"),
        (YEAR_END, "2027-01-02T22:59:59.999Z", "2027-01-02T23:00:00Z"),
        (YEAR_END, "2027-01-02T23:00:00Z", None),
        (LOCAL, "2026-12-23T22:59:59Z", None),
        (LOCAL, "2026-12-23T23:00:00Z", "2026-12-26T23:00:00Z"),
        (WEEKEND, "2026-11-20T14:59:59Z", None),  # Friday 15:59 in Berlin
        (WEEKEND, "2026-11-20T15:00:00Z", "2026-11-23T07:00:00Z"),
        (WEEKEND, "2026-11-22T12:00:00Z", "2026-11-23T07:00:00Z"),
        (WEEKEND, "2026-11-23T06:59:59Z", "2026-11-23T07:00:00Z"),
        (WEEKEND, "2026-11-23T07:00:00Z", None),
        (WEEKEND, "2026-07-17T13:59:59Z", None),  # summer time: Friday 15:59 in Berlin
        (WEEKEND, "2026-07-17T14:00:00Z", "2026-07-20T06:00:00Z"),
        (NIGHTLY, "2026-11-22T22:00:00Z", "2026-11-23T02:00:00Z"),
        (NIGHTLY, "2026-11-23T01:59:59Z", "2026-11-23T02:00:00Z"),
        (NIGHTLY, "2026-11-23T02:00:00Z", None),
        (SPRING, "2026-03-28T23:59:59Z", None),
        (SPRING, "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z"),  # the hour from 2 to 3 does not exist that night
        (SPRING, "2026-03-29T01:59:59Z", "2026-03-29T02:00:00Z"),
        (SPRING, "2026-03-29T02:00:00Z", None),
    ],
)
def test_a_freeze_holds_from_its_first_to_its_last_moment(freeze: dict[str, str], now: str, ends: str | None) -> None:
    given = rules(freeze=[freeze]).freeze[0]
    assert given.ends(at(now)) == (at(ends) if ends else None)


FROZEN = {"freeze": [{"start": NOW - MS, "end": NOW + timedelta(minutes=10), "reason": "quarter end"}]}


def test_in_a_freeze_nothing_is_approved_or_delivered_but_denials_and_rollbacks_go_on() -> None:
    proposal, given = proposed(), rules(**FROZEN)
    with pytest.raises(DeliveryFrozen, match=r"until 2026-11-22T08:10:00.00:00 .quarter end.; in an emergency"):
        answered(proposal, say(proposal), given)
    with pytest.raises(DeliveryFrozen):  # approved before it began
        grant(proposal, (approve(proposal),), given, POLICY, NOW, KEY)
    assert grant(proposal, (approve(proposal),), given, POLICY, NOW + timedelta(minutes=10), KEY)
    assert isinstance(answered(proposal, say(proposal, choice=Choice.DENY), given), Denial)
    rollback = proposed(rolls_back="chg-1", proposer="advisor:rollback")
    back = answered(rollback, say(rollback), given)
    assert grant(rollback, (back,), given, POLICY, NOW, KEY)


def test_a_freeze_may_be_of_some_services_only() -> None:
    proposal = proposed()
    other = [{**FROZEN["freeze"][0], "match": {"service": "payments"}}]
    assert isinstance(answered(proposal, say(proposal), rules(freeze=other)), Approval)
    both = [*other, {**FROZEN["freeze"][0], "match": {"path": "apps/checkout/**"}}]
    with pytest.raises(DeliveryFrozen):
        answered(proposal, say(proposal), rules(freeze=both))


def test_of_several_freezes_the_last_to_end_is_told() -> None:
    proposal = proposed()
    two = [*FROZEN["freeze"], {"start": NOW - MS, "end": NOW + timedelta(hours=5), "reason": "fair"}]
    with pytest.raises(DeliveryFrozen, match=r"13:00.*fair"):
        answered(proposal, say(proposal), rules(freeze=two))


# --- broken glass --------------------------------------------------------------------------------------------------

ONCALL = "oncall@example.org"
WHY = "the shop is down and nobody else answers"


def glass(**fields: Any) -> ApprovalRules:
    return rules(break_glass={"people": [ONCALL], "minutes": 15}, **fields)


def broken(proposal: Proposal, person: str = ONCALL, why: str = WHY, given: ApprovalRules | None = None) -> Approval:
    made = answered(proposal, say(proposal, person, break_glass=True, comment=why), given or glass())
    assert isinstance(made, Approval)
    return made


def test_one_listed_person_stands_for_two_and_for_the_end_of_a_freeze() -> None:
    proposal, given = proposed(risk=Risk.HIGH), glass(**FROZEN)
    made = broken(proposal, given=given)
    assert (made.break_glass, made.comment) == (True, WHY)
    assert made.valid_until == NOW + timedelta(minutes=15)
    granted_now = grant(proposal, (made,), given, POLICY, NOW + MS, KEY)
    assert granted_now.broken_glass == made
    assert granted_now.expires_at == made.valid_until
    message = prepare_commit(proposal, granted_now).message
    assert f"\nApproved-by: {ONCALL}\nBreak-glass: {ONCALL}, {WHY}\n" in message.replace("(at)", "@")


def test_a_broken_glass_dies_before_the_proposal_does() -> None:
    proposal = proposed()
    made = broken(proposal)
    last = NOW + timedelta(minutes=15)
    assert grant(proposal, (made,), glass(), POLICY, last - MS, KEY)
    with pytest.raises(ApprovalExpired, match=r"the glass that oncall@example.org broke closed"):
        grant(proposal, (made,), glass(), POLICY, last, KEY)
    still = grant(proposal, (made,), glass(), POLICY, last - MS, KEY)
    check_grant(proposal, still, last - MS)
    with pytest.raises(ApprovalExpired, match="its approval ran out"):  # it was granted, and then nothing happened
        check_grant(proposal, still, last)
    late = answered(
        proposal, say(proposal, ONCALL, break_glass=True, comment=WHY), glass(), now=NOW + timedelta(minutes=25)
    )
    assert isinstance(late, Approval) and late.valid_until == proposal.expires_at


@pytest.mark.parametrize(
    ("said", "under", "error", "words"),
    [
        ({"person": ALICE}, {}, ApproverNotAllowed, "not among approval.break_glass.people"),
        ({"person": MALLORY}, {}, ApproverNotAllowed, "not among approval.break_glass.people"),
        ({"person": ""}, {}, ApproverNotAllowed, "say who you are"),
        ({}, {"break_glass": {}}, ApproverNotAllowed, "nobody may break the glass"),
        ({"comment": ""}, {}, ApprovalMissing, "a reason of at least 10"),
        ({"comment": "now!"}, {}, ApprovalMissing, "a reason of at least 10"),
        ({"comment": " \n  \t     x    "}, {}, ApprovalMissing, "a reason of at least 10"),
        ({"digest": "sha256:" + "0" * 64}, {}, ApprovalMismatch, "another digest"),
    ],
)
def test_a_glass_is_not_broken_by_anybody_or_for_nothing(
    said: dict[str, Any], under: dict[str, Any], error: type[AdvisorError], words: str
) -> None:
    proposal = proposed()
    answer = say(proposal, ONCALL, break_glass=True, comment=WHY)
    with pytest.raises(error, match=words):
        answered(proposal, Answer.model_validate({**answer.model_dump(), **said}), rules(**under) if under else glass())


def test_the_proposer_never_breaks_the_glass_for_it() -> None:
    for proposer in (ONCALL, "OnCall@example.org", "oncall+x@example.org"):
        proposal = proposed(proposer=proposer)
        with pytest.raises(ApproverNotAllowed, match="proposed it"):
            broken(proposal)


def test_a_listed_person_who_is_no_approver_approves_nothing_in_the_usual_way() -> None:
    proposal = proposed()
    with pytest.raises(ApproverNotAllowed, match=r"not among approval.approvers"):
        answered(proposal, say(proposal, ONCALL), glass())
    with pytest.raises(ApproverNotAllowed):
        answered(proposal, say(proposal, ONCALL, Choice.DENY), glass())
    usual = _signed(broken(proposal), break_glass=False, valid_until=None)
    with pytest.raises(ApproverNotAllowed):
        grant(proposal, (usual,), glass(), POLICY, NOW, KEY)


def test_a_broken_glass_is_looked_at_again_before_delivery() -> None:
    proposal = proposed()
    made = broken(proposal)
    for fields in ({"comment": "x"}, {"person": ALICE}):
        with pytest.raises(NotPermitted):
            grant(proposal, (_signed(made, **fields),), glass(), POLICY, NOW, KEY)
    with pytest.raises(ApproverNotAllowed, match="nobody may break the glass"):
        grant(proposal, (made,), rules(), POLICY, NOW, KEY)
    for fields in ({"valid_until": NOW + timedelta(hours=9)}, {"valid_until": None}, {"break_glass": False}):
        with pytest.raises(ApprovalMismatch):
            grant(proposal, (_altered(made, **fields),), glass(), POLICY, NOW, KEY)


def test_beside_one_of_two_usual_approvals_a_broken_glass_is_enough_and_resolves_it() -> None:
    proposal, given = proposed(risk=Risk.HIGH), glass()
    first = answered(proposal, say(proposal, ALICE), given)
    made = answered(proposal, say(proposal, ONCALL, break_glass=True, comment=WHY), given, answers=(first,))
    assert grant(proposal, (first, made), given, POLICY, NOW, KEY).people == (ALICE, ONCALL)
    with pytest.raises(ApprovalResolved, match="approved by breaking the glass by oncall"):
        answered(proposal, say(proposal, BOB), given, answers=(first, made))


def test_who_may_break_the_glass_may_roll_back_without_breaking_it() -> None:
    rollback = proposed(rolls_back="chg-1", proposer="advisor:rollback", risk=Risk.HIGH)
    back = answered(rollback, say(rollback, ONCALL), glass())
    assert grant(rollback, (back,), glass(), POLICY, NOW, KEY).people == (ONCALL,)
    with pytest.raises(NotPermitted, match="a rollback needs no broken glass"):
        broken(rollback)


def _signed(approval: Approval, **fields: Any) -> Approval:
    changed = _altered(approval, **fields)
    return _altered(changed, signature=sign(changed, KEY))


# --- the clock -----------------------------------------------------------------------------------------------------


def test_a_clock_that_went_back_behind_an_answer_is_refused() -> None:
    proposal = proposed(risk=Risk.HIGH)
    first = approve(proposal, ALICE, NOW + timedelta(minutes=5))
    with pytest.raises(ApprovalExpired, match=r"stands before an answer of .*check the clock"):
        answered(proposal, say(proposal, BOB), answers=(first,), now=NOW + timedelta(minutes=5) - MS)
    assert isinstance(
        answered(proposal, say(proposal, BOB), answers=(first,), now=NOW + timedelta(minutes=5)), Approval
    )
