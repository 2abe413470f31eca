"""Log files on disk: finds them with their rotated and compressed predecessors, and the window inside them.

A window in a large file is found by bisecting byte offsets on the times that lines carry, so that a
gigabyte costs what its window costs. Lines may be out of order by `SLACK_SECONDS`, have no time (stack
traces) or be garbage; what is skipped is skipped only on the evidence of several lines. The newest part is
read first: if the deadline or the limit of lines ends the reading, what is missing is the oldest, and a
warning says from when on it was read.

Does not judge: `LogDigest` counts and folds. Never opens what is not a regular file (a pipe would block).
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import re
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import translate
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from advisor.errors import SourceUnavailable
from advisor.evidence import LogAnswer, LogRequest
from advisor.evidence.gc_log import GcLog, uptime_seconds
from advisor.evidence.log_templates import (
    LogDigest,
    Place,
    Redact,
    clean,
    keep,
    normal_level,
    out_of_memory,
    utc,
)
from advisor.values import format_instant

SLACK_SECONDS = 120.0  # threads write late, buffers flush late, clocks are corrected; two minutes cover all three
LINES_MAX = 5_000_000
SECONDS_MAX = 20.0  # of the 30 s that all sources have together
LINE_BYTES_MAX = 64 * 1024  # of a longer line, the rest is passed over
BLOCK_BYTES = 256 * 1024
PART_BYTES = 1024 * 1024  # read newest part first; large enough that its borders cost nothing
BISECT_BYTES = 64 * 1024  # closer than this, reading is cheaper than seeking
PROBE_LINES = 8  # so many lines must agree before anything is skipped: one odd date proves nothing
PROBE_BYTES_MAX = 2 * 1024 * 1024  # without any time in so much, a place in the file stays unknown
SAMPLE_BYTES = 64 * 1024
SAMPLE_LINES = 200
UNDATED_LINES_MAX = 200_000  # without any time at the beginning of a compressed file
UPTIME_BYTES_MAX = 64 * 1024 * 1024
INFLATED_BYTES_MAX = 8 * 1024**3  # of one compressed file; the deadline comes first, but a bomb must end by itself
COUNTED_BYTES_MAX = 2 * 1024**3  # read once more, to name the line of an exception; about a second
COMPRESSED_AGE_SECONDS = 86_400.0  # times without a zone may run ahead of the file's own by up to 14 hours
ENTRIES_MAX = 20_000  # directory entries looked at for one request
FILES_MAX = 1_000
WARNINGS_MAX = 40
OLDEST, NEWEST = 946_684_800.0, 4_102_444_800.0  # 2000 and 2100: other numbers are no times

Event = tuple[float, str, str, tuple[str, ...]]
"""Instant in epoch seconds, text without the time, level or nothing, further lines."""
Read = Callable[[str], Event | None]

_MONTHS = {name: number for number, name in enumerate(
    ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
)}  # fmt: skip
_MONTH = "(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_ISO = (
    r"(\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d)(?:[.,:](\d{1,9}))?"
    r"(Z|(?: ?(?:UTC|GMT)\b| ?[+-]\d\d:?\d\d(?![\d:.])|[+-]\d\d(?![\d:.])))?"
)
_AFTER = r"[\])\"]{0,2}(?:: ?|[ \t|,;])?"
_ISO_FIRST = re.compile(rf"(?:<\d{{1,3}}>\d? ?|[ \[(\"]{{0,2}}){_ISO}{_AFTER}")
_ISO_LATER = re.compile(rf"(.{{1,120}}?)(?<![\d.:/-])[\[(\"]{{0,2}}{_ISO}{_AFTER}")
_ISO_ONLY = re.compile(_ISO)
_ACCESS = re.compile(
    rf"(.{{0,300}}?)\[(\d\d)/{_MONTH}/(\d{{4}}):(\d\d:\d\d:\d\d)(?:[.,](\d{{1,9}}))? ([+-]\d{{4}})\] ?"
)
_SYSLOG = re.compile(rf"(?:<\d{{1,3}}>)?{_MONTH} ([ \d]\d) (\d\d:\d\d:\d\d)(?:[.,](\d{{1,9}}))? ")
_KLOG = re.compile(r"([IWEF])(\d\d)(\d\d) (\d\d:\d\d:\d\d)\.(\d{1,9}) ?")
_TOMCAT = re.compile(rf"(\d\d)-{_MONTH}-(\d{{4}}) (\d\d:\d\d:\d\d)(?:[.,](\d{{1,9}}))? ?")
_HTTPD = re.compile(rf"\[[A-Z][a-z]{{2}} {_MONTH} ([ \d]\d) (\d\d:\d\d:\d\d)(?:[.,](\d{{1,9}}))? (\d{{4}})\] ?")
_EPOCH = re.compile(r"[\[(]?(\d{10}(?:[.,]\d{1,9})?|\d{13}|\d{16}|\d{19})(?![\d.,])[\])]?[ :|,\t]? ?")
_LOGFMT = re.compile(
    r"(?:^|.{0,200}?[ \t])(?:time|ts|timestamp|t|at)=\"?"
    rf"(?:{_ISO}|(\d{{10,19}}(?:\.\d{{1,9}})?))\"?(?:$|[ \t])"
)
_LOGFMT_PAIR = re.compile(r"(?:^|[ \t])([\w.@-]{1,60})=(?:\"((?:[^\"\\]|\\.)*)\"|([^ \t\"]*))")
_CRI = re.compile(r"(?:stdout|stderr) [FP] ")
_KLOG_LEVELS = {"I": "INFO", "W": "WARN", "E": "ERROR", "F": "FATAL"}
_NUMBERED_LEVELS = {"10": "TRACE", "20": "DEBUG", "30": "INFO", "40": "WARN", "50": "ERROR", "60": "FATAL"}  # pino
_TIME_KEYS = (
    "@timestamp",
    "timestamp",
    "time",
    "ts",
    "datetime",
    "date",
    "asctime",
    "eventTime",
    "instant",
    "t",
)
_LEVEL_KEYS = ("level", "severity", "lvl", "log.level", "levelname", "loglevel", "severity_text")
_TEXT_KEYS = ("message", "msg", "log", "text", "event", "short_message", "body")
_TRACE_KEYS = (
    "stack_trace", "exception", "stacktrace", "stack", "error.stack_trace", "exc_info", "throwable", "thrown",
    "error", "err", "exception.stacktrace", "full_message",
)  # fmt: skip
_INNER_KEYS = ("stack_trace", "stacktrace", "stack", "extendedStackTrace", "trace", "formatted", "backtrace")
_NAME_KEYS = ("exception_class", "class", "type", "name", "kind")
_SAID_KEYS = ("exception_message", "message", "msg")

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z", ".zip")
_DATED = (
    r"[.\-_](?:\d{4}-\d\d-\d\d(?:[T_.-]\d\d(?:[-:_.]?\d\d){0,2})?|\d{8}(?:[-_T.]?\d{2,6})?|\d{10})"
    r"(?:[.\-_]\d{1,5})?"
)
_ROTATED = re.compile(rf"(.+?)(?:{_DATED}|\.\d{{1,5}}(?:\.current)?|\.(?:old|bak|prev))$")
_EXTENSION = re.compile(r"(.+)(\.[A-Za-z]{2,5})$")


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
    inside: bool = False
    warnings: list[str] = field(default_factory=list)
    reach: list[tuple[float, float]] = field(default_factory=list)

    def over(self) -> str:
        """Return which limit is reached, or nothing."""
        if self.lines_left <= 0:
            return "limit of lines"
        return "deadline" if time.monotonic() >= self.stops_at else ""


# --- finding files


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that a pattern names, itself or by the name it had before it was rotated.

    Attributes:
        name: Relative to the base where it lies below, for people.
        family: Its name without what rotation added.
    """

    path: Path
    name: str
    family: str
    modified: float


def find_files(base: Path, patterns: Sequence[str], warnings: list[str]) -> list[FoundFile]:
    """Return what exists for the patterns (relative, ``**`` allowed), newest first, each file once.

    Directories, pipes and the like are returned too: that they cannot be read is for the reader to say.
    """
    budget = [ENTRIES_MAX]
    found: dict[tuple[int, int] | str, FoundFile] = {}
    for pattern in patterns:
        for path in _expand(base, pattern, warnings, budget):
            try:
                status: os.stat_result | None = path.stat()
            except OSError:
                status = None  # a broken or circular link: the reader names the reason
            key: tuple[int, int] | str = (status.st_dev, status.st_ino) if status else str(path)
            name = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
            family = name[: len(name) - len(path.name)] + min(former_names(path.name), key=len)
            modified = status.st_mtime if status else 0.0
            if key not in found:
                found[key] = FoundFile(path, clean(name), clean(family), modified)
    if budget[0] <= 0:
        warnings.append(f"only the first {ENTRIES_MAX} directory entries were looked at: name files more closely")
    newest = sorted(found.values(), key=lambda one: (-one.modified, one.name))
    if len(newest) > FILES_MAX:
        warnings.append(f"only the newest {FILES_MAX} of {len(newest)} files were read")
    return newest[:FILES_MAX]


def former_names(name: str) -> tuple[str, ...]:
    """Return a file's name and those it may have had before rotation: logrotate's and logback's ways."""
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    names = [name]
    for _ in range(2):
        rotated = _ROTATED.match(names[-1])
        if rotated:
            names.append(rotated.group(1))
    parts = _EXTENSION.match(names[-1])
    if parts:
        rotated = _ROTATED.match(parts.group(1))
        if rotated:
            names.append(rotated.group(1) + parts.group(2))
    return tuple(names)


def _expand(base: Path, pattern: str, warnings: list[str], budget: list[int]) -> Iterator[Path]:
    parts = Path(pattern).parts
    if not parts:
        return
    *folders, last = parts
    if last == "**":
        folders, last = [*folders, "**"], "*"
    places = [base]
    for part in folders:
        if part == "**":
            places = [below for place in places for below in _below(place, budget)]
        elif any(c in part for c in "*?["):
            matches = re.compile(translate(part)).match
            places = [
                place / name
                for place in places
                for name, folder in _entries(place, warnings, budget)
                if folder and matches(name) and (name[:1] != "." or part[:1] == ".")
            ]
        else:
            places = [place / part for place in places]
    matches = re.compile(translate(last)).match
    for place in places:
        for name, folder in _entries(place, warnings, budget):
            if name[:1] == "." and last[:1] != ".":
                continue
            if matches(name) or (not folder and any(matches(former) for former in former_names(name))):
                yield place / name


def _entries(place: Path, warnings: list[str], budget: list[int]) -> list[tuple[str, bool]]:
    """Return names and whether they are directories, sorted; what cannot be listed is a warning."""
    found: list[tuple[str, bool]] = []
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if budget[0] <= 0:
                    break
                budget[0] -= 1
                folder = False
                with suppress(OSError):  # a link that leads in a circle
                    folder = entry.is_dir()
                found.append((entry.name, folder))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        warnings.append(f"{place}: cannot be listed: {error.strerror or type(error).__name__}")
    return sorted(found)


def _below(place: Path, budget: list[int]) -> Iterator[Path]:
    for folder, below, names in os.walk(place, followlinks=False):  # links could lead round in circles
        below[:] = sorted(name for name in below if name[:1] != ".")
        budget[0] -= len(below) + len(names)
        if budget[0] <= 0:
            return
        yield Path(folder)


# --- reading one file


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
        _read_stream(reading, found, modified, _inflated(found, file, reading.warnings))
        return
    suffix = next((s for s in _COMPRESSED[1:] if found.path.name.endswith(s)), None)
    if suffix:
        reading.warnings.append(f"{found.name}: {suffix} is not read, only plain and .gz files are")
        return
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        file.seek(0)
        _read_stream(reading, found, modified, _wide_blocks(file))
        return
    clock = Clock(modified)
    sample = _lines_of(head)
    read = clock.choose(sample)
    if read is None and status.st_size > SAMPLE_BYTES:  # a long banner, or a dump before the first entry
        for offset in (status.st_size // 2, max(0, status.st_size - SAMPLE_BYTES)):
            file.seek(offset)
            sample = _lines_of(file.read(SAMPLE_BYTES))[1:]
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
    first = next((at for _, at in _stamped(file, 0, size, read)), None)
    tail = [at for _, at in _stamped(file, max(0, size - SAMPLE_BYTES), size, read, lines_max=10_000)]
    if first is not None:
        reading.reach.append((first, max(tail, default=first)))
    if tail and clock.zoneless:
        _compare_with_clock(reading, found, max(tail))
    low, high = find_window(file, size, read, reading.start - reading.slack, reading.end + reading.slack)
    borders = [low]
    for border in range(low + PART_BYTES, high - PART_BYTES // 2, PART_BYTES):
        begin = _event_begins(file, border, high, read)
        if begin is not None and begin > borders[-1]:
            borders.append(begin)
    borders.append(high)
    for begin, end in reversed(list(pairwise(borders))):
        reading.digest.begin(found.name, found.family, begin, collections)
        reading.inside = False
        file.seek(begin)
        stopped = _feed(reading, _blocks(file, end - begin), read)
        if stopped:
            at = next((at for _, at in _stamped(file, begin, size, read)), None)
            reading.warnings.append(
                f"{found.name}: the {stopped} ended reading; read only what follows {_shown(at)}, "
                "and of that part not all: shorten the window"
            )
            return


def _read_stream(reading: _Reading, found: FoundFile, modified: float, blocks: Iterator[list[str]]) -> None:
    """Read the window of what can only be read from its beginning."""
    clock = Clock(modified)
    read: Read | None = None
    passed = 0
    for lines in blocks:
        if read is None:
            read = clock.choose(lines[:SAMPLE_LINES])
            if read is None:
                passed += len(lines)
                if passed > UNDATED_LINES_MAX or reading.over():
                    break
                continue
            reading.digest.begin(found.name, found.family, 0, _is_gc_log(lines[:SAMPLE_LINES]))
            reading.digest.skip(passed)
            reading.inside = False
            first = next(_times(lines, read), None)
            if first is not None:
                reading.reach.append((first, first))
        ends = _few(_times(reversed(lines), read))
        if ends:
            reading.reach[-1] = (reading.reach[-1][0], max(*ends, reading.reach[-1][1]))
            if len(ends) == PROBE_LINES and max(ends) < reading.start - reading.slack and not reading.over():
                reading.digest.skip(len(lines))
                reading.inside = False
                continue
            begins = _few(_times(lines, read))
            if len(begins) == PROBE_LINES and min(begins) > reading.end + reading.slack:
                return
        stopped = _feed(reading, iter((lines,)), read)
        if stopped:
            first = next(_times(lines, read), None)
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


def _feed(reading: _Reading, blocks: Iterator[list[str]], read: Read) -> str:
    """Hand the lines to the digest and return which limit ended it, or nothing."""
    start, end, digest = reading.start, reading.end, reading.digest
    add, extend, skip = digest.add, digest.extend, digest.skip
    inside = reading.inside
    for lines in blocks:
        stopped = reading.over()
        if stopped:
            return stopped
        reading.lines_left -= len(lines)
        for line in lines:
            event = read(line)
            if event is None:
                if inside:
                    extend(line)
                else:
                    skip()
                continue
            at, text, level, tail = event
            inside = start <= at <= end
            if inside:
                add(at, text, level, tail)
            else:
                skip()
        reading.inside = inside
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
    for lines in _blocks(file, status.st_size - begin):
        if reading.over():
            reading.warnings.append(f"{found.name}: not read, the {reading.over()} came first")
            return
        for line in lines:
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


# --- lines


def _blocks(file: io.FileIO | gzip.GzipFile, size: int) -> Iterator[list[str]]:
    """Yield the lines of ``size`` bytes from here on, block by block; of a long line only its beginning."""
    rest = b""
    passing = False
    while size > 0:
        block = file.read(min(BLOCK_BYTES, size))
        if not block:
            break
        size -= len(block)
        if passing:
            cut = block.find(b"\n")
            if cut < 0:
                yield []  # so that who reads can look at the clock
                continue
            block = block[cut:]
            passing = False
        cut = block.rfind(b"\n")
        if cut < 0:
            rest += block
            if len(rest) > LINE_BYTES_MAX:
                rest = rest[:LINE_BYTES_MAX]
                passing = True
            continue
        yield _lines_of(rest + block[:cut])
        rest = block[cut + 1 :]
        if len(rest) > LINE_BYTES_MAX:
            rest = rest[:LINE_BYTES_MAX]
            passing = True
    if rest:
        yield _lines_of(rest)


def _lines_of(block: bytes) -> list[str]:
    try:
        text = block.decode()
    except UnicodeDecodeError:
        text = "\n".join(_decoded(line) for line in block.split(b"\n"))
    lines = text.removeprefix("\ufeff").split("\n")
    if "\r" in text:
        lines = [line.rstrip("\r") for line in lines]
    if len(text) > LINE_BYTES_MAX and max(map(len, lines)) > LINE_BYTES_MAX:
        lines = [line[:LINE_BYTES_MAX] for line in lines]
    if "\x1b" in text:
        lines = [_COLOUR.sub("", line) if "\x1b" in line else line for line in lines]
    return lines


_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,20}m")  # in front of a time it would hide it


def _decoded(line: bytes) -> str:
    """Return a line as UTF-8, or as Latin-1 where not one of its higher bytes makes sense in UTF-8."""
    text = line.decode("utf-8", "replace")
    higher = sum(byte > 0x7F for byte in line)
    if higher and text.count("\ufffd") == higher and not any(0x7F < byte < 0xA0 for byte in line):
        return line.decode("latin-1")
    return text


def _wide_blocks(file: io.FileIO) -> Iterator[list[str]]:
    decode = codecs.getincrementaldecoder("utf-16")("replace").decode
    rest = ""
    while block := file.read(BLOCK_BYTES):
        lines = (rest + decode(block)).split("\n")
        rest = lines.pop()[:LINE_BYTES_MAX]
        yield [line.rstrip("\r")[:LINE_BYTES_MAX] for line in lines]
    if rest:
        yield [rest.rstrip("\r")]


def _inflated(found: FoundFile, file: io.FileIO, warnings: list[str]) -> Iterator[list[str]]:
    try:
        with gzip.GzipFile(fileobj=file) as inflated:
            yield from _blocks(inflated, INFLATED_BYTES_MAX)
            if inflated.tell() >= INFLATED_BYTES_MAX:
                warnings.append(f"{found.name}: only its first {INFLATED_BYTES_MAX >> 30} GiB were read")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        warnings.append(f"{found.name}: is damaged, read as far as it goes ({type(error).__name__})")


# --- finding the window


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
    for one in _stamped(file, offset, end, read):
        found.append(one)
        if len(found) == PROBE_LINES:
            break
    return found


def _event_begins(file: BinaryIO | io.FileIO, offset: int, end: int, read: Read) -> int | None:
    """Return where the first event after an offset begins, or None if there is none near."""
    for position, line in _positions(file, offset, min(end, offset + PROBE_BYTES_MAX)):
        event = read(line)
        if event is not None and not event[1].lstrip().startswith(("at ", "...", "Caused by:", "Suppressed:")):
            return position
    return None


def _stamped(
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
    """Yield offset and text of each line that begins at or after an offset and before another, whole."""
    # One byte earlier: an offset that happens to be the beginning of a line counts as one.
    position = offset - 1 if offset else 0
    file.seek(position)
    begun = offset == 0
    head, length = b"", 0  # of the line that has no end yet: its beginning, and how long it is so far
    while position < end:
        block = file.read(16 * 1024)
        if not block:
            if begun and length:
                yield position, _lines_of(head)[0]
            return
        start = 0
        while (cut := block.find(b"\n", start)) >= 0 and position < end:
            if begun:
                yield position, _lines_of(head + block[start : min(cut, start + LINE_BYTES_MAX)])[0]
            begun = True
            position += length + cut - start + 1
            head, length, start = b"", 0, cut + 1
        length += len(block) - start
        head = (head + block[start:])[:LINE_BYTES_MAX]
        if length > PROBE_BYTES_MAX:
            return
        file.seek(position + length)  # who takes the lines may have moved the file


def _times(lines: Iterable[str], read: Read) -> Iterator[float]:
    for line in lines:
        event = read(line)
        if event is not None:
            yield event[0]


def _few(times: Iterator[float]) -> list[float]:
    return [at for _, at in zip(range(PROBE_LINES), times, strict=False)]


def _shown(at: float | None) -> str:
    return "(unknown)" if at is None else format_instant(utc(min(max(at, 0.0), NEWEST)))


# --- times


class Clock:
    """Reads the time of a line, in the format that its file has.

    Args:
        modified: When the file was last written, epoch seconds: the year of formats that have none.

    Attributes:
        zoneless: Whether a time without a zone was read, and taken as UTC.
    """

    def __init__(self, modified: float) -> None:
        """Know nothing of the file but its age."""
        self.zoneless = False
        self._modified = modified
        self._seconds: dict[str, float | None] = {}

    def choose(self, lines: Sequence[str]) -> Read | None:
        """Return how to read the lines of a file that begins like these; None if none of them has a time."""
        sample = [line for line in lines if line.strip()][:SAMPLE_LINES]
        ways: tuple[Read, ...] = (
            self.iso_first, self.json, self.logfmt, self.access, self.syslog, self.klog, self.tomcat,
            self.httpd, self.epoch, self.iso_later,
        )  # fmt: skip
        scores = [sum(way(line) is not None for line in sample) for way in ways]
        self.zoneless = False
        best = max(scores)
        if best == 0:
            return None
        way = ways[scores.index(best)]
        if way == self.iso_first:
            return self.iso_first_or_json

        def read(line: str) -> Event | None:
            event = way(line)
            return event if event is not None else self._other(line)

        return read

    def iso_first_or_json(self, line: str) -> Event | None:
        """Read the commonest format quickly, others where the line does not fit."""
        return self.iso_first(line) or self._other(line)

    def _other(self, line: str) -> Event | None:
        first = line[:1]
        if not first or first.isspace():
            return None
        if first == "{":
            return self.json(line)
        if first.isdecimal() or first in '[<("':
            return self.iso_first(line) or self.httpd(line)
        if first in "JFMASOND":
            return self.syslog(line)
        return None

    def iso_first(self, line: str) -> Event | None:
        """Read ``2026-11-22T08:16:56.123Z …`` and its kin: space, comma, offset, slashes, brackets."""
        found = _ISO_FIRST.match(line)
        if found is None:
            return None
        at = self._iso(*found.groups())
        return None if at is None else self._event(at, line[found.end() :])

    def iso_later(self, line: str) -> Event | None:
        """Read an ISO time behind a level, a thread or a container's name."""
        found = _ISO_LATER.match(line)
        if found is None:
            return None
        at = self._iso(*found.groups()[1:])
        return None if at is None else self._event(at, found.group(1) + line[found.end() :])

    def access(self, line: str) -> Event | None:
        """Read ``[22/Nov/2026:08:16:56 +0000]`` of nginx and Apache."""
        found = _ACCESS.match(line)
        if found is None:
            return None
        before, day, month, year, clock, fraction, zone = found.groups()
        at = self._iso(f"{year}-{_MONTHS[month]:02d}-{day}T{clock}", fraction, zone)
        return None if at is None else (at, before + line[found.end() :], "", ())

    def syslog(self, line: str) -> Event | None:
        """Read ``Nov 22 08:16:56``: of the latest year that is not after the file's last change."""
        found = _SYSLOG.match(line)
        if found is None:
            return None
        month, day, clock, fraction = found.groups()
        at = self._yearless(_MONTHS[month], day, clock, fraction)
        return None if at is None else self._event(at, line[found.end() :])

    def klog(self, line: str) -> Event | None:
        """Read ``I1122 08:16:56.123456`` of Kubernetes components."""
        found = _KLOG.match(line)
        if found is None:
            return None
        level, month, day, clock, fraction = found.groups()
        at = self._yearless(int(month), day, clock, fraction)
        return None if at is None else (at, line[found.end() :], _KLOG_LEVELS[level], ())

    def tomcat(self, line: str) -> Event | None:
        """Read ``22-Nov-2026 08:16:56.123``."""
        found = _TOMCAT.match(line)
        if found is None:
            return None
        day, month, year, clock, fraction = found.groups()
        at = self._iso(f"{year}-{_MONTHS[month]:02d}-{day}T{clock}", fraction, None)
        return None if at is None else (at, line[found.end() :], "", ())

    def httpd(self, line: str) -> Event | None:
        """Read ``[Sun Nov 22 08:16:56.123456 2026]`` of Apache's error log and of ``dmesg -T``."""
        found = _HTTPD.match(line)
        if found is None:
            return None
        month, day, clock, fraction, year = found.groups()
        at = self._iso(f"{year}-{_MONTHS[month]:02d}-{day.replace(' ', '0')}T{clock}", fraction, None)
        return None if at is None else (at, line[found.end() :], "", ())

    def epoch(self, line: str) -> Event | None:
        """Read seconds, milli-, micro- or nanoseconds since 1970 at the beginning."""
        found = _EPOCH.match(line)
        if found is None:
            return None
        at = _epoch(float(found.group(1).replace(",", ".")))
        return None if at is None else self._event(at, line[found.end() :])

    def logfmt(self, line: str) -> Event | None:
        """Read ``time=… level=… msg="…"``."""
        found = _LOGFMT.match(line)
        if found is None:
            return None
        clock, fraction, zone, number = found.groups()
        at = self._iso(clock, fraction, zone) if clock else _epoch(float(number))
        if at is None:
            return None
        fields: dict[str, str] = {}
        for name, quoted, plain in _LOGFMT_PAIR.findall(line[:LINE_BYTES_MAX]):
            if len(fields) < 40:
                fields.setdefault(name, quoted.replace('\\"', '"') or plain)
        level = next((fields[key] for key in _LEVEL_KEYS if key in fields), "")
        text = next((fields[key] for key in _TEXT_KEYS if fields.get(key)), "")
        error = next((fields[key] for key in ("error", "err") if fields.get(key)), "")
        trace = next((fields[key] for key in _TRACE_KEYS if "\\n" in fields.get(key, "")), "")
        tail = tuple(trace.replace("\\t", "\t").split("\\n")) if trace else ()
        if error and not trace:
            text = f"{text} error={error}" if text else f"error={error}"
        return at, text or line, normal_level(level), tail

    def json(self, line: str) -> Event | None:
        """Read one JSON object for each line."""
        value = _object(line)
        if value is None:
            return None
        moment = next((value[key] for key in _TIME_KEYS if key in value), None)
        at = self._moment(moment)
        if at is None:
            return None
        text, level, tail = _message(value, line)
        if level:
            return at, text, level, tail
        inner = self._event(at, text)  # a container's stdout, wrapped once more
        return at, inner[1], inner[2], (*inner[3], *tail)

    def _event(self, at: float, text: str) -> Event:
        """Look inside what follows the time: container runtimes put their own before the program's line."""
        if text[:3] == "std":
            cri = _CRI.match(text)
            if cri:
                text = text[cri.end() :]
        if text[:1] == "{":
            value = _object(text)
            if value is not None:
                inner, level, tail = _message(value, text)
                return at, inner, level, tail
        return at, text, "", ()

    def _moment(self, value: object) -> float | None:
        if isinstance(value, bool) or value is None:
            return None
        if isinstance(value, int | float):
            return _epoch(float(value)) if abs(value) < 1e20 else None
        if isinstance(value, dict):  # log4j2's instant
            seconds = value.get("epochSecond")
            return _epoch(float(seconds)) if isinstance(seconds, int) and abs(seconds) < 1e12 else None
        if not isinstance(value, str):
            return None
        found = _ISO_ONLY.match(value.strip())
        if found:
            return self._iso(*found.groups())
        number = _EPOCH.fullmatch(value.strip())
        return _epoch(float(number.group(1).replace(",", "."))) if number else None

    def _iso(self, clock: str, fraction: str | None, zone: str | None) -> float | None:
        key = clock + zone if zone else clock
        if not zone:
            self.zoneless = True
        seconds = self._seconds.get(key, -1.0)
        if seconds == -1.0:
            if len(self._seconds) > 10_000:
                self._seconds.clear()
            seconds = self._seconds[key] = _seconds(clock, zone)
        if seconds is None:
            return None
        return seconds + int(fraction) / 10 ** len(fraction) if fraction else seconds

    def _yearless(self, month: int, day: str, clock: str, fraction: str | None) -> float | None:
        year = datetime.fromtimestamp(min(max(self._modified, OLDEST), NEWEST - 1), UTC).year
        day = day.replace(" ", "0")
        at = self._iso(f"{year}-{month:02d}-{day}T{clock}", fraction, None)
        if at is None or at > self._modified + 86_400:  # a clock may run ahead, but not by days
            at = self._iso(f"{year - 1}-{month:02d}-{day}T{clock}", fraction, None)
        return at


def _seconds(clock: str, zone: str | None) -> float | None:
    text = clock.replace("/", "-")
    leap = 1.0 if text[17:19] == "60" else 0.0
    offset = (zone or "").strip()
    offset = "+00:00" if offset in ("", "Z", "UTC", "GMT") else offset
    try:
        moment = datetime.fromisoformat(text[:17] + ("59" if leap else text[17:19]) + offset)
        at = moment.timestamp() + leap
    except (ValueError, OverflowError):
        return None
    return at if OLDEST <= at <= NEWEST else None


def _epoch(number: float) -> float | None:
    for scale in (1.0, 1e3, 1e6, 1e9):
        if OLDEST <= number / scale <= NEWEST:
            return number / scale
    return None


def _object(line: str) -> dict[str, object] | None:
    begin = line.find("{", 0, 80)
    if begin < 0 or (begin and line[:begin].rstrip()[-1:] not in ("", "|", ":")):
        return None
    try:
        value = json.loads(line[begin:])
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _message(value: dict[str, object], line: str) -> tuple[str, str, tuple[str, ...]]:
    """Return text, level and further lines of a JSON log entry."""
    level = next((str(value[key]) for key in _LEVEL_KEYS if isinstance(value.get(key), str | int)), "")
    level = _NUMBERED_LEVELS.get(level, level)
    nested = value.get("log")
    if not level and isinstance(nested, dict) and isinstance(nested.get("level"), str):
        level = nested["level"]
    text = next((str(value[key]) for key in _TEXT_KEYS if isinstance(value.get(key), str) and value[key]), "")
    trace = next((found for key in _TRACE_KEYS if (found := _trace(value.get(key)))), "")
    lines = (text or ("" if trace else line)).rstrip("\n").split("\n")
    tail = (*lines[1:], *(trace.rstrip("\n").split("\n") if trace else ()))
    return lines[0], normal_level(str(level)), tail


def _trace(value: object) -> str:
    """Return the stack trace in a field: text, or an object of class, message and trace."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return ""
    name = next((str(value[key]) for key in _NAME_KEYS if isinstance(value.get(key), str)), "")
    said = next((str(value[key]) for key in _SAID_KEYS if isinstance(value.get(key), str)), "")
    inner = next((value[key] for key in _INNER_KEYS if key in value), "")
    if isinstance(inner, list):
        inner = "\n".join(str(item) for item in inner[:300])
    head = f"{name}: {said}" if said else name
    text = str(inner) if isinstance(inner, str) else ""
    if text and (not name or text.lstrip().startswith(name)):
        return text
    return f"{head}\n{text}" if text else head
