"""TOML, which Python reads by itself from 3.11 on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["parse_toml", "read_toml"]


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: for malformed TOML.

    >>> parse_toml("a = 1")
    {'a': 1}
    """
    return tomllib.loads(text)


def read_toml(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read a file of TOML.

    Args:
        path: the file.
        kind: what it holds, and what was expected, for the error if there is no such file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for malformed TOML, or text in another encoding than UTF-8. The message has no path.
    """
    try:
        return parse_toml(
            Path(path).read_text(encoding="utf-8-sig")
        )  # -sig: some editors write a byte-order mark first
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such {kind}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"no text in UTF-8 ({error}); save it as UTF-8") from error
