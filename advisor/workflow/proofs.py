"""Who approved what, to be checked by anybody on any machine: what a bundle carries of it, and the check.

Nothing here asks a store, a remote or the settings of this machine: the records come out of the bundle, are recomputed, and
are held against the history beside them and against people's own signatures. What only the server can know is said to be
so. Called by `recording` when a bundle is written, and by the command line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from advisor.approval import (
    Approval,
    Denial,
    Expiry,
    Method,
    Resolution,
    Rules,
    demand_of,
    is_signed,
    principal,
    same_person,
    statement_of_record,
)
from advisor.approval.ssh_keys import fingerprint_of, read_allowed_signers, read_signer
from advisor.bundle import Bundle
from advisor.change import Change
from advisor.errors import AdvisorError, NotPermitted, SettingsInvalid, one_line
from advisor.proposal import Proposal, digest_of
from advisor.settings import ApprovalRules
from advisor.values import Record, digest, format_instant
from advisor.workflow.checked_rules import checked

if TYPE_CHECKING:
    from advisor.adapters.git_repository import GitRepository
    from advisor.store import Store

SCHEMA = "advisor.proofs/v1"
SUBJECTS_MAX = 1000  # of one incident there are a handful; each answer costs one run of ssh-keygen
ANSWERS_MAX = 100
KEY_BYTES_MAX = 64 * 1024
_KINDS: dict[str, type[Approval | Denial | Expiry]] = {"approval": Approval, "denial": Denial, "expiry": Expiry}


class Verdict(StrEnum):
    """What came of one check."""

    VERIFIED = "verified"
    REFUSED = "refused"
    OPEN = "open"  # it cannot be told from what is here


class Line(Record):
    """One thing that was checked."""

    proposal: str
    what: str
    verdict: Verdict
    detail: str


class Proof(Record):
    """All that was checked of a bundle.

    Attributes:
        verified: At least one answer is there, each answer verifies, and nothing was refused.
        keys_from: Where the keys of people came from; only the reader knows whether that place can be trusted.
    """

    bundle: str
    verified: bool
    keys_from: str
    lines: tuple[Line, ...]


class Subject(Record):
    """What a bundle holds of one proposal."""

    proposal: Proposal
    state: str
    answers: tuple[Approval | Denial | Expiry, ...]
    change: Change | None = None


def proofs_of(store: Store, incident_id: str) -> dict[str, Any]:
    """Return what a bundle carries of the proposals of an incident, the answers to them and the changes they became."""
    subjects = []
    for stored in reversed(store.list_proposals(incident_id)):
        change = store.change_of(stored.proposal.id)
        subjects.append(
            {
                "proposal": stored.proposal.model_dump(mode="json"),
                "state": stored.state.value,
                "answers": [
                    {"kind": _kind(answer), "record": answer.model_dump(mode="json")}
                    for answer in store.answers(stored.proposal.id)
                ],
                "change": change.model_dump(mode="json") if change is not None else None,
            }
        )
    return {"schema": SCHEMA, "subjects": subjects}


def verify_bundle(path: Path, key_file: Path | None = None, signers_file: Path | None = None) -> Proof:
    """Return what can be verified of the approvals in a bundle, with nothing but the bundle.

    Args:
        path: A file that `export` wrote.
        key_file: The server's signing key, where the reader has it: only with it can answers that the server alone signed
            be verified.
        signers_file: Allowed signers from a place that the reader trusts, in place of the keys in the bundle.

    Raises:
        SettingsInvalid: A file cannot be read, or the bundle carries no proofs.
    """
    key = _read(key_file, "--key") if key_file is not None else None
    signers = None
    if signers_file is not None:
        text = _read(signers_file, "--allowed-signers", 1024 * 1024).decode("utf-8", "replace")
        found = read_allowed_signers(text, str(signers_file))
        signers = {_person(name, str(signers_file)): keys for name, keys in found.items()}
    bundle = Bundle.load(path)
    subjects = _subjects(bundle, path)
    rules = _rules(bundle)
    checks = _Checks(rules, key, signers)
    with tempfile.TemporaryDirectory(prefix="advisor-proof-") as folder:
        with _histories(bundle, Path(folder)) as histories:
            for subject in subjects:
                checks.check(subject, histories.get(subject.proposal.repository.name))
    answered = any(not isinstance(answer, Expiry) for subject in subjects for answer in subject.answers)
    if not answered:
        checks.note("", "answers", Verdict.REFUSED, "nobody has answered anything in this bundle")
    refused = any(line.verdict is Verdict.REFUSED for line in checks.lines)
    keys_from = str(signers_file) if signers_file is not None else "the bundle itself: compare the fingerprints"
    return Proof(
        bundle=str(path),
        verified=not refused and not checks.unproven,
        keys_from=keys_from,
        lines=tuple(checks.lines),
    )


class _Checks:
    """The checks of one bundle, and what each of them found."""

    def __init__(
        self, rules: ApprovalRules | None, key: bytes | None, signers: Mapping[str, tuple[str, ...]] | None
    ) -> None:
        self._rules, self._key, self._signers = rules, key, signers
        self.lines: list[Line] = []
        self.unproven = False  # an answer about which nothing can be told is no proof

    def note(self, proposal: str, what: str, verdict: Verdict, detail: str) -> None:
        """Keep one finding."""
        self.lines.append(Line(proposal=proposal, what=what, verdict=verdict, detail=one_line(detail)))

    def check(self, subject: Subject, history: GitRepository | None) -> None:
        """Check one proposal: its digest, its bytes, its answers, and what was written."""
        proposal = subject.proposal
        fits = digest_of(proposal) == proposal.digest
        seen = digest(proposal.diff.encode("utf-8", "surrogatepass")) == proposal.view_digest
        self.note(
            proposal.id,
            "digest",
            Verdict.VERIFIED if fits and seen else Verdict.REFUSED,
            f"{proposal.digest} recomputes from the record"
            if fits and seen
            else "the record does not have the digest it carries"
            if not fits
            else "the text that was shown is not the one that is bound",
        )
        if proposal.changes_something:
            self._check_bytes(proposal, history)
        proven = [answer for answer in subject.answers if self._check_answer(proposal, answer)]
        self._check_enough(subject, [answer for answer in proven if isinstance(answer, Approval)])
        if subject.change is not None:
            self._check_change(proposal, subject.change, history)

    def _check_bytes(self, proposal: Proposal, history: GitRepository | None) -> None:
        if history is None:
            return self.note(proposal.id, "bytes", Verdict.OPEN, "the bundle carries no history of its repository")
        for what, before, after, expected in (
            ("patch", proposal.base, proposal.tree, proposal.patch_digest),
            ("inverse", proposal.tree, proposal.inverse_tree, proposal.inverse_patch_digest),
        ):
            try:
                found = digest(history.diff(before, after))
            except AdvisorError:
                self.note(proposal.id, what, Verdict.OPEN, "its trees are not in the history of the bundle")
                continue
            if found == expected:
                self.note(proposal.id, what, Verdict.VERIFIED, "its bytes, from the history, are those of the digest")
            else:
                self.note(proposal.id, what, Verdict.REFUSED, "the history gives other bytes than those of the digest")
        return None

    def _check_answer(self, proposal: Proposal, answer: Resolution) -> bool:
        """Return whether an answer is shown to be that person's, to that digest, in its time."""
        if isinstance(answer, Expiry):
            self.note(proposal.id, "expiry", Verdict.OPEN, f"it ran out at {format_instant(answer.expired_at)}")
            return False
        verb = "denied" if isinstance(answer, Denial) else "broke the glass" if answer.break_glass else "approved"
        what = f"{answer.person} {verb} {answer.digest[:19]}… at {format_instant(answer.at)}"
        try:
            verdict, detail = self._judge(proposal, answer)
        except NotPermitted as refusal:
            verdict, detail = Verdict.REFUSED, str(refusal)
        self.note(proposal.id, what, verdict, detail)
        self.unproven = self.unproven or verdict is not Verdict.VERIFIED
        return verdict is Verdict.VERIFIED

    def _judge(self, proposal: Proposal, answer: Approval | Denial) -> tuple[Verdict, str]:
        if (answer.proposal_id, answer.digest) != (proposal.id, proposal.digest):
            return Verdict.REFUSED, "it is an answer to another proposal"
        if answer.policy_version != proposal.policy_version:
            return Verdict.REFUSED, "it was given under other rules than the proposal was made under"
        if not proposal.created_at <= answer.at < proposal.expires_at:
            return Verdict.REFUSED, "it lies outside the life of the proposal"
        if same_person(answer.person, proposal.proposer):
            return Verdict.REFUSED, "it is the proposer's own"
        if self._key is not None and not is_signed(answer, self._key):
            return (
                Verdict.REFUSED,
                "the server's signature does not fit: the record was changed, or this is another key",
            )
        if answer.method is Method.SSH:
            return self._judge_signature(proposal, answer)
        if self._must_sign(proposal, answer):
            return Verdict.REFUSED, "this person has an SSH key and the answer is not signed with it"
        if self._key is None:
            return Verdict.OPEN, "signed by the server alone: only with its key can it be verified (--key FILE)"
        return Verdict.VERIFIED, "signed by the server with this key; who was at the keyboard only the server knows"

    def _judge_signature(self, proposal: Proposal, answer: Approval | Denial) -> tuple[Verdict, str]:
        keys, where = self._keys_of(proposal, answer)
        rules = checked(self._rules or ApprovalRules())
        signer = rules.check_signature(
            answer.person, statement_of_record(answer), answer.ssh_signature, keys, answer.at
        )
        return Verdict.VERIFIED, f"signed with the SSH key {fingerprint_of(signer)}, {where}"

    def _keys_of(self, proposal: Proposal, answer: Approval | Denial) -> tuple[tuple[str, ...], str]:
        if self._signers is not None:
            return self._signers.get(answer.person, ()), "which the given file lists for this person"
        rules = self._rules_of(proposal)
        if rules is not None:
            return dict(rules.keys).get(answer.person, ()), "which the rules bound by the proposal list for this person"
        try:
            return (read_signer(answer.signer, "signer"),), "as it was recorded then; the rules have changed since"
        except SettingsInvalid:
            return (), ""

    def _must_sign(self, proposal: Proposal, answer: Approval | Denial) -> bool:
        if isinstance(answer, Approval) and answer.standing and proposal.rolls_back is not None:
            return False  # an automatic rollback stands on the approval that allowed it
        rules = self._rules_of(proposal)
        return answer.person in (self._signers or {}) or (rules is not None and answer.person in rules.keys)

    def _rules_of(self, proposal: Proposal) -> ApprovalRules | None:
        """Return the rules of the bundle if they are those that the proposal was bound to."""
        if self._rules is None or digest(self._rules.model_dump(mode="json")) != proposal.policy_version:
            return None
        return self._rules

    def _check_enough(self, subject: Subject, proven: Sequence[Approval]) -> None:
        proposal = subject.proposal
        if subject.change is None:
            return
        rules: Rules | None = self._rules_of(proposal)
        if rules is None:
            self.note(
                proposal.id,
                "rules",
                Verdict.OPEN,
                "the rules of then are not in the bundle: how many people were needed",
            )
            needed = 1
        else:
            needed = demand_of(rules, proposal).people
        people: list[str] = []
        for approval in proven:
            if not any(same_person(approval.person, other) for other in people):
                people.append(approval.person)
        enough = len(people) >= needed or any(a.break_glass for a in proven)
        told = f"{len(people)} of {needed} people are shown to have approved what was delivered"
        if enough:
            self.note(proposal.id, "people", Verdict.VERIFIED, told)
        elif self.unproven:
            self.note(proposal.id, "people", Verdict.OPEN, told)
        else:
            self.note(proposal.id, "people", Verdict.REFUSED, told)

    def _check_change(self, proposal: Proposal, change: Change, history: GitRepository | None) -> None:
        bound = (change.proposal_id, change.digest, change.base, change.tree)
        if bound != (proposal.id, proposal.digest, proposal.base, proposal.tree):
            return self.note(proposal.id, "change", Verdict.REFUSED, f"{change.id} is not what was approved")
        try:
            if history is None:
                raise SettingsInvalid("no history")
            same = not history.diff(change.commit, change.tree) and history.parent_of(change.commit) == change.base
        except AdvisorError:
            return self.note(
                proposal.id, "change", Verdict.OPEN, f"{change.commit} is not in the history of the bundle"
            )
        if not same:
            return self.note(proposal.id, "change", Verdict.REFUSED, f"{change.commit} is not what was approved")
        return self.note(
            proposal.id, "change", Verdict.VERIFIED, f"{change.commit} is the approved tree on the approved base"
        )


def _subjects(bundle: Bundle, path: Path) -> list[Subject]:
    proofs = bundle.manifest.get("proofs")
    if not isinstance(proofs, dict) or proofs.get("schema") != SCHEMA:
        raise SettingsInvalid(f"{path}: it carries no approvals; a newer `advisor export` writes them into the bundle")
    try:
        found = []
        for entry in proofs["subjects"][:SUBJECTS_MAX]:
            answers = tuple(_KINDS[a["kind"]].model_validate(a["record"]) for a in entry["answers"][:ANSWERS_MAX])
            found.append(Subject.model_validate({**entry, "answers": answers}))
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise SettingsInvalid(f"{path}: its approvals cannot be read: {one_line(str(error), 160)}") from error
    return found


def _rules(bundle: Bundle) -> ApprovalRules | None:
    try:
        return ApprovalRules.model_validate(bundle.manifest["settings"]["approval"])
    except (KeyError, TypeError, ValidationError):
        return None


@contextmanager
def _histories(bundle: Bundle, folder: Path) -> Iterator[dict[str, GitRepository]]:
    """Yield the repositories of a bundle that can be opened; nothing in them runs, nothing leaves the folder."""
    from advisor.adapters.git_repository import GitRepository

    found: dict[str, GitRepository] = {}
    portable = bundle.manifest.get("settings")
    branches = portable.get("branches") if isinstance(portable, dict) else None
    branches = branches if isinstance(branches, dict) else {}
    try:
        for number, (name, files) in enumerate(bundle.repositories.items()):
            raw, remote = folder / f"{number}.raw", folder / f"{number}.git"
            try:
                _unpack(files, raw)
                GitRepository.import_shallow(raw, remote, str(branches.get(name, "main")))
            except (AdvisorError, OSError):
                continue  # what cannot be opened proves nothing, and takes nothing else with it
            branch = str(branches.get(name, "main"))
            found[name] = GitRepository("bundle", str(remote), branch, folder / f"{number}.clone")
        yield found
    finally:
        for repository in found.values():
            repository.close()


def _unpack(files: Mapping[str, bytes], folder: Path) -> None:
    for relative, data in files.items():
        target = folder / relative
        if not target.resolve().is_relative_to(folder.resolve()):
            raise SettingsInvalid(f"bundle: member {one_line(relative, 80)} leads outside its repository")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (folder / "refs").mkdir(
        parents=True, exist_ok=True
    )  # an empty folder has no member in a zip, and git wants this one


def _read(path: Path, option: str, bytes_max: int = KEY_BYTES_MAX) -> bytes:
    try:
        if path.stat().st_size > bytes_max:
            raise SettingsInvalid(f"{option} {path}: larger than {bytes_max} bytes; it is another file")
        return path.read_bytes()
    except OSError as error:
        raise SettingsInvalid(f"{option} {path}: cannot be read: {error.strerror}") from error


def _person(name: str, where: str) -> str:
    try:
        return principal(name)
    except NotPermitted as error:
        raise SettingsInvalid(f"{where}: {error}") from error


def _kind(answer: Resolution) -> str:
    return next(name for name, kind in _KINDS.items() if isinstance(answer, kind))
