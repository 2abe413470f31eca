"""A sample of the mutants in the default run; `python -m tests.mutation` runs all of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.mutation.mutants import mutants_of
from tests.mutation.running import ROOT

SAMPLE = 60
SOURCE = '''
LIMIT = 3


def check(number: int, names: list[str]) -> bool:
    """Return whether it may pass."""
    if number > LIMIT and names:
        raise ValueError("too many")
    return not any(name == "x" for name in names)
'''


@pytest.mark.timeout(900)
def test_nearly_every_sampled_mutant_is_killed() -> None:
    command = [sys.executable, "-m", "tests.mutation", "audit", "lifecycle", "--sample", str(SAMPLE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=880, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SAMPLE} of " in done.stdout


def test_mutants_are_the_wrong_versions_one_would_think_of() -> None:
    assert [mutant.name for mutant in mutants_of(SOURCE)] == [
        "module: 3 -> 4",
        "check: if number > LIMIT and names -> not",
        "check: number > LIMIT and names -> Or",
        "check: number > LIMIT and names without part 1",
        "check: number > LIMIT and names without part 2",
        "check: number > LIMIT -> GtE",
        "check: number > LIMIT -> LtE",
        "check: raise ValueError('too many') -> pass",
        "check: return not any((name == 'x' for name in names)) -> None",
        "check: not any((name == 'x' for name in names)) -> without not",
        "check: any((name == 'x' for name in names)) -> all",
        "check: name == 'x' -> NotEq",
    ]


def test_each_mutant_differs_from_the_source_and_compiles() -> None:
    import ast

    plain = ast.unparse(ast.parse(SOURCE))
    texts = [ast.unparse(mutant.tree) for mutant in mutants_of(SOURCE)]
    assert plain not in texts and len(set(texts)) == len(texts)
    for mutant in mutants_of(SOURCE):
        compile(mutant.tree, "mutant", "exec")
