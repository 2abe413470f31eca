"""Whether the tables say what the audit says: each row has its entry, each entry its row.

The chain by itself only shows that the entries are whole. The rows beside it (reports, proposals, answers, changes,
verdicts and where each stands) could be edited, added or removed without touching it. Each of them is named with its
digest in an entry when it is written; here the entries are read from the first to the last, what must be in the tables
is worked out from them, and the tables are held against that.

It reads and never writes. Called by `Store.verify_audit`, inside the transaction that read the entries.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json
from sqlalchemy import Connection, Row, inspect, select, text

from advisor.audit import AuditEntry
from advisor.errors import AuditBroken, IllegalTransition, one_line
from advisor.lifecycle import Event, State, advance
from advisor.proposal import Proposal, digest_of
from advisor.store import schema
from advisor.values import digest

_EVENTS = frozenset(event.value for event in Event)
_VERDICTS = (Event.PASS, Event.FAIL, Event.LEAVE_OPEN, Event.ERR)
_OUTCOMES = (
    Event.DELIVER,
    Event.CONFLICT,
    Event.REFUSE,
    Event.EXPIRE,
    Event.LOSE,
    Event.OPEN,
    Event.MERGE,
    Event.CLOSE,
)
_ANSWERS = (Event.APPROVE, Event.GRANT, Event.DENY, Event.EXPIRE)


_SQLITE_OBJECTS = "SELECT type, name, '' FROM sqlite_master WHERE type IN ('trigger', 'view')"
_POSTGRESQL_OBJECTS = (
    "SELECT 'trigger', t.tgname, c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
    " WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace"
    " UNION ALL SELECT 'rule', rulename, tablename FROM pg_rules WHERE schemaname = current_schema()"
)


@dataclass
class _Incident:
    report: str
    at: datetime


@dataclass
class _Proposal:
    digest: str
    state: State
    approvals: int = 0
    answers: list[str] = field(default_factory=list)


@dataclass
class _Change:
    proposal: str
    details: dict[str, str]
    at: datetime
    reason: str = ""
    verifications: list[str] = field(default_factory=list)


@dataclass
class Expected:
    """What the tables must hold, by what the entries say."""

    incidents: dict[str, _Incident] = field(default_factory=dict)
    proposals: dict[str, _Proposal] = field(default_factory=dict)
    changes: dict[str, _Change] = field(default_factory=dict)

    def take(self, entry: AuditEntry) -> None:
        """Take one entry in, as the store did when it wrote it.

        Raises:
            AuditBroken: The entry tells of a step that nothing before it allows.
        """
        kind, _, step = entry.action.partition(".")
        details = dict(entry.details)
        try:
            if entry.action == "incident.record":
                self.incidents[entry.subject] = _Incident(details["report"], entry.at)
            elif kind == "proposal":
                self._take_proposal(entry.subject, step, details)
            elif kind == "change":
                self._take_change(entry, step, details)
        except (KeyError, ValueError, IllegalTransition) as error:
            raise AuditBroken(
                f"audit entry {entry.sequence}: {entry.action} of {entry.subject} does not fit"
            ) from error

    def _take_proposal(self, subject: str, step: str, details: dict[str, str]) -> None:
        if step == "record":
            self.proposals[subject] = _Proposal(details["digest"], State.PROPOSED)
            return
        if step not in _EVENTS and "state" not in details:
            return  # a note, such as a refused attempt
        if subject not in self.proposals:  # a rollback's proposal is recorded together with its grant
            self.proposals[subject] = _Proposal(details["digest"], State.PROPOSED)
        proposal = self.proposals[subject]
        proposal.state = State(details["state"]) if "state" in details else advance(proposal.state, Event(step))
        if "record" in details:
            proposal.answers.append(details["record"])
            proposal.approvals += step not in (Event.DENY.value, Event.EXPIRE.value)

    def _take_change(self, entry: AuditEntry, step: str, details: dict[str, str]) -> None:
        if step == Event.BEGIN_DELIVERY.value:
            self.changes[entry.subject] = _Change(details["proposal"], details, entry.at)
        elif step not in _EVENTS:
            return
        change = self.changes[entry.subject]
        proposal = self.proposals[change.proposal]
        event = Event(step)
        if event in _VERDICTS:
            change.verifications.append(details["record"])
            if proposal.state is not State.VERIFYING:
                proposal.state = advance(proposal.state, Event.BEGIN_VERIFICATION)
        elif "reason" in details:  # an outcome
            change.reason = details["reason"]
        proposal.state = advance(proposal.state, event)


def check_tables(connection: Connection, entries: Iterable[AuditEntry]) -> None:
    """Check every row against the entries, and every entry against the rows.

    Args:
        connection: Of the transaction that the entries were read in.
        entries: The whole chain, verified before.

    Raises:
        AuditBroken: It names the rows that were edited, are missing, or have no entry; the first three of them.
    """
    expected = Expected()
    for entry in entries:
        expected.take(entry)
    found = [
        finding
        for findings in (
            _foreign_objects(connection),
            _incidents(connection, expected),
            _proposals(connection, expected),
            _answers(connection, expected),
            _changes(connection, expected),
            _verifications(connection, expected),
            _heads(connection),
        )
        for finding in findings
    ]
    if found:
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        raise AuditBroken("audit: the tables do not say what the entries say: " + "; ".join(found[:3]) + more)


def _foreign_objects(connection: Connection) -> Iterator[str]:
    """Name what was added to the database itself: a trigger would rewrite rows behind our back."""
    known = set(schema.metadata.tables)
    for name in sorted(known - set(inspect(connection).get_table_names())):
        yield f"the table {name} is missing"
    is_file = connection.dialect.name == "sqlite"
    for kind, name, table in connection.execute(text(_SQLITE_OBJECTS if is_file else _POSTGRESQL_OBJECTS)):
        if is_file or table in known:  # on a server the queue may live beside them, with triggers of its own
            yield f"the {kind} {one_line(str(name), 60)} is not ours"
    if not is_file:
        return  # a server has no check of its own that one may ask for
    for (said,) in connection.execute(text("PRAGMA integrity_check(3)")):
        if said != "ok":
            yield f"SQLite's own check says {one_line(str(said), 120)}"


def _incidents(connection: Connection, expected: Expected) -> Iterator[str]:
    left = dict(expected.incidents)
    for row in connection.execute(select(schema.incidents)).all():
        entry = left.pop(row.id, None)
        if entry is None:
            yield f"incident {_shown(row.id)} has no entry"
            continue
        report = _json(row.body) or {}
        told = (
            digest(str(row.body).encode("utf-8", "surrogatepass")),
            str((report.get("incident") or {}).get("id")),
            row.service,
            row.outcome,
            row.recorded_ms,
        )
        incident, diagnosis = report.get("incident") or {}, report.get("diagnosis") or {}
        wanted = (
            entry.report,
            row.id,
            str(incident.get("service", "")),
            str(diagnosis.get("outcome", "")),
            _ms(entry.at),
        )
        if told != wanted:
            yield f"incident {_shown(row.id)} was edited"
    yield from (f"incident {_shown(name)} is missing" for name in left)


def _proposals(connection: Connection, expected: Expected) -> Iterator[str]:
    left = dict(expected.proposals)
    for row in connection.execute(select(schema.proposals)).all():
        entry = left.pop(row.id, None)
        if entry is None:
            yield f"proposal {_shown(row.id)} has no entry"
            continue
        try:
            proposal = Proposal.model_validate_json(row.body)
        except ValidationError:
            yield f"proposal {_shown(row.id)} cannot be read"
            continue
        columns = (row.id, row.incident_id, row.digest, row.rolls_back, row.created_ms, row.expires_ms)
        wanted = (
            proposal.id,
            proposal.incident_id,
            entry.digest,
            proposal.rolls_back,
            _ms(proposal.created_at),
            _ms(proposal.expires_at),
        )
        if columns != wanted or not digest_of(proposal) == proposal.digest == entry.digest or not _exact(row.body):
            yield f"proposal {_shown(row.id)} was edited"
        elif row.state != entry.state.value:
            yield f"proposal {_shown(row.id)} stands as {_shown(row.state)}, by the entries as {entry.state.value}"
        elif row.approvals != entry.approvals:
            yield f"proposal {_shown(row.id)} counts {row.approvals} approvals, by the entries {entry.approvals}"
    yield from (f"proposal {_shown(name)} is missing" for name in left)


def _answers(connection: Connection, expected: Expected) -> Iterator[str]:
    left = {(name, record) for name, proposal in expected.proposals.items() for record in proposal.answers}
    for row in connection.execute(select(schema.answers)).all():
        shown = f"answer of {_shown(row.person) or 'nobody'} to proposal {_shown(row.proposal_id)}"
        fields = _json(row.body)
        key = (row.proposal_id, digest(fields) if fields is not None else "")
        if key not in left:
            yield f"the {shown} was edited or has no entry"
            continue
        left.remove(key)
        known = fields or {}
        columns = (row.proposal_id, row.person, row.at_ms)
        wanted = (known.get("proposal_id"), known.get("person", ""), _ms_of(known.get("at")))
        if columns != wanted or row.kind != _kind(known) or not _exact(row.body):
            yield f"the {shown} was edited"
    yield from (f"an answer to proposal {_shown(name)} is missing" for name, _ in sorted(left))


def _changes(connection: Connection, expected: Expected) -> Iterator[str]:
    left = dict(expected.changes)
    for row in connection.execute(select(schema.changes)).all():
        entry = left.pop(row.id, None)
        if entry is None:
            yield f"change {_shown(row.id)} has no entry"
            continue
        known = _json(row.body) or {}
        columns = (row.id, row.proposal_id, row.incident_id, row.begun_ms, row.reason)
        wanted = (
            known.get("id"),
            entry.proposal,
            known.get("incident_id"),
            _ms(entry.at),
            one_line(entry.reason),
        )
        bound = all(known.get(name) == entry.details.get(name) for name in ("commit", "base", "digest"))
        record = entry.details.get("record")
        if columns != wanted or not bound or not _exact(row.body) or (record is not None and digest(known) != record):
            yield f"change {_shown(row.id)} was edited"
    yield from (f"change {_shown(name)} is missing" for name in left)


def _verifications(connection: Connection, expected: Expected) -> Iterator[str]:
    left = {
        (name, number): record
        for name, change in expected.changes.items()
        for number, record in enumerate(change.verifications, start=1)
    }
    for row in connection.execute(select(schema.verifications)).all():
        shown = f"verdict {row.number} on change {_shown(row.change_id)}"
        record = left.pop((row.change_id, row.number), None)
        fields = _json(row.body)
        if record is None:
            yield f"the {shown} has no entry"
        elif (
            fields is None or digest(fields) != record or _ms_of(fields.get("at")) != row.at_ms or not _exact(row.body)
        ):
            yield f"the {shown} was edited"
    yield from (f"verdict {number} on change {_shown(name)} is missing" for name, number in left)


def _heads(connection: Connection) -> Iterator[str]:
    rows: list[Row[Any]] = list(connection.execute(select(schema.audit_head)).all())
    for row in rows:
        known = _json(row.body) or {}
        if row.id != 1 or row.sequence != known.get("sequence") or not _exact(row.body):
            yield "the head of the audit was edited or is there twice"


def _json(body: Any) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, TypeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _exact(body: Any) -> bool:
    """Return whether a body is, to the byte, what the store writes: the same record in other bytes was edited too."""
    try:
        return to_json(json.loads(body)) == str(body).encode()
    except (ValueError, TypeError, RecursionError):
        return False


def _kind(fields: dict[str, Any]) -> str:
    if "expired_at" in fields:
        return "expiry"
    return "approval" if "rollback_on_failure" in fields else "denial"


def _shown(text: Any) -> str:
    return one_line(str(text), 80)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _ms_of(text: Any) -> int | None:
    try:
        return _ms(datetime.fromisoformat(text))
    except (TypeError, ValueError):
        return None
