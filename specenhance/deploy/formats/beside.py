"""Metadata in a JSON file beside an exported file, for formats that hold none. It has the checksum of the exported file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specenhance._checksum import KEY
from specenhance._files import write_text

__all__ = ["Beside"]


class Beside:
    """The part of a format that takes one clip of a fixed length and keeps its metadata beside the file.

    Attributes:
        about: the metadata of the file that was written last.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "model.tflite"
    ...     _ = path.write_bytes(b"a model")
    ...     writer = Beside()
    ...     writer.about = {"classes": ["no", "yes"]}
    ...     writer.finish(path)
    ...     sorted(json.loads((Path(folder) / "model.tflite.labels.json").read_text()))
    ['classes', 'sha256']
    """

    fixed = True
    about: Mapping[str, Any] = {}

    def finish(self, path: Path) -> None:
        """Write the metadata beside a file that has its final path, with the SHA-256 of the file."""
        about = {**self.about, KEY: hashlib.sha256(path.read_bytes()).hexdigest()}
        write_text(path.with_name(f"{path.name}.labels.json"), json.dumps(about, indent=1, ensure_ascii=False) + "\n")
