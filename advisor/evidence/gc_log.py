"""What a JVM's garbage collection log says as numbers: heap left after each collection, heap size, pauses.

Reads unified logging (JDK 9 and later: Serial, Parallel, G1, ZGC, Shenandoah, any decorations) and the JDK 8
format. The heap after a collection is the floor of the sawtooth, which a slow leak lifts; after a full
collection it is what is alive.

Does not open files and does not choose a window: ``adapters/log_files`` finds the lines, `GcLog.add` takes
them one by one. A line that says nothing about memory is taken and forgotten, so that it does not turn up
among the templates.

Source: HotSpot ``-Xlog:gc*`` output of JDK 17 for all five collectors; JDK 8 ``-XX:+PrintGCDetails``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from advisor.evidence import Series

LINE_CHARACTERS_MAX = 4_000  # the longest real line, JDK 8 with all details, has some 600
RECORDS_MAX = 300_000  # a collection each 100 ms for eight hours; some 30 MB
POINTS_MAX = 10_000  # of one series given out; a chart has fewer pixels, a change point needs fewer
# Clock minus uptime is the start of the process; it drifts with corrections of the clock only.
RUN_JITTER_SECONDS = 5.0

_DECORATIONS = re.compile(r"((?:\[[^\[\]]{1,100}\]){1,12}) ?")
_DECORATION = re.compile(r"\[([^\[\]]+)\]")
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?")
_UPTIME = re.compile(r"(\d{1,10})[.,](\d{1,9})s")
_WHOLE = re.compile(r"(\d{1,20})(ms|ns)")
_TAGS = re.compile(r"(?:gc|safepoint|metaspace|heap|ergo|age|cpu|ref|stringdedup)(?:,[a-z0-9,_]*)?")

_SIZE = r"(\d{1,15}(?:[.,]\d{1,6})?)([BKMGT]?)"
_MILLIS = re.compile(r" (\d{1,12}(?:[.,]\d{1,9})?)(ms|s)$")
_CHANGE = re.compile(rf" {_SIZE}->{_SIZE}\({_SIZE}\)")
_CYCLE = re.compile(rf" {_SIZE}\(\d+%\)->{_SIZE}\(\d+%\)")
_CAPACITY = re.compile(rf"Capacity:(?: +{_SIZE} \(\d+%\)){{4}}")
_METASPACE = re.compile(rf"Metaspace: *{_SIZE}(?:\([^()]*\))?->{_SIZE}")
_COLLECTION = re.compile(r"GC\((\d{1,12})\) +")

_OLD = re.compile(
    r"(?:(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.,]\d{3}[+-]\d{4}): ?)?(?:(\d{1,10}[.,]\d{3}): ?)?"
    r"\[(Full GC|GC)\b(?! concurrent)"
)
_OLD_CHANGE = re.compile(rf"(?<![\w.]){_SIZE}->{_SIZE}\({_SIZE}\)")
_OLD_SECONDS = re.compile(r"(\d{1,9}[.,]\d{1,9}) secs")
_OLD_HEAP = re.compile(rf"Heap: {_SIZE}\({_SIZE}\)->{_SIZE}\({_SIZE}\)")

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class Decorations:
    """What stands in brackets before a unified line.

    Attributes:
        at: Epoch seconds; None if the log carries no wall clock.
        uptime_seconds: Since the start of the JVM; None if not decorated with it.
        body: What follows the brackets.
    """

    at: float | None
    uptime_seconds: float | None
    tags: str
    body: str


@dataclass(slots=True)
class _Collection:
    at: float
    kind: str  # young, full, cycle, phase
    after: float | None
    total: float | None
    pause_seconds: float | None


@dataclass(slots=True)
class GcLog:
    """The collections of one JVM's log, and of its rotated predecessors, in any order.

    Attributes:
        starts: Instants (epoch seconds) at which a JVM began, from wall clock minus uptime.
        left_out: Collections that came after `RECORDS_MAX`.
    """

    starts: list[float] = field(default_factory=list)
    left_out: int = 0
    _collections: list[_Collection] = field(default_factory=list)
    _metaspace: list[tuple[float, float]] = field(default_factory=list)
    _capacity: tuple[str, float] = ("", 0.0)
    _open: _Collection | None = None

    def add(self, line: str, at: float | None = None) -> bool:
        """Take a line and return whether it belongs to a garbage collection log.

        Args:
            line: With or without its decorations; without a line break.
            at: Epoch seconds, where the caller knows them; else the line's own wall clock is used, and a line
                without one is recognised but gives no number.
        """
        line = line[:LINE_CHARACTERS_MAX].rstrip()
        read = decorations(line)
        if read is not None and (_TAGS.fullmatch(read.tags) or _COLLECTION.match(read.body)):
            moment = at if at is not None else read.at
            if moment is not None:
                if read.uptime_seconds is not None:
                    self._note_start(moment - read.uptime_seconds)
                self._unified(read.body, moment)
            return True
        if read is None and _COLLECTION.match(line):  # the caller cut the brackets off together with the time
            if at is not None:
                self._unified(line, at)
            return True
        return self._old(line, at)

    def series(self, labels: Mapping[str, str] | None = None) -> tuple[Series, ...]:
        """Return what was read, in time order, bounded; empty series are left out.

        ``gc_heap_after_bytes`` (every collection), ``gc_heap_after_full_bytes`` (full ones only),
        ``gc_heap_total_bytes`` (committed), ``gc_pause_seconds`` (every stop), ``gc_pause_full_seconds``,
        ``gc_metaspace_bytes`` (used).
        """
        pairs = tuple(sorted((labels or {}).items()))
        found = sorted(self._collections, key=lambda c: c.at)
        after = [(c.at, c.after) for c in found if c.after is not None and c.kind != "phase"]
        full = [(c.at, c.after) for c in found if c.after is not None and c.kind == "full"]
        total = [(c.at, c.total) for c in found if c.total is not None]
        stops = [(c.kind, c.at, c.pause_seconds) for c in found if c.pause_seconds is not None]
        pause = [(at, seconds) for _, at, seconds in stops]
        pause_full = [(at, seconds) for kind, at, seconds in stops if kind == "full"]
        # A thinned floor keeps its lowest points and thinned pauses their longest: what each is read for.
        made = (
            _series("gc_heap_after_bytes", pairs, after, min),
            _series("gc_heap_after_full_bytes", pairs, full, min),
            _series("gc_heap_total_bytes", pairs, total, max),
            _series("gc_metaspace_bytes", pairs, sorted(self._metaspace), max),
            _series("gc_pause_full_seconds", pairs, pause_full, max),
            _series("gc_pause_seconds", pairs, pause, max),
        )
        return tuple(one for one in made if one.times)

    def _note_start(self, start: float) -> None:
        if self.starts and abs(self.starts[-1] - start) <= RUN_JITTER_SECONDS:
            return
        if len(self.starts) < 1_000 and all(abs(known - start) > RUN_JITTER_SECONDS for known in self.starts):
            self.starts.append(start)

    def _keep(self, collection: _Collection) -> None:
        if len(self._collections) < RECORDS_MAX:
            self._collections.append(collection)
        else:
            self.left_out += 1

    def _unified(self, body: str, at: float) -> None:
        numbered = _COLLECTION.match(body)
        number = numbered.group(1) if numbered else ""
        text = body[numbered.end() :] if numbered else body
        if text.startswith("Metaspace:"):
            self._note_metaspace(text, at)
            return
        capacity = _CAPACITY.match(text)
        if capacity:  # ZGC: the fourth column is the end of the cycle; the summary, which follows, has no total
            self._capacity = (number, _bytes(capacity.group(1), capacity.group(2)))
            return
        kind = _kind(text)
        if kind is None:
            return
        change = _CHANGE.search(text)
        if change:
            _, _, after, after_unit, total, total_unit = change.groups()
            seconds = _seconds(text) if not text.startswith("Concurrent") else None
            self._keep(_Collection(at, kind, _bytes(after, after_unit), _bytes(total, total_unit), seconds))
            return
        cycle = _CYCLE.search(text)
        if cycle:
            committed = self._capacity[1] if number and self._capacity[0] == number else None
            self._keep(_Collection(at, kind, _bytes(cycle.group(3), cycle.group(4)), committed, None))
            return
        seconds = _seconds(text)
        if seconds is not None and not text.startswith("Concurrent"):
            self._keep(_Collection(at, "phase", None, None, seconds))

    def _note_metaspace(self, text: str, at: float) -> None:
        found = _METASPACE.search(text)
        if found and len(self._metaspace) < RECORDS_MAX:
            self._metaspace.append((at, _bytes(found.group(3), found.group(4))))

    def _old(self, line: str, at: float | None) -> bool:
        heap = _OLD_HEAP.search(line) if "Heap: " in line else None
        if heap and self._open is not None:  # G1 with details prints the sizes some lines below the pause
            self._open.after = _bytes(heap.group(5), heap.group(6))
            self._open.total = _bytes(heap.group(7), heap.group(8))
            self._open = None
            return True
        found = _OLD.match(line)
        if not found:
            return "[GC concurrent" in line[:80]
        stamp, uptime, word = found.groups()
        moment = at if at is not None else instant(stamp) if stamp else None
        if moment is None:
            return True
        if uptime:
            self._note_start(moment - float(uptime.replace(",", ".")))
        outer = _outermost(line[found.start(3) - 1 :])
        change = _OLD_CHANGE.search(outer)
        seconds = _OLD_SECONDS.search(outer)
        phase = "-mark" in line or " remark" in line
        collection = _Collection(
            at=moment,
            kind="full" if word == "Full GC" else "phase" if phase else "young",
            after=_bytes(change.group(3), change.group(4)) if change else None,
            total=_bytes(change.group(5), change.group(6)) if change else None,
            pause_seconds=float(seconds.group(1).replace(",", ".")) if seconds else None,
        )
        self._open = None if change else collection
        self._note_metaspace(line, moment)
        self._keep(collection)
        return True


def gc_series(lines: Iterable[str], started_at: float | None = None) -> tuple[Series, ...]:
    """Return the series of a whole log.

    Args:
        lines: In any order, without line breaks.
        started_at: Start of the JVM in epoch seconds, for a log that carries nothing but uptime.
    """
    log = GcLog()
    for line in lines:
        age = uptime_seconds(line) if started_at is not None else None
        log.add(line, None if age is None or started_at is None else started_at + age)
    return log.series()


def decorations(line: str) -> Decorations | None:
    """Return the brackets of a unified logging line, or None if it does not begin with any."""
    if not line.startswith("["):
        return None
    found = _DECORATIONS.match(line)
    if not found:
        return None
    at: float | None = None
    uptime: float | None = None
    nanos: float | None = None
    tags = ""
    for word in _DECORATION.findall(found.group(1)):
        word = word.strip()
        if at is None and _INSTANT.fullmatch(word):
            at = instant(word)
        elif (seconds := _UPTIME.fullmatch(word)) and uptime is None:
            uptime = float(f"{seconds.group(1)}.{seconds.group(2)}")
        elif whole := _WHOLE.fullmatch(word):
            number = int(whole.group(1))
            if whole.group(2) == "ns":
                nanos = number / 1e9 if nanos is None else nanos
            elif number > 100_000_000_000:  # three years in milliseconds: a clock, not the age of a JVM
                at = number / 1000 if at is None else at
            else:
                uptime = number / 1000 if uptime is None else uptime
        elif word[:1].isalpha() and word not in ("trace", "debug", "info", "warning", "error"):
            tags = word
    if uptime is None and at is None:
        uptime = nanos
    return Decorations(at, uptime, tags, line[found.end() :])


def uptime_seconds(line: str) -> float | None:
    """Return the age of the JVM that a line of either format carries, or None."""
    read = decorations(line[:LINE_CHARACTERS_MAX])
    if read is not None:
        return read.uptime_seconds
    found = _OLD.match(line[:LINE_CHARACTERS_MAX])
    return float(found.group(2).replace(",", ".")) if found and found.group(2) else None


def instant(text: str) -> float | None:
    """Return epoch seconds of an ISO 8601 decoration; a missing zone is UTC; None if there is no such day."""
    found = _INSTANT.fullmatch(text)
    if not found:
        return None
    clock, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(clock + ("+00:00" if zone in (None, "Z") else zone))
    except ValueError:
        return None
    return moment.astimezone(UTC).timestamp() + (float(f"0.{fraction}") if fraction else 0.0)


def _kind(text: str) -> str | None:
    """Return what kind of collection a line ends, or None if it says nothing about memory or a stop."""
    if text.startswith("Pause Full"):
        return "full"
    if text.startswith(("Pause Young", "Pause Mixed")):
        return "young"
    if text.startswith(("Garbage Collection", "Major Collection", "Minor Collection", "Concurrent cleanup")):
        return "cycle"
    if text.startswith("Pause Degenerated"):
        return "cycle"
    if text.startswith(("Pause ", "Allocation Stall")):  # remark, cleanup: they stop, but they free next to nothing
        return "phase"
    return None


def _seconds(text: str) -> float | None:
    found = _MILLIS.search(text[-40:])
    if not found:
        return None
    return float(found.group(1).replace(",", ".")) / (1000 if found.group(2) == "ms" else 1)


def _bytes(number: str, unit: str) -> float:
    return float(number.replace(",", ".")) * _UNITS[unit]


def _outermost(text: str) -> str:
    """Return what stands directly inside the first bracket: the whole heap, without its generations."""
    depth = 0
    kept = []
    for character in text:
        if character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
            if depth <= 0:
                break
        elif depth == 1:
            kept.append(character)
    return "".join(kept)


def _series(
    name: str,
    labels: tuple[tuple[str, str], ...],
    points: list[tuple[float, float]],
    pick: Callable[..., float],
) -> Series:
    """Return a series with strictly increasing times; points of one millisecond or one step become one."""
    step = math.ceil(len(points) / POINTS_MAX) if len(points) > POINTS_MAX else 1
    times: list[float] = []
    values: list[float] = []
    for start in range(0, len(points), step):
        chunk = points[start : start + step]
        at = round(chunk[-1][0], 3)
        value = pick(value for _, value in chunk)
        if times and at <= times[-1]:
            values[-1] = pick((values[-1], value))
        else:
            times.append(at)
            values.append(value)
    return Series(name=name, labels=labels, times=tuple(times), values=tuple(values))
