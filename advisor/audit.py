"""The audit: an append-only record of intent and outcome, in which each entry is chained to the one before.

Two locks are on it. The hash of an entry covers the hash of the one before, so an edit, a removal, an
insertion or a reordering breaks the chain at a place that can be named. The signature is an HMAC with the
server's key, so somebody who can write to the database but does not hold the key cannot forge a whole new
chain. What the chain alone cannot show is that its end was cut off: for that the head (how many entries,
and the last hash) is kept beside it, signed as well, and mirrored by the store outside the database.

Pure: the store keeps the entries, the caller gives the time.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import datetime

from pydantic import Field

from advisor.errors import AuditBroken, one_line
from advisor.values import Instant, Record, canonical_json, digest

GENESIS = "sha256:" + "0" * 64  # what the first entry is chained to
DETAIL_CHARACTERS_MAX = 2000  # the audit says what happened; the records themselves hold the long texts


class AuditEntry(Record):
    """One fact: who did what to which subject, chained to the entry before.

    Attributes:
        sequence: 1, 2, 3 …; a gap is a removal.
        actor: A person, or the part of the advisor that acted.
        action: Subject and step, such as ``proposal.grant`` or ``change.begin_delivery``.
        subject: The id of the record it is about.
        details: Sorted pairs; the digest of what was stored is among them.
        previous: The hash of the entry before.
        signature: HMAC of the hash with the server's key.
    """

    sequence: int = Field(ge=1)
    at: Instant
    actor: str
    action: str
    subject: str
    details: tuple[tuple[str, str], ...] = ()
    previous: str
    hash: str
    signature: str


class AuditHead(Record):
    """Where the chain ends: its number of entries and its last hash, signed. It shows a cut-off end."""

    sequence: int = Field(ge=0)
    hash: str
    signature: str


def append(
    previous: AuditEntry | AuditHead | None,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, str],
    key: bytes,
) -> AuditEntry:
    """Return the entry that follows ``previous`` (None begins a chain)."""
    fields = {
        "sequence": previous.sequence + 1 if previous else 1,
        # Milliseconds are what is stored: with more, an entry read back would not have the hash it was given.
        "at": at.replace(microsecond=at.microsecond // 1000 * 1000),
        "actor": one_line(actor, 200),
        "action": action,
        "subject": one_line(subject, 200),
        "details": tuple((k, one_line(v, DETAIL_CHARACTERS_MAX)) for k, v in sorted(details.items())),
        "previous": previous.hash if previous else GENESIS,
    }
    entry = AuditEntry.model_validate({**fields, "hash": "", "signature": ""})
    entry_hash = hash_of(entry)
    return AuditEntry.model_validate({**fields, "hash": entry_hash, "signature": _sign("entry", entry_hash, key)})


def head_of(last: AuditEntry | None, key: bytes) -> AuditHead:
    """Return the signed head of a chain that ends with this entry."""
    sequence, last_hash = (last.sequence, last.hash) if last else (0, GENESIS)
    return AuditHead(sequence=sequence, hash=last_hash, signature=_sign("head", f"{sequence}:{last_hash}", key))


def hash_of(entry: AuditEntry) -> str:
    """Return the hash of an entry over all that it says, the hash before it included."""
    return digest(entry.model_dump(mode="json", exclude={"hash", "signature"}))


def check_head(head: AuditHead, key: bytes) -> None:
    """Check that a head was signed with this key.

    Raises:
        AuditBroken: It was not.
    """
    if not hmac.compare_digest(_sign("head", f"{head.sequence}:{head.hash}", key), head.signature):
        raise AuditBroken(f"audit: the head (entry {head.sequence}) is not signed with the server's key")


def verify(entries: Iterable[AuditEntry], key: bytes, head: AuditHead | None, mirror: AuditHead | None = None) -> int:
    """Return the number of entries of a chain that is whole.

    Args:
        entries: In the order of their sequence, all of them.
        key: The key that the entries were signed with.
        head: The head kept beside the entries; None is right only for an empty chain.
        mirror: The head kept outside the database. It may lag (a crash between the two writes), so it must be
            found in the chain, not at its end.

    Raises:
        AuditBroken: The first entry that does not fit, by number and reason.
    """
    previous, count = GENESIS, 0
    mirrored = mirror is None or mirror.sequence == 0
    for count, entry in enumerate(entries, start=1):
        reason = _fault(entry, count, previous, key)
        if reason:
            raise AuditBroken(f"audit entry {count}: {reason}")
        if mirror is not None and mirror.sequence == count:
            if mirror.hash != entry.hash:
                raise AuditBroken(f"audit entry {count}: it is not the entry that the mirror of the head recorded")
            mirrored = True
        previous = entry.hash
    if head is None:
        if count:
            raise AuditBroken(f"audit: {count} entries but no head; the head was removed")
    else:
        check_head(head, key)
        if (head.sequence, head.hash) != (count, previous):
            first = min(head.sequence, count) + 1 if head.sequence != count else count
            what = "is missing" if head.sequence > count else "is not covered by the head"
            raise AuditBroken(f"audit entry {first}: {what} (the head counts {head.sequence}, found {count})")
    if mirror is not None:
        check_head(mirror, key)
        if not mirrored:
            raise AuditBroken(
                f"audit entry {count + 1}: is missing (the mirror of the head counts {mirror.sequence}, found {count})"
            )
    return count


def _fault(entry: AuditEntry, number: int, previous: str, key: bytes) -> str | None:
    if entry.sequence != number:
        return f"its number is {entry.sequence}; an entry was removed, added or moved"
    if entry.previous != previous:
        return "it is not chained to the entry before; an entry was removed, added or moved"
    if hash_of(entry) != entry.hash:
        return "its content was edited"
    if not hmac.compare_digest(_sign("entry", entry.hash, key), entry.signature):
        return "it is not signed with the server's key"
    return None


def _sign(kind: str, text: str, key: bytes) -> str:
    # The kind is inside, so that the signature of an entry can never serve as that of a head.
    message = canonical_json(["ops-advisor audit", kind, text])
    return "hmac-sha256:" + hmac.new(key, message, hashlib.sha256).hexdigest()
