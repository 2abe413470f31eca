"""Delivery by pull request through the workflow: approvals by command and by review, what is waited for, what is merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from advisor.doctor import examine
from advisor.errors import (
    ApproverNotAllowed,
    ChangeConflict,
    ChangeRefused,
    IllegalTransition,
    SettingsInvalid,
)
from advisor.lifecycle import State
from advisor.proposal import Proposal
from advisor.settings import parse_settings
from advisor.workflow import Workflow
from tests.support import gate
from tests.support.forge import NAME, OWNER, TOKEN, ScriptedForge, forge_serving

SETTINGS = """\
repositories:
  config:
    url: {remote}
    delivery: {delivery}
    signing_key_file: null
{forge}
approval:
  approvers: [alice@example.org, bob@example.org]
  two_person_from_risk: {two}
"""
FORGE = """\
    forge:
      type: {kind}
      url: {url}
      project: team/config
      token_env: FORGE_TOKEN
      people: {{alice: alice@example.org, bob: bob@example.org, eve: eve@example.org}}
      approval_by_review: {by_review}
      merge: {merge}
"""


@dataclass
class Desk:
    """A workflow with one proposal, the forge, and a clock that a test turns."""

    workflow: Workflow
    proposal: Proposal
    remote: Path
    server: ScriptedForge
    now: list[datetime]

    @property
    def state(self) -> State:
        return self.workflow.store.state_of(self.proposal.id)

    def head(self, branch: str = "main") -> str:
        return gate.git(self.remote, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}").strip()


Open = Callable[..., Desk]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    monkeypatch.setenv("FORGE_TOKEN", TOKEN)
    servers = []

    def opened(by_review: bool = False, merge: bool = False, kind: str = "github", two: str = "never") -> Desk:
        repository, remote, commit = gate.real_with_cause(tmp_path / "git")
        repository.close()
        serving = forge_serving(kind, remote)
        server = serving.__enter__()
        servers.append(serving)
        forge = FORGE.format(kind=kind, url=server.url, by_review=str(by_review).lower(), merge=str(merge).lower())
        text = SETTINGS.format(remote=remote, delivery="pull_request", forge=forge, two=two)
        (tmp_path / "home").mkdir()
        now = [gate.NOW]
        workflow = Workflow(parse_settings(text, tmp_path / "home"), clock=lambda: now[0])
        proposal = gate.propose(
            workflow.repository("config"),
            gate.revert_action(commit),
            policy_version=workflow.settings.policy_version,
        )
        workflow.store.save_proposal(proposal)
        now[0] += timedelta(minutes=1)
        return Desk(workflow, proposal, remote, server, now)

    yield opened
    for serving in servers:
        serving.__exit__(None, None, None)


def test_an_approved_change_waits_in_a_pull_request_until_it_is_merged(desk: Open) -> None:
    at = desk()
    approved = at.workflow.approve(at.proposal.id, gate.ALICE)
    assert approved.change is not None and at.state is State.AWAITING_MERGE
    assert f"{at.server.url}/{OWNER}/{NAME}/pull/1 waits to be merged into main" == approved.waiting
    assert at.head() == at.proposal.base
    with pytest.raises(IllegalTransition, match="ask again when it is merged"):
        at.workflow.look_at_offer(approved.change)
    at.now[0] += timedelta(hours=2)
    at.server.merge(1, "squash")
    at.workflow.look_at_offer(approved.change)
    assert at.state is State.DELIVERED
    assert at.workflow.stands_since(approved.change) == at.now[0]
    assert at.workflow.waiting_for_change(approved.change) == ""
    at.workflow.store.verify_audit()


def test_a_second_approval_command_looks_again(desk: Open) -> None:
    at = desk()
    at.workflow.approve(at.proposal.id, gate.ALICE)
    assert at.workflow.approve(at.proposal.id, gate.BOB).waiting
    at.server.merge(1)
    assert at.workflow.approve(at.proposal.id, gate.BOB).waiting == ""
    assert at.state is State.DELIVERED


@pytest.mark.parametrize("method", ["merge", "squash"])
def test_a_merged_change_can_be_rolled_back_the_same_way(desk: Open, method: str) -> None:
    at = desk()
    change = at.workflow.approve(at.proposal.id, gate.ALICE).change
    assert change is not None
    at.server.merge(1, method)
    at.workflow.look_at_offer(change)
    at.now[0] += timedelta(minutes=5)
    made = at.workflow.roll_back(change.id, gate.BOB)
    assert at.workflow.store.state_of(change.proposal_id) is State.ROLLING_BACK
    assert "/pull/2 waits" in at.workflow.waiting_for_change(made)
    at.server.merge(2, method)
    finished = at.workflow.finish_rollback(change.id, gate.BOB)
    assert finished == made
    assert at.workflow.store.state_of(change.proposal_id) is State.ROLLED_BACK
    assert gate.git(at.remote, "show", f"main:{gate.PATH}").encode() == gate.BAD


def test_a_rollback_that_was_closed_leaves_the_change_standing(desk: Open) -> None:
    at = desk()
    change = at.workflow.approve(at.proposal.id, gate.ALICE).change
    assert change is not None
    at.server.merge(1)
    at.workflow.look_at_offer(change)
    at.workflow.roll_back(change.id, gate.BOB)
    at.server.request(2).state = "closed"
    with pytest.raises(ChangeRefused, match=f"`advisor rollback {change.id}` plans anew"):
        at.workflow.finish_rollback(change.id, gate.BOB)
    assert at.workflow.store.state_of(change.proposal_id) is State.DELIVERED


@pytest.mark.parametrize("kind", ["github", "gitlab", "gitea"])
def test_reviews_of_exactly_our_commit_are_approvals(desk: Open, kind: str) -> None:
    at = desk(by_review=True, merge=True, kind=kind, two="low")
    at.workflow.offer_for_review(at.proposal.id, gate.ALICE)
    assert (at.state, at.head()) == (State.PROPOSED, at.proposal.base)
    at.server.review(1, "alice")
    first = at.workflow.take_reviews(at.proposal.id)
    assert (first.approved.people, first.approved.needed, first.approved.change) == ((gate.ALICE,), 2, None)
    at.server.review(1, "stranger")
    at.server.review(1, "eve")
    again = at.workflow.take_reviews(at.proposal.id)
    assert again.approved.change is None and at.state is State.PROPOSED
    assert [told.partition(":")[0] for told in again.passed_over] == ["stranger", "eve"]
    at.server.review(1, "bob")
    done = at.workflow.take_reviews(at.proposal.id).approved
    assert done.change is not None and set(done.people) == {gate.ALICE, gate.BOB}
    assert at.state is State.DELIVERED
    assert gate.git(at.remote, "rev-parse", "main^{tree}").strip() == at.proposal.tree
    comments = [answer.comment for answer in at.workflow.store.answers(at.proposal.id)]
    assert all(f"at {done.change.commit}" in comment for comment in comments)
    at.workflow.store.verify_audit()


def test_reviews_of_another_commit_are_no_approvals(desk: Open) -> None:
    at = desk(by_review=True)
    at.workflow.offer_for_review(at.proposal.id, gate.ALICE)
    name = f"advisor/{at.proposal.id}"
    added = gate.fast_import(at.remote, {"apps/checkout/evil.yaml": b"x: 1\n"}, branch=name)
    at.server.review(1, "alice", commit=added)
    with pytest.raises(ChangeRefused, match=f"is open at {added[:12]}, not open at"):
        at.workflow.take_reviews(at.proposal.id)
    gate.git(at.remote, "update-ref", f"refs/heads/{name}", f"{added}^")
    found = at.workflow.take_reviews(at.proposal.id)
    assert (found.approved.people, found.passed_over) == ((), ("alice: of another commit",))
    assert (at.state, at.head()) == (State.PROPOSED, at.proposal.base)


def test_a_review_that_was_taken_back_is_no_approval(desk: Open) -> None:
    at = desk(by_review=True)
    at.workflow.offer_for_review(at.proposal.id, gate.ALICE)
    at.server.review(1, "alice")
    at.server.review(1, "alice", "CHANGES_REQUESTED")
    assert at.workflow.take_reviews(at.proposal.id).passed_over == ("alice: it does not approve",)
    assert at.state is State.PROPOSED


def test_a_review_on_a_base_that_moved_is_no_approval(desk: Open) -> None:
    at = desk(by_review=True)
    at.workflow.offer_for_review(at.proposal.id, gate.ALICE)
    at.server.review(1, "alice")
    gate.fast_import(at.remote, {"README": b"x\n"})
    with pytest.raises(ChangeConflict, match="advisor investigate checkout"):
        at.workflow.take_reviews(at.proposal.id)
    assert at.workflow.store.answers(at.proposal.id) == ()


def test_without_the_setting_nothing_is_offered_before_an_approval(desk: Open) -> None:
    at = desk()
    for act in (
        lambda: at.workflow.offer_for_review(at.proposal.id, gate.ALICE),
        lambda: at.workflow.take_reviews(at.proposal.id),
    ):
        with pytest.raises(SettingsInvalid, match="approval_by_review is not set"):
            act()
    assert at.head(f"advisor/{at.proposal.id}") == ""


def test_who_may_not_approve_may_not_by_command_either(desk: Open) -> None:
    at = desk()
    with pytest.raises(ApproverNotAllowed):
        at.workflow.approve(at.proposal.id, "eve@example.org")
    assert (at.head(f"advisor/{at.proposal.id}"), at.server.requests) == ("", [])


def test_doctor_asks_the_forge(desk: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    at = desk()
    told = {line.name: line for line in examine(at.workflow)}
    assert told["repository config: forge"].ok and "may be read and written" in told["repository config: forge"].detail
    monkeypatch.setenv("FORGE_TOKEN", "another")
    told = {line.name: line for line in examine(at.workflow)}
    assert told["repository config: forge"].ok is False
    assert "token is not accepted" in told["repository config: forge"].detail
    monkeypatch.delenv("FORGE_TOKEN")
    told = {line.name: line for line in examine(at.workflow)}
    assert "FORGE_TOKEN is not set" in told["repository config: forge"].detail
