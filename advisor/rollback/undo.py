"""What is kept of a change beside the records, so that it can be taken back when they are lost.

Two sources, either alone enough. An `UndoEntry` of the journal holds the change and the objects of its step; it is signed
with the server's key. A commit of ours on the branch holds the same in its trailers and its parent; anybody who may push
could have written one, so what it says is used to find the step, never to widen what may be written: a recovered change
may touch nothing outside the files of its configured service.

Nothing is read or written here. Called by the workflow, which knows the journal, the history and the settings.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from advisor.change import Change, ChangeKind
from advisor.errors import ChangeRefused, SourceMalformed, one_line
from advisor.path_scope import PathScope
from advisor.proposal import RepositoryName
from advisor.values import Instant, Record, canonical_json, digest

ENTRY_SCHEMA: Literal["advisor.undo/v1"] = "advisor.undo/v1"
OUTCOME_SCHEMA: Literal["advisor.undo_outcome/v1"] = "advisor.undo_outcome/v1"
OBJECT_BYTES_MAX = 32 * 1024 * 1024  # as the git adapter takes at most; a damaged line must not fill the memory
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TRAILER = re.compile(r"^([A-Z][A-Za-z-]*): (.+)$")


class UndoObject(Record):
    """One git object of a step, packed for a line of text.

    Attributes:
        kind: ``tree`` or ``blob``.
        id: Git's own, over the content: what comes out is checked against it.
        data: The content, deflated, in base64.
    """

    kind: Literal["tree", "blob"]
    id: str
    data: str

    @property
    def content(self) -> bytes:
        """Return the object's bytes.

        Raises:
            SourceMalformed: They cannot be unpacked, or are too many.
        """
        try:
            unpacking = zlib.decompressobj()
            content = unpacking.decompress(base64.b64decode(self.data, validate=True), OBJECT_BYTES_MAX)
        except (ValueError, zlib.error) as error:
            raise SourceMalformed(f"undo journal: {self.kind} {self.id[:12]} cannot be unpacked") from error
        if not unpacking.eof:
            raise SourceMalformed(f"undo journal: {self.kind} {self.id[:12]} is cut off or larger than is kept")
        return content


class UndoEntry(Record):
    """What takes one change back, written before the change.

    Attributes:
        change: As its delivery was begun.
        before: The tree of its base.
        objects: Trees and blobs of the step from ``before`` to the change's tree.
        evidence_digest: Of what it rested on.
        signature: HMAC over all else with the server's key.
    """

    schema_name: Literal["advisor.undo/v1"] = ENTRY_SCHEMA
    change: Change
    before: str
    objects: tuple[UndoObject, ...]
    evidence_digest: str
    recorded_at: Instant
    signature: str = ""


class UndoOutcome(Record):
    """How the delivery of a change ended: written after the records have it, for when they are lost."""

    schema_name: Literal["advisor.undo_outcome/v1"] = OUTCOME_SCHEMA
    change_id: str
    outcome: str
    at: Instant


class Recovered(Record):
    """A change that is known without the records.

    Attributes:
        source: ``journal`` or ``history``.
        before: The tree, or commit, before the change.
        objects: What the journal kept; empty where the history has it all.
        trusted: Whether the server's key has signed it.
    """

    change: Change
    source: Literal["journal", "history"]
    before: str
    evidence_digest: str
    objects: tuple[UndoObject, ...] = ()
    trusted: bool = False


def pack_object(kind: str, object_id: str, content: bytes) -> UndoObject:
    """Return an object as it stands in a line of the journal."""
    return UndoObject(
        kind="tree" if kind == "tree" else "blob",
        id=object_id,
        data=base64.b64encode(zlib.compress(content, 6)).decode("ascii"),
    )


def seal_entry(
    change: Change, before: str, objects: Iterable[UndoObject], evidence_digest: str, at: datetime, key: bytes
) -> UndoEntry:
    """Return the signed entry of a change."""
    entry = UndoEntry(
        change=change, before=before, objects=tuple(objects), evidence_digest=evidence_digest, recorded_at=at
    )
    return UndoEntry.model_validate({**entry.model_dump(), "signature": _signature(entry, key)})


def is_sealed(entry: UndoEntry, key: bytes) -> bool:
    """Return whether the server's key has signed exactly this entry."""
    return hmac.compare_digest(_signature(entry, key), entry.signature)


def _signature(entry: UndoEntry, key: bytes) -> str:
    # Without defaults: a field that a later version adds must not make what was signed before unreadable.
    told = entry.model_dump(mode="json", exclude={"signature"}, exclude_defaults=True)
    message = canonical_json(["ops-advisor", "undo", told])
    return "hmac-sha256:" + hmac.new(key, message, hashlib.sha256).hexdigest()


def from_entry(entry: UndoEntry, key: bytes) -> Recovered:
    """Return the change of a journal entry."""
    return Recovered(
        change=entry.change,
        source="journal",
        before=entry.before,
        evidence_digest=entry.evidence_digest,
        objects=entry.objects,
        trusted=is_sealed(entry, key),
    )


def from_commit(
    commit: str,
    parents: Sequence[str],
    tree: str,
    at: datetime,
    message: str,
    repository: RepositoryName,
    branch: str,
) -> Recovered | None:
    """Return the change that a commit of ours tells of; None where it does not tell of one.

    Args:
        commit: Its id.
        parents: Of the commit; ours have one.
        tree: Of the commit.
        at: When it was made.
        message: The whole of it, with trailers.
        repository: Where it stands.
        branch: The same.
    """
    trailers = _trailers(message)
    proposal_id, _, proposal_digest = _one(trailers, "Proposal").partition(" ")
    service = message.partition(":")[0].strip()
    if len(parents) != 1 or not _DIGEST.fullmatch(proposal_digest) or not service or "\n" in service:
        return None
    rolled_back, _, _commit = _one(trailers, "Rolls-back").partition(" ")
    try:
        change = Change(
            id="chg-" + digest([proposal_id, proposal_digest, commit]).removeprefix("sha256:")[:12],
            proposal_id=proposal_id,
            incident_id=_one(trailers, "Incident"),
            service=service,
            repository=repository,
            branch=branch,
            digest=proposal_digest,
            commit=commit,
            base=parents[0],
            tree=tree,
            at=at,
            approvers=tuple(value for name, value in trailers if name == "Approved-by"),
            kind=ChangeKind.ROLLBACK if rolled_back else ChangeKind.CHANGE,
            rolls_back=rolled_back or None,
        )
    except ValidationError:
        return None
    return Recovered(change=change, source="history", before=parents[0], evidence_digest=_one(trailers, "Evidence"))


def _trailers(message: str) -> list[tuple[str, str]]:
    """Return the lines of the last paragraph that are trailers; a summary's lines are indented where they could pass."""
    above, _, last = message.rstrip("\n").rpartition("\n\n")
    if not above:
        return []  # a subject alone
    return [(found[1], found[2].strip()) for line in last.split("\n") if (found := _TRAILER.match(line))]


def _one(trailers: Sequence[tuple[str, str]], name: str) -> str:
    values = [value for key, value in trailers if key == name]
    return values[0] if len(values) == 1 else ""


def is_named(change: Change, wanted: str) -> bool:
    """Return whether somebody who writes this means the change: its id, its commit, or the beginning of one of them."""
    return change.id.startswith(wanted) or (len(wanted) >= 7 and change.commit.startswith(wanted))


def check_scope(recovered: Recovered, paths: Iterable[str], allowed: Sequence[str]) -> None:
    """Check that a change known without the records stays inside the files of its service.

    Raises:
        ChangeRefused: It does not; nothing was written.
    """
    scope = PathScope(allowed) if allowed else ()
    outside = [one_line(path, 80) for path in paths if path not in scope]
    if outside:
        change = recovered.change
        raise ChangeRefused(
            f"rollback of {change.id}: found in the {recovered.source} only, and it touches {', '.join(outside[:3])},"
            f" outside the files of service {one_line(change.service, 60)} in advisor.yaml; nothing was written"
        )
