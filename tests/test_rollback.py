"""Rollbacks: the recorded inverse, through the same gate, with real git."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from advisor.adapters.git_repository import GitRepository
from advisor.approval import people_needed
from advisor.change import Change, ChangeKind, deliver
from advisor.errors import (
    ApproverNotAllowed,
    ChangeConflict,
    ChangeRefused,
    IllegalTransition,
    NotPermitted,
)
from advisor.lifecycle import State
from advisor.proposal import RepositoryName, digest_of
from advisor.rollback import RollbackPlan, plan_rollback, roll_back
from advisor.store import Store
from tests.support.gate import (
    ALICE,
    BAD,
    BOB,
    GOOD,
    KEY,
    MALLORY,
    NOW,
    OTHER,
    PATH,
    POLICY,
    RULES,
    FakeRepository,
    altered,
    approve,
    fake_with_cause,
    fast_import,
    git,
    granted,
    propose,
    real_with_cause,
    revert_action,
)

LATER = NOW + timedelta(hours=3)
MANY = b"".join(b"key%02d=%d\n" % (n, n) for n in range(30))
NAMES = "apps/checkout/names.properties"


@dataclass
class Scene:
    repository: GitRepository
    remote: Path
    store: Store
    change: Change
    number: int = 0

    def plan(self, change: Change, now: datetime = LATER) -> RollbackPlan:
        self.number += 1
        return plan_rollback(
            self.repository,
            change,
            self.repository.head(),
            proposal_id=f"roll-{self.number}",
            nonce=f"n{self.number}",
            evidence_digest="sha256:" + "2" * 64,
            policy_version=POLICY,
            now=now,
        )

    def roll(self, change: Change, plan: RollbackPlan | None = None, person: str = ALICE, **fields: Any) -> Change:
        return roll_back(
            self.repository,
            self.store,
            change,
            plan or self.plan(change),
            **{
                "person": person,
                "rules": RULES,
                "policy_version": POLICY,
                "now": LATER,
                "key": KEY,
                **fields,
            },
        )

    def tree(self, name: str = "main") -> str:
        return git(self.remote, "rev-parse", f"{name}^{{tree}}").strip()

    def show(self, path: str) -> bytes:
        return git(self.remote, "show", f"main:{path}").encode()

    def state(self, change: Change) -> State:
        return self.store.state_of(change.proposal_id)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    repository, remote, commit = real_with_cause(tmp_path)
    store = Store.open("sqlite://", KEY)
    proposal = propose(repository, revert_action(commit))
    store.save_proposal(proposal)
    approval = approve(proposal)
    store.record_answer(approval, people_needed(proposal, RULES))
    change = deliver(repository, store, proposal, granted(proposal), NOW + timedelta(minutes=1))
    return Scene(repository, remote, store, change)


def test_a_rollback_gives_back_the_tree_before_the_change(scene: Scene) -> None:
    before = scene.tree(scene.change.base)
    rolled = scene.roll(scene.change, comment="made it worse", role="on-call")
    assert scene.tree() == before
    assert scene.show(PATH) == BAD
    assert (rolled.kind, rolled.rolls_back, rolled.approvers) == (ChangeKind.ROLLBACK, scene.change.id, (ALICE,))
    trailers = git(scene.remote, "log", "-1", "--format=%(trailers:only,unfold)", "main")
    assert f"Rolls-back: {scene.change.id} {scene.change.commit}" in trailers
    assert f"Approved-by: {ALICE}" in trailers
    assert (scene.state(scene.change), scene.state(rolled)) == (State.ROLLED_BACK, State.DELIVERED)


def test_a_rollback_is_an_approval_of_its_exact_bytes_on_record(scene: Scene) -> None:
    plan = scene.plan(scene.change)
    assert plan.restored == (PATH,)
    assert plan.proposal.digest == digest_of(plan.proposal)
    assert "+      timeout: 24h" in plan.proposal.diff
    scene.roll(scene.change, plan)
    (answer,) = scene.store.answers(plan.proposal.id)
    assert answer.digest == plan.proposal.digest
    assert [e.action for e in scene.store.audit_entries()][-5:] == [
        "proposal.grant",
        "change.begin_rollback",
        "change.begin_delivery",
        "change.deliver",
        "change.roll_back",
    ]
    assert scene.store.verify_audit() > 0


def test_a_rollback_of_a_rollback_and_again(scene: Scene) -> None:
    with_change, without = scene.tree(), scene.tree(scene.change.base)
    first = scene.roll(scene.change)
    second = scene.roll(first)
    assert scene.tree() == with_change
    assert [scene.state(c) for c in (scene.change, first, second)] == [
        State.DELIVERED,
        State.ROLLED_BACK,
        State.DELIVERED,
    ]
    scene.roll(second)
    assert scene.tree() == without
    assert scene.store.verify_audit() > 0


def test_later_edits_elsewhere_are_kept(scene: Scene) -> None:
    fast_import(scene.remote, {PATH: GOOD.replace(b"# checkout", b"# the checkout"), "README": b"x\n"})
    plan = scene.plan(scene.change)
    assert (plan.restored, plan.kept) == ((), (PATH,))
    scene.roll(scene.change, plan)
    assert scene.show(PATH) == BAD.replace(b"# checkout", b"# the checkout")
    assert scene.show("README") == b"x\n"


def test_later_edits_of_the_same_lines_are_refused_with_file_and_commit(scene: Scene) -> None:
    later = fast_import(scene.remote, {PATH: GOOD.replace(b"30m", b"12h")})
    with pytest.raises(ChangeConflict, match=rf"{PATH}.*{later[:10]}"):
        scene.plan(scene.change)
    assert git(scene.remote, "rev-parse", "main").strip() == later
    assert scene.state(scene.change) is State.DELIVERED


def test_a_file_that_was_removed_since_is_refused_by_name(scene: Scene) -> None:
    fast_import(scene.remote, {PATH: None})
    with pytest.raises(ChangeConflict, match=PATH):
        scene.plan(scene.change)


def test_what_is_already_without_it_is_refused(scene: Scene) -> None:
    fast_import(scene.remote, {PATH: BAD})
    with pytest.raises(ChangeRefused, match="already without it"):
        scene.plan(scene.change)


def test_a_change_that_is_not_on_the_branch_cannot_be_taken_back(scene: Scene) -> None:
    git(scene.remote, "update-ref", "refs/heads/main", scene.change.base)
    with pytest.raises(ChangeConflict, match="is not on main"):
        scene.plan(scene.change)


@pytest.mark.parametrize("person", [MALLORY, "", "ops-advisor"])
def test_only_an_approver_may_roll_back(scene: Scene, person: str) -> None:
    head = git(scene.remote, "rev-parse", "main")
    with pytest.raises(ApproverNotAllowed):
        scene.roll(scene.change, person=person)
    assert git(scene.remote, "rev-parse", "main") == head
    assert scene.state(scene.change) is State.DELIVERED


def test_a_branch_that_moved_since_the_plan_needs_another_plan(scene: Scene) -> None:
    plan = scene.plan(scene.change)
    moved = fast_import(scene.remote, {"README": b"x\n"})
    with pytest.raises(ChangeConflict, match="moved from"):
        scene.roll(scene.change, plan)
    assert git(scene.remote, "rev-parse", "main").strip() == moved
    assert scene.state(scene.change) is State.DELIVERED  # not stuck in the middle
    assert scene.store.state_of(plan.proposal.id) is State.SUPERSEDED
    scene.roll(scene.change)
    assert scene.show(PATH) == BAD


def test_an_edited_plan_is_not_what_was_shown(scene: Scene) -> None:
    plan = scene.plan(scene.change)
    other = RollbackPlan(change_id=plan.change_id, proposal=altered(plan.proposal, tree=scene.tree()))
    with pytest.raises(NotPermitted):
        scene.roll(scene.change, other)


def test_a_plan_that_ran_out_is_refused(scene: Scene) -> None:
    with pytest.raises(NotPermitted, match="ran out"):
        scene.roll(scene.change, now=LATER + timedelta(minutes=31))


def test_a_rollback_that_was_never_begun_does_not_bar_the_next(scene: Scene) -> None:
    plan = scene.plan(scene.change)
    scene.store.begin_rollback(scene.change, plan.proposal, approve(plan.proposal, BOB, LATER))
    assert scene.state(scene.change) is State.ROLLING_BACK  # and then the process was killed
    scene.roll(scene.change)
    assert scene.store.state_of(plan.proposal.id) is State.SUPERSEDED
    assert scene.state(scene.change) is State.ROLLED_BACK


def test_a_change_is_rolled_back_once(scene: Scene) -> None:
    scene.roll(scene.change)
    with pytest.raises(ChangeRefused, match="already without"):
        scene.plan(scene.change)
    plan = scene.plan(scene.store.list_changes()[0].change)
    with pytest.raises((IllegalTransition, NotPermitted)):
        scene.store.begin_rollback(scene.change, plan.proposal, approve(plan.proposal, BOB, LATER))


def test_a_file_that_the_change_added_goes_and_one_that_it_removed_comes_back(tmp_path: Path) -> None:
    repository, remote, base = real_with_cause(tmp_path)
    changed = fast_import(remote, {"apps/checkout/new.yaml": b"a: 1\n", PATH: None, NAMES: MANY})
    fast_import(remote, {NAMES: MANY + b"later=1\n", "README": b"x"})
    head = repository.head()
    change = Change(
        id="chg-1",
        proposal_id="p",
        incident_id="i",
        service="checkout",
        repository=RepositoryName(name="config", url="x"),
        branch="main",
        digest="sha256:0",
        commit=changed,
        base=base,
        tree=git(remote, "rev-parse", f"{changed}^{{tree}}").strip(),
        at=NOW,
        approvers=(ALICE,),
    )
    with pytest.raises(ChangeConflict, match=NAMES):  # added by the change and edited since
        plan_rollback(
            repository, change, head, proposal_id="r", nonce="n", evidence_digest="e", policy_version=POLICY, now=NOW
        )
    fast_import(remote, {NAMES: MANY})
    plan = plan_rollback(
        repository,
        change,
        repository.head(),
        proposal_id="r",
        nonce="n",
        evidence_digest="e",
        policy_version=POLICY,
        now=NOW,
    )
    listed = repository.diff(base, plan.proposal.tree)
    assert listed.count(b"diff --git") == 1  # only the README of somebody else differs from before


# --- the repository held to its promise ----------------------------------------------------------------------------


class Astray(FakeRepository):
    """A repository that also puts back a file of somebody else."""

    def apply_inverse(self, before: str, after: str, onto_commit: str, since_commit: str | None = None) -> str:
        tree = super().apply_inverse(before, after, onto_commit, since_commit)
        return self._tree({**self.files(tree), OTHER: b"a: 0\n"})


class Inexact(FakeRepository):
    """A repository that restores almost all bytes."""

    def apply_inverse(self, before: str, after: str, onto_commit: str, since_commit: str | None = None) -> str:
        tree = super().apply_inverse(before, after, onto_commit, since_commit)
        return self._tree({**self.files(tree), PATH: self.files(tree)[PATH] + b"\n"})


@pytest.mark.parametrize(("kind", "named"), [(Astray, OTHER), (Inexact, PATH)])
def test_what_would_not_come_back_as_it_was_is_refused_by_name(kind: type[FakeRepository], named: str) -> None:
    honest, commit = fake_with_cause()
    proposal = propose(honest, revert_action(commit))
    change = deliver(honest, _NoRecords(), proposal, granted(proposal), NOW)
    faulty = kind(**vars(honest))
    with pytest.raises(ChangeConflict, match=rf"{named} would not come back as it was"):
        plan_rollback(
            faulty,
            change,
            faulty.head(),
            proposal_id="r",
            nonce="n",
            evidence_digest="e",
            policy_version=POLICY,
            now=NOW,
        )


class _NoRecords:
    def begin_delivery(self, change: Change, at: datetime) -> None: ...

    def resume_delivery(self, change: Change, at: datetime) -> None: ...

    def record_outcome(self, change: Change, outcome: object, reason: str, at: datetime) -> None: ...

    def supersede(self, proposal_id: str, reason: str, at: datetime) -> None: ...
