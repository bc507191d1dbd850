"""Read the members of packages: archives, archives inside them, and games' own files."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

SKY_HEADER = 22
SKY_SPEECH = range(50_000, 59_000)
SKY_STEP = 20


def members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the members whose path matches, in order."""
    wanted = re.compile(pattern)
    found: list[tuple[str, bytes]] = []
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as packed:
            found = [(n, packed.read(n)) for n in packed.namelist() if wanted.search(n)]
    else:
        stream: io.BytesIO | None = None
        if archive.suffix == ".deb":
            command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
            stream = io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout)
        with tarfile.open(None if stream else archive, fileobj=stream) as packed_tar:
            for item in packed_tar:
                handle = packed_tar.extractfile(item) if item.isfile() else None
                if handle is not None and wanted.search(item.name):
                    found.append((item.name.removeprefix("./"), handle.read()))
    yield from sorted(found)


def nested_members(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield the matching members of zip archives that are members themselves.

    The pattern has two halves around ``!/``: which members are the zip
    archives, and which of their members are wanted.
    """
    outer, _, inner = pattern.partition("!/")
    wanted = re.compile(inner)
    for path, content in members(archive, outer):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for name in sorted(packed.namelist()):
                if wanted.search(name):
                    yield f"{path}!/{name}", packed.read(name)


def queen_files(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the speech of "Flight of the Amazon Queen" (ScummVM's ``queen.1c``).

    The file opens with ``QTBL``, a version of 6 bytes, 3 flag bytes and the
    number of entries; each entry is a name of 12 bytes, a bundle number, an
    offset and a size, big endian.
    """
    (count,) = struct.unpack_from(">H", content, 13)
    for index in range(count):
        name, _, offset, size = struct.unpack_from(">12sBII", content, 15 + 21 * index)
        text = name.rstrip(b"\0 ").decode("ascii", "replace")
        if text.upper().endswith(".SB"):
            yield text, content[offset : offset + size]


class _Bits:
    """Bits of an RNC stream, low bit first, taken in words of 16 bits as they are needed."""

    def __init__(self, content: bytes, at: int) -> None:
        self.content, self.at = content, at
        self.held = self.count = 0

    def take(self, amount: int) -> int:
        """Take that many bits."""
        while self.count < amount:
            word = int.from_bytes(self.content[self.at : self.at + 2], "little")
            self.held |= word << self.count
            self.at += 2
            self.count += 16
        value = self.held & ((1 << amount) - 1)
        self.held >>= amount
        self.count -= amount
        return value

    def codes(self) -> dict[tuple[int, int], int]:
        """Read a Huffman table: the value of each length and code."""
        lengths = [self.take(4) for _ in range(self.take(5))]
        table, code = {}, 0
        for length in range(1, 16):
            for value, its in enumerate(lengths):
                if its == length:
                    table[length, code] = value
                    code += 1
            code <<= 1
        return table

    def value(self, table: dict[tuple[int, int], int]) -> int:
        """Take one value: a Huffman code, then the bits below its leading one."""
        code = length = 0
        while (length, code) not in table:
            if length == 16:
                raise ValueError("an RNC stream holds a code that its table lacks")
            code = code << 1 | self.take(1)
            length += 1
        found = table[length, code]
        return found if found < 2 else self.take(found - 1) | 1 << (found - 1)


def unpack_rnc(content: bytes) -> bytes:
    """Unpack Rob Northen's compression, method 1.

    A header of 18 bytes (signature, unpacked and packed length, checksums,
    number of chunks), then chunks of three Huffman tables and turns of literal
    bytes and copies from what is unpacked.
    """
    if content[:4] != b"RNC\x01":
        raise ValueError(f"an RNC stream must start with RNC 1, got {content[:4]!r}")
    (size,) = struct.unpack_from(">I", content, 4)
    bits, out = _Bits(content, 18), bytearray()
    bits.take(2)
    for _ in range(content[17]):
        literals, distances, lengths = bits.codes(), bits.codes(), bits.codes()
        for left in range(bits.take(16), 0, -1):
            run = bits.value(literals)
            out += content[bits.at : bits.at + run]
            bits.at += run
            if left > 1:
                start = len(out) - bits.value(distances) - 1
                for at in range(start, start + bits.value(lengths) + 2):
                    out.append(out[at])
    if len(out) != size:
        raise ValueError(f"an RNC stream must hold {size} bytes, got {len(out)}")
    return bytes(out)


def sky_files(index: bytes, disk: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield some speech of "Beneath a Steel Sky" (``sky.dnr``, ``sky.dsk``).

    The index is a count and entries of 8 bytes, little endian: number of the
    file, 24 bits of offset (the top one: in steps of 16 bytes), 22 bits of size
    and in the top bit whether the file is stored as it is.  Speech is packed,
    has numbers from 50,000, a header of 22 bytes and 8-bit samples; one file in
    twenty is read.
    """
    (count,) = struct.unpack_from("<I", index)
    speech: list[tuple[int, int, int]] = []
    for at in range(4, 4 + 8 * count, 8):
        number, *rest = struct.unpack_from("<H6B", index, at)
        offset = rest[0] | rest[1] << 8 | rest[2] << 16
        size = rest[3] | rest[4] << 8 | (rest[5] & 0x3F) << 16
        start = (offset & 0x7FFFFF) << (4 if offset >> 23 else 0)
        packed = disk[start + SKY_HEADER : start + SKY_HEADER + 3] == b"RNC"
        if number in SKY_SPEECH and packed and not rest[5] >> 7:
            speech.append((number, start, size))
    for number, start, size in sorted(speech)[::SKY_STEP]:
        unpacked = unpack_rnc(disk[start + SKY_HEADER : start + size])
        yield f"{number}", unpacked[SKY_HEADER:]


def read_members(archive: Path, reader: str, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of a source's recordings, by its reader."""
    if reader == "nested":
        yield from nested_members(archive, pattern)
        return
    found = members(archive, pattern)
    if reader == "queen":
        for _, content in found:
            yield from queen_files(content)
    elif reader == "sky":
        (_, index), (_, disk) = found
        yield from sky_files(index, disk)
    else:
        yield from found
