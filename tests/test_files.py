"""Files are written whole or not at all."""

import pytest

from specenhance.files import atomic_folder, atomic_path, check_output, write_text


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
