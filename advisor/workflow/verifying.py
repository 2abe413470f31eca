"""Did the incident's own signal recover after a change?"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from advisor import bundle as bundles
from advisor.approval import Approval, verify_approval
from advisor.change import Change
from advisor.errors import (
    SettingsInvalid,
    SourceError,
)
from advisor.evidence import MetricRequest, MetricSource
from advisor.gathering import Progress
from advisor.playbook import VerificationPlan
from advisor.proposal import Proposal
from advisor.redacted import RedactedMetrics
from advisor.values import digest

if TYPE_CHECKING:
    from advisor.verification import Verification
    from advisor.workflow.vital_signs import VitalSigns
from advisor.workflow.files import write_whole
from advisor.workflow.rolling_back import RollingBack


class Verifying(RollingBack):
    """Verify changes; a failed one is taken back where its approvers allowed that."""

    def verify(
        self, change_id: str, window_seconds: int | None = None, progress: Progress | None = None
    ) -> Verification:
        """Return whether the incident's own signal recovered after a change; the verdict is recorded.

        A failed verification rolls the change back where every approver allowed exactly that.

        Raises:
            IllegalTransition: It does not stand on its branch; one that was offered may wait to be merged.
            ChangeError: What was offered was closed, or merged with other bytes; that is on record.
        """
        from advisor.verification import CheckSamples, Verdict, judge

        change = self.store.change(change_id)
        self.look_at_offer(change)
        since = self.stands_since(change)
        proposal = self.store.proposal(change.proposal_id)
        plan = proposal.verification
        if window_seconds is not None:
            plan = VerificationPlan.model_validate({**plan.model_dump(), "window_seconds": window_seconds})
        now = self.clock()
        self.store.begin_verification(change.id, now)
        source = bundles.RecordedMetrics(self.tape, None if self.replay else RedactedMetrics(self.prometheus()))
        step = max(1.0, min(60.0, round(plan.window_seconds / 60)))
        vital, vital_error = self._vital_signs(change, source, plan, since, now, step, progress)
        if vital is not None and vital.effective_at > since:
            since = vital.effective_at  # what was measured between commit and restart is of the old configuration
        end = min(now, since + timedelta(seconds=plan.settle_seconds + plan.window_seconds))
        samples: dict[str, CheckSamples] = {}
        for check in plan.checks:
            if progress:
                progress(check.name, "reading")
            try:
                before = source.query_range(
                    MetricRequest(
                        query=check.query,
                        start=since - timedelta(seconds=plan.window_seconds),
                        end=since,
                        step_seconds=step,
                    )
                )
                after = source.query_range(
                    MetricRequest(query=check.query, start=since, end=max(end, since), step_seconds=step)
                )
                samples[check.name] = CheckSamples(before=before.series, after=after.series)
            except SourceError as error:
                samples[check.name] = CheckSamples(error=str(error))
            if progress:
                progress(check.name, "done")
        signs = vital.samples if vital is not None else ()
        verification = judge(plan, samples, since, now, change.id, signs, vital_error)
        self.store.record_verification(verification)
        if not self.replay:
            self._add_to_tape(change.incident_id)
        if verification.verdict is Verdict.FAILED and proposal.rolls_back is None:
            self._roll_back_if_allowed(change, proposal)
        return verification

    def _vital_signs(
        self,
        change: Change,
        source: MetricSource,
        plan: VerificationPlan,
        since: datetime,
        now: datetime,
        step: float,
        progress: Progress | None,
    ) -> tuple[VitalSigns | None, str | None]:
        """Return the other vital signs of the service, or why they cannot be read; neither where nothing is asked for."""
        if not plan.checks or change.service not in self.settings.services:
            return None, None
        from advisor.workflow.vital_signs import read_vital_signs

        if progress:
            progress("vital signs", "reading")
        try:
            found = read_vital_signs(
                source,
                self.settings.services,
                change.service,
                since,
                now,
                plan.settle_seconds,
                plan.window_seconds,
                step,
                self.settings.limits.series_max,
            )
        except SourceError as error:
            # A recording holds what was asked then; one without these questions is judged by what it has.
            return None, None if self.replay else str(error)
        if progress:
            progress("vital signs", "done")
        return found, None

    def _roll_back_if_allowed(self, change: Change, proposal: Proposal) -> None:
        approvals = [a for a in self.store.answers(proposal.id) if isinstance(a, Approval)]
        if approvals and all(a.rollback_on_failure for a in approvals):
            for approval in approvals:  # a wish that was edited in the store is nobody's wish
                verify_approval(approval, proposal, self.signing_key)
            last = approvals[-1]
            self.roll_back(change.id, last.person, "verification failed; allowed when approving", standing=digest(last))

    def _add_to_tape(self, incident_id: str) -> None:
        path = self._tape_path(incident_id)
        if path.exists():
            with contextlib.suppress(SettingsInvalid, OSError):  # the verdict is on record; an older recording stays
                recorded = bundles.Tape.from_lines(path.read_bytes(), str(path))
                for exchange in self.tape.exchanges:
                    recorded.add(exchange)
                write_whole(path, recorded.to_lines())
