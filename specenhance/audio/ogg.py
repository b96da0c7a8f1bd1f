"""The pages of an Ogg file. FFmpeg leaves out a page whose checksum is wrong, and gives no error."""

from __future__ import annotations

import zlib
from typing import BinaryIO, NamedTuple

__all__ = ["Pages", "read_pages"]

MARK = b"OggS"
HEADER = 27  # bytes in front of the segment lengths
LAST = 4  # the flag of a stream's last page
# Ogg's CRC has the polynomial of zlib's, but takes the bits of each byte in the other order.
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Pages(NamedTuple):
    """The result of :func:`read_pages`.

    Attributes:
        damage: Offset of the first byte that is not part of an intact page; None if all are intact.
        missing: Number of bytes by which the file is too short for its last page.
        finished: Whether the last page says that it is the last.
    """

    damage: int | None
    missing: int
    finished: bool


def read_pages(file: BinaryIO) -> Pages:
    """Check the structure and the checksum of each page of an Ogg file. What comes after the last page is ignored.

    Args:
        file: The file, opened for reading. Its position changes.

    >>> import io
    >>> read_pages(io.BytesIO(b"OggS" + bytes(22)))  # its header alone has 27 bytes
    Pages(damage=None, missing=1, finished=False)
    >>> read_pages(io.BytesIO(b"OggS" + bytes(23)))  # 0 is not its checksum
    Pages(damage=0, missing=0, finished=False)
    """
    file.seek(0)
    at = max(0, file.read(1 << 16).find(MARK))  # there may be a tag in front of it
    file.seek(at)
    finished = False
    while header := file.read(HEADER):
        if not MARK.startswith(header[:4]):
            return Pages(None if finished and MARK not in header + file.read() else at, 0, finished)
        lengths = file.read(header[-1]) if len(header) == HEADER else b""
        content = file.read(sum(lengths))
        missing = HEADER - len(header) or header[-1] - len(lengths) or sum(lengths) - len(content)
        if missing:
            return Pages(None, missing, False)
        if _checksum(header[:22] + bytes(4) + header[26:] + lengths + content) != header[22:26]:
            return Pages(at, 0, finished)
        finished = bool(header[5] & LAST)
        at = file.tell()
    return Pages(None, 0, finished)


def _checksum(page: bytes) -> bytes:
    """Compute the checksum of a page, in whose header it is 0."""
    crc = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "big").translate(REVERSED)
