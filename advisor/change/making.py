"""From proposal and grant to the one commit and the record of its change."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from advisor.approval import Grant
from advisor.change.ports import DeliveryTarget, Route, SigningTarget
from advisor.change.records import Change, ChangeKind, CommitPlan
from advisor.change.words import prepare_commit, prepare_offer
from advisor.proposal import Proposal
from advisor.values import digest


def change_id_of(proposal: Proposal, commit: str) -> str:
    """Return the id of the change that a proposal becomes as this commit."""
    return "chg-" + digest([proposal.id, proposal.digest, commit]).removeprefix("sha256:")[:12]


def make_change(repository: DeliveryTarget, proposal: Proposal, grant: Grant, at: datetime, route: Route) -> Change:
    """Return the change of a granted proposal; its commit is made, and is on no branch."""
    if route.by_review:
        commit = make_offered_commit(repository, proposal, route)
    else:
        commit = _make(repository, prepare_commit(proposal, grant, route.signed))
    return Change(
        id=change_id_of(proposal, commit),
        proposal_id=proposal.id,
        incident_id=proposal.incident_id,
        service=proposal.service,
        repository=proposal.repository,
        branch=proposal.branch,
        digest=proposal.digest,
        commit=commit,
        base=proposal.base,
        tree=proposal.tree,
        at=at.replace(microsecond=at.microsecond // 1000 * 1000),
        approvers=grant.people,
        break_glass=grant.broken_glass.comment if grant.broken_glass is not None else "",
        kind=ChangeKind.CHANGE if proposal.rolls_back is None else ChangeKind.ROLLBACK,
        rolls_back=proposal.rolls_back,
        delivery=route.delivery,
    )


def make_offered_commit(repository: DeliveryTarget, proposal: Proposal, route: Route) -> str:
    """Return the commit that is reviewed, before anybody approved it; it is on no branch."""
    return _make(repository, prepare_offer(proposal, route.signed))


def _make(repository: DeliveryTarget, plan: CommitPlan) -> str:
    if plan.signed:  # only a repository with a key is given such a route
        signing = cast(SigningTarget, repository)
        return signing.signed_commit(plan.tree, plan.parent, plan.message, plan.author_name, plan.author_email, plan.at)
    return repository.commit_tree(plan.tree, plan.parent, plan.message, plan.author_name, plan.author_email, plan.at)
