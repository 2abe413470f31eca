"""What of a line is its shape and what is data: words masked, levels read, text made fit to keep.

Whatever a user can choose (quoted text, queries, addresses, names) is masked here, before anything else sees it. Does
not count and does not group: ``mining.py`` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable

SHAPE_CHARACTERS_MAX = 1_000  # what tells two statements apart stands at their beginning
WORDS_MAX = 60
WORD_CHARACTERS_MAX = 80  # a longer one is data (a token, a list without spaces): its beginning tells enough
REMEMBERED_MAX = 20_000  # words and shapes; forgotten together when full, which costs time, never truth
KEPT_CHARACTERS_MAX = 400
REDACTED_CHARACTERS_MAX = 4_000  # a secret is longer than what is kept, so it must be seen before the cut

Redact = Callable[[str], str]
ANY = "<*>"
OTHER = "<other>"

_COLOURS = re.compile(r"\x1b\[[0-9;:]{0,20}[A-Za-z]")
_QUOTED = re.compile(r"\"[^\"]*\"|(?<![A-Za-z0-9])'[^']*'(?![A-Za-z0-9])")
# Each alternative begins where no letter or digit precedes: a long run is tried once, not from each place.
_MASK = re.compile(
    r"(?P<status><[2-5]xx>)"
    r"|(?P<uuid>(?<![A-Za-z0-9])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![A-Za-z0-9]))"
    r"|(?P<email>(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})"
    r"|(?P<host>(?<![\w.-])[A-Za-z0-9][\w-]{0,62}(?:\.[\w-]{1,63}){0,8}"
    r"\.(?!(?:go|java|kt|scala|py|js|ts|rb|php|rs|cs?|cc|cpp|h):)[A-Za-z]{2,24}:\d{2,5}(?![\w.]))"
    r"|(?P<time>(?<!\d)\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\d)"
    r"|(?<![\d:])\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?![\d:]))"
    r"|(?P<ip>(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?(?![\d.])"
    r"|(?<![\w:])(?:[0-9a-fA-F]{1,4}:){2,7}(?::?[0-9a-fA-F]{1,4})(?![\w:]))"
    r"|(?P<query>\?[^\s\"']+)"
    r"|(?P<hex>0[xX][0-9a-fA-F]+|(?<=@)[0-9a-f]{5,16}(?![A-Za-z0-9]))"
    r"|(?P<num>(?:(?<![A-Za-z0-9)])[+-])?(?<![A-Za-z0-9])\d+(?:[.,_]\d+)*(?:%|[A-Za-zµ]{1,3})?(?![A-Za-z0-9]))"
    r"|(?P<hash>(?<![A-Za-z0-9])(?=[a-fA-F]*\d)[0-9a-fA-F]{8,}(?![A-Za-z0-9]))"
    r"|(?P<id>(?<![A-Za-z0-9])(?=[A-Za-z]*\d)[A-Za-z0-9]{10,}(?![A-Za-z0-9]))"
    r"|(?P<digits>\d+)"
)
_HEX = re.compile(r"[0-9a-fA-F]+")
_NAMES = {"hash": "<hex>", "digits": "<num>", "query": "?<*>"}
# A word of a path that was escaped, or of a length no route has: somebody typed it.
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}|&(?:#\d|[a-z]{2,5};)")
# The status of an HTTP answer is the one number that must not vanish: its class stays, as a word of its own.
METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
_BEFORE_STATUS = (
    r"(?:HTTP/\d(?:\.\d)?\"? |\b(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) [^\s\"]{1,2000}\"? "
    r"|\b(?:[Hh]ttp[_-]?)?[Ss]tatus(?:[_ -]?[Cc]ode)?\"?(?:[:=] ?| )\"?|\b[Rr]esponse[_ ]?[Cc]ode\"?[:=] ?"
    r"|\b(?:Completed|[Rr]esponded(?: with)?|[Rr]eturned|[Aa]nswered(?: with)?|HTTP(?: error| status)?):? )"
)
_STATUS = re.compile(_BEFORE_STATUS + r"(?P<class>[2-5])\d\d(?![\w.])")
_STATUS_PLACE = re.compile(_BEFORE_STATUS + r"(?P<class>\d)\d{0,9}(?![\w.])")
STATUS_WORDS = (
    "HTTP",
    "tatus",
    "ode",
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "Completed",
    "eturned",
    "nswered",
)
_QUERY = re.compile(r"(?<=[\w/])\?[^\s\"']+")
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_NAMED = re.compile(
    r"(?P<key>[Uu](?:ser|SER)(?:[_-]?(?:[Nn]ame|[Ii][Dd]|[Aa]gent))?(?:[=:] ?| )"
    r"|(?:[Ll]ogin|[Ee]?[Mm]ail|[Aa]ccount|[Cc]ustomer|[Pp]rincipal)[=:] ?)"
    r"(?P<value>(?![=<\[({\"']|from\b)[^\s,;)\]}]{1,200})"
)
_BEFORE_USER = ("for ", "by ", "as ", "of ", "invalid ", "illegal ", "unknown ")  # "user logged in" names nobody
_QUOTED_NAME = re.compile(r"[\w.$:/@{}\[\]*-]{1,80}")

_LEVEL = re.compile(
    r"(?<![\w.$/-])(?:(?P<word>TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|SEVERE|CRITICAL|CRIT|FATAL|ALERT"
    r"|EMERG|FINE(?:R|ST)?|CONFIG|PANIC)(?![\w.$/-])"
    r"|(?:level|lvl|severity)=\"?(?P<key>[A-Za-z]{3,9})"
    r"|[\[<](?P<low>trace|debug|info|notice|warn(?:ing)?|error|crit"
    r"|fatal|alert|emerg)\s{0,4}[\]>])"
)
LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_LEVELS = {
    "WARNING": "WARN", "SEVERE": "ERROR", "ERR": "ERROR", "CRITICAL": "FATAL", "CRIT": "FATAL",
    "ALERT": "FATAL", "EMERG": "FATAL", "PANIC": "FATAL", "NOTICE": "INFO", "INFORMATION": "INFO", "CONFIG": "DEBUG",
    "FINE": "DEBUG", "FINER": "TRACE", "FINEST": "TRACE", "TRC": "TRACE", "DBG": "DEBUG", "INF": "INFO", "WRN": "WARN",
}  # fmt: skip


def same(text: str) -> str:
    """Return the text: a redactor that has nothing to hide."""
    return text


def clean(text: str) -> str:
    """Return text as one printable line: no colours, no control characters."""
    if text.isprintable():
        return text.strip()
    text = _COLOURS.sub("", text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def keep(text: str, redact: Redact = same) -> str:
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
    return _LEVELS.get(upper, upper if upper in LEVELS else "")


def is_level(word: str) -> bool:
    """Return whether a word is a level as logging libraries print it."""
    return word in _LEVELS or word in LEVELS


class Words(dict[str, str]):
    """Masked form of each word seen lately. A dictionary, because its look-up runs without a Python call."""

    def __missing__(self, word: str) -> str:
        """Mask a word and remember it."""
        if word.isdecimal():  # not worth remembering: the next one is another
            return "<num>"
        if len(word) > WORD_CHARACTERS_MAX:
            return _MASK.sub(_name, word[: WORD_CHARACTERS_MAX // 2]) + ANY
        if word.isalpha():
            masked = word
        elif "%" in word and "/" in word and (escaped := _ESCAPED.search(word)):
            masked = _MASK.sub(_name, word[: word.rfind("/", 0, escaped.start()) + 1]) + ANY
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
    if group == "status":
        return found.group()
    return _NAMES.get(group, f"<{group}>")


def shape(text: str, words: Words) -> str:
    """Return a line's shape: its words, with what varies as ``<num>``, ``<str>``, ``<5xx>`` and their kin."""
    if len(text) > SHAPE_CHARACTERS_MAX:
        text = text[:SHAPE_CHARACTERS_MAX]
    text = _with_status(text)
    if '"' in text or "'" in text:
        text = _QUOTED.sub(_hide_quoted, text)
    text = _without_names(text)
    return " ".join(map(words.__getitem__, text.split()))


def status_at(text: str) -> int:
    """Return where the status of an HTTP answer would stand in a line, whatever number stands there, or -1."""
    found = _STATUS_PLACE.search(text, 0, SHAPE_CHARACTERS_MAX) if _may_tell_status(text) else None
    return found.start("class") if found else -1


def tells_status(text: str) -> bool:
    """Return whether a line tells the status of an HTTP answer."""
    return _may_tell_status(text) and _STATUS.search(text, 0, SHAPE_CHARACTERS_MAX) is not None


def abstract(text: str) -> str:
    """Return a line with what a user chose masked, and the rest (numbers, keys, identifiers) as it was said."""
    if '"' in text or "'" in text:
        text = _QUOTED.sub(lambda found: found.group() if _names_something(found.group()) else "<str>", text)
    if "?" in text:
        text = _QUERY.sub("?<*>", text)
    if "@" in text:
        text = _EMAIL.sub("<email>", text)
    return _without_names(text)


def _without_names(text: str) -> str:
    """Return a line without the names of people; the expression is costly, and most lines name nobody."""
    low = text.lower()
    if "user" in low or "login" in low or "mail" in low or "account" in low or "customer" in low or "principal" in low:
        return _NAMED.sub(_hide_named, text)
    return text


def _names_something(quoted: str) -> bool:
    """Return whether quoted text is a key, a class or a path, which a diagnosis needs, and no prose."""
    inner = quoted[1:-1]
    return "?" not in inner and _QUOTED_NAME.fullmatch(inner) is not None


def _may_tell_status(text: str) -> bool:
    return any(word in text for word in STATUS_WORDS)


def _with_status(text: str) -> str:
    if not _may_tell_status(text):
        return text
    found = _STATUS.search(text)
    if found is None:
        return text
    at = found.start("class")
    # Inside a quoted request there is no status; the mark stands behind the quotes and outlives their masking.
    return f"{text[:at]}<{found.group('class')}xx>{text[at + 3 :]}"


def _hide_quoted(found: re.Match[str]) -> str:
    method = found.group()[1:9].partition(" ")[0]
    return f'"{method} {ANY}"' if method in METHODS else "<str>"


def _hide_named(found: re.Match[str]) -> str:
    key, value = found.group("key", "value")
    before = found.string[max(0, found.start() - 10) : found.start()]
    if before[-1:].isalnum() or value[:1] == "<" or value.isdecimal():
        return found.group()
    if key[-1] == " " and key[-2] not in "=:" and not before.lower().endswith(_BEFORE_USER):
        return found.group()
    return key + "<user>"
