"""SQLite behind the store: the file prepared, the connection set up, its failures named.

Write-ahead log, every commit on disk (`synchronous=FULL`), foreign keys on, the file readable by its owner only. A
writing transaction begins with `BEGIN IMMEDIATE`: two processes that both read before they write would otherwise fail
in the middle instead of waiting for each other.

It knows no table. Called by `database` only.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from advisor.errors import AdvisorError, SettingsInvalid, StoreError, StoreUnavailable, one_line

SCHEME = "sqlite://"
FILE_MODE = 0o600  # reports quote logs and configuration
FOLDER_MODE = 0o700

# How SQLite names its failures, and what a person should do. Retriable ones are StoreUnavailable.
_UNAVAILABLE = {
    "SQLITE_BUSY": "another process holds it; try again",
    "SQLITE_LOCKED": "another process holds it; try again",
    "SQLITE_FULL": "the disk is full; make room, then try again",
    "SQLITE_READONLY": "it is read-only; check the owner and mode of the file and its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; check the path, and the mode of its folder",
    "SQLITE_PERM": "access is denied; check the owner and mode of the file",
    "SQLITE_AUTH": "access is denied; check the owner and mode of the file",
    "SQLITE_IOERR": "the disk failed to read or write; check the disk and the space left on it",
    "SQLITE_NOLFS": "the file system cannot hold a file of that size",
    "SQLITE_PROTOCOL": "the locks of its file system do not work; keep it on a local disk",
}
_BROKEN = {
    "SQLITE_CORRUPT": "the file is damaged; restore it from a backup, and run `advisor audit verify`",
    "SQLITE_NOTADB": "the file is not a database; name another file under store:",
    "SQLITE_SCHEMA": "its tables are not those of this version",
}


def open_engine(url: str, busy_seconds: float) -> tuple[Engine, str, Path | None]:
    """Return the engine of a URL, how the store is named to a person, and its file (None in memory).

    Raises:
        SettingsInvalid: The URL cannot be read.
        StoreUnavailable: The file cannot be opened.
    """
    path = _prepare_file(url)
    try:
        # One connection is the whole database in memory; a second one would see another, empty one.
        options: dict[str, Any] = {"pool_timeout": busy_seconds} if path else {"poolclass": StaticPool}
        arguments = {"timeout": busy_seconds, "check_same_thread": False}
        engine = create_engine(url, connect_args=arguments, **options)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise SettingsInvalid(f"store: {one_line(str(error), 200)}; write sqlite:///advisor.db") from error
    _listen(engine)
    return engine, f"store {path}" if path else "store in memory", path


def explain(error: SQLAlchemyError, shown: str) -> AdvisorError | None:
    """Return a failure of SQLite as one line that says what to do; None for one that has no name of its own."""
    name = error_name(error)
    if name in _UNAVAILABLE:
        return StoreUnavailable(f"{shown}: {_UNAVAILABLE[name]}")
    if name in _BROKEN:
        return StoreError(f"{shown}: {_BROKEN[name]}")
    return None


def error_name(error: SQLAlchemyError) -> str:
    """Return SQLite's primary name of an error, such as ``SQLITE_BUSY``; empty where there is none."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    name = str(getattr(cause, "sqlite_errorname", ""))  # extended ones look like SQLITE_BUSY_SNAPSHOT
    return "_".join(name.split("_")[:2])


def _prepare_file(url: str) -> Path | None:
    name = url.removeprefix(SCHEME).removeprefix("/").partition("?")[0]
    if name in ("", ":memory:"):
        return None
    path = Path(name)
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        # Made before SQLite opens it, so that it never exists with a wider mode; its log files take its mode.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise StoreUnavailable(f"store {path}: it is not a file; name another one under store:")
            if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077:
                os.fchmod(descriptor, FILE_MODE)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreUnavailable(f"store {path}: it cannot be opened: {error.strerror or error}") from error
    return path


def _listen(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions at its own time; we say when
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("advisor_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
