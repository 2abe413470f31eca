"""Places that hold a secret by their structure: PEM blocks, URLs, headers, SQL, command lines, directives, prose.

Each expression has a literal word that must stand in the text before it is tried, and every repetition has a bound.
"""

from __future__ import annotations

import re

from advisor.redaction.names import LIKELY, NO, is_harmless
from advisor.redaction.pseudonyms import MARK, Hiding, has_any, mask

_PEM_CHARACTERS_MAX = 64 * 1024
_PEM_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{3,40}-----|---- BEGIN SSH2 [A-Z ]{3,40} ----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{3,40}-----|---- END SSH2 [A-Z ]{3,40} ----")
_PEM_BODY = re.compile(r"[A-Za-z0-9+/=\s\\\"',:.-]{0,65536}")
_LINE_MARGIN = re.compile(r"[ \t+>|-]*")

# The password may hold '@' and, where what follows the colon is no port, '/'. A user that looks like a token is one.
_URL = re.compile(
    r"(?P<before>(?<![a-zA-Z0-9+.-])[a-zA-Z][a-zA-Z0-9+.-]{1,20}://(?:[^\s/@:\"'<>]{0,200}:(?=\S)|(?=(?=[^@]{0,200}\d)[A-Za-z0-9_~.-]{20,200}@)"
    r"|(?=[^\s/@:]{0,80}\d)(?=[^\s/@:]{0,80}[A-Z])(?=[^\s/@:]{0,80}[a-z])(?=[A-Za-z0-9_~.-]{12,19}@)))"
    r"(?P<secret>(?!‹)[^\s/\"'<>]{1,500}(?=@)|(?![‹]|\d{1,5}[/?#])[^\s@\"'<>]{1,500}(?=@))"
)
_ORACLE = re.compile(r"(?P<before>\bthin:[^\s/@\"']{1,60}/)(?P<secret>(?!‹)[^\s@\"']{1,200})(?=@)")
_HEADER = re.compile(
    r"(?P<before>(?<![A-Za-z0-9])(?:(?:proxy-)?authorization|(?:set-)?cookie2?)(?:"
    r"\\{0,3}[\"']?\s{0,3}[:=]\s{0,3}\\{0,3}[\"']?"
    r"|\\{0,3}[\"']?\s{0,3},?[\s+-]{0,60}\\{0,3}[\"']?value\\{0,3}[\"']?\s{0,3}[:=]\s{0,3}\\{0,3}[\"']?"
    r"|[ \t,\"']{1,8}(?=(?:basic|bearer|digest|token|negotiate|ntlm|aws4-hmac-sha256)[ \t])|[ \t]{1,8}[\"'](?=[\w.-]{1,80}=)))"
    r"(?P<scheme>(?:basic|bearer|digest|token|negotiate|ntlm|api-?key|key|jwt|hmac[\w-]{0,20}|aws4-hmac-sha256|[a-z][\w-]{2,24}(?= [^\s\"']{16}))[ \t]{1,3})?"
    r"(?P<secret>[\w.-]{1,80}=[^\r\n]{1,4000}|[^\s\"',;}\]]{3,4000})",
    re.I,
)
# A scheme and what follows it, without the header's name.
_SCHEME = re.compile(
    r"(?P<before>(?<![A-Za-z0-9])(?:bearer|basic|ntlm|negotiate)[ \t]{1,3})(?P<secret>(?=[A-Za-z0-9+/_.~-]{0,400}[0-9A-Z])[A-Za-z0-9+/_.~-]{14,4000}={0,2})(?![A-Za-z])",
    re.I,
)
_COMMAND = re.compile(
    r"(?P<before>(?:(?<!\S)(?:-u|--user|--proxy-user|-U)[ =]{0,3}\\?[\"']?[^\s:\"'‹/]{0,80}:|\bsshpass -p ?|\bmysql(?:dump|admin)?\b[^\n|;]{0,120}? -p"
    r"|\b(?:ldap\w{3,9}|openssl)\b[^\n|;]{0,160}? -(?:w|k|pass(?:in|out)?) (?:pass:)?|\bredis-cli\b[^\n|;]{0,120}? -a |(?i:\bconvertto-securestring\b(?: -\w{1,20}){0,3} )[\"']?))"
    r"(?P<secret>[^\s\"'‹]{3,200})"
)
_COMMAND_WORDS = (
    "-u",
    "-U",
    "--user",
    "--proxy-user",
    "sshpass",
    "mysql",
    "ldap",
    "openssl",
    "redis-cli",
    "ecureString",
    "ecurestring",
)
_SQL = re.compile(
    r"(?P<before>\b(?:identified\s{1,4}(?:with\s{1,4}[\"'`]?\w{1,40}[\"'`]?\s{1,4})?(?:by|as)(?:\s{1,4}password)?|set\s{1,4}password\s{1,4}for\s{1,4}\S{1,80}\s{0,4}=|(?:encrypted\s{1,4}|login\s{1,4}|with\s{1,4}|role\s{1,4}\S{1,60}\s{1,4}|user\s{1,4}\S{1,60}\s{1,4})password)"
    r"\s{1,4}\\{0,3}[\"'`]?)(?P<secret>(?!=)[^\s\"'`;)]{3,200})",
    re.I,
)
# Directives whose name says all, wherever they stand: redis, LDAP, .netrc, HAProxy.
_DIRECTIVE = re.compile(
    r"(?P<before>(?<![\w-])(?:(?:requirepass|masterauth|rootpw|bindpw|olcrootpw|auth-pass \S{1,80})[ \t]{1,20}[\"']?|rename-command[ \t]{1,8}\S{1,40}[ \t]{1,8}[\"']?"
    r"|(?:login|account)\s{1,4}\S{1,120}\s{1,4}password\s{1,4}|stats auth [^\s:]{1,80}:|user \S{1,80} (?:insecure-)?password |acl setuser [^>\n]{1,120}>))"
    r"(?P<secret>(?![‹=:|>{$])[^\s\"'‹#]{4,400})",
    re.I,
)
# Directives whose names are words as well: alone on their line.
_OWN_LINE = re.compile(
    r"(?P<before>(?:(?:^|\n)[ \t+-]{0,40}(?:bind_?password|user_password|password|passphrase|secret)[ \t]{1,20}[\"']?"
    r"|#define[ \t]{1,8}\w{0,40}(?:password|passwd|secret|token)\w{0,10}[ \t]{1,20}[\"']?|%(?:define|global)[ \t]{1,8}\w{0,40}(?:password|passwd|secret|token)[ \t]{1,20}[\"']?))"
    r"(?P<secret>(?![‹=:|>{$])[^\s\"'‹#]{4,400})(?=[\"']?\s{0,8}(?:$|\n|#|//))",
    re.I,
)
_DIRECTIVE_WORDS = ("requirepass", "masterauth", "pw", "pass", "secret", "rename-command", "auth", "acl", "#define", "%define", "%global")  # fmt: skip
# {{ default "…" .Values.db.password }}
_TEMPLATE = re.compile(
    r"(?P<before>\bdefault\s{1,4}\\{0,3}[\"'])(?P<secret>[^\"'\n‹\\]{3,200})(?=\\{0,3}[\"']\s{1,4}[.$][\w.]{0,80}(?:pass|secret|token|key|pwd))",
    re.I,
)
_REVERSED = re.compile(
    r"(?P<before>[\"'])(?P<secret>[^\"'\n‹]{4,200})(?=[\"']\s{0,3}[!=]={1,2}\s{0,3}[\w.]{0,60}(?:password|passwd|passphrase|secret|token|api_?key|private_?key|db_pass)\w{0,20})",
    re.I,
)
_PROSE = re.compile(
    r"(?P<before>\b(?P<what>password|passwd|passphrase|passcode|pwd|secret(?: key)?|api[ -]?key|access[ -]key|token|credentials?)"
    r"(?:\s{1,2}(?:for|of|to)\s{1,2}[\w@.:/-]{1,60}(?:\s[\w@.:/-]{1,40})?)?(?:\s{1,2}(?:is|was|to|are|being)(?:\s{1,2}(?:now|set to|still|changed to|reset to|be))?|\s{0,2}:)\s{1,3}[\"'`“«(]?)"
    r"(?P<secret>[^\s\"'`”»<>‹]{4,200})",
    re.I,
)
# A password's name, something loose, and a word that only a password looks like: "PW - …", "id/pw (…)", a cell of a table.
_LOOSE = re.compile(
    r"(?P<before>(?:password|passwd|passwort|pass ?phrase|passcode|(?<![a-z])(?:pwd?|p/w|p\.w|pass|creds?|credentials))(?![a-z])[\w]{0,4}"
    r"\s{0,3}(?:is\s{0,2}:?|was|[-=:]?>|</t[dh]>\s{0,3}<t[dh]>|[-/>|;,~:=@])?[\s\"'`|(\[<]{0,4})"
    r"(?P<secret>[^\s\"'`<>|,;()\[\]{}‹›=]{6,64})",
    re.I,
)
_PROSE_WORDS = re.compile(
    r"^(?:(?:not?|now|the|an?|this|that|too|very|only|also|still|already|being|been|either|both|all|any|your|our|their|from|with|must|should|will|here|there|null|none|nil|empty|"
    r"blank|weak|strong|wrong|right|short|long|same|valid|good|fine|okay|safe|unsafe|plain|clear|text|plaintext|public|private|secret|secrets|password|passwords|token|tokens|default|"
    r"unknown|found|kept|sent|set|unset|used|gone|lost|old|new|stale|read|written|held|built|hidden|shown|known|given|taken|left|done|in|on|at|by|as|it|its|of|for|to|or|and|if|when|where|"
    r"true|false|never|always|often|about|after|before|because|into|per|part|one|two|out|over|under|wide|what|which|who|how|why|whether|"
    r"[\w'-]{1,30}(?:ed|ing|able|ible|ly|ory|ent|ive|ous|ful|less|ect|lid|ary|ion|ment|ance|ence|ship|ity))[.,;:!?)]{0,3}|[/.]\S*|\$\S*|\{\S*|%\S*|\d{1,8}(?:ms|s|m|h|d|%|[KMG]i?B?)?[.,;]?)$",
    re.I,
)


def without_pem(text: str, hide: Hiding) -> str:
    """Return the text without PEM blocks; a cut one is taken to its cut. The lines stay."""
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


def without_places(text: str, lowered: str, hide: Hiding) -> str:
    """Return the text without secrets that URLs, headers, commands, SQL and directives hold by their structure."""

    def hidden(found: re.Match[str]) -> str:
        return found["before"] + hide(found["secret"])

    def hidden_value(found: re.Match[str]) -> str:
        return found[0] if is_harmless(found["secret"], LIKELY) else found["before"] + hide(found["secret"])

    def hidden_word(found: re.Match[str]) -> str:
        return found[0] if _PROSE_WORDS.match(found["secret"]) else hidden_value(found)

    if "://" in text:
        text = _URL.sub(hidden, text)
    if "thin:" in text:
        text = _ORACLE.sub(hidden, text)
    if "authorization" in lowered or "cookie" in lowered:
        text = _HEADER.sub(lambda found: _masked_header(found, hide), text)
    if has_any(lowered, ("bearer ", "basic ", "ntlm ", "negotiate ")):
        text = _SCHEME.sub(
            lambda found: (
                found[0] if found["secret"].isalpha() and not found["secret"].endswith("=") else hidden(found)
            ),
            text,
        )
    if has_any(text, _COMMAND_WORDS):
        text = _COMMAND.sub(hidden_value, text)
    if "identified" in lowered or "password" in lowered:
        text = _SQL.sub(hidden_word, text)
    if has_any(lowered, _DIRECTIVE_WORDS):
        text = _DIRECTIVE.sub(hidden_value, text)
        text = _OWN_LINE.sub(hidden_word, text)
    if "{{" in text and "default" in lowered:
        text = _TEMPLATE.sub(hidden, text)
    if "= " in text or "==" in text:
        text = _REVERSED.sub(hidden, text)
    return text


def without_prose(text: str, lowered: str, hide: Hiding) -> str:
    """Return the text without the word behind "the password is"; words of the language stay."""
    if not has_any(lowered, ("pass", "pw", "p/w", "p.w", "secret", "key", "token", "cred")):
        return text
    text = _PROSE.sub(lambda found: _masked_prose(found, hide), text)
    if not has_any(lowered, ("pass", "pw", "p/w", "p.w", "cred")):
        return text
    return _LOOSE.sub(
        lambda found: found["before"] + hide(found["secret"]) if _is_password(found["secret"]) else found[0], text
    )


def _is_password(word: str) -> bool:
    """Return whether a word mixes what words of a language, names of code, versions and paths do not."""
    kinds = any(c.islower() for c in word), any(c.isupper() for c in word), any(c.isdigit() for c in word)
    symbols = sum(c in "!@#$%^&*+?~" for c in word)
    if word.startswith(("/", "$", "%", "&", "./", "http")) or word.count("/") > 1 or re.search(r"\.\w{1,5}$", word):
        return False
    digits = sum(c.isdigit() for c in word)
    return (all(kinds) and (digits >= 2 or word[-1].isalpha())) or (symbols > 0 and sum(kinds) >= 2 and kinds[2])


def _masked_prose(found: re.Match[str], hide: Hiding) -> str:
    word = found["secret"]
    bare = word.rstrip(".,;:!?)")
    sure = found["what"].lower().startswith(("pass", "pwd"))
    odd = any(c.isdigit() for c in bare) or any(not c.isalnum() and c not in "-'._/" for c in bare)
    odd = odd or (any(c.isupper() for c in bare[1:]) and any(c.islower() for c in bare))
    odd = odd and not re.match(r"^[\w.-]{1,60}\(|^\d[\d.:T+-]*Z?$", bare)
    if _PROSE_WORDS.match(word) or is_harmless(bare, LIKELY) or MARK in word:
        return found[0]
    if not (odd and (sure or len(bare) >= 8)) and not (sure and len(bare) > 4 and _ends(found, bare)):
        return found[0]
    return found["before"] + hide(bare) + word[len(bare) :]


def _ends(found: re.Match[str], bare: str) -> bool:
    """Return whether a plain word is all that follows: "password is swordfish", and not "password is part of …"."""
    rest = found.string[found.start("secret") + len(bare) :]
    return re.match(r"[.,;!?)\"'`]{0,3}\s{0,3}(?:$|\n)", rest) is not None and not found["before"].rstrip(
        "\"'`“«( "
    ).endswith(":")


def _masked_header(found: re.Match[str], hide: Hiding) -> str:
    secret = found["secret"]
    cookie = "cookie" in found["before"].lower()
    named = (
        ":" in found["before"] or found["before"].rstrip().endswith(("'", '"')) or "value" in found["before"].lower()
    )
    if secret.startswith(MARK) or (cookie and not named) or (cookie and not re.match(r"[\w.-]{1,80}=", secret)):
        return found[0]
    if is_harmless(secret, LIKELY if not found["scheme"] else NO + 3):
        return found[0]
    kept = ""
    if found["before"][-1:] in ("'", '"') and found["before"][-1] in secret:  # the header ends where its quote does
        quote = found["before"][-1]
        secret, kept = secret.split(quote, 1)[0], secret[secret.index(quote) :]
        if secret.endswith("\\"):
            secret, kept = secret[:-1], "\\" + kept
    return found["before"] + (found["scheme"] or "") + hide(secret) + kept
