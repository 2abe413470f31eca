"""A real PostgreSQL server of a test's own: made in a folder, on loopback, ended by its process id.

It runs as a user without rights, which PostgreSQL insists on; started by root, the tests use its package's own user.
Nothing in it outlives the tests, so it does not wait for the disk (`fsync=off`): who is told what under a race does not
depend on that, and kills of its processes lose nothing by it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "advisor", "a pass word: @/%"  # with all that a URL would stumble over
START_SECONDS = 60.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "log_min_messages": "fatal",
}


def find_program(name: str) -> str | None:
    """Return a program of PostgreSQL; Debian keeps them off the PATH."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: (len(p.parent.name), p.parent.name))
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(str(p) for p in reversed(homes)))


def require_postgresql() -> None:
    """Skip the running test by name if a part is missing; fail it where ADVISOR_REQUIRE_REAL=1."""
    try:
        import psycopg  # noqa: F401

        missing = next((name for name in ("initdb", "postgres") if find_program(name) is None), None)
    except ImportError:
        missing = "psycopg"
    if missing is not None:
        message = f"{missing} is not installed"
        if os.environ.get("ADVISOR_REQUIRE_REAL") == "1":
            pytest.fail(message)
        pytest.skip(message)


@dataclass
class Server:
    """A running server."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    count: int = 0
    shared: str = ""

    @property
    def host(self) -> str:
        return "127.0.0.1"

    def url(self, database: str, *, user: str = USER, port: int | None = None) -> str:
        return f"postgresql+psycopg://{user}@{self.host}:{port or self.port}/{database}"

    def connect(self, database: str = "postgres") -> Any:
        import psycopg

        return psycopg.connect(
            host=self.host, port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True
        )

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        with self.connect(database) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def new_database(self, options: str = "") -> str:
        """Return the URL of a new, empty database."""
        self.count += 1
        name = f"advisor_{os.getpid()}_{self.count}"
        self.sql(f"CREATE DATABASE {name} {options}")
        return self.url(name)

    def end_sessions(self, database: str) -> int:
        """End every other session of a database, as an administrator or a failing network does."""
        return len(
            self.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{database}' AND pid <> pg_backend_pid()"
            )
        )

    def start(self) -> None:
        postgres = find_program("postgres")
        assert postgres is not None
        options = [part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [postgres, "-D", str(self.folder / "data"), "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                **_as_user(),
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # "fast": sessions are ended
            self.process.wait(60)
            self.process = None

    def _answers(self) -> bool:
        import psycopg

        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_server() -> Iterator[Server]:
    """Give a new server; it and its folder are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="advisor-postgresql-"))  # pytest's own folders are closed to other users
    try:
        account = _as_user()
        if account:
            os.chown(folder, account["user"], account["group"])
        (folder / "password").write_text(PASSWORD + "\n")
        os.chmod(folder / "password", 0o644)
        initdb = find_program("initdb")
        assert initdb is not None
        done = subprocess.run(
            [
                initdb,
                f"--pgdata={folder / 'data'}",
                f"--username={USER}",
                f"--pwfile={folder / 'password'}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            capture_output=True,
            check=False,
            timeout=120,
            cwd=folder,
            **account,
        )
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stderr.decode('utf-8', 'replace')[-2000:]}")
        server = Server(folder, free_port())
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_user() -> dict[str, Any]:
    """Return the arguments that start a program as somebody who is not root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root, and there is no user postgres or nobody")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """Give one server to all tests; each makes a database of its own."""
    require_postgresql()
    with running_server() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the address of an empty database; the same one for all tests, emptied, since that is quicker than a new one."""
    monkeypatch.setenv("ADVISOR_STORE_PASSWORD", PASSWORD)
    if not postgresql_server.shared:
        postgresql_server.shared = postgresql_server.new_database()
    name = postgresql_server.shared.rpartition("/")[2]
    postgresql_server.end_sessions(name)
    postgresql_server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public", name)
    return postgresql_server.shared


class CuttingProxy:
    """A network between a client and the server that fails at a chosen moment: it listens on loopback, in threads.

    ``mode`` says what happens to the next ``COMMIT``: ``""`` nothing, ``answer`` it arrives and its answer does not,
    ``request`` it does not arrive either, ``gone`` as ``answer`` and from then on nobody is let in.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.mode = ""
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.mode == "closed":
                client.close()
                continue
            server = socket.create_connection((self.server.host, self.server.port))
            for source, target, is_client in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._pump, args=(source, target, is_client), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        try:
            while data := source.recv(65536):
                if is_client and b"COMMIT\0" in data and self.mode in ("answer", "request", "gone"):
                    self._cut(data, source, target)
                    return
                target.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            if is_client:
                for end in (source, target):
                    end.close()

    def _cut(self, data: bytes, client: socket.socket, server: socket.socket) -> None:
        mode, self.mode = self.mode, ""
        self.cuts += 1
        if mode == "gone":
            self.mode = "closed"
        client.shutdown(socket.SHUT_RDWR)  # before the server can answer
        if mode != "request":
            server.sendall(data)
            server.settimeout(10)
            try:
                server.recv(65536)  # it is done there
            except OSError:
                pass
