"""Teachers. Anything that gives logits can be a teacher. It does not change while a student learns from it."""

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

LOCAL = "local-dir:"  # timm's prefix for a folder that its save_for_hf wrote


def logits_of(output: Any) -> Tensor:
    """Give the logits ``(B, C)`` of a model's output.

    Args:
        output: The logits, or an output of Hugging Face, which has them under ``logits``.

    Raises:
        TypeError: for an output without logits.

    >>> logits_of({"logits": torch.zeros(2, 3)}).shape
    torch.Size([2, 3])
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
    """A teacher in evaluation mode, without gradients.

    The teacher's parameters are not in this module's ``parameters()`` and ``state_dict()``. So they are not in the student's
    optimizer and checkpoints. ``.to()``, ``.half()`` and similar methods still move the teacher, unless ``device`` or ``dtype``
    fix it.

    Args:
        teacher: A timm model, a Hugging Face model, or anything else that maps its input to logits ``(B, C)``. A module is not
            copied: its own parameters need no gradient from then on.
        transform: A function that maps the student's input to the teacher's, for another normalisation, length or shape.
        dtype: The floating type of the teacher. Autocast does not change it. None takes the type of this module.
        device: The device of the teacher. None takes the device of this module.

    Raises:
        TypeError: for a teacher that cannot be called, or a dtype that is not floating.

    >>> teacher = FrozenTeacher(nn.Linear(4, 3))
    >>> teacher(torch.zeros(2, 4)).requires_grad, list(teacher.parameters())
    (False, [])
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
        # nn.Module's own __setattr__ would register them as parts of this module.
        object.__setattr__(self, "teacher", teacher)
        object.__setattr__(self, "transform", transform)
        if isinstance(teacher, nn.Module):
            for parameter in teacher.parameters():  # TorchScript's modules lack requires_grad_()
                parameter.requires_grad_(False)
            teacher.eval().to(device=self.device, dtype=dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenTeacher:
        super()._apply(fn, recurse)
        for part in (self.teacher, self.transform):
            if not isinstance(part, nn.Module):
                continue
            if self.dtype is None and self.device is None:
                part._apply(fn)
            else:  # fn is not applied: to half precision and back would round a type that is fixed
                like = fn(torch.empty(0))
                part.to(device=self.device or like.device, dtype=self.dtype or like.dtype)
        return self

    @torch.no_grad()
    def forward(self, x: Tensor, keys: Sequence[str] | None = None) -> Tensor:
        """Give the teacher's logits ``(B, C)``, in its own precision, on the device of ``x``.

        Args:
            x: The student's input. ``transform`` maps it to the teacher's.
            keys: A name for each sample. Only :class:`specenhance.distillation.cache.CachedTeacher` needs them.

        Raises:
            TypeError: as :func:`logits_of`.
        """
        if isinstance(self.teacher, nn.Module) and self.teacher.training:
            self.teacher.eval()  # other code has set it to training mode
        given = x
        if self.transform is not None:
            x = self.transform(x)
        x = x.to(device=self.device, dtype=self.dtype)
        exact = torch.autocast(x.device.type, enabled=False) if self.dtype is not None else nullcontext()
        with exact:
            return logits_of(self.teacher(x)).to(given.device)


class Reordered(nn.Module):
    """A model with its classes in another order.

    Args:
        model: A model that gives logits ``(B, C)``, or an output that has them.
        order: For each class of the result: the number of the class in the model.

    >>> Reordered(nn.Identity(), order=[2, 0, 1])(torch.tensor([[10.0, 11.0, 12.0]]))
    tensor([[12., 10., 11.]])
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
        name: timm's name of the model, or ``local-dir:FOLDER`` for a folder that ``timm.models.save_for_hf`` wrote. The head is
            new, unless the stored head has ``num_classes`` classes.
        num_classes: The number of classes of the head.
        frames: The frames T of the spectrogram. A model of fixed input size is made for them. None, with ``bins=None``, keeps
            the model's own size, for ``with_frontend(..., fit="resize")``.
        bins: The bins F of the spectrogram.
        in_chans: The channels of the spectrogram.
        pretrained: Whether to start from timm's (or the folder's) weights. Otherwise the weights are random.
        **kwargs: Further arguments of ``timm.create_model``, such as ``drop_path_rate=0.1``.

    Raises:
        TypeError: for an argument that the model does not have.
        ValueError: for an unknown name, a size that the model cannot be made for, and weights that cannot be fetched or found.
            The message names the cure.

    >>> teacher = timm_teacher("test_vit", num_classes=3, frames=64, bins=32, pretrained=False)
    >>> teacher(torch.zeros(2, 1, 64, 32)).shape
    torch.Size([2, 3])
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
