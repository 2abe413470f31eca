"""Wires the steps to the adapters: the one place that knows settings, sources, store and clock at once. No rules here.

The command line, the console and the API call `Workflow` and nothing deeper.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor import bundle as bundles
from advisor.approval import Answer, Approval, Denial, Grant, check_person, decide, expire, grant, verify_approval
from advisor.change import Change, deliver, reconcile
from advisor.diagnosis import Assessment, Remedy
from advisor.diagnosis.engine import VerificationWindow, diagnose
from advisor.diagnosis.knobs import Knob, parse_knobs
from advisor.errors import (
    AdvisorError,
    ApprovalExpired,
    ApprovalMissing,
    ChangeConflict,
    ChangeError,
    NotPermitted,
    PlaybookInvalid,
    RecordUnknown,
    SettingsInvalid,
    SourceError,
    SourceUnavailable,
    one_line,
)
from advisor.evidence import (
    Gathered,
    MetricRequest,
    SettledCoverage,
)
from advisor.gathering import Progress, Sources, gather
from advisor.gathering.neighbours import choose_neighbours
from advisor.incident import Incident, Symptom, open_incident, read_symptoms
from advisor.lifecycle import State
from advisor.playbook import Playbook, VerificationPlan, parse_playbook
from advisor.proposal import Draft, Proposal, RepositoryName, build_proposal
from advisor.redacted import RedactedChanges, RedactedMetrics
from advisor.redaction import redact
from advisor.settings import Repository, Service, Settings, read_secret
from advisor.values import digest, format_instant, parse_instant

if TYPE_CHECKING:
    from advisor.adapters.git_repository import GitRepository
    from advisor.adapters.prometheus import PrometheusMetrics
    from advisor.audit import AuditEntry
    from advisor.rollback import RollbackPlan
    from advisor.store import Store
    from advisor.verification import Verification

SCHEMA = "advisor.investigation/v1"
KEY_FILE = "signing.key"

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present instant, to the millisecond."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


EXAMPLE_SETTINGS = """\
# Settings of the advisor. Unknown keys are refused; secrets stand in the environment or in files, never here.
store: sqlite:///advisor.db
model: null

prometheus:
  url: http://127.0.0.1:9090
  # bearer_token_env: PROMETHEUS_TOKEN       # also username with password_env or password_file, headers, ca_file

repositories:
  config: {url: ./config.git, branch: main}   # path, file://, ssh:// or https://; bare or not

services:
  checkout:
    selector: 'job="checkout"'                # label matchers put into every query of this service
    configuration: {repository: config, paths: ["apps/checkout/**"]}
    logs: [{files: ["logs/checkout*.log"]}]
    depends_on: []

approval:
  approvers: []                               # nobody may approve until you list people: ["alice@example.org"]
  two_person_from_risk: high
  expires_minutes: 30
"""


def write_example_settings(path: Path) -> None:
    """Write settings to begin with; a file that exists is left alone.

    Raises:
        SettingsInvalid: It exists, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE_SETTINGS)
    except FileExistsError as error:
        raise SettingsInvalid(f"{path} exists and was left alone; --config names another file") from error
    except OSError as error:
        raise SettingsInvalid(f"{path}: cannot be written: {error.strerror or error}") from error


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
            raise SettingsInvalid(
                f"state_directory {path}: cannot be made: {error.strerror}; set state_directory to a folder that can be written"
            ) from error
        return path

    @cached_property
    def store(self) -> Store:
        """Return the opened store of records."""
        from advisor.store import Store

        path = self._sqlite_path
        return Store.open(f"sqlite:///{path}" if path is not None else self.settings.store, key=self.signing_key)

    @property
    def _sqlite_path(self) -> Path | None:
        """Return the database's file, counted from the settings' folder; None for any other store."""
        url = self.settings.store
        if not url.startswith("sqlite:///") or url == "sqlite:///:memory:":
            return None
        return self.settings.path(url.removeprefix("sqlite:///")).resolve()

    @cached_property
    def signing_key(self) -> bytes:
        """Return the server's key, made on first use; owner-only."""
        path = self.state_directory / KEY_FILE
        records = self._sqlite_path
        if records is not None and records.exists() and records.stat().st_size > 0 and not path.exists():
            raise SettingsInvalid(
                f"{path}: the signing key is gone, but {records} was signed with it; restore the key from a backup"
            )
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            key = path.read_bytes()
            if len(key) < 32:
                raise SettingsInvalid(
                    f"{path}: the signing key is damaged ({len(key)} bytes); restore it from a backup"
                ) from None
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
        """Return the known mechanisms: those of the settings' playbook folders first, then ours."""
        found: list[Knob] = []
        for folder in [*self._own_playbooks, data_folder("playbooks")]:
            path = folder / "knobs.yaml"
            if path.is_file():
                found += parse_knobs(_read_text(path), str(path))
        return tuple(found)

    @property
    def _own_playbooks(self) -> list[Path]:
        return [self.settings.path(p) for p in self.settings.playbooks]

    @cached_property
    def playbooks(self) -> tuple[Playbook, ...]:
        """Return the playbooks, ours and those of the settings; one of the settings replaces ours of the same name.

        Raises:
            PlaybookInvalid: A file that breaks the schema, or names a symptom that nothing shows.
        """
        known = {s.value for s in Symptom}
        found: dict[str, Playbook] = {}
        for folder in [data_folder("playbooks"), *self._own_playbooks]:
            for path in sorted(folder.glob("*/playbook.yaml")):
                playbook = parse_playbook(_read_text(path), str(path))
                unknown = sorted(set(playbook.symptoms) - known)
                if unknown:
                    raise PlaybookInvalid(
                        f"playbook {path}: symptoms: {unknown[0]!r} is unknown (known: {', '.join(sorted(known))})"
                    )
                found[playbook.name] = playbook
        return tuple(found[name] for name in sorted(found))

    @property
    def _required_sources(self) -> tuple[str, ...]:
        """Return every source that some playbook requires: which one applies is known only after gathering."""
        return tuple(sorted({source for playbook in self.playbooks for source in playbook.required_sources}))

    def _allowed(self, assessment: Assessment) -> tuple[Assessment, list[str]]:
        """Return the assessment with only those remedies that the playbook of its symptom allows, and what was left out."""
        symptoms = {s.value for s in assessment.symptoms[:1]}
        playbook = next((p for p in self.playbooks if symptoms & set(p.symptoms)), None)
        if playbook is None:
            return assessment, []
        kept = tuple(r for r in assessment.remedies if r.action.type in playbook.allowed_actions)
        left = [
            f"{r.summary}: playbook {playbook.name} does not allow {r.action.type.value}"
            for r in assessment.remedies
            if r not in kept
        ]
        return assessment.model_copy(update={"remedies": kept}), left

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
            series_max=self.settings.limits.series_max,
            retries=p.retries,
            headers=headers,
            bearer_token=read_secret(
                p.bearer_token_env,
                path(p.bearer_token_file) if p.bearer_token_file else None,
                "prometheus.bearer_token",
            ),
            username=p.username,
            password=read_secret(
                p.password_env, path(p.password_file) if p.password_file else None, "prometheus.password"
            ),
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
            metrics = bundles.RecordedMetrics(self.tape, None if self.replay else RedactedMetrics(self.prometheus()))
        if service.configuration is not None:
            changes, _branch = self._changes_of(repository)
        if any(one.logs for one in self.settings.services.values()):
            from advisor.adapters.log_files import LogFiles

            logs = bundles.RecordedLogs(self.tape, None if self.replay else LogFiles(self.settings.base, redact=redact))
        return Sources(
            metrics=metrics,
            changes=changes,
            logs=logs if service.logs else None,
            metrics_name=self.settings.prometheus.url if self.settings.prometheus else "",
            changes_name=repository,
            logs_name=", ".join(pattern for entry in service.logs for pattern in entry.files),
            changes_of=self._changes_of,
            neighbour_logs=logs,
            services=self.settings.services,
        )

    def _changes_of(self, repository: str) -> tuple[bundles.RecordedChanges, str]:
        """Return a configured repository's history with its branch, recording onto the tape, or playing from it."""
        inner = None if self.replay else RedactedChanges(self.repository(repository))
        return bundles.RecordedChanges(self.tape, inner), self.settings.repositories[repository].branch

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
            raise SettingsInvalid(
                f"--at {format_instant(incident.noticed_at)} is after --until {format_instant(incident.until)}"
            )
        coverage, gathered, assessment = self._assess(incident, service, progress)
        if progress:
            progress("proposal", "reading")
        assessment, refused = self._allowed(assessment)
        proposals, warnings = self._propose(incident, assessment)
        warnings = refused + warnings
        if progress:
            progress("proposal", "done")
        report = _report(incident, coverage, assessment, proposals, warnings, time.monotonic() - began)
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

    def recorded(self, incident_id: str) -> Investigation | None:
        """Return a stored investigation with the samples it was drawn from; None where its recording no longer answers.

        The report is the stored one, word for word; only what a chart needs is read from the recording.
        """
        report = self.store.incident(incident_id)
        told = report["incident"]
        try:
            path = self._tape_path(told["id"])
            player = Workflow(
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
            evidence_digest=digest([e.digest for e in assessment.evidence]),
            policy_version=self.settings.policy_version,
            verification=assessment.verification,
            proposer="engine",
            expires_minutes=self.settings.approval.expires_minutes,
        )
        return build_proposal(
            self.repository(configuration.repository),
            draft,
            _fresh_id("pro"),
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
            _write_whole(path, self.tape.to_lines())
        except SettingsInvalid as error:
            return [f"the recording was not kept, so this incident cannot be exported: {error}"]
        return []

    def _tape_path(self, incident_id: str) -> Path:
        return self.state_directory / "tapes" / f"{incident_id}.jsonl"

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

    # --- decide and change ---------------------------------------------------------------------------------------------

    def proposals(self) -> list[tuple[Proposal, str]]:
        """Return the proposals with their states, newest first."""
        return [(stored.proposal, stored.state.value) for stored in self.store.list_proposals()]

    def proposal(self, proposal_id: str) -> tuple[Proposal, str]:
        """Return a proposal by its id or the beginning of it, with its state."""
        proposal = self.store.proposal(proposal_id)
        return proposal, self.store.state_of(proposal.id).value

    def approve(
        self,
        proposal_id: str,
        person: str,
        comment: str = "",
        shown_digest: str | None = None,
        rollback_on_failure: bool = False,
    ) -> Approved:
        """Record a person's yes, and deliver the change once enough people have said it.

        Raises:
            NotPermitted: This person may not, it was answered, it ran out, or the rules changed; nothing changed.
            ChangeConflict: The branch moved on; nothing was written, a fresh investigation proposes anew.
            ChangeError: As `change.deliver` says.
        """
        from advisor.approval import Choice, people_needed

        proposal = self.store.proposal(proposal_id)
        if self.store.state_of(proposal.id) in (State.GRANTED, State.DELIVERING, State.UNCERTAIN):
            check_person(person, proposal, self.settings.approval)
            return self._resume(proposal)
        self._check_base(proposal)
        answer = Answer(
            choice=Choice.APPROVE,
            digest=shown_digest or proposal.digest,
            person=person,
            comment=redact(comment),
            rollback_on_failure=rollback_on_failure,
        )
        approval = self._decide(proposal, answer)
        needed = people_needed(proposal, self.settings.approval)
        state = self.store.record_answer(approval, needed)
        people = tuple(a.person for a in self.store.answers(proposal.id) if isinstance(a, Approval))
        change = self._deliver(proposal) if state is State.GRANTED else None
        return Approved(proposal, people, needed, change)

    def deny(self, proposal_id: str, person: str, reason: str) -> Denial:
        """Record a person's no; it is final."""
        from advisor.approval import Choice

        proposal = self.store.proposal(proposal_id)
        denial = self._decide(
            proposal, Answer(choice=Choice.DENY, digest=proposal.digest, person=person, comment=redact(reason))
        )
        if not isinstance(denial, Denial):  # decide answers in kind; this is for the type checker and for -O
            raise ApprovalMissing(f"proposal {proposal.id}: no denial was recorded")
        self.store.record_answer(denial)
        return denial

    def _check_base(self, proposal: Proposal) -> None:
        """Refuse an answer to what can no longer be delivered, before anybody is asked for more of them."""
        if not proposal.changes_something or self.store.state_of(proposal.id) is not State.PROPOSED:
            return
        head = self.repository(proposal.repository.name).head()
        if head != proposal.base:
            reason = f"{proposal.branch} moved from {proposal.base[:12]} to {head[:12]}"
            self.store.supersede(proposal.id, reason, self.clock())
            raise ChangeConflict(
                f"proposal {proposal.id}: {reason} since it was made; nothing was written,"
                f" `advisor investigate {proposal.service}` proposes anew"
            )

    def _decide(self, proposal: Proposal, answer: Answer) -> Approval | Denial:
        now = self.clock()
        answers = self.store.answers(proposal.id)
        try:
            return decide(
                proposal, answer, self.settings.approval, self.settings.policy_version, answers, now, self.signing_key
            )
        except NotPermitted as refusal:
            if (
                isinstance(refusal, ApprovalExpired)
                and self.store.state_of(proposal.id) is State.PROPOSED
                and now >= proposal.expires_at
            ):
                self.store.record_answer(expire(proposal, answers, now))
            details = {"asked": answer.choice.value, "refused": type(refusal).__name__}
            self.store.record_note(
                now, one_line(answer.person, 120) or "(nobody)", "proposal.refused", proposal.id, details
            )
            raise

    def _deliver(self, proposal: Proposal) -> Change:
        granted = self._grant(proposal)
        try:
            return deliver(self.repository(proposal.repository.name), self.store, proposal, granted, self.clock())
        except ChangeConflict as conflict:
            self.store.supersede(proposal.id, str(conflict), self.clock())
            raise

    def _grant(self, proposal: Proposal) -> Grant:
        answers = self.store.answers(proposal.id)
        return grant(
            proposal, answers, self.settings.approval, self.settings.policy_version, self.clock(), self.signing_key
        )

    def _resume(self, proposal: Proposal) -> Approved:
        """Carry on a delivery that was granted but has no recorded outcome, such as after a crash."""
        people = tuple(a.person for a in self.store.answers(proposal.id) if isinstance(a, Approval))
        begun = self.store.change_of(proposal.id)
        if begun is None:
            return Approved(proposal, people, len(people), self._deliver(proposal))
        try:
            granted = self._grant(proposal)
        except NotPermitted:
            granted = None
        change = reconcile(
            self.repository(proposal.repository.name), self.store, proposal, begun, granted, self.clock()
        )
        return Approved(proposal, people, len(people), change)

    def changes(self) -> list[tuple[Change, str]]:
        """Return the changes with their states, newest first."""
        return [(stored.change, stored.state.value) for stored in self.store.list_changes()]

    def change(self, change_id: str) -> Change:
        """Return a change by its id or the beginning of it."""
        return self.store.change(change_id)

    # --- verify and roll back ------------------------------------------------------------------------------------------

    def verify(
        self, change_id: str, window_seconds: int | None = None, progress: Progress | None = None
    ) -> Verification:
        """Return whether the incident's own signal recovered after a change; the verdict is recorded.

        A failed verification rolls the change back where every approver allowed exactly that.
        """
        from advisor.verification import CheckSamples, Verdict, judge

        change = self.store.change(change_id)
        proposal = self.store.proposal(change.proposal_id)
        plan = proposal.verification
        if window_seconds is not None:
            plan = VerificationPlan.model_validate({**plan.model_dump(), "window_seconds": window_seconds})
        now = self.clock()
        self.store.begin_verification(change.id, now)
        source = bundles.RecordedMetrics(self.tape, None if self.replay else RedactedMetrics(self.prometheus()))
        end = min(now, change.at + timedelta(seconds=plan.settle_seconds + plan.window_seconds))
        step = max(1.0, min(60.0, round(plan.window_seconds / 60)))
        samples: dict[str, CheckSamples] = {}
        for check in plan.checks:
            if progress:
                progress(check.name, "reading")
            try:
                before = source.query_range(
                    MetricRequest(
                        query=check.query,
                        start=change.at - timedelta(seconds=plan.window_seconds),
                        end=change.at,
                        step_seconds=step,
                    )
                )
                after = source.query_range(
                    MetricRequest(query=check.query, start=change.at, end=max(end, change.at), step_seconds=step)
                )
                samples[check.name] = CheckSamples(before=before.series, after=after.series)
            except SourceError as error:
                samples[check.name] = CheckSamples(error=str(error))
            if progress:
                progress(check.name, "done")
        verification = judge(plan, samples, change.at, now, change.id)
        self.store.record_verification(verification)
        if not self.replay:
            self._add_to_tape(change.incident_id)
        if verification.verdict is Verdict.FAILED and proposal.rolls_back is None:
            self._roll_back_if_allowed(change, proposal)
        return verification

    def _roll_back_if_allowed(self, change: Change, proposal: Proposal) -> None:
        approvals = [a for a in self.store.answers(proposal.id) if isinstance(a, Approval)]
        if approvals and all(a.rollback_on_failure for a in approvals):
            for approval in approvals:  # a wish that was edited in the store is nobody's wish
                verify_approval(approval, proposal, self.signing_key)
            self.roll_back(change.id, approvals[-1].person, "verification failed; allowed when approving")

    def _add_to_tape(self, incident_id: str) -> None:
        path = self._tape_path(incident_id)
        if path.exists():
            with contextlib.suppress(SettingsInvalid, OSError):  # the verdict is on record; an older recording stays
                recorded = bundles.Tape.from_lines(path.read_bytes(), str(path))
                for exchange in self.tape.exchanges:
                    recorded.add(exchange)
                _write_whole(path, recorded.to_lines())

    def finish_rollback(self, change_id: str, person: str) -> Change | None:
        """Carry on a rollback that was granted but has no recorded outcome, such as after a crash; None if there is none.

        Raises:
            NotPermitted: It ran out before it was written; that is now on record, and the change stands as before.
            ChangeError: As `change.reconcile` says.
        """
        change = self.store.change(change_id)
        under_way = self.store.list_proposals(change.incident_id, (State.GRANTED, State.DELIVERING, State.UNCERTAIN))
        begun = next((stored.proposal for stored in under_way if stored.proposal.rolls_back == change.id), None)
        if begun is None:
            return None
        check_person(person, begun, self.settings.approval)
        return self._resume(begun).change

    def plan_rollback(self, change_id: str) -> RollbackPlan:
        """Return exactly what taking a change back would write now."""
        from advisor.rollback import plan_rollback

        change = self.store.change(change_id)
        repository = self.repository(change.repository.name)
        proposal = self.store.proposal(change.proposal_id)
        return plan_rollback(
            repository,
            change,
            repository.head(),
            proposal_id=_fresh_id("pro"),
            nonce=secrets.token_hex(16),
            evidence_digest=proposal.evidence_digest,
            policy_version=self.settings.policy_version,
            now=self.clock(),
            verification=proposal.verification,
            redact=redact,
        )

    def roll_back(self, change_id: str, person: str, comment: str = "", plan: RollbackPlan | None = None) -> Change:
        """Take a change back as a commit of its own; the person asking is the approver of exactly these bytes.

        Args:
            change_id: Of the change, or the beginning of it.
            person: Who asks; must be an approver.
            comment: Why.
            plan: What was shown; made anew by default.
        """
        from advisor.rollback import roll_back

        change = self.store.change(change_id)
        plan = plan or self.plan_rollback(change.id)
        return roll_back(
            self.repository(change.repository.name),
            self.store,
            change,
            plan,
            person=person,
            rules=self.settings.approval,
            policy_version=self.settings.policy_version,
            now=self.clock(),
            key=self.signing_key,
            comment=redact(comment),
        )

    # --- bundles -------------------------------------------------------------------------------------------------------

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
        }
        target = path or Path(f"{incident['service']}-{incident['id']}.bundle.zip")
        _write_whole(target.absolute(), bundles.Bundle(manifest, tape, report, repositories).to_bytes())
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

    def audit_verify(self) -> int:
        """Return how many entries the audit has, all of them whole.

        Raises:
            AuditBroken: It names the first entry that does not verify.
        """
        return self.store.verify_audit()

    def audit_entries(self, limit: int = 50) -> list[AuditEntry]:
        """Return the newest audit entries, oldest of them first."""
        return list(self.store.audit_entries())[-limit:]


@dataclass(frozen=True)
class Approved:
    """What an approval led to: the change, or None while another person is needed."""

    proposal: Proposal
    people: tuple[str, ...]
    needed: int
    change: Change | None


def _fresh_id(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(5)}"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlaybookInvalid(f"{path}: cannot be read: {one_line(str(error), 160)}") from error


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader finds all of it or none."""
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException as error:  # whatever stops us, Ctrl-C too, must not leave half a file behind
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise SettingsInvalid(f"{path}: cannot be written: {error.strerror or error}") from error
        raise


def _answers_by_repository(tape: bundles.Tape) -> dict[str, list[dict[str, Any]]]:
    """Return what each repository answered, by its name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for exchange in tape.exchanges:
        if exchange.source == "changes" and exchange.answer is not None:
            found.setdefault(str(exchange.request["repository"]), []).append(exchange.answer)
    return found


def _report(
    incident: Incident,
    coverage: SettledCoverage,
    assessment: Assessment,
    proposals: tuple[Proposal, ...],
    warnings: list[str],
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
        "usage": {"seconds": round(seconds, 3), "model_calls": 0, "input_tokens": 0, "output_tokens": 0},
    }


def proposal_view(proposal: Proposal) -> dict[str, Any]:
    """Return a proposal as it stands in a report: everything that an approver is shown."""
    return proposal.model_dump(mode="json")
