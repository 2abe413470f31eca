"""A foreign push at every step: nothing is applied on a moved base, the person is told, a fresh proposal goes through.

The repository of a real workflow is wrapped, so that somebody else pushes before or after any call that the product makes
on it, in each of its stages, by a random schedule on one real bare remote. The foreign hand writes objects and the ref by
itself and shares no code with the product; a watch on the ref sees every move of the branch as it happens.

``ADVISOR_PROOF=1`` runs 1,000 interleavings; the default is 50, with every stage and kind of push among them.
"""

from __future__ import annotations

import json
import os
import random
import zlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from advisor.adapters.git_repository import GitRepository
from advisor.errors import ChangeConflict, ChangeRefused
from advisor.playbook import Action, VerificationPlan
from advisor.proposal import Draft, Proposal, RepositoryName, build_proposal
from advisor.settings import load_settings
from advisor.values import ActionType, Risk
from advisor.workflow import Workflow
from tests.support.gate import git
from tests.support.hostile import ALICE, BAD, GOOD, KEY, PATH, Scene

PROOF = os.environ.get("ADVISOR_PROOF") == "1"
INTERLEAVINGS = 1000 if PROOF else 50
CALLS_MAX = 12  # the product makes fewer calls on the repository in any stage
STAGES = ("propose", "approve", "verify", "plan", "rollback")
Rows = dict[bytes, tuple[bytes, str]]  # name -> mode, id

pytestmark = pytest.mark.timeout(3600 if PROOF else 600)


# --- the foreign hand --------------------------------------------------------------------------------------------------


@dataclass
class Stranger:
    """Somebody else with the right to push, who knows nothing of the product."""

    scene: Scene
    chance: random.Random
    pushed: list[tuple[str, str]] = field(default_factory=list)  # the branch before and after each push
    number: int = 0

    @property
    def ref(self) -> Path:
        return self.scene.remote / "refs/heads/main"

    def head(self) -> str:
        return self.ref.read_text().strip()

    def read(self, name: str) -> tuple[bytes, bytes]:
        whole = zlib.decompress((self.scene.remote / "objects" / name[:2] / name[2:]).read_bytes())
        head, _, content = whole.partition(b"\0")
        return head.split(b" ")[0], content

    def rows(self, tree: str) -> Rows:
        found: Rows = {}
        rest = self.read(tree)[1]
        while rest:
            head, _, rest = rest.partition(b"\0")
            mode, _, name = head.partition(b" ")
            found[name] = (mode, rest[:20].hex())
            rest = rest[20:]
        return found

    def tree_of(self, commit: str) -> str:
        return self.read(commit)[1].split(b"\n")[0].split(b" ")[1].decode()

    def with_file(self, tree: str | None, parts: list[bytes], content: bytes) -> str:
        rows = self.rows(tree) if tree is not None else {}
        if len(parts) == 1:
            rows[parts[0]] = (b"100644", self.scene.object(b"blob", content))
        else:
            below = rows[parts[0]][1] if parts[0] in rows else None
            rows[parts[0]] = (b"40000", self.with_file(below, parts[1:], content))
        ordered = sorted(rows.items(), key=lambda row: row[0] + (b"/" if row[1][0] == b"40000" else b""))
        return self.scene.raw_tree([(mode, name, object_id) for name, (mode, object_id) in ordered])

    def file(self, commit: str, path: str) -> bytes:
        at = self.tree_of(commit)
        for part in path.encode().split(b"/"):
            at = self.rows(at)[part][1]
        return self.read(at)[1]

    def put(self, path: str, content: bytes, onto: str | None = None) -> str:
        """Push one edited file, onto the head or, rewriting the branch, onto an older commit."""
        before = self.head()
        base = onto or before
        self.number += 1
        self.scene.head = base
        tree = self.with_file(self.tree_of(base), path.encode().split(b"/"), content)
        made = self.scene.commit(tree, b"Foreign %d\n" % self.number, move=False)
        aside = self.ref.with_name("main.aside")
        aside.write_text(f"{made}\n")
        aside.rename(self.ref)
        self.pushed.append((before, made))
        return made

    def push(self) -> None:
        """Push something: elsewhere, in the same file, on the same line, or over the end of the history."""
        kind = self.chance.randrange(4)
        fresh = b"%d" % self.chance.randrange(10**9)
        head = self.head()
        if kind == 0:
            self.put("README", fresh + b"\n")
        elif kind == 1:
            self.put(PATH, self.file(head, PATH) + b"# " + fresh + b"\n")
        elif kind == 2:
            lines = self.file(head, PATH).split(b"\n")
            lines[4] = b"      timeout: " + fresh + b"s"
            self.put(PATH, b"\n".join(lines))
        else:
            parent = self.read(head)[1].split(b"\n")[1].split(b" ")[1].decode()
            self.put("README", fresh + b"\n", onto=parent)


# --- the watch ---------------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """Wraps the repository: lets the stranger push around one call, and holds every move of the branch to the promise."""

    inner: GitRepository
    stranger: Stranger
    when: tuple[int, bool] | None = None  # the number of a call, and whether the push comes after it
    calls: int = 0
    hit: str = ""
    ours: list[tuple[str, str]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    proposal: Proposal | None = None

    def __getattr__(self, name: str) -> Any:
        inside = getattr(self.inner, name)
        if not callable(inside):
            return inside

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if self.when == (self.calls, False):
                self.meddle(f"before {name}")
            seen = self.stranger.head()
            try:
                return inside(*arguments, **named)
            finally:
                self.look(seen, name)
                if self.when == (self.calls, True):
                    self.meddle(f"after {name}")

        return call

    def meddle(self, where: str) -> None:
        self.when, self.hit = None, where
        self.stranger.push()

    def look(self, seen: str, name: str) -> None:
        now = self.stranger.head()
        if now == seen:
            return
        self.ours.append((seen, now))
        kind, content = self.stranger.read(now)
        lines = content.split(b"\n")
        if name != "push" or kind != b"commit" or lines[1] != b"parent " + seen.encode():
            self.faults.append(f"{name} moved the branch from {seen} to {now}, which does not stand on it")
        if b"author ops-advisor <" not in content:
            self.faults.append(f"{now} is not ours")


@dataclass
class World:
    """A workflow on a remote that a stranger pushes to as well."""

    folder: Path
    chance: random.Random
    number: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.scene = Scene(self.folder)
        self.folder.mkdir(parents=True)
        self.scene.begin()
        self.scene.history()
        with (self.scene.remote / "config").open("a") as unpacked:  # the foreign hand reads loose objects and refs
            unpacked.write("[gc]\n\tauto = 0\n[receive]\n\tautogc = false\n")
        self.stranger = Stranger(self.scene, self.chance)
        settings = {
            "store": "sqlite:///state/advisor.db",
            "state_directory": "state",
            "repositories": {"config": {"url": "./remote.git"}},
            "services": {
                "checkout": {
                    "selector": 'job="checkout"',
                    "configuration": {"repository": "config", "paths": ["apps/checkout/**"]},
                }
            },
            "approval": {"approvers": [ALICE]},
        }
        (self.folder / "advisor.yaml").write_text(json.dumps(settings))
        (self.folder / "state").mkdir()
        self.workflow = Workflow(load_settings(self.folder / "advisor.yaml"))
        self.watch = Watch(self.workflow.repository("config"), self.stranger)
        self.workflow._repositories["config"] = cast(GitRepository, self.watch)

    def refs(self) -> dict[str, str]:
        """Return every ref of the remote but the branch."""
        lines = git(self.scene.remote, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return {name: value for name, _, value in (line.partition(" ") for line in lines) if name != "refs/heads/main"}

    def propose(self) -> Proposal:
        self.number += 1
        path = PATH
        draft = Draft(
            incident_id=f"inc-{self.number}",
            service="checkout",
            action=Action(type=ActionType.SET_VALUE, path=path, keys=(KEY,), values=(f"{self.number}m",)),
            risk=Risk.LOW,
            fixes_cause=True,
            summary="Sets the session timeout.",
            repository=RepositoryName(name="config", url="./remote.git"),
            branch="main",
            allowed_paths=("apps/checkout/**",),
            evidence_digest="sha256:" + "2" * 64,
            policy_version=self.workflow.settings.policy_version,
            verification=VerificationPlan(),
            proposer="engine",
        )
        name = f"pro-{self.number:010d}"
        made = build_proposal(self.watch, draft, name, f"nonce-{self.number:09d}", datetime.now(UTC))
        self.workflow.store.save_proposal(made)
        return made


def interleave(world: World, stage: str, call: int, after: bool) -> None:
    """Take one change there and back with one foreign push at a given place."""
    watch, stranger, workflow = world.watch, world.stranger, world.workflow
    stranger.put(PATH, BAD)
    first = len(stranger.pushed)

    def due(now: str) -> None:
        watch.calls, watch.when = 0, (call, after) if now == stage else None

    def moved() -> tuple[str, str] | None:
        return stranger.pushed[-1] if len(stranger.pushed) > first else None

    due("propose")
    proposal = world.propose()
    due("approve")
    try:
        change = workflow.approve(proposal.id, ALICE).change
    except ChangeConflict as conflict:
        push = moved()
        assert push is not None, f"refused although nobody pushed: {conflict}"
        assert proposal.base[:12] in str(conflict) and push[1][:12] in str(conflict), conflict
        assert stranger.head() == push[1], "something was applied on a moved base"
        world.seen["refused at approval"] += 1
        due("none")
        proposal = world.propose()  # a fresh one is one command away
        change = workflow.approve(proposal.id, ALICE).change
    assert change is not None and change.base == proposal.base
    watch.when = None
    if stage == "verify":
        watch.hit = "while it was watched"
        stranger.push()
    try:
        due("plan")
        plan = workflow.plan_rollback(change.id)
        due("rollback")
        workflow.roll_back(change.id, ALICE, plan=plan)
        world.seen["rolled back"] += 1
    except (ChangeConflict, ChangeRefused) as conflict:
        push = moved()
        assert push is not None, f"refused although nobody pushed: {conflict}"
        assert stranger.head() == push[1], "something was applied on a moved base"
        world.seen["refused at rollback"] += 1
        due("none")
        try:
            workflow.roll_back(change.id, ALICE)
            world.seen["rolled back afresh"] += 1
        except (ChangeConflict, ChangeRefused) as refusal:  # they wrote on the same line, or took our commit off
            words = (PATH, "is not on main", "is already without it")
            assert any(word in str(refusal) for word in words), refusal
            assert stranger.head() == push[1]
            world.seen["collides by name"] += 1
    watch.when = None
    world.seen[f"{stage} {watch.hit.split(' ')[0]}" if watch.hit else f"{stage} never"] += 1
    watch.hit = ""


def test_a_foreign_push_at_every_step_is_never_written_over(tmp_path: Path) -> None:
    chance = random.Random(5)
    world = World(tmp_path / "world", chance)
    world.scene.ref("refs/heads/release", world.scene.head)
    world.scene.ref("refs/tags/v1", world.scene.head)
    refs = world.refs()
    for number in range(INTERLEAVINGS):
        interleave(world, STAGES[number % len(STAGES)], chance.randrange(1, CALLS_MAX), chance.random() < 0.5)
        assert world.watch.faults == [], number
        assert world.refs() == refs, number
    assert world.refs() == refs
    # Between two of our moves the branch was where the stranger or we had left it: every move is accounted for.
    moves = {before: after for before, after in world.watch.ours}
    assert len(moves) == len(world.watch.ours)
    for stage in STAGES:
        assert sum(n for key, n in world.seen.items() if key.startswith(stage) and "never" not in key), world.seen
    for outcome in ("refused at approval", "rolled back", "refused at rollback", "rolled back afresh"):
        assert world.seen[outcome] >= INTERLEAVINGS / 60, world.seen
    world.workflow.audit_verify()
    world.watch.inner.close()
    world.workflow.store.close()


def test_the_watch_sees_a_branch_that_is_written_over(tmp_path: Path) -> None:
    """The monitor is of use only if it would find the fault: a commit that does not stand on what is there."""
    world = World(tmp_path / "world", random.Random(1))
    before = world.stranger.head()
    world.stranger.push()
    now = world.stranger.head()
    assert now != before
    world.watch.look(before, "push")
    assert world.watch.faults
    assert GOOD != BAD
