"""A change: the approved bytes onto the approved base, exactly once.

The commit is a function of proposal and grant: same tree, same parent, same message, same time (that of the
deciding approval), so a repeat after a crash makes the same commit id and finds the first one already
there. The intent is on record before anything is written and the outcome after it. `reconcile` finishes what a
crash left in the middle.

How the commit gets onto the main branch is the route's business: `pushing` puts it there by compare-and-swap,
`offering` puts it on a branch of its own, with a pull request if wanted, and holds what was merged against what was
approved. `checks` says what must hold first, `words` how it is told to people.

Nothing is decided here: a `Grant` is the only key. No clock and no client; the repository, the records and the forge
are reached through the protocols in `ports`.
"""

from __future__ import annotations

from datetime import datetime

from advisor.approval import Grant
from advisor.change.checks import check_bytes, check_grant, check_order
from advisor.change.making import change_id_of, make_change, make_offered_commit
from advisor.change.offering import look, offer, offer_for_review
from advisor.change.ports import (
    PUSH_ROUTE,
    DeliveryRecords,
    DeliveryTarget,
    Forge,
    OfferTarget,
    Route,
    SigningTarget,
)
from advisor.change.pushing import PUSH_SECONDS_MAX, push, reconcile_push
from advisor.change.records import (
    OFFER_PREFIX,
    Change,
    ChangeKind,
    CommitPlan,
    Delivery,
    Landing,
    Outcome,
    PullRequest,
    Review,
)
from advisor.change.words import (
    SUBJECT_CHARACTERS_MAX,
    moved,
    next_command,
    prepare_commit,
    prepare_offer,
    pull_request_body,
    pull_request_title,
)
from advisor.errors import ChangeConflict
from advisor.proposal import Proposal

__all__ = [
    "OFFER_PREFIX",
    "PUSH_ROUTE",
    "PUSH_SECONDS_MAX",
    "SUBJECT_CHARACTERS_MAX",
    "Change",
    "ChangeKind",
    "CommitPlan",
    "Delivery",
    "DeliveryRecords",
    "DeliveryTarget",
    "Forge",
    "Landing",
    "OfferTarget",
    "Outcome",
    "PullRequest",
    "Review",
    "Route",
    "SigningTarget",
    "change_id_of",
    "check_bytes",
    "check_grant",
    "check_order",
    "deliver",
    "make_offered_commit",
    "moved",
    "next_command",
    "offer_for_review",
    "prepare_commit",
    "prepare_offer",
    "pull_request_body",
    "pull_request_title",
    "reconcile",
]


def deliver(
    repository: DeliveryTarget,
    records: DeliveryRecords,
    proposal: Proposal,
    grant: Grant,
    now: datetime,
    route: Route = PUSH_ROUTE,
) -> Change:
    """Return the change after its commit stands on the branch, or waits there to be merged if that is the route.

    Raises:
        NotPermitted: The grant does not cover these bytes, ran out, or was used; nothing was written.
        ChangeConflict: The branch moved on; nothing was written.
        ChangeRefused: The remote refused, or something else has to stand first; nothing was written.
        ChangeUncertain: It cannot be told; a person must look (`reconcile`).
        ChangeError: The remote was not reached (``retriable``); `reconcile` tries the same commit again.
        AuditUnavailable: The intent cannot be recorded; nothing was written.
    """
    check_grant(proposal, grant, now)
    check_bytes(repository, proposal)
    check_order(records, proposal)
    head = repository.head()
    if head != proposal.base:
        reason = moved(proposal.branch, proposal.base, head)
        records.supersede(proposal.id, reason, now)
        raise ChangeConflict(f"proposal {proposal.id}: {reason}; nothing was written; {next_command(proposal)}")
    change = make_change(repository, proposal, grant, now, route)
    records.begin_delivery(change, now)
    if change.delivery is Delivery.PUSH:
        return push(repository, records, proposal, change, now)
    return offer(repository, records, proposal, change, route, now)


def reconcile(
    repository: DeliveryTarget,
    records: DeliveryRecords,
    proposal: Proposal,
    change: Change,
    grant: Grant | None,
    now: datetime,
    route: Route = PUSH_ROUTE,
    opened: bool = False,
) -> Change:
    """Return the change after settling a delivery whose outcome is not on record yet.

    The remote is asked first. Only if it certainly lacks the commit, still stands on the approved base and
    the grant still holds, the same commit is pushed again: a push that is under way can only make the very
    same one.

    Args:
        repository: Where to look.
        records: Where the outcome goes.
        proposal: As recorded.
        change: As recorded when its delivery began.
        grant: Made afresh from the recorded approvals; None if it no longer holds.
        now: Of the server.
        route: Of the change's own delivery.
        opened: It is on record that it waits to be merged. Such a change is returned as it is while nobody has
            merged it.

    Raises:
        ChangeConflict: The branch moved on without it, or something else was merged; that is now on record.
        ChangeRefused: It was closed unmerged; that is now on record.
        ApprovalExpired: It was not written in time; that is now on record.
        IllegalTransition: No delivery of it is under way.
        ChangeUncertain: It still cannot be told; the state is unchanged.
    """
    if change.delivery is Delivery.PUSH:
        return reconcile_push(repository, records, proposal, change, grant, now, route)
    return look(repository, records, proposal, change, grant, now, route, opened)
