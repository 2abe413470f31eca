"""Somebody with the files, but without the key, works on the records: whatever was done, `audit verify` tells.

The store is one that the walk of `test_state_machine` leaves behind: incidents, proposals, answers, changes, verdicts and
rollbacks. Each tampering is made on a copy, and must be found; what nobody touched must verify.

2,000 tamperings and 200 untouched stores; ``ADVISOR_PROOF=1`` makes 10,000 and 1,000.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from advisor import audit
from advisor.audit import Anchor
from advisor.errors import AuditBroken, StoreError
from advisor.store import Store
from tests.support.gate import KEY, NOW
from tests.test_state_machine import Gate, plain_json, sha, steps_of, walk

PROOF = os.environ.get("ADVISOR_PROOF") == "1"
TAMPERINGS = int((10_000 if PROOF else 2_000) * float(os.environ.get("ADVISOR_PROOF_SIZE", "1")))
UNTOUCHED = int((1_000 if PROOF else 200) * float(os.environ.get("ADVISOR_PROOF_SIZE", "1")))
RECORDS = ("incidents", "proposals", "answers", "changes", "verifications")
LONG = pytest.mark.timeout(3600 if PROOF else 600)
Rows = list[tuple[Any, ...]]


class Left(Gate):
    """A walk whose folder stays."""

    folders: list[Path] = []  # noqa: RUF012 - where the last walk was

    def close(self) -> None:
        for number in range(3):
            report = {"incident": {"id": f"inc-{number}", "service": "checkout"}, "diagnosis": {"outcome": "healthy"}}
            self.store.save_investigation(report, self.model.now)
        self.raw.close()
        self.store.close()
        settled = sqlite3.connect(self.folder / "advisor.db")
        settled.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        settled.close()
        Left.folders.append(self.folder)


def walked(seed: int, steps: int) -> Path:
    assert walk(Left, steps_of(seed, steps)) is None
    return Left.folders.pop()


@dataclass
class Scene:
    """One store that is worked on again and again, with what it was, what it was before, and somebody else's."""

    folder: Path
    pristine: sqlite3.Connection
    mirror: bytes
    older: Path
    other: Path
    store: Store
    anchors: tuple[Anchor, ...]
    chance: random.Random

    def check(self) -> int:
        """Verify everything, as `audit verify` does."""
        count = self.store.verify_audit()
        entries = self.store.audit_entries()
        audit.check_anchors(entries, self.anchors, audit.anchored_heads(entries, "the remote"), KEY)
        # A newest slot that cannot be read looks as a crash leaves it, and takes nothing away: that is told, not refused.
        if self.store.has_torn_mirror:
            raise AuditBroken("audit: the mirror is torn")
        return count

    def restore(self, file: sqlite3.Connection, anchors: tuple[Anchor, ...]) -> None:
        self.pristine.backup(file)
        (self.folder / "advisor.db.audit-head").write_bytes(self.mirror)
        self.anchors = anchors

    # --- what somebody does

    def raw(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / "advisor.db", isolation_level=None)

    def sql(self, *statements: str) -> None:
        connection = self.raw()
        for statement in statements:
            connection.execute(statement)
        connection.close()

    def rows(self, folder: Path | None = None) -> Rows:
        connection = sqlite3.connect((folder or self.folder) / "advisor.db")
        found = connection.execute("SELECT sequence, hash, previous, body FROM audit ORDER BY sequence").fetchall()
        connection.close()
        return found

    def replace(self, rows: Rows) -> None:
        connection = self.raw()
        connection.execute("BEGIN")
        connection.execute("DELETE FROM audit")
        connection.executemany("INSERT INTO audit VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
        connection.close()

    @property
    def length(self) -> int:
        return len(self.rows())

    def edit(self) -> None:
        row = self.chance.choice(self.rows())
        fields = json.loads(row[3])
        name = self.chance.choice(sorted(fields))
        fields[name] = {
            "sequence": fields["sequence"] + self.chance.choice([-1, 1]),
            "details": [["n", "2"]],
            "at": "2026-11-22T08:00:00.001Z",
        }.get(name, str(fields[name])[:-1] + "#")
        self.update("audit", "body", json.dumps(fields), f"sequence = {row[0]}")

    def update(self, table: str, column: str, value: Any, where: str) -> None:
        connection = self.raw()
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))
        connection.close()

    def edit_and_rehash(self) -> None:
        """Edit one entry and mend every hash after it; only the signatures cannot be mended."""
        rows = self.rows()
        start = self.chance.randrange(len(rows))
        previous = rows[start - 1][1] if start else "sha256:" + "0" * 64
        out = rows[:start]
        for number, row in enumerate(rows[start:]):
            fields = json.loads(row[3])
            if number == 0:
                fields["actor"] = "somebody else"
            fields["previous"] = previous
            told = {k: v for k, v in fields.items() if k not in ("hash", "signature")}
            fields["hash"] = previous = sha(plain_json(told))
            out.append((row[0], fields["hash"], fields["previous"], json.dumps(fields)))
        self.replace(out)

    def edit_column(self) -> None:
        column = self.chance.choice(["hash", "previous"])
        self.update("audit", column, "sha256:x", f"sequence = {self.chance.randint(1, self.length)}")

    def flip_entry(self) -> None:
        row = self.chance.choice(self.rows())
        self.update("audit", "body", flipped(row[3], self.chance), f"sequence = {row[0]}")

    def delete(self) -> None:
        self.sql(f"DELETE FROM audit WHERE sequence = {self.chance.randint(1, self.length)}")

    def delete_and_renumber(self) -> None:
        rows = self.rows()
        del rows[self.chance.randrange(len(rows))]
        self.replace([(n, r[1], r[2], json.dumps({**json.loads(r[3]), "sequence": n})) for n, r in enumerate(rows, 1)])

    def insert(self) -> None:
        rows = self.rows()
        place = self.chance.randint(0, len(rows))
        fields = {**json.loads(rows[0][3]), "sequence": place + 1, "hash": "sha256:new", "previous": "sha256:p"}
        out = [*rows[:place], (0, "sha256:new", "sha256:p", json.dumps(fields)), *rows[place:]]
        self.replace([(number, *row[1:]) for number, row in enumerate(out, start=1)])

    def reorder(self) -> None:
        rows = self.rows()
        a, b = self.chance.sample(range(len(rows)), 2)
        rows[a], rows[b] = rows[b], rows[a]
        self.replace([(number, *row[1:]) for number, row in enumerate(rows, start=1)])

    def truncate(self) -> None:
        self.sql(f"DELETE FROM audit WHERE sequence > {self.chance.randrange(0, self.length)}")

    def truncate_with_head(self) -> None:
        """Cut the end and put the head of an earlier day back: among the entries everything fits."""
        head = sqlite3.connect(self.older / "advisor.db").execute("SELECT sequence, body FROM audit_head").fetchone()
        self.sql(f"DELETE FROM audit WHERE sequence > {head[0]}", f"UPDATE audit_head SET sequence = {head[0]}")
        self.update("audit_head", "body", head[1], "id = 1")

    def remove_head(self) -> None:
        self.sql("DELETE FROM audit_head")

    def second_head(self) -> None:
        self.sql("INSERT INTO audit_head SELECT 2, sequence, body FROM audit_head WHERE id = 1")

    def edit_head(self) -> None:
        self.sql(f"UPDATE audit_head SET sequence = sequence + {self.chance.choice([-1, 1])}")

    def flip_head(self) -> None:
        (body,) = self.raw().execute("SELECT body FROM audit_head").fetchone()
        self.update("audit_head", "body", flipped(body, self.chance), "id = 1")

    def empty(self) -> None:
        self.sql("DELETE FROM audit", "DELETE FROM audit_head")

    def splice(self) -> None:
        """Take the end of the audit of another server with the same key."""
        rows, others = self.rows(), self.rows(self.other)
        place = self.chance.randrange(1, min(len(rows), len(others)))
        self.replace(rows[:place] + others[place : len(rows)])

    def splice_one(self) -> None:
        """Put one true entry of another chain into the place of one of ours."""
        rows, others = self.rows(), self.rows(self.other)
        place = self.chance.randrange(min(len(rows), len(others)))
        rows[place] = others[place]
        self.replace(rows)

    def fork(self) -> None:
        """Give one entry a second successor, in a table that no longer forbids it."""
        rows = self.rows()
        place = self.chance.randrange(1, len(rows))
        others = self.rows(self.other)
        twin = others[min(place, len(others) - 1)]
        connection = self.raw()
        connection.execute("BEGIN")
        connection.execute("DROP TABLE audit")
        connection.execute("CREATE TABLE audit (sequence INTEGER, hash TEXT, previous TEXT, body TEXT)")
        both = [*rows[: place + 1], (rows[place][0], *twin[1:]), *rows[place + 1 :]]
        connection.executemany("INSERT INTO audit VALUES (?, ?, ?, ?)", both)
        connection.execute("COMMIT")
        connection.close()

    def put_back_database(self) -> None:
        self.copy_database(self.chance.choice([self.older, self.other]))

    def copy_database(self, folder: Path) -> None:
        source, target = sqlite3.connect(folder / "advisor.db"), self.raw()
        source.backup(target)
        source.close()
        target.close()

    def put_back_database_and_mirror(self) -> None:
        """Everything on this machine is as it was one day; only the anchors know."""
        self.copy_database(self.older)
        shutil.copy(self.older / "advisor.db.audit-head", self.folder / "advisor.db.audit-head")

    def put_back_and_go_on(self) -> None:
        """The same, and the audit then goes on past what was anchored."""
        self.put_back_database_and_mirror()
        for number in range(self.anchors[-1].sequence - self.length + self.chance.randint(0, 3)):
            self.store.record_note(NOW + timedelta(days=1), "ops-advisor", "x.y", f"s{number}", {})

    def other_server(self) -> None:
        """Put another chain in the place of ours, mirror and all."""
        self.copy_database(self.other)
        shutil.copy(self.other / "advisor.db.audit-head", self.folder / "advisor.db.audit-head")

    def remove_mirror(self) -> None:
        (self.folder / "advisor.db.audit-head").unlink()

    def empty_mirror(self) -> None:
        (self.folder / "advisor.db.audit-head").write_bytes(b"")

    def flip_mirror(self) -> None:
        place = self.chance.randrange(len(self.mirror))
        bit = bytes([self.mirror[place] ^ (1 << self.chance.randrange(8))])
        (self.folder / "advisor.db.audit-head").write_bytes(self.mirror[:place] + bit + self.mirror[place + 1 :])

    def cut_mirror(self) -> None:
        (self.folder / "advisor.db.audit-head").write_bytes(self.mirror[: self.chance.randrange(len(self.mirror))])

    def cut_with_a_torn_mirror(self) -> None:
        """Cut the end and make the mirror look as if a crash had torn it."""
        self.truncate_with_head()
        newest = max(range(2), key=lambda n: json.loads(self.mirror[n * 512 : n * 512 + 512])["sequence"])
        torn = bytearray(self.mirror)
        torn[newest * 512 + 100 : newest * 512 + 200] = b"\0" * 100
        (self.folder / "advisor.db.audit-head").write_bytes(bytes(torn))

    def head_as_mirror(self) -> None:
        """Cut the end, and write a mirror out of the head that an old copy of the database holds."""
        self.truncate_with_head()
        (body,) = self.raw().execute("SELECT body FROM audit_head").fetchone()
        (self.folder / "advisor.db.audit-head").write_bytes((body.encode().ljust(511) + b"\n") * 2)

    # --- the tables

    def cell(self) -> tuple[str, int, str, Any]:
        connection = self.raw()
        table = self.chance.choice(RECORDS)
        rowid = self.chance.choice(connection.execute(f"SELECT rowid FROM {table}").fetchall())[0]
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        column = self.chance.choice(columns)
        (value,) = connection.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
        connection.close()
        return table, rowid, column, value

    def edit_cell(self) -> None:
        table, rowid, column, value = self.cell()
        new = value + 77 if isinstance(value, int) else (value or "") + "x"
        self.update(table, column, new, f"rowid = {rowid}")

    def flip_cell(self) -> None:
        table, rowid, column, value = self.cell()
        if value in (None, ""):
            value = "\0"  # there is nothing to flip in: something appears
        new = value ^ (1 << self.chance.randrange(7, 20)) if isinstance(value, int) else flipped(value, self.chance)
        self.update(table, column, new, f"rowid = {rowid}")

    def reformat_body(self) -> None:
        """Write a record in other bytes that mean the same."""
        table, rowid, _, _ = self.cell()
        (body,) = self.raw().execute(f"SELECT body FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
        self.update(table, "body", json.dumps(json.loads(body)), f"rowid = {rowid}")

    def delete_row(self) -> None:
        table, rowid, _, _ = self.cell()
        self.sql(f"DELETE FROM {table} WHERE rowid = {rowid}")

    def add_row(self) -> None:
        table, rowid, _, _ = self.cell()
        connection = self.raw()
        row = list(connection.execute(f"SELECT * FROM {table} WHERE rowid = ?", (rowid,)).fetchone())
        names = [column[1] for column in connection.execute(f"PRAGMA table_info({table})")]
        first = {"answers": "person", "verifications": "number"}.get(table, "id")
        row[names.index(first)] = 99 if first == "number" else "new-0000"
        for unique in ("digest", "proposal_id" if table == "changes" else "digest"):
            if unique in names:
                row[names.index(unique)] = "sha256:new"
        connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        connection.close()

    def swap_bodies(self) -> None:
        table = self.chance.choice(RECORDS)
        connection = self.raw()
        rows = connection.execute(f"SELECT rowid, body FROM {table}").fetchall()
        (one, first), (two, second) = self.chance.sample(rows, 2)
        connection.execute(f"UPDATE {table} SET body = ? WHERE rowid = ?", (second, one))
        connection.execute(f"UPDATE {table} SET body = ? WHERE rowid = ?", (first, two))
        connection.close()

    def put_back_table(self) -> None:
        """Put one table back to what it was, beside the present audit."""
        connection = self.raw()
        connection.execute("ATTACH ? AS older", (str(self.older / "advisor.db"),))
        changed = [
            table
            for table in RECORDS
            if connection.execute(f"SELECT * FROM {table}").fetchall()
            != connection.execute(f"SELECT * FROM older.{table}").fetchall()
        ]
        table = self.chance.choice(changed)
        connection.execute(f"DELETE FROM {table}")
        connection.execute(f"INSERT INTO {table} SELECT * FROM older.{table}")
        connection.close()

    def grant_it(self) -> None:
        """Make an open or refused proposal look granted."""
        state = self.chance.choice(["granted", "delivered", "proposed"])
        connection = self.raw()
        rows = connection.execute("SELECT rowid FROM proposals WHERE state != ?", (state,)).fetchall()
        rowid = self.chance.choice(rows)[0]
        connection.execute("UPDATE proposals SET state = ? WHERE rowid = ?", (state, rowid))
        connection.close()

    def add_trigger(self) -> None:
        self.sql(
            "CREATE TRIGGER quiet AFTER INSERT ON answers BEGIN"
            " UPDATE proposals SET state = 'granted' WHERE id = NEW.proposal_id; END"
        )

    # --- the anchors

    def remove_anchor(self) -> None:
        gone = self.chance.randrange(len(self.anchors))
        self.anchors = self.anchors[:gone] + self.anchors[gone + 1 :]

    def edit_anchor(self) -> None:
        place = self.chance.randrange(len(self.anchors))
        name, value = self.chance.choice([("hash", "sha256:x"), ("sequence", 2), ("reason", "x"), ("signature", "x")])
        edited = Anchor.model_validate({**self.anchors[place].model_dump(), name: value})
        self.anchors = (*self.anchors[:place], edited, *self.anchors[place + 1 :])


KINDS: list[Callable[[Scene], None]] = [
    function
    for name, function in vars(Scene).items()
    if callable(function)
    and not name.startswith("_")
    and name not in ("check", "restore", "raw", "sql", "rows", "replace", "update", "cell", "copy_database")
]


def flipped(text: str, chance: random.Random) -> str | bytes:
    data = text.encode()
    place = chance.randrange(len(data))
    data = data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def copied(folder: Path, name: str) -> Path:
    target = folder.parent / f"{folder.name}-{name}"
    target.mkdir()
    source, copy = sqlite3.connect(folder / "advisor.db"), sqlite3.connect(target / "advisor.db")
    source.backup(copy)
    source.close()
    copy.close()
    shutil.copy(folder / "advisor.db.audit-head", target / "advisor.db.audit-head")
    return target


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """A store with every kind of record, anchored twice; a copy from between the anchors; another server's store."""
    folder, other = walked(3, 60), walked(4, 90)
    store = Store.open(f"sqlite:///{folder}/advisor.db", KEY)
    anchors = []

    def anchor() -> None:
        head = audit.head_of(store.audit_entries()[-1], KEY)
        anchors.append(audit.anchor_of(head, NOW, "hourly", KEY))
        told = {"target": "the remote", "sequence": str(head.sequence), "hash": head.hash}
        store.record_note(NOW, "ops-advisor", audit.ANCHORED, "audit", told)

    anchor()
    older = copied(folder, "older")
    for number in range(3):
        report = {"incident": {"id": f"late-{number}", "service": "checkout"}}
        store.save_investigation(report, NOW + timedelta(hours=1))
    anchor()
    pristine = sqlite3.connect(":memory:")
    connection = sqlite3.connect(folder / "advisor.db")
    connection.backup(pristine)
    connection.close()
    mirror = (folder / "advisor.db.audit-head").read_bytes()
    counts = {t: pristine.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in RECORDS}
    assert min(counts.values()) >= 2, counts
    yield Scene(folder, pristine, mirror, older, other, store, tuple(anchors), random.Random(0))
    store.close()
    for place in (folder, older, other):
        shutil.rmtree(place)


@LONG
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_tampering_is_found(scene: Scene, kind: Callable[[Scene], None]) -> None:
    anchors, file = scene.anchors, scene.raw()
    try:
        for number in range(-(-TAMPERINGS // len(KINDS))):
            scene.chance = random.Random(number)
            kind(scene)
            with pytest.raises(AuditBroken, match="audit"):
                scene.check()
            scene.restore(file, anchors)
        assert scene.check() == len(scene.store.audit_entries())  # as it was, it is whole again
    finally:
        scene.restore(file, anchors)
        file.close()


@LONG
def test_a_flipped_bit_of_the_files_is_found_or_says_nothing_else(scene: Scene) -> None:
    """Bits of the database's file: either `audit verify` refuses, or every record reads exactly as before."""
    place = Path(tempfile.mkdtemp(prefix="flips-", dir=scene.folder.parent))
    source = copied(scene.folder, "settled")
    settled = sqlite3.connect(source / "advisor.db")
    settled.execute("PRAGMA journal_mode=DELETE")
    settled.close()
    data, mirror = (source / "advisor.db").read_bytes(), (source / "advisor.db.audit-head").read_bytes()
    told, chance, outcomes = everything(source / "advisor.db"), random.Random(1), Counter[str]()
    for number in range(max(5, TAMPERINGS // 10)):
        folder = place / str(number)
        folder.mkdir()
        at = chance.randrange(len(data))
        flip = bytes([data[at] ^ (1 << chance.randrange(8))])
        (folder / "advisor.db").write_bytes(data[:at] + flip + data[at + 1 :])
        (folder / "advisor.db.audit-head").write_bytes(mirror)
        try:
            store = Store.open(f"sqlite:///{folder}/advisor.db", KEY)
            try:
                store.verify_audit()
            finally:
                store.close()
            assert everything(folder / "advisor.db") == told, at
            outcomes["says nothing else"] += 1
        except (AuditBroken, StoreError):
            outcomes["found"] += 1
        shutil.rmtree(folder)
    for folder in (place, source):
        shutil.rmtree(folder)
    assert outcomes["found"] >= 0.2 * outcomes.total(), outcomes


def everything(path: Path) -> dict[str, Rows]:
    connection = sqlite3.connect(path)
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in tables}
    connection.close()
    return found


@LONG
def test_what_nobody_touched_verifies() -> None:
    """200 stores, each as a walk of its own left it."""
    for seed in range(UNTOUCHED):
        folder = walked(1000 + seed, 15)
        store = Store.open(f"sqlite:///{folder}/advisor.db", KEY)
        entries = store.audit_entries()
        assert store.verify_audit() == len(entries) > 0
        lines = list(audit.export_lines(entries, 1, NOW, KEY))
        assert audit.verify_export(lines, KEY) == audit.verify_export(lines, None) == len(entries)
        store.close()
        shutil.rmtree(folder)
