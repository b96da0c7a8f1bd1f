"""How fast are the fused kernels on this GPU, and how much memory do they take, beside PyTorch?

Five providers: the literal chain eager and under torch.compile, the factorised form eager and under torch.compile, and
Triton; forward, and forward and backward. A time is a median of ``triton.testing.do_bench`` (CUDA events, L2 flushed), over
inputs that rotate through more memory than the L2 holds. The floor is the larger of bytes at the card's own measured copy
rate and multiply-adds at its own measured matrix rate. Prints a table; skips with a line where there is no GPU.

    python benchmarks/gpu.py --json gpu.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from itertools import cycle, product
from pathlib import Path
from typing import Any

import torch
from kernels_bytes import floor, multiply_adds
from torch import Tensor

from specenhance import functional
from specenhance.frontends import TFE
from specenhance.mask_path import dispatch
from specenhance_kernels.plan import Plan

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PROVIDERS = ("literal eager", "literal compiled", "factorised eager", "factorised compiled", "triton")


def provider(name: str, module: TFE) -> Callable[[Tensor], Tensor]:
    """Give the function that a provider's name stands for; all take the spectrogram's dtype as it comes."""

    def literal(spec: Tensor) -> Tensor:
        return functional.reference_enhance(spec.float(), module.weights()).to(spec.dtype)

    def factorised(spec: Tensor) -> Tensor:
        return dispatch.enhance(spec, module.weights(), "torch")

    def triton(spec: Tensor) -> Tensor:
        return dispatch.enhance(spec, module.weights(), "triton")

    kind, _, how = name.partition(" ")
    function = {"literal": literal, "factorised": factorised, "triton": triton}[kind]
    return torch.compile(function, fullgraph=True) if how == "compiled" else function


def milliseconds(function: Callable[[], Any]) -> float:
    """Time one call, the median of many."""
    from triton.testing import do_bench

    return do_bench(function, warmup=50, rep=200, return_mode="median")


def card_rates() -> dict[str, float]:
    """Measure the card: bytes a second of a large copy (read and write), multiply-adds a second of a large float32 product."""
    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / (milliseconds(lambda: target.copy_(source)) * 1e-3)
    a, b = (torch.randn(8192, 8192, device="cuda") for _ in range(2))
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32  # what the convolutions may use
    matrix = 8192**3 / (milliseconds(lambda: a @ b) * 1e-3)
    torch.backends.cuda.matmul.allow_tf32 = allowed
    return {"copy bytes/s": copy, "multiply-adds/s": matrix}


def measure(
    name: str, n: int, shape: tuple[int, int, int, int], dtype: torch.dtype, backward: bool
) -> dict[str, float]:
    """Time one provider on one shape; peak memory is beyond what was there before, of one call."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    module = TFE(n=n).cuda()
    function = provider(name, module)
    plane = torch.empty(shape, dtype=dtype, device="meta").nbytes
    copies = max(2, -(-2 * torch.cuda.get_device_properties(0).L2_cache_size // plane) + 1)
    specs = cycle([torch.randn(shape, device="cuda", dtype=dtype) for _ in range(copies)])
    dy = torch.randn(shape, device="cuda", dtype=dtype)

    def call() -> None:
        if not backward:
            with torch.no_grad():
                function(next(specs))
        else:
            torch.autograd.grad(function(next(specs)), list(module.parameters()), dy)

    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    peak = torch.cuda.max_memory_allocated() - before
    return {"ms": milliseconds(call), "peak MB": peak / 1e6}


def graphed(n: int, shape: tuple[int, int, int, int], dtype: torch.dtype) -> float:
    """Time the Triton forward as a CUDA graph: what is left when the host's part of the launches is gone."""
    module = TFE(n=n, backend="triton").cuda()
    spec = torch.randn(shape, device="cuda", dtype=dtype)
    with torch.no_grad():
        module(spec)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            module(spec)
    return milliseconds(graph.replay)


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frontend", type=int, nargs="+", default=[1, 2, 4], help="n of TFE(n)")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 48, 256, 1024])
    parser.add_argument("--shape", nargs="+", default=["512x128", "128x128"])
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--provider", nargs="+", choices=PROVIDERS, default=list(PROVIDERS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: no CUDA or ROCm GPU here, nothing was measured", file=sys.stderr)
        return
    rates = card_rates()
    L2 = torch.cuda.get_device_properties(0).L2_cache_size
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, copy {rates['copy bytes/s'] / 1e12:.2f} TB/s, "
          f"{rates['multiply-adds/s'] / 1e12:.1f} T multiply-adds/s")  # fmt: skip
    rows = []
    cases = product(arguments.frontend, arguments.shape, arguments.dtype, arguments.batch, (False, True))
    for n, size, dtype, batch, backward in cases:
        T, F = map(int, size.split("x"))
        shape = (batch, 1, T, F)
        plan = Plan(batch, T, F, TFE(n=n).channels, 17)
        least = max(
            floor(plan, DTYPES[dtype].itemsize, L2) / rates["copy bytes/s"],
            multiply_adds(plan)[0] / rates["multiply-adds/s"],
        )
        for name in arguments.provider:
            row = {"n": n, "shape": size, "dtype": dtype, "batch": batch, "backward": backward, "provider": name}
            try:
                row |= measure(name, n, shape, DTYPES[dtype], backward)
            except torch.OutOfMemoryError:
                row |= {"error": "out of memory"}  # the literal chain at large batches
            if not backward:
                row["floor ms"] = least * 1e3
                if name == "triton":
                    row["graphed ms"] = graphed(n, shape, DTYPES[dtype])
            rows.append(row)
            print(
                "  ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()),
                flush=True,
            )
            torch.cuda.empty_cache()
    if arguments.json:
        card = {"card": torch.cuda.get_device_name(), "torch": torch.__version__, **rates}
        arguments.json.write_text(json.dumps({"card": card, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
