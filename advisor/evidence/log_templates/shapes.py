"""Keys by which lines that differ in data only are known again, for a whole block of bytes at once.

A key is a line without its digits, without tokens that are data as a whole (hexadecimal numbers, session ids) and
without quoted text, but for JSON and its kin. It is finer than a template: equal keys are of one template, so that each is
looked at closely once and only counted afterwards. The two exceptions, a status and a numbered level, are for the
caller, who knows where in the line they stand.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Positions = NDArray[np.int64]
Flags = NDArray[np.bool_]

HEX_CHARACTERS_MIN = 4  # the shortest part of a UUID; with a digit in it, no word is meant
ID_CHARACTERS_MIN = 10  # as in the mask of words
_DIGIT, _HEX_LETTER, _LETTER = 1, 2, 4
_DIGITS = b"0123456789"
_CLASSES = bytes(
    _DIGIT if byte in _DIGITS else _HEX_LETTER if byte in b"abcdefABCDEF" else _LETTER if chr(byte).isalpha() else 0
    for byte in range(128)
) + bytes(128)
# The parts of a UUID are data even where they have no digit; put in place of their letters, zeros vanish with the rest.
_LETTERS_OF_UUID = re.compile(rb"-[a-f]{4}(?=-)")
_NEWLINE, _QUOTE, _SPACE = b'\n" '
_NO_PROSE = np.zeros(256, bool)  # what precedes the first quote of JSON, of logfmt, of comma separated values
_NO_PROSE[list(b"{[=,:\n")] = True


def line_keys(data: bytes, quotes: bool = True) -> list[bytes]:
    """Return one key for each line.

    Args:
        data: Lines, separated by line feeds.
        quotes: Leave out quoted text, in lines where it is prose.
    """
    if not data:
        return [b""]
    data = _LETTERS_OF_UUID.sub(b"-0000", data)
    characters = np.frombuffer(data, np.uint8)
    drop = _tokens(data)
    if quotes and b'"' in data:
        drop = drop | _mask(characters.size, *_quoted(characters))
    if drop.any():
        kept = characters.copy()
        kept[drop] = _DIGITS[0]
        data = kept.tobytes()
    return data.translate(None, _DIGITS).split(b"\n")


def quotes_prose(data: bytes) -> bool:
    """Return whether any line quotes text that is data: neither JSON, nor ``key="value"``."""
    return bool(_quoted(np.frombuffer(data, np.uint8))[0].size) if b'"' in data else False


def _tokens(data: bytes) -> Flags:
    """Return which characters belong to a token that is data as a whole: digits and letters mixed, of some length."""
    classes = np.frombuffer(data.translate(_CLASSES), np.uint8)
    digits, inside = classes & _DIGIT, classes != 0
    mixed = np.flatnonzero((digits[1:] != digits[:-1]) & inside[1:] & inside[:-1])
    if not mixed.size:
        return np.zeros(classes.size, bool)
    gaps = np.concatenate(([-1], np.flatnonzero(~inside), [classes.size]))
    right = np.searchsorted(gaps, mixed)
    right = right[np.flatnonzero(np.diff(right, prepend=-1))]  # one for each token, however often it changes
    begins, ends = gaps[right - 1] + 1, gaps[right]
    lengths = ends - begins
    data_tokens = lengths >= ID_CHARACTERS_MIN
    short = np.flatnonzero((lengths >= HEX_CHARACTERS_MIN) & ~data_tokens)
    if short.size:
        borders = np.stack((begins[short], ends[short]), axis=1).ravel()
        what = np.bitwise_or.reduceat(np.append(classes, np.uint8(0)), borders)[::2]
        data_tokens[short] = what == (_DIGIT | _HEX_LETTER)
    return _mask(classes.size, begins[data_tokens], ends[data_tokens])


def _quoted(characters: Bytes) -> tuple[Positions, Positions]:
    """Return where quoted prose begins and ends, quotes counted anew in each line."""
    found = np.flatnonzero(characters == _QUOTE)
    line = np.searchsorted(np.flatnonzero(characters == _NEWLINE), found)
    first = np.flatnonzero(np.diff(line, prepend=-1))  # index of each line's first quote
    size = np.diff(first, append=found.size)
    before = characters[found[first] - 1]
    before = characters[np.maximum(found[first] - 1, 0)]
    earlier = characters[np.maximum(found[first] - 2, 0)]
    prose = ~(_NO_PROSE[before] | ((before == _SPACE) & _NO_PROSE[earlier])) & (found[first] > 1)
    if not prose.any():
        return found[:0], found[:0]
    rank = np.arange(found.size) - np.repeat(first, size)
    opening = (rank % 2 == 0) & (rank < np.repeat(size, size) - 1) & np.repeat(prose, size)
    begins, ends = found[opening], found[np.flatnonzero(opening) + 1]
    # The method of a request stays: three capitals in a row, and what belongs to them.
    method = (
        characters[begins + 1]
        & characters[np.minimum(begins + 2, ends)]
        & characters[np.minimum(begins + 3, ends)]
        & 96
    ) == 64
    spaces = np.append(np.flatnonzero(characters == _SPACE), characters.size)
    behind = spaces[np.searchsorted(spaces, begins)]
    return np.where(method & (behind < ends), behind, begins), ends


def _mask(size: int, begins: Positions, ends: Positions) -> Flags:
    """Return which of so many characters lie in spans that are in order and apart."""
    borders = np.concatenate(([0], np.stack((begins, ends), axis=1).ravel(), [size]))
    inside = np.zeros(len(borders) - 1, bool)
    inside[1::2] = True
    return np.repeat(inside, np.diff(borders))
