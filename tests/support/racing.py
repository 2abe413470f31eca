"""People and workers as processes of their own, let loose at one instant on one store; `test_races` judges what they say.

Each process takes part in all rounds. In a round it plays what the round's cast gives it: approve, deny, let run out, or
deliver and then roll back. The repository is a branch in a file that all of them see, moved by compare-and-swap and
remembering every move. Nothing in here decides who was right.
"""

from __future__ import annotations

import fcntl
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from advisor.approval import Answer, Choice, Resolution, decide, expire, grant, people_needed
from advisor.change import deliver
from advisor.errors import AdvisorError, ChangeConflict
from advisor.lifecycle import ON_BRANCH, State
from advisor.proposal import Proposal
from advisor.rollback import plan_rollback, roll_back
from advisor.settings import ApprovalRules
from advisor.store import Store
from advisor.values import Risk
from tests.support.gate import KEY, NOW, POLICY, FakeRepository, fake_with_cause, propose, revert_action

PEOPLE = 32
LATER = NOW + timedelta(minutes=5)
EXPIRED = NOW + timedelta(minutes=30)
BARRIER_SECONDS = 120.0
PATIENCE_SECONDS = 60.0  # for a state that others bring about; a loaded machine is slow, not wrong
LOOK_SECONDS = 0.01  # between two looks
VAIN_SECONDS = 0.05  # how long workers look for an approval that never comes
APPROVERS = tuple(f"person{number:02d}@example.org" for number in range(PEOPLE))
ALICE, BOB = APPROVERS[0], APPROVERS[1]
RULES = ApprovalRules(approvers=APPROVERS)

# The same in every process; the trees of proposal and rollback are known from here on.
REPOSITORY, CAUSE = fake_with_cause()
propose(REPOSITORY, revert_action(CAUSE))

APPROVE, DENY, EXPIRE, DELIVER, WORK = "approve", "deny", "expire", "deliver", "work"


@dataclass(frozen=True)
class Part:
    """What one process does in a round, and as whom."""

    role: str
    person: str = ""


@dataclass(frozen=True)
class Said:
    """What became of one step of one process: ``won`` with the new state, or ``lost`` with what it was told."""

    step: str
    person: str
    won: bool
    told: str
    error: str = ""


def crowd(number: int) -> list[Part]:
    """Twenty-four approve, one denies, one lets it run out, six deliver, three of these roll back."""
    return turned([*people(APPROVE, 0, 24), *people(DENY, 24, 25), Part(EXPIRE), *workers()], number)


def mixed(number: int) -> list[Part]:
    """As many deny as approve, four let it run out."""
    parts = [*people(APPROVE, 0, 11), *people(DENY, 11, 22), *[Part(EXPIRE)] * 4]
    return turned([*parts, *workers()], number)


def two_people(number: int) -> list[Part]:
    """Two people, each thirteen times at once, where two are needed."""
    parts = [Part(APPROVE, spelled(person, n)) for person in (ALICE, BOB) for n in range(13)]
    return turned([*parts, *workers()], number)


def one_of_two(number: int) -> list[Part]:
    """One person, twenty-six times at once, where two are needed; the workers wait in vain."""
    return turned([*(Part(APPROVE, spelled(ALICE, n)) for n in range(26)), *workers()], number)


def workers() -> list[Part]:
    return [*people(WORK, 0, 3), *people(DELIVER, 3, 6)]


def people(role: str, first: int, last: int) -> list[Part]:
    return [Part(role, person) for person in APPROVERS[first:last]]


CASTS = {"crowd": crowd, "mixed": mixed, "two_people": two_people, "one_of_two": one_of_two}


def spelled(person: str, number: int) -> str:
    """Return a name as somebody might write it who wants to count twice."""
    return (person, person.upper(), f" {person} ")[number % 3]


def turned(parts: list[Part], number: int) -> list[Part]:
    """Give each process another part in each round: a place in the queue is no privilege."""
    assert len(parts) == PEOPLE
    at = number * 7 % PEOPLE
    return parts[at:] + parts[:at]


def proposal_of(cast: str, number: int) -> Proposal:
    """Return the proposal of a round."""
    risk = Risk.HIGH if cast in ("two_people", "one_of_two") else Risk.LOW
    return propose(REPOSITORY, revert_action(CAUSE), number, risk=risk)


class SharedBranch(FakeRepository):
    """A repository whose branch is a file: one line for each commit that ever stood on it."""

    def __init__(self, known: FakeRepository, cause: str, file: Path) -> None:
        super().__init__(commits=dict(known.commits), trees=known.trees)
        self.file = file
        with self._open() as lines:
            if not lines:
                self._append(cause)

    def head(self) -> str:
        with self._open() as lines:
            return lines[-1]

    def push(self, commit: str, expected_base: str) -> None:
        with self._open() as lines:
            if commit in lines:
                return
            if lines[-1] != expected_base:
                raise ChangeConflict("the branch is elsewhere")
            self._append(commit, *self.commits[commit])

    def is_delivered(self, commit: str) -> bool | None:
        with self._open() as lines:
            return commit in lines

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        with self._open() as lines:
            return ancestor in lines and descendant in lines and lines.index(ancestor) <= lines.index(descendant)

    @property
    def history(self) -> list[str]:
        with self._open() as lines:
            return list(lines)

    @contextmanager
    def _open(self) -> Iterator[list[str]]:
        with self.file.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            commits = []
            for line in file.read().splitlines():
                commit, *known = line.split()
                commits.append(commit)
                if known:
                    self.commits[commit] = (known[0], known[1])
            yield commits

    def _append(self, commit: str, tree: str = "", parent: str | None = "") -> None:
        with self.file.open("a") as file:  # the lock is held by `_open`
            file.write(f"{commit} {tree} {parent}".rstrip() + "\n")


@dataclass(frozen=True)
class Scene:
    """Where they play. A password is handed over: the processes do not begin with the environment of the test."""

    url: str
    folder: Path
    cast: str
    rounds: int
    mirror: Path | None = None
    password: str | None = None

    def open_store(self) -> Store:
        return Store.open(self.url, KEY, password=self.password, mirror_folder=self.mirror)

    def branch(self, number: int) -> SharedBranch:
        return SharedBranch(REPOSITORY, CAUSE, self.folder / f"{number}.branch")


def play(scene: Scene, index: int, barrier: Barrier, results: Any) -> None:
    """Take part in all rounds; whatever happens is reported, nothing is raised."""
    try:
        store = scene.open_store()
        for number in range(scene.rounds):
            part = CASTS[scene.cast](number)[index]
            proposal = store.proposal(f"prop-{number:04d}")
            works = part.role in (WORK, DELIVER)
            answer, needed = None if works else answer_of(proposal, part, index), people_needed(proposal, RULES)
            barrier.wait(BARRIER_SECONDS)
            if answer is not None:
                said = [attempt(part.role, part.person, partial(store.record_answer, answer, needed))]
            else:
                patience = VAIN_SECONDS if scene.cast == "one_of_two" else PATIENCE_SECONDS
                said = work(store, scene.branch(number), proposal, part, index, patience)
            results.put((number, said))
        store.close()
    except BaseException:  # noqa: BLE001 - the judge wants to know of whatever it was
        barrier.abort()
        results.put((-1, [Said("crash", "", False, traceback.format_exc())]))


def answer_of(proposal: Proposal, part: Part, index: int) -> Resolution:
    if part.role == EXPIRE:
        return expire(proposal, (), EXPIRED)  # the clock of this one stands half an hour ahead
    said = Answer(
        choice=Choice.APPROVE if part.role == APPROVE else Choice.DENY,
        digest=proposal.digest,
        person=part.person,
        comment=f"from process {index}",
    )
    return decide(proposal, said, RULES, POLICY, (), NOW, KEY)


def attempt(step: str, person: str, action: Any) -> Said:
    try:
        return Said(step, person, True, str(action()))
    except AdvisorError as error:
        return Said(step, person, False, str(error), type(error).__name__)


def work(store: Store, branch: SharedBranch, proposal: Proposal, part: Part, index: int, patience: float) -> list[Said]:
    """Deliver as soon as it is answered, then take it back, if that is the part."""
    person = part.person
    deadline = time.monotonic() + patience
    while store.state_of(proposal.id) is State.PROPOSED and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)

    def delivered() -> str:
        granted = grant(proposal, store.answers(proposal.id), RULES, POLICY, LATER, KEY)
        return deliver(branch, store, proposal, granted, LATER).id

    said = [attempt("deliver", person, delivered)]
    if part.role == DELIVER:
        return said
    deadline = time.monotonic() + PATIENCE_SECONDS
    while store.state_of(proposal.id) in (State.GRANTED, State.DELIVERING) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    change = store.change_of(proposal.id)
    if change is None or store.state_of(proposal.id) not in (*ON_BRANCH, State.ROLLING_BACK, State.ROLLED_BACK):
        return said

    def taken_back() -> str:
        plan = plan_rollback(
            branch,
            change,
            change.commit,  # as everybody saw it who looked before the first rollback
            proposal_id=f"roll-{proposal.id}-{index:02d}",
            nonce=f"{os.getpid()}",
            evidence_digest="sha256:0",
            policy_version=POLICY,
            now=LATER,
        )
        done = roll_back(
            branch, store, change, plan, person=person, rules=RULES, policy_version=POLICY, now=LATER, key=KEY
        )
        return done.id

    return [*said, attempt("roll back", person, taken_back)]
