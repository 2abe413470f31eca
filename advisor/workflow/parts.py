"""The parts every step needs, opened from the settings when first used: store, key, playbooks, repositories, sources."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from advisor import bundle as bundles
from advisor.diagnosis.knobs import Knob, parse_knobs
from advisor.errors import (
    PlaybookInvalid,
    SettingsInvalid,
)
from advisor.gathering import Sources
from advisor.incident import Symptom
from advisor.playbook import Playbook, parse_playbook
from advisor.redacted import RedactedChanges, RedactedMetrics
from advisor.redaction import redact, use_key
from advisor.settings import Repository, Service, Settings, read_secret

if TYPE_CHECKING:
    from advisor.adapters.forge import AnyForge
    from advisor.adapters.git_repository import GitRepository
    from advisor.adapters.prometheus import PrometheusMetrics
    from advisor.store import Store
from advisor.workflow.checked_rules import CheckedRules, checked
from advisor.workflow.files import data_folder, make_once, read_text

KEY_FILE = "signing.key"
KEY_BYTES = 32

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present instant, to the millisecond."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class Parts:
    """The settings, the clock, and what is opened from them."""

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
        if path is not None:
            return Store.open(f"sqlite:///{path}", key=self.signing_key)
        return Store.open(
            self.settings.store,
            key=self.signing_key,
            password=self._store_password,
            mirror_folder=self.state_directory,
        )

    @property
    def _store_password(self) -> str | None:
        """Return a server's password; None where the settings name no place, then the environment is asked."""
        file = self.settings.store_password_file
        return read_secret(
            self.settings.store_password_env, self.settings.path(file) if file else None, "store_password"
        )

    def _has_records(self) -> bool:
        """Return whether something was signed already; asked of a server only where the key is missing."""
        records = self._sqlite_path
        if records is not None:
            return records.exists() and records.stat().st_size > 0
        if self.settings.store.startswith("sqlite:"):
            return False  # in memory
        from advisor.store import has_records

        return has_records(self.settings.store, password=self._store_password)

    @property
    def _sqlite_path(self) -> Path | None:
        """Return the database's file, counted from the settings' folder; None for any other store."""
        url = self.settings.store
        if not url.startswith("sqlite:///") or url == "sqlite:///:memory:":
            return None
        return self.settings.path(url.removeprefix("sqlite:///")).resolve()

    @property
    def rules(self) -> CheckedRules:
        """Return the rules of approval, with a check of the signatures that they ask for."""
        return checked(self.settings.approval)

    @cached_property
    def signing_key(self) -> bytes:
        """Return the server's key, made on first use; owner-only."""
        path = self.state_directory / KEY_FILE
        if not path.exists() and self._has_records() and not path.exists():  # another process may be making both
            records = self._sqlite_path or "the store"
            raise SettingsInvalid(
                f"{path}: the signing key is gone, but {records} was signed with it; restore the key from a backup"
            )
        try:
            if not path.exists():
                make_once(path, secrets.token_bytes(KEY_BYTES))
            key = path.read_bytes()  # of whoever was first
        except OSError as error:
            raise SettingsInvalid(f"{path}: the signing key cannot be made or read: {error.strerror}") from error
        if len(key) < KEY_BYTES:
            raise SettingsInvalid(f"{path}: the signing key is damaged ({len(key)} bytes); restore it from a backup")
        if not self.replay:  # a replay makes no mark of its own: what it reads was masked where it was recorded
            use_key(key)
        return key

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:
        """Return the known mechanisms: those of the settings' playbook folders first, then ours."""
        found: list[Knob] = []
        for folder in [*self._own_playbooks, data_folder("playbooks")]:
            path = folder / "knobs.yaml"
            if path.is_file():
                found += parse_knobs(read_text(path), str(path))
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
                playbook = parse_playbook(read_text(path), str(path))
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

    def repository(self, name: str) -> GitRepository:
        """Return a configured repository by name."""
        if name not in self._repositories:
            self._repositories[name] = self.open_repository(name)
        return self._repositories[name]

    def open_repository(self, name: str, timeout_seconds_max: float | None = None) -> GitRepository:
        """Return a configured repository of the caller's own, with less patience if that is asked for."""
        from advisor.adapters.git_repository import GitRepository

        configured = self.settings.repositories[name]
        patience = configured.timeout_seconds
        return GitRepository(
            name,
            self._address(configured),
            configured.branch,
            self.state_directory / "clones" / f"{name}-{hashlib.sha256(configured.url.encode()).hexdigest()[:12]}",
            timeout_seconds=patience if timeout_seconds_max is None else min(patience, timeout_seconds_max),
            ssh_key_file=self.settings.path(configured.ssh_key_file) if configured.ssh_key_file else None,
            run_hooks=configured.run_hooks,
            signing_key_file=self.settings.path(configured.signing_key_file) if configured.signing_key_file else None,
        )

    def forge(self, name: str) -> AnyForge:
        """Return the forge of a configured repository; nothing is asked yet.

        Raises:
            SettingsInvalid: None is configured, or its token cannot be read.
        """
        from advisor.adapters.forge import open_forge

        rules = self.settings.repositories[name].forge
        if rules is None:
            raise SettingsInvalid(f"repositories.{name}.forge is not configured; pull requests need it")
        path = self.settings.path
        where = f"repositories.{name}.forge.token"
        return open_forge(
            rules.type,
            rules.url,
            rules.project,
            read_secret(rules.token_env, path(rules.token_file) if rules.token_file else None, where) or "",
            timeout_seconds=rules.timeout_seconds,
            ca_file=path(rules.ca_file) if rules.ca_file else None,
            labels=rules.labels,
            merge_method=rules.merge_method,
        )

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

    def _tape_path(self, incident_id: str) -> Path:
        return self.state_directory / "tapes" / f"{incident_id}.jsonl"
