"""Rollbacks when something is lost: the store, our copy, the journal, the remote's history, or several of them.

A folder with settings and a repository, as a person has it; changes are made through the gate, and what is lost is deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from advisor.approval import Approval
from advisor.change import Change, change_id_of
from advisor.errors import (
    AdvisorError,
    ApproverNotAllowed,
    ChangeCollision,
    ChangeConflict,
    ChangeRefused,
    RecordUnknown,
    SourceMalformed,
)
from advisor.lifecycle import State
from advisor.playbook import Action, VerificationPlan
from advisor.proposal import Draft, RepositoryName, build_proposal
from advisor.rollback.several import Stopped
from advisor.rollback.undo import UndoEntry, from_commit
from advisor.settings import load_settings
from advisor.values import ActionType, Risk
from advisor.workflow.recovering import Recovering
from tests.support.gate import ALICE, BAD, BOB, GOOD, MALLORY, OTHER, PATH, TIMEOUT, fast_import, git, new_remote
from tests.support.shop import Answer, finish, start

SETTINGS: dict[str, Any] = {
    "repositories": {"config": {"url": "./remote.git"}},
    "services": {
        "checkout": {
            "selector": 'job="checkout"',
            "configuration": {"repository": "config", "paths": ["apps/checkout/**"]},
        }
    },
    "approval": {"approvers": [ALICE, BOB]},
}


@dataclass
class Desk:
    """A folder with all that belongs to one shop; each question opens it anew, as each command does."""

    folder: Path
    changes: list[Change] = field(default_factory=list)

    @property
    def remote(self) -> Path:
        return self.folder / "remote.git"

    @property
    def undo(self) -> Path:
        return self.folder / ".advisor" / "undo"

    def open(self) -> Recovering:
        return Recovering(load_settings(self.folder / "advisor.yaml"))

    def show(self, path: str = PATH) -> bytes:
        return git(self.remote, "show", f"main:{path}").encode()

    def head(self) -> str:
        return git(self.remote, "rev-parse", "main").strip()

    def change(self, key: str, value: str, incident: str = "inc-1", path: str = PATH) -> Change:
        """Make one change through the gate."""
        workflow = self.open()
        repository = workflow.repository("config")
        draft = Draft(
            incident_id=incident,
            service="checkout",
            action=Action(type=ActionType.SET_VALUE, path=path, keys=(key,), values=(value,), reason="Because."),
            risk=Risk.LOW,
            fixes_cause=True,
            summary=f"Sets {key} to {value}.",
            repository=RepositoryName(name="config", url=repository.shown_url),
            branch="main",
            allowed_paths=("apps/checkout/**",),
            evidence_digest="sha256:" + "2" * 64,
            policy_version=workflow.settings.policy_version,
            verification=VerificationPlan(),
            proposer="engine",
        )
        number = len(self.changes)
        proposal = build_proposal(repository, draft, f"pro-{number}", f"nonce-{number}", workflow.clock())
        workflow.store.save_proposal(proposal)
        made = workflow.approve(proposal.id, ALICE).change
        assert made is not None
        workflow.store.close()  # as a process that ends: what SQLite holds open would outlive the file
        self.changes.append(made)
        return made

    def state(self, change: Change) -> State:
        return self.open().store.state_of(change.proposal_id)

    # --- what is lost

    def lose_store(self) -> None:
        for file in self.folder.glob("advisor.db*"):
            file.unlink()

    def lose_database_only(self) -> None:
        """Delete the database, but not the mirror of the audit's head, which says that there was one."""
        (self.folder / "advisor.db").unlink()

    def break_store(self) -> None:
        (self.folder / "advisor.db").write_bytes(b"no database at all" * 100)

    def lose_clone(self) -> None:
        shutil.rmtree(self.folder / ".advisor" / "clones")

    def lose_journal(self) -> None:
        shutil.rmtree(self.undo)

    def rewrite_history(self) -> None:
        """Put the files of the head into one commit without parents, as a clean-up of the history does."""
        tree = git(self.remote, "rev-parse", "main^{tree}").strip()
        author = ["-c", "user.name=Dev", "-c", "user.email=dev@example.org"]
        commit = git(self.remote, *author, "commit-tree", tree, "-m", "All in one").strip()
        git(self.remote, "update-ref", "refs/heads/main", commit)
        git(self.remote, "reflog", "expire", "--expire=now", "--all")
        git(self.remote, "gc", "-q", "--prune=now")

    def cut_history(self) -> None:
        """Replace the remote with a shallow copy of itself that has the newest commit only."""
        whole = self.folder / "whole.git"
        self.remote.rename(whole)
        git(self.folder, "clone", "-q", "--bare", "--depth", "1", f"file://{whole}", str(self.remote))
        shutil.rmtree(whole)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    remote = new_remote(tmp_path)
    fast_import(remote, {PATH: BAD, OTHER: b"a: 1\n"})
    (tmp_path / "advisor.yaml").write_text(json.dumps(SETTINGS))
    return Desk(tmp_path)


LOSSES: dict[str, tuple[Callable[[Desk], None], ...]] = {
    "nothing": (),
    "our copy": (Desk.lose_clone,),
    "the journal": (Desk.lose_journal,),
    "the journal and our copy": (Desk.lose_journal, Desk.lose_clone),
    "the store": (Desk.lose_store,),
    "the store, but not the mirror": (Desk.lose_database_only,),
    "the store is damaged": (Desk.break_store,),
    "the store and our copy": (Desk.lose_store, Desk.lose_clone),
    "the store, our copy and the journal": (Desk.lose_store, Desk.lose_clone, Desk.lose_journal),
    "the store and the journal": (Desk.lose_store, Desk.lose_journal),
    "the history": (Desk.rewrite_history,),
    "the history and our copy": (Desk.rewrite_history, Desk.lose_clone),
    "the history, our copy and the store": (Desk.rewrite_history, Desk.lose_clone, Desk.lose_store),
    "the history before, and our copy": (Desk.cut_history, Desk.lose_clone),
    "the history before, our copy and the store": (Desk.cut_history, Desk.lose_clone, Desk.lose_store),
}


@pytest.mark.parametrize("losses", LOSSES.values(), ids=LOSSES)
def test_a_change_is_taken_back_exactly_whatever_is_lost(
    desk: Desk, losses: tuple[Callable[[Desk], None], ...]
) -> None:
    change = desk.change(TIMEOUT, "30m")
    assert desk.show() == GOOD
    for lose in losses:
        lose(desk)
    workflow = desk.open()
    listed = workflow.rollbacks()
    assert [(each.change.id, each.outlook) for each in listed] == [(change.id, "exact")]
    plan = workflow.plan_rollback(change.id)
    made = workflow.roll_back(change.id, ALICE, plan=plan)
    assert desk.show() == BAD
    assert made.rolls_back == change.id
    assert git(desk.remote, "show", f"main:{OTHER}") == "a: 1\n"
    again = desk.open()
    assert [each.change.id for each in again.rollbacks()] == [made.id]
    back = again.roll_back(made.id, BOB)  # and a rollback of the rollback
    assert desk.show() == GOOD
    assert back.rolls_back == made.id


@pytest.mark.parametrize("lose", [Desk.lose_store, Desk.lose_database_only, Desk.break_store])
def test_without_the_records_the_gate_still_holds(desk: Desk, lose: Callable[[Desk], None]) -> None:
    change = desk.change(TIMEOUT, "30m")
    lose(desk)
    head = desk.head()
    for person in (MALLORY, "", "advisor:rollback"):
        with pytest.raises(ApproverNotAllowed):
            desk.open().roll_back(change.id, person)
    assert desk.head() == head
    workflow = desk.open()
    plan = workflow.plan_rollback(change.id)
    assert any("the records of this change are lost" in warning for warning in plan.proposal.warnings)
    workflow.roll_back(change.id, ALICE, plan=plan)
    kept = workflow.store if lose is Desk.lose_store else workflow.recovery_store
    (answer,) = kept.answers(plan.proposal.id)
    assert isinstance(answer, Approval) and answer.digest == plan.proposal.digest
    actions = [entry.action for entry in kept.audit_entries()]
    assert actions == ["proposal.record", "proposal.grant", "change.begin_delivery", "change.deliver"]
    assert kept.verify_audit() == 4


def test_a_store_that_has_other_records_and_refuses_is_not_walked_around(desk: Desk) -> None:
    change = desk.change(TIMEOUT, "30m")
    older = (desk.folder / "advisor.db").read_bytes()
    second = desk.change("server.port", "9090")
    (desk.folder / "advisor.db").write_bytes(
        older
    )  # an older database under a newer mirror: somebody took entries away
    for file in desk.folder.glob("advisor.db-*"):
        file.unlink()
    head = desk.head()
    for each in (change, second):
        with pytest.raises(AdvisorError):
            desk.open().roll_back(each.id, ALICE)
    assert desk.head() == head
    assert not (desk.undo / "recovery.db").exists()


def test_a_crash_of_a_rollback_without_records_is_carried_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    change = desk.change(TIMEOUT, "30m")
    desk.lose_database_only()
    workflow = desk.open()
    repository = workflow.repository("config")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(repository, "push", killed)
    with pytest.raises(KeyboardInterrupt):
        workflow.roll_back(change.id, ALICE)
    assert desk.show() == GOOD
    made = desk.open().finish_rollback(change.id, ALICE)
    assert made is not None and made.rolls_back == change.id
    assert desk.show() == BAD
    assert desk.open().finish_rollback(change.id, ALICE) is None


# --- the journal -----------------------------------------------------------------------------------------------------


def lines(desk: Desk) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (desk.undo / "journal.jsonl").read_text().splitlines()]


def test_the_journal_holds_a_change_before_it_is_made_and_its_end(desk: Desk) -> None:
    change = desk.change(TIMEOUT, "30m")
    entry, outcome = lines(desk)
    assert UndoEntry.model_validate(entry).change == change
    assert (outcome["change_id"], outcome["outcome"]) == (change.id, "delivered")
    path = desk.undo / "journal.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_without_its_line_in_the_journal_a_change_does_not_begin(desk: Desk) -> None:
    desk.undo.parent.mkdir(exist_ok=True)
    desk.undo.mkdir()
    (desk.undo / "journal.jsonl").mkdir()  # nothing can be written there
    head = desk.head()
    with pytest.raises(ChangeRefused, match=r"undo journal .*journal.jsonl: cannot be written"):
        desk.change(TIMEOUT, "30m")
    assert desk.head() == head
    (desk.undo / "journal.jsonl").rmdir()
    desk.open().approve("pro-0", ALICE)  # it was granted, and is carried on
    assert desk.show() == GOOD


def test_a_torn_line_is_passed_over_and_closed_off(desk: Desk) -> None:
    change = desk.change(TIMEOUT, "30m")
    path = desk.undo / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:333])  # a crash in the middle of a line
    second = desk.change("server.port", "9090")
    desk.lose_store()
    assert [each.change.id for each in desk.open().rollbacks()] == [second.id, change.id]
    assert path.read_bytes().startswith(whole + whole[:333] + b"\n{")


def test_lines_are_only_added(desk: Desk) -> None:
    before = b""
    for number in range(3):
        desk.change("server.port", str(9000 + number))
        after = (desk.undo / "journal.jsonl").read_bytes()
        assert after.startswith(before) and len(after) > len(before)
        before = after


@pytest.mark.parametrize("where", ["content", "path of objects", "change", "signature"])
def test_an_edited_entry_is_not_used(desk: Desk, where: str) -> None:
    change = desk.change(TIMEOUT, "30m")
    desk.lose_store()
    desk.rewrite_history()  # so that the journal alone could help
    desk.lose_clone()
    entry, outcome = lines(desk)
    if where == "content":
        entry["objects"][-1]["data"] = entry["objects"][0]["data"]
    elif where == "path of objects":
        entry["before"] = entry["change"]["tree"]
    elif where == "change":
        entry["change"]["service"] = "payments"
    else:
        entry["signature"] = entry["signature"][:-1] + ("0" if entry["signature"][-1] != "0" else "1")
    (desk.undo / "journal.jsonl").write_text(
        "".join(json.dumps(each, separators=(",", ":")) + "\n" for each in (entry, outcome))
    )
    head = desk.head()
    with pytest.raises(SourceMalformed, match="not signed by this server's key"):
        desk.open().roll_back(change.id, ALICE)
    assert desk.open().rollbacks() == ()
    assert desk.head() == head


def test_no_change_is_known_from_nowhere(desk: Desk) -> None:
    desk.change(TIMEOUT, "30m")
    for wanted in ("chg-none", "zzz", ""):
        with pytest.raises(RecordUnknown):
            desk.open().plan_rollback(wanted)


# --- the history ----------------------------------------------------------------------------------------------------


def test_a_commit_of_ours_tells_the_whole_change(desk: Desk) -> None:
    change = desk.change(TIMEOUT, "30m")
    workflow = desk.open()
    repository = workflow.repository("config")
    repository.head()
    (made,) = repository.our_commits()
    place = RepositoryName(name="config", url=repository.shown_url)
    found = from_commit(made.id, made.parents, made.tree, change.at, made.message, place, "main")
    assert found is not None
    assert found.change == change
    assert found.evidence_digest == "sha256:" + "2" * 64
    proposal = workflow.store.proposal(change.proposal_id)
    assert change_id_of(proposal, change.commit) == found.change.id


def forge(desk: Desk, path: str, message: str) -> str:
    """Commit something in our name, as anybody who may push can."""
    blob = b"evil: %d\n" % len(message)
    stream = b"commit refs/heads/main\nauthor ops-advisor <ops-advisor@advisor.invalid> 1795300000 +0000\n"
    stream += b"committer ops-advisor <ops-advisor@advisor.invalid> 1795300000 +0000\n"
    stream += b"data %d\n%s\nfrom refs/heads/main^0\n" % (len(message.encode()), message.encode())
    stream += b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(blob), blob)
    git(desk.remote, "fast-import", "--quiet", stdin=stream)
    return desk.head()


TRAILERS = f"Incident: inc-9\nProposal: pro-9 sha256:{'3' * 64}\nEvidence: sha256:{'4' * 64}\nApproved-by: {ALICE}\n"


def test_a_commit_in_our_name_is_no_way_to_other_files(desk: Desk) -> None:
    commit = forge(desk, OTHER, f"checkout: set x\n\nSome words.\n\n{TRAILERS}")
    with pytest.raises(ChangeRefused, match=rf"{OTHER}.*outside the files of service checkout"):
        desk.open().plan_rollback(commit[:12])
    other = forge(desk, OTHER, f"payments: set x\n\nWords.\n\n{TRAILERS}")
    with pytest.raises(ChangeRefused, match="outside the files of service payments"):
        desk.open().roll_back(other, ALICE)
    assert desk.head() == other


@pytest.mark.parametrize(
    "message",
    [
        "checkout: set x",
        f"{TRAILERS}",
        f"checkout: set x\n\n{TRAILERS}\nNot the last paragraph.\n",
        f"checkout: set x\n\n{TRAILERS}Proposal: pro-8 sha256:{'5' * 64}\n",
        f"checkout: set x\n\n {TRAILERS}".replace("\nProposal", "\n Proposal"),
        "no service\n\nProposal: pro-9 sha256:33\n",
    ],
    ids=["no trailers", "no subject", "not last", "twice", "indented", "short digest"],
)
def test_a_commit_that_tells_no_change_is_none(desk: Desk, message: str) -> None:
    commit = forge(desk, PATH, message)
    with pytest.raises(RecordUnknown):
        desk.open().plan_rollback(commit)


# --- refusals and the list ------------------------------------------------------------------------------------------


def test_a_refusal_names_the_commits_in_the_way_and_the_commands(desk: Desk) -> None:
    first = desk.change(TIMEOUT, "30m")
    harmless = fast_import(desk.remote, {PATH: GOOD.replace(b"# checkout", b"# the checkout")})
    second = desk.change(TIMEOUT, "45m")
    foreign = fast_import(desk.remote, {PATH: desk.show().replace(b"45m", b"50m")})
    with pytest.raises(ChangeCollision) as caught:
        desk.open().plan_rollback(first.id)
    said = str(caught.value)
    assert PATH in said and foreign[:10] in said and second.commit[:10] in said
    assert harmless[:10] not in said  # it touched the file, but not the lines
    assert f"take back first: `git revert {foreign[:10]}`, then `advisor rollback {second.id}`; or edit by hand" in said
    assert caught.value.paths == (PATH,)
    assert [commit for commit, _, _ in caught.value.commits] == [foreign, second.commit]
    listed = {each.change.id: (each.outlook, each.told) for each in desk.open().rollbacks()}
    assert listed == {second.id: ("collides", PATH), first.id: ("collides", PATH)}


def test_following_the_commands_of_a_refusal_leads_through(desk: Desk) -> None:
    first = desk.change(TIMEOUT, "30m")
    second = desk.change(TIMEOUT, "45m")
    with pytest.raises(ChangeCollision, match=f"advisor rollback {second.id}"):
        desk.open().roll_back(first.id, ALICE)
    desk.open().roll_back(second.id, ALICE)
    desk.open().roll_back(first.id, ALICE)
    assert desk.show() == BAD


def test_the_list_says_exact_kept_collides_done(desk: Desk) -> None:
    change = desk.change(TIMEOUT, "30m")

    def outlook() -> str:
        shutil.rmtree(desk.folder / ".advisor" / "clones", ignore_errors=True)  # not the copy of a moment ago
        (only,) = desk.open().rollbacks()
        assert only.change.id == change.id
        return only.outlook

    assert outlook() == "exact"
    fast_import(desk.remote, {PATH: GOOD.replace(b"# checkout", b"# the checkout")})
    assert outlook() == "kept"
    fast_import(desk.remote, {PATH: GOOD.replace(b"30m", b"12h")})
    assert outlook() == "collides"
    fast_import(desk.remote, {PATH: BAD})
    assert outlook() == "done"


def test_the_list_does_not_ask_the_remote_while_our_copy_is_fresh(desk: Desk) -> None:
    change = desk.change(TIMEOUT, "30m")
    desk.remote.rename(desk.folder / "away.git")
    assert [(e.change.id, e.outlook) for e in desk.open().rollbacks()] == [(change.id, "exact")]
    (copy,) = (desk.folder / ".advisor" / "clones").glob("*/fetched")
    os.utime(copy, (0, 0))  # now it is old: the remote is asked, does not answer, and the copy has to do
    assert [(e.change.id, e.outlook) for e in desk.open().rollbacks()] == [(change.id, "exact")]
    desk.lose_clone()
    (only,) = desk.open().rollbacks()
    assert only.outlook == "unknown" and "remote.git" in only.told


# --- an incident ----------------------------------------------------------------------------------------------------


def test_the_changes_of_an_incident_go_in_reverse_order(desk: Desk) -> None:
    first = desk.change(TIMEOUT, "30m")
    second = desk.change(TIMEOUT, "45m")  # on the same line: in the other order it would collide
    third = desk.change("server.port", "9090")
    other = desk.change("server.port", "9091", incident="inc-2")
    with pytest.raises(ChangeConflict, match="none of its 3 changes was taken back"):
        plan = desk.open().plan_incident_rollback("inc-1")
        assert [left.change_id for left in plan.left] == [third.id, second.id, first.id]
        desk.open().roll_back_incident(plan, ALICE)
    desk.open().roll_back(other.id, ALICE)
    workflow = desk.open()
    plan = workflow.plan_incident_rollback("inc-1")
    assert [each.change_id for each in plan.plans] == [third.id, second.id, first.id]
    head = desk.head()
    with pytest.raises(ApproverNotAllowed):
        workflow.roll_back_incident(plan, MALLORY)
    assert desk.head() == head
    outcome = workflow.roll_back_incident(plan, ALICE)
    assert [change.rolls_back for change in outcome.done] == [third.id, second.id, first.id]
    assert desk.show() == BAD
    assert {desk.state(change) for change in (first, second, third)} == {State.ROLLED_BACK}
    with pytest.raises(RecordUnknown, match="no change of an incident"):
        desk.open().plan_incident_rollback("inc-1")
    assert desk.open().store.verify_audit() > 0


def test_an_incident_is_taken_back_without_records(desk: Desk) -> None:
    desk.change(TIMEOUT, "30m")
    desk.change(TIMEOUT, "45m")
    desk.lose_store()
    workflow = desk.open()
    outcome = workflow.roll_back_incident(workflow.plan_incident_rollback("inc-1"), ALICE)
    assert len(outcome.done) == 2
    assert desk.show() == BAD


def test_an_incident_whose_branch_moves_on_the_way_stops_and_says_where(desk: Desk) -> None:
    first = desk.change(TIMEOUT, "30m")
    second = desk.change("server.port", "9090")
    workflow = desk.open()
    plan = workflow.plan_incident_rollback("inc-1")
    make = workflow._make

    def interfered(*given: Any) -> Change:
        made = make(*given)
        fast_import(desk.remote, {PATH: desk.show().replace(b"30m", b"12h")})
        return made

    workflow._make = interfered  # type: ignore[method-assign]
    with pytest.raises(Stopped, match=f"taken back: {second.id}; not taken back: {first.id}") as caught:
        workflow.roll_back_incident(plan, ALICE)
    assert [c.rolls_back for c in caught.value.outcome.done] == [second.id]
    assert caught.value.exit_code == 4
    assert (desk.state(second), desk.state(first)) == (State.ROLLED_BACK, State.DELIVERED)


def test_what_was_shown_is_what_is_written_for_each_change_of_an_incident(desk: Desk) -> None:
    first = desk.change(TIMEOUT, "30m")
    desk.change("server.port", "9090")
    workflow = desk.open()
    plan = workflow.plan_incident_rollback("inc-1")
    fast_import(desk.remote, {PATH: desk.show().replace(b"servlet:", b"servlet: # x")})  # seen around the line
    with pytest.raises(Stopped, match="something else than was shown"):
        workflow.roll_back_incident(plan, ALICE)
    assert desk.state(first) is State.DELIVERED


def test_a_beginning_of_two_incidents_is_not_enough(desk: Desk) -> None:
    desk.change(TIMEOUT, "30m", incident="inc-1")
    desk.change("server.port", "9090", incident="inc-2")
    with pytest.raises(RecordUnknown, match="not unique"):
        desk.open().plan_incident_rollback("inc-")


# --- the command -----------------------------------------------------------------------------------------------------


def ask(desk: Desk, *arguments: str) -> Answer:
    return finish(start(desk.folder, *arguments))


def test_the_command_takes_back_an_incident_and_lists_what_stands(desk: Desk) -> None:
    first = desk.change(TIMEOUT, "30m")
    second = desk.change(TIMEOUT, "45m")
    listed = ask(desk, "rollback", "--list", "--json")
    assert [(row["id"], row["rollback"], row["source"]) for row in listed.json] == [
        (second.id, "exact", "records"),
        (first.id, "collides", "records"),
    ]
    refused = ask(desk, "rollback", first.id, "--as", ALICE)
    assert refused.code == 4 and f"`advisor rollback {second.id}`" in refused.line
    assert ask(desk, "rollback").code == 2
    assert ask(desk, "rollback", first.id, "--incident", "inc-1", "--as", ALICE).code == 2
    previewed = ask(desk, "rollback", "--incident", "inc-1", "--preview")
    assert previewed.code == 0 and "1 of 2" in previewed.out and "2 of 2" in previewed.out
    assert len(desk.changes) == 2 and b"45m" in desk.show()
    done = ask(desk, "rollback", "--incident", "inc-1", "--as", ALICE, "--json")
    assert done.code == 0
    assert [change["rolls_back"] for change in done.json["done"]] == [second.id, first.id]
    assert desk.show() == BAD


def test_the_command_works_without_store_journal_and_copy(desk: Desk) -> None:
    change = desk.change(TIMEOUT, "30m")
    desk.lose_database_only()
    desk.lose_journal()
    desk.lose_clone()
    nobody = ask(desk, "rollback", change.id, "--as", MALLORY)
    assert nobody.code == 4 and desk.show() == GOOD
    made = ask(desk, "rollback", change.commit[:10], "--as", ALICE)
    assert made.code == 0 and "the records of this change are lost" in made.out, made.err
    assert desk.show() == BAD


def test_a_change_that_was_half_taken_back_by_hand_is_refused(desk: Desk) -> None:
    """The rest could be merged, but doing the change again would not give what stands there: nobody approved that mix."""
    rows = [b"key%02d=%d\n" % (n, n) for n in range(30)]
    many = "apps/checkout/many.properties"
    fast_import(desk.remote, {many: b"".join(rows)})
    changed = [*rows]
    changed[2], changed[27] = b"key02=x\n", b"key27=x\n"
    base = desk.head()
    commit = fast_import(desk.remote, {many: b"".join(changed)})
    mixed = [*changed]
    mixed[2], mixed[15] = rows[2], b"key15=y\n"
    later = fast_import(desk.remote, {many: b"".join(mixed)})
    repository = desk.open().repository("config")
    repository.head()
    with pytest.raises(ChangeCollision, match=rf"{many}.*{later[:10]}"):
        repository.apply_inverse(base, commit, later, commit)
