"""Recovery of what is in flight, and of our copies: what it does, what it leaves alone, and what it may not cost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from advisor.adapters.git_repository import GitRepository, leftovers
from advisor.adapters.git_repository.failures import Failure, GitFailed, classify, source_error
from advisor.adapters.git_repository.runner import GitRunner
from advisor.cli import run
from advisor.errors import SourceUnavailable
from advisor.lifecycle import State
from advisor.proposal import RepositoryName, build_proposal
from advisor.settings import load_settings
from advisor.workflow import Ending, Workflow, recovering, utc_now
from tests.support.crash import SETTINGS, Shop, new_shop
from tests.support.gate import ALICE, BAD, GOOD, OTHER, PATH, draft, fast_import, git, new_remote, revert_action

SECOND = "prop-0002"


class Dying(Exception):
    """The process ends here."""


class Mortal(Workflow):
    """A process that dies between the last approval and the delivery."""

    def _deliver(self, *_: object, **__: object) -> NoReturn:
        raise Dying


class World:
    """A shop with a proposal for each of its repositories, and a clock that can be set forward."""

    def __init__(self, folder: Path, **more: Path) -> None:
        self.shop = new_shop(folder)
        self.remotes = {"config": self.shop.remote, **more}
        settings = json.loads(json.dumps(SETTINGS))
        for name, remote in more.items():
            settings["repositories"][name] = {"url": str(remote), "branch": "main", "timeout_seconds": 20}
        self.write(settings)
        self.later = timedelta()

    def write(self, settings: object) -> None:
        (self.shop.folder / "advisor.yaml").write_text(json.dumps(settings))

    @property
    def settings(self) -> dict[str, object]:
        return dict(json.loads((self.shop.folder / "advisor.yaml").read_text()))

    def now(self) -> datetime:
        return utc_now() + self.later

    def workflow(self) -> Workflow:
        return Workflow(load_settings(self.shop.folder / "advisor.yaml"), clock=self.now)

    def propose(self, name: str = "config", number: int = 1) -> str:
        workflow = self.workflow()
        repository = workflow.repository(name)
        repository.head()
        cause = git(self.remotes[name], "log", "-1", "--format=%H", "main", "--", PATH).strip()
        made = draft(
            revert_action(cause),
            repository=RepositoryName(name=name, url=str(self.remotes[name])),
            policy_version=workflow.settings.policy_version,
        )
        proposal = build_proposal(repository, made, f"prop-{number:04d}", f"nonce-{number}", self.now())
        workflow.store.save_proposal(proposal)
        return proposal.id

    def grant(self, name: str = "config", number: int = 1) -> str:
        """Leave a proposal granted and not begun, as a crash after the last approval does."""
        proposal_id = self.propose(name, number)
        with pytest.raises(Dying):
            Mortal(load_settings(self.shop.folder / "advisor.yaml"), clock=self.now).approve(proposal_id, ALICE)
        assert self.state(proposal_id) is State.GRANTED
        return proposal_id

    def state(self, proposal_id: str) -> State:
        return self.workflow().store.state_of(proposal_id)

    def text(self, name: str = "config") -> bytes:
        return git(self.remotes[name], "show", f"main:{PATH}").encode()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "shop")


def second_remote(folder: Path) -> Path:
    remote = new_remote(folder)
    fast_import(remote, {PATH: GOOD, OTHER: b"a: 1\n"}, {PATH: BAD})
    return remote


# --- what is in flight -------------------------------------------------------------------------------------------------


def test_a_grant_without_a_delivery_is_delivered(world: World) -> None:
    proposal = world.grant()
    (item,) = world.workflow().recover()
    assert (item.proposal_id, item.ending) == (proposal, Ending.DELIVERED) and "\n" not in item.told
    assert world.state(proposal) is State.DELIVERED and world.text() == GOOD
    assert world.workflow().recover() == ()


def test_with_nothing_in_flight_no_git_is_started(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.propose()
    workflow = world.workflow()
    monkeypatch.setattr(GitRunner, "start", lambda *_: pytest.fail("git was started"))
    assert workflow.recover() == ()


def test_what_ran_out_is_recorded_as_expired_and_nothing_is_written(world: World) -> None:
    waiting, granted = world.propose(number=1), world.grant(number=2)
    world.later = timedelta(minutes=31)
    assert {item.ending for item in world.workflow().recover()} == {Ending.EXPIRED}
    assert world.state(waiting) is State.EXPIRED and world.state(granted) is State.EXPIRED
    assert world.text() == BAD


def test_a_grant_that_the_rules_no_longer_give_is_left_and_nothing_is_written(world: World) -> None:
    proposal = world.grant()
    world.write({**world.settings, "approval": {"approvers": ["bob@example.org"]}})
    (item,) = world.workflow().recover()
    assert item.ending is Ending.LEFT
    assert world.state(proposal) is State.GRANTED and world.text() == BAD


@pytest.mark.parametrize("arrived", [True, False])
def test_an_uncertain_delivery_is_looked_at_and_left_to_a_person(world: World, arrived: bool) -> None:
    proposal_id = world.grant()
    workflow = world.workflow()
    proposal = workflow.store.proposal(proposal_id)
    change = workflow._deliver(proposal)
    base = change.base
    # As after a push that broke off: the records know no more than that.
    database = world.shop.folder / "advisor.db"
    import sqlite3

    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE proposals SET state = 'uncertain' WHERE id = ?", (proposal_id,))
    connection.close()
    if not arrived:
        git(world.shop.remote, "update-ref", "refs/heads/main", base)
    before = git(world.shop.remote, "rev-parse", "main")
    (item,) = world.workflow().recover()
    assert item.ending is Ending.UNCERTAIN and ("is on main" in item.told) is arrived
    assert f"advisor approve {proposal_id}" in item.told
    assert world.state(proposal_id) is State.UNCERTAIN and git(world.shop.remote, "rev-parse", "main") == before


def test_what_waits_to_be_merged_is_asked_for_only_by_the_command_for_it(world: World) -> None:
    settings = world.settings
    settings["repositories"] = {"config": {"url": "./remote.git", "branch": "main", "delivery": "branch"}}
    world.write(settings)
    proposal = world.grant()
    (item,) = world.workflow().recover()
    assert item.ending is Ending.WAITING and world.state(proposal) is State.AWAITING_MERGE and world.text() == BAD
    assert world.workflow().recover() == ()
    assert [item.ending for item in world.workflow().recover(offers=True)] == [Ending.WAITING]
    (offered,) = git(world.shop.remote, "for-each-ref", "--format=%(refname)", "refs/heads/advisor").split()
    git(world.shop.remote, "update-ref", "refs/heads/main", offered)
    (item,) = world.workflow().recover(offers=True)
    assert item.ending is Ending.DELIVERED and "was merged" in item.told and world.text() == GOOD


def test_a_remote_that_is_gone_holds_up_neither_the_others_nor_the_command(tmp_path: Path) -> None:
    world = World(tmp_path / "shop", other=second_remote(tmp_path / "other"))
    gone, here = world.grant("other", 1), world.grant("config", 2)
    world.remotes["other"].rename(tmp_path / "away")
    found = {item.proposal_id: item for item in world.workflow().recover()}
    assert found[gone].ending is Ending.LEFT and "no repository" in found[gone].told
    assert found[here].ending is Ending.DELIVERED and world.text("config") == GOOD
    (tmp_path / "away").rename(world.remotes["other"])
    assert [item.ending for item in world.workflow().recover()] == [Ending.DELIVERED]
    assert world.text("other") == GOOD


def test_a_remote_that_says_nothing_costs_a_few_seconds_for_all(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "PROBE_SECONDS_MAX", 0.5)
    proposals = [world.grant(number=number) for number in (1, 2)]
    with silent_server() as port:
        settings = world.settings
        settings["repositories"] = {"config": {"url": f"http://127.0.0.1:{port}/c.git", "branch": "main"}}
        world.write(settings)
        started = time.monotonic()
        found = world.workflow().recover()
        assert time.monotonic() - started < 5  # one wait for both, and not the 60 seconds of a usual command
    assert [item.ending for item in found] == [Ending.LEFT, Ending.LEFT]
    assert {world.state(proposal) for proposal in proposals} == {State.GRANTED}


def test_a_repository_that_is_not_configured_any_more_is_named(world: World) -> None:
    proposal = world.grant()
    world.write({**world.settings, "repositories": {"other": {"url": "./remote.git"}}, "services": {}})
    (item,) = world.workflow().recover()
    assert item.ending is Ending.LEFT and "config is not configured" in item.told
    assert world.state(proposal) is State.GRANTED


def test_what_a_living_process_has_in_hand_is_left_to_it(world: World) -> None:
    proposal_id = world.grant()
    proposal = world.workflow().store.proposal(proposal_id)
    folder = world.shop.folder / ".advisor/in-hand"
    holder = hold(folder / f"{proposal_id}.lock")
    try:
        (item,) = world.workflow().recover()
        assert item.ending is Ending.LEFT and world.state(proposal_id) is State.GRANTED and world.text() == BAD
    finally:
        holder.kill()  # and with its process the lock is gone, whatever file is left
        holder.wait()
    (item,) = world.workflow().recover()
    assert item.ending is Ending.DELIVERED
    with world.workflow()._in_hand(proposal, 0):
        pass
    assert not list(folder.iterdir())


def test_a_command_carries_on_its_own_subject_itself(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    own, other = world.grant(number=1), world.propose(number=2)
    config = ["--config", str(world.shop.folder / "advisor.yaml")]
    assert run(["approve", own, "--as", ALICE, "--yes", *config]) == 0
    assert capsys.readouterr().err == "" and world.text() == GOOD
    assert run(["deny", other, "--as", ALICE, "--reason", "moved", *config]) == 0


def test_the_command_says_each_item_in_one_line_and_exits_accordingly(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(world.shop.folder / "advisor.yaml")]
    assert run(["recover", *config]) == 0
    assert "nothing is in flight" in capsys.readouterr().err
    world.grant()
    shutil.move(world.shop.remote, world.shop.folder / "away.git")
    assert run(["recover", "--json", *config]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)[0]["ending"] == "left" and len(told.err.splitlines()) == 1
    shutil.move(world.shop.folder / "away.git", world.shop.remote)
    assert run(["recover", *config]) == 0 and world.text() == GOOD


def test_two_at_once_make_one_change(world: World) -> None:
    proposal_id = world.grant()
    found: list[Ending] = []

    def recover() -> None:
        found.extend(item.ending for item in world.workflow().recover())

    threads = [threading.Thread(target=recover) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Ending.DELIVERED in found and set(found) <= {Ending.DELIVERED, Ending.LEFT}
    assert world.state(proposal_id) is State.DELIVERED
    assert git(world.shop.remote, "rev-list", "--count", "main").strip() == "4"


def test_a_damaged_record_bars_no_command_about_another(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    import sqlite3

    broken, whole = world.propose(number=1), world.propose(number=2)
    with sqlite3.connect(world.shop.folder / "advisor.db") as connection:
        connection.execute("UPDATE proposals SET body = '{}' WHERE id = ?", (broken,))
    connection.close()
    config = ["--config", str(world.shop.folder / "advisor.yaml")]
    assert run(["approve", whole, "--as", ALICE, "--yes", *config]) == 0
    assert "cannot be looked at" in capsys.readouterr().err and world.text() == GOOD


# --- the first start ---------------------------------------------------------------------------------------------------


def test_of_many_first_starts_all_have_the_same_key(world: World) -> None:
    keys: list[bytes] = []
    threads = [threading.Thread(target=lambda: keys.append(world.workflow().signing_key)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 1 and len(keys) == 8
    path = world.shop.folder / ".advisor/signing.key"
    assert path.read_bytes() == keys[0] and path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["signing.key"]


# --- our copies --------------------------------------------------------------------------------------------------------

STALE = (
    "HEAD.lock",
    "config.lock",
    "packed-refs.lock",
    "shallow.lock",
    "refs/heads/main.lock",
    "objects/pack/tmp_pack_dead",
    "objects/pack/tmp_idx_dead",
    "objects/ab/tmp_obj_dead",
)


def stale(shop: Shop) -> list[Path]:
    clone = shop.clone
    assert clone is not None
    paths = [clone / name for name in STALE]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return paths


def test_what_dead_processes_left_in_our_copy_is_cleared_and_the_remote_is_not_touched(world: World) -> None:
    world.grant()
    paths = stale(world.shop)
    theirs = world.shop.remote / "packed-refs.lock"  # of the target: not ours to judge
    theirs.write_bytes(b"")
    assert [item.ending for item in world.workflow().recover()] == [Ending.DELIVERED]
    assert not any(path.exists() for path in paths) and theirs.exists()


def test_what_a_living_git_may_own_in_our_copy_is_left_alone(world: World) -> None:
    world.propose()
    paths = stale(world.shop)
    assert world.shop.clone is not None
    holder = hold(world.shop.clone.parent / "writing", "LOCK_SH")
    try:
        started = time.monotonic()
        world.workflow().repository("config").tidy()
        assert all(path.exists() for path in paths) and time.monotonic() - started < 10
    finally:
        holder.kill()
        holder.wait()
    world.workflow().repository("config").tidy()
    assert not any(path.exists() for path in paths)


def test_who_holds_our_copy_is_named(world: World) -> None:
    world.propose()
    assert world.shop.clone is not None
    lock = world.shop.clone.parent / "lock"
    with GitRepository("config", str(world.shop.remote), "main", lock.parent)._clone.locked():
        other = GitRepository("config", str(world.shop.remote), "main", lock.parent, timeout_seconds=0.2)
        with pytest.raises(SourceUnavailable, match=rf"another process \({os.getpid()}, since 20"):
            other.tidy()


@pytest.mark.parametrize("damage", ["truncated pack", "empty objects", "empty ref", "no objects"])
def test_a_damaged_copy_is_made_anew_and_a_waiting_grant_is_still_delivered(world: World, damage: str) -> None:
    proposal = world.grant()
    clone = world.shop.clone
    assert clone is not None
    theirs = {p.name for p in world.shop.remote.rglob("objects/??/*")} | {"pack"}
    if damage == "truncated pack":
        git(clone, "repack", "-q", "-a", "-d")
        for pack in clone.glob("objects/pack/*.pack"):
            content = pack.read_bytes()
            pack.unlink()
            pack.write_bytes(content[: len(content) // 2])
    elif damage == "empty ref":
        (clone / "packed-refs").unlink(missing_ok=True)
        (clone / "refs/heads").mkdir(parents=True, exist_ok=True)
        (clone / "refs/heads/main").write_bytes(b"")
    else:
        for found in [p for p in clone.glob("objects/??/*") if p.name in theirs] + list(clone.glob("objects/pack/*")):
            found.unlink()  # never in place: the file may be linked from the remote
            if damage == "empty objects":
                found.write_bytes(b"")
    said = []
    for _ in range(2):  # where the damage is met in the middle, the first ends with "run the same command again"
        (item,) = world.workflow().recover()
        said.append(item.told)
        if item.ending is Ending.DELIVERED:
            break
    # What is missing altogether is simply fetched again; what is there and wrong must be replaced, and that is said.
    assert sum("made anew" in line for line in said) == (damage != "no objects"), said
    assert world.state(proposal) is State.DELIVERED and world.text() == GOOD
    assert world.shop.fault() == ""


# --- what goes wrong outside -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        ("fatal: write error: Input/output error", Failure.DISK_BROKEN, "check the disk"),
        ("fatal: cannot create thread: Resource temporarily unavailable", Failure.EXHAUSTED, "ulimit"),
        ("fatal: open /dev/null failed: Too many open files", Failure.EXHAUSTED, "ulimit"),
        (
            "@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.",
            Failure.HOST_KEY_CHANGED,
            "ask who runs the host",
        ),
        ("Host key verification failed.", Failure.HOST_KEY, "after checking its key"),
        ("git@h: Permission denied (publickey).", Failure.AUTH, "ssh_key_file"),
        ("error: unable to write file x: No space left on device", Failure.DISK_FULL, "free some space"),
        ("error: unable to create temporary file: Read-only file system", Failure.READ_ONLY, "writable"),
    ],
)
def test_what_goes_wrong_outside_has_words_that_say_what_to_do(words: str, kind: Failure, told: str) -> None:
    assert classify(words) is kind
    line = str(source_error(GitFailed(kind, words), "reading"))
    assert told in line and "\n" not in line


@pytest.mark.parametrize("reason", ["unpacker error", "failed to update ref", "atomic transaction failed"])
def test_a_remote_that_could_not_write_is_asked_again(world: World, reason: str) -> None:
    from advisor.adapters.git_repository.delivery import _rejected

    verdict = f"To x\n!\tabc:refs/heads/main\t[remote rejected] ({reason})\nDone\n".encode()
    assert _rejected(GitFailed(Failure.UNKNOWN, "", 1, verdict)) is None
    declined = verdict.replace(reason.encode(), b"pre-receive hook declined")
    assert _rejected(GitFailed(Failure.UNKNOWN, "", 1, declined)) is not None


def test_a_read_only_state_folder_is_said_and_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.grant()

    real = os.open

    def read_only(path: str | Path, flags: int, mode: int = 0o777, **options: int) -> int:
        if "clones" in str(path) and flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, mode, **options)

    monkeypatch.setattr(leftovers.os, "open", read_only)
    (item,) = world.workflow().recover()
    assert item.ending is Ending.LEFT and "writable" in item.told and world.text() == BAD


# --- helpers -----------------------------------------------------------------------------------------------------------


def hold(path: Path, kind: str = "LOCK_EX") -> subprocess.Popen[bytes]:
    """Return a process of its own that holds a lock file until it is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    script = f"import fcntl, sys, time; f = open({str(path)!r}, 'a'); fcntl.flock(f, fcntl.{kind}); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


@contextmanager
def silent_server() -> Iterator[int]:
    """Give the port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
