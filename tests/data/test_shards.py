"""Shards: what went in comes out, to the bit, and a changed shard is told by its name."""

import json
import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from specenhance.audio import AudioError
from specenhance.data import AudioDataset, open_data
from specenhance.data.check import check_sounds
from specenhance.data.few import few
from specenhance.data.layout import SPLITS
from specenhance.data.shards import ShardedSounds, write_shards

webdataset = pytest.importorskip("webdataset")


def splits(name, **options):
    return {split: open_data(name, split, **options) for split in SPLITS}


def in_shards(parts, folder, **options):
    seconds = {split: check_sounds(data).seconds for split, data in parts.items()}
    write_shards(parts, folder, seconds=seconds, **options)
    return {split: ShardedSounds(folder, split) for split in parts}


def assert_same(data, sharded, root=None):
    """Every sound, by its name, as it was."""
    assert sharded.classes == data.classes
    assert sharded.multi_label == data.multi_label
    names = [
        data.paths[i].relative_to(root).as_posix() + data.fragment(i) if root else data.name(i)
        for i in range(len(data))
    ]
    assert sorted(sharded.names) == sorted(names)
    place = {name: i for i, name in enumerate(names)}
    for i, name in enumerate(sharded.names):
        there = place[name]
        assert sharded.labels[i] == data.labels[there]
        assert torch.equal(sharded.waveform(i), data.waveform(there))
        assert sharded.seconds[i] == pytest.approx(
            len(data.waveform(there)) / data.sample_rate, abs=0.1
        )  # an MP3 is a little longer
        for kind, groups in data.groups.items():
            assert sharded.groups[kind][i] == groups[there]


@pytest.fixture(scope="module")
def sharded_tones(tones, tmp_path_factory):
    """The tones in shards of two clips each."""
    folder = tmp_path_factory.mktemp("shards") / "tones"
    in_shards(splits("folder", root=tones), folder, root=tones, megabytes=0.016)
    return folder


def test_a_single_label_set_comes_back_as_it_was(tones, sharded_tones):
    for split, data in splits("folder", root=tones).items():
        sharded = ShardedSounds(sharded_tones, split)
        assert_same(data, sharded, tones)
        place = {path.relative_to(tones).as_posix(): i for i, path in enumerate(data.paths)}
        for i in range(len(sharded)):
            there = place[sharded.name(i)]
            assert torch.equal(sharded.excerpt(i, 0.1, 0.7), data.excerpt(there, 0.1, 0.7))
    assert len(list(sharded_tones.glob("train-*.tar"))) == 12


def test_several_labels_groups_and_strange_names_come_back(tmp_path):
    rows = ["path,label,split,site"]
    rng = np.random.default_rng(0)
    for number, (labels, suffix) in enumerate([("a;b", "wav"), ("", "flac"), ("b", "ogg"), ("a", "mp3")] * 3):
        name = f"sound ü {number}.{suffix}"
        soundfile.write(tmp_path / name, 0.1 * rng.standard_normal(22050), 22050)
        rows.append(f"{name},{labels},{SPLITS[number // 4]},site {number % 2}")
    Path(tmp_path, "t.csv").write_text("\n".join(rows), encoding="utf-8")
    parts = splits("folder", root=tmp_path, csv=tmp_path / "t.csv", multi_label=True)
    for split, sharded in in_shards(parts, tmp_path / "shards", root=tmp_path).items():
        assert_same(parts[split], sharded, tmp_path)
        assert set(sharded.groups) == {"site"}
        assert set(sharded.labels) == {(0, 1), (), (1,), (0,)}
        assert torch.equal(sharded.target(sharded.labels.index((1,))), torch.tensor([0.0, 1.0]))


def test_parts_of_recordings_become_sounds_of_their_own(tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(20 * 22050), 22050)
    lines = [f"a.wav,{start},{start + 1},{'ab'[start % 2]}" for start in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["file,start,end,label", *lines]))
    parts = splits("annotations", root=tmp_path, csv=tmp_path / "t.csv", arguments={"split_by": "time"})
    for split, sharded in in_shards(parts, tmp_path / "shards", root=tmp_path).items():
        assert_same(parts[split], sharded, tmp_path)
        assert not sharded.spans


def test_each_training_shard_has_all_classes(tmp_path):
    parts = splits("synthetic", arguments={"clips_per_class": 30})
    sharded = in_shards({"train": parts["train"]}, tmp_path / "s", megabytes=4)["train"]
    for block in range(int(sharded.blocks.max())):
        assert len({label for label, of in zip(sharded.labels, sharded.blocks, strict=True) if of == block}) == 10


def test_webdataset_reads_them_too(sharded_tones):
    found = list(webdataset.WebDataset(str(sharded_tones / "test-000000.tar"), shardshuffle=False, empty_check=False))
    assert len(found) == 2
    for sample in found:
        about = json.loads(sample["json"])
        assert about["name"].startswith(f"test/{about['label']}/")
        assert sample["wav"][:4] == b"RIFF"


def test_a_part_of_the_shards_keeps_what_belongs_to_each_clip(sharded_tones):
    whole = ShardedSounds(sharded_tones, "train")
    for part in (whole.subset([5, 3]), few(whole, 1), whole.renumbered(["x", "y", "z"], [2, 1, 0])):
        for i, name in enumerate(part.names):
            there = whole.names.index(name)
            assert part.blocks[i] == whole.blocks[there]
            assert part.seconds[i] == whole.seconds[there]
            assert torch.equal(part.waveform(i), whole.waveform(there))
        assert part.checksum == whole.checksum


# What is wrong with a shard


@pytest.fixture
def copied(sharded_tones, tmp_path):
    return shutil.copytree(sharded_tones, tmp_path / "copied")


def test_a_changed_byte_is_told_by_shard_and_sound(copied):
    path = copied / "test-000001.tar"
    content = bytearray(path.read_bytes())
    content[content.index(b"RIFF") + 5000] ^= 1
    path.write_bytes(content)
    data = ShardedSounds(copied, "test")
    bad = check_sounds(data, thorough=True).faults
    assert len(bad) == 1
    with pytest.raises(
        AudioError, match=r"test-000001\.tar: damaged, the bytes of the sound test/\w+/\d\.wav in it have"
    ):
        data.waveform(next(iter(bad)))
    assert not check_sounds(ShardedSounds(copied, "validation"), thorough=True).faults


def test_a_cut_or_missing_shard_is_told_before_a_sound_is_read(copied):
    path = copied / "train-000003.tar"
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(ValueError, match=r"train-000003\.tar: has 19,\d+ bytes, and had 20,480 when it was made"):
        ShardedSounds(copied, "train")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"train-000003\.tar: this shard is missing"):
        ShardedSounds(copied, "train")


def test_a_changed_index_is_told(copied):
    table = copied / "train.jsonl"
    table.write_text(table.read_text().replace("train/low/0.wav", "train/low/1.wav"))
    with pytest.raises(ValueError, match=r"train\.jsonl: is not the table that index\.json names"):
        ShardedSounds(copied, "train")
    (copied / "index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"index\.json: is no index of shards"):
        ShardedSounds(copied, "train")
    (copied / "index.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"index\.json: not there"):
        ShardedSounds(copied, "train")


def test_without_webdataset_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ImportError, match="making shards needs webdataset: pip install webdataset"):
        write_shards({"train": AudioDataset(["a"], [])}, tmp_path / "s")
    assert not list(tmp_path.iterdir())


def test_local_shards_are_read_without_webdataset(sharded_tones, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    assert len(ShardedSounds(sharded_tones, "test").waveform(0)) == 4000


# At a URL


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.asked.append(self.path)


@pytest.fixture
def served(copied):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(copied)))
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", server.asked, copied
    server.shutdown()


@pytest.mark.skipif(not shutil.which("curl"), reason="WebDataset fetches by curl")
def test_shards_at_a_url_are_fetched_once_and_only_what_fits_is_kept(served, sharded_tones, tmp_path):
    url, asked, _ = served
    here = ShardedSounds(sharded_tones, "train")
    far = ShardedSounds(url, "train", cache=str(tmp_path / "cache"), cache_gb=5 * 20480 / 1e9)
    assert not any(".tar" in path for path in asked)
    for i in range(len(here)):  # in order: each shard once
        assert torch.equal(far.waveform(i), here.waveform(i))
    tars = [path for path in asked if ".tar" in path]
    assert len(tars) == len(set(tars)) == 12
    assert len(list((tmp_path / "cache").rglob("*.tar"))) == 5
    assert torch.equal(far.waveform(0), here.waveform(0))  # fetched again
    assert far.checksum == here.checksum


@pytest.mark.skipif(not shutil.which("curl"), reason="WebDataset fetches by curl")
def test_what_a_server_does_not_have_is_told_by_its_url(served, tmp_path):
    url, _, folder = served
    data = ShardedSounds(url, "test", cache=str(tmp_path / "cache"))
    path = folder / "test-000000.tar"
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.raises(ValueError, match=rf"{url}/test-000000\.tar: 19,968 bytes came, and it had 20,480"):
        data.waveform(0)
    path.unlink()
    with pytest.raises(OSError, match=rf"{url}/test-000000\.tar: cannot be fetched"):
        data.waveform(0)
    with pytest.raises(
        ValueError, match=r"pipe://touch x/index\.json: expected a folder, or a URL with one of http, https"
    ):
        ShardedSounds("pipe://touch x", "test")
    with pytest.raises(OSError, match=rf"{url}/none/index\.json: cannot be fetched"):
        ShardedSounds(f"{url}/none", "test", cache=str(tmp_path / "cache"))
    assert not list((tmp_path / "cache").rglob("*.tar"))
