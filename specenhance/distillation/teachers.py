"""Teachers: anything that gives logits, kept as it is while a student learns from it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from specenhance.models.online import require_weights

__all__ = ["LOCAL", "FrozenTeacher", "Reordered", "logits_of", "timm_teacher"]

LOCAL = "local-dir:"  # how timm names a folder that its save_for_hf wrote


def logits_of(output: Any) -> Tensor:
    """Give the logits ``(B, C)`` of a model's output: the tensor itself, or its ``logits`` as Hugging Face's models name them.

    Raises:
        TypeError: for an output that is neither.
    """
    found = (
        output["logits"] if isinstance(output, Mapping) and "logits" in output else getattr(output, "logits", output)
    )
    if not isinstance(found, Tensor):
        raise TypeError(
            f"the model gave {type(output).__name__}: expected logits (B, C), or an output with 'logits'; wrap it in a "
            "function that gives them"
        )
    return found


class FrozenTeacher(nn.Module):
    """A teacher in evaluation, without gradients, that no optimizer and no checkpoint of the student meets.

    Its parameters are outside this module's ``parameters()`` and ``state_dict()``, but ``.to()``, ``.half()`` and the like
    move it along, as far as ``device`` and ``dtype`` do not pin it.

    Args:
        teacher: a timm model, a Hugging Face model, or anything else that maps its input to logits ``(B, C)``. A module is
            frozen where it stands: its parameters ask for no gradient from here on.
        transform: maps the student's input to the teacher's: another normalisation, another length, another shape.
        dtype: the teacher's own floating type; autocast then leaves it alone. None: as this module's.
        device: the teacher's own device. None: as this module's.

    Raises:
        TypeError: for a teacher that cannot be called, or a dtype that is not floating.
    """

    teacher: Callable[..., Any]
    transform: Callable[[Tensor], Tensor] | None

    def __init__(
        self,
        teacher: Callable[..., Any],
        *,
        transform: Callable[[Tensor], Tensor] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if not callable(teacher):
            raise TypeError(f"teacher: expected a model or a function that gives logits, got {type(teacher).__name__}")
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"dtype={dtype}: expected a floating type such as torch.float16")
        self.dtype = dtype
        self.device = None if device is None else torch.device(device)
        # Past nn.Module's own setting of attributes, which would make them parts of this module.
        object.__setattr__(self, "teacher", teacher)
        object.__setattr__(self, "transform", transform)
        if isinstance(teacher, nn.Module):
            for parameter in teacher.parameters():  # TorchScript's modules lack the method for all of them
                parameter.requires_grad_(False)
            teacher.eval().to(device=self.device, dtype=dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenTeacher:
        super()._apply(fn, recurse)
        for part in (self.teacher, self.transform):
            if not isinstance(part, nn.Module):
                continue
            if self.dtype is None and self.device is None:
                part._apply(fn)
            else:  # what is pinned must not go through fn: half precision and back would round it
                like = fn(torch.empty(0))
                part.to(device=self.device or like.device, dtype=self.dtype or like.dtype)
        return self

    @torch.no_grad()
    def forward(self, x: Tensor, keys: Sequence[str] | None = None) -> Tensor:
        """Give the teacher's logits ``(B, C)``, in its own precision, on the device of ``x``.

        Args:
            x: the student's input, which ``transform`` brings to the teacher's.
            keys: a name for each sample; only :class:`specenhance.distillation.cache.CachedTeacher` asks for them.

        Raises:
            TypeError: as :func:`logits_of`.
        """
        if isinstance(self.teacher, nn.Module) and self.teacher.training:
            self.teacher.eval()  # somebody else has set it to training
        given = x
        if self.transform is not None:
            x = self.transform(x)
        x = x.to(device=self.device, dtype=self.dtype)
        alone = torch.autocast(x.device.type, enabled=False) if self.dtype is not None else nullcontext()
        with alone:
            return logits_of(self.teacher(x)).to(given.device)


class Reordered(nn.Module):
    """A model whose classes stand in another order.

    Args:
        model: gives logits ``(B, C)``, or an output that has them.
        order: for each class of the result, its number among the model's.
    """

    def __init__(self, model: nn.Module, order: Sequence[int]) -> None:
        super().__init__()
        self.model, self.order = model, list(order)

    def forward(self, spec: Tensor) -> Tensor:
        """Give the logits ``(B, C)`` in the new order."""
        return logits_of(self.model(spec))[:, self.order]


def timm_teacher(
    name: str,
    num_classes: int,
    *,
    frames: int | None = 128,
    bins: int | None = 128,
    in_chans: int = 1,
    pretrained: bool = True,
    **kwargs: Any,
) -> nn.Module:
    """Make any timm model for spectrograms ``(B, in_chans, frames, bins)`` and ``num_classes`` classes.

    Args:
        name: timm's name, or ``local-dir:FOLDER`` for a folder that ``timm.models.save_for_hf`` wrote. The head is a new one
            unless the weights' own has ``num_classes`` classes.
        num_classes: of the head.
        frames: T; a model of fixed input size is made for it. None, with ``bins=None``, leaves it at its own size, for
            ``with_frontend(..., fit="resize")``.
        bins: F.
        in_chans: channels of the spectrogram.
        pretrained: start from timm's (or the folder's) weights, or from random ones.
        **kwargs: for ``timm.create_model`` besides, e.g. ``drop_path_rate=0.1``.

    Raises:
        TypeError: for an argument that the model does not take.
        ValueError: for an unknown name, a size that the model cannot be made for, or weights that cannot be fetched or
            found; the message names the cure.
    """
    size = {}
    try:
        architecture = _architecture(name)
        config = timm.get_pretrained_cfg(architecture)
        if frames is not None and config is not None and config.fixed_input_size:
            size = {"img_size": (frames, bins)}
        if pretrained and not name.startswith(LOCAL):
            require_weights(name)
        given = {**size, **kwargs}
        return timm.create_model(name, pretrained=pretrained, in_chans=in_chans, num_classes=num_classes, **given)
    except AssertionError as error:
        if not size:
            raise
        raise ValueError(
            f"{name!r} cannot be made for {frames} frames x {bins} bins ({error}); leave it at its own size, frames=None and "
            "bins=None, and have spectrograms interpolated to it by with_frontend(..., fit='resize')"
        ) from error
    except OSError as error:
        raise ValueError(
            f"the weights of {name!r} could not be fetched ({error}); train from scratch with --no-pretrained, or give a "
            f"local folder that timm.models.save_for_hf wrote: {LOCAL}FOLDER"
        ) from error


def _architecture(name: str) -> str:
    if name.startswith(LOCAL):
        text = (Path(name.removeprefix(LOCAL)) / "config.json").read_text(encoding="utf-8")
        return json.loads(text)["architecture"]
    architecture, _, tag = name.partition(".")
    if not timm.is_model(name):
        near = difflib.get_close_matches(architecture.lower(), timm.list_models(), n=3)
        raise ValueError(
            f"backbone = {name!r} is no timm model; "
            f"{f'did you mean one of {near}? ' if near else ''}timm.list_models() has all"
        )
    if tag and name not in (known := timm.list_models(architecture, include_tags=True)):
        raise ValueError(
            f"backbone = {name!r}: timm has no weights {tag!r} of {architecture!r}; it has {', '.join(known)}"
        )
    return name
