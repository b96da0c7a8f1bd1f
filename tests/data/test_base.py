"""What all data sets share: indexing, batches, and what importing them loads."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from specenhance.data import AudioDataset, AudioError, collate


@pytest.fixture
def sounds(tmp_path, write) -> AudioDataset:
    paths = [write(tmp_path / f"{i}.wav", seconds=0.01 * (i + 1)) for i in range(3)]
    return AudioDataset(["a", "b"], [0, 1, 0], paths)


def test_items_are_waveform_and_label(sounds):
    waveform, label = sounds[1]
    assert waveform.shape == (320,)
    assert waveform.dtype == torch.float32
    assert label == 1
    assert len(sounds) == 3
    assert [len(waveform) for waveform, _ in sounds] == [160, 320, 480]


def test_the_index_behaves_as_a_lists_does(sounds):
    assert len(sounds[-1][0]) == 480
    assert len(sounds[-3][0]) == 160
    assert len(sounds[np.int64(2)][0]) == 480
    assert len(sounds[torch.tensor(2)][0]) == 480
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"index {index} of a data set of 3"):
            sounds[index]
    with pytest.raises(TypeError):
        sounds[1.0]


def test_files_are_brought_to_the_data_sets_rate(tmp_path, write):
    path = write(tmp_path / "a.wav", seconds=0.5, rate=44100)
    sounds = AudioDataset(["a"], [0], [path], sample_rate=8000)
    assert sounds.sample_rate == 8000
    assert sounds[0][0].shape == (4000,)
    with pytest.raises(ValueError, match="sample_rate=0"):
        AudioDataset(["a"], [0], [path], sample_rate=0)


def test_an_excerpt_of_a_file_and_of_a_sound_that_is_made_are_cut_alike(sounds):
    class Made(AudioDataset):
        def waveform(self, i):
            return sounds.waveform(i)

    made = Made(sounds.classes, sounds.labels)
    for i, place in ((0, 0.0), (2, 0.0), (2, 1.0), (2, 0.5)):
        whole = sounds.waveform(i)
        part = sounds.excerpt(i, 0.02, place)
        start = round(max(0, len(whole) - 320) * place)
        assert torch.equal(part, whole[start : start + 320])
        assert torch.equal(made.excerpt(i, 0.02, place), part)


def test_a_subset_has_the_chosen_sounds_and_leaves_the_whole_as_it_was(sounds):
    part = sounds.subset([2, 1])
    assert (part.labels, part.paths) == ([0, 1], [sounds.paths[2], sounds.paths[1]])
    assert (part.classes, part.sample_rate, len(sounds)) == (sounds.classes, sounds.sample_rate, 3)


def test_a_file_that_is_not_whole_is_taken_only_where_that_is_allowed(sounds):
    path = sounds.paths[2]
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(AudioError, match=r"ends after 0\.02 s"):
        sounds[2]
    sounds.allow_truncated = True
    assert len(sounds[2][0]) == len(sounds.excerpt(2, 1.0)) == 280


def test_collate_pads_at_the_end_with_zeros(sounds):
    batch = collate([sounds[2], sounds[0]])
    assert batch.waveform.shape == (2, 480)
    assert torch.equal(batch.waveform[0], sounds[2][0])
    assert torch.equal(batch.waveform[1, :160], sounds[0][0])
    assert not batch.waveform[1, 160:].any()
    assert batch.length.tolist() == [480, 160]
    assert batch.label.tolist() == [0, 0]
    assert batch.length.dtype == batch.label.dtype == torch.int64


def test_a_loader_gives_batches_by_worker_processes(sounds):
    (batch,) = DataLoader(pickle.loads(pickle.dumps(sounds)), batch_size=3, collate_fn=collate, num_workers=1)
    assert batch.waveform.shape == (3, 480)
    assert batch.label.tolist() == [0, 1, 0]


def test_importing_the_data_sets_loads_no_heavy_library():
    heavy = ["lightning", "matplotlib", "transformers", "torchaudio", "timm"]
    code = f"import sys, specenhance.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]", done.stderr
