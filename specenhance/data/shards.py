"""Shards: the clips of any data set in a few large files, for data sets of millions of clips and for data far away.

A shard is a tar file as WebDataset writes it. For each clip it holds ``NUMBER.SUFFIX``, the sound file as it is, and
``NUMBER.json``, the clip's name and labels. So every program that knows WebDataset reads shards. ``index.json`` and one table
for each split say where in the shards each clip lies. So clips are read by their number, in any order, as from a folder of
files.

litdata's shards were measured beside them (``benchmarks/shards.py``). In order they are read as fast. In any other order they
are read half as fast, decoding included: its reader expects its own order. A run that resumes to the same digits needs ours.
litdata also brings 57 MB of packages, WebDataset one. WebDataset's own access by number, wids, is no part of WebDataset 1.0 any
more; the offsets in the tables take its place.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from specenhance._files import atomic_folder, atomic_path, is_url, write_bytes
from specenhance._missing import missing
from specenhance.audio import AudioError, SoundBytes
from specenhance.data.audio import read_audio
from specenhance.data.base import AudioDataset, Label
from specenhance.data.layout import check_split, require_folder
from specenhance.data.registry import register_data

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ShardedSounds", "write_shards"]

INDEX, VERSION = "index.json", 1
CURE = "copy it again, or make the shards anew: specenhance shard"
# WebDataset opens other kinds too, and one of them runs any command of the shell: a recipe from a stranger must not do that.
FAR = ("http", "https", "gs", "hf", "sftp", "ftps")
TRIES = 3  # to open a fetched shard, which another process may remove for want of space

_log = logging.getLogger(__name__)


# 0 in a recipe stands for a value that is fitted to the training clips. What the source data set has otherwise is in the index.
@register_data("shards", frames=0, epochs=0, batch_size=0, crop="random", time_mask=16, freq_mask=16, shift=10)
class ShardedSounds(AudioDataset):
    """The sounds of a split, out of the shards that :func:`write_shards` or ``specenhance shard`` has made.

    ``blocks`` has the shard of each sound: training reads the shards one after the other, eight at a time. Each sound is
    compared with its checksum when it is read.

    Shards at a URL are fetched when they are needed, by WebDataset: ``http``, ``https``, ``gs``, ``hf``, ``sftp`` or ``ftps``.

    Args:
        root: Folder of the shards, or its URL.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        sample_rate: Sample rate of the waveforms, in Hz.
        cache: Folder for shards that are fetched. The default is ``specenhance/shards`` in the user's cache.
        cache_gb: Maximum size of the fetched shards there, in gigabytes. Those unused for the longest time are removed.

    Raises:
        FileNotFoundError: for a missing folder, index, table or shard.
        ValueError: for an index or a table that has changed, and a shard of another size than when it was made.
        OSError: for a URL that cannot be read.
        ImportError: for a URL without webdataset.

    >>> import tempfile
    >>> from specenhance.data import SyntheticSounds
    >>> data = SyntheticSounds("test", clips_per_class=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = write_shards({"test": data}, f"{folder}/shards")
    ...     sharded = ShardedSounds(f"{folder}/shards", "test")
    ...     same = bool((sharded.waveform(3) == data.waveform(3)).all())
    >>> same, sharded.classes == data.classes, sharded.name(3), [int(block) for block in sharded.blocks[:3]]
    (True, True, 'clip 3', [0, 0, 0])
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        sample_rate: int = 16000,
        cache: str = "",
        cache_gb: float = 20.0,
    ) -> None:
        check_split(split)
        if not cache_gb > 0:
            raise ValueError(f"cache_gb = {cache_gb}: expected gigabytes above 0")
        text = _read_index(root)
        index = _parsed(text, f"{root}/{INDEX}")
        if split not in index["splits"]:
            raise ValueError(
                f"{root}/{INDEX}: no split {split!r}, only {', '.join(index['splits'])}; shard a data set with it"
            )
        self.checksum = hashlib.sha256(text).hexdigest()
        self._store = _Store.of(root, cache, cache_gb, self.checksum)
        about = index["splits"][split]
        rows = list(self._rows(about))
        labels: list[Label] = [
            tuple(label) if isinstance(label, list) else label for row in rows for label in row["labels"]
        ]
        known: dict[Label, Label] = {}  # two million clips have a few thousand sets of labels
        super().__init__(index["classes"], [known.setdefault(label, label) for label in labels], (), sample_rate)
        self.names = [name for row in rows for name in row["names"]]
        kinds = rows[0]["groups"] if rows else {}
        self.groups = {kind: [group for row in rows for group in row["groups"][kind]] for kind in kinds}
        self._shards = [(row["shard"], row["bytes"]) for row in rows]
        self._check_shards()
        self.blocks = np.repeat(np.arange(len(rows)), [len(row["names"]) for row in rows])  # type: ignore[assignment]
        self.seconds = np.array([x for row in rows for x in row["seconds"]])  # type: ignore[assignment]
        columns = [[x for row in rows for x in row[name]] for name in ("offsets", "sizes", "crc32")]
        self._places = np.array(columns, np.int64).T.reshape(-1, 3)  # where in its shard each sound is

    @staticmethod
    def own_defaults(root: str) -> dict[str, Any]:
        """Give the recipe fields that the data set had from which the shards were made.

        >>> ShardedSounds.own_defaults("no such folder")
        {}
        """
        if not is_url(root) and not Path(root, INDEX).is_file():
            return {}
        return dict(_parsed(_read_index(root), f"{root}/{INDEX}")["recipe"])

    def _rows(self, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        path = self._store.path(about["table"])
        digest = hashlib.sha256()
        with _opened(path) as file:
            rows = []
            for line in file:
                digest.update(line)
                rows.append(line)
        if digest.hexdigest() != about["sha256"]:
            raise ValueError(f"{path}: is not the table that {INDEX} names, it has changed or is cut off; {CURE}")
        return map(json.loads, rows)

    def _check_shards(self) -> None:
        for name, size in self._shards if self._store.cache is None else ():
            path = self._store.path(name)
            if not path.is_file():
                raise FileNotFoundError(f"{path}: this shard is missing; {CURE}")
            if path.stat().st_size != size:
                raise ValueError(
                    f"{path}: has {path.stat().st_size:,} bytes, and had {size:,} when it was made: it is cut off or changed; "
                    f"{CURE}"
                )

    def _sound(self, i: int) -> SoundBytes:
        shard, size = self._shards[self.blocks[i]]
        start, length, crc = self._places[i].tolist()
        for attempt in range(TRIES):
            path = self._store.path(shard, size)
            try:
                with path.open("rb") as file:
                    file.seek(start)
                    content = file.read(length)
                break
            except FileNotFoundError:
                if attempt == TRIES - 1:
                    raise FileNotFoundError(f"{path}: this shard is missing; {CURE}") from None
        if zlib.crc32(content) != crc:
            raise AudioError(f"{path}: damaged, the bytes of the sound {self.names[i]} in it have changed; {CURE}")
        return SoundBytes(f"{path}: {self.names[i]}", content)

    def waveform(self, i: int) -> Tensor:
        """Read sound ``0 <= i < len(self)``, float32 ``(samples,)``.

        Raises:
            AudioError: for a damaged shard.
            FileNotFoundError, OSError: for a shard that is gone or cannot be fetched.
        """
        return read_audio(self._sound(i), self.sample_rate, allow_truncated=self.allow_truncated)

    def excerpt(self, i: int, seconds: float, place: float = 0.0) -> Tensor:
        """Read a part of a sound, as :meth:`AudioDataset.excerpt`. It raises as :meth:`waveform`."""
        truncated = self.allow_truncated
        return read_audio(self._sound(i), self.sample_rate, seconds=seconds, place=place, allow_truncated=truncated)

    def subset(self, chosen: Sequence[int]) -> AudioDataset:
        """Make a data set of only the chosen sounds, in the order of ``chosen``."""
        part = super().subset(chosen)
        part.seconds, part.blocks = self.seconds[chosen], self.blocks[chosen]  # type: ignore[call-overload]
        return part


class _Store:
    """The files of a set of shards, in a folder or at a URL. Those of a URL are kept in a folder once they are fetched."""

    def __init__(self, place: str, cache: Path | None, most: float) -> None:
        self.place, self.cache, self.most = place, cache, most
        self._last = ""

    @classmethod
    def of(cls, root: str | os.PathLike[str], cache: str, gigabytes: float, checksum: str) -> _Store:
        if not is_url(root):
            return cls(os.fspath(root), None, 0)
        folder = Path(cache) if cache else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "specenhance", "shards")
        return cls(os.fspath(root), folder.expanduser() / checksum[:16], 1e9 * gigabytes)

    def path(self, name: str, size: int | None = None) -> Path:
        """Give the path of a file. It is fetched first, if it must be; ``size`` is what it has if it is whole, in bytes."""
        if re.fullmatch(r"[\w-]+\.(jsonl|tar)", name) is None:  # it becomes a path here
            raise ValueError(f"{self.place}/{INDEX}: {name!r} is no name of a shard or table; {CURE}")
        if self.cache is None:
            return Path(self.place, name)
        path = self.cache / name
        if name != self._last and path.is_file():
            path.touch()  # it is in use
        elif not path.is_file():
            self._fetch(path, size)
        self._last = name
        return path

    def _fetch(self, path: Path, size: int | None) -> None:
        try:
            from filelock import FileLock
        except ImportError as error:
            raise missing(error, "fetching shards needs filelock", "filelock") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # of several processes that need it, one fetches it
            if path.is_file():
                return
            url = f"{self.place.rstrip('/')}/{path.name}"
            with atomic_path(path) as temporary:
                with _fetching(url) as source, temporary.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                if size is not None and temporary.stat().st_size != size:
                    raise ValueError(
                        f"{url}: {temporary.stat().st_size:,} bytes came, and it had {size:,} when it was made; {CURE}"
                    )
        self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        """Remove the shards that were not used for the longest time, until the others fit."""
        found = []
        for path in newest.parent.glob("*.tar"):
            try:
                found.append((path.stat().st_mtime, path.stat().st_size, path))
            except FileNotFoundError:  # another process has removed it
                continue
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.most or path == newest:
                return
            path.unlink(missing_ok=True)
            total -= size


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: not there; {CURE}") from None
    with file:
        yield file


@contextmanager
def _fetching(url: str) -> Iterator[Any]:
    if url.partition("://")[0].lower() not in FAR:
        raise ValueError(f"{url}: expected a folder, or a URL with one of {', '.join(FAR)}")
    try:
        from webdataset.gopen import gopen
    except ImportError as error:
        raise missing(error, "reading shards at a URL needs webdataset", "webdataset") from error
    try:
        with gopen(url, "rb") as stream:
            yield stream
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and str(error).startswith(url):
            raise
        code = re.search(r"exit (\d+)", str(error))  # otherwise it shows how it called the program
        reason = f"the program that fetches it ended with code {code[1]}" if code else str(error)
        raise OSError(f"{url}: cannot be fetched ({reason}); is the address right, and the server there?") from error


def _read_index(root: str | os.PathLike[str]) -> bytes:
    if is_url(root):
        with _fetching(f"{os.fspath(root).rstrip('/')}/{INDEX}") as stream:
            return bytes(stream.read())
    with _opened(require_folder(Path(root), "shards of 'specenhance shard'") / INDEX) as file:
        return file.read()


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    try:
        index = json.loads(text)
        if index["specenhance shards"] != VERSION:
            raise ValueError(f"version {index['specenhance shards']!r}, expected {VERSION}")
        if not isinstance(index["splits"], dict) or not isinstance(index["classes"], list):
            raise ValueError("it has no splits or classes")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: is no index of shards ({error}); {CURE}") from error
    return dict(index)


class _Row(NamedTuple):
    """The columns of one shard in the table of its split."""

    names: list[str]
    labels: list[Label]
    crc32: list[int]
    seconds: list[float]
    groups: dict[str, list[str]]


def write_shards(
    parts: Mapping[str, AudioDataset],
    folder: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "",
    seconds: Mapping[str, Sequence[float]] | None = None,
    recipe: Mapping[str, Any] | None = None,
    megabytes: float = 100.0,
) -> dict[str, int]:
    """Write a data set as shards.

    Sound files are stored as they are. A part of a file, and a sound without a file, becomes a WAV of 32-bit floats at the data
    set's sample rate, which loses nothing. The training clips are shuffled first: so each shard has clips of all classes.

    Args:
        parts: The splits by name. They have the same classes.
        folder: Folder to write. It takes its place when it is whole.
        root: Folder of the sounds. Names in the shards are relative to it.
        seconds: Length of each sound of each split. Sounds are measured where it is not given.
        recipe: Fields of a recipe that training on the shards has as defaults.
        megabytes: Size from which on a new shard is begun.

    Returns:
        Number of shards of each split.

    Raises:
        ValueError: for a size of 0 or less.
        FileNotFoundError, AudioError: for a sound that cannot be read.
        ImportError: without webdataset.

    >>> import tempfile
    >>> from specenhance.data import SyntheticSounds
    >>> with tempfile.TemporaryDirectory() as place:
    ...     write_shards({"test": SyntheticSounds("test", clips_per_class=2)}, f"{place}/shards", megabytes=0.2)
    {'test': 5}
    """
    try:
        import webdataset
    except ImportError as error:
        raise missing(error, "making shards needs webdataset", "webdataset") from error
    if not megabytes > 0:
        raise ValueError(f"megabytes = {megabytes}: expected a size above 0")
    splits: dict[str, Any] = {}
    counts = {}
    with atomic_folder(folder) as temporary:
        for split, data in parts.items():
            lengths = data.seconds if seconds is None else seconds[split]
            table = io.StringIO()
            counts[split] = 0
            for places in _shards_of(split, data, temporary, webdataset.TarWriter, root, lengths, megabytes):
                table.write(json.dumps(places) + "\n")
                counts[split] += 1
            content = table.getvalue().encode()
            write_bytes(temporary / f"{split}.jsonl", content)
            digest = hashlib.sha256(content).hexdigest()
            splits[split] = {"clips": len(data), "table": f"{split}.jsonl", "sha256": digest}
            _log.info(f"{split}: {len(data):,} clips in {counts[split]:,} shards")
        first = next(iter(parts.values()))
        index = {
            "specenhance shards": VERSION,
            "classes": first.classes,
            "recipe": dict(recipe or {}),
            "splits": splits,
        }
        write_bytes(temporary / INDEX, json.dumps(index, indent=1).encode())
    return counts


def _shards_of(
    split: str,
    data: AudioDataset,
    folder: Path,
    writer: Any,
    root: str | os.PathLike[str],
    seconds: Sequence[float],
    megabytes: float,
) -> Iterator[dict[str, Any]]:
    """Write the shards of a split, and yield the row of each in the split's table."""
    order = np.random.default_rng(0).permutation(len(data)) if split == "train" else np.arange(len(data))
    waiting = iter(order.tolist())
    i = next(waiting, None)
    number = 0
    while i is not None:
        path = folder / f"{split}-{number:06d}.tar"
        row = _Row([], [], [], [], {kind: [] for kind in data.groups})
        written = 0
        with path.open("wb") as file, writer(file, encoder=False, mtime=0) as tar:
            while i is not None and (written < 1e6 * megabytes):
                content, suffix = _content(data, i)
                written += len(content)
                row.names.append(_name(data, i, root))
                row.labels.append(data.labels[i])
                row.crc32.append(zlib.crc32(content))
                row.seconds.append(float(seconds[i]) if len(seconds) else len(data.waveform(i)) / data.sample_rate)
                for kind, groups in data.groups.items():
                    row.groups[kind].append(groups[i])
                label: Label = data.labels[i]
                named = [data.classes[n] for n in label] if isinstance(label, tuple) else data.classes[label]
                about = json.dumps({"name": row.names[-1], "label": named}).encode()
                tar.write({"__key__": f"{i:09d}", suffix: content, "json": about})
                i = next(waiting, None)
        with tarfile.open(path) as whole:  # where each sound has come to lie
            members = [member for member in whole if not member.name.endswith(".json")]
        yield {
            "shard": path.name,
            "bytes": path.stat().st_size,
            "offsets": [member.offset_data for member in members],
            "sizes": [member.size for member in members],
            **row._asdict(),
        }
        number += 1


def _content(data: AudioDataset, i: int) -> tuple[bytes, str]:
    """Give the bytes of a sound file, and its suffix."""
    if data.paths and not data.spans:
        suffix = data.paths[i].suffix.lower().removeprefix(".")
        return data.paths[i].read_bytes(), suffix if re.fullmatch("[a-z0-9]+", suffix) and suffix != "json" else "sound"
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, data.waveform(i).numpy(), data.sample_rate, format="WAV", subtype="FLOAT")
    return file.getvalue(), "wav"


def _name(data: AudioDataset, i: int, root: str | os.PathLike[str]) -> str:
    if not data.paths:
        return data.name(i)
    try:
        return data.paths[i].relative_to(root).as_posix() + data.fragment(i)
    except ValueError:
        return data.paths[i].as_posix() + data.fragment(i)
