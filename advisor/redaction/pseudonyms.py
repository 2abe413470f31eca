"""What stands in a secret's place: the same mark for the same secret, keyed, so that a short one cannot be found by trying.

A mark made without a key could be guessed: whoever has it tries words until one gives the same mark. With a key that stays
at home, as `use_key` sets it at the start of the program, nobody outside can try. Without one a constant is used: replayed
bundles, tests and demos then say the same on every machine, and marks that a bundle already carries are never made again.
"""

from __future__ import annotations

import hashlib
import hmac

MARK = "‹hidden:"
_DIGITS = 8  # 32 bits: among 10,000 secrets of one incident, one chance in eighty that two look equal
_CONSTANT = b"advisor: no key was given"
_key = _CONSTANT


def use_key(key: bytes | None) -> None:
    """Make marks with this key from now on; `None` goes back to the constant. Called once, before anything is read."""
    global _key
    _key = hashlib.sha256(b"advisor redaction\0" + key).digest() if key else _CONSTANT


def mask(secret: str) -> str:
    """Return what stands for a secret: the same for the same secret, and not to be turned back."""
    return f"{MARK}{hmac.digest(_key, secret.encode('utf-8', 'surrogatepass'), 'sha256').hex()[:_DIGITS]}›"


def has_any(text: str, words: tuple[str, ...]) -> bool:
    """Return whether a word stands in the text; plain, because every rule asks this of every line before it begins."""
    for word in words:  # any() with a generator takes three times as long
        if word in text:
            return True
    return False


class Hiding:
    """Masks secrets of one text and remembers them, so that their other appearances can be looked for."""

    REMEMBERED_MAX = 200  # of one text; a Secret manifest rarely has ten

    def __init__(self) -> None:
        """Begin a text."""
        self.secrets: dict[str, None] = {}  # in order

    def __call__(self, secret: str) -> str:
        """Return the mask of a secret."""
        if len(self.secrets) < self.REMEMBERED_MAX:
            self.secrets[secret] = None
        return mask(secret)
