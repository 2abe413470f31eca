"""Hostile repositories: the whole way through each, and nothing of it ever runs or is written elsewhere.

Every scene of `support.hostile` is read, proposed on, approved, delivered and rolled back by a process of its own whose
execs are traced. It ends as it must, by name; the only programs are git's own, started as we start them; everything around
the repository, and every ref but the one branch, is as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from advisor.adapters.git_repository import GitRepository
from advisor.adapters.git_repository.places import fold
from advisor.adapters.git_repository.programs import check_programs
from advisor.errors import ChangeRefused
from advisor.proposal import read_rendered
from tests.support import hostile
from tests.support.gate import PATH, fast_import, git, new_remote
from tests.support.hostile import DONE, SCENES, Scene

ROOT = Path(__file__).parent.parent
DRIVERS = 2  # as many as the smallest machine has cores
CPU_SECONDS_MAX = 5  # of each scene, with all its processes; wall time says more about the machine's other work
WALL_SECONDS_MAX = 120
TRACE = ("-f", "--seccomp-bpf", "-qq", "-e", "signal=none")  # only execs stop the traced processes
_GIT = re.compile(r"(?:^|/)git(?:-[a-z-]+)?$")
_SERVED = re.compile(r"git-(?:upload|receive)-pack '[^']+'")

pytestmark = pytest.mark.timeout(900)

Listing = dict[str, str]


def listing(folder: Path) -> Listing:
    """Return everything below a folder but the advisor's own state: kind, mode, and content or target."""
    found: Listing = {}
    for place, folders, files in os.walk(folder):
        at = Path(place)
        if at == folder and "state" in folders:
            folders.remove("state")
        for name in [*folders, *files]:
            path = at / name
            status = path.lstat()
            what = f"{stat.filemode(status.st_mode)} "
            if path.is_symlink():
                what += os.readlink(path)
            elif path.is_file():
                what += hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = what
    return found


@dataclass
class Run:
    """What became of all scenes."""

    made: dict[str, Scene]
    before: dict[str, Listing]
    heads: dict[str, str]
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    execs: dict[str, list[tuple[str, list[str]]]] = field(default_factory=dict)
    traced: bool = False


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("hostile")
    made = {name: hostile.build(name, root / str(n % DRIVERS) / name) for n, name in enumerate(SCENES)}
    found = Run(made, {name: listing(s.folder) for name, s in made.items()}, {n: s.head for n, s in made.items()})
    strace = shutil.which("strace")
    found.traced = strace is not None and _can_trace(strace)
    running = []
    for number in range(DRIVERS):
        trace = root / f"trace{number}"
        follow = [strace or "", *TRACE, "-s", "4000", "-e", "trace=execve,execveat", "-o", str(trace)]
        command = [
            *(follow if found.traced else []),
            sys.executable,
            "-m",
            "tests.support.hostile",
            str(root / str(number)),
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        running.append((subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True), trace))
    for process, trace in running:
        out, _ = process.communicate()
        assert process.returncode == 0, out[-2000:]
        for line in out.splitlines():
            told = json.loads(line)
            found.told[told["name"]] = told
        if found.traced:
            found.execs |= _execs(trace)
    return found


def _can_trace(strace: str) -> bool:
    return subprocess.run([strace, *TRACE, "-o", os.devnull, "true"], capture_output=True).returncode == 0


def _execs(trace: Path) -> dict[str, list[tuple[str, list[str]]]]:
    """Return what was executed in each scene; a marker that cannot be executed begins one."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    current = ""
    for line in trace.read_text(errors="replace").splitlines():
        call = re.match(r'\d+ +execve(?:at)?\("((?:[^"\\]|\\.)*)", \[(.*?)\](?:, .*)?$', line)
        if call is None:
            continue
        if call[1].startswith("/scene/"):
            current = call[1].removeprefix("/scene/")
            found[current] = []
        elif current and "= -1 ENOENT" not in line:
            found[current].append((call[1], re.findall(r'"((?:[^"\\]|\\.)*)"', call[2])))
    return found


def is_ours(program: str, arguments: list[str]) -> bool:
    """Return whether an exec is one of those that we, or the git that we started, make."""
    name = Path(program).name
    if name == "env":
        return any(_GIT.search(argument) for argument in arguments[1:])
    if name == "sh":  # how git starts its other half for a repository by path
        return (
            len(arguments) >= 3
            and arguments[1] == "-c"
            and _SERVED.fullmatch(arguments[2].split(' \\"')[0]) is not None
        )
    return _GIT.search(program) is not None and program.startswith(("/usr/", "/bin/", "/opt/", EXEC_PATH))


EXEC_PATH = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
NAMES = sorted(SCENES)


def test_there_are_sixty_and_more() -> None:
    assert len(SCENES) >= 60


@pytest.mark.parametrize("name", NAMES)
def test_it_ends_as_it_must_and_is_told_in_one_line(run: Run, name: str) -> None:
    told, scene = run.told[name], run.made[name]
    if scene.ends == DONE:
        assert (told["stage"], told["error"]) == (DONE, ""), told.get("words")
    else:
        stage, error = scene.ends.split(" ")
        assert told["stage"] == stage, told
        assert error in told["error"].split("/") and "AdvisorError" in told["error"].split("/"), told
        assert scene.words in told["words"], told["words"]
        assert told["words"].isprintable(), told["words"]
    assert told["cpu"] < CPU_SECONDS_MAX and told["seconds"] < WALL_SECONDS_MAX, (told["cpu"], told["seconds"])


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_it_was_run(run: Run, name: str) -> None:
    assert not (run.made[name].folder / "canary").exists()
    if run.traced:
        execs = run.execs[name]
        assert execs, "the trace is empty: it would show nothing"
        strange = [(program, arguments[:6]) for program, arguments in execs if not is_ours(program, arguments)]
        assert strange == []


@pytest.mark.parametrize("name", NAMES)
def test_nothing_was_written_elsewhere(run: Run, name: str) -> None:
    scene, before, after = run.made[name], run.before[name], listing(run.made[name].folder)
    told = run.told[name]
    delivered = told["stage"] in ("rollback", DONE)
    foreign = bool({"approve", "rollback"} & set(scene.moves))
    objects = re.compile(r"(?:remote\.git|outside)(?:/other)?/objects/")
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    branch = "remote.git/refs/heads/main"
    allowed = {branch} if delivered or foreign else set()
    stray = {path for path in changed - allowed if not (delivered or foreign) or not objects.match(path)}
    assert stray == set()
    gone = {path for path in changed if objects.match(path) and path not in after}
    assert gone == set()
    assert {path for path in changed if objects.match(path) and path in before} == set(), "an object was altered"
    assert not any((scene.folder / "tmp").iterdir())


def _touched(remote: Path, commit: str) -> list[str]:
    words = ("diff-tree", "-r", "--name-only", "-z", "--no-commit-id", commit)
    return git(remote, "--no-replace-objects", *words).split("\0")[:-1]


@pytest.mark.parametrize("name", NAMES)
def test_the_branch_has_our_commits_and_nothing_else(run: Run, name: str) -> None:
    scene, told = run.made[name], run.told[name]
    if told["stage"] not in ("rollback", DONE):
        return  # that it did not move is asserted above
    log = git(
        scene.remote, "--no-replace-objects", "log", "--first-parent", "--format=%H %an", "refs/heads/main"
    ).splitlines()
    on_top = []
    for line in log:
        commit, _, author = line.partition(" ")
        if commit == scene.head:
            break
        on_top.append((commit, author))
    else:
        pytest.fail("the head that it began with is not on the branch any more")
    ours = [commit for commit, author in on_top if author == "ops-advisor"]
    assert len(ours) == (2 if told["stage"] == DONE else 1)
    for commit in ours:
        touched = _touched(scene.remote, commit)
        assert touched and all(path.startswith("apps/checkout/") for path in touched), touched
    if told["stage"] == DONE:
        trees = git(
            scene.remote, "--no-replace-objects", "rev-parse", f"{ours[0]}^{{tree}}", f"{scene.head}^{{tree}}"
        ).split()
        assert trees[0] == trees[1], "the rollback did not give the very tree back"
    subprocess.run(["git", "-C", scene.remote, "cat-file", "-e", ours[0]], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_hides_nothing(run: Run, name: str) -> None:
    shown = run.told[name]["shown"]
    assert all(c == "\n" or (c.isprintable() and unicodedata.category(c) != "Cf") for c in shown)
    read_rendered(shown)
    answer = json.loads(run.told[name]["read"] or '{"commits": []}')
    for commit in answer["commits"]:
        for word in (commit["author"], commit["subject"]):
            assert word.isprintable() and "\n" not in word, ascii(word)


def test_two_bombs_are_not_unpacked_to_see_whether_one_was_renamed(run: Run) -> None:
    assert "renames are shown as a deletion and an addition" in run.told["two_bombs_that_look_renamed"]["read"]
    assert "renames are shown" not in run.told["two_large_files_that_look_renamed"]["read"]


# --- the checks by themselves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("App.yaml", "app.yaml"),
        ("caf\u00e9", "cafe\u0301"),
        ("a\u200bb", "ab"),
        ("a.", "a"),
        ("STRASSE", "stra\u00dfe"),
        ("\uff41", "A"),
        ("\u212a", "k"),
    ],
)
def test_names_that_are_one_name_somewhere(one: str, other: str) -> None:
    assert fold(one) == fold(other)


def test_two_edits_may_not_meet_each_other(tmp_path: Path) -> None:
    remote = new_remote(tmp_path)
    head = fast_import(remote, {PATH: b"a: 1\n"})
    repository = GitRepository("config", str(remote), "main", tmp_path / "clone")
    with pytest.raises(ChangeRefused, match="stands in the same tree"):
        repository.write_tree(head, {"apps/x/New.yaml": b"1", "apps/X/new.yaml": b"2"})
    with pytest.raises(ChangeRefused, match=r"apps/Checkout|apps/checkout"):
        repository.write_tree(head, {"apps/Checkout/b.yaml": b"1"})
    repository.close()


def test_an_edit_keeps_every_other_entry_to_the_byte(tmp_path: Path) -> None:
    """Old modes and odd folders elsewhere are neither normalised nor refused: they are not touched."""
    scene = Scene(tmp_path / "scene")
    scene.folder.mkdir()
    scene.begin()
    odd = scene.raw_tree(
        [(b"100664", b"old", scene.object(b"blob", b"x")), (b"40000", b".GIT", scene.tree({b"a": b"b"}))]
    )
    apps = scene.tree({b"checkout": {b"application.yaml": hostile.BAD}})
    head = scene.commit(scene.raw_tree([(b"40000", b"apps", apps), (b"40000", b"elsewhere", odd)]))
    repository = GitRepository("config", str(scene.remote), "main", tmp_path / "clone")
    assert repository.head() == head
    tree = repository.write_tree(head, {PATH: b"a: 1\n"})
    store = tmp_path / "clone" / "repository.git"
    assert git(store, "rev-parse", f"{tree}:elsewhere").strip() == odd
    repository.close()


def test_a_hook_that_only_we_can_have_put_there_runs_as_for_git_push(tmp_path: Path) -> None:
    remote = new_remote(tmp_path)
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    for folder in (remote, hook.parent):
        folder.chmod(0o755)
    ref = "refs/heads/main"
    check_programs(str(remote), ref, 20, wanted=None)
    check_programs(str(remote), ref, 20, wanted=True)
    with pytest.raises(ChangeRefused, match="its hook pre-receive"):
        check_programs(str(remote), ref, 20, wanted=False)
    hook.chmod(0o757)
    with pytest.raises(ChangeRefused, match=r"its hook pre-receive.*run_hooks: true"):
        check_programs(str(remote), ref, 20, wanted=None)
    check_programs("ssh://git@example.org/c.git", ref, 20, wanted=False)  # the server's own affair
