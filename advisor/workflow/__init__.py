"""Wires the steps to the adapters: the one place that knows settings, sources, store and clock at once. No rules here.

The command line, the console and the API call `Workflow` and nothing deeper; what only changes something takes `Changing`,
which loads in a third of the time. Each module holds one part of the way: `investigating`, `looking`, `deciding`,
`reviewing`, `delivering`, `undoing`, `rolling_back`, `verifying`, `recovering`, `auditing`, `recording`, over the opened
`parts`. A name is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advisor.workflow.changing import Changing
    from advisor.workflow.delivering import Approved
    from advisor.workflow.files import EXAMPLE_SETTINGS, data_folder, write_example_settings
    from advisor.workflow.investigating import Investigation, proposal_view
    from advisor.workflow.looking import Measured
    from advisor.workflow.parts import Clock, utc_now
    from advisor.workflow.recovering import Ending, Recovered
    from advisor.workflow.reviewing import Reviewed
    from advisor.workflow.whole import Workflow

_HOMES = {
    "EXAMPLE_SETTINGS": "files",
    "Approved": "delivering",
    "Changing": "changing",
    "Clock": "parts",
    "Ending": "recovering",
    "Investigation": "investigating",
    "Measured": "looking",
    "Recovered": "recovering",
    "Reviewed": "reviewing",
    "Workflow": "whole",
    "data_folder": "files",
    "proposal_view": "investigating",
    "utc_now": "parts",
    "write_example_settings": "files",
}

__all__ = [
    "EXAMPLE_SETTINGS",
    "Approved",
    "Changing",
    "Clock",
    "Ending",
    "Investigation",
    "Measured",
    "Recovered",
    "Reviewed",
    "Workflow",
    "data_folder",
    "proposal_view",
    "utc_now",
    "write_example_settings",
]


def __getattr__(name: str) -> Any:
    """Return an exported name, loading its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'advisor.workflow' has no attribute {name!r}")
    value = getattr(import_module(f"advisor.workflow.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
