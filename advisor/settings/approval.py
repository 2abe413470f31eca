"""The `approval` section: who may say yes to what, until when, and with which key.

The rules' own logic stands in `advisor.approval.rules`; here they are read and held against one another. Nothing of it is
ever read from a configuration repository: whoever can change that could otherwise change who may approve.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from advisor.approval.people import fold, principal
from advisor.approval.rules import BreakGlass, Freeze, Roles, Rule, may_approve
from advisor.approval.ssh_keys import key_of, read_allowed_signers, read_signer
from advisor.errors import AdvisorError, SettingsInvalid, SignatureRefused
from advisor.settings.section import Section
from advisor.values import Risk

SIGNERS_BYTES_MAX = 1024 * 1024


def _keys(value: Any) -> Any:
    """Return one key or several of each person as several."""
    if not isinstance(value, Mapping):
        return value
    return {str(person): (keys,) if isinstance(keys, str) else keys for person, keys in value.items()}


class ApprovalRules(Section):
    """Who may say yes, and until when."""

    approvers: tuple[str, ...] = ()
    two_person_from_risk: Literal["low", "medium", "high", "never"] = "high"
    expires_minutes: int = Field(default=30, ge=1, le=240)
    roles: Roles = Roles()
    rules: tuple[Rule, ...] = ()
    freeze: tuple[Freeze, ...] = ()
    break_glass: BreakGlass = BreakGlass()
    keys: Annotated[dict[str, tuple[str, ...]], BeforeValidator(_keys)] = Field(default={})
    # Read into `keys` when the settings are loaded, so that the policy version covers what it says.
    allowed_signers: Path | None = Field(default=None, exclude=True)

    @model_validator(mode="after")
    def _check(self) -> ApprovalRules:
        known = may_approve(self)
        for number, rule in enumerate(self.rules):
            for person in rule.approvers:
                if _principal(person, f"rules.{number}.approvers") not in known:
                    raise ValueError(
                        f"rules.{number}.approvers: {person!r} is no approver; list people under approvers"
                    )
        for person in self.break_glass.people:
            _principal(person, "break_glass.people")
        object.__setattr__(self, "keys", checked_keys(self.keys, "keys"))
        return self

    def people_needed(self, risk: Risk) -> int:
        """Return how many distinct people must approve a change of this risk."""
        if self.two_person_from_risk == "never":
            return 1
        return 2 if risk.rank >= Risk(self.two_person_from_risk).rank else 1

    def check_signature(
        self, person: str, statement: bytes, signature: str, signers: tuple[str, ...], at: datetime
    ) -> str:
        """Refuse: settings verify nothing. The workflow puts rules with a verifier in the place of these.

        Raises:
            SignatureRefused: Always.
        """
        raise SignatureRefused(f"the signature of {person} cannot be verified here")


def with_allowed_signers(rules: ApprovalRules, base: Path, repositories: Mapping[str, Path]) -> ApprovalRules:
    """Return rules with the keys of their allowed-signers file beside their own.

    Args:
        rules: As they stand in the settings.
        base: What a relative path counts from.
        repositories: Where configuration repositories lie on this machine, by name.

    Raises:
        ValueError: The file cannot be read, may be written by everybody, or lies inside a configuration repository.
    """
    if rules.allowed_signers is None:
        return rules
    path = rules.allowed_signers.expanduser()
    path = path if path.is_absolute() else base / path
    if (name := inside(path, repositories)) is not None:
        raise ValueError(
            f"approval.allowed_signers: {path} lies inside repository {name}, which it is to guard; move it"
        )
    try:
        if path.stat().st_size > SIGNERS_BYTES_MAX:
            raise ValueError(f"approval.allowed_signers: {path} is larger than {SIGNERS_BYTES_MAX} bytes")
        if path.stat().st_mode & stat.S_IWOTH:
            raise ValueError(f"approval.allowed_signers: everybody on this machine may write {path}; chmod o-w it")
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"approval.allowed_signers: {path} cannot be read: {type(error).__name__}") from error
    merged = dict(rules.keys)
    try:
        for person, keys in read_allowed_signers(text, f"approval.allowed_signers: {path.name}").items():
            merged[person] = (*merged.get(person, ()), *keys)
    except SettingsInvalid as error:
        raise ValueError(str(error)) from error
    # Not `allowed_signers=None`: that it was asked for stays visible.
    return rules.model_copy(update={"keys": checked_keys(merged, "allowed_signers")})


def inside(path: Path, repositories: Mapping[str, Path]) -> str | None:
    """Return the repository of this machine that a path lies in, by name."""
    real = path.resolve()
    return next((name for name, folder in repositories.items() if real.is_relative_to(folder.resolve())), None)


def checked_keys(keys: Mapping[str, tuple[str, ...]], where: str) -> dict[str, tuple[str, ...]]:
    """Return people's keys as they are kept, each person and each key once.

    Raises:
        ValueError: A key that is none, one person under two names, or two people with one key: they would be one.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, entries in keys.items():
        person = _principal(name, where)
        other = next((p for p in found if p != person and fold(p) == fold(person)), None)
        if other is not None:
            raise ValueError(f"{where}: {name!r} and {other!r} are one person; write one of them")
        try:
            kept = [read_signer(entry, f"{where}.{person}") for entry in entries]
        except SettingsInvalid as error:
            raise ValueError(str(error)) from error
        if not kept:
            raise ValueError(f"{where}.{person}: no key; leave the person out, or write one")
        found[person] = tuple(dict.fromkeys((*found.get(person, ()), *kept)))
    owners: dict[str, str] = {}
    for person, entries in found.items():
        for entry in entries:
            if owners.setdefault(key_of(entry), person) != person:
                raise ValueError(
                    f"{where}: {person} and {owners[key_of(entry)]} have the same key; each needs their own"
                )
    return found


def _principal(name: str, where: str) -> str:
    try:
        return principal(name)
    except AdvisorError as error:
        raise ValueError(f"{where}: {error}") from error
