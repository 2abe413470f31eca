"""All that changes what stands, without what diagnoses are made with: a rollback must not wait for that to load."""

from __future__ import annotations

from advisor.workflow.auditing import Auditing
from advisor.workflow.recovering import Recovering


class Changing(Recovering, Auditing):
    """Approvals, deliveries, verifications and rollbacks over one set of settings, anchored as they are in the whole."""
