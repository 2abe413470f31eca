"""The incident laboratory: brings real incidents about and keeps them at hand.

``running`` starts one Prometheus and, for each incident, a JVM and its traffic, makes the team's commits
at their time, rolls the guilty one out, and waits for the end. The caller then has the running wreck: it
can investigate, commit a remedy to ``config.git``, call ``pull_and_restart`` and watch the recovery.

It knows what it does to the service, never what must come of it: ``truth.json`` says what was changed and
what was seen.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import yaml

from tests.lab.incidents import INCIDENTS, Incident, LiveCommit
from tests.lab.processes import (
    Checkout,
    LabError,
    Load,
    Prometheus,
    compile_service,
    first_oom,
    free_ports,
    jmx_agent,
    tool,
)
from tests.lab.recording import record
from tests.lab.repository import ConfigRepository, build

WORKDIR = Path(".lab/run")
WAVE_SIZE = 5  # Incidents at once; two cores stay below three quarters busy with that many.

# On a machine that is busy with something else, collections take long and a full heap dies slowly.
PATIENCE_SECONDS = 120.0
AFTERMATH_SECONDS = 12.0


def stamp(moment: float | datetime) -> str:
    """Return an instant as the product writes it."""
    at = datetime.fromtimestamp(moment, UTC) if isinstance(moment, int | float) else moment
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Run:
    """One incident while it is being brought about, and afterwards."""

    incident: Incident
    folder: Path
    repository: ConfigRepository
    service: Checkout
    load: Load
    prometheus: Prometheus
    started_at: float = 0.0
    ended_at: float = 0.0
    commits: list[dict[str, object]] = field(default_factory=list)
    guilty: dict[str, object] | None = None

    @property
    def name(self) -> str:
        """The name of the incident."""
        return self.incident.name

    @property
    def configuration(self) -> Path:
        """The ``advisor.yaml`` of this incident."""
        return self.folder / "advisor.yaml"

    @property
    def selector(self) -> str:
        """The label matcher of this incident's series."""
        return f'job="{self.incident.job}"'

    @property
    def truth(self) -> dict[str, object]:
        """What really happened, as far as it happened yet."""
        truth = self.incident.truth
        oom = first_oom(self.folder / "logs")
        guilty = self.guilty or {}
        ended_at = self.ended_at or time.time()
        return {
            "incident": self.name,
            "kind": truth.kind,
            "commit": guilty.get("commit"),
            "author": guilty.get("author"),
            "path": truth.path,
            "key": truth.key,
            "old": truth.old,
            "new": truth.new,
            "symptom": self.incident.symptom,
            "oom_expected": truth.oom_message,
            "oom_message": oom[1] if oom else None,
            "started_at": stamp(self.started_at),
            "committed_at": guilty.get("committed_at"),
            "rolled_out_at": guilty.get("rolled_out_at"),
            "first_oom_at": stamp(oom[0]) if oom else None,
            "noticed_at": stamp(oom[0]) if oom else stamp(ended_at),
            "ended_at": stamp(ended_at),
            "deaths": self.service.deaths,
            "exits": [{"at": stamp(at), "code": code} for at, code in self.service.exits],
            "starts": [stamp(at) for at in self.service.starts],
            "compression": self.incident.compression,
            "selector": self.selector,
            "prometheus": self.prometheus.url,
            "live_commits": self.commits,
        }

    @property
    def came_about(self) -> bool:
        """Whether it really ended as meant: the right OutOfMemoryError, or none where none belongs."""
        expected = self.incident.truth.oom_message
        message = self.truth["oom_message"]
        return message is None if expected is None else expected in str(message)

    def begin(self) -> None:
        """Start the service and its traffic."""
        self.service.start()
        self.load.start()
        self.started_at = time.time()

    def perform(self, commit: LiveCommit) -> None:
        """Let somebody commit, and roll out if that is meant."""
        made = self.repository.commit(commit.author, commit.message, commit.edits)
        entry: dict[str, object] = {"commit": made, "author": commit.author, "message": commit.message}
        entry |= {"committed_at": stamp(time.time()), "guilty": commit.guilty}
        if commit.rollout:
            entry["rolled_out_at"] = self.pull_and_restart()
        self.commits.append(entry)
        if commit.guilty:
            self.guilty = entry

    def pull_and_restart(self) -> str:
        """Roll out the head of the remote: pull, stop the JVM, start it anew. Returns when it took effect."""
        self.service.stop()
        self.repository.pull()
        return stamp(self.service.start())

    def wait_until_it_came_about(self, seconds: float) -> None:
        """Wait for the OutOfMemoryError that is meant, and for a restart after it, but not for ever."""
        until = time.time() + seconds
        while not self.came_about and time.time() < until:
            time.sleep(2)
        if self.came_about:
            time.sleep(AFTERMATH_SECONDS)

    def finish(self) -> None:
        """Note the end of the incident; everything keeps running."""
        self.ended_at = time.time()
        self.write_truth()

    def write_truth(self) -> None:
        """Write ``truth.json``."""
        (self.folder / "truth.json").write_text(json.dumps(self.truth, indent=2) + "\n")

    def stop(self) -> None:
        """End traffic and JVM."""
        self.load.stop()
        self.service.stop()


def write_configuration(run: Run) -> None:
    """Write the ``advisor.yaml`` with which the product reads this incident."""
    document = {
        "store": "sqlite:///advisor.db",
        "model": None,
        "prometheus": {"url": run.prometheus.url},
        "repositories": {"config": {"url": "./config.git", "branch": "main"}},
        "services": {
            "checkout": {
                "selector": run.selector,
                "configuration": {"repository": "config", "paths": ["apps/checkout/**"]},
                "logs": [{"files": ["logs/checkout*.log", "logs/checkout*.log.*.gz"]}],
            }
        },
        # The incident lasts minutes, so does its verification: sessions live half a minute at most here.
        "verification": {"settle_seconds": 20, "window_seconds": 40, "samples_min": 5},
        "approval": {
            "approvers": ["alice@example.org"],
            "two_person_from_risk": "high",
            "expires_minutes": 30,
        },
    }
    run.configuration.write_text(yaml.safe_dump(document, sort_keys=False))


def prepare(incidents: Sequence[Incident], workdir: Path) -> list[Run]:
    """Build repositories and processes for some incidents; nothing is started yet."""
    for name in ("java", "javac", "git", "prometheus", "prlimit"):
        tool(name)
    cache = workdir.parent / "cache"
    classes = compile_service(workdir / "classes")
    ports = free_ports(3 * len(incidents) + 1)
    prometheus = Prometheus(workdir / f"prometheus-{int(time.time())}", {}, ports.pop())
    runs: list[Run] = []
    for number, incident in enumerate(incidents):
        folder = workdir / incident.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        agent = jmx_agent(incident.jmx_exporter, cache) if incident.jmx_exporter else None
        if incident.jmx_exporter and agent is None:
            print(
                f"{incident.name}: no JMX exporter at hand, the service's own metrics are used",
                file=sys.stderr,
            )
        repository = build(folder, incident.settings, datetime.now(UTC))
        service = Checkout(incident, folder, classes, agent, ports.pop(), ports.pop(), ports.pop())
        prometheus.targets[incident.job] = service.metrics_port
        runs.append(
            Run(
                incident,
                folder,
                repository,
                service,
                Load(incident, service.port, folder, number + 1),
                prometheus,
            )
        )
    return runs


def play(runs: Sequence[Run]) -> None:
    """Bring incidents about side by side: begin, commit at the planned times, wait for each end."""
    for run in runs:
        run.begin()
    schedule = [(run.started_at + commit.at_seconds, run, commit) for run in runs for commit in run.incident.commits]
    ends = [(run.started_at + run.incident.seconds, run, None) for run in runs]
    for due, run, commit in sorted([*schedule, *ends], key=lambda item: item[0]):
        time.sleep(max(0.0, due - time.time()))
        if commit is not None:
            run.perform(commit)
        elif run.came_about:
            run.finish()
    for run in runs:
        if not run.ended_at:
            run.wait_until_it_came_about(PATIENCE_SECONDS)
            run.finish()


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let nobody's second Ctrl-C interrupt the ending of processes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def running(incidents: Sequence[str | Incident], workdir: Path = WORKDIR) -> Iterator[list[Run]]:
    """Bring incidents about, yield them while JVMs and traffic go on, and end everything afterwards."""
    chosen = [INCIDENTS[incident] if isinstance(incident, str) else incident for incident in incidents]
    workdir = workdir.absolute()
    runs = prepare(chosen, workdir)
    prometheus = runs[0].prometheus
    try:
        prometheus.start()
        for run in runs:
            write_configuration(run)
        play(runs)
        yield runs
    finally:
        with undisturbed():
            for run in runs:
                run.load.stop()
            for run in runs:
                run.stop()
            prometheus.stop()


def waves(names: Sequence[str], size: int) -> list[list[str]]:
    """Split incidents into groups that run at the same time."""
    return [list(names[first : first + size]) for first in range(0, len(names), size)]


def report(run: Run) -> str:
    """Return one line about how an incident ended."""
    truth = run.truth
    verdict = "as meant" if run.came_about else "NOT AS MEANT"
    return f"{run.name:<16} {verdict:<12} deaths {run.service.deaths}  OutOfMemoryError: {truth['oom_message']}"


def command_run(arguments: argparse.Namespace) -> int:
    """Bring incidents about, wave by wave, and say how each ended."""
    names: list[str] = arguments.incident or list(INCIDENTS)
    begun = time.monotonic()
    failed = 0
    for old in arguments.workdir.glob("prometheus-*"):
        shutil.rmtree(old)
    for wave in waves(names, arguments.wave):
        print(f"Bringing about: {', '.join(wave)}", file=sys.stderr)
        with running(wave, arguments.workdir) as runs:
            for run in runs:
                failed += not run.came_about
                print(report(run), flush=True)
                if arguments.record:
                    record(run, arguments.record)
            if arguments.hold:
                print(
                    f"Prometheus: {runs[0].prometheus.url}; holding for {arguments.hold:.0f} s",
                    file=sys.stderr,
                )
                time.sleep(arguments.hold)
    print(f"{len(names)} incidents in {time.monotonic() - begun:.0f} s, {failed} not as meant", flush=True)
    return 1 if failed else 0


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Treat a polite end like Ctrl-C, so that ``finally`` runs."""
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Run the laboratory from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.lab", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name the incidents")
    run = commands.add_parser("run", help="bring incidents about")
    run.add_argument("incident", nargs="*", metavar="INCIDENT", help="default: all")
    run.add_argument("--workdir", type=Path, default=WORKDIR)
    run.add_argument("--wave", type=int, default=WAVE_SIZE, help="incidents at the same time")
    run.add_argument("--hold", type=float, default=0.0, metavar="SECONDS", help="keep a wave running afterwards")
    run.add_argument(
        "--record", type=Path, metavar="FOLDER", help="write metrics, logs and repository of each incident"
    )
    arguments = parser.parse_args(argv)
    if arguments.command == "list":
        for incident in INCIDENTS.values():
            print(f"{incident.name:<16} {incident.truth.kind:<14} {incident.symptom}")
        return 0
    unknown = sorted(set(arguments.incident) - set(INCIDENTS))
    if unknown:
        parser.error(f"unknown incident {', '.join(unknown)}; known are {', '.join(INCIDENTS)}")
    signal.signal(signal.SIGTERM, interrupt)
    try:
        return command_run(arguments)
    except LabError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; everything was ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
