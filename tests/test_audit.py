"""The audit chain: whole chains verify; every kind of tampering is found and the first bad entry is named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.audit import GENESIS, AuditEntry, AuditHead, append, head_of, mirror_of, verify
from advisor.errors import AuditBroken

KEY = b"k" * 32
AT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


def chain(length: int, key: bytes = KEY, word: str = "a") -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for number in range(length):
        entries.append(
            append(
                entries[-1] if entries else None,
                AT + timedelta(seconds=number, microseconds=123_456),
                "alice@example.org",
                "proposal.grant",
                f"P-{word}-{number}",
                {"digest": f"sha256:{number}", "state": "granted"},
                key,
            )
        )
    return entries


def mirrored(entry: AuditEntry | None) -> AuditHead:
    return mirror_of(head_of(entry, KEY), KEY)


def edited(entry: AuditEntry, **fields: object) -> AuditEntry:
    return AuditEntry.model_validate({**entry.model_dump(), **fields})


def test_a_whole_chain_verifies() -> None:
    entries = chain(7)
    assert verify(entries, KEY, head_of(entries[-1], KEY), mirrored(entries[-1])) == 7
    assert entries[0].previous == GENESIS


def test_an_empty_chain_verifies() -> None:
    assert verify([], KEY, None) == 0
    assert verify([], KEY, head_of(None, KEY), mirrored(None)) == 0


def test_an_entry_reads_back_as_it_was_hashed() -> None:
    entry = chain(1)[0]
    again = AuditEntry.model_validate_json(entry.model_dump_json())
    assert verify([again], KEY, head_of(again, KEY)) == 1


def _delete(e: list[AuditEntry]) -> list[AuditEntry]:
    return e[:3] + e[4:]


def _insert(e: list[AuditEntry]) -> list[AuditEntry]:
    return [*e[:3], append(e[2], AT, "mallory", "proposal.grant", "P", {}, b"guess"), *e[3:]]


def _reorder(e: list[AuditEntry]) -> list[AuditEntry]:
    return [*e[:3], e[4], e[3], *e[5:]]


def _rebuild_without_key(e: list[AuditEntry]) -> list[AuditEntry]:
    out = e[:3]
    for entry in e[3:]:
        out.append(append(out[-1], entry.at, "mallory", entry.action, entry.subject, {}, b"guess"))
    return out


TAMPERINGS: list[tuple[str, int, Callable[[list[AuditEntry]], list[AuditEntry]]]] = [
    ("edit", 4, lambda e: [*e[:3], edited(e[3], actor="mallory"), *e[4:]]),
    ("edit_details", 4, lambda e: [*e[:3], edited(e[3], details=()), *e[4:]]),
    ("edit_time", 4, lambda e: [*e[:3], edited(e[3], at=AT), *e[4:]]),
    ("edit_signature", 4, lambda e: [*e[:3], edited(e[3], signature=e[2].signature), *e[4:]]),
    ("delete", 4, _delete),
    ("delete_first", 1, lambda e: e[1:]),
    ("insert", 4, _insert),
    ("duplicate", 5, lambda e: [*e[:4], e[3], *e[4:]]),
    ("reorder", 4, _reorder),
    ("truncate", 7, lambda e: e[:6]),
    ("empty", 1, lambda e: []),
    ("splice_other_chain", 4, lambda e: e[:3] + chain(7, word="b")[3:]),
    ("rebuild_without_key", 4, _rebuild_without_key),
]


@pytest.mark.parametrize(("number", "tamper"), [t[1:] for t in TAMPERINGS], ids=[t[0] for t in TAMPERINGS])
def test_a_tampering_is_found_and_its_first_entry_named(
    number: int, tamper: Callable[[list[AuditEntry]], list[AuditEntry]]
) -> None:
    entries = chain(7)
    with pytest.raises(AuditBroken, match=f"audit entry {number}:"):
        verify(tamper(entries), KEY, head_of(entries[-1], KEY))


def test_a_cut_end_with_its_head_rewritten_needs_the_key() -> None:
    entries = chain(7)
    forged = head_of(entries[5], b"guess")
    with pytest.raises(AuditBroken, match="not signed"):
        verify(entries[:6], KEY, forged)


def test_a_cut_end_with_an_older_true_head_is_found_by_the_mirror() -> None:
    entries = chain(7)
    older, mirror = head_of(entries[4], KEY), mirrored(entries[6])
    assert verify(entries[:5], KEY, older) == 5  # the database alone is consistent
    with pytest.raises(AuditBroken, match="audit entry 6: is missing"):
        verify(entries[:5], KEY, older, mirror)


def test_another_whole_chain_is_found_by_the_mirror() -> None:
    entries, other = chain(7), chain(9, word="b")
    with pytest.raises(AuditBroken, match="audit entry 7: it is not the entry"):
        verify(other, KEY, head_of(other[-1], KEY), mirrored(entries[-1]))


def test_a_mirror_that_lags_is_fine_but_must_be_signed() -> None:
    entries = chain(7)
    head = head_of(entries[-1], KEY)
    assert verify(entries, KEY, head, mirrored(entries[4])) == 7
    forged = AuditHead(sequence=2, hash=entries[1].hash, signature="hmac-sha256:00")
    with pytest.raises(AuditBroken, match="not signed"):
        verify(entries, KEY, head, forged)


def test_the_head_of_an_old_database_does_not_pass_for_a_mirror() -> None:
    entries = chain(7)
    with pytest.raises(AuditBroken, match="mirror of the head .entry 5. is not signed"):
        verify(entries[:5], KEY, head_of(entries[4], KEY), head_of(entries[4], KEY))


def test_a_removed_head_is_found() -> None:
    with pytest.raises(AuditBroken, match="head was removed"):
        verify(chain(2), KEY, None)


@given(st.text(), st.text(), st.dictionaries(st.text(max_size=5), st.text(max_size=3000), max_size=4))
def test_any_text_makes_an_entry_that_verifies_after_reading_back(
    actor: str, subject: str, details: dict[str, str]
) -> None:
    entry = append(None, AT, actor, "incident.record", subject, details, KEY)
    again = AuditEntry.model_validate(entry.model_dump(mode="json"))
    assert verify([again], KEY, head_of(again, KEY)) == 1
