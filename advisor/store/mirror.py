"""The mirror of the audit's head: a small file beside the database, so that a cut-off end is seen.

Somebody who can write to the database can put back an older state of it, entries and head together, and
every hash in it fits. The mirror still says how far the audit had come. It is signed like the head itself.
Whoever can put back an older mirror as well is not found by it; keep a copy of it elsewhere if that matters.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from advisor import audit
from advisor.audit import AuditHead
from advisor.errors import AuditBroken, AuditUnavailable

FILE_BYTES = 512  # one sector, always the same length: a write is whole or not there
FILE_MODE = 0o600


class Mirror:
    """The file, or nothing at all for a database in memory."""

    def __init__(self, database: Path | None, key: bytes) -> None:
        """Name the file; nothing is opened yet."""
        self.path = database.with_name(f"{database.name}.audit-head") if database else None
        self._key = key

    @property
    def exists_for_files(self) -> bool:
        """Return whether there should be one."""
        return self.path is not None

    def read(self) -> AuditHead | None:
        """Return what it says; None if it is missing or still empty.

        Raises:
            AuditBroken: It cannot be read.
        """
        if self.path is None:
            return None
        try:
            return _parse(self.path.read_bytes(), self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AuditBroken(f"audit: the mirror {self.path} cannot be read: {error.strerror}") from error

    @contextmanager
    def held(self) -> Iterator[HeldMirror]:
        """Give the mirror to one writer alone, from before its transaction until after.

        Raises:
            AuditUnavailable: It cannot be opened for writing; then nothing may change.
        """
        if self.path is None:
            yield HeldMirror(None, None, self._key)
            return
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        except OSError as error:
            raise AuditUnavailable(
                f"audit: the mirror {self.path} cannot be written ({error.strerror}); nothing was done"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield HeldMirror(self.path, descriptor, self._key)
        finally:
            os.close(descriptor)


class HeldMirror:
    """The mirror while one writer has it."""

    def __init__(self, path: Path | None, descriptor: int | None, key: bytes) -> None:
        """Keep the open file."""
        self._path = path
        self._descriptor = descriptor
        self._key = key

    @property
    def is_new(self) -> bool:
        """Return whether the file was not there until now."""
        return self._descriptor is not None and not os.pread(self._descriptor, FILE_BYTES, 0).strip(b"\0 \n")

    def check(self, head: AuditHead | None) -> None:
        """Check that the database is not older than the mirror: appending to a cut audit would hide the cut.

        Raises:
            AuditBroken: It is.
        """
        if self._descriptor is None or self._path is None:
            return
        mirrored = _parse(os.pread(self._descriptor, FILE_BYTES, 0), self._path)
        if mirrored is None:
            return
        audit.check_head(mirrored, self._key)
        count = head.sequence if head else 0
        if count < mirrored.sequence or (
            head is not None and count == mirrored.sequence and head.hash != mirrored.hash
        ):
            raise AuditBroken(
                f"audit: the store has {count} entries, its mirror {self._path} knew {mirrored.sequence};"
                " if the store was restored from a backup on purpose, move the mirror away"
            )

    def write(self, head: AuditHead) -> None:
        """Bring the mirror up to a head that is committed.

        A failure is not reported: the step is done and on record, and a mirror that lags is made good by
        the next.
        """
        if self._descriptor is None:
            return
        line = head.model_dump_json().encode().ljust(FILE_BYTES - 1) + b"\n"
        try:
            os.pwrite(self._descriptor, line, 0)
            os.fsync(self._descriptor)
        except OSError:
            return


def _parse(data: bytes, path: Path) -> AuditHead | None:
    if not data.strip(b"\0 \n"):
        return None
    try:
        return AuditHead.model_validate_json(data)
    except ValidationError as error:
        raise AuditBroken(f"audit: the mirror {path} is not readable; it was edited or damaged") from error
