"""Files that hold their own checksum: what is found, and what is left alone."""

import hashlib

import numpy as np
import pytest
import safetensors.numpy

from specenhance._checksum import BLANK, KEY, check, seal


@pytest.fixture
def sealed(tmp_path):
    weights = {"a": np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32), "b": np.arange(7)}
    safetensors.numpy.save_file(weights, tmp_path / "a.safetensors", metadata={"classes": "[]", KEY: BLANK})
    seal(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_the_checksum_is_that_of_the_file_with_zeros_in_its_place(sealed):
    with safetensors.safe_open(sealed, framework="np") as file:
        told = file.metadata()[KEY]
    blank = sealed.read_bytes().replace(told.encode(), BLANK.encode())
    assert told == hashlib.sha256(blank).hexdigest()
    assert check(sealed, "") is True


def test_every_byte_that_changes_is_found(sealed):
    whole = sealed.read_bytes()
    key = whole.index(KEY.encode())
    place = range(key, key + len(KEY) + 3 + len(BLANK))  # without its key, a file has no checksum
    for at in range(len(whole)):
        sealed.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert verdict(sealed) in (("damaged", "none") if at in place else ("damaged",)), at


def verdict(path):
    try:
        return "whole" if check(path, "") else "none"
    except ValueError:
        return "damaged"


def test_a_file_that_is_cut_is_found(sealed):
    sealed.write_bytes(sealed.read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged"):
        check(sealed, "copy it again")


def test_a_changed_file_can_be_sealed_again(sealed):
    sealed.write_bytes(sealed.read_bytes()[:-1] + b"x")
    seal(sealed)
    assert check(sealed, "") is True


@pytest.mark.parametrize("content", [b"", b"no checksum", b"sha256 of nothing"])
def test_a_file_without_a_checksum_is_said_to_have_none(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert check(tmp_path / "a", "") is False


def test_only_a_file_with_one_place_is_sealed(tmp_path):
    for content in (b"nothing", 2 * (b'sha256":"' + BLANK.encode())):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(ValueError, match="places for a checksum, expected 1"):
            seal(tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == content
