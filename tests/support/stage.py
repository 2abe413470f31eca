"""One approved proposal over a real git repository and a real store, ready to be delivered by any route."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from advisor.adapters.git_repository import GitRepository
from advisor.approval import Grant
from advisor.change import Change, Delivery, Route, deliver, reconcile
from advisor.lifecycle import State
from advisor.proposal import Proposal
from advisor.store import Store
from tests.support import gate

LATER = gate.NOW + timedelta(minutes=5)


@dataclass
class Stage:
    """What a delivery needs, and how it stands."""

    repository: GitRepository
    remote: Path
    store: Store
    proposal: Proposal
    grant: Grant
    route: Route

    @property
    def name(self) -> str:
        """Return the branch that it is offered on."""
        return f"advisor/{self.proposal.id}"

    @property
    def state(self) -> State:
        return self.store.state_of(self.proposal.id)

    @property
    def reason(self) -> str:
        return self.store.list_changes()[0].reason

    def deliver(self, now: datetime = LATER, records: Any = None) -> Change:
        return deliver(self.repository, records or self.store, self.proposal, self.grant, now, self.route)

    def look(self, now: datetime = LATER, grant: bool | None = True) -> Change:
        change = self.store.change_of(self.proposal.id)
        assert change is not None
        held = self.grant if grant else None
        opened = self.state is State.AWAITING_MERGE
        return reconcile(self.repository, self.store, self.proposal, change, held, now, self.route, opened)

    def on(self, **fields: Any) -> Stage:
        """Return the same with another route."""
        return replace(self, route=replace(self.route, **fields))

    def head(self, branch: str = "main") -> str:
        return gate.git(self.remote, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}").strip()

    def tree(self, commit: str = "main") -> str:
        return gate.git(self.remote, "rev-parse", f"{commit}^{{tree}}").strip()

    def merge(self, method: str = "merge") -> str:
        """Merge our branch as a person would, with git alone."""
        base, ours = self.head(), self.head(self.name)
        made = ours
        if method != "fast-forward":
            tree = gate.git(self.remote, "merge-tree", "--write-tree", base, ours).split("\n")[0]
            parents = ["-p", base, *(["-p", ours] if method == "merge" else [])]
            who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
            made = gate.git(self.remote, *who, "commit-tree", tree, *parents, "-m", "Merge it").strip()
        gate.git(self.remote, "update-ref", "refs/heads/main", made, base)
        return made


def staged(
    folder: Path,
    delivery: Delivery = Delivery.BRANCH,
    number: int = 1,
    repository: tuple[GitRepository, Path, str] | None = None,
    store: Store | None = None,
    answered: bool = True,
    **fields: Any,
) -> Stage:
    """Return a proposal that takes the session timeout back, granted and on record."""
    opened, remote, commit = repository or gate.real_with_cause(folder)
    proposal = gate.propose(opened, gate.revert_action(commit), number, **fields)
    granted = gate.granted(proposal)
    kept = store or Store.open("sqlite://", gate.KEY)
    kept.save_proposal(proposal)
    if answered:
        kept.record_answer(granted.approvals[0])
    return Stage(opened, remote, kept, proposal, granted, Route(delivery=delivery))
