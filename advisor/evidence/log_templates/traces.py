"""Stack traces in the lines of one event: which exception, its deepest cause, and that one's own frames.

Does not decide where an event begins or ends: ``digest.py`` does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from advisor.evidence.log_templates.masking import KEPT_CHARACTERS_MAX, REDACTED_CHARACTERS_MAX

FRAMES_MAX = 12
FRAMES_READ_MAX = 300
CAUSES_MAX = 50

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
_GROUPED = re.compile(r"^ {0,60}\| ?")  # the margin of an exception group
_CHAINED = ("During handling of the above", "The above exception was")
_PANIC = re.compile(r"(?:[^\n]{0,60} )?(panic|fatal error)(?: serving \S{1,80})?: (.*)")
GO_CALL = re.compile(r"([\w./*()\[\]{}%-]{1,300})\(.{0,500}\)$")
_GO_PLACE = re.compile(r"\s+(\S{1,400}\.go:\d{1,9})")

OUT_OF_MEMORY = "java.lang.OutOfMemoryError"
_OOM = re.compile(
    r"java\.lang\.OutOfMemoryError"
    r"(?::\s*(?P<said>[^\]\"\\]*)| (?P<thrown>thrown from [^\\]{0,300})|(?P<end>\W{0,20}$))"
    r"|OutOfMemory encountered: (?P<crash>[^\"\\]{1,200})"
    r"|(?P<native>There is insufficient memory for the Java Runtime Environment to continue\.?)"
    r"|(?P<thread>Failed to start thread \"[^\"]{0,200}\" - pthread_create failed \(E\w{2,10}\).{0,200})"
)


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
    """Return the stack traces in the lines of one event, in order.

    Java and its kin, .NET, JavaScript, Python, Go.
    """
    found: list[Trace] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        trace = None
        if _TRACEBACK in line:
            trace = _python(lines, index)
        elif line.startswith(("panic: ", "fatal error: ")) or "http: panic serving " in line[:80]:
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
    behind = lines[index + 1][:1_000] if index + 1 < len(lines) else ""
    followed = _FRAME.match(behind) is not None or behind.lstrip().startswith("---> ")
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
    sections = _inner_causes(section)
    wrapped = False
    suppressed: int | None = None
    index = first + 1
    while index < len(lines):
        line = lines[index][:REDACTED_CHARACTERS_MAX]
        if (frame := _frame_in(line)) is not None:
            if suppressed is None and len(sections[-1].frames) < FRAMES_READ_MAX:
                sections[-1].frames.append(frame)
            index += 1
            continue
        text = line.lstrip()
        indent = len(line) - len(text)
        if text.startswith("--- End of "):  # .NET: what follows are the frames of the exception around it
            suppressed = indent if text.startswith("--- End of inner") else suppressed
            index += 1
            continue
        if more := _MORE.match(line):
            if suppressed is None:
                sections[-1].common = int(more.group(1))
        elif text.startswith("Suppressed: "):
            suppressed = indent if suppressed is None else min(suppressed, indent)
        elif text.startswith(("---> ", "[cause]: ")):
            kind, _, said = text.partition(" ")[2].partition(": ")
            if len(sections) < CAUSES_MAX:
                sections.append(_Section(kind.strip()[:300], said))
        elif text.startswith(("Caused by: ", "Wrapped by: ")):
            # What is indented like the suppressed exception caused that one, not the one that is told about.
            if suppressed is None or indent < suppressed or suppressed == 0:
                suppressed = None
                head = _HEAD.match(line)
                kind, _, said = text.partition(": ")[2].partition(": ")
                if head and head.group("lead"):
                    kind, said = head.group("led"), head.group("said") or ""
                wrapped = wrapped or text.startswith("W")
                if len(sections) < CAUSES_MAX:
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


def _inner_causes(section: _Section) -> list[_Section]:
    """Return an exception and those behind arrows in its message: .NET writes all of them into one line."""
    said, *inner = section.message.split(" ---> ", CAUSES_MAX)
    section.message = said
    return [section, *(_Section(one.partition(": ")[0].strip()[:300], one.partition(": ")[2]) for one in inner)]


def _frames_follow(lines: Sequence[str], index: int) -> bool:
    """Return whether a frame comes within some lines, before another exception begins."""
    for line in lines[index : index + 20]:
        if _FRAME.match(line[:1_000]) or line.lstrip().startswith(("Caused by: ", "... ", "---> ")):
            return True
        head = _HEAD.match(line[:1_000])
        if head and (head.group("lead") or _THROWN.search(head.group("bare"))):
            return False
    return False


@lru_cache(maxsize=4_096)
def _frame_in(line: str) -> str | None:
    """Return the frame that a line tells; the same lines come with each repeat of a trace."""
    found = _FRAME.match(line)
    return _frame(found.group(1)) if found else None


def _frame(text: str) -> str:
    text = _LOADER.sub("", text, count=1) if "/" in text else text
    return _ADDRESS.sub("", text).removesuffix(" {").strip()[:300]


def _python(lines: Sequence[str], first: int) -> Trace | None:
    sections: list[_Section] = []
    frames: list[str] = []
    grouped = False
    index = first + 1
    while index < len(lines):
        line = _GROUPED.sub("", lines[index], count=1).rstrip()
        place = _PYTHON_FRAME.search(line[:1_000])
        if place:
            if len(frames) < FRAMES_READ_MAX:
                frames.append(f"{place.group(3) or '<module>'} ({place.group(1)}:{place.group(2)})")
        elif not line or line[0].isspace() or line[0] == "+" or line.startswith(_CHAINED) or _TRACEBACK in line:
            pass
        else:
            ended = _PYTHON_END.match(line[:REDACTED_CHARACTERS_MAX])
            if ended and frames:
                frames.reverse()
                # A group names what happened in it after itself, all others name their cause before.
                sections.insert(0 if grouped else len(sections), _Section(ended.group(1), ended.group(2) or "", frames))
                frames = []
                following = next((text.lstrip("| ") for text in lines[index + 1 : index + 4] if text.strip("| ")), "")
                grouped = following.startswith("+-+")
                if not grouped and not following.startswith(_CHAINED):
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
        elif made := GO_CALL.match(line.rstrip()):
            call = made.group(1)
            if call == "panic":  # what came before ran because of it
                frames.clear()
                call = ""
        elif line.strip() and not line.startswith(("\tpanic: ", "[signal ", "created by ", "exit status", "runtime")):
            break
        index += 1
    if not goroutines:
        return None
    # panic and its rethrow print as "panic: a [recovered]" and, indented, "panic: b"
    said = head.group(2).removesuffix(" [recovered]")
    return Trace(head.group(1), said, head.group(1), said, tuple(frames), first, index)


def is_out_of_memory(trace: Trace) -> bool:
    """Return whether a trace is one of Java's out-of-memory errors, or was caused by one."""
    return "OutOfMemoryError" in trace.root_type or "OutOfMemoryError" in trace.type


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
