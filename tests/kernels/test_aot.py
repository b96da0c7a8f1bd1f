"""Every configuration that a launcher can choose compiles for every target, ahead of time, without a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: the fused kernels cannot be compiled here")

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}


def python(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def test_every_configuration_compiles_without_spills(tmp_path, capsys):
    printed = python("benchmarks/kernels_aot.py", "--json", str(tmp_path / "aot.json"))
    with capsys.disabled():
        print("\n" + printed)
    reports = json.loads((tmp_path / "aot.json").read_text())["configurations"]
    assert {report["target"] for report in reports} == {"sm_80", "sm_90", "sm_100", "gfx942"}
    for report in reports:
        assert report["shared"] <= report["limit"], report
        assert report["spilled"] == 0, report
    # The chain's launchers promise two programs to a multiprocessor of 65,536 registers.
    chain = [r for r in reports if r["name"].startswith("block_") and r["target"] != "gfx942"]
    assert max(report["registers"] for report in chain) <= 128


CHOICES = """
import torch
from specenhance_kernels import aot, configs
for hip in (False, True):
    listed = {(c.kernel.fn.__name__, str(sorted((k, str(v)) for k, v in c.options.items())),
               str(sorted((k, str(v)) for k, v in c.constants.items() if k.isupper())))
              for c in aot.configurations(hip)}
    for c_in in range(1, 129):
        for c_out in (1, 16, 17, 128):
            for math in aot.arithmetics(hip):
                for stage in configs.stages(hip):
                    chosen = configs.chain_options(c_in, c_out, math, stage, widen=False, hip=hip)
                    for kernel in ("block_forward_kernel", "block_backward_kernel"):
                        options = {k: chosen[k] for k in aot.OPTIONS if k in chosen}
                        constants = {k: v for k, v in chosen.items() if k.isupper()}
                        key = (kernel, str(sorted((k, str(v)) for k, v in options.items())),
                               str(sorted((k, str(v)) for k, v in constants.items())))
                        assert key in listed, key
"""


def test_what_the_chain_chooses_is_listed():
    python("-c", CHOICES)
