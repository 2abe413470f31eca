"""The database behind the store: opened safely, written alone, its errors in our words.

SQLite: write-ahead log, every commit on disk (`synchronous=FULL`), foreign keys on, the file readable by
its owner only. A writing transaction begins with `BEGIN IMMEDIATE`: two processes that both read before
they write would otherwise fail in the middle instead of waiting for each other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, update
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from advisor.errors import SettingsInvalid, StoreError, StoreUnavailable, one_line
from advisor.store.schema import MIGRATIONS, SCHEMA_VERSION, meta, metadata

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


class Database:
    """One open database; `reading` and `writing` are its only two doors."""

    def __init__(self, engine: Engine, shown: str, path: Path | None) -> None:
        """Keep the engine; use `open_database`."""
        self._engine = engine
        self.shown = shown
        self.path = path

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one consistent state and writes nothing.

        Raises:
            StoreError: It cannot be read.
        """
        try:
            with self._engine.connect() as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise explain(error, self.shown) from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection that nobody else writes beside; all of it is kept on leaving, or nothing.

        Raises:
            StoreError: It cannot be written; nothing was.
        """
        try:
            with self._engine.connect() as connection:
                with connection.execution_options(advisor_writes=True).begin():
                    yield connection
        except SQLAlchemyError as error:
            raise explain(error, self.shown) from error

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()


def open_database(url: str, busy_seconds: float) -> Database:
    """Return the database at a URL, its tables made or brought up to date.

    Raises:
        SettingsInvalid: The URL is not one that this version knows.
        StoreUnavailable: It cannot be opened now.
        StoreError: The file is no store, or of a newer version.
    """
    if not url.startswith("sqlite://"):
        scheme = one_line(url.partition(":")[0], 40)
        raise SettingsInvalid(f"store: {scheme!r} is not known; write sqlite:///advisor.db")
    path = _prepare_file(url)
    shown = f"store {path}" if path else "store in memory"
    try:
        # One connection is the whole database in memory; a second one would see another, empty one.
        options: dict[str, Any] = {} if path else {"poolclass": StaticPool}
        arguments = {"timeout": busy_seconds, "check_same_thread": False}
        engine = create_engine(url, connect_args=arguments, **options)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise SettingsInvalid(f"store: {one_line(str(error), 200)}; write sqlite:///advisor.db") from error
    _listen(engine)
    database = Database(engine, shown, path)
    try:
        _bring_up_to_date(database)
    except BaseException:  # raised again: only the connections are given back, whatever it was
        database.close()
        raise
    return database


def explain(error: SQLAlchemyError, shown: str) -> StoreError:
    """Return a database's error as one line that says what to do."""
    name = sqlite_error_name(error)
    if name in _UNAVAILABLE:
        return StoreUnavailable(f"{shown}: {_UNAVAILABLE[name]}")
    if name in _BROKEN:
        return StoreError(f"{shown}: {_BROKEN[name]}")
    cause = error.orig if isinstance(error, DBAPIError) else error
    return StoreError(f"{shown}: {type(cause).__name__}: {one_line(str(cause), 200)}")


def sqlite_error_name(error: SQLAlchemyError) -> str:
    """Return SQLite's primary name of an error, such as ``SQLITE_BUSY``; empty where there is none."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    name = str(getattr(cause, "sqlite_errorname", ""))  # extended ones look like SQLITE_BUSY_SNAPSHOT
    return "_".join(name.split("_")[:2])


def _prepare_file(url: str) -> Path | None:
    name = url.removeprefix("sqlite://").removeprefix("/").partition("?")[0]
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


def _bring_up_to_date(database: Database) -> None:
    with database.reading() as connection:
        version = _version(connection, database.shown)
    if version == SCHEMA_VERSION:
        return
    with database.writing() as connection:
        version = _version(connection, database.shown)  # again: another process may have been first
        if version == 0:
            metadata.create_all(connection)
            connection.execute(insert(meta).values(name="schema", value=str(SCHEMA_VERSION)))
            return
        for step in range(version, SCHEMA_VERSION):
            MIGRATIONS[step](connection)
        connection.execute(update(meta).where(meta.c.name == "schema").values(value=str(SCHEMA_VERSION)))


def _version(connection: Connection, shown: str) -> int:
    tables = inspect(connection).get_table_names()
    if not tables:
        return 0
    if meta.name not in tables:
        raise StoreError(f"{shown}: a database of something else ({', '.join(tables[:3])}); name another file")
    text = connection.execute(select(meta.c.value).where(meta.c.name == "schema")).scalar_one_or_none()
    version = int(text) if text and text.isdigit() else 0
    if version < 1:
        raise StoreError(f"{shown}: its version is not readable ({one_line(str(text), 40)})")
    if version > SCHEMA_VERSION:
        raise StoreError(f"{shown}: it has version {version}, this advisor knows {SCHEMA_VERSION}; use a newer advisor")
    return version
