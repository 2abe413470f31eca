"""What a change is, on record: the commit, the way it takes, and what became of it.

Values only. `deliver` and `reconcile` make them, the store keeps them, every later stage reads them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from advisor.proposal import RepositoryName
from advisor.values import Instant, Record

OFFER_PREFIX = "advisor/"  # of every branch that is ours; no other branch than the main one is ever written


class ChangeKind(StrEnum):
    """Whether a change is a remedy or takes one back."""

    CHANGE = "change"
    ROLLBACK = "rollback"


class Delivery(StrEnum):
    """How an approved commit reaches the main branch.

    `PUSH`: we put it there. `BRANCH`: we put it on a branch of its own and a person merges it. `PULL_REQUEST`: the
    same, with a pull request for that branch.
    """

    PUSH = "push"
    BRANCH = "branch"
    PULL_REQUEST = "pull_request"


class Change(Record):
    """One commit of ours on, or on its way to, the branch of a configuration repository.

    Attributes:
        id: Derived from proposal and commit, so that a repeat is the same record.
        digest: Of the proposal.
        base: Its parent.
        at: When its delivery began.
        approvers: In the order of their answers.
        rolls_back: The change that this one takes back.
        break_glass: Why one person alone made it in an emergency; empty for all others.
        delivery: The way it was begun with; settings that change later do not change it.
    """

    id: str
    proposal_id: str
    incident_id: str
    service: str
    repository: RepositoryName
    branch: str
    digest: str
    commit: str
    base: str
    tree: str
    at: Instant
    approvers: tuple[str, ...]
    kind: ChangeKind = ChangeKind.CHANGE
    rolls_back: str | None = None
    break_glass: str = ""
    delivery: Delivery = Delivery.PUSH

    @property
    def offered_as(self) -> str:
        """Return the branch that it is offered on, if it is not pushed."""
        return OFFER_PREFIX + self.proposal_id


class CommitPlan(Record):
    """All that determines the id of a commit; a signature is determined by the key as well."""

    tree: str
    parent: str
    message: str
    author_name: str
    author_email: str
    at: Instant
    signed: bool = False


class Outcome(StrEnum):
    """How a delivery ended, or where it stands for now.

    `OPENED`: on a branch of its own, waiting to be merged. `MERGED`, `CLOSED`: what people made of that.
    """

    DELIVERED = "delivered"
    OPENED = "opened"
    MERGED = "merged"
    CLOSED = "closed"
    CONFLICT = "conflict"
    REFUSED = "refused"
    EXPIRED = "expired"
    UNCERTAIN = "uncertain"


class Landing(Record):
    """The commit with which an offered change came onto the main branch: ours, a merge of it, or a squashed copy."""

    commit: str
    at: Instant


class PullRequest(Record):
    """A pull request (GitLab: merge request) as the forge tells it.

    Attributes:
        url: Where a person finds it.
        head: The commit that it would merge.
        merged_as: The commit that the forge says it became; None if it does not say.
    """

    number: int
    url: str
    state: Literal["open", "merged", "closed"]
    head: str
    merged_as: str | None = None


class Review(Record):
    """The last word of one reviewer on a pull request.

    Attributes:
        login: Of the forge.
        commit: The commit that was reviewed.
    """

    login: str
    commit: str
    approves: bool
