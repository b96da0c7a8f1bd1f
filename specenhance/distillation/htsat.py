"""``htsat:NAME_OR_PATH``: an HTS-AT, the audio tower of CLAP in transformers. Training fits a head on its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from specenhance._missing import missing
from specenhance.distillation.registry import register_teacher
from specenhance.distillation.waveforms import as_heard
from specenhance.models.online import require_hub

__all__ = ["HtsatTeacher"]


@register_teacher("htsat")
class HtsatTeacher(nn.Module):
    """The audio tower of a CLAP, from waveforms to the values before its projection.

    The spectrograms are those of transformers' own feature extractor: 48 kHz, 64 mel bins. A shorter clip is repeated, as CLAP
    was trained; a longer one than the extractor's ``max_length_s`` is cut.

    Args:
        name: Name on the Hugging Face hub, such as ``laion/clap-htsat-unfused``, or a folder that ``save_pretrained`` wrote. It
            has the model and its feature extractor.
        sample_rate: The sample rate of the waveforms that it is given, in Hz.

    Raises:
        ValueError: for a folder that has no CLAP.
        FileNotFoundError, ConnectionError: as :func:`specenhance.models.online.require_hub`.
        ImportError: if transformers is missing.

    Source: Chen et al., HTS-AT, arXiv:2202.00874; Wu et al., CLAP, arXiv:2211.06687.

    Example (it needs weights, so it does not run as a test)::

        teacher = HtsatTeacher("laion/clap-htsat-unfused", sample_rate=16000)
        teacher(torch.zeros(4, 16000)).shape  # (4, 768)

    >>> HtsatTeacher("./nothing", sample_rate=16000)
    Traceback (most recent call last):
    FileNotFoundError: ./nothing: no such folder, ...
    """

    hears = "waveform"
    needs_head = True

    def __init__(self, name: str, *, sample_rate: int) -> None:
        super().__init__()
        try:
            from transformers import ClapAudioModelWithProjection, ClapFeatureExtractor
        except ImportError as error:
            raise missing(error, "an HTS-AT teacher needs transformers", "transformers") from error
        if not Path(name).is_dir():
            require_hub(name, "model.safetensors", "pytorch_model.bin")
        try:
            self.model = ClapAudioModelWithProjection.from_pretrained(name).audio_model
            extractor: Any = ClapFeatureExtractor.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"teacher = {'htsat:' + name!r} cannot be loaded ({str(error).splitlines()[0]})"
            ) from error
        object.__setattr__(self, "extractor", extractor)
        self.sample_rate = sample_rate

    def forward(self, waveform: Tensor) -> Tensor:
        """Give the values ``(B, D)`` of waveforms ``(B, samples)``."""
        extractor: Any = self.extractor
        rate = extractor.sampling_rate
        sound = as_heard(waveform, self.sample_rate, rate, round(extractor.max_length_s * rate))
        # "fusion" gives a clip four views, which only a model that was trained so takes. Nothing is cut at random: no clip is
        # longer than the maximum here.
        how = "fusion" if self.model.config.enable_fusion else "rand_trunc"
        made = extractor(list(sound), sampling_rate=rate, truncation=how, return_tensors="pt")
        values = self.model(
            input_features=made["input_features"].to(next(self.model.parameters())), is_longer=made.get("is_longer")
        )
        return values.pooler_output.to(waveform.device, torch.float32)
