"""Memory that is freed is used again without the system's help, and given back at the end."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import contextlib, resource, sys
import numpy as np
from specenhance._memory import freed_memory_kept

def step():
    sizes = (5, 5, 5, 5, 10, 10)  # million numbers: 160 MB, as what a backward pass needs
    return [np.ones(size * 2**20, np.float32) for size in sizes]

def pages(calls):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 2**20

before = resident()
with freed_memory_kept() if sys.argv[1] == "kept" else contextlib.nullcontext():
    step()
    print(pages(5))
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of another C library")
def test_steps_take_no_new_pages_and_all_are_given_back():
    def run(how):
        done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
        return [int(line) for line in done.stdout.split()]

    (kept, left), (given_back, _) = run("kept"), run("as it is")
    assert kept < given_back / 20
    assert left < 20  # MB of 160
