"""Can the convolutions of TFE(4) be made cheaper on a CPU? All of them for a batch of 64 spectrograms of 128 x 128, four ways.

They are 16 convolutions of kernel 17 over 128 frames or bins, eight along each axis: 11.3 million multiply-adds a clip.
"as they are" is what TFE runs: 2-D convolutions of one row, and its own gradient where frames are many. "both axes in one
call" joins the two axes as groups of one convolution. "FFT" multiplies spectra, which for these sizes needs fewer
multiplications, and reads and writes more. The rate counts the multiply-adds of the direct form, two operations each.

    python benchmarks/chain.py --threads 2
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from command import Benchmark, main
from side_by_side import ratio, spread, take_turns
from torch import Tensor, nn

from specenhance.frontends import TFE
from specenhance.functional import PathWeights
from specenhance.mask_path.cpu import path_factor

B, L, TAPS = 64, 128, 17
AS_THEY_ARE, ONE_DIMENSION, GROUPED, FFT = "as they are", "1-D convolutions", "both axes in one call", "FFT"
Pair = list[tuple[Tensor, Tensor]]  # of each axis the input (B, C, L) and the weight (C', C, TAPS)


def one_dimension(pair: Pair) -> list[Tensor]:
    """Convolve each axis by itself."""
    return [nn.functional.conv1d(x, w, padding=TAPS // 2) for x, w in pair]


def grouped(pair: Pair) -> list[Tensor]:
    """Convolve both axes in one call."""
    x, w = (torch.cat(tensors, dim) for tensors, dim in zip(zip(*pair, strict=True), (1, 0), strict=True))
    return [nn.functional.conv1d(x, w, padding=TAPS // 2, groups=2)]


def by_fft(pair: Pair) -> list[Tensor]:
    """Convolve each axis by products of spectra."""
    made = []
    for x, w in pair:
        length = 160  # at least L + TAPS - 1, and a product of small primes
        spectrum = torch.fft.rfft(nn.functional.pad(x, (TAPS // 2, TAPS // 2)), length)
        product = torch.einsum("bcf,ocf->bof", spectrum, torch.fft.rfft(w, length).conj())
        made.append(torch.fft.irfft(product, length)[..., :L])
    return made


def measure(rounds: int = 10) -> dict[str, Any]:
    """Give the rows of the table, and the ratio by which the suite is checked."""
    torch.manual_seed(0)
    channels = TFE(n=4).channels
    pairs: list[Pair] = []
    for c, d in pairwise(channels):
        for c_in, c_out in ((c, d), (d, d)):
            pairs.append([(torch.randn(B, c_in, L), torch.randn(c_out, c_in, TAPS)) for _ in range(2)])
    work = sum(2 * B * L * w.numel() for pair in pairs for _, w in pair)  # operations
    paths = [
        [PathWeights(first[i][1], None, second[i][1], None) for i in range(2)]
        for first, second in zip(pairs[::2], pairs[1::2], strict=True)
    ]

    def ours() -> list[Tensor]:
        return [
            path_factor(first[i][0], path[i]) for first, path in zip(pairs[::2], paths, strict=True) for i in range(2)
        ]

    ways: dict[str, Callable[[], list[Tensor]]] = {AS_THEY_ARE: ours}
    for name, way in ((ONE_DIMENSION, one_dimension), (GROUPED, grouped), (FFT, by_fft)):
        ways[name] = lambda way=way: [out for pair in pairs for out in way(pair)]
    reference = one_dimension(pairs[2])
    for other in (by_fft(pairs[2]), list(grouped(pairs[2])[0].chunk(2, dim=1))):
        for found, expected in zip(other, reference, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)

    def call(way: Callable[[], list[Tensor]], backward: bool) -> Callable[[], None]:
        def made() -> None:
            for pair in pairs:
                for tensors in pair:
                    for tensor in tensors:
                        tensor.requires_grad_(backward)
                        tensor.grad = None
            with torch.set_grad_enabled(backward):
                out = way()
                if backward:
                    torch.autograd.backward([one.sum() for one in out])

        return made

    rows, ratios = [], {}
    for backward in (False, True):
        what = "forward and backward" if backward else "forward"
        times = take_turns({name: call(way, backward) for name, way in ways.items()}, rounds)
        for name, values in times.items():
            rows.append(
                {
                    "pass": what,
                    "way": name,
                    "ms": spread(values).scaled(1e3),
                    "GFLOP a second": spread([(3 if backward else 1) * work / value / 1e9 for value in values]),
                    "of the time as they are": ratio(times, name, AS_THEY_ARE),
                }
            )
        ratios[f"chain, {what}: 1-D convolutions / as they are"] = ratio(times, ONE_DIMENSION, AS_THEY_ARE)
    return {"rows": rows, "ratios": ratios}


BENCHMARK = Benchmark(
    "The chain's convolutions",
    __doc__,
    measure,
    {"ms": ".1f", "GFLOP a second": ".0f", "of the time as they are": ".2f"},
)

if __name__ == "__main__":
    main(BENCHMARK)
