"""Where a change may be written: not beside a name that means the same file to somebody else's file system.

A tree of git may hold `App.yaml` and `app.yaml`, or a composed and a decomposed `é`; a checkout on a file system that folds
case or forms has one of them, and nobody can say which. What is written there is not what was approved, so it is refused
by name. Called by `trees`, before a tree is written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from advisor.adapters.git_repository.objects import ObjectReader
from advisor.adapters.git_repository.output import FOLDER, Entry
from advisor.errors import ChangeRefused, one_line

# What HFS+ leaves out when it compares names; shown by no screen either.
_IGNORED = dict.fromkeys([0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF])


def check_places(objects: ObjectReader, treeish: str, written: Mapping[str, Entry | None]) -> None:
    """Refuse paths that would meet another name on some file system, in the tree or among themselves.

    Raises:
        ChangeRefused: Two names would be one; both are named.
        GitFailed: A tree cannot be read.
    """
    fresh: dict[tuple[str, ...], set[str]] = {}
    for path, entry in written.items():
        parts = path.split("/")
        if entry is not None:
            for depth, part in enumerate(parts):
                fresh.setdefault(tuple(parts[:depth]), set()).add(part)
    for path in written:
        parts = path.split("/")
        folder: str | None = objects.tree_of(treeish)
        for depth, part in enumerate(parts):
            here = fresh.get(tuple(parts[:depth]), set())
            same: tuple[str, ...] = ()
            names: Mapping[bytes, Entry] = {}
            if folder is not None:
                names, seen = objects.folder(folder), _seen(objects, folder)
                if seen.odd:
                    where = _shown("/".join(parts[:depth])) if depth else "the top folder"
                    raise ChangeRefused(f"path {_shown(path)} is not written: {where} holds {seen.odd}")
                same = seen.names.get(fold(part), ())
            other = next((name for name in (*same, *here) if name != part and fold(name) == fold(part)), None)
            if other is not None:
                beside = "/".join((*parts[:depth], other))
                raise ChangeRefused(
                    f"path {_shown(path)} is not written: {_shown(beside)} stands in the same tree, and is the same name on"
                    " file systems that fold case or Unicode forms; rename one of them first"
                )
            below = names.get(part.encode("utf-8", "surrogateescape"))
            folder = below.id if below is not None and below.mode == FOLDER else None


class Seen(NamedTuple):
    """A folder, looked through: its names by what they fold to, and what git would not have put there."""

    names: dict[str, tuple[str, ...]]
    odd: str


def _seen(objects: ObjectReader, tree: str) -> Seen:
    return objects.once(tree, lambda: _look_through(objects.raw_tree(tree)))


def fold(name: str) -> str:
    """Return what a name is to file systems that take the most names for one."""
    if name.isascii():
        return name.lower().rstrip(". ")
    plain = unicodedata.normalize("NFKC", name.translate(_IGNORED)).casefold()
    return unicodedata.normalize("NFKC", plain).rstrip(". ")


def _look_through(tree: bytes) -> Seen:
    names: dict[str, tuple[str, ...]] = {}
    odd = ""
    previous = b""
    for mode, raw in _ROW.findall(tree):
        name = raw.decode("utf-8", "surrogateescape")
        order = raw + b"/" if mode == b"40000" else raw
        word = fold(name)
        if mode not in _MODES:
            odd = odd or f"an entry of mode {one_line(ascii(mode.decode('ascii', 'replace')), 40)}"
        elif raw in (b"", b".", b"..") or b"/" in raw or word == ".git" or _SHORT_GIT.fullmatch(word):
            odd = odd or f"an entry named {_shown(name)}"
        elif order <= previous or name in names.get(word, ()):
            odd = odd or f"an entry {_shown(name)} twice or out of order"
        names[word] = (*names.get(word, ()), name)
        previous = order
    return Seen(names, odd)


_ROW = re.compile(rb"([^ ]*) ([^\0]*)\0.{20}", re.DOTALL)
_MODES = frozenset((b"40000", b"100644", b"100755", b"120000", b"160000"))
_SHORT_GIT = re.compile(r"git~\d+")


def _shown(path: str) -> str:
    return one_line(ascii(path), 200)
