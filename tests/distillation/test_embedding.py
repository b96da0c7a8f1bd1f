"""Values of clips from a file: found by name, and what is refused."""

import numpy as np
import pytest

from specenhance.distillation.embedding import EmbeddingTable


@pytest.fixture
def table(tmp_path):
    def make(**arrays):
        np.savez(tmp_path / "values.npz", **arrays)
        return EmbeddingTable(tmp_path / "values.npz")

    return make


def test_a_clip_is_found_by_the_end_of_its_path(table):
    found = table(names=["no/a.wav", "yes/a.wav", "b.wav"], values=np.eye(3, dtype=np.float16))
    assert found.values(["/data/yes/a.wav", "/data/no/b.wav"]).tolist() == [[0, 1, 0], [0, 0, 1]]
    assert found.width == 3


def test_arrays_of_other_kinds_are_ignored_and_two_of_a_kind_need_names(table):
    found = table(embedding=np.eye(2), filename=np.array(["a.wav", "b.wav"]), target=np.array([0, 1]))
    assert found.values(["b.wav"]).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match="no array 'values'"):
        table(first=np.eye(2), second=np.eye(2), names=["a.wav", "b.wav"])
    assert table(values=np.eye(2), other=np.ones((2, 5)), names=["a.wav", "b.wav"]).width == 2


def test_missing_clips_are_counted_and_one_is_named(table):
    with pytest.raises(ValueError, match=r"no values of 2 of 3 clips, such as x/c\.wav; its names are like 'a\.wav'"):
        table(names=["a.wav"], values=np.ones((1, 2))).values(["a.wav", "x/c.wav", "d.wav"])


def test_two_clips_must_not_share_values_by_their_name(table):
    found = table(names=["a.wav"], values=np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"the same values for no/a\.wav and yes/a\.wav"):
        found.values(["no/a.wav", "yes/a.wav"])


def test_other_files_are_refused(table, tmp_path):
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(ValueError, match=r"text\.npz cannot be read"):
        EmbeddingTable(tmp_path / "text.npz")
    with pytest.raises(ValueError, match="2 rows of values and 1 names"):
        table(names=["a.wav"], values=np.eye(2))
    with pytest.raises(ValueError, match="a name twice"):
        table(names=["a.wav", "a.wav"], values=np.eye(2))
    np.savez(tmp_path / "objects.npz", names=np.array(["a.wav", None], dtype=object), values=np.eye(2))
    with pytest.raises(ValueError, match="pickle"):
        EmbeddingTable(tmp_path / "objects.npz")
