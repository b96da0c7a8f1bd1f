"""``passt:FILE`` or ``passt:ARCHITECTURE``: a PaSST by the package hear21passt. Training fits a head on its values."""

from __future__ import annotations

import io
import os
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from specenhance._missing import missing
from specenhance.distillation.registry import register_teacher
from specenhance.distillation.waveforms import as_heard

__all__ = ["PasstTeacher"]

RATE, BINS, FRAMES, HOP = 32000, 128, 998, 320  # of the published models; 998 frames are 10 s
HEAD_WIDTH = 64  # of every published model: values of an attention head


@register_teacher("passt")
class PasstTeacher(nn.Module):
    """A PaSST, from waveforms to the mean of its class and distillation tokens. Nothing is left out (no patchout).

    Depth, width and strides are read from the weights. A clip is cut at the length that the model was trained on.

    Args:
        name: A file of weights, as PaSST's authors publish them, or one of their architectures, such as
            ``passt_s_swa_p16_128_ap476``, whose weights are fetched from their address.
        sample_rate: The sample rate of the waveforms that it is given, in Hz.

    Raises:
        ValueError: for an unknown architecture, a file of other weights, or one with more than tensors in it.
        FileNotFoundError: for a file that does not exist.
        ConnectionError: if the weights cannot be fetched.
        ImportError: if hear21passt is missing.

    Source: Koutini et al., "Efficient Training of Audio Transformers with Patchout", arXiv:2110.05069.

    Example (it needs weights, so it does not run as a test)::

        teacher = PasstTeacher("passt-s-f128-p16-s10-ap.476-swa.pt", sample_rate=16000)
        teacher(torch.zeros(4, 16000)).shape  # (4, 768)

    >>> PasstTeacher("nothing.pt", sample_rate=16000)
    Traceback (most recent call last):
    FileNotFoundError: nothing.pt: no such file; ...
    """

    hears = "waveform"
    needs_head = True

    def __init__(self, name: str, *, sample_rate: int) -> None:
        super().__init__()
        try:
            from hear21passt.models.passt import PaSST, default_cfgs
            from hear21passt.models.preprocess import AugmentMelSTFT
        except ImportError as error:
            raise missing(error, "a PaSST teacher needs hear21passt", "hear21passt") from error
        state = _weights(name, {key: cfg["url"] for key, cfg in default_cfgs.items() if "PaSST/releases" in cfg["url"]})
        try:
            classes, width = state["head.1.weight"].shape
            F, T = state["freq_new_pos_embed"].shape[2], state["time_new_pos_embed"].shape[3]
            stride = BINS // F
            made: dict[str, Any] = {
                "img_size": (BINS, FRAMES if FRAMES // stride == T else T * stride),
                "stride": stride,
                "num_classes": classes,
                "embed_dim": width,
                "depth": 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks.")),
                "num_heads": max(1, width // HEAD_WIDTH),
                "distilled": "dist_token" in state,
            }
            with redirect_stdout(io.StringIO()):  # both print what they do
                self.model = PaSST(**made)
                self.mel = AugmentMelSTFT(
                    n_mels=BINS,
                    sr=RATE,
                    win_length=800,
                    hopsize=HOP,
                    n_fft=1024,
                    fmin_aug_range=10,
                    fmax_aug_range=2000,
                )
            self.model.load_state_dict(state)
        except (KeyError, ValueError, RuntimeError) as error:
            raise ValueError(f"teacher = {'passt:' + name!r}: not the weights of a PaSST ({error})") from error
        self.samples = HOP * made["img_size"][1]
        self.sample_rate = sample_rate

    def forward(self, waveform: Tensor) -> Tensor:
        """Give the values ``(B, D)`` of waveforms ``(B, samples)``."""
        sound = torch.from_numpy(as_heard(waveform, self.sample_rate, RATE, self.samples)).to(waveform.device)
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():  # it prints shapes, and warns of shorter clips
            warnings.simplefilter("ignore")
            values: Tensor = self.model(self.mel(sound).unsqueeze(1))[1]
        return values.float()


def _weights(name: str, published: dict[str, str]) -> dict[str, Tensor]:
    """Read a file of weights, or fetch a published one. Nothing is unpickled but tensors."""
    if name in published:
        try:
            found = torch.hub.load_state_dict_from_url(published[name], map_location="cpu", weights_only=True)
        except OSError as error:
            raise ConnectionError(
                f"teacher = {'passt:' + name!r}: {published[name]} cannot be fetched ({error}); fetch it elsewhere, and give "
                "its file: passt:FILE"
            ) from error
    elif Path(name).is_file():
        try:
            found = torch.load(name, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds
            raise ValueError(f"{name} cannot be read as weights ({str(error).splitlines()[0]})") from error
    elif os.sep in name or name.endswith((".pt", ".pth")):
        raise FileNotFoundError(f"{name}: no such file; expected the weights of a PaSST")
    else:
        raise ValueError(
            f"teacher = {'passt:' + name!r}: expected a file of weights, or one of {', '.join(sorted(published))}"
        )
    return dict(found)
