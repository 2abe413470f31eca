"""Commands that die of SIGKILL at a named step, and what is true of a shop afterwards.

A driver process imports the product once and forks for each command: `Driver` speaks to it, ``python -m
tests.support.crash`` is it. In the fork the functions around a durable step (a git process, a call of the store, a
statement, a file being synced or renamed) are wrapped, and a `Trap` ends the process there, as a power cut would; a trap
on the remote is a hook that ends the advisor while git is at work. Nothing of this is in the product.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.gate import ALICE, BAD, GOOD, OTHER, PATH, fast_import, git, new_remote

ROOT = Path(__file__).parent.parent.parent
PROPOSAL = "prop-0001"
ANSWER_SECONDS_MAX = 60
SETTINGS = {
    "store": "sqlite:///advisor.db",
    "prometheus": {"url": "http://127.0.0.1:9", "retries": 0, "connect_timeout_seconds": 0.2},
    "repositories": {"config": {"url": "./remote.git", "branch": "main", "timeout_seconds": 20}},
    "services": {
        "checkout": {
            "selector": 'job="checkout"',
            "configuration": {"repository": "config", "paths": ["apps/checkout/**"]},
        }
    },
    "approval": {"approvers": [ALICE]},
}
# Which hook of the remote, and whether it ends only the advisor or its git as well.
_KILL = 'rm -f "$0"; kill -9 "$(cat "$GIT_DIR/../advisor.pid")"\n'
_KILL_GIT = "push=$(cut -d' ' -f4 /proc/$PPID/stat); kill -9 \"$push\"\n"
_SLOW = "sleep 0.4\n"


@dataclass(frozen=True)
class Trap:
    """Where the process ends: before or after the n-th time that a point is passed."""

    point: str
    when: str = "before"
    nth: int = 1


@dataclass(frozen=True)
class Fault:
    """The n-th of some system calls fails, in the advisor and in each process it starts."""

    calls: str
    error: str
    nth: int


@dataclass
class Told:
    """How a forked command ended."""

    status: int
    points: list[str] = field(default_factory=list)
    seconds: float = 0.0
    out: str = ""
    err: str = ""
    injected: bool = False  # whether the fault came about: there were that many calls

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def code(self) -> int:
        return os.waitstatus_to_exitcode(self.status)


class Driver:
    """The process that forks; one at a time for each thread of a test."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ADVISOR_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def run(
        self,
        folder: Path,
        *command: str,
        trap: Trap | None = None,
        fault: Fault | None = None,
        record: bool = False,
        times: int = 1,
    ) -> list[Told]:
        """Run a command in forks of the driver, ``times`` of them side by side, and return how each ended."""
        order = {
            "folder": str(folder),
            "command": command,
            "trap": vars(trap) if trap else None,
            "fault": vars(fault) if fault else None,
            "record": record,
            "times": times,
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the driver is gone"
        return [Told(**told) for told in json.loads(line)]

    def ask(
        self, folder: Path, *command: str, trap: Trap | None = None, fault: Fault | None = None, record: bool = False
    ) -> Told:
        return self.run(folder, *command, trap=trap, fault=fault, record=record)[0]

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


# --- shops -------------------------------------------------------------------------------------------------------------


@dataclass
class Shop:
    """A folder with settings, a remote, and the advisor's own things."""

    folder: Path

    @property
    def remote(self) -> Path:
        return self.folder / "remote.git"

    @property
    def clone(self) -> Path | None:
        return next(iter(self.folder.glob(".advisor/clones/*/repository.git")), None)

    def copy(self, folder: Path) -> Shop:
        shutil.copytree(self.folder, folder, symlinks=True)
        return Shop(folder)

    def hook(self, name: str, kill_git: bool = False, slow: bool = False, only: str = "") -> None:
        """Make the remote end the advisor, once, in the middle of a push."""
        guard = f'[ "$1" = {only} ] || exit 0\ngrep -q refs/heads/main || exit 0\n' if only else ""
        path = self.remote / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        ending = (_KILL_GIT if kill_git else "") + (_SLOW if slow else "")
        path.write_text(f"#!/bin/sh\nGIT_DIR=$(pwd)\n{guard}{_KILL}{ending}exit 0\n")
        path.chmod(0o755)

    def foreign_push(self) -> str:
        return fast_import(self.remote, {OTHER: b"a: 2\n"})

    def commits(self, words: str) -> list[str]:
        """Return the commits on the branch whose message has a line that begins with these words."""
        return git(self.remote, "log", "--format=%H", f"--grep=^{re.escape(words)}", "main").split()

    def text(self) -> bytes:
        return git(self.remote, "show", f"main:{PATH}").encode()

    def fault(self) -> str:
        """Return what is broken in repositories, database or audit; nothing if all is whole."""
        for repository in (self.remote, self.clone):
            if repository is None:
                continue
            done = subprocess.run(
                ["git", "-C", str(repository), "fsck", "--strict", "--full"], capture_output=True, text=True, timeout=60
            )
            said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("dangling ")]
            if done.returncode != 0 or said:
                return f"git fsck of {repository.name}: {done.returncode} {said}"
        database = self.folder / "advisor.db"
        if database.exists() and database.stat().st_size:
            with contextlib.closing(sqlite3.connect(database)) as connection:
                found = connection.execute("PRAGMA integrity_check").fetchall()
            if found != [("ok",)]:
                return f"integrity_check: {found}"
        return ""


def new_shop(folder: Path) -> Shop:
    """Return a shop where nothing has run yet; the last commit but one of its repository raised the session timeout."""
    folder.mkdir(parents=True)
    remote = new_remote(folder)
    # The last one has nothing to do with it, so that the tree to be written is one that nobody has yet.
    fast_import(remote, {PATH: GOOD, OTHER: b"a: 1\n"}, {PATH: BAD}, {OTHER: b"a: 3\n"})
    (folder / "advisor.yaml").write_text(json.dumps(SETTINGS))
    return Shop(folder)


# --- the driver --------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Answer orders, one a line, each by forks of this process."""
    import git as _git  # noqa: F401
    import prometheus_api_client.prometheus_connect  # noqa: F401
    import sqlalchemy.dialects.sqlite.pysqlite  # noqa: F401 - imported once, here

    import advisor.adapters.prometheus
    import advisor.cli
    import advisor.rollback
    import advisor.store
    import advisor.terminal.approval
    import advisor.terminal.changes
    import advisor.terminal.live
    import advisor.terminal.tables
    import advisor.verification
    import advisor.workflow  # noqa: F401

    for line in sys.stdin:
        order = json.loads(line)
        folder = Path(order["folder"])
        started = time.monotonic()
        children = [_fork(order, folder, number) for number in range(order["times"])]
        tracer = _trace(order["fault"], children[0], folder) if order["fault"] else None
        answers = []
        for number, child in enumerate(children):
            _, status = os.waitpid(child, 0)
            texts = [(folder / f"{name}-{number}.txt").read_text("utf-8", "replace") for name in ("out", "err")]
            points = folder / f"points-{number}.txt"
            injected = False
            if tracer is not None:
                tracer.wait()  # until the last git that outlived the command
                injected = "INJECTED" in (folder / "strace.txt").read_text("utf-8", "replace")
            answers.append(
                {
                    "status": status,
                    "points": points.read_text().splitlines() if order["record"] and points.exists() else [],
                    "seconds": time.monotonic() - started,
                    "out": texts[0],
                    "err": texts[1],
                    "injected": injected,
                }
            )
        sys.stdout.write(json.dumps(answers) + "\n")
        sys.stdout.flush()


def _trace(fault: dict[str, Any], child: int, folder: Path) -> subprocess.Popen[bytes]:
    """Attach strace to a stopped child, with the fault in place, and let the child go on."""
    os.waitpid(child, os.WUNTRACED)
    command = [
        "strace",
        "-f",
        "-q",
        "-o",
        str(folder / "strace.txt"),
        "-p",
        str(child),
        "-e",
        f"trace={fault['calls']}",
    ]
    command += ["-e", f"inject={fault['calls']}:error={fault['error']}:when={fault['nth']}"]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while "TracerPid:\t0" in Path(f"/proc/{child}/status").read_text() and tracer.poll() is None:
        if time.monotonic() > deadline:
            break
        time.sleep(0.002)
    os.kill(child, signal.SIGCONT)
    return tracer


def _fork(order: dict[str, Any], folder: Path, number: int) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.chdir(folder)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{name}-{number}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
        Path("advisor.pid").write_text(str(os.getpid()))
        trap = Trap(**order["trap"]) if order["trap"] else None
        (folder / f"points-{number}.txt").unlink(missing_ok=True)
        if trap is not None or order["record"]:
            _set_traps(trap, folder, folder / f"points-{number}.txt" if order["record"] else None)
        if order["fault"]:
            os.kill(os.getpid(), signal.SIGSTOP)  # until it is traced
        code = _carry_out(folder, list(order["command"]))
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - the fork must never return into its parent's loop
        import traceback

        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
    finally:
        os._exit(code)


def _carry_out(folder: Path, command: list[str]) -> int:
    from advisor.cli import run

    match command[0]:
        case "propose":
            return _propose(folder)
        case "inspect":
            return _inspect(folder)
        case "verify" | "rollback":
            change = _workflow(folder).changes()[-1][0].id
            who = ["--as", ALICE] if command[0] == "rollback" else []
            return run([command[0], change, *who, "--config", str(folder / "advisor.yaml")])
        case "approve":
            return run(["approve", PROPOSAL, "--as", ALICE, "--yes", "--config", str(folder / "advisor.yaml")])
        case _:
            return run([*command, "--config", str(folder / "advisor.yaml")])


def _workflow(folder: Path) -> Any:
    from advisor.settings import load_settings
    from advisor.workflow import Workflow

    return Workflow(load_settings(folder / "advisor.yaml"))


def _propose(folder: Path) -> int:
    """Do what an investigation does once it has found the cause: keep report, recording and proposal."""
    from advisor.errors import RecordUnknown
    from advisor.proposal import build_proposal
    from tests.support.gate import draft, revert_action

    workflow = _workflow(folder)
    repository = workflow.repository("config")
    with contextlib.suppress(RecordUnknown):
        workflow.store.proposal(PROPOSAL)
        return 0
    repository.head()
    cause = git(folder / "remote.git", "log", "-1", "--format=%H", "main", "--", PATH).strip()
    made = draft(revert_action(cause), policy_version=workflow.settings.policy_version)
    proposal = build_proposal(repository, made, PROPOSAL, "nonce-1", workflow.clock())
    workflow.store.save_investigation(
        {"incident": {"id": "inc-1", "service": "checkout"}, "diagnosis": {"outcome": "diagnosed"}}, workflow.clock()
    )
    workflow._keep_tape("inc-1")
    workflow.store.save_proposal(proposal)
    return 0


def _inspect(folder: Path) -> int:
    workflow = _workflow(folder)
    told = {
        "proposals": {
            s.proposal.id: {"state": s.state.value, "rolls_back": s.proposal.rolls_back}
            for s in workflow.store.list_proposals()
        },
        "changes": {c.id: {"state": state, "commit": c.commit} for c, state in workflow.changes()},
        "approvals": len(workflow.store.answers(PROPOSAL)) if workflow.store.list_proposals() else 0,
        "audit": str(workflow.audit_verify()),
    }
    print(json.dumps(told))
    return 0


# --- points ------------------------------------------------------------------------------------------------------------


class _Points:
    """Counts the points that are passed, and ends the process at the one that is asked for."""

    def __init__(self, trap: Trap | None, record: Path | None) -> None:
        self._trap = trap
        self._record = record
        self._seen: Counter[tuple[str, str]] = Counter()
        self._inside = False

    def passed(self, point: str, when: str) -> None:
        if self._record is not None and not self._inside:
            self._inside = True
            with self._record.open("a") as file:
                file.write(f"{when} {point}\n")
            self._inside = False
        self._seen[point, when] += 1
        trap = self._trap
        if trap is not None and (trap.point, trap.when) == (point, when) and self._seen[point, when] == trap.nth:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def around(self, point: str) -> Iterator[None]:
        self.passed(point, "before")
        yield
        self.passed(point, "after")


def _set_traps(trap: Trap | None, folder: Path, record: Path | None) -> None:
    points = _Points(trap, record)
    _wrap_git(points)
    _wrap_store(points)
    _wrap_files(points, folder)


def _wrap_git(points: _Points) -> None:
    from advisor.adapters.git_repository.runner import GitRunner

    outcome, spawn = GitRunner.outcome, GitRunner._spawn

    @functools.wraps(outcome)
    def wrapped(self: Any, *arguments: str, **options: Any) -> Any:
        with points.around(f"git {arguments[0]}"):
            return outcome(self, *arguments, **options)

    @functools.wraps(spawn)
    def spawned(self: Any, command: list[str], *rest: Any) -> Any:
        process = spawn(self, command, *rest)
        known = next(
            (w for w in command if w in ("push", "clone", "fetch", "commit-tree", "write-tree", "hash-object")), ""
        )
        if known:
            points.passed(f"git {known}", "during")
        return process

    GitRunner.outcome = wrapped  # type: ignore[method-assign]
    GitRunner._spawn = spawned  # type: ignore[method-assign]


def _wrap_store(points: _Points) -> None:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    from advisor.store import Store

    for name in (
        "save_investigation",
        "save_proposal",
        "record_answer",
        "begin_delivery",
        "resume_delivery",
        "record_outcome",
        "begin_verification",
        "record_verification",
        "begin_rollback",
    ):
        _wrap(Store, name, points, f"store {name}")

    def words(statement: str) -> str:
        found = re.match(r"\s*(INSERT INTO|UPDATE|CREATE TABLE|PRAGMA user_version)\s+\"?(\w+)?", statement)
        return f"sql {found[1]} {found[2] or ''}".strip() if found else ""

    @event.listens_for(Engine, "before_cursor_execute")
    def before(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if found := words(statement):
            points.passed(found, "before")

    @event.listens_for(Engine, "after_cursor_execute")
    def after(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if found := words(statement):
            points.passed(found, "after")

    @event.listens_for(Engine, "commit")
    def commit(_: Any) -> None:
        points.passed("sql COMMIT", "before")


def _wrap_files(points: _Points, folder: Path) -> None:
    def kind(path: str) -> str:
        if not path.startswith(str(folder)):
            return ""
        inside = path[len(str(folder)) + 1 :]
        for word in ("signing.key", "audit-head", "tapes", "journal", "in-hand", "undo", "anchor"):
            if word in inside:
                return word
        return "clone" if "clones/" in inside else Path(inside).name

    def of(place: Any) -> str:
        return kind(os.readlink(f"/proc/self/fd/{place}")) if isinstance(place, int) else kind(os.path.abspath(place))

    def wrap(name: str, which: int) -> None:
        real: Callable[..., Any] = getattr(os, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            try:
                found = of(arguments[which])
            except OSError:
                found = ""
            if not found or found.startswith(("points", "out-", "err-")):
                return real(*arguments, **options)
            with points.around(f"file {name} {found}"):
                return real(*arguments, **options)

        setattr(os, name, wrapped)

    for name, which in (("fsync", 0), ("replace", 1), ("rename", 1), ("link", 1), ("pwrite", 0), ("write", 0)):
        wrap(name, which)


def _wrap(owner: Any, name: str, points: _Points, point: str) -> None:
    real = getattr(owner, name, None)
    if real is None:
        return

    @functools.wraps(real)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        with points.around(point):
            return real(*arguments, **options)

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    serve()
