"""The configuration repository, on real repositories: reading, building, delivering, and what hostile ones try."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from advisor.adapters.git_repository import GitRepository, check_branch, check_path
from advisor.adapters.git_repository.failures import FAILURES, Failure, GitFailed, classify, source_error
from advisor.adapters.git_repository.objects import Kept
from advisor.adapters.git_repository.runner import EMPTY_TREE, GitRunner
from advisor.errors import (
    AdvisorError,
    ChangeConflict,
    ChangeError,
    ChangeRefused,
    ChangeUncertain,
    SourceError,
    SourceMalformed,
    SourceRefused,
    SourceUnavailable,
)
from advisor.evidence import ChangeAnswer, ChangeRequest
from advisor.path_scope import PathScope
from advisor.playbook import Action
from advisor.proposal import build_proposal
from advisor.values import ActionType
from tests.support import gate

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
FILE = "apps/checkout/application.yaml"
SCOPE = ("apps/checkout/**",)
HISTORIES = int(os.environ.get("ADVISOR_HISTORIES", "20"))  # 1,000 take minutes
REAL = os.environ.get("ADVISOR_REQUIRE_REAL") == "1"


def missing(part: str) -> None:
    """Skip by name, or fail where every real part is demanded."""
    if REAL:
        pytest.fail(f"{part} is absent and ADVISOR_REQUIRE_REAL=1")
    pytest.skip(f"{part} is absent")


class Remote:
    """A repository that people work in, driven by the git program itself."""

    def __init__(self, path: Path, bare: bool = False) -> None:
        self.path = path
        self.work = path
        path.mkdir(parents=True)
        if bare:
            self.git("init", "-q", "--bare", "-b", "main", ".", cwd=path)
            self.work = path.parent / f"{path.name}-work"
            self.work.mkdir()
        self.git("init", "-q", "-b", "main", ".")
        self.bare = bare
        self.at = NOW - timedelta(days=2)

    def git(self, *arguments: str, cwd: Path | None = None, at: datetime | None = None, data: bytes = b"") -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        when = f"@{int((at or getattr(self, 'at', NOW)).timestamp())} +0000"
        environment |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
        for role in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{role}_NAME": "Ann", f"GIT_{role}_EMAIL": "ann@example.org", f"GIT_{role}_DATE": when}
        command = ["git", "-c", "protocol.file.allow=always", *arguments]
        done = subprocess.run(command, cwd=cwd or self.work, env=environment, input=data, capture_output=True)
        assert done.returncode == 0, (arguments, done.stderr.decode())
        return done.stdout.decode("utf-8", "replace").strip()

    def write(self, files: dict[str, str | bytes | None]) -> None:
        for name, content in files.items():
            path = self.work / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, subject: str, files: dict[str, str | bytes | None], at: datetime | None = None) -> str:
        self.at = at or self.at + timedelta(minutes=10)
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", subject)
        return self.publish()

    def publish(self, force: bool = False) -> str:
        if self.bare:
            self.git("push", "-q", *(["-f"] if force else []), str(self.path), "HEAD:refs/heads/main")
        return self.git("rev-parse", "HEAD")

    @property
    def head(self) -> str:
        return self.git("rev-parse", "refs/heads/main", cwd=self.path)

    def text(self, path: str, commit: str = "main") -> str:
        return self.git("show", f"{commit}:{path}", cwd=self.path)


def config(timeout: str = "30m", pool: int = 10, tail: str = "") -> str:
    return (
        f"server:\n  servlet:\n    session:\n      timeout: {timeout}\n"
        "# kept apart\n# by some\n# lines\n# so that edits\n# do not touch\n"
        f"spring:\n  datasource:\n    hikari:\n      maximum-pool-size: {pool}\n{tail}"
    )


@pytest.fixture(params=["bare path", "work tree", "file url"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    made = Remote(tmp_path / "remote", bare=request.param != "work tree")
    made.commit("Add checkout", {FILE: config(), "apps/payments/application.yaml": "a: 1\n"})
    made.url = made.path.as_uri() if request.param == "file url" else str(made.path)  # type: ignore[attr-defined]
    return made


@pytest.fixture
def bare(tmp_path: Path) -> Remote:
    made = Remote(tmp_path / "remote", bare=True)
    made.commit("Add checkout", {FILE: config(), "apps/payments/application.yaml": "a: 1\n"})
    return made


def opened(remote: Remote, folder: str = "clone", branch: str = "main", timeout_seconds: float = 20) -> GitRepository:
    url = getattr(remote, "url", str(remote.path))
    return GitRepository("config", url, branch, remote.path.parent / folder, timeout_seconds)


def asked(
    repository: GitRepository,
    since: datetime = NOW - timedelta(days=7),
    until: datetime = NOW,
    paths: tuple[str, ...] = SCOPE,
    commits_max: int = 2000,
) -> ChangeAnswer:
    request = ChangeRequest(
        repository="config", branch=repository.branch, paths=paths, since=since, until=until, commits_max=commits_max
    )
    return repository.changes(request)


# --- reading ---


def test_changes_are_read_by_key_newest_first(remote: Remote) -> None:
    guilty = remote.commit("Longer sessions", {FILE: config("24h")})
    other = remote.commit("Payments", {"apps/payments/application.yaml": "a: 2\n"})
    answer = asked(opened(remote))
    assert [c.commit for c in answer.commits[:2]] == [other, guilty]
    assert answer.head == other and answer.history_complete and answer.warnings == ()
    change = answer.commits[1]
    assert change.in_scope and change.author == "Ann <ann@example.org>" and change.subject == "Longer sessions"
    (file,) = change.files
    (key,) = file.keys
    assert (file.status, key.key, key.old, key.new) == ("modified", "server.servlet.session.timeout", "30m", "24h")
    assert not answer.commits[0].in_scope
    assert [(f.path, f.keys) for f in answer.commits[0].files] == [("apps/payments/application.yaml", ())]
    assert {(v.path, v.key): v.value for v in answer.configuration}[FILE, "server.servlet.session.timeout"] == "24h"


def test_a_second_reading_sees_what_was_added_meanwhile(remote: Remote) -> None:
    repository = opened(remote)
    assert len(asked(repository).commits) == 1
    added = remote.commit("More", {FILE: config("1h")})
    assert asked(repository).commits[0].commit == added
    assert repository.head() == added


def test_window_excludes_older_and_newer_commits(bare: Remote) -> None:
    inside = bare.commit("Inside", {FILE: config("1h")}, at=NOW - timedelta(hours=3))
    bare.commit("After", {FILE: config("2h")}, at=NOW - timedelta(hours=1))
    answer = asked(opened(bare), since=NOW - timedelta(hours=4), until=NOW - timedelta(hours=2))
    assert [c.commit for c in answer.commits] == [inside]
    assert answer.history_complete


def test_one_wrong_clock_neither_ends_the_walk_nor_hides_a_commit(bare: Remote) -> None:
    first = bare.commit("First", {FILE: config("1h")}, at=NOW - timedelta(hours=5))
    skewed = bare.commit("Old clock", {FILE: config("24h")}, at=NOW - timedelta(days=900))
    future = bare.commit("Fast clock", {FILE: config("25h")}, at=NOW + timedelta(days=900))
    last = bare.commit("Last", {FILE: config("26h")}, at=NOW - timedelta(hours=1))
    answer = asked(opened(bare), since=NOW - timedelta(hours=8))
    assert [c.commit for c in answer.commits] == [last, future, skewed, first]
    assert answer.commits[2].effective_at == NOW - timedelta(hours=5)
    assert answer.commits[1].effective_at == NOW - timedelta(hours=1)
    assert any("contradict" in w for w in answer.warnings)


def test_more_commits_than_asked_for_is_said(bare: Remote) -> None:
    for number in range(5):
        bare.commit(f"Number {number}", {FILE: config(pool=number)})
    answer = asked(opened(bare), commits_max=3)
    assert len(answer.commits) == 3 and not answer.history_complete


def test_key_of_a_merge_is_attributed_to_the_commit_behind_it(bare: Remote) -> None:
    bare.git("checkout", "-q", "-b", "feature")
    at = bare.at
    bare.at = at + timedelta(minutes=5)
    bare.write({FILE: config("24h")})
    bare.git("commit", "-qam", "Longer sessions")
    guilty = bare.git("rev-parse", "HEAD")
    bare.at = at + timedelta(minutes=6)
    bare.write({FILE: config("24h", pool=50)})
    bare.git("commit", "-qam", "Bigger pool")
    innocent = bare.git("rev-parse", "HEAD")
    bare.git("checkout", "-q", "main")
    bare.commit("Elsewhere", {"apps/payments/application.yaml": "a: 9\n"})
    bare.at += timedelta(hours=1)
    bare.git("merge", "-q", "--no-ff", "-m", "Merge feature", "feature")
    merge = bare.publish()
    answer = asked(opened(bare))
    found = {c.commit: c for c in answer.commits}
    assert merge not in found
    assert found[guilty].merged_by == merge and found[guilty].effective_at == bare.at
    assert [k.key for f in found[guilty].files for k in f.keys] == ["server.servlet.session.timeout"]
    assert [k.key for f in found[innocent].files for k in f.keys] == ["spring.datasource.hikari.maximum-pool-size"]


def test_key_changed_twice_behind_a_merge_stays_with_the_merge(bare: Remote) -> None:
    bare.git("checkout", "-q", "-b", "feature")
    for value in ("1h", "24h"):
        bare.write({FILE: config(value)})
        bare.git("commit", "-qam", f"Sessions {value}")
    bare.git("checkout", "-q", "main")
    bare.at += timedelta(hours=1)
    bare.git("merge", "-q", "--no-ff", "-m", "Merge feature", "feature")
    merge = bare.publish()
    newest = asked(opened(bare)).commits[0]
    assert (newest.commit, newest.merged_by) == (merge, None)
    (key,) = newest.files[0].keys
    assert (key.old, key.new) == ("30m", "24h")


def test_renamed_file_is_compared_across_the_rename(bare: Remote) -> None:
    bare.git("mv", FILE, "apps/checkout/config.yaml")
    bare.commit("Rename", {"apps/checkout/config.yaml": config("24h")})
    files = {f.path: f for f in asked(opened(bare)).commits[0].files}
    assert files["apps/checkout/config.yaml"].status == "renamed"
    assert [(k.old, k.new) for k in files["apps/checkout/config.yaml"].keys] == [("30m", "24h")]
    assert files[FILE].status == "deleted" and "renamed to" in (files[FILE].note or "")


def test_what_cannot_be_read_by_key_says_why(bare: Remote) -> None:
    bare.write({"apps/checkout/real.yaml": "a: 1\n"})
    os.symlink("/etc/passwd", bare.work / "apps/checkout/link.yaml")
    bare.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},apps/checkout/module")
    bare.write(
        {
            "apps/checkout/broken.yaml": "a: [1\nb: }\n",
            "apps/checkout/image.yaml": b"\0\1\2" * 100,
            "apps/checkout/large.yaml": b"a: 1\n" * 300_000,
        }
    )
    bare.git("add", "apps")
    bare.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},apps/checkout/module")
    bare.git("commit", "-qm", "Odd files")
    bare.publish()
    answer = asked(opened(bare))
    notes = {f.path.rpartition("/")[2]: (f.note or "", f.keys) for f in answer.commits[0].files}
    assert "symbolic link" in notes["link.yaml"][0]
    assert "submodule" in notes["module"][0]
    assert "binary" in notes["image.yaml"][0]
    assert "1500000 bytes" in notes["large.yaml"][0]
    assert notes["broken.yaml"][0] and notes["real.yaml"][0] == ""
    assert all(keys == () for name, (_, keys) in notes.items() if name != "real.yaml")
    assert not any("root:" in v.value for v in answer.configuration)
    assert any("not read as configuration" in w for w in answer.warnings)


def test_mode_change_is_its_own_status(bare: Remote) -> None:
    (bare.work / FILE).chmod(0o755)
    bare.commit("Executable", {})
    (file,) = asked(opened(bare)).commits[0].files
    assert (file.status, file.keys, file.note) == ("mode", (), None)


def test_many_files_out_of_scope_are_listed_up_to_a_bound(bare: Remote) -> None:
    bare.commit("Many", {f"docs/{n}.txt": "x" for n in range(300)})
    newest = asked(opened(bare)).commits[0]
    assert not newest.in_scope and len(newest.files) == 50


def test_hostile_text_comes_back_as_one_printable_line(bare: Remote) -> None:
    bare.commit("Evil \x1b[2J\u202e subject", {"apps/checkout/\x1b[31m\nred.yaml": "a: 1\n"})
    newest = asked(opened(bare)).commits[0]
    assert newest.subject.isprintable()
    assert "\x1b" not in opened(bare).show_history(3)


def test_large_blob_is_never_loaded(bare: Remote) -> None:
    bare.commit("Large", {"apps/checkout/dump.yaml": b"a: 1\n" * 10_000_000})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    repository = opened(bare)
    notes = [f.note for f in asked(repository).commits[0].files]
    assert notes == ["not read: 50000000 bytes, the limit is 1048576"]
    with pytest.raises(SourceRefused, match="50000000 bytes"):
        repository.read_file(bare.head, "apps/checkout/dump.yaml")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kB


def test_configuration_at_an_older_commit(bare: Remote) -> None:
    old = bare.head
    bare.commit("Longer", {FILE: config("24h")})
    values = {v.key: v.value for v in opened(bare).configuration_at(old, SCOPE)}
    assert values["server.servlet.session.timeout"] == "30m"


# --- remotes that are gone, empty, cut, rewritten ---


def test_missing_repository_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match=r"nowhere.*there is no repository.*check the url"):
        asked(GitRepository("config", str(tmp_path / "nowhere"), "main", tmp_path / "clone"))


def test_empty_repository_is_refused_by_name(tmp_path: Path) -> None:
    remote = Remote(tmp_path / "remote", bare=True)
    with pytest.raises(SourceRefused, match="no commits yet"):
        asked(opened(remote))


def test_missing_branch_names_those_that_are(remote: Remote) -> None:
    with pytest.raises(SourceRefused, match=r"no such branch.*branches are: main"):
        asked(opened(remote, branch="release"))


def test_tag_is_no_branch(bare: Remote) -> None:
    bare.git("tag", "v1", bare.head, cwd=bare.path)
    with pytest.raises(SourceRefused, match="no such branch"):
        asked(opened(bare, branch="v1"))


def test_branch_that_vanished_is_not_read_from_the_copy(bare: Remote) -> None:
    repository = opened(bare)
    asked(repository)
    bare.git("branch", "-m", "main", "trunk", cwd=bare.path)
    with pytest.raises(SourceRefused, match="no such branch"):
        asked(repository)


def test_remote_gone_is_read_from_the_copy_with_a_warning(remote: Remote) -> None:
    repository = opened(remote)
    first = asked(repository)
    remote.path.rename(remote.path.with_name("moved"))
    again = asked(repository)
    assert again.commits == first.commits
    assert again.warnings[0].startswith("remote unreachable, read from the copy of 20")
    with pytest.raises(SourceRefused):
        repository.head()
    assert repository.is_delivered(first.head) is None


def test_rewritten_history_is_followed_and_warned_about(remote: Remote) -> None:
    repository = opened(remote)
    lost = remote.commit("To be lost", {FILE: config("24h")})
    asked(repository)
    remote.git("reset", "-q", "--hard", "HEAD^")
    remote.write({FILE: config("2h")})
    remote.git("commit", "-qam", "Instead")
    instead = remote.publish(force=True)
    for _ in range(2):  # the warning stays while the window shows it
        answer = asked(repository, until=datetime.now(UTC))
        assert answer.head == instead
        assert any("rewritten" in w and lost[:12] in w for w in answer.warnings)
    assert repository.is_delivered(lost) is False


def test_shallow_remote_is_incomplete_inside_the_window_only(bare: Remote, tmp_path: Path) -> None:
    for number in range(4):
        bare.commit(f"Number {number}", {FILE: config(pool=number)})
    cut = tmp_path / "cut"
    bare.git("clone", "-q", "--bare", "--depth", "2", bare.path.as_uri(), str(cut))
    repository = GitRepository("config", str(cut), "main", tmp_path / "clone")
    answer = asked(repository)
    assert not answer.history_complete and any("cut" in w for w in answer.warnings)
    boundary = answer.commits[-1]
    assert boundary.files == () and boundary.parent is None
    assert asked(repository, since=bare.at - timedelta(minutes=1)).history_complete
    with pytest.raises(ChangeRefused, match="cut"):
        repository.revert_tree(boundary.commit, answer.head)
    bare.git("fetch", "-q", "--unshallow", bare.path.as_uri(), cwd=cut)
    assert asked(repository).history_complete


def test_borrowed_objects_do_not_tie_our_copy_to_their_owner(bare: Remote, tmp_path: Path) -> None:
    borrower = tmp_path / "borrower"
    bare.git("clone", "-q", "--bare", "--shared", str(bare.path), str(borrower))
    repository = GitRepository("config", str(borrower), "main", tmp_path / "clone")
    head = asked(repository).head
    shutil.rmtree(bare.path)
    shutil.rmtree(borrower)
    assert asked(repository).head == head


@pytest.mark.parametrize("damage", ["ref", "head", "pack", "everything"])
def test_damaged_copy_is_made_anew(bare: Remote, damage: str) -> None:
    repository = opened(bare)
    asked(repository)
    repository.head()
    store = bare.path.parent / "clone/repository.git"
    if damage == "ref":
        (store / "packed-refs").unlink(missing_ok=True)
        (store / "refs/heads").mkdir(parents=True, exist_ok=True)
        (store / "refs/heads/main").write_text("garbage\n")
    elif damage == "head":
        (store / "HEAD").unlink()
    elif damage == "everything":
        shutil.rmtree(store / "objects")
    else:
        for each in [p for p in (store / "objects").rglob("*") if p.is_file()]:
            each.unlink()  # never in place: the file may be linked from the remote
            each.write_bytes(b"damaged")
    answer = asked(repository)
    assert answer.head == bare.head and "made anew" in answer.warnings[0]
    assert asked(repository).warnings == ()


def test_damaged_object_is_found_while_reading_and_mended(bare: Remote) -> None:
    repository = opened(bare)
    asked(repository)
    blob = bare.git("rev-parse", f"main:{FILE}")
    loose = bare.path.parent / f"clone/repository.git/objects/{blob[:2]}/{blob[2:]}"
    loose.unlink()
    fresh = GitRepository("config", str(bare.path), "main", bare.path.parent / "clone")
    answer = asked(fresh)
    assert answer.commits[0].files and "made anew" in answer.warnings[0]


def test_repository_with_sha256_ids_is_refused_by_name(tmp_path: Path) -> None:
    remote = Remote(tmp_path / "remote")
    shutil.rmtree(remote.work / ".git")
    remote.git("init", "-q", "-b", "main", "--object-format=sha256", ".")
    remote.commit("One", {FILE: config()})
    with pytest.raises(SourceRefused, match="SHA-1"):
        asked(opened(remote))


# --- crashes and company ---


def test_half_clone_and_stale_locks_of_a_killed_process_are_cleaned(bare: Remote) -> None:
    clone = bare.path.parent / "clone"
    (clone / "partial-dead/repository.git").mkdir(parents=True)
    repository = opened(bare)
    asked(repository)
    assert not list(clone.glob("partial-*"))
    store = clone / "repository.git"
    (store / "refs/heads").mkdir(parents=True, exist_ok=True)
    for name in ("packed-refs.lock", "shallow.lock", "refs/heads/main.lock", "objects/pack/tmp_pack_dead"):
        (store / name).write_bytes(b"")
    added = bare.commit("More", {FILE: config("1h")})
    assert asked(repository).head == added
    assert not (store / "refs/heads/main.lock").exists()
    assert not (store / "objects/pack/tmp_pack_dead").exists()


def _read_for_ever(url: str, clone: Path) -> None:
    GitRepository("config", url, "main", clone).head()


def test_killed_at_any_moment_of_the_first_clone_the_next_run_works(bare: Remote, tmp_path: Path) -> None:
    bare.commit("Bulk", {f"bulk/{n}.txt": os.urandom(3000).hex() for n in range(300)})
    method = multiprocessing.get_context("fork")
    for number, delay in enumerate((0.002, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12)):
        clone = tmp_path / f"clone-{number}"
        process = method.Process(target=_read_for_ever, args=(bare.path.as_uri(), clone))
        process.start()
        time.sleep(delay)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert GitRepository("config", bare.path.as_uri(), "main", clone).head() == bare.head
        assert not list(clone.glob("partial-*"))


def test_many_processes_may_start_on_the_same_clone(bare: Remote, tmp_path: Path) -> None:
    method = multiprocessing.get_context("fork")
    clone = tmp_path / "clone"
    crowd = [method.Process(target=_read_for_ever, args=(str(bare.path), clone)) for _ in range(6)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(60)
    assert [process.exitcode for process in crowd] == [0] * 6


def test_many_fetches_do_not_pile_up_packs(bare: Remote) -> None:
    repository, reader = opened(bare), opened(bare)
    asked(reader)
    for number in range(45):
        added = bare.commit(f"Number {number}", {FILE: config(pool=number)})
        repository.head()
        if number % 4 == 0:  # a waiting git finds what arrived, or was moved, since it was started
            assert reader.read_file(added, FILE) == config(pool=number).encode()
    packs = list((bare.path.parent / "clone/repository.git/objects/pack").glob("*.pack"))
    assert len(packs) <= 41
    assert len(asked(repository).commits) == 46


# --- git processes ---


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return what tells the commands that git was started with, since it was asked last."""
    log, real = tmp_path / "started", shutil.which("git")
    wrapper = tmp_path / "counting/git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")

    def since() -> list[str]:
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line.partition("--no-pager ")[2] for line in lines if "--no-pager" in line]

    return since


def running(parent: int) -> list[int]:
    """Return the processes that a process started and that have not ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, owner = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(owner) == parent and state != "Z":
            found.append(int(status.parent.name))
    return found


def test_reading_and_one_proposal_need_few_processes(bare: Remote, started: Callable[[], list[str]]) -> None:
    cause = ""
    for number in range(40):
        timeout = "24h" if number >= 30 else "30m"
        made = bare.commit(f"Number {number}", {FILE: config(timeout, pool=number)})
        cause = made if number == 30 else cause
    key = "server.servlet.session.timeout"
    action = Action(type=ActionType.REVERT_KEYS, commit=cause, path=FILE, keys=(key,), reason="It grew.")
    for _ in range(2):  # our clone is made; it is there
        repository = opened(bare)
        started()
        assert len(asked(repository).commits) == 41
        proposal = build_proposal(repository, gate.draft(action), "prop-1", "nonce-1", NOW)
        commands = started()
        assert len(commands) <= 25, "\n".join(commands)
        assert proposal.rollback_rehearsed and "+      timeout: 30m" in proposal.diff


def test_head_asks_the_remote_each_time_and_fetches_only_what_moved(
    bare: Remote, started: Callable[[], list[str]]
) -> None:
    repository = opened(bare)
    first = repository.head()
    started()
    assert repository.head() == first
    assert any("ls-remote" in line for line in started())
    added = bare.commit("More", {FILE: config("1h")})
    assert repository.head() == added
    assert repository.read_file(added, FILE) == config("1h").encode()
    shutil.rmtree(bare.path)
    with pytest.raises(SourceRefused):
        repository.head()
    assert repository.read_file(added, FILE) == config("1h").encode()


def test_what_is_known_costs_no_process(bare: Remote, started: Callable[[], list[str]]) -> None:
    repository = opened(bare)
    head = repository.head()
    tree = repository.write_tree(head, {FILE: b"a: 1\n"})
    patch = repository.diff(head, tree)
    started()
    for _ in range(3):
        assert repository.file_mode(head, FILE) == "100644" and repository.file_mode(head, "absent/x") is None
        assert repository.read_file(head, FILE) == config().encode()
        assert repository.parent_of(head) is None and repository.diff(head, tree) == patch
        assert repository.diff(tree, tree) == b""
    assert len(started()) <= 2  # the two that stay alive


def test_waiting_processes_end_with_close_with_the_repository_and_with_the_program(bare: Remote) -> None:
    before = set(running(os.getpid()))
    repository = opened(bare)
    head = repository.head()
    repository.read_file(head, FILE)
    assert set(running(os.getpid())) > before
    repository.close()
    assert set(running(os.getpid())) == before
    repository.read_file(head, FILE)
    assert repository.file_mode(head, "apps") == "040000"
    del repository
    gc.collect()
    assert set(running(os.getpid())) == before
    code = (
        "import sys\nfrom pathlib import Path\nfrom advisor.adapters.git_repository import GitRepository\n"
        "r = GitRepository('c', sys.argv[1], 'main', Path(sys.argv[2]))\nr.file_mode(r.head(), 'apps')\n"
        "from advisor.adapters.git_repository.objects import ObjectReader\n"
        "print(*(p._popen.pid for p in r._clone.objects._processes._running.values()))\n"
    )
    clone = str(bare.path.parent / "clone")
    done = subprocess.run([sys.executable, "-c", code, str(bare.path), clone], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() and not done.stderr, done.stderr
    assert not [pid for pid in done.stdout.split() if Path(f"/proc/{pid}").exists()]


def test_waiting_process_that_was_killed_is_started_again(bare: Remote) -> None:
    others = set(running(os.getpid()))
    repository = opened(bare)
    head = repository.head()
    repository.file_mode(head, FILE)
    waiting = set(running(os.getpid())) - others
    for pid in waiting:
        os.kill(pid, signal.SIGKILL)
    while waiting & set(running(os.getpid())):
        time.sleep(0.01)
    assert repository.read_file(head, FILE) == config().encode()


def test_copy_replaced_by_another_process_is_noticed(bare: Remote) -> None:
    repository, other = opened(bare), opened(bare)
    head = repository.head()
    ours = edited(repository, head)
    shutil.rmtree(bare.path.parent / "clone/repository.git")
    assert other.head() == head
    with pytest.raises(SourceRefused, match="is no commit"):
        repository.parent_of(ours)
    assert repository.parent_of(edited(repository, head)) == head


def test_one_repository_serves_many_threads(bare: Remote) -> None:
    wanted = {}
    for number in range(12):
        wanted[bare.commit(f"Number {number}", {FILE: config(pool=number)})] = config(pool=number).encode()
    repository = opened(bare)
    asked(repository)
    wrong: list[str] = []

    def read(seed: int) -> None:
        for commit in random.Random(seed).sample(sorted(wanted), len(wanted)):
            if repository.read_file(commit, FILE) != wanted[commit] or not repository.parent_of(commit):
                wrong.append(commit)

    crowd = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert not wrong


def test_fork_of_a_process_asks_git_anew_and_leaves_its_parents_alone(bare: Remote) -> None:
    second = bare.commit("More", {FILE: config("1h")})
    repository = opened(bare)
    first = repository.parent_of(repository.head())
    assert first is not None and repository.read_file(second, FILE) == config("1h").encode()
    method = multiprocessing.get_context("fork")
    ours, theirs = method.Pipe()

    def child() -> None:
        theirs.send(repository.read_file(first, FILE))
        repository.close()

    process = method.Process(target=child)
    process.start()
    assert ours.poll(20) and ours.recv() == config().encode()
    process.join()
    assert process.exitcode == 0
    assert repository.read_file(first, FILE) == config().encode()
    assert repository.file_mode(first, "apps/payments") == "040000"


def test_kept_answers_are_bounded_and_failures_are_not_kept() -> None:
    kept, questions = Kept(bytes_max=10_000), []

    def answer(number: int, size: int = 1000) -> bytes:
        def ask() -> bytes:
            questions.append(number)
            return b"x" * size

        return kept.get(str(number), ask=ask)

    for number in (*range(8), *range(8), *range(100)):
        assert len(answer(number)) == 1000
    assert questions[:8] == list(range(8)) and len(questions) == 100
    answer(99), answer(0)
    assert questions[-1] == 0 and len(questions) == 101
    answer(500, 9000), answer(500, 9000)
    assert len(questions) == 103  # larger than a quarter: it would push out everything else
    with pytest.raises(ZeroDivisionError):
        kept.get("bad", ask=lambda: bytes(1 // 0))
    assert kept.get("bad", ask=lambda: b"good") == b"good"


# --- hostile repositories ---


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "program-ran"


def script(path: Path, marker: Path, then: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {path.name} >> '{marker}'\n{then}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


HOOKS = (
    "post-checkout pre-commit commit-msg post-commit pre-push reference-transaction post-index-change"
    " fsmonitor-watchman post-rewrite pre-auto-gc post-merge prepare-commit-msg"
).split()


def test_nothing_of_a_repository_is_ever_run(bare: Remote, tmp_path: Path, marker: Path) -> None:
    bare.commit("Attributes", {".gitattributes": "* filter=evil diff=evil merge=evil text eol=crlf\n"})
    bare.commit("Longer", {FILE: config("24h")})
    programs = (
        "core.fsmonitor diff.external diff.evil.textconv diff.evil.command filter.evil.clean filter.evil.smudge"
        " filter.evil.process merge.evil.driver core.pager core.editor core.sshCommand core.alternateRefsCommand"
        " gpg.program credential.helper uploadpack.packObjectsHook core.gitProxy sequence.editor"
    ).split()
    evil = [(key, str(script(tmp_path / "programs" / key, marker, "cat"))) for key in programs]
    evil += [("log.showSignature", "true"), ("commit.gpgSign", "true")]
    evil += [("core.attributesFile", str(tmp_path / "attributes"))]
    (tmp_path / "attributes").write_text("* -diff filter=evil\n")
    for hook in HOOKS:
        script(bare.path / "hooks" / hook, marker)
    for key, value in evil:
        bare.git("config", key, value, cwd=bare.path)
    repository = opened(bare)
    asked(repository)
    store = tmp_path / "clone/repository.git"
    for hook in HOOKS:
        script(store / "hooks" / hook, marker)
    (store / "info").mkdir(exist_ok=True)
    (store / "info/attributes").write_text("* -diff filter=evil diff=evil merge=evil\n")
    for key, value in [*evil, (f"url.{tmp_path}/elsewhere.insteadOf", str(bare.path))]:
        bare.git("config", "-f", str(store / "config"), key, value)
    head = repository.head()
    asked(repository)
    tree = repository.write_tree(head, {FILE: b"a: 1\r\n"})
    assert repository.read_file(head, FILE) == config("24h").encode()
    patch = repository.diff(head, tree)
    assert b"Binary" not in patch and b"+a: 1\r\n" in patch
    repository.revert_tree(head, head)
    commit = repository.commit_tree(tree, head, "Back", "Advisor", "advisor@example.org", NOW)
    repository.show_history(5)
    assert not marker.exists(), marker.read_text()
    # What the remote runs when something is pushed to it is its own affair; what we run is ours.
    shutil.rmtree(bare.path / "hooks")
    for key, _ in evil:
        bare.git("config", "--unset", key, cwd=bare.path)
        bare.git("config", "-f", str(store / "config"), key, str(script(tmp_path / "programs" / key, marker, "cat")))
    repository.push(commit, head)
    assert bare.head == commit
    assert not marker.exists(), marker.read_text()


def test_git_variables_of_the_caller_are_ignored(
    bare: Remote, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = script(tmp_path / "program", marker)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_ALTERNATE_OBJECT_DIRECTORIES", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_NAMESPACE", "other")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "diff.external")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(program))
    for name in ("GIT_EXTERNAL_DIFF", "GIT_ASKPASS", "SSH_ASKPASS", "GIT_EDITOR", "GIT_PAGER", "GIT_PROXY_COMMAND"):
        monkeypatch.setenv(name, str(program))
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z")
    repository = opened(bare)
    head = asked(repository).head
    tree = repository.write_tree(head, {FILE: b"a: 1\n"})
    repository.commit_tree(tree, head, "Back", "Advisor", "advisor@example.org", NOW)
    repository.diff(head, tree)
    assert not marker.exists() and not (tmp_path / "trace").exists() and not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "branch",
    [
        "--upload-pack=touch x",
        "-b",
        "",
        "a..b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "@",
        "x@{1}",
        "a.lock",
        "/a",
        "a/",
        "*",
        "a\n",
    ],
)
def test_odd_branch_names_are_refused(branch: str, tmp_path: Path) -> None:
    with pytest.raises(SourceRefused, match="not a branch name"):
        GitRepository("config", str(tmp_path), branch, tmp_path / "clone")
    assert not (tmp_path / "clone").exists()


@pytest.mark.parametrize("branch", ["main", "release/1.2", "größe", "feature/a_b-c", "HEAD-2"])
def test_usual_branch_names_pass(branch: str) -> None:
    assert check_branch(branch) == branch


@pytest.mark.parametrize(
    "url", ["--upload-pack=x", "ext::sh -c id", "fd::3", "git://host/x", "ftp://host/x", "", "ssh://-oProxyCommand=x/y"]
)
def test_odd_urls_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SourceRefused):
        GitRepository("config", url, "main", tmp_path / "clone")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "./a",
        "a/.",
        ".git/config",
        "a/.GIT/config",
        ".Git\u200c/config",
        "\uff0egit/config",
        ".gitmodules",
        "a/.gitattributes",
        "git~1/config",
        "GIT~2",
        ".git /config",
        ".git./config",
        ".git::$INDEX_ALLOCATION/config",
        "a\\..\\b",
        "C:/x",
        "a\nb",
        "a\0b",
        "a/b ",
        "a/b.",
        "\ud800",
        "x" * 5000,
    ],
)
def test_paths_that_could_leave_the_tree_are_refused(path: str, bare: Remote) -> None:
    repository = opened(bare)
    with pytest.raises(ChangeRefused, match="is not written"):
        repository.write_tree(bare.head, {path: b"x"})


@pytest.mark.parametrize(
    "path", ["a/b.yaml", "äpfel/ö.yaml", "a b/c.yaml", "x/...y", "gitops/config.yaml", "a*[b]?.yaml"]
)
def test_usual_paths_pass(path: str) -> None:
    assert check_path(path) == path


def test_links_and_folders_are_never_written_through(bare: Remote) -> None:
    os.symlink("/etc", bare.work / "apps/checkout/etc")
    os.symlink("application.yaml", bare.work / "apps/checkout/link.yaml")
    head = bare.commit("Links", {})
    repository = opened(bare)
    for path in ("apps/checkout/etc/passwd", f"{FILE}/x", "apps/checkout/link.yaml", "apps/checkout"):
        with pytest.raises(ChangeRefused):
            repository.write_tree(head, {path: b"x"})
    with pytest.raises(SourceRefused, match="symbolic link"):
        repository.read_file(head, "apps/checkout/link.yaml")
    with pytest.raises(SourceRefused, match="no file"):
        repository.read_file(head, "apps/checkout/nothing.yaml")
    with pytest.raises(SourceRefused, match="full object id"):
        repository.read_file("HEAD", FILE)
    with pytest.raises(SourceRefused, match="no commit"):
        repository.read_file("0" * 39 + "1", FILE)


def test_tree_with_gits_own_folder_is_refused_not_written(bare: Remote) -> None:
    blob = bare.git("hash-object", "-w", "--stdin", data=b"[core]\n")
    inner = bare.git("mktree", data=f"100644 blob {blob}\tconfig\n".encode())
    tree = bare.git("mktree", data=f"040000 tree {inner}\t.GIT\n100644 blob {blob}\ta.yaml\n".encode())
    commit = bare.git("commit-tree", tree, "-p", bare.head, "-m", "Evil tree")
    bare.git("push", "-q", str(bare.path), f"{commit}:refs/heads/main")
    repository = opened(bare)
    asked(repository)
    with pytest.raises(AdvisorError):
        repository.write_tree(commit, {"a.yaml": b"a: 2\n"})


def test_repository_of_another_user_is_read_but_not_pushed_to(bare: Remote) -> None:
    if os.getuid() != 0:
        missing("the right to change owners (root)")
    for each in [bare.path, *bare.path.rglob("*")]:
        os.lchown(each, 12345, 12345)
    repository = opened(bare)
    head = asked(repository).head
    commit = edited(repository, head)
    with pytest.raises(ChangeRefused, match="another user"):
        repository.push(commit, head)


# --- scopes ---


@pytest.mark.parametrize(
    ("glob", "path", "inside"),
    [
        ("apps/checkout/**", "apps/checkout/a.yaml", True),
        ("apps/checkout/**", "apps/checkout/x/y/a.yaml", True),
        ("apps/checkout/**", "apps/checkout2/a.yaml", False),
        ("**", "a", True),
        ("**/values.yaml", "values.yaml", True),
        ("**/values.yaml", "a/b/values.yaml", True),
        ("apps/**/prod/*.yaml", "apps/prod/a.yaml", True),
        ("apps/**/prod/*.yaml", "apps/a/b/prod/a.yaml", True),
        ("apps/**/prod/*.yaml", "apps/prod/x/a.yaml", False),
        ("apps/*", "apps/a", True),
        ("apps/*", "apps/a/b", False),
        ("apps/*/config", "apps/a/config/x.yaml", True),
        ("apps/checkout", "apps/checkout/x/y.yaml", True),
        ("apps/checkout/", "apps/checkout/y.yaml", True),
        ("./apps", "apps/y.yaml", True),
        ("a?c.yaml", "abc.yaml", True),
        ("a?c.yaml", "a/c.yaml", False),
        ("*.yaml", "a.yaml", True),
        ("*.yaml", "x/a.yaml", False),
        ("[a].yaml", "a.yaml", False),
        ("[a].yaml", "[a].yaml", True),
        ("a*b*c", "aXbYbZc", True),
        ("a*b*c", "aXbYbZ", False),
    ],
)
def test_scope(glob: str, path: str, inside: bool) -> None:
    assert (path in PathScope([glob])) is inside


def test_scope_takes_linear_time_on_hostile_names() -> None:
    started = time.monotonic()
    assert "a" * 20_000 + "c" not in PathScope(["*a" * 20 + "*b"])
    assert "/".join("a" * 10_000) not in PathScope(["**/a" * 20 + "/**/b.yaml"])
    assert time.monotonic() - started < 2


# --- building a change ---


def edited(repository: GitRepository, base: str, content: bytes = b"a: 1\n", subject: str = "Edit") -> str:
    tree = repository.write_tree(base, {FILE: content})
    return repository.commit_tree(tree, base, subject, "Advisor", "advisor@example.org", NOW)


def test_written_tree_differs_in_the_edits_only(remote: Remote) -> None:
    (remote.work / FILE).chmod(0o755)
    head = remote.commit("Executable", {})
    repository = opened(remote)
    other = "apps/payments/application.yaml"
    tree = repository.write_tree(head, {FILE: b"a: \xff\r\n", other: None, "new/empty.yaml": b""})
    commit = repository.commit_tree(tree, head, "Edit", "Advisor", "advisor@example.org", NOW)
    assert repository.read_file(commit, FILE) == b"a: \xff\r\n"
    assert repository.file_mode(commit, FILE) == "100755"
    assert repository.file_mode(commit, other) is None
    assert repository.read_file(commit, "new/empty.yaml") == b""
    assert repository.file_mode(commit, "new") == "040000"
    assert repository.parent_of(commit) == head
    assert repository.is_ancestor(head, commit) and not repository.is_ancestor(commit, head)
    assert repository.write_tree(head, {}) == remote.git("rev-parse", f"{head}^{{tree}}")


def test_commit_id_depends_on_nothing_but_its_arguments(bare: Remote) -> None:
    first, second = opened(bare, "clone-1"), opened(bare, "clone-2")
    assert edited(first, bare.head) == edited(second, bare.head)
    assert edited(first, bare.head) != edited(first, bare.head, subject="Another")
    repository = first
    tree = repository.write_tree(bare.head, {FILE: b"a: 1\n"})
    commit = repository.commit_tree(tree, bare.head, "Über\n\nIncident: 1", "Änn", "a@example.org", NOW)
    shown = bare.git("cat-file", "commit", commit, cwd=bare.path.parent / "clone-1/repository.git")
    assert "author Änn <a@example.org> 1795348800 +0000" in shown
    assert shown.endswith("Über\n\nIncident: 1")


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "m"), ("a<b", "m"), ("a\nb", "m"), ("..", "m"), ("a", ""), ("a", "x\0y"), ("a", "\ud800")],
)
def test_names_and_messages_git_would_alter_are_refused(name: str, message: str, bare: Remote) -> None:
    repository = opened(bare)
    tree = repository.write_tree(bare.head, {})
    with pytest.raises(ChangeRefused):
        repository.commit_tree(tree, bare.head, message, name, "a@example.org", NOW)


def test_diff_is_the_same_bytes_in_any_clone(bare: Remote) -> None:
    before = bare.head
    after = bare.commit("Longer", {FILE: config("24h"), "apps/checkout/ä.yaml": "a: 1\n"})
    patch = opened(bare, "clone-1").diff(before, after)
    assert patch == opened(bare, "clone-2").diff(before, after)
    assert b"-      timeout: 30m\n+      timeout: 24h\n" in patch and "b/apps/checkout/ä.yaml".encode() in patch
    bare.git("apply", "--check", "--cached", "-R", data=patch)


def test_too_large_edit_is_refused(bare: Remote) -> None:
    with pytest.raises(ChangeRefused, match="limit"):
        opened(bare).write_tree(bare.head, {FILE: b"x" * 1_100_000})
    with pytest.raises(ChangeRefused, match="does not exist"):
        opened(bare).write_tree(bare.head, {"apps/nothing.yaml": None})


def test_revert_restores_the_exact_bytes(bare: Remote) -> None:
    odd = b"a: 1\r\n\tb: \xff\n# no newline at the end"
    bare.commit("Odd bytes", {FILE: odd})
    parent = bare.head
    guilty = bare.commit(
        "Change, add and delete", {FILE: config("24h"), "n.yaml": "a: 1\n", "apps/payments/application.yaml": None}
    )
    repository = opened(bare)
    tree = repository.revert_tree(guilty, guilty)
    assert tree == bare.git("rev-parse", f"{parent}^{{tree}}")


def test_revert_keeps_later_edits_elsewhere(bare: Remote) -> None:
    guilty = bare.commit("Longer sessions", {FILE: config("24h")})
    bare.commit("Bigger pool", {FILE: config("24h", pool=50)})
    head = bare.commit("Elsewhere", {"apps/payments/application.yaml": "a: 7\n"})
    repository = opened(bare)
    tree = repository.revert_tree(guilty, head)
    commit = repository.commit_tree(tree, head, "Revert", "Advisor", "advisor@example.org", NOW)
    assert repository.read_file(commit, FILE) == config("30m", pool=50).encode()
    assert repository.read_file(commit, "apps/payments/application.yaml") == b"a: 7\n"
    again = repository.revert_tree(commit, commit)
    assert again == bare.git("rev-parse", f"{head}^{{tree}}")


def test_revert_that_collides_names_file_and_later_commit(bare: Remote) -> None:
    guilty = bare.commit("Longer sessions", {FILE: config("24h")})
    later = bare.commit("Even longer sessions", {FILE: config("48h")})
    repository = opened(bare)
    with pytest.raises(ChangeConflict) as caught:
        repository.revert_tree(guilty, later)
    assert FILE in str(caught.value) and later[:10] in str(caught.value) and "Even longer" in str(caught.value)
    touching = repository.commits_touching([FILE], guilty, later)
    assert [(c.id, c.subject, c.author) for c in touching] == [(later, "Even longer sessions", "Ann <ann@example.org>")]


def test_revert_of_something_already_taken_back_changes_nothing(bare: Remote) -> None:
    guilty = bare.commit("Longer sessions", {FILE: config("24h")})
    head = bare.commit("Back by hand", {FILE: config()})
    assert opened(bare).revert_tree(guilty, head) == bare.git("rev-parse", f"{head}^{{tree}}")


def test_revert_of_an_added_file_edited_since_collides(bare: Remote) -> None:
    guilty = bare.commit("Add", {"n.yaml": "a: 1\n"})
    head = bare.commit("Edit", {"n.yaml": "a: 2\n"})
    with pytest.raises(ChangeConflict, match=r"n\.yaml"):
        opened(bare).revert_tree(guilty, head)


def test_revert_of_a_deleted_file_whose_folder_is_a_file_now_is_refused(bare: Remote) -> None:
    guilty = bare.commit("Delete", {"apps/payments/application.yaml": None})
    (bare.work / "apps/payments").rmdir()
    head = bare.commit("File in its place", {"apps/payments": "x\n"})
    with pytest.raises(ChangeRefused, match="not a folder"):
        opened(bare).revert_tree(guilty, head)


def test_revert_of_the_first_commit_and_of_a_merge(bare: Remote) -> None:
    first = bare.head
    repository = opened(bare)
    assert repository.revert_tree(first, first) == EMPTY_TREE
    bare.git("checkout", "-q", "-b", "feature")
    bare.write({FILE: config("24h")})
    bare.git("commit", "-qam", "Longer")
    bare.git("checkout", "-q", "main")
    before = bare.commit("Elsewhere", {"x.yaml": "a: 1\n"})
    bare.git("merge", "-q", "--no-ff", "-m", "Merge", "feature")
    merge = bare.publish()
    assert repository.revert_tree(merge, merge) == bare.git("rev-parse", f"{before}^{{tree}}")


def test_revert_of_a_mode_change_and_of_a_link(bare: Remote) -> None:
    before = bare.head
    (bare.work / FILE).chmod(0o755)
    guilty = bare.commit("Executable", {})
    repository = opened(bare)
    assert repository.revert_tree(guilty, guilty) == bare.git("rev-parse", f"{before}^{{tree}}")
    os.symlink("/etc", bare.work / "link")
    linked = bare.commit("Link", {})
    with pytest.raises(ChangeRefused, match="symbolic link"):
        repository.revert_tree(linked, linked)


def test_random_histories_are_taken_back_exactly_or_refused_by_name(bare: Remote) -> None:
    chance = random.Random(20261122)
    repository = opened(bare)
    root = repository.head()
    refused = 0
    for _ in range(HISTORIES):
        different = chance.choice((2, 1000))  # many equal lines: a merge could fit in the wrong place

        def line(different: int = different) -> bytes:
            return b"k%d: %d\n" % (chance.randrange(different), chance.randrange(different))

        before = [line() for _ in range(chance.randrange(3, 30))]
        first = chance.randrange(len(before))
        after = [line() if first <= n < first + 3 else old for n, old in enumerate(before)]
        onto = list(after)
        for n in (chance.randrange(len(onto)) for _ in range(chance.randrange(3))):
            onto[n] = line()
        base = edited(repository, root, b"".join(before))
        step = edited(repository, base, b"".join(after))
        head = edited(repository, step, b"".join(onto))
        changed = {n for n, old in enumerate(before) if old != after[n]}
        wanted = b"".join(before[n] if n in changed else new for n, new in enumerate(onto))
        try:
            tree = repository.apply_inverse(base, step, head, since_commit=step)
        except ChangeConflict as error:
            refused += 1
            assert FILE in str(error)
            later = [n for n, new in enumerate(onto) if new != after[n]]
            assert any(abs(n - m) <= 3 for n in later for m in changed)
            continue
        result = repository.commit_tree(tree, head, "Back", "Advisor", "advisor@example.org", NOW)
        assert repository.read_file(result, FILE) == wanted
    assert refused < HISTORIES


# --- delivery ---


def test_push_is_compare_and_swap_and_a_repeat_finds_it_done(bare: Remote) -> None:
    repository = opened(bare)
    base = repository.head()
    commit = edited(repository, base)
    assert repository.is_delivered(commit) is False
    repository.push(commit, base)
    assert bare.head == commit
    repository.push(commit, base)
    assert repository.is_delivered(commit) is True
    assert repository.head() == commit
    bare.git("pull", "-q", "--ff-only", str(bare.path), "main")
    bare.commit("Later", {FILE: config("1h")})
    repository.push(commit, base)
    assert opened(bare, "another").is_delivered(commit) is True


def test_push_onto_a_moved_branch_is_a_conflict_that_names_its_head(bare: Remote) -> None:
    repository = opened(bare)
    base = repository.head()
    commit = edited(repository, base)
    moved = bare.commit("Somebody else", {"x.yaml": "a: 1\n"})
    with pytest.raises(ChangeConflict, match=moved[:12]):
        repository.push(commit, base)
    assert bare.head == moved


def test_push_refuses_a_commit_on_another_base(bare: Remote) -> None:
    repository = opened(bare)
    base = repository.head()
    commit = edited(repository, base)
    second = edited(repository, commit, b"a: 2\n")
    with pytest.raises(ChangeRefused, match="stands on"):
        repository.push(second, base)
    with pytest.raises(ChangeRefused, match="not in our copy"):
        repository.push("1" * 40, base)
    assert bare.head == base


def test_push_declined_by_a_hook_carries_the_remotes_words(bare: Remote, marker: Path) -> None:
    script(bare.path / "hooks/pre-receive", marker, "echo 'change freeze until Monday' >&2; exit 1")
    repository = opened(bare)
    base = repository.head()
    with pytest.raises(ChangeRefused, match="change freeze until Monday"):
        repository.push(edited(repository, base), base)
    assert bare.head == base and marker.exists()


def test_push_to_a_checked_out_branch_says_what_to_do(tmp_path: Path) -> None:
    remote = Remote(tmp_path / "remote")
    base = remote.commit("One", {FILE: config()})
    repository = opened(remote)
    commit = edited(repository, base)
    with pytest.raises(ChangeRefused, match="updateInstead"):
        repository.push(commit, base)
    remote.git("config", "receive.denyCurrentBranch", "updateInstead")
    repository.push(commit, base)
    assert (remote.work / FILE).read_text() == "a: 1\n"


def test_push_that_broke_off_before_the_write_may_be_repeated(bare: Remote, marker: Path) -> None:
    hook = script(bare.path / "hooks/pre-receive", marker, "exec sleep 30")
    repository = opened(bare, timeout_seconds=1)
    base = repository.head()
    commit = edited(repository, base)
    started = time.monotonic()
    with pytest.raises(ChangeError, match="may be repeated") as caught:
        repository.push(commit, base)
    assert caught.value.retriable and time.monotonic() - started < 8
    hook.unlink()
    repository.push(commit, base)
    assert bare.head == commit


def test_push_that_broke_off_after_the_write_is_a_success(bare: Remote, marker: Path) -> None:
    script(bare.path / "hooks/post-receive", marker, "exec sleep 30")
    repository = opened(bare, timeout_seconds=1)
    base = repository.head()
    commit = edited(repository, base)
    repository.push(commit, base)
    assert bare.head == commit and repository.is_delivered(commit) is True


def test_push_to_a_vanished_remote_is_refused_and_to_a_dying_one_uncertain(bare: Remote, marker: Path) -> None:
    gone = bare.path.with_name("gone")
    repository = opened(bare, timeout_seconds=5)
    base = repository.head()
    commit = edited(repository, base)
    script(bare.path / "hooks/post-receive", marker, f"mv '{bare.path}' '{gone}'; kill -9 $PPID")
    with pytest.raises(ChangeUncertain, match="before anything else"):
        repository.push(commit, base)
    assert bare.git("rev-parse", "main", cwd=gone) == commit
    with pytest.raises(ChangeRefused, match="no repository"):
        repository.push(commit, base)


def test_of_many_pushers_one_wins(bare: Remote) -> None:
    base = bare.head
    repositories = [opened(bare, f"clone-{n}") for n in range(6)]
    commits = [edited(r, base, f"a: {n}\n".encode()) for n, r in enumerate(repositories)]
    outcomes: list[str] = []
    gate = threading.Barrier(len(repositories))

    def deliver(repository: GitRepository, commit: str) -> None:
        gate.wait()
        try:
            repository.push(commit, base)
            outcomes.append(commit)
        except ChangeConflict:
            outcomes.append("conflict")

    crowd = [threading.Thread(target=deliver, args=each) for each in zip(repositories, commits, strict=True)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert outcomes.count("conflict") == 5
    assert bare.head in commits and bare.head in outcomes


# --- bundles ---


def test_export_is_small_self_contained_and_names_no_host(bare: Remote, tmp_path: Path) -> None:
    for number in range(12):
        bare.commit(f"Number {number}", {FILE: config(pool=number)})
    repository = opened(bare)
    bundle = tmp_path / "bundle/config.git"
    repository.export_shallow(bundle, 5)
    names = sorted(str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file())
    assert len([n for n in names if n.endswith(".pack")]) == 1 and not any("hooks" in n for n in names)
    everything = b"".join(p.read_bytes() for p in bundle.rglob("*") if p.is_file())
    assert str(tmp_path).encode() not in everything
    with pytest.raises(SourceRefused, match="not empty"):
        repository.export_shallow(bundle, 5)
    shutil.rmtree(bare.path)
    copied = tmp_path / "imported.git"
    GitRepository.import_shallow(bundle, copied, "main")
    replay = GitRepository("config", str(copied), "main", tmp_path / "replay")
    answer = asked(replay)
    assert len(answer.commits) == 5 and not answer.history_complete
    assert answer.commits[:4] == asked(repository).commits[:4]
    assert answer.configuration == asked(repository).configuration


def test_exported_packs_are_the_same_bytes(bare: Remote, tmp_path: Path) -> None:
    repository = opened(bare)
    for folder in ("one", "two"):
        repository.export_shallow(tmp_path / folder, 3)
    packs = [p.read_bytes() for f in ("one", "two") for p in (tmp_path / f).rglob("*.pack")]
    assert len(packs) == 2 and packs[0] == packs[1]


def test_import_takes_over_no_program_and_no_damage(bare: Remote, tmp_path: Path, marker: Path) -> None:
    bundle = tmp_path / "bundle"
    opened(bare).export_shallow(bundle, 5)
    script(bundle / "hooks/post-checkout", marker)
    bare.git("config", "-f", str(bundle / "config"), "uploadpack.packObjectsHook", str(script(tmp_path / "p", marker)))
    GitRepository.import_shallow(bundle, tmp_path / "good", "main")
    assert not (tmp_path / "good/hooks").exists() and not marker.exists()
    pack = next(bundle.rglob("*.pack"))
    pack.chmod(0o644)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0xFF
    pack.write_bytes(bytes(data))
    with pytest.raises(SourceError):
        GitRepository.import_shallow(bundle, tmp_path / "bad", "main")
    assert not (tmp_path / "bad").exists()
    with pytest.raises(SourceRefused):
        GitRepository.import_shallow(tmp_path / "nothing", tmp_path / "bad", "main")


# --- limits of the machine ---


def _limited(url: str, clone: Path, pipe: object) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        GitRepository("config", url, "main", clone).head()
        said = "no error"
    except AdvisorError as error:
        said = f"{type(error).__name__}: {error}"
    pipe.send(said)  # type: ignore[attr-defined]


def test_file_size_limit_is_an_error_and_the_next_run_works(bare: Remote, tmp_path: Path) -> None:
    opened(bare).head()
    bare.commit("Bulk", {"bulk.bin": os.urandom(1_000_000)})
    method = multiprocessing.get_context("fork")
    ours, theirs = method.Pipe()
    process = method.Process(target=_limited, args=(bare.path.as_uri(), tmp_path / "clone", theirs))
    process.start()
    said = ours.recv()
    process.join()
    assert said.startswith("SourceUnavailable")
    assert opened(bare).head() == bare.head


@pytest.mark.real
def test_full_file_system_leaves_the_copy_usable(bare: Remote, tmp_path: Path) -> None:
    if os.getuid() != 0 or shutil.which("mount") is None:
        missing("the right to mount a small tmpfs (root)")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], capture_output=True).returncode:
        missing("the right to mount a small tmpfs (root)")
    try:
        repository = GitRepository("config", bare.path.as_uri(), "main", small / "clone")
        first = asked(repository)
        bare.commit("Bulk", {"bulk.bin": os.urandom(4_000_000)})
        again = asked(repository)
        assert again.head == first.head and "disk is full" in again.warnings[0]
        with pytest.raises(SourceUnavailable, match="disk is full"):
            repository.head()
        filler = small / "filler"
        with pytest.raises(OSError):
            filler.write_bytes(b"x" * 4_000_000)
        with pytest.raises(SourceUnavailable, match="disk is full"):
            repository.write_tree(first.head, {FILE: os.urandom(500_000)})
        filler.unlink()
        repository.write_tree(first.head, {FILE: b"a: 1\n"})
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)


def test_silent_remote_ends_at_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "bin/ssh", tmp_path / "marker", "sleep 60 & wait")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    started = time.monotonic()
    with pytest.raises(SourceUnavailable, match="no answer in time"):
        GitRepository("config", "ssh://host.invalid/x", "main", tmp_path / "clone", timeout_seconds=0.5).head()
    assert time.monotonic() - started < 5


def test_clone_that_another_process_holds_ends_at_the_deadline(bare: Remote) -> None:
    repository = opened(bare, timeout_seconds=0.3)
    with opened(bare)._clone.locked(), pytest.raises(SourceUnavailable, match="another process"):
        repository.head()


# --- ssh and https ---


def test_ssh_is_called_without_questions_and_with_the_key(
    bare: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bin/ssh"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\nfor last; do :; done\nexec sh -c "$last"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    key = tmp_path / "a key'; touch x"
    url = f"ssh://git@host.invalid{bare.path}"
    repository = GitRepository("config", url, "main", tmp_path / "clone", 20, key)
    base = repository.head()
    commit = edited(repository, base)
    repository.push(commit, base)
    assert bare.head == commit
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert "-oBatchMode=yes" in arguments and str(key) in arguments
    assert GitRepository("config", f"git@host.invalid:{bare.path}", "main", tmp_path / "scp", 20).head() == commit


@pytest.mark.real
def test_real_ssh_server(bare: Remote, tmp_path: Path) -> None:
    sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if sshd is None or shutil.which("ssh-keygen") is None:
        missing("sshd or ssh-keygen")
    assert sshd is not None
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    (tmp_path / "authorized").write_text((tmp_path / "user.pub").read_text())
    port = 20_000 + os.getpid() % 20_000
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nPidFile {tmp_path}/pid\nStrictModes no\n"
        f"AuthorizedKeysFile {tmp_path}/authorized\nPasswordAuthentication no\nUsePAM no\nPermitRootLogin yes\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    command = [sshd, "-D", "-e", "-f", str(tmp_path / "sshd_config")]
    with (tmp_path / "sshd.log").open("wb") as log:
        server = subprocess.Popen(command, stderr=log)
    try:
        url = f"ssh://127.0.0.1:{port}{bare.path}"
        for _ in range(50):
            time.sleep(0.1)
            if server.poll() is not None:
                missing(f"a usable sshd ({(tmp_path / 'sshd.log').read_text().strip()[-100:]})")
            if "listening" in (tmp_path / "sshd.log").read_text():
                break
        with pytest.raises(SourceRefused, match="host key is not known"):
            GitRepository("config", url, "main", tmp_path / "clone", 20, tmp_path / "user").head()
        wrapper = tmp_path / "bin/ssh"
        real = shutil.which("ssh")
        wrapper.parent.mkdir()
        wrapper.write_text(f'#!/bin/sh\nexec {real} -oUserKnownHostsFile={tmp_path}/known "$@"\n')
        wrapper.chmod(0o755)
        host_key = " ".join((tmp_path / "host.pub").read_text().split()[:2])
        (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {host_key}\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
            with pytest.raises(SourceRefused, match="access was refused"):
                GitRepository("config", url, "main", tmp_path / "clone", 20, tmp_path / "stranger").head()
            repository = GitRepository("config", url, "main", tmp_path / "clone", 20, tmp_path / "user")
            base = asked(repository).head
            commit = edited(repository, base)
            repository.push(commit, base)
            assert bare.head == commit and repository.is_delivered(commit) is True
            server.terminate()
            server.wait()
            assert asked(repository).warnings[0].startswith("remote unreachable")
            with pytest.raises(ChangeError, match="was not begun") as caught:
                repository.push(edited(repository, commit, b"a: 2\n"), commit)
            assert caught.value.retriable
    finally:
        server.kill()
        server.wait()


def test_credentials_of_a_url_are_never_shown(tmp_path: Path) -> None:
    url = "https://user:hunter2@127.0.0.1:1/config.git"
    with pytest.raises(SourceUnavailable) as caught:
        GitRepository("config", url, "main", tmp_path / "clone", 10).head()
    assert "hunter2" not in str(caught.value) and "127.0.0.1:1/config.git" in str(caught.value)


# --- the table of failures ---


@pytest.mark.parametrize(
    ("words", "kind", "error"),
    [
        (
            "fatal: '/x' does not appear to be a git repository\nfatal: Could not read from remote repository.",
            Failure.MISSING,
            SourceRefused,
        ),
        ("remote: Repository not found.\nfatal: repository 'https://h/x/' not found", Failure.MISSING, SourceRefused),
        ("fatal: couldn't find remote ref refs/heads/x", Failure.NO_BRANCH, SourceRefused),
        ("fatal: Remote branch x not found in upstream origin", Failure.NO_BRANCH, SourceRefused),
        (
            "git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.",
            Failure.AUTH,
            SourceRefused,
        ),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", Failure.AUTH, SourceRefused),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 403", Failure.AUTH, SourceRefused),
        (
            "fatal: unable to access 'https://h/': The requested URL returned error: 503",
            Failure.UNREACHABLE,
            SourceUnavailable,
        ),
        (
            "Host key verification failed.\nfatal: Could not read from remote repository.",
            Failure.HOST_KEY,
            SourceRefused,
        ),
        ("ssh: connect to host h port 22: Connection refused", Failure.UNREACHABLE, SourceUnavailable),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", Failure.UNREACHABLE, SourceUnavailable),
        (
            "fetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF",
            Failure.UNREACHABLE,
            SourceUnavailable,
        ),
        ("fatal: write error: No space left on device\nfatal: early EOF", Failure.DISK_FULL, SourceUnavailable),
        ("error: unable to create temporary file: Read-only file system", Failure.READ_ONLY, SourceRefused),
        ("fatal: cannot create directory at 'x': Permission denied", Failure.READ_ONLY, SourceRefused),
        ("error: object file x is empty\nfatal: loose object 1 is corrupt", Failure.CORRUPT, SourceMalformed),
        ("fatal: packfile ./p.pack cannot be accessed", Failure.CORRUPT, SourceMalformed),
        ("fatal: Unable to create '/x/main.lock': File exists.", Failure.LOCKED, SourceUnavailable),
        ("fatal: detected dubious ownership in repository at '/x'", Failure.OWNERSHIP, SourceRefused),
        ("fatal: transport 'ext' not allowed", Failure.PROTOCOL, SourceRefused),
        ("fatal: mismatched algorithms: client sha1; server sha256", Failure.FORMAT, SourceRefused),
        ("error: unknown option `end-of-options'", Failure.TOO_OLD, SourceRefused),
        ("something nobody has seen", Failure.UNKNOWN, SourceUnavailable),
    ],
)
def test_words_of_git_become_one_clear_line(words: str, kind: Failure, error: type[SourceError]) -> None:
    assert classify(words) is kind
    made = source_error(GitFailed(kind, words), "reading /x")
    assert type(made) is error
    assert str(made).startswith(f"reading /x: {kind.value}") and "\n" not in str(made)


def test_every_failure_has_a_class_and_advice() -> None:
    for kind in Failure:
        assert source_error(GitFailed(kind, "words"), "x")
    assert {kind for kind, _ in FAILURES} < set(Failure)


def test_output_and_time_are_bounded(bare: Remote) -> None:
    runner = GitRunner(bare.path, 5)
    with pytest.raises(GitFailed) as caught:
        runner.run("cat-file", "--batch", "--batch-all-objects", output_bytes_max=10)
    assert caught.value.kind is Failure.TOO_LARGE
    with (
        pytest.raises(GitFailed) as slow,
        GitRunner(bare.path, 0.3).start("cat-file", "--batch", stdin=None) as process,
    ):
        process.read_line()
    assert slow.value.kind is Failure.TIMEOUT


def test_missing_git_is_an_answer_not_a_traceback(tmp_path: Path) -> None:
    code = (
        "import os, sys\nos.environ['PATH'] = '/nowhere'\nfrom pathlib import Path\n"
        "from advisor.adapters.git_repository import GitRepository\nfrom advisor.errors import SourceUnavailable\n"
        "try:\n    GitRepository('c', '/x', 'main', Path(sys.argv[1])).head()\n"
        "except SourceUnavailable as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "clone")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "git cannot be started" in done.stdout and "install git" in done.stdout
