"""From a question to a stored investigation with its proposals."""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from advisor import bundle as bundles
from advisor.diagnosis import Assessment, Remedy
from advisor.diagnosis.engine import VerificationWindow, diagnose
from advisor.errors import (
    AdvisorError,
    ChangeError,
    SettingsInvalid,
    SourceError,
    SourceUnavailable,
)
from advisor.evidence import (
    Gathered,
    SettledCoverage,
)
from advisor.gathering import Progress, gather
from advisor.incident import Incident, open_incident, read_symptoms
from advisor.playbook import Playbook
from advisor.proposal import Draft, Proposal, RepositoryName, build_proposal
from advisor.redaction import redact
from advisor.settings import Service
from advisor.values import digest, format_instant, parse_instant
from advisor.workflow.explaining import Explained, Explaining
from advisor.workflow.files import fresh_id, write_whole

SCHEMA = "advisor.investigation/v1"


@dataclass(frozen=True)
class Investigation:
    """What one investigation left: the record of it, and the live objects that a screen draws from."""

    report: dict[str, Any]
    incident: Incident
    coverage: SettledCoverage
    gathered: Gathered
    assessment: Assessment
    proposals: tuple[Proposal, ...]


class Investigating(Explaining):
    """Investigate, and read investigations again."""

    def investigate(
        self,
        service_name: str,
        at: datetime | None = None,
        until: datetime | None = None,
        question: str = "",
        progress: Progress | None = None,
        keep: bool = True,
    ) -> Investigation:
        """Return what is wrong with a service, and what could be done.

        Args:
            service_name: As configured.
            at: When the symptom was noticed; None asks for the newest sign of it.
            until: The end of what is read; now by default.
            question: The symptom in a person's words, or the text of an alert.
            progress: Called as sources begin and end.
            keep: Whether the investigation is stored; a replay is not.
        """
        began = time.monotonic()
        service = self.settings.service(service_name)
        now = self.clock()
        if not self.replay:
            self.signing_key  # noqa: B018  # masks are made with it from the first word on
        incident = open_incident(fresh_id("inc"), service_name, now, at, until or now, redact(question))
        if incident.noticed_at is not None and incident.noticed_at > incident.until:
            raise SettingsInvalid(
                f"--at {format_instant(incident.noticed_at)} is after --until {format_instant(incident.until)}"
            )
        coverage, gathered, assessment = self._assess(incident, service, progress)
        playbook = self._playbook_of(assessment)
        explained = self.explain(incident, coverage, gathered, assessment, playbook, progress)
        assessment = explained.assessment
        if progress:
            progress("proposal", "reading")
        assessment, refused = allowed(assessment, playbook)
        proposals, warnings = self._propose(incident, assessment)
        warnings = refused + warnings
        if progress:
            progress("proposal", "done")
        report = report_of(incident, coverage, assessment, proposals, warnings, explained, time.monotonic() - began)
        if keep:
            report["diagnosis"]["warnings"] += self._keep_tape(incident.id)
            try:
                self.store.save_investigation(report, now)
                for proposal in proposals:
                    self.store.save_proposal(proposal)
            except AdvisorError:
                self._tape_path(incident.id).unlink(missing_ok=True)  # a recording of nothing on record
                raise
        return Investigation(report, incident, coverage, gathered, assessment, proposals)

    def _assess(
        self, incident: Incident, service: Service, progress: Progress | None
    ) -> tuple[SettledCoverage, Gathered, Assessment]:
        branch = self.settings.repositories[service.configuration.repository].branch if service.configuration else ""
        coverage, gathered = gather(
            incident, service, branch, self.sources(service), self.settings.limits, self._required_sources, progress
        )
        v = self.settings.verification
        window = VerificationWindow(
            settle_seconds=v.settle_seconds, window_seconds=v.window_seconds, samples_min=v.samples_min
        )
        return coverage, gathered, diagnose(incident, coverage, gathered, self.knobs, service.depends_on, window)

    def _playbook_of(self, assessment: Assessment) -> Playbook | None:
        """Return the playbook of the first symptom."""
        symptoms = {s.value for s in assessment.symptoms[:1]}
        return next((p for p in self.playbooks if symptoms & set(p.symptoms)), None)

    def recorded(self, incident_id: str) -> Investigation | None:
        """Return a stored investigation with the samples it was drawn from; None where its recording no longer answers.

        The report is the stored one, word for word; only what a chart needs is read from the recording.
        """
        report = self.store.incident(incident_id)
        told = report["incident"]
        try:
            path = self._tape_path(told["id"])
            player = Investigating(
                self.settings, self.clock, bundles.Tape.from_lines(path.read_bytes(), str(path)), replay=True
            )
            now = self.clock()
            incident = Incident(
                id=told["id"],
                service=told["service"],
                noticed_at=parse_instant(told["noticed_at"], now) if told["noticed_at"] else None,
                until=parse_instant(told["until"], now),
                symptoms=read_symptoms(told["question"]),
                question=told["question"],
                created_at=parse_instant(told["created_at"], now),
            )
            coverage, gathered, assessment = player._assess(incident, self.settings.service(incident.service), None)
        except (AdvisorError, OSError, KeyError, ValueError):
            return None  # the recording is gone, or the settings changed since: the report alone still stands
        return Investigation(report, incident, coverage, gathered, assessment, ())

    def _propose(self, incident: Incident, assessment: Assessment) -> tuple[tuple[Proposal, ...], list[str]]:
        proposals: list[Proposal] = []
        warnings: list[str] = []
        cause = assessment.diagnosis.cause
        # What is taken back is taken back where it was done: the cause may lie in another service's configuration.
        name = cause.service if cause is not None and cause.commit is not None else incident.service
        service = self.settings.services.get(name)
        if service is None or service.configuration is None:
            return (), warnings
        for remedy in assessment.remedies:
            try:
                proposals.append(self._build(incident.id, name, service, assessment, remedy))
            except (ChangeError, SourceError) as error:
                warnings.append(f"{remedy.summary}: not proposed: {error}")
        return tuple(proposals), warnings

    def _build(
        self, incident_id: str, service_name: str, service: Service, assessment: Assessment, remedy: Remedy
    ) -> Proposal:
        configuration = service.configuration
        if configuration is None:  # the caller asked before; said again for the type checker and for -O
            raise SettingsInvalid(f"services.{service_name}.configuration is not set")
        configured = self.settings.repositories[configuration.repository]
        if self.replay and not Path(self._address(configured)).exists():
            raise SourceUnavailable(f"the bundle carries no history of {configuration.repository}")
        draft = Draft(
            incident_id=incident_id,
            service=service_name,
            action=remedy.action,
            risk=remedy.risk,
            fixes_cause=remedy.fixes_cause,
            summary=redact(remedy.summary),
            repository=RepositoryName(name=configuration.repository, url=redact(configured.url)),
            branch=configured.branch,
            allowed_paths=configuration.paths,
            allowed_keys=configuration.keys,
            forbidden_keys=configuration.forbidden_keys,
            evidence_digest=digest([e.digest for e in assessment.evidence]),
            policy_version=self.settings.policy_version,
            verification=assessment.verification,
            proposer=assessment.diagnosis.by,
            expires_minutes=self.settings.approval.expires_minutes,
        )
        return build_proposal(
            self.repository(configuration.repository),
            draft,
            fresh_id("pro"),
            secrets.token_hex(16),
            self.clock(),
            redact,
        )

    def _keep_tape(self, incident_id: str) -> list[str]:
        """Write the recording beside the store; losing it costs the export, not the incident: that is a warning."""
        path = self._tape_path(incident_id)
        with contextlib.suppress(OSError):  # what stands in the way is said by the attempt to write
            path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            write_whole(path, self.tape.to_lines())
        except SettingsInvalid as error:
            return [f"the recording was not kept, so this incident cannot be exported: {error}"]
        return []

    def incidents(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest incidents first, each with its diagnosis and the states of its proposals."""
        states: dict[str, list[str]] = {}
        for stored in self.store.list_proposals():
            states.setdefault(stored.proposal.incident_id, []).append(stored.state.value)
        out = []
        for line in self.store.list_incidents(limit):
            report = self.store.incident(line.id)
            out.append(
                {
                    "id": line.id,
                    "service": line.service,
                    "created_at": format_instant(line.recorded_at),
                    "outcome": line.outcome,
                    "kind": report["diagnosis"]["kind"],
                    "summary": report["diagnosis"]["summary"],
                    "proposals": states.get(line.id, []),
                }
            )
        return out

    def incident(self, incident_id: str) -> dict[str, Any]:
        """Return the report of an incident, by its id or the beginning of it."""
        return self.store.incident(incident_id)


def allowed(assessment: Assessment, playbook: Playbook | None) -> tuple[Assessment, list[str]]:
    """Return the assessment with only those remedies that its playbook allows, and what was left out."""
    if playbook is None:
        return assessment, []
    kept = tuple(r for r in assessment.remedies if r.action.type in playbook.allowed_actions)
    left = [
        f"{r.summary}: playbook {playbook.name} does not allow {r.action.type.value}"
        for r in assessment.remedies
        if r not in kept
    ]
    return assessment.model_copy(update={"remedies": kept}), left


def report_of(
    incident: Incident,
    coverage: SettledCoverage,
    assessment: Assessment,
    proposals: tuple[Proposal, ...],
    warnings: list[str],
    explained: Explained,
    seconds: float,
) -> dict[str, Any]:
    """Return the investigation as its one JSON document (schema ``advisor.investigation/v1``)."""
    diagnosis = assessment.diagnosis.model_dump(mode="json", by_alias=True)
    diagnosis["warnings"] += warnings
    started = assessment.started_at or incident.noticed_at
    return {
        "schema": SCHEMA,
        "incident": {
            "id": incident.id,
            "service": incident.service,
            "started_at": format_instant(started) if started else None,
            "noticed_at": format_instant(incident.noticed_at) if incident.noticed_at else None,
            "until": format_instant(incident.until),
            "created_at": format_instant(incident.created_at),
            "question": incident.question,
            "symptoms": [s.value for s in assessment.symptoms],
        },
        "coverage": [e.model_dump(mode="json") for e in coverage.entries],
        "evidence": [e.model_dump(mode="json", by_alias=True) for e in assessment.evidence],
        "hypotheses": [h.model_dump(mode="json", by_alias=True) for h in assessment.hypotheses],
        "diagnosis": diagnosis,
        "proposals": [proposal_view(p) for p in proposals],
        "rejected_remedies": [r.model_dump(mode="json") for r in assessment.rejected_remedies],
        "verification": assessment.verification.model_dump(mode="json"),
        "usage": {
            "seconds": round(seconds, 3),
            "model_calls": explained.usage.calls,
            "input_tokens": explained.usage.input_tokens,
            "output_tokens": explained.usage.output_tokens,
            **({"model_usd": explained.usage.usd} if explained.usage.usd is not None else {}),
        },
        # Only where one was asked: the report of an engine alone is what it always was.
        **({"model": explained.opinion.model_dump(mode="json")} if explained.opinion else {}),
    }


def proposal_view(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal as it stands in a report: everything that an approver is shown."""
    return proposal.model_dump(mode="json")
