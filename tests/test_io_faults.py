"""The n-th system call of a kind fails, in the advisor and in every git it starts: no silent success, nothing half-done.

strace makes the calls fail; the command is the real `advisor approve` on a real repository. After each the fault is
gone and the command is typed again. ``ADVISOR_PROOF=1`` tries every n until a run without a fault.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.crash import PROPOSAL, Driver, Fault, Shop, Told, new_shop
from tests.support.gate import BAD, GOOD
from tests.support.prometheus import require_programs

PROOF = os.environ.get("ADVISOR_PROOF") == "1"
WORKERS = 2
NTH_MAX = 400  # far beyond what a process of one approval makes of any of these calls
CLEAN_RUNS = 3  # of different processes each counts for itself: one n without a fault could be chance
ON_BRANCH = {"delivered", "verifying", "passed", "failed", "inconclusive", "error"}


@dataclass(frozen=True)
class Kind:
    """One sort of fault, and which of its calls are tried in the usual run.

    The spread has the first ones, where things are opened, and those around the push and its record.
    """

    calls: str
    error: str
    sample: tuple[int, ...]


KINDS = (
    Kind("write", "EIO", (1, 3, 8)),
    Kind("write", "ENOSPC", (1, 2, 5, 13)),
    Kind("write", "EINTR", (1, 4)),
    Kind("pwrite64", "EIO", (2, 21, 37)),
    Kind("pwrite64", "ENOSPC", (12, 30, 48)),
    Kind("fsync", "EIO", (1, 3, 5)),
    Kind("fsync", "ENOSPC", (2,)),
    Kind("fdatasync", "EIO", (1, 2, 3)),
    Kind("fdatasync", "EINTR", (1,)),
    Kind("rename", "EIO", (1,)),
    Kind("rename", "ENOSPC", (1,)),
    Kind("link,linkat", "EIO", (1,)),
    Kind("openat", "EMFILE", (2, 9, 24, 41)),
    Kind("openat", "EIO", (5, 17)),
    Kind("openat", "ENOSPC", (12,)),
    Kind("openat", "EINTR", (3,)),
    Kind("execve", "EIO", (1, 4)),
    Kind("execve", "EMFILE", (2, 7)),
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Kind, Future[int]]]:
    need_tracing(tmp_path_factory.mktemp("tracing"))
    folder = tmp_path_factory.mktemp("faults")
    local, drivers = threading.local(), []
    shop = new_shop(folder / "shop")

    def begin() -> None:
        local.driver = Driver()
        drivers.append(local.driver)

    def run(kind: Kind) -> int:
        return run_kind(local.driver, shop, folder, kind)

    with ThreadPoolExecutor(WORKERS, initializer=begin) as pool:
        proposed = pool.submit(lambda: local.driver.ask(shop.folder, "propose")).result()
        assert proposed.code == 0, proposed.err
        yield {kind: pool.submit(run, kind) for kind in KINDS}
    for driver in drivers:
        driver.close()


def need_tracing(folder: Path) -> None:
    require_programs("strace")
    probe = subprocess.run(
        ["strace", "-o", str(folder / "probe"), "-e", "inject=fsync:error=EIO", "true"], capture_output=True, timeout=30
    )
    if probe.returncode != 0:
        reason = "strace may not trace here (ptrace)"
        if os.environ.get("ADVISOR_REQUIRE_REAL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.calls}-{kind.error}")
def test_a_failing_call_is_said_and_leaves_nothing_half_done(kind: Kind, told: dict[Kind, Future[int]]) -> None:
    assert told[kind].result() > 0, "no call of this kind was made at all"


def run_kind(driver: Driver, shop: Shop, folder: Path, kind: Kind) -> int:
    """Let one call after the other fail, judge each, and return how many did."""
    failed = clean = 0
    for nth in range(1, NTH_MAX) if PROOF else kind.sample:
        copy = shop.copy(folder / f"{kind.calls}-{kind.error}-{nth}")
        case = Case(driver, copy, Fault(kind.calls, kind.error, nth))
        if case.run():
            failed, clean = failed + 1, 0
        else:
            clean += 1
        shutil.rmtree(copy.folder)
        if PROOF and clean >= CLEAN_RUNS:
            return failed
    assert not PROOF, f"{kind}: no run without a fault up to {NTH_MAX}"
    return failed


class Case:
    """One fault in one approval, and the judgement."""

    def __init__(self, driver: Driver, shop: Shop, fault: Fault) -> None:
        self.driver = driver
        self.shop = shop
        self.fault = fault
        self.told = ""

    def run(self) -> bool:
        answer = self.driver.ask(self.shop.folder, "approve", fault=self.fault)
        self.told = f"{self.fault}: exit {answer.code}, said {answer.err!r}"
        stands = len(self.shop.commits(f"Proposal: {PROPOSAL} "))
        self.check_words(answer)
        self.check_code(answer, stands)
        fault = self.shop.fault()
        assert not fault, f"{self.told}: {fault}"
        self.repeat()
        return answer.injected

    def check_words(self, answer: Told) -> None:
        assert answer.code in (0, 1, 2, 4, 5), self.told
        assert "Traceback" not in answer.err and "a fault of ours" not in answer.err, self.told
        assert all(line.startswith("advisor: ") and line.isprintable() for line in answer.err.splitlines()), self.told
        if answer.code != 0:
            assert answer.err or self.could_not_speak(2), f"{self.told}: it failed and said nothing"

    def check_code(self, answer: Told, stands: int) -> None:
        assert stands <= 1, f"{self.told}: {stands} commits"
        assert self.shop.text() == (GOOD if stands else BAD), self.told
        if answer.code == 0:
            assert stands == 1 and self.state() in ON_BRANCH, f"{self.told}: a silent success"
        elif stands:
            # The change stands and the command failed: it said that it cannot tell, or could not say anything.
            assert answer.code == 5 or self.could_not_speak(1) or self.could_not_speak(2), self.told

    def could_not_speak(self, descriptor: int) -> bool:
        log = (self.shop.folder / "strace.txt").read_text("utf-8", "replace")
        return any(f"write({descriptor}, " in line and "INJECTED" in line for line in log.splitlines())

    def repeat(self) -> None:
        again = self.driver.ask(self.shop.folder, "approve")
        assert again.code == 0 or (again.code == 4 and self.state() in ON_BRANCH), f"{self.told}; then {again.err!r}"
        assert len(self.shop.commits(f"Proposal: {PROPOSAL} ")) == 1 and self.shop.text() == GOOD, self.told
        assert self.state() == "delivered", f"{self.told}; then {self.state()}"
        fault = self.shop.fault()
        assert not fault, f"{self.told}: {fault}"

    def state(self) -> str:
        inspected = self.driver.ask(self.shop.folder, "inspect")
        assert inspected.code == 0, f"{self.told}; then {inspected.err}"
        found: dict[str, Any] = json.loads(inspected.out)
        return str(found["proposals"][PROPOSAL]["state"])
