"""One answer about the branch: which commits took effect in a window, by whose hand, and which keys they changed.

Walks the first-parent line, reads all differences from one process, and attributes what a merge brought to the
commits behind it as far as that is unambiguous. Called by `GitRepository.changes`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from advisor.adapters.git_repository.clone import Clone
from advisor.adapters.git_repository.failures import Failure, GitFailed
from advisor.adapters.git_repository.output import (
    ABSENT,
    LOG,
    NO_OBJECT,
    RAW_DIFF,
    Commit,
    Delta,
    failed_process,
    instant,
    parse_delta,
    parse_log,
    tokens_of,
)
from advisor.adapters.git_repository.runner import BLOB_BYTES_MAX
from advisor.adapters.git_repository.values import FILES_READ_MAX, READ_BYTES_MAX, ConfigReader
from advisor.errors import one_line
from advisor.evidence import OUTSIDE_SCOPE, ChangeAnswer, ChangeRequest, CommitChange, FileChange
from advisor.evidence.config_diff import KeyChange
from advisor.path_scope import PathScope
from advisor.values import format_instant

FILES_LISTED_MAX = 50  # out-of-scope files of one commit: enough to see what kind of commit it was
FILES_KEPT_MAX = 10 * FILES_READ_MAX  # in-scope files of one commit: what is not read is still listed
INNER_COMMITS_MAX = 20_000  # commits behind merges that are looked at for attribution
RENAME_BYTES_MAX = 64 * 1024 * 1024  # a tree of a million entries is read in one piece as well
WALK_MAX = 1_000_000
OLDER_RUN_MAX = 500  # so many commits in a row before the window end the walk: one wrong clock does not
SKEWED_RUN_MAX = 20  # commits with a date outside, between two inside: a wrong clock, not another time
_TOO_LARGE_TO_COMPARE = re.compile(r"attempting to allocate|out of memory", re.IGNORECASE)
_STATUS = {"A": "added", "D": "deleted", "M": "modified", "T": "modified", "R": "renamed", "C": "added"}


class _Placed(NamedTuple):
    commit: Commit
    effective: int


class History:
    """One answer in the making: walk, differences, attribution, keys."""

    def __init__(
        self, clone: Clone, reader: ConfigReader, request: ChangeRequest, head: str, warnings: list[str]
    ) -> None:
        """Take the question; the head is what the branch was found at."""
        self._clone = clone
        self._git = clone.git
        self._reader = reader
        self._request = request
        self._head = head
        self._warnings = warnings
        self._scope = PathScope(request.paths)
        self._since = int(request.since.timestamp())
        self._until = int(request.until.timestamp())
        self._cut = clone.cut_commits()
        self._complete = True
        self._bytes_left = READ_BYTES_MAX

    def answer(self) -> ChangeAnswer:
        """Return the commits of the window and the configuration at the head.

        Raises:
            GitFailed: Something cannot be read.
        """
        walked = self._walk()
        placed = self._place(walked)
        commits = [each.commit for each in placed]
        deltas = self._deltas([(c.id, c.parents[0] if c.parents else None) for c in commits])
        inner, inner_deltas = self._inner_commits(walked, placed, deltas)
        changes: list[CommitChange] = []
        for each in placed:
            changes += self._describe(each, deltas.get(each.commit.id, []), inner, inner_deltas)
        values, warnings = self._reader.values(self._head, self._scope)
        return ChangeAnswer(
            head=self._head,
            head_at=instant(walked[0].committed),
            commits=tuple(changes),
            configuration=values,
            history_complete=self._complete,
            warnings=tuple(dict.fromkeys(self._warnings + warnings)),
        )

    def _walk(self) -> list[Commit]:
        """Return the first-parent line from the head to well before the window."""
        walked: list[Commit] = []
        inside = older_run = 0
        seen_older = False
        with self._git.start(*LOG, "--first-parent", "--end-of-options", self._head, "--") as process:
            for commit in parse_log(tokens_of(process)):
                walked.append(commit)
                older = commit.committed < self._since
                seen_older = seen_older or older
                older_run = older_run + 1 if older else 0
                inside += self._since <= commit.committed <= self._until
                if older_run > OLDER_RUN_MAX or inside > self._request.commits_max or len(walked) >= WALK_MAX:
                    break
            else:
                if (code := process.wait()) != 0:
                    raise failed_process(process, code)
        if not walked:
            raise GitFailed(Failure.CORRUPT, f"no commit can be read at {self._head}")
        if walked[-1].id in self._cut and not seen_older:
            self._complete = False
            self._warnings.append(
                f"the history is cut at {walked[-1].id[:12]}"
                f" ({format_instant(instant(walked[-1].committed))}), inside the window:"
                " what changed before is unknown"
            )
        return walked

    def _place(self, walked: Sequence[Commit]) -> list[_Placed]:
        """Return the commits of the window, each with the time it took effect."""
        inside = [n for n, commit in enumerate(walked) if self._since <= commit.committed <= self._until]
        placed: list[_Placed] = []
        odd: list[str] = []
        for n, commit in enumerate(walked):
            effective = commit.committed
            at = bisect_left(inside, n)
            if effective < self._since:
                # It stands on a commit of the window, so the branch got it after that one, whatever its clock
                # said.
                if at >= len(inside) or inside[at] - n > SKEWED_RUN_MAX:
                    continue
                effective = walked[inside[at]].committed
                odd.append(commit.id[:12])
            elif effective > self._until:
                if at == 0 or n - inside[at - 1] > SKEWED_RUN_MAX:
                    continue
                effective = walked[inside[at - 1]].committed
                odd.append(commit.id[:12])
            placed.append(_Placed(commit, effective))
        if odd:
            self._warnings.append(
                f"commit dates contradict the order on the branch ({', '.join(odd[:5])}): placed by the order"
            )
        if len(placed) > self._request.commits_max:
            placed = placed[: self._request.commits_max]
            self._complete = False
            self._warnings.append(
                f"more than {self._request.commits_max} commits in the window: only the newest are read"
            )
        unknown = [each.commit.id[:12] for each in placed if each.commit.id in self._cut]
        if unknown:
            self._complete = False
            self._warnings.append(f"commit {unknown[0]} is where the history is cut: what it changed is unknown")
        return placed

    def _deltas(self, pairs: Sequence[tuple[str, str | None]]) -> dict[str, list[Delta]]:
        """Return what each commit changed against the given parent, all from one process."""
        known = [(commit, parent) for commit, parent in pairs if commit not in self._cut]
        if not known:
            return {}
        lines = "".join(f"{commit} {parent}\n" if parent else f"{commit}\n" for commit, parent in known)
        try:
            return self._read_deltas(lines.encode("ascii"), "-M60%", "-l200")
        except GitFailed as error:
            if not _TOO_LARGE_TO_COMPARE.search(error.words):
                raise
            self._warnings.append(
                f"files above {RENAME_BYTES_MAX} bytes may have been renamed: renames are shown as a deletion and an addition"
            )
            return self._read_deltas(lines.encode("ascii"), "--no-renames")

    def _read_deltas(self, pairs: bytes, *renames: str) -> dict[str, list[Delta]]:
        found: dict[str, list[Delta]] = {}
        # Comparing two files for a rename loads both, whatever they unpack to.
        bound = {"GIT_ALLOC_LIMIT": str(RENAME_BYTES_MAX)}
        with self._git.start(*RAW_DIFF, "--stdin", "--root", *renames, stdin=pairs, environment=bound) as process:
            current = ""
            kept: list[Delta] = []
            inside = outside = 0
            tokens = tokens_of(process)
            for token in tokens:
                if not token.startswith(b":"):
                    current, inside, outside = token.decode("ascii", "replace").strip(), 0, 0
                    kept = found.setdefault(current, [])
                    continue
                if inside >= FILES_KEPT_MAX:  # nothing more of this commit will be told: a hundred thousand files, say
                    next(tokens, b"")
                    if token.rpartition(b" ")[2][:1] in b"RC":
                        next(tokens, b"")
                    continue
                for delta in self._split_rename(parse_delta(token, tokens)):
                    if delta.path in self._scope:
                        inside += 1
                        kept.append(delta)
                    elif outside < FILES_LISTED_MAX:
                        outside += 1
                        kept.append(delta)
            if (code := process.wait()) != 0:
                raise failed_process(process, code)
        return found

    def _split_rename(self, delta: Delta) -> list[Delta]:
        """Return a rename as it is if keys can be compared across it, else as a deletion and an addition."""
        if delta.status != "R":
            return [delta]
        same_kind = Path(delta.path).suffix.lower() == Path(delta.old_path).suffix.lower()
        if same_kind and (delta.path in self._scope) == (delta.old_path in self._scope):
            return [delta]
        return [
            Delta("D", delta.old_path, delta.old_path, delta.old_mode, ABSENT, delta.old_blob, NO_OBJECT),
            Delta("A", delta.path, delta.path, ABSENT, delta.new_mode, NO_OBJECT, delta.new_blob),
        ]

    def _inner_commits(
        self, walked: Sequence[Commit], placed: Sequence[_Placed], deltas: Mapping[str, list[Delta]]
    ) -> tuple[dict[str, list[Commit]], dict[str, list[Delta]]]:
        """Return what each merge that touches the service brought, and what those commits changed."""
        merges = {
            each.commit.id
            for each in placed
            if len(each.commit.parents) > 1 and any(d.path in self._scope for d in deltas.get(each.commit.id, ()))
        }
        if not merges:
            return {}, {}
        positions = [n for n, commit in enumerate(walked) if commit.id in merges]
        line = walked[positions[0] : positions[-1] + 1]
        bottom = line[-1].parents[0]
        out = self._clone.log(
            ["-n", str(INNER_COMMITS_MAX), "--topo-order", "--end-of-options", line[0].id, f"^{bottom}", "--"]
        )
        if len(out) >= INNER_COMMITS_MAX:
            self._warnings.append("too many commits behind merges: changes are attributed to the merges")
            return {}, {}
        graph = {commit.id: commit for commit in out}
        seen = {commit.id for commit in line}
        inner: dict[str, list[Commit]] = {}
        for merge in reversed(line):  # oldest first: what an older merge brought does not count for a newer one
            brought: list[Commit] = []
            todo = list(merge.parents[1:])
            while todo:
                commit = graph.get(todo.pop())
                if commit is not None and commit.id not in seen:
                    seen.add(commit.id)
                    brought.append(commit)
                    todo += commit.parents
            if merge.id in merges:
                inner[merge.id] = [commit for commit in brought if len(commit.parents) == 1]
        pairs = [(c.id, c.parents[0]) for commits in inner.values() for c in commits]
        return inner, self._deltas(pairs)

    def _describe(
        self,
        placed: _Placed,
        deltas: Sequence[Delta],
        inner: Mapping[str, Sequence[Commit]],
        inner_deltas: Mapping[str, Sequence[Delta]],
    ) -> list[CommitChange]:
        """Return a commit of the line; a merge as the commits behind it, as far as that is unambiguous."""
        merge = placed.commit
        files = self._files(deltas)
        brought = inner.get(merge.id, ())
        if not brought:
            return [self._record(merge, placed.effective, files, None)]
        shares: dict[str, list[FileChange]] = {commit.id: [] for commit in brought}
        rest: list[FileChange] = []
        touching: dict[str, list[str]] = {}
        for commit in brought:
            for delta in inner_deltas.get(commit.id, ()):
                for path in {delta.path, delta.old_path}:
                    touching.setdefault(path, []).append(commit.id)
        for file in files:
            authors = touching.get(file.path, [])
            if len(authors) == 1:
                shares[authors[0]].append(file)
                continue
            left = list(file.keys)
            for key in file.keys if len(authors) > 1 else ():
                guilty = [a for a in authors if self._has_key(inner_deltas[a], key)]
                if len(guilty) == 1:
                    left.remove(key)
                    share = shares[guilty[0]]
                    same = next((n for n, f in enumerate(share) if f.path == file.path), None)
                    if same is None:
                        share.append(file.model_copy(update={"keys": (key,)}))
                    else:
                        share[same] = share[same].model_copy(update={"keys": (*share[same].keys, key)})
            if left or not file.keys:
                rest.append(file.model_copy(update={"keys": tuple(left)}))
        found = [self._record(c, placed.effective, shares[c.id], merge.id) for c in brought if shares[c.id]]
        if rest or not found:
            found.insert(0, self._record(merge, placed.effective, rest, None))
        return found

    def _has_key(self, deltas: Sequence[Delta], key: KeyChange) -> bool:
        for delta in deltas:
            if delta.path == key.path:
                keys, _ = self._reader.keys(delta, self._spend)
                return any((k.key, k.document) == (key.key, key.document) for k in keys)
        return False

    def _files(self, deltas: Sequence[Delta]) -> list[FileChange]:
        files: list[FileChange] = []
        read = 0
        for delta in deltas:
            status = _STATUS.get(delta.status, "modified")
            if status == "modified" and delta.old_blob == delta.new_blob:
                status = "mode"
            keys: tuple[KeyChange, ...] = ()
            note: str | None = None
            if delta.path not in self._scope:
                note = OUTSIDE_SCOPE
            elif read >= FILES_READ_MAX:
                note = f"not read: more than {FILES_READ_MAX} files in one commit"
            else:
                read += 1
                if delta.old_blob != delta.new_blob or not (delta.new_mode + delta.old_mode).startswith("100"):
                    keys, note = self._reader.keys(delta, self._spend)
            files.append(FileChange(path=delta.path, status=status, keys=keys, note=note))
            if delta.status == "R":
                moved = f"renamed to {one_line(delta.path, 200)}"
                files.append(FileChange(path=delta.old_path, status="deleted", note=moved))
        return files

    def _record(
        self, commit: Commit, effective: int, files: Sequence[FileChange], merged_by: str | None
    ) -> CommitChange:
        inside = [file for file in files if file.path in self._scope]
        outside = [file for file in files if file.path not in self._scope][:FILES_LISTED_MAX]
        return CommitChange(
            commit=commit.id,
            parent=commit.parents[0] if commit.parents else None,
            author=one_line(commit.author, 200),
            authored_at=instant(commit.authored),
            effective_at=instant(effective),
            merged_by=merged_by,
            subject=one_line(commit.subject, 200),
            in_scope=bool(inside),
            files=(*inside, *outside),
        )

    def _spend(self, size: int) -> bool:
        self._bytes_left -= min(size, BLOB_BYTES_MAX)
        return self._bytes_left >= 0
