"""Secrets are taken out of text before it is stored, shown, logged or sent.

Structure first (PEM blocks, URL credentials, authorization headers, key=value with a secret's name), then token formats that
their makers document. Equal secrets get the same mask, so that "the same value as before" can still be seen. Numbers, versions,
commit ids and metric names survive.

The expressions are linear in the length of the text: no nested repetition. Pure.
"""

from __future__ import annotations

import hashlib
import re

# Words in a key's name that make its value a secret.
_NAMES_A_SECRET = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|client[_-]?secret|credentials?|auth[_-]?key"
    r"|encryption[_-]?key|signing[_-]?key|bearer|session[_-]?key|connection[_-]?string|sas[_-]?key)"
)
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{3,40}-----[^-]{1,20000}(?:-----END [A-Z0-9 ]{3,40}-----)?")
_URL = re.compile(r"(?P<before>\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s/@:\"']{0,200}:)(?P<secret>[^\s/@\"']{1,500})(?=@)")
_HEADER = re.compile(r"(?P<before>\b(?:authorization|proxy-authorization)\b[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:basic|bearer|digest|token)?\s{0,3})(?P<secret>[A-Za-z0-9._~+/=-]{6,4000})", re.I)
_ASSIGNED = re.compile(
    r"(?P<before>(?<![A-Za-z0-9])[\w.-]{0,60}" + _NAMES_A_SECRET + r"[\w-]{0,20}[\"']?\s{0,3}(?::|=>|=)\s{0,3}[\"']?)(?P<secret>[^\s\"',;&}{\]]{3,4000})", re.I
)
_TOKENS = re.compile(
    r"(?P<secret>\beyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{4,4000}\.[A-Za-z0-9_-]{4,2000}"  # JSON Web Token
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS access key id
    r"|\bgh[pousr]_[A-Za-z0-9]{30,80}\b|\bgithub_pat_[A-Za-z0-9_]{30,120}\b|\bglpat-[A-Za-z0-9_-]{20,60}"  # GitHub, GitLab
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,200}|\bsk-[A-Za-z0-9_-]{20,200}|\bAIza[A-Za-z0-9_-]{35}\b|\bnpm_[A-Za-z0-9]{30,60}\b)"  # Slack, model vendors, Google, npm
)
# What stands after a secret's name but is no secret: references, lifetimes, switches, sizes.
_HARMLESS = re.compile(
    r"^(?:true|false|null|none|~|\*+|<[^>]{0,80}>|\$\{[^}]{0,200}\}?|\$\([^)]{0,80}\)?|\{\{.{0,80}|\d{1,12}(?:\.\d+)?(?:ms|s|m|h|d|%|[KMG]i?B?)?|PT\w{1,20}|→)$", re.I
)
_LIFETIME_NAME = re.compile(r"(?:ttl|timeout|expir\w{0,5}|lifetime|validity|duration|max[_-]?age|length|size|count|refresh|enabled|url|uri|endpoint|path|file|name|ref|type|issuer|audience|header)[\w-]{0,12}[\"']?\s{0,3}(?::|=>|=)\s{0,3}[\"']?$", re.I)
TEXT_CHARACTERS_MAX = 1_000_000


def mask(secret: str) -> str:
    """Return what stands for a secret: the same for the same secret, and not to be turned back."""
    return f"‹hidden:{hashlib.sha256(b'advisor:' + secret.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}›"


def redact(text: str) -> str:
    """Return the text without secrets; text beyond a million characters is cut, never passed through unread."""
    if len(text) > TEXT_CHARACTERS_MAX:
        text = text[:TEXT_CHARACTERS_MAX]
    if "-----BEGIN" in text:
        text = _PEM.sub(lambda m: mask(m[0]), text)
    if "://" in text:
        text = _URL.sub(lambda m: m["before"] + mask(m["secret"]), text)
    text = _HEADER.sub(lambda m: m["before"] + mask(m["secret"]), text)
    text = _ASSIGNED.sub(_assigned, text)
    return _TOKENS.sub(lambda m: mask(m["secret"]), text)


def _assigned(found: re.Match[str]) -> str:
    secret = found["secret"]
    if secret.startswith("‹hidden:") or _HARMLESS.match(secret) or _LIFETIME_NAME.search(found["before"]):
        return found[0]
    return found["before"] + mask(secret)


_SECRET_KEY = re.compile(r"(?:^|[._\-\[\]\"/:])" + _NAMES_A_SECRET + r"(?:$|[\]\"_-])|(?:password|passwd|secret)[\w-]{0,10}$", re.I)


def is_secret_key(key: str) -> bool:
    """Return whether a configuration key names a secret by itself."""
    return _SECRET_KEY.search(key) is not None and not _LIFETIME_NAME.search(key + "=")


def redact_value(key: str, value: str) -> str:
    """Return a configuration value, masked where its key names a secret, else cleaned as text is."""
    if value and is_secret_key(key) and not _HARMLESS.match(value):
        return mask(value)
    return redact(value)
