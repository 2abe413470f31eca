"""`python -m tests.proof [NAME…]`: runs the named proofs (all by default) at full size and writes the table of docs/proof.md.

Each proof is a part of the test suite; here it runs with ADVISOR_PROOF=1, which takes hours in all. A proof that was not run
keeps its line, so that one can be renewed alone. Exit code 1 where one fails.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "proof.md"
BEGIN, END = "<!-- proofs -->", "<!-- /proofs -->"


@dataclass(frozen=True)
class Proof:
    """One claim and the tests that hold it.

    Attributes:
        claim: What holds, at full size.
        tests: Arguments of pytest; empty for the mutation test.
    """

    claim: str
    tests: tuple[str, ...] = ()


PROOFS: dict[str, Proof] = {
    "state_machine": Proof(
        "1: nothing changes without a live, unused approval; 100,000 steps against a model",
        ("tests/test_state_machine.py",),
    ),
    "flips": Proof("2: any flipped byte is refused", ("tests/test_flips.py", "tests/test_signatures.py")),
    "model": Proof("3: whatever a model answers, nothing is written; 20,000 answers", ("tests/test_hostile_model.py",)),
    "races": Proof(
        "4: many approvers and workers, one winner; 500 rounds on SQLite and PostgreSQL", ("tests/test_races.py",)
    ),
    "crash": Proof("5: kill -9 at every named step, 50 times", ("tests/test_crash.py",)),
    "faults": Proof("5: the n-th write, fsync, rename, open, exec fails, for every n", ("tests/test_io_faults.py",)),
    "rollback": Proof("6: a rollback is exact or refused; 10,000 histories", ("tests/test_rollback_histories.py",)),
    "audit": Proof(
        "9: tampering with the audit is found; 10,000 tamperings",
        ("tests/test_tampering.py", "tests/test_audit.py", "tests/test_mirror.py"),
    ),
    "hostile": Proof(
        "1: hostile repositories run nothing and write nothing elsewhere", ("tests/test_hostile_repositories.py",)
    ),
    "foreign_push": Proof(
        "1: nothing is applied on a moved base; 1,000 interleavings", ("tests/test_foreign_push.py",)
    ),
    "authority": Proof("1: role × act × state as the table says", ("tests/test_authority.py",)),
    "grounding": Proof("3: made-up claims are found, true ones stand", ("tests/test_grounding.py",)),
    "mutation": Proof("the tests of the gate notice at least 95 % of its mutants"),
}


def run(name: str) -> tuple[bool, str, float]:
    """Return whether a proof held, its last line, and how long it took."""
    proof = PROOFS[name]
    command = [sys.executable, "-m", "pytest", "-q", "--timeout=14400", *proof.tests]
    if not proof.tests:
        command = [sys.executable, "-m", "tests.mutation"]
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ADVISOR_PROOF": "1", "ADVISOR_REQUIRE_REAL": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.strip().splitlines() if line.strip()]
    if done.returncode:
        sys.stderr.write("\n".join(lines[-40:]) + "\n")
    dots = sum(line.split("[")[0].count(".") for line in lines if re.fullmatch(r"[.sFEx]+(?: +\[ *\d+%\])?", line))
    told = f"{dots} tests" if proof.tests else (lines[-1] if lines else "nothing")
    return done.returncode == 0, told, time.monotonic() - began


def commit() -> str:
    """Return the commit that is tested."""
    done = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def lines_of(page: str) -> dict[str, str]:
    """Return the table's present lines, by the proof's name."""
    table = page.partition(BEGIN)[2].partition(END)[0]
    return {m[1]: line for line in table.splitlines() if (m := re.match(r"\| `(\w+)` \|", line))}


def main() -> int:
    """Run the proofs and write their table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROOFS))
    names = parser.parse_args().names or list(PROOFS)
    unknown = [name for name in names if name not in PROOFS]
    if unknown:
        parser.error(f"no proof {unknown[0]!r}; known: {', '.join(PROOFS)}")
    page = PAGE.read_text()
    lines = lines_of(page)
    failed = False
    for name in names:
        print(f"{name}: {PROOFS[name].claim} …", flush=True)
        held, told, seconds = run(name)
        failed |= not held
        when = f"{datetime.now(UTC):%Y-%m-%d}"
        lines[name] = (
            f"| `{name}` | {PROOFS[name].claim} | {'holds' if held else '**fails**'} | {told} | {seconds:.0f} s"
            f" | {commit()}, {when} |"
        )
        print(f"{name}: {'holds' if held else 'FAILS'}, {told}, {seconds:.0f} s", flush=True)
        table = ["| proof | what holds | last run | size | took | at |", "|---|---|---|---|---|---|"]
        table += [lines[one] for one in PROOFS if one in lines]
        before, _, rest = page.partition(BEGIN)
        page = before + BEGIN + "\n" + "\n".join(table) + "\n" + END + rest.partition(END)[2]
        PAGE.write_text(page)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
