"""The Time-Frequency Enhancer written out in numpy, float64, apart from the library: what other paths are held against."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def convolve(signal: Array, weight: Array, bias: Array | None) -> Array:
    """Sum ``signal (c_in, L)`` over taps: zero outside, output ``(c_out, L)`` in place with the input."""
    c_out, _, taps = weight.shape
    length = signal.shape[1]
    out = np.zeros((c_out, length))
    for place in range(length):
        for tap in range(taps):
            source = place + tap - taps // 2
            if 0 <= source < length:
                out[:, place] += weight[:, :, tap] @ signal[:, source]
    return out if bias is None else out + bias[:, None]


def path(signal: Array, weights: Sequence[Array | None]) -> Array:
    weight1, bias1, weight2, bias2 = weights
    assert weight1 is not None
    assert weight2 is not None
    hidden = np.maximum(convolve(signal, weight1, bias1), 0.0)
    return 1.0 / (1.0 + np.exp(-convolve(hidden, weight2, bias2)))


def mask(spec: Any, blocks: Sequence[Any]) -> Array:
    """Give the last mask ``(B, c_n, T, F)``: each block's mask is written out and averaged by the next.

    Args:
        spec: ``(B, c_0, T, F)``, a tensor or an array.
        blocks: for each block ``(time, freq)``, each ``(weight1, bias1, weight2, bias2)``, tensors or arrays.
    """
    last = [_array(sample) for sample in spec]
    width = len(_array(blocks[-1][0][0]))
    for time, freq in blocks:
        e_t = [path(sample.sum(axis=2) / sample.shape[2], [_array(w) for w in time]) for sample in last]
        e_f = [path(sample.sum(axis=1) / sample.shape[1], [_array(w) for w in freq]) for sample in last]
        last = [np.einsum("ct,cf->ctf", t, f) for t, f in zip(e_t, e_f, strict=True)]
    return np.stack(last) if last else np.zeros((0, width, *spec.shape[2:]))


def enhance(spec: Any, blocks: Sequence[Any]) -> Array:
    """Give ``S' = S * M``."""
    return _array(spec) * mask(spec, blocks)


def _array(values: Any) -> Any:
    if values is None:
        return None
    return np.asarray(values.detach().cpu().double() if hasattr(values, "detach") else values, dtype=np.float64)
