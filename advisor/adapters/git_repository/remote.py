"""The repository that the operator named: cloning it, fetching from it, asking where its branch is.

Reading only; what is written to it goes through `delivery`. Called by `clone` and `delivery`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from advisor.adapters.git_repository.failures import Failure, GitFailed
from advisor.adapters.git_repository.paths import local_path
from advisor.adapters.git_repository.runner import OBJECT_ID, GitRunner, failed

FIXED_CONFIG = b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
# The operator named this repository in advisor.yaml, which is the consent that safe.directory asks for. It is
# given for reading only: a push to a repository of another user would run that user's hooks as us, and stays
# refused.
READING_CONFIG = b"[safe]\n\tdirectory = *\n"


@dataclass(frozen=True)
class Remote:
    """Where the branch is, and how it is reached.

    Attributes:
        url: Checked by `paths.check_url`.
        reading_config: A file of ours that reading commands take as their configuration.
    """

    url: str
    branch: str
    timeout_seconds: float
    ssh_key_file: Path | None
    reading_config: Path

    @property
    def ref(self) -> str:
        """Return the full name of the branch."""
        return f"refs/heads/{self.branch}"

    @property
    def environment(self) -> dict[str, str]:
        """Return what a reading command needs in its environment."""
        return {"GIT_CONFIG_GLOBAL": str(self.reading_config)}

    def runner(self, git_directory: Path | None = None) -> GitRunner:
        """Return a runner that can reach the remote."""
        return GitRunner(git_directory, self.timeout_seconds, self.ssh_key_file)


def allow_reading(remote: Remote) -> None:
    """Write the configuration that reading commands use."""
    remote.reading_config.parent.mkdir(parents=True, exist_ok=True)
    write_if_different(remote.reading_config, READING_CONFIG)


def clone(remote: Remote, destination: Path, lock: int) -> None:
    """Make a bare clone aside and rename it: there is never half a clone under its name.

    Raises:
        GitFailed: The remote cannot be read, or the place cannot be written.
    """
    aside = Path(tempfile.mkdtemp(prefix="partial-", dir=destination.parent))
    try:
        store = aside / "repository.git"
        if not _clone_by_links(remote, store, lock):
            shutil.rmtree(store, ignore_errors=True)
            runner = remote.runner()
            begin = ("init", "-q", "--bare", "--template=", f"--initial-branch={remote.branch}")
            runner.run(*begin, str(store), keep_open=(lock,))
            write_if_different(store / "config", FIXED_CONFIG)
            fetch(remote, remote.runner(store), lock, shallow=False)
        store.rename(destination)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _clone_by_links(remote: Remote, store: Path, lock: int) -> bool:
    """Return whether a repository by path could be cloned with hard links; the odd ones are fetched."""
    source = local_path(remote.url)
    if source is None:
        return False
    fixed = (
        "--quiet",
        "--bare",
        "--local",
        "--no-tags",
        "--single-branch",
        "--template=",
        f"--branch={remote.branch}",
    )
    outcome = GitRunner(None, remote.timeout_seconds).outcome(
        "clone",
        *fixed,
        "--",
        str(source),
        str(store),
        environment=remote.environment,
        keep_open=(lock,),
    )
    if outcome.code != 0:
        if (failure := failed(outcome)).kind is Failure.DISK_FULL:
            raise failure
        return False
    # Borrowed objects would vanish with their owner; another object format needs its own configuration.
    borrowed = (store / "objects/info/alternates").exists()
    if borrowed or b"objectformat" in (store / "config").read_bytes().lower():
        return False
    write_if_different(store / "config", FIXED_CONFIG)
    return GitRunner(store, remote.timeout_seconds).outcome("rev-parse", "-q", "--verify", remote.ref).code == 0


def fetch(remote: Remote, runner: GitRunner, lock: int, shallow: bool) -> None:
    """Bring the branch into the repository of a runner, wherever the remote has moved it.

    Raises:
        GitFailed: The remote cannot be read; a branch that is not there names those that are.
    """
    fixed = ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc"]
    # A remote that is cut itself may move its cut; one that was completed since completes our copy.
    fixed += ["--update-shallow", *(["--unshallow"] if shallow else [])]
    try:
        runner.run(
            "fetch",
            *fixed,
            "--",
            remote.url,
            f"+{remote.ref}:{remote.ref}",
            environment=remote.environment,
            keep_open=(lock,),
        )
    except GitFailed as error:
        if error.kind is Failure.NO_BRANCH:
            raise _no_branch(remote) from error
        raise


def _no_branch(remote: Remote) -> GitFailed:
    out = remote.runner().run("ls-remote", "--heads", "--", remote.url, environment=remote.environment)
    names = [line.partition("\trefs/heads/")[2] for line in out.decode("utf-8", "replace").splitlines()]
    if not names:
        return GitFailed(Failure.EMPTY, "")
    return GitFailed(Failure.NO_BRANCH, f"its branches are: {', '.join(names[:10])}")


def branch_head(remote: Remote, branch: str | None = None) -> str | None:
    """Return what a branch of the remote (ours by default) is at, asked now; None if it has no such branch.

    Raises:
        GitFailed: The remote cannot be asked.
    """
    wanted = remote.ref if branch is None else f"refs/heads/{branch}"
    allow_reading(remote)
    out = remote.runner().run("ls-remote", "--refs", "--", remote.url, wanted, environment=remote.environment)
    for line in out.decode("utf-8", "replace").splitlines():
        commit, _, ref = line.partition("\t")
        if ref == wanted and OBJECT_ID.fullmatch(commit):
            return commit
    return None


def write_if_different(path: Path, content: bytes) -> None:
    """Give a file this content, whole at any moment; a file that has it is left alone."""
    try:
        if path.read_bytes() == content:
            return
    except FileNotFoundError:
        pass
    aside = path.with_name(f".{path.name}-{os.getpid()}-{time.monotonic_ns()}")
    aside.write_bytes(content)
    aside.replace(path)
