"""The database behind the store: opened safely, written alone, its errors in our words.

SQLite and PostgreSQL look the same from here on: `reading` gives one consistent state, `writing` lets one writer in at
a time and keeps all or nothing. What differs stands in `sqlite` and `postgresql`.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, Pool, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from advisor.errors import AdvisorError, SettingsInvalid, StoreError, StoreUnavailable, StoreUncertain, one_line
from advisor.store import postgresql, sqlite
from advisor.store.schema import MIGRATIONS, SCHEMA_VERSION, Migrations, audit_head, meta, metadata

# Waits between looks at a server whose answer to a COMMIT was lost: a restart takes seconds.
_SETTLE_WAITS = (0.0, 0.2, 0.5, 1.0, 2.0)
_QUEUE_TABLES = "procrastinate_"  # the queue may live in the same database


class StepUndone(StoreUnavailable):
    """Nothing of the step was kept, for certain, and taking it again at once may well succeed."""


class CommitLost(StoreUnavailable):
    """The answer to a COMMIT was lost. It never leaves the store: `Database.settle` finds out."""


class Database:
    """One open database; `reading` and `writing` are its only two doors. A forked process gets connections of its own."""

    def __init__(
        self, engine: Engine, shown: str, busy_seconds: float, path: Path | None = None, mirrored_as: Path | None = None
    ) -> None:
        """Keep the engine; use `open_database`.

        Args:
            engine: Of either kind.
            shown: How the store is named to a person.
            busy_seconds: How long to wait for others who write.
            path: SQLite's file.
            mirrored_as: What the mirror of the audit's head stands beside; None for none.
        """
        self._engine = engine
        self.shown = shown
        self.busy_seconds = busy_seconds
        self.path = path
        self.mirrored_as = mirrored_as
        self._process = os.getpid()
        self._inherited: list[Pool] = []

    @property
    def is_server(self) -> bool:
        """Return whether other machines may write to it as well."""
        return self._engine.dialect.name == "postgresql"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one consistent state and writes nothing.

        Raises:
            StoreError: It cannot be read.
        """
        try:
            with self._connected() as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise self.explain(error) from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection that nobody else writes beside; all of it is kept on leaving, or nothing.

        Raises:
            StepUndone: Others were in the way, or the connection went; nothing was written.
            CommitLost: The connection went while it was being kept.
            StoreError: It cannot be written; nothing was.
        """
        committing = False
        try:
            with self._connected() as connection, connection.execution_options(advisor_writes=True).begin():
                yield connection
                committing = True
        except SQLAlchemyError as error:
            told = self.explain(error)
            if committing and isinstance(error, DBAPIError) and error.connection_invalidated:
                raise CommitLost(str(told)) from error
            raise told from error

    def settle(self, landed: Callable[[Connection], bool]) -> bool:
        """Return whether a transaction whose COMMIT got no answer was kept.

        The look is a writing one: its turn comes only when the lost transaction has ended, one way or the other.

        Raises:
            StoreUncertain: The database cannot be asked.
        """
        last: StoreError | None = None
        for wait in _SETTLE_WAITS:
            time.sleep(wait)
            try:
                with self.writing() as connection:
                    return landed(connection)
            except StoreError as error:
                last = error
        raise StoreUncertain(
            f"{self.shown}: the connection was lost while a step was being kept, and it cannot be asked whether it was"
            f" ({last}); nothing is done twice: when it answers again, run the same command once more"
        ) from last

    def explain(self, error: SQLAlchemyError) -> AdvisorError:
        """Return a database's error as one line that says what to do."""
        if self.is_server and postgresql.is_undone(error):
            cause = error.orig if isinstance(error, DBAPIError) else error
            return StepUndone(f"{self.shown}: {one_line(str(cause), 200)}; nothing was done, try again")
        if isinstance(error, PoolTimeoutError):
            return StoreUnavailable(f"{self.shown}: this process has too many steps under way at once; try again")
        told = (
            postgresql.explain(error, self.shown, self._engine) if self.is_server else sqlite.explain(error, self.shown)
        )
        if told is not None:
            return told
        cause = error.orig if isinstance(error, DBAPIError) else error
        return StoreError(f"{self.shown}: {type(cause).__name__}: {one_line(str(cause), 200)}")

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()

    def _connected(self) -> Connection:
        if self._process != os.getpid() and (self.is_server or self.path is not None):
            # Two processes on one connection would read each other's answers. The parent's are left alone: closing
            # them here would close them there.
            self._inherited.append(self._engine.pool)
            self._engine.dispose(close=False)
            self._process = os.getpid()
        return self._engine.connect()


def open_database(
    url: str,
    busy_seconds: float,
    *,
    password: str | None = None,
    mirror_folder: Path | None = None,
    migrations: Migrations = MIGRATIONS,
    version: int = SCHEMA_VERSION,
) -> Database:
    """Return the database at a URL, its tables made or brought up to date.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql+psycopg://USER@HOST/DATABASE``.
        busy_seconds: How long to wait for others who write.
        password: Of a server, if it is not where `postgresql.open_engine` looks for it.
        mirror_folder: Where a server's mirror of the audit's head is kept on this machine; a file has it beside.
        migrations: What brings tables of version n to n + 1.
        version: The one wanted.

    Raises:
        SettingsInvalid: The URL is not one that this version knows, or the server does not let us in.
        StoreUnavailable: It cannot be opened now.
        StoreError: It is no store, or of a newer version.
    """
    database = _connect(url, busy_seconds, password, mirror_folder)
    try:
        _bring_up_to_date(database, migrations, version)
    except BaseException:  # raised again: only the connections are given back, whatever it was
        database.close()
        raise
    return database


def has_records(url: str, busy_seconds: float = 30.0, *, password: str | None = None) -> bool:
    """Return whether a server's store has entries already; nothing is made.

    Raises:
        SettingsInvalid: As `open_database`.
        StoreError: As `open_database`.
    """
    database = _connect(url, busy_seconds, password, None)
    try:
        with database.reading() as connection:
            if _version(connection, database, SCHEMA_VERSION) == 0:
                return False
            return connection.execute(select(audit_head.c.id)).first() is not None
    finally:
        database.close()


def _connect(url: str, busy_seconds: float, password: str | None, mirror_folder: Path | None) -> Database:
    if url.startswith(sqlite.SCHEME):
        engine, shown, path = sqlite.open_engine(url, busy_seconds)
        return Database(engine, shown, busy_seconds, path, path)
    if url.startswith(postgresql.SCHEME):
        engine, shown = postgresql.open_engine(url, busy_seconds, password)
        # By its address, not by anything inside it: a database that was dropped and made anew must be found shorter.
        name = hashlib.sha256(shown.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        return Database(
            engine, shown, busy_seconds, None, mirror_folder / f"postgresql-{name}" if mirror_folder else None
        )
    scheme = one_line(url.partition(":")[0], 40)
    raise SettingsInvalid(f"store: {scheme!r} is not known; write sqlite:///advisor.db or {postgresql.EXAMPLE}")


def _bring_up_to_date(database: Database, migrations: Migrations, wanted: int) -> None:
    with database.reading() as connection:
        if database.is_server:
            _check_encoding(connection, database.shown)
        version = _version(connection, database, wanted)
    if version == wanted:
        return
    with database.writing() as connection:
        version = _version(connection, database, wanted)  # again: another process may have been first
        if version == 0:
            metadata.create_all(connection)
            connection.execute(insert(meta).values(name="schema", value=str(SCHEMA_VERSION)))
            version = SCHEMA_VERSION
        for step in range(version, wanted):
            migrations[step](connection)
        connection.execute(update(meta).where(meta.c.name == "schema").values(value=str(wanted)))


def _check_encoding(connection: Connection, shown: str) -> None:
    encoding = connection.execute(text("SELECT current_setting('server_encoding')")).scalar_one()
    if encoding != "UTF8":
        raise SettingsInvalid(f"{shown}: its encoding is {encoding}; make a database with ENCODING 'UTF8'")


def _version(connection: Connection, database: Database, wanted: int) -> int:
    shown, another = database.shown, "database" if database.is_server else "file"
    tables = [name for name in inspect(connection).get_table_names() if not name.startswith(_QUEUE_TABLES)]
    if not tables:
        return 0
    if meta.name not in tables:
        raise StoreError(f"{shown}: a database of something else ({', '.join(tables[:3])}); name another {another}")
    value = connection.execute(select(meta.c.value).where(meta.c.name == "schema")).scalar_one_or_none()
    version = int(value) if value and value.isdigit() else 0
    if version < 1:
        raise StoreError(f"{shown}: its version is not readable ({one_line(str(value), 40)})")
    if version > wanted:
        raise StoreError(f"{shown}: it has version {version}, this advisor knows {wanted}; use a newer advisor")
    return version
