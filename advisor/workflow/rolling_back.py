"""Taking changes back: one, or all of an incident, with or without the records."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from advisor.approval import check_person
from advisor.change import Change, ChangeKind
from advisor.errors import AdvisorError, AuditError, ChangeConflict, RecordUnknown, SourceError, StoreError, one_line
from advisor.lifecycle import ON_BRANCH, State
from advisor.proposal import AUTHOR_EMAIL, AUTHOR_NAME
from advisor.redaction import redact
from advisor.values import Record, digest
from advisor.workflow.deciding import Sign
from advisor.workflow.files import fresh_id
from advisor.workflow.undoing import Known, Undoing

if TYPE_CHECKING:
    from advisor.adapters.git_repository import GitObject, GitRepository
    from advisor.proposal import Proposal
    from advisor.rollback import RollbackPlan, Step
    from advisor.rollback.several import SeveralDone, SeveralPlan
    from advisor.rollback.undo import Recovered

# A list says how things stand, it does not decide: what is planned is planned on the head of then. So the copy of some
# minutes ago will do, and a remote that is down is not waited for.
LIST_COPY_SECONDS_MAX = 300.0
LIST_PATIENCE_SECONDS = 5.0
LIST_CHANGES_MAX = 100
LOST = "lost"  # in place of a state: there are no records
_UNDER_WAY = (State.GRANTED, State.DELIVERING, State.UNCERTAIN, State.AWAITING_MERGE)


class Standing(Record):
    """A change that stands on its branch, and what taking it back would mean by what our copy knows.

    Attributes:
        state: Of the records; ``lost`` where there are none.
        outlook: ``exact``, ``kept`` (later edits elsewhere stay), ``collides``, ``done`` (the branch is without it
            already) or ``unknown``.
        told: Which files, or why it is not known.
        source: ``records``, ``journal`` or ``history``.
    """

    change: Change
    state: str
    outlook: Literal["exact", "kept", "collides", "done", "unknown"]
    told: str = ""
    source: str = "records"


class RollingBack(Undoing):
    """Plan and make rollbacks."""

    def finish_rollback(self, change_id: str, person: str) -> Change | None:
        """Carry on a rollback that was granted but has no recorded outcome, such as after a crash; None if there is none.

        Raises:
            NotPermitted: It ran out before it was written; that is now on record, and the change stands as before.
            ChangeError: As `change.reconcile` says.
        """
        known = self.known_change(change_id)
        for holder in self._holders(known):
            begun = holder._begun_rollback(known.change)
            if begun is not None:
                check_person(person, begun, self.rules)
                return holder._resume(begun).change
        return None

    def _begun_rollback(self, change: Change) -> Proposal | None:
        under_way = self.store.list_proposals(change.incident_id, _UNDER_WAY)
        return next((stored.proposal for stored in under_way if stored.proposal.rolls_back == change.id), None)

    def _holders(self, known: Known) -> list[RollingBack]:
        """Return over which stores a rollback may be under way: ours, and that of a time when ours was lost."""
        holders: list[RollingBack] = []
        if known.recovered is None or self._store_is_readable():
            holders.append(self)
        if known.recovered is not None and (self._undo_folder / "recovery.db").exists():
            other = RollingBack(self.settings, self.clock)
            other.store = self.recovery_store
            holders.append(other)
        return holders

    def _store_is_readable(self) -> bool:
        try:
            self.store.list_changes(limit=1)
        except (StoreError, AuditError):
            return False
        return True

    def plan_rollback(self, change_id: str) -> RollbackPlan:
        """Return exactly what taking a change back would write now."""
        known = self.known_change(change_id)
        return self._plan(known, self.known_repository(known.change).head())

    def _plan(self, known: Known, head: str) -> RollbackPlan:
        from advisor.rollback import plan_rollback
        from advisor.rollback.undo import check_scope

        change, recovered = known.change, known.recovered
        repository = self.known_repository(change)
        proposal = self.store.proposal(change.proposal_id) if recovered is None else None
        plan = plan_rollback(
            repository,
            change,
            head,
            proposal_id=fresh_id("pro"),
            nonce=secrets.token_hex(16),
            evidence_digest=proposal.evidence_digest if proposal is not None else _evidence_of(known),
            policy_version=self.settings.policy_version,
            now=self.clock(),
            verification=proposal.verification if proposal is not None else None,
            redact=redact,
            step=self._step_without_history(repository, known, head),
            ours=self._ours,
            warnings=(self._warning(recovered),) if recovered is not None else (),
        )
        if recovered is not None and not recovered.trusted:
            service = self.settings.services.get(change.service)
            where = service.configuration if service is not None else None
            allowed = where.paths if where is not None and where.repository == change.repository.name else ()
            check_scope(recovered, (*plan.restored, *plan.kept), allowed)
        return plan

    def _warning(self, recovered: Recovered) -> str:
        kept = f"approval and audit are kept in {self._undo_folder.name}/recovery.db if the store cannot be written"
        if recovered.source == "journal":
            return f"the records of this change are lost: it is taken back from the undo journal; {kept}"
        return f"the records of this change are lost: its commit says what it was, and nobody signed that; {kept}"

    def _step_without_history(self, repository: GitRepository, known: Known, head: str) -> Step | None:
        """Return the step from the undo journal where the branch's history does not have it any more."""
        from advisor.rollback import Step

        change = known.change
        lacking = _lacking(repository, change, head)
        if not lacking:
            return None
        kept = known.recovered if known.recovered is not None and known.recovered.objects else self._entry_of(change)
        if kept is not None:
            repository.add_objects([_unpacked(each.kind, each.id, each.content) for each in kept.objects])
        elif known.recovered is not None or not _has_trees(repository, change):
            return None  # the plan says what is missing
        before, after = repository.graft_step(kept.before if kept is not None else change.base, change.tree, head)
        return Step(before, after, f"{lacking}; its files are taken back by what was kept of it")

    def _ours(self) -> dict[str, str]:
        try:
            return {stored.change.commit: stored.change.id for stored in self.store.list_changes()}
        except (StoreError, AuditError):
            return {each.change.commit: each.change.id for each in self._standing_without_records()}

    def roll_back(
        self,
        change_id: str,
        person: str,
        comment: str = "",
        plan: RollbackPlan | None = None,
        sign: Sign | None = None,
        standing: str = "",
    ) -> Change:
        """Take a change back as a commit of its own; the person asking is the approver of exactly these bytes.

        Args:
            change_id: Of the change, or the beginning of it.
            person: Who asks; must be an approver.
            comment: Why.
            plan: What was shown; made anew by default.
            sign: Signs the statement with the person's own key; needed where one is configured.
            standing: Digest of the recorded approval that allowed exactly this in advance.
        """
        known = self.known_change(change_id)
        plan = plan or self._plan(known, self.known_repository(known.change).head())
        return self._make(known, plan, person, comment, sign, standing)

    def _make(
        self, known: Known, plan: RollbackPlan, person: str, comment: str, sign: Sign | None = None, standing: str = ""
    ) -> Change:
        from advisor.rollback import roll_back

        with self._in_hand(plan.proposal):
            return roll_back(
                self.known_repository(known.change),
                self.store if known.recovered is None else self._lost_records(),
                known.change,
                plan,
                person=person,
                rules=self.rules,
                policy_version=self.settings.policy_version,
                now=self.clock(),
                key=self.signing_key,
                comment=redact(comment),
                sign=sign,
                standing=standing,
                route=self.route(plan.proposal),
            )

    # --- all changes of an incident

    def plan_incident_rollback(self, incident_id: str) -> SeveralPlan:
        """Return what taking back every change of an incident that stands would write, the newest first.

        Raises:
            RecordUnknown: No change of it stands, or more than one incident is meant.
        """
        from advisor.rollback.several import plan_several

        known = self._standing_of(incident_id)
        heads: dict[str, str] = {}

        def plan_one(change: Change, standing_on: str | None) -> RollbackPlan:
            name = change.repository.name
            if standing_on is None and name not in heads:
                heads[name] = self.known_repository(change).head()
            return self._plan(known[change.id], standing_on or heads[name])

        changes = [each.change for each in known.values()]
        return plan_several(changes[0].incident_id, changes, plan_one, self._candidate_of)

    def _candidate_of(self, plan: RollbackPlan) -> str:
        proposal = plan.proposal
        return self.repository(proposal.repository.name).commit_tree(
            proposal.tree, proposal.base, f"Candidate of {proposal.id}", AUTHOR_NAME, AUTHOR_EMAIL, proposal.created_at
        )

    def roll_back_incident(
        self, plan: SeveralPlan, person: str, comment: str = "", sign: Sign | None = None
    ) -> SeveralDone:
        """Take back what was shown, one after the other.

        Raises:
            Stopped: One was refused on the way; those before it stand.
            ChangeConflict: One was refused when it was planned; nothing was written.
            NotPermitted: This person may not; nothing was written.
        """
        from advisor.rollback.several import carry_out

        known = self._standing_of(plan.incident_id)

        def plan_again(change: Change) -> RollbackPlan:
            if change.id not in known:
                raise ChangeConflict(f"change {change.id} does not stand any more; ask for it again")
            return self._plan(known[change.id], self.known_repository(change).head())

        def make(change: Change, again: RollbackPlan) -> Change:
            return self._make(known[change.id], again, person, comment, sign)

        for each in plan.plans:
            check_person(person, each.proposal, self.rules)
        return carry_out(plan, plan_again, make)

    def _standing_of(self, incident_id: str) -> dict[str, Known]:
        found = [
            (known, state)
            for known, state in self._standing()
            if incident_id and known.change.incident_id.startswith(incident_id)
        ]
        names = sorted({known.change.incident_id for known, _ in found})
        shown = one_line(incident_id, 80)
        if len(names) > 1:
            raise RecordUnknown(f"incident {shown!r} is not unique: {', '.join(names[:6])}; write more of it")
        remedies = {known.change.id: known for known, _ in found if known.change.kind is ChangeKind.CHANGE}
        if not remedies:
            raise RecordUnknown(f"no change of an incident whose id begins with {shown!r} stands on a branch")
        return remedies

    # --- what can be taken back

    def rollbacks(self) -> tuple[Standing, ...]:
        """Return the changes that stand, the newest first, with what taking each back would mean; nothing is written.

        Our copies of the repositories are asked; only one that is missing or older than some minutes is brought up to
        date, and not if its remote does not answer soon.
        """
        heads: dict[str, tuple[GitRepository, str] | str] = {}
        found = []
        for known, state in self._standing()[:LIST_CHANGES_MAX]:
            name = known.change.repository.name
            if name not in heads:
                heads[name] = self._head_for_list(name)
            found.append(self._outlook(known, state, heads[name]))
        return tuple(found)

    def _standing(self) -> list[tuple[Known, str]]:
        try:
            stored = self.store.list_changes()
        except (StoreError, AuditError):
            stored = ()
        if stored:
            return [(Known(each.change), each.state.value) for each in stored if each.state in ON_BRANCH]
        return [(Known(each.change, each), LOST) for each in self._standing_without_records()]

    def _head_for_list(self, name: str) -> tuple[GitRepository, str] | str:
        """Return a repository with its head, or why there is none."""
        if name not in self.settings.repositories:
            return f"repository {name} is not in advisor.yaml any more"
        quick = self.open_repository(name, timeout_seconds_max=LIST_PATIENCE_SECONDS)
        try:
            if (fresh := quick.copied_head(LIST_COPY_SECONDS_MAX)) is not None:
                return quick, fresh
            return quick, quick.head()
        except SourceError as error:
            try:
                if (old := quick.copied_head(math.inf)) is not None:
                    return quick, old
            except SourceError:
                pass
            return str(error)

    def _outlook(self, known: Known, state: str, place: tuple[GitRepository, str] | str) -> Standing:
        change = known.change
        if isinstance(place, str):
            return Standing(change=change, state=state, outlook="unknown", told=place, source=known.source)
        repository, head = place
        try:
            step = self._step_without_history(repository, known, head)
            before, after = (step.before, step.after) if step is not None else (change.base, change.tree)
            states = {path: each.value for path, each in repository.inverse_state(before, after, head).items()}
        except AdvisorError as error:
            return Standing(change=change, state=state, outlook="unknown", told=str(error), source=known.source)
        for outlook in ("collides", "kept", "exact"):
            paths = [path for path, each in states.items() if each == outlook]
            if paths:
                told = _names(paths)
                return Standing(change=change, state=state, outlook=outlook, told=told, source=known.source)
        return Standing(change=change, state=state, outlook="done", source=known.source)


def _lacking(repository: GitRepository, change: Change, head: str) -> str:
    """Return what the branch's history does not have of a change, in words; nothing if it is all there."""
    try:
        if not repository.is_ancestor(change.commit, head):
            return f"{change.commit[:12]} is no longer in the history of {change.branch}"
    except SourceError:
        return f"{change.commit[:12]} is no longer in the history of {change.branch}"
    try:
        repository.tree_of(change.base)
    except SourceError:
        return f"the history of {change.branch} is cut before {change.commit[:12]}"
    return ""


def _has_trees(repository: GitRepository, change: Change) -> bool:
    try:
        repository.tree_of(change.base)
        repository.tree_of(change.tree)
    except SourceError:
        return False
    return True


def _unpacked(kind: str, object_id: str, content: bytes) -> GitObject:
    from advisor.adapters.git_repository import GitObject

    return GitObject(kind, object_id, content)


def _evidence_of(known: Known) -> str:
    told = known.recovered.evidence_digest if known.recovered is not None else ""
    return told if told.startswith("sha256:") else digest(known.change)


def _names(paths: Sequence[str]) -> str:
    return ", ".join(one_line(path, 80) for path in paths[:3]) + (
        f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    )
