"""A real Gitea on the loopback interface, with its own database and repositories in a temporary folder.

Where it is: the folder that ``ADVISOR_GITEA`` names, with the program ``gitea`` and its ``templates``, ``options`` and
``public`` beside it, or a ``gitea`` on PATH that carries them inside.

    with gitea_serving(tmp_path) as server:
        server.new_repository("config")
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_SECONDS_MAX = 60.0  # usually 1; a loaded machine takes longer
ADMIN, PASSWORD = "advisor", "loopback-only-1"
REVIEWERS = ("alice", "bob", "mallory")

_SETTINGS = """\
APP_NAME = loopback
RUN_MODE = prod
RUN_USER = {user}
WORK_PATH = {work}
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
{static}
DISABLE_SSH = true
OFFLINE_MODE = true
LFS_START_SERVER = false
[database]
DB_TYPE = sqlite3
PATH = {work}/gitea.db
[repository]
ROOT = {work}/repositories
DEFAULT_BRANCH = main
[repository.pull-request]
DEFAULT_MERGE_STYLE = merge
[security]
INSTALL_LOCK = true
SECRET_KEY = only-for-loopback
[service]
DISABLE_REGISTRATION = true
[log]
MODE = console
LEVEL = warn
[indexer]
ISSUE_INDEXER_TYPE = db
[actions]
ENABLED = false
[cron]
ENABLED = false
[session]
PROVIDER = memory
"""


def require_gitea() -> tuple[Path, str]:
    """Return the program and its line about assets; skip by name, or fail where every real part is demanded."""
    import pytest

    folder = os.environ.get("ADVISOR_GITEA", "")
    if folder and (Path(folder) / "gitea").is_file():
        return Path(folder) / "gitea", f"STATIC_ROOT_PATH = {folder}"
    on_path = shutil.which("gitea")
    if on_path is not None:
        return Path(on_path), ""
    message = "gitea is not installed, and ADVISOR_GITEA names no folder with it"
    # Built from its source, which needs a toolchain that not every machine has: `.ci/run` says where that was not so.
    if os.environ.get("ADVISOR_REQUIRE_REAL") == "1" and "gitea" not in os.environ.get("ADVISOR_WITHOUT", "").split():
        pytest.fail(message)
    pytest.skip(message)


@dataclass
class GiteaServer:
    """A running server, and what a test does there as somebody else."""

    url: str
    work: Path
    tokens: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None, person: str = ADMIN) -> Any:
        """Return what the API answers to a person, by password: tokens are what is tested."""
        request = urllib.request.Request(f"{self.url}/api/v1{path}", method=method)
        login = base64.b64encode(f"{person}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, data, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from error
        return json.loads(text) if text.strip() else None

    def token(self, person: str, *scopes: str) -> str:
        wanted = {"name": f"t{len(self.tokens)}-{time.monotonic_ns()}", "scopes": list(scopes)}
        return str(self.call("POST", f"/users/{person}/tokens", wanted, person)["sha1"])

    def new_repository(self, name: str, collaborators: tuple[str, ...] = REVIEWERS) -> str:
        """Return the address of a new, empty repository, in which the reviewers may write."""
        self.call("POST", "/user/repos", {"name": name, "default_branch": "main", "auto_init": False})
        for person in collaborators:
            self.call("PUT", f"/repos/{ADMIN}/{name}/collaborators/{person}", {"permission": "write"})
        return f"{self.url}/{ADMIN}/{name}.git"

    def folder(self, name: str) -> Path:
        """Return the bare repository of a project, to look at."""
        return self.work / "repositories" / ADMIN / f"{name}.git"

    def write_netrc(self, home: Path) -> None:
        """Write what git needs to reach the server over http."""
        home.mkdir(exist_ok=True)
        path = home / ".netrc"
        path.write_text(f"machine 127.0.0.1 login {ADMIN} password {PASSWORD}\n")
        path.chmod(0o600)


@contextlib.contextmanager
def gitea_serving(work: Path) -> Iterator[GiteaServer]:
    """Start a server with an administrator and some people, and end it with the block."""
    program, static = require_gitea()
    work.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = work / "app.ini"
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    settings.write_text(_SETTINGS.format(work=work, port=port, static=static, user=user))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "GITEA_"))}
    environment |= {"HOME": str(work), "GITEA_WORK_DIR": str(work), "USER": user}

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [str(program), *arguments, "--config", str(settings)], env=environment, capture_output=True, timeout=120
        )
        assert done.returncode == 0, done.stdout.decode()[-500:] + done.stderr.decode()[-500:]

    run("migrate")
    run(
        "admin", "user", "create", "--username", ADMIN, "--password", PASSWORD, "--email", f"{ADMIN}@example.org",
        "--must-change-password=false", "--admin",
    )  # fmt: skip
    with (work / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(program), "web", "--config", str(settings)], env=environment, stdout=log, stderr=log
        )
        try:
            server = GiteaServer(f"http://127.0.0.1:{port}", work)
            _wait(server, process)
            for name in REVIEWERS:
                person = {"username": name, "password": PASSWORD, "email": f"{name}@example.org"}
                server.call("POST", "/admin/users", {**person, "must_change_password": False})
            yield server
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(server: GiteaServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{server.url}/api/v1/version", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"gitea did not start: {(server.work / 'server.log').read_text()[-1000:]}")
