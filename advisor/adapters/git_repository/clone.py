"""Our copy of the branch: a bare clone that is locked, fetched, cleaned and, when damaged, made anew.

Many processes may use one copy at the same time. The lock is for what writes refs and packs; readers take none,
since objects never change under their names. Called by the other modules of this folder.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from advisor.adapters.git_repository.failures import Failure, GitFailed, hide_credentials, source_error
from advisor.adapters.git_repository.leftovers import (
    WRITERS_WAIT_SECONDS,
    clear,
    clear_scratch,
    held,
    holder,
    in_the_way,
    save_loose,
    sign,
)
from advisor.adapters.git_repository.objects import ObjectReader
from advisor.adapters.git_repository.output import LOG, Commit, check_id, instant, one_id, parse_log
from advisor.adapters.git_repository.remote import (
    FIXED_CONFIG,
    Remote,
    allow_reading,
    branch_head,
    clone,
    fetch,
    write_if_different,
)
from advisor.adapters.git_repository.runner import GitRunner, failed
from advisor.errors import SourceRefused, SourceUnavailable, one_line
from advisor.values import format_instant

PACKS_MAX = 40  # each fetch leaves one; lookups slow down with their number
REWRITES_KEPT = 20


class Clone:
    """A bare clone of one branch in a folder of its own, with all that is asked of it directly."""

    def __init__(
        self,
        name: str,
        url: str,
        branch: str,
        directory: Path,
        timeout_seconds: float,
        ssh_key_file: Path | None,
    ) -> None:
        """Remember the places; nothing is read or written. The url and branch are checked ones."""
        self.name = name
        self.branch = branch
        self.shown_url = hide_credentials(url)
        self.directory = directory.absolute()
        self.store = self.directory / "repository.git"
        self.timeout_seconds = timeout_seconds
        self.remote = Remote(url, branch, timeout_seconds, ssh_key_file, self.directory / "reading.config")
        self.ref = self.remote.ref
        self.writing = self.directory / "writing"
        self.git = GitRunner(self.store, timeout_seconds, ssh_key_file, self.writing)
        self._mended = False
        self.objects = ObjectReader(self.git, self.store)

    @contextmanager
    def explained(self, attempt: str) -> Iterator[None]:
        """Turn a failure inside the block into an error of the product that says what was attempted."""
        what = f"repository {self.name}: {attempt} of {self.shown_url}, {self.branch}"
        try:
            yield
        except (GitFailed, OSError) as error:
            if isinstance(error, GitFailed) and error.kind is Failure.CORRUPT and (mended := self._mend(error)):
                raise SourceUnavailable(f"{what}: {mended}; run the same command again") from error
            raise source_error(error, what) from error

    def _mend(self, cause: GitFailed) -> str | None:
        """Replace a copy that was found damaged in the middle of something, once; None if that did not help."""
        if self._mended or not self.store.is_dir():
            return None
        self._mended = True
        try:
            with self.locked() as lock:
                return self.make_anew(lock, cause)
        except (GitFailed, OSError):
            return None  # what was found first is the better thing to say

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the copy against other processes; gives the descriptor of the lock.

        Raises:
            GitFailed: Another process held it for the whole timeout.
        """
        # The lock is passed on to git: a fetch that outlives a killed process still keeps others away from
        # its files.
        path = self.directory / "lock"
        with held(path, fcntl.LOCK_EX, self.timeout_seconds) as descriptor:
            if descriptor is None:
                raise GitFailed(Failure.TIMEOUT, f"{holder(path)} works in {self.directory} for that long")
            sign(descriptor)
            yield descriptor

    def refresh_or_keep(self) -> list[str]:
        """Bring our copy up to date, or return a warning that tells how old the copy is."""
        attempt = f"repository {self.name}: reading {self.shown_url}, {self.branch}"
        try:
            return self.synchronise()
        except (GitFailed, OSError) as error:
            explained = source_error(error, attempt)
            kind = error.kind if isinstance(error, GitFailed) else Failure.UNKNOWN
            try:
                usable = kind not in (Failure.NO_BRANCH, Failure.EMPTY) and self.head() is not None
            except GitFailed:
                usable = False
            if not usable:
                raise explained from error
            return [f"remote unreachable, read from the copy of {self._copy_age()}: {explained}"]

    def _copy_age(self) -> str:
        try:
            return format_instant(instant(int((self.directory / "fetched").stat().st_mtime)))
        except OSError:
            return "an unknown time"

    def ensure(self) -> None:
        """Make the copy if there is none; what it has may be old.

        Raises:
            SourceError: There is no copy and none can be made.
        """
        with self.explained("opening our copy"):
            if self.store.is_dir():
                write_if_different(self.store / "config", FIXED_CONFIG)
            known = self.head() is not None
        if not known:
            with self.explained("reading"):
                self.synchronise()

    def synchronise(self) -> list[str]:
        """Make the copy as the remote is now, and return warnings; a damaged copy is replaced.

        Raises:
            GitFailed: The remote cannot be read; the copy is as it was.
        """
        warnings: list[str] = []
        with self.locked() as lock:
            allow_reading(self.remote)
            if not self.store.is_dir():
                self._make(lock)
                for abandoned in self.directory.glob("partial-*/damaged.git"):  # killed while it was made anew
                    save_loose(abandoned, self.store)
            else:
                self._clean_store()
                try:
                    before = self.checked_head()
                except GitFailed as error:
                    warnings.append(self.make_anew(lock, error))
                    before = None
                try:
                    self._fetch(lock, before)
                except GitFailed as error:
                    self._clean_store()  # half a pack must not be what fills the disk
                    if error.kind is not Failure.CORRUPT:
                        raise
                    warnings.append(self.make_anew(lock, error))
            for stale in self.directory.glob("partial-*"):
                shutil.rmtree(stale, ignore_errors=True)
            (self.directory / "fetched").touch()
            if len(list((self.store / "objects/pack").glob("*.pack"))) > PACKS_MAX:
                # Readers find moved objects again by themselves; objects on no branch stay, so nothing is
                # lost.
                self.git.outcome("repack", "-q", "-d", "-l", "--geometric=2", keep_open=(lock,))
        return warnings

    def _clean_store(self) -> None:
        """Take away what a killed git left and what could change git's behaviour; the lock is ours."""
        write_if_different(self.store / "config", FIXED_CONFIG)
        planted = (
            "info/attributes",
            "info/grafts",
            "objects/info/alternates",
            "objects/info/http-alternates",
        )
        for name in planted:
            (self.store / name).unlink(missing_ok=True)
        with held(self.writing, fcntl.LOCK_EX, WRITERS_WAIT_SECONDS) as alone:
            if alone is not None:  # else somebody lives who may own them, and the next time will do
                clear(self.store)
        clear_scratch(self.directory)

    def tidy(self) -> list[str]:
        """See `GitRepository.tidy`."""
        with self.explained("tidying our copy"):
            with self.locked():
                if self.store.is_dir():
                    self._clean_store()
            try:
                self.checked_head()
            except GitFailed:
                return self.synchronise()
        return []

    def _make(self, lock: int) -> None:
        clone(self.remote, self.store, lock)
        self.objects.forget()

    def make_anew(self, lock: int, cause: GitFailed) -> str:
        """Replace a damaged copy and return a warning that says so."""
        aside = Path(tempfile.mkdtemp(prefix="partial-", dir=self.directory)) / "damaged.git"
        self.store.rename(aside)
        try:
            self._make(lock)
            save_loose(aside, self.store)
        except (GitFailed, OSError):
            # The damage may be the remote's: what we have is then better than nothing.
            aside.rename(self.store)
            self.objects.forget()
            raise cause from None
        finally:
            shutil.rmtree(aside.parent, ignore_errors=True)
        return f"our copy was damaged and was made anew ({one_line(cause.words, 120)})"

    def _fetch(self, lock: int, before: str | None) -> None:
        fetch(self.remote, self.git, lock, shallow=(self.store / "shallow").exists())
        after = self.head()
        if before and after and before != after and not self.is_ancestor(before, after):
            # Kept as a ref: the warning then lasts as long as the window shows it, and the old commits stay
            # readable.
            kept = f"refs/advisor/rewritten/{int(time.time())}-{before}"
            self.git.run("update-ref", kept, before, keep_open=(lock,))
            for _, ref in self._rewrites()[:-REWRITES_KEPT]:
                self.git.run("update-ref", "-d", ref, keep_open=(lock,))

    def head(self) -> str | None:
        """Return the commit that the branch is at in our copy; None if there is none.

        Raises:
            GitFailed: The copy is damaged.
        """
        if not self.objects.is_current():
            return None
        try:
            found = self.objects.resolve(f"{self.ref}^{{commit}}")
        except GitFailed:
            found = None
        return found or self.checked_head()  # which says why there is none

    def checked_head(self) -> str | None:
        """Return the same from a fresh git, which also finds damage that a running one would not notice.

        Raises:
            GitFailed: The copy is damaged.
        """
        if not self.store.is_dir():
            return None
        outcome = self.git.outcome("rev-parse", "-q", "--verify", "--end-of-options", f"{self.ref}^{{commit}}")
        if outcome.code != 0:
            if outcome.words.strip():
                raise failed(outcome)
            return None
        return one_id(outcome.output)

    def head_of_remote(self) -> str:
        """Return the commit that the remote's branch is at now; our copy has it then.

        Raises:
            GitFailed: The remote cannot be asked.
        """
        try:
            ours = self.checked_head()
        except GitFailed:
            ours = None  # damaged: it is replaced below
        # Most often nothing has moved, and a question is cheaper than a fetch, which needs the lock as well.
        if ours is not None and not in_the_way(self.store, self.ref) and branch_head(self.remote) == ours:
            return ours
        self.synchronise()
        head = self.head()
        if head is None:
            raise GitFailed(Failure.CORRUPT, f"our copy has no {self.ref}")
        return head

    def ask_remote(self) -> str | None:
        """See `GitRepository.ask_remote`."""
        with self.explained("asking for the head"):
            return branch_head(self.remote)

    def cut_commits(self) -> frozenset[str]:
        """Return the commits whose parents the remote does not have."""
        try:
            return frozenset((self.store / "shallow").read_text("ascii").split())
        except FileNotFoundError:
            return frozenset()

    def _rewrites(self) -> list[tuple[int, str]]:
        if not self._may_have_rewrites():
            return []
        out = self.git.run("for-each-ref", "--format=%(refname)", "refs/advisor/rewritten/").decode("utf-8", "replace")
        found = [(int(match[1]), match[0]) for match in re.finditer(r"refs/advisor/rewritten/(\d+)-[0-9a-f]{40}", out)]
        return sorted(found)

    def _may_have_rewrites(self) -> bool:
        # Saves a process in nearly every reading.
        if (self.store / "refs/advisor/rewritten").exists():
            return True
        try:
            return b"refs/advisor/" in (self.store / "packed-refs").read_bytes()
        except FileNotFoundError:
            return False

    def rewrites_since(self, since: int) -> list[str]:
        """Return a warning for each time that the remote replaced the branch, from an instant on."""
        return [
            f"the history of {self.branch} was rewritten: {ref.rpartition('-')[2][:12]} was its head until"
            f" {format_instant(instant(at))} and is no longer on it"
            for at, ref in self._rewrites()
            if at >= since
        ]

    def require(self, object_id: str, kind: str = "commit") -> None:
        """Make sure that our copy has an object, if the remote can give it.

        Raises:
            SourceRefused: There is no such object, or it is no full object id.
            SourceError: The remote would have to be read, and cannot.
        """
        check_id(object_id)
        if self.objects.has_seen(object_id, kind):
            return
        self.ensure()
        with self.explained(f"looking for {object_id[:12]}"):
            if not self.objects.has(object_id, kind):
                self.synchronise()
                if not self.objects.has(object_id, kind):
                    raise SourceRefused(f"repository {self.name}: {object_id[:12]} is no {kind} of {self.shown_url}")

    def parents_of(self, commit: str) -> tuple[str, ...]:
        """Return the parents of a commit; none for the first commit, or where the history is cut."""
        return () if commit in self.cut_commits() else self.objects.parents(commit)

    def log(self, arguments: Sequence[str]) -> list[Commit]:
        """Return the commits of a log; none for no arguments."""
        if not arguments:
            return []
        return list(parse_log(iter(self.git.run(*LOG, *arguments).split(b"\0"))))

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Return whether a commit is the other one, or behind it."""
        outcome = self.git.outcome("merge-base", "--is-ancestor", ancestor, descendant)
        if outcome.code not in (0, 1):
            raise failed(outcome)
        return outcome.code == 0
