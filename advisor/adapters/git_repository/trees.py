"""Building a change in our copy: trees with files replaced, steps taken back, patches, commits on no branch.

The same arguments give the same ids everywhere. Nothing here reaches the remote, but to fetch an object that our
copy lacks. Called by `GitRepository`, whose methods of the same names say what is promised.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from advisor.adapters.git_repository.clone import Clone
from advisor.adapters.git_repository.failures import Failure, GitFailed
from advisor.adapters.git_repository.objects import Kept, ObjectReader
from advisor.adapters.git_repository.output import (
    ABSENT,
    FOLDER,
    RAW_DIFF,
    Commit,
    Delta,
    Entry,
    kind_of,
    one_id,
    parse_deltas,
)
from advisor.adapters.git_repository.paths import check_path
from advisor.adapters.git_repository.places import check_places
from advisor.adapters.git_repository.runner import BLOB_BYTES_MAX, EMPTY_TREE, failed
from advisor.adapters.git_repository.signing import check_signing_key, signing_environment
from advisor.errors import ChangeCollision, ChangeRefused, SourceRefused, one_line

PATCH_BYTES_MAX = 8 * 1024 * 1024
_PATCH = (
    "-p -r -U3 --full-index --no-renames --no-color --no-ext-diff --no-textconv"
    " --src-prefix=a/ --dst-prefix=b/ --diff-algorithm=myers --indent-heuristic --inter-hunk-context=0"
    " --ignore-submodules=none --submodule=short --no-relative"
)


COLLIDING_COMMITS_READ = 20  # of one file; a person takes back the newest first anyway
COLLIDING_COMMITS_NAMED = 5


class _Collision(Exception):
    """Later edits stand where an inverse would write."""


class Inverse(StrEnum):
    """What taking a step back means for one file, as things stand."""

    EXACT = "exact"  # nobody touched it since: it gets its old bytes
    KEPT = "kept"  # edited elsewhere since: those edits stay
    DONE = "done"  # it is already as it was before the step
    COLLIDES = "collides"


def write_tree(clone: Clone, base_commit: str, edits: Mapping[str, bytes | None]) -> str:
    """See `GitRepository.write_tree`."""
    clone.require(base_commit)
    with clone.explained("building a tree"):
        current = entries_at(clone, base_commit, [check_path(path) for path in edits])
        _check_parents(clone, base_commit, edits)
        entries: dict[str, Entry | None] = {}
        for path, content in sorted(edits.items()):
            before = current.get(path)
            if before is not None and not before.mode.startswith("100"):
                raise ChangeRefused(f"{path} is {kind_of(before.mode)}, only regular files are written")
            if content is None:
                if before is None:
                    raise ChangeRefused(f"{path} is to be deleted but does not exist at {base_commit[:12]}")
                entries[path] = None
            elif len(content) > BLOB_BYTES_MAX:
                raise ChangeRefused(f"{path} would have {len(content)} bytes; the limit is {BLOB_BYTES_MAX}")
            else:
                entries[path] = Entry(before.mode if before else "100644", _write_blob(clone, content))
        return tree_with(clone, base_commit, entries)


def diff(clone: Clone, before: str, after: str, kept: Kept) -> bytes:
    """See `GitRepository.diff`; the patch of a pair of trees is made once while it is kept."""
    for each in (before, after):
        clone.require(each, "tree")
    with clone.explained("showing a difference"):
        trees = [clone.objects.tree_of(each) for each in (before, after)]
        if trees[0] == trees[1]:
            return b""
        words = ("diff-tree", *_PATCH.split(), "--end-of-options", *trees)
        return kept.get(*trees, ask=lambda: clone.git.run(*words, output_bytes_max=PATCH_BYTES_MAX))


def revert_tree(clone: Clone, commit: str, onto: str) -> str:
    """See `GitRepository.revert_tree`."""
    clone.require(commit)
    parent = next(iter(clone.parents_of(commit)), None)
    if parent is None and commit in clone.cut_commits():
        raise ChangeRefused(f"commit {commit[:12]} cannot be taken back: the history is cut before it")
    return apply_inverse(clone, parent or EMPTY_TREE, commit, onto, since_commit=commit)


def apply_inverse(clone: Clone, before: str, after: str, onto_commit: str, since_commit: str | None = None) -> str:
    """See `GitRepository.apply_inverse`."""
    for each in (before, after):
        if each != EMPTY_TREE:
            clone.require(each, "tree")
    clone.require(onto_commit, "tree")  # a tree will do: it is rehearsed on one before there is a commit
    with clone.explained("taking a change back"):
        deltas = steps_back(clone, before, after)
        for delta in deltas:
            check_path(delta.path)
            for mode in (delta.old_mode, delta.new_mode):
                if mode != ABSENT and not mode.startswith("100"):
                    raise ChangeRefused(f"{delta.path} is {kind_of(mode)}, only regular files are written")
        paths = [delta.path for delta in deltas]
        current = _files_at(clone, onto_commit, paths)
        entries: dict[str, Entry | None] = {}
        collisions: list[Delta] = []
        for delta in deltas:
            try:
                result = _inverse_of(clone, delta, current.get(delta.path))
            except _Collision:
                collisions.append(delta)
                continue
            if result != current.get(delta.path):
                entries[delta.path] = result
        if collisions:
            raise _conflict(clone, collisions, since_commit, onto_commit)
        restored = [path for path, entry in entries.items() if entry is not None and path not in current]
        # A file of the step may stand where its folder was, and goes in the same moment.
        _check_parents(clone, onto_commit, restored, gone=[path for path, entry in entries.items() if entry is None])
        return tree_with(clone, onto_commit, entries)


def equal_paths(clone: Clone, one: str, other: str, paths: Sequence[str]) -> frozenset[str]:
    """See `GitRepository.equal_paths`."""
    for each in (one, other):
        if each != EMPTY_TREE:
            clone.require(each, "tree")
    with clone.explained("comparing files"):
        ours, theirs = (entries_at(clone, each, paths) if each != EMPTY_TREE else {} for each in (one, other))
        return frozenset(path for path in paths if ours.get(path) == theirs.get(path))


def inverse_state(clone: Clone, before: str, after: str, onto_commit: str) -> dict[str, Inverse]:
    """See `GitRepository.inverse_state`."""
    for each in (before, after, onto_commit):
        if each != EMPTY_TREE:
            clone.require(each, "tree")
    with clone.explained("looking whether a change can be taken back"):
        deltas = steps_back(clone, before, after)
        current = _files_at(clone, onto_commit, [delta.path for delta in deltas])
        return {delta.path: _state_of(clone, delta, current.get(delta.path)) for delta in deltas}


def steps_back(clone: Clone, before: str, after: str) -> list[Delta]:
    """Return the differences of a step, each running backwards: from after it to before it."""
    raw = clone.git.run(*RAW_DIFF, "--no-renames", "--end-of-options", after, before)
    deltas = list(parse_deltas(iter(raw.split(b"\0")), errors="surrogateescape"))
    for delta in deltas:
        if not delta.path.isascii():
            check_path(delta.path)  # bytes that are no text would be looked up under another name, and not found
    return deltas


def _state_of(clone: Clone, delta: Delta, current: Entry | None) -> Inverse:
    after, before = sides_of(delta)
    if current == before:
        return Inverse.DONE
    if current == after:
        return Inverse.EXACT
    try:
        _inverse_of(clone, delta, current)
    except _Collision:
        return Inverse.COLLIDES
    return Inverse.KEPT


def commit_tree(
    clone: Clone,
    tree: str,
    parent: str,
    message: str,
    author_name: str,
    author_email: str,
    at: datetime,
    signing_key: Path | None = None,
) -> str:
    """See `GitRepository.commit_tree` and `GitRepository.signed_commit`."""
    clone.require(tree, "tree")
    clone.require(parent)
    for value in (author_name, author_email):
        if not value.strip(" .,:;'\"") or re.search(r"[<>\x00-\x1f\x7f]", value):
            raise ChangeRefused(f"author {one_line(ascii(value), 100)} cannot stand in a commit")
    try:
        body = (message.rstrip("\n") + "\n").encode("utf-8")
    except UnicodeEncodeError as error:
        raise ChangeRefused("the commit message is not UTF-8") from error
    if b"\0" in body or not body.strip():
        raise ChangeRefused("the commit message is empty or has a NUL")
    when = f"@{int(at.timestamp())} +0000"
    people = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", author_name), ("EMAIL", author_email), ("DATE", when))
    }
    sign = [] if signing_key is None else ["-S"]
    if signing_key is not None:
        people |= signing_environment(check_signing_key(signing_key))
    with clone.explained("making a commit"):
        out = clone.git.run("commit-tree", *sign, tree, "-p", parent, "-F", "-", stdin=body, environment=people)
        return one_id(out)


def entries_at(clone: Clone, treeish: str, paths: Iterable[str]) -> dict[str, Entry]:
    """Return what a commit or tree has at those paths where it has something.

    Raises:
        SourceRefused: A path is empty or has a NUL.
        GitFailed: The tree cannot be read.
    """
    wanted = list(paths)
    if any("\0" in path or not path for path in wanted):
        raise SourceRefused(f"repository {clone.name}: a path is empty or has a NUL")
    return clone.objects.entries(treeish, wanted)


def _files_at(clone: Clone, treeish: str, paths: Sequence[str]) -> dict[str, Entry]:
    """Return the same, without those folders that are folders of the step itself: they go or come with its files."""
    return {
        path: entry
        for path, entry in entries_at(clone, treeish, paths).items()
        if entry.mode != FOLDER or not any(other.startswith(f"{path}/") for other in paths)
    }


def _check_parents(clone: Clone, treeish: str, paths: Iterable[str], gone: Sequence[str] = ()) -> None:
    """Refuse paths below something that is no folder: a symbolic link would lead elsewhere."""
    parents = sorted({"/".join(p.split("/")[:n]) for p in paths for n in range(1, p.count("/") + 1)})
    for parent, entry in entries_at(clone, treeish, parents).items():
        if entry.mode != FOLDER and parent not in gone:
            raise ChangeRefused(f"{parent} is not a folder at {treeish[:12]}; nothing is written below it")


def _write_blob(clone: Clone, content: bytes) -> str:
    # Without stdin git would read ours; an empty file is git's one well-known blob.
    if not content:
        with tempfile.NamedTemporaryFile(dir=clone.directory) as empty:
            return one_id(clone.git.run("hash-object", "-w", "--no-filters", "--", empty.name))
    known = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if clone.objects.has(known, "blob"):  # most often: a change and its inverse write what was there before
        return known
    return one_id(clone.git.run("hash-object", "-w", "--no-filters", "--stdin", stdin=content))


def tree_with(clone: Clone, treeish: str, entries: Mapping[str, Entry | None]) -> str:
    """Return the tree with entries replaced, added or (None) deleted; every other entry keeps its bytes.

    Only the folders on the way to the entries are written, and no index: whatever else the repository holds, odd names in
    other folders or a hundred thousand files, is neither read nor touched.

    Raises:
        ChangeRefused: A name beside an entry would be the same file on some file system, or is none that git would make.
        GitFailed: A tree cannot be read, or our copy cannot be written.
    """
    objects = clone.objects
    check_places(objects, treeish, entries)
    edits: dict[Folder, dict[bytes, Entry | None]] = {(): {}}
    for path, entry in entries.items():
        parts = tuple(path.encode().split(b"/"))
        for depth in range(len(parts)):
            edits.setdefault(parts[:depth], {})
        edits[parts[:-1]][parts[-1]] = entry
    fresh: dict[str, bytes] = {}
    made: dict[Folder, Entry | None] = {}
    for folder in sorted(edits, key=len, reverse=True):
        below = {name[-1]: entry for name, entry in made.items() if name[:-1] == folder and name}
        made[folder] = _folder_with(_rows_at(objects, treeish, folder), below, edits[folder], fresh)
    _write_trees(clone, fresh)
    root = made[()]
    return root.id if root is not None else EMPTY_TREE


Folder = tuple[bytes, ...]


def _rows_at(objects: ObjectReader, treeish: str, folder: Folder) -> dict[bytes, Entry]:
    at: str | None = objects.tree_of(treeish)
    for part in folder:
        entry = objects.folder(at).get(part) if at is not None else None
        at = entry.id if entry is not None and entry.mode == FOLDER else None
    return objects.folder(at) if at is not None else {}


def _folder_with(
    rows: Mapping[bytes, Entry],
    below: Mapping[bytes, Entry | None],
    edits: Mapping[bytes, Entry | None],
    fresh: dict[str, bytes],
) -> Entry | None:
    """Return a folder with what its sub-folders and its files become; None if nothing is left in it."""
    kept = dict(rows)
    for name, entry in edits.items():  # first, so that a file may make room for a folder of its name
        if entry is None:
            kept.pop(name, None)
    for name, entry in below.items():
        if entry is not None:
            kept[name] = entry
        elif name in kept and kept[name].mode == FOLDER:
            del kept[name]
    for name, entry in edits.items():
        if entry is not None:
            if name in kept and kept[name].mode == FOLDER:
                raise ChangeRefused(f"{one_line(ascii(name), 100)} is a folder, only regular files are written")
            kept[name] = entry
    if not kept:
        return None
    # Git's order: a folder sorts as if its name ended in a slash.
    ordered = sorted(kept.items(), key=lambda row: row[0] + (b"/" if row[1].mode == FOLDER else b""))
    content = b"".join(e.mode.lstrip("0").encode() + b" " + name + b"\0" + bytes.fromhex(e.id) for name, e in ordered)
    tree = hashlib.sha1(b"tree %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    fresh[tree] = content
    return Entry(FOLDER, tree)


def _write_trees(clone: Clone, fresh: Mapping[str, bytes]) -> None:
    wanted = {tree: content for tree, content in fresh.items() if not clone.objects.has(tree, "tree")}
    if not wanted:
        return
    with tempfile.TemporaryDirectory(prefix="trees-", dir=clone.directory) as folder:
        files = []
        for tree, content in wanted.items():
            file = Path(folder) / tree
            file.write_bytes(content)
            files.append(str(file))
        names = "".join(f"{file}\n" for file in files).encode()
        out = clone.git.run("hash-object", "-w", "-t", "tree", "--no-filters", "--stdin-paths", stdin=names)
    if out.decode("ascii", "replace").split() != list(wanted):
        raise GitFailed(Failure.CORRUPT, "git wrote another tree than it was given: hash mismatch")


def sides_of(delta: Delta) -> tuple[Entry | None, Entry | None]:
    """Return what stands at a path after the step and before it; the delta runs backwards."""
    after = Entry(delta.old_mode, delta.old_blob) if delta.old_mode != ABSENT else None
    before = Entry(delta.new_mode, delta.new_blob) if delta.new_mode != ABSENT else None
    return after, before


def _inverse_of(clone: Clone, delta: Delta, current: Entry | None) -> Entry | None:
    """Return what a path becomes; the delta runs backwards, from after the step to before it."""
    after, before = sides_of(delta)
    if current == after:
        return before
    if current == before:
        return current
    if current is None or after is None or before is None or not current.mode.startswith("100"):
        raise _Collision
    if after.mode != before.mode and current.mode not in (after.mode, before.mode):
        raise _Collision
    mode = before.mode if after.mode != before.mode else current.mode
    if after.id == before.id:
        return Entry(mode, current.id)
    if current.id in (after.id, before.id):
        return Entry(mode, before.id)
    try:
        ours, base, theirs = (clone.objects.read(entry.id) for entry in (current, after, before))
    except GitFailed as error:
        if error.kind is Failure.TOO_LARGE:
            raise _Collision from error
        raise
    merged = _merge(clone, ours, base, theirs)
    if merged is None or _merge(clone, merged, theirs, base) != ours:
        raise _Collision
    return Entry(mode, _write_blob(clone, merged))


def _merge(clone: Clone, ours: bytes, base: bytes, theirs: bytes) -> bytes | None:
    """Return the three-way merge of a file's text, or None where the edits collide."""
    if any(b"\0" in content for content in (ours, base, theirs)):
        return None
    with tempfile.TemporaryDirectory(prefix="merge-", dir=clone.directory) as folder:
        files = [str(Path(folder) / name) for name in ("ours", "base", "theirs")]
        for file, content in zip(files, (ours, base, theirs), strict=True):
            Path(file).write_bytes(content)
        outcome = clone.git.outcome("merge-file", "-p", "-q", *files)
    if outcome.code == 0:
        return outcome.output
    if 0 < outcome.code < 128:
        return None
    raise failed(outcome)


def _conflict(clone: Clone, deltas: Sequence[Delta], since_commit: str | None, onto: str) -> ChangeCollision:
    found: dict[str, Commit] = {}
    for delta in deltas[:50]:
        for commit in _colliders(clone, delta, since_commit, onto):
            found.setdefault(commit.id, commit)
    # In the order of the history: clocks differ, and who takes them back goes from the newest to the oldest.
    limits = [f"^{since_commit}"] if since_commit and clone.objects.has(since_commit, "commit") else []
    order = clone.log(
        ["-n", "1000", "--topo-order", "--end-of-options", *limits, onto, "--", *(d.path for d in deltas[:50])]
    )
    newest = [commit for commit in order if commit.id in found]
    named = [(c.id, one_line(c.subject, 50), one_line(c.author, 40)) for c in newest]
    commits = ", ".join(
        f"{commit[:10]} ({subject}, {author})" for commit, subject, author in named[:COLLIDING_COMMITS_NAMED]
    )
    paths = [delta.path for delta in deltas]
    names = ", ".join(one_line(path, 80) for path in paths[:5]) + (", …" if len(paths) > 5 else "")
    return ChangeCollision(
        f"cannot be taken back exactly: {names} changed on the same lines since"
        f" (by {commits or 'an unknown commit'}); take those back first, or edit by hand;"
        " nothing was written",
        tuple(paths),
        tuple(named),
    )


def _colliders(clone: Clone, delta: Delta, since_commit: str | None, onto: str) -> list[Commit]:
    """Return the later commits that stand in the way of a file, oldest first; all that touched it where none can be told."""
    limits = [f"^{since_commit}"] if since_commit and clone.objects.has(since_commit, "commit") else []
    words = ["-n", str(COLLIDING_COMMITS_READ), "--end-of-options", *limits, onto, "--", delta.path]
    touching = clone.log(words)
    after, before = sides_of(delta)
    guilty: list[Commit] = []
    seen: list[Commit] = []
    for commit in touching:
        parent = next(iter(clone.parents_of(commit.id)), None)
        sides = [
            entries_at(clone, each, [delta.path]).get(delta.path) if each else None for each in (parent, commit.id)
        ]
        if not limits and sides == [before, after]:
            break  # the step itself, in a history that was written anew: what is older does not matter
        seen.append(commit)
        if _stands_in_the_way(clone, after, before, sides[0], sides[1]):
            guilty.append(commit)
    return list(reversed(guilty or seen))


def _stands_in_the_way(
    clone: Clone, after: Entry | None, before: Entry | None, old: Entry | None, new: Entry | None
) -> bool:
    """Return whether one later edit, put straight onto the step, would collide with taking the step back."""
    if after is None or old is None or new is None:
        return True  # it came, went, or came back
    if before is not None and after.mode != before.mode and old.mode != new.mode:
        return True
    if before is None or before.id == after.id or not new.mode.startswith("100"):
        return old != new
    texts = [clone.objects.read(entry.id) for entry in (after, old, new, before)]
    alone = _merge(clone, texts[0], texts[1], texts[2])
    if alone is None:
        return True  # it cannot be told apart from the edits between: better named than left out
    merged = _merge(clone, alone, texts[0], texts[3])
    return merged is None or _merge(clone, merged, texts[3], texts[0]) != alone
