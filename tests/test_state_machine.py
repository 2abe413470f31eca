"""The gate against a plain model of it: after each step the remote's refs, its files and every state must be the model's.

The model knows no module of the gate: it keeps files as dictionaries, states as words, and says before each step what
must come of it. People propose, approve, deny, break the glass, let things run out, deliver over connections that break,
recover, verify, take back and take that back; others push and force-push; processes begin anew; the clock jumps both
ways; rules change; records and the audit are edited. A monitor of its own looks at each write of the branch at the
instant it happens.

``ADVISOR_PROOF=1`` takes 100,000 steps instead of 10,000.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from advisor.adapters.git_repository import GitRepository
from advisor.approval import Approval, Choice, decide, expire, grant, people_needed
from advisor.approval.rules import BreakGlass
from advisor.change import deliver, reconcile
from advisor.errors import AdvisorError, AuditBroken
from advisor.playbook import Action
from advisor.proposal import Proposal, digest_of
from advisor.rollback import plan_rollback, roll_back
from advisor.settings import ApprovalRules
from advisor.store import Store
from advisor.values import ActionType, Risk
from advisor.verification import Verdict, Verification
from tests.support.gate import (
    ALICE,
    BOB,
    CAROL,
    GOOD,
    KEY,
    MALLORY,
    NOW,
    OTHER,
    PATH,
    POLICY,
    TIMEOUT,
    FakeRepository,
    altered,
    fast_import,
    git,
    new_remote,
    propose,
    say,
)

PROOF = os.environ.get("ADVISOR_PROOF") == "1"
STEPS = int((100_000 if PROOF else 10_000) * float(os.environ.get("ADVISOR_PROOF_SIZE", "1")))
REAL_STEPS = max(50, STEPS // 50)  # a step in real git takes some fifty times as long
STEPS_OF_ONE = 200
DAVE = "dave@example.org"
RULES = ApprovalRules(approvers=(ALICE, BOB, CAROL), break_glass=BreakGlass(people=(DAVE,), minutes=15))
OTHER_POLICY = "sha256:" + "7" * 64
PEOPLE = {ALICE, BOB, CAROL}
STANDING = ("delivered", "verifying", "passed", "failed", "inconclusive", "error")
REASON = "the shop is down and nobody else answers"
Contents = dict[str, bytes]


# --- the model: what ought to be ---------------------------------------------------------------------------------------


@dataclass
class Item:
    """A proposal and what became of it, in plain words."""

    id: str
    base: str
    before: Contents
    after: Contents
    proposer: str
    people: int
    created: datetime
    expires: datetime
    policy: str
    takes_back: Item | None = None
    state: str = "proposed"
    yes: dict[str, tuple[datetime, datetime | None]] = field(default_factory=dict)  # person: when, glass until
    closed: bool = False  # denied, or on record as run out
    begun: datetime | None = None
    commit: str = ""

    def lives(self, now: datetime) -> bool:
        return self.created <= now < self.expires

    def has_enough(self) -> bool:
        return len(self.yes) >= self.people or any(until for _, until in self.yes.values())

    def may_be_delivered(self, now: datetime, policy: str) -> bool:
        """Say whether its approvals amount to a grant now."""
        return (
            not self.closed
            and self.has_enough()
            and self.lives(now)
            and self.policy == policy
            and all(at <= now and (until is None or now < until) for at, until in self.yes.values())
        )


@dataclass
class Model:
    """The whole of what matters, without a database, without git."""

    now: datetime = NOW
    policy: str = POLICY
    history: list[tuple[str, Contents]] = field(default_factory=list)  # of the branch: commit, files
    items: list[Item] = field(default_factory=list)
    writes: int = 0

    @property
    def head(self) -> str:
        return self.history[-1][0]

    @property
    def files(self) -> Contents:
        return self.history[-1][1]

    def on_branch(self, commit: str) -> bool:
        return any(known == commit for known, _ in self.history)

    def set_aside(self, item: Item, state: str) -> None:
        """Close an item that changed nothing; what it was to take back stands again."""
        item.state = state
        if item.takes_back is not None and item.takes_back.state == "rolling_back":
            item.takes_back.state = "delivered"

    def arrive(self, item: Item) -> None:
        """Let an item stand on the branch; what it takes back is gone, and what that had taken back is there again."""
        item.state = "delivered"
        first = item.takes_back
        if first is not None and first.state == "rolling_back":
            first.state = "rolled_back"
            if first.takes_back is not None and first.takes_back.state == "rolled_back":
                first.takes_back.state = "delivered"


# --- the worlds: what is ------------------------------------------------------------------------------------------------


class FakeWorld:
    """The repository in memory."""

    def __init__(self, folder: Path) -> None:
        self.repository: Any = FakeRepository()
        self.repository.add({PATH: GOOD, OTHER: b"a: 1\n"})

    def refs(self) -> dict[str, str]:
        return {"refs/heads/main": self.repository.head_commit}

    def contents(self) -> Contents:
        return dict(self.repository.files(self.repository.head_commit))

    def parent(self, commit: str) -> str | None:
        found: str | None = self.repository.parent_of(commit)
        return found

    def edit(self, path: str, content: bytes) -> str:
        commit: str = self.repository.edit(**{path: content})
        return commit

    def rewind(self, commit: str) -> None:
        self.repository.head_commit = commit

    @contextmanager
    def failing(self, how: str) -> Iterator[None]:
        self.repository.fail = how
        self.repository.silent = how == "silent"
        try:
            yield
        finally:
            self.repository.fail, self.repository.silent = "", False

    def restart(self) -> None:
        """Nothing is kept in it but the remote."""


class RealWorld:
    """A bare repository, with refs beside the branch that nothing may touch, and our clone of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remote = new_remote(folder)
        first = fast_import(self.remote, {PATH: GOOD, OTHER: b"a: 1\n"})
        git(self.remote, "update-ref", "refs/heads/release", first)
        git(self.remote, "update-ref", "refs/tags/v1", first)
        self.number = 0
        self.restart()

    def restart(self) -> None:
        self.repository = GitRepository("config", str(self.remote), "main", self.folder / "clone")

    def refs(self) -> dict[str, str]:
        lines = git(self.remote, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split() for line in lines)

    def contents(self) -> Contents:
        found = {}
        for line in git(self.remote, "ls-tree", "-r", "main").splitlines():
            told, _, path = line.partition("\t")
            blob = ["git", "-C", str(self.remote), "cat-file", "blob", told.split()[2]]
            found[path] = subprocess.run(blob, capture_output=True, check=True).stdout
        return found

    def parent(self, commit: str) -> str | None:
        return [*git(self.remote, "rev-list", "--parents", "-1", commit).split(), None][1]

    def edit(self, path: str, content: bytes) -> str:
        self.number += 1
        return fast_import(self.remote, {path: content}, at=NOW + timedelta(seconds=self.number))

    def rewind(self, commit: str) -> None:
        git(self.remote, "update-ref", "refs/heads/main", commit)

    @contextmanager
    def failing(self, how: str) -> Iterator[None]:
        hook = self.remote / "hooks" / "pre-receive"
        if how == "refused":
            hook.parent.mkdir(exist_ok=True)
            hook.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
            hook.chmod(0o755)
        try:
            yield
        finally:
            hook.unlink(missing_ok=True)


# --- the monitor --------------------------------------------------------------------------------------------------------


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def plain_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


# What an approval of the first version does not say; left out of what is signed where it says nothing.
UNSAID = {
    "method": "server",
    "ssh_signature": "",
    "signer": "",
    "break_glass": False,
    "valid_until": None,
    "standing": "",
}


def signed_by_the_server(answer: dict[str, Any]) -> bool:
    told = {k: v for k, v in answer.items() if k != "signature" and not (k in UNSAID and v == UNSAID[k])}
    message = plain_json(["ops-advisor", "approval", told])
    return bool(answer["signature"] == "hmac-sha256:" + hmac.new(KEY, message, hashlib.sha256).hexdigest())


def why_not(store: sqlite3.Connection, world: FakeWorld, commit: str, now: datetime, policy: str) -> str:
    """Say why no record allows a write that is about to happen; empty if one does. It shares no code with the gate."""
    tree, base = world.repository.commits[commit]
    given = store.execute("SELECT proposal_id, kind, body FROM answers").fetchall()
    # By the commit of its change: two proposals under way may lead from one base to one tree, each with a commit of its own.
    under_way = "SELECT p.id, p.digest, p.state, p.body, c.body FROM proposals p JOIN changes c ON c.proposal_id = p.id"
    for proposal_id, digest, state, body, change in store.execute(under_way):
        fields = json.loads(body)
        if json.loads(change)["commit"] != commit or state not in ("delivering", "uncertain"):
            continue
        if (fields["tree"], fields["base"]) != (tree, base):
            return "another tree, or another base, than the approved ones"
        told = {k: v for k, v in fields.items() if k not in ("id", "digest")}
        if sha(plain_json({"schema": "advisor.proposal/v1", **told})) != digest or fields["digest"] != digest:
            return "the proposal's digest does not recompute"
        if sha(world.repository.diff(base or "", commit)) != fields["patch_digest"]:
            return "other bytes than the approved ones"
        people, glass = set(), False
        for owner, kind, text in given:
            answer = json.loads(text)
            if owner != proposal_id or kind != "approval" or answer["digest"] != digest:
                continue
            if not signed_by_the_server(answer):
                return "an approval whose signature does not fit"
            people.add(answer["person"])
            if answer["break_glass"]:
                glass = now < datetime.fromisoformat(answer["valid_until"]) and answer["person"] == DAVE
        needed = 2 if fields["risk"] == "high" and fields["rolls_back"] is None else 1
        usual = PEOPLE | ({DAVE} if glass or fields["rolls_back"] is not None else set())
        alive = datetime.fromisoformat(fields["created_at"]) <= now < datetime.fromisoformat(fields["expires_at"])
        if not (alive and fields["policy_version"] == policy):
            return "out of its time, or under other rules"
        if not people <= usual or fields["proposer"] in people or not (glass or len(people) >= needed):
            return f"not those who may: {sorted(people)}"
        return ""
    return "no proposal under way that gives these bytes on this base"


# --- the machine --------------------------------------------------------------------------------------------------------


def one_of(*values: Any) -> Callable[[random.Random], Any]:
    return lambda chance: chance.choice(values)


PICK = one_of(*range(6))
PERSON = one_of(ALICE, ALICE, BOB, BOB, BOB, CAROL, CAROL, MALLORY, "engine", "", " ALICE@example.org", "ａlice")
FAILS = one_of(*[""] * 8, "refused", "lost_before", "lost_after", "killed_after")

# How often each step is taken, and what is drawn for it.
WALK: dict[str, tuple[int, dict[str, Callable[[random.Random], Any]]]] = {
    "propose": (
        12,
        {"minutes": one_of(*range(1, 10)), "risk": one_of(Risk.LOW, Risk.LOW, Risk.HIGH), "own": one_of(0, 0, 1)},
    ),
    "propose_outside_what_is_allowed": (1, {"value": one_of(*range(1, 10))}),
    "approve": (12, {"pick": PICK, "person": PERSON, "other": one_of(*range(20))}),
    "approve_as_agreed": (10, {"pick": one_of(0, 0, 0, 1, 2), "person": one_of(BOB, CAROL)}),
    "break_glass": (
        2,
        {"pick": one_of(0, 0, 1), "person": one_of(DAVE, DAVE, ALICE), "why": one_of(REASON, REASON, "fix")},
    ),
    "deny": (2, {"pick": PICK, "person": PERSON}),
    "run_out": (2, {"pick": PICK}),
    "supersede": (1, {"pick": PICK}),
    "deliver": (14, {"pick": one_of(0, 0, 0, 1, 2), "fail": FAILS}),
    "deliver_whatever_its_state": (2, {"pick": PICK}),
    "recover": (6, {"pick": one_of(0, 0, 1), "silent": one_of(*range(6))}),
    "verify": (4, {"pick": PICK, "verdict": one_of(*Verdict)}),
    "roll_back": (6, {"pick": one_of(0, 0, 0, 1, 2, 3), "person": PERSON, "fail": FAILS}),
    "roll_back_the_newest": (5, {"pick": PICK}),
    "foreign_push": (2, {"kind": one_of(0, 1, 2, 3, 4, 5), "value": one_of(*range(1, 10))}),
    "foreign_force_push": (1, {"back": one_of(1, 2, 3)}),
    "clock": (5, {"seconds": one_of(1, 5, 60, 60, 200, 900, 1900, -2, -30, -4000)}),
    "change_policy": (1, {"policy": one_of(POLICY, POLICY, POLICY, OTHER_POLICY)}),
    "restart": (1, {}),
    "deliver_something_else": (2, {"pick": PICK, "what": one_of(*range(5))}),
    "deliver_with_a_forged_approval": (2, {"pick": PICK, "what": one_of(*range(4))}),
    "edit_the_records": (1, {"pick": PICK, "what": one_of(*range(6))}),
}
Step = tuple[str, dict[str, Any]]


class Gate:
    """Steps of the gate, each foretold by the model and looked at afterwards."""

    world_type: ClassVar[Callable[[Path], Any]] = FakeWorld
    fails_allowed: ClassVar[frozenset[str]] = frozenset(
        {"", "refused", "lost_before", "lost_after", "killed_after", "silent"}
    )
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        place = "/dev/shm" if os.path.isdir("/dev/shm") else None  # each step is on disk when it returns
        self.folder = Path(tempfile.mkdtemp(prefix="gate-", dir=place))
        self.world = self.world_type(self.folder)
        self.store = self.opened()
        self.raw = sqlite3.connect(self.folder / "advisor.db", isolation_level=None)
        self.model = Model(history=[(self.world.refs()["refs/heads/main"], self.world.contents())])
        self.refs = self.world.refs()
        self.number = 0
        self.sealed: dict[str, Proposal] = {}
        self.violations: list[str] = []
        if isinstance(self.world, FakeWorld):
            self.world.repository.on_write = self.watch

    def teardown(self) -> None:
        assert self.store.verify_audit() == len(self.store.audit_entries())

    def close(self) -> None:
        self.raw.close()
        self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def opened(self) -> Store:
        return Store.open(f"sqlite:///{self.folder}/advisor.db", KEY)

    def note(self, what: str) -> None:
        type(self).seen[what] += 1

    def watch(self, commit: str) -> None:
        reason = why_not(self.raw, self.world, commit, self.model.now, self.model.policy)
        if reason:
            self.violations.append(f"{commit}: {reason}")

    def attempt(self, name: str, call: Callable[[], object], allowed: bool) -> bool:
        """Do a step that the model allows or forbids, and hold the answer against that."""
        try:
            call()
            happened = True
        except (AdvisorError, KeyboardInterrupt) as error:
            happened, why = False, f"{type(error).__name__}: {error}"
        self.note(f"{name} {'done' if happened else 'refused'}")
        if happened != allowed:
            raise AssertionError(f"{name}: {'done, and ought not to be' if happened else 'not done: ' + why}")
        return happened

    def item(self, pick: int, *states: str) -> Item | None:
        """Return one of the newest items, of those in the wanted states if there are any."""
        items = [item for item in self.model.items if item.state in states] or self.model.items
        return items[-1 - pick % min(len(items), 6)] if items else None

    def keep(self, proposal: Proposal, after: Contents, people: int, takes_back: Item | None = None) -> Item:
        item = Item(
            proposal.id,
            self.model.head,
            self.model.files,
            after,
            proposal.proposer,
            people,
            proposal.created_at,
            proposal.expires_at,
            self.model.policy,
            takes_back,
        )
        self.model.items.append(item)
        self.sealed[item.id] = proposal
        return item

    # --- what people do

    def propose(self, minutes: int, risk: Risk, own: bool) -> None:
        self.number += 1
        value = f"{minutes * 100 + self.number}m"
        action = Action(type=ActionType.SET_VALUE, path=PATH, keys=(TIMEOUT,), values=(value,))
        proposer = ALICE if own else "engine"
        try:
            proposal = propose(
                self.world.repository, action, self.number, self.model.now, risk=risk, proposer=proposer,
                policy_version=self.model.policy,
            )  # fmt: skip
        except AdvisorError:
            assert b"timeout:" not in self.model.files.get(PATH, b""), "it could have been proposed"
            return
        self.store.save_proposal(proposal)
        text = re.sub(rb"timeout: \S+", b"timeout: " + value.encode(), self.model.files[PATH])
        self.keep(proposal, {**self.model.files, PATH: text}, 2 if risk is Risk.HIGH else 1)
        self.note("propose done")

    def propose_outside_what_is_allowed(self, value: int) -> None:
        action = Action(type=ActionType.SET_VALUE, path=OTHER, keys=("a",), values=(f"{value}9",))
        self.attempt("propose outside", lambda: propose(self.world.repository, action, 9999, self.model.now), False)

    def approve(self, pick: int, person: str, other: int) -> None:
        self.answer(pick, person, Choice.APPROVE, wrong_digest=other == 0)

    def approve_as_agreed(self, pick: int, person: str) -> None:
        self.answer(pick, person, Choice.APPROVE)

    def break_glass(self, pick: int, person: str, why: str) -> None:
        self.answer(pick, person, Choice.APPROVE, glass=why)

    def deny(self, pick: int, person: str) -> None:
        self.answer(pick, person, Choice.DENY)

    def answer(self, pick: int, person: str, choice: Choice, wrong_digest: bool = False, glass: str = "") -> None:
        item = self.item(pick, "proposed")
        if item is None:
            return
        proposal, now, name = self.sealed[item.id], self.model.now, person.strip().lower()
        said = say(proposal, person, choice, break_glass=bool(glass), comment=glass)
        if wrong_digest:
            said = said.model_copy(update={"digest": "sha256:" + "5" * 64})
        may = name == DAVE and glass == REASON if glass else name in PEOPLE
        allowed = (
            item.state == "proposed"
            and not wrong_digest
            and item.policy == self.model.policy
            and item.lives(now)
            and all(at <= now for at, _ in item.yes.values())
            and may
            and name not in (item.proposer, *item.yes)
            and not (glass and item.takes_back is not None)
        )

        def call() -> None:
            given = decide(proposal, said, RULES, self.model.policy, self.store.answers(item.id), now, KEY)
            self.store.record_answer(given, 1 if glass else people_needed(proposal, RULES))

        if not self.attempt("deny" if choice is Choice.DENY else "glass" if glass else "approve", call, allowed):
            return
        if choice is Choice.DENY:
            item.closed = True
            self.model.set_aside(item, "denied")
            return
        item.yes[name] = (now, min(now + timedelta(minutes=15), item.expires) if glass else None)
        item.state = "granted" if item.has_enough() else "proposed"

    def run_out(self, pick: int) -> None:
        item = self.item(pick, "proposed", "granted")
        if item is None:
            return
        allowed = item.state in ("proposed", "granted") and self.model.now >= item.expires
        proposal = self.sealed[item.id]

        def call() -> None:
            self.store.record_answer(expire(proposal, self.store.answers(item.id), self.model.now))

        if self.attempt("run out", call, allowed):
            item.closed = True
            self.model.set_aside(item, "expired")

    def supersede(self, pick: int) -> None:
        item = self.item(pick)
        if item is not None and pick < 3:
            self.store.supersede(item.id, "another took its place", self.model.now)
            if item.state in ("proposed", "granted"):
                self.model.set_aside(item, "superseded")

    # --- delivering

    def deliver(self, pick: int, fail: str) -> None:
        item = self.item(pick, "granted")
        if item is not None:
            self.deliver_item(item, fail if fail in self.fails_allowed else "")

    def deliver_whatever_its_state(self, pick: int) -> None:
        if self.model.items:
            self.deliver_item(self.model.items[-1 - pick % len(self.model.items)], "")

    def deliver_item(self, item: Item, fail: str) -> None:
        proposal, now = self.sealed[item.id], self.model.now
        granted = item.may_be_delivered(now, self.model.policy)
        stands = self.model.head == item.base
        writes = granted and stands and item.state == "granted"

        def call() -> None:
            answers = self.store.answers(item.id)
            made = grant(proposal, answers, RULES, self.model.policy, now, KEY)
            deliver(self.world.repository, self.store, proposal, made, now)

        with self.world.failing(fail):
            self.attempt("deliver", call, writes and fail in ("", "lost_after"))
        if granted and not stands and item.state == "granted":
            self.model.set_aside(item, "superseded")
        if writes:
            self.after_push(item, fail)

    def after_push(self, item: Item, fail: str) -> None:
        """Take into the model what a push, or one that failed, must have done."""
        if item.begun is None:
            item.begun = self.model.now
        item.state = "delivering"
        if fail == "refused":
            self.model.set_aside(item, "refused")
        elif fail == "lost_before":
            item.state = "uncertain"
        else:
            commit = self.world.refs()["refs/heads/main"]
            assert self.world.parent(commit) == self.model.head, "another base than the approved one"
            item.commit = commit
            self.model.history.append((commit, item.after))
            self.model.writes += 1
            if fail != "killed_after":
                self.model.arrive(item)
        self.note(f"pushed {fail or 'well'}")

    def recover(self, pick: int, silent: int) -> None:
        item = self.item(pick, "delivering", "uncertain")
        if item is None or item.begun is None:
            return
        proposal, now = self.sealed[item.id], self.model.now
        change = self.store.change_of(item.id)
        assert change is not None
        is_silent = silent == 0 and "silent" in self.fails_allowed
        open_ = item.state in ("delivering", "uncertain")
        there = self.model.on_branch(change.commit)
        moved = self.model.head != item.base
        granted = item.may_be_delivered(now, self.model.policy)
        over = now >= item.begun + timedelta(seconds=120)
        again = open_ and not there and not moved and granted
        done = open_ and not is_silent and (there or again)

        def call() -> None:
            try:
                made = grant(proposal, self.store.answers(item.id), RULES, self.model.policy, now, KEY)
            except AdvisorError:
                made = None
            reconcile(self.world.repository, self.store, proposal, change, made, now)

        with self.world.failing("silent" if is_silent else ""):
            self.attempt("recover", call, done)
        if is_silent or not open_:
            return
        if there:
            item.commit = change.commit
            self.model.arrive(item)
        elif moved:
            self.model.set_aside(item, "conflict")
        elif granted:
            self.after_push(item, "")
        elif over:
            self.model.set_aside(item, "expired")

    # --- after it

    def verify(self, pick: int, verdict: Verdict) -> None:
        item = self.item(pick, *STANDING)
        if item is None or item.begun is None:
            return
        change = self.store.change_of(item.id)
        assert change is not None
        now = self.model.now
        looked = Verification(
            change_id=change.id, verdict=verdict, at=now, changed_at=now, from_at=now, until_at=now, results=(), reason=""
        )  # fmt: skip
        if self.attempt("verify", lambda: self.store.record_verification(looked), item.state in STANDING):
            item.state = verdict.value

    def roll_back(self, pick: int, person: str, fail: str) -> None:
        self.take_back(pick, person, fail if fail in self.fails_allowed else "")

    def roll_back_the_newest(self, pick: int) -> None:
        self.take_back(0, BOB, "")

    def take_back(self, pick: int, person: str, fail: str) -> None:
        item = self.item(pick, *STANDING, "rolling_back")
        change = self.store.change_of(item.id) if item is not None else None
        if item is None or change is None:
            return
        self.number += 1
        model, now, name = self.model, self.model.now, person.strip().lower()
        changed = {p for p in {*item.before, *item.after} if item.before.get(p) != item.after.get(p)}
        touched = any(model.files.get(p) not in (item.before.get(p), item.after.get(p)) for p in changed)
        there = any(model.files.get(p) != item.before.get(p) for p in changed)
        planned = model.on_branch(change.commit) and there and not touched
        granted = [i for i in model.items if i.takes_back is item and i.state == "granted"]
        begun = planned and name in PEOPLE | {DAVE} and (
            item.state in STANDING or (item.state == "rolling_back" and bool(granted))
        )  # fmt: skip

        def call() -> None:
            plan = plan_rollback(
                self.world.repository, change, self.world.repository.head(), proposal_id=f"roll-{self.number:05d}",
                nonce=str(self.number), evidence_digest="sha256:0", policy_version=model.policy, now=now,
            )  # fmt: skip
            planned_.append(plan.proposal)
            roll_back(
                self.world.repository, self.store, change, plan, person=person, rules=RULES,
                policy_version=model.policy, now=now, key=KEY,
            )  # fmt: skip

        planned_: list[Proposal] = []
        with self.world.failing(fail):
            self.attempt("roll back", call, begun and fail in ("", "lost_after"))
        assert bool(planned_) == planned, "planned, and ought not to be" if planned_ else "not planned"
        if not begun:
            return
        for other in granted:
            model.set_aside(other, "superseded")
        after = {p: c for p, c in model.files.items() if p not in changed or p in item.before}
        after |= {p: item.before[p] for p in changed if p in item.before}
        taken = self.keep(planned_[0], after, 1, item)
        taken.yes[name] = (now, None)
        taken.state, item.state = "granted", "rolling_back"
        self.after_push(taken, fail)

    # --- what happens to it

    def foreign_push(self, kind: int, value: int) -> None:
        self.number += 1
        path, content = f"notes/{value % 3}", str(self.number).encode()
        if kind == 0:
            path, content = PATH, re.sub(rb"timeout: \S+", b"timeout: %ds" % self.number, self.model.files[PATH])
        self.model.history.append((self.world.edit(path, content), {**self.model.files, path: content}))

    def foreign_force_push(self, back: int) -> None:
        if len(self.model.history) > back:
            del self.model.history[-back:]
            self.world.rewind(self.model.head)
            self.note("rewound")

    def clock(self, seconds: int) -> None:
        self.model.now += timedelta(seconds=seconds)

    def change_policy(self, policy: str) -> None:
        self.model.policy = policy

    def restart(self) -> None:
        """Begin anew with nothing but what is on disk."""
        self.store.close()
        self.world.restart()
        self.store = self.opened()
        for item in self.model.items[-6:]:
            self.sealed[item.id] = self.store.proposal(item.id)

    # --- what somebody does to it

    def deliver_something_else(self, pick: int, what: int) -> None:
        item = self.item(pick, "granted", "delivered")
        if item is None:
            return
        proposal, other = self.sealed[item.id], self.sealed[self.model.items[0].id]
        changes: list[dict[str, Any]] = [
            {"tree": other.tree if other.tree != proposal.tree else "4" * 40},
            {"base": self.model.head if self.model.head != proposal.base else "4" * 40},
            {"expires_at": proposal.expires_at + timedelta(days=1)},
            {"patch_digest": "sha256:" + "6" * 64},
            {"summary": "something else"},
        ]
        forged = altered(proposal, **changes[what])
        if pick % 2:
            forged = altered(forged, digest=digest_of(forged))

        def call() -> None:
            made = grant(proposal, self.store.answers(item.id), RULES, self.model.policy, self.model.now, KEY)
            deliver(self.world.repository, self.store, forged, made, self.model.now)

        self.attempt("deliver something else", call, False)

    def deliver_with_a_forged_approval(self, pick: int, what: int) -> None:
        item = self.item(pick, "proposed")
        if item is None:
            return
        proposal, now = self.sealed[item.id], self.model.now
        fields = {
            "proposal_id": item.id, "digest": proposal.digest, "person": BOB, "role": "", "at": now, "comment": "",
            "rollback_on_failure": False, "policy_version": self.model.policy, "signature": "hmac-sha256:" + "0" * 64,
        }  # fmt: skip
        real = [a for a in self.store.answers(item.id) if isinstance(a, Approval)]
        if real and what:
            fields = {**real[0].model_dump(), **({"person": CAROL}, {"at": now}, {"digest": "sha256:1"})[what - 1]}
        forged = Approval.model_validate(fields)
        if forged in real:
            return

        def call() -> None:
            made = grant(proposal, (forged,), RULES, self.model.policy, now, KEY)
            deliver(self.world.repository, self.store, proposal, made, now)

        self.attempt("deliver with a forged approval", call, False)

    def edit_the_records(self, pick: int, what: int) -> None:
        """Edit a row behind the store's back: the audit must tell, and tells no more once it is as it was."""
        edits = [
            ("proposals", "state", "'granted'"),
            ("proposals", "approvals", "approvals + 1"),
            ("proposals", "expires_ms", "expires_ms + 1"),
            ("answers", "body", "replace(body, 'example', 'elsewhere')"),
            ("changes", "reason", "reason || 'x'"),
            ("audit", "body", "replace(body, 'proposal', 'proposed')"),
        ]
        table, column, value = edits[what]
        rows = self.raw.execute(f"SELECT rowid, {column} FROM {table} ORDER BY rowid DESC LIMIT 6").fetchall()
        if not rows or pick > 1:
            return
        rowid, was = rows[pick % len(rows)]
        self.raw.execute(f"UPDATE {table} SET {column} = {value} WHERE rowid = ?", (rowid,))
        (now_is,) = self.raw.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
        try:
            self.store.verify_audit()
            found = False
        except AuditBroken:
            found = True
        self.raw.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (was, rowid))
        assert found == (now_is != was), (
            f"{table}.{column} of row {rowid}: {'not found' if not found else 'false alarm'}"
        )
        self.note("edited records")

    # --- after each step

    def everything_is_as_the_model_says(self) -> None:
        self.note("steps")
        refs = self.world.refs()
        assert refs == {**self.refs, "refs/heads/main": self.model.head}
        if refs != self.refs:
            assert self.world.contents() == self.model.files
            self.refs = refs
        assert self.violations == []
        found = {row[0]: row[1:] for row in self.raw.execute("SELECT id, state, approvals FROM proposals")}
        told = {item.id: (item.state, len(item.yes)) for item in self.model.items}
        assert found == told
        if isinstance(self.world, FakeWorld):
            assert len(self.world.repository.writes) == self.model.writes


class RealGate(Gate):
    """The same in real git, where a push cannot be made to break off at will."""

    world_type = RealWorld
    fails_allowed = frozenset({"", "refused"})
    seen: ClassVar[Counter[str]] = Counter()


def steps_of(seed: int, count: int) -> list[Step]:
    """Return a walk by chance; what it draws does not depend on what happens."""
    chance = random.Random(seed)
    names = chance.choices(list(WALK), [weight for weight, _ in WALK.values()], k=count)
    return [(name, {argument: draw(chance) for argument, draw in WALK[name][1].items()}) for name in names]


def walk(machine: type[Gate], steps: list[Step]) -> Exception | None:
    """Return what went wrong on a walk, or None."""
    gate = machine()
    try:
        gate.everything_is_as_the_model_says()
        for name, arguments in steps:
            getattr(gate, name)(**arguments)
            gate.everything_is_as_the_model_says()
        gate.teardown()
    except Exception as error:  # noqa: BLE001 - an assertion, or a foreign error: both end the walk
        return error
    finally:
        gate.close()
    return None


def shortest(machine: type[Gate], steps: list[Step]) -> list[Step]:
    """Return a walk that still goes wrong and from which no step can be left out."""
    size = len(steps)
    while size >= 1:
        place = 0
        while place < len(steps):
            without = steps[:place] + steps[place + size :]
            if without and walk(machine, without) is not None:
                steps = without
            else:
                place += size
        size //= 2
    return steps


def run(machine: type[Gate], count: int) -> Counter[str]:
    machine.seen.clear()
    for seed in range(max(1, count // STEPS_OF_ONE)):
        steps = steps_of(seed, STEPS_OF_ONE)
        if walk(machine, steps) is not None:
            steps = shortest(machine, steps)
            told = "\n".join(f"  {name}({', '.join(f'{k}={v!r}' for k, v in a.items())})" for name, a in steps)
            pytest.fail(f"walk {seed}, in its shortest form:\n{told}\n{walk(machine, steps)}", pytrace=False)
    return machine.seen


@pytest.mark.timeout(3600 if PROOF else 600)
def test_the_gate_does_what_the_model_says() -> None:
    seen = run(Gate, STEPS)
    print(dict(seen))
    assert seen["steps"] >= 0.9 * STEPS, seen
    # The walk must have been where it can go wrong, or it proves nothing.
    for name, share in {
        "approve done": 300, "approve refused": 100, "deny done": 1000, "glass done": 1000, "run out done": 2000,
        "pushed well": 150, "pushed lost_before": 2000, "pushed lost_after": 2000, "pushed killed_after": 2000,
        "pushed refused": 2000, "recover done": 1000, "roll back done": 300, "roll back refused": 300,
        "deliver refused": 100, "deliver something else refused": 100, "deliver with a forged approval refused": 100,
        "verify done": 200, "edited records": 300, "rewound": 300,
    }.items():  # fmt: skip
        assert seen[name] >= STEPS // share // 3, (name, seen)


@pytest.mark.timeout(3600 if PROOF else 600)
def test_the_gate_does_what_the_model_says_in_real_git() -> None:
    seen = run(RealGate, REAL_STEPS)
    print(dict(seen))
    assert seen["steps"] >= 0.9 * REAL_STEPS, seen
    assert seen["pushed well"] >= REAL_STEPS // 300, seen
