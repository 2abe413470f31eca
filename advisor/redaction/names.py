"""Which names stand before secrets, and which values behind such a name are none. Called by `named`.

A name is judged as a whole: `token.ttl` ends in what it is, a lifetime. Nothing here reads text.
"""

from __future__ import annotations

import re
from functools import lru_cache

from advisor.redaction.pseudonyms import MARK
from advisor.redaction.randomness import looks_random

# How sure a name makes us that its value is a secret.
NO = 0
PERHAPS = 1  # only where the value looks made by chance: `key`, `auth`, `login`
LIKELY = 2  # tokens and keys, whose names also stand for other things
SURE = 3  # passwords and secrets: unless the value plainly refers to one

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PARTS = re.compile(r"[^A-Za-z0-9]+")
_SURE = re.compile(
    r"^(?:\w*(?:password|passwort|passwd|passphrase|passcode|secret)s?|\w*(?<!c)pwd|pass|(?:|my|user|root|admin|bind|db|smtp|ftp)pw"
    r"|\w*p(?:a?s{1,2}|s)w(?:o?r?)d|secrete|(?!bypass|compass|surpass|trespass|overpass|underpass|encompass)\w{1,12}pass|requirepass|masterauth)$"
)
_LIKELY = re.compile(
    r"^(?:\w*(?:token|apikey|credential)s?|\w*(?:access|secret|private|auth|account|master|signing|encryption|aes|hmac)key"
    r"|bearer|jwt|sig|signature|jsessionid|phpsessid)$"
)
_PERHAPS = frozenset("auth authentication oauth login client webhook hook pat nonce otp pin license key keys".split())
_KEY_OWNERS = frozenset(
    "api access private secret auth encryption encrypt signing sign session sas account storage shared master license hmac ssh jwt client deploy service decryption "
    "cipher aes rsa admin write read".split()
)
# A key that finds something is none that opens something.
_FINDING_OWNERS = frozenset(
    "cache primary foreign partition sort routing public row hash idempotency map object lock shard index group dedup registry translation message record config "
    "property header event metric label tag sorting order i18n path field attribute annotation lookup natural composite unique unicode hot any press meta ctrl".split()
)
_ID_OWNERS = frozenset({"session", "sess"})
_AUTH_OWNERS = frozenset({"", "redis", "valkey", "smtp", "ldap", "registry", "npm"})
# The end of a key says what it is: a token's lifetime is no token.
_HARMLESS_ENDS = frozenset(
    "ttl timeout timeouts expiry expires expiration expire lifetime validity valid duration age seconds second minutes minute hours hour days day millis ms "
    "interval rotation renewal length size count counts total enabled disabled required policy encoder encoding provider manager class field parameter param attempts "
    "retries retry limit max min strength rounds iterations version url uri endpoint path file filename dir directory location name names ref refs type issuer audience "
    "header prefix suffix algorithm alg store format mode username user host port region namespace bucket usage used created issued active mount mounts volume volumes "
    "loader factory service validator filter reset change changed env variable var hint prompt label placeholder regex pattern generator resolver handler encryption hashing method".split()
)
# What may stand behind the last dot of a secret's own name.
_NEUTRAL_ENDS = frozenset(
    "value data current previous old new default prod production staging test dev hash key primary secondary main plain text string".split()
)


@lru_cache(maxsize=20_000)
def strength(key: str) -> int:
    """Return how sure a key makes us that its value is a secret."""
    segments = [s for s in re.split(r"[./\[\]\"'@:]+", key) if s]
    if not segments:
        return NO
    words = [_words(s) for s in segments]
    last = words[-1]
    if not last or last[-1] in _HARMLESS_ENDS:
        return NO
    found = _strength_of(last)
    at = len(words) - 1
    while found < LIKELY and at > 0 and words[at] and (words[at][-1] in _NEUTRAL_ENDS or words[at][-1].isdigit()):
        at -= 1  # fs.s3a.secret.key.value
        if not words[at] or words[at][-1] in _HARMLESS_ENDS:
            return NO
        found = max(found, _strength_of(words[at]))
        if words[at + 1][-1] == "key" and words[at][-1] in _KEY_OWNERS:
            found = max(found, LIKELY)  # encrypt.key
        if words[at + 1][-1] == "key" and words[at][-1] in _FINDING_OWNERS:
            return NO
    if found < LIKELY and any(s.lower() in ("passwords", "secrets", "credentials") for s in segments[:-1]):
        return LIKELY
    return found


def _words(segment: str) -> list[str]:
    return [w.lower() for w in _PARTS.split(_CAMEL.sub("_", segment)) if w]


def _strength_of(words: list[str]) -> int:
    if any(_SURE.match(w) for w in words):
        return SURE
    if any(_LIKELY.match(w) for w in words):
        return LIKELY
    for before, word in zip(["", *words], words, strict=False):
        if (word in ("key", "keys") and before in _KEY_OWNERS) or (word == "id" and before in _ID_OWNERS):
            return LIKELY
        if word == "auth" and word == words[-1] and before in _AUTH_OWNERS and len(words) > 1:
            return LIKELY
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if (
        last.endswith(("key", "keys"))
        and before not in _FINDING_OWNERS
        and last not in ("monkey", "turkey", "donkey", "whiskey")
    ):
        return PERHAPS
    return PERHAPS if last in _PERHAPS else NO


# --- values that are no secrets ----------------------------------------------------------------------------------------

_NULL = r"(?:true|false|null|none|nil|yes|no|on|off|~|\*+|x{3,}|\.{3,}|…|redacted|\[?(?:redacted|hidden|filtered|masked)\]?)"
_REFERENCE = re.compile(
    rf"^(?:{_NULL}|<[^>]{{0,80}}>|\$\{{[^}}]{{0,400}}\}}?|\$\([^)]{{0,80}}\)?|\$[A-Z_][A-Z0-9_]{{0,80}}|%[A-Z_]{{1,80}}%|%\(\w{{1,80}}\)s|\{{\{{.{{0,200}}"
    r"|(?:arn|file|classpath|env|valueFrom):\S{0,400}|PT\w{1,20}|→.{0,400}|\d{1,9}(?:\.\d+)?(?:ms|s|m|h|d|%|[KMG]i?B?))$",
    re.I | re.S,
)
_NUMBER = re.compile(r"^-?\d{1,15}(?:\.\d{1,9})?$")
_PATH = re.compile(r"^(?:/|\./|\.\./|[A-Z]:\\)[\w./\\-]{1,300}$")
# What code puts behind a name: a call, a type, a variable.
_CODE = re.compile(
    r"^(?:[a-z_][\w.]{0,80}\(.{0,200}|(?:str|string|bytes|char|int|bool|void|None|Optional\[\w+\])[,;)]?)$"
)


def is_harmless(value: str, sure: int) -> bool:
    """Return whether a value behind a secret's name is a reference, a switch or a number rather than the secret."""
    if not value or value.startswith(MARK) or _REFERENCE.match(value):
        return True
    if sure == SURE:
        return (value.isdigit() and len(value) < 3) or not any(c.isalnum() for c in value)
    if sure == PERHAPS:
        return not looks_random(value)
    return (
        len(value) < 4
        or (_NUMBER.match(value) is not None and len(value) < 6)
        or (_PATH.match(value) is not None and not looks_random(value, 32))
    )


def means_otherwise(key: str, value: str) -> bool:
    """Return whether a name means something else with this value: how many tokens, whether a signature holds, a directory."""
    if _NUMBER.match(value):
        return key.endswith("s")
    if key.lower().endswith(("sig", "signature")):
        return len(value) < 12
    return key in ("PWD", "OLDPWD") and value.startswith("/")
