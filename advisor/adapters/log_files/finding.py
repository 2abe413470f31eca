"""Which files a pattern names: those that exist, and those that had such a name before they were rotated."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path

from advisor.evidence.log_templates import clean

ENTRIES_MAX = 20_000  # directory entries looked at for one request
FILES_MAX = 1_000

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z", ".zip")
_DATED = (
    r"[.\-_](?:\d{4}-\d\d-\d\d(?:[T_.-]\d\d(?:[-:_.]?\d\d){0,2})?|\d{8}(?:[-_T.]?\d{2,6})?|\d{10})"
    r"(?:[.\-_]\d{1,5})?"
)
_ROTATED = re.compile(rf"(.+?)(?:{_DATED}|\.\d{{1,5}}(?:\.current)?|\.(?:old|bak|prev))$")
_EXTENSION = re.compile(r"(.+)(\.[A-Za-z]{2,5})$")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that a pattern names, itself or by the name it had before it was rotated.

    Attributes:
        name: Relative to the base where it lies below, for people.
        family: Its name without what rotation added.
    """

    path: Path
    name: str
    family: str
    modified: float


def find_files(base: Path, patterns: Sequence[str], warnings: list[str]) -> list[FoundFile]:
    """Return what exists for the patterns (relative, ``**`` allowed), newest first, each file once.

    Directories, pipes and the like are returned too: that they cannot be read is for the reader to say.
    """
    budget = [ENTRIES_MAX]
    found: dict[tuple[int, int] | str, FoundFile] = {}
    for pattern in patterns:
        for path in _expand(base, pattern, warnings, budget):
            try:
                status: os.stat_result | None = path.stat()
            except OSError:
                status = None  # a broken or circular link: the reader names the reason
            key: tuple[int, int] | str = (status.st_dev, status.st_ino) if status else str(path)
            name = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
            family = name[: len(name) - len(path.name)] + min(former_names(path.name), key=len)
            modified = status.st_mtime if status else 0.0
            if key not in found:
                found[key] = FoundFile(path, clean(name), clean(family), modified)
    if budget[0] <= 0:
        warnings.append(f"only the first {ENTRIES_MAX} directory entries were looked at: name files more closely")
    newest = sorted(found.values(), key=lambda one: (-one.modified, one.name))
    if len(newest) > FILES_MAX:
        warnings.append(f"only the newest {FILES_MAX} of {len(newest)} files were read")
    return newest[:FILES_MAX]


def former_names(name: str) -> tuple[str, ...]:
    """Return a file's name and those it may have had before rotation: logrotate's and logback's ways."""
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    names = [name]
    for _ in range(2):
        rotated = _ROTATED.match(names[-1])
        if rotated:
            names.append(rotated.group(1))
    parts = _EXTENSION.match(names[-1])
    if parts:
        rotated = _ROTATED.match(parts.group(1))
        if rotated:
            names.append(rotated.group(1) + parts.group(2))
    return tuple(names)


def _expand(base: Path, pattern: str, warnings: list[str], budget: list[int]) -> Iterator[Path]:
    parts = Path(pattern).parts
    if not parts:
        return
    *folders, last = parts
    if last == "**":
        folders, last = [*folders, "**"], "*"
    places = [base]
    for part in folders:
        if part == "**":
            places = [below for place in places for below in _below(place, budget)]
        elif any(c in part for c in "*?["):
            matches = re.compile(translate(part)).match
            places = [
                place / name
                for place in places
                for name, folder in _entries(place, warnings, budget)
                if folder and matches(name) and (name[:1] != "." or part[:1] == ".")
            ]
        else:
            places = [place / part for place in places]
    matches = re.compile(translate(last)).match
    for place in places:
        for name, folder in _entries(place, warnings, budget):
            if name[:1] == "." and last[:1] != ".":
                continue
            if matches(name) or (not folder and any(matches(former) for former in former_names(name))):
                yield place / name


def _entries(place: Path, warnings: list[str], budget: list[int]) -> list[tuple[str, bool]]:
    """Return names and whether they are directories, sorted; what cannot be listed is a warning."""
    found: list[tuple[str, bool]] = []
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if budget[0] <= 0:
                    break
                budget[0] -= 1
                folder = False
                with suppress(OSError):  # a link that leads in a circle
                    folder = entry.is_dir()
                found.append((entry.name, folder))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        warnings.append(f"{place}: cannot be listed: {error.strerror or type(error).__name__}")
    return sorted(found)


def _below(place: Path, budget: list[int]) -> Iterator[Path]:
    for folder, below, names in os.walk(place, followlinks=False):  # links could lead round in circles
        below[:] = sorted(name for name in below if name[:1] != ".")
        budget[0] -= len(below) + len(names)
        if budget[0] <= 0:
            return
        yield Path(folder)
