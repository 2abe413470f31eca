"""The store: each step exists once, is audited with it, and its failures are one clear line."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DatabaseError, OperationalError

from advisor.approval import Approval, Choice, Denial, decide, expire
from advisor.change import Change, ChangeKind, Outcome, deliver
from advisor.errors import (
    ApprovalExpired,
    ApprovalMismatch,
    ApprovalMissing,
    ApprovalResolved,
    AuditBroken,
    AuditUnavailable,
    IllegalTransition,
    RecordUnknown,
    SettingsInvalid,
    StoreError,
    StoreUnavailable,
)
from advisor.lifecycle import State
from advisor.proposal import Proposal
from advisor.store import Store
from advisor.values import Risk
from advisor.verification import Verdict, Verification
from tests.support.gate import (
    ALICE,
    BOB,
    CAROL,
    KEY,
    NOW,
    POLICY,
    RULES,
    FakeRepository,
    altered,
    approve,
    fake_with_cause,
    granted,
    propose,
    revert_action,
    say,
)
from tests.support.postgresql import postgresql_server, postgresql_url

__all__ = ["postgresql_server", "postgresql_url"]  # fixtures

LATER = NOW + timedelta(minutes=5)
EXPIRED = NOW + timedelta(minutes=30)
REPORT: dict[str, Any] = {
    "schema": "advisor.investigation/v1",
    "incident": {"id": "inc-abc1", "service": "checkout", "started_at": "2026-11-22T07:00:00Z"},
    "diagnosis": {"outcome": "diagnosed", "summary": "größer als 1 GiB"},
}


@pytest.fixture(params=["memory", "postgresql"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """Give a new store of either kind: what is not about a file or a server holds for both."""
    url = "sqlite://" if request.param == "memory" else request.getfixturevalue("postgresql_url")
    store = Store.open(url, KEY)
    yield store
    store.close()


@pytest.fixture
def memory_store() -> Store:
    return Store.open("sqlite://", KEY)


def file_store(folder: Path, busy_seconds: float = 30.0) -> Store:
    return Store.open(f"sqlite:///{folder}/advisor.db", KEY, busy_seconds)


def proposed(store: Store, number: int = 1, **fields: Any) -> tuple[FakeRepository, Proposal]:
    repository, commit = fake_with_cause()
    proposal = propose(repository, revert_action(commit), number, **fields)
    store.save_proposal(proposal)
    return repository, proposal


def delivered(store: Store, number: int = 1) -> Change:
    repository, proposal = proposed(store, number)
    store.record_answer(approve(proposal))
    return deliver(repository, store, proposal, granted(proposal), LATER)


def verification(change: Change, verdict: Verdict) -> Verification:
    return Verification(
        change_id=change.id,
        verdict=verdict,
        at=LATER,
        changed_at=LATER,
        from_at=LATER,
        until_at=LATER,
        results=(),
        reason="because",
    )


# --- incidents -----------------------------------------------------------------------------------------------------


def test_a_report_is_kept_once_and_found_by_the_beginning_of_its_id(store: Store) -> None:
    store.save_investigation(REPORT, NOW)
    store.save_investigation(REPORT, LATER)
    other = {**REPORT, "incident": {"id": "inc-abd2", "service": "payments"}, "diagnosis": None}
    store.save_investigation(other, LATER)
    assert store.incident("inc-abc1") == store.incident("inc-abc") == REPORT
    assert [(line.id, line.outcome) for line in store.list_incidents()] == [("inc-abd2", ""), ("inc-abc1", "diagnosed")]
    with pytest.raises(RecordUnknown, match="not unique: inc-abc1, inc-abd2"):
        store.incident("inc-ab")
    with pytest.raises(StoreError, match="another report"):
        store.save_investigation({**REPORT, "usage": {}}, NOW)
    assert [e.action for e in store.audit_entries()] == ["incident.record"] * 2


@pytest.mark.parametrize("name", ["", "nope", "%", "inc-abc%", "inc_abc", "' OR 1=1 --", "x" * 5000, "\x00"])
def test_an_unknown_id_is_refused_by_name(store: Store, name: str) -> None:
    store.save_investigation(REPORT, NOW)
    for read in (store.incident, store.proposal, store.change, store.state_of):
        with pytest.raises(RecordUnknown):
            read(name)


# --- answers -------------------------------------------------------------------------------------------------------


def test_a_proposal_and_its_answer_are_read_back_as_they_were(store: Store) -> None:
    _, proposal = proposed(store)
    store.save_proposal(proposal)
    assert store.proposal(proposal.id) == proposal
    assert store.state_of("prop") is State.PROPOSED
    approval = approve(proposal)
    assert store.record_answer(approval) is State.GRANTED
    assert store.answers(proposal.id) == (approval,)
    assert [(s.proposal.id, s.state) for s in store.pending()] == [(proposal.id, State.GRANTED)]
    assert [e.action for e in store.audit_entries(proposal.id)] == ["proposal.record", "proposal.grant"]
    assert store.audit_entries()[-1].actor == ALICE


def test_two_people_are_counted(store: Store) -> None:
    _, proposal = proposed(store, risk=Risk.HIGH)
    assert store.record_answer(approve(proposal, ALICE), 2) is State.PROPOSED
    with pytest.raises(ApprovalResolved, match=f"{ALICE} answered it before"):
        store.record_answer(approve(proposal, ALICE), 2)
    assert store.state_of(proposal.id) is State.PROPOSED
    assert store.record_answer(approve(proposal, BOB), 2) is State.GRANTED
    with pytest.raises(ApprovalResolved, match=f"approved by {ALICE} at .*, approved by {BOB} at"):
        store.record_answer(approve(proposal, CAROL), 2)
    assert len(store.answers(proposal.id)) == 2


def test_a_denial_is_final(store: Store) -> None:
    _, proposal = proposed(store)
    denial = decide(proposal, say(proposal, BOB, Choice.DENY), RULES, POLICY, (), NOW, KEY)
    assert isinstance(denial, Denial)
    assert store.record_answer(denial) is State.DENIED
    with pytest.raises(ApprovalResolved, match=f"denied by {BOB}"):
        store.record_answer(approve(proposal))


def test_an_expiry_needs_its_time_and_is_final(store: Store) -> None:
    _, proposal = proposed(store)
    early = expire(proposal, (), EXPIRED).model_copy(update={"at": EXPIRED - timedelta(milliseconds=1)})
    with pytest.raises(ApprovalExpired, match="runs out"):
        store.record_answer(early)
    assert store.record_answer(expire(proposal, (), EXPIRED)) is State.EXPIRED
    with pytest.raises(ApprovalResolved, match="left to run out"):
        store.record_answer(approve(proposal))


def test_a_grant_that_nobody_used_runs_out_as_well(store: Store) -> None:
    _, proposal = proposed(store)
    store.record_answer(approve(proposal))
    assert store.record_answer(expire(proposal, store.answers(proposal.id), EXPIRED)) is State.EXPIRED


def test_a_late_approval_is_refused_by_the_store_too(store: Store) -> None:
    _, proposal = proposed(store)
    late = Approval.model_validate({**approve(proposal).model_dump(), "at": EXPIRED})
    with pytest.raises(ApprovalExpired, match="ran out"):
        store.record_answer(late)


def test_an_answer_to_other_bytes_is_refused(store: Store) -> None:
    _, proposal = proposed(store)
    other = Approval.model_validate({**approve(proposal).model_dump(), "digest": "sha256:0"})
    with pytest.raises(ApprovalMismatch):
        store.record_answer(other)
    with pytest.raises(StoreError, match="other content"):
        store.save_proposal(altered(proposal, summary="x"))


# --- delivery ------------------------------------------------------------------------------------------------------


def change_for(proposal: Proposal, **fields: Any) -> Change:
    return Change.model_validate(
        {
            "id": f"chg-{proposal.id}",
            "proposal_id": proposal.id,
            "incident_id": "inc-1",
            "service": "checkout",
            "repository": proposal.repository.model_dump(),
            "branch": "main",
            "digest": proposal.digest,
            "commit": "c" * 40,
            "base": proposal.base,
            "tree": proposal.tree,
            "at": LATER,
            "approvers": (ALICE,),
            "kind": ChangeKind.CHANGE,
            **fields,
        }
    )


def test_a_delivery_needs_a_grant_that_lives_and_is_unused(store: Store) -> None:
    _, proposal = proposed(store)
    change = change_for(proposal)
    with pytest.raises(ApprovalMissing, match="not granted"):
        store.begin_delivery(change, LATER)
    store.record_answer(approve(proposal))
    with pytest.raises(ApprovalMismatch):
        store.begin_delivery(change_for(proposal, digest="sha256:0"), LATER)
    for outside in (EXPIRED, NOW - timedelta(seconds=1)):
        with pytest.raises(ApprovalExpired):
            store.begin_delivery(change, outside)
    assert store.change_of(proposal.id) is None
    store.begin_delivery(change, LATER)
    assert store.change_of(proposal.id) == store.change(change.id) == change
    with pytest.raises(ApprovalResolved, match=f"delivering.*approved by {ALICE}"):
        store.begin_delivery(change, LATER)
    with pytest.raises(ApprovalResolved):
        store.begin_delivery(change_for(proposal, id="chg-2"), LATER)
    assert [e.action for e in store.audit_entries(change.id)] == ["change.begin_delivery"]


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome_is_recorded_once(store: Store, outcome: Outcome) -> None:
    _, proposal = proposed(store)
    change = change_for(proposal)
    with pytest.raises(RecordUnknown):
        store.record_outcome(change, outcome, "", LATER)
    store.record_answer(approve(proposal))
    store.begin_delivery(change, LATER)
    store.record_outcome(change, outcome, "so it was", LATER)
    (stored,) = store.list_changes("inc-1")
    states = {Outcome.OPENED: "awaiting_merge", Outcome.MERGED: "delivered", Outcome.CLOSED: "refused"}
    assert (stored.state.value, stored.reason) == (states.get(outcome, outcome.value), "so it was")
    if outcome in (Outcome.UNCERTAIN, Outcome.OPENED):
        heard = len(store.audit_entries())
        store.record_outcome(change, outcome, "", LATER)
        assert len(store.audit_entries()) == heard
        store.record_outcome(change, Outcome.MERGED, "", LATER)
    else:
        with pytest.raises(IllegalTransition):
            store.record_outcome(change, outcome, "", LATER)


def test_a_verdict_is_kept_and_a_later_one_added(store: Store) -> None:
    change = delivered(store)
    store.begin_verification(change.id, LATER)
    assert store.state_of(change.proposal_id) is State.VERIFYING
    store.begin_verification(change.id, LATER)
    for verdict in (Verdict.INCONCLUSIVE, Verdict.ERROR, Verdict.FAILED, Verdict.PASSED):
        assert store.record_verification(verification(change, verdict)).value == verdict.value
    assert next(v.verdict for v in store.verifications(change.id)) is Verdict.INCONCLUSIVE
    assert len(store.verifications(change.id)) == 4


def test_what_is_not_on_the_branch_is_not_verified(store: Store) -> None:
    _, proposal = proposed(store)
    store.record_answer(approve(proposal))
    change = change_for(proposal)
    store.begin_delivery(change, LATER)
    with pytest.raises(IllegalTransition):
        store.record_verification(verification(change, Verdict.PASSED))
    assert store.verifications(change.id) == ()


def test_a_set_aside_proposal_cannot_be_answered(store: Store) -> None:
    _, proposal = proposed(store)
    assert store.supersede(proposal.id, "main moved", NOW) is State.SUPERSEDED
    with pytest.raises(ApprovalResolved, match="set aside"):
        store.record_answer(approve(proposal))
    assert store.supersede(delivered(store, 2).proposal_id, "", NOW) is State.DELIVERED


# --- the audit goes with it ----------------------------------------------------------------------------------------


def steps(store: Store) -> dict[str, Callable[[], object]]:
    _, proposal = proposed(store)
    change = change_for(proposal)
    return {
        "save_investigation": lambda: store.save_investigation(REPORT, NOW),
        "save_proposal": lambda: proposed(store, 2),
        "record_answer": lambda: store.record_answer(approve(proposal)),
        "begin_delivery": lambda: store.begin_delivery(change, LATER),
        "record_outcome": lambda: store.record_outcome(change, Outcome.DELIVERED, "", LATER),
        "begin_verification": lambda: store.begin_verification(change.id, LATER),
        "record_verification": lambda: store.record_verification(verification(change, Verdict.FAILED)),
    }


def everything(store: Store) -> list[list[Any]]:
    with store._database.reading() as connection:
        tables = ("incidents", "proposals", "answers", "changes", "verifications", "audit", "audit_head")
        return [[tuple(r) for r in connection.exec_driver_sql(f"SELECT * FROM {t}")] for t in tables]


FULL = {  # an audit that takes no entry
    "sqlite": ["CREATE TRIGGER no_room BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END"],
    "postgresql": [
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no room''; END'",
        "CREATE TRIGGER no_room BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION no_room()",
    ],
}
DROP = {"sqlite": "DROP TRIGGER no_room", "postgresql": "DROP TRIGGER no_room ON audit"}


@pytest.mark.parametrize("name", list(steps(Store.open("sqlite://", KEY))))
def test_without_its_audit_entry_a_step_does_not_happen(store: Store, name: str) -> None:
    todo = steps(store)
    for earlier, step in todo.items():
        if earlier == name:
            break
        step()
    with store._database.writing() as connection:
        for statement in FULL[connection.dialect.name]:
            connection.exec_driver_sql(statement)
    before = everything(store)
    with pytest.raises(AuditUnavailable, match="is not done"):
        todo[name]()
    assert everything(store) == before
    with store._database.writing() as connection:
        connection.exec_driver_sql(DROP[connection.dialect.name])
    todo[name]()
    assert store.verify_audit() == len(store.audit_entries())


def test_a_mirror_that_cannot_be_written_stops_everything(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    (tmp_path / "advisor.db.audit-head").unlink(missing_ok=True)
    (tmp_path / "advisor.db.audit-head").mkdir()
    with pytest.raises(AuditUnavailable, match="nothing was done"):
        store.save_investigation(REPORT, NOW)
    assert store.list_incidents() == ()


def test_the_store_does_not_append_to_an_audit_that_was_cut(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    for number in range(4):
        store.record_note(NOW, ALICE, "x.y", str(number), {})
    store.close()
    cut = sqlite3.connect(tmp_path / "advisor.db")
    cut.execute("DELETE FROM audit WHERE sequence > 2")
    cut.execute("DELETE FROM audit_head")
    cut.commit()
    cut.close()
    with pytest.raises(AuditBroken):
        file_store(tmp_path).record_note(NOW, ALICE, "x.y", "5", {})


# --- the file ------------------------------------------------------------------------------------------------------


def test_a_new_store_is_its_owners_alone(tmp_path: Path) -> None:
    store = file_store(tmp_path / "made" / "here")
    store.save_investigation(REPORT, NOW)
    folder = tmp_path / "made" / "here"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert {"advisor.db", "advisor.db-wal", "advisor.db.audit-head"} <= set(modes)
    assert set(modes.values()) == {0o600}
    with store._database.reading() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]


def test_a_store_with_a_wider_mode_is_narrowed(tmp_path: Path) -> None:
    (tmp_path / "advisor.db").touch(mode=0o644)
    os.chmod(tmp_path / "advisor.db", 0o644)
    file_store(tmp_path)
    assert stat.S_IMODE((tmp_path / "advisor.db").stat().st_mode) == 0o600


def test_records_survive_a_new_process(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    change = delivered(store)
    store.close()
    again = file_store(tmp_path)
    assert again.change(change.id) == change
    assert again.verify_audit() == 4


def _newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE advisor_meta SET value = '99'")
    connection.commit()
    connection.close()


def _nonsense_version(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE advisor_meta SET value = 'x'")
    connection.commit()
    connection.close()


def _foreign(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.commit()
    connection.close()


def _text(path: Path) -> None:
    path.write_text("store: this is a text file, and not a short one\n" * 100)


def _damaged(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[200:3000] = os.urandom(2800)
    path.write_bytes(bytes(data))


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


BAD_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "newer": (_newer, "use a newer advisor"),
    "nonsense_version": (_nonsense_version, "version is not readable"),
    "foreign": (_foreign, "something else"),
    "text": (_text, "not a database"),
    "damaged": (_damaged, "damaged|not readable|something else"),
    "directory": (_directory, "cannot be opened|not a file"),
}


@pytest.mark.parametrize(("spoil", "words"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_store_is_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    file_store(tmp_path).close()
    for leftover in tmp_path.glob("advisor.db-*"):
        leftover.unlink()
    spoil(tmp_path / "advisor.db")
    with pytest.raises(StoreError, match=words) as caught:
        file_store(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "advisor.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        file_store(tmp_path)


@pytest.mark.parametrize(
    "url", ["", "advisor.db", "mysql://x/y", "postgresql://x/y", "sqlite:/x", "sqlite+pysqlcipher://"]
)
def test_an_address_that_is_not_known_is_a_setting_to_mend(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="store"):
        Store.open(url, KEY)


def test_a_held_store_is_unavailable_and_can_be_tried_again(tmp_path: Path) -> None:
    store = file_store(tmp_path, busy_seconds=0.05)
    other = sqlite3.connect(tmp_path / "advisor.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another process holds it") as caught:
        store.save_investigation(REPORT, NOW)
    assert caught.value.retriable
    other.execute("ROLLBACK")
    other.close()
    store.save_investigation(REPORT, NOW)


def test_a_full_disk_is_said_and_nothing_is_kept(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    _, _proposal = proposed(store)
    before = everything(store)
    large = {**REPORT, "evidence": ["x" * 1000] * 1000}
    store._database._engine.dispose()  # the pragma below counts for one connection
    with store._database._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises((StoreUnavailable, AuditUnavailable), match="disk is full"):
        store.save_investigation(large, NOW)
    assert everything(store) == before


def test_a_damaged_record_is_said_in_one_line(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    proposed(store)
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE proposals SET body = '{\"id\": 1}'")
    with pytest.raises(StoreError, match="a proposal on record cannot be read"):
        store.proposal("prop-0001")


SQLITE_NAMES = {
    sqlite3.SQLITE_BUSY: StoreUnavailable,
    sqlite3.SQLITE_LOCKED: StoreUnavailable,
    sqlite3.SQLITE_FULL: StoreUnavailable,
    sqlite3.SQLITE_READONLY: StoreUnavailable,
    sqlite3.SQLITE_CANTOPEN: StoreUnavailable,
    sqlite3.SQLITE_PERM: StoreUnavailable,
    sqlite3.SQLITE_IOERR: StoreUnavailable,
    sqlite3.SQLITE_CORRUPT: StoreError,
    sqlite3.SQLITE_NOTADB: StoreError,
    sqlite3.SQLITE_SCHEMA: StoreError,
    sqlite3.SQLITE_TOOBIG: StoreError,
}


@pytest.mark.parametrize("suffix", ["", "_SNAPSHOT"])
@pytest.mark.parametrize(("code", "kind"), SQLITE_NAMES.items())
def test_each_failure_of_the_database_has_its_words(
    memory_store: Store, code: int, kind: type[StoreError], suffix: str
) -> None:
    names = {getattr(sqlite3, n): n for n in dir(sqlite3) if n.startswith("SQLITE_") and n.count("_") == 1}
    cause = sqlite3.OperationalError("as the database says it")
    cause.sqlite_errorname = names[code] + suffix
    for wrap in (OperationalError, DatabaseError):
        found = memory_store._database.explain(wrap("SELECT 'secret'", {}, cause))
        assert type(found) is kind
        assert str(found).startswith("store in memory: ")
        assert "secret" not in str(found)


def test_a_killed_process_leaves_whole_records(tmp_path: Path) -> None:
    file_store(tmp_path).close()
    code = (
        "import sys, os; from datetime import datetime, UTC; from advisor.store import Store\n"
        f"store = Store.open('sqlite:///' + sys.argv[1] + '/advisor.db', {KEY!r})\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1; store.record_note(datetime.now(UTC), 'a', 'x.y', str(n), {}); print(n, flush=True)\n"
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        last = [process.stdout.readline() for _ in range(5)][-1]
        process.kill()
        process.wait()
        process.stdout.close()
        store = file_store(tmp_path)
        assert store.verify_audit() >= int(last)
        store.close()


def test_a_mirror_that_was_taken_away_is_told_for_good(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    for number in range(4):
        store.record_note(NOW, ALICE, "x.y", str(number), {})
    store.close()
    (tmp_path / "advisor.db.audit-head").unlink()
    again = file_store(tmp_path)
    again.record_note(NOW, ALICE, "x.y", "4", {})  # work goes on: taking back must not wait for an auditor
    with pytest.raises(AuditBroken, match="entry 5: the mirror of the head was missing"):
        again.verify_audit()
