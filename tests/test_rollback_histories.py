"""Rollback on random histories in real git, judged by a model that knows no git.

A base, one change of ours, later edits of others; taken back it gives the old bytes where nobody touched them since, keeps
the edits of others elsewhere, or is refused by file and commit. The same through edits by key, and back, and back again.

``ADVISOR_PROOF=1`` is the full size.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from advisor.adapters.git_repository import GitRepository
from advisor.change import Change, deliver
from advisor.errors import ChangeCollision, ChangeConflict, ChangeRefused
from advisor.evidence.config_diff import diff_keys
from advisor.playbook import Action
from advisor.proposal import RepositoryName
from advisor.rollback import RollbackPlan, plan_rollback
from advisor.values import ActionType
from tests.support.gate import ALICE, NOW, POLICY, FakeRepository, fast_import, git, granted, new_remote, propose

FULL = os.environ.get("ADVISOR_PROOF") == "1"
HISTORIES = 10_000 if FULL else 1_000
KEY_EDITS = 10_000 if FULL else 1_000
KEY_EDITS_IN_GIT = 400 if FULL else 40
LONG = pytest.mark.timeout(3600 if FULL else 900)  # a loaded machine is slow, not wrong

File = tuple[str, bytes]  # git's mode, content
Files = dict[str, File]
LINES = ["apps/a.properties", "apps/b.properties", "apps/sub/c.properties", "d.txt"]
BINARY = "apps/logo.bin"
SWAP, INSIDE = "apps/swap", "apps/swap/inner.properties"  # one is a file, or the other's folder
MOVED = "apps/sub/moved.properties"
PATHS = [*LINES, BINARY, SWAP, INSIDE, MOVED]


@dataclass
class History:
    """A base, one change of ours, later edits of others; contents at each point."""

    before: Files
    after: Files
    later: list[Files]
    commits: list[str] = field(default_factory=list)  # filled in once git has them

    @property
    def head(self) -> Files:
        return self.later[-1]

    @property
    def ours(self) -> list[str]:
        return sorted(p for p in {*self.before, *self.after} if self.before.get(p) != self.after.get(p))

    @property
    def untouched_since(self) -> bool:
        """Return whether each of our files is as we left it, or as it was: then there is nothing to refuse."""
        return all(self.head.get(p) in (self.after.get(p), self.before.get(p)) for p in self.ours) and not any(
            stands_in_the_way(p, self.head) for p in self.ours if self.before.get(p) and not self.head.get(p)
        )


def stands_in_the_way(path: str, files: Files) -> bool:
    """Return whether a path cannot come back: a folder has its name, or a file the name of its folder."""
    return any(other.startswith(path + "/") or path.startswith(other + "/") for other in files)


class Generator:
    """Random histories. Each line of a text has a key of its own, so that a merge can be judged line by line."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.fresh = 0

    def history(self) -> History:
        before = {p: self.text() for p in LINES if self.chance.random() < 0.85}
        if self.chance.random() < 0.3:
            before[BINARY] = self.binary()
        if self.chance.random() < 0.3:
            before[self.chance.choice([SWAP, INSIDE])] = self.text()
        after = self.edited(before, 0.6)
        while after == before:
            after = self.edited(before, 0.9)
        later = [after]
        for _ in range(self.chance.choice([0, 0, 1, 1, 2, 3])):
            previous = later[-1]
            kind = self.chance.random()
            if kind < 0.1:
                later.append(dict(before))  # somebody took it back by hand
            elif kind < 0.2:
                later.append({**previous, "README": ("100644", b"%d\n" % self.chance.randrange(10**6))})
            else:
                later.append(self.edited(previous, 0.35))
        return History(before, after, later[1:] or [after])

    def text(self) -> File:
        end = self.chance.choice([b"\n", b"\n", b"\n", b"\r\n"])
        lines = [self.line(end) for _ in range(self.chance.choice([1, 4, 12, 40]))]
        data = b"".join(lines)
        mode = "100755" if self.chance.random() < 0.1 else "100644"
        return mode, data.rstrip(b"\r\n") if self.chance.random() < 0.15 else data

    def binary(self) -> File:
        return "100644", b"\0" + self.chance.randbytes(60)

    def line(self, end: bytes = b"\n") -> bytes:
        self.fresh += 1
        value = self.chance.choice([b"%d" % self.chance.randrange(99), "größe".encode(), b"\xff\xfe raw", b"24h", b""])
        return b"key%05d=" % self.fresh + value + end

    def edited(self, files: Files, share: float) -> Files:
        out = dict(files)
        for path in LINES:
            if self.chance.random() > share:
                continue
            there = out.get(path)
            kind = self.chance.random()
            if there is None:
                out[path] = self.text()
            elif kind < 0.08:
                del out[path]
            elif kind < 0.12:
                out[MOVED] = out.pop(path)
            elif kind < 0.2:
                out[path] = ("100755" if there[0] == "100644" else "100644", there[1])
            else:
                out[path] = (there[0], self.edit(there[1]))
        if BINARY in out and self.chance.random() < share / 2:
            out[BINARY] = self.binary()
        if self.chance.random() < share / 4:  # a file becomes a folder, or the reverse
            was = SWAP if SWAP in out else INSIDE
            out.pop(was, None)
            out[INSIDE if was == SWAP else SWAP] = self.text()
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

    def commit(files: Files, parents: list[int]) -> int:
        nonlocal mark
        mark += 1
        stream.append(
            b"commit refs/heads/work\nmark :%d\ncommitter Dev <d@example.org> %d +0000\n" % (mark, 10**9 + mark)
        )
        stream.append(b"data 6\nchange\n")
        for n, parent in enumerate(parents):
            stream.append((b"from" if n == 0 else b"merge") + b" :%d\n" % parent)
        stream.append(b"deleteall\n")
        for path, (mode, data) in files.items():
            stream.append(b"M %s inline %s\ndata %d\n%s\n" % (mode.encode(), path.encode(), len(data), data))
        return mark

    marks: list[list[int]] = []
    joined = 0
    for history in histories:
        stream.append(b"reset refs/heads/work\n")
        chain = [commit(history.before, [])]
        for files in (history.after, *(h for h in history.later if h is not history.after)):
            chain.append(commit(files, [chain[-1]]))
        marks.append(chain)
        stream.append(b"reset refs/heads/work\n")
        joined = commit({}, [chain[-1], *([joined] if joined else [])])
    stream.append(b"reset refs/heads/main\nfrom :%d\n" % joined)
    exported = folder / "marks"
    git(remote, "fast-import", "--quiet", f"--export-marks={exported}", stdin=b"".join(stream))
    ids = dict(line.split() for line in exported.read_text().splitlines())
    for history, chain in zip(histories, marks, strict=True):
        history.commits = [ids[f":{n}"] for n in chain]
    repository = GitRepository("config", str(remote), "main", folder / "clone")
    repository.head()
    return repository


class Reader:
    """Reads trees with one git of the test's own: nothing of what is judged is asked."""

    def __init__(self, clone: Path) -> None:
        self._git = subprocess.Popen(
            ["git", "-C", str(clone), "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def close(self) -> None:
        self._git.communicate(timeout=60)

    def tree_of(self, commit: str) -> str:
        return self._ask(commit).split(b"\n")[0].split(b" ")[1].decode()

    def files(self, tree: str, prefix: str = "") -> Files:
        """Return every file below a tree."""
        out: Files = {}
        content = self._ask(tree)
        while content:
            head, _, rest = content.partition(b"\0")
            mode, _, name = head.partition(b" ")
            object_id, content = rest[:20].hex(), rest[20:]
            path = prefix + name.decode()
            if mode == b"40000":
                out |= self.files(object_id, path + "/")
            else:
                out[path] = (mode.decode(), self._ask(object_id))
        return out

    def _ask(self, name: str) -> bytes:
        assert self._git.stdin is not None and self._git.stdout is not None
        self._git.stdin.write(name.encode() + b"\n")
        self._git.stdin.flush()
        header = self._git.stdout.readline().split()
        assert len(header) == 3, header
        content = self._git.stdout.read(int(header[2]))
        self._git.stdout.read(1)
        return content


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    reader = Reader(folder / "clone" / "repository.git")
    try:
        yield reader
    finally:
        reader.close()


# --- the judge: what must come back, and what must stay --------------------------------------------------------------


def judge_rollback(history: History, result: Files) -> list[str]:
    """Return what is wrong with the files after a rollback; empty if they are as promised."""
    wrong = []
    for path in {*history.before, *history.after, *history.head, *result}:
        before, after, head, got = (files.get(path) for files in (history.before, history.after, history.head, result))
        if before == after:
            wrong += [] if got == head else [f"{path}: not ours, and touched"]
        elif head in (after, before):
            wrong += [] if got == before else [f"{path}: not byte for byte"]
        elif before is None or after is None or head is None or got is None:
            wrong.append(f"{path}: came or went on both sides, and was not refused")
        else:
            wrong += judge_file(path, before, after, head, got)
    return wrong


def judge_file(path: str, before: File, after: File, head: File, got: File) -> list[str]:
    """Return what is wrong with a file that was edited on both sides."""
    wrong = []
    if before[0] != after[0]:
        if head[0] not in (before[0], after[0]):
            wrong.append(f"{path}: its mode was changed by both, and was not refused")
        wrong += [] if got[0] == before[0] else [f"{path}: mode {got[0]}, not {before[0]}"]
    elif got[0] != head[0]:
        wrong.append(f"{path}: mode {got[0]}, not {head[0]}")
    if before[1] == after[1] or head[1] in (before[1], after[1]):
        expected = head[1] if before[1] == after[1] else before[1]
        return [*wrong, *([] if got[1] == expected else [f"{path}: content is not byte for byte"])]
    if b"\0" in before[1] + after[1] + head[1]:
        return [*wrong, f"{path}: no text, edited by both, and was not refused"]
    old, new, now, found = (lines_of(each[1]) for each in (before, after, head, got))
    for key in {*old, *new, *now, *found}:
        touched_by_us = old.get(key) != new.get(key)
        touched_since = now.get(key) != new.get(key)
        if touched_by_us and touched_since and now.get(key) != old.get(key):
            wrong.append(f"{path}: {key!r} was changed by both, and was not refused")
        expected_line = old.get(key) if touched_by_us else now.get(key)
        if (found.get(key) or b"").rstrip(b"\r\n") != (expected_line or b"").rstrip(b"\r\n"):
            wrong.append(f"{path}: {key!r} is {found.get(key)!r}, not {expected_line!r}")
    if len(got[1].splitlines()) != len(found):
        wrong.append(f"{path}: lines were doubled")
    return wrong


def lines_of(data: bytes) -> dict[bytes, bytes]:
    """Return the lines of a file by their key: keys never repeat in what the generator makes."""
    return {line.partition(b"=")[0]: line for line in data.splitlines(keepends=True)}


@pytest.mark.parametrize("breakage", ["byte", "lost", "added", "mode", "line", "kept"])
def test_the_judge_sees_what_is_wrong(breakage: str) -> None:
    a, b = "apps/a.properties", "apps/b.properties"
    before: Files = {a: ("100644", b"x=1\ny=1\nz=1\n"), b: ("100644", b"k=1\n")}
    after: Files = {a: ("100644", b"x=2\ny=1\nz=1\n"), b: ("100644", b"k=2\n")}
    head: Files = {a: ("100644", b"x=2\ny=1\nz=9\n"), b: after[b], "README": ("100644", b"r\n")}
    right: Files = {a: ("100644", b"x=1\ny=1\nz=9\n"), b: before[b], "README": head["README"]}
    history = History(before, after, [head])
    assert judge_rollback(history, right) == []
    broken: dict[str, Files] = {
        "byte": {**right, b: ("100644", b"k=1")},
        "lost": {k: v for k, v in right.items() if k != "README"},
        "added": {**right, "new": ("100644", b"")},
        "mode": {**right, b: ("100755", b"k=1\n")},
        "line": {**right, a: ("100644", b"x=2\ny=1\nz=9\n")},
        "kept": {**right, a: ("100644", b"x=1\ny=1\nz=1\n")},
    }
    assert judge_rollback(history, broken[breakage])


# --- the proof ---------------------------------------------------------------------------------------------------------


def change_of(commit: str, base: str, tree: str, number: int = 0) -> Change:
    return Change(
        id=f"chg-{number}",
        proposal_id="p",
        incident_id="i",
        service="s",
        repository=RepositoryName(name="config", url="x"),
        branch="main",
        digest="sha256:0",
        commit=commit,
        base=base,
        tree=tree,
        at=NOW,
        approvers=(ALICE,),
    )


def plan_of(repository: GitRepository | FakeRepository, change: Change, head: str) -> RollbackPlan:
    return plan_rollback(
        repository,
        change,
        head,
        proposal_id="r",
        nonce="n",
        evidence_digest="e",
        policy_version=POLICY,
        now=NOW,
    )


def plan_again(repository: GitRepository, plan: RollbackPlan, head: str) -> RollbackPlan:
    """Return the plan of taking a rollback back, right after it was made."""
    tree = plan.proposal.tree
    commit = repository.commit_tree(tree, head, "roll back", "ops-advisor", "o@example.org", NOW)
    return plan_of(repository, change_of(commit, head, tree), commit)


@LONG
def test_invariant_6_a_rollback_restores_the_bytes_or_refuses_by_name(tmp_path: Path) -> None:
    histories = [Generator(seed).history() for seed in range(HISTORIES)]
    repository = put_into_git(tmp_path, histories)
    outcomes: Counter[str] = Counter()
    with reading(tmp_path) as reader:
        for number, history in enumerate(histories):
            outcomes[outcome_of(repository, reader, number, history)] += 1
    print(f"{HISTORIES} histories: {dict(outcomes)}, 0 wrong")
    # The histories must be of every kind, or this proves little.
    for kind, share in (("exact", 0.1), ("merged", 0.02), ("collision", 0.1), ("already", 0.01)):
        assert outcomes[kind] >= share * HISTORIES, outcomes


def outcome_of(repository: GitRepository, reader: Reader, number: int, history: History) -> str:
    """Return how one history ended, after judging it."""
    base, commit, head = history.commits[0], history.commits[1], history.commits[-1]
    change = change_of(commit, base, reader.tree_of(commit), number)
    try:
        plan = plan_of(repository, change, head)
    except ChangeCollision as error:
        assert not history.untouched_since, (number, str(error))
        both = [p for p in history.ours if history.after.get(p) != history.head.get(p)]
        assert set(error.paths) <= set(both) and any(path in str(error) for path in both), (number, str(error), both)
        assert any(later[:10] in str(error) for later in history.commits[2:]), (number, str(error))
        assert {c for c, _, _ in error.commits} <= set(history.commits[2:]), (number, str(error))
        return "collision"
    except ChangeConflict as error:  # a later edit put something of another kind in its place
        raise AssertionError((number, str(error))) from error
    except ChangeRefused as error:
        if "already without it" in str(error):
            assert judge_rollback(history, history.head) == [], number
            return "already"
        assert not history.untouched_since and any(
            stands_in_the_way(p, history.head)
            for p in history.ours
            if p in str(error) or p.rpartition("/")[0] in str(error)
        ), (number, str(error))
        return "of another kind"
    result = reader.files(plan.proposal.tree)
    assert judge_rollback(history, result) == [], number
    assert [*plan.restored, *plan.kept] and sorted([*plan.restored, *plan.kept]) == history.ours, number
    if number % 4 == 0:
        again = plan_again(repository, plan, head)
        assert reader.files(again.proposal.tree) == history.head, number
    return "merged" if plan.kept else "exact"


# --- through edits by key ----------------------------------------------------------------------------------------------


class Configuration:
    """Random configuration files with values that somebody set wrong."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def case(self) -> tuple[str, str, str]:
        """Return a path, the good text, and the bad one: the same with one to three values changed."""
        path, good, places = getattr(self, self.chance.choice(KINDS))()
        bad = good
        for old in self.chance.sample(places, min(len(places), self.chance.choice([1, 1, 1, 2, 3]))):
            new = old.replace("§", str(self.chance.randrange(1000, 9999)))
            bad = bad.replace(old, new, 1)
        for old in places:
            good = good.replace(old, old.replace("§", str(10 + len(old))), 1)
            bad = bad.replace(old, old.replace("§", str(10 + len(old))), 1)
        if self.chance.random() < 0.2:
            good, bad = good.replace("\n", "\r\n"), bad.replace("\n", "\r\n")
        if self.chance.random() < 0.2:
            good, bad = good.rstrip("\r\n"), bad.rstrip("\r\n")
        return path, good, bad

    def _keys(self, least: int = 2) -> list[str]:
        return [f"key{n:02d}" for n in range(least + self.chance.randrange(8))]

    def _comment(self, sign: str) -> str:
        return self.chance.choice(["", "", f"  {sign} größe", f"   {sign} agreed: see §12".replace("§", "no. ")])

    def yaml(self) -> tuple[str, str, list[str]]:
        names = self._keys()
        lines = [
            "# head of the file",
            "defaults: &defaults",
            "  retries: 3  # of each call",
            "service:",
            "  <<: *defaults",
        ]
        places = [f"  {n}: §" for n in names]
        lines += [p + self._comment("#") for p in places]
        lines += ["list:", "- a", "-   b", "quoted: 'it''s'", "other: *defaults", ""]
        return "apps/checkout/a.yaml", "\n".join(lines), places

    def documents(self) -> tuple[str, str, list[str]]:
        parts, places = [], []
        for number in range(2 + self.chance.randrange(3)):
            place = f"  replicas{number}: §"
            places.append(place)
            parts.append(
                f"apiVersion: v1\nkind: Thing\nmetadata:\n  name: part-{number}\nspec:\n{place}{self._comment('#')}\n"
            )
        return "apps/checkout/b.yaml", "---\n".join(parts), [self.chance.choice(places)]

    def config_map(self) -> tuple[str, str, list[str]]:
        names = self._keys()
        places = [f"    {n}=§" for n in names]
        text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: checkout}\ndata:\n  mode: plain\n"
        text += (
            "  application.properties: |\n    # inside\n"
            + "\n".join(places)
            + "\n  other.yaml: |-\n    a:\n      b: 1\n"
        )
        return "apps/checkout/c.yaml", text, places

    def properties(self) -> tuple[str, str, list[str]]:
        sign = self.chance.choice(["=", " = ", ": ", " "])
        places = [f"app.{n}{sign}§" for n in self._keys()]
        return (
            "apps/checkout/d.properties",
            "! old style\n# comment\n" + "\n".join(places) + "\nlong=a\\\n  b\n",
            places,
        )

    def toml(self) -> tuple[str, str, list[str]]:
        places = [f"{n} = §" for n in self._keys()]
        body = "\n".join(p + self._comment("#") for p in places)
        return "apps/checkout/e.toml", f'title = "x"\n\n[pool]\n{body}\n\n[other]\nlist = [1, 2]\n', places

    def json(self) -> tuple[str, str, list[str]]:
        places = [f'"{n}": §' for n in self._keys()]
        return (
            "apps/checkout/f.json",
            '{\n  "pool": {\n    ' + ",\n    ".join(places) + '\n  },\n  "on":true\n}\n',
            places,
        )

    def env(self) -> tuple[str, str, list[str]]:
        places = [f"{n.upper()}=§" for n in self._keys()]
        return "apps/checkout/.env", "# settings\n" + "\n".join(places) + "\nexport NAME='a b'\n", places


KINDS = ("yaml", "documents", "config_map", "properties", "toml", "json", "env")


def revert_of(path: str, good: str, bad: str, commit: str) -> Action | None:
    """Return the edit by key that takes a bad commit back."""
    keys = diff_keys(good.encode(), bad.encode(), path)
    documents = {key.document for key in keys}
    if not keys or len(documents) != 1:
        return None
    return Action(
        type=ActionType.REVERT_KEYS,
        commit=commit,
        path=path,
        keys=tuple(key.key for key in keys),
        document=documents.pop() or 0,
        reason="It was set wrong.",
    )


class NoRecords:
    """Records that keep nothing: what is judged here are bytes."""

    def begin_delivery(self, change: Change, at: object) -> None: ...

    def record_outcome(self, change: Change, outcome: object, reason: str, at: object) -> None: ...


@LONG
def test_edits_by_key_go_back_and_back_again_byte_for_byte() -> None:
    """1,000 files of seven kinds, in memory: revert by key, rollback, rollback of the rollback."""
    kinds: Counter[str] = Counter()
    for seed in range(KEY_EDITS):
        path, good, bad = Configuration(seed).case()
        repository = FakeRepository()
        repository.add({path: good.encode(), "README": b"r\n"})
        commit = repository.edit(**{path: bad.encode()})
        action = revert_of(path, good, bad, commit)
        assert action is not None, (seed, path, good, bad)
        proposal = propose(repository, action)
        change = deliver(repository, NoRecords(), proposal, granted(proposal), NOW)  # type: ignore[arg-type]
        assert repository.files(repository.head_commit)[path] == good.encode(), (seed, path)
        for expected in (bad, good, bad):
            head = repository.head_commit
            tree = plan_of(repository, change, head).proposal.tree
            repository.add(repository.files(tree))
            assert repository.files(repository.head_commit) == {path: expected.encode(), "README": b"r\n"}, (seed, path)
            change = change_of(repository.head_commit, head, repository.commits[repository.head_commit][0], seed)
        kinds[path] += 1
    assert len(kinds) == len(KINDS) and min(kinds.values()) > KEY_EDITS / 20, kinds


@LONG
def test_edits_by_key_go_back_under_later_edits_in_git(tmp_path: Path) -> None:
    """The same in real git, with an edit of somebody else in between: it stays, or the rollback is refused by name."""
    remote = new_remote(tmp_path)
    cases = [Configuration(10**6 + seed).case() for seed in range(KEY_EDITS_IN_GIT)]
    spread = [(f"apps/checkout/{n}/{path.rpartition('/')[2]}", good, bad) for n, (path, good, bad) in enumerate(cases)]
    fast_import(remote, {path: good.encode() for path, good, _ in spread})
    cause = fast_import(remote, {path: bad.encode() for path, _, bad in spread})
    repository = GitRepository("config", str(remote), "main", tmp_path / "clone")
    outcomes: Counter[str] = Counter()
    repository.head()
    with reading(tmp_path) as reader:
        for number, (path, good, bad) in enumerate(spread):
            action = revert_of(path, good, bad, cause)
            assert action is not None
            head = repository.head()
            proposal = propose(repository, action, number)
            commit = repository.commit_tree(proposal.tree, head, "set", "ops-advisor", "o@example.org", NOW)
            assert reader.files(proposal.tree)[path][1] == good.encode()
            change = change_of(commit, head, proposal.tree, number)
            chance = random.Random(number)
            rows = good.splitlines(keepends=True)
            place = chance.randrange(len(rows))
            rows[place] = rows[place].rstrip("\r\n") + "  \n"
            tree = repository.write_tree(commit, {path: "".join(rows).encode()})
            later = repository.commit_tree(tree, commit, "later", "dev", "d@example.org", NOW)
            differing = [n for n, (a, b) in enumerate(zip(good.splitlines(), bad.splitlines(), strict=True)) if a != b]
            try:
                plan = plan_of(repository, change, later)
            except ChangeCollision as error:
                assert min(abs(place - n) for n in differing) <= 1, (number, str(error))  # git merges no neighbours
                assert path in str(error) and later[:10] in str(error)
                outcomes["refused"] += 1
                continue
            expected = bad.splitlines(keepends=True)
            expected[place] = rows[place]
            assert place not in differing
            assert reader.files(plan.proposal.tree)[path][1] == "".join(expected).encode(), number
            again = plan_again(repository, plan, later)
            assert reader.files(again.proposal.tree)[path][1] == "".join(rows).encode(), number
            outcomes["kept"] += 1
    assert outcomes["kept"] > KEY_EDITS_IN_GIT / 4 and outcomes["refused"] > 0, outcomes
