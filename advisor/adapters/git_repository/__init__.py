"""The configuration repository: what changed on its branch, and the one commit that may be put onto it.

Everything happens in a bare clone of our own (`clone_directory`), with plumbing commands and full object ids:
no work tree, no checkout, nothing of the repository is ever run. Reading answers `ChangeRequest`; writing
builds trees and commits that are the same for the same input, and delivers one by compare-and-swap.

It decides nothing: what to revert, who agreed and whether it helped are the business of the stages. Called by
`workflow` (as a `ChangeSource`, and by proposal, change and rollback through it).

The modules, from below: `failures` and `runner` (running git), `output` and `objects` (what it says), `paths`,
`remote` and `clone` (our copy), `values` and `history` (reading), `trees` (building), `packing` and `undo`, `delivery`, `bundles`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from advisor.adapters.git_repository import delivery, trees, undo
from advisor.adapters.git_repository.bundles import copy_repository, texts_of
from advisor.adapters.git_repository.clone import Clone
from advisor.adapters.git_repository.failures import Failure, GitFailed, hide_credentials, source_error, telling_lines
from advisor.adapters.git_repository.history import History
from advisor.adapters.git_repository.objects import Kept
from advisor.adapters.git_repository.output import CommitLine, instant, kind_of
from advisor.adapters.git_repository.packing import GitObject
from advisor.adapters.git_repository.paths import check_branch, check_path, check_url
from advisor.adapters.git_repository.programs import check_programs
from advisor.adapters.git_repository.runner import BLOB_BYTES_MAX
from advisor.adapters.git_repository.trees import Inverse, entries_at
from advisor.adapters.git_repository.undo import MadeCommit
from advisor.adapters.git_repository.values import ConfigReader
from advisor.change import Landing
from advisor.errors import ChangeRefused, SettingsInvalid, SourceRefused, one_line
from advisor.evidence import ChangeAnswer, ChangeRequest, ConfigValue
from advisor.path_scope import PathScope
from advisor.values import format_instant

__all__ = ["CommitLine", "GitObject", "GitRepository", "Inverse", "MadeCommit", "check_branch", "check_path"]


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
        signing_key_file: Path | None = None,
        run_hooks: bool | None = None,
    ) -> None:
        """Check the names; nothing is read or written yet.

        Args:
            name: What `advisor.yaml` calls it.
            url: A path (bare or with a work tree), or a file, ssh (also `user@host:path`) or https url.
            branch: The one branch that is read and written.
            clone_directory: A folder of its own, made when needed; deleting it loses nothing delivered.
            timeout_seconds: Of each git command.
            ssh_key_file: A private key without passphrase; None uses the agent and the usual keys.
            signing_key_file: An Ed25519 private key without passphrase, for `signed_commit`.
            run_hooks: Whether a repository by path may run its hooks and programs, as this user, when it is pushed to;
                None lets those run that nobody else can have put there.

        Raises:
            SourceRefused: The url or branch cannot be used.
        """
        self.name = name
        self.branch = check_branch(branch)
        self.url = check_url(url)
        self.shown_url = hide_credentials(self.url)
        self._clone = Clone(name, self.url, self.branch, clone_directory, timeout_seconds, ssh_key_file)
        self._store = self._clone.store
        self._signing_key = signing_key_file
        self._run_hooks = run_hooks
        self._reader = ConfigReader(self._clone)
        self._patches = Kept()

    def close(self) -> None:
        """End the git processes that wait for the next question; one that is asked later starts new ones."""
        self._clone.objects.close()

    # --- reading ---

    def changes(self, request: ChangeRequest) -> ChangeAnswer:
        """Return the commits that the branch got inside the window, newest first, and the head's values.

        Raises:
            SourceError: Neither the remote nor our copy of it can be read.
        """
        if request.branch != self.branch:
            raise SourceRefused(f"repository {self.name} is read on branch {self.branch}, not {request.branch!r}")
        warnings = self._clone.refresh_or_keep()
        with self._clone.explained("reading the history"):
            try:
                return self._read_changes(request, warnings)
            except GitFailed as error:
                if error.kind is not Failure.CORRUPT:
                    raise
                with self._clone.locked() as lock:
                    warnings.append(self._clone.make_anew(lock, error))
            return self._read_changes(request, warnings)

    def _read_changes(self, request: ChangeRequest, warnings: Sequence[str]) -> ChangeAnswer:
        head = self._clone.head()
        if head is None:
            raise GitFailed(Failure.CORRUPT, f"our copy has no {self._clone.ref}")
        rewrites = self._clone.rewrites_since(int(request.since.timestamp()))
        return History(self._clone, self._reader, request, head, [*warnings, *rewrites]).answer()

    def configuration_at(self, commit: str, paths: Sequence[str]) -> tuple[ConfigValue, ...]:
        """Return the keys and values of the files in scope at a commit (200 files, 5,000 values).

        Raises:
            SourceError: The commit cannot be read.
        """
        self._clone.require(commit)
        with self._clone.explained("reading the configuration"):
            return self._reader.values(commit, PathScope(paths))[0]

    def head(self) -> str:
        """Return the commit that the remote's branch is at now; our copy has it then.

        Raises:
            SourceError: The remote cannot be asked; the copy is no answer here.
        """
        with self._clone.explained("asking for the head"):
            return self._clone.head_of_remote()

    def ask_remote(self) -> str | None:
        """Return the commit that the remote's branch is at now, None without one; our copy is not looked at.

        Raises:
            SourceError: The remote cannot be asked.
        """
        return self._clone.ask_remote()

    def tidy(self) -> list[str]:
        """Take away what a killed process left in our copy, replace a damaged one, and return what a person should know.

        What a living process has there is left alone.

        Raises:
            SourceError: Another process holds the copy for the whole timeout, or it cannot be written or made anew.
        """
        return self._clone.tidy()

    def read_file(self, commit: str, path: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            SourceRefused: It is missing, no regular file, or larger than 1 MiB.
            SourceError: The commit cannot be read.
        """
        self._clone.require(commit)
        where = f"{one_line(path, 200)} at {commit[:12]}"
        with self._clone.explained(f"reading {where}"):
            entry = entries_at(self._clone, commit, [path]).get(path)
            if entry is None:
                raise SourceRefused(f"{self.name}: no file {where}")
            if not entry.mode.startswith("100"):
                raise SourceRefused(f"{self.name}: {where} is {kind_of(entry.mode)}, not a regular file")
            if (size := self._clone.objects.size(entry.id)) > BLOB_BYTES_MAX:
                raise SourceRefused(f"{self.name}: {where} has {size} bytes; the limit is {BLOB_BYTES_MAX}")
            return self._clone.objects.read(entry.id)

    def file_mode(self, commit: str, path: str) -> str | None:
        """Return git's mode of a path (such as `100644`, `120000`, `040000`), or None if it is missing.

        Raises:
            SourceError: The commit cannot be read.
        """
        self._clone.require(commit)
        with self._clone.explained("reading a mode"):
            entry = entries_at(self._clone, commit, [path]).get(path)
            return entry.mode if entry else None

    def parent_of(self, commit: str) -> str | None:
        """Return the first parent of a commit; None for the first commit, or where the history is cut.

        Raises:
            SourceError: The commit cannot be read.
        """
        self._clone.require(commit)
        with self._clone.explained("reading a commit"):
            return next(iter(self._clone.parents_of(commit)), None)

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Return whether a commit is the other one, or behind it.

        Raises:
            SourceError: One of the two cannot be read.
        """
        self._clone.require(ancestor)
        self._clone.require(descendant)
        with self._clone.explained("comparing commits"):
            return self._clone.is_ancestor(ancestor, descendant)

    def commits_touching(self, paths: Sequence[str], since_commit: str, until_commit: str) -> list[CommitLine]:
        """Return the commits after one and up to another that touched a path, newest first (at most 100).

        Raises:
            SourceError: One of the two cannot be read.
        """
        self._clone.require(since_commit)
        self._clone.require(until_commit)
        with self._clone.explained("reading the history of files"):
            found = self._clone.log(
                ["-n", "100", "--end-of-options", f"^{since_commit}", until_commit, "--", *paths] if paths else []
            )
            return [CommitLine(c.id, one_line(c.subject, 200), one_line(c.author, 200)) for c in found]

    def show_history(self, limit: int = 20) -> str:
        """Return the newest commits of our copy as people read them, one a line: id, time, author, subject.

        Raises:
            SourceError: There is no copy and none can be made.
        """
        self._clone.ensure()
        with self._clone.explained("reading the history"):
            found = self._clone.log(["-n", str(max(1, int(limit))), "--end-of-options", self._clone.ref, "--"])
            return "".join(
                one_line(f"{c.id[:10]} {format_instant(instant(c.committed))} {c.author}: {c.subject}", 200) + "\n"
                for c in found
            )

    # --- building a change ---

    def write_tree(self, base_commit: str, edits: Mapping[str, bytes | None]) -> str:
        """Return the tree of a commit with files replaced, added or (None) deleted; modes are kept.

        Raises:
            ChangeRefused: A path may not be written, is no regular file, or the content is larger than 1 MiB.
            SourceError: The commit cannot be read, or our copy cannot be written.
        """
        return trees.write_tree(self._clone, base_commit, edits)

    def diff(self, before: str, after: str) -> bytes:
        """Return the unified patch between two commits or trees, the same bytes on every machine.

        Raises:
            SourceRefused: It is larger than 8 MiB.
            SourceError: One of the two cannot be read.
        """
        return trees.diff(self._clone, before, after, self._patches)

    def revert_tree(self, commit: str, onto: str) -> str:
        """Return the tree of `onto` without what one commit did (a merge counts against its first parent).

        Raises:
            ChangeConflict: Later commits changed the same lines; they are named.
            ChangeRefused: The commit touched something that is never written, or its parent is cut off.
            SourceError: One of the two cannot be read.
        """
        return trees.revert_tree(self._clone, commit, onto)

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
        return trees.apply_inverse(self._clone, before, after, onto_commit, since_commit)

    def tree_of(self, treeish: str) -> str:
        """Return the id of a commit's tree, or of the tree itself.

        Raises:
            SourceRefused: There is no such commit or tree, here or at the remote.
            SourceError: The remote would have to be asked, and cannot.
        """
        self._clone.require(treeish, "tree")
        with self._clone.explained("reading a commit"):
            return self._clone.objects.tree_of(treeish)

    def equal_paths(self, one: str, other: str, paths: Iterable[str]) -> frozenset[str]:
        """Return those of the paths at which two commits or trees have the same mode and content, or both nothing.

        Raises:
            SourceError: One of the two cannot be read.
        """
        return trees.equal_paths(self._clone, one, other, tuple(paths))

    def inverse_state(self, before: str, after: str, onto_commit: str) -> dict[str, Inverse]:
        """Return for each file of a step what taking it back on a commit would mean; nothing is written.

        Raises:
            SourceError: An object cannot be read.
        """
        return trees.inverse_state(self._clone, before, after, onto_commit)

    def copied_head(self, age_seconds_max: float) -> str | None:
        """Return the head that our copy knows, without asking the remote; None where the copy is missing or older."""
        return undo.copied_head(self._clone, age_seconds_max)

    def undo_objects(self, before: str, after: str) -> tuple[GitObject, ...]:
        """Return the objects that a step consists of: the folders on the way to its files, and the files, both sides.

        Raises:
            SourceError: One of them cannot be read.
            ChangeRefused: They are larger than 32 MiB.
        """
        return undo.undo_objects(self._clone, before, after)

    def add_objects(self, objects: Sequence[GitObject]) -> None:
        """Put trees and blobs into our copy, on no branch; each must have the id that it claims.

        Raises:
            SourceMalformed: One has another id, or is neither tree nor blob.
            SourceError: Our copy cannot be made or written.
        """
        undo.add_objects(self._clone, objects)

    def graft_step(self, before: str, after: str, onto_commit: str) -> tuple[str, str]:
        """Return the trees of a commit with a step's files as before it, and as after it; all other files are the commit's.

        Raises:
            ChangeConflict: A folder stands where the step has a file, or the other way round.
            SourceError: An object cannot be read.
        """
        return undo.graft_step(self._clone, before, after, onto_commit)

    def our_commits(self, limit: int = 1000) -> tuple[MadeCommit, ...]:
        """Return the commits of our making in the branch's history as our copy knows it, the newest first.

        Raises:
            SourceError: There is no copy and none can be made.
        """
        return undo.our_commits(self._clone, limit)

    def commit_tree(
        self, tree: str, parent: str, message: str, author_name: str, author_email: str, at: datetime
    ) -> str:
        """Return the id of a commit, the same for the same arguments; it is in our copy only, on no branch.

        Raises:
            ChangeRefused: A name or the message cannot stand in a commit as it is.
            SourceError: The tree or parent cannot be read, or our copy cannot be written.
        """
        return trees.commit_tree(self._clone, tree, parent, message, author_name, author_email, at)

    def signed_commit(
        self, tree: str, parent: str, message: str, author_name: str, author_email: str, at: datetime
    ) -> str:
        """Return the id of a commit with a signature, the same for the same arguments and key; it is on no branch.

        Raises:
            SettingsInvalid: There is no key that can sign it the same way each time.
            ChangeRefused: A name or the message cannot stand in a commit as it is.
            SourceError: The tree or parent cannot be read, or our copy cannot be written.
        """
        if self._signing_key is None:
            raise SettingsInvalid(f"repository {self.name}: no signing_key_file is configured")
        return trees.commit_tree(self._clone, tree, parent, message, author_name, author_email, at, self._signing_key)

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
            self._check_programs(self._clone.ref)
        except ChangeRefused:
            if delivery.is_delivered(self._clone, commit):  # by an earlier push; what is done is not refused any more
                return
            raise
        delivery.push(self._clone, commit, expected_base)

    def is_delivered(self, commit: str) -> bool | None:
        """Return whether the remote's branch contains a commit; None if the remote cannot be asked.

        Raises:
            SourceRefused: It is not a full commit id.
        """
        return delivery.is_delivered(self._clone, commit)

    def push_branch(self, commit: str, name: str) -> None:
        """Make a branch of the remote at a commit; one that is there at this commit already is left alone.

        Raises:
            ChangeConflict: The branch exists elsewhere; nothing was written.
            ChangeRefused: The remote said no, or it is the main branch; nothing was written.
            ChangeError: Not told, or not reached; `retriable`, the same call is safe.
        """
        self._check_programs(f"refs/heads/{check_branch(name)}")
        self._check_programs(f"refs/heads/{check_branch(name)}")
        delivery.push_branch(self._clone, commit, name)

    def branch_at(self, name: str) -> str | None:
        """Return where a branch of the remote is, asked now; None if there is none.

        Raises:
            SourceError: The remote cannot be asked.
        """
        return delivery.branch_at(self._clone, name)

    def find_landing(self, base: str, tree: str) -> Landing | None:
        """Return the first commit on the branch's own line since the base that has exactly this tree.

        Raises:
            SourceError: The remote cannot be asked.
        """
        return delivery.find_landing(self._clone, base, tree)

    def _check_programs(self, ref: str) -> None:
        try:
            check_programs(self.url, ref, self._clone.timeout_seconds, self._run_hooks)
        except GitFailed as error:
            if error.kind not in (Failure.MISSING, Failure.OWNERSHIP):  # of these the push itself says more
                reason = f"{error.kind.value} ({telling_lines(error.words)})"
                raise ChangeRefused(f"push to {self.shown_url} was refused, nothing was written: {reason}") from error

    # --- bundles ---

    def export_shallow(self, destination: Path, since_commits: int) -> None:
        """Write a bare repository of the branch with only its newest commits, in one pack.

        It names nothing of this host: no url, no path, no hook.

        Raises:
            SourceRefused: The folder exists and is not empty.
            SourceError: There is no copy and none can be made, or the folder cannot be written.
        """
        self._clone.ensure()
        with self._clone.explained(f"exporting to {destination}"):
            copy_repository(
                self._store,
                destination,
                self.branch,
                self._clone.timeout_seconds,
                ("--depth", str(max(1, since_commits))),
            )

    def texts_of(self, copy: Path) -> Iterator[str]:
        """Yield the text of every file and commit message in an exported copy, to be looked through for secrets.

        Raises:
            SourceError: The copy cannot be read.
        """
        with self._clone.explained(f"looking through {copy}"):
            yield from texts_of(copy, self._clone.timeout_seconds)

    @staticmethod
    def import_shallow(source: Path, destination: Path, branch: str, timeout_seconds: float = 60.0) -> None:
        """Write a clean bare repository from an exported one: only checked objects are taken over.

        Raises:
            SourceRefused: The folder exists and is not empty.
            SourceError: The source is no such repository, or is damaged.
        """
        try:
            copy_repository(source, destination, check_branch(branch), timeout_seconds, (), check=True)
        except (GitFailed, OSError) as error:
            raise source_error(error, f"importing {source}") from error
