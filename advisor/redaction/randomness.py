"""Does a run of characters look made by chance? Called where a name alone, or no name at all, speaks for a secret.

Words, paths and class names keep to one kind of character for long; what a generator made changes kind all the time.
Hashes in hexadecimal, which name commits, images and traces, are told apart from what mixes capitals in.
"""

from __future__ import annotations

import re
from itertools import pairwise

_ALPHABET = re.compile(r"^[A-Za-z0-9+/_.~=:-]+$")
_UUID = re.compile(r"^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")
_LOWER, _UPPER, _DIGIT, _OTHER = range(4)


def _kinds(value: str) -> list[int]:
    return [
        _LOWER if "a" <= c <= "z" else _UPPER if "A" <= c <= "Z" else _DIGIT if "0" <= c <= "9" else _OTHER
        for c in value
    ]


def looks_random(value: str, size: int = 16) -> bool:
    """Return whether letters and digits are mixed as a generator mixes them, in any alphabet, hexadecimal included."""
    if _UUID.match(value):
        return True
    core = value.rstrip("=")
    if len(core) < size or not _ALPHABET.match(core):
        return False
    kinds = _kinds(core)
    if kinds.count(_DIGIT) < 2 or kinds.count(_DIGIT) == len(core):
        return False
    return _changes(kinds) >= 0.25 * len(core)


def mixes_capitals(run: str) -> bool:
    """Return whether small letters, capitals and digits follow one another as in base64 or base62."""
    kinds = _kinds(run)
    digits, upper, lower = kinds.count(_DIGIT), kinds.count(_UPPER), kinds.count(_LOWER)
    if digits < 2 or upper < 4 or lower < 4:
        return False
    return _changes(kinds) >= 0.4 * (digits + upper + lower)


def _changes(kinds: list[int]) -> int:
    """Return how often a letter or digit follows one of another kind."""
    return sum(a != b for a, b in pairwise(k for k in kinds if k != _OTHER))
