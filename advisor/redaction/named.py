"""Values that stand behind a secret's name, in whichever form: YAML, JSON, properties, XML, environment, code, command line.

A cheap sieve finds what may be part of a name; `names.strength` judges the whole name, and the form of what follows says
where the value begins and ends. Linear in the length of the text: every repetition is bounded, what was read once is not read again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from advisor.redaction.names import LIKELY, PERHAPS, SURE, is_harmless, means_otherwise, strength
from advisor.redaction.pseudonyms import MARK, Hiding, has_any
from advisor.redaction.randomness import looks_random

_VALUE_MAX = 4000  # characters of one value; the longest tokens in use have 2,000
_BLOCK_LINES_MAX = 200  # of a block scalar; a private key of 16,384 bits has 200

Span = tuple[int, int]

# Looked for before the sieve, because most lines have none of them. In lower case.
_HINTS = ("pass", "pw", "p/w", "p.w", "cred", "secret", "token", "credential", "bearer", "key", "auth", "sig", "jwt", "sess", "sid", "psw", "pasw", "login", "client", "hook", "pat", "otp", "pin", "nonce", "license")  # fmt: skip
_CANDIDATE = re.compile(
    r"(?:p[as]{0,3}wo?r?d|pass|pw|secret|token|credential|bearer|key|auth|sig|jwt|sess|sid|login|client|(?:web)?hook|(?<![a-z])(?:pat|otp|pin|nonce)(?![a-z])|license)[\w.-]{0,200}"
)
_KEY_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
_PROSE = re.compile(r"(?:unexpected|invalid|unrecognized|illegal|next|missing|bad|unknown)\s$", re.I)

_OPERATOR = re.compile(
    r"\\{0,3}(?:\[\w{0,6}\]|\](?:\.\w{1,20}){1,2}|&quot;|[\"'`\]]{0,2})\s{0,20}(?:[:：]{1,4}=?|[?.+]=|={1,3}>?|!={1,2}|->|%3[da]|&#(?:61|58);)[ \t]{0,40}",
    re.I,
)
# Between a declared name and its value stands a type: `password: String = "…"`, `var token string = "…"`.
_TYPED = re.compile(r"[\"']?\s{0,3}:?\s{0,3}(?:&?[A-Za-z_][\w.<>\[\]*?]{0,40})\s{0,3}:?=\s{0,3}(?=[\"'`])")
# The value is the next argument, or the string behind a directive's name.
_ARGUMENT = re.compile(r"\\{0,3}[\"'`]\s{0,3},\s{0,3}(?=\\{0,3}[\"'`])")
_OPENED = re.compile(r"\(\s{0,3}(?=[\"'])")  # setPassword("…")
_FALLBACK = re.compile(r"\s{0,3}\|\s{0,3}default\s{1,4}(?=\\{0,3}[\"'])")  # {{ .Values.password | default "…" }}
_CONSTANT = re.compile(r"\s{0,3},\s{0,3}(?=\")")  # setopt(handle, CURLOPT_PASSWORD, "…")
_CALLED = re.compile(r"\(\s{0,3}\\{0,3}[\"'`]$")
_STRING = re.compile(r"\s{1,8}(?=\\{0,3}\"[^\s\"\\][^\"\n]{2,200}\"|'[^\s'][^'\n]{2,200}')")
_PAIR = re.compile(
    r"\\{0,3}[\"']?(?:\s{0,3},?[\s+-]{0,60}\\{0,3}[\"']?(?:value|val)\\{0,3}[\"']?\s{0,3}[:=][ \t]{0,40}|</\w{1,20}>\s{0,60}<(?:value|val)>)",
    re.I,
)
_FLAG = re.compile(r"[ \t]{1,8}(?!-)(?=\S)")
_TAG = re.compile(r"[^<>\n]{0,100}>\s{0,60}(?=[^<\s])")
_RUN = re.compile(r"[^\s\"'`<>]{1,4000}")
_RUN_ENDS = re.compile(r"[,;&](?=$|[\w.-]{1,40}[=:])|&(?:quot|amp|lt|gt|#\d{1,4});|\\[\"'nr]|/(?=[\w.-]{1,40}[=:])")
_LIST_ITEM = re.compile(r"\"([^\"\n]{1,400})\"|'([^'\n]{1,400})'|([^\s,\[\]\"'{}:]{4,400})")
_ESCAPED_QUOTE = re.compile(r"\\{1,3}[\"']|&quot;|&#3[49];|%22")
_QUOTED_PREFIX = re.compile(r"(?:[rbuf]{1,2}|@)(?=[\"'])", re.I)
_IN_QUOTES = {q: re.compile(rf"(?:[^{q}\\\n]|\\.){{0,{_VALUE_MAX}}}+", re.S) for q in "\"'`"}
_BLOCK_MARK = re.compile(r"[|>][+-]?\d?[+-]?[ \t]{0,8}(?:#[^\n]{0,200})?\r?(?=\n)")
_PREFIXED = re.compile(r"\{[\w@-]{1,30}\}\S")  # Spring's {noop}…, {bcrypt}…
_CALL = re.compile(r"[A-Za-z_][\w.:]{0,80}\(")
_INDEXED = re.compile(r"^[A-Za-z_][\w.]{0,80}[\[(]$")
_LITERAL = re.compile(r"\"([^\"\n]{3,400})\"|'([^'\n]{3,400})'")
_NAME_LIKE = re.compile(r"^[A-Z][A-Z0-9_]{1,80}$|^[a-z]+(?:[._-][a-z]+)*$|^[a-z]+(?:[A-Z][a-z]+)+$")
_DEFAULT = re.compile(
    r"\bdefault\s{1,4}\\?[\"']([^\"'\n\\]{1,400})|:-([^}\n]{1,400})(?=\})|(?<=[A-Za-z0-9_]):([^}:\n]{1,400})(?=\})"
)


def has_hint(lowered: str) -> bool:
    """Return whether a text in lower case may hold a secret's name at all."""
    return has_any(lowered, _HINTS)


def without_named(text: str, lowered: str, hide: Hiding) -> str:
    """Return the text without the values behind secrets' names."""
    out: list[str] = []
    position = copied = 0
    while (found := _CANDIDATE.search(lowered, position)) is not None:
        position = found.end()
        head = text[max(0, found.start() - 120) : found.start()]
        start = found.start() - (len(head) - len(head.rstrip(_KEY_CHARACTERS)))
        if start and text[start - 1] in "\\%" and found.start() > start:  # the rest of an escape: \\napi_key, %20token
            start += 1 if text[start - 1] == "\\" else 2
        key = text[start : found.end()]
        sure = strength(key.rstrip("."))
        if not sure and not key.endswith("_auth"):
            continue
        sure = sure or LIKELY
        for a, b in _values(text, start, found.end(), sure):
            value = text[a:b]
            if a < copied or value.startswith(MARK) or is_harmless(value.strip(), sure) or means_otherwise(key, value):
                continue
            out += [text[copied:a], hide(value.rstrip("\r")), "\r" if value.endswith("\r") else ""]
            copied = position = b
    return "".join([*out, text[copied:]])


def _values(text: str, start: int, end: int, sure: int) -> Iterator[Span]:
    """Yield where the values of the key at ``start`` to ``end`` stand."""
    before = text[max(0, start - 14) : start]
    if before.endswith(("<", "&lt;")) and (tag := _TAG.match(text, end)):
        alone = not text[max(0, start - 200) : start].rpartition("\n")[2].strip(" \t<")
        if alone or "\n" not in tag[0]:  # "password=<keystore-password>" at a line's end opens no element
            yield tag.end(), min(_find(text, "<", tag.end()), _find(text, "\n", tag.end()))
        return
    operator = _OPERATOR.match(text, end)
    if operator is not None:
        prose = _PROSE.search(before) and not re.match(r"\S{20}", text[operator.end() : operator.end() + 20])
        if sure <= LIKELY and prose:
            return
        typed = _TYPED.match(text, end)
        at = typed.end() if typed is not None else operator.end()
        yield from _value_at(text, at, start, sure)
    elif (pair := _PAIR.match(text, end)) is not None:
        yield from _value_at(text, pair.end(), pair.end(), sure)
    elif text.startswith("--", start) and (flag := _FLAG.match(text, end)) is not None:
        yield from _value_at(text, flag.end(), flag.end(), sure)
    elif text.startswith("-", start) and sure >= LIKELY and (flag := _FLAG.match(text, end)) is not None:
        for a, b in _value_at(text, flag.end(), flag.end(), sure):
            if sure == SURE or looks_random(text[a:b], 8):
                yield a, b
    elif sure > PERHAPS and (fallback := _FALLBACK.match(text, end)) is not None:
        yield from _value_at(text, fallback.end(), fallback.end(), sure)
    elif sure > PERHAPS and (opened := _OPENED.match(text, end)) is not None:
        yield from _literals(text, opened.end())
    elif sure > PERHAPS and (other := _other(text, start, end, before)) is not None:
        yield from _value_at(text, other.end(), other.end(), sure)


def _other(text: str, start: int, end: int, before: str) -> re.Match[str] | None:
    """Return what stands between a name and its value in code: a type, a comma in a call, nothing but space."""
    if (typed := _TYPED.match(text, end)) is not None:
        return typed
    if _CALLED.search(before) or text.startswith("--", start):
        return _ARGUMENT.match(text, end)
    if text[start:end].isupper() and (constant := _CONSTANT.match(text, end)) is not None:
        return constant
    verb = text[start:end].lower() == "pass"  # "pass 'x' to the function"
    return None if verb or before.endswith(("'", '"', "`")) else _STRING.match(text, end)


def _value_at(text: str, at: int, key_at: int, sure: int) -> Iterator[Span]:
    if text.startswith(('"""', "'''"), at):
        stop = _find(text, text[at : at + 3], at + 3)
        yield from _lines(text, at + 3, stop)
        return
    escaped = _ESCAPED_QUOTE.match(text, at)
    if escaped is not None:
        yield escaped.end(), min(_find(text, escaped[0], escaped.end()), _find(text, "\n", escaped.end()))
        return
    if (prefix := _QUOTED_PREFIX.match(text, at)) is not None:
        at = prefix.end()
    first = text[at : at + 1]
    if first and first in "\"'`":
        yield from _without_reference(text, at + 1, _closing(text, at, first))
        return
    if first in ("[", "("):
        for item in _LIST_ITEM.finditer(text, at + 1, _find(text, "]" if first == "[" else ")", at)):
            yield item.span(item.lastindex or 0)
        return
    if first == "{" and not _PREFIXED.match(text, at) and not text.startswith("{{", at):
        return
    if (call := _CALL.match(text, at)) is not None:
        yield from _literals(text, call.end())
        return
    line = text[max(0, key_at - 200) : key_at].rpartition("\n")[2]  # the part of the key's line before it
    margin = len(line) - len(line.lstrip(" \t+-"))
    block = _BLOCK_MARK.match(text, at)
    if block is not None or first in ("", "\n", "\r"):
        yield from _deeper_lines(text, _find(text, "\n", at), margin, whole=block is not None)
        return
    if text.startswith("{{", at):
        yield from _without_reference(text, at, min(_find(text, "\n", at), _find(text, "}}", at)))
        return
    own = len(line) < 200 and not line.strip(" \t+-\"'") and not text.startswith("-D", key_at)
    if sure == SURE and own:  # the line is its own
        yield from _rest_of_line(text, at)
        return
    run = _RUN.match(text, at)
    if run is not None:
        cut = _RUN_ENDS.search(run[0])
        value = run[0][: cut.start()] if cut else run[0]
        if value.startswith("${") and "}" in value:
            value = value[: value.index("}") + 1]
            yield from _without_reference(text, at, at + len(value))
            return
        if _INDEXED.match(value):  # secrets["name"], getenv('name')
            return
        if not value.startswith(("$", "{{")):
            value = value.rstrip(",;)}]")
        yield at, at + len(value)


def _without_reference(text: str, at: int, stop: int) -> Iterator[Span]:
    """Yield a value, or of a reference what it falls back to: ``${PASSWORD:-…}``, ``{{ .Values.x | default "…" }}``."""
    value = text[at:stop]
    if not value.lstrip().startswith(("${", "{{")):
        yield at, stop
        return
    close = value.find("}}" if value.lstrip().startswith("{{") else "}")
    for found in _DEFAULT.finditer(value[: min(600, close + 1 if close >= 0 else 600)]):
        inner = next(n for n in range(1, 4) if found[n] is not None)
        if not found[inner].startswith(("$", "{")):
            yield at + found.start(inner), at + found.end(inner)


def _literals(text: str, at: int) -> Iterator[Span]:
    """Yield the strings of a call that are no names: ``getenv("PASSWORD", "…")``."""
    stop = min(_find(text, "\n", at), at + 400)
    for found in _LITERAL.finditer(text, at, stop):
        inner = found.lastindex or 0
        if not _NAME_LIKE.match(found[inner]):
            yield found.span(inner)


def _find(text: str, what: str, at: int) -> int:
    found = text.find(what, at, at + _VALUE_MAX)
    return found if found >= 0 else min(len(text), at + _VALUE_MAX)


def _closing(text: str, at: int, quote: str) -> int:
    inside = _IN_QUOTES[quote].match(text, at + 1)
    end = inside.end() if inside else at + 1
    while (
        quote == "'" and text.startswith("''", end) and (more := _IN_QUOTES[quote].match(text, end + 2))
    ):  # YAML's doubled quote
        end = more.end()
    return end


def _rest_of_line(text: str, at: int) -> Iterator[Span]:
    while True:
        end = _find(text, "\n", at)
        comment = re.search(r"\s#", text[at:end])
        stop = at + comment.start() if comment else end
        value = text[at:stop].rstrip()
        yield from _without_reference(text, at, at + len(value))
        if not value.endswith("\\") or end >= len(text):
            return
        at = end + 1


def _lines(text: str, at: int, stop: int) -> Iterator[Span]:
    while at < stop:
        end = min(_find(text, "\n", at), stop)
        yield at, end
        at = end + 1


def _deeper_lines(text: str, at: int, margin: int, whole: bool) -> Iterator[Span]:
    """Yield the lines behind a key that are set deeper than it: a block scalar, or plain values and list items."""
    for _ in range(_BLOCK_LINES_MAX):
        if not text.startswith("\n", at):
            return
        end = _find(text, "\n", at + 1)
        line = text[at + 1 : end]
        bare = line.lstrip(" \t+-")
        depth = len(line) - len(bare)
        item = not whole and re.match(r"[+ \t]*-[ \t]", line) is not None
        if bare.strip() and (
            depth <= margin or (not whole and (re.search(r":(?:\s|$)", bare) or bare.startswith(("#", "{", "["))))
        ):
            return
        if bare.strip():
            value = bare.rstrip() if whole else bare.rstrip().strip("\"'")
            shift = 0 if whole else len(bare) - len(bare.lstrip("\"'"))
            yield at + 1 + depth + shift, at + 1 + depth + shift + len(value)
            if not whole and not item:
                return
        at = end
