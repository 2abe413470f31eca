"""The mirror of the audit's head: a small file beside the database, so that a cut-off end is seen.

Somebody who can write to the database can put back an older state of it, entries and head together, and
every hash in it fits. The mirror still says how far the audit had come. It is signed, and for this place: an old copy
of the database alone does not give an old mirror. Whoever can put back an older mirror as well is found by the anchors
(`advisor.adapters.audit_anchor`), not here.

The file holds two slots, and a write goes to the older one. A crash in the middle of it can tear that slot only; the
other still holds the head before. The database is written first, so a torn slot is a crash exactly when the database is
ahead of the whole one, and somebody's work when it is not.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from advisor import audit
from advisor.audit import AuditHead
from advisor.errors import AuditBroken, AuditUnavailable, StoreUnavailable

SLOT_BYTES = 512  # one sector, always the same length: disks write it whole or not at all, nearly always
SLOTS = 2
FILE_MODE = 0o600


@dataclass(frozen=True)
class Mirrored:
    """What the mirror says: the newest head of its slots, and whether a slot is torn.

    Attributes:
        head: None where there is no file, or an empty one.
        slot: Where that head stands.
    """

    path: Path | None
    head: AuditHead | None = None
    slot: int = 0
    is_torn: bool = False

    def check(self, head: AuditHead | None) -> None:
        """Check that the database is not older than the mirror: appending to a cut audit would hide the cut.

        Raises:
            AuditBroken: It is.
        """
        if self.head is None:
            return
        count = head.sequence if head else 0
        if count < self.head.sequence or (
            head is not None and count == self.head.sequence and head.hash != self.head.hash
        ):
            raise AuditBroken(
                f"audit: the store has {count} entries, its mirror {self.path} knew {self.head.sequence};"
                " if the store was restored from a backup on purpose, move the mirror away"
            )
        if self.is_torn and count == self.head.sequence:
            raise AuditBroken(
                f"audit: the mirror {self.path} is damaged, and no write was under way: it was edited, or the disk is"
                " failing; what stood behind the last entry may have been cut off"
            )


class Mirror:
    """The file, or nothing at all for a database that is not one."""

    def __init__(self, database: Path | None, key: bytes, busy_seconds: float) -> None:
        """Name the file and how long to wait for it; nothing is opened yet."""
        self._busy_seconds = busy_seconds
        self.path = database.with_name(f"{database.name}.audit-head") if database else None
        self._key = key

    @property
    def exists_for_files(self) -> bool:
        """Return whether there should be one."""
        return self.path is not None

    def read(self) -> Mirrored:
        """Return what it says.

        Raises:
            AuditBroken: It cannot be read, or no slot of it is whole.
        """
        if self.path is None:
            return Mirrored(None)
        try:
            with self.path.open("rb") as file:
                return _parse(file.read(SLOT_BYTES * SLOTS + 1), self.path, self._key)
        except FileNotFoundError:
            return Mirrored(self.path)
        except OSError as error:
            raise AuditBroken(f"audit: the mirror {self.path} cannot be read: {error.strerror}") from error

    @contextmanager
    def held(self) -> Iterator[HeldMirror]:
        """Give the mirror to one writer alone, from before its transaction until after.

        Raises:
            StoreUnavailable: Another process holds it for longer than one may wait.
            AuditUnavailable: It cannot be opened for writing; then nothing may change.
            AuditBroken: No slot of it is whole.
        """
        if self.path is None:
            yield HeldMirror(Mirrored(None), None, self._key)
            return
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        except OSError as error:
            raise AuditUnavailable(
                f"audit: the mirror {self.path} cannot be written ({error.strerror}); nothing was done"
            ) from error
        try:
            _lock(descriptor, self.path, self._busy_seconds)
            said = _parse(os.pread(descriptor, SLOT_BYTES * SLOTS + 1, 0), self.path, self._key)
            yield HeldMirror(said, descriptor, self._key)
        finally:
            os.close(descriptor)


class HeldMirror:
    """The mirror while one writer has it."""

    def __init__(self, said: Mirrored, descriptor: int | None, key: bytes) -> None:
        """Keep the open file and what it said when it was opened."""
        self._said = said
        self._descriptor = descriptor
        self._key = key

    @property
    def head(self) -> AuditHead | None:
        """Return how far the audit had come by it."""
        return self._said.head

    @property
    def is_new(self) -> bool:
        """Return whether the file was not there until now."""
        return self._descriptor is not None and self._said.head is None

    @property
    def is_torn(self) -> bool:
        """Return whether a crash tore a slot; the next write repairs it."""
        return self._said.is_torn

    def check(self, head: AuditHead | None) -> None:
        """Check that the database is not older than the mirror; see `Mirrored.check`."""
        self._said.check(head)

    def begin(self, head: AuditHead) -> None:
        """Fill a new mirror, whole on disk when this returns.

        Raises:
            AuditUnavailable: It cannot be written; nothing may change without it.
        """
        if self._descriptor is None or self._said.path is None:
            return
        try:
            os.pwrite(self._descriptor, _slot(head, self._key) * SLOTS, 0)
            os.fsync(self._descriptor)
            folder = os.open(self._said.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)  # or a power cut may take the file's name away, and its absence is an alarm
            finally:
                os.close(folder)
        except OSError as error:
            raise AuditUnavailable(
                f"audit: the mirror {self._said.path} cannot be written ({error.strerror}); nothing was done"
            ) from error

    def write(self, head: AuditHead) -> None:
        """Bring the mirror up to a head that is committed.

        A failure is not reported: the step is done and on record, and a mirror that lags is made good by
        the next.
        """
        if self._descriptor is None:
            return
        slot = _slot(head, self._key)
        try:
            if self._said.head is None:
                os.pwrite(self._descriptor, slot * SLOTS, 0)
            else:
                os.pwrite(self._descriptor, slot, (1 - self._said.slot) * SLOT_BYTES)
            os.fsync(self._descriptor)
        except OSError:
            return


def _lock(descriptor: int, path: Path, seconds: float) -> None:
    """Take the file's lock, but not wait for ever: its holder may have been stopped in the middle."""
    deadline, pause = time.monotonic() + seconds, 0.001
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise StoreUnavailable(f"store {path}: another process holds it; try again") from error
        time.sleep(pause)
        pause = min(2 * pause, 0.02)  # a step takes some milliseconds


def _slot(head: AuditHead, key: bytes) -> bytes:
    return audit.mirror_of(head, key).model_dump_json().encode().ljust(SLOT_BYTES - 1) + b"\n"


def _parse(data: bytes, path: Path, key: bytes) -> Mirrored:
    if not data:
        return Mirrored(path)
    slots = [_head(data[n * SLOT_BYTES : (n + 1) * SLOT_BYTES], key) for n in range(SLOTS)]
    whole = [(head.sequence, number, head) for number, head in enumerate(slots) if head is not None]
    if not whole:
        raise AuditBroken(f"audit: the mirror {path} is not readable; it was edited or damaged")
    _, number, head = max(whole, key=lambda found: found[:2])
    is_torn = len(whole) < SLOTS or len(data) != SLOT_BYTES * SLOTS
    return Mirrored(path, head, number, is_torn)


def _head(data: bytes, key: bytes) -> AuditHead | None:
    """Return the head in a slot; None if the slot is torn, or not signed for a mirror."""
    try:
        head = AuditHead.model_validate_json(data)
        audit.check_mirror(head, key)
    except (ValidationError, AuditBroken):
        return None
    return head if data == _slot(head, key) else None
