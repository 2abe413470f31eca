"""What a step needs to be taken back without the history: its objects out of our copy, and into a copy made anew.

A step is read as the folders on the way to its files and the files themselves, before and after. Put into another copy
they are enough to take the step back there, even where the remote has lost or rewritten the commits around it. Every
object is checked against its id, so the step that comes back is the step that was made. Commits are never put back:
without their ancestors they would make the copy look damaged.

Our own commits are found again by their author and trailers; what they say is for `rollback` to judge. Called by
`GitRepository`, whose methods of the same names say what is promised.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from advisor.adapters.git_repository.clone import Clone
from advisor.adapters.git_repository.failures import GitFailed
from advisor.adapters.git_repository.objects import ObjectReader
from advisor.adapters.git_repository.output import ABSENT, FOLDER, Entry, check_id, parse_raw_tree
from advisor.adapters.git_repository.packing import GitObject, object_of, pack_of
from advisor.adapters.git_repository.runner import EMPTY_TREE, OBJECT_ID
from advisor.adapters.git_repository.trees import sides_of, steps_back, tree_with
from advisor.errors import ChangeConflict, ChangeRefused, SourceMalformed, one_line

OBJECTS_BYTES_MAX = 32 * 1024 * 1024  # a folder of 100,000 files, before and after, is 9 MB; files have 1 MiB at most
_OURS = "--author=<ops-advisor@advisor.invalid>"
_FIELDS = "%H%x00%P%x00%T%x00%ct%x00%an <%ae>%x00%B"


class MadeCommit(NamedTuple):
    """A commit that carries our name; anybody who may push can write one."""

    id: str
    parents: tuple[str, ...]
    tree: str
    committed: int
    author: str
    message: str


def copied_head(clone: Clone, age_seconds_max: float) -> str | None:
    """See `GitRepository.copied_head`."""
    try:
        age = time.time() - (clone.directory / "fetched").stat().st_mtime
    except OSError:
        return None
    if age > age_seconds_max:
        return None
    with clone.explained("reading our copy"):
        return clone.head()


def undo_objects(clone: Clone, before: str, after: str) -> tuple[GitObject, ...]:
    """See `GitRepository.undo_objects`."""
    for each in (before, after):
        if each != EMPTY_TREE:
            clone.require(each, "tree")
    found: dict[str, GitObject] = {}
    size = 0
    with clone.explained("keeping what a change replaces"):
        deltas = steps_back(clone, before, after)
        for treeish, side in ((after, 0), (before, 1)):
            if treeish == EMPTY_TREE:
                continue
            paths = [d.path for d in deltas if (d.old_mode, d.new_mode)[side] != ABSENT]
            folders = [d.path for d in deltas]
            for kept in (*_folders(clone.objects, treeish, folders), *_files(clone.objects, treeish, paths)):
                if kept.id not in found:
                    found[kept.id] = kept
                    size += len(kept.content)
                if size > OBJECTS_BYTES_MAX:
                    raise ChangeRefused(
                        f"what the change replaces is larger than {OBJECTS_BYTES_MAX} bytes and cannot be kept for its"
                        " rollback; nothing was written"
                    )
    return tuple(found.values())


def _folders(objects: ObjectReader, treeish: str, paths: Sequence[str]) -> Iterator[GitObject]:
    root = objects.tree_of(treeish)
    yield GitObject("tree", root, objects.content(root, "tree"))
    parents = sorted({"/".join(path.split("/")[:n]) for path in paths for n in range(1, path.count("/") + 1)})
    for entry in objects.entries(treeish, parents).values():
        if entry.mode == FOLDER:
            yield GitObject("tree", entry.id, objects.content(entry.id, "tree"))


def _files(objects: ObjectReader, treeish: str, paths: Sequence[str]) -> Iterator[GitObject]:
    for entry in objects.entries(treeish, paths).values():
        if entry.mode.startswith("100"):
            yield GitObject("blob", entry.id, objects.content(entry.id, "blob"))


def add_objects(clone: Clone, objects: Sequence[GitObject]) -> None:
    """See `GitRepository.add_objects`."""
    for each in objects:
        check_object(each)
    clone.ensure()
    with clone.explained("putting back what a change replaced"):
        missing = [each for each in objects if not clone.objects.has(each.id, each.kind)]
        if missing:
            clone.git.run("unpack-objects", "-q", stdin=pack_of(missing))


def graft_step(clone: Clone, before: str, after: str, onto_commit: str) -> tuple[str, str]:
    """See `GitRepository.graft_step`."""
    for each in (before, after):
        if each != EMPTY_TREE:
            clone.require(each, "tree")
    clone.require(onto_commit)
    with clone.explained("laying a step over the head"):
        deltas = steps_back(clone, before, after)
        found: list[str] = []
        for side in (1, 0):
            entries: dict[str, Entry | None] = {delta.path: sides_of(delta)[side] for delta in deltas}
            try:
                found.append(tree_with(clone, onto_commit, entries))
            except GitFailed as error:  # a folder stands where the step has a file, or the other way round
                names = ", ".join(one_line(d.path, 80) for d in deltas[:5])
                raise ChangeConflict(
                    f"{names}: what stands there now is of another kind; edit by hand, nothing was written"
                ) from error
        return found[0], found[1]


def check_object(found: GitObject) -> None:
    """Check that an object is what its id says.

    Raises:
        SourceMalformed: It is something else, or a tree that cannot be read.
    """
    if found.kind not in ("tree", "blob") or not OBJECT_ID.fullmatch(found.id):
        raise SourceMalformed(f"undo data: {one_line(found.kind, 20)} {one_line(found.id, 50)} is no tree or blob")
    if object_of(found.kind, found.content) != found:
        raise SourceMalformed(f"undo data: {found.kind} {found.id[:12]} has other content than its id says")
    if found.kind == "tree":
        for _name, entry in parse_raw_tree(found.content):
            check_id(entry.id)


def our_commits(clone: Clone, limit: int) -> tuple[MadeCommit, ...]:
    """See `GitRepository.our_commits`."""
    clone.ensure()
    with clone.explained("looking for our commits"):
        out = clone.git.run(
            "log",
            "-z",
            "--no-show-signature",
            "--no-notes",
            "--no-mailmap",
            "--no-color",
            "--fixed-strings",
            _OURS,
            f"--format={_FIELDS}",
            "-n",
            str(max(1, int(limit))),
            "--end-of-options",
            clone.ref,
            "--",
        )
    fields = out.decode("utf-8", "replace").split("\0")
    found = []
    for at in range(0, len(fields) - 5, 6):
        commit, parents, tree, committed, author, message = fields[at : at + 6]
        if OBJECT_ID.fullmatch(commit) and OBJECT_ID.fullmatch(tree) and committed.isdigit():
            found.append(MadeCommit(commit, tuple(parents.split()), tree, int(committed), author, message))
    return tuple(found)
