"""Takes blocks of lines whose shapes were seen before: no line of them is looked at by itself.

The first line of each shape is read closely (`Clock`) and placed among the templates (`LogDigest.place`); what is
learned from it is where its time and its status stand. Further lines of the shape are found by their key, their times
are computed for the whole block at once, and they are only counted. A line that is more than a line (a trace, a kill,
a start, a collection), or that does not have its time where its shape has it, is taken one by one as ever.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from advisor.adapters.log_files.clock import Event, Read, epoch
from advisor.adapters.log_files.lines import Block, decoded
from advisor.evidence.log_templates import LogDigest, line_keys, quotes_prose, status_at

KEYS_MAX = 50_000  # some 10 MB; forgotten together when full, which costs time, never truth
MINUTES_MAX = 20_000
PATTERNS_MAX = 64  # of a file; statements with names in them are few, and each costs every line of unknown shape
LEARNING_MIN = 0.02  # of the lines looked at; fewer new shapes than that, and the file is known well
KEY_BYTES_MAX = 4 * 1024  # a longer one is not remembered: lines without end must not fill the memory
PAUSE_MAX = 64  # blocks, after which what did not pay is tried again
TIME_BYTES_MAX = 300  # a time further behind is read line by line
CLOSELY_MIN = 0.1  # of a block; more lines than that without a known cheap key, and only the closer ones are made
TELLING_LINES_MIN = 500  # of a block; fewer say nothing about the file
KEPT_BYTES = 24 * 1024 * 1024  # some arrays of a block; never touched, so it takes no memory; glibc heeds up to 32 MiB
PADDING = bytes(64)  # so that no window behind a line's end leaves the block

_CLOCK = re.compile(rb"(?<!\d)(\d\d):(\d\d):(\d\d)(?:[.,:](\d{1,9}))?(?!\d)( ?[+-]\d\d:?\d\d(?!\d)| \d{4}\])?")
_NUMBER = re.compile(rb"(?<![\d.])(\d{10}|\d{13}|\d{16}|\d{19})(?!\d)(?:[.,](\d{1,9}))?")
# A level told as a number is no data: it is put into words before keys are made.
_NUMBERED = re.compile(rb'"level":([1-6])0(?=[,}])')
_WORDS = {b"1": b"trace", b"2": b"debug", b"3": b"info", b"4": b"warn", b"5": b"error", b"6": b"fatal"}
_DATE = re.compile(
    rb"(?:\d{4}[-/]\d\d[-/]\d\d[T ]|\d\d[-/][A-Z][a-z]{2}[-/]\d{4}[: ]|[A-Z][a-z]{2} [ \d]\d |(?<=[IWEF])\d{4} )$"
)
_DIGITS = re.compile(rb"[0-9]+")
# A line with one of these may be more than a line, wherever in it the word stands.
_TELLING = (
    b"GC", b"OutOfMemory", b"nsufficient", b"pthread", b"OOM", b"oom", b"emory", b"SIGKILL", b"ack-off", b"xit",
    b"tatus", b"tart", b" VM (", b"137",
)  # fmt: skip
_DATE_BYTES = 12  # the longest of them
# "08:16:56" as one number: the lower halves of its digits, the rest of what must stand there, and what shows that a
# lower half is above 9.
_UNITS = np.uint64(0x0F0F000F0F000F0F)
_CLOCK_MARKS = np.uint64(0x30303A30303A3030)
_SIXES = np.uint64(0x0606000606000606)
_CARRIES = np.uint64(0x1010001010001010)
_NONE, _SLOW = -1, -1
_UNKNOWN = -2
_BY_QUOTES = 1 << 20  # added to a number of marks before a status, where they are quotes
_UNREAD = 0  # the number of the shape of which nothing is known
_CLASSES = 6  # no status, another number, and 2 to 5

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class _Layout:
    """Where the time of a line stands.

    Attributes:
        bracket: Counted from the first ``[`` of the line, not from its beginning.
        at: Offset of the hour, or of the number.
        begin: Offset from which bytes tell day and minute.
        digits: Of a number; 0 for a clock.
        fraction: Whether a fraction of a second follows.
        zone: Bytes of a zone (or a year) behind it.
    """

    __slots__ = ("at", "begin", "bracket", "digits", "fraction", "zone")

    def __init__(self, bracket: bool, at: int, begin: int, digits: int, fraction: bool, zone: int) -> None:
        self.bracket = bracket
        self.at = at
        self.begin = begin
        self.digits = digits
        self.fraction = fraction
        self.zone = zone

    def key(self) -> tuple[bool, int, int, int, bool, int]:
        return (self.bracket, self.at, self.begin, self.digits, self.fraction, self.zone)


def learn_layout(line: bytes, at: float) -> _Layout | None:
    """Return where the time of a line stands, given what time it is; None if that cannot be told."""
    head = line[:TIME_BYTES_MAX]
    for found in _CLOCK.finditer(head):
        seconds = int(found.group(3)) + _fraction(found.group(4))
        if int(found.group(3)) < 60 and abs((at - seconds) / 60 - round((at - seconds) / 60)) < 1e-6:
            hour = found.start()
            bracket = head.find(b"[")
            if not 0 < bracket <= hour - 9 or hour - bracket > _DATE_BYTES + 1:
                bracket = -1
            origin = max(bracket, 0)
            date = _DATE.search(head[:hour], max(hour - _DATE_BYTES, 0))
            begin = date.start() if date else max(hour - _DATE_BYTES, origin)
            zone = found.group(5) or b""
            return _Layout(bracket > 0, hour - origin, begin - origin, 0, found.group(4) is not None, len(zone))
    for found in _NUMBER.finditer(head):
        digits, fraction = found.groups()
        if fraction and len(digits) > 10:
            continue
        value = epoch(float(digits + (b"." + fraction if fraction else b"")))
        if value is not None and abs(value - at) < 1e-6:
            return _Layout(False, found.start(), found.start(), len(digits), fraction is not None, 0)
    return None


def fitting_pattern(line: bytes, text: str, words: Sequence[str]) -> bytes | None:
    """Return an expression for the lines of a template: its words as they are, digits and names as any others.

    Args:
        line: One of them, with its time.
        text: What of it follows the time.
        words: Of the template.
    """
    tail = text.encode().rstrip(b" ")
    if not line.isascii() or not tail or not line.endswith(tail) or b'"' in line or b"{" in line:
        return None
    own = tail.split(b" ")
    said = [word for word in own if word]
    if len(said) != len(words) or not any("<" in word for word in words):
        return None
    known = iter(words)
    # Between spaces no expression can match in two ways: what a word is ends where the word ends.
    made = [_word_pattern(word, next(known)) if word else b"" for word in own]
    return _DIGITS.sub(rb"[0-9]+", re.escape(line[: len(line) - len(tail)])) + b" ".join(made)


def _word_pattern(word: bytes, masked: str) -> bytes:
    literal, mark, _ = masked.partition("<")
    plain = masked.replace("<num>", "")
    if not mark or "<" not in plain:
        return _DIGITS.sub(rb"[0-9]+", re.escape(word))
    literal = literal.rstrip("0123456789?")
    return re.escape(literal.encode()) + rb"[^ ]+" if word.startswith(literal.encode()) else rb"[^ ]+"


def _fraction(digits: bytes | None) -> float:
    return int(digits) / 10 ** len(digits) if digits else 0.0


class KnownLines:
    """The lines of one file, block by block.

    Args:
        read: Reads one line, as `Clock.choose` gave it.
        digest: Takes what is inside the window.
        start: Epoch seconds.
        end: Epoch seconds.
    """

    def __init__(self, read: Read, digest: LogDigest, start: float, end: float) -> None:
        """Know no shape."""
        # An allocator that has given back so much keeps what is smaller, and does not ask the system for each array anew.
        np.empty(KEPT_BYTES, np.uint8)
        self._read = read
        self._digest = digest
        self._start = start
        self._end = end
        self._inside = False
        self._closely = False
        self._quotes: bool | None = None
        self._learning = False
        self._singles: list[tuple[int, int, float]] = []
        self._forget()
        self._minutes: dict[tuple[int, bytes], float] = {}
        self._layouts: list[_Layout] = []
        self._layout_numbers: dict[tuple[bool, int, int, int, bool, int], int] = {}

    def leave(self) -> None:
        """Forget the event before: another part begins, or lines were passed over."""
        self._inside = False

    def take(self, block: Block) -> int:
        """Take a block and return how many lines it has."""
        lines = _Lines(block)
        self._singles = []
        entries = self._entries(lines)
        templates = self._placed(lines, entries)
        at = self._times(lines, entries, templates)
        for index, template, moment in self._singles:
            templates[index], at[index] = template, moment
        plain = (templates >= 0) & np.isfinite(at)
        inside = plain & (at >= self._start) & (at <= self._end)
        self._one_by_one(lines, plain, inside)
        counted = inside & plain
        self._digest.add_placed(templates[counted], at[counted])
        return lines.count

    # --- shapes

    def _forget(self) -> None:
        self._once: set[int] = set()  # hashes: one taken for another is only learned early
        self._seen: set[int] = set()
        self._blocks = self._remember_at = 0
        self._pause = 1
        self._patterns: dict[int, list[tuple[re.Pattern[bytes], int]]] = {}
        self._known: dict[bytes, int] = {}
        self._known_closely: dict[bytes, int] = {}
        self._entry_layout = np.zeros(256, np.int64)
        self._entry_space = np.zeros(256, np.int64)
        self._entry_offset = np.zeros(256, np.int64)
        self._entry_before = np.zeros(256, np.int64)
        self._entry_template = np.zeros((256, _CLASSES), np.int64)
        self._entry_count = 0
        self._note(None, _SLOW, _NONE, 0)  # `_UNREAD`

    def _entries(self, lines: _Lines) -> Ints:
        """Return the number of each line's shape; shapes not met before are learned.

        Keys without digits are cheap, and enough for most lines. The rest is given closer keys.
        """
        data = lines.with_named_levels()
        self._blocks += 1
        if self._closely and self._blocks % PAUSE_MAX:
            closer = self._closer(data)
            if self._entry_count + lines.count > KEYS_MAX:
                self._forget()
            return self._known_or_learned(lines, closer, range(lines.count), self._known_closely)
        keys = data.translate(None, b"0123456789").split(b"\n")
        entries = np.array(list(map(self._known.get, keys, repeat(_NONE))), np.int64)
        missing = np.flatnonzero(entries < 0).tolist()
        if not missing:
            return entries
        if self._entry_count + len(missing) > KEYS_MAX or len(self._known) > KEYS_MAX:
            self._forget()
            missing = list(range(lines.count))
        raw = data.split(b"\n")
        closer = self._closer(b"\n".join([raw[index] for index in missing]))
        entries[missing] = found = self._known_or_learned(lines, closer, missing, self._known_closely)
        learned = self._remember([keys[index] for index in missing], found)
        if lines.count >= TELLING_LINES_MIN:
            # From the third block on, most lines of most logs are known; where they are not, each carries an id.
            self._closely = len(missing) - learned > CLOSELY_MIN * lines.count and self._blocks > 2
        return entries

    def _remember(self, keys: list[bytes], numbers: Ints) -> int:
        """Remember the cheap keys that come again, and return of how many lines they are.

        A key with an id in it is one of very many, and not worth remembering.
        """
        if self._blocks < self._remember_at:
            return 0
        known = self._known
        seen = self._seen
        learned = 0
        for key, number in zip(keys, numbers.tolist(), strict=True):
            if (told := hash(key)) in seen:
                learned += 1
                if number != _UNREAD and len(key) <= KEY_BYTES_MAX:
                    known[key] = number
            else:
                seen.add(told)
        if len(seen) > KEYS_MAX:
            seen.clear()
        if learned < LEARNING_MIN * len(keys):  # less and less is left to be learned
            self._remember_at = self._blocks + self._pause
            self._pause = min(2 * self._pause, PAUSE_MAX)
        return learned

    def _closer(self, data: bytes) -> list[bytes]:
        """Return the closer keys of lines; whether quoted text is data is found out while shapes are new."""
        if self._quotes is None or self._learning:
            self._quotes = quotes_prose(data)
        return line_keys(data, self._quotes)

    def _known_or_learned(
        self, lines: _Lines, keys: list[bytes], places: Sequence[int], known: dict[bytes, int]
    ) -> Ints:
        found = np.array(list(map(known.get, keys, repeat(_NONE))), np.int64)
        new = np.flatnonzero(found < 0).tolist()
        self._learning = len(new) > LEARNING_MIN * len(places)
        for place in new:
            key = keys[place]
            number = known.get(key)
            if number is None:
                if (fitting := self._fitting(lines.raw(places[place]))) is not None:
                    number = fitting
                    if hash(key) in self._once and len(key) <= KEY_BYTES_MAX:  # seen again, so it is worth remembering
                        known[key] = fitting
                    self._once.add(hash(key))
                elif hash(key) not in self._once or len(key) > KEY_BYTES_MAX:
                    self._once.add(hash(key))
                    self._take_single(lines, places[place])
                    number = _UNREAD
                else:
                    number = known[key] = self._learn(lines, places[place])
            found[place] = number
        if len(self._once) > KEYS_MAX:
            self._once.clear()
        return found

    def _take_single(self, lines: _Lines, index: int) -> None:
        """Read a line whose shape was never met, and may never be met again: nothing is learned from it."""
        line = lines.raw(index)
        event = self._read(decoded(line))
        if event is None or (template := self._place(event)) < 0:
            return
        self._singles.append((index, template, event[0]))
        if sum(map(len, self._patterns.values())) < PATTERNS_MAX and not event[3] and status_at(event[1]) < 0:
            pattern = fitting_pattern(line, event[1], self._digest.template_words(template))
            layout = learn_layout(line, event[0])
            if pattern is not None and layout is not None:
                number = self._note(layout, template, _NONE, 0)
                self._patterns.setdefault(line.count(b" "), []).append((re.compile(pattern), number))

    def _fitting(self, line: bytes) -> int | None:
        """Return the number of a shape whose words with names in them fit a line as any word does."""
        if not self._patterns:
            return None
        for pattern, number in self._patterns.get(line.count(b" "), ()):
            if pattern.fullmatch(line):
                for word in _TELLING:
                    if word in line:
                        return None
                return number
        return None

    def _learn(self, lines: _Lines, index: int) -> int:
        """Read the first line of a shape and return the number of the shape."""
        line = lines.raw(index)
        event = self._read(decoded(line))
        layout = learn_layout(line, event[0]) if event is not None else None
        template, space, offset = _SLOW, _NONE, 0
        if event is not None and layout is not None:
            if status_at(event[1]) >= 0:
                place = status_at(line.decode("latin-1"))
                before = line[: max(place, 0)]
                # The nearest mark: between it and the status no number may change its length.
                quoted = before.rfind(b'"') > before.rfind(b" ")
                mark = b'"' if quoted else b" "
                space, offset = before.count(mark), len(before) - before.rfind(mark) - 1
                space += _BY_QUOTES if quoted else 0
                template = _UNKNOWN if place >= 0 else _SLOW
            else:
                template = self._place(event)
        number = self._note(layout, template, space, offset)
        if space >= 0:
            self._entry_before[number] = int.from_bytes(line[max(place - 2, 0) : place].rjust(2, b"\0"), "little")
        return number

    def _place(self, event: Event) -> int:
        return self._digest.place(event[1], event[2], event[3])

    def _note(self, layout: _Layout | None, template: int, space: int, offset: int) -> int:
        number = self._entry_count
        if number == len(self._entry_layout):
            self._entry_layout = np.concatenate((self._entry_layout, np.zeros_like(self._entry_layout)))
            self._entry_space = np.concatenate((self._entry_space, np.zeros_like(self._entry_space)))
            self._entry_offset = np.concatenate((self._entry_offset, np.zeros_like(self._entry_offset)))
            self._entry_before = np.concatenate((self._entry_before, np.zeros_like(self._entry_before)))
            self._entry_template = np.concatenate((self._entry_template, np.zeros_like(self._entry_template)))
        self._entry_count += 1
        if layout is None:
            self._entry_layout[number] = _NONE
        else:
            self._entry_layout[number] = self._layout_numbers.setdefault(layout.key(), len(self._layouts))
            if self._entry_layout[number] == len(self._layouts):
                self._layouts.append(layout)
        self._entry_space[number], self._entry_offset[number] = space, offset
        self._entry_template[number] = template
        return number

    def _placed(self, lines: _Lines, entries: Ints) -> Ints:
        """Return the number of each line's template; -1 where it has to be taken by itself."""
        templates: Ints = self._entry_template[entries, 0]
        told = np.flatnonzero((self._entry_space[entries] >= 0) & (templates != _SLOW))
        if not told.size:
            return templates
        of = entries[told]
        classes = np.zeros(len(told), np.int64)
        quoted = self._entry_space[of] >= _BY_QUOTES
        for mark, chosen in ((ord(" "), ~quoted), (ord('"'), quoted)):
            if chosen.any():
                those = of[chosen]
                marks = self._entry_space[those] % _BY_QUOTES
                classes[chosen] = lines.statuses(
                    told[chosen], mark, marks, self._entry_offset[those], self._entry_before[those]
                )
        found = np.where(classes > 0, self._entry_template[of, classes], _SLOW)
        for place in np.flatnonzero(found == _UNKNOWN).tolist():
            entry, status = int(of[place]), int(classes[place])
            if self._entry_template[entry, status] == _UNKNOWN:
                event = self._read(decoded(lines.raw(int(told[place]))))
                self._entry_template[entry, status] = _SLOW if event is None else self._place(event)
            found[place] = self._entry_template[entry, status]
        templates[told] = found
        return templates

    # --- times

    def _times(self, lines: _Lines, entries: Ints, templates: Ints) -> Floats:
        """Return epoch seconds of the lines that have a template; NaN where the time is not in its place."""
        at = np.full(lines.count, np.nan)
        layouts = np.where(templates >= 0, self._entry_layout[entries], _NONE)
        for number in np.unique(layouts[layouts >= 0]).tolist():
            which = np.flatnonzero(layouts == number)
            layout = self._layouts[number]
            origin = lines.brackets(which) if layout.bracket else lines.starts[which]
            if layout.digits:
                at[which] = lines.numbers(which, origin + layout.at, layout.digits, layout.fraction)
            else:
                at[which] = self._clocks(lines, which, origin, number)
        return at

    def _clocks(self, lines: _Lines, which: Ints, origin: Ints, number: int) -> Floats:
        layout = self._layouts[number]
        hour = origin + layout.at
        seconds, fractions, behind = lines.clocks(hour, layout.fraction)
        changed = lines.changes(origin + layout.begin, layout.at - layout.begin + 5)
        if layout.zone:
            changed |= lines.changes(behind, layout.zone)
        begins = np.flatnonzero(changed)
        minutes = [
            self._minute(
                lines,
                int(which[begin]),
                self._minute_key(lines, layout, number, int(origin[begin]), int(behind[begin])),
                float(seconds[begin] + fractions[begin]),
            )
            for begin in begins.tolist()
        ]
        made = np.repeat(np.array(minutes), np.diff(begins, append=len(which))) + seconds
        return np.where(behind <= lines.ends[which], made + fractions, np.nan)

    def _minute_key(self, lines: _Lines, layout: _Layout, number: int, origin: int, behind: int) -> tuple[int, bytes]:
        date = lines.data[origin + layout.begin : origin + layout.at + 5]
        return number, date + lines.data[behind : behind + layout.zone]

    def _minute(self, lines: _Lines, index: int, key: tuple[int, bytes], seconds: float) -> float:
        """Return epoch seconds of a minute, read closely once."""
        known = self._minutes.get(key)
        if known is not None:
            return known
        event = self._read(decoded(lines.raw(index)))
        if event is None or not np.isfinite(seconds):
            return float("nan")
        minute = (event[0] - seconds) / 60
        if abs(minute - round(minute)) > 1e-6:
            return float("nan")
        if len(self._minutes) >= MINUTES_MAX:
            self._minutes.clear()
        self._minutes[key] = known = round(minute) * 60.0
        return known

    # --- lines that need a look

    def _one_by_one(self, lines: _Lines, plain: Bools, inside: Bools) -> None:
        """Take the lines that are not plain, each after the line to which it may belong."""
        digest = self._digest
        done = 0
        while done < lines.count and digest.open and self._inside:  # the block before ended within a traceback
            plain[done] = False
            self._take_one(lines.text(done))
            done += 1
        for index in np.flatnonzero(~plain).tolist():
            if index < done:
                continue
            if index > done:
                self._stand_before(lines, index, done, bool(inside[index - 1]))
                done = index
            while done < lines.count and (done == index or not plain[done] or (digest.open and self._inside)):
                empty = lines.empty_from(done)
                if empty > 1:
                    self._take_empty(empty)
                    done += empty
                    continue
                plain[done] = False
                self._take_one(lines.text(done))
                done += 1
        if done < lines.count:
            self._stand_before(lines, lines.count, done, bool(inside[-1]))

    def _stand_before(self, lines: _Lines, index: int, done: int, inside: bool) -> None:
        self._digest.pass_placed(index - done)
        self._inside = False
        event = self._read(lines.text(index - 1)) if inside else None
        if event is not None:
            self._digest.stand_on(event[0], event[1], event[2])
            self._inside = True

    def _take_empty(self, count: int) -> None:
        if self._inside:
            self._digest.extend_empty(count)
        else:
            self._digest.skip(count)

    def _take_one(self, line: str) -> None:
        # Most lines that are taken one by one are frames of traces, which never carry a time.
        event = None if line.startswith(("\tat ", "\t... ")) else self._read(line)
        if event is None:
            if self._inside:
                self._digest.extend(line)
            else:
                self._digest.skip()
            return
        at, text, level, tail = event
        self._inside = self._start <= at <= self._end
        if self._inside:
            self._digest.add(at, text, level, tail)
        else:
            self._digest.skip()


class _Lines:
    """One block as an array, with what is computed for all of its lines at once."""

    def __init__(self, block: Block) -> None:
        self.data = block.data
        self._padded = self.data + PADDING
        self.bytes = np.frombuffer(self._padded, np.uint8)
        ends = np.flatnonzero(self.bytes[: len(self.data)] == 10)
        self.ends = np.append(ends, len(self.data))
        self.starts = np.concatenate(([0], ends + 1))
        self.count = len(self.ends)
        self._last = len(self.bytes) - len(PADDING) // 2  # an item that begins before it ends in the padding

    def raw(self, index: int) -> bytes:
        return self.data[self.starts[index] : self.ends[index]]

    def text(self, index: int) -> str:
        return decoded(self.raw(index))

    def empty_from(self, index: int) -> int:
        """Return how many empty lines there are from a line on."""
        start = int(self.starts[index])
        if self.data[start : start + 2] != b"\n\n":
            return 0
        text = self._texts
        place = int(np.searchsorted(text, index))
        return (int(text[place]) if place < len(text) else self.count) - index

    @cached_property
    def _texts(self) -> Ints:
        """The lines that are not empty."""
        return np.flatnonzero(self.ends > self.starts)

    def with_named_levels(self) -> bytes:
        """Return the bytes with levels in words, where they are told as numbers."""
        if _NUMBERED.search(self.data) is None:
            return self.data
        return _NUMBERED.sub(lambda found: b'"level":' + _WORDS[found.group(1)], self.data)

    def window(self, begins: Ints, width: int) -> NDArray[np.uint8]:
        """Return so many bytes from each of the places on."""
        # Each place of the block seen as the beginning of an item: one copy for each line, no matrix of indices.
        items = np.ndarray((self._last,), f"V{width}", self._padded, strides=(1,))
        return items[np.minimum(begins, self._last - 1)].view(np.uint8).reshape(-1, width)

    def words(self, begins: Ints) -> NDArray[np.uint64]:
        """Return eight bytes from each of the places on, as numbers; the first byte is the lowest."""
        items = np.ndarray((self._last,), "<u8", self._padded, strides=(1,))
        return items[np.minimum(begins, self._last - 1)]

    def changes(self, begins: Ints, width: int) -> Bools:
        """Return at which places other bytes stand than at the place before; always at the first."""
        changed = np.ones(len(begins), bool)
        if width < 8:
            told = self.window(begins, max(width, 1))
            changed[1:] = (told[1:] != told[:-1]).any(axis=1)
            return changed
        changed[1:] = False
        for offset in {*range(0, width - 8, 8), width - 8}:
            words = self.words(begins + offset)
            changed[1:] |= words[1:] != words[:-1]
        return changed

    def brackets(self, which: Ints) -> Ints:
        """Return where the first ``[`` of each line stands, or its end."""
        found = np.append(np.flatnonzero(self.bytes == ord("[")), len(self.data))
        place: Ints = np.minimum(found[np.searchsorted(found, self.starts[which])], self.ends[which])
        return place

    def statuses(self, which: Ints, mark: int, marks: Ints, offsets: Ints, before: Ints) -> Ints:
        """Return the class of the status behind so many spaces (or quotes) of each line.

        That is 2 to 5; 1 for another number; 0 where no number stands behind the two bytes that stand before it
        in other lines of the shape.
        """
        found = np.append(np.flatnonzero(self.bytes == mark), len(self.data))
        first = np.searchsorted(found, self.starts[which])
        behind = found[np.minimum(first + marks - 1, len(found) - 1)] + 1
        place = np.where(marks > 0, behind, self.starts[which]) + offsets
        near = self.window(np.maximum(place - 2, 0), 6)
        digits = near[:, 2:] - np.uint8(48)
        there = (near[:, 0] + near[:, 1] * np.int64(256) == before) & (digits[:, 0] <= 9) & (place >= 2)
        told = (digits[:, :3] <= 9).all(axis=1) & (digits[:, 3] > 9) & (place + 3 <= self.ends[which])
        told &= (digits[:, 0] >= 2) & (digits[:, 0] <= 5)
        return np.where(there, np.where(told, digits[:, 0], 1), 0).astype(np.int64)

    def clocks(self, hours: Ints, fraction: bool) -> tuple[Floats, Floats, Ints]:
        """Return seconds of the minute (NaN where no clock stands), their fraction, and where what follows begins."""
        clock = self.words(hours)
        units = clock & _UNITS
        good = (clock & ~_UNITS) == _CLOCK_MARKS
        good &= ((units + _SIXES) & _CARRIES) == 0
        seconds = ((units >> np.uint64(48)) & np.uint64(15)) * np.uint64(10) + (units >> np.uint64(56))
        good &= seconds < 60
        whole = np.where(good, seconds.astype(np.float64), np.nan)
        if not fraction:
            return whole, np.zeros(len(hours)), hours + 8
        found = self.window(hours + 8, 10)
        good = (found[:, 0] == 46) | (found[:, 0] == 44) | (found[:, 0] == 58)
        fractions, width = _fractions(found[:, 1:] - np.uint8(48))
        return np.where(good, whole, np.nan), fractions, hours + 9 + width

    def numbers(self, which: Ints, begins: Ints, width: int, fraction: bool) -> Floats:
        """Return epoch seconds of numbers of so many digits; NaN where another number stands."""
        digits = self.window(begins, width + 1) - np.uint8(48)
        good = (digits[:, :width] <= 9).all(axis=1) & (digits[:, width] > 9) & (begins + width <= self.ends[which])
        powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
        whole = (digits[:, :width].astype(np.int64) * powers).sum(axis=1).astype(np.float64)
        scaled = whole / 10.0 ** (width - 10)
        if fraction:
            point = self.window(begins + width, 1)[:, 0]
            good &= (point == 46) | (point == 44)
            scaled = scaled + _fractions(self.window(begins + width + 1, 9) - np.uint8(48))[0]
        elif width == 10:
            good &= self.window(begins + width, 1)[:, 0] != 46
        return np.where(good, scaled, np.nan)


def _fractions(digits: NDArray[np.uint8]) -> tuple[Floats, Ints]:
    """Return the decimal fraction that each row begins with, and of how many digits it is."""
    value = np.zeros(len(digits))
    width = np.zeros(len(digits), np.int64)
    run = np.ones(len(digits), bool)
    for column in range(digits.shape[1]):
        run &= digits[:, column] <= 9
        if not run.any():
            break
        value = np.where(run, value * 10 + digits[:, column], value)
        width += run
    return value / 10.0**width, width
