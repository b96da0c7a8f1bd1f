"""How fast are the fused kernels on this GPU, and how much memory do they take, beside PyTorch?

There are five providers: the literal chain, eager and under torch.compile; the factorised form, eager and under torch.compile;
and Triton. Each runs forward, and forward and backward. A time is a median of ``triton.testing.do_bench`` (CUDA events, L2
flushed), over inputs that rotate through more memory than the L2 holds. The floor is the larger of two times: the bytes at the
card's measured copy rate, and the multiply-adds at its measured matrix rate. Without a GPU it prints one line and measures
nothing.

    python benchmarks/gpu.py --json gpu.json
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, product
from typing import Any

import torch
from command import Argument, Benchmark, main, progress
from kernels_bytes import floor, multiply_adds
from torch import Tensor

from specenhance import functional
from specenhance.frontends import TFE
from specenhance.mask_path import dispatch
from specenhance_kernels.plan import Plan

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PROVIDERS = ("literal eager", "literal compiled", "factorised eager", "factorised compiled", "triton")


def made(name: str, module: TFE) -> Callable[[Tensor], Tensor]:
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


def measure_one(
    name: str, n: int, shape: tuple[int, int, int, int], dtype: torch.dtype, backward: bool
) -> dict[str, float]:
    """Time one provider on one shape, and give the peak memory of one call beyond what was in use before."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    module = TFE(n=n).cuda()
    function = made(name, module)
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
    """Time the Triton forward as a CUDA graph, which the host launches at once."""
    module = TFE(n=n, backend="triton").cuda()
    spec = torch.randn(shape, device="cuda", dtype=dtype)
    with torch.no_grad():
        module(spec)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            module(spec)
    return milliseconds(graph.replay)


def measure(
    frontend: Sequence[int], batch: Sequence[int], shape: Sequence[str], dtype: Sequence[str], provider: Sequence[str]
) -> dict[str, Any]:
    """Give the rows of the table, and what the card can do."""
    rates = card_rates()
    card = torch.cuda.get_device_name()
    print(
        f"{card}, torch {torch.__version__}, copy {rates['copy bytes/s'] / 1e12:.2f} TB/s, "
        f"{rates['multiply-adds/s'] / 1e12:.1f} T multiply-adds/s"
    )
    L2 = torch.cuda.get_device_properties(0).L2_cache_size
    rows = []
    for n, size, kind, B, backward in product(frontend, shape, dtype, batch, (False, True)):
        T, F = map(int, size.split("x"))
        plan = Plan(B, T, F, TFE(n=n).channels, 17)
        least = max(
            floor(plan, DTYPES[kind].itemsize, L2) / rates["copy bytes/s"],
            multiply_adds(plan)[0] / rates["multiply-adds/s"],
        )
        for name in provider:
            row: dict[str, Any] = {"n": n, "shape": size, "dtype": kind, "batch": B, "backward": backward}
            row["provider"] = name
            try:
                row |= measure_one(name, n, (B, 1, T, F), DTYPES[kind], backward)
            except torch.OutOfMemoryError:
                row |= {"error": "out of memory"}  # the literal chain at large batches
            if not backward:
                row["floor ms"] = least * 1e3
                if name == "triton":
                    row["graphed ms"] = graphed(n, (B, 1, T, F), DTYPES[kind])
            rows.append(row)
            progress(BENCHMARK, row)
            torch.cuda.empty_cache()
    return {"card": {"card": card, "torch": torch.__version__, **rates}, "rows": rows}


BENCHMARK = Benchmark(
    "The fused kernels on this GPU",
    __doc__,
    measure,
    dict.fromkeys(("ms", "peak MB", "floor ms", "graphed ms"), ".4g"),
    arguments=[
        Argument("--frontend", type=int, nargs="+", default=[1, 2, 4], help="n of TFE(n)"),
        Argument("--batch", type=int, nargs="+", default=[8, 48, 256, 1024]),
        Argument("--shape", nargs="+", default=["512x128", "128x128"], help="frames x bins"),
        Argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES)),
        Argument("--provider", nargs="+", choices=PROVIDERS, default=list(PROVIDERS)),
    ],
    needs_gpu=True,
)

if __name__ == "__main__":
    main(BENCHMARK)
