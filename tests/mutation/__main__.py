"""`python -m tests.mutation [TARGET…] [--sample N] [--seed N]`: prints what survived, by file and line.

Exit code 1 where fewer than 95 % of the mutants are killed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.running import FIRST_TESTS, ROOT, SECONDS_MIN, Reach, Run, measure, preload
from tests.mutation.targets import EQUIVALENT, TARGETS, Target

KILLED_MIN = 0.95


@dataclass(frozen=True)
class Case:
    """A mutant and what it meets."""

    target: str
    path: Path
    mutant: Mutant
    tests: tuple[str, ...]
    limit_seconds: float

    @property
    def module(self) -> str:
        """Return the module's name."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def shown(self) -> str:
        """Return file, line and change."""
        return f"{self.path.relative_to(ROOT)}:{self.mutant.line}: {self.mutant.name}"


def cases_of(name: str, target: Target) -> Iterator[Case]:
    """Return every mutant of a target that is not known to be equivalent, with the tests that reach it."""
    tests = [test for test in target.tests if (ROOT / test).exists()]
    for path in target.files:
        found = mutants_of(path.read_text(), target.only)
        if not found:
            continue
        reach = measure(path, tests)
        for mutant in found:
            if mutant.name in EQUIVALENT.get(name, {}):
                continue
            yield Case(name, path, mutant, _tests_for(mutant, reach, tests), SECONDS_MIN + 4 * reach.seconds)


def _tests_for(mutant: Mutant, reach: Reach, tests: list[str]) -> tuple[str, ...]:
    reached = reach.of(mutant.line, mutant.last_line)
    if not reached:
        return tuple(tests)  # a line that runs on import: any test may notice
    return reached[:FIRST_TESTS]


def run_all(cases: list[Case], at_once: int) -> dict[str, list[Case]]:
    """Return the cases by outcome."""
    outcomes: dict[str, list[Case]] = {"killed": [], "too slow": [], "survived": []}
    waiting, running = list(reversed(cases)), []
    while waiting or running:
        while waiting and len(running) < at_once:
            case = waiting.pop()
            running.append((case, Run(case.module, case.path, case.mutant.tree, case.tests, case.limit_seconds)))
        for case, run in list(running):
            outcome = run.outcome()
            if outcome is not None:
                running.remove((case, run))
                outcomes[outcome].append(case)
                if outcome == "survived":
                    print(f"survived  {case.shown()}", flush=True)
        time.sleep(0.005)
    return outcomes


def main() -> int:
    """Run the mutants of the named targets and say what became of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--sample", type=int, help="this many of them, chosen by chance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    unknown = [name for name in given.targets if name not in TARGETS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no target; there are {', '.join(TARGETS)}")
    preload()
    began = time.monotonic()
    cases = [case for name in given.targets or TARGETS for case in cases_of(name, TARGETS[name])]
    every = len(cases)
    if given.sample is not None and given.sample < every:
        cases = random.Random(given.seed).sample(cases, given.sample)
    outcomes = run_all(cases, given.jobs)
    survived, count = len(outcomes["survived"]), len(cases)
    share = 1 - survived / count if count else 0.0
    print(f"\n{'target':<12}{'mutants':>9}{'killed':>9}{'too slow':>10}{'survived':>10}{'listed':>8}")
    for name in given.targets or TARGETS:
        row = {outcome: sum(case.target == name for case in found) for outcome, found in outcomes.items()}
        total, known = sum(row.values()), len(EQUIVALENT.get(name, {}))
        print(f"{name:<12}{total:>9}{row['killed']:>9}{row['too slow']:>10}{row['survived']:>10}{known:>8}")
    seconds = time.monotonic() - began
    print(f"{count} of {every} mutants, {100 * share:.1f} % killed, {survived} survived, {seconds:.0f} s")
    return 0 if count and share >= KILLED_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
