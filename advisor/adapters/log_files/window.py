"""Where in a large file a window lies, found by bisecting byte offsets on the times that lines carry."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from advisor.adapters.log_files.clock import Read
from advisor.adapters.log_files.lines import LINE_BYTES_MAX, lines_of

BISECT_BYTES = 64 * 1024  # closer than this, reading is cheaper than seeking
PROBE_LINES = 8  # so many lines must agree before anything is skipped: one odd date proves nothing
PROBE_BYTES_MAX = 2 * 1024 * 1024  # without any time in so much, a place in the file stays unknown

_EMPTY = re.compile(rb"\n+")


def find_window(file: BinaryIO | io.FileIO, size: int, read: Read, start: float, end: float) -> tuple[int, int]:
    """Return byte offsets between which all lines from ``start`` to ``end`` lie.

    Both borders move only where several lines in a row say so; a place without any time leaves them where they
    are. That is right as long as no line is out of order by more than the caller added to ``start`` and ``end``.
    """
    low, high = 0, size
    while high - low > BISECT_BYTES:
        middle = (low + high) // 2
        probe = _probe(file, middle, high, read)
        if probe and len(probe) == PROBE_LINES and max(at for _, at in probe) < start:
            low = probe[0][0]
        else:
            high = middle
    first = low
    low, high = first, size
    while high - low > BISECT_BYTES:
        middle = (low + high) // 2
        probe = _probe(file, middle, high, read)
        if probe and len(probe) == PROBE_LINES and min(at for _, at in probe) > end:
            high = probe[0][0] if probe[0][0] < high else middle
        else:
            low = middle
    return first, high


def _probe(file: BinaryIO | io.FileIO, offset: int, end: int, read: Read) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    for one in stamped(file, offset, end, read):
        found.append(one)
        if len(found) == PROBE_LINES:
            break
    return found


def event_begins(file: BinaryIO | io.FileIO, offset: int, end: int, read: Read) -> int | None:
    """Return where the first event after an offset begins, or None if there is none near."""
    for position, line in _positions(file, offset, min(end, offset + PROBE_BYTES_MAX)):
        event = read(line)
        if event is not None and not event[1].lstrip().startswith(("at ", "...", "Caused by:", "Suppressed:")):
            return position
    return None


def stamped(
    file: BinaryIO | io.FileIO, offset: int, end: int, read: Read, lines_max: int = 100_000
) -> Iterator[tuple[int, float]]:
    """Yield offset and time of the lines from an offset on that carry a time, as far as one may look."""
    near = min(end, offset + PROBE_BYTES_MAX)
    for number, (position, line) in enumerate(_positions(file, offset, near)):
        if number >= lines_max:
            return
        event = read(line)
        if event is not None:
            yield position, event[0]


def _positions(file: BinaryIO | io.FileIO, offset: int, end: int) -> Iterator[tuple[int, str]]:
    """Yield offset and text of each line with text that begins at or after an offset and before another, whole."""
    # One byte earlier: an offset that happens to be the beginning of a line counts as one.
    position = offset - 1 if offset else 0
    file.seek(position)
    begun = offset == 0
    head, length = b"", 0  # of the line that has no end yet: its beginning, and how long it is so far
    while position < end:
        block = file.read(16 * 1024)
        if not block:
            if begun and length:
                yield position, lines_of(head)[0]
            return
        start = 0
        while (cut := block.find(b"\n", start)) >= 0 and position < end:
            if cut == start and not length and (empty := _EMPTY.match(block, start)) is not None:
                # However many there are, no empty line has a time.
                position += empty.end() - start
                begun, start = True, empty.end()
                continue
            if begun:
                yield position, lines_of(head + block[start : min(cut, start + LINE_BYTES_MAX)])[0]
            begun = True
            position += length + cut - start + 1
            head, length, start = b"", 0, cut + 1
        length += len(block) - start
        head = (head + block[start:])[:LINE_BYTES_MAX]
        if length > PROBE_BYTES_MAX:
            return
        file.seek(position + length)  # who takes the lines may have moved the file


def times_of(lines: Iterable[str], read: Read) -> Iterator[float]:
    """Yield the times of the lines that carry one."""
    for line in lines:
        event = read(line)
        if event is not None:
            yield event[0]


def few(times: Iterator[float]) -> list[float]:
    """Return as many times as must agree before anything is skipped."""
    return [at for _, at in zip(range(PROBE_LINES), times, strict=False)]
