"""What git prints, as records: commits of a log, entries of a tree, differences between two trees.

The formats asked for and the parsers stand side by side; nothing is started here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from advisor.adapters.git_repository.failures import Failure, GitFailed
from advisor.adapters.git_repository.runner import OBJECT_ID, GitProcess, Outcome, failed
from advisor.errors import SourceRefused, one_line

_FIELDS = ("%H", "%P", "%ct", "%at", "%an", "%ae", "%s")
_FORMAT = "--format=" + "%x00".join(_FIELDS)
LOG = (
    "log",
    "-z",
    "--no-show-signature",
    "--no-notes",
    "--no-decorate",
    "--no-mailmap",
    "--no-color",
    _FORMAT,
)
_SYMLINK, _SUBMODULE, FOLDER, ABSENT = "120000", "160000", "040000", "000000"
NO_OBJECT = "0" * 40
_TREE_ROW = re.compile(rb"([^ ]*) ([^\0]*)\0(.{20})", re.DOTALL)


class Commit(NamedTuple):
    """A commit as the log tells it; times in seconds of Unix time."""

    id: str
    parents: tuple[str, ...]
    committed: int
    authored: int
    author: str
    subject: str


class Delta(NamedTuple):
    """What became of one path between two trees; an absent side has mode 000000."""

    status: str
    path: str
    old_path: str
    old_mode: str
    new_mode: str
    old_blob: str
    new_blob: str


class Entry(NamedTuple):
    """What a tree has at a path: git's mode and the object id."""

    mode: str
    id: str


class CommitLine(NamedTuple):
    """A commit in one line, for naming it in a message."""

    id: str
    subject: str
    author: str


RAW_DIFF = (
    "diff-tree",
    "-r",
    "-z",
    "--raw",
    "--no-abbrev",
    "--no-ext-diff",
    "--no-textconv",
    "--ignore-submodules=none",
)


def tokens_of(process: GitProcess) -> Iterator[bytes]:
    """Yield what a running command prints, cut at each NUL."""
    rest = b""
    while chunk := process.read_some():
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole
    if rest:
        yield rest


def parse_log(tokens: Iterator[bytes]) -> Iterator[Commit]:
    """Yield the commits of a log that was asked for with `LOG`.

    Raises:
        GitFailed: Something stands where a commit id belongs.
    """
    while True:
        fields = [token.decode("utf-8", "replace") for _, token in zip(range(len(_FIELDS)), tokens, strict=False)]
        if len(fields) < len(_FIELDS):
            return
        commit, parents, committed, authored, name, email, subject = fields
        if not OBJECT_ID.fullmatch(commit):
            raise GitFailed(Failure.CORRUPT, f"git log printed {one_line(commit, 80)!r} where a commit id belongs")
        author = f"{name} <{email}>"
        yield Commit(commit, tuple(parents.split()), _seconds(committed), _seconds(authored), author, subject)


def parse_deltas(tokens: Iterator[bytes], errors: str = "replace") -> Iterator[Delta]:
    """Yield the differences of one pair that was asked for with `RAW_DIFF`."""
    for token in tokens:
        if token.startswith(b":"):
            yield parse_delta(token, tokens, errors)


def parse_delta(token: bytes, tokens: Iterator[bytes], errors: str = "replace") -> Delta:
    """Return the difference that begins with a token; the paths are the next tokens.

    Args:
        token: Modes, ids and status.
        tokens: The paths, and what comes after them.
        errors: What becomes of bytes in a path that are no UTF-8: to be shown, or kept as they are.
    """
    old_mode, new_mode, old_blob, new_blob, status = token[1:].decode("ascii", "replace").split(" ")
    first = next(tokens, b"").decode("utf-8", errors)
    second = next(tokens, b"").decode("utf-8", errors) if status[:1] in "RC" else first
    return Delta(status[:1], second, first, old_mode, new_mode, old_blob, new_blob)


def parse_tree(out: bytes) -> Iterator[tuple[str, Entry]]:
    """Yield path and entry of each line that `ls-tree -z` printed."""
    for line in out.split(b"\0"):
        head, tab, path = line.partition(b"\t")
        if tab:
            mode, _, object_id = head.decode("ascii", "replace").split(" ")[:3]
            yield path.decode("utf-8", "replace"), Entry(mode, object_id)


def parse_raw_tree(content: bytes) -> Iterator[tuple[bytes, Entry]]:
    """Yield name and entry of each line of a tree object, as git stores it."""
    end = 0
    for row in _TREE_ROW.finditer(content):
        if row.start() != end:
            break
        end = row.end()
        mode, name, object_id = row.groups()
        yield name, Entry(mode.decode("ascii", "replace").zfill(6), object_id.hex())
    if end != len(content):
        raise GitFailed(Failure.CORRUPT, "bad tree object: it ends inside an entry")


def parse_parents(content: bytes) -> tuple[str, ...]:
    """Return the parents that a commit object names."""
    header = content.partition(b"\n\n")[0].decode("ascii", "replace")
    return tuple(line[7:] for line in header.splitlines() if line.startswith("parent "))


def kind_of(mode: str) -> str:
    """Return what a mode is in words."""
    names = {_SYMLINK: "a symbolic link", _SUBMODULE: "a submodule", FOLDER: "a folder"}
    return names.get(mode, f"of mode {mode}")


def _seconds(text: str) -> int:
    try:
        return min(max(int(text), 0), 253402300799)  # the last second of year 9999; hostile commits date beyond it
    except ValueError:
        return 0


def instant(seconds: int) -> datetime:
    """Return a time of git in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def one_id(out: bytes) -> str:
    """Return the one object id that a command printed."""
    return check_id(out.decode("ascii", "replace").strip())


def check_id(object_id: str) -> str:
    """Return a full object id, unchanged.

    Raises:
        SourceRefused: It is anything else, such as an option or a short id.
    """
    if not OBJECT_ID.fullmatch(object_id):
        raise SourceRefused(f"{one_line(ascii(object_id), 80)} is not a full object id of 40 hexadecimal digits")
    return object_id


def failed_process(process: GitProcess, code: int) -> GitFailed:
    """Return the failure of a command whose output was read as a stream."""
    return failed(Outcome(code, b"", process.words))
