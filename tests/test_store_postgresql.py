"""The store on PostgreSQL: who is let in, what a failing server or network costs, and what a step is worth then.

The server is real; the network between is ours where it has to fail at a chosen moment.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from advisor.approval import Choice, decide
from advisor.change import Change, ChangeKind, Outcome
from advisor.errors import (
    AdvisorError,
    ApprovalResolved,
    AuditBroken,
    RecordUnknown,
    SettingsInvalid,
    StoreError,
    StoreUnavailable,
    StoreUncertain,
)
from advisor.lifecycle import State
from advisor.proposal import Proposal
from advisor.settings import Settings
from advisor.store import Store, has_records
from advisor.store.database import open_database
from advisor.store.postgresql import _LOCK_KEY, parse_address
from advisor.store.schema import SCHEMA_VERSION
from advisor.workflow.parts import Parts
from tests.support.gate import (
    ALICE,
    BOB,
    KEY,
    NOW,
    POLICY,
    RULES,
    approve,
    fake_with_cause,
    propose,
    revert_action,
    say,
)
from tests.support.postgresql import (
    PASSWORD,
    USER,
    CuttingProxy,
    Server,
    free_port,
    postgresql_server,
    postgresql_url,
)

__all__ = ["postgresql_server", "postgresql_url"]  # fixtures

LATER = NOW + timedelta(minutes=5)
REPORT: dict[str, Any] = {"incident": {"id": "inc-abc1", "service": "größer"}, "diagnosis": {"outcome": "diagnosed"}}


@pytest.fixture
def store(postgresql_url: str) -> Iterator[Store]:
    store = Store.open(postgresql_url, KEY)
    yield store
    store.close()


def database_of(url: str) -> str:
    return url.rpartition("/")[2]


def one_line_of(caught: pytest.ExceptionInfo[AdvisorError]) -> str:
    text = str(caught.value)
    assert "\n" not in text and PASSWORD not in text
    return text


# --- who is let in -------------------------------------------------------------------------------------------------


def test_a_password_comes_from_the_environment_a_file_or_the_settings(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store.open(postgresql_url, KEY).close()  # ADVISOR_STORE_PASSWORD
    monkeypatch.delenv("ADVISOR_STORE_PASSWORD")
    Store.open(postgresql_url, KEY, password=PASSWORD).close()
    passes = tmp_path / "pgpass"
    passes.write_text(f"*:*:*:{USER}:{PASSWORD.replace(':', chr(92) + ':')}\n")
    passes.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passes))
    Store.open(postgresql_url, KEY).close()
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    with pytest.raises(SettingsInvalid, match=r"refused the password of 'advisor'.*ADVISOR_STORE_PASSWORD") as caught:
        Store.open(postgresql_url, KEY)
    one_line_of(caught)
    with pytest.raises(SettingsInvalid, match="refused the password") as caught:
        Store.open(postgresql_url, KEY, password="not it")
    assert "not it" not in one_line_of(caught)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://advisor:hunter2@127.0.0.1/advisor",
        "postgresql+psycopg://advisor:hunter2%2F%40@127.0.0.1/advisor",
        "postgresql+psycopg://advisor:@127.0.0.1/advisor",
        "postgresql+psycopg://advisor@127.0.0.1/advisor?password=hunter2",
        "postgresql+psycopg://advisor@127.0.0.1/advisor?sslpassword=hunter2",
    ],
)
def test_a_password_in_the_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"carries a password.*ADVISOR_STORE_PASSWORD") as caught:
        Store.open(url, KEY)
    assert "hunter2" not in one_line_of(caught)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+psycopg://", "names no database"),
        ("postgresql+psycopg://user@host", "names no database"),
        ("postgresql+psycopg://user@host:port/x", "cannot be read"),
        ("postgresql://user@host/x", "is not known; write sqlite"),
        ("postgresql+asyncpg://user@host/x", "is not known; write sqlite"),
    ],
)
def test_an_address_that_cannot_be_used_is_a_setting_to_mend(url: str, words: str) -> None:
    with pytest.raises(SettingsInvalid, match=words) as caught:
        Store.open(url, KEY)
    one_line_of(caught)


def test_parts_of_an_address_are_read() -> None:
    address = parse_address("postgresql+psycopg://user@host:5433/db?sslmode=verify-full")
    assert (address.username, address.host, address.port, address.database) == ("user", "host", 5433, "db")
    assert address.query == {"sslmode": "verify-full"}


def test_a_server_that_is_not_there_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"the server was not reached \(.*refused.*is it running") as caught:
        Store.open(f"postgresql+psycopg://x@127.0.0.1:{free_port()}/advisor", KEY)
    one_line_of(caught)
    assert time.monotonic() - began < 30


def test_what_the_server_refuses_says_what_to_do(postgresql_server: Server, postgresql_url: str) -> None:
    server, wrong = postgresql_server, []
    server.sql("DROP ROLE IF EXISTS guest")
    server.sql(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 1")
    name = database_of(postgresql_url)
    server.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC", name)
    cases = {
        server.url("nowhere"): (SettingsInvalid, "createdb --encoding=UTF8 nowhere"),
        server.url(name, user="guest"): (SettingsInvalid, "CREATE on the schema"),
        postgresql_url + "?sslmode=require": (SettingsInvalid, "sslmode"),
        postgresql_url + "?sslmode=perhaps": (SettingsInvalid, "mend the address"),
        postgresql_url + "?nonsense=1": (SettingsInvalid, "mend the address"),
        server.new_database("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"): (SettingsInvalid, "encoding is LATIN1"),
    }
    for url, (kind, words) in cases.items():
        try:
            Store.open(url, KEY).close()
            wrong.append((url, "was let in"))
        except AdvisorError as error:
            if type(error) is not kind or words not in str(error) or "\n" in str(error):
                wrong.append((url, f"{type(error).__name__}: {error}"))
    assert wrong == []


def test_a_full_server_and_a_standby_are_for_later(postgresql_server: Server, postgresql_url: str) -> None:
    server, name = postgresql_server, database_of(postgresql_url)
    Store.open(postgresql_url, KEY).close()
    server.sql("DROP ROLE IF EXISTS crowd")
    server.sql(f"CREATE ROLE crowd LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 0")
    with pytest.raises(StoreUnavailable, match="no connection left"):
        Store.open(server.url(name, user="crowd"), KEY)
    server.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        store = Store.open(postgresql_url, KEY)  # reading is no trouble
        with pytest.raises(StoreUnavailable, match="read-only; name the primary"):
            store.save_investigation(REPORT, NOW)
        assert store.list_incidents() == ()
        store.close()
    finally:
        server.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE advisor_meta SET value = '99'", "version 99.*use a newer advisor"),
        ("UPDATE advisor_meta SET value = 'x'", "version is not readable"),
        ("DROP TABLE advisor_meta", "database of something else"),
        ("ALTER TABLE incidents DROP COLUMN outcome", "not those of this version"),
        ("DROP TABLE answers CASCADE", "not those of this version"),
    ],
)
def test_tables_that_are_not_ours_are_refused(
    postgresql_server: Server, postgresql_url: str, statement: str, words: str
) -> None:
    Store.open(postgresql_url, KEY).close()
    postgresql_server.sql(statement, database_of(postgresql_url))
    with pytest.raises(StoreError, match=words) as caught:
        store = Store.open(postgresql_url, KEY)
        try:
            store.list_incidents()
            store.answers("x")
        finally:
            store.close()
    one_line_of(caught)


def test_a_database_of_something_else_stays_as_it_is(postgresql_server: Server, postgresql_url: str) -> None:
    name = database_of(postgresql_url)
    postgresql_server.sql("CREATE TABLE songs (title text)", name)
    with pytest.raises(StoreError, match=r"something else \(songs\); name another database"):
        Store.open(postgresql_url, KEY)
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    assert postgresql_server.sql(tables, name) == [("songs",)]


def test_the_queue_may_live_in_the_same_database(postgresql_server: Server, postgresql_url: str) -> None:
    postgresql_server.sql("CREATE TABLE procrastinate_jobs (id int)", database_of(postgresql_url))
    for _ in range(2):
        Store.open(postgresql_url, KEY).close()


@pytest.mark.parametrize("name", ["\x00", "inc\x00", "\udcff", "\ud800x", "a\nb", "inc-abc\u202e"])
def test_an_id_no_database_could_hold_is_unknown(store: Store, name: str) -> None:
    for read in (store.incident, store.proposal, store.change, store.state_of):
        with pytest.raises(RecordUnknown):
            read(name)
    for step in (lambda: store.supersede(name, "", NOW), lambda: store.begin_verification(name, NOW)):
        with pytest.raises(RecordUnknown):
            step()


# --- a step is all or nothing --------------------------------------------------------------------------------------


def proposed(store: Store, number: int = 1) -> Proposal:
    repository, commit = fake_with_cause()
    proposal = propose(repository, revert_action(commit), number)
    store.save_proposal(proposal)
    return proposal


def change_for(proposal: Proposal, **fields: Any) -> Change:
    return Change.model_validate(
        {
            "id": f"chg-{proposal.id}",
            "proposal_id": proposal.id,
            "incident_id": proposal.incident_id,
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


STEPS: dict[str, Callable[[Store, Proposal], object]] = {
    "save_investigation": lambda store, proposal: store.save_investigation(REPORT, NOW),
    "record_answer": lambda store, proposal: store.record_answer(approve(proposal)),
    "begin_delivery": lambda store, proposal: store.begin_delivery(change_for(proposal), LATER),
    "record_outcome": lambda store, proposal: store.record_outcome(change_for(proposal), Outcome.DELIVERED, "", LATER),
    "begin_verification": lambda store, proposal: store.begin_verification(f"chg-{proposal.id}", LATER),
}


def everything(store: Store) -> list[list[Any]]:
    with store._database.reading() as connection:
        tables = ("incidents", "proposals", "answers", "changes", "verifications", "audit", "audit_head")
        return [sorted(tuple(r) for r in connection.exec_driver_sql(f"SELECT * FROM {t}")) for t in tables]


def expected_after(name: str) -> list[list[Any]]:
    """Return what all steps up to this one leave, where nothing ever fails."""
    calm = Store.open("sqlite://", KEY)
    proposal = proposed(calm)
    for step, take in STEPS.items():
        take(calm, proposal)
        if step == name:
            break
    found = everything(calm)
    calm.close()
    return found


def up_to(store: Store, name: str) -> Proposal:
    proposal = proposed(store)
    for step, take in STEPS.items():
        if step == name:
            break
        take(store, proposal)
    return proposal


@pytest.mark.parametrize("name", STEPS)
def test_a_connection_that_is_lost_at_any_statement_costs_nothing(
    postgresql_server: Server, store: Store, name: str
) -> None:
    """An administrator ends the session before the n-th statement, for each n: the step is taken again, whole, once."""
    expected = expected_after(name)
    database, number = store._database._engine.url.database or "", 0
    while True:
        with store._database.writing() as connection:
            connection.exec_driver_sql(
                "TRUNCATE incidents, proposals, answers, changes, verifications, audit, audit_head"
            )
        proposal = up_to(store, name)
        left = number + 1

        @event.listens_for(store._database._engine, "before_cursor_execute")
        def cut(*_: Any) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                postgresql_server.end_sessions(database)

        STEPS[name](store, proposal)
        event.remove(store._database._engine, "before_cursor_execute", cut)
        assert everything(store) == expected
        assert store.verify_audit() == len(store.audit_entries())
        if left > 0:
            break  # the step was over before its turn came
        number += 1
    assert number >= 5


def behind(proxy: CuttingProxy, url: str) -> str:
    return proxy.server.url(database_of(url), port=proxy.port)


@pytest.mark.parametrize("mode", ["answer", "request"])
@pytest.mark.parametrize("name", STEPS)
def test_a_lost_commit_is_settled_by_reading_back(
    postgresql_server: Server, postgresql_url: str, name: str, mode: str
) -> None:
    """Whether the server got the COMMIT or not: the step is done once, and the caller is told it is done."""
    expected = expected_after(name)
    with CuttingProxy(postgresql_server) as proxy:
        store = Store.open(behind(proxy, postgresql_url), KEY)
        proposal = up_to(store, name)
        proxy.mode = mode
        STEPS[name](store, proposal)
        assert proxy.cuts == 1
        assert everything(store) == expected
        assert store.verify_audit() == len(store.audit_entries())
        store.close()


@pytest.mark.timeout(120)
def test_where_it_cannot_be_asked_it_is_uncertain_and_safe_to_repeat(
    postgresql_server: Server, postgresql_url: str, tmp_path: Path
) -> None:
    with CuttingProxy(postgresql_server) as proxy:
        store = Store.open(behind(proxy, postgresql_url), KEY, mirror_folder=tmp_path)
        proposal = up_to(store, "begin_delivery")
        before = len(store.audit_entries())
        proxy.mode = "gone"
        with pytest.raises(
            StoreUncertain, match=r"cannot be asked whether it was.*run the same command once more"
        ) as caught:
            STEPS["begin_delivery"](store, proposal)
        assert caught.value.exit_code == 5
        one_line_of(caught)
        proxy.mode = ""
        with pytest.raises(
            ApprovalResolved, match=f"delivering.*approved by {ALICE}"
        ):  # it was kept, and is not done twice
            STEPS["begin_delivery"](store, proposal)
        assert len(store.audit_entries()) == before + 1
        assert store.verify_audit() == before + 1  # the mirror lags by one, which is tolerated
        store.record_note(NOW, ALICE, "x.y", "", {})
        assert store.verify_audit() == before + 2
        store.close()


def test_a_process_that_was_stopped_in_a_step_is_cut_off_and_takes_it_again(
    postgresql_server: Server, store: Store
) -> None:
    """The server ends the idle session, so that nobody waits for it for ever; the step is whole all the same."""
    proposal, left = proposed(store), [1]

    @event.listens_for(store._database._engine, "before_cursor_execute")
    def stopped(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE proposals") and left.pop() if left else False:
            cursor.connection.execute("SET LOCAL idle_in_transaction_session_timeout = 50")
            time.sleep(1)

    assert store.record_answer(approve(proposal)) is State.GRANTED
    event.remove(store._database._engine, "before_cursor_execute", stopped)
    assert left == []
    assert len(store.answers(proposal.id)) == 1
    assert store.verify_audit() == 2


def test_a_deadlock_is_taken_again(postgresql_server: Server, store: Store) -> None:
    proposal = proposed(store)
    database = store._database._engine.url.database or ""
    with postgresql_server.connect(database) as other:
        other.execute("SET deadlock_timeout = '60s'")  # so that ours is the one that is ended
        other.execute("BEGIN")
        other.execute("LOCK TABLE proposals IN ACCESS EXCLUSIVE MODE")
        said: list[object] = []
        step = threading.Thread(target=lambda: said.append(store.record_answer(approve(proposal))))
        step.start()
        while not postgresql_server.sql(
            f"SELECT 1 FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'"
        ):
            time.sleep(0.02)
        other.execute(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")  # now each waits for the other
        other.execute("COMMIT")
        step.join(60)
    assert said == [State.GRANTED]
    assert store.verify_audit() == 2


def test_beneath_the_queue_the_swap_decides(postgresql_server: Server, store: Store) -> None:
    """Somebody who does not stand in the queue writes between our reading and our writing: ours changes nothing."""
    proposal = proposed(store)
    database, left = store._database._engine.url.database or "", [1]

    @event.listens_for(store._database._engine, "before_cursor_execute")
    def between(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE proposals") and left.pop() if left else False:
            postgresql_server.sql("UPDATE proposals SET state = 'denied'", database)

    with pytest.raises(ApprovalResolved, match="answered at the same moment"):
        store.record_answer(approve(proposal))
    event.remove(store._database._engine, "before_cursor_execute", between)
    assert left == []
    assert store.answers(proposal.id) == ()
    assert store.state_of(proposal.id) is State.DENIED


def test_a_step_is_on_disk_when_it_is_done_whatever_the_server_prefers(
    postgresql_server: Server, postgresql_url: str
) -> None:
    name = database_of(postgresql_url)
    for preferred, used in (("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")):
        postgresql_server.sql(f"ALTER DATABASE {name} SET synchronous_commit = {preferred}")
        store = Store.open(postgresql_url, KEY)
        with store._database.writing() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == used
        store.close()
    postgresql_server.sql(f"ALTER DATABASE {name} RESET synchronous_commit")


def test_a_reader_sees_one_state_and_writes_nothing(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="read-only"), store._database.reading() as connection:
        connection.exec_driver_sql("DELETE FROM audit")
    with store._database.reading() as connection:
        assert store._audit_entries(connection) == []
        store.record_note(NOW, ALICE, "x.y", "", {})
        assert store._audit_entries(connection) == []


def test_killed_processes_leave_whole_records(postgresql_url: str, tmp_path: Path) -> None:
    store = Store.open(postgresql_url, KEY, mirror_folder=tmp_path)
    store.record_note(NOW, ALICE, "x.y", "", {})
    code = (
        "import sys; from datetime import datetime, UTC; from pathlib import Path; from advisor.store import Store\n"
        f"store = Store.open(sys.argv[1], {KEY!r}, mirror_folder=Path(sys.argv[2]))\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1; store.record_note(datetime.now(UTC), 'a', 'x.y', str(n), {}); print(n, flush=True)\n"
    )
    for _ in range(2):
        before = len(store.audit_entries())
        processes = [
            subprocess.Popen([sys.executable, "-c", code, postgresql_url, str(tmp_path)], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        told = 0
        for process in processes:
            assert process.stdout is not None
            told += int([process.stdout.readline() for _ in range(5)][-1])
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        assert store.verify_audit() >= before + told
    store.close()


# --- more than one machine -----------------------------------------------------------------------------------------


def test_each_machine_has_its_own_mirror_and_a_new_one_is_noted(postgresql_url: str, tmp_path: Path) -> None:
    places = [tmp_path / "here", tmp_path / "there"]
    stores = []
    for place in places:
        place.mkdir()
        stores.append(Store.open(postgresql_url, KEY, mirror_folder=place))
    for store in stores:
        store.record_note(NOW, ALICE, "x.y", "1", {})
        assert store.verify_audit() == len(store.audit_entries())
    assert [e.action for e in stores[0].audit_entries()] == [
        "x.y",
        "audit.mirror_begun",
        "audit.mirror_begun",
        "x.y",
    ]
    for store in stores * 3:
        store.record_note(NOW, ALICE, "x.y", "2", {})
    assert {store.verify_audit() for store in stores} == {10}
    (mirror,) = places[1].iterdir()
    assert mirror.stat().st_mode & 0o777 == 0o600
    mirror.unlink()  # of a machine that is known to have had one
    assert stores[0].verify_audit() == 10
    with pytest.raises(AuditBroken, match="mirror of the head is missing"):
        stores[1].verify_audit()
    stores[1].record_note(NOW, ALICE, "x.y", "3", {})
    with pytest.raises(AuditBroken, match="the mirror of the head was missing and was made anew here"):
        stores[0].verify_audit()
    for store in stores:
        store.close()


@pytest.mark.parametrize("grown", [False, True])
def test_an_older_state_that_was_put_back_stops_every_machine_that_knew_more(
    postgresql_server: Server, postgresql_url: str, tmp_path: Path, grown: bool
) -> None:
    """Also where another machine, which knew less, has gone on from it in good faith."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    store = Store.open(postgresql_url, KEY, mirror_folder=here)
    store.record_note(NOW, ALICE, "x.y", "1", {})
    ((head,),) = postgresql_server.sql("SELECT body FROM audit_head", database_of(postgresql_url))
    kept = store.audit_entries()[-1].sequence
    for number in range(3):
        store.record_note(NOW, ALICE, "x.y", str(number), {})
    postgresql_server.sql(
        f"DELETE FROM audit WHERE sequence > {kept}; UPDATE audit_head SET sequence = {kept}, body = '{head}'",
        database_of(postgresql_url),
    )
    if grown:
        other = Store.open(postgresql_url, KEY, mirror_folder=there)
        for number in range(6):
            other.record_note(NOW, BOB, "x.y", str(number), {})
        other.close()
    with pytest.raises(AuditBroken, match=r"its mirror|that the mirror"):
        store.record_note(NOW, ALICE, "x.y", "4", {})
    with pytest.raises(AuditBroken):
        store.verify_audit()
    store.close()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE RULE ours AS ON DELETE TO audit DO INSTEAD NOTHING", "the rule ours is not ours"),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER quiet BEFORE UPDATE ON proposals FOR EACH ROW EXECUTE FUNCTION f()",
            "the trigger quiet is not ours",
        ),
        ("UPDATE proposals SET state = 'granted'", "stands as granted, by the entries as proposed"),
        ("UPDATE proposals SET approvals = 1", "counts 1 approvals, by the entries 0"),
        ("DELETE FROM proposals", "is missing"),
        ("UPDATE audit SET body = replace(body, 'prop-0001', 'prop-0002')", "audit entry 1: its content was edited"),
    ],
)
def test_what_somebody_did_to_the_tables_is_found(
    postgresql_server: Server, store: Store, statement: str, words: str
) -> None:
    proposed(store)
    assert store.verify_audit() == 1
    postgresql_server.sql(statement, store._database._engine.url.database or "")
    with pytest.raises(AuditBroken, match=words):
        store.verify_audit()


# --- upgrades, on either engine ------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/advisor.db"
    return str(request.getfixturevalue("postgresql_url"))


def _add_column(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE incidents ADD COLUMN severity TEXT NOT NULL DEFAULT 'unknown'")


def _fill_column(connection: Connection) -> None:
    connection.exec_driver_sql("UPDATE incidents SET severity = 'high'")


def _fail(connection: Connection) -> None:
    connection.exec_driver_sql("UPDATE incidents SET severity = 'low'")
    connection.exec_driver_sql("SELECT nothing FROM nowhere")


UPGRADES = {SCHEMA_VERSION: _add_column, SCHEMA_VERSION + 1: _fill_column, SCHEMA_VERSION + 2: _fail}


def test_an_upgrade_is_whole_or_not_at_all(url: str) -> None:
    store = Store.open(url, KEY)
    store.save_investigation(REPORT, NOW)
    store.close()
    with pytest.raises(StoreError):
        open_database(url, 5, migrations=UPGRADES, version=SCHEMA_VERSION + 3)
    store = Store.open(url, KEY)  # as it was: the first two steps are undone with the third
    assert store.incident("inc-abc1") == REPORT
    store.close()
    upgraded = open_database(url, 5, migrations=UPGRADES, version=SCHEMA_VERSION + 2)
    with upgraded.reading() as connection:
        assert connection.exec_driver_sql("SELECT severity FROM incidents").scalar() == "high"
    upgraded.close()
    with pytest.raises(StoreError, match="use a newer advisor"):
        Store.open(url, KEY)


def test_of_many_who_open_an_old_store_one_upgrades_it(url: str) -> None:
    Store.open(url, KEY).close()
    counted: list[int] = []
    upgrades = {SCHEMA_VERSION: lambda connection: (counted.append(1), _add_column(connection))[1]}
    failed: list[Exception] = []

    def use() -> None:
        try:
            open_database(url, 30, migrations=upgrades, version=SCHEMA_VERSION + 1).close()
        except AdvisorError as error:
            failed.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(counted) == 1


def test_of_many_who_open_an_empty_store_all_find_it_made(url: str) -> None:
    failed: list[Exception] = []

    def use(number: int) -> None:
        try:
            store = Store.open(url, KEY)
            store.record_note(NOW, ALICE, "x.y", str(number), {})
            store.close()
        except AdvisorError as error:
            failed.append(error)

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    store = Store.open(url, KEY)
    assert store.verify_audit() == 8
    store.close()


# --- what is under way ---------------------------------------------------------------------------------------------


def test_what_is_pending_comes_with_its_change(url: str) -> None:
    store = Store.open(url, KEY)
    waiting, granted, delivering, uncertain, verifying, done = (proposed(store, n) for n in range(6))
    for proposal in (granted, delivering, uncertain, verifying, done):
        store.record_answer(approve(proposal))
    for proposal in (delivering, uncertain, verifying, done):
        store.begin_delivery(change_for(proposal), LATER)
    store.record_outcome(change_for(uncertain), Outcome.UNCERTAIN, "silent", LATER)
    for proposal in (verifying, done):
        store.record_outcome(change_for(proposal), Outcome.DELIVERED, "", LATER)
    store.begin_verification(f"chg-{verifying.id}", LATER)
    back = propose(*_rollback_of(change_for(done)), rolls_back=f"chg-{done.id}", proposer="advisor:rollback")
    approval = decide(back, say(back, BOB, Choice.APPROVE), RULES, POLICY, (), LATER, KEY)
    store.begin_rollback(change_for(done), back, approval)  # type: ignore[arg-type]
    found = {s.proposal.id: (s.state, s.change.id if s.change else None) for s in store.pending()}
    assert found == {
        waiting.id: (State.PROPOSED, None),
        granted.id: (State.GRANTED, None),
        delivering.id: (State.DELIVERING, f"chg-{delivering.id}"),
        uncertain.id: (State.UNCERTAIN, f"chg-{uncertain.id}"),
        verifying.id: (State.VERIFYING, f"chg-{verifying.id}"),
        done.id: (State.ROLLING_BACK, f"chg-{done.id}"),
        back.id: (State.GRANTED, None),
    }
    (stored,) = (s for s in store.pending() if s.proposal.id == back.id)
    assert stored.proposal.rolls_back == f"chg-{done.id}"
    store.begin_delivery(change_for(back, rolls_back=f"chg-{done.id}", kind=ChangeKind.ROLLBACK), LATER)
    (stored,) = (s for s in store.pending() if s.proposal.id == back.id)
    assert stored.state is State.DELIVERING and stored.change is not None
    assert stored.change.rolls_back == f"chg-{done.id}"
    store.close()


def _rollback_of(change: Change) -> tuple[Any, Any, int]:
    repository, commit = fake_with_cause()
    return repository, revert_action(commit), 99


def test_nothing_pending_is_left_out_however_many_there_are(url: str) -> None:
    store = Store.open(url, KEY)
    proposal = proposed(store)
    with store._database.writing() as connection:  # rows as the store writes them, but quicker
        ids = "INSERT INTO proposals SELECT 'p-' || {0}, incident_id, 'd-' || {0}, state, approvals, rolls_back,"
        ids += " created_ms, expires_ms, body FROM proposals WHERE id = '{1}'"
        for number in range(1100):
            connection.exec_driver_sql(ids.format(number, proposal.id))
    assert len(store.pending()) == 1101
    store.close()


# --- the settings --------------------------------------------------------------------------------------------------


def test_settings_open_it_and_keep_key_and_mirror_in_the_state_directory(postgresql_url: str, tmp_path: Path) -> None:
    parts = Parts(Settings(store=postgresql_url, base=tmp_path))
    parts.store.save_investigation(REPORT, NOW)
    kept = sorted(p.name for p in (tmp_path / ".advisor").iterdir())
    assert kept[1] == "signing.key" and kept[0].startswith("postgresql-") and kept[0].endswith(".audit-head")
    parts.store.close()
    again = Parts(Settings(store=postgresql_url, base=tmp_path))
    assert again.store.verify_audit() == len(again.store.audit_entries())
    again.store.close()


def test_a_missing_key_beside_existing_records_is_refused(postgresql_url: str, tmp_path: Path) -> None:
    assert not has_records(postgresql_url)
    first = Parts(Settings(store=postgresql_url, base=tmp_path / "first"))
    first.store.save_investigation(REPORT, NOW)
    first.store.close()
    assert has_records(postgresql_url)
    second = Parts(Settings(store=postgresql_url, base=tmp_path / "second"))
    with pytest.raises(SettingsInvalid, match="signing key is gone"):
        _ = second.store
    assert not (tmp_path / "second" / ".advisor" / "signing.key").exists()


def test_no_key_is_made_where_the_server_cannot_be_asked(tmp_path: Path) -> None:
    parts = Parts(Settings(store=f"postgresql+psycopg://x@127.0.0.1:{free_port()}/advisor", base=tmp_path))
    with pytest.raises(StoreUnavailable, match="not reached"):
        _ = parts.store
    assert not (tmp_path / ".advisor" / "signing.key").exists()


def test_settings_name_where_the_password_is(
    postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADVISOR_STORE_PASSWORD")
    (tmp_path / "password").write_text(PASSWORD + "\n")
    by_file = Parts(Settings(store=postgresql_url, store_password_file=Path("password"), base=tmp_path))
    by_file.store.close()
    monkeypatch.setenv("OUR_PASSWORD", PASSWORD)
    by_name = Parts(Settings(store=postgresql_url, store_password_env="OUR_PASSWORD", base=tmp_path))
    by_name.store.close()
    monkeypatch.delenv("OUR_PASSWORD")
    unset = Parts(Settings(store=postgresql_url, store_password_env="OUR_PASSWORD", base=tmp_path))
    with pytest.raises(SettingsInvalid, match="OUR_PASSWORD is not set"):
        _ = unset.store


def test_a_restarted_server_is_found_again(postgresql_server: Server, postgresql_url: str) -> None:
    store = Store.open(postgresql_url, KEY)
    store.save_investigation(REPORT, NOW)
    postgresql_server.stop()
    with pytest.raises(StoreUnavailable, match="not reached"):
        store.record_note(NOW, ALICE, "x.y", "", {})
    with pytest.raises(StoreUnavailable, match="not reached"):
        store.list_incidents()
    postgresql_server.start()
    assert len(store.list_incidents()) == 1
    store.record_note(NOW, ALICE, "x.y", "", {})
    assert store.verify_audit() == 2
    store.close()
