"""The Audio Spectrogram Transformer (AST) as a teacher: transformers' model, for any size and number of classes.

Source: Gong, Chung, Glass, "AST: Audio Spectrogram Transformer", arXiv:2104.01778, and its authors' code.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specenhance._files import atomic_folder
from specenhance._missing import missing
from specenhance.models.online import require_hub, require_weights

try:
    from transformers import ASTConfig, ASTForAudioClassification
    from transformers.utils import logging as transformers_logging
except ImportError as error:
    raise missing(error, "AST needs transformers", "transformers") from error

__all__ = ["AST", "ast_teacher", "resize_positions"]

SPECIAL_TOKENS = 2  # the class token and the distillation token, before the patches
STRIDE = 10  # frames and bins from one patch to the next, as published


class AST(nn.Module):
    """transformers' ``ASTForAudioClassification`` with the interface of this library's backbones.

    It maps spectrograms ``(B, 1, T, F)`` to logits ``(B, num_classes)``. :func:`ast_teacher` makes one.

    Args:
        model: The model. T and F are its ``config.max_length`` and ``config.num_mel_bins``.

    >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> made = AST(ASTForAudioClassification(ASTConfig(**sizes, max_length=64, num_mel_bins=32, num_labels=3)))
    >>> made(torch.zeros(2, 1, 64, 32)).shape
    torch.Size([2, 3])
    >>> AST.from_config(made.to_config()).num_classes
    3
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made.save_pretrained(f"{folder}/ast", classes=["cat", "dog", "rain"])
    ...     loaded = ast_teacher(f"{folder}/ast", num_classes=3, frames=64, bins=32)
    >>> loaded.model.config.id2label
    {0: 'cat', 1: 'dog', 2: 'rain'}
    """

    in_chans = 1

    def __init__(self, model: ASTForAudioClassification) -> None:
        super().__init__()
        self.model = model

    @property
    def num_classes(self) -> int:
        """The number of classes of the head."""
        return self.model.config.num_labels

    @property
    def num_features(self) -> int:
        """The number of features of a token."""
        return self.model.config.hidden_size

    def forward(self, spec: Tensor) -> Tensor:
        """Compute logits ``(B, num_classes)`` from spectrograms ``(B, 1, T, F)``.

        Raises:
            ValueError: for spectrograms of another size than the model's.
        """
        config = self.model.config
        if spec.ndim != 4 or spec.shape[1:] != (1, config.max_length, config.num_mel_bins):
            raise ValueError(
                f"this AST takes spectrograms (B, 1, {config.max_length}, {config.num_mel_bins}), got {tuple(spec.shape)}; "
                "make it with ast_teacher(..., frames=T, bins=F)"
            )
        return self.model(spec[:, 0]).logits

    def to_config(self) -> dict[str, Any]:
        """Give the configuration as JSON has it. :meth:`from_config` makes the same architecture from it."""
        return json.loads(self.model.config.to_json_string())

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AST:
        """Make an AST with random weights from a configuration of transformers."""
        return cls(ASTForAudioClassification(ASTConfig.from_dict(config)))

    def save_pretrained(self, folder: str | os.PathLike[str], classes: Sequence[str]) -> None:
        """Write the model and the names of its classes into a folder, in the format of transformers.

        :func:`ast_teacher` and ``ASTForAudioClassification.from_pretrained`` read the folder. If an error occurs, no folder
        is written.

        Args:
            folder: The folder.
            classes: Names of the classes, in the order of the logits.

        Raises:
            ValueError: if the number of names is not the number of classes.
        """
        if len(classes) != self.num_classes:
            raise ValueError(f"{len(classes)} names for {self.num_classes} classes")
        self.model.config.id2label = dict(enumerate(classes))
        self.model.config.label2id = {name: i for i, name in enumerate(classes)}
        with atomic_folder(folder) as temporary, _quiet():
            self.model.save_pretrained(temporary)


def ast_teacher(
    name_or_path: str | os.PathLike[str],
    num_classes: int,
    *,
    frames: int = 1024,
    bins: int = 128,
    pretrained: bool = True,
) -> AST:
    """Make an AST for spectrograms ``(B, 1, frames, bins)`` and ``num_classes`` classes.

    A head of ``num_classes`` classes is kept, such as after fine-tuning. Any other head is replaced by a new one, and the
    model must be trained before it can teach. :func:`resize_positions` fits the position embedding to the size.

    Args:
        name_or_path: One of three. A name on the Hugging Face hub, such as ``MIT/ast-finetuned-audioset-10-10-0.4593``, which
            has ImageNet and AudioSet weights. A folder that ``save_pretrained`` wrote. timm's name of a distilled DeiT, such
            as ``deit_base_distilled_patch16_384``; its ImageNet weights are those that AST starts from.
        num_classes: The number of classes of the head.
        frames: The number of time frames T of the spectrogram, at least one patch (16).
        bins: The number of frequency bins F of the spectrogram, at least one patch (16).
        pretrained: Whether to load weights. Otherwise they are random, and the name gives only the architecture.

    Raises:
        ValueError: for a size smaller than a patch, a timm model that is no distilled DeiT, or weights that cannot be found
            or downloaded. The message says what to do.
        ImportError: if transformers is missing.

    >>> teacher = ast_teacher("deit_tiny_distilled_patch16_224", num_classes=3, frames=64, bins=32, pretrained=False)
    >>> teacher(torch.zeros(2, 1, 64, 32)).shape
    torch.Size([2, 3])
    """
    name = os.fspath(name_or_path)
    if timm.is_model(name):
        if "deit" not in name or "distilled" not in name:
            raise ValueError(
                f"{name!r}: AST starts from a distilled DeiT, such as deit_base_distilled_patch16_384; take another timm "
                "model by timm_teacher"
            )
        source = _from_deit(_fetched(name, lambda: _from_timm(name, pretrained)))
    else:
        with _quiet():
            source = _fetched(name, lambda: _from_transformers(name, pretrained))
    resized = _resized(source, num_classes, frames, bins)
    if not pretrained:  # as AST's own code does; transformers takes zeros
        nn.init.trunc_normal_(_positions(resized), std=0.02)
    return AST(resized)


def resize_positions(positions: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """Resize the position embedding to another grid of patches, as AST's own code does.

    The time axis is resized first, then the frequency axis. If the new size of an axis is smaller, the middle is cut out. If
    it is larger, the axis is interpolated linearly.

    Args:
        positions: The embedding ``(1, 2 + f * t, width)``: first two special tokens, then the patches, frequency by
            frequency. The special tokens do not change.
        size: The numbers of patches ``(f, t)`` along frequency and time.
        new_size: The new numbers of patches ``(f', t')``.

    Returns:
        The new embedding ``(1, 2 + f' * t', width)``. If the sizes are equal, it has the same values.

    >>> resize_positions(torch.zeros(1, 2 + 12 * 101, 8), (12, 101), (12, 50)).shape
    torch.Size([1, 602, 8])
    """
    special, patches = positions[:, :SPECIAL_TOKENS], positions[:, SPECIAL_TOKENS:]
    grid = patches.transpose(1, 2).unflatten(2, size)  # (1, width, f, t)
    for dim in (3, 2):
        old, new = grid.shape[dim], new_size[dim - 2]
        if new <= old:
            grid = grid.narrow(dim, old // 2 - new // 2, new)
        else:
            shape = (grid.shape[2], new) if dim == 3 else (new, grid.shape[3])
            grid = F.interpolate(grid, size=shape, mode="bilinear")
    return torch.cat([special, grid.flatten(2).transpose(1, 2)], dim=1)


def _resized(source: ASTForAudioClassification, num_classes: int, frames: int, bins: int) -> ASTForAudioClassification:
    config = source.config
    if min(frames, bins) < config.patch_size:
        raise ValueError(f"frames={frames}, bins={bins}: AST needs at least one patch, {config.patch_size} of each")
    keeps_head = config.num_labels == num_classes
    new_config = copy.deepcopy(config)
    new_config.max_length, new_config.num_mel_bins = frames, bins
    if not keeps_head:
        new_config.num_labels = num_classes
    model = ASTForAudioClassification(new_config)
    state = {name: tensor for name, tensor in source.state_dict().items() if keeps_head or "classifier." not in name}
    state["audio_spectrogram_transformer.embeddings.position_embeddings"] = resize_positions(
        _positions(source).detach(), _grid(config), _grid(new_config)
    )
    lost = model.load_state_dict(state, strict=False)
    if lost.unexpected_keys or any("classifier." not in name for name in lost.missing_keys):
        raise ValueError(f"the weights do not fit an AST: {[*lost.unexpected_keys, *lost.missing_keys][:5]}")
    return model


def _grid(config: ASTConfig) -> tuple[int, int]:
    """Count the patches ``(f, t)`` along frequency and time."""
    return (
        (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1,
        (config.max_length - config.patch_size) // config.time_stride + 1,
    )


def _positions(model: ASTForAudioClassification) -> nn.Parameter:
    return model.audio_spectrogram_transformer.embeddings.position_embeddings


def _from_timm(name: str, pretrained: bool) -> nn.Module:
    if pretrained:
        require_weights(name)
    return timm.create_model(name, pretrained=pretrained)


def _from_transformers(name: str, pretrained: bool) -> ASTForAudioClassification:
    if not Path(name).is_dir():
        require_hub(name, "config.json")
    if pretrained:
        return ASTForAudioClassification.from_pretrained(name)
    return ASTForAudioClassification(ASTConfig.from_pretrained(name))


def _from_deit(deit: Any, stride: int = STRIDE) -> ASTForAudioClassification:
    """Make an AST from a distilled DeiT of timm, with the same grid of patches. The three colours become one channel."""
    width, rows = deit.embed_dim, deit.patch_embed.grid_size[0]
    patch = deit.patch_embed.patch_size[0]
    side = patch + stride * (rows - 1)  # the size of an input that has as many patches at this stride
    config = ASTConfig(
        hidden_size=width,
        num_hidden_layers=len(deit.blocks),
        num_attention_heads=deit.blocks[0].attn.num_heads,
        intermediate_size=deit.blocks[0].mlp.fc1.out_features,
        layer_norm_eps=deit.norm.eps,
        patch_size=patch,
        frequency_stride=stride,
        time_stride=stride,
        max_length=side,
        num_mel_bins=side,
        num_labels=0,  # the ImageNet head is of no use
    )
    model = ASTForAudioClassification(config)
    given = deit.state_dict()
    state = {
        "embeddings.cls_token": given["cls_token"],
        "embeddings.distillation_token": given["dist_token"],
        "embeddings.position_embeddings": given["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": given["patch_embed.proj.weight"].sum(1, keepdim=True),
        "embeddings.patch_embeddings.projection.bias": given["patch_embed.proj.bias"],
        "layernorm.weight": given["norm.weight"],
        "layernorm.bias": given["norm.bias"],
    }
    same = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.o_proj"}
    same |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for i in range(len(deit.blocks)):
        for kind in ("weight", "bias"):
            for theirs, ours in same.items():
                state[f"layers.{i}.{ours}.{kind}"] = given[f"blocks.{i}.{theirs}.{kind}"]
            parts = given[f"blocks.{i}.attn.qkv.{kind}"].chunk(3)
            for name, part in zip("qkv", parts, strict=True):
                state[f"layers.{i}.attention.{name}_proj.{kind}"] = part
    model.audio_spectrogram_transformer.load_state_dict(state)
    return model


def _fetched(name: str, make: Any) -> Any:
    try:
        return make()
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"the AST {name!r} could not be fetched ({str(error).splitlines()[0]}); give a local folder that save_pretrained "
            "wrote, or train from scratch: --no-pretrained, with a distilled DeiT's name such as "
            "deit_base_distilled_patch16_384 as its architecture"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Switch off transformers' progress bars while it reads or writes weights."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
