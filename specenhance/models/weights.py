"""A model's weights in one sealed safetensors file: nothing is pickled, and a file whose bytes have changed is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from specenhance._checksum import BLANK, KEY, check, seal
from specenhance._files import atomic_path

__all__ = ["read_weights", "write_weights"]


def write_weights(path: str | os.PathLike[str], state: Mapping[str, Tensor], **about: str) -> None:
    """Write a state dictionary, wherever its tensors lie, with texts under keys beside it.

    Raises:
        OSError: as :func:`specenhance._files.atomic_path`.
    """
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={**about, KEY: BLANK})
        seal(temporary)


def read_weights(path: str | os.PathLike[str], cure: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what :func:`write_weights` wrote: the state dictionary, and the texts under keys.

    Args:
        path: the file.
        cure: how to get a good one, for the message.

    Raises:
        ValueError: for a file that cannot be read, or whose bytes are not those that were written.
    """
    try:
        check(path, cure)
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({error}); {cure}") from error
