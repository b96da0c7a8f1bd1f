"""What a model's front end does to one sound, as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from specenhance.analysis.plots import plot_enhancement
from specenhance.frontends.base import apply_frontend, factors_of
from specenhance.functional import outer
from specenhance.inference import as_batch
from specenhance.models.adapter import FrontendModel

__all__ = ["enhancement_picture"]


def enhancement_picture(model: FrontendModel, waveform: Tensor | np.ndarray, title: str = "") -> Any:
    """Draw what the model's front end does to one waveform ``(samples,)``. Return a matplotlib figure.

    Raises:
        TypeError, ValueError: as :func:`specenhance.inference.as_batch`.

    >>> import timm
    >>> from specenhance import KaldiFbank, with_frontend
    >>> backbone = timm.create_model("test_resnet", in_chans=1)
    >>> model = with_frontend(backbone, "tfe1", features=KaldiFbank(frames=40))
    >>> [axes.get_title() for axes in enhancement_picture(model, torch.zeros(8000)).axes][:3]
    ['spectrogram', 'mask', 'enhanced']
    """
    with torch.no_grad():
        batch = as_batch(model, waveform)
        spec, real = model.eval().spectrogram(batch), model.real_frames(batch)
        enhanced = apply_frontend(model.frontend, spec, real)
        factors = factors_of(model.frontend, spec, real)
    return plot_enhancement(
        spec[0, 0],
        enhanced[0, 0],
        None if factors is None else outer(*factors)[0, 0],
        hop_seconds=model.features.hop_seconds,
        frequencies=[float(f) for f in model.features.frequencies],
        title=title,
    )
