"""The undo journal: one line for each change before it is made, in a file outside the target repository and the store.

It is what is left when the database is gone. A line is on the disk before the change begins; where it cannot be written the
change does not begin. Lines are only ever added. A last line that a crash tore is passed over by readers and closed off by
the next writer. What a line means, and whether it is to be believed, is for `rollback.undo`.

Called by `workflow`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from advisor.errors import ChangeRefused, SourceUnavailable, one_line
from advisor.rollback.undo import ENTRY_SCHEMA, OUTCOME_SCHEMA, UndoEntry, UndoOutcome

FILE = "journal.jsonl"
LINE_BYTES_MAX = 96 * 1024 * 1024  # the largest step that is kept, in base64; more is no line of ours
# A line says what it is in its first field, so that a reader passes over what it does not want without taking it apart.
_ENTRY = b'{"schema_name":"%s"' % ENTRY_SCHEMA.encode()
_OUTCOME = b'{"schema_name":"%s"' % OUTCOME_SCHEMA.encode()


class UndoJournal:
    """One append-only file in a folder of its own; usable by many processes at once."""

    def __init__(self, folder: Path) -> None:
        """Remember where; nothing is opened yet."""
        self.path = folder / FILE

    def append(self, line: UndoEntry | UndoOutcome) -> None:
        """Add a line; it is on the disk when this returns.

        Raises:
            ChangeRefused: It is not; the change must not begin.
        """
        data = line.model_dump_json().encode() + b"\n"
        try:
            with self._opened() as descriptor:
                _append(descriptor, data)
        except OSError as error:
            raise ChangeRefused(
                f"undo journal {self.path}: cannot be written: {error.strerror or error}; without it a change is not made"
            ) from error

    @contextmanager
    def _opened(self) -> Iterator[int]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not self.path.exists()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        try:
            if is_new:
                _sync_folder(self.path.parent)
                _sync_folder(self.path.parent.parent)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

    def entries(self, naming: str = "") -> Iterator[UndoEntry]:
        """Yield the entries that can be read, in their order; those only that contain a word, where one is given.

        Raises:
            SourceUnavailable: The file is there and cannot be read.
        """
        for line in self._lines(_ENTRY, naming):
            try:
                yield UndoEntry.model_validate_json(line)
            except ValidationError:
                continue  # torn, or damaged: what it was about is found in the history

    def outcomes(self) -> dict[str, str]:
        """Return how each delivery ended, by change; the last word counts.

        Raises:
            SourceUnavailable: The file is there and cannot be read.
        """
        found: dict[str, str] = {}
        for line in self._lines(_OUTCOME, ""):
            try:
                outcome = UndoOutcome.model_validate_json(line)
            except ValidationError:
                continue
            found[outcome.change_id] = outcome.outcome
        return found

    def _lines(self, beginning: bytes, naming: str) -> Iterator[bytes]:
        wanted = naming.encode()
        try:
            with self.path.open("rb") as file:
                while line := file.readline(LINE_BYTES_MAX):
                    if line.startswith(beginning) and line.endswith(b"\n") and wanted in line:
                        yield line
        except FileNotFoundError:
            return
        except OSError as error:
            raise SourceUnavailable(
                f"undo journal {one_line(str(self.path), 200)}: cannot be read: {error.strerror or error}"
            ) from error


def _append(descriptor: int, data: bytes) -> None:
    size = os.fstat(descriptor).st_size
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    left = memoryview(b"\n" + data if torn else data)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)  # half a line would be passed over, but a full disk is freed again
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
