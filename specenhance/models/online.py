"""A quick check that a file can be downloaded from the Hugging Face Hub. The download itself retries for half a minute."""

from __future__ import annotations

from pathlib import Path

import timm
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

__all__ = ["require_hub", "require_weights"]

PATIENCE = 5.0  # s, maximum time for the hub to answer


def require_hub(
    repo_id: str,
    *filenames: str,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: bool | str | None = None,
) -> None:
    """Check before a download that a file is in the cache or the hub answers.

    Any answer of the hub is accepted, even an error: the download then reports it.

    Args:
        repo_id: Name on the hub, USER/NAME.
        *filenames: Names of files. One of them in the cache is enough.
        revision: Branch, tag or commit.
        cache_dir: Folder of the cache; None takes huggingface_hub's.
        token: Access token, as in huggingface_hub.

    Raises:
        ConnectionError: if no file is in the cache and the hub does not answer. The message has the reason in one line.
        FileNotFoundError: for a name that the hub cannot have. It is probably a folder that does not exist.

    >>> require_hub("./runs/none", "config.json")
    Traceback (most recent call last):
    FileNotFoundError: ./runs/none: no such folder, and no name of the hub's, USER/NAME
    """
    try:
        cached = (try_to_load_from_cache(repo_id, name, cache_dir=cache_dir, revision=revision) for name in filenames)
        if any(isinstance(found, str) for found in cached):
            return
    except HFValidationError as error:
        raise FileNotFoundError(f"{repo_id}: no such folder, and no name of the hub's, USER/NAME") from error
    try:
        get_hf_file_metadata(hf_hub_url(repo_id, filenames[0], revision=revision), token=token, timeout=PATIENCE)
    except HfHubHTTPError:
        return
    except Exception as error:  # the errors depend on the HTTP library of huggingface_hub's version
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        raise ConnectionError(
            f"{repo_id} is not in the cache, and {constants.ENDPOINT} does not answer: {reason}"
        ) from error


def require_weights(name: str) -> None:
    """Check that a timm model has published weights and that they can be loaded now.

    Args:
        name: Name of the timm model.

    Raises:
        ValueError: for a model without published weights.
        ConnectionError: if the weights are not in the cache and the hub does not answer.

    >>> require_weights("vit_giant_patch14_224")
    Traceback (most recent call last):
    ValueError: timm knows no published weights of 'vit_giant_patch14_224'; train from scratch with --no-pretrained
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise ValueError(f"timm knows no published weights of {name!r}; train from scratch with --no-pretrained")
    if config.hf_hub_id and not config.file:
        repo_id, _, revision = config.hf_hub_id.partition("@")
        files = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
        require_hub(repo_id, *files, revision=revision or None)
