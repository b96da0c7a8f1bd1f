"""Embeddings of many sounds, written and read as Parquet or NumPy's files, and the nearest neighbours of one among them."""

from __future__ import annotations

import base64
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np

from specenhance._choices import require
from specenhance._files import atomic_path, check_output, remove_leftovers
from specenhance._missing import missing
from specenhance._names import shown
from specenhance._version import __version__
from specenhance.annotations.parquet import pyarrow
from specenhance.detection.journal import Journal, journal_path
from specenhance.detection.predicting import Done, Told, results, window_and_hop, write_errors
from specenhance.detection.work import Job, Part, do, parts_of, processes, work_through

__all__ = ["Embeddings", "Neighbour", "Per", "Row", "embed_clip", "embed_sounds", "nearest", "read_embeddings"]

Per = Literal["window", "file"]
"""What has a row of its own."""

SUFFIXES = (".parquet", ".npz", ".npy")
ABOUT = b"specenhance"  # the key of a Parquet file's metadata
ROWS = 4096  # in a row group
DIGITS = 6


class Row(NamedTuple):
    """The stretch of a sound that an embedding is of.

    Attributes:
        file: Path of the sound file.
        start: Start, in seconds.
        end: End, in seconds.

    >>> Row("a.wav", 0.0, 1.0).file
    'a.wav'
    """

    file: str
    start: float
    end: float


class Embeddings(NamedTuple):
    """Embeddings as :func:`read_embeddings` gives them.

    Attributes:
        rows: What each embedding is of.
        vectors: The embeddings, float32 ``(rows, features)``.
        about: What made them: ``run``, the checksum ``model``, ``window`` and ``hop`` in seconds.
    """

    rows: list[Row]
    vectors: np.ndarray
    about: dict[str, Any]


class Neighbour(NamedTuple):
    """One of the nearest stretches of sound.

    Attributes:
        row: The stretch.
        similarity: Cosine of the angle between the embeddings, from -1 to 1.
    """

    row: Row
    similarity: float


class _Collector:
    """Keep the embeddings of one sound: of each window, or their mean."""

    def __init__(self, per: Per) -> None:
        self.per = per
        self._kept: list[tuple[float, float, np.ndarray]] = []
        self._sum: np.ndarray | None = None
        self._windows, self._end = 0, 0.0

    def add(self, start: float, end: float, row: np.ndarray) -> None:
        if self.per == "window":
            self._kept.append((start, end, row.astype("<f4")))
            return
        exact = row.astype(np.float64)
        self._sum = exact if self._sum is None else self._sum + exact
        self._windows, self._end = self._windows + 1, end

    def result(self) -> list[list[Any]]:
        if self._sum is not None:
            self._kept = [(0.0, self._end, (self._sum / self._windows).astype("<f4"))]
        return [
            [round(start, DIGITS), round(end, DIGITS), base64.b64encode(row.tobytes()).decode()]
            for start, end, row in self._kept
        ]


def embed_sounds(
    open_model: Callable[[], Any],
    sounds: Sequence[str],
    out: str | os.PathLike[str],
    *,
    about: Mapping[str, Any],
    per: Per = "window",
    window: float | None = None,
    hop: float | None = None,
    batch_size: int = 32,
    jobs: int | None = None,
    allow_truncated: bool = False,
    told: Told = lambda sounds, seconds: None,
) -> Done:
    """Write the embeddings of sounds, one row for each window or for each file. A call that was killed goes on.

    Args:
        open_model: Opens a model with ``batch_embeddings``, such as :class:`specenhance.inference.Embedding`.
        sounds: Paths of sound files.
        out: The file. ``.parquet`` has the columns file, start, end and embedding; ``.npz`` the arrays of these names;
            ``.npy`` only the embeddings, with ``NAME.rows.json`` beside it.
        about: What made them, as JSON has it: ``run``, and the checksum ``model``.
        per: ``"window"``, or ``"file"`` for the mean over the windows of a file.
        window: Length of a window, in seconds. The default is that of the training clips.
        hop: Time from one window to the next, in seconds. The default is the window.
        batch_size: Number of windows that are computed together.
        jobs: Number of processes. The default is one for every two cores.
        allow_truncated: Whether to use incomplete files too, as far as they can be read.
        told: As for :func:`specenhance.detection.predicting.predict_sounds`.

    It raises as :func:`specenhance.detection.predicting.predict_sounds`.
    """
    out = Path(out)
    check_suffix(out)
    require("per", per, Per)
    check_output(out)
    if out.suffix == ".parquet":
        pyarrow()
    model = open_model()
    samples, step = window_and_hop(model, window, hop)
    job = Job(
        open_model, _embeddings, partial(_Collector, per), model.sample_rate, samples, step, batch_size, allow_truncated
    )
    settings = {
        "version": __version__,
        "model": about["model"],
        "--per": per,
        "--window": samples / model.sample_rate,
        "--hop": step / model.sample_rate,
        "--batch-size": batch_size,
        "--allow-truncated": allow_truncated,
    }
    described = {**about, "window": settings["--window"], "hop": settings["--hop"], "per": per}
    parts = parts_of(sounds, batch_size)
    with Journal(journal_path(out), settings) as journal:
        for part in parts:
            if part.key in journal:
                told(len(part.sounds), 0.0)
        work_through(job, parts, journal, processes() if jobs is None else jobs, told, model)
        done = _write(out, parts, journal, described)
        journal.remove()
    return done


def check_suffix(out: Path) -> None:
    """Refuse a file for embeddings whose name says no format.

    Raises:
        ValueError: for another suffix.

    >>> check_suffix(Path("emb.csv"))
    Traceback (most recent call last):
    ValueError: emb.csv: expected a name that ends in .parquet, .npz, .npy
    """
    if out.suffix not in SUFFIXES:
        raise ValueError(f"{out}: expected a name that ends in {', '.join(SUFFIXES)}")


def embed_clip(model: Any, clip: str, about: Mapping[str, Any]) -> np.ndarray:
    """Embed one sound as the embeddings of a file were made: the mean over its windows, float32 ``(features,)``.

    Args:
        model: As ``open_model`` of :func:`embed_sounds` gives it.
        clip: Path of the sound file.
        about: What made the embeddings.

    Raises:
        ValueError: if the sound cannot be read.
    """
    samples, step = window_and_hop(model, about.get("window"), about.get("hop"))
    job = Job(lambda: model, _embeddings, partial(_Collector, "file"), model.sample_rate, samples, step)
    (found,) = do(job, model, [clip])
    if "error" in found:
        raise ValueError(found["error"])
    return _vector(found["result"][0][2])


def nearest(found: Embeddings, query: np.ndarray, top: int = 10) -> list[Neighbour]:
    """Find the embeddings that are most similar to one, by scikit-learn.

    Args:
        found: The embeddings.
        query: One embedding ``(features,)``.
        top: How many.

    Returns:
        The nearest ones, the most similar first.

    Raises:
        ImportError: if scikit-learn is missing.
        ValueError: for an embedding of another size.

    >>> rows = [Row("a.wav", 0, 1), Row("b.wav", 0, 1)]
    >>> found = Embeddings(rows, np.float32([[0, 1], [1, 1]]), {})
    >>> [(one.row.file, round(one.similarity, 3)) for one in nearest(found, np.float32([0, 2]))]
    [('a.wav', 1.0), ('b.wav', 0.707)]
    """
    try:
        from sklearn.neighbors import NearestNeighbors
    except ImportError as error:
        raise missing(error, "the search for neighbours needs scikit-learn", "scikit-learn") from error
    if query.shape != found.vectors.shape[1:]:
        raise ValueError(f"an embedding of {len(query)} numbers: those in the file have {found.vectors.shape[1]}")
    neighbours = NearestNeighbors(n_neighbors=min(top, len(found.rows)), metric="cosine", algorithm="brute")
    distances, places = neighbours.fit(found.vectors).kneighbors(query[None])
    return [
        Neighbour(found.rows[int(place)], 1.0 - float(distance))
        for place, distance in zip(places[0], distances[0], strict=True)
    ]


def read_embeddings(path: str | os.PathLike[str]) -> Embeddings:
    """Read a file that :func:`embed_sounds` wrote.

    Raises:
        FileNotFoundError: if there is no such file, or no list of rows beside a ``.npy``.
        ValueError: for a file that is none of embeddings.
        ImportError: for Parquet without pyarrow.

    >>> read_embeddings("none.npz")
    Traceback (most recent call last):
    FileNotFoundError: none.npz: no such file of embeddings; specenhance embed RUN PATH... --out none.npz writes one
    """
    path = Path(path)
    check_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file of embeddings; specenhance embed RUN PATH... --out {path} writes one"
        )
    try:
        if path.suffix == ".parquet":
            arrow = pyarrow()
            table = arrow.parquet.read_table(path)
            about = json.loads(table.schema.metadata[ABOUT])
            rows = list(map(Row, *(table[name].to_pylist() for name in Row._fields)))
            flat = table["embedding"].combine_chunks().flatten().to_numpy()
            vectors = flat.reshape(len(rows), -1)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                about = json.loads(str(arrays["about"]))
                rows = list(map(Row, *(arrays[name].tolist() for name in Row._fields)))
                vectors = arrays["embedding"]
        else:
            beside = _rows_path(path)
            if not beside.is_file():
                raise FileNotFoundError(
                    f"{path}: {beside.name} is missing, which says what its rows are; copy both files"
                )
            listed = json.loads(beside.read_text(encoding="ascii"))
            about, rows = listed["about"], [Row(*row) for row in listed["rows"]]
            vectors = np.load(path, allow_pickle=False)
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: is no file of embeddings ({shown(error)}); write it by specenhance embed") from error
    if len(vectors) != len(rows) or not rows:
        raise ValueError(f"{path}: {len(rows)} rows for {len(vectors)} embeddings; write it again by specenhance embed")
    return Embeddings(rows, vectors, about)


def _write(out: Path, parts: Sequence[Part], journal: Journal, about: Mapping[str, Any]) -> Done:
    """Write the file from the journal, sound by sound, in constant memory."""
    errors: list[tuple[str, str]] = []
    sounds, rows, seconds, width = 0, 0, 0.0, 0
    for sound, found in results(parts, journal):
        sounds += 1
        if "error" in found:
            errors.append((sound, found["error"]))
            continue
        rows, seconds = rows + len(found["result"]), seconds + found["seconds"]
        width = len(_vector(found["result"][0][2]))

    def every() -> Iterator[tuple[Row, np.ndarray]]:
        for sound, found in results(parts, journal):
            for start, end, text in found.get("result", ()):
                yield Row(sound, start, end), _vector(text)

    remove_leftovers(out.parent, out.stem)
    with atomic_path(out) as temporary:
        if out.suffix == ".parquet":
            _write_parquet(temporary, every(), width, about)
        elif out.suffix == ".npz":
            with zipfile.ZipFile(temporary, "w") as archive:
                with _member(archive, "embedding") as file:
                    _write_array(file, every(), rows, width)
                kept = [row for row, _ in every()]
                arrays = {"file": [row.file for row in kept], "about": json.dumps(about)}
                for name, values in (
                    *arrays.items(),
                    ("start", [r.start for r in kept]),
                    ("end", [r.end for r in kept]),
                ):
                    with _member(archive, name) as file:
                        np.lib.format.write_array(file, np.array(values), allow_pickle=False)
        else:
            with temporary.open("wb") as file:
                _write_array(file, every(), rows, width)
            with atomic_path(_rows_path(out)) as beside, beside.open("w", encoding="ascii") as text:
                text.write('{"about": ' + json.dumps(about) + ', "rows": [')
                for number, (row, _) in enumerate(every()):
                    text.write(("," if number else "") + "\n" + json.dumps(list(row)))
                text.write("]}\n")
        write_errors(out, errors)
    return Done(sounds, len(errors), rows, seconds)


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    """Open an array of an archive. Its time is fixed, so that the same embeddings are the same bytes."""
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)


def _write_array(file: BinaryIO, every: Iterator[tuple[Row, np.ndarray]], rows: int, width: int) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(file, header)
    for _, vector in every:
        file.write(vector.tobytes())


def _write_parquet(path: Path, every: Iterator[tuple[Row, np.ndarray]], width: int, about: Mapping[str, Any]) -> None:
    arrow = pyarrow()
    names = [("file", arrow.string()), ("start", arrow.float64()), ("end", arrow.float64())]
    schema = arrow.schema([*names, ("embedding", arrow.list_(arrow.float32(), max(1, width)))])
    schema = schema.with_metadata({ABOUT: json.dumps(about)})
    rows: list[Row] = []
    vectors: list[np.ndarray] = []
    with arrow.parquet.ParquetWriter(path, schema) as writer:

        def flush() -> None:
            if rows:
                try:
                    columns = [
                        arrow.array(column, kind.type)
                        for column, kind in zip(zip(*rows, strict=True), schema, strict=False)
                    ]
                except UnicodeEncodeError as error:
                    raise ValueError(
                        f"{path}: a file's name is no valid Unicode ({error}); rename it, or write .npz"
                    ) from error
                flat = arrow.array(np.concatenate(vectors))
                columns.append(arrow.FixedSizeListArray.from_arrays(flat, width))
                writer.write_table(arrow.table(columns, schema=schema))
                rows.clear()
                vectors.clear()

        for row, vector in every:
            rows.append(row)
            vectors.append(vector)
            if len(rows) == ROWS:
                flush()
        flush()


def _rows_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.rows.json")


def _vector(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def _embeddings(model: Any, batch: np.ndarray) -> np.ndarray:
    return model.batch_embeddings(batch)
