"""The store: every record of the advisor, each step a compare-and-swap, each audited in the same transaction.

What is pending is read from here and from nowhere else; a process may be killed at any line. A step of the
lifecycle is one ``UPDATE … WHERE state = ? AND digest = ?`` that must hit one row, so of any number of
people and workers one wins and the others are told who was first. Where the audit entry cannot be written,
the step is undone with it.

It applies no rule of its own but the table of states: who may approve was settled by `approval` before a
record comes here. Importing this module loads SQLAlchemy, so the command line imports it inside its
functions.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import Connection, Row, Table, func, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from advisor import audit
from advisor.approval import Approval, Denial, Expiry, Resolution
from advisor.audit import AuditEntry, AuditHead
from advisor.change import Change, Outcome
from advisor.errors import (
    ApprovalExpired,
    ApprovalMismatch,
    ApprovalMissing,
    ApprovalResolved,
    AuditBroken,
    AuditUnavailable,
    IllegalTransition,
    RecordUnknown,
    StoreError,
    one_line,
)
from advisor.lifecycle import ON_BRANCH, PENDING, Event, State, advance
from advisor.proposal import Proposal
from advisor.store import schema
from advisor.store.bound import check_tables
from advisor.store.database import CommitLost, Database, StepUndone, open_database
from advisor.store.database import has_records as has_records
from advisor.store.mirror import HeldMirror, Mirror
from advisor.store.retrying import whole_step
from advisor.values import Instant, Record, canonical_json, digest
from advisor.verification import Verdict, Verification

BUSY_SECONDS = 30.0  # dozens of processes that each need some milliseconds are served well before
_NAMED_MAX = 6
_R = TypeVar("_R", bound=Record)
_ANSWERS: dict[str, type[Approval | Denial | Expiry]] = {
    "approval": Approval,
    "denial": Denial,
    "expiry": Expiry,
}
_OUTCOMES = {
    Outcome.DELIVERED: Event.DELIVER,
    Outcome.OPENED: Event.OPEN,
    Outcome.MERGED: Event.MERGE,
    Outcome.CLOSED: Event.CLOSE,
    Outcome.CONFLICT: Event.CONFLICT,
    Outcome.REFUSED: Event.REFUSE,
    Outcome.EXPIRED: Event.EXPIRE,
    Outcome.UNCERTAIN: Event.LOSE,
}
# An outcome that settles nothing yet, with the state in which hearing it again is no news.
_UNSETTLED = {Outcome.UNCERTAIN: State.UNCERTAIN, Outcome.OPENED: State.AWAITING_MERGE}
_VERDICTS = {
    Verdict.PASSED: Event.PASS,
    Verdict.FAILED: Event.FAIL,
    Verdict.INCONCLUSIVE: Event.LEAVE_OPEN,
    Verdict.ERROR: Event.ERR,
}
MIRROR_BEGUN = "audit.mirror_begun"  # another machine joined those that write to one server
MIRROR_REMADE = "audit.mirror_remade"
MIRROR_REPAIRED = "audit.mirror_repaired"  # a crash tore a slot of it
_SYSTEM = "ops-advisor"  # who acts in the audit where no person does


class IncidentLine(Record):
    """One investigated incident in a list."""

    id: str
    service: str
    outcome: str
    recorded_at: Instant


class StoredProposal(Record):
    """A proposal, where it stands, and the change that came of it once its delivery was begun."""

    proposal: Proposal
    state: State
    change: Change | None = None


class StoredChange(Record):
    """A change, where it stands, and why it stands there."""

    change: Change
    state: State
    reason: str = ""


class Store:
    """All records, in one database.

    Thread-safe; a forked process opens its own. Every instant comes in as an argument.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        """Keep an open database; use `Store.open`."""
        self._database = database
        self._key = key
        self._mirror = Mirror(database.mirrored_as, key, database.busy_seconds)
        # Called before an intent is recorded (what it raises, nothing is done) and after an outcome was. The workflow
        # has the head of the audit anchored outside here.
        self.before_intent: Callable[[Change, datetime], None] = _nothing
        self.after_outcome: Callable[[Change, datetime], None] = _nothing

    @classmethod
    def open(
        cls,
        url: str,
        key: bytes,
        busy_seconds: float = BUSY_SECONDS,
        *,
        password: str | None = None,
        mirror_folder: Path | None = None,
    ) -> Store:
        """Return the store at a URL, made if it is not there.

        Args:
            url: Of the settings: ``sqlite:///advisor.db`` or ``postgresql+psycopg://user@host/database``.
            key: The server's key, which signs the audit.
            busy_seconds: How long to wait for others who write.
            password: Of PostgreSQL; where None, `ADVISOR_STORE_PASSWORD`, then what libpq finds.
            mirror_folder: Where this machine keeps its mirror of PostgreSQL's audit head; SQLite has it beside.

        Raises:
            SettingsInvalid: The URL is not one that this version knows, or the server does not let us in.
            StoreUnavailable: It cannot be opened or written now.
            StoreError: It is damaged, of something else, or of a newer version.
        """
        return cls(open_database(url, busy_seconds, password=password, mirror_folder=mirror_folder), key)

    def close(self) -> None:
        """Give back the connections."""
        self._database.close()

    # --- incidents
    # -------------------------------------------------------------------------------------------------

    @whole_step
    def save_investigation(self, report: Mapping[str, Any], at: datetime) -> None:
        """Keep a report as `investigate --json` prints it; a repeat of the same one is the same record.

        Raises:
            StoreError: Another report has that id, or it cannot be written.
        """
        incident, diagnosis = report["incident"], report.get("diagnosis") or {}
        incident_id, body = str(incident["id"]), canonical_json(report).decode("utf-8", "replace")
        with self._writing() as connection:
            table = schema.incidents
            known = connection.execute(select(table.c.body).where(table.c.id == incident_id)).scalar_one_or_none()
            if known is not None:
                if known != body:
                    raise StoreError(f"{self._shown}: incident {incident_id} is on record with another report")
                return
            connection.execute(
                insert(table).values(
                    id=incident_id,
                    service=str(incident.get("service", "")),
                    outcome=str(diagnosis.get("outcome", "")),
                    recorded_ms=_ms(at),
                    body=body,
                )
            )
            self._audit(connection, at, _SYSTEM, "incident.record", incident_id, {"report": digest(body.encode())})

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return the report of an incident, by its id or the beginning of it.

        Raises:
            RecordUnknown: None, or more than one.
        """
        row = self._find(schema.incidents, incident_id, "incident")
        report: dict[str, Any] = json.loads(row.body)
        return report

    def list_incidents(self, limit: int = 100) -> tuple[IncidentLine, ...]:
        """Return the newest incidents first."""
        table = schema.incidents
        with self._database.reading() as connection:
            rows = connection.execute(
                select(table.c.id, table.c.service, table.c.outcome, table.c.recorded_ms)
                .order_by(table.c.recorded_ms.desc(), table.c.id)
                .limit(limit)
            ).all()
        return tuple(
            IncidentLine(id=r.id, service=r.service, outcome=r.outcome, recorded_at=_instant(r.recorded_ms))
            for r in rows
        )

    # --- proposals and answers
    # -------------------------------------------------------------------------------------

    @whole_step
    def save_proposal(self, proposal: Proposal) -> None:
        """Keep a proposal, waiting for its answer; a repeat of the same one changes nothing.

        Raises:
            StoreError: Another proposal has that id, or it cannot be written.
        """
        with self._writing() as connection:
            if self._insert_proposal(connection, proposal, State.PROPOSED):
                details = {"digest": proposal.digest, "incident": proposal.incident_id}
                self._audit(
                    connection,
                    proposal.created_at,
                    proposal.proposer,
                    "proposal.record",
                    proposal.id,
                    details,
                )

    def proposal(self, proposal_id: str) -> Proposal:
        """Return a proposal, by its id or the beginning of it.

        Raises:
            RecordUnknown: None, or more than one.
        """
        return self._read(Proposal, self._find(schema.proposals, proposal_id, "proposal").body)

    def state_of(self, proposal_id: str) -> State:
        """Return where a proposal, or its change, stands.

        Raises:
            RecordUnknown: None, or more than one.
        """
        return State(self._find(schema.proposals, proposal_id, "proposal").state)

    def list_proposals(
        self, incident_id: str | None = None, states: Iterable[State] = State, limit: int | None = 1000
    ) -> tuple[StoredProposal, ...]:
        """Return proposals, the newest first; ``limit=None`` for all of them."""
        table, changes = schema.proposals, schema.changes
        wanted = (
            select(table.c.body, table.c.state, changes.c.body.label("change"))
            .join(changes, changes.c.proposal_id == table.c.id, isouter=True)
            .where(table.c.state.in_([state.value for state in states]))
        )
        if incident_id is not None:
            wanted = wanted.where(table.c.incident_id == incident_id)
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(table.c.created_ms.desc(), table.c.id).limit(limit)).all()
        return tuple(
            StoredProposal(
                proposal=self._read(Proposal, r.body),
                state=State(r.state),
                change=None if r.change is None else self._read(Change, r.change),
            )
            for r in rows
        )

    def pending(self) -> tuple[StoredProposal, ...]:
        """Return all on which someone or something still has to act, the newest first.

        What is under way comes with its change. Of a rollback there are two: the change that is being taken back, as
        ``rolling_back``, and the rollback's own proposal, which names that change in ``rolls_back`` and has a change of
        its own as soon as its delivery was begun.
        """
        return self.list_proposals(states=PENDING, limit=None)  # whatever is left out here would wait for ever

    def answers(self, proposal_id: str) -> tuple[Resolution, ...]:
        """Return the recorded answers to a proposal, in their order."""
        with self._database.reading() as connection:
            return self._answers(connection, proposal_id)

    @whole_step
    def record_answer(self, answer: Resolution, people_needed: int = 1) -> State:
        """Keep an answer and return where the proposal stands then.

        Args:
            answer: As `approval.decide` or `approval.expire` made it.
            people_needed: How many distinct approvals grant it (`approval.people_needed`).

        Raises:
            ApprovalResolved: Somebody was first; the message says who. Nothing changed.
            ApprovalExpired: It ran out. Nothing changed.
            ApprovalMismatch: The recorded proposal has another digest. Nothing changed.
            AuditUnavailable: Nothing changed.
        """
        table = schema.proposals
        with self._writing() as connection:
            row = self._row(connection, table, answer.proposal_id, "proposal")
            self._check_open(connection, row, answer)
            approvals = row.approvals + isinstance(answer, Approval)
            match answer:
                case Approval():
                    event = Event.GRANT if approvals >= max(1, people_needed) else Event.APPROVE
                case Denial():
                    event = Event.DENY
                case Expiry():
                    event = Event.EXPIRE
            state = advance(State(row.state), event)
            swapped = connection.execute(
                update(table)
                .where(
                    table.c.id == row.id,
                    table.c.digest == answer.digest,
                    table.c.state == row.state,
                    table.c.approvals == row.approvals,
                )
                .values(state=state.value, approvals=approvals)
            )
            if swapped.rowcount != 1:
                raise ApprovalResolved(
                    f"proposal {row.id} was answered at the same moment; an answer now changes nothing"
                )
            self._insert_answer(connection, answer)
            actor = _SYSTEM if isinstance(answer, Expiry) else answer.person
            details = {"digest": answer.digest, "record": digest(answer), "state": state.value}
            self._audit(connection, answer.at, actor, f"proposal.{event.value}", row.id, details)
            if isinstance(answer, Expiry):
                self._settle_rolled_back(connection, row.rolls_back, Event.ABANDON_ROLLBACK, answer.at, "expired")
            return state

    @whole_step
    def supersede(self, proposal_id: str, reason: str, at: datetime) -> State:
        """Set aside a proposal that cannot be delivered any more; one that was begun stays where it is."""
        with self._writing() as connection:
            row = self._row(connection, schema.proposals, proposal_id, "proposal")
            if State(row.state) not in (State.PROPOSED, State.GRANTED):
                return State(row.state)
            return self._supersede(connection, row, reason, at)

    # --- changes
    # ---------------------------------------------------------------------------------------------------

    @whole_step
    def begin_delivery(self, change: Change, at: datetime) -> None:
        """Keep the intent to deliver; the grant is used up by it.

        Raises:
            ApprovalMissing: It was not granted.
            ApprovalExpired: The grant ran out.
            ApprovalMismatch: The recorded proposal has another digest.
            ApprovalResolved: It was delivered, denied or set aside before.
            AuditUnavailable: Nothing changed.
        """
        table = schema.proposals
        self.before_intent(change, at)
        with self._writing() as connection:
            swapped = connection.execute(
                update(table)
                .where(
                    table.c.id == change.proposal_id,
                    table.c.digest == change.digest,
                    table.c.state == State.GRANTED.value,
                    table.c.approvals >= 1,
                    table.c.expires_ms > _ms(at),
                    table.c.created_ms <= _ms(at),
                )
                .values(state=advance(State.GRANTED, Event.BEGIN_DELIVERY).value)
            )
            if swapped.rowcount != 1:
                raise self._why_not_delivered(connection, change, at)
            connection.execute(
                insert(schema.changes).values(
                    id=change.id,
                    proposal_id=change.proposal_id,
                    incident_id=change.incident_id,
                    begun_ms=_ms(at),
                    reason="",
                    body=_body(change),
                )
            )
            details = {
                "proposal": change.proposal_id,
                "digest": change.digest,
                "commit": change.commit,
                "base": change.base,
                "record": digest(change),
                "approved_by": ", ".join(change.approvers),
            }
            self._audit(connection, at, _SYSTEM, "change.begin_delivery", change.id, details)

    @whole_step
    def resume_delivery(self, change: Change, at: datetime) -> None:
        """Keep the intent to push a delivery that is under way once more.

        Raises:
            IllegalTransition: No delivery of it is under way, or of another commit.
            AuditUnavailable: Nothing changed.
        """
        with self._writing() as connection:
            self._row_under_way(connection, change)
            self._audit(connection, at, _SYSTEM, "change.resume_delivery", change.id, {"commit": change.commit})

    def begin_merge(self, change: Change, at: datetime) -> None:
        """Keep the intent to merge what is offered.

        Raises:
            IllegalTransition: It is not waiting to be merged.
            AuditUnavailable: Nothing changed.
        """
        with self._writing() as connection:
            row = self._row_under_way(connection, change)
            advance(State(row.state), Event.MERGE)
            self._audit(connection, at, _SYSTEM, "change.begin_merge", change.id, {"commit": change.commit})

    def stands(self, proposal_id: str) -> bool:
        """Return whether what a proposal became stands on its branch now."""
        return self.state_of(proposal_id) in ON_BRANCH

    @whole_step
    def record_outcome(self, change: Change, outcome: Outcome, reason: str, at: datetime) -> None:
        """Keep how a delivery ended; of a rollback, also where that leaves the change it takes back.

        Raises:
            IllegalTransition: No delivery of it is under way.
        """
        reason = one_line(reason)
        with self._writing() as connection:
            row = self._row_under_way(connection, change)
            if _UNSETTLED.get(outcome) is State(row.state):
                return  # asked again, and again no answer
            self._step(connection, row, _OUTCOMES[outcome])
            connection.execute(update(schema.changes).where(schema.changes.c.id == change.id).values(reason=reason))
            details = {"commit": change.commit, "reason": reason}
            self._audit(connection, at, _SYSTEM, f"change.{_OUTCOMES[outcome].value}", change.id, details)
            if outcome in (Outcome.DELIVERED, Outcome.MERGED):
                self._settle_rolled_back(connection, row.rolls_back, Event.ROLL_BACK, at, change.id)
            elif outcome not in _UNSETTLED:
                self._settle_rolled_back(connection, row.rolls_back, Event.ABANDON_ROLLBACK, at, reason)
        self.after_outcome(change, at)

    @whole_step
    def begin_rollback(self, change: Change, proposal: Proposal, approval: Approval) -> None:
        """Keep a rollback's proposal and approval, and that the change is being taken back, in one step.

        Raises:
            IllegalTransition: The change does not stand on the branch, or another rollback of it is under
                way.
            AuditUnavailable: Nothing changed.
        """
        if proposal.rolls_back != change.id or approval.digest != proposal.digest:
            raise ApprovalMismatch(f"rollback of {change.id}: proposal and approval do not belong together")
        at = approval.at
        with self._writing() as connection:
            row = self._row(connection, schema.proposals, change.proposal_id, "proposal")
            if State(row.state) is State.ROLLING_BACK:
                self._set_aside_unbegun(connection, change, at)
                row = self._row(connection, schema.proposals, change.proposal_id, "proposal")
            if State(row.state) in (State.ROLLING_BACK, State.ROLLED_BACK):
                raise IllegalTransition(
                    f"change {change.id} {self._who_took_back(connection, change)}; this one changes nothing"
                )
            self._step(connection, row, Event.BEGIN_ROLLBACK)
            self._insert_proposal(connection, proposal, State.GRANTED, approvals=1)
            self._insert_answer(connection, approval)
            details = {"digest": proposal.digest, "record": digest(approval), "state": State.GRANTED.value}
            self._audit(connection, at, approval.person, "proposal.grant", proposal.id, details)
            details = {"proposal": proposal.id, "digest": proposal.digest}
            self._audit(connection, at, approval.person, "change.begin_rollback", change.id, details)

    def change(self, change_id: str) -> Change:
        """Return a change, by its id or the beginning of it.

        Raises:
            RecordUnknown: None, or more than one.
        """
        return self._read(Change, self._find(schema.changes, change_id, "change").body)

    def change_of(self, proposal_id: str) -> Change | None:
        """Return the change whose delivery a proposal began, or None."""
        table = schema.changes
        with self._database.reading() as connection:
            body = connection.execute(
                select(table.c.body).where(table.c.proposal_id == proposal_id)
            ).scalar_one_or_none()
        return None if body is None else self._read(Change, body)

    def list_changes(self, incident_id: str | None = None, limit: int = 1000) -> tuple[StoredChange, ...]:
        """Return every change whose delivery was begun, the newest first, with where it stands."""
        table, proposals = schema.changes, schema.proposals
        wanted = select(table.c.body, table.c.reason, proposals.c.state).join(
            proposals, proposals.c.id == table.c.proposal_id
        )
        if incident_id is not None:
            wanted = wanted.where(table.c.incident_id == incident_id)
        with self._database.reading() as connection:
            rows = connection.execute(wanted.order_by(table.c.begun_ms.desc(), table.c.id).limit(limit)).all()
        return tuple(
            StoredChange(change=self._read(Change, r.body), state=State(r.state), reason=r.reason) for r in rows
        )

    # --- verification
    # ----------------------------------------------------------------------------------------------

    @whole_step
    def begin_verification(self, change_id: str, at: datetime) -> None:
        """Keep that a change is being looked at.

        Raises:
            IllegalTransition: It does not stand on the branch.
        """
        with self._writing() as connection:
            row = self._row_of_change(connection, change_id)
            if State(row.state) is not State.VERIFYING:
                self._step(connection, row, Event.BEGIN_VERIFICATION)
                self._audit(connection, at, _SYSTEM, "change.begin_verification", change_id, {})

    @whole_step
    def record_verification(self, verification: Verification) -> State:
        """Keep a verdict and return where the change stands then; one that was not begun is begun by it.

        Raises:
            IllegalTransition: It does not stand on the branch.
        """
        table, change_id = schema.verifications, verification.change_id
        with self._writing() as connection:
            row = self._row_of_change(connection, change_id)
            if State(row.state) is not State.VERIFYING:
                self._step(connection, row, Event.BEGIN_VERIFICATION)
                row = self._row_of_change(connection, change_id)
            state = self._step(connection, row, _VERDICTS[verification.verdict])
            last = connection.execute(
                select(func.coalesce(func.max(table.c.number), 0)).where(table.c.change_id == change_id)
            ).scalar_one()
            connection.execute(
                insert(table).values(
                    change_id=change_id, number=last + 1, at_ms=_ms(verification.at), body=_body(verification)
                )
            )
            details = {"record": digest(verification), "reason": verification.reason}
            event = _VERDICTS[verification.verdict].value
            self._audit(connection, verification.at, _SYSTEM, f"change.{event}", change_id, details)
            return state

    def verifications(self, change_id: str) -> tuple[Verification, ...]:
        """Return the verdicts on a change, in their order."""
        table = schema.verifications
        with self._database.reading() as connection:
            bodies = connection.execute(
                select(table.c.body).where(table.c.change_id == change_id).order_by(table.c.number)
            ).scalars()
            return tuple(self._read(Verification, body) for body in bodies)

    # --- the audit
    # -------------------------------------------------------------------------------------------------

    @whole_step
    def record_note(self, at: datetime, actor: str, action: str, subject: str, details: Mapping[str, str]) -> None:
        """Append an audit entry that goes with no change of state, such as a refused attempt.

        Raises:
            AuditUnavailable: It cannot be written.
        """
        with self._writing() as connection:
            self._audit(connection, at, actor, action, subject, details)

    def audit_entries(self, subject: str | None = None) -> tuple[AuditEntry, ...]:
        """Return the audit in its order, all of it or what is about one subject.

        Raises:
            AuditBroken: A row cannot even be read.
        """
        with self._database.reading() as connection:
            entries = self._audit_entries(connection)
        return tuple(entry for entry in entries if subject is None or entry.subject == subject)

    def verify_audit(self) -> int:
        """Return the number of entries of an audit that is whole.

        Raises:
            AuditBroken: It is not; the message names the first entry that does not fit.
        """
        mirror = self._mirror.read()  # before the entries: it can only lag behind them
        with self._database.reading() as connection:
            entries, head = self._audit_entries(connection), self._head(connection)
            if entries and mirror.head is None and self._mirror.exists_for_files and self._has_begun_mirror(entries):
                raise AuditBroken(
                    f"audit: the mirror of the head is missing ({self._mirror.path}); without it a cut-off end"
                    " would not be seen"
                )
            mirror.check(head)
            count = audit.verify(entries, self._key, head, mirror.head)
            check_tables(connection, entries)
        remade = next((e for e in entries if e.action == MIRROR_REMADE), None)
        if remade is not None:
            raise AuditBroken(
                f"audit entry {remade.sequence}: the mirror of the head was missing and was made anew here; what stood"
                " behind the entries before it may have been cut off"
            )
        return count

    @property
    def has_torn_mirror(self) -> bool:
        """Return whether a slot of the audit's mirror cannot be read; the next write repairs it, and says so."""
        return self._mirror.read().is_torn

    # --- inside
    # ----------------------------------------------------------------------------------------------------

    @property
    def _shown(self) -> str:
        return self._database.shown

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        before = after = None
        # The mirror is taken first and let go last: on one machine it is the queue, whatever the database is.
        with self._mirror.held() as mirror:
            try:
                with self._database.writing() as connection:
                    before = self._head(connection)
                    self._check_mirror(connection, mirror, before)
                    yield connection
                    if mirror.is_new and before is None and self._database.is_server:
                        self._note_mirror(connection, MIRROR_BEGUN)
                    after = self._head(connection)
            except CommitLost as lost:
                if after is not None and after != before and not self._was_kept(after):
                    raise StepUndone(f"{lost}; nothing was done, try again") from lost
            # After the commit: a mirror that lags is tolerated, one that runs ahead would be a false alarm.
            if after is not None and after != before:
                mirror.write(after)

    def _was_kept(self, after: AuditHead) -> bool:
        return self._database.settle(lambda connection: self._hash_at(connection, after.sequence) == after.hash)

    def _check_mirror(self, connection: Connection, mirror: HeldMirror, before: AuditHead | None) -> None:
        mirror.check(before)
        if mirror.is_new:
            self._begin_mirror(connection, mirror, before)
        elif mirror.is_torn:
            self._note_mirror(connection, MIRROR_REPAIRED)
        known = mirror.head
        # Another machine may have gone on, in good faith, from an older state that somebody put back.
        ahead = known and before and 0 < known.sequence < before.sequence
        if known and ahead and self._hash_at(connection, known.sequence) != known.hash:
            raise AuditBroken(
                f"audit entry {known.sequence}: it is not the entry that the mirror {self._mirror.path} recorded; nothing"
                " was done"
            )

    def _begin_mirror(self, connection: Connection, mirror: HeldMirror, before: AuditHead | None) -> None:
        """Begin a mirror beside an empty audit; beside one with entries it was taken away, and that is said for good.

        Of a server's store each machine has its own, so there a new one is a machine that joins; but only once.
        """
        if before is None:
            mirror.begin(audit.head_of(None, self._key))
        else:  # it stays empty until the entry that says so is committed
            begun_here = self._has_begun_mirror(self._audit_entries(connection))
            self._note_mirror(connection, MIRROR_REMADE if begun_here else MIRROR_BEGUN)

    def _has_begun_mirror(self, entries: Iterable[AuditEntry]) -> bool:
        """Return whether a mirror should be here, by what the entries say."""
        begun = {dict(entry.details).get("place") for entry in entries if entry.action == MIRROR_BEGUN}
        return not self._database.is_server or self._place in begun

    @property
    def _place(self) -> str:
        return f"{socket.gethostname()}:{self._mirror.path}"

    def _note_mirror(self, connection: Connection, action: str) -> None:
        """Say in the audit what was done about its mirror, at the time of the last entry: no clock is at hand here."""
        entries = self._audit_entries(connection)
        if entries:
            details = {"entries": str(len(entries)), **({"place": self._place} if action == MIRROR_BEGUN else {})}
            self._audit(connection, entries[-1].at, _SYSTEM, action, "audit", details)

    def _hash_at(self, connection: Connection, sequence: int) -> str | None:
        table = schema.audit
        return connection.execute(select(table.c.hash).where(table.c.sequence == sequence)).scalar_one_or_none()

    def _audit(
        self,
        connection: Connection,
        at: datetime,
        actor: str,
        action: str,
        subject: str,
        details: Mapping[str, str],
    ) -> None:
        try:
            head = self._head(connection)
            if head is not None:
                audit.check_head(head, self._key)
            entry = audit.append(head, at, actor, action, subject, details, self._key)
            table = schema.audit
            connection.execute(
                insert(table).values(
                    sequence=entry.sequence, hash=entry.hash, previous=entry.previous, body=_body(entry)
                )
            )
            self._swap_head(connection, head, audit.head_of(entry, self._key))
        except SQLAlchemyError as error:
            reason = self._database.explain(error)
            if isinstance(reason, StepUndone):
                raise reason from error
            raise AuditUnavailable(f"{reason}; without its audit entry {action} of {subject} is not done") from error

    def _swap_head(self, connection: Connection, before: AuditHead | None, after: AuditHead) -> None:
        table = schema.audit_head
        if before is None:
            connection.execute(insert(table).values(id=1, sequence=after.sequence, body=_body(after)))
            return
        swapped = connection.execute(
            update(table)
            .where(table.c.id == 1, table.c.sequence == before.sequence)
            .values(sequence=after.sequence, body=_body(after))
        )
        if swapped.rowcount != 1:
            raise AuditUnavailable(f"{self._shown}: the head of the audit moved; nothing was done, try again")

    def _head(self, connection: Connection) -> AuditHead | None:
        table = schema.audit_head
        body = connection.execute(select(table.c.body).where(table.c.id == 1)).scalar_one_or_none()
        if body is None:
            return None
        try:
            return AuditHead.model_validate_json(body)
        except ValidationError as error:
            raise AuditBroken("audit: the head cannot be read") from error

    def _audit_entries(self, connection: Connection) -> list[AuditEntry]:
        table = schema.audit
        rows = connection.execute(
            select(table.c.sequence, table.c.hash, table.c.previous, table.c.body).order_by(table.c.sequence)
        ).all()
        entries = []
        for number, row in enumerate(rows, start=1):
            try:
                entry = AuditEntry.model_validate_json(row.body)
            except ValidationError as error:
                raise AuditBroken(f"audit entry {number}: it cannot be read") from error
            # The columns beside the body are there for the database's own constraints; they must say the
            # same.
            if (row.sequence, row.hash, row.previous) != (entry.sequence, entry.hash, entry.previous):
                raise AuditBroken(f"audit entry {number}: its columns differ from its content")
            entries.append(entry)
        return entries

    def _insert_proposal(self, connection: Connection, proposal: Proposal, state: State, approvals: int = 0) -> bool:
        table, body = schema.proposals, _body(proposal)
        known = connection.execute(select(table.c.body).where(table.c.id == proposal.id)).scalar_one_or_none()
        if known is not None:
            if known != body:
                raise StoreError(f"{self._shown}: proposal {proposal.id} is on record with other content")
            return False
        connection.execute(
            insert(table).values(
                id=proposal.id,
                incident_id=proposal.incident_id,
                digest=proposal.digest,
                state=state.value,
                approvals=approvals,
                rolls_back=proposal.rolls_back,
                created_ms=_ms(proposal.created_at),
                expires_ms=_ms(proposal.expires_at),
                body=body,
            )
        )
        return True

    def _insert_answer(self, connection: Connection, answer: Resolution) -> None:
        person = "" if isinstance(answer, Expiry) else answer.person
        try:
            connection.execute(
                insert(schema.answers).values(
                    proposal_id=answer.proposal_id,
                    person=person,
                    kind=_kind(answer),
                    at_ms=_ms(answer.at),
                    body=_body(answer),
                )
            )
        except IntegrityError as error:
            raise ApprovalResolved(f"proposal {answer.proposal_id}: {person} answered it before") from error

    def _check_open(self, connection: Connection, row: Row[Any], answer: Resolution) -> None:
        if State(row.state) is not State.PROPOSED and not (
            # A grant that nobody used in time runs out as well.
            isinstance(answer, Expiry) and State(row.state) is State.GRANTED
        ):
            raise ApprovalResolved(
                f"proposal {row.id} was {self._who_answered(connection, row)}; an answer now changes nothing"
            )
        if row.digest != answer.digest:
            raise ApprovalMismatch(f"proposal {row.id}: the answer is to another digest than {row.digest[:19]}…")
        late = _ms(answer.at) >= row.expires_ms
        if late != isinstance(answer, Expiry):
            ran_out = _instant(row.expires_ms).isoformat()
            raise ApprovalExpired(f"proposal {row.id} {'ran' if late else 'runs'} out at {ran_out}")

    def _who_answered(self, connection: Connection, row: Row[Any]) -> str:
        told = []
        for answer in self._answers(connection, row.id):
            if isinstance(answer, Expiry):
                told.append("left to run out")
            else:
                verb = "approved" if isinstance(answer, Approval) else "denied"
                told.append(f"{verb} by {answer.person} at {answer.at.isoformat()}")
        return ", ".join(told) or f"set aside ({row.state})"

    def _who_took_back(self, connection: Connection, change: Change) -> str:
        """Return who took a change back, or is about to: the newest rollback that was not set aside."""
        table = schema.proposals
        row = connection.execute(
            select(table)
            .where(table.c.rolls_back == change.id, table.c.state.not_in([State.SUPERSEDED.value, State.EXPIRED.value]))
            .order_by(table.c.created_ms.desc())
            .limit(1)
        ).one_or_none()
        if row is None:
            return "is taken back already"
        return f"is taken back already: {row.id} is {row.state}, {self._who_answered(connection, row)}"

    def _why_not_delivered(self, connection: Connection, change: Change, at: datetime) -> Exception:
        row = self._row(connection, schema.proposals, change.proposal_id, "proposal")
        state = State(row.state)
        if row.digest != change.digest:
            return ApprovalMismatch(f"proposal {row.id}: what is to be delivered is not what is on record")
        if state is State.PROPOSED:
            return ApprovalMissing(f"proposal {row.id} was not granted; {row.approvals} approved so far")
        if state is State.GRANTED:
            return ApprovalExpired(f"proposal {row.id}: {at.isoformat()} is outside the life of its approval")
        told = self._who_answered(connection, row)
        return ApprovalResolved(f"proposal {row.id} is {state.value} ({told}); its approval was for one delivery")

    def _supersede(self, connection: Connection, row: Row[Any], reason: str, at: datetime) -> State:
        state = self._step(connection, row, Event.SUPERSEDE)
        self._audit(connection, at, _SYSTEM, "proposal.supersede", row.id, {"reason": reason})
        self._settle_rolled_back(connection, row.rolls_back, Event.ABANDON_ROLLBACK, at, reason)
        return state

    def _set_aside_unbegun(self, connection: Connection, change: Change, at: datetime) -> None:
        # A rollback that was granted but never begun (its process was killed) must not bar the next one.
        table = schema.proposals
        rows = connection.execute(
            select(table).where(table.c.rolls_back == change.id, table.c.state == State.GRANTED.value)
        ).all()
        for row in rows:
            self._supersede(connection, row, "another rollback was asked for", at)

    def _settle_rolled_back(
        self, connection: Connection, change_id: str | None, event: Event, at: datetime, why: str
    ) -> None:
        """Move on the change that a rollback is about, and the one that that change had taken back itself."""
        if change_id is None:
            return
        if not self._knows_change(connection, change_id):
            return  # its record was lost, and it was taken back from the undo journal or the history
        row = self._row_of_change(connection, change_id)
        if State(row.state) is not State.ROLLING_BACK:
            return
        self._step(connection, row, event)
        self._audit(connection, at, _SYSTEM, f"change.{event.value}", change_id, {"by": why})
        if event is Event.ROLL_BACK and row.rolls_back is not None and self._knows_change(connection, row.rolls_back):
            first = self._row_of_change(connection, row.rolls_back)
            if State(first.state) is State.ROLLED_BACK:
                self._step(connection, first, Event.REINSTATE)
                self._audit(connection, at, _SYSTEM, "change.reinstate", row.rolls_back, {"by": why})

    def _step(self, connection: Connection, row: Row[Any], event: Event) -> State:
        """Take one step of the lifecycle as a compare-and-swap."""
        table = schema.proposals
        state = advance(State(row.state), event)
        swapped = connection.execute(
            update(table)
            .where(table.c.id == row.id, table.c.state == row.state, table.c.digest == row.digest)
            .values(state=state.value)
        )
        if swapped.rowcount != 1:
            raise IllegalTransition(f"proposal {row.id}: {event.value} came too late; it moved on meanwhile")
        return state

    def _row(self, connection: Connection, table: Table, record_id: str, what: str) -> Row[Any]:
        asked = select(table).where(table.c.id == record_id)
        row = connection.execute(asked).one_or_none() if record_id.isprintable() else None
        if row is None:
            raise RecordUnknown(f"no {what} has the id {one_line(record_id, 80)!r}")
        return row

    def _knows_change(self, connection: Connection, change_id: str) -> bool:
        table = schema.changes
        return connection.execute(select(table.c.id).where(table.c.id == change_id)).one_or_none() is not None

    def _row_of_change(self, connection: Connection, change_id: str) -> Row[Any]:
        change = self._row(connection, schema.changes, change_id, "change")
        return self._row(connection, schema.proposals, change.proposal_id, "proposal")

    def _row_under_way(self, connection: Connection, change: Change) -> Row[Any]:
        begun = self._row(connection, schema.changes, change.id, "change")
        row = self._row(connection, schema.proposals, begun.proposal_id, "proposal")
        under_way = (State.DELIVERING, State.UNCERTAIN, State.AWAITING_MERGE)
        if State(row.state) not in under_way or self._read(Change, begun.body) != change:
            raise IllegalTransition(f"change {change.id}: no delivery of it is under way ({row.state})")
        return row

    def _find(self, table: Table, beginning: str, what: str) -> Row[Any]:
        if not beginning:
            raise RecordUnknown(f"which {what}? its id is missing")
        if not beginning.isprintable():  # nor could every database be asked for it
            raise RecordUnknown(f"no {what} has an id that begins with {one_line(beginning, 80)!r}")
        with self._database.reading() as connection:
            exact = connection.execute(select(table).where(table.c.id == beginning)).one_or_none()
            if exact is not None:
                return exact
            rows = connection.execute(
                select(table)
                .where(func.substr(table.c.id, 1, len(beginning)) == beginning)  # LIKE would have wildcards
                .limit(_NAMED_MAX)
            ).all()
        if len(rows) == 1:
            return rows[0]
        shown = one_line(beginning, 80)
        if not rows:
            raise RecordUnknown(f"no {what} has an id that begins with {shown!r}")
        raise RecordUnknown(f"{what} {shown!r} is not unique: {', '.join(row.id for row in rows)}; write more of it")

    def _answers(self, connection: Connection, proposal_id: str) -> tuple[Resolution, ...]:
        table = schema.answers
        rows = connection.execute(
            select(table.c.kind, table.c.body)
            .where(table.c.proposal_id == proposal_id)
            .order_by(table.c.at_ms, table.c.person)
        ).all()
        return tuple(self._read(_ANSWERS[row.kind], row.body) for row in rows)

    def _read(self, kind: type[_R], body: str) -> _R:
        try:
            return kind.model_validate_json(body)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise StoreError(f"{self._shown}: a {kind.__name__.lower()} on record cannot be read ({where})") from error


def _nothing(change: Change, at: datetime) -> None:
    """Stand for nobody who wants to know."""


def _body(record: Record) -> str:
    return record.model_dump_json()


def _kind(answer: Resolution) -> str:
    return next(name for name, kind in _ANSWERS.items() if isinstance(answer, kind))


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
