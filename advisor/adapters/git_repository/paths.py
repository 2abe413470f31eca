"""Names from outside: which paths belong to a service, and which paths, branches and addresses may be used at all.

Pure: nothing is read. Paths come from the repository and are hostile.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

from advisor.adapters.git_repository.failures import hide_credentials
from advisor.errors import ChangeRefused, SourceRefused, one_line

PATH_BYTES_MAX = 4096
_HFS_IGNORED = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])


class PathScope:
    """Which paths belong to a service: `*` and `?` inside a folder name, `**` for any number of folders.

    A pattern whose last part has no wildcard also names everything below it, as a folder. Matching takes time
    proportional to pattern times path, whatever either contains: paths come from the repository and are
    hostile.
    """

    def __init__(self, globs: Sequence[str]) -> None:
        """Split the patterns once."""
        self._patterns: list[tuple[str, ...]] = []
        for glob in globs:
            parts = [part for part in glob.strip().split("/") if part not in ("", ".")]
            if not parts or glob.endswith("/") or not _has_wildcard(parts[-1]):
                parts.append("**")
            self._patterns.append(tuple(parts))
        self._answers: dict[str, bool] = {}

    def __contains__(self, path: str) -> bool:
        """Return whether any pattern matches a path of the tree."""
        answer = self._answers.get(path)
        if answer is None:
            parts = path.split("/")
            answer = any(_match_parts(pattern, parts) for pattern in self._patterns)
            if len(self._answers) < 100_000:
                self._answers[path] = answer
        return answer

    @property
    def folders(self) -> tuple[str, ...]:
        """Return the literal beginnings of the patterns; empty if one of them may match anywhere."""
        beginnings = []
        for pattern in self._patterns:
            literal = []
            for part in pattern:
                if _has_wildcard(part):
                    break
                literal.append(part)
            if not literal:
                return ()
            beginnings.append("/".join(literal))
        return tuple(sorted(set(beginnings)))


def _has_wildcard(part: str) -> bool:
    return "*" in part or "?" in part


def _match_parts(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    return _match(pattern, parts, lambda part: part == "**", lambda part, name: _match_name(part, name))


def _match_name(pattern: str, name: str) -> bool:
    if not _has_wildcard(pattern):
        return pattern == name
    return _match(pattern, name, lambda sign: sign == "*", lambda sign, letter: sign in ("?", letter))


def _match(
    pattern: Sequence[str],
    items: Sequence[str],
    is_star: Callable[[str], bool],
    fits: Callable[[str, str], bool],
) -> bool:
    # Only the last star ever needs to give way, so there is no exponential backtracking.
    at = item = 0
    star = resume = -1
    while item < len(items):
        if at < len(pattern) and is_star(pattern[at]):
            star, resume = at, item
            at += 1
        elif at < len(pattern) and fits(pattern[at], items[item]):
            at += 1
            item += 1
        elif star >= 0:
            resume += 1
            at, item = star + 1, resume
        else:
            return False
    return all(is_star(part) for part in pattern[at:])


def check_path(path: str) -> str:
    """Return a path that may be written, unchanged.

    Raises:
        ChangeRefused: It could leave the tree, reach git's own files, or mean another file on another file
        system.
    """
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise ChangeRefused(f"path {one_line(ascii(path), 200)} is not written: it is not UTF-8") from error
    why = None
    if not path or size > PATH_BYTES_MAX:
        why = f"it is empty or longer than {PATH_BYTES_MAX} bytes"
    elif path.startswith("/") or "\\" in path or ":" in path:
        why = "it is absolute, or has a backslash or colon"
    elif any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path):
        why = "it has control characters"
    for part in path.split("/"):
        plain = unicodedata.normalize("NFKC", part.translate(_HFS_IGNORED)).casefold()
        if part in ("", ".", "..") or plain in ("", ".", ".."):
            why = why or "it has an empty, '.' or '..' part"
        elif plain.startswith(".git") or re.match(r"git~\d|gi[0-9a-f]{4}~\d", plain):
            why = why or f"{part!r} belongs to git"
        elif part[-1] in ". ":
            why = why or f"{part!r} ends in a dot or space"
    if why:
        raise ChangeRefused(f"path {one_line(ascii(path), 200)} is not written: {why}")
    return path


def check_branch(branch: str) -> str:
    """Return a branch name that git would accept, unchanged.

    Raises:
        SourceRefused: It is not a name of a branch (an option, a range, a pattern, a lock).
    """
    bad = (
        not branch
        or len(branch) > 200
        or branch[0] in "-/."
        or branch == "@"
        or branch.endswith(("/", ".", ".lock"))
        or re.search(r"\.\.|//|/\.|@\{|\.lock/|[\x00-\x20\x7f~^:?*\[\\]", branch) is not None
    )
    if bad:
        raise SourceRefused(f"branch {one_line(ascii(branch), 100)} is not a branch name; check advisor.yaml")
    return branch


def check_url(url: str) -> str:
    """Return an address that is spoken; a path is made absolute.

    Raises:
        SourceRefused: It is no path, file, ssh or https url, or could be read as an option.
    """
    text = url.strip()
    shown = one_line(hide_credentials(text), 200)
    if not text or text.startswith("-") or re.match(r"^\w+::", text) or re.search(r"[\x00-\x1f\x7f]", text):
        raise SourceRefused(f"repository {shown!r} is not a path, file, ssh or https url")
    scheme = re.match(r"^([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme:
        if scheme[1].lower() not in ("file", "ssh", "http", "https"):
            raise SourceRefused(f"repository {shown}: {scheme[1]} is not spoken; use a path, file, ssh or https")
        if re.match(r"^[a-z]+://(?:[^/]*@)?-", text, re.IGNORECASE):
            raise SourceRefused(f"repository {shown}: the host begins with '-'")
        return text
    if re.match(r"^[^/]+:", text):  # user@host:path, as git reads it
        return text
    return str(Path(text).expanduser().absolute())


def local_path(url: str) -> Path | None:
    """Return the folder that a checked address means, if it is one of this machine."""
    if url.startswith("/"):
        return Path(url)
    return Path(unquote(url.removeprefix("file://"))) if url.startswith("file:///") else None
