"""Objects of our copy by their ids, from two ``cat-file`` processes that stay alive between questions.

An object never changes under its id, so what was read once is kept: which ids exist, and contents up to a bound.
Names that can move (refs) are never kept. Packs that arrive later are found by the running processes themselves.
The processes end with `ObjectReader.close`, with the reader, or with the program. Called by the other modules of
this folder.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from advisor.adapters.git_repository.failures import Failure, GitFailed
from advisor.adapters.git_repository.output import FOLDER, Entry, parse_parents, parse_raw_tree
from advisor.adapters.git_repository.runner import BLOB_BYTES_MAX, OUTPUT_BYTES_MAX, GitProcess, GitRunner

CACHE_BYTES_MAX = 32 * 1024 * 1024  # the configuration of a service many times over
CACHE_ENTRY_BYTES = 200  # what keeping even an empty answer costs, about
FOUND_KEPT = 12  # folders taken apart: of 100,000 entries each some 300 MB, of usual ones nothing
Found = TypeVar("Found")
FACTS_MAX = 100_000  # ids known to exist, and their sizes: about 20 MB


class Kept:
    """Answers by question, the least used ones dropped beyond a number of bytes."""

    def __init__(self, bytes_max: int = CACHE_BYTES_MAX) -> None:
        """Begin empty."""
        self._bytes_left = bytes_max
        self._largest = bytes_max // 4
        self._answers: OrderedDict[tuple[str, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, *question: str, ask: Callable[[], bytes]) -> bytes:
        """Return the answer to a question, asked at most once while it is kept."""
        with self._lock:
            if question in self._answers:
                self._answers.move_to_end(question)
                return self._answers[question]
        answer = ask()
        if len(answer) <= self._largest:
            with self._lock:
                if question not in self._answers:
                    self._answers[question] = answer
                    self._bytes_left -= len(answer) + CACHE_ENTRY_BYTES
                while self._bytes_left < 0:
                    _, dropped = self._answers.popitem(last=False)
                    self._bytes_left += len(dropped) + CACHE_ENTRY_BYTES
        return answer


class _Processes:
    """The running processes, apart from the reader so that they can be ended when it is gone."""

    def __init__(self, runner: GitRunner) -> None:
        self._runner = runner
        self._begin()

    def _begin(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._running: dict[str, GitProcess] = {}

    @contextmanager
    def asking(self, option: str, question: str) -> Iterator[GitProcess]:
        """Send one question and give the process to read the whole answer from, to one thread at a time."""
        if self._owner != os.getpid():  # a fork would talk into its parent's pipes
            self._open.close()
            self._begin()
        with self._lock:
            try:
                process = self._running.get(option)
                if process is not None and process.has_ended:  # killed while it waited
                    self._end()
                    process = None
                if process is None:
                    started = self._runner.start("cat-file", option, stdin=None)
                    process = self._running[option] = self._open.enter_context(started)
                process.renew(time.monotonic() + self._runner.timeout_seconds)
                process.write(f"{question}\n".encode())
                yield process
            except BaseException:
                self._end()  # the rest of an answer would be taken for the next one
                raise

    def end(self) -> None:
        """End the processes; the next question starts new ones."""
        if self._owner == os.getpid():
            with self._lock:
                self._end()

    def _end(self) -> None:
        self._running.clear()
        self._open.close()


class ObjectReader:
    """Answers questions about objects of one store; usable from many threads."""

    def __init__(self, runner: GitRunner, store: Path) -> None:
        """Remember where; nothing is started before the first question."""
        self._store = store
        self._identity: tuple[int, int] | None = None
        self._processes = _Processes(runner)
        self._peeled: dict[tuple[str, str], str] = {}
        self._sizes: dict[str, int] = {}
        self._contents = Kept()
        self._found: OrderedDict[str, Any] = OrderedDict()
        self._found_lock = threading.Lock()
        weakref.finalize(self, self._processes.end)

    def close(self) -> None:
        """End the processes; a later question starts new ones."""
        self._processes.end()

    def forget(self) -> None:
        """Take nothing for granted: the store was replaced."""
        self._peeled.clear()
        self._sizes.clear()
        self._processes.end()

    def is_current(self) -> bool:
        """Return whether there is a store; one that another process has put in its place is noticed here."""
        try:
            status = self._store.stat()
        except OSError:
            self.forget()
            self._identity = None
            return False
        identity = (status.st_dev, status.st_ino)
        if identity != self._identity:
            self.forget()
            self._identity = identity
        return True

    def resolve(self, name: str) -> str | None:
        """Return the id that a name means now, or None.

        Raises:
            GitFailed: The store is damaged.
        """
        with self._processes.asking("--batch-check", name) as process:
            words = process.read_line().decode("utf-8", "replace").split(" ")
        if len(words) != 3 or not words[2].isdigit():
            return None
        return words[0]

    def peel(self, object_id: str, kind: str) -> str | None:
        """Return the id of the object itself, or of the commit's tree where a tree is asked for; None if missing."""
        found = self._peeled.get((object_id, kind))
        if found is None:
            try:
                found = self.resolve(f"{object_id}^{{{kind}}}")
            except GitFailed as error:
                if error.kind is not Failure.CORRUPT:
                    raise
            if found is not None:
                if len(self._peeled) >= FACTS_MAX:
                    self._peeled.clear()
                self._peeled[object_id, kind] = found
        return found

    def has(self, object_id: str, kind: str) -> bool:
        """Return whether the store has an object of that kind (a commit counts as its tree)."""
        return self.peel(object_id, kind) is not None

    def has_seen(self, object_id: str, kind: str) -> bool:
        """Return whether the present store was found to have it before."""
        return self.is_current() and (object_id, kind) in self._peeled

    def parents(self, commit: str) -> tuple[str, ...]:
        """Return the parents that a commit names.

        Raises:
            GitFailed: It is missing, or no commit.
        """
        return parse_parents(self._content(commit, "commit"))

    def tree_of(self, treeish: str) -> str:
        """Return the id of a commit's tree, or of the tree itself.

        Raises:
            GitFailed: It is missing, or neither.
        """
        tree = self.peel(treeish, "tree")
        if tree is None:
            raise GitFailed(Failure.CORRUPT, f"not a valid object name {treeish}")
        return tree

    def entries(self, treeish: str, paths: Iterable[str]) -> dict[str, Entry]:
        """Return what a commit or tree has at those paths where it has something.

        Raises:
            GitFailed: A tree on the way is missing or damaged.
        """
        root = Entry(FOLDER, self.tree_of(treeish))
        folders: dict[str, dict[bytes, Entry]] = {}  # each is looked at once, however many paths lead there
        found: dict[str, Entry] = {}
        for path in paths:
            entry: Entry | None = root
            for part in path.encode("utf-8", "surrogatepass").split(b"/"):
                if entry is None or entry.mode != FOLDER:
                    entry = None
                    break
                if entry.id not in folders:
                    folders[entry.id] = self.folder(entry.id)
                entry = folders[entry.id].get(part)
            if entry is not None:
                found[path] = entry
        return found

    def folder(self, tree: str) -> dict[bytes, Entry]:
        """Return what a tree itself has, by name; not to be changed.

        Raises:
            GitFailed: It is missing or damaged.
        """
        return self.once(f"folder {tree}", lambda: dict(parse_raw_tree(self._content(tree, "tree"))))

    def once(self, question: str, find: Callable[[], Found]) -> Found:
        """Return what was found about an object before, or find it; only the last few answers are kept."""
        with self._found_lock:
            if question in self._found:
                self._found.move_to_end(question)
                return self._found[question]  # type: ignore[no-any-return] # each question has one kind of answer
        found = find()
        with self._found_lock:
            self._found[question] = found
            while len(self._found) > FOUND_KEPT:
                self._found.popitem(last=False)
        return found

    def raw_tree(self, tree: str) -> bytes:
        """Return the bytes of a tree itself.

        Raises:
            GitFailed: It is missing or damaged.
        """
        return self._content(tree, "tree")

    def size(self, blob: str) -> int:
        """Return the bytes of a blob.

        Raises:
            GitFailed: It is missing, or not a blob.
        """
        return self._measure(blob, "blob")

    def read(self, blob: str, bytes_max: int = BLOB_BYTES_MAX) -> bytes:
        """Return a blob's bytes.

        Raises:
            GitFailed: It is missing, not a blob, or larger than the limit.
        """
        # The size comes first: a huge blob is never loaded.
        if (size := self.size(blob)) > bytes_max:
            raise GitFailed(Failure.TOO_LARGE, f"object {blob} has {size} bytes, the limit is {bytes_max}")
        return self._content(blob, "blob")

    def content(self, object_id: str, kind: str) -> bytes:
        """Return the bytes of a commit, tree or blob, without git's header.

        Raises:
            GitFailed: It is missing, of another kind, or too large.
        """
        return self._content(object_id, kind)

    def _content(self, object_id: str, kind: str) -> bytes:
        return self._contents.get(object_id, kind, ask=lambda: self._load(object_id, kind))

    def _load(self, object_id: str, kind: str) -> bytes:
        if (size := self._measure(object_id, kind)) > OUTPUT_BYTES_MAX:
            raise GitFailed(Failure.TOO_LARGE, f"object {object_id} has {size} bytes")
        with self._processes.asking("--batch", object_id) as process:
            self._expect(process, object_id, kind)
            content = process.read_exactly(size + 1)[:-1]
        # A repository by path was copied as it lies there, and git believes the name of a file: what is read here is what
        # an approver is shown, and what an edit is made from.
        if hashlib.sha1(f"{kind} {size}\0".encode() + content, usedforsecurity=False).hexdigest() != object_id:
            raise GitFailed(Failure.CORRUPT, f"object {object_id} holds something else: hash mismatch")
        return content

    def _measure(self, object_id: str, kind: str) -> int:
        known = self._sizes.get(object_id) if kind == "blob" else None
        if known is not None:
            return known
        with self._processes.asking("--batch-check", object_id) as process:
            size = self._expect(process, object_id, kind)
        if kind == "blob":
            if len(self._sizes) >= FACTS_MAX:
                self._sizes.clear()
            self._sizes[object_id] = size
        return size

    def _expect(self, process: GitProcess, object_id: str, kind: str) -> int:
        words = process.read_line().decode("utf-8", "replace").split(" ")
        if len(words) != 3 or words[1] != kind:
            raise GitFailed(Failure.CORRUPT, f"object {object_id} is {words[-1]}, a {kind} was expected")
        return int(words[2])
