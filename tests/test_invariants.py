"""The invariants of the gate, each against a monitor or a model that shares no code with what it watches.

1. No byte changes without a recorded, unexpired, unused approval whose digest recomputes from what is written.
6. A rollback restores the bytes or refuses by name; never a third thing.
9. Any tampering with the audit is found.

``ADVISOR_PROOF_SIZE`` multiplies the sizes; 1 is the default run.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from advisor.adapters.git_repository import GitRepository
from advisor.approval import Approval, Choice, Grant, decide, expire, grant, people_needed
from advisor.change import Change, deliver, reconcile
from advisor.errors import (
    AdvisorError,
    AuditBroken,
    ChangeConflict,
    ChangeRefused,
    NotPermitted,
)
from advisor.lifecycle import State
from advisor.playbook import Action
from advisor.proposal import Proposal, RepositoryName, digest_of
from advisor.rollback import plan_rollback, roll_back
from advisor.settings import ApprovalRules
from advisor.store import Store
from advisor.values import ActionType, Risk
from advisor.verification import Verdict, Verification
from tests.support.gate import (
    ALICE,
    BAD,
    BOB,
    CAROL,
    GOOD,
    KEY,
    MALLORY,
    NOW,
    OTHER,
    PATH,
    POLICY,
    RULES,
    TIMEOUT,
    FakeRepository,
    altered,
    approve,
    git,
    new_remote,
    propose,
    revert_action,
    say,
)

SIZE = float(os.environ.get("ADVISOR_PROOF_SIZE", "1"))
STEPS = int(10_000 * SIZE)
HISTORIES = int(200 * SIZE)
TAMPERINGS = int(300 * SIZE)
LONG = pytest.mark.timeout(900 * max(1, SIZE))  # a loaded machine is slow, not wrong
OTHER_POLICY = "sha256:" + "7" * 64


# --- 1: no change without a grant ----------------------------------------------------------------------------------


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def plain_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass
class World:
    """One repository, one store, people who behave badly, a clock that jumps, and a monitor on the branch."""

    chance: random.Random
    repository: FakeRepository = field(default_factory=FakeRepository)
    store: Store = field(default_factory=lambda: Store.open("sqlite://", KEY))
    now: datetime = NOW
    policy: str = POLICY
    rules: ApprovalRules = RULES
    number: int = 0
    recent: list[Proposal] = field(default_factory=list)
    grants: list[tuple[Proposal, Grant]] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.repository.add({PATH: GOOD, OTHER: b"a: 1\n"})
        self.cause = self.repository.edit(**{PATH: BAD})
        self.repository.on_write = self.watch

    # The monitor: called by the repository at the instant of each write, before the branch moves.
    def watch(self, commit: str) -> None:
        self.seen["writes"] += 1
        tree, base = self.repository.commits[commit]
        with self.store._database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT id, digest, state, body FROM proposals").all()
            given = connection.exec_driver_sql("SELECT proposal_id, kind, body FROM answers").all()
        fits = []
        for proposal_id, digest, state, body in rows:
            fields = json.loads(body)
            if (fields["tree"], fields["base"]) != (tree, base) or state not in ("delivering", "uncertain"):
                continue
            told = {k: v for k, v in fields.items() if k not in ("id", "digest")}
            if sha(plain_json({"schema": "advisor.proposal/v1", **told})) != digest or fields["digest"] != digest:
                continue
            if sha(self.repository.diff(base or "", commit)) != fields["patch_digest"]:
                continue
            people = set()
            for owner, kind, text in given:
                answer = json.loads(text)
                if owner != proposal_id or kind != "approval" or answer["digest"] != digest:
                    continue
                signed = {k: v for k, v in answer.items() if k != "signature"}
                message = plain_json(["ops-advisor", "approval", signed])
                if answer["signature"] == "hmac-sha256:" + hmac.new(KEY, message, hashlib.sha256).hexdigest():
                    people.add(answer["person"])
            needed = 2 if fields["risk"] == "high" and fields["rolls_back"] is None else 1
            alive = (
                datetime.fromisoformat(fields["created_at"]) <= self.now < datetime.fromisoformat(fields["expires_at"])
            )
            allowed = people <= {ALICE, BOB, CAROL} and fields["proposer"] not in people
            if len(people) >= needed and alive and allowed and fields["policy_version"] == self.policy:
                fits.append((proposal_id, digest))
        if not fits:
            self.violations.append(f"{commit}: no recorded, live grant of exactly these bytes")
        elif any(digest in self.used for _, digest in fits):
            self.violations.append(f"{commit}: a grant was used twice")
        self.used |= {digest for _, digest in fits}

    def step(self) -> None:
        name = self.chance.choices(list(ACTIONS), [weight for weight, _ in ACTIONS.values()])[0]
        try:
            ACTIONS[name][1](self)
            self.seen[name] += 1
        except (AdvisorError, KeyboardInterrupt) as error:
            self.seen[f"{name}: {type(error).__name__}"] += 1

    def any_proposal(self) -> Proposal:
        if not self.recent:
            raise NotPermitted("nothing proposed yet")
        return self.chance.choice(self.recent[-3:])

    def any_change(self) -> Change:
        changes = self.store.list_changes(limit=8)
        if not changes:
            raise NotPermitted("nothing changed yet")
        return (changes[0] if self.chance.random() < 0.5 else self.chance.choice(changes)).change

    def person(self) -> str:
        return self.chance.choice(
            [ALICE, ALICE, BOB, BOB, BOB, CAROL, CAROL, MALLORY, "engine", "", " ALICE@example.org", "ａlice"]
        )

    def propose(self) -> None:
        self.number += 1
        value = f"{self.number % 97 + 1}m"
        action = self.chance.choice(
            [
                Action(type=ActionType.SET_VALUE, path=PATH, keys=(TIMEOUT,), values=(value,)),
                Action(type=ActionType.SET_VALUE, path=PATH, keys=(TIMEOUT,), values=(value,)),
                Action(type=ActionType.SET_VALUE, path=OTHER, keys=("a",), values=(value,)),
                revert_action(self.cause),
                Action(type=ActionType.ESCALATE),
            ]
        )
        proposal = propose(
            self.repository,
            action,
            self.number,
            self.now,
            risk=self.chance.choice([Risk.LOW, Risk.LOW, Risk.HIGH]),
            proposer=self.chance.choice(["engine", ALICE]),
            policy_version=self.policy,
        )
        if self.chance.random() < 0.95:
            self.store.save_proposal(proposal)
        self.recent.append(proposal)
        if self.chance.random() < 0.5:
            self.answer()

    def answer(self) -> None:
        proposal = self.any_proposal()
        choice = Choice.DENY if self.chance.random() < 0.1 else Choice.APPROVE
        said = say(proposal, self.person(), choice)
        if self.chance.random() < 0.05:
            said = said.model_copy(update={"digest": self.any_proposal().digest})
        given = decide(proposal, said, self.rules, self.policy, self.store.answers(proposal.id), self.now, self.key())
        self.store.record_answer(given, people_needed(proposal, self.rules))
        if self.store.state_of(proposal.id) is State.GRANTED and self.chance.random() < 0.8:
            self.deliver(proposal)

    def key(self) -> bytes:
        return KEY if self.chance.random() < 0.98 else b"another key of enough bytes"

    def forge(self) -> None:
        """Answer with a record that was edited, or that nobody gave."""
        proposal = self.any_proposal()
        approval = approve(proposal, self.chance.choice([ALICE, BOB]), proposal.created_at)
        change: dict[str, Any] = self.chance.choice(
            [{"person": BOB}, {"person": MALLORY}, {"digest": self.any_proposal().digest}, {"at": self.now}]
        )
        forged = Approval.model_validate({**approval.model_dump(), **change})
        made = grant(proposal, (forged, approval), self.rules, self.policy, self.now, KEY)
        self.grants.append((proposal, made))  # a grant in hand, never recorded
        deliver(self.repository, self.store, self.any_proposal(), made, self.now)

    def tamper(self) -> None:
        """Deliver something else than what was granted."""
        proposal = self.any_proposal()
        made = self.grant(proposal)
        other: dict[str, Any] = self.chance.choice(
            [
                {"tree": self.any_proposal().tree},
                {"base": self.repository.head_commit},
                {"expires_at": self.now + timedelta(days=1)},
                {"patch_digest": self.any_proposal().patch_digest},
                {"rollback_rehearsed": True, "summary": "x"},
            ]
        )
        changed = altered(proposal, **other)
        if self.chance.random() < 0.5:
            changed = altered(changed, digest=digest_of(changed))
        deliver(self.repository, self.store, changed, made, self.now)

    def grant(self, proposal: Proposal) -> Grant:
        made = grant(proposal, self.store.answers(proposal.id), self.rules, self.policy, self.now, KEY)
        self.grants.append((proposal, made))
        return made

    def deliver(self, chosen: Proposal | None = None) -> None:
        proposal = chosen or self.any_proposal()
        self.repository.fail = self.chance.choice([""] * 12 + ["refused", "lost_before", "lost_after", "killed_after"])
        try:
            deliver(self.repository, self.store, proposal, self.grant(proposal), self.now)
        finally:
            self.repository.fail = ""

    def deliver_again(self) -> None:
        """Use a grant that was made earlier, whatever became of it."""
        if self.grants:
            proposal, made = self.chance.choice(self.grants[-12:])
            if self.chance.random() < 0.3:
                self.repository.head_commit = proposal.base  # somebody rewinds the branch
            deliver(self.repository, self.store, proposal, made, self.now)

    def recover(self) -> None:
        change = self.any_change()
        proposal = self.store.proposal(change.proposal_id)
        try:
            made: Grant | None = self.grant(proposal)
        except NotPermitted:
            made = None
        self.repository.silent = self.chance.random() < 0.1
        try:
            reconcile(self.repository, self.store, proposal, change, made, self.now)
        finally:
            self.repository.silent = False

    def roll_back(self) -> None:
        change = self.any_change()
        self.number += 1
        plan = plan_rollback(
            self.repository,
            change,
            self.repository.head(),
            proposal_id=f"roll-{self.number:05d}",
            nonce=str(self.number),
            evidence_digest="sha256:0",
            policy_version=self.policy,
            now=self.now,
        )
        if self.chance.random() < 0.1:
            self.move()
        self.repository.fail = self.chance.choice(["", "", "", "refused", "lost_before", "killed_after"])
        try:
            roll_back(
                self.repository,
                self.store,
                change,
                plan,
                person=self.person(),
                rules=self.rules,
                policy_version=self.policy,
                now=self.now,
                key=KEY,
            )
        finally:
            self.repository.fail = ""
            if self.chance.random() < 0.3:
                self.recent.append(plan.proposal)

    def verify(self) -> None:
        change = self.any_change()
        verdict = self.chance.choice(list(Verdict))
        self.store.record_verification(
            Verification(
                change_id=change.id,
                verdict=verdict,
                at=self.now,
                changed_at=self.now,
                from_at=self.now,
                until_at=self.now,
                results=(),
                reason="",
            )
        )

    def run_out(self) -> None:
        proposal = self.any_proposal()
        self.store.record_answer(expire(proposal, self.store.answers(proposal.id), self.now))

    def supersede(self) -> None:
        self.store.supersede(self.any_proposal().id, "test", self.now)

    def move(self) -> None:
        self.repository.edit(**{f"notes/{self.chance.randrange(5)}": str(self.chance.random()).encode()})

    def reset(self) -> None:
        """Somebody sets the timeout back to the bad value, so that there is something to propose again."""
        self.cause = self.repository.edit(**{PATH: BAD})

    def wait(self) -> None:
        self.now += timedelta(seconds=self.chance.choice([1, 5, 5, 60, 60, 200, 200, 900, 1900, -30, -4000]))

    def change_policy(self) -> None:
        self.policy = self.chance.choice([POLICY, POLICY, OTHER_POLICY])


ACTIONS: dict[str, tuple[int, Callable[[World], None]]] = {
    "propose": (26, World.propose),
    "answer": (24, World.answer),
    "forge": (4, World.forge),
    "tamper": (4, World.tamper),
    "deliver": (6, World.deliver),
    "deliver_again": (4, World.deliver_again),
    "recover": (6, World.recover),
    "roll_back": (8, World.roll_back),
    "verify": (3, World.verify),
    "run_out": (3, World.run_out),
    "supersede": (1, World.supersede),
    "move": (1, World.move),
    "reset": (2, World.reset),
    "wait": (5, World.wait),
    "change_policy": (1, World.change_policy),
}


@LONG
def test_invariant_1_no_change_without_a_recorded_live_unused_grant_of_its_bytes() -> None:
    """10,000 random steps in worlds of 500; the monitor sees each write as it happens."""
    seen: Counter[str] = Counter()
    violations: list[str] = []
    for seed in range(max(1, STEPS // 500)):
        world = World(random.Random(seed))
        for _ in range(500):
            world.step()
        assert world.store.verify_audit() == len(world.store.audit_entries())
        violations += world.violations
        begun = [s for s in world.store.list_changes(limit=100_000)]
        assert len({s.change.proposal_id for s in begun}) == len(begun)
        assert len(world.repository.writes) == world.seen["writes"]
        seen += world.seen
        world.store.close()
    assert violations == []
    # The walk must have been where it can go wrong, or it proves nothing.
    assert seen["writes"] > STEPS / 80, seen
    for name in ("answer: ApprovalResolved", "answer: ApproverNotAllowed", "answer: ApprovalExpired"):
        assert seen[name] > STEPS / 500, (name, seen)
    for name in ("forge", "tamper", "deliver_again"):
        assert sum(n for key, n in seen.items() if key.startswith(f"{name}: ")) > STEPS / 200, (name, seen)
    assert seen["roll_back"] > STEPS / 1000, seen
    assert seen["recover"] > STEPS / 1000, seen


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


# --- 9: the audit --------------------------------------------------------------------------------------------------


def flipped(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Return a store with an audit, an older copy of it, and another store with the same key."""
    folders = [tmp_path_factory.mktemp(name) for name in ("now", "older", "other")]

    def fill(folder: Path, first: int, last: int, word: str) -> None:
        store = Store.open(f"sqlite:///{folder}/advisor.db", KEY)
        for number in range(first, last):
            store.record_note(NOW + timedelta(seconds=number), f"{word}{number}", "x.y", f"s{number}", {"n": "1"})
        assert store.verify_audit() == last
        store.close()
        plain = sqlite3.connect(folder / "advisor.db")
        plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        plain.execute("PRAGMA journal_mode=DELETE")
        plain.close()

    fill(folders[0], 0, 20, "a")
    for file in folders[0].iterdir():
        shutil.copy(file, folders[1] / file.name)
    fill(folders[0], 20, 30, "a")
    fill(folders[2], 0, 40, "b")
    return folders[0], folders[1], folders[2]


@dataclass
class Copy:
    """A copy of the audited store that somebody with the file, but without the key, works on."""

    folder: Path
    older: Path
    other: Path
    chance: random.Random

    def sql(self, *statements: str) -> None:
        connection = sqlite3.connect(self.folder / "advisor.db")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()

    def rows(self, folder: Path | None = None) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect((folder or self.folder) / "advisor.db")
        found = connection.execute("SELECT sequence, hash, previous, body FROM audit ORDER BY sequence").fetchall()
        connection.close()
        return found

    def replace(self, rows: list[tuple[Any, ...]]) -> None:
        connection = sqlite3.connect(self.folder / "advisor.db")
        connection.execute("DELETE FROM audit")
        connection.executemany("INSERT INTO audit VALUES (?, ?, ?, ?)", rows)
        connection.commit()
        connection.close()

    def one(self) -> int:
        return self.chance.randrange(1, 31)

    def edit(self) -> None:
        row = self.chance.choice(self.rows())
        fields = json.loads(row[3])
        name = self.chance.choice(sorted(fields))
        fields[name] = {
            "sequence": fields["sequence"] + self.chance.choice([-1, 1]),
            "details": [["n", "2"]],
            "at": "2026-11-22T08:00:00.001Z",
        }.get(name, str(fields[name])[:-1] + "x")
        self.sql(f"UPDATE audit SET body = '{json.dumps(fields)}' WHERE sequence = {row[0]}")

    def edit_and_rehash(self) -> None:
        """Edit one entry and mend every hash after it; only the signatures cannot be mended."""
        rows, start = self.rows(), self.one() - 1
        previous = rows[start - 1][1] if start else "sha256:" + "0" * 64
        out = rows[:start]
        for number, row in enumerate(rows[start:]):
            fields = json.loads(row[3])
            if number == 0:
                fields["actor"] = "somebody else"
            fields["previous"] = previous
            told = {k: v for k, v in fields.items() if k not in ("hash", "signature")}
            fields["hash"] = previous = sha(plain_json(told))
            out.append((row[0], fields["hash"], fields["previous"], json.dumps(fields)))
        self.replace(out)

    def edit_column(self) -> None:
        column = self.chance.choice(["hash", "previous"])
        self.sql(f"UPDATE audit SET {column} = 'sha256:x' WHERE sequence = {self.one()}")

    def flip(self) -> None:
        row = self.chance.choice(self.rows())
        body = flipped(row[3].encode(), self.chance)
        connection = sqlite3.connect(self.folder / "advisor.db")
        connection.execute("UPDATE audit SET body = ? WHERE sequence = ?", (body.decode("latin-1"), row[0]))
        connection.commit()
        connection.close()

    def delete(self) -> None:
        self.sql(f"DELETE FROM audit WHERE sequence = {self.one()}")

    def delete_and_renumber(self) -> None:
        rows, gone = self.rows(), self.chance.randrange(0, 29)
        out = []
        for number, row in enumerate((*rows[:gone], *rows[gone + 1 :]), start=1):
            fields = {**json.loads(row[3]), "sequence": number}
            out.append((number, row[1], row[2], json.dumps(fields)))
        self.replace(out)

    def insert(self) -> None:
        rows, place = self.rows(), self.chance.randrange(0, 31)
        fields = {**json.loads(rows[0][3]), "sequence": place + 1, "hash": "sha256:new", "previous": "sha256:p"}
        out = [*rows[:place], (0, "sha256:new", "sha256:p", json.dumps(fields)), *rows[place:]]
        self.replace([(number, *row[1:]) for number, row in enumerate(out, start=1)])

    def reorder(self) -> None:
        rows = self.rows()
        a, b = self.chance.sample(range(30), 2)
        rows[a], rows[b] = rows[b], rows[a]
        self.replace([(number, *row[1:]) for number, row in enumerate(rows, start=1)])

    def truncate(self) -> None:
        self.sql(f"DELETE FROM audit WHERE sequence > {self.chance.randrange(0, 30)}")

    def truncate_with_head(self) -> None:
        """Cut the end and put the head of an earlier day back: in the database everything fits."""
        head = sqlite3.connect(self.older / "advisor.db").execute("SELECT sequence, body FROM audit_head").fetchone()
        self.sql(
            f"DELETE FROM audit WHERE sequence > {head[0]}",
            f"UPDATE audit_head SET sequence = {head[0]}, body = '{head[1]}'",
        )

    def remove_head(self) -> None:
        self.sql("DELETE FROM audit_head")

    def empty(self) -> None:
        self.sql("DELETE FROM audit", "DELETE FROM audit_head")

    def splice(self) -> None:
        """Take the end of the audit of another server with the same key."""
        place = self.chance.randrange(1, 30)
        self.replace(self.rows()[:place] + self.rows(self.other)[place:30])

    def swap_database(self) -> None:
        shutil.copy(self.chance.choice([self.older, self.other]) / "advisor.db", self.folder / "advisor.db")

    def remove_mirror(self) -> None:
        (self.folder / "advisor.db.audit-head").unlink()

    def edit_mirror(self) -> None:
        mirror = self.folder / "advisor.db.audit-head"
        fields = json.loads(mirror.read_bytes())
        name = self.chance.choice(["sequence", "hash", "signature"])
        fields[name] = fields[name] - 1 if name == "sequence" else fields[name][:-1] + "x"
        mirror.write_text(json.dumps(fields))


KINDS = [
    Copy.edit,
    Copy.edit_and_rehash,
    Copy.edit_column,
    Copy.flip,
    Copy.delete,
    Copy.delete_and_renumber,
    Copy.insert,
    Copy.reorder,
    Copy.truncate,
    Copy.truncate_with_head,
    Copy.remove_head,
    Copy.empty,
    Copy.splice,
    Copy.swap_database,
    Copy.remove_mirror,
    Copy.edit_mirror,
]


@LONG
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_invariant_9_any_tampering_with_the_audit_is_found(
    audited: tuple[Path, Path, Path], tmp_path: Path, kind: Callable[[Copy], None]
) -> None:
    """300 tamperings of the SQLite file and its mirror, by somebody without the key."""
    now, older, other = audited
    for number in range(max(1, TAMPERINGS // len(KINDS))):
        folder = tmp_path / str(number)
        shutil.copytree(now, folder)
        kind(Copy(folder, older, other, random.Random(number)))
        store = Store.open(f"sqlite:///{folder}/advisor.db", KEY)
        with pytest.raises(AuditBroken, match="audit"):
            store.verify_audit()
        store.close()


def test_what_nobody_touched_verifies(audited: tuple[Path, Path, Path], tmp_path: Path) -> None:
    shutil.copytree(audited[0], tmp_path / "copy")
    store = Store.open(f"sqlite:///{tmp_path}/copy/advisor.db", KEY)
    assert store.verify_audit() == 30
    store.record_note(NOW, ALICE, "x.y", "s", {})
    assert store.verify_audit() == 31
    store.close()
