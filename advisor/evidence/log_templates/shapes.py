"""Keys by which lines that differ in data only are known again, for a whole block of bytes at once.

A key is a line without its digits, without tokens that are data as a whole (hexadecimal numbers, session ids) and
without quoted text, but for JSON and its kin. It is finer than a template: equal keys are of one template, so that each is
looked at closely once and only counted afterwards. The two exceptions, a status and a numbered level, are for the
caller, who knows where in the line they stand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Positions = NDArray[np.int64]
Flags = NDArray[np.bool_]
Bits = NDArray[np.uint64]
"""One bit for each character, the lowest of the first word for the first: a 64th of the work of one byte each."""

METHOD_CHARACTERS_MAX = 7  # OPTIONS
_DIGITS = b"0123456789"
_DROPPED = b"\0" + _DIGITS
_ONE = np.uint64(1)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
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
    if b"\0" in data:
        data = data.replace(b"\0", b"\1")
    characters = np.frombuffer(data, np.uint8)
    drop = _tokens(characters)
    if quotes and b'"' in data:
        quoted = _mask(characters.size, *_quoted(characters))
        drop = quoted if drop is None else drop | quoted
    if drop is None:
        return data.translate(None, _DIGITS).split(b"\n")
    # What is dropped becomes zero bytes, which leave with the digits.
    return (characters & (drop.view(np.uint8) - np.uint8(1))).tobytes().translate(None, _DROPPED).split(b"\n")


def quotes_prose(data: bytes) -> bool:
    """Return whether any line quotes text that is data: neither JSON, nor ``key="value"``."""
    return bool(_quoted(np.frombuffer(data, np.uint8))[0].size) if b'"' in data else False


def _tokens(characters: Bytes) -> Flags | None:
    """Return which characters belong to a token that is data as a whole; None if none does.

    That is digits and letters mixed: of some length, or hexadecimal; and the parts of a UUID that have no digit.
    Computed on bits: whether anything stands in a token is told by adding, because a carry runs to the token's end.
    """
    digits = (characters - np.uint8(48)) < 10
    letters = (characters | np.uint8(32)) - np.uint8(97)  # of either case
    inside = _bits(digits | (letters < 26))
    digit, hexadecimal = _bits(digits), _bits(letters < 6)
    before = _later(inside, 1)
    mixed = (digit ^ _later(digit, 1)) & inside & before
    ends = inside & ~_earlier(inside, 1)
    two = inside & before
    four = two & _later(two, 2)  # so many at least: the shortest part of a UUID; with a digit in it, no word is meant
    ten = four & _later(four, 4) & _later(two, 8)  # as in the mask of words
    words = _to_the_end(inside, inside & ~(digit | hexadecimal))
    found = ends & _to_the_end(inside, mixed) & (ten | (four & ~words))
    dash = _bits(characters == 45)
    uuid = ends & four & ~words & _later(dash, 4) & _earlier(dash, 1)
    if uuid.any():
        small = _bits((characters - np.uint8(97)) < 6)
        found |= uuid & small & _later(small, 1) & _later(small, 2) & _later(small, 3)
    if not found.any():
        return None
    return _flags(_to_the_end(_turned(inside), _turned(found)), characters.size)


def _bits(flags: Flags) -> Bits:
    """Return flags as bits, with at least one unset bit behind them."""
    packed = np.zeros(flags.size // 64 * 8 + 8, np.uint8)
    packed[: (flags.size + 7) // 8] = np.packbits(flags, bitorder="little")
    return packed.view("<u8")


def _turned(bits: Bits) -> Bits:
    """Return bits in reverse order."""
    return np.frombuffer(bits.tobytes().translate(_REVERSED)[::-1], "<u8")


def _flags(turned: Bits, size: int) -> Flags:
    """Return the first of some bits, that are in reverse order, as flags."""
    return np.unpackbits(turned.view(np.uint8)[::-1], bitorder="big")[:size].view(np.bool_)


def _later(bits: Bits, by: int) -> Bits:
    """Return each bit so many characters later, that is: at each character, what stood so many before."""
    moved = bits << np.uint64(by)
    moved[1:] |= bits[:-1] >> np.uint64(64 - by)
    return moved


def _earlier(bits: Bits, by: int) -> Bits:
    """Return each bit so many characters earlier."""
    moved = bits >> np.uint64(by)
    moved[:-1] |= bits[1:] << np.uint64(64 - by)
    return moved


def _to_the_end(runs: Bits, marks: Bits) -> Bits:
    """Return, for each run of bits, those from the first mark in it on."""
    added = runs + marks
    carried = np.flatnonzero(added < runs) + 1
    while carried.size:  # into the next word, and on where that word is full
        carried = carried[carried < added.size]
        added[carried] += _ONE
        carried = carried[added[carried] == 0] + 1
    return ((runs ^ added) & runs) | marks


def _quoted(characters: Bytes) -> tuple[Positions, Positions]:
    """Return where quoted prose begins and ends, quotes counted anew in each line."""
    # Each block looks for its quotes and its lines in one pass: searching lines for quotes would cost more.
    found = np.flatnonzero((characters == _QUOTE) | (characters == _NEWLINE))
    quotes = characters[found] == _QUOTE
    line = np.cumsum(~quotes)[quotes]
    found = found[quotes]
    first = np.flatnonzero(np.diff(line, prepend=-1))  # index of each line's first quote
    size = np.diff(first, append=found.size)
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
    requests = np.flatnonzero(method)
    behind = np.zeros(requests.size, np.int64)  # where the method ends, if it does
    for length in range(METHOD_CHARACTERS_MAX, 2, -1):
        place = np.minimum(begins[requests] + length + 1, ends[requests])
        behind = np.where(characters[place] == _SPACE, place, behind)
    ended = behind > 0
    kept = begins.copy()
    kept[requests[ended]] = behind[ended]
    return kept, ends


def _mask(size: int, begins: Positions, ends: Positions) -> Flags:
    """Return which of so many characters lie in spans that are in order and apart."""
    borders = np.concatenate(([0], np.stack((begins, ends), axis=1).ravel(), [size]))
    inside = np.zeros(len(borders) - 1, bool)
    inside[1::2] = True
    return np.repeat(inside, np.diff(borders))
