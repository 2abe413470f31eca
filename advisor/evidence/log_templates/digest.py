"""The lines of a window, from any number of sources, become one answer: templates, exceptions, starts, kills.

Lines come one by one (`LogDigest.add`, `LogDigest.extend`) or, where their shapes were seen before, by the block
(`LogDigest.place` once for a shape, then `LogDigest.add_placed`): both give the same answer.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from advisor.evidence import LogAnswer, LogException
from advisor.evidence.gc_log import RECORDS_MAX, GcLog
from advisor.evidence.log_templates.masking import (
    OTHER,
    REDACTED_CHARACTERS_MAX,
    Redact,
    abstract,
    clean,
    keep,
    level_of,
    same,
    tells_status,
)
from advisor.evidence.log_templates.mining import TemplateMiner, utc
from advisor.evidence.log_templates.traces import (
    GO_CALL,
    OUT_OF_MEMORY,
    Trace,
    is_out_of_memory,
    out_of_memory,
    parse_traces,
)

EXCEPTIONS_MAX = 500
TAIL_LINES_MAX = 1_000  # of one event; a trace with all its causes has some hundred
INSTANTS_MAX = 200
SIGNALS_MAX = 1_000

_TAIL_BEGINS = frozenset(("at ", "...", "Cau", "Sup"))
_TAIL = re.compile(r"\s*(?:at [\w$.<>/@ ]{1,300}\(|\.\.\. \d{1,6} |Caused by: |Suppressed: )")
_KILL = re.compile(
    r"exit(?:ed)?[ _-]?(?:with )?(?:code|status)?[\"' :=()]{0,6}137(?!\d)|status[\" :=]{1,4}137(?!\d)"
    r"|OOM[ -]?Killed|oom-kill|[Oo]ut of memory: Kill(?:ed)? process|Back-off restarting|\bSIGKILL\b",
    re.IGNORECASE,
)
_STARTS = (
    # Phases of one start, in the order they are printed: a later one is the same start, an earlier one a new.
    (0, re.compile(r"(?:^|\s)(?:OpenJDK|Java HotSpot\(TM\)) .{0,20}VM \(.{1,60}\) for ")),
    (
        1,
        re.compile(r"\bStarting [\w.$ -]{1,120}(?: v\S{1,60})? (?:using Java|on) \S{1,100}.{0,120} with PID \d"),
    ),
    (
        2,
        re.compile(
            r"\b(?:Tomcat|Jetty|Netty|Undertow)(?: \w{1,20})? (?:started|initialized) "
            r"|\bServer startup in \[?\d"
        ),
    ),
    (
        3,
        re.compile(
            r"\bStarted [\w.$-]{1,120} in [\d.,]{1,12} ?(?:s|ms|seconds|milliseconds)\b"
            r"|\bstarted in [\d.]{1,12}s\."
        ),
    ),
    (3, re.compile(r"\bStartup completed in \d{1,9}ms")),
)
_OPENERS = ("Traceback ", "panic: ", "fatal error: ")  # what follows belongs to them, stamped or not
# Lines with such a word may be more than a line of their shape: they are looked at one by one.
_TELLING = (
    "GC", "OutOfMemory", "nsufficient memory", "pthread_create", "OOM", "ut of memory", "SIGKILL", "Back-off",
    "oom-kill", "oomkilled",
)  # fmt: skip
_ESCAPED_TRACE = re.compile(r"\\n(?:\\t| {2,8})(?:at |File )")  # a trace in one line, its line breaks spelt out
_REQUEST = re.compile(r"\"(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) ")  # then users chose the words of the line
_MAY_EXIT = re.compile(r"exit|status", re.IGNORECASE)
_START_SECONDS_MAX = 300.0  # the slowest usual Spring Boot start


@dataclass(slots=True)
class _Tally:
    trace: Trace
    source: tuple[str, int, int]
    first: float
    count: int = 0
    early: list[float] = field(default_factory=list)
    late: deque[float] = field(default_factory=lambda: deque(maxlen=INSTANTS_MAX // 2))


Place = tuple[str, int, int]
"""Source, offset of the part that was read, number of the line in that part (from 1)."""


class LogDigest:
    """Takes the lines of a window, from any number of sources in any order, and gives a `LogAnswer`.

    Args:
        start: Epoch seconds; begins bucket 0.
        end: Epoch seconds. The caller leaves out what lies outside; starts from collection logs are checked.
        bucket_seconds: Width of a bucket.
        redact: Applied to everything that is kept.
    """

    def __init__(self, start: float, end: float, bucket_seconds: float = 60.0, redact: Redact = same) -> None:
        """Start empty."""
        self.lines = 0
        self.first: float | None = None
        self.last: float | None = None
        self._start = start
        self._end = end
        self._redact = redact
        self._miner = TemplateMiner(start, bucket_seconds, redact)
        self._exceptions: dict[tuple[str, ...], _Tally] = {}
        self._starts: list[tuple[float, int, str]] = []
        self._kills: list[tuple[float, str]] = []
        self._collections: dict[str, GcLog] = {}
        self._gc = GcLog()
        self._source = ""
        self._offset = 0
        self._number = 0
        self._at: float | None = None
        self._text = ""
        self._level = ""
        self._tail: list[str] = []
        self._place = 0
        self._special = False
        self._only_collections = False

    def begin(self, source: str, family: str = "", offset: int = 0, collections: bool = False) -> None:
        """Begin a source, or a part of one: what came before is finished.

        Args:
            source: Name for people, such as a file.
            family: What rotated predecessors have in common with it; one JVM's series go together by it.
            offset: Handed back in the places of exceptions.
            collections: A garbage collection log: its other lines are no templates.
        """
        self._flush()
        self._at = None
        self._source, self._offset, self._number = source, offset, 0
        self._only_collections = collections
        self._gc = self._collections.setdefault(family or source, GcLog())

    def skip(self, lines: int = 1) -> None:
        """Pass lines that lie outside the window; what follows without a time belongs to them."""
        self._number += lines
        if self._at is not None:
            self._flush()
            self._at = None

    def add(self, at: float, text: str, level: str = "", tail: Iterable[str] = ()) -> None:
        """Take a line of the window.

        Args:
            at: Epoch seconds.
            text: The line without its timestamp.
            level: Where the format carries it apart from the text.
            tail: Further lines of the same event (a field with a stack trace).
        """
        if "\\n" in text and _ESCAPED_TRACE.search(text):
            text, *inner = text[:REDACTED_CHARACTERS_MAX].replace("\\t", "\t").split("\\n")
            tail = (*inner, *tail)
        self._number += 1
        self.lines += 1
        if self.first is None or at < self.first:
            self.first = at
        if self.last is None or at > self.last:
            self.last = at
        if "GC" in text or self._only_collections:
            if self._gc.add(text, at):
                return
        if self._at is not None and self._continues(text):
            self._extend(text)
            return
        if self._tail or self._special:
            self._flush()
        self._at, self._text, self._level, self._place = at, text, level, self._number
        if not self._only_collections:
            self._miner.add(at, text, level)
        self._look(text)
        for line in tail:
            self._extend(line)

    @property
    def open(self) -> bool:
        """Return whether lines with a time of their own may still belong to the event before them."""
        return self._at is not None and self._text.startswith(_OPENERS)

    def place(self, text: str, level: str = "", tail: Sequence[str] = ()) -> int:
        """Return the number of the template of a line, or -1 if lines of its shape have to be taken one by one."""
        if tail or self._only_collections or text.lstrip()[:3] in _TAIL_BEGINS or text.startswith(_OPENERS):
            return -1
        if any(word in text for word in _TELLING) or ("\\n" in text and _ESCAPED_TRACE.search(text)):
            return -1
        if _MAY_EXIT.search(text) and ("exit" in text.lower() or not tells_status(text)):
            return -1
        if ("tart" in text or " VM (" in text) and any(one.search(text, 0, 600) for _, one in _STARTS):
            return -1
        return self._miner.place(text, level)

    def template_words(self, number: int) -> tuple[str, ...]:
        """Return the words of a template as it stands now."""
        return self._miner.words_of(number)

    def add_placed(self, numbers: np.ndarray, at: np.ndarray) -> None:
        """Count lines whose shapes were given a number by `place`.

        Args:
            numbers: Of templates, one for each line.
            at: Epoch seconds of each line, all within the window.
        """
        if not numbers.size:
            return
        self.lines += int(numbers.size)
        first, last = float(at.min()), float(at.max())
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)
        self._miner.count(numbers, at)

    def pass_placed(self, lines: int) -> None:
        """Go on by so many lines of the part that were, or will be, counted by `add_placed`, or lie outside."""
        self._number += lines
        self._flush()
        self._at = None

    def stand_on(self, at: float, text: str, level: str = "") -> None:
        """Make the line just passed the event to which lines without a time belong."""
        self._at, self._text, self._level, self._place = at, text, level, self._number

    def extend(self, text: str) -> None:
        """Take a line without a time: it belongs to the event before, or to nothing."""
        self._number += 1
        if self._at is None:
            return
        self.lines += 1
        if ("GC" in text or self._only_collections) and self._gc.add(text, self._at):
            return
        self._extend(text)

    def places(self) -> tuple[Place, ...]:
        """Return where each exception was first seen, for the caller to turn into line numbers of the file."""
        self._flush()
        return tuple(sorted({one.source for one in self._exceptions.values()}))

    def extend_empty(self, lines: int) -> None:
        """Take so many empty lines, all of which but the first tell nothing."""
        taken = lines if self._only_collections else min(lines, TAIL_LINES_MAX)
        for _ in range(taken):
            self.extend("")
        # By now the event has as many lines as are kept of one.
        self._number += lines - taken
        if self._at is not None:
            self.lines += lines - taken

    def answer(self, names: dict[Place, str] | None = None, warnings: Iterable[str] = ()) -> LogAnswer:
        """Return the digest.

        Args:
            names: ``file:line`` of each of `places`; where missing, the source's name alone.
            warnings: What the caller has to say, before what is said here.
        """
        self._flush()
        said = list(warnings)
        if not self._miner.buckets_complete:
            said.append("too many different lines: some templates have no buckets, their counts are right")
        left_out = sum(log.left_out for log in self._collections.values())
        if left_out:
            said.append(f"{left_out} garbage collections were left out: more than {RECORDS_MAX} in one log")
        several = sum(1 for log in self._collections.values() if log.series()) > 1
        series = [
            one
            for family, log in sorted(self._collections.items())
            for one in log.series({"file": family} if several or family else {})
        ]
        return LogAnswer(
            lines=self.lines,
            templates=self._miner.templates(),
            exceptions=self._told(names or {}),
            restarts=self._restarts(),
            kills=tuple((utc(at), line) for at, line in sorted(set(self._kills))),
            series=tuple(series),
            first_at=None if self.first is None else utc(self.first),
            last_at=None if self.last is None else utc(self.last),
            warnings=tuple(said),
        )

    def _continues(self, text: str) -> bool:
        """Return whether a line with a time of its own still belongs to the event before it.

        Container runtimes stamp each line, those of a stack trace too.
        """
        begin = text.lstrip()[:3]
        if begin in _TAIL_BEGINS:
            return _TAIL.match(text) is not None
        if self._text.startswith(_OPENERS) and len(self._tail) < 500:
            if self._text.startswith("Traceback "):
                last = self._tail[-1] if self._tail else " "
                return last[:1].isspace()
            return bool(not begin or text[:1] in "\t" or text.startswith("goroutine ") or GO_CALL.match(text[:1_000]))
        return False

    def _extend(self, text: str) -> None:
        if len(self._tail) < TAIL_LINES_MAX or "Caused by: " in text:
            if len(self._tail) < 2 * TAIL_LINES_MAX:
                self._tail.append(text[:REDACTED_CHARACTERS_MAX])
        if not text.startswith("\tat "):
            self._look(text)

    def _look(self, text: str) -> None:
        """Note the starts and kills that a line tells, and whether the event must be read as a whole."""
        if "OutOfMemory" in text or "nsufficient memory" in text or "pthread_create" in text:
            self._special = True
        if (
            "137" in text
            or "OOM" in text
            or "ut of memory" in text
            or "SIGKILL" in text
            or "Back-off" in text
            or "oom-kill" in text
            or "oomkilled" in text
        ) and _KILL.search(text, 0, REDACTED_CHARACTERS_MAX):
            if self._at is not None and len(self._kills) < SIGNALS_MAX and not _REQUEST.search(text):
                self._kills.append((round(self._at, 3), keep(text, self._redact_names)))
        if "tart" in text or " VM (" in text:
            for phase, pattern in _STARTS:
                if pattern.search(text, 0, 600):
                    if self._at is not None and len(self._starts) < SIGNALS_MAX and not _REQUEST.search(text):
                        self._starts.append((self._at, phase, self._source))
                    break

    def _flush(self) -> None:
        if self._at is not None and (self._tail or self._special):
            self._fold(self._at, (self._text[:REDACTED_CHARACTERS_MAX], *self._tail))
        self._tail = []
        self._special = False

    def _fold(self, at: float, lines: Sequence[str]) -> None:
        traces = parse_traces(lines)
        told = {trace.root_message.strip() for trace in traces if trace.frames and is_out_of_memory(trace)}
        covered: set[int] = set()
        for trace in traces:
            covered.update(range(trace.first, trace.end))
            # The JVM prints the bare error when it dumps the heap, and again where it is thrown: one error.
            if not trace.frames and is_out_of_memory(trace) and trace.root_message.strip() in told:
                continue
            self._count(at, trace)
        told |= {trace.root_message.strip() for trace in traces if is_out_of_memory(trace)}
        if not self._special:
            return
        for index, line in enumerate(lines):
            if index in covered:
                continue
            message = out_of_memory(line, self._level or level_of(lines[0]))
            if message is None or message in told:
                continue
            if "insufficient memory" in message and index + 1 < len(lines):
                message = f"{message} {clean(lines[index + 1]).lstrip('# ')}"
            told.add(message)
            self._count(at, Trace(OUT_OF_MEMORY, message, OUT_OF_MEMORY, message, (), index, index + 1))

    def _count(self, at: float, trace: Trace) -> None:
        words = self._miner.words
        key = (
            trace.type,
            " ".join(map(words.__getitem__, trace.message[:200].split())),
            trace.root_type,
            " ".join(map(words.__getitem__, trace.root_message[:200].split())),
            *trace.frames[:1],
        )
        tally = self._exceptions.get(key)
        if tally is None:
            # Out of memory is what incidents are about: it must not drown among thousands of others.
            if len(self._exceptions) >= EXCEPTIONS_MAX * (2 if is_out_of_memory(trace) else 1):
                trace = Trace(OTHER, "", OTHER, "", (), trace.first, trace.end)
                key = (OTHER,)
            tally = self._exceptions.get(key)
        place = (
            self._source,
            self._offset,
            self._place + trace.first if self._tail_is_lines else self._place,
        )
        if tally is None:
            tally = self._exceptions[key] = _Tally(trace, place, at)
        elif at < tally.first:
            tally.trace, tally.source, tally.first = trace, place, at
        tally.count += 1
        if len(tally.early) < INSTANTS_MAX // 2:
            tally.early.append(at)
        else:
            tally.late.append(at)

    @property
    def _tail_is_lines(self) -> bool:
        return self._number > self._place

    def _told(self, names: dict[Place, str]) -> tuple[LogException, ...]:
        made = [
            LogException(
                type=keep(one.trace.type, self._redact),
                message=self._kept_message(one.trace, one.trace.message),
                root_type=keep(one.trace.root_type, self._redact),
                root_message=self._kept_message(one.trace, one.trace.root_message),
                frames=tuple(keep(frame, self._redact) for frame in one.trace.frames),
                count=one.count,
                at=tuple(utc(at) for at in sorted({round(at, 3) for at in (*one.early, *one.late)})),
                source=names.get(one.source, one.source[0]),
            )
            for one in self._exceptions.values()
        ]
        return tuple(sorted(made, key=lambda e: (-e.count, e.at, e.type, e.message, e.frames)))

    def _kept_message(self, trace: Trace, message: str) -> str:
        # What the JVM says of its memory was chosen by nobody, and its quotes name threads.
        return keep(message, self._redact if is_out_of_memory(trace) else self._redact_names)

    def _redact_names(self, text: str) -> str:
        return abstract(self._redact(text))

    def _restarts(self) -> tuple[datetime, ...]:
        """Return one instant for each start, though it is announced several times, in several files."""
        begun = [
            (start, -1, family)
            for family, log in self._collections.items()
            for start in log.starts
            if self._start <= start <= self._end
        ]
        found: list[float] = []
        last: tuple[float, int] = (float("-inf"), 9)
        for at, phase, _ in sorted((*begun, *self._starts)):
            same = phase > last[1] or (phase == last[1] and phase >= 2 and at - last[0] < 2.0)
            if not (same and at - last[0] <= _START_SECONDS_MAX):
                found.append(at)
            last = (at, phase)
        return tuple(utc(at) for at in found[:SIGNALS_MAX])
