"""A power cut at any write loses an epoch at most, and never a run.

The disk is modelled by the rules that file systems keep, and no more: the content of a file survives from the last fsync of it
on, a new name from the last fsync of its folder on. What was written but not synced may be there, or be gone, or be empty.
"""

import os
import shutil
from pathlib import Path

import pytest
from test_run import QUIET, assert_same_end

from specenhance.training.run import resume, train


class Disk:
    """What a power cut would leave of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.synced: dict[str, bytes] = {}  # content by name, as it was when the file was last synced
        self.kept: dict[str, bytes] = {}  # what is certain to be found
        self.moves: list[tuple[str, str]] = []  # renames that may or may not be found
        self.cuts: list[dict[str, bytes]] = []  # what may be found, after each write

    def fsync(self, descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if os.path.isfile(path):
            self.synced[path] = Path(path).read_bytes()
            return
        for source, target in self.moves:
            self._move(self.kept, source, target)
        self.moves.clear()

    def replace(self, source: str, target: str) -> None:
        if not target.startswith(self.folder):
            return
        self.moves.append((source, target))
        for count in range(len(self.moves) + 1):  # none, some or all of the renames were on their way
            found = dict(self.kept)
            for move in self.moves[:count]:
                self._move(found, *move)
            if found not in self.cuts:
                self.cuts.append(found)

    def _move(self, found: dict[str, bytes], source: str, target: str) -> None:
        content = found.pop(source, None)
        found[target] = self.synced.get(source, b"") if content is None else content
        self.synced[target] = found[target]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not say which file a descriptor is of")
def test_a_power_cut_at_any_write_loses_an_epoch_at_most(quick, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    disk = Disk(whole)
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        fsync(descriptor)
        disk.fsync(descriptor)

    def noted_replace(source, target):
        replace(source, target)
        disk.replace(str(source), str(target))

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    train(quick.replace(epochs=2), whole, **QUIET)
    monkeypatch.undo()
    cuts = [cut for cut in disk.cuts if str(whole / "recipe.toml") in cut]
    assert len(cuts) > 12
    for number, cut in enumerate(cuts):
        run = tmp_path / f"cut{number}"
        for name, content in cut.items():
            assert content, name  # nothing is found empty
            place = run / Path(name).relative_to(whole)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        resume(run, **QUIET)
        assert_same_end(whole, run)
        shutil.rmtree(run)


@pytest.mark.parametrize("hurt", [b"", b"half a checkpoint", "flip"])
def test_a_checkpoint_that_cannot_be_read_gives_way_to_the_one_before(quick, tmp_path, hurt, news):
    train(quick, tmp_path / "whole", **QUIET)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    if hurt == "flip":
        content = bytearray(last.read_bytes())
        content[len(content) // 2] ^= 0xFF
        hurt = bytes(content)
    last.write_bytes(hurt)
    news.clear()
    resume(tmp_path / "run", device="cpu")
    assert any(f"{last} cannot be read" in line and "the checkpoint before it serves" in line for line in news)
    assert_same_end(tmp_path / "whole", tmp_path / "run")


def test_where_no_checkpoint_can_be_read_one_line_says_so(quick, tmp_path):
    train(quick.replace(epochs=2), tmp_path / "run", **QUIET)
    (tmp_path / "run" / "result.json").unlink()
    for name in ("last.ckpt", "previous.ckpt"):
        (tmp_path / "run" / "checkpoints" / name).write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"last\.ckpt cannot be read .*previous\.ckpt cannot be read .*start the training anew"
    ):
        resume(tmp_path / "run", **QUIET)


def test_best_weights_that_cannot_be_read_or_have_changed_are_named(quick, tmp_path):
    train(quick.replace(epochs=1), tmp_path / "run", **QUIET)
    (tmp_path / "run" / "result.json").unlink()
    best = tmp_path / "run" / "checkpoints" / "best.safetensors"
    whole = best.read_bytes()
    for content, what in ((b"", "cannot be read"), (whole[:-1] + bytes([whole[-1] ^ 1]), "damaged")):
        best.write_bytes(content)
        with pytest.raises(ValueError, match=rf'best\.safetensors.*{what}.*select = "last"'):
            resume(tmp_path / "run", **QUIET)
