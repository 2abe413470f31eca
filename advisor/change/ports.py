"""What a delivery needs of the world: the repository, the records, and for pull requests a forge.

The git adapter, the store and the forge adapters fulfil these protocols; tests have small fakes of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from advisor.change.records import Change, Delivery, Landing, Outcome, PullRequest, Review


class DeliveryTarget(Protocol):
    """A repository whose branch can be moved by exactly one commit."""

    def head(self) -> str:
        """Return the commit at the remote's branch, asked now."""
        ...

    def diff(self, before: str, after: str) -> bytes:
        """Return the whole patch between two commits or trees."""
        ...

    def commit_tree(
        self, tree: str, parent: str, message: str, author_name: str, author_email: str, at: datetime
    ) -> str:
        """Return the id of the commit; the same arguments give the same id. The branch is not touched."""
        ...

    def push(self, commit: str, expected_base: str) -> None:
        """Move the branch from the base to the commit; a repeat finds it done.

        Raises:
            ChangeConflict: The branch is elsewhere; nothing was written.
            ChangeRefused: The remote said no; nothing was written.
            ChangeUncertain: It cannot be told.
            ChangeError: Not reached, certainly not written; the same call is safe (``retriable``).
        """
        ...

    def is_delivered(self, commit: str) -> bool | None:
        """Return whether the branch contains the commit; None if that cannot be told."""
        ...


class OfferTarget(DeliveryTarget, Protocol):
    """A repository in which a commit can also be offered on a branch of its own."""

    def push_branch(self, commit: str, name: str) -> None:
        """Make a branch at the commit; one that is there at this commit already is left alone.

        Raises:
            ChangeConflict: The branch exists elsewhere; nothing was written.
            ChangeRefused: The remote said no; nothing was written.
            ChangeError: Not told, or not reached; the same call is safe (``retriable``).
        """
        ...

    def branch_at(self, name: str) -> str | None:
        """Return where a branch of the remote is, asked now; None if there is none."""
        ...

    def find_landing(self, base: str, tree: str) -> Landing | None:
        """Return the first commit on the main branch since the base that has exactly this tree."""
        ...


class SigningTarget(Protocol):
    """A repository that can sign the commit it makes."""

    def signed_commit(
        self, tree: str, parent: str, message: str, author_name: str, author_email: str, at: datetime
    ) -> str:
        """Return the id of the signed commit; the same arguments and the same key give the same id."""
        ...


class DeliveryRecords(Protocol):
    """Where intent and outcome are kept; each write is durable, and audited, when it returns."""

    def begin_delivery(self, change: Change, at: datetime) -> None:
        """Record the intent: the grant is used up by it.

        Raises:
            NotPermitted: No unused, unexpired grant of this digest is on record.
            AuditUnavailable: Nothing was recorded; nothing may be delivered.
        """
        ...

    def resume_delivery(self, change: Change, at: datetime) -> None:
        """Record that a delivery under way is pushed again.

        Raises:
            IllegalTransition: Its outcome is on record: pushing again would be a second change.
        """
        ...

    def begin_merge(self, change: Change, at: datetime) -> None:
        """Record the intent to merge what is offered.

        Raises:
            IllegalTransition: It is not waiting to be merged.
        """
        ...

    def stands(self, proposal_id: str) -> bool:
        """Return whether what a proposal became stands on its branch now."""
        ...

    def supersede(self, proposal_id: str, reason: str, at: datetime) -> object:
        """Record that a proposal can no longer be delivered as it is."""
        ...

    def record_outcome(self, change: Change, outcome: Outcome, reason: str, at: datetime) -> None:
        """Record how it ended."""
        ...


class Forge(Protocol):
    """One project of a server for pull requests.

    Everything raises `SourceError` classes: `SourceUnavailable` where the answer was lost or the same call may
    succeed later, `SourceRefused` where the server said no, `SourceMalformed` where it cannot be understood.
    """

    def find(self, head_branch: str, base_branch: str) -> PullRequest | None:
        """Return the pull request from one branch of the project to another; an open one before the newest other."""
        ...

    def open(self, head_branch: str, base_branch: str, title: str, body: str) -> PullRequest:
        """Open a pull request. Never repeated by itself: ask `find` after a failure."""
        ...

    def reviews(self, number: int) -> tuple[Review, ...]:
        """Return the last word of each reviewer."""
        ...

    def merge(self, number: int, commit: str) -> None:
        """Merge it if its head is exactly this commit. Never repeated by itself: ask `find` after a failure."""
        ...

    def close(self, number: int) -> None:
        """Close it unmerged; one that is closed already stays so."""
        ...


@dataclass(frozen=True)
class Route:
    """How the commits of one repository are delivered.

    Attributes:
        signed: Commits are signed with the repository's key.
        forge: Where pull requests are; None for `Delivery.BRANCH`.
        merges: We merge, as long as the approval lasts; otherwise people do.
        by_review: Approvals come as reviews of the pull request, so its commit is made before them.
        merge_within: How long an offer stays open.
    """

    delivery: Delivery = Delivery.PUSH
    signed: bool = False
    forge: Forge | None = None
    merges: bool = False
    by_review: bool = False
    merge_within: timedelta = timedelta(hours=24)


PUSH_ROUTE = Route()
