"""The tables of the store, and how older ones become present ones.

A body column holds the record itself as JSON and is the truth; the columns beside it exist to be asked for
and to be compared and swapped. Instants in such columns are milliseconds since 1970: text with and without
a fraction does not sort by time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

SCHEMA_VERSION = 1

# Compared byte by byte on every engine: the order of approvers is part of a commit, and a server's locale is not ours.
_TEXT = Text().with_variant(Text(collation="C"), "postgresql")

metadata = MetaData()

meta = Table(
    "advisor_meta",
    metadata,
    Column("name", _TEXT, primary_key=True),
    Column("value", _TEXT, nullable=False),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", _TEXT, primary_key=True),
    Column("service", _TEXT, nullable=False),
    Column("outcome", _TEXT, nullable=False),
    Column("recorded_ms", BigInteger, nullable=False),
    Column("body", _TEXT, nullable=False),
)

proposals = Table(
    "proposals",
    metadata,
    Column("id", _TEXT, primary_key=True),
    Column("incident_id", _TEXT, nullable=False),
    Column("digest", _TEXT, nullable=False, unique=True),
    Column("state", _TEXT, nullable=False),
    Column("approvals", Integer, nullable=False),
    Column("rolls_back", _TEXT),  # the change taken back; no foreign key: it would close a circle of tables
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("body", _TEXT, nullable=False),
)
Index("proposals_by_state", proposals.c.state)

# One row for each person's answer, or for the expiry: the primary key lets each exist once.
answers = Table(
    "answers",
    metadata,
    Column("proposal_id", _TEXT, ForeignKey("proposals.id"), primary_key=True),
    Column("person", _TEXT, primary_key=True),
    Column("kind", _TEXT, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("body", _TEXT, nullable=False),
)

# One row for each delivery that was begun: a grant is used up by its existence.
changes = Table(
    "changes",
    metadata,
    Column("id", _TEXT, primary_key=True),
    Column("proposal_id", _TEXT, ForeignKey("proposals.id"), nullable=False, unique=True),
    Column("incident_id", _TEXT, nullable=False),
    Column("begun_ms", BigInteger, nullable=False),
    Column("reason", _TEXT, nullable=False),
    Column("body", _TEXT, nullable=False),
)

verifications = Table(
    "verifications",
    metadata,
    Column("change_id", _TEXT, ForeignKey("changes.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("body", _TEXT, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("hash", _TEXT, nullable=False, unique=True),
    Column("previous", _TEXT, nullable=False, unique=True),
    Column("body", _TEXT, nullable=False),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", Integer, nullable=False),
    Column("body", _TEXT, nullable=False),
)

# What brings tables of version n to n + 1. Each runs inside the one transaction of the upgrade.
Migrations = Mapping[int, Callable[[Connection], None]]
MIGRATIONS: Migrations = {}
