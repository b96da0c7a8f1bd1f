"""Annotations as Audacity's labels: lines of start, end and label, separated by tabs; one file for a sound.

Source: Audacity Manual, "Importing and Exporting Labels".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from specenhance.annotations.annotation import Annotation, checked, exact, from_cells, number_text

__all__ = ["reading", "writing"]

FREQUENCIES = "\\"  # starts the second line of a label that has frequencies
UNKNOWN = -1.0  # what Audacity writes for a frequency that is not known


@contextmanager
def writing(path: Path, *, frequencies: bool = True) -> Iterator[Callable[[Annotation], None]]:
    """Give a function that writes an annotation to a new file of labels. The file and the probability are not written.

    Args:
        path: The file.
        frequencies: Whether a label that has frequencies gets a second line with them.

    Raises:
        ValueError: when an annotation is written whose label holds characters that are not visible.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder, "a.txt")) as write:
    ...         write(Annotation("a.wav", 0, 1.5, "wren", low=2000))
    ...     print(Path(folder, "a.txt").read_text().expandtabs(1))
    ...     list(reading(Path(folder, "a.txt"), "a.wav"))
    0.0 1.5 wren
    \\ 2000.0 -1.0
    <BLANKLINE>
    [Annotation(file='a.wav', start=0.0, end=1.5, label='wren', probability=None, low=2000.0, high=None)]
    """
    with path.open("w", encoding="utf-8", newline="") as file:

        def write(one: Annotation) -> None:
            label = exact(one.label, "label", "Audacity")
            file.write(f"{number_text(one.start)}\t{number_text(one.end)}\t{label}\n")
            if frequencies and (one.low is not None or one.high is not None):
                edges = [number_text(UNKNOWN if edge is None else edge) for edge in (one.low, one.high)]
                file.write("\t".join([FREQUENCIES, *edges]) + "\n")

        yield write


def reading(path: Path, sound: str) -> Iterator[Annotation]:
    """Read a file of labels.

    Args:
        path: The file.
        sound: Path of the sound file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a line that is no label, a label that makes no sense, or a file that is no text in UTF-8.
    """
    one: Annotation | None = None
    where = ""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                parts = line.rstrip("\n").split("\t", 2)
                if parts[0] == FREQUENCIES and one is not None and len(parts) == 3:
                    try:
                        low, high = (None if float(edge) < 0 else float(edge) for edge in parts[1:])
                    except ValueError:
                        raise ValueError(
                            f"{path}, line {number}: expected two frequencies in Hz after {FREQUENCIES}"
                        ) from None
                    one = checked(one._replace(low=low, high=high), f"{path}, line {number}")
                    continue
                if one is not None:
                    yield one
                    one = None
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                if len(parts) < 2:
                    raise ValueError(
                        f"{where}: expected start, end and label with tabs between; is it a file of labels?"
                    )
                cells = {"file": sound, "start": parts[0], "end": parts[1], "label": parts[2] if len(parts) > 2 else ""}
                one = from_cells(cells, where)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8 ({error}); save it as UTF-8") from error
    if one is not None:
        yield one
