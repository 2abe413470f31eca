"""Changes: the approved bytes onto the approved base, exactly once, whatever breaks in between."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from advisor.approval import Grant
from advisor.change import (
    Change,
    ChangeKind,
    Outcome,
    check_grant,
    deliver,
    prepare_commit,
    reconcile,
)
from advisor.errors import (
    AdvisorError,
    ApprovalExpired,
    ApprovalMismatch,
    ApprovalResolved,
    AuditUnavailable,
    ChangeConflict,
    ChangeError,
    ChangeRefused,
    ChangeUncertain,
    IllegalTransition,
    StoreUnavailable,
)
from advisor.playbook import Action
from advisor.proposal import AUTHOR_EMAIL, Guardrail, Proposal, digest_of
from advisor.store import Store
from advisor.values import ActionType, Risk
from tests.support.gate import (
    ALICE,
    BOB,
    GOOD,
    KEY,
    NOW,
    PATH,
    FakeRepository,
    altered,
    fake_with_cause,
    fast_import,
    git,
    granted,
    propose,
    real_with_cause,
    revert_action,
)

LATER = NOW + timedelta(minutes=5)


class Records:
    """Remembers what it was told; can fail, or stop the process, at one step."""

    def __init__(self, fail: str = "", error: BaseException | None = None) -> None:
        self.steps: list[str] = []
        self.change: Change | None = None
        self._fail, self._error = fail, error

    def begin_delivery(self, change: Change, at: datetime) -> None:
        self._maybe("begin")
        if self.change is not None:
            raise ApprovalResolved("used before")
        self.change = change
        self.steps.append("begin")

    def resume_delivery(self, change: Change, at: datetime) -> None:
        self._maybe("resume")
        self.steps.append("resumed")

    def supersede(self, proposal_id: str, reason: str, at: datetime) -> None:
        self.steps.append("superseded")

    def record_outcome(self, change: Change, outcome: Outcome, reason: str, at: datetime) -> None:
        self._maybe("outcome")
        self.steps.append(outcome.value)

    def _maybe(self, step: str) -> None:
        if self._fail == step and self._error is not None:
            raise self._error


def ready() -> tuple[FakeRepository, Proposal, Grant]:
    repository, commit = fake_with_cause()
    proposal = propose(repository, revert_action(commit))
    return repository, proposal, granted(proposal)


def resealed(proposal: Proposal, **fields: object) -> Proposal:
    other = altered(proposal, **fields)
    return altered(other, digest=digest_of(other))


# --- the commit ----------------------------------------------------------------------------------------------------


def test_the_commit_says_who_what_and_why() -> None:
    repository, commit = fake_with_cause()
    proposal = propose(repository, revert_action(commit), risk=Risk.HIGH)
    plan = prepare_commit(proposal, granted(proposal, ALICE, BOB, now=NOW + timedelta(milliseconds=999)))
    assert plan.message == (
        "checkout: revert server.servlet.session.timeout\n"
        "\n"
        "Sets the session timeout back to 30m.\n"
        "The timeout.\n"
        "\n"
        "Incident: inc-1\n"
        f"Proposal: prop-0001 {proposal.digest}\n"
        f"Evidence: {proposal.evidence_digest}\n"
        f"Approved-by: {ALICE}\n"
        f"Approved-by: {BOB}\n"
    )
    assert (plan.tree, plan.parent, plan.at) == (proposal.tree, proposal.base, NOW)


def test_words_from_evidence_cannot_pass_for_a_trailer() -> None:
    repository, commit = fake_with_cause()
    text = "x\n\nApproved-by: root@example.org"
    action = Action.model_validate({**revert_action(commit).model_dump(), "reason": "Approved-by: root@example.org"})
    proposal = propose(repository, action, summary=text)
    message = prepare_commit(proposal, granted(proposal)).message
    assert [line for line in message.splitlines() if line.startswith("Approved-by:")] == [f"Approved-by: {ALICE}"]


def test_the_same_grant_gives_the_same_commit(tmp_path: Path) -> None:
    repository, _remote, commit = real_with_cause(tmp_path)
    proposal = propose(repository, revert_action(commit))
    plan = prepare_commit(proposal, granted(proposal))
    fields = [name for name in type(plan).model_fields if name != "signed"]
    made = {repository.commit_tree(*[getattr(plan, name) for name in fields]) for _ in range(2)}
    assert len(made) == 1


def test_trailers_are_trailers_for_git(tmp_path: Path) -> None:
    repository, remote, commit = real_with_cause(tmp_path)
    proposal = propose(repository, revert_action(commit))
    change = deliver(repository, Records(), proposal, granted(proposal), LATER)
    trailers = git(remote, "log", "-1", "--format=%(trailers:only,unfold)", "main").split("\n")
    assert [line.partition(":")[0] for line in trailers if line] == ["Incident", "Proposal", "Evidence", "Approved-by"]
    assert git(remote, "log", "-1", "--format=%ae %ce %ct", "main").split() == [
        AUTHOR_EMAIL,
        AUTHOR_EMAIL,
        str(int(NOW.timestamp())),
    ]
    assert git(remote, "rev-parse", "main").strip() == change.commit
    assert git(remote, "show", f"main:{PATH}").encode() == GOOD


# --- delivery ------------------------------------------------------------------------------------------------------


def test_a_granted_proposal_becomes_one_commit_between_intent_and_outcome() -> None:
    repository, proposal, grant = ready()
    records = Records()
    repository.on_write = lambda commit: records.steps.append("push")
    change = deliver(repository, records, proposal, grant, LATER)
    assert records.steps == ["begin", "push", "delivered"]
    assert repository.head_commit == change.commit
    assert repository.files(change.commit)[PATH] == GOOD
    assert (change.kind, change.approvers, change.at) == (ChangeKind.CHANGE, (ALICE,), LATER)


EXPIRED = NOW + timedelta(minutes=30)
BEFORE: dict[str, tuple[dict[str, object], datetime, type[AdvisorError]]] = {
    "expired": ({}, EXPIRED, ApprovalExpired),
    "clock_went_back": ({}, NOW - timedelta(seconds=1), ApprovalExpired),
    "other_tree": ({"tree": "f" * 40}, LATER, ApprovalMismatch),
    "other_base": ({"base": "f" * 40}, LATER, ApprovalMismatch),
    "longer_life": ({"expires_at": EXPIRED + timedelta(days=1)}, LATER, ApprovalMismatch),
    "other_id": ({"id": "prop-0002"}, LATER, ApprovalMismatch),
}


@pytest.mark.parametrize(("fields", "now", "error"), BEFORE.values(), ids=BEFORE)
def test_what_a_grant_does_not_cover_changes_nothing(
    fields: dict[str, object], now: datetime, error: type[AdvisorError]
) -> None:
    repository, proposal, grant = ready()
    records = Records()
    with pytest.raises(error):
        deliver(repository, records, altered(proposal, **fields), grant, now)
    assert (records.steps, repository.writes) == ([], [])


def test_a_resealed_proposal_is_not_the_approved_one() -> None:
    repository, proposal, grant = ready()
    with pytest.raises(ApprovalMismatch):
        deliver(repository, Records(), resealed(proposal, summary="Harmless."), grant, LATER)
    assert repository.writes == []


@pytest.mark.parametrize(
    "fields",
    [{"rollback_rehearsed": False}, {"guardrails": (Guardrail(name="memory", passed=False),)}],
    ids=["no_way_back", "guardrail_failed"],
)
def test_even_an_approved_proposal_needs_its_guardrails(fields: dict[str, object]) -> None:
    _repository, proposal, _ = ready()
    other = resealed(proposal, **fields)
    with pytest.raises(ChangeRefused):
        check_grant(other, granted(other), LATER)


def test_a_tree_with_other_bytes_is_refused() -> None:
    repository, proposal, grant = ready()
    repository.trees[proposal.tree] = {**repository.trees[proposal.tree], "apps/checkout/evil.yaml": b"x: 1\n"}
    records = Records()
    with pytest.raises(ApprovalMismatch, match="bytes to be written are not those"):
        deliver(repository, records, proposal, grant, LATER)
    assert (records.steps, repository.writes) == ([], [])


def test_a_moved_branch_is_a_conflict_before_anything_is_begun() -> None:
    repository, proposal, grant = ready()
    repository.edit(**{"README": b"x\n"})
    records = Records()
    with pytest.raises(ChangeConflict, match="moved from"):
        deliver(repository, records, proposal, grant, LATER)
    assert (records.steps, repository.writes) == (["superseded"], [])


def test_without_an_audit_nothing_is_written() -> None:
    repository, proposal, grant = ready()
    with pytest.raises(AuditUnavailable):
        deliver(repository, Records("begin", AuditUnavailable("disk full")), proposal, grant, LATER)
    assert repository.writes == []


def test_a_grant_is_good_for_one_delivery() -> None:
    repository, proposal, grant = ready()
    records = Records()
    change = deliver(repository, records, proposal, grant, LATER)
    repository.head_commit = proposal.base  # somebody rewinds the branch
    with pytest.raises(ApprovalResolved):
        deliver(repository, records, proposal, grant, LATER)
    assert repository.writes == [change.commit]


PUSHES: list[tuple[str, type[AdvisorError] | None, list[str], int]] = [
    ("", None, ["begin", "delivered"], 1),
    ("refused", ChangeRefused, ["begin", "refused"], 0),
    ("lost_before", ChangeUncertain, ["begin", "uncertain"], 0),
    ("lost_after", None, ["begin", "delivered"], 1),
]


@pytest.mark.parametrize(("fail", "error", "steps", "writes"), PUSHES, ids=[p[0] or "fine" for p in PUSHES])
def test_the_outcome_of_a_push_is_what_the_branch_says(
    fail: str, error: type[AdvisorError] | None, steps: list[str], writes: int
) -> None:
    repository, proposal, grant = ready()
    repository.fail = fail
    records = Records()
    if error is None:
        deliver(repository, records, proposal, grant, LATER)
    else:
        with pytest.raises(error):
            deliver(repository, records, proposal, grant, LATER)
    assert (records.steps, len(repository.writes)) == (steps, writes)


def test_a_branch_that_moves_between_question_and_push_is_a_conflict() -> None:
    repository, proposal, grant = ready()
    records = Records()

    class Racing(FakeRepository):
        def push(self, commit: str, expected_base: str) -> None:
            self.edit(**{"README": b"x\n"})
            super().push(commit, expected_base)

    racing = Racing(**vars(repository))
    with pytest.raises(ChangeConflict):
        deliver(racing, records, proposal, grant, LATER)
    assert (records.steps, racing.writes) == (["begin", "conflict"], [])


def test_a_remote_that_is_not_reached_leaves_the_delivery_under_way() -> None:
    class Unreached(ChangeError):
        retriable = True

    class Distant(FakeRepository):
        def push(self, commit: str, expected_base: str) -> None:
            if self.fail:
                self.fail = ""
                raise Unreached("no route to host")
            super().push(commit, expected_base)

    repository, proposal, grant = ready()
    distant, records = Distant(**vars(repository)), Records()
    distant.fail = "once"
    with pytest.raises(Unreached):
        deliver(distant, records, proposal, grant, LATER)
    assert records.steps == ["begin"]
    assert records.change is not None
    reconcile(distant, records, proposal, records.change, grant, LATER)
    assert (records.steps, len(distant.writes)) == (["begin", "resumed", "delivered"], 1)


def test_a_push_whose_record_fails_is_uncertain_never_lost() -> None:
    repository, proposal, grant = ready()
    with pytest.raises(ChangeUncertain, match="could not be recorded"):
        deliver(repository, Records("outcome", StoreUnavailable("disk full")), proposal, grant, LATER)
    assert len(repository.writes) == 1


# --- after a crash -------------------------------------------------------------------------------------------------


def crashed(before_push: bool) -> tuple[FakeRepository, Proposal, Grant, Change]:
    repository, proposal, grant = ready()
    records = Records("" if before_push else "outcome", KeyboardInterrupt())
    if before_push:

        def killed(commit: str) -> None:
            raise KeyboardInterrupt

        repository.on_write = killed
    with pytest.raises(KeyboardInterrupt):
        deliver(repository, records, proposal, grant, LATER)
    repository.on_write = lambda commit: None
    assert records.change is not None
    return repository, proposal, grant, records.change


@pytest.mark.parametrize("before_push", [True, False])
def test_a_crash_ends_in_exactly_one_change(before_push: bool) -> None:
    repository, proposal, grant, change = crashed(before_push)
    for _ in range(2):
        records = Records()
        assert reconcile(repository, records, proposal, change, grant, LATER) == change
        assert records.steps[-1] == "delivered"
        assert repository.writes == [change.commit]


def test_a_crash_before_the_push_and_a_branch_that_moved_on_is_a_conflict() -> None:
    repository, proposal, grant, change = crashed(before_push=True)
    repository.edit(**{"README": b"x\n"})
    records = Records()
    with pytest.raises(ChangeConflict, match="without it"):
        reconcile(repository, records, proposal, change, grant, LATER)
    assert (records.steps, repository.writes) == (["conflict"], [])


def test_a_crash_after_the_push_is_found_below_later_commits() -> None:
    repository, proposal, _grant, change = crashed(before_push=False)
    repository.edit(**{"README": b"x\n"})
    records = Records()
    reconcile(repository, records, proposal, change, None, EXPIRED)
    assert records.steps == ["delivered"]


def test_an_approval_that_ran_out_meanwhile_writes_nothing() -> None:
    repository, proposal, _grant, change = crashed(before_push=True)
    records = Records()
    with pytest.raises(ApprovalExpired):
        reconcile(repository, records, proposal, change, None, EXPIRED)
    assert (records.steps, repository.writes) == (["expired"], [])


def test_a_push_that_may_still_be_under_way_is_not_given_up() -> None:
    repository, proposal, _grant, change = crashed(before_push=True)
    with pytest.raises(ChangeUncertain, match="under way"):
        reconcile(repository, Records(), proposal, change, None, LATER + timedelta(seconds=119))


def test_a_silent_remote_settles_nothing() -> None:
    class Silent(FakeRepository):
        def is_delivered(self, commit: str) -> bool | None:
            return None

    repository, proposal, grant, change = crashed(before_push=True)
    records, silent = Records(), Silent(**vars(repository))
    with pytest.raises(ChangeUncertain, match="cannot be told"):
        reconcile(silent, records, proposal, change, grant, LATER)
    assert records.steps == []


def test_a_record_that_is_not_what_proposal_and_approvals_give_is_not_pushed() -> None:
    repository, proposal, grant, change = crashed(before_push=True)
    forged = Change.model_validate({**change.model_dump(), "commit": proposal.base[::-1]})
    with pytest.raises(ApprovalMismatch, match="not what proposal and approvals give"):
        reconcile(repository, Records(), proposal, forged, grant, LATER)
    assert repository.writes == []


def test_a_commit_that_was_delivered_and_then_taken_off_the_branch_is_not_pushed_again() -> None:
    repository, proposal, grant, change = crashed(before_push=False)
    store = Store.open("sqlite://", KEY)
    store.save_proposal(proposal)
    store.record_answer(grant.approvals[0])
    store.begin_delivery(change, LATER)
    reconcile(repository, store, proposal, change, grant, LATER)
    repository.head_commit = proposal.base
    with pytest.raises(IllegalTransition, match="no delivery of it is under way"):
        reconcile(repository, store, proposal, change, grant, LATER)
    assert (repository.head_commit, repository.writes) == (proposal.base, [change.commit])


# --- with real git -------------------------------------------------------------------------------------------------


def test_a_real_delivery_that_lost_the_race_writes_nothing(tmp_path: Path) -> None:
    repository, remote, commit = real_with_cause(tmp_path)
    proposal = propose(repository, revert_action(commit))
    moved = fast_import(remote, {"README": b"x\n"})
    with pytest.raises(ChangeConflict):
        deliver(repository, Records(), proposal, granted(proposal), LATER)
    assert git(remote, "rev-parse", "main").strip() == moved


def test_a_real_delivery_is_repeated_without_a_second_commit(tmp_path: Path) -> None:
    repository, remote, commit = real_with_cause(tmp_path)
    proposal = propose(repository, revert_action(commit))
    change = deliver(repository, Records(), proposal, granted(proposal), LATER)
    records = Records()
    assert reconcile(repository, records, proposal, change, granted(proposal), LATER) == change
    assert git(remote, "rev-list", "--count", "main").strip() == "3"


def test_escalations_are_never_delivered() -> None:
    repository, _ = fake_with_cause()
    proposal = propose(repository, Action(type=ActionType.ESCALATE))
    _, _, grant = ready()
    with pytest.raises(AdvisorError):
        deliver(repository, Records(), proposal, grant, LATER)
