"""The model of a run, opened to work through many sounds. It can be opened in several processes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch

from specenhance.inference import Embedding, Listening
from specenhance.training.store import WEIGHTS, load_stored

__all__ = ["fingerprint", "open_embedding", "open_run"]


def open_run(run: str | os.PathLike[str], device: str = "cpu", threads: int | None = 1) -> Listening:
    """Open the model of a finished run.

    Args:
        run: the run folder.
        device: PyTorch's name of the device.
        threads: number of threads on which this process computes a batch on a CPU from now on. None leaves it as it is.

    It raises as :func:`specenhance.training.store.load_stored`.

    Example (it needs a finished run, so it does not run as a test)::

        predict_sounds(partial(open_run, "run"), sounds, "table.csv", ...)
    """
    if threads is not None:
        torch.set_num_threads(threads)
    stored = load_stored(run, device)
    return Listening(stored.model, stored.recipe.clip_seconds)


def open_embedding(run: str | os.PathLike[str], device: str = "cpu", threads: int | None = 1) -> Embedding:
    """Open the model of a finished run for its embeddings. Arguments and errors are those of :func:`open_run`."""
    opened = open_run(run, device, threads)
    return Embedding(opened.model, opened.clip_samples / opened.sample_rate)


def fingerprint(run: str | os.PathLike[str]) -> str:
    """Give a checksum of a run's weights.

    Args:
        run: the run folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as run:
    ...     _ = Path(run, WEIGHTS).write_bytes(b"weights")
    ...     fingerprint(run)[:8]
    '9a129038'
    """
    return hashlib.sha256((Path(run) / WEIGHTS).read_bytes()).hexdigest()
