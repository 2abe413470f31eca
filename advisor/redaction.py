"""Secrets are taken out of text before it is stored, shown, logged or sent.

Structure first: PEM blocks, credentials in URLs, authorization and cookie headers, then every value that stands behind a
secret's name, in whichever form (YAML, JSON, properties, XML, environment, command line). Last come token formats that their
makers document. Equal secrets get the same mask, so that "the same value as before" can still be seen. Numbers, versions,
commit ids, metric names and lifetimes survive; so does the number of lines.

What no rule can see stays: a secret in prose, or under a name that says nothing. Linear in the length of the text: every
repetition is bounded, and what was read once is not read again. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache

TEXT_CHARACTERS_MAX = 1_000_000
_VALUE_MAX = 4000  # characters of one value; the longest tokens in use have 2,000
_BLOCK_LINES_MAX = 200  # of a block scalar; a private key of 16,384 bits has 200
_PEM_CHARACTERS_MAX = 64 * 1024

_Span = tuple[int, int]


def mask(secret: str) -> str:
    """Return what stands for a secret: the same for the same secret, and not to be turned back."""
    return f"‹hidden:{hashlib.sha256(b'advisor:' + secret.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}›"


def redact(text: str) -> str:
    """Return the text without secrets; text beyond a million characters is cut, never passed through unread."""
    text = text[:TEXT_CHARACTERS_MAX]
    if "-----BEGIN" in text:
        text = _without_pem(text)
    if "://" in text:
        text = _URL.sub(_masked, text)
    if "thin:" in text:
        text = _ORACLE.sub(_masked, text)
    lowered = _lowered(text)
    if "authorization" in lowered or "cookie" in lowered:
        text = _HEADER.sub(_masked_header, text)
        lowered = _lowered(text)
    text = _without_named(text, lowered)
    if any(word in text for word in _COMMAND_WORDS):
        text = _COMMAND.sub(_masked, text)
    if any(word in text for word in _TOKEN_WORDS):
        text = _TOKENS.sub(lambda found: mask(found[0]), text)
    return text


def _lowered(text: str) -> str:
    """Return the text in lower case, position by position: a few letters of other scripts grow when lowered."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(c.lower() if c.isascii() else c for c in text)


def is_secret_key(key: str) -> bool:
    """Return whether a configuration key names a secret by itself."""
    return _strength(key[-400:]) > 0


def redact_value(key: str, value: str) -> str:
    """Return a configuration value, masked where its key names a secret, else cleaned as text is."""
    strength = _strength(key[-400:])
    if strength and value.strip() and not value.startswith("‹hidden:") and not _is_harmless(value.strip(), strength):
        return mask(value)
    return redact(value)


def _masked(found: re.Match[str]) -> str:
    return found["before"] + mask(found["secret"])


# --- blocks, URLs, headers, commands -----------------------------------------------------------------------------------

_PEM_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{3,40}-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{3,40}-----")
_PEM_BODY = re.compile(r"[A-Za-z0-9+/=\s\\\"',:.-]{0,65536}")
_LINE_MARGIN = re.compile(r"[ \t+>|-]*")

# The password may hold '@' and, where what follows the colon is no port, '/'. A user that looks like a token is one.
_URL = re.compile(
    r"(?P<before>(?<![a-zA-Z0-9+.-])[a-zA-Z][a-zA-Z0-9+.-]{1,20}://(?:[^\s/@:\"'<>]{0,200}:(?=\S)|(?=[A-Za-z0-9_~.-]{20,200}@)"
    r"|(?=[^\s/@:]{0,80}\d)(?=[^\s/@:]{0,80}[A-Z])(?=[^\s/@:]{0,80}[a-z])(?=[A-Za-z0-9_~.-]{12,19}@)))"
    r"(?P<secret>(?!‹)[^\s/\"'<>]{1,500}(?=@)|(?![‹]|\d{1,5}[/?#])[^\s@\"'<>]{1,500}(?=@))"
)
_COMMAND_WORDS = ("-u", "--user", "--proxy-user", "sshpass", "mysql")
_ORACLE = re.compile(r"(?P<before>\bthin:[^\s/@\"']{1,60}/)(?P<secret>(?!‹)[^\s@\"']{1,200})(?=@)")
_HEADER = re.compile(
    r"(?P<before>(?<![A-Za-z0-9])(?:(?:proxy-)?authorization|(?:set-)?cookie2?)\\{0,3}[\"']?\s{0,3}[:=]\s{0,3}\\{0,3}[\"']?)"
    r"(?P<scheme>(?:basic|bearer|digest|token|negotiate|ntlm|api-?key|key|jwt|hmac[\w-]{0,20}|aws4-hmac-sha256|[a-z][\w-]{2,24}(?= [^\s\"']{16}))[ \t]{1,3})?"
    r"(?P<secret>[\w.-]{1,80}=[^\r\n]{1,4000}|[^\s\"',;}\]]{3,4000})",
    re.I,
)
_COMMAND = re.compile(
    r"(?P<before>(?:(?<!\S)(?:-u|--user|--proxy-user)[ =]{1,3}[\"']?[^\s:\"'‹]{1,80}:|\bsshpass -p ?|\bmysql(?:dump|admin)?\b[^\n|;]{0,120}? -p))"
    r"(?P<secret>[^\s\"'‹]{3,200})"
)


def _without_pem(text: str) -> str:
    out: list[str] = []
    position = 0
    while (begin := _PEM_BEGIN.search(text, position)) is not None:
        end = _PEM_END.search(text, begin.end(), begin.end() + _PEM_CHARACTERS_MAX)
        body = _PEM_BODY.match(text, begin.end())
        stop = end.end() if end else body.end() if body else begin.end()
        first, *rest = text[begin.start() : stop].split("\n")
        hidden = mask(re.sub(r"[^A-Za-z0-9/=]", "", text[begin.start() : stop]))
        margins = [found[0] if (found := _LINE_MARGIN.match(line)) else "" for line in rest]
        tail = "" if first else "\n"
        out += [
            text[position : begin.start()],
            hidden,
            tail,
            *(f"\n{margin}{hidden if line[len(margin) :] else ''}" for line, margin in zip(rest, margins, strict=True)),
        ]
        position = stop
    return "".join([*out, text[position:]])


def _masked_header(found: re.Match[str]) -> str:
    secret = found["secret"]
    cookie = "cookie" in found["before"].lower()
    if (
        secret.startswith("‹hidden:")
        or (cookie and ":" not in found["before"])
        or (cookie and not re.match(r"[\w.-]{1,80}=", secret))
    ):
        return found[0]
    if not found["scheme"] and _is_harmless(secret, 1):
        return found[0]
    kept = ""
    if found["before"][-1:] in ("'", '"') and found["before"][-1] in secret:  # the header ends where its quote does
        secret, kept = secret.split(found["before"][-1], 1)[0], secret[secret.index(found["before"][-1]) :]
    return found["before"] + (found["scheme"] or "") + mask(secret) + kept


# --- values behind a secret's name -------------------------------------------------------------------------------------

# A cheap sieve for what may be part of a secret's name; `_strength` judges the whole key.
_CANDIDATE = re.compile(
    r"(?:pass|pwd|secret|token|credential|bearer|key|auth|sig|jwt|sess|sid)[\w.-]{0,200}"
)  # in lower case
_KEY_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PARTS = re.compile(r"[^A-Za-z0-9]+")

# 2: the value is a secret unless it plainly refers to one. 1: tokens and keys, whose names also stand for other things.
_STRONG = re.compile(
    r"^(?:\w*(?:password|passwd|passphrase|passcode|secret)s?|\w*pwd|pass|(?!bypass|compass|surpass|trespass|overpass|underpass)\w{1,12}pass)$"
)
_WEAK = re.compile(
    r"^(?:\w*(?:token|apikey|credential)s?|\w*(?:access|secret|private|auth|account|master|signing|encryption)key|bearer|jwt|sig|signature|jsessionid|phpsessid|masterauth)$"
)
_KEY_OWNERS = frozenset(
    "api access private secret auth encryption encrypt signing sign session sas account storage shared master license hmac ssh jwt client deploy service decryption cipher".split()
)
_ID_OWNERS = frozenset({"session", "sess"})
_AUTH_OWNERS = frozenset({"", "redis", "valkey", "smtp", "ldap", "registry", "npm"})
# The end of a key says what it is: a token's lifetime is no token.
_HARMLESS_ENDS = frozenset(
    "ttl timeout timeouts expiry expires expiration expire lifetime validity valid duration age seconds second minutes minute hours hour days day millis ms "
    "interval rotation renewal length size count counts total enabled disabled required policy encoder encoding provider manager class field parameter param attempts "
    "retries retry limit max min strength rounds iterations version url uri endpoint path file filename dir directory location name names ref refs type issuer audience "
    "header prefix suffix algorithm alg store format mode username user host port region namespace bucket usage used created issued active mount mounts volume volumes "
    "loader factory service validator filter reset change changed".split()
)
# What may stand behind the last dot of a secret's own name.
_NEUTRAL_ENDS = frozenset(
    "value data current previous old new default prod production staging test dev hash key primary secondary main plain text string".split()
)

_NULL = r"(?:true|false|null|none|nil|yes|no|on|off|~|\*+|x{3,}|\.{3,}|…)"
_REFERENCE = re.compile(
    rf"^(?:{_NULL}|<[^>]{{0,80}}>|\$\{{[^}}]{{0,400}}\}}?|\$\([^)]{{0,80}}\)?|\$[A-Z_][A-Z0-9_]{{0,80}}|%[A-Z_]{{1,80}}%|%\(\w{{1,80}}\)s|\{{\{{.{{0,200}}"
    r"|(?:arn|file|classpath|env|valueFrom):\S{0,400}|PT\w{1,20}|→.{0,400}|\d{1,9}(?:\.\d+)?(?:ms|s|m|h|d|%|[KMG]i?B?))$",
    re.I | re.S,
)
_NUMBER = re.compile(r"^-?\d{1,15}(?:\.\d{1,9})?$")
_PATH = re.compile(r"^(?:/|\./|\.\./|[A-Z]:\\)[\w./\\-]{1,300}$")
_PROSE = re.compile(r"(?:unexpected|invalid|unrecognized|illegal|next|missing|bad|unknown)\s$", re.I)

_OPERATOR = re.compile(r"\\{0,3}[\"'`\]]{0,2}\s{0,20}(?::{1,4}=?|={1,3}>?|%3[da])[ \t]{0,40}", re.I)
_PAIR = re.compile(r"\\{0,3}[\"']?\s{0,3},?[\s+-]{0,60}\\{0,3}[\"']?(?:value|val)\\{0,3}[\"']?\s{0,3}[:=][ \t]{0,40}")
_FLAG = re.compile(r"[ \t]{1,8}(?!-)(?=\S)")
_TAG = re.compile(r"[^<>\n]{0,100}>(?=[^<])")
_RUN = re.compile(r"[^\s\"'`<>]{1,4000}")
_RUN_ENDS = re.compile(r"[,;&](?=$|[\w.-]{1,40}[=:])")
_LIST_ITEM = re.compile(r"\"([^\"\n]{1,400})\"|'([^'\n]{1,400})'|([^\s,\[\]\"'{}:]{4,400})")
_ESCAPED_QUOTE = re.compile(r"\\{1,3}[\"']")
_IN_QUOTES = {q: re.compile(rf"(?:[^{q}\\\n]|\\.){{0,{_VALUE_MAX}}}+", re.S) for q in "\"'`"}
_BLOCK_MARK = re.compile(r"[|>][+-]?\d?[+-]?[ \t]{0,8}(?:#[^\n]{0,200})?\r?(?=\n)")
_PREFIXED = re.compile(r"\{[\w@-]{1,30}\}\S")  # Spring's {noop}…, {bcrypt}…


@lru_cache(maxsize=20_000)
def _strength(key: str) -> int:
    """Return whether a key's value is a secret: 2 by all means, 1 if it looks like one, 0 not."""
    segments = [s for s in re.split(r"[./\[\]\"'@:]+", key) if s]
    if not segments:
        return 0
    words = [_words(s) for s in segments]
    last = words[-1]
    if not last or last[-1] in _HARMLESS_ENDS:
        return 0
    found = _strength_of(last)
    if not found and len(words) > 1 and (last[-1] in _NEUTRAL_ENDS or last[-1].isdigit()):
        found = _strength_of(words[-2]) if words[-2][-1:] and words[-2][-1] not in _HARMLESS_ENDS else 0
    if not found and any(s.lower() in ("passwords", "secrets", "credentials") for s in segments[:-1]):
        found = 1
    if not found and last[-1] == "key" and len(words) > 1 and words[-2][-1:] and words[-2][-1] in _KEY_OWNERS:
        found = 1  # encrypt.key
    return found


def _words(segment: str) -> list[str]:
    return [w.lower() for w in _PARTS.split(_CAMEL.sub("_", segment)) if w]


def _strength_of(words: list[str]) -> int:
    if any(_STRONG.match(w) for w in words):
        return 2
    if any(_WEAK.match(w) for w in words):
        return 1
    for before, word in zip(["", *words], words, strict=False):
        if (word in ("key", "keys") and before in _KEY_OWNERS) or (word == "id" and before in _ID_OWNERS):
            return 1
        if word == "auth" and word == words[-1] and before in _AUTH_OWNERS and len(words) > 1:
            return 1
    return 0


def _is_harmless(value: str, strength: int) -> bool:
    """Return whether a value behind a secret's name is a reference, a switch or a number rather than the secret."""
    if not value or _REFERENCE.match(value):
        return True
    if strength == 2:
        return value.isdigit() and len(value) < 3
    return len(value) < 4 or (_NUMBER.match(value) is not None and len(value) < 6) or _PATH.match(value) is not None


def _without_named(text: str, lowered: str) -> str:
    out: list[str] = []
    position = copied = 0
    while (found := _CANDIDATE.search(lowered, position)) is not None:
        position = found.end()
        head = text[max(0, found.start() - 120) : found.start()]
        start = found.start() - (len(head) - len(head.rstrip(_KEY_CHARACTERS)))
        key = text[start : found.end()]
        strength = _strength(key.rstrip("."))
        if not strength and not key.endswith("_auth"):
            continue
        for a, b in _values(text, start, found.end(), strength or 1):
            value = text[a:b]
            if (
                a < copied
                or value.startswith("‹hidden:")
                or _is_harmless(value.strip(), strength or 1)
                or _means_otherwise(key, value)
            ):
                continue
            out += [text[copied:a], mask(value.rstrip("\r")), "\r" if value.endswith("\r") else ""]
            copied = position = b
    return "".join([*out, text[copied:]])


def _means_otherwise(key: str, value: str) -> bool:
    """Return whether a name means something else with this value: how many tokens, whether a signature holds, a directory."""
    if _NUMBER.match(value):
        return key.endswith("s")
    if key.lower().endswith(("sig", "signature")):
        return len(value) < 12
    return key in ("PWD", "OLDPWD") and value.startswith("/")


def _values(text: str, start: int, end: int, strength: int) -> Iterator[_Span]:
    """Yield where the values of the key at ``start`` to ``end`` stand."""
    before = text[max(0, start - 14) : start]
    if before.endswith("<") and (tag := _TAG.match(text, end)):
        yield tag.end(), min(_find(text, "<", tag.end()), _find(text, "\n", tag.end()))
        return
    operator = _OPERATOR.match(text, end)
    if operator is not None:
        if (
            strength == 1
            and _PROSE.search(before)
            and not re.match(r"\S{20}", text[operator.end() : operator.end() + 20])
        ):
            return
        yield from _value_at(text, operator.end(), start, strength)
    elif (pair := _PAIR.match(text, end)) is not None:
        yield from _value_at(text, pair.end(), pair.end(), strength)
    elif text.startswith("--", start) and (flag := _FLAG.match(text, end)) is not None:
        yield from _value_at(text, flag.end(), flag.end(), strength)


def _value_at(text: str, at: int, key_at: int, strength: int) -> Iterator[_Span]:
    if text.startswith(('"""', "'''"), at):
        stop = _find(text, text[at : at + 3], at + 3)
        yield from _lines(text, at + 3, stop)
        return
    escaped = _ESCAPED_QUOTE.match(text, at)
    if escaped is not None:
        yield escaped.end(), min(_find(text, escaped[0], escaped.end()), _find(text, "\n", escaped.end()))
        return
    first = text[at : at + 1]
    if first and first in "\"'`":
        yield at + 1, _closing(text, at, first)
        return
    if first == "[":
        for item in _LIST_ITEM.finditer(text, at, _find(text, "]", at)):
            yield item.span(item.lastindex or 0)
        return
    if first == "{" and not _PREFIXED.match(text, at) and not text.startswith("{{", at):
        return
    line = text[max(0, key_at - 200) : key_at].rpartition("\n")[2]  # the part of the key's line before it
    margin = len(line) - len(line.lstrip(" \t+-"))
    block = _BLOCK_MARK.match(text, at)
    if block is not None or first in ("", "\n", "\r"):
        yield from _deeper_lines(text, _find(text, "\n", at), margin, whole=block is not None)
        return
    if (
        strength == 2 and len(line) < 200 and not line.strip(" \t+-\"'") and not text.startswith("-D", key_at)
    ):  # the line is its own
        yield from _rest_of_line(text, at)
        return
    run = _RUN.match(text, at)
    if run is not None:
        cut = _RUN_ENDS.search(run[0])
        value = run[0][: cut.start()] if cut else run[0]
        if value.startswith("${") and "}" in value:
            value = value[: value.index("}") + 1]
        elif not value.startswith(("$", "{{")):
            value = value.rstrip(",;)}]")
        yield at, at + len(value)


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


def _rest_of_line(text: str, at: int) -> Iterator[_Span]:
    while True:
        end = _find(text, "\n", at)
        comment = re.search(r"\s#", text[at:end])
        stop = at + comment.start() if comment else end
        value = text[at:stop].rstrip()
        yield at, at + len(value)
        if not value.endswith("\\") or end >= len(text):
            return
        at = end + 1


def _lines(text: str, at: int, stop: int) -> Iterator[_Span]:
    while at < stop:
        end = min(_find(text, "\n", at), stop)
        yield at, end
        at = end + 1


def _deeper_lines(text: str, at: int, margin: int, whole: bool) -> Iterator[_Span]:
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


# --- formats that their makers document ------------------------------------------------------------------------------

_TOKEN_WORDS = (
    "eyJ",
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat",
    "glptt",
    "glrt",
    "gldt",
    "xox",
    "xapp",
    "sk-",
    "sk_",
    "rk_",
    "whsec_",
    "AIza",
    "ya29.",
    "GOCSPX",
    "npm_",
    "pypi-",
    "hvs.",
    "hvb.",
    "dop_v1_",
    "SG.",
    "AGE-",
    "shp",
    "$2",
    "$5$",
    "$6$",
    "$y$",
    "$argon2",
    "hooks.slack.com",
)
_TOKENS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"eyJ[A-Za-z0-9_-]{8,4000}(?:\.[A-Za-z0-9_-]{0,4000}){1,4}|eyJ[A-Za-z0-9+/_-]{40,4000}={0,2}"  # JSON Web Token; JSON in base64
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"  # AWS access key id
    r"|gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{30,120}|gl(?:pat|ptt|rt|dt)-[A-Za-z0-9_-]{20,60}"  # GitHub, GitLab
    r"|xox[abeprs][-.][A-Za-z0-9-]{10,200}|xapp-[A-Za-z0-9-]{10,200}"  # Slack
    r"|sk-[A-Za-z0-9_-]{20,200}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,200}|whsec_[A-Za-z0-9]{16,200}"  # model vendors, Stripe
    r"|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,400}|GOCSPX-[A-Za-z0-9_-]{20,60}"  # Google
    r"|npm_[A-Za-z0-9]{30,60}|pypi-[A-Za-z0-9_-]{40,400}|hv[sb]\.[A-Za-z0-9_-]{20,400}|dop_v1_[a-f0-9]{60,70}"  # npm, PyPI, Vault, DigitalOcean
    r"|SG\.[A-Za-z0-9_-]{16,40}\.[A-Za-z0-9_-]{20,80}|AGE-SECRET-KEY-1[A-Z0-9]{50,70}|shp(?:at|ss|ca)_[a-fA-F0-9]{32}"  # SendGrid, age, Shopify
    r")|\$2[aby]\$\d\d\$[A-Za-z0-9./]{53}|\$(?:5|6|y|argon2id?)\$[A-Za-z0-9./,=$+-]{20,200}"  # hashed passwords
    r"|(?<=hooks\.slack\.com/services/)[A-Za-z0-9/_-]{12,120}"
)
