"""Which process has a delivery in hand: so that recovery carries on what a dead one left, and nothing of a living one.

The lock is the kernel's (`flock`): it ends with its process, however that ends, and with nothing else. It is good
manners, not safety: the store's compare-and-swap still decides, on one machine and on many, so where the lock cannot
be had (a full disk, a read-only folder) the work goes on without it. Taken by `delivering`, `rolling_back` and
`recovering`.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advisor.errors import StoreUnavailable

# Longer than a push may take by default (60 s): who waits here wants to hear how it ended. Then it is said instead.
WAIT_SECONDS = 90.0
_PAUSE_SECONDS = 0.02


class InHand(StoreUnavailable):
    """A living process is at work on the same proposal; nothing was done here."""


@contextmanager
def in_hand(folder: Path, proposal_id: str, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold a proposal's delivery against other processes of this machine.

    Raises:
        InHand: Another living process held it for the whole wait.
    """
    path = folder / f"{proposal_id}.lock"
    descriptor = _take(path, proposal_id, wait_seconds)
    try:
        yield
    finally:
        if descriptor is not None:
            try:
                path.unlink(missing_ok=True)  # while it is held: who waits for it sees that and makes a new one
            except OSError:
                pass
            os.close(descriptor)


def _take(path: Path, proposal_id: str, wait_seconds: float) -> int | None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            if time.monotonic() >= deadline:
                raise InHand(
                    f"proposal {proposal_id}: {holder} is at work on it; nothing was done here,"
                    " `advisor changes` says how it ended"
                ) from None
            time.sleep(_PAUSE_SECONDS)
            continue
        except OSError:
            os.close(descriptor)
            return None
        if _is_still(path, descriptor):
            _sign(descriptor)
            return descriptor
        os.close(descriptor)  # its last holder took the file away between our opening and our locking


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        ours, there = os.fstat(descriptor), os.stat(path)
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def _sign(descriptor: int) -> None:
    try:
        os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
    except OSError:
        pass  # only for the words of a refusal


def _holder(descriptor: int) -> str:
    try:
        return os.pread(descriptor, 100, 0).decode("ascii", "replace").strip() or "another process"
    except OSError:
        return "another process"
