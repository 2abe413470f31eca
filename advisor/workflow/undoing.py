"""What is kept of each change beside the records, and finding a change again when the records are lost.

Before a change begins its undo data goes into the journal; where that cannot be written the change does not begin. A change
is looked for in the records first, then in the journal, then in the history of the configured repositories. One that is
known without the records is taken back through the same gate; its approval is recorded in the store if that can be
written, else in a store of its own beside the journal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.adapters.undo_journal import UndoJournal
from advisor.approval import Approval
from advisor.change import Change, Outcome
from advisor.errors import (
    AdvisorError,
    AuditError,
    RecordUnknown,
    SettingsInvalid,
    SourceMalformed,
    StoreError,
    one_line,
)
from advisor.lifecycle import State
from advisor.proposal import Proposal, RepositoryName
from advisor.rollback.undo import (
    Recovered,
    UndoOutcome,
    from_commit,
    from_entry,
    is_named,
    is_sealed,
    pack_object,
    seal_entry,
)
from advisor.workflow.deciding import Deciding

if TYPE_CHECKING:
    from advisor.adapters.git_repository import GitRepository
    from advisor.store import Store

UNDO_FOLDER = "undo"
RECOVERY_STORE = "recovery.db"
_ON_BRANCH_WORDS = (Outcome.DELIVERED.value, "")  # no word: the process ended before it; the branch says


@dataclass(frozen=True)
class Known:
    """A change, and where it is known from: the records, or what was found without them."""

    change: Change
    recovered: Recovered | None = None

    @property
    def source(self) -> str:
        """Return where it is known from, in one word."""
        return self.recovered.source if self.recovered is not None else "records"


class LostRecords:
    """Where a rollback is recorded whose change is not on record: as a proposal, its answer and its delivery."""

    def __init__(self, stores: Iterable[Callable[[], Store]]) -> None:
        """Keep how to open the stores, in the order in which they are tried; the first that can be written is used."""
        self._openers = tuple(stores)
        self._store: Store | None = None

    def begin_rollback(self, change: Change, proposal: Proposal, approval: Approval) -> None:
        """Record proposal and approval; the change itself has no record that could be moved on."""
        failure: AdvisorError = StoreError(f"rollback of {change.id}: there is no store to record it in")
        for opener in self._openers:
            try:
                store = opener()
                store.save_proposal(proposal)
                store.record_answer(approval, 1)
            except (StoreError, AuditError) as error:
                failure = error
                continue
            self._store = store
            return
        raise failure

    @property
    def _begun(self) -> Store:
        if self._store is None:  # the order of `roll_back`; this is for -O
            raise StoreError("a rollback goes on that was never begun")
        return self._store

    def begin_delivery(self, change: Change, at: datetime) -> None:
        """See `Store.begin_delivery`."""
        self._begun.begin_delivery(change, at)

    def resume_delivery(self, change: Change, at: datetime) -> None:
        """See `Store.resume_delivery`."""
        self._begun.resume_delivery(change, at)

    def begin_merge(self, change: Change, at: datetime) -> None:
        """See `Store.begin_merge`."""
        self._begun.begin_merge(change, at)

    def stands(self, proposal_id: str) -> bool:
        """See `Store.stands`."""
        return self._begun.stands(proposal_id)

    def supersede(self, proposal_id: str, reason: str, at: datetime) -> object:
        """See `Store.supersede`."""
        return self._begun.supersede(proposal_id, reason, at)

    def record_outcome(self, change: Change, outcome: Outcome, reason: str, at: datetime) -> None:
        """See `Store.record_outcome`."""
        self._begun.record_outcome(change, outcome, reason, at)


class Undoing(Deciding):
    """Keep undo data, and find changes without the records."""

    @property
    def _undo_folder(self) -> Path:
        return self.state_directory / UNDO_FOLDER

    @cached_property
    def journal(self) -> UndoJournal:
        """Return the undo journal."""
        return UndoJournal(self._undo_folder)

    @cached_property
    def store(self) -> Store:
        """Return the opened store of records; each change that it lets begin is in the journal before."""
        return self._journalled(super().store)

    @cached_property
    def recovery_store(self) -> Store:
        """Return the store beside the journal: for rollbacks while the other one is lost."""
        from advisor.store import Store

        self._undo_folder.mkdir(mode=0o700, exist_ok=True)
        path = self._undo_folder / RECOVERY_STORE
        return self._journalled(Store.open(f"sqlite:///{path}", key=self.signing_key))

    def _journalled(self, store: Store) -> Store:
        before, after = store.before_intent, store.after_outcome

        def before_intent(change: Change, at: datetime) -> None:
            self._keep(store, change, at)
            before(change, at)

        def after_outcome(change: Change, at: datetime) -> None:
            with contextlib.suppress(AdvisorError):  # it is on record; the journal is for when that is lost
                state = store.state_of(change.proposal_id)
                self.journal.append(UndoOutcome(change_id=change.id, outcome=state.value, at=at))
            after(change, at)

        store.before_intent, store.after_outcome = before_intent, after_outcome
        return store

    def _keep(self, store: Store, change: Change, at: datetime) -> None:
        repository = self.repository(change.repository.name)
        objects = [pack_object(*each) for each in repository.undo_objects(change.base, change.tree)]
        evidence = store.proposal(change.proposal_id).evidence_digest
        before = repository.tree_of(change.base)
        self.journal.append(seal_entry(change, before, objects, evidence, at, self.signing_key))

    def known_repository(self, change: Change) -> GitRepository:
        """Return the repository that a change stands in.

        Raises:
            SettingsInvalid: It is not configured any more.
        """
        name = change.repository.name
        if name not in self.settings.repositories:
            raise SettingsInvalid(
                f"change {change.id}: repository {one_line(name, 80)} is not in advisor.yaml any more; add it again"
            )
        return self.repository(name)

    def known_change(self, wanted: str) -> Known:
        """Return a change by its id, its commit or the beginning of one of them, from wherever it is known.

        Raises:
            RecordUnknown: From nowhere, or more than one is meant.
            StoreError: The records cannot be read, and it is known from nowhere else.
        """
        try:
            return Known(self.store.change(wanted))
        except (RecordUnknown, StoreError, AuditError) as error:
            found = self._recovered(wanted) if wanted else []
            if not found:
                raise
            if len(found) > 1:
                names = ", ".join(each.change.id for each in found[:6])
                raise RecordUnknown(
                    f"change {one_line(wanted, 80)!r} is not unique: {names}; write more of it"
                ) from error
            return Known(found[0].change, found[0])

    def _recovered(self, wanted: str) -> list[Recovered]:
        """Return what the journal, or else the history, knows of a change.

        Raises:
            SourceMalformed: The journal alone knows of it, and the entry is not signed by this server's key.
        """
        kept = {each.change.id: each for each in self._from_journal(wanted) if is_named(each.change, wanted)}
        if trusted := [each for each in kept.values() if each.trusted]:
            return trusted
        made = {each.change.id: each for each in self._from_history() if is_named(each.change, wanted)}
        if made or not kept:
            return list(made.values())
        raise SourceMalformed(
            f"change {next(iter(kept))}: its entry in {self.journal.path} is not signed by this server's key, and no"
            " commit of it is in the history; it is not used"
        )

    def _from_journal(self, naming: str = "") -> Iterator[Recovered]:
        for entry in self.journal.entries(naming):
            yield from_entry(entry, self.signing_key)

    def _from_history(self) -> Iterator[Recovered]:
        for name, configured in self.settings.repositories.items():
            with contextlib.suppress(AdvisorError):  # one remote that is gone must not hide the others
                repository = self.repository(name)
                repository.head()
                place = RepositoryName(name=name, url=repository.shown_url)
                for made in repository.our_commits():
                    at = datetime.fromtimestamp(made.committed, self.clock().tzinfo)
                    found = from_commit(made.id, made.parents, made.tree, at, made.message, place, configured.branch)
                    if found is not None:
                        yield found

    def _entry_of(self, change: Change) -> Recovered | None:
        """Return the newest entry of the journal about exactly this change, signed by our key."""
        found = None
        for entry in self.journal.entries(change.id):
            if entry.change == change and is_sealed(entry, self.signing_key):
                found = from_entry(entry, self.signing_key)
        return found

    def _standing_without_records(self) -> list[Recovered]:
        """Return the changes that stand by what the journal, or else the history, says, the newest first."""
        outcomes = self.journal.outcomes()
        found = {
            each.change.id: each
            for each in self._from_journal()
            if each.trusted and outcomes.get(each.change.id, "") in (*_ON_BRANCH_WORDS, *_verdicts())
        }
        for each in () if found else self._from_history():
            found.setdefault(each.change.id, each)
        newest = sorted(found.values(), key=lambda each: each.change.at, reverse=True)
        taken_back: set[str] = set()
        for each in newest:  # a rollback counts unless it was taken back itself
            if each.change.rolls_back is not None and each.change.id not in taken_back:
                taken_back.add(each.change.rolls_back)
        return [each for each in newest if each.change.id not in taken_back]

    def _lost_records(self) -> LostRecords:
        """Return where a rollback without records is kept: in the store, or beside the journal where that one is lost.

        A store that holds other changes and refuses to write is not lost: what it refuses is refused.
        """
        return LostRecords(
            (lambda: self.store, lambda: self.recovery_store) if self._store_is_lost() else (lambda: self.store,)
        )

    def _store_is_lost(self) -> bool:
        try:
            return not self.store.list_changes(limit=1)
        except (StoreError, AuditError):
            return True


def _verdicts() -> tuple[str, ...]:
    return tuple(state.value for state in (State.PASSED, State.FAILED, State.INCONCLUSIVE, State.ERROR))
