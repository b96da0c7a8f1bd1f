"""Whether a file of the Hugging Face Hub can be had, asked once: its own download asks again for half a minute and more."""

from __future__ import annotations

from pathlib import Path

import timm
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

__all__ = ["require_hub", "require_weights"]

PATIENCE = 5.0  # seconds that the hub may take to answer


def require_hub(
    repo_id: str,
    *filenames: str,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: bool | str | None = None,
) -> None:
    """Refuse to download what is not in the cache where the hub does not answer; call it before a download.

    An answer, whatever it says, is the download's own affair.

    Args:
        repo_id: USER/NAME on the hub.
        *filenames: of which one is to be had.
        revision: branch, tag or commit.
        cache_dir: where downloads are kept, if elsewhere.
        token: as in huggingface_hub.

    Raises:
        ConnectionError: with the reason, in one line.
        FileNotFoundError: for what cannot be a name on the hub; a folder, it seems, that is not there.
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
    except Exception as error:  # huggingface_hub has changed the library that it asks by, and with it the errors
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        raise ConnectionError(
            f"{repo_id} is not in the cache, and {constants.ENDPOINT} does not answer: {reason}"
        ) from error


def require_weights(name: str) -> None:
    """Refuse a timm model without published weights, or whose weights cannot be fetched now.

    Raises:
        ValueError: for a model without published weights.
        ConnectionError: for weights that are not in the cache, while the hub does not answer.

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
