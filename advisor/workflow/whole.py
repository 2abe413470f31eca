"""The workflow as a whole: every step of the product, put together from its parts."""

from __future__ import annotations

from advisor.workflow.looking import Looking
from advisor.workflow.recording import Recording
from advisor.workflow.recovering import Recovering
from advisor.workflow.reviewing import Reviewing


class Workflow(Looking, Recovering, Reviewing, Recording):
    """The steps of the product over one set of settings."""
