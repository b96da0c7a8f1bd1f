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


def write_weights(path: str | os.PathLike[str], state: Mapping[str, Tensor]) -> None:
    """Write a state dictionary, wherever its tensors lie.

    Raises:
        OSError: as :func:`specenhance._files.atomic_path`.
    """
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={KEY: BLANK})
        seal(temporary)


def read_weights(path: str | os.PathLike[str], cure: str) -> dict[str, Tensor]:
    """Read the state dictionary that :func:`write_weights` wrote.

    Args:
        path: the file.
        cure: how to get a good one, for the message.

    Raises:
        ValueError: for a file that cannot be read, or whose bytes are not those that were written.
    """
    try:
        check(path, cure)
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({error}); {cure}") from error
