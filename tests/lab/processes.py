"""Starts, supervises and ends the processes of the laboratory: JVMs, traffic, Prometheus.

Each child leads a process group of its own and is ended by its own id, so a run leaves nothing behind and
touches nothing else. Servers listen on the loopback address only.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import yaml

from tests.lab.incidents import DEPLOYMENT, Incident
from tests.lab.load import Points

HERE = Path(__file__).parent
RESTARTS_MAX = 8
BACKOFF_SECONDS_MAX = 8.0
STOP_SECONDS = 6.0
LIFETIME_SECONDS = 1800
JMX_ARTIFACT = "io.prometheus.jmx:jmx_prometheus_javaagent"
# Strings joined without invokedynamic: joining them must not need a new class when the metaspace is full.
JAVAC_FLAGS = ("--release", "17", "-XDstringConcat=inline")
COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"


class LabError(Exception):
    """The laboratory itself failed; no incident was brought about."""


def free_ports(count: int) -> list[int]:
    """Return loopback ports that are free now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [int(opened.getsockname()[1]) for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


def http_get(url: str, timeout_seconds: float = 5.0) -> bytes | None:
    """Return the body of a successful answer, or None."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:
            return bytes(answer.read())
    except (OSError, urllib.error.URLError, ValueError):
        return None


def wait_for(url: str, seconds: float, what: str) -> None:
    """Wait until the address answers."""
    until = time.monotonic() + seconds
    while http_get(url, 2.0) is None:
        if time.monotonic() > until:
            raise LabError(f"{what} did not answer at {url} within {seconds:.0f} s")
        time.sleep(0.2)


def spawn(command: list[str], output: IO[bytes] | Path, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a child in its own process group, its output appended to a file."""
    opened = output.open("ab") if isinstance(output, Path) else output
    try:
        return subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=opened,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    finally:
        opened.close()


def end(child: subprocess.Popen[bytes], seconds: float = STOP_SECONDS) -> None:
    """End a child and its group: politely, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            continue


def tool(name: str) -> str:
    """Return the path of a program that must be installed."""
    found = shutil.which(name)
    if found is None:
        raise LabError(f"{name} is not installed; the laboratory needs java, javac, git, prometheus and prlimit")
    return found


def compile_service(target: Path) -> Path:
    """Compile the checkout service and return the class path."""
    sources = sorted(str(file) for file in (HERE / "service").rglob("*.java"))
    target.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [tool("javac"), *JAVAC_FLAGS, "-d", str(target), *sources],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"The checkout service does not compile:\n{done.stderr}")
    return target


def jmx_agent(version: str, cache: Path) -> Path | None:
    """Return the JMX exporter's agent, fetched once with Maven; None where that is not possible."""
    cache.mkdir(parents=True, exist_ok=True)
    jar = cache / f"jmx_prometheus_javaagent-{version}.jar"
    maven = shutil.which("mvn")
    if not jar.exists() and maven is not None:
        subprocess.run(
            [
                maven,
                "-q",
                "-B",
                COPY_GOAL,
                f"-Dartifact={JMX_ARTIFACT}:{version}",
                f"-DoutputDirectory={cache}",
            ],
            capture_output=True,
            timeout=300,
            check=False,
        )
    return jar if jar.exists() else None


def deployed(checkout: Path) -> tuple[list[str], str]:
    """Return the JVM flags and the release that the manifest in a checkout asks for."""
    manifest = yaml.safe_load((checkout / DEPLOYMENT).read_text())
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    options = next(str(variable["value"]) for variable in container["env"] if variable["name"] == "JAVA_OPTS")
    return shlex.split(options), str(container["image"]).rpartition(":")[2]


@dataclass
class Checkout:
    """The JVM of one incident, restarted when it dies as Kubernetes would: with back-off, not for ever."""

    incident: Incident
    folder: Path
    classes: Path
    agent: Path | None
    port: int
    management_port: int
    agent_port: int
    starts: list[float] = field(default_factory=list)
    exits: list[tuple[float, int]] = field(default_factory=list)
    _child: subprocess.Popen[bytes] | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _watcher: threading.Thread | None = None

    @property
    def metrics_port(self) -> int:
        """Where Prometheus scrapes: the service's own page, or the JMX exporter's."""
        return self.agent_port if self.agent else self.management_port

    def command(self) -> list[str]:
        """Return the command line for what the checkout folder says now."""
        flags, release = deployed(self.folder / "checkout")
        logs = self.folder / "logs"
        limit = self.incident.address_space_bytes
        prefix = [tool("prlimit"), f"--as={limit}", "env", "MALLOC_ARENA_MAX=1"] if limit else []
        agent = (
            [f"-javaagent:{self.agent}=127.0.0.1:{self.agent_port}:{HERE / 'jmx_exporter.yaml'}"] if self.agent else []
        )
        return [
            *prefix,
            tool("java"),
            *flags,
            "-Xlog:disable",
            "-Xlog:all=warning:stdout:utctime,level,tags",
            f"-Xlog:gc*:file={logs / 'gc.log'}:utctime,uptime,level,tags:filecount=4,filesize=512k",
            "-XX:-UsePerfData",
            *agent,
            "-Dsun.net.httpserver.nodelay=true",
            f"-Dlab.compression={self.incident.compression}",
            f"-Dlab.lifetime.seconds={LIFETIME_SECONDS}",
            f"-Dshop.release={release}",
            "-cp",
            str(self.classes),
            "org.example.shop.CheckoutApplication",
            str(self.folder / "checkout" / "apps" / "checkout"),
            str(self.port),
            str(self.management_port),
            str(logs / "checkout.log"),
        ]

    def start(self) -> float:
        """Start the JVM and its supervision, wait until it serves metrics, and return when it was started."""
        with self._lock:
            self._stopping.clear()
            self._launch()
            launched_at = self.starts[-1]
            if self._watcher is None:
                self._watcher = threading.Thread(
                    target=self._supervise, name=f"supervise-{self.incident.name}", daemon=True
                )
                self._watcher.start()
        wait_for(f"http://127.0.0.1:{self.metrics_port}/metrics", 60, self.incident.job)
        return launched_at

    def _launch(self) -> None:
        logs = self.folder / "logs"
        logs.mkdir(exist_ok=True)
        self._child = spawn(self.command(), logs / "checkout-console.log")
        self.starts.append(time.time())

    def _supervise(self) -> None:
        failures = 0
        while not self._stopping.wait(0.2):
            with self._lock:
                code = self._child.poll() if self._child else None
                if code is None or self._stopping.is_set():
                    continue
                self.exits.append((time.time(), code))
                self._child = None
            failures += 1
            if failures > RESTARTS_MAX:
                return
            self._stopping.wait(min(BACKOFF_SECONDS_MAX, 0.5 * 2**failures))
            with self._lock:
                if not self._stopping.is_set() and self._child is None:
                    self._launch()

    @property
    def deaths(self) -> int:
        """How often the JVM ended without having been asked to."""
        return len(self.exits)

    @property
    def pid(self) -> int | None:
        """The process id of the JVM that runs now."""
        child = self._child
        return child.pid if child and child.poll() is None else None

    def stop(self) -> None:
        """End the JVM; it is not started again."""
        with self._lock:
            self._stopping.set()
            child, self._child = self._child, None
        if child:
            end(child)
        if self._watcher and self._watcher is not threading.current_thread():
            self._watcher.join(STOP_SECONDS)
        self._watcher = None


@dataclass
class Load:
    """The traffic of one incident."""

    incident: Incident
    port: int
    folder: Path
    seed: int = 1
    _child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to send."""
        rates: dict[str, Points] = {kind: list(points) for kind, points in self.incident.rates.items()}
        command = [
            sys.executable,
            str(HERE / "load.py"),
            "--port",
            str(self.port),
            "--rates",
            json.dumps(rates),
        ]
        command += ["--catalogue", str(self.incident.catalogue), "--seed", str(self.seed)]
        self._child = spawn(command, self.folder / "load.log")

    def stop(self) -> None:
        """Stop sending."""
        if self._child:
            end(self._child)


@dataclass
class Prometheus:
    """One Prometheus for a whole run, one job for each incident."""

    folder: Path
    targets: dict[str, int]
    port: int = 0
    _child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Write the configuration, start, and wait until it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            for job, port in self.targets.items()
        ]
        document = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}
        configuration = self.folder / "prometheus.yml"
        configuration.write_text(yaml.safe_dump(document, sort_keys=False))
        self.port = self.port or free_ports(1)[0]
        command = [
            tool("prometheus"),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={self.folder / 'data'}",
        ]
        command += [
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--storage.tsdb.retention.time=30d",
            "--log.level=warn",
        ]
        self._child = spawn(command, self.folder / "prometheus.log")
        wait_for(f"{self.url}/-/ready", 30, "Prometheus")

    def stop(self) -> None:
        """End it; the data stay."""
        if self._child:
            end(self._child, 15)


OOM = re.compile(r"java\.lang\.OutOfMemoryError: (.+)")


def first_oom(logs: Path) -> tuple[datetime, str] | None:
    """Return time and message of the first OutOfMemoryError in the service's log, rotated files included."""
    found: list[tuple[datetime, str]] = []
    for file in logs.glob("checkout.log*"):
        text = gzip.decompress(file.read_bytes()).decode() if file.suffix == ".gz" else file.read_text()
        when: datetime | None = None
        for line in text.splitlines():
            if line[:2] == "20" and line[23:24] == "Z":
                when = datetime.strptime(line[:23], "%Y-%m-%dT%H:%M:%S.%f").replace(tzinfo=UTC)
            match = OOM.search(line)
            if match and when:
                found.append((when, match[1]))
                break
    return min(found, default=None)
