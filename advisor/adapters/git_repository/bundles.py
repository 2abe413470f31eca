"""Bundles: a repository with only the newest commits of one branch, and a clean one made from such.

Called by `GitRepository.export_shallow` and `import_shallow`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from advisor.adapters.git_repository.remote import FIXED_CONFIG, READING_CONFIG, write_if_different
from advisor.adapters.git_repository.runner import GitRunner
from advisor.errors import SourceRefused


def copy_repository(
    source: Path,
    destination: Path,
    branch: str,
    timeout_seconds: float,
    cut: Sequence[str],
    check: bool = False,
) -> None:
    """Write a bare repository of one branch in one pack, aside and then renamed.

    Args:
        source: A repository by path.
        destination: Must not exist, or be empty.
        branch: The one that is taken over.
        timeout_seconds: Of each git command.
        cut: Options of ``fetch`` that shorten the history.
        check: Whether each object is checked as it arrives.

    Raises:
        SourceRefused: The folder exists and is not empty.
        GitFailed: The source cannot be read, or the folder cannot be written.
    """
    if destination.exists() and any(destination.iterdir()):
        raise SourceRefused(f"{destination} exists and is not empty; name another folder")
    destination.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".partial-", dir=destination.parent))
    try:
        store = aside / "repository.git"
        runner = GitRunner(None, timeout_seconds)
        runner.run("init", "-q", "--bare", "--template=", f"--initial-branch={branch}", str(store))
        write_if_different(store / "config", FIXED_CONFIG)
        reading = aside / "reading.config"
        reading.write_bytes(READING_CONFIG)
        ref = f"refs/heads/{branch}"
        fixed = (
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--update-shallow",
            *cut,
        )
        checks = ("-c", "fetch.fsckObjects=true") if check else ()
        GitRunner(store, timeout_seconds).run(
            *checks,
            *("-c", "pack.threads=1", "fetch", *fixed, "--", source.absolute().as_uri(), f"+{ref}:{ref}"),
            environment={"GIT_CONFIG_GLOBAL": str(reading)},
        )
        if destination.exists():
            destination.rmdir()
        store.rename(destination)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def texts_of(repository: Path, timeout_seconds: float) -> Iterator[str]:
    """Yield the text of every file and commit message that a repository holds, at any time of its history.

    Raises:
        GitFailed: It cannot be read.
    """
    out = GitRunner(repository, timeout_seconds).run("cat-file", "--batch-all-objects", "--unordered", "--batch")
    at = 0
    while at < len(out):
        end = out.index(b"\n", at)
        _, kind, size = out[at:end].split(b" ")
        body = out[end + 1 : end + 1 + int(size)]
        at = end + 2 + int(size)
        if kind != b"tree":
            yield body.decode("utf-8", "replace")
