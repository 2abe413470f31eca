"""Races: of any number of people and workers at one instant one wins, and the others are told who was first.

32 real processes on one store, on SQLite and on a real PostgreSQL. They approve, deny, let run out, deliver and roll back
the same proposal at once; after each round the records, the audit and every move of the branch are judged.

The default run has 100 rounds on each engine, ``ADVISOR_PROOF=1`` has 500.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import pytest
import yaml

from advisor.approval import Approval, Denial, Expiry
from advisor.change import Change
from advisor.errors import AdvisorError, ApprovalResolved, StoreUnavailable
from advisor.lifecycle import State
from advisor.proposal import Proposal, build_proposal
from advisor.settings import load_settings
from advisor.store import Store
from advisor.workflow import Workflow
from tests.support import racing
from tests.support.gate import (
    BAD,
    GOOD,
    KEY,
    NOW,
    OTHER,
    PATH,
    approve,
    draft,
    fake_with_cause,
    fast_import,
    git,
    new_remote,
    propose,
    revert_action,
)
from tests.support.postgresql import PASSWORD, Server, postgresql_server
from tests.support.racing import ALICE, BOB, CASTS, EXPIRED, PEOPLE, Said, Scene, SharedBranch, proposal_of

__all__ = ["postgresql_server"]  # a fixture

PROOF = os.environ.get("ADVISOR_PROOF") == "1"
ROUNDS = 500 if PROOF else 100
LATER = NOW + timedelta(minutes=5)
LONG = pytest.mark.timeout(3600 if PROOF else 900)  # a loaded machine is slow, not wrong
ENGINES = ("sqlite", "postgresql")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(engine: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the address of a new store."""
    if engine == "sqlite":
        return f"sqlite:///{tmp_path}/advisor.db"
    server: Server = request.getfixturevalue("postgresql_server")
    monkeypatch.setenv("ADVISOR_STORE_PASSWORD", PASSWORD)
    return server.new_database()


@contextmanager
def players(scenes: list[Scene]) -> Iterator[tuple[Any, Any]]:
    """Give the barrier and the answers of 32 running processes."""
    # A server that forks: the children begin with everything imported, and inherit no thread or lock of the tests.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.racing", "psycopg", "sqlalchemy.dialects.postgresql.psycopg"])
    barrier, results = context.Barrier(PEOPLE + 1), context.Queue()
    processes = [
        context.Process(target=racing.play, args=(scene, n, barrier, results), daemon=True)
        for n, scene in enumerate(scenes)
    ]
    try:
        for process in processes:
            process.start()
        yield barrier, results
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
    finally:
        barrier.abort()
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join(60)
            process.close()
        results.close()
        results.join_thread()


class Judge:
    """Looks at what was said, at the records, at the audit and at the branch; complains about anything odd."""

    def __init__(self, store: Store, branch: SharedBranch, proposal: Proposal, said: list[Said], cast: str) -> None:
        self.store, self.branch, self.proposal, self.cast = store, branch, proposal, cast
        self.won = [s for s in said if s.won]
        self.lost = [s for s in said if not s.won]
        self.answers = store.answers(proposal.id)
        self.state = store.state_of(proposal.id)
        self.changes = [c for c in store.list_changes(limit=100_000) if proposal.id in c.change.proposal_id]
        self.entries = store.audit_entries()
        self.actions = Counter(e.action for e in self.entries if e.subject == proposal.id)

    def winners(self, *steps: str) -> list[Said]:
        return [s for s in self.won if s.step in steps]

    def losers(self, *steps: str) -> list[Said]:
        return [s for s in self.lost if s.step in steps]

    def judge(self) -> str:
        if self.cast in ("two_people", "one_of_two"):
            self.judge_two_people()
        else:
            self.judge_answers()
        self.judge_delivery()
        self.judge_rollback()
        return self.state.value

    def judge_answers(self) -> None:
        """One answer resolves it; only a grant that nobody used yet may still run out."""
        decided = self.winners("approve", "deny")
        ran_out = self.winners("expire")
        kinds = Counter(type(a).__name__ for a in self.answers)
        assert len(decided) <= 1 and len(ran_out) <= 1 and decided + ran_out, (decided, ran_out)
        assert kinds == Counter(
            [{"approve": "Approval", "deny": "Denial", "expire": "Expiry"}[s.step] for s in decided + ran_out]
        )
        if decided and decided[0].step == "deny":
            assert not ran_out and self.state is State.DENIED
        by = {a.person for a in self.answers if isinstance(a, Approval | Denial)}
        assert by == {s.person for s in decided}
        for told in self.losers("approve", "deny", "expire"):
            assert told.error == "ApprovalResolved", told
            first = any(person in told.told for person in by)
            assert first or (ran_out and "left to run out" in told.told), told

    def judge_two_people(self) -> None:
        """Each person counts once, however often and however spelled."""
        people = [ALICE, BOB] if self.cast == "two_people" else [ALICE]
        assert sorted(a.person for a in self.answers if isinstance(a, Approval)) == people
        assert len(self.answers) == len(self.winners("approve")) == len(people)
        assert self.actions["proposal.approve"] == 1
        assert self.actions["proposal.grant"] == len(people) - 1
        for told in self.losers("approve"):
            assert told.error == "ApprovalResolved" and any(person in told.told for person in people), told
        if self.cast == "one_of_two":
            assert self.state is State.PROPOSED

    def judge_delivery(self) -> None:
        """Never two changes of one proposal; exactly one where it was granted and nothing came between."""
        changes = [c.change for c in self.changes if c.change.proposal_id == self.proposal.id]
        begun = [e for e in self.entries if e.action == "change.begin_delivery"]
        begun = [e for e in begun if dict(e.details)["proposal"] == self.proposal.id]
        won = self.winners("deliver")
        assert len(changes) == len(begun) == len(won) <= 1
        assert [s.told for s in won] == [c.id for c in changes]
        assert self.branch.history[1:2] == [c.commit for c in changes]
        granted = self.actions["proposal.grant"] == 1 and self.actions["proposal.expire"] == 0
        assert len(changes) == granted
        for told in self.losers("deliver"):
            assert told.error in ("ApprovalResolved", "ChangeConflict", "ApprovalMissing"), told
            if told.error == "ApprovalResolved":
                assert "by person" in told.told or "run out" in told.told, told
            assert told.error != "ApprovalMissing" or self.cast == "one_of_two", told

    def judge_rollback(self) -> None:
        """One of those who take it back does; the branch moves once for it."""
        won = self.winners("roll back")
        delivered = len(self.branch.history) > 1
        assert len(won) == delivered
        assert len(self.branch.history) == 1 + 2 * delivered
        if not delivered:
            return
        assert self.state is State.ROLLED_BACK
        (back,) = (c.change for c in self.changes if c.change.id == won[0].told)
        assert self.branch.history[-1] == back.commit
        assert self.branch.files(back.commit) == self.branch.files(self.proposal.base)
        for told in self.losers("roll back"):
            assert told.error in ("IllegalTransition", "ApprovalResolved", "ChangeConflict"), told
            if told.error == "IllegalTransition":
                assert f"approved by {won[0].person}" in told.told, told


@LONG
@pytest.mark.parametrize("cast", CASTS)
def test_of_32_processes_one_wins_and_the_others_are_told_who_was_first(
    url: str, engine: str, cast: str, tmp_path: Path
) -> None:
    places = [tmp_path / "here", tmp_path / "there"]  # two machines, where the engine serves more than one
    for place in places:
        place.mkdir()
    scenes = [
        Scene(
            url,
            tmp_path,
            cast,
            ROUNDS // len(CASTS),
            mirror=places[n % 2] if engine == "postgresql" else None,
            password=PASSWORD if engine == "postgresql" else None,
        )
        for n in range(PEOPLE)
    ]
    store = scenes[0].open_store()
    proposals = [proposal_of(cast, number) for number in range(scenes[0].rounds)]
    for proposal in proposals:
        store.save_proposal(proposal)
    ended: Counter[str] = Counter()
    with players(scenes) as (barrier, results):
        for number, proposal in enumerate(proposals):
            branch = scenes[0].branch(number)
            with suppress(BrokenBarrierError):  # then somebody crashed, and says why
                barrier.wait(racing.BARRIER_SECONDS)
            told = [results.get(timeout=racing.BARRIER_SECONDS) for _ in range(PEOPLE)]
            said = [one for _, several in told for one in several]
            assert [s.told for s in said if s.step == "crash"] == []
            assert {at for at, _ in told} == {number}
            assert store.verify_audit() == len(store.audit_entries())
            ended[Judge(store, branch, proposal, said, cast).judge()] += 1
    store.close()
    # The rounds must have been where it can go wrong, or they prove nothing.
    if cast == "mixed":
        assert len(ended) > 1, ended
    if cast in ("crowd", "two_people"):
        assert ended["rolled_back"] > len(proposals) // 4, ended


# --- the whole program, on real git ---------------------------------------------------------------------------------

PEOPLE_OF_THE_SHOP = racing.APPROVERS[:3]


def shop(folder: Path, url: str) -> tuple[Path, str]:
    """Return a remote whose last commit raised the session timeout, and the proposal that takes it back, on record."""
    remote = new_remote(folder)
    cause = fast_import(remote, {PATH: GOOD, OTHER: b"a: 1\n"}, {PATH: BAD})
    settings = {
        "store": url,
        "repositories": {"config": {"url": "./remote.git", "branch": "main"}},
        "services": {
            "checkout": {
                "selector": 'job="checkout"',
                "configuration": {"repository": "config", "paths": ["apps/checkout/**"]},
            }
        },
        "approval": {"approvers": list(PEOPLE_OF_THE_SHOP)},
    }
    (folder / "advisor.yaml").write_text(yaml.safe_dump(settings))
    workflow = Workflow(load_settings(folder / "advisor.yaml"))
    repository = workflow.repository("config")
    repository.head()
    made = draft(revert_action(cause), policy_version=workflow.settings.policy_version)
    proposal = build_proposal(repository, made, "prop-0001", "nonce-1", workflow.clock())
    workflow.store.save_proposal(proposal)
    workflow.store.close()
    return remote, proposal.id


def run_at_once(folder: Path, *commands: list[str]) -> list[tuple[int, str]]:
    """Return exit code and error line of commands that were started together."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "advisor", *command, "--config", str(folder / "advisor.yaml")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    return [(process.returncode, told[1]) for process in processes for told in [process.communicate(timeout=240)]]


@LONG
@pytest.mark.parametrize("engine", ENGINES if PROOF else ENGINES[1:], indirect=True)  # a command costs seconds
def test_of_three_commands_at_once_one_changes_the_branch_and_one_takes_it_back(url: str, tmp_path: Path) -> None:
    remote, proposal = shop(tmp_path, url)
    approved = run_at_once(tmp_path, *(["approve", proposal, "--as", person, "--yes"] for person in PEOPLE_OF_THE_SHOP))
    assert all("Traceback" not in told for _, told in approved)
    assert 0 in [code for code, _ in approved], approved
    assert git(remote, "rev-list", "--count", "main").strip() == "3"
    assert git(remote, "show", f"main:{PATH}") == GOOD.decode()
    store = Workflow(load_settings(tmp_path / "advisor.yaml")).store
    ((given,), (stored,)) = store.answers(proposal), store.list_changes()
    assert isinstance(given, Approval) and stored.state is State.DELIVERED
    back = run_at_once(tmp_path, *(["rollback", stored.change.id, "--as", person] for person in PEOPLE_OF_THE_SHOP))
    assert all("Traceback" not in told for _, told in back)
    assert 0 in [code for code, _ in back], back
    assert git(remote, "rev-list", "--count", "main").strip() == "4"
    assert git(remote, "show", f"main:{PATH}") == BAD.decode()
    assert store.state_of(proposal) is State.ROLLED_BACK
    assert store.verify_audit() == len(store.audit_entries())
    store.close()


# --- in one process ------------------------------------------------------------------------------------------------


def proposed(store: Store, number: int = 1) -> Proposal:
    repository, commit = fake_with_cause()
    proposal = propose(repository, revert_action(commit), number)
    store.save_proposal(proposal)
    return proposal


def change_for(proposal: Proposal, number: int) -> Change:
    return Change(
        id=f"chg-{number}",
        proposal_id=proposal.id,
        incident_id=proposal.incident_id,
        service=proposal.service,
        repository=proposal.repository,
        branch=proposal.branch,
        digest=proposal.digest,
        commit="c" * 40,
        base=proposal.base,
        tree=proposal.tree,
        at=LATER,
        approvers=("alice@example.org",),
    )


def test_of_many_threads_one_delivery_begins(url: str) -> None:
    store = Store.open(url, KEY)
    proposal = proposed(store)
    store.record_answer(approve(proposal))
    won: list[int] = []
    refused: list[AdvisorError] = []

    def begin(number: int) -> None:
        try:
            store.begin_delivery(change_for(proposal, number), LATER)
            won.append(number)
        except AdvisorError as error:
            refused.append(error)

    threads = [threading.Thread(target=begin, args=(n,)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 23)
    assert all(isinstance(error, ApprovalResolved) for error in refused)
    assert len(store.list_changes()) == 1
    assert store.verify_audit() == 3
    store.close()


def test_a_forked_process_uses_connections_of_its_own(url: str, tmp_path: Path) -> None:
    store = Store.open(url, KEY, mirror_folder=tmp_path)
    store.record_note(NOW, "parent", "x.y", "0", {})
    before = len(store.audit_entries())
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            try:
                for step in range(5):
                    store.record_note(NOW, f"child {number}", "x.y", str(step), {})
                store.verify_audit()
            except BaseException:  # noqa: BLE001 - a child must never run on as a test
                os._exit(1)
            os._exit(0)
        children.append(child)
    for step in range(5):
        store.record_note(NOW, "parent", "x.y", str(step), {})
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert store.verify_audit() == before + 25
    assert Counter(e.actor for e in store.audit_entries()[before:]) == Counter(
        {"parent": 5, **{f"child {n}": 5 for n in range(4)}}
    )
    store.close()


def test_a_writer_who_stops_in_the_middle_costs_the_others_one_line(url: str, tmp_path: Path) -> None:
    """A stopped process holds the store; the others wait as long as they were told to, and say it in one line."""
    store = Store.open(url, KEY, 0.2, mirror_folder=tmp_path)
    other = Store.open(url, KEY, 0.2, mirror_folder=tmp_path)
    store.record_note(NOW, "x", "x.y", "0", {})
    with other._writing(), pytest.raises(StoreUnavailable, match="another process holds it; try again") as caught:
        store.record_note(NOW, "x", "x.y", "1", {})
    assert "\n" not in str(caught.value) and caught.value.retriable
    elsewhere = Store.open(url, KEY, 0.2)  # without the mirror's queue it is the database that says so
    with other._database.writing(), pytest.raises(StoreUnavailable, match="another process holds it; try again"):
        elsewhere.record_note(NOW, "x", "x.y", "1", {})
    store.record_note(NOW, "x", "x.y", "2", {})
    for one in (store, other, elsewhere):
        one.close()


def test_expiry_and_answer_at_one_instant_leave_one(url: str) -> None:
    """The clock of the one who lets it run out stands ahead; whoever comes second changes nothing."""
    store = Store.open(url, KEY)
    for number in range(4):
        proposal = proposed(store, number)
        answers = [
            approve(proposal),
            Expiry(proposal_id=proposal.id, digest=proposal.digest, at=EXPIRED, expired_at=proposal.expires_at),
        ]
        gate = threading.Barrier(2)
        said: list[str] = []

        def answer(given: Any, gate: threading.Barrier = gate, said: list[str] = said) -> None:
            gate.wait(60)
            try:
                said.append(store.record_answer(given).value)
            except ApprovalResolved as error:
                said.append(str(error))

        threads = [threading.Thread(target=answer, args=(given,)) for given in answers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.state_of(proposal.id) is State.EXPIRED  # a grant nobody used runs out as well
        assert sum(word == "expired" for word in said) == 1
    store.close()
