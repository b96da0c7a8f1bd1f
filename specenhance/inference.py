"""A model from waveforms to logits, used on sounds: PyTorch only, no Lightning."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from specenhance.audio.samples import waveform_of
from specenhance.deploy.windows import likeliest
from specenhance.models.adapter import FrontendModel

__all__ = ["Listening", "as_batch", "predict"]


def as_batch(model: FrontendModel, waveform: Tensor | np.ndarray) -> Tensor:
    """Put one waveform ``(samples,)``, of any type that sound is kept in, on the model's device as a batch of one.

    Raises:
        TypeError, ValueError: as :func:`specenhance.audio.samples.waveform_of`.
    """
    if isinstance(waveform, Tensor):  # NumPy knows no bfloat16
        waveform = (waveform.float() if waveform.is_floating_point() else waveform).detach().cpu().numpy()
    return torch.tensor(waveform_of(waveform)).to(next(model.parameters()).device)[None]


class Listening:
    """A model as :func:`specenhance.deploy.windows.classify` and :func:`specenhance.deploy.listen.listen` ask for it.

    Args:
        model: from waveforms ``(B, samples)`` to logits; it is set to evaluation.

    Attributes:
        sample_rate: of the waveforms, Hz.
    """

    def __init__(self, model: FrontendModel) -> None:
        self.model = model.eval()
        self.sample_rate: int = model.features.sample_rate

    @torch.no_grad()
    def probabilities(self, waveform: np.ndarray) -> np.ndarray:
        """Give the probability of each class, ``(classes,)``, of one waveform ``(samples,)``."""
        return self.model(as_batch(self.model, waveform))[0].softmax(0).cpu().numpy()


def predict(model: FrontendModel, waveform: Tensor | np.ndarray, top: int) -> list[tuple[int, float]]:
    """Give the most likely classes of one waveform ``(samples,)``: pairs of label and probability, the likeliest first.

    Raises:
        TypeError, ValueError: as :func:`as_batch`.
    """
    if isinstance(waveform, Tensor):
        waveform = as_batch(model, waveform)[0].cpu().numpy()
    return likeliest(Listening(model).probabilities(waveform), top)
