"""What killed git processes leave in our copy: whose it is, when it is surely dead, and what is worth keeping of it.

Two locks of the kernel prove it. `lock` is held alone by whoever changes refs and packs, `writing` is shared by those
who add objects; git itself holds them, so that they outlive a killed advisor as long as one of its git processes runs.
Who has both alone knows that no lock file of git in the copy has an owner. The remote is never touched here.
Called by `clone` and `runner`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

WRITERS_WAIT_SECONDS = 2.0  # adding an object takes milliseconds; who takes longer is left alone until next time
SCRATCH_SECONDS = 3600.0  # far beyond any deadline of a git command that works in such a folder
LOOSE_MAX = 20_000  # objects of ours that are saved from a damaged copy
LOOSE_BYTES_MAX = 16 * 1024 * 1024
_PAUSE_SECONDS = 0.01
_SCRATCH = ("trees-*", "merge-*", "tmp??????", "tmp????????")  # of `trees`: trees to be written, texts to be merged
_SEEN_AT_ONCE = ("packed-refs.lock", "shallow.lock", "config.lock", "HEAD.lock")


@contextlib.contextmanager
def held(path: Path, kind: int, wait_seconds: float) -> Iterator[int | None]:
    """Hold a lock file, alone or shared (`fcntl.LOCK_EX`, `LOCK_SH`); gives None if others had it for the whole wait.

    The descriptor may be handed to git, which then holds the lock as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield None
                    return
                time.sleep(_PAUSE_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def sign(descriptor: int) -> None:
    """Write who holds a lock into its file: process and start, for whoever has to wait."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}, since {_started(os.getpid())}\n".encode(), 0)


def holder(path: Path) -> str:
    """Return who signed a lock last; the kernel says whether it still lives, this says only who to look for."""
    try:
        words = path.read_text("ascii", "replace")[:100].strip()
    except OSError:
        words = ""
    return f"another process ({words})" if words else "another process"


def _started(process: int) -> str:
    try:
        fields = Path(f"/proc/{process}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
        ticks = int(fields[19])
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(booted + ticks / os.sysconf("SC_CLK_TCK")))
    except (OSError, ValueError, IndexError, AttributeError):
        return "an unknown time"


def in_the_way(store: Path, ref: str) -> bool:
    """Return whether a lock file lies where the next step would stumble over it; a few looks, no listing."""
    return any((store / name).exists() for name in (*_SEEN_AT_ONCE, f"{ref}.lock"))


def clear(store: Path) -> None:
    """Take away lock files and half-written objects; the caller has proved that nobody lives who could own them."""
    found = [*store.glob("*.lock"), *(store / "refs").rglob("*.lock"), *(store / "objects").glob("*.lock")]
    found += (store / "objects/info").glob("*.lock")
    for pattern in ("tmp_*", ".tmp-*", "*.lock"):
        found += (store / "objects/pack").glob(pattern)
    found += (store / "objects").glob("??/tmp_obj_*")
    for leftover in found:
        leftover.unlink(missing_ok=True)
    for folder in (store / "objects").glob("tmp_objdir-*"):
        shutil.rmtree(folder, ignore_errors=True)


def clear_scratch(directory: Path) -> None:
    """Take away folders that a killed process was building a tree in, once they are old beyond doubt."""
    long_ago = time.time() - SCRATCH_SECONDS
    for pattern in _SCRATCH:
        for found in directory.glob(pattern):
            with contextlib.suppress(OSError):
                if found.lstat().st_mtime < long_ago:
                    shutil.rmtree(found) if found.is_dir() else found.unlink()


def save_loose(damaged: Path, store: Path) -> None:
    """Copy the whole loose objects of a damaged copy into its successor.

    The remote never had those of proposals that wait for an answer, nor a commit that is about to be pushed. Each is
    taken only if its bytes are what its name says.
    """
    for found in list(damaged.glob("objects/??/" + "?" * 38))[:LOOSE_MAX]:
        target = store / "objects" / found.parent.name / found.name
        try:
            if target.exists() or not _is_whole(found):
                continue
            target.parent.mkdir(exist_ok=True)
            aside = target.with_name(f"tmp_obj_{found.name}")
            shutil.copyfile(found, aside)
            aside.chmod(0o444)
            aside.replace(target)
        except OSError:
            continue  # what cannot be saved is proposed anew


def _is_whole(loose: Path) -> bool:
    if loose.stat().st_size > LOOSE_BYTES_MAX:
        return False
    try:
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(loose.read_bytes(), LOOSE_BYTES_MAX)
    except zlib.error:
        return False
    name = loose.parent.name + loose.name
    return unpacking.eof and hashlib.sha1(content, usedforsecurity=False).hexdigest() == name
