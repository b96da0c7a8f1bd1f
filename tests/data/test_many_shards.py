"""100,000 clips in shards, streamed in memory that does not grow. It takes minutes: make test-scale."""

import json
import subprocess
import sys

import pytest

CLIPS = 100_000

WRITE = """
import sys
import torch
from specenhance.data import AudioDataset
from specenhance.data.shards import write_shards

class Made(AudioDataset):
    def waveform(self, i):
        return torch.full((400,), i / len(self))

count = int(sys.argv[2])
data = Made(["a", "b", "c"], [(i % 3,) for i in range(count)])
write_shards({"train": data}, sys.argv[1], seconds={"train": [0.025] * count}, megabytes=2)
"""

READ = '''
import json, os, sys
from specenhance.data.shards import ShardedSounds
from specenhance.training.batches import loader
from specenhance.training.recipe import Recipe

def memory():
    """What this process holds, and what each process that reads clips holds beside what they share, in MB."""
    with open("/proc/self/statm") as file:
        total = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        children = file.read().split()
    for child in children:
        with open(f"/proc/{child}/smaps_rollup") as file:
            total += sum(int(line.split()[1]) / 1e3 for line in file if line.startswith("Private_"))
    return total

import torch
next(iter(torch.utils.data.DataLoader(torch.zeros(4), batch_size=2)))
start = memory()
data = ShardedSounds(sys.argv[1], "train")
index = memory() - start
recipe = Recipe(batch_size=100)  # which the labels do not matter to
heard, seen = set(), []
for step, batch in enumerate(loader(data, recipe, train=True, workers=int(sys.argv[2]))):
    heard.update((batch.waveform[:, 0] * len(data)).round().int().tolist())
    if step % 100 == 99:
        seen.append(memory() - start)
print(json.dumps({"index": index, "seen": seen, "heard": len(heard)}))
'''


def python(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.scale
def test_an_epoch_of_many_clips_hears_each_once_in_constant_memory(tmp_path):
    pytest.importorskip("webdataset")
    python(WRITE, tmp_path / "shards", CLIPS)
    for workers in (0, 2):
        found = json.loads(python(READ, tmp_path / "shards", workers))
        print(f"{workers} workers: the index takes {found['index']:.0f} MB; while reading {found['seen']}")
        assert found["heard"] == CLIPS
        assert found["index"] < 150
        # After the first tenth nothing is added but what this test itself notes: the numbers that it has heard.
        assert found["seen"][-1] - found["seen"][0] < 30
