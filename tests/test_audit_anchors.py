"""The audit's head outside: in a real git repository, and through the workflow around each change."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from advisor.adapters.audit_anchor import AuditAnchors
from advisor.audit import anchor_of, head_of, server_name
from advisor.errors import AuditBroken, AuditUnavailable, RecordUnknown, SettingsInvalid
from advisor.playbook import Action
from advisor.proposal import RepositoryName
from advisor.settings import parse_settings
from advisor.values import ActionType
from advisor.workflow import Workflow
from tests.support.gate import ALICE, BOB, GOOD, PATH, TIMEOUT, fast_import, git, new_remote, propose
from tests.test_audit import AT, KEY, anchored, chain

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
