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

from tests.mutation.mutants import mutants_of
from tests.mutation.running import ROOT, Case, preload, run_target
from tests.mutation.targets import EQUIVALENT, TARGETS

KILLED_MIN = 0.95


def cases_of(name: str) -> Iterator[Case]:
    """Return every mutant of a target that is not known to be equivalent."""
    for path in TARGETS[name].files:
        for mutant in mutants_of(path.read_text(), TARGETS[name].only):
            if mutant.name not in EQUIVALENT.get(name, {}):
                yield Case(name, path, mutant)


def told(case: Case) -> None:
    """Print a mutant that no test noticed."""
    if case.outcome == "survived":
        print(f"survived  {case.shown()}", flush=True)


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
    began, names = time.monotonic(), given.targets or list(TARGETS)
    cases = [case for name in names for case in cases_of(name)]
    every = len(cases)
    if given.sample is not None and given.sample < every:
        cases = random.Random(given.seed).sample(cases, given.sample)
    print(
        f"{'target':<12}{'mutants':>9}{'killed':>9}{'too slow':>10}{'survived':>10}{'listed':>8}{'seconds':>9}",
        flush=True,
    )
    for name in names:
        of_target, then = [case for case in cases if case.target == name], time.monotonic()
        if of_target:
            tests = [test for test in TARGETS[name].tests if (ROOT / test).exists()]
            run_target(of_target, tests, given.jobs, told)
        row = [sum(case.outcome == outcome for case in of_target) for outcome in ("killed", "too slow", "survived")]
        seconds = time.monotonic() - then
        counts = f"{len(of_target):>9}{row[0]:>9}{row[1]:>10}{row[2]:>10}{len(EQUIVALENT.get(name, {})):>8}"
        print(f"{name:<12}{counts}{seconds:>9.0f}", flush=True)
    survived = sum(case.outcome == "survived" for case in cases)
    share = 1 - survived / len(cases) if cases else 0.0
    seconds = time.monotonic() - began
    print(f"{len(cases)} of {every} mutants, {100 * share:.1f} % killed, {survived} survived, {seconds:.0f} s")
    return 0 if share >= KILLED_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
