"""A sound of any length is classified whole: windows, pauses between them, and what the command says of them."""

import numpy as np
import pytest
import soundfile
from test_listen import command, model_file, tones  # noqa: F401  (the fixture)

from specenhance.audio.windows import QUIET, classify, likeliest


class Loud:
    """Says how loud what it hears is, so that each window can be told from the others."""

    sample_rate = 10

    def __init__(self):
        self.heard = []

    def probabilities(self, waveform):
        self.heard.append(len(waveform))
        peak = float(np.abs(waveform).max())
        return np.array([peak, 1 - peak])


def blocks(samples, size=7):
    samples = np.asarray(samples, np.float32)
    return (samples[i : i + size] for i in range(0, len(samples), size))


def test_what_the_model_looks_at_together_is_one_window():
    for length in (1, 12, 15):
        model = Loud()
        found = classify(model, blocks(np.full(length, 0.5)), window=10, longest=15)
        assert (found.windows, found.counted, found.whole) == (1, 1, True)
        assert model.heard == [length]


def test_a_longer_sound_is_the_mean_of_windows_that_overlap_by_half():
    model = Loud()
    found = classify(model, blocks([0.2] * 10 + [0.4] * 10 + [0.8] * 5), window=10, longest=15)
    assert model.heard == [10] * 4  # at 0, 5, 10 and 15
    assert (found.windows, found.counted) == (4, 4)
    assert found.probabilities[0] == pytest.approx(np.mean([0.2, 0.4, 0.4, 0.8]))
    assert found.probabilities.sum() == pytest.approx(1)


def test_pauses_do_not_count():
    soft = 0.5 * 10 ** (-(QUIET + 1) / 20)
    found = classify(Loud(), blocks([0.0] * 20 + [0.5] * 10 + [soft] * 30), window=10, longest=10)
    assert found.counted == 3  # the loud one and the two that overlap it
    assert found.windows == 11
    assert found.probabilities[0] == pytest.approx(0.5)
    silence = classify(Loud(), blocks([0.0] * 40), window=10, longest=10)
    assert silence.counted == silence.windows == 7


def test_the_first_window_only_where_that_is_asked_for():
    model = Loud()
    found = classify(model, blocks([0.2] * 15 + [0.9] * 100), window=10, longest=15, first_only=True)
    assert model.heard == [15]
    assert (found.windows, found.whole) == (1, False)
    assert found.probabilities[0] == pytest.approx(0.2)


def test_memory_does_not_grow_with_the_sound():
    def endless():
        for _ in range(200_000):
            yield np.full(100, 0.5, np.float32)

    class Quick(Loud):
        def probabilities(self, waveform):
            return np.array([0.5, 0.5])

    import tracemalloc

    tracemalloc.start()
    classify(Quick(), endless(), window=50_000, longest=50_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6  # the samples are 80 MB


def test_what_cannot_be_classified_is_refused():
    with pytest.raises(ValueError, match="a window of 20 samples: expected 1 to 15"):
        classify(Loud(), blocks([0.5]), window=20, longest=15)
    with pytest.raises(ValueError, match="a sound without a sample"):
        classify(Loud(), iter(()), window=10, longest=15)


def test_the_likeliest_come_first_and_of_equals_the_first():
    assert likeliest(np.array([0.2, 0.5, 0.2, 0.1]), 3) == [(1, 0.5), (0, 0.2), (2, 0.2)]


def test_both_roads_hear_a_word_behind_two_seconds_of_silence(model_file, tmp_path):  # noqa: F811
    word = tones(2700)[:4000]
    soundfile.write(tmp_path / "word.wav", word, 16000)
    soundfile.write(tmp_path / "late.wav", np.concatenate([np.zeros(32000), word]), 16000)
    run = model_file.parent
    for road in ([run], ["--model", model_file]):
        done = command("predict", *road, tmp_path / "word.wav", tmp_path / "late.wav", "--top", 1)
        assert done.returncode == 0, done.stderr
        short, late = done.stdout.decode().splitlines()
        assert "word.wav: high" in short
        assert "windows" not in short
        assert "late.wav: high" in late
        assert late.endswith("windows, 15 more are pauses)"), late
        done = command("predict", *road, tmp_path / "late.wav", "--first-window")
        assert done.stdout.decode().rstrip().endswith("(only its start)")


def test_a_file_that_is_cut_is_taken_where_that_is_allowed(model_file, tmp_path):  # noqa: F811
    soundfile.write(tmp_path / "a.wav", tones(2700, 2700), 16000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:40000])
    for road in (["predict", model_file.parent], ["predict", "--model", model_file], ["listen", "--model", model_file]):
        refused = command(*road, tmp_path / "a.wav")
        assert refused.returncode == 1
        assert b"ends after 1.25 s, before its header says (2.00 s)" in refused.stderr
        assert b"--allow-truncated" in refused.stderr
        taken = command(*road, tmp_path / "a.wav", "--allow-truncated")
        assert taken.returncode == 0, taken.stderr
        assert b"high" in taken.stdout
