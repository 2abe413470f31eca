"""What is mutated, which tests must notice, and which mutants change nothing that can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.mutation.running import ROOT


@dataclass(frozen=True)
class Target:
    """One part of the gate.

    Attributes:
        modules: Files or packages under the root.
        tests: Quick ones only: each mutant meets those that reach it.
        only: Functions, where the rest of a module is no part of the gate.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    only: frozenset[str] = frozenset()

    @property
    def files(self) -> list[Path]:
        """Return the files to mutate, of whatever shape the part has: a module, or a package of some."""
        found: list[Path] = []
        for name in self.modules:
            place = ROOT / name
            found += sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        return [path for path in found if path.exists()]


EXTRA = "tests/test_gate_mutants.py"
TARGETS: dict[str, Target] = {
    "audit": Target(("advisor/audit",), ("tests/test_audit.py", EXTRA)),
    "lifecycle": Target(("advisor/lifecycle",), ("tests/test_lifecycle.py", EXTRA)),
    "mirror": Target(("advisor/store/mirror",), ("tests/test_mirror.py", EXTRA)),
    "bound": Target(("advisor/store/bound",), ("tests/test_tampering.py", EXTRA)),
    "approval": Target(("advisor/approval",), ("tests/test_approval.py", "tests/test_signatures.py", EXTRA)),
    "change": Target(("advisor/change",), ("tests/test_change.py", "tests/test_delivery.py", EXTRA)),
    "rollback": Target(("advisor/rollback",), ("tests/test_rollback.py", "tests/test_rollback_lost.py", EXTRA)),
    "digest": Target(
        ("advisor/proposal/__init__",), ("tests/test_proposal.py", EXTRA), frozenset({"digest_of", "Proposal"})
    ),
}

# Named by target and mutant; each with the reason why no test can tell it from the right one.
EQUIVALENT: dict[str, dict[str, str]] = {
    "audit": {
        "export_lines: 1000 -> 1001 (2)": "an instant is written in milliseconds: .999999 and .999 are the same text",
    },
}
