"""Bytes of a file as blocks of whole lines, bounded: what is too long is cut, what is no text is made one."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from functools import cached_property

LINE_BYTES_MAX = 64 * 1024  # of a longer line, the rest is passed over
BLOCK_BYTES = 1024 * 1024  # what is computed for a block at once costs little for each line of it
INFLATED_BYTES_MAX = 8 * 1024**3  # of one compressed file; the deadline comes first, but a bomb must end by itself


_COLOUR = re.compile(rb"\x1b\[[0-9;:]{0,20}m")  # in front of a time it would hide it
_MARK = b"\xef\xbb\xbf"


class Block:
    """Some whole lines of a file, as bytes and, for who asks, as text.

    Attributes:
        data: Without carriage returns, colours, a byte order mark, and without the rest of lines that are too long.
        empty: Nothing was read that could be handed out yet; not even an empty line.
    """

    def __init__(self, data: bytes, empty: bool = False) -> None:
        """Clean the bytes."""
        self.data = _clean(data)
        self.empty = empty

    @cached_property
    def lines(self) -> list[str]:
        """The lines as text."""
        if self.empty:
            return []
        try:
            return self.data.decode().split("\n")
        except UnicodeDecodeError:
            return [decoded(line) for line in self.data.split(b"\n")]


def blocks_of(file: io.FileIO | gzip.GzipFile, size: int) -> Iterator[Block]:
    """Yield the lines of ``size`` bytes from here on, block by block; of a long line only its beginning."""
    rest = b""
    passing = False
    while size > 0:
        block = file.read(min(BLOCK_BYTES, size))
        if not block:
            break
        size -= len(block)
        if passing:
            cut = block.find(b"\n")
            if cut < 0:
                yield Block(b"", empty=True)  # so that who reads can look at the clock
                continue
            block = block[cut:]
            passing = False
        cut = block.rfind(b"\n")
        if cut < 0:
            rest += block
            if len(rest) > LINE_BYTES_MAX:
                rest = rest[:LINE_BYTES_MAX]
                passing = True
            continue
        yield Block(rest + block[:cut])
        rest = block[cut + 1 :]
        if len(rest) > LINE_BYTES_MAX:
            rest = rest[:LINE_BYTES_MAX]
            passing = True
    if rest:
        yield Block(rest)


def lines_of(data: bytes) -> list[str]:
    """Return bytes as clean lines of text."""
    return Block(data).lines


def decoded(line: bytes) -> str:
    """Return a line as UTF-8, or as Latin-1 where not one of its higher bytes makes sense in UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        text = line.decode("utf-8", "replace")
    higher = sum(byte > 0x7F for byte in line)
    if text.count("\ufffd") == higher and not any(0x7F < byte < 0xA0 for byte in line):
        return line.decode("latin-1")
    return text


def wide_blocks(file: io.FileIO) -> Iterator[Block]:
    """Yield the lines of a file in UTF-16."""
    decode = codecs.getincrementaldecoder("utf-16")("replace").decode
    rest = ""
    while block := file.read(BLOCK_BYTES):
        lines = (rest + decode(block)).split("\n")
        rest = lines.pop()[:LINE_BYTES_MAX]
        yield Block("\n".join(lines).encode("utf-8", "replace"), empty=not lines)
    if rest:
        yield Block(rest.encode("utf-8", "replace"))


def inflated_blocks(name: str, file: io.FileIO, warnings: list[str]) -> Iterator[Block]:
    """Yield the lines of a gzip file as far as it is whole and not endless."""
    try:
        with gzip.GzipFile(fileobj=file) as inflated:
            yield from blocks_of(inflated, INFLATED_BYTES_MAX)
            if inflated.tell() >= INFLATED_BYTES_MAX:
                warnings.append(f"{name}: only its first {INFLATED_BYTES_MAX >> 30} GiB were read")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        warnings.append(f"{name}: is damaged, read as far as it goes ({type(error).__name__})")


def _clean(data: bytes) -> bytes:
    data = data.removeprefix(_MARK)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
        if b"\r\n" in data or data.endswith(b"\r"):
            data = b"\n".join(line.rstrip(b"\r") for line in data.split(b"\n"))
    # A line that is too long covers one of these stretches: looking for its end in each is cheaper than splitting.
    stretch = LINE_BYTES_MAX // 2
    if any(data.find(b"\n", at, at + stretch) < 0 for at in range(0, len(data) - stretch, stretch)):
        data = b"\n".join(line[:LINE_BYTES_MAX] for line in data.split(b"\n"))
    return _COLOUR.sub(b"", data) if b"\x1b" in data else data
