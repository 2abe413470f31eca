"""The `approval` section: who may say yes to what, and until when."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from advisor.settings.section import Section
from advisor.values import Risk


class ApprovalRules(Section):
    """Who may say yes, and until when."""

    approvers: tuple[str, ...] = ()
    two_person_from_risk: Literal["low", "medium", "high", "never"] = "high"
    expires_minutes: int = Field(default=30, ge=1, le=240)

    def people_needed(self, risk: Risk) -> int:
        """Return how many distinct people must approve a change of this risk."""
        if self.two_person_from_risk == "never":
            return 1
        return 2 if risk.rank >= Risk(self.two_person_from_risk).rank else 1
