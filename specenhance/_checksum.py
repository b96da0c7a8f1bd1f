"""A checksum inside the file that it is of: a file whose bytes have changed is refused, not believed.

ONNX and safetensors both keep text under a key. Under :data:`KEY` stands the SHA-256 of the whole file, taken with the
checksum's own 64 digits as zeros. So it covers weights, graph and class names alike, no second file can be lost, and reading it
takes the standard library only.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from pathlib import Path

__all__ = ["BLANK", "KEY", "check", "seal"]

KEY = "sha256"
BLANK = "0" * 64
"""What a writer puts under :data:`KEY` before :func:`seal`."""

# The key, three bytes (ONNX: a protobuf tag, a length, a quote; safetensors: quote, colon, quote), and the digits.
PLACE = re.compile(rb"sha256[^0-9a-f]{3}([0-9a-f]{64})")


def seal(path: str | os.PathLike[str]) -> None:
    """Write the checksum of a file into the file, in place; whoever changes a file on purpose seals it again.

    Raises:
        ValueError: for a file that has no place for one, or more than one.
    """
    with Path(path).open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        places = [match.start(1) for match in PLACE.finditer(data)]
        if len(places) != 1:
            raise ValueError(f"{path}: {len(places)} places for a checksum, expected 1; export or save it again")
        data[places[0] : places[0] + len(BLANK)] = _digest(data, places[0]).encode()


def check(path: str | os.PathLike[str], cure: str) -> bool:
    """Compare a file with its checksum; say whether it has one.

    Args:
        path: the file.
        cure: how to get a good one, for the message.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if its bytes are not those that were sealed.
    """
    if os.path.getsize(path) == 0:  # which cannot be mapped
        return False
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = PLACE.search(data)
        if place is None:
            return False
        found, expected = place[1].decode(), _digest(data, place.start(1))
    if found != expected:
        raise ValueError(f"{path}: damaged, its bytes do not give the checksum that it holds; {cure}")
    return True


def _digest(data: mmap.mmap, at: int) -> str:
    with memoryview(data) as view, view[:at] as before, view[at + len(BLANK) :] as after:
        digest = hashlib.sha256(before)
        digest.update(BLANK.encode())
        digest.update(after)
    return digest.hexdigest()
