"""Runs the tests of a part of the gate against one mutant after another, each in a forked process with a time limit.

Tests are collected once, and what each of them reaches is measured once. A mutant of a function then costs a fork: the
child gives the very function that everybody holds another code, and runs the tests that reach it, the quickest first. A
mutant of what runs on import (a constant, a field, a default) costs a fresh import: the main process has the libraries
loaded and none of our modules, and its child loads the wrong version as if it were the file.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from tests.mutation.mutants import Mutant

ROOT = Path(__file__).parent.parent.parent
SECONDS_MIN = 20.0  # of a mutant, however quick its tests are: the machine may be busy
FACTOR = 10  # how much longer than usual the tests of a mutant may take
ARGUMENTS = ("-x", "-q", "-s", "-p", "no:cacheprovider", "--no-header", "--tb=no", "-W", "ignore")


@dataclass
class Case:
    """A mutant of a file, and what became of it."""

    target: str
    path: Path
    mutant: Mutant
    outcome: str = ""

    @property
    def module(self) -> str:
        """Return the module's name."""
        return module_of(self.path)

    def shown(self) -> str:
        """Return file, line and change."""
        return f"{self.path.relative_to(ROOT)}:{self.mutant.line}: {self.mutant.name}"


@dataclass
class Reach:
    """Which tests reach which lines of which file, and how long each takes."""

    lines: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, case: Case) -> list[str]:
        """Return the tests that reach a mutant, the quickest first."""
        known = self.lines.get(str(case.path), {})
        found = {test for n in range(case.mutant.line, case.mutant.last_line + 1) for test in known.get(n, ())}
        return sorted(found, key=lambda test: self.seconds[test])


def module_of(path: Path) -> str:
    """Return the name of the module in a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def preload() -> None:
    """Load the libraries that the tests need, so that each child has them; nothing of ours."""
    for name in ("git", "hypothesis.strategies", "pydantic", "pytest", "sqlalchemy", "yaml"):
        importlib.import_module(name)
    ours = [name for name in sys.modules if name == "advisor" or name.startswith("advisor.")]
    if ours:
        raise SystemExit(f"mutation: {ours[0]} is loaded before its mutants")


def run_target(cases: list[Case], tests: Sequence[str], at_once: int, told: Callable[[Case], None]) -> None:
    """Give each case its outcome: ``killed``, ``too slow`` or ``survived``.

    Raises:
        SystemExit: The tests do not pass without a mutant: nothing could be said about one.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        session = _Session(cases, at_once, write)
        _pytest([*tests], [session])
        os._exit(0)
    os.close(write)
    whole, left = False, []
    with os.fdopen(read) as answers:
        for line in answers:
            number, outcome = json.loads(line)
            if number < 0:
                whole = whole or outcome == "passed"
                continue
            cases[number].outcome = outcome
            if outcome == "import":
                left.append(cases[number])
            else:
                told(cases[number])
    os.waitpid(child, 0)
    if not whole:
        raise SystemExit(f"mutation: {', '.join(tests)} do not pass as they are")
    jobs = [(case, lambda case=case: _import_and_test(case, tests)) for case in left]
    for case, outcome in _side_by_side(jobs, at_once, lambda case: 20 * SECONDS_MIN):
        case.outcome = outcome
        told(case)


def _side_by_side(
    jobs: list[tuple[Case, Callable[[], int]]], at_once: int, limit: Callable[[Case], float]
) -> Iterator[tuple[Case, str]]:
    """Give the outcome of each job as it ends; a job runs in a fork of its own and answers with its exit code."""
    waiting, running = list(reversed(jobs)), []
    while waiting or running:
        while waiting and len(running) < at_once:
            case, job = waiting.pop()
            running.append((case, _fork(job), time.monotonic() + limit(case)))
        for case, pid, deadline in list(running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done and time.monotonic() < deadline:
                continue
            running.remove((case, pid, deadline))
            if not done:
                _stop(pid)
                yield case, "too slow"
            else:
                yield case, "survived" if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 else "killed"
        time.sleep(0.002)


def _fork(job: Callable[[], int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 90
    try:
        os.setsid()  # what a test starts ends with it
        code = job()
    finally:  # whatever came out of it, it must not go on as the parent
        os._exit(code)


def _stop(pid: int) -> None:
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            end(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


# --- with everything loaded ------------------------------------------------------------------------------------------


class _Session:
    """A pytest plugin that, in place of running the tests, runs them once with a tracer and then for each mutant."""

    def __init__(self, cases: list[Case], at_once: int, answers: int) -> None:
        self._cases, self._at_once, self._answers = cases, at_once, answers
        self._failed = False

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._failed = self._failed or report.failed

    def pytest_runtestloop(self, session: Any) -> bool:
        items = {item.nodeid: item for item in session.items}
        reach = self._measure(list(items.values()))
        self._answer(-1, "passed" if reach is not None else "failed")
        if reach is None:
            return True
        jobs, numbers = [], {id(case): number for number, case in enumerate(self._cases)}
        for number, case in enumerate(self._cases):
            change, tests = code_of(case), reach.of(case)
            if change is None:
                self._answer(number, "import")
            elif not tests:
                self._answer(number, "survived")  # no test comes there
            else:
                jobs.append((case, self._job(change, [items[test] for test in tests])))

        def limit(case: Case) -> float:
            return SECONDS_MIN + FACTOR * sum(reach.seconds[test] for test in reach.of(case))

        for case, outcome in _side_by_side(jobs, self._at_once, limit):
            self._answer(numbers[id(case)], outcome)
        return True

    def _job(self, change: tuple[FunctionType, CodeType], items: list[Any]) -> Callable[[], int]:
        def job() -> int:
            function, code = change
            function.__code__ = code
            return 1 if self._run(items) else 0

        return job

    def _run(self, items: list[Any]) -> bool:
        """Return whether one of the tests failed."""
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failed:
                return True
        return False

    def _measure(self, items: list[Any]) -> Reach | None:
        read, write = os.pipe()
        paths = {str(case.path) for case in self._cases}

        def job() -> int:
            reach = Reach()
            for item, following in zip(items, [*items[1:], None], strict=True):
                lines: dict[str, set[int]] = {path: set() for path in paths}
                began = time.monotonic()
                sys.settrace(_tracer(lines))
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                sys.settrace(None)
                reach.seconds[item.nodeid] = time.monotonic() - began
                for path, found in lines.items():
                    for line in found:
                        reach.lines.setdefault(path, {}).setdefault(line, []).append(item.nodeid)
            with os.fdopen(write, "w") as answer:
                json.dump({"failed": self._failed, "lines": reach.lines, "seconds": reach.seconds}, answer)
            return 0

        pid = _fork(job)
        os.close(write)
        with os.fdopen(read) as answer:
            text = answer.read()
        os.waitpid(pid, 0)
        told = json.loads(text or '{"failed": true}')
        if told["failed"]:
            return None
        lines = {path: {int(n): tests for n, tests in found.items()} for path, found in told["lines"].items()}
        return Reach(lines, told["seconds"])

    def _answer(self, number: int, outcome: str) -> None:
        os.write(self._answers, (json.dumps([number, outcome]) + "\n").encode())


def _tracer(lines: dict[str, set[int]]) -> Callable[[FrameType, str, Any], Any]:
    def line(frame: FrameType, event: str, argument: Any) -> Any:
        lines[frame.f_code.co_filename].add(frame.f_lineno)
        return line

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in lines:
            return None
        return line(frame, event, argument)

    return enter


def code_of(case: Case) -> tuple[FunctionType, CodeType] | None:
    """Return the function that a mutant changes and its code then; None where it changes what runs on import."""
    module = importlib.import_module(case.module)
    compiled = compile(case.mutant.tree, str(case.path), "exec")
    function = _function(module, case.mutant.function)
    if function is None:
        return None
    code = next((found for found in _codes(compiled) if found.co_qualname == function.__code__.co_qualname), None)
    if code is None or _same(code, function.__code__) or code.co_freevars != function.__code__.co_freevars:
        return None
    return function, code


def _function(module: ModuleType, name: str) -> FunctionType | None:
    """Return the outermost function or method of a dotted name, without what wraps it."""
    found: Any = module
    for part in name.split("."):
        found = vars(found).get(part)
        for wrapped in ("fget", "func", "__func__", "__wrapped__"):
            while not isinstance(found, type) and hasattr(found, wrapped):
                found = getattr(found, wrapped)
        if isinstance(found, FunctionType):
            return found
        if not isinstance(found, type):
            return None
    return None


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _same(one: CodeType, other: CodeType) -> bool:
    return (
        one.co_code == other.co_code and repr(one.co_consts) == repr(other.co_consts) and one.co_names == other.co_names
    )


# --- with a fresh import -----------------------------------------------------------------------------------------------


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

    def __init__(self, case: Case) -> None:
        """Keep the mutant."""
        self._case = case

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the mutant for its module, and nothing for any other."""
        if fullname != self._case.module:
            return None
        place = self._case.path
        folder = [str(place.parent)] if place.name == "__init__.py" else None
        loader = _Loader(self._case.mutant.tree, place)
        return importlib.util.spec_from_file_location(fullname, place, loader=loader, submodule_search_locations=folder)


def _import_and_test(case: Case, tests: Sequence[str]) -> int:
    sys.meta_path.insert(0, Finder(case))
    return _pytest(tests, [])


def _pytest(tests: Sequence[str], plugins: list[Any]) -> int:
    import pytest
    from hypothesis import HealthCheck, settings

    # The same examples for each mutant, and few of them: the point is the guard, not the search.
    settings.register_profile(
        "mutation",
        derandomize=True,
        database=None,
        max_examples=15,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("mutation")
    os.environ["ADVISOR_PROOF_SIZE"] = "0.01"
    os.chdir(ROOT)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    return int(pytest.main([*ARGUMENTS, *tests], plugins=plugins))
