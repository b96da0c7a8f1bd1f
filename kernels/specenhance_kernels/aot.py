"""Ahead-of-time compiling: every configuration that a launcher can choose, for a named target, without a GPU.

The tests use it. So can an author of a new configuration, to see its registers without a card. It needs a process without
``TRITON_INTERPRET``.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget

from specenhance_kernels import apply, chain, configs, pool, standardise, weights
from specenhance_kernels.configs import Arithmetic

# Shared memory that one program may use, bytes: CUDA's programming guide, "technical specifications per compute
# capability" (163, 227 and 227 KiB); LDS of a CDNA3 compute unit (64 KiB).
TARGETS = {
    "sm_80": (GPUTarget("cuda", 80, 32), 163 * 1024),
    "sm_90": (GPUTarget("cuda", 90, 32), 227 * 1024),
    "sm_100": (GPUTarget("cuda", 100, 32), 227 * 1024),
    "gfx942": (GPUTarget("hip", "gfx942", 64), 64 * 1024),
}

_POINTER = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
OPTIONS = ("num_warps", "num_stages", "maxnreg")
# The contiguous axis of a spectrogram: Triton compiles a stride of 1, and strides of multiples of 16, separately.
_LAYOUTS = ("bins", "frames", "neither")


class Configuration(NamedTuple):
    """One way to compile one kernel: its arguments' types, its constants, and which are multiples of 16."""

    name: str
    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    aligned: tuple[str, ...]
    options: dict[str, Any]


class Report(NamedTuple):
    """The resources of a compiled kernel; registers and spilled bytes are per thread, None where the target gives none."""

    target: str
    name: str
    registers: int | None
    spilled: int | None
    shared: int
    limit: int


def configurations(hip: bool) -> list[Configuration]:
    """List every configuration that a launcher can choose on CUDA or, with ``hip``, on ROCm."""
    found = []
    for dtype in _POINTER:
        for layout in _LAYOUTS:
            name = f"{_short(dtype)} {layout} contiguous"
            found += [
                _plane(f"pool {name}", pool.pool_kernel, dtype, layout, ("x",), hip),
                _plane(f"apply {name}", apply.weigh_kernel, dtype, layout, ("x", "out"), hip, ADD=False),
                _plane(f"spec_grad {name}", apply.weigh_kernel, dtype, layout, ("x", "out"), hip, ADD=True),
                _plane(f"factor_grad {name}", apply.factor_grad_kernel, dtype, layout, ("dy", "x"), hip),
            ]
        found.append(
            _make(
                f"sum_segments {_short(dtype)}", weights.sum_segments_kernel, {"out": dtype}, configs.sum_options(hip)
            )
        )
    found += [
        _make("moments", standardise.moments_kernel, {}, configs.path_options(hip)),
        _make("standardise_backward", standardise.standardise_backward_kernel, {}, configs.path_options(hip)),
    ]
    for channels in (configs.SMALL, configs.LARGE):
        for math in arithmetics(hip):
            name = f"{_short(math.operand)} {math.precision} {channels} channels"
            options = configs.weight_options(channels, math, widen=False, hip=hip)
            found.append(_make(f"weight_grad {name}", weights.weight_grad_kernel, {}, options))
            for dtype, stage in product(dict.fromkeys((torch.float32, math.operand)), configs.stages(hip)):
                for kernel in (chain.block_forward_kernel, chain.block_backward_kernel):
                    given = {arg: dtype for arg in kernel.arg_names if re.fullmatch("[wb][12]_[tf]", arg)}
                    options = configs.chain_options(channels, channels, math, stage, widen=False, hip=hip)
                    title = (
                        f"{kernel.fn.__name__.removesuffix('_kernel')} {name}, weights {_short(dtype)}, stage {stage}"
                    )
                    found.append(_make(title, kernel, given, options))
    return found


def arithmetics(hip: bool) -> list[Arithmetic]:
    """List the possible results of :func:`specenhance_kernels.configs.arithmetic` on CUDA or, with ``hip``, on ROCm."""
    float32 = ("ieee",) if hip else ("tf32", "tf32x3")
    return [
        *(Arithmetic(torch.float32, precision) for precision in float32),
        Arithmetic(torch.bfloat16, "ieee"),
        Arithmetic(torch.float16, "ieee"),
    ]


def _plane(
    name: str, kernel: Any, dtype: torch.dtype, layout: str, planes: tuple[str, ...], hip: bool, **constants: Any
):
    strides = [arg for arg in kernel.arg_names if re.fullmatch("[xyo]s_[bctf]", arg)]
    one = {"bins": "f", "frames": "t", "neither": None}[layout]
    ones = {arg: 1 for arg in strides if arg[-1] == one}
    aligned = tuple(arg for arg in strides if arg not in ones) if one else ()
    return _make(
        name, kernel, dict.fromkeys(planes, dtype), {**configs.plane_options(hip), **constants, **ones}, aligned
    )


def _make(
    name: str, kernel: Any, pointers: dict[str, torch.dtype], options: dict[str, Any], aligned: tuple[str, ...] = ()
) -> Configuration:
    # Pointers that are not named are to float32. Integers are the strides and those that Triton must not specialise.
    integers = {kernel.arg_names[i] if isinstance(i, int) else i for i in kernel.do_not_specialize}
    constants = {key: value for key, value in options.items() if key not in OPTIONS}
    types = {}
    for arg in kernel.arg_names:
        if arg in constants:
            types[arg] = "constexpr"
        elif arg == "eps":
            types[arg] = "fp32"
        elif arg in integers or re.fullmatch("[xyo]s_[bctf]", arg):
            types[arg] = "i32"
        else:
            types[arg] = _POINTER[pointers.get(arg, torch.float32)]
            aligned += (arg,)
    return Configuration(name, kernel, types, constants, aligned, {k: v for k, v in options.items() if k in OPTIONS})


def compile_for(configuration: Configuration, target: str) -> Report:
    """Compile a configuration for one of :data:`TARGETS` and read its resources from the binary."""
    gpu, limit = TARGETS[target]
    names = configuration.kernel.arg_names
    source = triton.compiler.ASTSource(
        configuration.kernel,
        configuration.types,
        constexprs=configuration.constants,
        attrs={(names.index(arg),): [["tt.divisibility", 16]] for arg in configuration.aligned},
    )
    compiled = triton.compile(source, target=gpu, options=configuration.options)
    registers = spilled = None
    if gpu.backend == "cuda":
        registers, spilled = _resources(compiled.asm["cubin"])
    else:
        registers, spilled = _amd_resources(compiled.asm["amdgcn"])
    return Report(target, configuration.name, registers, spilled, compiled.metadata.shared, limit)


def _resources(cubin: bytes) -> tuple[int, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [str(tool), "--dump-resource-usage", file.name], check=True, capture_output=True, text=True
        ).stdout
    # A kernel without a stack has local memory only for its spilled registers; a stack is counted too.
    found = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    return found["REG"], found["STACK"] + found["LOCAL"]


def _amd_resources(assembly: str) -> tuple[int, int]:
    registers = max(int(value) for value in re.findall(r"\.vgpr_count:\s*(\d+)", assembly))
    return registers, sum(int(value) for value in re.findall(r"\.vgpr_spill_count:\s*(\d+)", assembly))


def _short(dtype: torch.dtype) -> str:
    return _POINTER[dtype].removeprefix("*")
