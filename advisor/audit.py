"""The audit: an append-only record of intent and outcome, in which each entry is chained to the one before.

Two locks are on it. The hash of an entry covers the hash of the one before, so an edit, a removal, an
insertion or a reordering breaks the chain at a place that can be named. The signature is an HMAC with the
server's key, so somebody who can write to the database but does not hold the key cannot forge a whole new
chain. What the chain alone cannot show is that its end was cut off: for that the head (how many entries,
and the last hash) is kept beside it, signed as well, mirrored by the store outside the database, and from time to
time anchored in a git repository elsewhere, where whoever owns this machine cannot take it back.

It also writes and reads exports: the chain as lines of JSON, which verify on any machine.

Pure: the store keeps the entries, an adapter the anchors; the caller gives the time.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from pydantic import Field, ValidationError

from advisor.errors import AuditBroken, one_line
from advisor.values import Instant, Record, canonical_json, digest

GENESIS = "sha256:" + "0" * 64  # what the first entry is chained to
DETAIL_CHARACTERS_MAX = 2000  # the audit says what happened; the records themselves hold the long texts
ANCHORED = "audit.anchor"  # the action of an entry that says where a head was anchored
EXPORT_SCHEMA = "advisor.audit/v1"
# The longest entry: two names, and some details of 2,000 characters of which JSON may write each as six.
EXPORT_LINE_CHARACTERS_MAX = 1_000_000


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


class Anchor(Record):
    """A head of the chain as it is kept in a repository elsewhere.

    Attributes:
        server: Whose chain (`server_name`): one repository may hold the anchors of several.
        reason: What it was made for, such as ``hourly`` or the id of a change.
        signature: HMAC over the rest with the server's key.
    """

    server: str
    sequence: int = Field(ge=1)
    hash: str
    at: Instant
    reason: str
    signature: str


class ExportHeader(Record):
    """The first line of an export: what follows, and the head of the chain when it was written.

    Attributes:
        first: The number of the first entry that follows.
        previous: The hash of the entry before that.
        last: The number of the last one: a cut file is seen.
        hash: Of the last entry.
        signature: HMAC over the rest with the server's key.
    """

    schema_: str = Field(alias="schema", default=EXPORT_SCHEMA)
    server: str
    first: int = Field(ge=1)
    previous: str
    last: int = Field(ge=0)
    hash: str
    at: Instant
    signature: str = ""


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


def mirror_of(head: AuditHead, key: bytes) -> AuditHead:
    """Return a head as the mirror holds it.

    It is signed for that place: somebody with an old copy of the database has its head, but not its mirror.
    """
    signature = _sign("mirror", f"{head.sequence}:{head.hash}", key)
    return AuditHead(sequence=head.sequence, hash=head.hash, signature=signature)


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


def check_mirror(mirror: AuditHead, key: bytes) -> None:
    """Check that a head was signed for the mirror with this key.

    Raises:
        AuditBroken: It was not.
    """
    if not hmac.compare_digest(_sign("mirror", f"{mirror.sequence}:{mirror.hash}", key), mirror.signature):
        raise AuditBroken(
            f"audit: the mirror of the head (entry {mirror.sequence}) is not signed with the server's key"
        )


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
        check_mirror(mirror, key)
        if not mirrored:
            raise AuditBroken(
                f"audit entry {count + 1}: is missing (the mirror of the head counts {mirror.sequence}, found {count})"
            )
    return count


def server_name(key: bytes) -> str:
    """Return the name under which a server anchors: of its key, and telling nothing about it."""
    return hmac.new(key, canonical_json(["ops-advisor audit", "server"]), hashlib.sha256).hexdigest()[:12]


def anchor_of(head: AuditHead, at: datetime, reason: str, key: bytes) -> Anchor:
    """Return the anchor of a head."""
    fields = {
        "server": server_name(key),
        "sequence": head.sequence,
        "hash": head.hash,
        "at": at.replace(microsecond=at.microsecond // 1000 * 1000),
        "reason": one_line(reason, 200),
    }
    anchor = Anchor.model_validate({**fields, "signature": ""})
    return Anchor.model_validate({**fields, "signature": _sign_record("anchor", anchor, key)})


def check_anchor(anchor: Anchor, key: bytes) -> None:
    """Check that an anchor was made with this key.

    Raises:
        AuditBroken: It was not.
    """
    if not hmac.compare_digest(_sign_record("anchor", anchor, key), anchor.signature):
        raise AuditBroken(f"audit: the anchor of entry {anchor.sequence} is not signed with the server's key")


def check_anchors(
    entries: Sequence[AuditEntry], anchors: Sequence[Anchor], recorded: Iterable[tuple[int, str]], key: bytes
) -> int:
    """Return how many anchors the chain was held against.

    An anchor beyond the chain's end says that an older state was put back; one with another hash, that this is not
    the chain that was anchored: it was written anew, or went on twice from one copy. One that the chain names and
    nobody has any more was taken away.

    Args:
        entries: The whole chain, verified before, and read after the anchors.
        anchors: All that were found of this server.
        recorded: What the entries say of anchors there (`anchored_heads`), read before the anchors.
        key: The server's.

    Raises:
        AuditBroken: It names the anchor that does not fit.
    """
    for anchor in anchors:
        check_anchor(anchor, key)
        if anchor.sequence > len(entries):
            raise AuditBroken(
                f"audit entry {len(entries) + 1}: is missing; entry {anchor.sequence} was anchored at"
                f" {anchor.at.isoformat()}, here are {len(entries)}: an older state was put back, or the end cut off"
            )
        if entries[anchor.sequence - 1].hash != anchor.hash:
            raise AuditBroken(
                f"audit entry {anchor.sequence}: it is not the one that was anchored at {anchor.at.isoformat()}; the"
                " chain was written anew, or went on from a copy elsewhere"
            )
    found = {(anchor.sequence, anchor.hash) for anchor in anchors}
    gone = next((number for number, anchored in recorded if (number, anchored) not in found), None)
    if gone is not None:
        raise AuditBroken(f"audit: the anchor of entry {gone} is gone; it was made, and taken away since")
    return len(anchors)


def anchored_heads(entries: Iterable[AuditEntry], target: str) -> Iterator[tuple[int, str]]:
    """Return number and hash of each head that the chain says was anchored in a place."""
    for entry in entries:
        details = dict(entry.details)
        if entry.action == ANCHORED and details.get("target") == target and details.get("sequence", "").isdecimal():
            yield int(details["sequence"]), details.get("hash", "")


def export_lines(entries: Sequence[AuditEntry], first: int, at: datetime, key: bytes) -> Iterator[str]:
    """Return the lines of an export: a header that says what follows, then each entry from number ``first`` on.

    Args:
        entries: The whole chain, verified before.
        first: The number to begin with; one beyond the end gives a header alone.
        at: Now.
        key: The server's.
    """
    wanted = entries[first - 1 :]
    before = entries[min(first - 1, len(entries)) - 1].hash if entries and first > 1 else GENESIS
    fields = {
        "server": server_name(key),
        "first": first,
        "previous": before,
        "last": len(entries),
        "hash": entries[-1].hash if entries else GENESIS,
        "at": at.replace(microsecond=at.microsecond // 1000 * 1000),
    }
    header = ExportHeader.model_validate(fields)
    header = ExportHeader.model_validate({**fields, "signature": _sign_record("export", header, key)})
    yield header.model_dump_json(by_alias=True)
    for entry in wanted:
        yield entry.model_dump_json()


def verify_export(lines: Iterable[str], key: bytes | None) -> int:
    """Return the number of entries of an export that is whole.

    Without the key the hashes alone are checked: that shows damage and a cut-off end, but not a file that somebody
    wrote anew from its beginning.

    Raises:
        AuditBroken: The first line that does not fit, by number and reason.
    """
    numbered = enumerate(lines, start=1)
    header = _header(next((line for _, line in numbered), ""))
    if key is not None and header.server != server_name(key):
        raise AuditBroken(f"audit export: it is of the server {one_line(header.server, 20)}, this key of another")
    if key is not None and not hmac.compare_digest(_sign_record("export", header, key), header.signature):
        raise AuditBroken("audit export: line 1 is not signed with the server's key")
    previous, number = header.previous, header.first - 1
    for line_number, line in numbered:
        number += 1
        reason = _line_fault(line, number, previous, key)
        if isinstance(reason, str):
            raise AuditBroken(f"audit export: line {line_number}: {reason}")
        previous = reason.hash
    if number != max(header.last, header.first - 1) or previous != header.hash:
        raise AuditBroken(f"audit export: it ends with entry {number}, and should with {header.last}; it was cut off")
    return number - header.first + 1


def _header(line: str) -> ExportHeader:
    try:
        header = ExportHeader.model_validate(_parse_line(line))
    except (ValidationError, ValueError, RecursionError) as error:
        raise AuditBroken("audit export: line 1 is not the header of an export; is it the right file?") from error
    if header.schema_ != EXPORT_SCHEMA or header.model_dump_json(by_alias=True) != line:
        raise AuditBroken(f"audit export: line 1 is not a header as {EXPORT_SCHEMA} writes it")
    return header


def _line_fault(line: str, number: int, previous: str, key: bytes | None) -> str | AuditEntry:
    """Return the entry of a line, or why it does not fit."""
    try:
        entry = AuditEntry.model_validate(_parse_line(line))
    except (ValidationError, ValueError, RecursionError):
        return "it is not an entry; the file was damaged or cut off"
    if entry.model_dump_json() != line:
        return "its bytes are not those that were written"
    return _fault(entry, number, previous, key) or entry


def _parse_line(line: str) -> object:
    if len(line) > EXPORT_LINE_CHARACTERS_MAX:
        raise ValueError("longer than any entry")
    return json.loads(line)


def _fault(entry: AuditEntry, number: int, previous: str, key: bytes | None) -> str | None:
    if entry.sequence != number:
        return f"its number is {entry.sequence}; an entry was removed, added or moved"
    if entry.previous != previous:
        return "it is not chained to the entry before; an entry was removed, added or moved"
    if hash_of(entry) != entry.hash:
        return "its content was edited"
    if key is not None and not hmac.compare_digest(_sign("entry", entry.hash, key), entry.signature):
        return "it is not signed with the server's key"
    return None


def _sign(kind: str, text: str, key: bytes) -> str:
    # The kind is inside, so that the signature of an entry can never serve as that of a head.
    message = canonical_json(["ops-advisor audit", kind, text])
    return "hmac-sha256:" + hmac.new(key, message, hashlib.sha256).hexdigest()


def _sign_record(kind: str, record: Record, key: bytes) -> str:
    return _sign(kind, digest(record.model_dump(mode="json", exclude={"signature"})), key)
