"""Replays cases in worker processes, each case on its own: one that is damaged, hangs or dies takes no other with it.

The answers come back in the order of the tasks, whatever the number of workers. Of a report only what is scored is kept.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from advisor.diagnosis import Outcome
from advisor.errors import AdvisorError, one_line
from advisor.playbook import Action
from advisor.replaying import Part
from advisor.values import CauseKind, Record

CASE_SECONDS_MAX = 120.0  # a replay takes under 2 s; four times the deadline of gathering is no answer any more
JOBS_MAX = 64

Told = Callable[[int, int, str], None]  # how many are done, of how many, which one was last


class NamedCause(Record):
    """A hypothesis as far as it is scored.

    Attributes:
        score: The sum of its terms.
    """

    kind: CauseKind
    service: str
    commit: str | None
    path: str | None
    key: str | None
    probability: float = Field(ge=0, le=1)
    score: float
    summary: str


class NamedRemedy(Record):
    """A proposal as far as it is scored."""

    service: str
    action: Action
    fixes_cause: bool


class Answer(Record):
    """What the engine said of a case.

    Attributes:
        sighted: Every required source was there: the probabilities are the engine's own, not a cap.
    """

    service: str
    outcome: Outcome
    kind: CauseKind
    sighted: bool
    hypotheses: tuple[NamedCause, ...]
    proposals: tuple[NamedRemedy, ...]
    refused: tuple[str, ...]
    seconds: float = Field(ge=0)


@dataclass(frozen=True)
class NotRun:
    """A case that gave no answer, and why."""

    reason: str


@dataclass(frozen=True)
class Task:
    """One replay: a bundle, and what is left out of it."""

    bundle: Path
    without: tuple[Part, ...] = ()


def answer_of(report: dict[str, Any]) -> Answer:
    """Return the scored part of a report of schema ``advisor.investigation/v1``."""
    diagnosis = report["diagnosis"]
    return Answer(
        service=report["incident"]["service"],
        outcome=diagnosis["outcome"],
        kind=diagnosis["kind"],
        sighted=all(entry["status"] == "ok" for entry in report["coverage"] if entry["required"]),
        hypotheses=tuple(
            NamedCause(
                kind=h["kind"],
                probability=h["probability"],
                score=round(sum(term["value"] for term in h["terms"]), 6),
                summary=one_line(h["summary"], 300),
                **{name: h["cause"][name] for name in ("service", "commit", "path", "key")},
            )
            for h in report["hypotheses"]
        ),
        proposals=tuple(
            NamedRemedy(service=p["service"], action=Action.model_validate(p["action"]), fixes_cause=p["fixes_cause"])
            for p in report["proposals"]
        ),
        refused=tuple(r["action"] for r in report["rejected_remedies"]),
        seconds=report["usage"]["seconds"],
    )


def run_task(task: Task) -> Answer | NotRun:
    """Return the engine's answer to one task, or why there is none; whatever is wrong with the bundle, nothing is raised."""
    from advisor.replaying import replaying

    try:
        with replaying(task.bundle, task.without) as recorded:
            return answer_of(recorded.investigate().report)
    except AdvisorError as error:
        return NotRun(str(error))
    except ValidationError as error:
        return NotRun(f"its report does not fit: {one_line(str(error), 200)}")
    except Exception as error:  # noqa: BLE001 - a bundle from anywhere; the other cases must still be scored
        return NotRun(f"{type(error).__name__}: {one_line(str(error), 200)}")


def default_jobs() -> int:
    """Return how many workers this machine has room for."""
    return max(
        1, min(JOBS_MAX, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    )


def run_tasks(
    tasks: Sequence[Task], jobs: int = 1, told: Told | None = None, seconds_max: float = CASE_SECONDS_MAX
) -> list[Answer | NotRun]:
    """Return an answer for each task, in their order.

    Args:
        tasks: What to replay.
        jobs: How many worker processes.
        told: Called as tasks end.
        seconds_max: A task that takes longer is given up, and its worker ended.
    """
    return _Crew(tasks, told or (lambda _done, _total, _name: None), seconds_max).run(max(1, min(jobs, len(tasks))))


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    task: int | None = None
    deadline: float = field(default=0.0)


class _Crew:
    """The workers and what is left to do. One process is asked again and again; it is replaced only when it is lost."""

    def __init__(self, tasks: Sequence[Task], told: Told, seconds_max: float) -> None:
        self._tasks, self._told, self._seconds_max = tasks, told, seconds_max
        self._left = deque(range(len(tasks)))
        self._answers: dict[int, Answer | NotRun] = {}
        self._workers: list[_Worker] = []

    def run(self, jobs: int) -> list[Answer | NotRun]:
        # One folder for all of them: what a worker that was ended leaves behind goes with it.
        with tempfile.TemporaryDirectory(prefix="advisor-eval-") as folder:
            try:
                while len(self._answers) < len(self._tasks):
                    while self._left and len(self._workers) < min(jobs, len(self._left) + self._busy()):
                        self._workers.append(_start_worker(folder))
                    for worker in [w for w in self._workers if w.task is None]:
                        if self._left:
                            self._give(worker)
                    self._collect()
            finally:
                for worker in self._workers:
                    _end_worker(worker)
        return [self._answers[i] for i in range(len(self._tasks))]

    def _busy(self) -> int:
        return sum(w.task is not None for w in self._workers)

    def _give(self, worker: _Worker) -> None:
        worker.task = self._left.popleft()
        worker.deadline = time.monotonic() + self._seconds_max
        try:
            worker.pipe.send(self._tasks[worker.task])
        except OSError:
            self._lose(worker, "its worker process ended")

    def _collect(self) -> None:
        """Wait for the next answer or the next deadline."""
        busy = {w.pipe: w for w in self._workers if w.task is not None}
        if not busy:
            return
        left = min(w.deadline for w in busy.values()) - time.monotonic()
        for ready in wait(list(busy), timeout=max(0.0, left)):
            worker = busy[ready]  # type: ignore[index] # only connections were waited for
            try:
                answer: Answer | NotRun = worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join(1.0)
                self._lose(worker, f"its worker process ended ({_how_ended(worker.process.exitcode)})")
            else:
                self._settle(worker, answer)
        for worker in list(busy.values()):
            if worker.task is not None and time.monotonic() >= worker.deadline:
                self._lose(worker, f"no answer within {self._seconds_max:g} s")

    def _settle(self, worker: _Worker, answer: Answer | NotRun) -> None:
        if worker.task is not None:
            self._answers[worker.task] = answer
            self._told(len(self._answers), len(self._tasks), self._tasks[worker.task].bundle.parent.name)
            worker.task = None

    def _lose(self, worker: _Worker, reason: str) -> None:
        self._settle(worker, NotRun(reason))
        self._workers.remove(worker)
        _end_worker(worker)


def _start_worker(folder: str) -> _Worker:
    # Spawned, not forked: a copy of a process with threads in it (a live screen) may hang on a lock of theirs.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, folder), daemon=True, name="advisor-eval")
    # The first start brings up the tracker of shared resources, and that lets the keyboard through again: so it comes before.
    resource_tracker.ensure_running()
    with _keyboard_held():
        process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    return _Worker(process, ours)


@contextmanager
def _keyboard_held() -> Iterator[None]:
    """Hold back a stop from the keyboard: a worker inherits that, for the stop is the parent's to act on."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_worker(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.terminate()
    worker.process.join(2.0)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()
    worker.process.close()


def _how_ended(code: int | None) -> str:
    if code is None:
        return "still ending"
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _work(pipe: Connection, folder: str) -> None:
    """Answer tasks until the pipe ends."""
    tempfile.tempdir = folder
    while True:
        try:
            task = pipe.recv()
            pipe.send(run_task(task))
        except (EOFError, OSError):
            return
