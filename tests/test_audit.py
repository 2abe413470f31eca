"""The audit chain: whole chains verify; every kind of tampering is found and the first bad entry is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.audit import (
    ANCHORED,
    GENESIS,
    Anchor,
    AuditEntry,
    AuditHead,
    anchor_of,
    anchored_heads,
    append,
    check_anchors,
    export_lines,
    head_of,
    mirror_of,
    server_name,
    verify,
    verify_export,
)
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
    with pytest.raises(AuditBroken, match=r"mirror of the head .entry 5. is not signed"):
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


# --- exports -------------------------------------------------------------------------------------------------------


def exported(length: int = 7, first: int = 1) -> list[str]:
    return list(export_lines(chain(length), first, AT, KEY))


@pytest.mark.parametrize(
    ("length", "first", "count"), [(7, 1, 7), (7, 4, 4), (7, 7, 1), (7, 8, 0), (7, 99, 0), (0, 1, 0)]
)
def test_an_export_verifies_with_and_without_the_key(length: int, first: int, count: int) -> None:
    lines = exported(length, first)
    assert len(lines) == count + 1
    assert verify_export(lines, KEY) == verify_export(lines, None) == count
    header = json.loads(lines[0])
    assert (header["first"], header["last"]) == (first, length)
    assert header["previous"] == (chain(length)[first - 2].hash if 1 < first <= length + 1 else header["previous"])


EXPORTS: list[tuple[str, str, Callable[[list[str]], list[str]]]] = [
    ("nothing", "line 1 is not the header", lambda e: []),
    ("no header", "line 1 is not the header", lambda e: e[1:]),
    ("header in other bytes", "line 1 is not a header as", lambda e: [e[0].replace(",", ", ", 1), *e[1:]]),
    ("header edited", "line 1 is not signed", lambda e: [e[0].replace('"last":7', '"last":6'), *e[1:7]]),
    ("another schema", "line 1 is not a header as", lambda e: [e[0].replace("audit/v1", "audit/v9"), *e[1:]]),
    ("line edited", "line 4: its content was edited", lambda e: [*e[:3], e[3].replace("P-a-2", "P-a-9"), *e[4:]]),
    ("line in other bytes", "line 4: its bytes", lambda e: [*e[:3], e[3].replace(":", ": ", 1), *e[4:]]),
    ("line missing", "line 4: its number is 4", lambda e: [*e[:3], *e[4:]]),
    ("line twice", "line 5: its number is 3", lambda e: [*e[:4], *e[3:]]),
    ("lines swapped", "line 4: its number is 4", lambda e: [*e[:3], e[4], e[3], *e[5:]]),
    ("half a line", "line 8: it is not an entry", lambda e: [*e[:7], e[7][:40]]),
    ("end cut off", "ends with entry 6, and should with 7", lambda e: e[:7]),
    ("more than said", "line 9: its number is 7", lambda e: [*e, e[7]]),
    ("another chain", "line 3: it is not chained", lambda e: [*e[:2], *list(export_lines(chain(7, word="b"), 1, AT, KEY))[2:]]),
    ("nested deeply", "line 3: it is not an entry", lambda e: [*e[:2], "[" * 100_000, *e[3:]]),
    ("too long", "line 3: it is not an entry", lambda e: [*e[:2], " " * 1_000_001, *e[3:]]),
]  # fmt: skip


@pytest.mark.parametrize(("words", "tamper"), [e[1:] for e in EXPORTS], ids=[e[0] for e in EXPORTS])
def test_a_tampered_export_is_refused_and_its_line_named(words: str, tamper: Callable[[list[str]], list[str]]) -> None:
    with pytest.raises(AuditBroken, match=words):
        verify_export(tamper(exported()), KEY)


def test_an_export_that_goes_on_after_its_end_is_refused() -> None:
    nine = exported(9)
    header = exported(7)[0]
    with pytest.raises(AuditBroken, match="ends with entry 9, and should with 7"):
        verify_export([header, *nine[1:]], KEY)


def test_an_export_of_another_server_is_not_taken_for_ours() -> None:
    with pytest.raises(AuditBroken, match="is of the server"):
        verify_export(exported(), b"another key of enough bytes")


def test_without_the_key_a_chain_written_anew_passes_and_with_it_it_does_not() -> None:
    forged = list(export_lines(chain(7, b"guess"), 1, AT, b"guess"))
    assert verify_export(forged, None) == 7
    lines = [exported()[0], *forged[1:]]
    with pytest.raises(AuditBroken, match="line 2: it is not signed"):
        verify_export(lines, KEY)


@given(st.data())
def test_a_changed_byte_of_an_export_is_found(data: st.DataObject) -> None:
    text = "\n".join(exported(3))
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters(codec="ascii").filter(lambda c: c not in (text[place], "\n")))
    with pytest.raises(AuditBroken):
        verify_export((text[:place] + letter + text[place + 1 :]).split("\n"), KEY)


# --- anchors -------------------------------------------------------------------------------------------------------


def anchored(entries: list[AuditEntry], number: int, key: bytes = KEY) -> Anchor:
    return anchor_of(head_of(entries[number - 1], key), AT, "hourly", key)


def test_anchors_of_the_chain_fit() -> None:
    entries = chain(7)
    anchors = (anchored(entries, 3), anchored(entries, 7))
    recorded = [(3, entries[2].hash)]
    assert check_anchors(entries, anchors, recorded, KEY) == 2
    assert check_anchors(entries, (), (), KEY) == 0
    assert anchors[0].server == anchors[1].server == server_name(KEY) != server_name(b"another key")
    assert (anchors[0].sequence, anchors[0].hash, anchors[0].reason) == (3, entries[2].hash, "hourly")


def test_an_old_state_put_back_whole_is_found_by_an_anchor() -> None:
    entries = chain(7)
    with pytest.raises(AuditBroken, match=r"audit entry 6: is missing; entry 7 was anchored at 2026-11-22.*here are 5"):
        check_anchors(entries[:5], (anchored(entries, 7),), (), KEY)


def test_a_chain_that_went_on_elsewhere_is_found_by_an_anchor() -> None:
    entries, other = chain(7), chain(9, word="b")
    with pytest.raises(AuditBroken, match=r"audit entry 7: it is not the one that was anchored"):
        check_anchors(other, (anchored(entries, 7),), (), KEY)


def test_an_anchor_that_was_taken_away_is_found() -> None:
    entries = chain(7)
    with pytest.raises(AuditBroken, match="the anchor of entry 5 is gone"):
        check_anchors(entries, (anchored(entries, 3),), [(3, entries[2].hash), (5, entries[4].hash)], KEY)


@pytest.mark.parametrize("fields", [{"sequence": 4}, {"hash": "sha256:x"}, {"reason": "x"}, {"at": AT.replace(hour=9)}])
def test_an_edited_anchor_is_found(fields: dict[str, object]) -> None:
    entries = chain(7)
    edited_anchor = Anchor.model_validate({**anchored(entries, 3).model_dump(), **fields})
    with pytest.raises(AuditBroken, match="not signed with the server's key"):
        check_anchors(entries, (edited_anchor,), (), KEY)


def test_what_the_chain_says_of_anchors_is_read_from_it() -> None:
    told = [
        {"target": "here", "sequence": "3", "hash": "sha256:3"},
        {"target": "there", "sequence": "4", "hash": "sha256:4"},
        {"target": "here", "sequence": "x", "hash": "sha256:5"},
        {"target": "here", "sequence": "6"},
    ]
    entries = [append(None, AT, "a", ANCHORED, "audit", details, KEY) for details in told]
    entries.append(append(None, AT, "a", "audit.anchor_failed", "audit", told[0], KEY))
    assert list(anchored_heads(entries, "here")) == [(3, "sha256:3"), (6, "")]
