"""PostgreSQL behind the store: the address checked, the connection set up, one writer at a time, its failures named.

All writers take one advisory lock at the beginning of their transaction, so that they stand in a queue as SQLite's do:
of any number of people and workers on any number of machines one reads and writes at a time, and the audit is one
chain. The compare-and-swap on every row stays the guard; the lock keeps it from failing for nothing. It ends with the
transaction, so a killed process holds nobody up. Readers take no lock: each sees one consistent state.

It knows no table. Called by `database` only; psycopg is loaded by SQLAlchemy when an engine is made.
"""

from __future__ import annotations

import os
import re

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from advisor.errors import AdvisorError, SettingsInvalid, StoreError, StoreUnavailable, one_line

SCHEME = "postgresql+psycopg://"
EXAMPLE = f"{SCHEME}user@host/database"
PASSWORD_ENV = "ADVISOR_STORE_PASSWORD"  # noqa: S105 - the name of a variable
PORT = 5432
CONNECT_SECONDS = 10
# A transaction of ours takes milliseconds. One that idles this long belongs to a process that was stopped or cut off,
# and everybody waits for it: the server ends it, nothing of it was done.
IDLE_SECONDS = 60
# A silent peer is given up after 10 + 3 x 5 s, not after the two hours of the kernel's default.
_KEEP_ALIVE = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_LOCK_KEY = int.from_bytes(b"advisor\0")  # any number will do, if nobody else in the database uses it
_SECRET_PARAMETERS = ("password", "sslpassword")

# By the first characters of SQLSTATE, the longest match first.
_UNAVAILABLE = {
    "55P03": "another process holds it; try again",
    "57014": "it took too long there and was stopped; try again, or look what holds it up",
    "57P03": "the server is starting or stopping; try again",
    "53100": "the server's disk is full; make room there, then try again",
    "53200": "the server is out of memory; try again",
    "53300": "the server has no connection left; run fewer workers or raise max_connections",
    "25006": "the server is read-only; name the primary under store:, not a standby",
    "58": "the server's disk failed to read or write; look at its log",
}
_BROKEN = {
    "XX001": "its tables are damaged; restore it from a backup, and run `advisor audit verify`",
    "XX002": "its index is damaged; `REINDEX` it, and run `advisor audit verify`",
    "42P01": "its tables are not those of this version",
    "42703": "its tables are not those of this version",
    "22021": "its encoding is not UTF8; make a database with ENCODING 'UTF8'",
    "22P05": "its encoding is not UTF8; make a database with ENCODING 'UTF8'",
}
_SETTINGS = {
    "3F000": "the role may not do that; give it CREATE on the schema, or make it the owner of the database",
    "42501": "the role may not do that; give it CREATE on the schema, or make it the owner of the database",
}
# Two transactions in each other's way, or a session that was ended: undone for certain, so the step is taken again.
_UNDONE = ("40001", "40P01", "08", "25P03", "57P01", "57P02", "57P05")
# Before there is a session the server's answer comes as text only. It may be in another language; then it is shown.
_REFUSED = {
    r"password authentication failed|no password supplied|fe_sendauth": "the server refused the password of {user};"
    f" set it in {PASSWORD_ENV}, or name store_password_env or store_password_file",
    r"role \".*\" does not exist": "the server knows no role {user}; make it, or name another one under store:",
    r"database \".*\" does not exist": "the server has no database {database}; make it with"
    " `createdb --encoding=UTF8 {database}`",
    r"no pg_hba.conf entry|Peer authentication failed|Ident authentication failed": "the server does not let {user} in"
    " from here (pg_hba.conf)",
    r"invalid connection option|invalid sslmode|invalid .* value": "{text}; mend the address under store:",
    r"does not support SSL|SSL error|certificate|root\.crt": "{text}; mend sslmode and sslrootcert under store:",
}
_LATER = {
    r"too many (clients|connections)|remaining connection slots": _UNAVAILABLE["53300"],
    r"starting up|shutting down|recovery mode": _UNAVAILABLE["57P03"],
}


def open_engine(url: str, busy_seconds: float, password: str | None) -> tuple[Engine, str]:
    """Return the engine of a URL, and how the store is named to a person.

    Args:
        url: Of the settings, without a password.
        busy_seconds: How long to wait for others who write.
        password: Where None, `ADVISOR_STORE_PASSWORD`, and where that is missing what libpq finds (PGPASSFILE).

    Raises:
        SettingsInvalid: The URL cannot be read or carries a password, or psycopg is not installed.
    """
    address = parse_address(url)
    shown = f"store {address.host or 'localhost'}:{address.port or PORT}/{address.database}"
    secret = password or os.environ.get(PASSWORD_ENV) or None
    try:
        engine = create_engine(
            address.set(password=secret),
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                "application_name": "ops-advisor",
                "prepare_threshold": None,  # a pooler between us and the server may hand each step another session
                **_KEEP_ALIVE,
            },
            pool_timeout=busy_seconds,
            pool_pre_ping=True,  # a server that was restarted meanwhile is noticed before a step, not in it
            use_native_hstore=False,
        )
    except ModuleNotFoundError as error:
        raise SettingsInvalid(f"{shown}: psycopg is not installed; install ops-advisor[postgres]") from error
    except (ArgumentError, ValueError) as error:
        raise SettingsInvalid(f"{shown}: {one_line(str(error), 200)}; write {EXAMPLE}") from error
    _listen(engine, busy_seconds)
    return engine, shown


def parse_address(url: str) -> URL:
    """Return a store's URL in its parts.

    Raises:
        SettingsInvalid: It cannot be read, names no database, or carries a password; the message never shows one.
    """
    try:
        address = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise SettingsInvalid(f"store: the address cannot be read; write {EXAMPLE}") from error
    inline = next((name for name in _SECRET_PARAMETERS if name in address.query), None)
    if address.password is not None or inline is not None:
        raise SettingsInvalid(
            f"store: the address carries a password; take it out, and set it in {PASSWORD_ENV},"
            " or name store_password_env or store_password_file"
        )
    if not address.database:
        raise SettingsInvalid(f"store: the address names no database; write {EXAMPLE}")
    return address


def explain(error: SQLAlchemyError, shown: str, engine: Engine) -> AdvisorError | None:
    """Return a failure of PostgreSQL as one line that says what to do; None for one that has no name of its own."""
    if not isinstance(error, DBAPIError):
        return None
    state = str(getattr(error.orig, "sqlstate", None) or "")
    text = one_line(str(error.orig), 300)
    for table, kind in ((_UNAVAILABLE, StoreUnavailable), (_BROKEN, StoreError), (_SETTINGS, SettingsInvalid)):
        for length in (5, 2):
            if state[:length] in table:
                return kind(f"{shown}: {table[state[:length]]}")
    if state or not _is_from_connecting(error):
        return None
    names = {"user": repr(engine.url.username or "this user"), "database": engine.url.database, "text": text}
    for pattern, words in _REFUSED.items():
        if re.search(pattern, text):
            return SettingsInvalid(f"{shown}: {words.format(**names)}")
    for pattern, words in _LATER.items():
        if re.search(pattern, text):
            return StoreUnavailable(f"{shown}: {words}")
    return StoreUnavailable(f"{shown}: the server was not reached ({text}); is it running, is the address right?")


def is_undone(error: SQLAlchemyError) -> bool:
    """Return whether a failed transaction is undone for certain and may well succeed when it is taken again.

    Of a failed ``COMMIT`` it says nothing.
    """
    if not isinstance(error, DBAPIError):
        return False
    state = str(getattr(error.orig, "sqlstate", None) or "")
    return state.startswith(_UNDONE) or error.connection_invalidated


def _is_from_connecting(error: DBAPIError) -> bool:
    return type(error.orig).__name__ in ("OperationalError", "ConnectionTimeout", "ProgrammingError")


def _listen(engine: Engine, busy_seconds: float) -> None:
    milliseconds = max(1, int(busy_seconds * 1000))
    # One question and one answer for all of it. Each statement must see what was committed before the lock was had, so
    # the snapshot is not that of the beginning. A server told to lose acknowledged commits in a crash is told otherwise
    # for ours; a stricter choice than ours stays.
    write = (
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"
        f"SET LOCAL lock_timeout = {milliseconds};"
        f"SET LOCAL statement_timeout = {milliseconds + 1000 * IDLE_SECONDS};"
        f"SET LOCAL idle_in_transaction_session_timeout = {1000 * IDLE_SECONDS};"
        "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';"
        f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"
    )

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("advisor_writes")
        connection.exec_driver_sql(write if writes else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
