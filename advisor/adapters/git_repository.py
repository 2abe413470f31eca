"""The configuration repository: what changed on its branch, and the one commit that may be put onto it.

Everything happens in a bare clone of our own (`clone_directory`), with plumbing commands and full object ids:
no work tree, no checkout, nothing of the repository is ever run. Reading answers `ChangeRequest`; writing
builds trees and commits that are the same for the same input, and delivers one by compare-and-swap.

It decides nothing: what to revert, who agreed and whether it helped are the business of the stages. Called by
`workflow` (as a `ChangeSource`, and by proposal, change and rollback through it).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from advisor.adapters.git_runner import (
    BLOB_BYTES_MAX,
    EMPTY_TREE,
    OBJECT_ID,
    BlobReader,
    Failure,
    GitFailed,
    GitProcess,
    GitRunner,
    Outcome,
    blob_reader,
    failed,
    from_os_error,
    hide_credentials,
    source_error,
    telling_lines,
)
from advisor.config_file import read_entries
from advisor.errors import (
    ChangeConflict,
    ChangeError,
    ChangeRefused,
    ChangeUncertain,
    SourceError,
    SourceMalformed,
    SourceRefused,
    one_line,
)
from advisor.evidence import ChangeAnswer, ChangeRequest, CommitChange, ConfigValue, FileChange
from advisor.evidence.config_diff import KeyChange, diff_keys
from advisor.values import format_instant

FILES_LISTED_MAX = 50  # out-of-scope files of one commit: enough to see what kind of commit it was
FILES_READ_MAX = 200  # in-scope files of one commit, and of the configuration at the head
KEYS_MAX = 2000  # per file: a rewritten file of thousands of keys says nothing more
VALUES_MAX = 5000
READ_BYTES_MAX = 256 * 1024 * 1024  # all blobs of one answer; keeps a hostile history from costing minutes
INNER_COMMITS_MAX = 20_000  # commits behind merges that are looked at for attribution
WALK_MAX = 1_000_000
OLDER_RUN_MAX = 500  # so many commits in a row before the window end the walk: one wrong clock does not
SKEWED_RUN_MAX = 20  # commits with a date outside, between two inside: a wrong clock, not another time
PACKS_MAX = 40  # each fetch leaves one; lookups slow down with their number
PATCH_BYTES_MAX = 8 * 1024 * 1024
REWRITES_KEPT = 20
PATH_BYTES_MAX = 4096
DELIVERY_CHECKS = 3  # how often a silent remote is asked after a push that broke off
_FIXED_CONFIG = b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
# The operator named this repository in advisor.yaml, which is the consent that safe.directory asks for. It is
# given for reading only: a push to a repository of another user would run that user's hooks as us, and stays
# refused.
_READING_CONFIG = b"[safe]\n\tdirectory = *\n"
_FIELDS = ("%H", "%P", "%ct", "%at", "%an", "%ae", "%s")
_FORMAT = "--format=" + "%x00".join(_FIELDS)
_LOG = (
    "log",
    "-z",
    "--no-show-signature",
    "--no-notes",
    "--no-decorate",
    "--no-mailmap",
    "--no-color",
    _FORMAT,
)
_SYMLINK, _SUBMODULE, _ABSENT = "120000", "160000", "000000"
_NO_OBJECT = "0" * 40
_HFS_IGNORED = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
_STATUS = {"A": "added", "D": "deleted", "M": "modified", "T": "modified", "R": "renamed", "C": "added"}


class _Commit(NamedTuple):
    id: str
    parents: tuple[str, ...]
    committed: int
    authored: int
    author: str
    subject: str


class _Delta(NamedTuple):
    status: str
    path: str
    old_path: str
    old_mode: str
    new_mode: str
    old_blob: str
    new_blob: str


class _Entry(NamedTuple):
    mode: str
    id: str


class CommitLine(NamedTuple):
    """A commit in one line, for naming it in a message."""

    id: str
    subject: str
    author: str


# --- paths ---


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


# --- the repository ---


class GitRepository:
    """One branch of one repository, seen through a bare clone of our own.

    Everything public raises `SourceError` classes for reading, and `ChangeError` classes besides for writing.
    """

    def __init__(
        self,
        name: str,
        url: str,
        branch: str,
        clone_directory: Path,
        timeout_seconds: float = 60.0,
        ssh_key_file: Path | None = None,
    ) -> None:
        """Check the names; nothing is read or written yet.

        Args:
            name: What `advisor.yaml` calls it.
            url: A path (bare or with a work tree), or a file, ssh (also `user@host:path`) or https url.
            branch: The one branch that is read and written.
            clone_directory: A folder of its own, made when needed; deleting it loses nothing delivered.
            timeout_seconds: Of each git command.
            ssh_key_file: A private key without passphrase; None uses the agent and the usual keys.

        Raises:
            SourceRefused: The url or branch cannot be used.
        """
        self.name = name
        self.branch = check_branch(branch)
        self.url = _check_url(url)
        self.shown_url = hide_credentials(self.url)
        self._local_path = _local_path(self.url)
        self._ref = f"refs/heads/{self.branch}"
        self._directory = clone_directory.absolute()
        self._store = self._directory / "repository.git"
        self._timeout_seconds = timeout_seconds
        self._ssh_key_file = ssh_key_file
        self._seen: set[tuple[str, str]] = set()  # objects that our copy has; it never drops one by itself
        self._git = GitRunner(self._store, timeout_seconds, ssh_key_file)
        self._changes_read: dict[tuple[str, str, str], tuple[tuple[KeyChange, ...], str | None]] = {}

    # --- reading ---

    def changes(self, request: ChangeRequest) -> ChangeAnswer:
        """Return the commits that the branch got inside the window, newest first, and the head's values.

        Raises:
            SourceError: Neither the remote nor our copy of it can be read.
        """
        if request.branch != self.branch:
            raise SourceRefused(f"repository {self.name} is read on branch {self.branch}, not {request.branch!r}")
        warnings = self._refresh_or_keep()
        with self._explained("reading the history"):
            try:
                return self._read_changes(request, warnings)
            except GitFailed as error:
                if error.kind is not Failure.CORRUPT:
                    raise
                with self._locked() as lock:
                    warnings.append(self._clone_anew(lock, error))
            return self._read_changes(request, warnings)

    def _read_changes(self, request: ChangeRequest, warnings: Sequence[str]) -> ChangeAnswer:
        head = self._local_head()
        if head is None:
            raise GitFailed(Failure.CORRUPT, f"our copy has no {self._ref}")
        rewrites = self._rewrites_since(int(request.since.timestamp()))
        return _History(self, request, head, [*warnings, *rewrites]).answer()

    def configuration_at(self, commit: str, paths: Sequence[str]) -> tuple[ConfigValue, ...]:
        """Return the keys and values of the files in scope at a commit (200 files, 5,000 values).

        Raises:
            SourceError: The commit cannot be read.
        """
        self._require(commit)
        with self._explained("reading the configuration"), blob_reader(self._git) as reader:
            return self._values(commit, PathScope(paths), reader)[0]

    def head(self) -> str:
        """Return the commit that the remote's branch is at now; our copy has it then.

        Raises:
            SourceError: The remote cannot be asked; the copy is no answer here.
        """
        with self._explained("asking for the head"):
            self._synchronise()
            head = self._local_head()
            if head is None:
                raise GitFailed(Failure.CORRUPT, f"our copy has no {self._ref}")
            return head

    def read_file(self, commit: str, path: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            SourceRefused: It is missing, no regular file, or larger than 1 MiB.
            SourceError: The commit cannot be read.
        """
        self._require(commit)
        where = f"{one_line(path, 200)} at {commit[:12]}"
        with self._explained(f"reading {where}"):
            entry = self._entries(commit, [path]).get(path)
            if entry is None:
                raise SourceRefused(f"{self.name}: no file {where}")
            if not entry.mode.startswith("100"):
                raise SourceRefused(f"{self.name}: {where} is {_kind_of(entry.mode)}, not a regular file")
            with blob_reader(self._git) as reader:
                if (size := reader.size(entry.id)) > BLOB_BYTES_MAX:
                    raise SourceRefused(f"{self.name}: {where} has {size} bytes; the limit is {BLOB_BYTES_MAX}")
                return reader.read(entry.id)

    def file_mode(self, commit: str, path: str) -> str | None:
        """Return git's mode of a path (such as `100644`, `120000`, `040000`), or None if it is missing.

        Raises:
            SourceError: The commit cannot be read.
        """
        self._require(commit)
        with self._explained("reading a mode"):
            entry = self._entries(commit, [path]).get(path)
            return entry.mode if entry else None

    def parent_of(self, commit: str) -> str | None:
        """Return the first parent of a commit; None for the first commit, or where the history is cut.

        Raises:
            SourceError: The commit cannot be read.
        """
        self._require(commit)
        with self._explained("reading a commit"):
            return next(iter(self._log(["-n", "1", "--end-of-options", commit, "--"])[0].parents), None)

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Return whether a commit is the other one, or behind it.

        Raises:
            SourceError: One of the two cannot be read.
        """
        self._require(ancestor)
        self._require(descendant)
        with self._explained("comparing commits"):
            return self._is_ancestor(ancestor, descendant)

    def commits_touching(self, paths: Sequence[str], since_commit: str, until_commit: str) -> list[CommitLine]:
        """Return the commits after one and up to another that touched a path, newest first (at most 100).

        Raises:
            SourceError: One of the two cannot be read.
        """
        self._require(since_commit)
        self._require(until_commit)
        with self._explained("reading the history of files"):
            found = self._log(
                ["-n", "100", "--end-of-options", f"^{since_commit}", until_commit, "--", *paths] if paths else []
            )
            return [CommitLine(c.id, one_line(c.subject, 200), one_line(c.author, 200)) for c in found]

    def show_history(self, limit: int = 20) -> str:
        """Return the newest commits of our copy as people read them, one a line: id, time, author, subject.

        Raises:
            SourceError: There is no copy and none can be made.
        """
        self._ensure_copy()
        with self._explained("reading the history"):
            found = self._log(["-n", str(max(1, int(limit))), "--end-of-options", self._ref, "--"])
            return "".join(
                one_line(f"{c.id[:10]} {format_instant(_instant(c.committed))} {c.author}: {c.subject}", 200) + "\n"
                for c in found
            )

    # --- building a change ---

    def write_tree(self, base_commit: str, edits: Mapping[str, bytes | None]) -> str:
        """Return the tree of a commit with files replaced, added or (None) deleted; modes are kept.

        Raises:
            ChangeRefused: A path may not be written, is no regular file, or the content is larger than 1 MiB.
            SourceError: The commit cannot be read, or our copy cannot be written.
        """
        self._require(base_commit)
        with self._explained("building a tree"):
            current = self._entries(base_commit, [check_path(path) for path in edits])
            self._check_parents(base_commit, edits)
            entries: dict[str, _Entry | None] = {}
            for path, content in sorted(edits.items()):
                before = current.get(path)
                if before is not None and not before.mode.startswith("100"):
                    raise ChangeRefused(f"{path} is {_kind_of(before.mode)}, only regular files are written")
                if content is None:
                    if before is None:
                        raise ChangeRefused(f"{path} is to be deleted but does not exist at {base_commit[:12]}")
                    entries[path] = None
                elif len(content) > BLOB_BYTES_MAX:
                    raise ChangeRefused(f"{path} would have {len(content)} bytes; the limit is {BLOB_BYTES_MAX}")
                else:
                    entries[path] = _Entry(before.mode if before else "100644", self._write_blob(content))
            return self._tree_with(base_commit, entries)

    def diff(self, before: str, after: str) -> bytes:
        """Return the unified patch between two commits or trees, the same bytes on every machine.

        Raises:
            SourceRefused: It is larger than 8 MiB.
            SourceError: One of the two cannot be read.
        """
        for each in (before, after):
            self._require(each, "tree")
        fixed = (
            "-p -r -U3 --full-index --no-renames --no-color --no-ext-diff --no-textconv"
            " --src-prefix=a/ --dst-prefix=b/ --diff-algorithm=myers --indent-heuristic --inter-hunk-context=0"
            " --ignore-submodules=none --submodule=short --no-relative"
        )
        with self._explained("showing a difference"):
            return self._git.run(
                "diff-tree",
                *fixed.split(),
                "--end-of-options",
                before,
                after,
                output_bytes_max=PATCH_BYTES_MAX,
            )

    def revert_tree(self, commit: str, onto: str) -> str:
        """Return the tree of `onto` without what one commit did (a merge counts against its first parent).

        Raises:
            ChangeConflict: Later commits changed the same lines; they are named.
            ChangeRefused: The commit touched something that is never written, or its parent is cut off.
            SourceError: One of the two cannot be read.
        """
        parent = self.parent_of(commit)
        if parent is None and commit in self._cut_commits():
            raise ChangeRefused(f"commit {commit[:12]} cannot be taken back: the history is cut before it")
        return self.apply_inverse(parent or EMPTY_TREE, commit, onto, since_commit=commit)

    def apply_inverse(self, before: str, after: str, onto_commit: str, since_commit: str | None = None) -> str:
        """Return the tree of `onto_commit` with the step from `before` to `after` taken back.

        A file untouched since gets its old bytes and mode. In a file edited elsewhere since, those edits
        stay; the result is used only if doing the step again would give exactly the file of `onto_commit`
        back.

        Args:
            before: Commit or tree before the step.
            after: Commit or tree after it.
            onto_commit: Where the step is taken back.
            since_commit: The commit of the step, to name the later ones in a refusal.

        Raises:
            ChangeConflict: Later edits collide; the message names files and commits.
            ChangeRefused: The step touched something that is never written.
            SourceError: An object cannot be read.
        """
        for each in (before, after):
            if each != EMPTY_TREE:
                self._require(each, "tree")
        self._require(onto_commit)
        with self._explained("taking a change back"):
            raw = self._git.run(*_RAW, "--no-renames", "--end-of-options", after, before)
            deltas = list(_parse_deltas(iter(raw.split(b"\0"))))
            for delta in deltas:
                check_path(delta.path)
                for mode in (delta.old_mode, delta.new_mode):
                    if mode != _ABSENT and not mode.startswith("100"):
                        raise ChangeRefused(f"{delta.path} is {_kind_of(mode)}, only regular files are written")
            paths = [delta.path for delta in deltas]
            current = self._entries(onto_commit, paths)
            entries: dict[str, _Entry | None] = {}
            collisions: list[str] = []
            with blob_reader(self._git) as reader:
                for delta in deltas:
                    try:
                        result = self._inverse_of(delta, current.get(delta.path), reader)
                    except _Collision:
                        collisions.append(delta.path)
                        continue
                    if result != current.get(delta.path):
                        entries[delta.path] = result
            if collisions:
                raise self._conflict(collisions, since_commit, onto_commit)
            restored = [path for path, entry in entries.items() if entry is not None and path not in current]
            self._check_parents(onto_commit, restored)
            return self._tree_with(onto_commit, entries)

    def commit_tree(
        self, tree: str, parent: str, message: str, author_name: str, author_email: str, at: datetime
    ) -> str:
        """Return the id of a commit, the same for the same arguments; it is in our copy only, on no branch.

        Raises:
            ChangeRefused: A name or the message cannot stand in a commit as it is.
            SourceError: The tree or parent cannot be read, or our copy cannot be written.
        """
        self._require(tree, "tree")
        self._require(parent)
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
        with self._explained("making a commit"):
            out = self._git.run("commit-tree", tree, "-p", parent, "-F", "-", stdin=body, environment=people)
            return _one_id(out)

    # --- delivery ---

    def push(self, commit: str, expected_base: str) -> None:
        """Put a commit onto the remote's branch if the branch is still at its base; a repeat finds it done.

        Raises:
            ChangeConflict: The branch is elsewhere; nothing was written.
            ChangeRefused: The remote said no (hook, permission, protection); nothing was written.
            ChangeError: The remote was not reached, or has not got it; `retriable`, the same call is safe (a remote
                still at work on a push that broke off may yet finish it: the same commit, so the same outcome).
            ChangeUncertain: The connection broke off and the remote cannot be asked.
        """
        try:
            parent = self.parent_of(commit)
        except SourceError as error:
            raise ChangeRefused(f"commit {commit[:12]} is not in our copy and was not pushed: {error}") from error
        if parent != expected_base:
            raise ChangeRefused(
                f"commit {commit[:12]} was not pushed: it stands on {str(parent)[:12]}, not on {expected_base[:12]}"
            )
        try:
            self._push(commit, expected_base)
        except (GitFailed, OSError) as error:
            self._settle_push(commit, expected_base, error if isinstance(error, GitFailed) else from_os_error(error))
        # Only so that the next reading is not surprised; the next fetch would bring it as well.
        self._git.outcome("update-ref", self._ref, commit, expected_base)

    def is_delivered(self, commit: str) -> bool | None:
        """Return whether the remote's branch contains a commit; None if the remote cannot be asked.

        Raises:
            SourceRefused: It is not a full commit id.
        """
        _check_id(commit)
        try:
            current = self._remote_head()
            if current is None or current == commit:
                return current == commit
            self._synchronise()
            head = self._local_head()
            if head is None or not self._has(commit, "commit"):
                return False
            return self._is_ancestor(commit, head)
        except GitFailed as error:
            return False if error.kind in (Failure.NO_BRANCH, Failure.EMPTY) else None
        except OSError:
            return None

    # --- bundles ---

    def export_shallow(self, destination: Path, since_commits: int) -> None:
        """Write a bare repository of the branch with only its newest commits, in one pack.

        It names nothing of this host: no url, no path, no hook.

        Raises:
            SourceRefused: The folder exists and is not empty.
            SourceError: There is no copy and none can be made, or the folder cannot be written.
        """
        self._ensure_copy()
        with self._explained(f"exporting to {destination}"):
            _copy_repository(
                self._store,
                destination,
                self.branch,
                self._timeout_seconds,
                ("--depth", str(max(1, since_commits))),
            )

    @staticmethod
    def import_shallow(source: Path, destination: Path, branch: str, timeout_seconds: float = 60.0) -> None:
        """Write a clean bare repository from an exported one: only checked objects are taken over.

        Raises:
            SourceRefused: The folder exists and is not empty.
            SourceError: The source is no such repository, or is damaged.
        """
        try:
            _copy_repository(source, destination, check_branch(branch), timeout_seconds, (), check=True)
        except (GitFailed, OSError) as error:
            raise source_error(error, f"importing {source}") from error

    # --- our clone ---

    @contextmanager
    def _explained(self, attempt: str) -> Iterator[None]:
        try:
            yield
        except (GitFailed, OSError) as error:
            raise source_error(
                error, f"repository {self.name}: {attempt} of {self.shown_url}, {self.branch}"
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[int]:
        # The lock is passed on to git: a fetch that outlives a killed process still keeps others away from
        # its files.
        self._directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + self._timeout_seconds
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise GitFailed(
                            Failure.TIMEOUT, f"another process works in {self._directory} for that long"
                        ) from error
                    time.sleep(0.02)
            yield descriptor
        finally:
            os.close(descriptor)

    def _refresh_or_keep(self) -> list[str]:
        """Bring our copy up to date, or return a warning that tells how old the copy is."""
        attempt = f"repository {self.name}: reading {self.shown_url}, {self.branch}"
        try:
            return self._synchronise()
        except (GitFailed, OSError) as error:
            explained = source_error(error, attempt)
            kind = error.kind if isinstance(error, GitFailed) else Failure.UNKNOWN
            try:
                usable = kind not in (Failure.NO_BRANCH, Failure.EMPTY) and self._local_head() is not None
            except GitFailed:
                usable = False
            if not usable:
                raise explained from error
            return [f"remote unreachable, read from the copy of {self._copy_age()}: {explained}"]

    def _copy_age(self) -> str:
        try:
            return format_instant(_instant(int((self._directory / "fetched").stat().st_mtime)))
        except OSError:
            return "an unknown time"

    def _ensure_copy(self) -> None:
        if self._store.is_dir():
            with self._explained("opening our copy"):
                _write_if_different(self._store / "config", _FIXED_CONFIG)
        if not self._store.is_dir() or self._local_head() is None:
            with self._explained("reading"):
                self._synchronise()

    def _synchronise(self) -> list[str]:
        warnings: list[str] = []
        with self._locked() as lock:
            reading = self._directory / "reading.config"
            _write_if_different(reading, _READING_CONFIG)
            for stale in self._directory.glob("partial-*"):
                shutil.rmtree(stale, ignore_errors=True)
            if not self._store.is_dir():
                self._clone(lock)
            else:
                self._clean_store()
                try:
                    before = self._local_head()
                except GitFailed as error:
                    warnings.append(self._clone_anew(lock, error))
                    before = None
                try:
                    self._fetch(lock, before)
                except GitFailed as error:
                    self._clean_store()  # half a pack must not be what fills the disk
                    if error.kind is not Failure.CORRUPT:
                        raise
                    warnings.append(self._clone_anew(lock, error))
            (self._directory / "fetched").touch()
            if len(list((self._store / "objects/pack").glob("*.pack"))) > PACKS_MAX:
                # Readers find moved objects again by themselves; objects on no branch stay, so nothing is
                # lost.
                self._git.outcome("repack", "-q", "-d", "-l", "--geometric=2", keep_open=(lock,))
        return warnings

    def _clean_store(self) -> None:
        """Take away what a killed git left and what could change git's behaviour; the lock is ours."""
        _write_if_different(self._store / "config", _FIXED_CONFIG)
        ours = ("packed-refs", "shallow", "config", "HEAD", self._ref)
        planted = (
            "info/attributes",
            "info/grafts",
            "objects/info/alternates",
            "objects/info/http-alternates",
        )
        for name in (*(f"{name}.lock" for name in ours), *planted):
            (self._store / name).unlink(missing_ok=True)
        for leftover in (self._store / "objects/pack").glob("tmp_*"):
            leftover.unlink(missing_ok=True)

    def _remote_environment(self) -> dict[str, str]:
        return {"GIT_CONFIG_GLOBAL": str(self._directory / "reading.config")}

    def _clone(self, lock: int) -> None:
        """Make the clone aside and rename it: there is never half a clone under its name."""
        aside = Path(tempfile.mkdtemp(prefix="partial-", dir=self._directory))
        try:
            store = aside / "repository.git"
            if not self._clone_by_links(store, lock):
                shutil.rmtree(store, ignore_errors=True)
                runner = GitRunner(None, self._timeout_seconds, self._ssh_key_file)
                begin = ("init", "-q", "--bare", "--template=", f"--initial-branch={self.branch}")
                runner.run(*begin, str(store), keep_open=(lock,))
                _write_if_different(store / "config", _FIXED_CONFIG)
                self._fetch_into(GitRunner(store, self._timeout_seconds, self._ssh_key_file), lock, shallow=False)
            store.rename(self._store)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _clone_by_links(self, store: Path, lock: int) -> bool:
        """Return whether a repository by path could be cloned with hard links; the odd ones are fetched."""
        if self._local_path is None:
            return False
        runner = GitRunner(None, self._timeout_seconds)
        fixed = (
            "--quiet",
            "--bare",
            "--local",
            "--no-tags",
            "--single-branch",
            "--template=",
            f"--branch={self.branch}",
        )
        source = str(self._local_path)
        outcome = runner.outcome(
            "clone",
            *fixed,
            "--",
            source,
            str(store),
            environment=self._remote_environment(),
            keep_open=(lock,),
        )
        if outcome.code != 0:
            if (failure := failed(outcome)).kind is Failure.DISK_FULL:
                raise failure
            return False
        # Borrowed objects would vanish with their owner; another object format needs its own configuration.
        borrowed = (store / "objects/info/alternates").exists()
        if borrowed or b"objectformat" in (store / "config").read_bytes().lower():
            return False
        _write_if_different(store / "config", _FIXED_CONFIG)
        return GitRunner(store, self._timeout_seconds).outcome("rev-parse", "-q", "--verify", self._ref).code == 0

    def _clone_anew(self, lock: int, cause: GitFailed) -> str:
        """Replace a damaged copy and return a warning that says so."""
        self._seen.clear()
        aside = Path(tempfile.mkdtemp(prefix="partial-", dir=self._directory)) / "damaged.git"
        self._store.rename(aside)
        try:
            self._clone(lock)
        except (GitFailed, OSError):
            # The damage may be the remote's: what we have is then better than nothing.
            aside.rename(self._store)
            raise cause from None
        finally:
            shutil.rmtree(aside.parent, ignore_errors=True)
        return f"our copy was damaged and was made anew ({one_line(cause.words, 120)})"

    def _fetch(self, lock: int, before: str | None) -> None:
        self._fetch_into(self._git, lock, shallow=(self._store / "shallow").exists())
        after = self._local_head()
        if before and after and before != after and not self._is_ancestor(before, after):
            # Kept as a ref: the warning then lasts as long as the window shows it, and the old commits stay
            # readable.
            self._git.run("update-ref", f"refs/advisor/rewritten/{int(time.time())}-{before}", before)
            for _, ref in self._rewrites()[:-REWRITES_KEPT]:
                self._git.run("update-ref", "-d", ref)

    def _fetch_into(self, runner: GitRunner, lock: int, shallow: bool) -> None:
        fixed = ["--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc"]
        # A remote that is cut itself may move its cut; one that was completed since completes our copy.
        fixed += ["--update-shallow", *(["--unshallow"] if shallow else [])]
        try:
            runner.run(
                "fetch",
                *fixed,
                "--",
                self.url,
                f"+{self._ref}:{self._ref}",
                environment=self._remote_environment(),
                keep_open=(lock,),
            )
        except GitFailed as error:
            if error.kind is Failure.NO_BRANCH:
                raise self._no_branch() from error
            raise

    def _no_branch(self) -> GitFailed:
        out = GitRunner(None, self._timeout_seconds, self._ssh_key_file).run(
            "ls-remote", "--heads", "--", self.url, environment=self._remote_environment()
        )
        names = [line.partition("\trefs/heads/")[2] for line in out.decode("utf-8", "replace").splitlines()]
        if not names:
            return GitFailed(Failure.EMPTY, "")
        return GitFailed(Failure.NO_BRANCH, f"its branches are: {', '.join(names[:10])}")

    def _remote_head(self) -> str | None:
        """Return what the remote's branch is at, asked now."""
        self._directory.mkdir(parents=True, exist_ok=True)
        _write_if_different(self._directory / "reading.config", _READING_CONFIG)
        out = GitRunner(None, self._timeout_seconds, self._ssh_key_file).run(
            "ls-remote", "--refs", "--", self.url, self._ref, environment=self._remote_environment()
        )
        for line in out.decode("utf-8", "replace").splitlines():
            commit, _, ref = line.partition("\t")
            if ref == self._ref and OBJECT_ID.fullmatch(commit):
                return commit
        return None

    def _local_head(self) -> str | None:
        if not self._store.is_dir():
            return None
        outcome = self._git.outcome("rev-parse", "-q", "--verify", "--end-of-options", f"{self._ref}^{{commit}}")
        if outcome.code != 0:
            if outcome.words.strip():
                raise failed(outcome)
            return None
        return _one_id(outcome.output)

    def _cut_commits(self) -> frozenset[str]:
        try:
            return frozenset((self._store / "shallow").read_text("ascii").split())
        except FileNotFoundError:
            return frozenset()

    def _rewrites(self) -> list[tuple[int, str]]:
        out = self._git.run("for-each-ref", "--format=%(refname)", "refs/advisor/rewritten/").decode("utf-8", "replace")
        found = [(int(match[1]), match[0]) for match in re.finditer(r"refs/advisor/rewritten/(\d+)-[0-9a-f]{40}", out)]
        return sorted(found)

    def _rewrites_since(self, since: int) -> list[str]:
        return [
            f"the history of {self.branch} was rewritten: {ref.rpartition('-')[2][:12]} was its head until"
            f" {format_instant(_instant(at))} and is no longer on it"
            for at, ref in self._rewrites()
            if at >= since
        ]

    # --- objects ---

    def _require(self, object_id: str, kind: str = "commit") -> None:
        """Make sure that our copy has an object, if the remote can give it."""
        _check_id(object_id)
        if (object_id, kind) in self._seen and self._store.is_dir():
            return
        self._ensure_copy()
        with self._explained(f"looking for {object_id[:12]}"):
            if not self._has(object_id, kind):
                self._synchronise()
                if not self._has(object_id, kind):
                    raise SourceRefused(f"repository {self.name}: {object_id[:12]} is no {kind} of {self.shown_url}")
            self._seen.add((object_id, kind))

    def _has(self, object_id: str, kind: str) -> bool:
        return self._git.outcome("cat-file", "-e", f"{object_id}^{{{kind}}}").code == 0

    def _log(self, arguments: Sequence[str]) -> list[_Commit]:
        if not arguments:
            return []
        return list(_parse_log(iter(self._git.run(*_LOG, *arguments).split(b"\0"))))

    def _is_ancestor(self, ancestor: str, descendant: str) -> bool:
        outcome = self._git.outcome("merge-base", "--is-ancestor", ancestor, descendant)
        if outcome.code not in (0, 1):
            raise failed(outcome)
        return outcome.code == 0

    def _entries(self, treeish: str, paths: Iterable[str]) -> dict[str, _Entry]:
        wanted = list(dict.fromkeys(paths))
        found: dict[str, _Entry] = {}
        for start in range(0, len(wanted), 500):  # an argument list has a bound
            part = wanted[start : start + 500]
            if any("\0" in path or not path for path in part):
                raise SourceRefused(f"repository {self.name}: a path is empty or has a NUL")
            out = self._git.run("ls-tree", "-z", "--full-tree", treeish, "--", *part)
            found |= dict(_parse_tree(out))
        return {path: found[path] for path in wanted if path in found}

    def _check_parents(self, treeish: str, paths: Iterable[str]) -> None:
        """Refuse paths below something that is no folder: a symbolic link would lead elsewhere."""
        parents = sorted({"/".join(p.split("/")[:n]) for p in paths for n in range(1, p.count("/") + 1)})
        lines = "".join(f"{treeish}:{parent}\n" for parent in parents).encode("utf-8")
        if not lines:
            return
        answers = self._git.run("cat-file", "--batch-check=%(objecttype)", stdin=lines).decode("utf-8", "replace")
        for parent, answer in zip(parents, answers.splitlines(), strict=True):
            if answer != "tree" and not answer.endswith(" missing"):
                raise ChangeRefused(f"{parent} is not a folder at {treeish[:12]}; nothing is written below it")

    def _write_blob(self, content: bytes) -> str:
        # Without stdin git would read ours; an empty file is git's one well-known blob.
        if not content:
            with tempfile.NamedTemporaryFile(dir=self._directory) as empty:
                return _one_id(self._git.run("hash-object", "-w", "--no-filters", "--", empty.name))
        return _one_id(self._git.run("hash-object", "-w", "--no-filters", "--stdin", stdin=content))

    def _tree_with(self, treeish: str, entries: Mapping[str, _Entry | None]) -> str:
        with tempfile.TemporaryDirectory(prefix="index-", dir=self._directory) as folder:
            private = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self._git.run("read-tree", f"{treeish}^{{tree}}", environment=private)
            lines = b"".join(
                f"{entry.mode if entry else '0'} {entry.id if entry else _NO_OBJECT}\t{path}\0".encode()
                # Deletions first: a file may make room for a folder of its name, or the reverse.
                for path, entry in sorted(entries.items(), key=lambda item: (item[1] is not None, item[0]))
            )
            if lines:
                self._git.run("update-index", "-z", "--index-info", stdin=lines, environment=private)
            tree = _one_id(self._git.run("write-tree", environment=private))
        return tree

    def _inverse_of(self, delta: _Delta, current: _Entry | None, reader: BlobReader) -> _Entry | None:
        """Return what a path becomes; the delta runs backwards, from after the step to before it."""
        after = _Entry(delta.old_mode, delta.old_blob) if delta.old_mode != _ABSENT else None
        before = _Entry(delta.new_mode, delta.new_blob) if delta.new_mode != _ABSENT else None
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
            return _Entry(mode, current.id)
        if current.id in (after.id, before.id):
            return _Entry(mode, before.id)
        try:
            ours, base, theirs = (reader.read(entry.id) for entry in (current, after, before))
        except GitFailed as error:
            if error.kind is Failure.TOO_LARGE:
                raise _Collision from error
            raise
        merged = self._merge(ours, base, theirs)
        if merged is None or self._merge(merged, theirs, base) != ours:
            raise _Collision
        return _Entry(mode, self._write_blob(merged))

    def _merge(self, ours: bytes, base: bytes, theirs: bytes) -> bytes | None:
        """Return the three-way merge of a file's text, or None where the edits collide."""
        if any(b"\0" in content for content in (ours, base, theirs)):
            return None
        with tempfile.TemporaryDirectory(prefix="merge-", dir=self._directory) as folder:
            files = [str(Path(folder) / name) for name in ("ours", "base", "theirs")]
            for file, content in zip(files, (ours, base, theirs), strict=True):
                Path(file).write_bytes(content)
            outcome = self._git.outcome("merge-file", "-p", "-q", *files)
        if outcome.code == 0:
            return outcome.output
        if 0 < outcome.code < 128:
            return None
        raise failed(outcome)

    def _conflict(self, paths: Sequence[str], since_commit: str | None, onto: str) -> ChangeConflict:
        limits = [f"^{since_commit}"] if since_commit else []
        found = self._log(["-n", "5", "--end-of-options", *limits, onto, "--", *paths[:50]])
        commits = ", ".join(f"{c.id[:10]} ({one_line(c.subject, 50)}, {one_line(c.author, 40)})" for c in found)
        names = ", ".join(one_line(path, 80) for path in paths[:5]) + (", …" if len(paths) > 5 else "")
        return ChangeConflict(
            f"cannot be taken back exactly: {names} changed on the same lines since"
            f" (by {commits or 'an unknown commit'}); take those back first, or edit by hand;"
            " nothing was written"
        )

    # --- keys and values ---

    def _values(self, commit: str, scope: PathScope, reader: BlobReader) -> tuple[tuple[ConfigValue, ...], list[str]]:
        values: list[ConfigValue] = []
        unread: list[str] = []
        warnings: list[str] = []
        files = 0
        with self._git.start("ls-tree", "-r", "-z", "--full-tree", commit, "--", *scope.folders) as listing:
            for token in _tokens(listing):
                for path, entry in _parse_tree(token):
                    if path not in scope:
                        continue
                    files += 1
                    if files > FILES_READ_MAX or len(values) >= VALUES_MAX:
                        continue
                    note, content = _content(entry.mode, entry.id, reader)
                    if note is None and content is not None:
                        try:
                            read = read_entries(content, path)
                        except (SourceMalformed, RecursionError) as error:
                            note = one_line(str(error), 120)
                        else:
                            values += [
                                ConfigValue(path=path, key=e.key, value=_text(e.value), document=e.document)
                                for e in read.entries[: VALUES_MAX - len(values)]
                            ]
                    if note is not None:
                        unread.append(f"{one_line(path, 80)}: {note}")
            if (code := listing.wait()) != 0:
                raise _failed_process(listing, code)
        if files > FILES_READ_MAX or len(values) >= VALUES_MAX:
            warnings.append(
                f"the configuration at the head is cut: {files} files in scope,"
                f" the limits are {FILES_READ_MAX} files and {VALUES_MAX} values;"
                " narrow the paths of the service"
            )
        if unread:
            more = f" and {len(unread) - 3} more" if len(unread) > 3 else ""
            warnings.append(f"not read as configuration: {'; '.join(unread[:3])}{more}")
        return tuple(values), warnings

    def _keys(
        self, delta: _Delta, reader: BlobReader, spend: Callable[[int], bool]
    ) -> tuple[tuple[KeyChange, ...], str | None]:
        """Return the key-level differences of one file, or why there are none to read."""
        question = (delta.old_blob, delta.new_blob, f"{delta.path}\0{delta.old_mode}\0{delta.new_mode}")
        known = self._changes_read.get(question)
        if known is not None:
            return known
        contents: list[bytes | None] = []
        for mode, blob in ((delta.old_mode, delta.old_blob), (delta.new_mode, delta.new_blob)):
            if mode == _ABSENT:
                contents.append(None)
                continue
            if mode.startswith("100") and not spend(reader.size(blob)):
                return (), f"not read: the answer has {READ_BYTES_MAX} bytes of files already"
            note, content = _content(mode, blob, reader)
            if note is not None:
                return self._remember(question, (), note)
            contents.append(content)
        try:
            keys = diff_keys(contents[0], contents[1], delta.path)
        except (SourceMalformed, RecursionError) as error:
            return self._remember(question, (), one_line(str(error), 200) or type(error).__name__)
        note = f"only the first {KEYS_MAX} of {len(keys)} keys" if len(keys) > KEYS_MAX else None
        return self._remember(question, keys[:KEYS_MAX], note)

    def _remember(
        self, question: tuple[str, str, str], keys: tuple[KeyChange, ...], note: str | None
    ) -> tuple[tuple[KeyChange, ...], str | None]:
        if len(self._changes_read) > 4096:
            self._changes_read.clear()
        self._changes_read[question] = (keys, note)
        return keys, note

    # --- push ---

    def _push(self, commit: str, base: str) -> None:
        def attempt(*extra: str) -> None:
            self._git.run(
                "push",
                "--porcelain",
                "--no-verify",
                "--no-follow-tags",
                "--recurse-submodules=no",
                "--no-signed",
                f"--force-with-lease={self._ref}:{base}",
                *extra,
                "--",
                self.url,
                f"{commit}:{self._ref}",
            )

        try:
            attempt("--atomic")
        except GitFailed as error:
            # One ref is atomic by itself; some old servers only do not know the word.
            if "does not support --atomic" not in error.words:
                raise
            attempt()

    def _settle_push(self, commit: str, base: str, error: GitFailed) -> None:
        """Tell what a failed push did. Returns if the commit arrived after all, raises otherwise."""
        where = f"{self.shown_url}, {self.branch}"
        said = telling_lines(error.words)
        verdict = error.output.decode("utf-8", "replace")
        rejected = re.search(r"^!\t[^\t]*\t\[(?:remote )?rejected\] \((.*)\)\s*$", verdict, re.MULTILINE)
        broke_off = f"push of {commit[:12]} to {where} broke off ({error.kind.value}: {said or 'no words'})"
        current: str | None = None
        asked = False
        for attempt in range(DELIVERY_CHECKS):
            try:
                current = self._remote_head()
                asked = True
                if current == commit or (current not in (None, base) and self.is_delivered(commit)):
                    return
                break
            except (GitFailed, OSError):
                time.sleep(0.2 * (attempt + 1))
        if rejected is None and error.kind in _NEVER_SENT:
            raise ChangeRefused(f"push to {where} was refused, nothing was written: {error.kind.value} ({said})")
        if rejected is not None and (not asked or current == base):
            raise ChangeRefused(f"push to {where} was refused, nothing was written: {_refusal(rejected[1], said)}")
        if not asked:
            if _NEVER_CONNECTED.search(error.words) and not _BROKE_OFF.search(error.words):
                failure = ChangeError(f"push of {commit[:12]} to {where} was not begun, nothing was written: {said}")
                failure.retriable = True
                raise failure
            raise ChangeUncertain(
                f"{broke_off} and the remote cannot be asked whether it has it; look whether {commit[:12]}"
                f" is on {self.branch} before anything else"
            )
        if current == base:
            failure = ChangeError(f"{broke_off}; the branch is still at {base[:12]}; the same push may be repeated")
            failure.retriable = True
            raise failure
        now = f"is at {current[:12]} now" if current else "does not exist any more"
        raise ChangeConflict(
            f"push of {commit[:12]} to {where}: the branch {now}, not at {base[:12]}; nothing was written;"
            " a fresh proposal is needed"
        )


# Failures that git reports before the remote is asked to change anything.
_NEVER_SENT = frozenset(
    (
        Failure.AUTH,
        Failure.HOST_KEY,
        Failure.MISSING,
        Failure.OWNERSHIP,
        Failure.PROTOCOL,
        Failure.NOT_INSTALLED,
    )
)


_NEVER_CONNECTED = re.compile(
    r"could not resolve host|name or service not known|failure in name resolution|ssh: connect to host"
    r"|failed to connect|couldn't connect|network is unreachable|no route to host",
    re.IGNORECASE,
)
_BROKE_OFF = re.compile(r"hung up|disconnect|early eof|reset by|broken pipe", re.IGNORECASE)


class _Collision(Exception):
    """Later edits stand where an inverse would write."""


# --- history ---


class _Placed(NamedTuple):
    commit: _Commit
    effective: int


class _History:
    """One answer in the making: walk, differences, attribution, keys."""

    def __init__(self, repository: GitRepository, request: ChangeRequest, head: str, warnings: list[str]) -> None:
        self._repository = repository
        self._git = repository._git
        self._request = request
        self._head = head
        self._warnings = warnings
        self._scope = PathScope(request.paths)
        self._since = int(request.since.timestamp())
        self._until = int(request.until.timestamp())
        self._cut = repository._cut_commits()
        self._complete = True
        self._bytes_left = READ_BYTES_MAX

    def answer(self) -> ChangeAnswer:
        walked = self._walk()
        placed = self._place(walked)
        commits = [each.commit for each in placed]
        deltas = self._deltas([(c.id, c.parents[0] if c.parents else None) for c in commits])
        inner, inner_deltas = self._inner_commits(walked, placed, deltas)
        with blob_reader(self._git) as reader:
            changes: list[CommitChange] = []
            for each in placed:
                changes += self._describe(each, deltas.get(each.commit.id, []), inner, inner_deltas, reader)
            values, warnings = self._repository._values(self._head, self._scope, reader)
        return ChangeAnswer(
            head=self._head,
            head_at=_instant(walked[0].committed),
            commits=tuple(changes),
            configuration=values,
            history_complete=self._complete,
            warnings=tuple(dict.fromkeys(self._warnings + warnings)),
        )

    def _walk(self) -> list[_Commit]:
        """Return the first-parent line from the head to well before the window."""
        walked: list[_Commit] = []
        inside = older_run = 0
        seen_older = False
        with self._git.start(*_LOG, "--first-parent", "--end-of-options", self._head, "--") as process:
            for commit in _parse_log(_tokens(process)):
                walked.append(commit)
                older = commit.committed < self._since
                seen_older = seen_older or older
                older_run = older_run + 1 if older else 0
                inside += self._since <= commit.committed <= self._until
                if older_run > OLDER_RUN_MAX or inside > self._request.commits_max or len(walked) >= WALK_MAX:
                    break
            else:
                if (code := process.wait()) != 0:
                    raise _failed_process(process, code)
        if not walked:
            raise GitFailed(Failure.CORRUPT, f"no commit can be read at {self._head}")
        if walked[-1].id in self._cut and not seen_older:
            self._complete = False
            self._warnings.append(
                f"the history is cut at {walked[-1].id[:12]}"
                f" ({format_instant(_instant(walked[-1].committed))}), inside the window:"
                " what changed before is unknown"
            )
        return walked

    def _place(self, walked: Sequence[_Commit]) -> list[_Placed]:
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

    def _deltas(self, pairs: Sequence[tuple[str, str | None]]) -> dict[str, list[_Delta]]:
        """Return what each commit changed against the given parent, all from one process."""
        known = [(commit, parent) for commit, parent in pairs if commit not in self._cut]
        if not known:
            return {}
        lines = "".join(f"{commit} {parent}\n" if parent else f"{commit}\n" for commit, parent in known)
        found: dict[str, list[_Delta]] = {}
        extra = ("--stdin", "--root", "-M60%", "-l200")
        with self._git.start(*_RAW, *extra, stdin=lines.encode("ascii")) as process:
            current = ""
            kept: list[_Delta] = []
            outside = 0
            tokens = _tokens(process)
            for token in tokens:
                if not token.startswith(b":"):
                    current, outside = token.decode("ascii", "replace").strip(), 0
                    kept = found.setdefault(current, [])
                    continue
                for delta in self._split_rename(_parse_delta(token, tokens)):
                    if delta.path in self._scope:
                        if len(kept) < 10 * FILES_READ_MAX:
                            kept.append(delta)
                    elif outside < FILES_LISTED_MAX:
                        outside += 1
                        kept.append(delta)
            if (code := process.wait()) != 0:
                raise _failed_process(process, code)
        return found

    def _split_rename(self, delta: _Delta) -> list[_Delta]:
        """Return a rename as it is if keys can be compared across it, else as a deletion and an addition."""
        if delta.status != "R":
            return [delta]
        same_kind = Path(delta.path).suffix.lower() == Path(delta.old_path).suffix.lower()
        if same_kind and (delta.path in self._scope) == (delta.old_path in self._scope):
            return [delta]
        return [
            _Delta("D", delta.old_path, delta.old_path, delta.old_mode, _ABSENT, delta.old_blob, _NO_OBJECT),
            _Delta("A", delta.path, delta.path, _ABSENT, delta.new_mode, _NO_OBJECT, delta.new_blob),
        ]

    def _inner_commits(
        self, walked: Sequence[_Commit], placed: Sequence[_Placed], deltas: Mapping[str, list[_Delta]]
    ) -> tuple[dict[str, list[_Commit]], dict[str, list[_Delta]]]:
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
        out = self._repository._log(
            ["-n", str(INNER_COMMITS_MAX), "--topo-order", "--end-of-options", line[0].id, f"^{bottom}", "--"]
        )
        if len(out) >= INNER_COMMITS_MAX:
            self._warnings.append("too many commits behind merges: changes are attributed to the merges")
            return {}, {}
        graph = {commit.id: commit for commit in out}
        seen = {commit.id for commit in line}
        inner: dict[str, list[_Commit]] = {}
        for merge in reversed(line):  # oldest first: what an older merge brought does not count for a newer one
            brought: list[_Commit] = []
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
        deltas: Sequence[_Delta],
        inner: Mapping[str, Sequence[_Commit]],
        inner_deltas: Mapping[str, Sequence[_Delta]],
        reader: BlobReader,
    ) -> list[CommitChange]:
        """Return a commit of the line; a merge as the commits behind it, as far as that is unambiguous."""
        merge = placed.commit
        files = self._files(deltas, reader)
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
                guilty = [a for a in authors if self._has_key(inner_deltas[a], key, reader)]
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

    def _has_key(self, deltas: Sequence[_Delta], key: KeyChange, reader: BlobReader) -> bool:
        for delta in deltas:
            if delta.path == key.path:
                keys, _ = self._repository._keys(delta, reader, self._spend)
                return any((k.key, k.document) == (key.key, key.document) for k in keys)
        return False

    def _files(self, deltas: Sequence[_Delta], reader: BlobReader) -> list[FileChange]:
        files: list[FileChange] = []
        read = 0
        for delta in deltas:
            status = _STATUS.get(delta.status, "modified")
            if status == "modified" and delta.old_blob == delta.new_blob:
                status = "mode"
            keys: tuple[KeyChange, ...] = ()
            note: str | None = None
            if delta.path not in self._scope:
                note = "outside the service's paths"
            elif read >= FILES_READ_MAX:
                note = f"not read: more than {FILES_READ_MAX} files in one commit"
            else:
                read += 1
                if delta.old_blob != delta.new_blob or not (delta.new_mode + delta.old_mode).startswith("100"):
                    keys, note = self._repository._keys(delta, reader, self._spend)
            files.append(FileChange(path=delta.path, status=status, keys=keys, note=note))
            if delta.status == "R":
                moved = f"renamed to {one_line(delta.path, 200)}"
                files.append(FileChange(path=delta.old_path, status="deleted", note=moved))
        return files

    def _record(
        self, commit: _Commit, effective: int, files: Sequence[FileChange], merged_by: str | None
    ) -> CommitChange:
        inside = [file for file in files if file.path in self._scope]
        outside = [file for file in files if file.path not in self._scope][:FILES_LISTED_MAX]
        return CommitChange(
            commit=commit.id,
            parent=commit.parents[0] if commit.parents else None,
            author=one_line(commit.author, 200),
            authored_at=_instant(commit.authored),
            effective_at=_instant(effective),
            merged_by=merged_by,
            subject=one_line(commit.subject, 200),
            in_scope=bool(inside),
            files=(*inside, *outside),
        )

    def _spend(self, size: int) -> bool:
        self._bytes_left -= min(size, BLOB_BYTES_MAX)
        return self._bytes_left >= 0


# --- what git prints ---

_RAW = (
    "diff-tree",
    "-r",
    "-z",
    "--raw",
    "--no-abbrev",
    "--no-ext-diff",
    "--no-textconv",
    "--ignore-submodules=none",
)


def _tokens(process: GitProcess) -> Iterator[bytes]:
    rest = b""
    while chunk := process.read_some():
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole
    if rest:
        yield rest


def _parse_log(tokens: Iterator[bytes]) -> Iterator[_Commit]:
    while True:
        fields = [token.decode("utf-8", "replace") for _, token in zip(range(len(_FIELDS)), tokens, strict=False)]
        if len(fields) < len(_FIELDS):
            return
        commit, parents, committed, authored, name, email, subject = fields
        if not OBJECT_ID.fullmatch(commit):
            raise GitFailed(Failure.CORRUPT, f"git log printed {one_line(commit, 80)!r} where a commit id belongs")
        author = f"{name} <{email}>"
        yield _Commit(commit, tuple(parents.split()), _seconds(committed), _seconds(authored), author, subject)


def _parse_deltas(tokens: Iterator[bytes]) -> Iterator[_Delta]:
    for token in tokens:
        if token.startswith(b":"):
            yield _parse_delta(token, tokens)


def _parse_delta(token: bytes, tokens: Iterator[bytes]) -> _Delta:
    old_mode, new_mode, old_blob, new_blob, status = token[1:].decode("ascii", "replace").split(" ")
    first = next(tokens, b"").decode("utf-8", "replace")
    second = next(tokens, b"").decode("utf-8", "replace") if status[:1] in "RC" else first
    return _Delta(status[:1], second, first, old_mode, new_mode, old_blob, new_blob)


def _parse_tree(out: bytes) -> Iterator[tuple[str, _Entry]]:
    for line in out.split(b"\0"):
        head, tab, path = line.partition(b"\t")
        if tab:
            mode, _, object_id = head.decode("ascii", "replace").split(" ")[:3]
            yield path.decode("utf-8", "replace"), _Entry(mode, object_id)


def _content(mode: str, blob: str, reader: BlobReader) -> tuple[str | None, bytes | None]:
    """Return why a file is not read as configuration, or its bytes."""
    if not mode.startswith("100"):
        return f"{_kind_of(mode)}, not followed", None
    size = reader.size(blob)
    if size > BLOB_BYTES_MAX:
        return f"not read: {size} bytes, the limit is {BLOB_BYTES_MAX}", None
    content = reader.read(blob)
    return ("binary", None) if b"\0" in content[:8000] else (None, content)


def _kind_of(mode: str) -> str:
    names = {_SYMLINK: "a symbolic link", _SUBMODULE: "a submodule", "040000": "a folder"}
    return names.get(mode, f"of mode {mode}")


def _seconds(text: str) -> int:
    try:
        return min(max(int(text), 0), 253402300799)  # the last second of year 9999; hostile commits date beyond it
    except ValueError:
        return 0


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def _one_id(out: bytes) -> str:
    return _check_id(out.decode("ascii", "replace").strip())


def _check_id(object_id: str) -> str:
    if not OBJECT_ID.fullmatch(object_id):
        raise SourceRefused(f"{one_line(ascii(object_id), 80)} is not a full object id of 40 hexadecimal digits")
    return object_id


def _failed_process(process: GitProcess, code: int) -> GitFailed:
    # Of a command whose output was read as a stream.
    return failed(Outcome(code, b"", process.words))


def _refusal(reason: str, said: str) -> str:
    if "currently checked out" in reason or "checked out" in said:
        return (
            f"{reason}: the repository has a work tree with this branch checked out; there, run"
            " `git config receive.denyCurrentBranch updateInstead`, or use a bare repository"
        )
    return f"{reason}: {said}" if said else reason


# --- places ---


def _check_url(url: str) -> str:
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


def _local_path(url: str) -> Path | None:
    if url.startswith("/"):
        return Path(url)
    return Path(unquote(url.removeprefix("file://"))) if url.startswith("file:///") else None


def _write_if_different(path: Path, content: bytes) -> None:
    try:
        if path.read_bytes() == content:
            return
    except FileNotFoundError:
        pass
    aside = path.with_name(f".{path.name}-{os.getpid()}-{time.monotonic_ns()}")
    aside.write_bytes(content)
    aside.replace(path)


def _copy_repository(
    source: Path,
    destination: Path,
    branch: str,
    timeout_seconds: float,
    cut: Sequence[str],
    check: bool = False,
) -> None:
    """Write a bare repository of one branch in one pack, aside and then renamed."""
    if destination.exists() and any(destination.iterdir()):
        raise SourceRefused(f"{destination} exists and is not empty; name another folder")
    destination.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".partial-", dir=destination.parent))
    try:
        store = aside / "repository.git"
        runner = GitRunner(None, timeout_seconds)
        runner.run("init", "-q", "--bare", "--template=", f"--initial-branch={branch}", str(store))
        _write_if_different(store / "config", _FIXED_CONFIG)
        reading = aside / "reading.config"
        reading.write_bytes(_READING_CONFIG)
        ref = f"refs/heads/{branch}"
        fixed = (
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--update-shallow",
            *cut,
        )
        checks = ("-c", "fetch.fsckObjects=true") if check else ()
        GitRunner(store, timeout_seconds).run(
            *checks,
            *("-c", "pack.threads=1", "fetch", *fixed, "--", source.absolute().as_uri(), f"+{ref}:{ref}"),
            environment={"GIT_CONFIG_GLOBAL": str(reading)},
        )
        if destination.exists():
            destination.rmdir()
        store.rename(destination)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
