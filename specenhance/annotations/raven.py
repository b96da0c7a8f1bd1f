"""Annotations as selection tables of Raven Pro and Raven Lite: separated by tabs, one table for a sound.

Source: K. Lisa Yang Center for Conservation Bioacoustics, Raven Pro 1.6 User's Manual, on selection tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from specenhance.annotations.annotation import Annotation, columns_of, exact, from_cells, number_text
from specenhance.annotations.csv_table import armed, disarmed

__all__ = ["MARK", "reading", "writing"]

MARK = "Begin Time (s)"
"""A column that every selection table has."""

HEADER = (
    "Selection",
    "View",
    "Channel",
    MARK,
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Begin Path",
    "Begin File",
    "Label",
    "Probability",
)
OFFSET = "File Offset (s)"  # where a selection starts in its own file, if the sound in Raven is of several files
BAND = 1000.0  # Hz above the low frequency; a box must have a height


@contextmanager
def writing(
    path: Path, *, frequencies: bool = True, top: float | None = None
) -> Iterator[Callable[[Annotation], None]]:
    """Give a function that writes an annotation to a new selection table.

    Raven has no selection without frequencies: a missing low one is written as 0, a missing high one as ``top``. A label that
    a spreadsheet would run as a formula has an apostrophe before it, which :func:`reading` takes away.

    Args:
        path: The file.
        frequencies: Ignored, because the table always has them.
        top: Frequency in Hz for an annotation without a high one, such as half of the sample rate. The default is 1000 above
            the low one.

    Raises:
        ValueError: when an annotation is written whose file or label holds characters that are not visible.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder, "a.selections.txt"), top=8000) as write:
    ...         write(Annotation("site/a.wav", 0, 1.5, "wren", 0.25))
    ...     print(Path(folder, "a.selections.txt").read_text().expandtabs(1))
    ...     list(reading(Path(folder, "a.selections.txt"), sound=str))
    Selection View Channel Begin Time (s) End Time (s) Low Freq (Hz) High Freq (Hz) Begin Path Begin File Label Probability
    1 Spectrogram 1 1 0.0 1.5 0.0 8000.0 site/a.wav a.wav wren 0.25
    <BLANKLINE>
    [Annotation(file='site/a.wav', start=0.0, end=1.5, label='wren', probability=0.25, low=0.0, high=8000.0)]
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("\t".join(HEADER) + "\n")
        number = 0

        def write(one: Annotation) -> None:
            nonlocal number
            number += 1
            low = one.low or 0.0
            high = one.high if one.high is not None else top if top is not None and top > low else low + BAND
            sound = exact(one.file, "file", "Raven")
            cells = [
                str(number),
                "Spectrogram 1",
                "1",
                *map(number_text, (one.start, one.end, low, high)),
                armed(sound),
                armed(PurePath(sound).name),
                armed(exact(one.label, "label", "Raven")),
                "" if one.probability is None else number_text(one.probability),
            ]
            file.write("\t".join(cells) + "\n")

        yield write


def reading(path: Path, sound: Callable[[str], str], label: str | None = None) -> Iterator[Annotation]:
    """Read a selection table. Rows of the waveform's view, which repeat those of the spectrogram, are left out.

    Args:
        path: The table.
        sound: Gives the path of the sound file from the cell "Begin File", which is empty if the table has none. A cell
            "Begin Path" is taken as it is.
        label: Name of the column with the labels. The default is the first of :data:`COLUMNS` that the table has.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a missing column, a row that makes no sense, or a file that is no text in UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            names = file.readline().rstrip("\n").split("\t")
            columns = columns_of(names, path, ("start", "end") if label is not None else ("start", "end", "label"))
            if label is not None:
                if label not in names:
                    raise ValueError(f"{path}: no column {label}; it has {', '.join(names)}")
                columns["label"] = label
            views: set[tuple[str, ...]] = set()
            for number, line in enumerate(file, 2):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                row = dict(zip(names, line.rstrip("\n").split("\t"), strict=False))
                # Raven writes a row for each view of a selection, with the same number and times.
                same = tuple(row.get(name, "") for name in ("Selection", MARK, "End Time (s)", "Begin Path", "Channel"))
                if "Selection" in names and same in views:
                    continue
                views.add(same)
                cells = {name: disarmed(row.get(column, "")) for name, column in columns.items()}
                cells["file"] = disarmed(row.get("Begin Path", "")) or sound(disarmed(row.get("Begin File", "")))
                one = from_cells(cells, where)
                if row.get(OFFSET, "").strip():  # the sound in Raven is of several files
                    start = from_cells(cells | {"start": row[OFFSET], "end": row[OFFSET]}, where).start
                    one = one._replace(start=start, end=start + (one.end - one.start))
                yield one
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8 ({error}); save it as UTF-8") from error
