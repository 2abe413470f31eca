"""Objects of git outside a repository: with the id that git gives them, and in a pack that git takes in one go.

Nothing is read or written here. Called by `undo`.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

_PACK_TYPES = {"tree": 2, "blob": 3}  # of git's pack format


class GitObject(NamedTuple):
    """A tree or blob as git stores it, without header."""

    kind: str
    id: str
    content: bytes


def object_of(kind: str, content: bytes) -> GitObject:
    """Return an object with git's id for it."""
    header = f"{kind} {len(content)}".encode() + b"\0"
    return GitObject(kind, hashlib.sha1(header + content, usedforsecurity=False).hexdigest(), content)


def pack_of(objects: Sequence[GitObject]) -> bytes:
    """Return the objects as one pack, undeltified, for `unpack-objects`.

    Source: gitformat-pack: "PACK", version 2, number of objects; each a type and size, then zlib data; SHA-1 of it all.
    """
    parts = [b"PACK" + struct.pack(">II", 2, len(objects))]
    for each in objects:
        size = len(each.content)
        byte = _PACK_TYPES[each.kind] << 4 | size & 15
        size >>= 4
        header = bytearray()
        while size:
            header.append(byte | 128)
            byte = size & 127
            size >>= 7
        header.append(byte)
        parts += [bytes(header), zlib.compress(each.content)]
    body = b"".join(parts)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()
