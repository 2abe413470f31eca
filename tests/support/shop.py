"""A shop with an incident, as a person has it: settings, a configuration repository, logs, a real Prometheus.

The heap of ``checkout`` climbs after a commit that made sessions live 48 times as long. Everything is asked through
the command line as a process of its own.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from advisor.evidence import Series
from tests.support.gate import ALICE, BAD, BOB, GOOD, PATH, TIMEOUT, fast_import, git, new_remote

__all__ = ["ALICE", "BAD", "BOB", "GOOD", "PATH", "TIMEOUT", "Answer", "Shop", "fast_import", "git"]

ROOT = Path(__file__).parent.parent.parent
ANSWER_SECONDS_MAX = 60
MIB = 1024 * 1024
STEP = 10  # seconds between samples
CHANGED = timedelta(minutes=30)  # before the end
NOTICED = timedelta(minutes=8)


def incident_series(end: datetime, job: str = "checkout") -> list[Series]:
    """Return 50 minutes of a JVM whose sessions and heap floor climb from 30 minutes before the end."""
    last = end.timestamp()
    changed = last - CHANGED.total_seconds()
    times = tuple(last - STEP * i for i in reversed(range(300)))

    def grown(t: float) -> float:
        return min(1.0, max(0.0, (t - changed) / 900))

    def used(t: float) -> float:
        return min(250.0, 80 + 165 * grown(t) + 50 * (t % 120) / 120 * (1 - 0.7 * grown(t))) * MIB

    values: dict[str, Any] = {
        "jvm_memory_used_bytes": used,
        "jvm_memory_max_bytes": lambda t: 256.0 * MIB,
        "tomcat_sessions_active_current_sessions": lambda t: float(round(1000 + 5000 * grown(t) + t % 50)),
        "http_server_requests_seconds_count": lambda t: 20 * (t - changed + 10_000),
        "process_start_time_seconds": lambda t: changed - 86_400,
        "up": lambda t: 1.0,
    }
    labels = (("instance", "a:8080"), ("job", job))
    return [
        Series(
            name=name,
            labels=(("area", "heap"), *labels) if name.startswith("jvm_memory") else labels,
            times=times,
            values=tuple(value(t) for t in times),
        )
        for name, value in values.items()
    ]


@dataclass
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """Return the one line on stderr, after checking that it is one, and clean."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("advisor: ") and lines[0].isprintable(), lines[0]
        assert "Traceback" not in self.err and "a fault of ours" not in self.err, self.err
        return lines[0]


@dataclass
class Shop:
    """A folder with all that belongs to one shop."""

    folder: Path
    until: datetime

    @property
    def remote(self) -> Path:
        return self.folder / "remote.git"

    @property
    def settings(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "advisor.yaml").read_text()))

    def set(self, **sections: Any) -> None:
        """Replace keys of the settings; a mapping is merged into what stands there."""
        current = self.settings
        for name, value in sections.items():
            old = current.get(name)
            current[name] = {**old, **value} if isinstance(value, dict) and isinstance(old, dict) else value
        (self.folder / "advisor.yaml").write_text(json.dumps(current))

    def set_service(self, **fields: Any) -> None:
        self.set(services={"checkout": {**self.settings["services"]["checkout"], **fields}})

    def head(self) -> str:
        return git(self.remote, "rev-parse", "refs/heads/main").strip()

    def text(self) -> str:
        return git(self.remote, "show", f"refs/heads/main:{PATH}")

    def commits(self) -> int:
        return int(git(self.remote, "rev-list", "--count", "refs/heads/main"))

    def copy(self, folder: Path) -> Shop:
        """Return the same shop, with its records, in a folder of its own."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Shop(folder, self.until)

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return start(self.folder, *arguments, **options)

    def ask(self, *arguments: str, **options: Any) -> Answer:
        return finish(self.start(*arguments, **options))

    def investigate(self, *arguments: str) -> Answer:
        return self.ask("investigate", "checkout", "--until", self.until.isoformat(), "--json", *arguments)

    def temporary(self) -> list[str]:
        """Return what commands left in the folder that is theirs for temporary files."""
        return sorted(p.name for p in (self.folder / "tmp").iterdir())


def start(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command in a folder, as a script would: no terminal, nobody named."""
    temporary = folder / "tmp"
    if not temporary.is_dir():
        temporary = Path(tempfile.gettempdir())
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADVISOR_", "GIT_"))}
    standard: dict[str, Any] = {
        "cwd": folder,
        "env": {**kept, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "start_new_session": True,
    }
    return subprocess.Popen([sys.executable, "-m", "advisor", *arguments], **{**standard, **options})


def finish(process: subprocess.Popen[str], seconds: float = ANSWER_SECONDS_MAX) -> Answer:
    """Return how a command ended; one that does not end is killed, and that is a failure."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"no end within {seconds} s: {process.args} {err}") from None
    return Answer(process.returncode, out or "", err or "")


def open_shop(folder: Path, end: datetime, prometheus: str) -> Shop:
    """Return a new shop with the incident in its history, its logs and its metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    new_remote(folder)
    fast_import(folder / "remote.git", {PATH: GOOD}, at=end - timedelta(days=3))
    # One that reads commits as an hour older than given: the guilty one stands where the metrics say it does.
    fast_import(folder / "remote.git", {PATH: BAD}, at=end - CHANGED + timedelta(hours=1))
    (folder / "logs").mkdir()
    (folder / "tmp").mkdir()
    (folder / "logs" / "checkout.log").write_text("".join(log_lines(end)))
    settings = {
        "prometheus": {"url": prometheus, "retries": 0},
        "repositories": {"config": {"url": "./remote.git"}},
        "services": {
            "checkout": {
                "selector": 'job="checkout"',
                "configuration": {"repository": "config", "paths": ["apps/checkout/**"]},
                "logs": [{"files": ["logs/checkout*.log*"]}],
            }
        },
        "approval": {"approvers": [ALICE, BOB]},
        "limits": {"lookback_hours": 2},
    }
    (folder / "advisor.yaml").write_text(json.dumps(settings))
    return Shop(folder, end)


def log_lines(end: datetime, stamped: bool = True) -> list[str]:
    """Return the lines of a service that saves baskets until its heap is full."""
    told = [(end - CHANGED + timedelta(minutes=i), f"INFO http-1 o.e.Basket : basket {i} saved") for i in range(20)]
    told.append((end - NOTICED, "ERROR http-2 o.e.Checkout : java.lang.OutOfMemoryError: Java heap space"))
    return [f"{at:%Y-%m-%dT%H:%M:%SZ} {words}\n" if stamped else f"{words}\n" for at, words in told]


def plant(remote: Path, mode: str, path: str, content: bytes, at: datetime) -> None:
    """Commit one entry that is no plain file: a symbolic link (120000), or a submodule (160000) at a commit."""
    entry = f"M {mode} inline {path}\ndata {len(content)}\n".encode() + content
    if mode == "160000":
        entry = f"M {mode} {content.decode()} {path}".encode()
    head = f"commit refs/heads/main\ncommitter Dev <dev@example.org> {int(at.timestamp())} +0000\ndata 5\nplant\n"
    stream = head.encode() + b"from refs/heads/main^0\n" + entry + b"\n"
    git(remote, "fast-import", "--quiet", "--date-format=raw", stdin=stream)


# --- servers that are no Prometheus ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Silent:
    """A server that takes connections and says nothing."""

    listening: socket.socket

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listening.getsockname()[1]}"

    def await_question(self) -> socket.socket:
        """Return the connection on which the first question came; keep it, or it is closed."""
        connection, _ = self.listening.accept()
        connection.recv(1)
        return connection


@contextlib.contextmanager
def silent_server() -> Iterator[Silent]:
    """Serve nothing: connections are taken and never answered."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        listening.settimeout(ANSWER_SECONDS_MAX)
        yield Silent(listening)


@contextlib.contextmanager
def answering_server(status: int, body: bytes, headers: Mapping[str, str]) -> Iterator[str]:
    """Answer every question the same."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
