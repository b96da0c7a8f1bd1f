"""One thing of each kind that specenhance keeps by name: a front end, features, a data set, a teacher, an export format."""

import json

import numpy as np
import torch

from specenhance import KaldiFbank, register_frontend
from specenhance.data import AudioDataset, register_data
from specenhance.deploy.formats.registry import register_format
from specenhance.distillation.registry import register_teacher
from specenhance.features import register_features


@register_frontend("gain")
class Gain(torch.nn.Module):
    """A front end: one learned factor for each channel. Maps (B, C, T, F) to the same shape."""

    def __init__(self, in_chans=1):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(in_chans, 1, 1))

    def forward(self, spec):
        return spec * self.gain


@register_features("louder")
class Louder(KaldiFbank):
    """Features: KaldiFbank of a louder waveform. Takes KaldiFbank's arguments, and ``times``."""

    def __init__(self, frames=None, *, times=2.0, **arguments):
        super().__init__(frames, **arguments)
        self.times = times

    def _log_mel(self, wave):
        return super()._log_mel(wave * self.times)


@register_data("beeps", frames=32, epochs=2, batch_size=8)
class Beeps(AudioDataset):
    """A data set made in memory: high and low beeps. What stands in ``register_data`` are its defaults in a recipe."""

    def __init__(self, split, sample_rate=16000, seed=0):
        clips = {"train": 16, "validation": 8, "test": 8}[split]
        super().__init__(["high", "low"], [0, 1] * (clips // 2), sample_rate=sample_rate)
        self.seed = [seed, ["train", "validation", "test"].index(split)]

    def waveform(self, i):
        """Make clip i, float32 (samples,)."""
        rng = np.random.default_rng([*self.seed, i])
        hertz = (2000.0, 300.0)[self.labels[i]] * rng.uniform(0.9, 1.1)
        time = np.arange(self.sample_rate // 2) / self.sample_rate
        beep = 0.3 * np.sin(2 * np.pi * hertz * time) + 0.01 * rng.standard_normal(len(time))
        return torch.from_numpy(beep.astype(np.float32))


@register_teacher("loudness")
def loudness(rest, classes, *, bins):
    """A teacher, ``loudness:SCALE``: it compares the loudness of the upper half of the bins with that of the lower half."""

    def logits(spec):
        upper, lower = spec[..., bins // 2 :].mean((1, 2, 3)), spec[..., : bins // 2].mean((1, 2, 3))
        values = {"high": upper, "low": lower}
        return float(rest) * torch.stack([values[name] for name in classes], dim=1)

    return logits


@register_format("npz")
class Npz:
    """An export format: the weights as NumPy arrays, for those who write the network themselves."""

    file = "model.npz"
    cure = "choose another format"

    def require(self):
        """Need nothing but NumPy."""

    def write(self, program, path, about):
        """Write the arrays and the metadata; give what loads them into the network again."""
        arrays = {name: tensor.detach().numpy() for name, tensor in program.state_dict.items()}
        with open(path, "wb") as file:
            np.savez(file, **arrays, **{"about.json": np.array(json.dumps(dict(about)))})

        def load():
            network = program.module()
            with np.load(path) as read:
                weights = {name: torch.from_numpy(read[name]) for name in arrays}
            network.load_state_dict(weights, strict=False)
            return network

        return load

    def finish(self, path):
        """Write nothing beside it."""
