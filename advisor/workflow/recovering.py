"""What a crash, a lost remote or a long night left in the middle is carried on, settled, or named to a person.

Every command that changes something begins here, and `advisor recover` is only this. What is in flight is read from
the records and held against the remote; nothing is kept in a process. Each step is the one that the command itself
would have taken, under the same checks: a grant is made afresh from the recorded approvals, and the store's
compare-and-swap lets one process win.

Not done here: an uncertain delivery is looked at and named, never settled without a person; a verification is left
to be asked for again; a proposal that can still be answered waits for its people. One remote that does not answer
holds up neither the others nor the command.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from advisor.approval import expire
from advisor.errors import AdvisorError, ApprovalExpired, ChangeUncertain, StoreUnavailable
from advisor.lifecycle import ON_BRANCH, PENDING, State
from advisor.proposal import Proposal
from advisor.workflow.in_hand import InHand
from advisor.workflow.verifying import Verifying

if TYPE_CHECKING:
    from advisor.store import StoredProposal

# A remote that is up answers one question in well under a second; who types a command should not wait longer for one
# that is down.
PROBE_SECONDS_MAX = 4.0
# For all items together, as far as they are not begun: a push keeps the time that advisor.yaml gives it.
RECOVERY_SECONDS_MAX = 30.0
_ASKS_THE_REMOTE = (State.GRANTED, State.DELIVERING, State.UNCERTAIN)


class Ending(StrEnum):
    """What became of one item."""

    DELIVERED = "delivered"
    SETTLED = "settled"  # nothing of it was written, and that is on record now
    EXPIRED = "expired"
    UNCERTAIN = "uncertain"
    WAITING = "waiting"  # offered, and nobody has merged it yet
    LEFT = "left"  # in living hands, or the remote did not answer; the next command looks again


@dataclass(frozen=True)
class Recovered:
    """One item that was in flight, and what became of it.

    Attributes:
        proposal_id: What it came of.
        ending: What became of it.
        told: One line for a person.
    """

    proposal_id: str
    ending: Ending
    told: str


class Recovering(Verifying):
    """Carry on what is in flight."""

    def recover(
        self, leave: Callable[[Proposal], bool] = lambda proposal: False, offers: bool = False
    ) -> tuple[Recovered, ...]:
        """Settle what was left in flight, the oldest first, and return what became of each.

        Args:
            leave: Items that the caller is about to carry on itself.
            offers: Look at what waits to be merged as well. It may wait for days, and each look asks a server, so a
                command about something else does not.

        Raises:
            StoreError: The records cannot be opened, or not now.
        """
        if self.replay:
            return ()
        records = self.store
        try:
            found = [stored for stored in reversed(records.pending()) if not leave(stored.proposal)]
        except StoreUnavailable:
            raise
        except AdvisorError as error:  # one damaged record must not bar a command about another
            return (Recovered("", Ending.LEFT, f"what was left in flight cannot be looked at: {error}"),)
        late = [stored.proposal for stored in found if self._ran_out(stored)]
        asks = (*_ASKS_THE_REMOTE, State.AWAITING_MERGE) if offers else _ASKS_THE_REMOTE
        open_ones = [stored for stored in found if stored.state in asks and stored.proposal not in late]
        told = [item for proposal in late if (item := self._expire(proposal)) is not None]
        told += self._forsaken(found)
        if not open_ones:
            return tuple(told)
        deadline = time.monotonic() + RECOVERY_SECONDS_MAX
        silent = self._silent_remotes({stored.proposal.repository.name for stored in open_ones})
        for stored in open_ones:
            name = stored.proposal.repository.name
            if name in silent:
                told.append(_left(stored.proposal, silent[name]))
            elif time.monotonic() > deadline:
                told.append(_left(stored.proposal, "no time was left for it; `advisor recover` goes on"))
            else:
                told.append(self._carry_on(stored))
        return tuple(told)

    def _ran_out(self, stored: StoredProposal) -> bool:
        # What was begun may stand on the branch already: that is for the remote to say, not for the clock.
        return stored.state in (State.PROPOSED, State.GRANTED) and self.clock() >= stored.proposal.expires_at

    def _expire(self, proposal: Proposal) -> Recovered | None:
        try:
            with self._in_hand(proposal, 0):
                self.store.record_answer(expire(proposal, self.store.answers(proposal.id), self.clock()))
        except InHand as living:
            return _left(proposal, str(living))
        except AdvisorError as error:
            if self.store.state_of(proposal.id) not in (State.PROPOSED, State.GRANTED):
                return None  # another process was first; it has said so
            return _left(proposal, str(error))
        return Recovered(proposal.id, Ending.EXPIRED, f"proposal {proposal.id} ran out; nothing was changed")

    def _forsaken(self, found: Iterable[StoredProposal]) -> list[Recovered]:
        """Name changes that are said to be taken back while no rollback of them is under way."""
        under_way = {stored.proposal.rolls_back for stored in self.store.pending()}
        told = []
        for stored in found:
            if stored.state is not State.ROLLING_BACK:
                continue
            change = self.store.change_of(stored.proposal.id)
            if change is not None and change.id not in under_way:
                told.append(
                    _left(stored.proposal, f"change {change.id} is being taken back by nobody; a person must look")
                )
        return told

    def _silent_remotes(self, names: Iterable[str]) -> dict[str, str]:
        """Return why each remote that does not answer now does not, asked all at once and for a short time."""
        silent: dict[str, str] = {}
        probes: list[tuple[str, threading.Thread, list[str]]] = []
        for name in sorted(names):
            if name not in self.settings.repositories:
                silent[name] = f"repository {name} is not configured any more; add it to advisor.yaml again"
                continue
            answer: list[str] = []
            # A daemon: a remote that hangs must not keep the program from ending. It only reads.
            thread = threading.Thread(target=self._probe, args=(name, answer), daemon=True)
            thread.start()
            probes.append((name, thread, answer))
        deadline = time.monotonic() + PROBE_SECONDS_MAX + 1
        for name, thread, answer in probes:
            thread.join(max(0.0, deadline - time.monotonic()))
            if not answer:
                silent[name] = f"repository {name} did not answer in {PROBE_SECONDS_MAX:.0f} s"
            elif answer[0]:
                silent[name] = answer[0]
        return silent

    def _probe(self, name: str, answer: list[str]) -> None:
        try:
            self.open_repository(name, timeout_seconds_max=PROBE_SECONDS_MAX).ask_remote()
        except AdvisorError as error:
            answer.append(str(error))
        else:
            answer.append("")

    def _carry_on(self, stored: StoredProposal) -> Recovered:
        proposal = stored.proposal
        try:
            if stored.state is State.UNCERTAIN:
                return self._look(proposal)
            notes = self.repository(proposal.repository.name).tidy()
            change = self._resume(proposal, wait_seconds=0).change
        except InHand as living:
            return _left(proposal, str(living))
        except AdvisorError as error:
            return self._refused(proposal, error)
        commit = change.commit[:12] if change is not None else "its commit"
        if self.store.state_of(proposal.id) is State.AWAITING_MERGE:
            return Recovered(proposal.id, Ending.WAITING, f"proposal {proposal.id}: {commit} waits to be merged")
        told = (
            "was merged" if stored.state is State.AWAITING_MERGE else "its delivery was left in the middle and is done"
        )
        line = "; ".join([f"proposal {proposal.id}: {told}", f"{commit} is on {proposal.branch}", *notes])
        return Recovered(proposal.id, Ending.DELIVERED, line)

    def _look(self, proposal: Proposal) -> Recovered:
        """Say where an uncertain delivery stands, and change nothing: the next step is a person's."""
        change = self.store.change_of(proposal.id)
        if change is None:  # an intent is never taken away; this is for the type checker and for -O
            return _left(proposal, "its delivery is not on record; run `advisor audit verify`")
        found = self.repository(proposal.repository.name).is_delivered(change.commit)
        where = {True: "is on", False: "is not on", None: "may or may not be on"}[found]
        return Recovered(
            proposal.id,
            Ending.UNCERTAIN,
            f"proposal {proposal.id} is uncertain: {change.commit[:12]} {where} {proposal.branch};"
            f" a person settles it with `advisor approve {proposal.id}`",
        )

    def _refused(self, proposal: Proposal, error: AdvisorError) -> Recovered:
        # Whatever was said, where it stands now is on record: another process may have been first.
        state = self.store.state_of(proposal.id)
        if state in ON_BRANCH or state in (State.ROLLING_BACK, State.ROLLED_BACK):
            return Recovered(proposal.id, Ending.DELIVERED, f"proposal {proposal.id}: another process carried it on")
        if isinstance(error, ApprovalExpired) and state is State.EXPIRED:
            return Recovered(proposal.id, Ending.EXPIRED, str(error))
        if isinstance(error, ChangeUncertain):
            return Recovered(proposal.id, Ending.UNCERTAIN, str(error))
        if state in PENDING:
            return _left(proposal, str(error))
        return Recovered(proposal.id, Ending.SETTLED, str(error))

    def recovery_leaves(self, subject: str) -> Callable[[Proposal], bool]:
        """Return which items a command about this proposal or change carries on itself."""
        return lambda proposal: (
            proposal.id.startswith(subject)
            or (proposal.rolls_back is not None and proposal.rolls_back.startswith(subject))
        )


def _left(proposal: Proposal, why: str) -> Recovered:
    return Recovered(proposal.id, Ending.LEFT, f"proposal {proposal.id} is left as it is: {why}")
