"""Where a change may be written: not beside a name that means the same file to somebody else's file system.

A tree of git may hold `App.yaml` and `app.yaml`, or a composed and a decomposed `é`; a checkout on a file system that folds
case or forms has one of them, and nobody can say which. What is written there is not what was approved, so it is refused
by name. Called by `trees`, before a tree is written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

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
    folded: dict[str, dict[str, list[str]]] = {}
    for path in written:
        parts = path.split("/")
        folder: str | None = objects.tree_of(treeish)
        for depth, part in enumerate(parts):
            here = fresh.get(tuple(parts[:depth]), set())
            names: Mapping[bytes, Entry] = objects.folder(folder) if folder is not None else {}
            if folder is not None and folder not in folded:
                if odd := _odd_entry(objects.raw_tree(folder)):
                    where = "/".join(parts[:depth]) or "the top folder"
                    raise ChangeRefused(f"path {_shown(path)} is not written: {where} holds {odd}")
                folded[folder] = _by_fold(name.decode("utf-8", "surrogateescape") for name in names)
            same = [*(folded[folder].get(fold(part), ()) if folder is not None else ()), *here]
            other = next((name for name in same if name != part and fold(name) == fold(part)), None)
            if other is not None:
                beside = "/".join((*parts[:depth], other))
                raise ChangeRefused(
                    f"path {_shown(path)} is not written: {_shown(beside)} stands in the same tree, and is the same name on"
                    " file systems that fold case or Unicode forms; rename one of them first"
                )
            below = names.get(part.encode("utf-8", "surrogateescape"))
            folder = below.id if below is not None and below.mode == FOLDER else None


def fold(name: str) -> str:
    """Return what a name is to file systems that take the most names for one."""
    if name.isascii():
        return name.lower().rstrip(". ")
    plain = unicodedata.normalize("NFKC", name.translate(_IGNORED)).casefold()
    return unicodedata.normalize("NFKC", plain).rstrip(". ")


def _odd_entry(tree: bytes) -> str:
    """Return what a folder holds that git would not have put there: it could not be written again as it is."""
    previous = b""
    rows: set[bytes] = set()
    for mode, name in _ROW.findall(tree):
        order = name + (b"/" if mode == b"40000" else b"")
        if mode not in _MODES:
            return f"an entry of mode {one_line(ascii(mode.decode('ascii', 'replace')), 40)}"
        if name in (b"", b".", b"..") or b"/" in name or _is_gits(name):
            return f"an entry named {_shown(name.decode('utf-8', 'surrogateescape'))}"
        if name in rows or order < previous:
            return f"an entry {_shown(name.decode('utf-8', 'surrogateescape'))} twice or out of order"
        rows.add(name)
        previous = order
    return ""


_ROW = re.compile(rb"([^ \0]*) ([^\0]*)\0.{20}", re.DOTALL)
_MODES = frozenset((b"40000", b"100644", b"100755", b"120000", b"160000"))


def _is_gits(name: bytes) -> bool:
    word = fold(name.decode("utf-8", "surrogateescape"))
    return word == ".git" or re.fullmatch(r"git~\d+", word) is not None


def _by_fold(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(fold(name), []).append(name)
    return found


def _shown(path: str) -> str:
    return one_line(ascii(path), 200)
