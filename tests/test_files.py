"""Files are written whole or not at all."""

import os
import subprocess
import sys

import pytest

from specenhance._files import atomic_folder, atomic_path, check_output, remove_leftovers, write_text


def test_a_file_appears_when_the_block_ends_well(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old é")

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("no space left")

    with pytest.raises(RuntimeError, match="no space left"):
        fail()
    assert path.read_text(encoding="utf-8") == "old é"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_takes_its_place_whole(tmp_path):
    path = tmp_path / "new" / "folder"
    for text in ("first", "second"):
        with atomic_folder(path) as temporary:
            (temporary / text).write_text(text)
        assert [child.name for child in path.iterdir()] == [text]
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_old_folder(tmp_path):
    path = tmp_path / "folder"
    with atomic_folder(path) as temporary:
        (temporary / "a").touch()

    def fail():
        with atomic_folder(path) as temporary:
            (temporary / "b").touch()
            raise RuntimeError("no space left")

    with pytest.raises(RuntimeError, match="no space left"):
        fail()
    assert [child.name for child in path.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_its_name_and_its_name_before_the_block_ends(tmp_path, monkeypatch):
    """Without this order a power cut leaves files of 0 bytes."""
    events = []

    def note(name, call):
        def noted(*args):
            events.append((name, *(os.readlink(f"/proc/self/fd/{a}") if isinstance(a, int) else str(a) for a in args)))
            return call(*args)

        return noted

    monkeypatch.setattr(os, "fsync", note("fsync", os.fsync))
    monkeypatch.setattr(os, "replace", note("replace", os.replace))
    path = tmp_path / "a.txt"
    write_text(path, "content")
    (synced, temporary), (moved, source, target), (synced_folder, folder) = events
    assert (synced, moved, synced_folder) == ("fsync", "replace", "fsync")
    assert temporary == source
    assert (target, folder) == (str(path), str(tmp_path))
    events.clear()
    with atomic_folder(tmp_path / "folder") as made:
        (made / "deep").mkdir()
        (made / "deep" / "a").write_text("content")
    assert [event[0] for event in events] == ["fsync", "fsync", "fsync", "replace", "fsync"]
    assert {event[1].rpartition("/")[2] for event in events[:3]} == {made.name, "deep", "a"}


def test_files_have_the_rights_that_the_umask_gives(tmp_path):
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "a.txt", "content")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no device that is always full")
def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path):
    def fill():
        with atomic_path(tmp_path / "a.txt") as temporary:
            os.symlink("/dev/full", temporary)
            with open(temporary, "wb", buffering=0) as file:
                file.write(b"content")

    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\): '.*/a\.txt'"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_stays(tmp_path):
    code = """
import os, signal, sys
from specenhance._files import atomic_folder, atomic_path
with atomic_path(sys.argv[1] + "/a.txt") as file, atomic_folder(sys.argv[1] + "/b") as folder:
    file.write_text("half"); (folder / "c").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        (tmp_path / f".a.{living.pid}.tmp.txt").touch()
        (tmp_path / ".hidden").touch()
        remove_leftovers(tmp_path)
        assert {entry.name for entry in tmp_path.iterdir()} == {f".a.{living.pid}.tmp.txt", ".hidden"}
    finally:
        living.communicate(b"\n")


def test_a_place_for_a_file_is_checked_and_left_as_it_was(tmp_path):
    check_output(tmp_path / "a.txt")
    write_text(tmp_path / "a.txt", "old")
    check_output(tmp_path / "a.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_no_folder_is_made_for_a_file(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"a\.txt: there is no folder .*none; make it \(mkdir -p .*none\) or choose"
    ):
        check_output(tmp_path / "none" / "a.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["folder", "file/a.txt", f"{'a' * 300}.txt"])
def test_a_place_where_no_file_can_be_made_is_told(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"(is a folder; --to expects|no file can be made there .* choose another --to)"):
        check_output(tmp_path / name, "--to")
