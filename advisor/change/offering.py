"""A change that is offered: its commit on a branch of its own, merged by people or by us, and held to what was approved.

The main branch is never pushed here. The commit goes onto ``advisor/PROPOSAL``, which must not exist or be at this very
commit; a pull request is searched by that branch before one is opened, so a crash in between leads to one. What
stands on the main branch afterwards counts as this change only if its tree is the approved tree, byte for byte:
merging over a base that moved gives other bytes than anybody approved, so an offer whose base moved is closed.

Called by `deliver` and `reconcile`, and by the workflow for reviews that come before the approval.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NoReturn, cast

from advisor.approval import Grant, check_alive
from advisor.change.checks import check_bytes, check_deliverable
from advisor.change.making import make_offered_commit
from advisor.change.ports import DeliveryRecords, DeliveryTarget, OfferTarget, Route
from advisor.change.pushing import PUSH_SECONDS_MAX, check_again
from advisor.change.records import OFFER_PREFIX, Change, Landing, Outcome, PullRequest
from advisor.change.words import moved, next_command, pull_request_body, pull_request_title
from advisor.errors import (
    AdvisorError,
    ApprovalExpired,
    ApprovalMismatch,
    ChangeConflict,
    ChangeError,
    ChangeRefused,
    ChangeUncertain,
    SourceError,
    SourceRefused,
)
from advisor.proposal import Proposal
from advisor.values import format_instant


def offer(
    repository: DeliveryTarget,
    records: DeliveryRecords,
    proposal: Proposal,
    change: Change,
    route: Route,
    now: datetime,
) -> Change:
    """Return the change after its commit waits to be merged, or is merged where that is ours to do.

    Raises:
        ChangeConflict: Its branch is there with another commit; that is on record.
        ChangeRefused: The remote said no; that is on record.
        ChangeError: Not told, or not reached; it stays under way, and `look` carries it on (``retriable``).
    """
    target = cast(OfferTarget, repository)
    try:
        target.push_branch(change.commit, change.offered_as)
        request = _requested(route, proposal, change.commit, change.approvers)
    except ChangeConflict as error:
        _end(records, change, Outcome.CONFLICT, ChangeConflict(_told(proposal, change, error)), now)
    except ChangeRefused as error:
        _end(records, change, Outcome.REFUSED, error, now)
    except SourceError as error:
        raise _again(proposal, f"{change.offered_as} is pushed, its pull request is not open: {error}") from error
    if request is not None and request.state != "open":
        return look(repository, records, proposal, change, None, now, route, opened=True)
    records.record_outcome(change, Outcome.OPENED, _waiting(change, request), now)
    if route.merges and request is not None:
        return _merge(target, records, proposal, change, route, request, now)
    return change


def look(
    repository: DeliveryTarget,
    records: DeliveryRecords,
    proposal: Proposal,
    change: Change,
    grant: Grant | None,
    now: datetime,
    route: Route,
    opened: bool,
) -> Change:
    """See `advisor.change.reconcile`."""
    target = cast(OfferTarget, repository)
    if (landing := target.find_landing(change.base, change.tree)) is not None:
        return _landed(records, change, landing, now)
    request = _find(route, change.offered_as, change.branch)
    _check_not_otherwise(target, records, proposal, change, request, now)
    head = target.head()
    if head != change.base:
        if (landing := target.find_landing(change.base, change.tree)) is not None:  # between the two questions
            return _landed(records, change, landing, now)
        _close(route, request)
        reason = f"{moved(change.branch, change.base, head)} before it was merged, so merging it would give other bytes"
        words = f"change {change.id}: {reason}; it is closed, {change.branch} was not touched; {next_command(proposal)}"
        _end(records, change, Outcome.CONFLICT, ChangeConflict(words), now)
    if request is not None and request.state == "closed":
        _refused(records, proposal, change, f"{request.url} was closed unmerged", now)
    at = target.branch_at(change.offered_as)
    head_now = request.head if request is not None else at
    if at not in (None, change.commit) or head_now not in (None, change.commit):
        _close(route, request)
        words = (
            f"change {change.id}: somebody put {str(head_now or at)[:12]} on {change.offered_as}, which was approved"
        )
        words += f" at {change.commit[:12]}; it is closed, {change.branch} was not touched; {next_command(proposal)}"
        _end(records, change, Outcome.CONFLICT, ChangeConflict(words), now)
    if opened and at is None:
        _close(route, request)
        _refused(records, proposal, change, f"its branch {change.offered_as} was deleted unmerged", now)
    if opened and now >= change.at + route.merge_within:
        _close(route, request)
        words = f"change {change.id}: nobody merged it since {format_instant(change.at)}; it is closed,"
        words += f" {change.branch} was not touched; {next_command(proposal)}"
        _end(records, change, Outcome.EXPIRED, ApprovalExpired(words), now)
    lives = grant is not None and now < proposal.expires_at
    if grant is None or not lives:
        if opened or (at == change.commit and (request is not None or route.forge is None)):
            records.record_outcome(change, Outcome.OPENED, _waiting(change, request), now)
            return change  # people may still merge what they approved
        if now < change.at + timedelta(seconds=PUSH_SECONDS_MAX):
            raise ChangeUncertain(f"change {change.id}: it may still be under way; look again in two minutes")
        words = f"change {change.id}: its approval ran out before it was offered; {change.branch} was not touched;"
        _end(records, change, Outcome.EXPIRED, ApprovalExpired(f"{words} {next_command(proposal)}"), now)
    if opened and not route.merges:
        return change
    check_again(repository, proposal, change, grant, now, route)
    if opened and request is not None:
        return _merge(target, records, proposal, change, route, request, now)
    records.resume_delivery(change, now)
    return offer(repository, records, proposal, change, route, now)


def offer_for_review(repository: DeliveryTarget, proposal: Proposal, route: Route, now: datetime) -> PullRequest:
    """Return the open pull request of a proposal that nobody approved yet; a repeat finds the first one.

    Only ``advisor/PROPOSAL`` is written. The commit is a function of the proposal alone.

    Raises:
        ApprovalExpired: The proposal ran out.
        ChangeConflict: The main branch, or the proposal's own, is elsewhere.
        ChangeRefused: There is nothing to write, it was closed unmerged, or the remote said no.
        ChangeError: Not told, or not reached; the same call is safe (``retriable``).
    """
    check_alive(proposal, now)
    check_deliverable(proposal)
    check_bytes(repository, proposal)
    target = cast(OfferTarget, repository)
    if (head := target.head()) != proposal.base:
        reason = moved(proposal.branch, proposal.base, head)
        raise ChangeConflict(f"proposal {proposal.id}: {reason}; nothing was written; {next_command(proposal)}")
    commit = make_offered_commit(repository, proposal, route)
    target.push_branch(commit, OFFER_PREFIX + proposal.id)
    try:
        request = _requested(route, proposal, commit, ())
    except SourceError as error:
        raise _again(proposal, f"its branch is pushed, its pull request is not open: {error}") from error
    if request is None or request.state != "open":
        told = "no forge is configured" if request is None else f"{request.url} is {request.state}"
        raise ChangeRefused(f"proposal {proposal.id}: it cannot be reviewed: {told}; {next_command(proposal)}")
    return request


def _requested(route: Route, proposal: Proposal, commit: str, approvers: tuple[str, ...]) -> PullRequest | None:
    if route.forge is None:
        return None
    name = OFFER_PREFIX + proposal.id
    request = route.forge.find(name, proposal.branch)
    if request is None:
        title = pull_request_title(proposal)
        body = pull_request_body(proposal, commit, approvers, route.merges)
        try:
            request = route.forge.open(name, proposal.branch, title, body)
        except SourceError as error:
            request = _find(route, name, proposal.branch)  # it may have been opened all the same
            if request is None and isinstance(error, SourceRefused):
                raise ChangeRefused(
                    f"no pull request was opened for {name}, {proposal.branch} was not touched: {error}"
                ) from error
            if request is None:
                raise
    if request.head != commit:
        raise ChangeConflict(
            f"{request.url} is at {request.head[:12]}, not at {commit[:12]}: somebody pushed to {name}"
        )
    return request


def _merge(
    target: OfferTarget,
    records: DeliveryRecords,
    proposal: Proposal,
    change: Change,
    route: Route,
    request: PullRequest,
    now: datetime,
) -> Change:
    if route.forge is None:  # for the type checker and for -O: without a forge nothing of ours merges
        return change
    records.begin_merge(change, now)
    said = ""
    try:
        route.forge.merge(request.number, change.commit)
    except SourceError as error:
        said = str(error)
    try:
        after = _find(route, change.offered_as, change.branch)
        if after is not None and after.state == "open" and said:
            raise _again(proposal, f"{request.url} was not merged: {said}; it stays open")
        landing = target.find_landing(change.base, change.tree)
        if landing is None:
            _check_not_otherwise(target, records, proposal, change, after, now)
            raise ChangeUncertain(f"{request.url} was merged, but nothing on {change.branch} shows it")
    except ChangeUncertain as error:
        _end(records, change, Outcome.UNCERTAIN, error, now)
    except SourceError as error:
        words = f"change {change.id}: {said or 'merged'}; whether {change.branch} has it cannot be told: {error}"
        _end(records, change, Outcome.UNCERTAIN, ChangeUncertain(words), now)
    return _landed(records, change, landing, now)


def _check_not_otherwise(
    target: OfferTarget,
    records: DeliveryRecords,
    proposal: Proposal,
    change: Change,
    request: PullRequest | None,
    now: datetime,
) -> None:
    """Refuse what came onto the main branch with another tree than the approved one."""
    contained = target.is_delivered(change.commit)
    if contained is None:
        raise ChangeUncertain(f"change {change.id}: whether {change.commit[:12]} is on {change.branch} cannot be told")
    merged_as = change.commit if contained else None
    if not contained and request is not None and request.state == "merged":
        merged_as = request.merged_as or "another commit"
        known = len(merged_as) == len(change.commit)
        if not known or not target.is_delivered(merged_as):
            raise ChangeUncertain(
                f"change {change.id}: {request.url} says it was merged as {merged_as[:12]}, which is not on"
                f" {change.branch}; look there before anything else"
            )
    if merged_as is None:
        return
    words = (
        f"change {change.id}: merged as {merged_as[:12]}, but no commit of {change.branch} has the approved tree"
        f" {change.tree[:12]}: more than the approved bytes came with it; it does not count as this change."
        f" Look at {change.branch}, `git revert` it by hand if it is wrong; {next_command(proposal)}"
    )
    _end(records, change, Outcome.CONFLICT, ApprovalMismatch(words), now)


def _landed(records: DeliveryRecords, change: Change, landing: Landing, now: datetime) -> Change:
    told = f"merged as {landing.commit} at {format_instant(landing.at)} with the approved tree {change.tree}"
    records.record_outcome(change, Outcome.MERGED, told, now)
    return change


def _refused(records: DeliveryRecords, proposal: Proposal, change: Change, reason: str, now: datetime) -> NoReturn:
    words = f"change {change.id}: {reason}; {change.branch} was not touched; {next_command(proposal)}"
    _end(records, change, Outcome.CLOSED, ChangeRefused(words), now)


def _end(records: DeliveryRecords, change: Change, outcome: Outcome, error: AdvisorError, now: datetime) -> NoReturn:
    records.record_outcome(change, outcome, str(error), now)
    raise error


def _again(proposal: Proposal, words: str) -> ChangeError:
    failure = ChangeError(
        f"proposal {proposal.id}: {words}; {proposal.branch} was not touched; the same command carries on"
    )
    failure.retriable = True
    return failure


def _told(proposal: Proposal, change: Change, error: ChangeConflict) -> str:
    return f"change {change.id}: {error}; {change.branch} was not touched; {next_command(proposal)}"


def _waiting(change: Change, request: PullRequest | None) -> str:
    if request is not None:
        return f"{request.url} waits to be merged into {change.branch}"
    return (
        f"commit {change.commit[:12]} is on {change.offered_as}; a person merges it:"
        f" `git fetch && git push origin {change.commit}:{change.branch}`"
    )


def _find(route: Route, name: str, branch: str) -> PullRequest | None:
    return None if route.forge is None else route.forge.find(name, branch)


def _close(route: Route, request: PullRequest | None) -> None:
    """Close what must not be merged any more; what cannot be closed is told as it is when somebody looks again."""
    if route.forge is not None and request is not None and request.state == "open":
        route.forge.close(request.number)
