"""The tables of the store, and how an older file becomes a present one.

A body column holds the record itself as JSON and is the truth; the columns beside it exist to be asked for
and to be compared and swapped. Instants in such columns are milliseconds since 1970: text with and without
a fraction does not sort by time.
"""

from __future__ import annotations

from collections.abc import Callable

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

metadata = MetaData()

meta = Table(
    "advisor_meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("service", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("recorded_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

proposals = Table(
    "proposals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("incident_id", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("approvals", Integer, nullable=False),
    Column("rolls_back", Text),  # the change taken back; no foreign key: it would close a circle of tables
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
Index("proposals_by_state", proposals.c.state)

# One row for each person's answer, or for the expiry: the primary key lets each exist once.
answers = Table(
    "answers",
    metadata,
    Column("proposal_id", Text, ForeignKey("proposals.id"), primary_key=True),
    Column("person", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

# One row for each delivery that was begun: a grant is used up by its existence.
changes = Table(
    "changes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("proposal_id", Text, ForeignKey("proposals.id"), nullable=False, unique=True),
    Column("incident_id", Text, nullable=False),
    Column("begun_ms", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
)

verifications = Table(
    "verifications",
    metadata,
    Column("change_id", Text, ForeignKey("changes.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("hash", Text, nullable=False, unique=True),
    Column("previous", Text, nullable=False, unique=True),
    Column("body", Text, nullable=False),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", Integer, nullable=False),
    Column("body", Text, nullable=False),
)

# What brings a file of version n to n + 1. Each runs inside the one transaction of the upgrade.
MIGRATIONS: dict[int, Callable[[Connection], None]] = {}
