"""Keys by which lines that differ in data only are known again, for a whole block of bytes at once.

A key is a line without its digits, without tokens that are data as a whole (hexadecimal numbers, session ids) and,
where asked for, without quoted text. It is finer than a template: equal keys are of one template, so that each is
looked at closely once and only counted afterwards. The two exceptions, a status and a numbered level, are for the
caller, who knows where in the line they stand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Positions = NDArray[np.int64]

HEX_CHARACTERS_MIN = 4  # the shortest part of a UUID; with a digit in it, no word is meant
ID_CHARACTERS_MIN = 10  # as in the mask of words
_DIGIT, _HEX_LETTER, _LETTER = 1, 2, 4
_DIGITS = b"0123456789"
_CLASSES = np.zeros(256, np.uint8)
_CLASSES[list(_DIGITS)] = _DIGIT
_CLASSES[list(b"abcdefABCDEF")] = _HEX_LETTER
_CLASSES[list(b"ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ")] = _LETTER
_NEWLINE, _QUOTE, _SPACE, _BRACE, _EQUALS = b'\n" {='


def line_keys(data: bytes, quotes: bool = False) -> list[bytes]:
    """Return one key for each line.

    Args:
        data: Lines, separated by line feeds.
        quotes: Leave out what stands in double quotes, in lines that are neither JSON nor ``key="value"``.
    """
    if not data:
        return [b""]
    characters = np.frombuffer(data, np.uint8)
    drop = _tokens(characters)
    if quotes and b'"' in data:
        drop |= _quoted(characters)
    kept = characters.copy()
    kept[drop & (characters != _NEWLINE)] = _DIGITS[0]
    return kept.tobytes().translate(None, _DIGITS).split(b"\n")


def _tokens(characters: Bytes) -> NDArray[np.bool_]:
    """Return which characters belong to a token that is data as a whole."""
    classes = _CLASSES[characters]
    inside = classes != 0
    begins = np.concatenate(([0], np.flatnonzero(inside[1:] != inside[:-1]) + 1))
    what = np.bitwise_or.reduceat(classes, begins)
    lengths = np.diff(begins, append=characters.size)
    data = (what == (_DIGIT | _HEX_LETTER)) & (lengths >= HEX_CHARACTERS_MIN)
    data |= ((what & _DIGIT) != 0) & (lengths >= ID_CHARACTERS_MIN)
    return np.repeat(data, lengths)


def _quoted(characters: Bytes) -> NDArray[np.bool_]:
    """Return which characters stand between double quotes, counted anew in each line."""
    found = np.flatnonzero(characters == _QUOTE)
    line = np.searchsorted(np.flatnonzero(characters == _NEWLINE), found)
    first = np.flatnonzero(np.diff(line, prepend=-1))  # index of each line's first quote
    size = np.diff(first, append=found.size)
    rank = np.arange(found.size) - np.repeat(first, size)
    before = characters[np.maximum(found[first] - 1, 0)]
    earlier = characters[np.maximum(found[first] - 2, 0)]
    prose = (before != _BRACE) & (before != _EQUALS) & ~((before == _SPACE) & (earlier == _BRACE))
    opening = (rank % 2 == 0) & (rank < np.repeat(size, size) - 1) & np.repeat(prose, size)
    begins = found[opening]
    ends = found[np.flatnonzero(opening) + 1]
    steps = np.zeros(characters.size + 1, np.int8)
    steps[begins] = 1
    steps[ends] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
