"""Other appearances of a secret that was found in a text: as it is, and in base64, hexadecimal, URL and JSON escapes.

A password in a connection string may stand again in the log line's message, or encoded in a header. Only what cannot be
mistaken for a word is looked for: a password "checkout" must not take every service name with it.
"""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote, quote_plus, unquote

from advisor.redaction.pseudonyms import Hiding, mask

_LENGTH_MIN = 6
_ENCODED_MIN = 8
_CHARACTERS_MAX = 100_000_000  # of text times forms: a tenth of a second of searching


def without_echoes(text: str, hide: Hiding) -> str:
    """Return the text without other appearances of the secrets that were masked in it."""
    budget = _CHARACTERS_MAX
    for secret in sorted(hide.secrets, key=len, reverse=True):
        if not _is_telling(secret):
            continue
        hidden = ""
        for form in _forms(secret) | (_forms(plain) if (plain := _unescaped(secret)) != secret else {}):
            budget -= len(text)
            if budget < 0:
                return text
            if form in text:
                hidden = hidden or mask(secret)
                text = text.replace(form, hidden)
    return text


def _is_telling(secret: str) -> bool:
    if not _LENGTH_MIN <= len(secret) <= 4000 or "\n" in secret:
        return False
    kinds = sum(
        (
            any(c.islower() for c in secret),
            any(c.isupper() for c in secret),
            any(c.isdigit() for c in secret),
            any(not c.isalnum() and c not in "._-/ " for c in secret),
        )
    )
    letters = any(c.isalpha() for c in secret)
    return (kinds >= 2 and letters and (len(secret) >= 8 or kinds >= 3)) or len(secret) >= 16


def _unescaped(secret: str) -> str:
    """Return a secret as it was before JSON or a URL escaped it, where its text shows that they did."""
    if "\\" in secret:
        try:
            return str(json.loads(f'"{secret}"'))
        except ValueError:
            return secret
    return unquote(secret, errors="surrogateescape") if "%" in secret else secret


def _forms(secret: str) -> dict[str, None]:
    raw = secret.encode("utf-8", "surrogatepass")
    forms = [secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]]
    with_escapes = [quote(secret, safe="", errors="surrogatepass"), quote_plus(secret, errors="surrogatepass")]
    forms += [*with_escapes, *(re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), f) for f in with_escapes)]
    forms += [raw.hex(), raw.hex().upper()]
    for shift in range(3):  # the secret may begin at any of three places of a group
        encoded = base64.b64encode(b"\0" * shift + raw).decode()
        begin = (0, 2, 3)[shift]
        # What the last group shares with bytes behind the secret is not known, and is left out.
        end = len(raw) + shift
        middle = encoded[begin : end * 8 // 6]
        if len(middle) >= _ENCODED_MIN:
            forms += [middle, middle.replace("+", "-").replace("/", "_")]
    return dict.fromkeys(form for form in forms if len(form) >= _LENGTH_MIN)
