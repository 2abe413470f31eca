"""Secrets are taken out of text before it is stored, shown, logged or sent.

Structure first: PEM blocks, Secret manifests, credentials in URLs, headers, commands, SQL and directives (`places`,
`manifests`), then every value that stands behind a secret's name, in whichever form (`named`, `names`). Then formats that their
makers document and long runs made by chance (`formats`), words behind "the password is", and last other appearances of what
was found (`echoes`). Equal secrets get the same mask (`pseudonyms`), so that "the same value as before" can still be seen.
Numbers, versions, commit ids, metric names and lifetimes survive; so does the number of lines.

It fails closed: where a rule faults, the whole text is masked, and text beyond a million characters is cut, never passed
through unread. What no rule can see stays: a word in prose, or a short secret under a name that says nothing. Linear in the
length of the text: every repetition is bounded, and what was read once is not read again. Pure.
"""

from __future__ import annotations

import re

from advisor.redaction.echoes import without_echoes
from advisor.redaction.formats import without_formats
from advisor.redaction.manifests import without_manifest_data
from advisor.redaction.named import has_hint, without_named
from advisor.redaction.names import LIKELY, SURE, is_harmless, strength
from advisor.redaction.places import without_pem, without_places, without_prose
from advisor.redaction.pseudonyms import MARK, Hiding, mask, use_key

TEXT_CHARACTERS_MAX = 1_000_000
_KEY_CHARACTERS_MAX = 400
_DATA_KEY = re.compile(r"^(?:data|stringData|spec\.encryptedData)\b")

__all__ = ["TEXT_CHARACTERS_MAX", "is_secret_key", "mask", "redact", "redact_value", "use_key"]


def redact(text: str) -> str:
    """Return the text without secrets; text beyond a million characters is cut, never passed through unread."""
    if len(text) > TEXT_CHARACTERS_MAX:
        text = _cut(text)
    try:
        return _redacted(text)
    except Exception:  # noqa: BLE001  # whatever the fault, a text that was not read to its end must not pass
        return _nothing_of(text)


def is_secret_key(key: str) -> bool:
    """Return whether a configuration key names a secret by itself."""
    return strength(key[-_KEY_CHARACTERS_MAX:]) >= LIKELY


def redact_value(key: str, value: str, scope: str = "") -> str:
    """Return a configuration value, masked where its key names a secret, else cleaned as text is.

    Args:
        key: The whole key, `spring.datasource.password`.
        value: As text.
        scope: What it belongs to, `Secret/db`: whatever a Secret's data is called, it is secret.
    """
    sure = SURE if _holds_secrets(scope) and _DATA_KEY.match(key) else strength(key[-_KEY_CHARACTERS_MAX:])
    bare = value.strip()
    if sure and bare and not bare.startswith(MARK) and not is_harmless(bare, sure):
        return mask(value)
    return redact(value)


def _holds_secrets(scope: str) -> bool:
    return scope.partition("/")[0] in ("Secret", "SealedSecret")


def _redacted(text: str) -> str:
    hide = Hiding()
    if "BEGIN" in text:
        text = without_pem(text, hide)
    text = without_manifest_data(text, hide)
    text = without_places(text, _lowered(text), hide)
    lowered = _lowered(text)
    if has_hint(lowered):
        text = without_named(text, lowered, hide)
        text = without_prose(text, lowered, hide)
    text = without_formats(text, hide)
    return without_echoes(text, hide) if hide.secrets else text


def _cut(text: str) -> str:
    """Return as much as is read; the last word goes, because half a secret may look like none."""
    kept = text[:TEXT_CHARACTERS_MAX]
    whole = re.match(r"(?s).*\s", kept[-4000:])
    return kept[: len(kept) - 4000 + whole.end()] if whole else kept[:-4000]


def _nothing_of(text: str) -> str:
    """Return a mask for the whole of a text, its lines kept."""
    return "\n".join(mask(line) if line.strip() else "" for line in text.split("\n"))


def _lowered(text: str) -> str:
    """Return the text in lower case, position by position: a few letters of other scripts grow when lowered."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(c.lower() if c.isascii() else c for c in text)
