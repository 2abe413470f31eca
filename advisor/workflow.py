"""Wires the steps to the adapters: the one place that knows settings, sources, store and clock at once. No rules here.

The command line, the console and the API call `Workflow` and nothing deeper.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor import bundle as bundles
from advisor.diagnosis import Assessment, Remedy
from advisor.diagnosis.engine import VerificationWindow, diagnose
from advisor.diagnosis.knobs import Knob, parse_knobs
from advisor.errors import AdvisorError, ChangeError, RecordUnknown, SettingsInvalid, SourceError, one_line
from advisor.evidence import Gathered, SettledCoverage, SourceStatus
from advisor.gathering import Progress, Sources, gather
from advisor.incident import Incident, open_incident
from advisor.playbook import Playbook, parse_playbook
from advisor.proposal import Draft, Proposal, RepositoryName, build_proposal
from advisor.redaction import redact, redact_value
from advisor.settings import Repository, Service, Settings, read_secret
from advisor.values import ActionType, digest, format_instant

if TYPE_CHECKING:
    from advisor.adapters.git_repository import GitRepository
    from advisor.adapters.prometheus import PrometheusMetrics
    from advisor.change import Change
    from advisor.store import Store
    from advisor.verification import Verification

SCHEMA = "advisor.investigation/v1"
REQUIRED_SOURCES = ("metrics", "changes")
KEY_FILE = "signing.key"

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present instant, to the millisecond."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def data_folder(name: str) -> Path:
    """Return where ``playbooks`` or ``ui`` lie: inside an installed package, beside it in a checkout."""
    inside = Path(__file__).parent / "_data" / name
    return inside if inside.is_dir() else Path(__file__).parent.parent / name


@dataclass(frozen=True)
class Investigation:
    """What one investigation left: the record of it, and the live objects that a screen draws from."""

    report: dict[str, Any]
    incident: Incident
    coverage: SettledCoverage
    gathered: Gathered
    assessment: Assessment
    proposals: tuple[Proposal, ...]


class Workflow:
    """The steps of the product over one set of settings."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock = utc_now,
        tape: bundles.Tape | None = None,
        replay: bool = False,
    ) -> None:
        """Keep the parts; nothing is opened yet.

        Args:
            settings: The whole of `advisor.yaml`.
            clock: Now; a replay hands in the recorded one.
            tape: Where exchanges are recorded, or with ``replay`` read from.
            replay: No source is asked: every answer comes from the tape.
        """
        self.settings = settings
        self.clock = clock
        self.tape = tape or bundles.Tape()
        self.replay = replay
        self._repositories: dict[str, GitRepository] = {}

    # --- parts ---------------------------------------------------------------------------------------------------------

    @cached_property
    def state_directory(self) -> Path:
        """Return the folder for clones, recordings and the signing key; made with owner-only access."""
        path = self.settings.path(self.settings.state_directory)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsInvalid(f"state_directory {path}: cannot be made: {error.strerror}; set state_directory to a folder that can be written") from error
        return path

    @cached_property
    def store(self) -> Store:
        """Return the opened store of records."""
        from advisor.store import Store

        url = self.settings.store
        if url.startswith("sqlite:///") and not url.startswith("sqlite:////") and url != "sqlite:///:memory:":
            url = "sqlite:///" + str(self.settings.path(url.removeprefix("sqlite:///")).resolve())
        return Store.open(url, key=self.signing_key)

    @cached_property
    def signing_key(self) -> bytes:
        """Return the server's key, made on first use; owner-only."""
        path = self.state_directory / KEY_FILE
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            key = path.read_bytes()
            if len(key) < 32:
                raise SettingsInvalid(f"{path}: the signing key is damaged ({len(key)} bytes); restore it from a backup") from None
            return key
        except OSError as error:
            raise SettingsInvalid(f"{path}: the signing key cannot be made: {error.strerror}") from error
        key = secrets.token_bytes(32)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        return key

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:
        """Return the known mechanisms."""
        path = data_folder("playbooks") / "knobs.yaml"
        return parse_knobs(path.read_text(encoding="utf-8"), path.name)

    @cached_property
    def playbooks(self) -> tuple[Playbook, ...]:
        """Return the playbooks, ours and those of the settings; a name may stand once."""
        folders = [data_folder("playbooks"), *(self.settings.path(p) for p in self.settings.playbooks)]
        found: dict[str, Playbook] = {}
        for folder in folders:
            for path in sorted(folder.glob("*/playbook.yaml")):
                playbook = parse_playbook(path.read_text(encoding="utf-8"), str(path))
                found[playbook.name] = playbook
        return tuple(found[name] for name in sorted(found))

    def repository(self, name: str) -> GitRepository:
        """Return a configured repository by name."""
        from advisor.adapters.git_repository import GitRepository

        if name not in self._repositories:
            configured = self.settings.repositories[name]
            self._repositories[name] = GitRepository(
                name,
                self._address(configured),
                configured.branch,
                self.state_directory / "clones" / f"{name}-{hashlib.sha256(configured.url.encode()).hexdigest()[:12]}",
                timeout_seconds=configured.timeout_seconds,
                ssh_key_file=self.settings.path(configured.ssh_key_file) if configured.ssh_key_file else None,
            )
        return self._repositories[name]

    def _address(self, configured: Repository) -> str:
        """Return the repository's address; a path counts from the settings' folder."""
        url = configured.url
        if "://" in url or (":" in url.split("/")[0] and not url.startswith(".")):
            return url
        return str(self.settings.path(url).resolve())

    def prometheus(self) -> PrometheusMetrics:
        """Return the configured Prometheus.

        Raises:
            SettingsInvalid: None is configured, or a secret it needs cannot be read.
        """
        from advisor.adapters.prometheus import PrometheusMetrics

        p = self.settings.prometheus
        if p is None:
            raise SettingsInvalid("prometheus is not configured; set prometheus.url")
        path = self.settings.path
        headers = dict(p.headers)
        for header, env in p.headers_env.items():
            headers[header] = read_secret(env, None, f"prometheus.headers_env.{header}") or ""
        return PrometheusMetrics(
            p.url,
            connect_timeout_seconds=p.connect_timeout_seconds,
            read_timeout_seconds=p.read_timeout_seconds,
            deadline_seconds=self.settings.limits.deadline_seconds,
            retries=p.retries,
            headers=headers,
            bearer_token=read_secret(p.bearer_token_env, path(p.bearer_token_file) if p.bearer_token_file else None, "prometheus.bearer_token"),
            username=p.username,
            password=read_secret(p.password_env, path(p.password_file) if p.password_file else None, "prometheus.password"),
            ca_file=path(p.ca_file) if p.ca_file else None,
            certificate_file=path(p.certificate_file) if p.certificate_file else None,
            key_file=path(p.key_file) if p.key_file else None,
            insecure_skip_verify=p.insecure_skip_verify,
            compression=p.compression,
        )

    def sources(self, service: Service) -> Sources:
        """Return the sources of a service, recording onto the tape, or playing from it."""
        metrics = changes = logs = None
        repository = service.configuration.repository if service.configuration else ""
        if self.settings.prometheus is not None:
            metrics = bundles.RecordedMetrics(self.tape, None if self.replay else self.prometheus())
        if service.configuration is not None:
            changes = bundles.RecordedChanges(self.tape, None if self.replay else _Redacted(self.repository(repository)))
        if service.logs:
            from advisor.adapters.log_files import LogFiles

            logs = bundles.RecordedLogs(self.tape, None if self.replay else LogFiles(self.settings.base, redact=redact))
        return Sources(
            metrics=metrics,
            changes=changes,
            logs=logs,
            metrics_name=self.settings.prometheus.url if self.settings.prometheus else "",
            changes_name=repository,
            logs_name=", ".join(pattern for entry in service.logs for pattern in entry.files),
        )

    # --- investigate ---------------------------------------------------------------------------------------------------

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
        incident = open_incident(_fresh_id("inc"), service_name, now, at, until or now, redact(question))
        if incident.noticed_at is not None and incident.noticed_at > incident.until:
            raise SettingsInvalid(f"--at {format_instant(incident.noticed_at)} is after --until {format_instant(incident.until)}")
        branch = self.settings.repositories[service.configuration.repository].branch if service.configuration else ""
        coverage, gathered = gather(incident, service, branch, self.sources(service), self.settings.limits, REQUIRED_SOURCES, progress)
        v = self.settings.verification
        window = VerificationWindow(settle_seconds=v.settle_seconds, window_seconds=v.window_seconds, samples_min=v.samples_min)
        assessment = diagnose(incident, coverage, gathered, self.knobs, service.depends_on, window)
        if progress:
            progress("proposal", "reading")
        proposals, warnings = self._propose(incident, service, assessment)
        if progress:
            progress("proposal", "done")
        report = _report(incident, coverage, assessment, proposals, warnings, time.monotonic() - began)
        if keep:
            self.store.save_investigation(report, proposals)
            self._keep_tape(incident.id)
        return Investigation(report, incident, coverage, gathered, assessment, proposals)

    def _propose(self, incident: Incident, service: Service, assessment: Assessment) -> tuple[tuple[Proposal, ...], list[str]]:
        proposals: list[Proposal] = []
        warnings: list[str] = []
        if service.configuration is None:
            return (), warnings
        for remedy in assessment.remedies:
            try:
                proposals.append(self._build(incident.id, incident.service, service, assessment, remedy))
            except (ChangeError, SourceError) as error:
                warnings.append(f"{remedy.summary}: not proposed: {error}")
        return tuple(proposals), warnings

    def _build(self, incident_id: str, service_name: str, service: Service, assessment: Assessment, remedy: Remedy) -> Proposal:
        configuration = service.configuration
        if configuration is None:  # the caller asked before; said again for the type checker and for -O
            raise SettingsInvalid(f"services.{service_name}.configuration is not set")
        configured = self.settings.repositories[configuration.repository]
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
            evidence_digest=digest([e.digest for e in assessment.evidence]),
            policy_version=self.settings.policy_version,
            verification=assessment.verification,
            proposer="engine",
            expires_minutes=self.settings.approval.expires_minutes,
        )
        return build_proposal(self.repository(configuration.repository), draft, _fresh_id("pro"), secrets.token_hex(16), self.clock(), redact)

    def _keep_tape(self, incident_id: str) -> None:
        """Write the recording beside the store; losing it costs the export, not the incident."""
        folder = self.state_directory / "tapes"
        folder.mkdir(mode=0o700, exist_ok=True)
        _write_whole(folder / f"{incident_id}.jsonl", self.tape.to_lines())


class _Redacted:
    """A repository whose changes are cleaned of secrets before anything else sees or records them."""

    def __init__(self, inner: GitRepository) -> None:
        self._inner = inner

    def changes(self, request: Any) -> Any:
        answer = self._inner.changes(request)
        commits = tuple(
            c.model_copy(
                update={
                    "subject": redact(c.subject),
                    "files": tuple(f.model_copy(update={"keys": tuple(_clean_key(k) for k in f.keys)}) for f in c.files),
                }
            )
            for c in answer.commits
        )
        values = tuple(v.model_copy(update={"value": redact_value(v.key, v.value)}) for v in answer.configuration)
        return answer.model_copy(update={"commits": commits, "configuration": values})


def _clean_key(change: Any) -> Any:
    return change.model_copy(
        update={
            "old": redact_value(change.key, change.old) if change.old is not None else None,
            "new": redact_value(change.key, change.new) if change.new is not None else None,
        }
    )


def _fresh_id(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(5)}"


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader finds all of it or none."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise SettingsInvalid(f"{path}: cannot be written: {error.strerror or error}") from error


def _report(
    incident: Incident, coverage: SettledCoverage, assessment: Assessment, proposals: tuple[Proposal, ...], warnings: list[str], seconds: float
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
        "usage": {"seconds": round(seconds, 3), "model_calls": 0, "input_tokens": 0, "output_tokens": 0},
    }


def proposal_view(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal as it stands in a report: everything that an approver is shown."""
    return proposal.model_dump(mode="json")
