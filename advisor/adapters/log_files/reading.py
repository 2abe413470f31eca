"""Log files on disk: finds them with their rotated and compressed predecessors, and the window inside them.

A window in a large file is found by bisecting byte offsets on the times that lines carry, so that a
gigabyte costs what its window costs. Lines may be out of order by `SLACK_SECONDS`, have no time (stack
traces) or be garbage; what is skipped is skipped only on the evidence of several lines. The newest part is
read first: if the deadline or the limit of lines ends the reading, what is missing is the oldest, and a
warning says from when on it was read.

Does not judge: `LogDigest` counts and folds. Never opens what is not a regular file (a pipe would block).
"""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from advisor.adapters.log_files.clock import NEWEST, SAMPLE_LINES, Clock, Read
from advisor.adapters.log_files.finding import COMPRESSED, FoundFile, find_files
from advisor.adapters.log_files.known_lines import KnownLines
from advisor.adapters.log_files.lines import Block, blocks_of, inflated_blocks, lines_of, wide_blocks
from advisor.adapters.log_files.window import PROBE_LINES, event_begins, few, find_window, stamped, times_of
from advisor.errors import SourceUnavailable
from advisor.evidence import LogAnswer, LogRequest
from advisor.evidence.gc_log import GcLog, uptime_seconds
from advisor.evidence.log_templates import LogDigest, Place, Redact, keep, out_of_memory, utc
from advisor.values import format_instant

SLACK_SECONDS = 120.0  # threads write late, buffers flush late, clocks are corrected; two minutes cover all three
LINES_MAX = 5_000_000
SECONDS_MAX = 20.0  # of the 30 s that all sources have together
PART_BYTES = 4 * 1024 * 1024  # read newest part first; large enough that its borders cost nothing
SAMPLE_BYTES = 64 * 1024
UNDATED_LINES_MAX = 200_000  # without any time at the beginning of a compressed file
UPTIME_BYTES_MAX = 64 * 1024 * 1024
COUNTED_BYTES_MAX = 2 * 1024**3  # read once more, to name the line of an exception; about a second
COMPRESSED_AGE_SECONDS = 86_400.0  # times without a zone may run ahead of the file's own by up to 14 hours
WARNINGS_MAX = 40


class LogFiles:
    """The log files below a directory.

    Args:
        base: What relative patterns start from.
        redact: Applied to everything that is kept of a line.
        lines_max: Lines looked at in one read, of all files together.
        seconds_max: When to stop reading; what was read by then is the answer, with a warning.
        slack_seconds: How far lines of one file may be out of order.
    """

    def __init__(
        self,
        base: Path,
        redact: Redact = lambda text: text,
        lines_max: int = LINES_MAX,
        seconds_max: float = SECONDS_MAX,
        slack_seconds: float = SLACK_SECONDS,
    ) -> None:
        """Open nothing yet."""
        self._base = base
        self._redact = redact
        self._lines_max = lines_max
        self._seconds_max = seconds_max
        self._slack = slack_seconds

    def read(self, request: LogRequest) -> LogAnswer:
        """Return the digest of the window.

        Raises:
            SourceUnavailable: No file has such a name, or none can be read.
        """
        reading = _Reading(
            start=request.start.timestamp(),
            end=request.end.timestamp(),
            slack=self._slack,
            digest=LogDigest(request.start.timestamp(), request.end.timestamp(), request.bucket_seconds, self._redact),
            lines_left=self._lines_max,
            stops_at=time.monotonic() + self._seconds_max,
            redact=self._redact,
        )
        found = find_files(self._base, request.files, reading.warnings)
        patterns = ", ".join(request.files) or "(no pattern)"
        if not found:
            said = f" ({'; '.join(reading.warnings[:3])})" if reading.warnings else ""
            raise SourceUnavailable(
                f"logs of {request.service}: no file for {patterns} under {self._base}{said}; "
                "check the service's logs: files in advisor.yaml"
            )
        opened = sum(_read_file(reading, one) for one in found)
        if not opened:
            raise SourceUnavailable(
                f"logs of {request.service}: none of {len(found)} files for {patterns} under {self._base} can "
                f"be read: {'; '.join(reading.warnings[:3])}; check permissions and the service's logs: files"
            )
        if reading.digest.lines == 0 and reading.reach:
            reading.warnings.append(
                f"no line between {format_instant(request.start)} and {format_instant(request.end)}; "
                f"what exists reaches from {_shown(min(a for a, _ in reading.reach))} to "
                f"{_shown(max(b for _, b in reading.reach))}"
            )
        places = reading.digest.places()
        names = _line_numbers(places, {one.name: one.path for one in found}, reading)
        warnings = list(dict.fromkeys(reading.warnings))
        if len(warnings) > WARNINGS_MAX:
            warnings = [*warnings[:WARNINGS_MAX], f"and {len(warnings) - WARNINGS_MAX} more"]
        return reading.digest.answer(names, warnings)


@dataclass(slots=True)
class _Reading:
    """What one read knows and may still spend."""

    start: float
    end: float
    slack: float
    digest: LogDigest
    lines_left: int
    stops_at: float
    redact: Redact
    warnings: list[str] = field(default_factory=list)
    reach: list[tuple[float, float]] = field(default_factory=list)

    def over(self) -> str:
        """Return which limit is reached, or nothing."""
        if self.lines_left <= 0:
            return "limit of lines"
        return "deadline" if time.monotonic() >= self.stops_at else ""


def _read_file(reading: _Reading, found: FoundFile) -> bool:
    """Read the window of one file and return whether it could be opened."""
    if reading.over():
        reading.warnings.append(f"{found.name}: not read, the {reading.over()} came first: shorten the window")
        return True
    try:
        status = found.path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file (pipe, socket or device)"
            reading.warnings.append(f"{found.name}: is {kind}, not read")
            return False
        # Were it swapped for a pipe since, opening must not wait for a writer.
        handle = os.open(found.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        reading.warnings.append(f"{found.name}: cannot be read: {reason}")
        return False
    with os.fdopen(handle, "rb", buffering=0) as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            reading.warnings.append(f"{found.name}: is no regular file, not read")
            return False
        if status.st_size == 0:
            reading.warnings.append(f"{found.name}: is empty")
            return True
        try:
            _read_open(reading, found, file, status)
        except OSError as error:
            reading.warnings.append(f"{found.name}: reading failed: {error.strerror or type(error).__name__}")
    return True


def _read_open(reading: _Reading, found: FoundFile, file: io.FileIO, status: os.stat_result) -> None:
    head = file.read(SAMPLE_BYTES)
    modified = status.st_mtime
    if head[:2] == b"\x1f\x8b":
        if modified < reading.start - reading.slack - COMPRESSED_AGE_SECONDS:
            return  # closed a day before the window begins
        file.seek(0)
        _read_stream(reading, found, modified, inflated_blocks(found.name, file, reading.warnings))
        return
    suffix = next((s for s in COMPRESSED[1:] if found.path.name.endswith(s)), None)
    if suffix:
        reading.warnings.append(f"{found.name}: {suffix} is not read, only plain and .gz files are")
        return
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        file.seek(0)
        _read_stream(reading, found, modified, wide_blocks(file))
        return
    clock = Clock(modified)
    sample = lines_of(head)
    read = clock.choose(sample)
    if read is None and status.st_size > SAMPLE_BYTES:  # a long banner, or a dump before the first entry
        for offset in (status.st_size // 2, max(0, status.st_size - SAMPLE_BYTES)):
            file.seek(offset)
            sample = lines_of(file.read(SAMPLE_BYTES))[1:]
            read = clock.choose(sample)
            if read is not None:
                break
    if read is None:
        _read_undated(reading, found, file, status)
        return
    _read_window(reading, found, file, status.st_size, clock, read, _is_gc_log(sample))


def _read_window(
    reading: _Reading,
    found: FoundFile,
    file: io.FileIO,
    size: int,
    clock: Clock,
    read: Read,
    collections: bool,
) -> None:
    """Read the window of a plain file, its newest part first."""
    first = next((at for _, at in stamped(file, 0, size, read)), None)
    tail = [at for _, at in stamped(file, max(0, size - SAMPLE_BYTES), size, read, lines_max=10_000)]
    if first is not None:
        reading.reach.append((first, max(tail, default=first)))
    if tail and clock.zoneless:
        _compare_with_clock(reading, found, max(tail))
    low, high = find_window(file, size, read, reading.start - reading.slack, reading.end + reading.slack)
    borders = [low]
    for border in range(low + PART_BYTES, high - PART_BYTES // 2, PART_BYTES):
        begin = event_begins(file, border, high, read)
        if begin is not None and begin > borders[-1]:
            borders.append(begin)
    borders.append(high)
    known = KnownLines(read, reading.digest, reading.start, reading.end)
    for begin, end in reversed(list(pairwise(borders))):
        reading.digest.begin(found.name, found.family, begin, collections)
        known.leave()
        file.seek(begin)
        stopped = _feed(reading, blocks_of(file, end - begin), known)
        if stopped:
            at = next((at for _, at in stamped(file, begin, size, read)), None)
            reading.warnings.append(
                f"{found.name}: the {stopped} ended reading; read only what follows {_shown(at)}, "
                "and of that part not all: shorten the window"
            )
            return


def _read_stream(reading: _Reading, found: FoundFile, modified: float, blocks: Iterator[Block]) -> None:
    """Read the window of what can only be read from its beginning."""
    clock = Clock(modified)
    read: Read | None = None
    known: KnownLines | None = None
    passed = 0
    for block in blocks:
        lines = block.lines
        if read is None or known is None:
            read = clock.choose(lines[:SAMPLE_LINES])
            if read is None:
                passed += len(lines)
                if passed > UNDATED_LINES_MAX or reading.over():
                    break
                continue
            reading.digest.begin(found.name, found.family, 0, _is_gc_log(lines[:SAMPLE_LINES]))
            reading.digest.skip(passed)
            known = KnownLines(read, reading.digest, reading.start, reading.end)
            first = next(times_of(lines, read), None)
            if first is not None:
                reading.reach.append((first, first))
        ends = few(times_of(reversed(lines), read))
        if ends:
            reading.reach[-1] = (reading.reach[-1][0], max(*ends, reading.reach[-1][1]))
            if len(ends) == PROBE_LINES and max(ends) < reading.start - reading.slack and not reading.over():
                reading.digest.skip(len(lines))
                known.leave()
                continue
            begins = few(times_of(lines, read))
            if len(begins) == PROBE_LINES and min(begins) > reading.end + reading.slack:
                return
        stopped = _feed(reading, iter((block,)), known)
        if stopped:
            first = next(times_of(lines, read), None)
            reading.warnings.append(
                f"{found.name}: the {stopped} ended reading; read only what precedes {_shown(first)}: shorten the window"
            )
            return
    if read is None:
        over = reading.over()
        why = (
            f"not read, the {over} came first" if over else "its lines carry no time, so it is no evidence for a window"
        )
        reading.warnings.append(f"{found.name}: {why}")


def _feed(reading: _Reading, blocks: Iterator[Block], known: KnownLines) -> str:
    """Hand the lines to the digest and return which limit ended it, or nothing."""
    for block in blocks:
        stopped = reading.over()
        if stopped:
            return stopped
        if not block.empty:
            reading.lines_left -= known.take(block)
    return ""


def _read_undated(reading: _Reading, found: FoundFile, file: io.FileIO, status: os.stat_result) -> None:
    """Read a collection log that carries only uptime; of anything else without times say that it exists."""
    begin = max(0, status.st_size - UPTIME_BYTES_MAX)
    file.seek(begin)
    run: list[tuple[float, str]] = []
    runs = 0
    told = ""
    aged = False
    file.seek(begin)
    for block in blocks_of(file, status.st_size - begin):
        if reading.over():
            reading.warnings.append(f"{found.name}: not read, the {reading.over()} came first")
            return
        for line in block.lines:
            age = uptime_seconds(line) if line[:1] in "[0123456789" else None
            if age is None:
                told = out_of_memory(line) or told if "emory" in line and not told else told
                continue
            if run and age < run[-1][0] - 1.0:
                run, runs = [], runs + 1
            aged = True
            run.append((age, line))
    if not aged:
        what = f"; it tells of an out-of-memory error ({keep(told, reading.redact)})" if told else ""
        reading.warnings.append(
            f"{found.name}: its lines carry no time, so it is no evidence for a window{what}; "
            f"it was last written at {_shown(status.st_mtime)}"
        )
        return
    started = status.st_mtime - run[-1][0]
    earlier = f"; {runs} earlier runs in it have no known time and were left out" if runs else ""
    reading.warnings.append(
        f"{found.name}: carries only the uptime of the JVM; its times are counted back from the last writing{earlier}"
    )
    reading.reach.append((started, status.st_mtime))
    reading.digest.begin(found.name, found.family, begin, True)
    for age, line in run:
        if reading.start <= started + age <= reading.end:
            reading.lines_left -= 1
            reading.digest.add(started + age, line)


def _is_gc_log(lines: Sequence[str]) -> bool:
    log = GcLog()
    return sum(log.add(line) for line in lines) * 2 > len([line for line in lines if line.strip()])


def _compare_with_clock(reading: _Reading, found: FoundFile, last: float) -> None:
    """Warn where times without a zone, taken as UTC, miss the file's own time by whole hours."""
    ahead = found.modified - last
    hours = round(ahead / 3600)
    if 1 <= abs(hours) <= 14 and abs(ahead - hours * 3600) <= 30:
        reading.warnings.append(
            f"{found.name}: its times carry no zone and were taken as UTC, but the file was last written "
            f"{abs(hours)} h {'after' if hours > 0 else 'before'} its last line: "
            f"the zone may be UTC{-hours:+d}"
        )


def _line_numbers(places: Sequence[Place], paths: dict[str, Path], reading: _Reading) -> dict[Place, str]:
    """Return ``file:line`` for each place, counting lines in the part of the file that was not read."""
    names: dict[Place, str] = {}
    budget = COUNTED_BYTES_MAX
    counted: tuple[str, int, int] = ("", 0, 0)  # sorted places: each file is counted through once
    for place in places:
        source, offset, number = place
        if counted[0] != source:
            counted = (source, 0, 0)
        missing = offset - counted[1]
        if missing > budget or (missing and reading.over() == "deadline"):
            names[place] = f"{source}:{number} lines after byte {offset}"
            continue
        if missing:
            budget -= missing
            lines = 0
            with suppress(OSError), paths[source].open("rb", buffering=0) as file:
                file.seek(counted[1])
                while missing > 0 and (block := file.read(min(1024 * 1024, missing))):
                    lines += block.count(b"\n")
                    missing -= len(block)
            counted = (source, offset, counted[2] + lines)
        names[place] = f"{source}:{counted[2] + number}"
    return names


def _shown(at: float | None) -> str:
    return "(unknown)" if at is None else format_instant(utc(min(max(at, 0.0), NEWEST)))
