"""Keys of made-up people, made by ssh-keygen, and rules that check signatures with it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from advisor.adapters.ssh_signatures import sign
from advisor.approval import Answer, Approval, Denial, decide, principal, statement_of
from advisor.proposal import Proposal
from advisor.settings import ApprovalRules
from advisor.workflow.checked_rules import CheckedRules, checked
from tests.support.gate import ALICE, BOB, CAROL, KEY, NOW, POLICY, say


def need_ssh_keygen() -> None:
    """Skip the running test by name if ssh-keygen is missing; fail it where ADVISOR_REQUIRE_REAL=1."""
    if shutil.which("ssh-keygen") is None:
        reason = "ssh-keygen is not on PATH"
        if os.environ.get("ADVISOR_REQUIRE_REAL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@dataclass(frozen=True)
class Key:
    """A key pair in two files."""

    private: Path

    @property
    def public(self) -> Path:
        return self.private.with_suffix(".pub")

    @property
    def text(self) -> str:
        """Return the public key as it stands in settings: type and key."""
        return " ".join(self.public.read_text().split()[:2])


def make_key(folder: Path, name: str, kind: str = "ed25519", passphrase: str = "", bits: int | None = None) -> Key:
    """Return a new key."""
    need_ssh_keygen()
    path = folder / name
    arguments = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", f"{name}@example.org", "-f", str(path)]
    arguments += ["-b", str(bits)] if bits else []
    subprocess.run(arguments, check=True, capture_output=True, timeout=60)
    return Key(path)


def rules_with(keys: Mapping[str, Key | str | list[str]], **fields: Any) -> CheckedRules:
    """Return rules under which these people have keys, each given as such or as it stands in settings."""
    standard: dict[str, Any] = {"approvers": (ALICE, BOB, CAROL)}
    listed = {person: key.text if isinstance(key, Key) else key for person, key in keys.items()}
    return checked(ApprovalRules.model_validate({**standard, "keys": listed, **fields}))


def answer_signed(
    proposal: Proposal, person: str, key: Key | None, rules: ApprovalRules, now: Any = NOW, **fields: Any
) -> Approval | Denial:
    """Return the record of an answer that was signed with a key, or with none."""
    answer: Answer = say(proposal, person, **fields)
    if key is not None:
        signature = sign(statement_of(proposal, answer, principal(person)), key.private)
        answer = Answer.model_validate({**answer.model_dump(), "signature": signature})
    return decide(proposal, answer, rules, POLICY, (), now, KEY)
