"""Runs the tests of a module against one mutant after another, each in a forked process with a time limit.

The parent has the libraries loaded and none of our own modules, so that a child loads the wrong version as if it were
the file. Which test reaches which line is measured once; a mutant meets only the tests that reach it.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent.parent
FIRST_TESTS = 400  # of a mutant that more tests reach: the first of them nearly always tell
SECONDS_MIN = 15.0
ARGUMENTS = ("-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "--durations=0", "-W", "ignore")


@dataclass(frozen=True)
class Reach:
    """Which tests reach which lines of a file, and how long all of them take."""

    lines: dict[int, tuple[str, ...]]
    tests: tuple[str, ...]
    seconds: float

    def of(self, first: int, last: int) -> tuple[str, ...]:
        """Return the tests that reach one of these lines; all, for lines that only the import reaches."""
        found = {test for line in range(first, last + 1) for test in self.lines.get(line, ())}
        return tuple(test for test in self.tests if test in found)


class _Loader(importlib.abc.InspectLoader):
    """Gives a module its mutated code in place of its file's."""

    def __init__(self, tree: ast.Module, path: Path) -> None:
        self._tree, self._path = tree, path

    def get_source(self, fullname: str) -> str:
        return self._path.read_text()

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._tree, str(self._path), "exec")


class Finder(importlib.abc.MetaPathFinder):
    """Finds the one mutated module before anything else does."""

    def __init__(self, module: str, path: Path, tree: ast.Module) -> None:
        self._module, self._path, self._tree = module, path, tree

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        folder = [str(self._path.parent)] if self._path.name == "__init__.py" else None
        spec = importlib.util.spec_from_file_location(
            fullname, self._path, loader=_Loader(self._tree, self._path), submodule_search_locations=folder
        )
        return spec


def preload() -> None:
    """Load the libraries that the tests need, so that each child has them; nothing of ours."""
    import _pytest.assertion.rewrite
    import git
    import hypothesis.strategies
    import pydantic
    import pytest
    import sqlalchemy
    import yaml

    libraries = (_pytest.assertion.rewrite, git, hypothesis.strategies, pydantic, pytest, sqlalchemy, yaml)
    ours = [name for name in sys.modules if name == "advisor" or name.startswith("advisor.")]
    if ours or not libraries:
        raise SystemExit(f"mutation: {ours[0]} is loaded before its mutants")


def measure(path: Path, tests: Sequence[str], limit_seconds: float = 900) -> Reach:
    """Return which tests reach which lines; they must all pass.

    Raises:
        SystemExit: They do not pass without a mutant: nothing could be said about one.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w") as answer:
            plugin = _Tracer(str(path))
            code = _pytest([*tests], [plugin])
            json.dump({"code": code, "lines": plugin.found, "seconds": plugin.seconds, "tests": plugin.order}, answer)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    told = json.loads(text or '{"code": 99}')
    if told["code"] != 0:
        raise SystemExit(f"mutation: the tests of {path.name} do not pass as it is (exit {told['code']})")
    lines = {int(line): tuple(found) for line, found in told["lines"].items()}
    return Reach(lines, tuple(told["tests"]), float(told["seconds"]))


class Run:
    """One mutant in one child."""

    def __init__(self, module: str, path: Path, tree: ast.Module, tests: Sequence[str], limit_seconds: float) -> None:
        """Start it."""
        self._deadline = time.monotonic() + limit_seconds
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()  # what a test starts ends with it
            try:
                sys.meta_path.insert(0, Finder(module, path, tree))
                os._exit(_pytest(tests, []))
            except BaseException:  # noqa: BLE001 - whatever it is, the mutant did not live through its tests
                os._exit(90)

    def outcome(self) -> str | None:
        """Return ``killed``, ``too slow`` or ``survived``; None while it runs."""
        done, status = os.waitpid(self.pid, os.WNOHANG)
        if done == 0:
            if time.monotonic() < self._deadline:
                return None
            self.stop()
            return "too slow"
        return "survived" if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 else "killed"

    def stop(self) -> None:
        """End it and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


class _Tracer:
    """A pytest plugin that notes which lines of one file each test reaches."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.found: dict[int, list[str]] = {}
        self.order: list[str] = []
        self.seconds = 0.0

    def pytest_runtest_protocol(self, item: Any) -> None:
        self._test = item.nodeid
        self._lines: set[int] = set()
        self._began = time.monotonic()
        self.order.append(item.nodeid)
        sys.settrace(self._enter)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.settrace(None)
        self.seconds += time.monotonic() - self._began
        for line in self._lines:
            self.found.setdefault(line, []).append(nodeid)

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != self._path:
            return None
        self._lines.add(frame.f_lineno)
        return self._line

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._lines.add(frame.f_lineno)
        return self._line


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    yield


def _pytest(tests: Sequence[str], plugins: list[Any]) -> int:
    import pytest
    from hypothesis import HealthCheck, settings

    # The same examples for each mutant, and few of them: the point is the guard, not the search.
    settings.register_profile(
        "mutation",
        derandomize=True,
        database=None,
        max_examples=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutation")
    os.environ["ADVISOR_PROOF_SIZE"] = "0.01"
    os.chdir(ROOT)
    with _silence():
        return int(pytest.main([*ARGUMENTS, *tests], plugins=plugins))
