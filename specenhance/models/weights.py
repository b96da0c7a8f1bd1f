"""Weights in a safetensors file with a checksum. Nothing is pickled, and a file that has changed is refused."""

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
    """Write a state dictionary to a file.

    Args:
        path: The file.
        state: The tensors by name, on any device.

    Raises:
        OSError: as :func:`specenhance._files.atomic_path`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_weights(f"{folder}/weights.safetensors", {"scale": torch.ones(2)})
    ...     read_weights(f"{folder}/weights.safetensors", cure="train again")
    {'scale': tensor([1., 1.])}
    """
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={KEY: BLANK})
        seal(temporary)


def read_weights(path: str | os.PathLike[str], cure: str) -> dict[str, Tensor]:
    """Read a state dictionary that :func:`write_weights` wrote.

    Args:
        path: The file.
        cure: How to get a good file, for the message.

    Raises:
        ValueError: for a file that cannot be read or has changed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     read_weights(f"{folder}/none.safetensors", cure="train again")
    Traceback (most recent call last):
    ValueError: ...none.safetensors cannot be read (...); train again
    """
    try:
        check(path, cure)
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} cannot be read ({error}); {cure}") from error
