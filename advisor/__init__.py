"""An evidence-first operations advisor: it finds the change behind an incident, proposes its exact reversal, and waits for a person.

The names below are the records of an incident in the order in which they come about, then what moves them along, then the
errors. Each is loaded when it is first used, so that ``import advisor`` costs nothing and loads no client library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advisor.approval import Approval, Denial, Expiry
    from advisor.change import Change
    from advisor.diagnosis import Assessment, Diagnosis, Hypothesis
    from advisor.errors import (
        AdvisorError,
        AuditError,
        ChangeConflict,
        ChangeError,
        ChangeRefused,
        ChangeUncertain,
        IllegalTransition,
        ModelError,
        NotPermitted,
        PlaybookError,
        RecordUnknown,
        SettingsInvalid,
        SourceError,
        SourceUnavailable,
        StoreError,
    )
    from advisor.evidence import Coverage, Evidence, SettledCoverage
    from advisor.incident import Incident
    from advisor.lifecycle import Event, State, advance
    from advisor.playbook import Action, Playbook
    from advisor.proposal import Proposal
    from advisor.rollback import RollbackPlan
    from advisor.verification import Verdict, Verification

__version__ = "0.1.0"

_HOMES = {
    "Incident": "incident",
    "Coverage": "evidence",
    "SettledCoverage": "evidence",
    "Evidence": "evidence",
    "Hypothesis": "diagnosis",
    "Diagnosis": "diagnosis",
    "Assessment": "diagnosis",
    "Playbook": "playbook",
    "Action": "playbook",
    "Proposal": "proposal",
    "Approval": "approval",
    "Denial": "approval",
    "Expiry": "approval",
    "Change": "change",
    "Verification": "verification",
    "Verdict": "verification",
    "RollbackPlan": "rollback",
    "State": "lifecycle",
    "Event": "lifecycle",
    "advance": "lifecycle",
    "AdvisorError": "errors",
    "SourceError": "errors",
    "SourceUnavailable": "errors",
    "ModelError": "errors",
    "PlaybookError": "errors",
    "SettingsInvalid": "errors",
    "RecordUnknown": "errors",
    "NotPermitted": "errors",
    "ChangeError": "errors",
    "ChangeConflict": "errors",
    "ChangeRefused": "errors",
    "ChangeUncertain": "errors",
    "StoreError": "errors",
    "AuditError": "errors",
    "IllegalTransition": "errors",
}

__all__ = [  # noqa: RUF022 - in the order of the flow
    "Incident",
    "Coverage",
    "SettledCoverage",
    "Evidence",
    "Hypothesis",
    "Diagnosis",
    "Assessment",
    "Playbook",
    "Action",
    "Proposal",
    "Approval",
    "Denial",
    "Expiry",
    "Change",
    "Verification",
    "Verdict",
    "RollbackPlan",
    "State",
    "Event",
    "advance",
    "AdvisorError",
    "SourceError",
    "SourceUnavailable",
    "ModelError",
    "PlaybookError",
    "SettingsInvalid",
    "RecordUnknown",
    "NotPermitted",
    "ChangeError",
    "ChangeConflict",
    "ChangeRefused",
    "ChangeUncertain",
    "StoreError",
    "AuditError",
    "IllegalTransition",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Return an exported name, loading its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'advisor' has no attribute {name!r}")
    value = getattr(import_module(f"advisor.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return what is exported."""
    return sorted(__all__)
