"""Configuration by key: the values of files at a commit, and the keys that differ between two versions of a file.

Everything is bounded, and what is not read says why. Called by `history` and `GitRepository`.
"""

from __future__ import annotations

from collections.abc import Callable

from advisor.adapters.git_repository.clone import Clone
from advisor.adapters.git_repository.objects import ObjectReader
from advisor.adapters.git_repository.output import ABSENT, Delta, failed_process, kind_of, parse_tree, tokens_of
from advisor.adapters.git_repository.runner import BLOB_BYTES_MAX
from advisor.config_file import read_entries
from advisor.errors import SourceMalformed, one_line
from advisor.evidence import ConfigValue
from advisor.evidence.config_diff import KeyChange, diff_keys
from advisor.path_scope import PathScope

FILES_READ_MAX = 200  # in-scope files of one commit, and of the configuration at the head
KEYS_MAX = 2000  # per file: a rewritten file of thousands of keys says nothing more
VALUES_MAX = 5000
READ_BYTES_MAX = 256 * 1024 * 1024  # all blobs of one answer; keeps a hostile history from costing minutes
DIFFERENCES_KEPT = 4096  # of files, between answers


class ConfigReader:
    """Reads configuration files of our copy by key, and keeps what it found in pairs of versions."""

    def __init__(self, clone: Clone) -> None:
        """Begin with nothing known."""
        self._clone = clone
        self._objects = clone.objects
        self._known: dict[tuple[str, str, str], tuple[tuple[KeyChange, ...], str | None]] = {}

    def values(self, commit: str, scope: PathScope) -> tuple[tuple[ConfigValue, ...], list[str]]:
        """Return the keys and values of the files in scope at a commit, and warnings of what was not read."""
        values: list[ConfigValue] = []
        unread: list[str] = []
        warnings: list[str] = []
        files = 0
        with self._clone.git.start("ls-tree", "-r", "-z", "--full-tree", commit, "--", *scope.folders) as listing:
            for token in tokens_of(listing):
                for path, entry in parse_tree(token):
                    if path not in scope:
                        continue
                    files += 1
                    if files > FILES_READ_MAX or len(values) >= VALUES_MAX:
                        continue
                    note, content = _content(entry.mode, entry.id, self._objects)
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
                raise failed_process(listing, code)
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

    def keys(self, delta: Delta, spend: Callable[[int], bool]) -> tuple[tuple[KeyChange, ...], str | None]:
        """Return the key-level differences of one file, or why there are none to read."""
        question = (delta.old_blob, delta.new_blob, f"{delta.path}\0{delta.old_mode}\0{delta.new_mode}")
        known = self._known.get(question)
        if known is not None:
            return known
        contents: list[bytes | None] = []
        for mode, blob in ((delta.old_mode, delta.old_blob), (delta.new_mode, delta.new_blob)):
            if mode == ABSENT:
                contents.append(None)
                continue
            if mode.startswith("100") and not spend(self._objects.size(blob)):
                return (), f"not read: the answer has {READ_BYTES_MAX} bytes of files already"
            note, content = _content(mode, blob, self._objects)
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
        if len(self._known) > DIFFERENCES_KEPT:
            self._known.clear()
        self._known[question] = (keys, note)
        return keys, note


def _content(mode: str, blob: str, reader: ObjectReader) -> tuple[str | None, bytes | None]:
    """Return why a file is not read as configuration, or its bytes."""
    if not mode.startswith("100"):
        return f"{kind_of(mode)}, not followed", None
    size = reader.size(blob)
    if size > BLOB_BYTES_MAX:
        return f"not read: {size} bytes, the limit is {BLOB_BYTES_MAX}", None
    content = reader.read(blob)
    return ("binary", None) if b"\0" in content[:8000] else (None, content)


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)
