"""The configuration repository of a simulated incident: files, weeks of other people's commits, and the incident's own.

Dates and authors are given, so that a repository has the same commits each time it is made. `git fast-import` writes it whole.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PEOPLE = ("alice", "bob", "carol", "dave", "erin", "frank")
DAY = 86400.0


@dataclass(frozen=True)
class Edit:
    """One replacement in one file; the old text occurs exactly once. An empty old text puts a new file there."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Made:
    """A commit to be made: seconds from the window's beginning."""

    at: float
    author: str
    message: str
    edits: tuple[Edit, ...]
    tag: str = ""


class BrokenEdit(Exception):
    """An edit does not fit its file: a mistake in a case."""


_README = (
    "# Configuration\n\nOne folder for each service. `main` is what runs; the controller rolls out what changed.\n"
)


def filler(prefix: str) -> dict[str, str]:
    """Return the files of services that have no part in any incident."""
    return {
        "README.md": _README,
        f"{prefix}/newsletter/values.yaml": "image:\n  tag: 4.0.0\nreplicas: 1\nsender: news@example.org\nbatch:\n  size: 200\n",
        f"{prefix}/reports/config.json": '{\n  "image": "registry.example.org/reports:1.0.0",\n  "nightly_at": "02:30",\n  "rows": 5000\n}\n',
        f"{prefix}/newsletter/OWNERS": "carol\nfrank\n",
    }


def unrelated(prefix: str, begin: float, end: float, seed: int) -> list[Made]:
    """Return commits to those files, about every twelve hours."""
    chance = random.Random(seed)
    made: list[Made] = []
    minor, nightly, rows, lines = 0, 30, 5000, 0
    at = begin
    while True:
        at += chance.expovariate(1 / 43_000)
        if at > end:
            return made
        who = chance.choice(PEOPLE)
        match chance.randrange(4):
            case 0:
                edit = Edit(f"{prefix}/newsletter/values.yaml", f"tag: 4.0.{minor}", f"tag: 4.0.{minor + 1}")
                minor += 1
                message = f"newsletter 4.0.{minor}"
            case 1:
                edit = Edit(f"{prefix}/reports/config.json", f"02:{nightly}", f"02:{nightly + 1}")
                nightly = nightly + 1 if nightly < 58 else nightly
                if edit.new == edit.old or nightly >= 58:
                    continue
                message = "reports: a minute later"
            case 2:
                edit = Edit(f"{prefix}/reports/config.json", f'"rows": {rows}', f'"rows": {rows + 500}')
                rows += 500
                message = "reports: more rows on a page"
            case _:
                lines += 1
                edit = Edit(
                    "README.md",
                    "rolls out what changed.\n",
                    f"rolls out what changed.\n\nNote {lines}: ask before you merge.\n",
                )
                message = "README: a note"
        made.append(Made(at, who, message, (edit,)))


def write_repository(
    folder: Path, epoch: float, files: Mapping[str, str], commits: Sequence[Made], first: float
) -> dict[str, str]:
    """Write a bare repository and return the commit of each tag.

    Raises:
        BrokenEdit: An edit does not fit.
    """
    texts = dict(files)
    stream: list[bytes] = []
    marks: dict[int, str] = {}
    _commit(stream, 1, None, "alice", epoch + first, "import", texts)
    for number, made in enumerate(sorted(commits, key=lambda c: c.at), 2):
        touched = {}
        for edit in made.edits:
            if edit.old == "":
                texts[edit.path] = edit.new
            elif texts.get(edit.path, "").count(edit.old) != 1:
                raise BrokenEdit(f"{made.message}: {edit.old!r} is not exactly once in {edit.path}")
            else:
                texts[edit.path] = texts[edit.path].replace(edit.old, edit.new)
            touched[edit.path] = texts[edit.path]
        _commit(stream, number, number - 1, made.author, epoch + made.at, made.message, touched)
        if made.tag:
            marks[number] = made.tag
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    run = {"check": True, "capture_output": True, "env": environment}
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(folder)], **run)  # type: ignore[call-overload]
    listing = folder / "marks.txt"
    subprocess.run(  # type: ignore[call-overload]
        ["git", "-C", str(folder), "fast-import", "--quiet", f"--export-marks={listing}"], input=b"".join(stream), **run
    )
    by_mark = dict(line.split() for line in listing.read_text().splitlines())
    listing.unlink()
    return {tag: by_mark[f":{number}"] for number, tag in marks.items()}


def _commit(
    stream: list[bytes], mark: int, parent: int | None, author: str, at: float, message: str, files: Mapping[str, str]
) -> None:
    who = f"{author} <{author}@example.org> {round(at)} +0000"
    text = (message + "\n").encode()
    stream.append(f"commit refs/heads/main\nmark :{mark}\nauthor {who}\ncommitter {who}\ndata {len(text)}\n".encode())
    stream.append(text + b"\n")
    if parent is not None:
        stream.append(f"from :{parent}\n".encode())
    for path, content in files.items():
        data = content.encode()
        stream.append(f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n")
    stream.append(b"\n")
