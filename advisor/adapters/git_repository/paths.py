"""Names from outside: which paths, branches and addresses may be used at all.

Pure: nothing is read. Paths come from the repository and are hostile.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote

from advisor.adapters.git_repository.failures import hide_credentials
from advisor.errors import ChangeRefused, SourceRefused, one_line

PATH_BYTES_MAX = 4096
_HFS_IGNORED = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])


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
