"""The rules of approval as the server applies them: those of the settings, with a check of SSH signatures behind them.

The core knows only that somebody can check a signature, and the settings check none; here the two are brought together.
Called by `parts`, and by `proofs` for a bundle.
"""

from __future__ import annotations

from datetime import datetime

from advisor.settings import ApprovalRules


class CheckedRules(ApprovalRules):
    """Rules whose signatures `ssh-keygen` checks."""

    def check_signature(
        self, person: str, statement: bytes, signature: str, signers: tuple[str, ...], at: datetime
    ) -> str:
        """Return the one of a person's keys that a signature verifies with.

        Raises:
            SignatureRefused: It verifies with none, or cannot be verified here.
        """
        from advisor.adapters.ssh_signatures import verify

        return verify(person, statement, signature, signers, at)


def checked(rules: ApprovalRules) -> CheckedRules:
    """Return the same rules, with a check of signatures."""
    return CheckedRules.model_validate({name: getattr(rules, name) for name in ApprovalRules.model_fields})
