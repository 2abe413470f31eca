"""Approval by review: a proposal as a pull request, and its reviews as approvals.

Only where `forge.approval_by_review` is set. The commit is then written to ``advisor/PROPOSAL`` before anybody approved
it, which is what makes it reviewable; the main branch still moves only after the approvals are on record. A review
counts as the approval of the person that its login is mapped to, and only if it approves exactly our commit.
"""

from __future__ import annotations

from dataclasses import dataclass

from advisor.approval import Approval, Choice, people_needed
from advisor.change import OFFER_PREFIX, Delivery, PullRequest, Route, make_offered_commit, offer_for_review
from advisor.errors import ChangeRefused, NotPermitted, SettingsInvalid
from advisor.lifecycle import State
from advisor.proposal import Proposal
from advisor.workflow.deciding import Deciding
from advisor.workflow.delivering import Approved


@dataclass(frozen=True)
class Reviewed:
    """What the reviews of a proposal led to.

    Attributes:
        url: Of its pull request.
        approved: Where it stands.
        passed_over: Reviews that do not count, each with why.
    """

    url: str
    approved: Approved
    passed_over: tuple[str, ...]


class Reviewing(Deciding):
    """Offer for review, and take reviews as answers."""

    def offer_for_review(self, proposal_id: str, person: str) -> PullRequest:
        """Return the pull request in which a proposal is reviewed, opened if it is not there yet.

        Raises:
            SettingsInvalid: The repository is not set up for it.
            ChangeError: As `change.offer_for_review` says.
        """
        proposal = self.store.proposal(proposal_id)
        route = self._review_route(proposal)
        state = self.store.state_of(proposal.id)
        if state is not State.PROPOSED:
            raise ChangeRefused(
                f"proposal {proposal.id} is {state.value}; only one that waits for its answer is reviewed"
            )
        details = {"branch": OFFER_PREFIX + proposal.id, "digest": proposal.digest}
        self.store.record_note(self.clock(), person, "proposal.offer_for_review", proposal.id, details)
        repository = self.repository(proposal.repository.name)
        return offer_for_review(repository, proposal, route, self.clock())

    def take_reviews(self, proposal_id: str) -> Reviewed:
        """Record the reviews that approve exactly our commit as approvals; deliver once there are enough.

        Raises:
            SettingsInvalid: The repository is not set up for it.
            ChangeRefused: It was never offered for review.
            NotPermitted: It was answered, or ran out; nothing changed.
            SourceError: The forge cannot be asked.
        """
        proposal = self.store.proposal(proposal_id)
        route, rules = self._review_route(proposal), self.settings.repositories[proposal.repository.name].forge
        if route.forge is None or rules is None:  # `_review_route` refused that; this is for the type checker and -O
            raise SettingsInvalid(f"repositories.{proposal.repository.name}.forge is not configured")
        request = route.forge.find(OFFER_PREFIX + proposal.id, proposal.branch)
        if request is None:
            raise ChangeRefused(
                f"proposal {proposal.id} was not offered for review; `advisor review {proposal.id}` does"
            )
        self._check_base(proposal)
        commit = make_offered_commit(self.repository(proposal.repository.name), proposal, route)
        if request.head != commit or request.state != "open":
            raise ChangeRefused(
                f"proposal {proposal.id}: {request.url} is {request.state} at {request.head[:12]}, not open at"
                f" {commit[:12]}; its reviews are of something else and do not count"
            )
        passed_over: list[str] = []
        answered = {a.person for a in self.store.answers(proposal.id) if isinstance(a, Approval)}
        needed = people_needed(proposal, self.rules)
        approved = Approved(proposal, tuple(answered), needed, None)
        for review in route.forge.reviews(request.number):
            person = rules.people.get(review.login)
            if person is None or not review.approves or review.commit != commit:
                passed_over.append(f"{review.login}: {_why(person, review.approves)}")
                continue
            if person in answered or self.store.state_of(proposal.id) is not State.PROPOSED:
                continue
            comment = f"review of {request.url} at {commit}"
            try:
                decided = self._decide(proposal, self.answer(proposal, person, Choice.APPROVE, comment), None)
            except NotPermitted as refusal:
                passed_over.append(f"{review.login}: {refusal}")
                continue
            approved = self._record(proposal, decided, needed)
        return Reviewed(request.url, approved, tuple(passed_over))

    def _review_route(self, proposal: Proposal) -> Route:
        route = self.route(proposal)
        if route.delivery is not Delivery.PULL_REQUEST or not route.by_review:
            name = proposal.repository.name
            raise SettingsInvalid(f"repositories.{name}.forge.approval_by_review is not set; approve by command")
        return route


def _why(person: str | None, approves: bool) -> str:
    if person is None:
        return "nobody under forge.people"
    return "of another commit" if approves else "it does not approve"
