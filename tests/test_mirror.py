"""The mirror of the audit's head: torn by a crash it is repaired, touched by hand it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from advisor.errors import AuditBroken, AuditUnavailable
from advisor.store import Store
from advisor.store.mirror import SLOT_BYTES
from tests.test_audit import AT, KEY


def noted(folder: Path, count: int) -> tuple[Store, Path]:
    store = Store.open(f"sqlite:///{folder}/advisor.db", KEY)
    for number in range(count):
        store.record_note(AT, "alice", "x.y", f"s{number}", {})
    return store, folder / "advisor.db.audit-head"


def slots(mirror: Path) -> list[int | None]:
    data = mirror.read_bytes()
    assert len(data) == SLOT_BYTES * 2
    return [json.loads(data[n : n + SLOT_BYTES])["sequence"] for n in (0, SLOT_BYTES)]


def test_a_write_goes_to_the_older_slot(tmp_path: Path) -> None:
    found = []
    for _ in range(4):
        store, mirror = noted(tmp_path, 1)
        found.append(slots(mirror))
        store.close()
    assert found == [[1, 1], [2, 1], [2, 3], [4, 3]]


@pytest.mark.parametrize("torn", [b"\0" * 200, b'{"sequence":9', b"x"])
def test_a_slot_torn_by_a_crash_is_repaired_and_noted(tmp_path: Path, torn: bytes) -> None:
    store, mirror = noted(tmp_path, 4)  # slots hold 4 and 3
    data = bytearray(mirror.read_bytes())
    data[0 : len(torn)] = torn
    mirror.write_bytes(bytes(data))
    assert store.verify_audit() == 4 and store.has_torn_mirror
    store.record_note(AT, "alice", "x.y", "s", {})
    assert [e.action for e in store.audit_entries()][-2:] == ["audit.mirror_repaired", "x.y"]
    assert slots(mirror) == [6, 3] and not store.has_torn_mirror
    assert store.verify_audit() == 6


def test_a_slot_torn_where_nothing_was_being_written_is_told(tmp_path: Path) -> None:
    store, mirror = noted(tmp_path, 4)  # slots hold 4 and 3
    data = bytearray(mirror.read_bytes())
    data[SLOT_BYTES + 20] ^= 1  # the older one: the newer one is whole, so no write was under way
    mirror.write_bytes(bytes(data))
    for act in (store.verify_audit, lambda: store.record_note(AT, "a", "x.y", "s", {})):
        with pytest.raises(AuditBroken, match=r"is damaged, and no write was under way"):
            act()


@pytest.mark.parametrize("left", [0, 1, 100, 511, 512, 513, 1023, 1025])
def test_a_mirror_of_another_length_is_told(tmp_path: Path, left: int) -> None:
    store, mirror = noted(tmp_path, 3)  # slots hold 2 and 3
    mirror.write_bytes((mirror.read_bytes() + b"x")[:left])
    if left in (512, 513, 1023):  # the newest slot is torn, as a crash may leave it
        assert store.verify_audit() == 3 and store.has_torn_mirror
        return
    with pytest.raises(AuditBroken, match="mirror"):
        store.verify_audit()


def test_a_mirror_that_cannot_be_begun_stops_the_first_write(tmp_path: Path) -> None:
    Store.open(f"sqlite:///{tmp_path}/advisor.db", KEY).close()
    (tmp_path / "advisor.db.audit-head").symlink_to("/dev/full")
    store = Store.open(f"sqlite:///{tmp_path}/advisor.db", KEY)
    with pytest.raises(AuditUnavailable, match="nothing was done"):
        store.record_note(AT, "a", "x.y", "s", {})
    assert store.audit_entries() == ()
