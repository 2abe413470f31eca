"""Guardrails: small pure checks of a candidate edit, each with a name and a reason a person can read.

A guardrail that fails refuses the proposal. They look at what would be written (the files before and after,
and the patch), never at what was meant; so an editor with a fault in it is caught here as well.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from advisor.config_file import read_entries
from advisor.errors import SourceMalformed
from advisor.evidence.config_diff import KeyChange, diff_keys
from advisor.path_scope import PathScope
from advisor.playbook import Action
from advisor.proposal.patch import PatchFile
from advisor.proposal.records import FileEdit, Guardrail
from advisor.values import ActionType

PATCH_LINES_MAX = 2000  # what one person can be asked to read before saying yes
PATCH_BYTES_MAX = 1_000_000  # what redaction passes whole: beyond it the end of a long line would not be shown
REPLICAS_MAX = 1000  # far above any workload that one incident should resize; a slip of the keyboard stays below
_FILE_MODES = frozenset({"100644", "100755", ""})
_KEYS_OF: dict[ActionType, re.Pattern[str]] = {
    ActionType.SCALE: re.compile(r"(?:^|[._-])(?:min|max)?_?replica(?:s|_?count)$", re.I),
    ActionType.RESTART: re.compile(r"restart", re.I),
    ActionType.ROLL_BACK_IMAGE: re.compile(r"image|tag|digest|version", re.I),
}


def check_paths(paths: Iterable[str], globs: tuple[str, ...]) -> Guardrail:
    """Return whether each path is one of the service's own, and plain."""
    scope = PathScope(globs)
    bad = [p for p in paths if not _is_plain_path(p) or p not in scope]
    detail = f"outside the service's paths ({', '.join(globs) or 'none'}): {', '.join(map(repr, bad))}"
    return Guardrail(name="allowed_paths", passed=not bad, detail=detail if bad else "")


def check_git_names(paths: Iterable[str]) -> Guardrail:
    """Return whether no path is read by git itself or by a forge (``.gitmodules``, ``.github/…``)."""
    bad = [p for p in paths if any(_is_git_name(part) for part in p.split("/"))]
    return Guardrail(name="no_git_files", passed=not bad, detail=", ".join(map(repr, bad)))


def check_modes(files: tuple[PatchFile, ...]) -> Guardrail:
    """Return whether only plain files are touched, and none changes its mode."""
    bad = []
    for file in files:
        if file.old_mode not in _FILE_MODES or file.new_mode not in _FILE_MODES:
            bad.append(f"{file.path!r} is a link or a module ({file.old_mode or file.new_mode})")
        elif file.old_mode and file.new_mode and file.old_mode != file.new_mode:
            bad.append(f"{file.path!r} changes its mode from {file.old_mode} to {file.new_mode}")
        elif file.binary:
            bad.append(f"{file.path!r} is binary: what cannot be read cannot be approved")
    return Guardrail(name="plain_files", passed=not bad, detail="; ".join(bad))


def check_size(patch: bytes) -> Guardrail:
    """Return whether the patch is short enough to be read."""
    lines = patch.count(b"\n")
    fits = lines <= PATCH_LINES_MAX and len(patch) <= PATCH_BYTES_MAX
    detail = f"{lines} lines, {len(patch)} bytes; at most {PATCH_LINES_MAX} lines and {PATCH_BYTES_MAX} bytes"
    return Guardrail(name="patch_size", passed=fits, detail=detail if not fits else f"{lines} lines")


def check_keys(action: Action, edits: tuple[FileEdit, ...]) -> Guardrail:
    """Return whether, read again, the files differ in the stated keys and in no other."""
    changed: list[KeyChange] = []
    for edit in edits:
        try:
            differing = diff_keys(edit.before, edit.after, edit.path)
        except SourceMalformed as error:
            return Guardrail(name="stated_keys", passed=False, detail=str(error))
        if not differing:
            return Guardrail(name="stated_keys", passed=False, detail=f"{edit.path}: no key differs")
        changed += differing
    others = sorted({change.key for change in changed if not _is_stated(change, action)})
    detail = f"would also change {', '.join(others[:8])}" if others else ""
    return Guardrail(
        name="stated_keys",
        passed=not others,
        detail=detail or ", ".join(sorted({change.key for change in changed})),
    )


def _is_stated(change: KeyChange, action: Action) -> bool:
    if action.values and change.document != action.document:
        return False
    return any(is_inside(change.key, key) for key in action.keys)


def check_rules(edits: tuple[FileEdit, ...], allowed: tuple[str, ...], forbidden: tuple[str, ...]) -> Guardrail | None:
    """Return whether every key that differs may be written by the service's rules; None where there are none.

    Held against what differs, not against what was meant, so it binds the taking back of a whole commit as well.

    Args:
        edits: The touched files.
        allowed: Globs of keys; empty allows every key.
        forbidden: Globs of keys that are never written, whatever is allowed.
    """
    if not allowed and not forbidden:
        return None
    bad: list[str] = []
    written: set[str] = set()
    for edit in edits:
        if unread := _not_read_by_key(edit):
            return Guardrail(name="key_rules", passed=False, detail=unread)
        try:
            changes = diff_keys(edit.before, edit.after, edit.path)
        except SourceMalformed as error:
            return Guardrail(name="key_rules", passed=False, detail=str(error))
        for key in dict.fromkeys(change.key for change in changes):
            written.add(key)
            against = next((glob for glob in forbidden if matches_key(glob, key, covers=True)), None)
            if against is not None:
                bad.append(f"{key} is forbidden ({against})")
            elif allowed and not any(matches_key(glob, key) for glob in allowed):
                bad.append(f"{key} is not among the allowed keys")
    detail = "; ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    return Guardrail(name="key_rules", passed=not bad, detail=detail or ", ".join(sorted(written)[:8]))


def _not_read_by_key(edit: FileEdit) -> str:
    # What is not read whole by key could carry a forbidden one unseen.
    for data in (edit.before, edit.after):
        try:
            form = read_entries(data, edit.path).format if data is not None else ""
        except SourceMalformed as error:
            return str(error)
        if form in ("text", "template"):
            return f"{edit.path} is not read by key ({form}), and the service's key rules are to be held against keys"
    return ""


# What a ConfigMap or Secret holds is known to people by its own name, and a file in it by its own keys.
_MEMBER = re.compile(r'(?:data|stringData)(?:\["((?:[^"\\]|\\.)*)"\]|\.([^.\[\]":#]+))')
_IN_FILE = re.compile(r"(?:#[^.\[]*)?\.")


def matches_key(glob: str, key: str, covers: bool = False) -> bool:
    """Return whether a glob names a key, or the value that the key stands in.

    ``*`` stands for any characters, dots too; all else for itself. A key of a file inside a ConfigMap is known by its
    whole path and by its key in that file. Takes time proportional to glob times key: keys come from repositories.

    Args:
        glob: As in the settings.
        key: As `advisor.config_file` writes it.
        covers: Whether a key is also named when the glob's key lies inside of it: what holds a forbidden value whole.
    """
    for name in _names(key):
        if any(_matches(glob, name[:end]) for end in (len(name), *(m.start() for m in _INSIDE.finditer(name)))):
            return True
        if covers and is_inside(glob, name):
            return True
    return False


def _names(key: str) -> list[str]:
    names = [key]
    if member := _MEMBER.match(key):
        rest = key[member.end() :]
        quoted = member[1]
        names.append((member[2] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)) + rest)
        if inside := _IN_FILE.match(rest):
            names.append(rest[inside.end() :])
    return names


_INSIDE = re.compile(r"[:.\[#]")


def _matches(glob: str, text: str) -> bool:
    first, *rest = glob.split("*")
    if not rest:
        return glob == text
    last = rest.pop()
    if not text.startswith(first) or len(text) < len(first) + len(last) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in rest:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def is_inside(key: str, stated: str) -> bool:
    """Return whether a key is the stated one, or inside its text (a flag, an embedded file)."""
    return key == stated or any(key.startswith(f"{stated}{sign}") for sign in ":.[#")


def check_ranges(action: Action) -> Guardrail:
    """Return whether the action edits the kind of key that its type is about, with a value in range."""
    pattern = _KEYS_OF.get(action.type)
    bad = [key for key in action.keys if pattern is not None and not pattern.search(key)]
    if bad:
        return Guardrail(name="ranges", passed=False, detail=f"{action.type.value} may not set {', '.join(bad)}")
    if action.type is ActionType.SCALE:
        wrong = [v for v in action.values if not (re.fullmatch("[0-9]{1,9}", v) and 1 <= int(v) <= REPLICAS_MAX)]
        if wrong:
            detail = f"replicas must be a number from 1 to {REPLICAS_MAX}, not {wrong[0]!r}"
            return Guardrail(name="ranges", passed=False, detail=detail)
    return Guardrail(name="ranges", passed=True)


def _is_plain_path(path: str) -> bool:
    parts = path.split("/")
    return path.isprintable() and "\\" not in path and not any(part in ("", ".", "..") for part in parts)


def _is_git_name(part: str) -> bool:
    # Some file systems drop invisible characters, trailing dots and blanks, fold widths and case, or know ".gitmodules" as
    # "git~1" or "gi7eba~1"; NTFS ends a name at a colon.
    word = (
        "".join(c for c in unicodedata.normalize("NFKC", part) if unicodedata.category(c)[0] != "C").lower().lstrip(" ")
    )
    ascii_only = "".join(c for c in word if c.isascii())
    return any(re.match(r"\.git|git~|gi[0-9a-f]{4}~", each) is not None for each in (word, ascii_only))
