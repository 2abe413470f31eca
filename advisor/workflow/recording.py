"""Exports of incidents."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from advisor import bundle as bundles
from advisor.errors import (
    RecordUnknown,
)
from advisor.gathering.neighbours import choose_neighbours
from advisor.redaction import redact
from advisor.values import format_instant
from advisor.workflow.auditing import Auditing
from advisor.workflow.files import write_whole
from advisor.workflow.proofs import proofs_of

_MODEL_FIELDS = {"name", "input_tokens_max", "investigates"}


class Recording(Auditing):
    """Export bundles; the audit's part is `Auditing`."""

    def export(self, incident_id: str, path: Path | None = None, notes: list[str] | None = None) -> Path:
        """Write the bundle of an incident and return where.

        Args:
            incident_id: Of the incident, or the beginning of it.
            path: The file; named after the incident by default.
            notes: What a person should know of it is added here.

        Raises:
            RecordUnknown: No such incident, or its recording is gone.
            SettingsInvalid: The file cannot be written.
        """
        report = self.store.incident(incident_id)
        incident = report["incident"]
        recording = self._tape_path(incident["id"])
        if not recording.exists():
            raise RecordUnknown(f"incident {incident['id']}: its recording {recording} is gone; it cannot be exported")
        tape = bundles.Tape.from_lines(recording.read_bytes(), str(recording))
        repositories: dict[str, dict[str, bytes]] = {}
        heads: dict[str, str] = {}
        for name, answers in _answers_by_repository(tape).items():
            if name not in self.settings.repositories:
                continue  # the settings changed since; a replay then proposes nothing there
            heads[name] = str(answers[0]["head"])
            repositories[name] = self._cut_history(name, max(len(a["commits"]) for a in answers))
            if not repositories[name] and notes is not None:
                notes.append(
                    f"the history of {name} holds what looks like a secret and was left out; a replay of this bundle proposes nothing"
                )
        manifest = {
            "service": incident["service"],
            "settings": self._portable_settings(incident["service"]),
            "incident": {
                "noticed_at": incident["noticed_at"],
                "until": incident["until"],
                "question": incident["question"],
            },
            "clock": self._recorded_clock(incident["id"], incident["created_at"]),
            "heads": heads,
            "proofs": proofs_of(self.store, incident["id"]),
        }
        target = path or Path(f"{incident['service']}-{incident['id']}.bundle.zip")
        write_whole(target.absolute(), bundles.Bundle(manifest, tape, report, repositories).to_bytes())
        return target

    def _cut_history(self, name: str, commits: int) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory(prefix="advisor-export-") as folder:
            copy = Path(folder) / "copy.git"
            # Beyond the window: our own later commits, and one parent for the oldest to be compared with.
            repository = self.repository(name)
            repository.export_shallow(copy, commits + 50)
            # The copy must be git's own bytes, so nothing in it can be masked: with a secret in it, it stays here.
            if any(redact(text) != text for text in repository.texts_of(copy)):
                return {}
            files = [
                p
                for p in sorted(copy.rglob("*"))
                if p.is_file() and not p.is_symlink() and p.relative_to(copy).parts[0] != "hooks"
            ]
            return {str(p.relative_to(copy)): p.read_bytes() for p in files}

    def _portable_settings(self, service: str) -> dict[str, Any]:
        """Return what a replay needs of the settings; addresses and secrets of this machine stay here."""
        s = self.settings
        asked = [service, *(name for name, _ in choose_neighbours(service, s.services, s.limits.neighbours_max))]
        return {
            "services": {name: s.service(name).model_dump(mode="json", exclude_none=True) for name in asked},
            "approval": s.approval.model_dump(mode="json"),
            "verification": s.verification.model_dump(mode="json"),
            "limits": s.limits.model_dump(mode="json"),
            "prometheus": bool(s.prometheus),
            "branches": {name: r.branch for name, r in s.repositories.items()},
            # What a recorded question depends on; where the model is, and its key, stay here.
            **({"model": s.model.model_dump(mode="json", include=_MODEL_FIELDS)} if s.model else {}),
        }

    def _recorded_clock(self, incident_id: str, created_at: str) -> dict[str, str]:
        clock = {"investigate": created_at}
        for stored in reversed(self.store.list_changes(incident_id)):
            step = "approve" if stored.change.rolls_back is None else "rollback"
            if step not in clock:
                clock[step] = format_instant(stored.change.at)
                looked = [
                    v for v in self.store.verifications(stored.change.id) if v.verdict.value in ("passed", "failed")
                ]
                if looked and step == "approve":
                    clock["verify"] = format_instant(looked[-1].at)
        return clock


def _answers_by_repository(tape: bundles.Tape) -> dict[str, list[dict[str, Any]]]:
    """Return what each repository answered, by its name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for exchange in tape.exchanges:
        if exchange.source == "changes" and exchange.answer is not None:
            found.setdefault(str(exchange.request["repository"]), []).append(exchange.answer)
    return found
