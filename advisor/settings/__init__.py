"""`advisor.yaml`: read once, checked whole, unknown keys refused by name.

Secrets never stand in the file: a field ends in ``_env`` or ``_file`` and names where the secret is. Adapters get values
from here, never the settings themselves.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from advisor.errors import SettingsInvalid, one_line
from advisor.redaction import redact
from advisor.settings.approval import ApprovalRules, inside, with_allowed_signers
from advisor.settings.audit import AuditRules
from advisor.settings.model import Model
from advisor.settings.repositories import Repository
from advisor.settings.section import SECRET_IN_URL, Section
from advisor.values import digest, load_yaml

__all__ = [
    "ApprovalRules",
    "Model",
    "Repository",
    "Service",
    "Settings",
    "load_settings",
    "parse_model",
    "parse_settings",
    "read_secret",
]

SETTINGS_BYTES_MAX = 1024 * 1024
_SECRET_HEADER = re.compile(r"authori[sz]ation|cookie|token|secret|api-?key|password", re.I)


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Globs = Annotated[tuple[str, ...], BeforeValidator(_one_or_many)]


class Prometheus(Section):
    """Where metrics come from, and how to authenticate there."""

    url: str
    bearer_token_env: str | None = None
    bearer_token_file: Path | None = None
    username: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    headers: dict[str, str] = Field(default={})
    headers_env: dict[str, str] = Field(default={})
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    insecure_skip_verify: bool = False
    connect_timeout_seconds: float = Field(default=3.0, gt=0, le=60)
    read_timeout_seconds: float = Field(default=10.0, gt=0, le=300)
    retries: int = Field(default=2, ge=0, le=10)
    compression: bool = False  # a near server answers faster without; across a WAN turn it on

    @model_validator(mode="after")
    def _check(self) -> Prometheus:
        if not re.match(r"^https?://[^\s/]", self.url):
            raise ValueError(f"url {redact(self.url)!r} is not an http(s) address")
        if SECRET_IN_URL.search(self.url):
            raise ValueError("url carries a password; use username and password_env or password_file")
        inline = next((name for name in self.headers if _SECRET_HEADER.search(name)), None)
        if inline is not None:
            raise ValueError(f"headers.{inline} is a secret; name its environment variable under headers_env")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        return self


class Configuration(Section):
    """Where a service's configuration lives: globs inside a repository, and which keys may be written there.

    Attributes:
        keys: Globs of keys (``*`` stands for any characters); nothing else is written. Empty: every key may be.
        forbidden_keys: Globs of keys that are never written, not even when a whole commit is taken back.
    """

    repository: str
    paths: Globs = ("**",)
    keys: Globs = ()
    forbidden_keys: Globs = ()

    @model_validator(mode="after")
    def _check(self) -> Configuration:
        for name, globs in (("keys", self.keys), ("forbidden_keys", self.forbidden_keys)):
            odd = next((glob for glob in globs if not glob.strip() or not glob.isprintable() or len(glob) > 500), None)
            if odd is not None:
                raise ValueError(f"{name}: {one_line(odd, 60)!r} names no key")
        return self


class LogFiles(Section):
    """Log files by glob, rotated and gzip ones included."""

    files: Globs


class Workload(Section):
    """What runs the service in a cluster."""

    namespace: str
    workload: str


class Service(Section):
    """One service: which series, configuration and logs are its own."""

    selector: str
    configuration: Configuration | None = None
    logs: tuple[LogFiles, ...] = ()
    depends_on: tuple[str, ...] = ()
    kubernetes: Workload | None = None

    @model_validator(mode="after")
    def _check(self) -> Service:
        if not re.fullmatch(
            r'\s*[a-zA-Z_]\w*\s*(=~|!~|!=|=)\s*"(?:[^"\\]|\\.)*"(\s*,\s*[a-zA-Z_]\w*\s*(=~|!~|!=|=)\s*"(?:[^"\\]|\\.)*")*\s*,?\s*',
            self.selector,
        ):
            raise ValueError(f'selector {self.selector!r} is not a list of label matchers such as job="checkout"')
        return self


class Verification(Section):
    """How long recovery is watched before a verdict."""

    settle_seconds: int = Field(default=60, ge=0, le=3600)
    window_seconds: int = Field(default=600, ge=10, le=86400)
    samples_min: int = Field(default=5, ge=2, le=10_000)


class Limits(Section):
    """The bounds of one investigation."""

    deadline_seconds: float = Field(default=30.0, gt=0, le=600)
    lookback_hours: float = Field(default=24.0, gt=0, le=24 * 31)
    changes_days: float = Field(default=7.0, gt=0, le=366)
    series_max: int = Field(default=2000, ge=1, le=100_000)
    points_max: int = Field(default=1500, ge=50, le=11_000)
    commits_max: int = Field(default=2000, ge=1, le=100_000)
    neighbours_max: int = Field(default=24, ge=0, le=500)
    neighbour_series_max: int = Field(default=400, ge=1, le=100_000)


class Settings(Section):
    """The whole of `advisor.yaml`. Relative paths count from the file's own folder (``base``)."""

    store: str = "sqlite:///advisor.db"
    store_password_env: str | None = None
    store_password_file: Path | None = None
    state_directory: Path = Path(".advisor")
    model: Model | None = None
    prometheus: Prometheus | None = None
    repositories: dict[str, Repository] = Field(default={})
    services: dict[str, Service] = Field(default={})
    approval: ApprovalRules = ApprovalRules()
    audit: AuditRules = AuditRules()
    verification: Verification = Verification()
    limits: Limits = Limits()
    playbooks: tuple[Path, ...] = ()
    base: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if SECRET_IN_URL.search(self.store):
            raise ValueError(
                "store carries a password; take it out, and set it in ADVISOR_STORE_PASSWORD, or name"
                " store_password_env or store_password_file"
            )
        for name, service in self.services.items():
            if service.configuration and service.configuration.repository not in self.repositories:
                known = ", ".join(sorted(self.repositories)) or "none"
                raise ValueError(
                    f"services.{name}.configuration.repository {service.configuration.repository!r}"
                    f" is not under repositories (known: {known})"
                )
        anchor = self.audit.anchor
        if anchor is not None and not anchor.is_address and anchor.repository not in self.repositories:
            known = ", ".join(sorted(self.repositories)) or "none"
            raise ValueError(
                f"audit.anchor.repository {anchor.repository!r} is neither an address nor under repositories"
                f" (known: {known})"
            )
        rules = with_allowed_signers(self.approval, self.base, self._local_repositories)
        object.__setattr__(self, "approval", rules)  # frozen for everybody else; here it is still being made
        return self

    @property
    def _local_repositories(self) -> dict[str, Path]:
        """Return the folders of the repositories that lie on this machine."""
        urls = {name: r.url.removeprefix("file://") for name, r in self.repositories.items()}
        return {
            name: self.path(url)
            for name, url in urls.items()
            if "://" not in url and (":" not in url.split("/")[0] or url.startswith("."))
        }

    @property
    def guarded_by_itself(self) -> str | None:
        """Return the configuration repository that these settings lie in, if they do; the rules would be its own."""
        return inside(self.base, self._local_repositories)

    def service(self, name: str) -> Service:
        """Return a configured service.

        Raises:
            SettingsInvalid: No such service; the message lists those that are.
        """
        if name not in self.services:
            known = ", ".join(sorted(self.services)) or "none; add one under services:"
            raise SettingsInvalid(f"service {name!r} is not configured (known: {known})")
        return self.services[name]

    def path(self, value: Path | str) -> Path:
        """Return a path of the file as an absolute one."""
        path = Path(value).expanduser()
        return path if path.is_absolute() else self.base / path

    @property
    def policy_version(self) -> str:
        """Return the digest of the rules that an approval was given under."""
        return digest(self.approval.model_dump(mode="json"))


def parse_settings(text: str, base: Path, name: str = "advisor.yaml") -> Settings:
    """Return the settings written in a YAML text.

    Raises:
        SettingsInvalid: One line that names the key and what is wrong with it.
    """
    if len(text) > SETTINGS_BYTES_MAX:
        raise SettingsInvalid(f"{name}: larger than {SETTINGS_BYTES_MAX} bytes; is it the right file?")
    try:
        data = load_yaml(text)
    except ValueError as error:
        raise SettingsInvalid(f"{name}: not readable as YAML: {one_line(str(error), 240)}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise SettingsInvalid(f"{name}: a mapping is wanted at the top, found {type(data).__name__}")
    if "base" in data:
        raise SettingsInvalid(f"{name}: base: unknown key")
    try:
        return Settings.model_validate({**data, "base": base})
    except ValidationError as error:
        raise SettingsInvalid(f"{name}: {_explain(error)}") from error


def parse_model(data: Mapping[str, Any]) -> Model:
    """Return the settings of a model.

    Raises:
        SettingsInvalid: One line that names the key and what is wrong with it.
    """
    try:
        return Model.model_validate(dict(data))
    except ValidationError as error:
        raise SettingsInvalid(f"model: {_explain(error)}") from error


def load_settings(path: Path) -> Settings:
    """Return the settings of a file.

    Raises:
        SettingsInvalid: The file is missing, unreadable or wrong.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise SettingsInvalid(f"{path}: no such file; `advisor init` writes one, --config names another") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{path}: cannot be read: {one_line(str(error), 200)}") from error
    return parse_settings(text, path.resolve().parent, str(path))


def read_secret(env: str | None, file: Path | None, what: str) -> str | None:
    """Return a secret from where the settings say it is; None if they name no place.

    Raises:
        SettingsInvalid: The place is named but empty or unreadable. The secret itself is never in a message.
    """
    if env is not None:
        if not os.environ.get(env):
            raise SettingsInvalid(f"{what}: environment variable {env} is not set")
        return os.environ[env]
    if file is not None:
        try:
            text = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsInvalid(f"{what}: {file} cannot be read: {type(error).__name__}") from error
        if not text:
            raise SettingsInvalid(f"{what}: {file} is empty")
        return text
    return None


def _explain(error: ValidationError) -> str:
    parts = []
    for item in error.errors()[:3]:
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        if item["type"] == "extra_forbidden":
            parts.append(f"{where}: unknown key")
        elif item["type"] == "missing":
            parts.append(f"{where}: missing")
        else:
            given = item.get("input")
            shown = f" (found {one_line(repr(given), 60)})" if isinstance(given, str | int | float | bool) else ""
            parts.append(f"{where}: {item['msg'].removeprefix('Value error, ')}{shown}")
    return "; ".join(parts)
