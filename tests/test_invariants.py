"""The invariants of the gate, each against a monitor or a model that shares no code with what it watches.

1. No byte changes without a grant of exactly those bytes: `test_state_machine`.
6. A rollback restores the bytes or refuses by name; never a third thing.
9. Any tampering with the audit and the records is found: `test_tampering`.

``ADVISOR_PROOF_SIZE`` multiplies the sizes; 1 is the default run.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from advisor.adapters.git_repository import GitRepository
from advisor.change import Change
from advisor.errors import (
    ChangeConflict,
    ChangeRefused,
)
from advisor.proposal import RepositoryName
from advisor.rollback import plan_rollback
from tests.support.gate import (
    ALICE,
    NOW,
    POLICY,
    git,
    new_remote,
)

SIZE = float(os.environ.get("ADVISOR_PROOF_SIZE", "1"))
STEPS = int(10_000 * SIZE)
HISTORIES = int(200 * SIZE)
TAMPERINGS = int(300 * SIZE)
LONG = pytest.mark.timeout(900 * max(1, SIZE))  # a loaded machine is slow, not wrong
OTHER_POLICY = "sha256:" + "7" * 64


# --- 6: rollback restores or refuses -------------------------------------------------------------------------------

Content = dict[str, bytes | None]  # path -> bytes; None is no file


@dataclass
class History:
    """A base, one change of ours, later edits of others; contents at each point."""

    before: Content
    after: Content
    head: Content
    later: list[Content]
    commits: list[str] = field(default_factory=list)  # filled in once git has them


PATHS = ["apps/a.properties", "apps/b.properties", "apps/sub/c.properties", "d.txt"]


def lines_of(data: bytes | None) -> dict[bytes, bytes]:
    """Return the lines of a file by their key: keys never repeat in what the generator makes."""
    if data is None:
        return {}
    return {line.partition(b"=")[0]: line for line in data.splitlines(keepends=True)}


class Generator:
    """Random histories. Each line of a file has a key of its own, so that a merge can be judged line by line."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.fresh = 0

    def history(self) -> History:
        before: Content = {p: self.file() for p in PATHS if self.chance.random() < 0.85}
        after = self.edited(before, 0.6)
        while after == before:
            after = self.edited(before, 0.9)
        later = [after]
        for _ in range(self.chance.choice([0, 0, 1, 1, 2, 3])):
            previous = later[-1]
            kind = self.chance.random()
            if kind < 0.12:
                later.append(dict(before))  # somebody took it back by hand
            elif kind < 0.2:
                later.append({**previous, "README": b"%d\n" % self.chance.randrange(10**6)})
            else:
                later.append(self.edited(previous, 0.4))
        return History(before, after, later[-1], later[1:])

    def file(self) -> bytes:
        end = self.chance.choice([b"\n", b"\n", b"\n", b"\r\n"])
        lines = [self.line(end) for _ in range(self.chance.choice([1, 4, 12, 40]))]
        data = b"".join(lines)
        return data.rstrip(b"\r\n") if self.chance.random() < 0.15 else data

    def line(self, end: bytes = b"\n") -> bytes:
        self.fresh += 1
        value = self.chance.choice([b"%d" % self.chance.randrange(99), "größe".encode(), b"\xff\xfe raw", b"24h", b""])
        return b"key%05d=" % self.fresh + value + end

    def edited(self, files: Content, share: float) -> Content:
        out = dict(files)
        for path in PATHS:
            if self.chance.random() > share:
                continue
            data = out.get(path)
            if data is None:
                out[path] = self.file()
            elif self.chance.random() < 0.1:
                out[path] = None
            else:
                out[path] = self.edit(data)
        return out

    def edit(self, data: bytes) -> bytes:
        lines = data.splitlines(keepends=True) or [self.line()]
        for _ in range(self.chance.choice([1, 1, 2, 5])):
            place = self.chance.randrange(len(lines))
            kind = self.chance.random()
            if kind < 0.6:
                key, _, rest = lines[place].partition(b"=")
                end = rest[len(rest.rstrip(b"\r\n")) :]
                lines[place] = key + b"=%d" % self.chance.randrange(10**6) + end
            elif kind < 0.8:
                if lines[place].endswith(b"\n"):
                    lines.insert(place + 1, self.line())
            elif len(lines) > 1:
                del lines[place]
        return b"".join(lines)


def put_into_git(folder: Path, histories: list[History]) -> GitRepository:
    """Write all histories into one repository, each as commits of its own line, joined so that one fetch has all."""
    remote = new_remote(folder)
    stream: list[bytes] = []
    mark = 0

    def commit(files: Content, previous: Content, parents: list[int], reset: bool) -> int:
        nonlocal mark
        mark += 1
        stream.append(
            b"commit refs/heads/work\nmark :%d\ncommitter Dev <d@example.org> %d +0000\n" % (mark, 10**9 + mark)
        )
        stream.append(b"data 6\nchange\n")
        for n, parent in enumerate(parents):
            stream.append((b"from" if n == 0 else b"merge") + b" :%d\n" % parent)
        if reset:
            stream.append(b"deleteall\n")
        for path, data in files.items():
            if reset or data != previous.get(path):
                if data is not None:
                    stream.append(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(data), data))
                elif previous.get(path) is not None and not reset:
                    stream.append(b"D %s\n" % path.encode())
        for path in previous if not reset else ():
            if path not in files and previous[path] is not None:
                stream.append(b"D %s\n" % path.encode())
        return mark

    marks: list[list[int]] = []
    joined = 0
    for history in histories:
        stream.append(b"reset refs/heads/work\n")
        base = commit(history.before, {}, [], True)
        chain = [base, commit(history.after, history.before, [base], False)]
        previous = history.after
        for files in history.later:
            chain.append(commit(files, previous, [chain[-1]], False))
            previous = files
        marks.append(chain)
        stream.append(b"reset refs/heads/work\n")
        joined = commit({}, {}, [chain[-1], *([joined] if joined else [])], True)
    stream.append(b"reset refs/heads/main\nfrom :%d\n" % joined)
    exported = folder / "marks"
    git(remote, "fast-import", "--quiet", f"--export-marks={exported}", stdin=b"".join(stream))
    ids = dict(line.split() for line in exported.read_text().splitlines())
    for history, chain in zip(histories, marks, strict=True):
        history.commits = [ids[f":{n}"] for n in chain]
    return GitRepository("config", str(remote), "main", folder / "clone")


def judge_rollback(history: History, result: Content) -> list[str]:
    """Return what is wrong with the files after a rollback; empty if they are as promised."""
    wrong = []
    for path in {*history.before, *history.after, *history.head, *result}:
        before, after, head, got = (files.get(path) for files in (history.before, history.after, history.head, result))
        if before == after:
            expected_whole, whole = head, True
        elif head == after:
            expected_whole, whole = before, True
        elif head == before:
            expected_whole, whole = before, True
        else:
            expected_whole, whole = None, False
        if whole:
            if got != expected_whole:
                wrong.append(f"{path}: not byte for byte")
            continue
        old, new, now, found = map(lines_of, (before, after, head, got))
        for key in {*old, *new, *now, *found}:
            touched_by_us = old.get(key) != new.get(key)
            touched_since = now.get(key) != new.get(key)
            if touched_by_us and touched_since and now.get(key) != old.get(key):
                wrong.append(f"{path}: {key!r} was changed by both, and was not refused")
            expected = old.get(key) if touched_by_us else now.get(key)
            if (found.get(key) or b"").rstrip(b"\r\n") != (expected or b"").rstrip(b"\r\n"):
                wrong.append(f"{path}: {key!r} is {found.get(key)!r}, not {expected!r}")
        if got is not None and len(got.splitlines()) != len(found):
            wrong.append(f"{path}: lines were doubled")
    return wrong


def read_tree(repository: GitRepository, remote: Path, tree: str) -> Content:
    clone = repository._store
    names = [n for n in git(clone, "ls-tree", "-r", "-z", "--name-only", tree).split("\0") if n]
    out: Content = {}
    for name in names:
        out[name] = _raw(clone, f"{tree}:{name}")
    return out


def _raw(clone: Path, name: str) -> bytes:
    return subprocess.run(["git", "-C", str(clone), "cat-file", "blob", name], capture_output=True, check=True).stdout


@LONG
def test_invariant_6_a_rollback_restores_the_bytes_or_refuses_by_name(tmp_path: Path) -> None:
    """200 random histories in real git, judged line by line by a model that knows no git."""
    histories = [Generator(seed).history() for seed in range(HISTORIES)]
    repository = put_into_git(tmp_path, histories)
    repository.head()
    outcomes: Counter[str] = Counter()
    for number, history in enumerate(histories):
        base, commit, *_, head = [*history.commits, history.commits[-1]]
        change = Change(
            id=f"chg-{number}",
            proposal_id="p",
            incident_id="i",
            service="s",
            repository=RepositoryName(name="config", url="x"),
            branch="main",
            digest="sha256:0",
            commit=commit,
            base=base,
            tree=git(repository._store, "rev-parse", f"{commit}^{{tree}}").strip(),
            at=NOW,
            approvers=(ALICE,),
        )
        try:
            plan = plan_rollback(
                repository,
                change,
                head,
                proposal_id=f"r-{number}",
                nonce="n",
                evidence_digest="e",
                policy_version=POLICY,
                now=NOW,
            )
        except ChangeConflict as error:
            outcomes["conflict"] += 1
            both = [p for p in PATHS if history.before.get(p) != history.after.get(p) != history.head.get(p)]
            assert any(path in str(error) for path in both), (number, str(error), both)
            assert any(later[:10] in str(error) for later in history.commits[2:]), (number, str(error))
            continue
        except ChangeRefused as error:
            assert "already without it" in str(error), (number, str(error))
            assert judge_rollback(history, history.head) == [], number
            outcomes["already"] += 1
            continue
        result = read_tree(repository, tmp_path, plan.proposal.tree)
        assert judge_rollback(history, result) == [], number
        assert set(plan.restored) | set(plan.kept) == {
            p for p in PATHS if history.before.get(p) != history.after.get(p)
        }
        outcomes["exact" if not plan.kept else "merged"] += 1
    # The histories must be of every kind, or this proves little.
    for kind, share in (("exact", 0.1), ("merged", 0.03), ("conflict", 0.1)):
        assert outcomes[kind] >= share * HISTORIES, outcomes
