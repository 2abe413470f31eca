"""The audit: verify it, show it, export it, and keep its head outside.

Anchors are made after each change and rollback, and by `audit anchor --if-due` (from cron or a worker) in between. Where
the settings require them, a change is refused before its intent while they cannot be made; taking a change back never
is, since an incident must not wait for another server.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from advisor import audit
from advisor.errors import AuditBroken, AuditUnavailable, RecordUnknown, SettingsInvalid, one_line
from advisor.workflow.files import write_whole
from advisor.workflow.parts import KEY_FILE, Parts

if TYPE_CHECKING:
    from advisor.adapters.audit_anchor import AuditAnchors
    from advisor.audit import AuditEntry, AuditHead
    from advisor.change import Change
    from advisor.store import Store

ANCHOR_FAILED = "audit.anchor_failed"
_SYSTEM = "ops-advisor"
_FILE_BYTES_MAX = 2 * 1024**3
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AuditCheck:
    """What a verification found whole.

    Attributes:
        anchors: How many anchors the chain was held against; None where none were asked.
        note: What was not checked, and why; empty if nothing was left out.
    """

    entries: int
    anchors: int | None = None
    note: str = ""


class Auditing(Parts):
    """Verify, show, export and anchor the audit."""

    @cached_property
    def store(self) -> Store:
        """Return the opened store of records, which has the audit anchored around each delivery."""
        store: Store = super().store
        if self.audit_anchors is not None:
            store.before_intent = self._before_intent
            store.after_outcome = self._after_outcome
        return store

    @cached_property
    def audit_anchors(self) -> AuditAnchors | None:
        """Return where the head is anchored; None if the settings name no place.

        Raises:
            AuditUnavailable: The place is none that can be reached by git.
        """
        rules = self.settings.audit.anchor
        if rules is None or self.replay:
            return None
        from advisor.adapters.audit_anchor import AuditAnchors

        ssh_key = rules.ssh_key_file
        if rules.is_address:
            url = rules.repository
            address = url if "://" in url or (":" in url.split("/")[0]) else str(self.settings.path(url).resolve())
        else:
            configured = self.settings.repositories[rules.repository]
            address, ssh_key = self._address(configured), ssh_key or configured.ssh_key_file
        return AuditAnchors(
            address,
            self.state_directory / "anchors",
            kind=rules.kind,
            timeout_seconds=rules.timeout_seconds,
            ssh_key_file=self.settings.path(ssh_key) if ssh_key else None,
            signing_key_file=self.settings.path(rules.signing_key_file) if rules.signing_key_file else None,
        )

    def audit_verify(self, offline: bool = False) -> AuditCheck:
        """Return what of the audit was checked, all of it whole.

        Args:
            offline: Leave out the anchors.

        Raises:
            AuditBroken: It names the first entry, row or anchor that does not fit.
            AuditUnavailable: The anchors are required and cannot be read.
        """
        count = self.store.verify_audit()
        torn = self._torn_mirror()
        if self.audit_anchors is None:
            missing = "no anchors are configured: an older state put back whole would not be seen"
            return AuditCheck(count, note=torn + missing)
        if offline:
            return AuditCheck(count, note=f"{torn}anchors were not checked (--offline)")
        # Read in this order, an anchor that another process makes meanwhile is neither too new nor missing.
        recorded = tuple(audit.anchored_heads(self.store.audit_entries(), self.audit_anchors.target))
        try:
            anchors = self.audit_anchors.read(audit.server_name(self.signing_key))
        except AuditUnavailable as error:
            if self.settings.audit.anchor and self.settings.audit.anchor.required:
                raise
            return AuditCheck(count, note=f"{torn}anchors were not checked: {error}")
        entries = self.store.audit_entries()
        return AuditCheck(count, audit.check_anchors(entries, anchors, recorded, self.signing_key), torn.rstrip("; "))

    def _torn_mirror(self) -> str:
        """Say whether a slot of the mirror cannot be read while the other one does not contradict the records."""
        if not self.store.has_torn_mirror:
            return ""
        return "the newest slot of the mirror is torn, by a crash or by hand, and the next write repairs it; "

    def audit_verify_file(self, path: Path) -> AuditCheck:
        """Return what of an export was checked; nothing of this machine is needed but, if it is here, the key.

        Raises:
            AuditBroken: It names the first line that does not fit.
            RecordUnknown: There is no such file, or it cannot be read.
        """
        key_file = self.settings.path(self.settings.state_directory) / KEY_FILE
        try:
            key = key_file.read_bytes() if key_file.exists() else None  # a look must not make a key
            with path.open(encoding="utf-8", newline="\n") as file:
                count = audit.verify_export(_whole_lines(file), key)
        except UnicodeDecodeError as error:
            raise AuditBroken(f"audit export {path}: it is not UTF-8; the file was damaged") from error
        except OSError as error:
            raise RecordUnknown(f"{path}: cannot be read: {error.strerror or error}") from error
        without = "signatures were not checked: the server's key is not here"
        return AuditCheck(count, note="" if key is not None else without)

    def audit_export(self, path: Path, first: int = 1) -> int:
        """Write the audit from an entry on as lines of JSON, and return how many.

        Raises:
            AuditBroken: It does not verify; a broken audit is not passed on as a whole one.
            SettingsInvalid: The file cannot be written.
        """
        lines = self.audit_lines(first)
        write_whole(path.absolute(), ("\n".join(lines) + "\n").encode())
        return len(lines) - 1

    def audit_lines(self, first: int = 1) -> list[str]:
        """Return the lines of an export.

        Raises:
            AuditBroken: The audit does not verify.
        """
        self.store.verify_audit()
        return list(audit.export_lines(self.store.audit_entries(), first, self.clock(), self.signing_key))

    def audit_entries(self, limit: int = 50) -> list[AuditEntry]:
        """Return the newest audit entries, oldest of them first."""
        return list(self.store.audit_entries())[-limit:]

    def anchor_audit(self, reason: str = "asked", if_due: bool = False) -> str | None:
        """Return the name under which the head is anchored now; None where nothing was due.

        Args:
            reason: What for, as the anchor says.
            if_due: Only if something was recorded since the last anchor and that is old enough.

        Raises:
            SettingsInvalid: No place is configured.
            AuditUnavailable: It could not be anchored; that is recorded.
            AuditBroken: Another chain is anchored there; that is recorded.
        """
        anchors, rules = self.audit_anchors, self.settings.audit.anchor
        if anchors is None or rules is None:
            raise SettingsInvalid("no place for anchors is configured; set audit.anchor.repository")
        entries = self.store.audit_entries()
        if not entries or (if_due and not self._is_due(entries, anchors.target, rules.every_minutes)):
            return None
        now = self.clock()
        head: AuditHead = audit.head_of(entries[-1], self.signing_key)
        try:
            ref = anchors.put(audit.anchor_of(head, now, reason, self.signing_key))
        except (AuditUnavailable, AuditBroken) as error:
            details = {"target": anchors.target, "sequence": str(head.sequence), "reason": str(error)}
            self.store.record_note(now, _SYSTEM, ANCHOR_FAILED, "audit", details)
            raise
        details = {"target": anchors.target, "sequence": str(head.sequence), "hash": head.hash, "ref": ref}
        self.store.record_note(now, _SYSTEM, audit.ANCHORED, "audit", details)
        return ref

    def _is_due(self, entries: tuple[AuditEntry, ...], target: str, every_minutes: int) -> bool:
        # Entries about anchors are no news: a quiet server must not anchor its own anchors for ever.
        news = [entry for entry in entries if entry.action not in (audit.ANCHORED, ANCHOR_FAILED)]
        made = [e for e in entries if e.action == audit.ANCHORED and dict(e.details).get("target") == target]
        if not made:
            return bool(news)
        is_old = self.clock() >= made[-1].at + timedelta(minutes=every_minutes)
        return is_old and bool(news) and news[-1].sequence > int(dict(made[-1].details)["sequence"])

    def _before_intent(self, change: Change, at: datetime) -> None:
        """Anchor what stands before a change where that is required; what it raises, nothing is changed."""
        rules = self.settings.audit.anchor
        if rules is not None and rules.required and change.rolls_back is None:
            try:
                self.anchor_audit(f"before {change.id}")
            except AuditUnavailable as error:
                raise AuditUnavailable(
                    f"change {change.id}: {error}; nothing was changed, since audit.anchor.required is set"
                ) from error

    def _after_outcome(self, change: Change, at: datetime) -> None:
        try:
            self.anchor_audit(change.id)
        except (AuditUnavailable, AuditBroken) as error:
            # The change stands and is on record; that its audit is not yet outside is said and kept.
            _log.warning("advisor: %s", one_line(f"change {change.id} is on record but not anchored: {error}"))


def _whole_lines(lines: Iterable[str]) -> Iterable[str]:
    """Return lines without their ends; a last one without its end was cut off.

    Raises:
        AuditBroken: The last line is not whole.
    """
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            raise AuditBroken(f"audit export: line {number} is not whole; the file was cut off")
        yield line[:-1]
