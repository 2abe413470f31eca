"""The audit chain: whole chains verify; every kind of tampering is found and the first bad entry is named."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.adapters.audit_anchor import AuditAnchors
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
from advisor.errors import AuditBroken, AuditUnavailable, RecordUnknown, SettingsInvalid
from advisor.playbook import Action
from advisor.proposal import RepositoryName
from advisor.settings import parse_settings
from advisor.store import Store
from advisor.store.mirror import SLOT_BYTES
from advisor.values import ActionType
from advisor.workflow import Workflow
from tests.support.gate import ALICE, BOB, GOOD, PATH, TIMEOUT, fast_import, git, new_remote, propose

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


# --- anchors in git ------------------------------------------------------------------------------------------------


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    place = new_remote(tmp_path / "elsewhere")
    fast_import(place, {PATH: GOOD})
    return place


def refs_of(place: Path) -> dict[str, str]:
    return dict(line.split() for line in git(place, "for-each-ref", "--format=%(refname) %(objectname)").splitlines())


@pytest.mark.parametrize("kind", ["tag", "note"])
def test_an_anchor_is_a_name_of_its_own_that_is_made_once(remote: Path, tmp_path: Path, kind: Any) -> None:
    entries, before = chain(7), refs_of(remote)
    anchors = AuditAnchors(str(remote), tmp_path / "ours", kind)
    ref = anchors.put(anchored(entries, 3))
    assert ref == f"refs/{kind}s/advisor-audit/{server_name(KEY)}/3"
    after = refs_of(remote)
    assert {name: after[name] for name in before} == before and set(after) - set(before) == {ref}
    later = anchor_of(head_of(entries[2], KEY), AT.replace(hour=11), "asked", KEY)
    assert anchors.put(later) == ref  # a repeat after a crash finds the first
    anchors.put(anchored(entries, 7))
    assert refs_of(remote)[ref] == after[ref]
    again = AuditAnchors(str(remote), tmp_path / "another machine", kind)
    assert (
        again.read(server_name(KEY)) == anchors.read(server_name(KEY)) == (anchored(entries, 3), anchored(entries, 7))
    )
    assert again.read("0" * 12) == ()
    git(remote, "fsck", "--strict")


@pytest.mark.parametrize("kind", ["tag", "note"])
def test_a_chain_that_goes_on_in_two_places_collides(remote: Path, tmp_path: Path, kind: Any) -> None:
    AuditAnchors(str(remote), tmp_path / "one", kind).put(anchored(chain(7), 5))
    other = AuditAnchors(str(remote), tmp_path / "two", kind)
    with pytest.raises(AuditBroken, match=r"audit entry 5: .* has another one anchored"):
        other.put(anchored(chain(7, word="b"), 5))


def test_a_note_stands_on_the_head_that_was_there(remote: Path, tmp_path: Path) -> None:
    ref = AuditAnchors(str(remote), tmp_path / "ours", "note").put(anchored(chain(3), 3))
    told = json.loads(git(remote, "notes", f"--ref={ref}", "show", "main"))
    assert told["sequence"] == 3


def test_a_note_needs_no_commit_there(tmp_path: Path) -> None:
    empty = new_remote(tmp_path / "elsewhere")
    anchors = AuditAnchors(str(empty), tmp_path / "ours", "note")
    anchors.put(anchored(chain(3), 3))
    assert len(anchors.read(server_name(KEY))) == 1


@pytest.mark.parametrize("kind", ["tag", "note"])
def test_an_anchor_can_be_signed_so_that_others_verify_it(remote: Path, tmp_path: Path, kind: Any) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    anchors = AuditAnchors(str(remote), tmp_path / "ours", kind, signing_key_file=key)
    ref = anchors.put(anchored(chain(3), 3))
    (tmp_path / "allowed").write_text(f"* {key.with_suffix('.pub').read_text()}")
    what = "verify-tag" if kind == "tag" else "verify-commit"
    git(remote, "-c", f"gpg.ssh.allowedSignersFile={tmp_path / 'allowed'}", what, ref)
    assert len(anchors.read(server_name(KEY))) == 1


def test_a_signing_key_that_is_not_there_is_said_in_one_line(remote: Path, tmp_path: Path) -> None:
    anchors = AuditAnchors(str(remote), tmp_path / "ours", signing_key_file=tmp_path / "none")
    with pytest.raises(AuditUnavailable, match="audit: anchoring entry 3 in "):
        anchors.put(anchored(chain(3), 3))
    assert not [name for name in refs_of(remote) if "advisor" in name]


def test_a_name_that_holds_something_else_is_told(remote: Path, tmp_path: Path) -> None:
    anchors = AuditAnchors(str(remote), tmp_path / "ours")
    ref = anchors.put(anchored(chain(7), 3))
    git(remote, "update-ref", ref, "main")
    with pytest.raises(AuditBroken, match="holds no anchor"):
        anchors.read(server_name(KEY))
    git(remote, "update-ref", "-d", ref)
    assert anchors.read(server_name(KEY)) == ()
    other = anchors.put(anchored(chain(7), 5))
    git(remote, "update-ref", other.replace("/5", "/6"), other)
    with pytest.raises(AuditBroken, match="holds the anchor of another entry"):
        anchors.read(server_name(KEY))


@pytest.mark.parametrize("url", ["-x", "ext::sh -c id", "nowhere"])
def test_a_place_that_cannot_be_reached_is_unavailable(tmp_path: Path, url: str) -> None:
    with pytest.raises(AuditUnavailable, match="audit"):
        AuditAnchors(url if url != "nowhere" else str(tmp_path / url), tmp_path / "ours").put(anchored(chain(3), 3))


def test_a_refused_anchor_is_unavailable(remote: Path, tmp_path: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(AuditUnavailable, match="anchoring entry 3"):
        AuditAnchors(str(remote), tmp_path / "ours").put(anchored(chain(3), 3))


# --- the mirror ----------------------------------------------------------------------------------------------------


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


# --- the whole way -------------------------------------------------------------------------------------------------


@dataclass
class Office:
    """A workflow over real git, with a place for anchors, and a clock."""

    folder: Path
    anchors: Path
    now: datetime = AT
    required: bool = False
    number: int = 0

    def workflow(self, anchor: bool = True) -> Workflow:
        settings = {
            "repositories": {"config": {"url": str(self.folder / "remote.git")}},
            "approval": {"approvers": [ALICE, BOB]},
            "audit": {"anchor": {"repository": str(self.anchors), "required": self.required}} if anchor else {},
        }
        return Workflow(parse_settings(json.dumps(settings), self.folder), clock=lambda: self.now)

    def approved(self) -> Any:
        """Propose something and approve it; return the change."""
        self.number += 1
        workflow = self.workflow()
        action = Action(type=ActionType.SET_VALUE, path=PATH, keys=(TIMEOUT,), values=(f"{self.number}m",))
        proposal = propose(
            workflow.repository("config"), action, self.number, self.now,
            policy_version=workflow.settings.policy_version,
            repository=RepositoryName(name="config", url=str(self.folder / "remote.git")),
        )  # fmt: skip
        workflow.store.save_proposal(proposal)
        return workflow.approve(proposal.id, BOB).change

    def entries(self) -> list[str]:
        return [entry.action for entry in self.workflow().store.audit_entries()]

    def reachable(self, yes: bool) -> None:
        here, away = self.anchors, self.anchors.with_name("away.git")
        (away if yes else here).rename(here if yes else away)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    fast_import(new_remote(tmp_path), {PATH: GOOD})
    return Office(tmp_path, new_remote(tmp_path / "elsewhere"))


def test_each_change_and_each_rollback_is_anchored(office: Office) -> None:
    change = office.approved()
    assert office.entries()[-3:] == ["change.begin_delivery", "change.deliver", "audit.anchor"]
    assert office.workflow().audit_verify().anchors == 1
    office.workflow().roll_back(change.id, BOB)
    checked = office.workflow().audit_verify()
    assert (checked.anchors, checked.note) == (2, "")
    assert checked.entries == len(office.entries())
    names = [name for name in refs_of(office.anchors) if name.startswith("refs/tags/advisor-audit/")]
    assert len(names) == 2 == len(refs_of(office.anchors))
    assert set(refs_of(office.folder / "remote.git")) == {"refs/heads/main"}


def test_an_old_state_put_back_with_its_mirror_is_found(office: Office) -> None:
    office.approved()
    before = {path: path.read_bytes() for path in office.folder.glob("advisor.db*")}
    office.approved()
    for path in office.folder.glob("advisor.db*"):
        path.unlink()
    for path, data in before.items():
        path.write_bytes(data)
    assert office.workflow().store.verify_audit() > 0  # nothing on this machine contradicts it
    with pytest.raises(AuditBroken, match="an older state was put back"):
        office.workflow().audit_verify()
    offline = office.workflow().audit_verify(offline=True)
    assert offline.anchors is None and "--offline" in offline.note


def test_anchors_that_cannot_be_read_are_said_or_where_required_refused(office: Office) -> None:
    office.approved()
    office.reachable(False)
    checked = office.workflow().audit_verify()
    assert checked.anchors is None and "anchors were not checked: audit: reading the anchors" in checked.note
    office.required = True
    with pytest.raises(AuditUnavailable, match="reading the anchors"):
        office.workflow().audit_verify()


def test_without_anchors_the_gap_is_said(office: Office) -> None:
    assert "no anchors are configured" in office.workflow(anchor=False).audit_verify().note


def test_a_change_whose_audit_cannot_be_anchored_is_told_and_noted(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    office.reachable(False)
    change = office.approved()
    assert office.entries()[-2:] == ["change.deliver", "audit.anchor_failed"]
    assert f"change {change.id} is on record but not anchored" in caplog.text
    office.reachable(True)
    office.workflow().anchor_audit()
    assert office.workflow().audit_verify().anchors == 1


def test_where_anchors_are_required_nothing_changes_without_them(office: Office) -> None:
    office.required = True
    office.reachable(False)
    head = refs_of(office.folder / "remote.git")
    with pytest.raises(AuditUnavailable, match=r"nothing was changed, since audit\.anchor\.required is set"):
        office.approved()
    assert refs_of(office.folder / "remote.git") == head
    assert "change.begin_delivery" not in office.entries()
    office.reachable(True)
    change = office.approved()
    assert office.entries().count("audit.anchor") == 2  # before its intent, and after
    office.reachable(False)
    office.workflow().roll_back(change.id, BOB)  # taking back waits for nobody
    assert office.entries()[-1] == "audit.anchor_failed"
    assert git(office.folder / "remote.git", "show", f"main:{PATH}").encode() == GOOD


def test_an_anchor_is_due_after_its_time_and_only_for_news(office: Office) -> None:
    workflow = office.workflow()
    assert workflow.anchor_audit(if_due=True) is None  # nothing is on record
    workflow.store.record_note(office.now, ALICE, "x.y", "s", {})
    assert workflow.anchor_audit(if_due=True) is not None
    workflow.store.record_note(office.now, ALICE, "x.y", "s", {})
    office.now += timedelta(minutes=59, seconds=59)
    assert office.workflow().anchor_audit(if_due=True) is None
    office.now += timedelta(seconds=1)
    assert office.workflow().anchor_audit(if_due=True) is not None
    office.now += timedelta(days=1)
    assert office.workflow().anchor_audit(if_due=True) is None  # its own entry is no news
    with pytest.raises(SettingsInvalid, match=r"set audit\.anchor\.repository"):
        office.workflow(anchor=False).anchor_audit()


def test_an_export_is_written_and_verified_where_no_key_is(office: Office, tmp_path: Path) -> None:
    office.approved()
    file = tmp_path / "audit.jsonl"
    count = office.workflow().audit_export(file, 3)
    assert count == len(office.entries()) - 2
    assert (office.workflow().audit_verify_file(file).entries, office.workflow().audit_verify_file(file).note) == (
        count,
        "",
    )
    elsewhere = Workflow(parse_settings("{}", tmp_path / "elsewhere"))
    assert "signatures were not checked" in elsewhere.audit_verify_file(file).note
    assert not (tmp_path / "elsewhere" / ".advisor").exists()  # looking makes nothing
    data = file.read_bytes()
    for broken, words in (
        (data[:-1], "line 4 is not whole"),
        (data[:-30], "is not whole"),
        (b"\xff" + data, "not UTF-8"),
    ):
        file.write_bytes(broken)
        with pytest.raises(AuditBroken, match=words):
            office.workflow().audit_verify_file(file)
    with pytest.raises(RecordUnknown, match="cannot be read"):
        office.workflow().audit_verify_file(tmp_path / "none")


@pytest.mark.parametrize(
    ("anchor", "words"),
    [
        ({"repository": "elsewhere"}, "neither an address nor under repositories"),
        ({"repository": ""}, "names a repository"),
        ({"repository": "-x"}, "names a repository"),
        ({"repository": "ext::sh"}, "names a repository"),
        ({"repository": "https://me:secret@git.example.org/a"}, "carries a password"),
        ({"repository": "./a", "every_minutes": 0}, "every_minutes"),
        ({"repository": "./a", "kind": "branch"}, "kind"),
        ({"repository": "./a", "ref": "refs/heads/main"}, "unknown key"),
    ],
)
def test_settings_of_anchors_are_checked(anchor: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=words) as error:
        parse_settings(json.dumps({"audit": {"anchor": anchor}}), tmp_path)
    assert "secret" not in str(error.value)
