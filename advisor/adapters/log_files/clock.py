"""How time, level and text stand in a line: the formats of servers, loggers, containers and structured logs.

Reads one line; does not open files. `Clock.choose` finds out which format a file has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from advisor.adapters.log_files.lines import LINE_BYTES_MAX
from advisor.evidence.log_templates import normal_level

SAMPLE_LINES = 200
FIELDS_MAX = 30  # of an entry without a message
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
_STATUS_KEYS = ("status", "status_code", "statusCode", "http.status_code", "http.response.status_code", "response_code")
_PLAIN_KEYS = (
    "method",
    "http.method",
    "logger",
    "component",
    "module",
    "action",
    "type",
    "kind",
    "reason",
    "state",
    "route",
)
_PLAIN = re.compile(r"[\w.:/{}*-]{1,60}")
_INNER_KEYS = ("stack_trace", "stacktrace", "stack", "extendedStackTrace", "trace", "formatted", "backtrace")
_NAME_KEYS = ("exception_class", "class", "type", "name", "kind")
_SAID_KEYS = ("exception_message", "message", "msg")


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
            self.httpd, self.number, self.iso_later,
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

    def number(self, line: str) -> Event | None:
        """Read seconds, milli-, micro- or nanoseconds since 1970 at the beginning."""
        found = _EPOCH.match(line)
        if found is None:
            return None
        at = epoch(float(found.group(1).replace(",", ".")))
        return None if at is None else self._event(at, line[found.end() :])

    def logfmt(self, line: str) -> Event | None:
        """Read ``time=… level=… msg="…"``."""
        found = _LOGFMT.match(line)
        if found is None:
            return None
        clock, fraction, zone, number = found.groups()
        at = self._iso(clock, fraction, zone) if clock else epoch(float(number))
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
            return epoch(float(value)) if abs(value) < 1e20 else None
        if isinstance(value, dict):  # log4j2's instant
            seconds = value.get("epochSecond")
            return epoch(float(seconds)) if isinstance(seconds, int) and abs(seconds) < 1e12 else None
        if not isinstance(value, str):
            return None
        found = _ISO_ONLY.match(value.strip())
        if found:
            return self._iso(*found.groups())
        number = _EPOCH.fullmatch(value.strip())
        return epoch(float(number.group(1).replace(",", "."))) if number else None

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


def epoch(number: float) -> float | None:
    """Return epoch seconds of a number of seconds, milli-, micro- or nanoseconds; None if it is no time."""
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
    status = next((str(value[key]) for key in _STATUS_KEYS if isinstance(value.get(key), int | str)), "")
    if not text and not trace:
        text = _fields(value) or line
    elif status.isdecimal() and text and status not in text:
        text = f"{text} status={status}"
    lines = text.rstrip("\n").split("\n")
    tail = (*lines[1:], *(trace.rstrip("\n").split("\n") if trace else ()))
    return lines[0], normal_level(str(level)), tail


def _fields(value: dict[str, object]) -> str:
    """Return an entry without a message as ``key=value``: numbers, and those texts that no user chooses."""
    said: list[str] = []
    for key, one in value.items():
        if key in _TIME_KEYS or key in _LEVEL_KEYS or len(said) == FIELDS_MAX:
            continue
        if isinstance(one, int | float) or (isinstance(one, str) and one.replace(".", "", 1).isdecimal()):
            said.append(f"{key[:60]}={one}")
        elif isinstance(one, str):
            chosen = key not in _PLAIN_KEYS or _PLAIN.fullmatch(one) is None
            said.append(f"{key[:60]}=" + ("<str>" if chosen else one))
    return " ".join(said)


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
