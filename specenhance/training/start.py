"""Start a training from the weights of another model of this library."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from specenhance.models.adapter import FrontendModel
from specenhance.models.hub import WEIGHTS
from specenhance.models.weights import read_weights

__all__ = ["load_start"]

SHOWN = 3  # maximum number of names in a message


def load_start(model: FrontendModel, init: str) -> str:
    """Load the weights that a model has in common with a stored one.

    The backbones must be the same but for the head: a head for another number of classes keeps its new weights. So does a front
    end, or features that learn, that the stored model does not have.

    Args:
        model: the model. It is changed.
        init: a run folder, or the path of a ``.safetensors`` file.

    Returns:
        What was loaded and what starts anew, in one line.

    Raises:
        FileNotFoundError: if there is no such file, or the run is not finished.
        ValueError: for a file that cannot be read, or that of another backbone.

    >>> import tempfile
    >>> from specenhance.training.build import build_model
    >>> from specenhance.training.recipe import Recipe
    >>> from specenhance.training.store import save_model
    >>> recipe = Recipe(backbone="test_resnet", frontend="tfe1")
    >>> with tempfile.TemporaryDirectory() as run:
    ...     save_model(build_model(recipe, 2), ["no", "yes"], run)
    ...     load_start(build_model(recipe, 3), run)
    'starting from the weights of ...; anew: the head (2 tensors)'
    """
    path = Path(init) / WEIGHTS if Path(init).is_dir() else Path(init)
    if not path.is_file():
        raise FileNotFoundError(
            f"init = {init!r}: {path} is not there; expected a finished run, or a .safetensors file of a model"
        )
    stored = read_weights(path, "copy it again, or train that run again")
    own = model.state_dict()
    fits = {name for name, tensor in own.items() if name in stored and stored[name].shape == tensor.shape}
    anew = [name for name in own if name not in fits]
    head = {name for name in anew if _in_head(model, name)}
    rest = [name for name in anew if name.startswith("backbone.") and name not in head]
    unused = [name for name in stored if name.startswith("backbone.") and name not in own]
    if rest or unused:
        raise ValueError(
            f"init = {init!r}: its backbone is another one ({', '.join((rest + unused)[:SHOWN])}, ... differ); expected the "
            "weights of the same backbone"
        )
    model.load_state_dict({**own, **{name: stored[name] for name in fits}})
    others = [name for name in anew if name not in head]
    parts = [("the head", head), ("the front end or features", others)]
    new = " and ".join(f"{part} ({len(names)} tensors)" for part, names in parts if names)
    return f"starting from the weights of {init}" + (f"; anew: {new}" if new else "")


def _in_head(model: FrontendModel, name: str) -> bool:
    """Whether a tensor belongs to the last layer of the backbone, as timm names it."""
    heads = (getattr(model.backbone, "pretrained_cfg", None) or {}).get("classifier") or ""
    heads = [heads] if isinstance(heads, str) else heads
    return any(name.startswith(f"backbone.{head}.") for head in heads if head) or _only_last(model.backbone, name)


def _only_last(backbone: nn.Module, name: str) -> bool:
    """Whether a tensor is of the last linear layer of a backbone that does not say what its head is, such as an AST."""
    if (getattr(backbone, "pretrained_cfg", None) or {}).get("classifier"):
        return False
    last = [layer for layer, module in backbone.named_modules() if isinstance(module, nn.Linear)][-1:]
    return bool(last) and name.startswith(f"backbone.{last[0]}.")
