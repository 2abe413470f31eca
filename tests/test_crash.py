"""kill -9 at each durable step between a proposal and its rollback, then a restart: none lost, none twice, none stuck.

The steps and what follows a crash at each stand in docs/recovery.md. Every round of a step restarts in another way:
`advisor recover`, the same command typed again, two recoveries side by side, a second kill at the same step while
recovering, and somebody else's push in between. ``ADVISOR_PROOF=1`` runs 50 rounds instead of 5.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.crash import PROPOSAL, Driver, Shop, Told, Trap, new_shop
from tests.support.gate import BAD, GOOD

ROUNDS = 50 if os.environ.get("ADVISOR_PROOF") == "1" else 5
WORKERS = 2
RECOVERY_SECONDS_MAX = 5.0  # where there are as many processors as work; else in proportion
IN_FLIGHT = {"granted", "delivering", "uncertain", "rolling_back"}
ON_BRANCH = {"delivered", "verifying", "passed", "failed", "inconclusive", "error"}
PAGE = Path(__file__).parent.parent / "docs" / "recovery.md"


@dataclass(frozen=True)
class Step:
    """A place where the process ends.

    Attributes:
        name: As docs/recovery.md calls it.
        command: Which command is under way.
        at: A trap in the process; else the name of a hook of the remote.
    """

    name: str
    command: str
    at: Trap | str
    kill_git: bool = False
    slow: bool = False
    only: str = ""


def _at(point: str, when: str = "before", nth: int = 1) -> Trap:
    return Trap(point, when, nth)


STEPS = (
    # The first command of all, up to the proposal on record.
    Step("key written aside", "propose", _at("file fsync signing.key", "after")),
    Step("key in its place", "propose", _at("file link signing.key", "after")),
    Step("tables half made", "propose", _at("sql CREATE TABLE audit", "after")),
    Step("mirror made, nothing in it", "propose", _at("file pwrite audit-head")),
    Step("clone begun", "propose", _at("git clone", "during")),
    Step("clone made aside", "propose", _at("file rename clone")),
    Step("tree being written", "propose", _at("git hash-object", "during")),
    Step("way back rehearsed", "propose", _at("git commit-tree", "after")),
    Step("report on record", "propose", _at("store save_investigation", "after")),
    Step("recording written aside", "propose", _at("file replace tapes")),
    Step("proposal half on record", "propose", _at("sql INSERT INTO proposals", "after")),
    # A yes, and its delivery.
    Step("answer not on record", "approve", _at("store record_answer")),
    Step("answer half on record", "approve", _at("sql INSERT INTO answers", "after")),
    Step("answer on record, mirror behind", "approve", _at("file pwrite audit-head")),
    Step("granted, nothing begun", "approve", _at("store record_answer", "after")),
    Step("commit being made", "approve", _at("git commit-tree", "during")),
    Step("commit made, no intent", "approve", _at("store begin_delivery")),
    Step("undo journal written, no intent", "approve", _at("file fsync journal", "after")),
    Step("intent half on record", "approve", _at("sql INSERT INTO changes", "after")),
    Step("intent on record", "approve", _at("store begin_delivery", "after")),
    Step("push started", "approve", _at("git push", "during")),
    Step("remote asked, advisor dead", "approve", "update"),
    Step("remote asked, git dead too", "approve", "update", kill_git=True),
    Step("remote holds the branch", "approve", "reference-transaction", slow=True, only="prepared"),
    Step("branch moved, nobody told", "approve", "post-receive", kill_git=True),
    Step("branch moved, told to git only", "approve", "post-receive", slow=True),
    Step("push done", "approve", _at("git push", "after")),
    Step("outcome half on record", "approve", _at("sql UPDATE changes", "after")),
    Step("outcome on record, mirror behind", "approve", _at("file fsync audit-head", "before", 3)),
    Step("outcome on record, undo journal behind", "approve", _at("file write journal", "before", 2)),
    # Looking whether it helped.
    Step("verification begun", "verify", _at("store begin_verification", "after")),
    Step("verdict half on record", "verify", _at("sql INSERT INTO verifications", "after")),
    # Taking it back.
    Step("rollback not on record", "rollback", _at("store begin_rollback")),
    Step("rollback half on record", "rollback", _at("sql INSERT INTO answers", "after")),
    Step("rollback granted", "rollback", _at("store begin_rollback", "after")),
    Step("rollback intent on record", "rollback", _at("store begin_delivery", "after")),
    Step("rollback push started", "rollback", _at("git push", "during")),
    Step("rollback on the branch", "rollback", "post-receive", kill_git=True),
    Step("rollback outcome half on record", "rollback", _at("sql UPDATE changes", "after")),
    Step("rollback done", "rollback", _at("store record_outcome", "after")),
)
BY_NAME = {step.name: step for step in STEPS}


@dataclass(frozen=True)
class World:
    """Shops to copy, one for each command to be killed in, and the drivers."""

    folder: Path
    stages: dict[str, Shop]
    local: threading.local

    def driver(self) -> Driver:
        driver: Driver = self.local.driver
        return driver


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("crash")
    driver = Driver()
    stages = {"propose": new_shop(folder / "propose")}
    for done, then in (("propose", "approve"), ("approve", "verify")):
        stages[then] = stages[done].copy(folder / then)
        told = driver.ask(stages[then].folder, done)
        assert told.code == 0, told.err
    stages["rollback"] = stages["verify"]
    driver.close()
    yield World(folder, stages, threading.local())


@pytest.fixture(scope="module")
def told(world: World, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[float]]]:
    drivers: list[Driver] = []

    def begin() -> None:
        world.local.driver = Driver()
        drivers.append(world.local.driver)

    wanted = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    with ThreadPoolExecutor(WORKERS, initializer=begin) as pool:
        yield {step.name: pool.submit(run_step, world, step) for step in STEPS if step.name in wanted}
    for driver in drivers:
        driver.close()


@pytest.mark.parametrize("name", [step.name for step in STEPS])
def test_killed_at_a_step_the_restart_leaves_exactly_one_change(name: str, told: dict[str, Future[float]]) -> None:
    slowest = told[name].result()
    crowding = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert slowest < RECOVERY_SECONDS_MAX * crowding


def run_step(world: World, step: Step) -> float:
    """Kill at a step in each of its rounds and judge what the restart made of it; return the slowest recovery."""
    slowest = 0.0
    for number in range(ROUNDS):
        shop = world.stages[step.command].copy(world.folder / f"{re.sub('[^a-z]+', '-', step.name)}-{number}")
        case = Case(shop, step, world.driver(), number)
        slowest = max(slowest, case.run())
    return slowest


class Case:
    """One kill, one restart, and the judgement."""

    def __init__(self, shop: Shop, step: Step, driver: Driver, number: int) -> None:
        self.shop = shop
        self.step = step
        self.driver = driver
        self.number = number
        self.slowest = 0.0

    def run(self) -> float:
        assert self.kill(self.step.command).killed, f"{self.told()}: the step is not reached any more"
        time.sleep(0.01 * (self.number // 5))  # git may have outlived its parent: each time it is further
        way = (self.recover, self.type_again, self.recover_twice, self.kill_again, self.somebody_pushed)[
            self.number % 5
        ]
        way()
        self.judge()
        return self.slowest

    def told(self) -> str:
        return f"step {self.step.name!r}, round {self.number}"

    def kill(self, command: str) -> Told:
        if isinstance(self.step.at, Trap):
            return self.driver.ask(self.shop.folder, command, trap=self.step.at)
        self.shop.hook(self.step.at, self.step.kill_git, self.step.slow, self.step.only)
        return self.driver.ask(self.shop.folder, command)

    # --- ways to restart ---

    def recover(self) -> None:
        self.timed("recover")

    def type_again(self) -> None:
        self.timed(self.step.command)

    def recover_twice(self) -> None:
        for answer in self.driver.run(self.shop.folder, "recover", times=2):
            self.keep(answer)
        self.timed("recover")  # what one of the two left to the other

    def kill_again(self) -> None:
        self.kill("recover")  # where recovering does not come by that step it just recovers
        for hook in self.shop.remote.glob("hooks/*"):
            hook.unlink()
        self.timed("recover")

    def somebody_pushed(self) -> None:
        time.sleep(0.5 if self.step.slow else 0.1)  # a git that outlived its parent has its turn first
        for attempt in range(50):
            try:
                self.shop.foreign_push()
                break
            except subprocess.CalledProcessError:  # the branch is locked by a git that outlived its parent
                assert attempt < 49, f"{self.told()}: the branch stays locked"
                time.sleep(0.1)
        self.timed("recover")

    def timed(self, command: str) -> Told:
        return self.keep(self.driver.ask(self.shop.folder, command))

    def keep(self, answer: Told) -> Told:
        assert "Traceback" not in answer.err and "a fault of ours" not in answer.err, f"{self.told()}: {answer.err}"
        assert answer.code in (0, 1, 4), f"{self.told()}: {answer.code} {answer.err}"
        self.slowest = max(self.slowest, answer.seconds)
        return answer

    # --- judgement ---

    def judge(self) -> None:
        if self.step.command == "propose":
            assert self.timed("propose").code == 0, self.told()
        found = self.inspect()
        proposals = found["proposals"]
        states = {p["state"] for p in proposals.values()}
        assert not states & IN_FLIGHT, f"{self.told()}: stuck, {proposals}"
        # What was on record as granted before the crash needs no second word of a person.
        rollbacks = [p for p in proposals.values() if p["rolls_back"]]
        if self.step.command == "approve" and found["approvals"]:
            self.expect(proposals[PROPOSAL]["state"] in ON_BRANCH or self.moved_on(proposals[PROPOSAL]), proposals)
        if rollbacks:
            ended = [p for p in rollbacks if p["state"] in ON_BRANCH]
            self.expect(len(ended) == 1 or all(self.moved_on(p) for p in rollbacks), proposals)
        self.finish(found)
        fault = self.shop.fault()
        assert not fault, f"{self.told()}: {fault}"
        assert not self.locks(), f"{self.told()}: {self.locks()}"

    def moved_on(self, proposal: dict[str, Any]) -> bool:
        """Return whether a proposal was rightly set aside because somebody else's push came first."""
        return self.number % 5 == 4 and proposal["state"] in ("superseded", "conflict")

    def finish(self, before: dict[str, Any]) -> None:
        """Type the command again; whatever the crash left, it ends in exactly one change."""
        command = self.step.command
        again = self.timed("approve" if command == "propose" else command)
        found = self.inspect()
        state = found["proposals"][PROPOSAL]["state"]
        changes, rollbacks = self.shop.commits(f"Proposal: {PROPOSAL} "), self.shop.commits("Rolls-back: ")
        self.expect(again.code in ((1,) if command == "verify" else (0, 4)), again.err)
        if command in ("propose", "approve"):
            moved = self.number % 5 == 4 and state in ("superseded", "conflict")
            self.expect(len(changes) == (0 if moved else 1) and not rollbacks, found)
            self.expect(moved or state == "delivered", found)
            self.expect(self.shop.text() == (BAD if moved else GOOD), found)
        elif command == "verify":
            self.expect((len(changes), len(rollbacks), state) == (1, 0, "error"), found)
        else:
            self.expect((len(changes), len(rollbacks), state) == (1, 1, "rolled_back"), found)
            self.expect(self.shop.text() == BAD, found)
        delivered = [c["commit"] for c in found["changes"].values() if c["state"] in (*ON_BRANCH, "rolled_back")]
        self.expect(sorted(delivered) == sorted(changes + rollbacks), found)  # the records say what the branch says

    def expect(self, holds: bool, found: object) -> None:
        assert holds, f"{self.told()}: {found}"

    def inspect(self) -> dict[str, Any]:
        answer = self.driver.ask(self.shop.folder, "inspect")
        assert answer.code == 0, f"{self.told()}: {answer.err}"  # the audit verifies as well
        found: dict[str, Any] = json.loads(answer.out)
        return found

    def locks(self) -> list[str]:
        clone = self.shop.clone
        return [p.name for p in clone.rglob("*.lock")] if clone is not None and self.step.command != "verify" else []


def test_every_step_is_explained_where_people_look() -> None:
    page = PAGE.read_text("utf-8")
    for step in STEPS:
        assert f"| {step.name} |" in page, step.name
    assert len(STEPS) >= 26
