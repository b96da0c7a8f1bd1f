"""A mask that is the same for every clip, as one fixed array: an exported file then has no convolutions of the front end."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from specenhance import functional
from specenhance._registry import name_of
from specenhance.conditions import create_condition
from specenhance.conditions.altered import Altered
from specenhance.data import AudioDataset, collate
from specenhance.frontends.base import apply_frontend, factors_of
from specenhance.frontends.chain import Chain, chain
from specenhance.models.adapter import FrontendModel

__all__ = ["CONDITIONS", "MOST_CHANGE", "FixedMask", "MaskClips", "fix_mask"]

CONDITIONS = ("clean", "noise:10", "gain:-12", "gain:12")
"""How the sounds are heard on which a mask must not change: a device hears noise and other levels too."""

MOST_CHANGE = 0.01
"""A mask is fixed only if it changes by less than this part of itself, at each frame and bin of each sound."""

BATCH = 32

_log = logging.getLogger(__name__)


class MaskClips(NamedTuple):
    """The clips that fixing a mask needs.

    Attributes:
        mean: the fixed mask is the mean over these.
        judge: other clips, on which it is compared with the mask itself.
        clips: maximum number of clips of each of the two. They are evenly spread over the data set.

    >>> from specenhance.data import SyntheticSounds
    >>> MaskClips(SyntheticSounds("train"), SyntheticSounds("test")).clips
    300
    """

    mean: AudioDataset
    judge: AudioDataset
    clips: int = 300


class FixedMask(nn.Module):
    """A front end that multiplies each spectrogram by the same mask.

    Args:
        e_t: the mask's factor over time ``(C, T)``.
        e_f: its factor over frequency ``(C, F)``.

    >>> FixedMask(torch.tensor([[1.0, 0.5]]), torch.tensor([[1.0, 0.0]]))(torch.ones(1, 1, 2, 2))
    tensor([[[[1.0000, 0.0000],
              [0.5000, 0.0000]]]])
    """

    e_t: Tensor
    e_f: Tensor

    def __init__(self, e_t: Tensor, e_f: Tensor) -> None:
        super().__init__()
        self.in_chans = len(e_t)
        self.register_buffer("e_t", e_t[None])
        self.register_buffer("e_f", e_f[None])

    def factors(self, spec: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factors ``(B, C, T)`` and ``(B, C, F)``, the same for each ``spec (B, C, T, F)``."""
        return self.e_t.expand(spec.shape[0], -1, -1), self.e_f.expand(spec.shape[0], -1, -1)

    def forward(self, spec: Tensor) -> Tensor:
        """Multiply ``spec (B, C, T, F)`` by the mask, eq. (2) of Xing et al."""
        return spec * functional.outer(self.e_t, self.e_f)


def fix_mask(model: FrontendModel, clips: MaskClips) -> tuple[FrontendModel, float]:
    """Replace a mask that does not depend on the clip by its mean. The log says how exact that is.

    Both factors are averaged over clips. The result is compared with the mask itself on other clips, clean and under
    :data:`CONDITIONS`. In a chain of front ends the last one with a mask is replaced.

    Args:
        model: maps waveforms to logits.
        clips: the clips.

    Returns:
        A copy of the model with the fixed mask, and the largest change of the mask that was seen: the maximum of
        ``|M - fixed| / fixed`` over all frames and bins of all sounds.

    Raises:
        ValueError: for a front end without a mask, for one that does more than multiply by its mask, and for a mask that
            changes by :data:`MOST_CHANGE` or more.

    >>> import timm
    >>> from specenhance import KaldiFbank, with_frontend
    >>> from specenhance.data import SyntheticSounds
    >>> backbone = timm.create_model("test_resnet", in_chans=1, num_classes=3)
    >>> model = with_frontend(backbone, "tfe4", features=KaldiFbank(frames=24)).eval()
    >>> clips = MaskClips(SyntheticSounds("train"), SyntheticSounds("test"), clips=10)
    >>> fixed, change = fix_mask(model, clips)  # not trained yet, so its mask is the same for every clip
    >>> type(fixed.frontend).__name__, change < MOST_CHANGE
    ('FixedMask', True)
    """
    name = name_of(model.frontend)
    parts = _parts(model.frontend, name)
    factors = [(e_t, e_f) for _, _, e_t, e_f in _masked(model, parts, clips.mean, clips.clips)]
    mask = FixedMask(
        *(torch.cat(factor).double().mean(0).to(factor[0].dtype) for factor in zip(*factors, strict=True))
    ).eval()
    fixed = copy.deepcopy(model)
    links = [*parts.before, mask, *parts.after]
    fixed.frontend = chain(links) if len(links) > 1 else mask

    changes: dict[str, float] = {}
    count, stay, moved = 0, 0, 0.0
    for condition in CONDITIONS:
        changes[condition] = 0.0
        for spec, real, e_t, e_f in _masked(
            model, parts, Altered(clips.judge, create_condition(condition)), clips.clips
        ):
            changes[condition] = max(
                changes[condition], _change(functional.outer(e_t, e_f), functional.outer(*mask.buffers()))
            )
            was, now = _probabilities(model, spec, real), _probabilities(fixed, spec, real)
            moved = max(moved, (was - now).abs().max().item())
            stay += int(_labels(model, was).eq(_labels(model, now)).all(-1).sum())
            count += len(spec)
    worst = max(changes, key=lambda condition: changes[condition])
    if not changes[worst] < MOST_CHANGE:
        raise ValueError(
            f"front end {name}: its mask depends on the sound. On clips heard {worst} it differs from its mean by up to "
            f"{changes[worst]:.1%}, and only a mask that changes by less than {MOST_CHANGE:.0%} can be fixed; export without a "
            "fixed mask"
        )
    _log.info(
        f"the mask of {name} is fixed, at its mean over {sum(len(e_t) for e_t, _ in factors)} clips. On "
        f"{count // len(CONDITIONS)} other clips, each heard {', '.join(CONDITIONS)}, it changes by at most "
        f"{changes[worst]:.1e} of itself ({worst}), and a probability by at most {moved:.1e}; "
        f"{stay} of {count} keep their labels"
    )
    return fixed, changes[worst]


class _Parts(NamedTuple):
    """A front end before, in and behind its last link with a mask."""

    name: str
    before: list[nn.Module]
    masking: Any
    after: list[nn.Module]


def _parts(frontend: nn.Module, name: str) -> _Parts:
    links: list[Any] = list(frontend.links) if isinstance(frontend, Chain) else [frontend]
    at = max((i for i, link in enumerate(links) if hasattr(link, "factors")), default=None)
    if at is None:
        raise ValueError(f"front end {name}: it has no mask to fix, as a TFE or a TFA has; export without a fixed mask")
    return _Parts(name, links[:at], links[at], links[at + 1 :])


@torch.no_grad()
def _masked(
    model: FrontendModel, parts: _Parts, data: AudioDataset, most: int
) -> Iterator[tuple[Tensor, Tensor | None, Tensor, Tensor]]:
    """Give the spectrograms of a data set in batches, with their real frames and the factors of their masks."""
    chosen = range(0, len(data), -(-len(data) // most))
    for start in range(0, len(chosen), BATCH):
        batch = collate([data[i] for i in chosen[start : start + BATCH]])
        waveform = batch.waveform.to(next(model.parameters()).device)
        spec, real = model.spectrogram(waveform, batch.length), model.real_frames(waveform, batch.length)
        inner = spec
        for link in parts.before:
            inner = apply_frontend(link, inner, real)
        factors = factors_of(parts.masking, inner, real)
        assert factors is not None
        result = apply_frontend(parts.masking, inner, real)
        if not torch.allclose(result, inner * functional.outer(*factors), rtol=1e-4, atol=1e-5):
            raise ValueError(
                f"front end {parts.name}: its result is not the spectrogram times its mask; export without a fixed mask"
            )
        yield spec, real, *factors


def _change(mask: Tensor, fixed: Tensor) -> float:
    """Return the largest change of a mask ``(B, C, T, F)``, relative to the fixed one. NaN counts as infinite."""
    change = torch.where(mask == fixed, 0, (mask - fixed).abs() / fixed)  # a mask may be 0
    return float(change.nan_to_num(nan=math.inf).max())


@torch.no_grad()
def _probabilities(model: FrontendModel, spec: Tensor, real: Tensor | None) -> Tensor:
    return model.probabilities(model.classify(spec, real))


def _labels(model: Any, probabilities: Tensor) -> Tensor:
    """Return the classes of each sound ``(B, classes)``, or the likeliest one ``(B, 1)``."""
    if model.thresholds:
        return probabilities >= torch.tensor(model.thresholds, device=probabilities.device)
    return probabilities.argmax(-1, keepdim=True)
