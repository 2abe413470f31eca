"""How a value is written: the tokens that give an entry a new value in the style that it has.

Every function gives candidates in order of preference; the edit tries them, reads the file again, and takes
the first that gives exactly the value. So a rule missed here makes an edit refused, never wrong.
"""

from __future__ import annotations

import json
import re

from advisor.config_file.jvm_flags import write_flag
from advisor.config_file.records import Entry

_INT = r"[-+]?(?:0|[1-9][\d_]*|0b[01_]+|0x[\da-fA-F_]+|0o?[0-7_]+|[1-9][\d_]*(?::[0-5]?\d)+)"
_DECIMAL = r"[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+|\.\d[\d_]*(?:[eE][-+]?\d+)?)"
_FLOAT = rf"(?:{_DECIMAL}|[-+]?\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
_NUMBER = re.compile(rf"(?:{_INT}|{_FLOAT})\Z")
# YAML 1.1, which SnakeYAML and go-yaml still read in part: quoting one word too many harms nobody.
_BOOLEAN = re.compile(r"(?:true|false|yes|no|on|off|y|n)\Z", re.I)
_NULL = re.compile(r"(?:~|null|)\Z", re.I)
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?")
_PLAIN_START = re.compile(r"(?:[-?:](?=\S)|[^\s\-?:,\[\]{}#&*!|>'\"%@`])")
_UNSAFE_PLAIN = re.compile(r": |\s#|:\Z|\A(?:---|\.\.\.)(?:\s|\Z)")
_JSON_BARE = re.compile(r"(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)\Z")
_TOML_BARE = re.compile(r"(?:[+-]?(?:0|[1-9](?:_?\d)*)(?:\.\d(?:_?\d)*)?(?:[eE][+-]?\d+)?|true|false)\Z")
_TOML_OTHER = re.compile(r"(?:[+-]?(?:inf|nan)|0[xob][\da-fA-F_]+|\d{4}-\d\d-\d\d[\dT:.+\-Z ]*|\d\d:\d\d:[\d.]+)\Z")
_LINE_END = re.compile(r"\r\n|\r|\n")
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0", '"': '\\"', "\\": "\\\\"}


def plain_type(entry: Entry) -> str:
    """Return how a typed reader takes the token: ``string``, ``number``, ``boolean``, ``null``."""
    if entry.style not in ("plain", "bare", "empty", "alias"):
        return "string"
    return _type_of(entry.value)


def _type_of(text: str) -> str:
    if _NUMBER.match(text):
        return "number"
    if _BOOLEAN.match(text):
        return "boolean"
    return "null" if _NULL.match(text) else "string"


def candidates(entry: Entry, raw: str, new: str) -> list[str]:
    """Return tokens that may give the entry its new value, best first; empty if its style allows none.

    Args:
        entry: What is to be changed.
        raw: Its token as it stands.
        new: The new value, decoded.
    """
    if entry.format == "yaml":
        return _yaml(entry, raw, new)
    if entry.format in ("json", "hcl"):
        return _json(entry, new)
    if entry.format == "toml":
        return _toml(entry, new)
    if entry.format == "properties":
        mark = "=" if entry.style == "bare_key" else ""
        return [mark + _property(new, raw=not raw.isascii())]
    if entry.format == "flag":
        token = write_flag(entry.style, new)
        return [] if token is None else [token]
    if entry.format == "xml":
        return _xml(entry, new)
    if entry.format in ("ini", "nginx", "directive", "systemd"):
        return _words(entry, new)
    return _shell(entry, new)


def inside(parent: Entry, token: str) -> str | None:
    """Return a token as it is written inside the parent's own token, or None if that is not certain."""
    if parent.format in ("json", "hcl"):
        return str(json.dumps(token, ensure_ascii=False))[1:-1]
    if parent.format == "xml":
        return token if parent.style == "cdata" else _escaped(token)
    if "\n" in token or "\r" in token:
        return None
    if parent.format in ("ini", "nginx", "directive", "systemd"):
        return token if not re.search(r"[\"'\\]", token) else None
    if parent.style == "double":
        return _double(token)[1:-1] if parent.format in ("yaml", "toml") else token if '"' not in token else None
    if parent.style == "single":
        if parent.format == "yaml":
            return token.replace("'", "''")
        return token if "'" not in token else None
    if parent.format == "properties":
        return _property(token).removeprefix("\\") if token[:1] != " " else None
    if parent.format in ("toml", "flag"):
        return None
    return token  # plain and block scalars hold it as it is; reading it again tells


def _yaml(entry: Entry, raw: str, new: str) -> list[str]:
    style = entry.style
    if style in ("plain", "empty", "alias"):
        keeps_type = _type_of(new) == "string" and not _DATE.match(new)
        quoted = [_single(new), _double(new)] if '"' in new or "\\" in new else [_double(new)]
        tokens = [t for t in quoted if t is not None]
        if _plain_is_safe(new) and (keeps_type or _type_of(entry.value) != "string"):
            tokens.insert(0, new)
        return [" " + t for t in tokens] if style == "empty" else tokens
    if style == "single":
        single = _single(new)
        return [single] if single is not None else [_double(new)]
    if style == "double":
        return [_double(new)]
    if style in ("literal", "folded"):
        block = write_block(entry, raw, new)
        return [] if block is None else [block]
    return []


def _plain_is_safe(text: str) -> bool:
    return (
        bool(_PLAIN_START.match(text))
        and text == text.strip()
        and text.isprintable()
        and not _UNSAFE_PLAIN.search(text)
    )


def _single(text: str) -> str | None:
    return "'" + text.replace("'", "''") + "'" if text.isprintable() else None


def _double(text: str) -> str:
    escaped = []
    for char in text:
        code = ord(char)
        if char in _SHORT:
            escaped.append(_SHORT[char])
        elif char.isprintable():
            escaped.append(char)
        else:
            escaped.append(f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}")
    return '"' + "".join(escaped) + '"'


def write_block(entry: Entry, raw: str, new: str) -> str | None:
    """Return a block scalar's token with new content, its layout kept; None: not exactly."""
    line_ends = _LINE_END.findall(raw)
    if not line_ends or not new.strip() or any(not (c.isprintable() or c in "\n\t") for c in new):
        return None
    header, _, body = raw.partition(line_ends[0])
    indentation = _indentation(entry, body)
    if indentation is None or (entry.style == "folded" and "\n" in new.rstrip("\n")):
        return None
    if new[0] in " \n" and not re.search(r"\d", header.partition("#")[0]):
        return None  # the first line sets the indentation, so it must not begin with a space
    content = new.rstrip("\n")
    ends = len(new) - len(content)
    mark = "-" if ends == 0 else "" if ends == 1 else "+"
    spec, comment, rest = header.partition("#")
    spec = re.sub(r"[-+]", "", spec.rstrip()) + mark + spec[len(spec.rstrip()) :]
    lines = [indentation + line if line else "" for line in content.split("\n")]
    line_end: str = line_ends[0]
    return line_end.join([spec + comment + rest, *lines, *[""] * max(0, ends - 1)])


def _indentation(entry: Entry, body: str) -> str | None:
    value_line = next((line for line in entry.value.split("\n") if line.strip()), None)
    raw_line = next((line for line in _LINE_END.split(body) if line.strip()), None)
    if value_line is None or raw_line is None:
        return None
    if entry.style == "folded":
        return raw_line[: len(raw_line) - len(raw_line.lstrip(" "))]
    spaces = raw_line[: len(raw_line) - len(value_line)]
    return spaces if raw_line == spaces + value_line and not spaces.strip(" ") and spaces else None


def _json(entry: Entry, new: str) -> list[str]:
    if entry.style == "bare" and _JSON_BARE.match(new):
        return [new]
    return [json.dumps(new, ensure_ascii=False)] if entry.style in ("bare", "double") else []


def _toml(entry: Entry, new: str) -> list[str]:
    basic = _double(new).replace("\\0", "\\u0000")
    basic = re.sub(r"\\x([0-9a-f]{2})", r"\\u00\1", basic)
    if entry.style == "bare":
        return [new] if _TOML_BARE.match(new) or _TOML_OTHER.match(new) else [basic]
    if entry.style == "single" and "'" not in new and new.isprintable():
        return [f"'{new}'"]
    return [basic] if entry.style in ("single", "double") else []


def _property(text: str, raw: bool = False) -> str:
    written = []
    for i, char in enumerate(text):
        if char in "\\\n\t\r\f":
            written.append({"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\f": "\\f"}[char])
        elif char == " " and i == 0:
            written.append("\\ ")
        elif " " <= char <= "~" or (raw and char.isprintable()):
            written.append(char)
        else:  # readers differ on the encoding of these files; escapes are read alike by all
            units = char.encode("utf-16-be", "surrogatepass")
            written.extend(f"\\u{units[j]:02x}{units[j + 1]:02x}" for j in range(0, len(units), 2))
    return "".join(written)


def _shell(entry: Entry, new: str) -> list[str]:
    """Return tokens of an environment file or a Dockerfile."""
    if not new.isprintable():
        return []
    double = '"' + new.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if entry.style == "single" and "'" not in new:
        return [f"'{new}'"]
    if entry.style in ("single", "double"):
        return [double]
    plain = bool(new) and not re.search(r"[\"'#\\]", new) and new == new.strip()
    if plain and (not re.search(r"\s", new) or re.search(r"\s", entry.value)):
        return [new]
    return [double] if entry.format == "env" else []


def _xml(entry: Entry, new: str) -> list[str]:
    if any(c < " " and c not in "\n\t" for c in new) or "\ufffe" in new or "\uffff" in new:
        return []
    if entry.style in ("double", "single"):
        if "\n" in new or "\t" in new:
            return []  # a reader of attributes makes spaces of them
        quote = '"' if entry.style == "double" else "'"
        other = "&quot;" if entry.style == "double" else "&apos;"
        return [quote + _escaped(new).replace(quote, other) + quote]
    if entry.style == "cdata":
        return [new] if "]]>" not in new else []
    return [_escaped(new)] if new and new == new.strip() else []


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _words(entry: Entry, new: str) -> list[str]:
    """Return tokens of INI files, directives and units: as the value stands, or quoted as it was."""
    if not new.isprintable() or "\\" in new or entry.style in ("lines", "folded", "escaped"):
        return []
    style = entry.style
    if style in ("single", "double"):
        quote = "'" if style == "single" else '"'
        return [quote + new + quote] if quote not in new else []
    if re.search(r"[\"'#;]", new) or new != new.strip() or not new:
        return []
    if style in ("inner_single", "inner_double"):
        return [new]
    if style == "word" or (entry.format == "nginx" and style == "plain") or style == "empty":
        single_word = not re.search(r"[\s{}]", new)
        return [new] if single_word else [f'"{new}"'] if entry.format == "nginx" and style == "plain" else []
    return [new] if entry.format != "nginx" or not re.search(r"[{}]", new) else []
