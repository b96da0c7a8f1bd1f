"""An ONNX file run: what it takes, and what is refused of files that strangers or bad disks have changed."""

import json
import time

import numpy as np
import onnx
import pytest

from specenhance._checksum import KEY, seal
from specenhance.deploy.formats.onnx import labels_path
from specenhance.deploy.metadata import OPTIONAL
from specenhance.deploy.runtime import KEYS, OnnxModel


@pytest.fixture
def changed(exported, tmp_path):
    """Write the file with other metadata, each a text or None for none, sealed again."""

    def change(**texts):
        model = onnx.load(exported)
        found = {entry.key: entry.value for entry in model.metadata_props} | texts
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {key: text for key, text in found.items() if text is not None})
        path = tmp_path / "changed.onnx"
        onnx.save(model, path)
        if found[KEY] is not None:
            seal(path)
        return path

    return change


@pytest.mark.parametrize("key", [key for key in KEYS if key not in OPTIONAL])
def test_a_key_that_is_missing_is_named(changed, key):
    with pytest.raises(ValueError, match=rf"changed\.onnx: says nothing of {key}: .* export the model again"):
        OnnxModel(changed(**{key: None}))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("classes", '["high", "low"]'),  # of a graph that gives three
        *[("classes", text) for text in ("{}", "5", "[]", '["a", "b", 3]', '["a", "b", "a"]', "null", '"abc"')],
        *[("sample_rate", text) for text in ("NaN", "Infinity", "-1", "0", "1e9", '"16000"', "16000.5", "true", "[]")],
        ("sample_rate", "1" + "0" * 5000),
        *[("samples", text) for text in ("0", "null", "1e999", "9" * 30)],
        *[("clip_seconds", text) for text in ("0", "-1", "NaN", '"1"', "true")],
        *[("frames", text) for text in ("0", "{}")],
        *[("bins", text) for text in ("-5", "[1]")],
        *[("hop_seconds", text) for text in ("0", "NaN", "{}")],
        *[("mean", text) for text in ("NaN", "-Infinity", "null", '"-4"')],
        *[("std", text) for text in ("0", "-1", "Infinity")],
        *[("int8", text) for text in ("0", '"false"', "null")],
        *[("input", text) for text in ('"mel"', "[]", "1", '"spectrogram"')],
        *[(key, "7") for key in ("specenhance", "features", "normalisation", "frontend", "backbone")],
        ("features", ""),
        ("backbone", "{'a': 1}"),
        ("frontend", "[" * 100_000),
    ],
)
def test_metadata_of_another_kind_is_one_line_with_file_and_key(changed, key, text):
    path = changed(**{key: text})
    began = time.perf_counter()
    with pytest.raises(ValueError, match=rf"changed\.onnx: its {key} (is|are) .*; export the model again$") as refused:
        OnnxModel(path)
    assert time.perf_counter() - began < 5
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300 + len(str(path))


def test_a_name_in_metadata_is_shown_escaped(changed):
    with pytest.raises(ValueError, match="its input is") as refused:
        OnnxModel(changed(input=json.dumps("\x1b[31m\u202e\n", ensure_ascii=False)))
    assert str(refused.value).isprintable()


def test_a_byte_that_changed_on_the_way_is_found_and_the_file_named(exported, tmp_path):
    whole, path = exported.read_bytes(), tmp_path / "flipped.onnx"
    key = whole.rindex(KEY.encode())
    for at in (*range(0, len(whole), len(whole) // 60), *range(key - 20, len(whole))):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"flipped\.onnx: "):
            OnnxModel(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"flipped\.onnx: "):
        OnnxModel(path)


def test_all_that_a_file_says_lies_beside_it_as_json(exported):
    assert labels_path(exported).name == "model.labels.json"
    assert labels_path("a/model-int8.onnx") != labels_path("a/model.onnx")  # two models may share a folder
    told = json.loads(labels_path(exported).read_text(encoding="utf-8"))
    assert tuple(told) == KEYS
    assert told == OnnxModel(exported).metadata
    assert told["classes"] == ["high", "low", "middle"]


def test_a_window_is_as_long_as_the_clips_that_were_trained_on(exported, changed):
    model = OnnxModel(exported)
    assert (model.metadata["clip_seconds"], model.clip_samples) == (None, model.samples)
    assert OnnxModel(changed(clip_seconds="0.1")).clip_samples == 1600
    assert OnnxModel(changed(clip_seconds="60")).clip_samples == model.samples


def test_integers_give_what_their_floats_give(exported):
    model = OnnxModel(exported)
    samples = (8000 * np.random.default_rng(0).standard_normal(4000)).clip(-32768, 32767).astype(np.int16)
    expected = model.probabilities(samples.astype(np.float32) / 32768)
    np.testing.assert_allclose(model.probabilities(samples), expected, atol=1e-6)
    np.testing.assert_allclose(model.probabilities(samples.astype(np.int32) << 16), expected, atol=1e-6)
    assert model.predict(samples, 1) == model.predict(samples / 32768, 1)


def test_what_is_no_clip_is_refused(exported):
    model = OnnxModel(exported)
    with pytest.raises(ValueError, match=r"expected one channel .* waveform\[:, 0\]"):
        model.probabilities(np.zeros((4000, 2), np.float32))
    with pytest.raises(ValueError, match=r"looks like \(samples, channels\).* expects \(batch, samples\)"):
        model.logits(np.zeros((4000, 2), np.float32))
    with pytest.raises(TypeError, match="samples of type int64"):
        model.predict(np.zeros(4000, np.int64), 1)
    with pytest.raises(ValueError, match="magnitude 3e"):
        model.predict(np.full(4000, 3e4), 1)
