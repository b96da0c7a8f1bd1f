"""The data set of a recipe, checked and stored as shards."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from specenhance.data.check import FaultsError, listed
from specenhance.data.registry import recipe_defaults
from specenhance.data.shards import write_shards
from specenhance.training.prepare import look_at
from specenhance.training.recipe import MULTI_LABEL, Recipe

__all__ = ["shard"]

_log = logging.getLogger(__name__)


def shard(recipe: Recipe, out: Path, *, megabytes: float = 100.0) -> dict[str, int]:
    """Check the clips of a recipe's data set, and store them as shards.

    Training on the shards has the fields as defaults that the recipe has for its data set.

    Args:
        recipe: The recipe. With ``skip_bad``, files that cannot be used are left out.
        out: Folder of the shards. It must be new.
        megabytes: Size from which on a new shard is begun.

    Returns:
        Number of shards of each split.

    Raises:
        FileExistsError: for a folder that is already there.
        FileNotFoundError, ValueError: as the data set does, and for files that cannot be read, which the message lists.
        ImportError: without webdataset.

    >>> import tempfile
    >>> from specenhance.training import recipe_for
    >>> with tempfile.TemporaryDirectory() as place:
    ...     shard(recipe_for("synthetic", data_args={"clips_per_class": 2}), Path(place, "shards"))
    {'train': 1, 'validation': 1, 'test': 1}
    """
    if out.exists():
        raise FileExistsError(f"{out}: already there; remove it or choose another --out")
    sounds = look_at(recipe, thorough=recipe.skip_bad)
    if sounds.faults:
        faults = list(sounds.faults.values())
        if not recipe.skip_bad:
            raise FaultsError(
                f"{len(faults)} files cannot be used:", faults, "Mend or remove them, or leave them out: --skip-bad"
            )
        for line in (f"{len(faults)} files cannot be used and are left out:", *listed(faults)):
            _log.info(line)
    parts = sounds.readable()
    return write_shards(
        parts,
        out,
        root=recipe.root,
        seconds={split: sounds.lengths(split) for split in parts},
        recipe=_own_fields(recipe),
        megabytes=megabytes,
    )


def _own_fields(recipe: Recipe) -> dict[str, Any]:
    """Give the fields in which a recipe of this data set differs from others. Without None, which TOML does not know."""
    names = {*recipe_defaults(recipe.data), *(("multi_label", *MULTI_LABEL) if recipe.multi_label else ())}
    fields = recipe.model_dump(mode="json")
    return {name: fields[name] for name in sorted(names) if fields[name] is not None}
