"""Log lines digested: shapes with counts, stack traces folded, starts and kills of the process.

A million lines become some hundred templates, so that "what is new since the onset" can be asked at all.
Variable parts are masked word by word (a word is looked at once, then remembered), lines of one masked
shape are one template, and shapes that differ in few words are merged into one, as Drain does, but never
across different beginnings such as another logger. Everything is bounded: a hostile log costs memory and
time like an ordinary one.

Does not open files, and does not know how time is written in them: ``adapters/log_files.py`` and its
siblings hand over an instant and the rest of the line. Everything kept goes through ``redact`` first.

Source: He et al., "Drain: An Online Log Parsing Approach with Fixed Depth Tree", ICWS 2017.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import ne

from advisor.evidence import LogAnswer, LogException, LogTemplate
from advisor.evidence.gc_log import RECORDS_MAX, GcLog

TEMPLATES_MAX = 2_000  # a large service has some hundred log statements
CLUSTERS_OF_ONE_LEAF_MAX = 50  # then lines of this length and beginning differ in everything: one template
BUCKETS_MAX = 400_000  # pairs over all templates, some 40 MB; past it counts stay right, buckets end
SHAPE_CHARACTERS_MAX = 1_000  # what tells two statements apart stands at their beginning
WORDS_MAX = 60
WORD_CHARACTERS_MAX = 80  # a longer one is data (a token, a list without spaces): its beginning tells enough
REMEMBERED_MAX = 20_000  # words and shapes; forgotten together when full, which costs time, never truth
DIFFERENT_WORDS_MAX = 0.34  # of the message: a third may vary ("user alice logged in"), a half is another statement
KEPT_CHARACTERS_MAX = 400
REDACTED_CHARACTERS_MAX = 4_000  # a secret is longer than what is kept, so it must be seen before the cut
EXCEPTIONS_MAX = 500
TAIL_LINES_MAX = 1_000  # of one event; a trace with all its causes has some hundred
FRAMES_MAX = 12
FRAMES_READ_MAX = 300
INSTANTS_MAX = 200
SIGNALS_MAX = 1_000

Redact = Callable[[str], str]
ANY = "<*>"
OTHER = "<other>"

_COLOURS = re.compile(r"\x1b\[[0-9;:]{0,20}[A-Za-z]")
_QUOTED = re.compile(r"\"[^\"]*\"|(?<![A-Za-z0-9])'[^']*'(?![A-Za-z0-9])")
# Each alternative begins where no letter or digit precedes: a long run is tried once, not from each place.
_MASK = re.compile(
    r"(?P<uuid>(?<![A-Za-z0-9])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![A-Za-z0-9]))"
    r"|(?P<email>(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})"
    r"|(?P<time>(?<!\d)\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)"
    r"|(?<![\d:])\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?![\d:]))"
    r"|(?P<ip>(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?(?![\d.])"
    r"|(?<![\w:])(?:[0-9a-fA-F]{1,4}:){2,7}(?::?[0-9a-fA-F]{1,4})(?![\w:]))"
    r"|(?P<query>\?[^\s\"']+)"
    r"|(?P<hex>0[xX][0-9a-fA-F]+|(?<=@)[0-9a-f]{5,16}(?![A-Za-z0-9]))"
    r"|(?P<num>(?:(?<![\w)])[+-])?(?<![A-Za-z0-9])\d+(?:[.,_]\d+)*(?:%|[A-Za-zµ]{1,3})?(?![A-Za-z0-9]))"
    r"|(?P<hash>(?<![A-Za-z0-9])(?=[a-fA-F]*\d)[0-9a-fA-F]{8,}(?![A-Za-z0-9]))"
    r"|(?P<id>(?<![A-Za-z0-9])(?=[A-Za-z]*\d)[A-Za-z0-9]{10,}(?![A-Za-z0-9]))"
    r"|(?P<digits>\d+)"
)
_HEX = re.compile(r"[0-9a-fA-F]+")
_NAMES = {"hash": "<hex>", "digits": "<num>", "query": "?<*>"}

_LEVEL = re.compile(
    r"(?<![\w.$/-])(?:(?P<word>TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|SEVERE|CRITICAL|CRIT|FATAL|ALERT"
    r"|EMERG|FINE(?:R|ST)?|CONFIG|PANIC)(?![\w.$/-])"
    r"|(?:level|lvl|severity)=\"?(?P<key>[A-Za-z]{3,9})"
    r"|[\[<](?P<low>trace|debug|info|notice|warn(?:ing)?|error|crit"
    r"|fatal|alert|emerg)\s{0,4}[\]>])"
)
_LEVELS = {
    "WARNING": "WARN", "SEVERE": "ERROR", "ERR": "ERROR", "CRITICAL": "FATAL", "CRIT": "FATAL",
    "ALERT": "FATAL", "EMERG": "FATAL", "PANIC": "FATAL", "NOTICE": "INFO", "INFORMATION": "INFO", "CONFIG": "DEBUG",
    "FINE": "DEBUG", "FINER": "TRACE", "FINEST": "TRACE", "TRC": "TRACE", "DBG": "DEBUG", "INF": "INFO", "WRN": "WARN",
}  # fmt: skip
_SEPARATORS = frozenset((":", "-", "--", "|", "=>"))

_CLASS = r"((?:[A-Za-z_$][\w$]{0,200}\.){0,20}[A-Za-z_$][\w$]{0,200})"
_HEAD = re.compile(
    r"\s*(?:\S{0,40}\s?)?"
    r"(?P<lead>Exception in thread \"[^\"]{0,300}\" |Caused by: |Suppressed: |Wrapped by: )"
    rf"(?P<led>{_CLASS})(?::\s?(?P<said>.*))?$|\s*(?:Uncaught )?(?P<bare>{_CLASS})(?::\s(?P<told>.*))?$"
)
_INLINE = re.compile(
    r"(?<![\w.$])((?:[A-Za-z_$][\w$]{0,200}\.){1,20}[A-Z][\w$]{0,200}(?:Exception|Error|Throwable))"
    r"(?![\w.$])(?::\s(.*))?"
)
_THROWN = re.compile(r"(?:Exception|Error|Throwable|Failure|Fault|ThreadDeath)(?:\$\w{1,100})?$")
_FRAME = re.compile(r"\s*at (\S[^(]{0,500}(?:\([^()]{0,300}\))?)")
_LOADER = re.compile(r"^(?:[\w.@-]{0,200}/){1,2}(?=[\w$.<>]+\()")
_ADDRESS = re.compile(r"/0x[0-9a-f]+")
_MORE = re.compile(r"\s*\.\.\. (\d{1,6}) (?:more|common frames omitted)")
_TRACEBACK = "Traceback (most recent call last):"
_PYTHON_FRAME = re.compile(r"File \"([^\"]{1,400})\", line (\d{1,9})(?:, in (.{1,200}))?")
_PYTHON_END = re.compile(rf"{_CLASS}(?::\s(.*))?$")
_CHAINED = ("During handling of the above", "The above exception was")
_PANIC = re.compile(r"(panic|fatal error): (.*)")
_GO_CALL = re.compile(r"([\w./*()\[\]{}%-]{1,300})\(.{0,500}\)$")
_GO_PLACE = re.compile(r"\s+(\S{1,400}\.go:\d{1,9})")
_TAIL_BEGINS = frozenset(("at ", "...", "Cau", "Sup"))
_TAIL = re.compile(r"\s*(?:at [\w$.<>/@ ]{1,300}\(|\.\.\. \d{1,6} |Caused by: |Suppressed: )")

_OUT_OF_MEMORY = "java.lang.OutOfMemoryError"
_OOM = re.compile(
    r"java\.lang\.OutOfMemoryError"
    r"(?::\s*(?P<said>[^\]\"\\]*)| (?P<thrown>thrown from [^\\]{0,300})|(?P<end>\W{0,20}$))"
    r"|OutOfMemory encountered: (?P<crash>[^\"\\]{1,200})"
    r"|(?P<native>There is insufficient memory for the Java Runtime Environment to continue\.?)"
    r"|(?P<thread>Failed to start thread \"[^\"]{0,200}\" - pthread_create failed \(E\w{2,10}\).{0,200})"
)
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
_START_SECONDS_MAX = 300.0  # the slowest usual Spring Boot start


def _same(text: str) -> str:
    return text


def clean(text: str) -> str:
    """Return text as one printable line: no colours, no control characters."""
    if text.isprintable():
        return text.strip()
    text = _COLOURS.sub("", text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def keep(text: str, redact: Redact = _same) -> str:
    """Return text as it may be stored: redacted, then printable, then cut."""
    # Control characters go first: one inside a secret would hide it from the redactor.
    text = clean(redact(clean(text[:REDACTED_CHARACTERS_MAX])))
    return text if len(text) <= KEPT_CHARACTERS_MAX else text[: KEPT_CHARACTERS_MAX - 1] + "…"


def level_of(text: str) -> str:
    """Return TRACE, DEBUG, INFO, WARN, ERROR, FATAL, or nothing if the line's beginning names no level."""
    found = _LEVEL.search(text, 0, 160)
    return normal_level(found.group(found.lastgroup or 0)) if found else ""


def normal_level(word: str) -> str:
    """Return a level as a logging library or a JSON field writes it in the words of `level_of`."""
    upper = word.strip().upper()[:20]
    return _LEVELS.get(upper, upper if upper in ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL") else "")


# --- templates


class _Words(dict[str, str]):
    """Masked form of each word seen lately. A dictionary, because its look-up runs without a Python call."""

    def __missing__(self, word: str) -> str:
        if word.isdecimal():  # not worth remembering: the next one is another
            return "<num>"
        if len(word) > WORD_CHARACTERS_MAX:
            return _MASK.sub(_name, word[: WORD_CHARACTERS_MAX // 2]) + ANY
        if word.isalpha():
            masked = word
        elif len(word) == 32 and word.isascii() and word.isalnum() and not word[:-3].isdecimal():
            return "<hex>" if _HEX.fullmatch(word) else "<id>"
        else:
            masked = _MASK.sub(_name, word)
        if len(self) >= REMEMBERED_MAX:
            self.clear()
        self[word] = masked
        return masked


def _name(found: re.Match[str]) -> str:
    group = found.lastgroup or ""
    return _NAMES.get(group, f"<{group}>")


@dataclass(slots=True)
class _Cluster:
    words: list[str]
    level: str
    sample: str
    first: float
    last: float
    count: int = 0
    wild: int = 0
    buckets: dict[int, int] = field(default_factory=dict)


class TemplateMiner:
    """Counts lines by shape.

    Args:
        start: Epoch seconds from which buckets are numbered.
        bucket_seconds: Width of one bucket.
        redact: Applied to samples and templates.
        templates_max: More shapes than this are counted together as ``<other>``.
    """

    def __init__(
        self,
        start: float,
        bucket_seconds: float = 60.0,
        redact: Redact = _same,
        templates_max: int = TEMPLATES_MAX,
    ) -> None:
        """Start without any template."""
        self._start = start
        self._width = bucket_seconds
        self._redact = redact
        self._templates_max = templates_max
        self._words = _Words()
        self._known: dict[str, _Cluster] = {}
        self._leaves: dict[tuple[str, int, str], list[_Cluster]] = {}
        self._clusters: list[_Cluster] = []
        self._rest: _Cluster | None = None
        self._pairs = 0

    @property
    def buckets_complete(self) -> bool:
        """Return False if there were more (template, bucket) pairs than are kept."""
        return self._pairs < BUCKETS_MAX

    def add(self, at: float, text: str, level: str = "") -> None:
        """Count one line, given without its timestamp; ``level`` where it does not stand in the text."""
        masked = self._masked(text)
        known = self._known.get(level + "\0" + masked)
        if known is None:
            known = self._place(at, text, level)
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            self._known[level + "\0" + masked] = known
        known.count += 1
        if at < known.first:
            known.first = at
        if at > known.last:
            known.last = at
        bucket = int((at - self._start) // self._width)
        buckets = known.buckets
        if bucket in buckets:
            buckets[bucket] += 1
        elif self._pairs < BUCKETS_MAX:
            buckets[bucket] = 1
            self._pairs += 1

    def templates(self) -> tuple[LogTemplate, ...]:
        """Return the templates, most frequent first."""
        merged: dict[tuple[str, str], LogTemplate] = {}
        for one in (*self._clusters, *((self._rest,) if self._rest else ())):
            made = LogTemplate(
                template=keep(" ".join(one.words), self._redact),
                level=one.level,
                count=one.count,
                first_at=utc(one.first),
                last_at=utc(one.last),
                buckets=tuple(sorted(one.buckets.items())),
                sample=one.sample,
            )
            key = (made.template, made.level)
            merged[key] = _sum(merged[key], made) if key in merged else made
        return tuple(sorted(merged.values(), key=lambda t: (-t.count, t.first_at, t.template, t.level)))

    def _masked(self, text: str) -> str:
        if len(text) > SHAPE_CHARACTERS_MAX:
            text = text[:SHAPE_CHARACTERS_MAX]
        if '"' in text or "'" in text:
            text = _QUOTED.sub("<str>", text)
        return " ".join(map(self._words.__getitem__, text.split()))

    def _place(self, at: float, text: str, level: str) -> _Cluster:
        """Find or make the template of a shape that was not met lately."""
        # Redacted before it is masked: half a secret with its digits masked would be known to no redactor.
        words = self._masked(self._redact(clean(text[:REDACTED_CHARACTERS_MAX]))).split()
        if len(words) > WORDS_MAX:
            words = [*words[: WORDS_MAX - 1], "<more>"]
        named = level or level_of(text)
        begin = _message_begins(words)
        leaf = (named, len(words), " ".join(words[:begin]))
        siblings = self._leaves.get(leaf)
        found = _nearest(siblings, words, begin) if siblings else None
        if found is None:
            if len(self._clusters) >= self._templates_max:
                found = self._rest = self._rest or _Cluster([OTHER], "", keep(text, self._redact), at, at)
            else:
                if siblings is None:
                    siblings = self._leaves[leaf] = []
                if len(siblings) >= CLUSTERS_OF_ONE_LEAF_MAX:  # every further line of this leaf fits this one
                    words = words[:begin] + [ANY] * (len(words) - begin)
                found = _Cluster(words, named, keep(text, self._redact), at, at, wild=words.count(ANY))
                siblings.append(found)
                self._clusters.append(found)
        else:
            _generalise(found, words)
        return found


def utc(seconds: float) -> datetime:
    """Return epoch seconds as an instant, to the millisecond that logs have."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)


def _message_begins(words: Sequence[str]) -> int:
    """Return how many words belong to the layout (level, thread, logger), which are never merged."""
    for index, word in enumerate(words[:12]):
        if word in _SEPARATORS or (word.endswith(":") and index < 6):
            return index + 1
    for index, word in enumerate(words[:6]):
        if not (word[:1] in "[(<" or word in _LEVELS or word in ("INFO", "WARN", "ERROR", "DEBUG", "TRACE", "FATAL")):
            return index
    return 0


def _nearest(siblings: Sequence[_Cluster], words: Sequence[str], begin: int) -> _Cluster | None:
    allowed = int((len(words) - begin) * DIFFERENT_WORDS_MAX)
    best, best_different = None, allowed + 1
    for one in siblings:
        # Places that are already open differ from any word, so they are taken off again.
        different = sum(map(ne, one.words, words)) - one.wild
        if different < best_different and (one.wild + different <= 2 * allowed or one.wild >= len(words) - begin):
            best, best_different = one, different
            if different <= 0:
                break
    return best


def _generalise(cluster: _Cluster, words: Sequence[str]) -> None:
    for index, (mine, other) in enumerate(zip(cluster.words, words, strict=True)):
        if mine != other and mine != ANY:
            cluster.words[index] = ANY
            cluster.wild += 1


def _sum(one: LogTemplate, other: LogTemplate) -> LogTemplate:
    buckets = dict(one.buckets)
    for bucket, count in other.buckets:
        buckets[bucket] = buckets.get(bucket, 0) + count
    return LogTemplate(
        template=one.template,
        level=one.level,
        count=one.count + other.count,
        first_at=min(one.first_at, other.first_at),
        last_at=max(one.last_at, other.last_at),
        buckets=tuple(sorted(buckets.items())),
        sample=one.sample,
    )


# --- stack traces


@dataclass(frozen=True, slots=True)
class Trace:
    """A stack trace.

    Attributes:
        frames: The deepest cause's own frames, nearest first. Where all are common with the exception around
            it ("... 12 more"), these common ones.
        first: Index of its first line.
        end: Index after its last line.
    """

    type: str
    message: str
    root_type: str
    root_message: str
    frames: tuple[str, ...]
    first: int
    end: int


@dataclass(slots=True)
class _Section:
    type: str
    message: str
    frames: list[str] = field(default_factory=list)
    common: int = 0


def parse_traces(lines: Sequence[str]) -> tuple[Trace, ...]:
    """Return the stack traces (Java and its kin, Python, Go) in the lines of one event, in order."""
    found: list[Trace] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        trace = None
        if _TRACEBACK in line:
            trace = _python(lines, index)
        elif line.startswith(("panic: ", "fatal error: ")):
            trace = _go(lines, index)
        else:
            section = _begins_java(lines, index)
            if section is not None:
                trace = _java(lines, index, section)
        if trace is not None:
            found.append(trace)
        index = trace.end if trace is not None else index + 1
    return tuple(found)


def _begins_java(lines: Sequence[str], index: int) -> _Section | None:
    line = lines[index][:REDACTED_CHARACTERS_MAX]
    followed = index + 1 < len(lines) and _FRAME.match(lines[index + 1][:1_000]) is not None
    if not followed and "rror" not in line and "xception" not in line and "hrowable" not in line:
        return None
    head = _HEAD.match(line)
    if head and head.group("lead"):
        return _Section(head.group("led"), head.group("said") or "")
    if head:
        name = head.group("bare")
        named = _THROWN.search(name) is not None
        if named and ("." in name or followed):
            return _Section(name, head.group("told") or "")
        if followed and "." in name and not name.endswith("Thread.State"):  # a thread dump is no exception
            return _Section(name, head.group("told") or "")
    if followed:
        inline = _INLINE.search(line)
        if inline:
            return _Section(inline.group(1), inline.group(2) or "")
    return None


def _java(lines: Sequence[str], first: int, section: _Section) -> Trace:
    sections = [section]
    wrapped = False
    suppressed: int | None = None
    index = first + 1
    while index < len(lines):
        line = lines[index][:REDACTED_CHARACTERS_MAX]
        text = line.lstrip()
        indent = len(line) - len(text)
        if frame := _FRAME.match(line):
            if suppressed is None and len(sections[-1].frames) < FRAMES_READ_MAX:
                sections[-1].frames.append(_frame(frame.group(1)))
        elif more := _MORE.match(line):
            if suppressed is None:
                sections[-1].common = int(more.group(1))
        elif text.startswith("Suppressed: "):
            suppressed = indent if suppressed is None else min(suppressed, indent)
        elif text.startswith(("Caused by: ", "Wrapped by: ")):
            # What is indented like the suppressed exception caused that one, not the one that is told about.
            if suppressed is None or indent < suppressed or suppressed == 0:
                suppressed = None
                head = _HEAD.match(line)
                kind, _, said = text.partition(": ")[2].partition(": ")
                if head and head.group("lead"):
                    kind, said = head.group("led"), head.group("said") or ""
                wrapped = wrapped or text.startswith("W")
                if len(sections) < 50:
                    sections.append(_Section(kind.strip()[:300], said))
        elif sections[-1].frames or sections[-1].common or not _frames_follow(lines, index):
            break  # else the message goes on over several lines
        index += 1
    if wrapped:  # logback's "root cause first": the deepest stands on top
        sections.reverse()
    outer, root = sections[0], sections[-1]
    frames = root.frames
    if not frames and root.common:
        around = [frame for one in sections[:-1] for frame in one.frames]
        frames = around[-root.common :]
    return Trace(outer.type, outer.message, root.type, root.message, tuple(frames[:FRAMES_MAX]), first, index)


def _frames_follow(lines: Sequence[str], index: int) -> bool:
    """Return whether a frame comes within some lines, before another exception begins."""
    for line in lines[index : index + 20]:
        if _FRAME.match(line[:1_000]) or line.lstrip().startswith(("Caused by: ", "... ")):
            return True
        head = _HEAD.match(line[:1_000])
        if head and (head.group("lead") or _THROWN.search(head.group("bare"))):
            return False
    return False


def _frame(text: str) -> str:
    text = _LOADER.sub("", text, count=1) if "/" in text else text
    return _ADDRESS.sub("", text).strip()[:300]


def _python(lines: Sequence[str], first: int) -> Trace | None:
    sections: list[_Section] = []
    frames: list[str] = []
    index = first + 1
    while index < len(lines):
        line = lines[index].lstrip("| ").rstrip() if "|" in lines[index][:8] else lines[index].rstrip()
        place = _PYTHON_FRAME.search(line[:1_000])
        if place:
            if len(frames) < FRAMES_READ_MAX:
                frames.append(f"{place.group(3) or '<module>'} ({place.group(1)}:{place.group(2)})")
        elif not line or line[0].isspace() or line.startswith(_CHAINED) or _TRACEBACK in line:
            pass
        else:
            ended = _PYTHON_END.match(line[:REDACTED_CHARACTERS_MAX])
            if ended and frames:
                frames.reverse()
                sections.append(_Section(ended.group(1), ended.group(2) or "", frames))
                frames = []
                following = [text for text in lines[index + 1 : index + 4] if text.strip()]
                if not (following and following[0].lstrip("| ").startswith(_CHAINED)):
                    index += 1
                    break
            else:
                break
        index += 1
    if not sections:
        return None
    root, outer = sections[0], sections[-1]
    return Trace(outer.type, outer.message, root.type, root.message, tuple(root.frames[:FRAMES_MAX]), first, index)


def _go(lines: Sequence[str], first: int) -> Trace | None:
    head = _PANIC.match(lines[first][:REDACTED_CHARACTERS_MAX])
    if not head:
        return None
    frames: list[str] = []
    goroutines = 0
    call = ""
    index = first + 1
    while index < len(lines):
        line = lines[index][:1_000]
        if line.startswith("goroutine "):
            goroutines += 1
        elif place := _GO_PLACE.match(line):
            if goroutines == 1 and call and len(frames) < FRAMES_MAX:
                frames.append(f"{call} ({place.group(1)})")
            call = ""
        elif made := _GO_CALL.match(line.rstrip()):
            call = made.group(1)
        elif line.strip() and not line.startswith(("\tpanic: ", "[signal ", "created by ", "exit status", "runtime")):
            break
        index += 1
    if not goroutines:
        return None
    # panic and its rethrow print as "panic: a [recovered]" and, indented, "panic: b"
    said = head.group(2).removesuffix(" [recovered]")
    return Trace(head.group(1), said, head.group(1), said, tuple(frames), first, index)


def out_of_memory(text: str, level: str = "") -> str | None:
    """Return the message of a Java out-of-memory error that is told in one line, or None.

    Only naming the class is no error: options such as ``-XX:+HeapDumpOnOutOfMemoryError`` are left alone.
    """
    found = _OOM.search(text[:REDACTED_CHARACTERS_MAX])
    if not found:
        return None
    kind = found.lastgroup or ""
    if kind == "end":
        before = text[: found.start()].strip()
        told = not before or before.endswith(("Caused by:", '"')) or level in ("ERROR", "FATAL")
        return "" if told else None
    message = found.group(kind).strip(" \t'},;")
    while message.endswith(")") and message.count(")") > message.count("("):  # it stood in brackets itself
        message = message[:-1].rstrip()
    return message[:KEPT_CHARACTERS_MAX]


@dataclass(slots=True)
class _Tally:
    trace: Trace
    source: tuple[str, int, int]
    first: float
    count: int = 0
    early: list[float] = field(default_factory=list)
    late: deque[float] = field(default_factory=lambda: deque(maxlen=INSTANTS_MAX // 2))


# --- the digest of a window

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

    def __init__(self, start: float, end: float, bucket_seconds: float = 60.0, redact: Redact = _same) -> None:
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
        if self._text.startswith(("Traceback ", "panic: ", "fatal error: ")) and len(self._tail) < 500:
            if self._text.startswith("Traceback "):
                last = self._tail[-1] if self._tail else " "
                return last[:1].isspace()
            return bool(not begin or text[:1] in "\t" or text.startswith("goroutine ") or _GO_CALL.match(text[:1_000]))
        return False

    def _extend(self, text: str) -> None:
        if len(self._tail) < TAIL_LINES_MAX or "Caused by: " in text:
            if len(self._tail) < 2 * TAIL_LINES_MAX:
                self._tail.append(text[:REDACTED_CHARACTERS_MAX])
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
            if self._at is not None and len(self._kills) < SIGNALS_MAX:
                self._kills.append((round(self._at, 3), keep(text, self._redact)))
        if "tart" in text or " VM (" in text:
            for phase, pattern in _STARTS:
                if pattern.search(text, 0, 600):
                    if self._at is not None and len(self._starts) < SIGNALS_MAX:
                        self._starts.append((self._at, phase, self._source))
                    break

    def _flush(self) -> None:
        if self._at is not None and (self._tail or self._special):
            self._fold(self._at, (self._text[:REDACTED_CHARACTERS_MAX], *self._tail))
        self._tail = []
        self._special = False

    def _fold(self, at: float, lines: Sequence[str]) -> None:
        traces = parse_traces(lines)
        told = {trace.root_message.strip() for trace in traces if trace.frames and _is_oom(trace)}
        covered: set[int] = set()
        for trace in traces:
            covered.update(range(trace.first, trace.end))
            # The JVM prints the bare error when it dumps the heap, and again where it is thrown: one error.
            if not trace.frames and _is_oom(trace) and trace.root_message.strip() in told:
                continue
            self._count(at, trace)
        told |= {trace.root_message.strip() for trace in traces if _is_oom(trace)}
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
            self._count(at, Trace(_OUT_OF_MEMORY, message, _OUT_OF_MEMORY, message, (), index, index + 1))

    def _count(self, at: float, trace: Trace) -> None:
        words = self._miner._words
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
            if len(self._exceptions) >= EXCEPTIONS_MAX * (2 if _is_oom(trace) else 1):
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
                message=keep(one.trace.message, self._redact),
                root_type=keep(one.trace.root_type, self._redact),
                root_message=keep(one.trace.root_message, self._redact),
                frames=tuple(keep(frame, self._redact) for frame in one.trace.frames),
                count=one.count,
                at=tuple(utc(at) for at in sorted({round(at, 3) for at in (*one.early, *one.late)})),
                source=names.get(one.source, one.source[0]),
            )
            for one in self._exceptions.values()
        ]
        return tuple(sorted(made, key=lambda e: (-e.count, e.at, e.type, e.message, e.frames)))

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


def _is_oom(trace: Trace) -> bool:
    return "OutOfMemoryError" in trace.root_type or "OutOfMemoryError" in trace.type
