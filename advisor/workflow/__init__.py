"""Wires the steps to the adapters: the one place that knows settings, sources, store and clock at once. No rules here.

The command line, the console and the API call `Workflow` and nothing deeper. Each module holds one part of the way:
`investigating`, `looking`, `deciding`, `reviewing`, `delivering`, `rolling_back`, `verifying`, `recovering`, `recording`, over the opened `parts`.
"""

from __future__ import annotations

from advisor.workflow.delivering import Approved
from advisor.workflow.files import EXAMPLE_SETTINGS, data_folder, write_example_settings
from advisor.workflow.investigating import Investigation, proposal_view
from advisor.workflow.looking import Looking, Measured
from advisor.workflow.parts import Clock, utc_now
from advisor.workflow.recording import Recording
from advisor.workflow.recovering import Ending, Recovered, Recovering
from advisor.workflow.reviewing import Reviewed, Reviewing

__all__ = [
    "EXAMPLE_SETTINGS",
    "Approved",
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


class Workflow(Looking, Recovering, Reviewing, Recording):
    """The steps of the product over one set of settings."""
