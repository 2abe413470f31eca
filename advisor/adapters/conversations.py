"""Conversations in files: one folder for each person, one file for each conversation, bounded, deletable.

They are no records: nothing is decided in them, so they stand beside the store, on the machine where they were held. Only the
person who held one can list, open or delete it. Called by the command line and the console.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from advisor.errors import RecordUnknown, StoreUnavailable, one_line

KEPT_MAX = 50  # of one person; the oldest goes first
BYTES_MAX = 1024 * 1024  # of one conversation; beyond it, it is not kept any longer
_ID = re.compile(r"con-[0-9a-f]{4,40}")


class Kept(Protocol):
    """What is kept: a record with an id."""

    @property
    def id(self) -> str:
        """Return its id."""
        ...

    def model_dump_json(self) -> str:
        """Return it as JSON."""
        ...


C = TypeVar("C", bound=Kept)


class ConversationFiles:
    """The conversations of one person."""

    def __init__(self, folder: Path, person: str) -> None:
        """Name the folder; it is made when something is kept."""
        self._folder = folder / hashlib.sha256(person.strip().lower().encode()).hexdigest()[:24]

    def keep(self, conversation: Kept) -> None:
        """Write a conversation, and drop the oldest beyond what is kept.

        Raises:
            StoreUnavailable: It cannot be written.
        """
        data = conversation.model_dump_json().encode()
        if len(data) > BYTES_MAX:
            raise StoreUnavailable(
                f"conversation {conversation.id}: {len(data)} bytes, more than {BYTES_MAX}; begin another"
            )
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".new-")
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, self._path(conversation.id))
            for old in self._paths()[KEPT_MAX:]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                f"{self._folder}: a conversation cannot be kept: {error.strerror or error}"
            ) from error

    def ids(self) -> tuple[str, ...]:
        """Return the ids of what is kept, the newest first."""
        return tuple(path.stem for path in self._paths())

    def load(self, wanted: str, read: Callable[[bytes], C]) -> C:
        """Return a conversation by its id or the beginning of it.

        Raises:
            RecordUnknown: None, more than one, or one that cannot be read.
        """
        path = self._find(wanted)
        try:
            return read(path.read_bytes())
        except (OSError, ValueError) as error:
            raise RecordUnknown(f"conversation {path.stem}: cannot be read: {one_line(str(error), 120)}") from error

    def delete(self, wanted: str) -> str:
        """Delete a conversation and return its id.

        Raises:
            RecordUnknown: None, or more than one.
        """
        path = self._find(wanted)
        path.unlink(missing_ok=True)
        return path.stem

    def _find(self, wanted: str) -> Path:
        found = [p for p in self._paths() if wanted and p.stem.startswith(wanted)]
        if len(found) != 1:
            told = "no conversation of yours" if not found else f"{len(found)} conversations of yours"
            raise RecordUnknown(f"{told} begins with {one_line(wanted, 40)!r}; `advisor chat --list` shows them")
        return found[0]

    def _paths(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        found = [p for p in self._folder.glob("con-*.json") if _ID.fullmatch(p.stem)]
        return sorted(found, key=lambda p: (-p.stat().st_mtime_ns, p.stem))

    def _path(self, conversation_id: str) -> Path:
        if not _ID.fullmatch(conversation_id):
            raise RecordUnknown(f"conversation {one_line(conversation_id, 40)!r}: not an id")
        return self._folder / f"{conversation_id}.json"
