"""Samples of any type that sound is recorded in, and what is refused."""

import numpy as np
import pytest

from specenhance.audio.samples import scaled, waveform_of


@pytest.mark.parametrize(
    ("kind", "samples"),
    [
        ("int16", [0, 16384, -32768, 32767]),
        ("int32", [0, 2**30, -(2**31), 32767 * 2**16]),
        ("int8", [0, 64, -128, 127]),
        ("uint8", [128, 192, 0, 255]),
    ],
)
def test_integers_are_scaled_by_their_type(kind, samples):
    got = scaled(np.array(samples, kind))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [0, 0.5, -1, 1], atol=0.01)
    np.testing.assert_array_equal(got[:3], [0, 0.5, -1])


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_floats_are_as_they_are(kind):
    got = scaled(np.array([0, 0.5, -1.5], kind))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [0, 0.5, -1.5])


def test_a_float32_array_is_not_copied():
    samples = np.zeros((2, 5), np.float32)
    assert scaled(samples) is samples


@pytest.mark.parametrize("kind", ["int64", "uint16", "bool", "complex64", "U1", "object"])
def test_a_type_whose_scale_is_not_known_is_refused_with_the_cure(kind):
    with pytest.raises(TypeError, match=r"samples of type .*: expected float32 .* samples.astype\('int16'\)"):
        scaled(np.zeros(3).astype(kind))


@pytest.mark.parametrize("sample", [np.nan, np.inf, -np.inf, 1e30, 1e300, -20000.0])
def test_a_float_that_is_no_sound_is_refused(sample):
    with pytest.raises(ValueError, match=r"expected floats in .* divided by 32768"):
        scaled(np.array([0.0, sample]))


@pytest.mark.parametrize(("shape", "cure"), [((8000, 2), r"waveform\[:, 0\]"), ((2, 8000), r"waveform\[0\]")])
def test_several_channels_are_refused_with_a_cure_that_works(shape, cure):
    waveform = np.ones(shape, np.int16)
    with pytest.raises(ValueError, match=rf"sound of shape .*: expected one channel .* {cure}") as refused:
        waveform_of(waveform)
    named = str(refused.value).split("; ")[1].split(" is ")[0]
    assert waveform_of(eval(named, {"waveform": waveform})).shape == (8000,)


@pytest.mark.parametrize("shape", [(), (0,), (1, 2, 3), (0, 2)])
def test_what_holds_no_clip_is_refused(shape):
    with pytest.raises(ValueError, match="expected one channel"):
        waveform_of(np.zeros(shape, np.float32))
