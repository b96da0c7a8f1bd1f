"""``save_pretrained``, ``from_pretrained`` and ``push_to_hub``, by huggingface_hub's mixin: weights, configuration, card.

The weights are safetensors; nothing is pickled. The configuration holds only names and numbers: the backbone's name and
arguments for ``timm.create_model``, the front end's for ``create_frontend``, the features' for ``create_features``.
"""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import timm
import torch
from huggingface_hub import ModelCard, ModelCardData, PyTorchModelHubMixin, hf_hub_download
from timm.models import get_model_args, get_model_input_config
from torch import nn

from specenhance._checksum import BLANK, KEY, check, seal
from specenhance._files import atomic_path, write_text
from specenhance.features import create_features
from specenhance.frontends.registry import create_frontend
from specenhance.models.card import model_card
from specenhance.models.online import require_hub

__all__ = ["HubMixin", "write_model"]

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


class HubMixin(PyTorchModelHubMixin, library_name="specenhance", pipeline_tag="audio-classification", tags=["timm"]):
    """Save and load a model made by :func:`specenhance.with_frontend`, in a folder or on the Hugging Face Hub.

    ``push_to_hub("USER/NAME", config={"label_names": [...]})`` uploads what :meth:`save_pretrained` writes.
    ``from_pretrained("USER/NAME")``, or of a folder, gives the model in evaluation mode, with its weights on ``map_location``
    (by default the CPU). Its arguments ``fit=`` and ``layout=`` replace those that were saved.

    >>> import tempfile, timm
    >>> from specenhance import FrontendModel, with_frontend
    >>> model = with_frontend(timm.create_model("test_resnet", in_chans=1, num_classes=2), "tfe1")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save_pretrained(folder, config={"label_names": ["yes", "no"]})
    ...     loaded = FrontendModel.from_pretrained(folder)
    >>> loaded.pretrained_cfg["label_names"]
    ['yes', 'no']
    """

    backbone: Any
    frontend: Any
    features: Any
    layout: str
    fit: str

    def save_pretrained(  # type: ignore[override]  # pushing is push_to_hub's
        self,
        save_directory: str | os.PathLike[str],
        *,
        config: dict[str, Any] | None = None,
        model_card_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Write the weights, the configuration and, unless there is one, a model card into a folder.

        Args:
            save_directory: The folder; it is made if there is none.
            config: Further entries of ``config.json``; ``label_names``, the classes in order, are also on the card.
            model_card_kwargs: ``repo_id``, the name that the card loads the model by; by default the folder's name.

        Raises:
            ValueError: for a backbone or front end that its name and arguments do not make again, and for ``label_names`` of
                another number than the classes. Nothing is written then.
        """
        folder = Path(save_directory)
        config = {**_describe(self), **(config or {})}
        _check_label_names(self, config.get("label_names"))
        text = json.dumps(config, indent=2)
        card = self.generate_model_card(config=config, **{"repo_id": folder.name, **(model_card_kwargs or {})})
        write_model(cast(nn.Module, self), folder / WEIGHTS)
        write_text(folder / CONFIG, text)
        if not (folder / CARD).exists():
            write_text(folder / CARD, str(card))

    def why_not_saved(self) -> str | None:
        """Say why :meth:`save_pretrained` refuses the model, or return None if it does not."""
        try:
            _describe(self)
        except ValueError as error:
            return str(error)
        return None

    def push_to_hub(self, repo_id: str, *, model_card_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> str:
        """Upload what :meth:`save_pretrained` writes to the Hugging Face Hub; the arguments are huggingface_hub's."""
        return super().push_to_hub(
            repo_id, model_card_kwargs={"repo_id": repo_id, **(model_card_kwargs or {})}, **kwargs
        )

    def generate_model_card(self, config: dict[str, Any], repo_id: str) -> ModelCard:
        """Write the model card for a configuration that :meth:`save_pretrained` writes."""
        data = ModelCardData(**self._hub_mixin_info.model_card_data.to_dict())
        return model_card(self, config, repo_id, data, WEIGHTS, CONFIG)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Load what :meth:`save_pretrained` wrote, from a folder or the Hugging Face Hub; the arguments are huggingface_hub's.

        Raises:
            ConnectionError: for a name that is neither a folder nor in the cache, while the hub does not answer.
            FileNotFoundError: for a folder that does not exist or has no weights.
            ValueError: for a folder that holds no such model.
        """
        name = str(pretrained_model_name_or_path)
        if not Path(name).is_dir() and not kwargs.get("local_files_only"):
            asked = {key: kwargs[key] for key in ("revision", "cache_dir", "token") if key in kwargs}
            require_hub(name, CONFIG, **asked)
        return super().from_pretrained(name, **kwargs)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        map_location: str = "cpu",
        config: dict[str, Any] | None = None,
        backbone: dict[str, Any] | None = None,
        frontend: dict[str, Any] | None = None,
        features: dict[str, Any] | None = None,
        layout: str = "time_freq",
        fit: str = "error",
        **download: Any,
    ) -> Any:
        """Make the model that a configuration describes and load its weights."""
        if config is None or backbone is None or frontend is None:
            raise ValueError(f"{model_id}: it has no {CONFIG} that save_pretrained of specenhance wrote")
        parts = {"backbone": backbone, "frontend": frontend, "features": features, "layout": layout, "fit": fit}
        model = _make_model(cls, parts)
        if names := config.get("label_names"):
            _check_label_names(model, names)
            model.classes = names
            if hasattr(model.backbone, "pretrained_cfg"):  # where timm looks
                model.pretrained_cfg = model.pretrained_cfg | {"label_names": names}
        _tie(model, config.get("tied", []))
        folder = Path(model_id)
        path = str(folder / WEIGHTS) if folder.is_dir() else hf_hub_download(model_id, WEIGHTS, **download)
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} is not there; save_pretrained writes it beside {CONFIG}")
        check(path, "copy or download it again")
        try:
            return cls._load_as_safetensor(model, path, map_location, strict=True)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} cannot be read ({error}); copy or download it again") from error
        except RuntimeError as error:
            what = " ".join(str(error).split())
            raise ValueError(f"{path} does not fit the {CONFIG} beside it: {textwrap.shorten(what, 300)}") from error


def write_model(model: nn.Module, path: Path) -> None:
    """Write the weights of a model as safetensors, with a checksum, whole or not at all."""
    with atomic_path(path) as temporary:
        safetensors.torch.save_model(model, str(temporary), metadata={KEY: BLANK})
        seal(temporary)


def _describe(model: Any) -> dict[str, Any]:
    """Give the names and arguments of a model's parts; raises ValueError for a part that they do not make again."""
    config = {
        "backbone": _describe_backbone(model.backbone),
        "frontend": _describe_frontend(model.frontend),
        "features": None if model.features is None else _describe_own_features(model.features),
        "layout": model.layout,
        "fit": model.fit,
    }
    try:
        json.dumps(config)
    except TypeError as error:
        raise ValueError(f"arguments of the model cannot be written as JSON ({error}): {config}") from error
    with torch.random.fork_rng(devices=[]):  # saving must not change a run's random numbers
        with torch.device("meta"):
            _check_same("backbone", model.backbone, _make_backbone(config["backbone"]))
        _check_same("frontend", model.frontend, create_frontend(**config["frontend"]))
    if tied := _tied(model):
        config["tied"] = tied
    names = model.classes or getattr(model.backbone, "pretrained_cfg", {}).get("label_names")
    return config | ({"label_names": names} if names and len(names) == getattr(model, "num_classes", None) else {})


def _check_label_names(model: Any, names: Any) -> None:
    if names is not None and len(names) != model.num_classes:
        raise ValueError(
            f"label_names: {len(names)} names for {model.num_classes} classes; give one for each, in order"
        )


def _tied(model: nn.Module) -> list[list[str]]:
    """List the names of parameters that are one tensor, each group sorted."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return sorted(sorted(group) for group in names.values() if len(group) > 1)


def _tie(model: nn.Module, tied: list[list[str]]) -> None:
    """Make parameters one tensor again, as :func:`_tied` lists them."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for group in tied:
        if not all(name in parameters and parameters[name].shape == parameters[group[0]].shape for name in group):
            raise ValueError(f"{CONFIG}: tied parameters {group}, which are not all in the model or not of one shape")
        for name in group[1:]:
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, parameters[group[0]])


def _describe_backbone(backbone: Any) -> dict[str, Any]:
    if isinstance(backbone, HubMixin):  # a model with a front end of its own
        return _describe(backbone)
    if hasattr(backbone, "to_config"):
        return {"ast": backbone.to_config()}
    cfg = getattr(backbone, "pretrained_cfg", None) or {}
    if not timm.is_model(cfg.get("architecture") or ""):
        raise ValueError(
            f"backbone {type(backbone).__name__}: only one that timm.create_model made can be saved, by its name; save the "
            "state_dict of this one instead"
        )
    # The size may be that of a pretrained tag. The tag itself is left out: it would have weights downloaded.
    overlay = {"input_size": get_model_input_config(backbone)["input_size"]}
    return {"model_name": cfg["architecture"], **get_model_args(backbone), "pretrained_cfg_overlay": overlay}


def _make_model(cls: Any, description: dict[str, Any]) -> Any:
    features = description.get("features")
    return cls(
        _make_backbone(description["backbone"]),
        create_frontend(**description["frontend"]),
        features=None if features is None else create_features(**features),
        layout=description.get("layout", "time_freq"),
        fit=description.get("fit", "error"),
    )


def _make_backbone(description: dict[str, Any]) -> nn.Module:
    if "frontend" in description:
        from specenhance.models.adapter import FrontendModel  # here, because adapter imports this module

        return _make_model(FrontendModel, description)
    if "ast" in description:
        from specenhance.models.ast import AST  # transformers, which not every user has

        return AST.from_config(description["ast"])
    name = description["model_name"]
    if not timm.is_model(name):
        raise ValueError(f"backbone {name!r} is none of timm {timm.__version__}'s models; a newer timm may have it")
    # Whatever a stranger's file says, weights come only from the safetensors beside it.
    return timm.create_model(**{**description, "pretrained": False, "checkpoint_path": None})


def _describe_frontend(frontend: Any) -> dict[str, Any]:
    if not hasattr(frontend, "made_with"):
        raise ValueError(
            f"front end {type(frontend).__name__}: only one made by its name can be saved; register it and make it by "
            "with_frontend(backbone, NAME, ...) or create_frontend(NAME, ...)"
        )
    return {"in_chans": 1, **frontend.made_with}


def _describe_own_features(features: Any) -> dict[str, Any]:
    if not hasattr(features, "made_with"):
        raise ValueError(
            f"features {type(features).__name__}: only those with a name can be saved; register them by "
            "specenhance.features.register_features, or save the model without, with_frontend(model.backbone, model.frontend), "
            "which takes spectrograms"
        )
    made_with: Any = features.made_with
    return dict(made_with)


def _check_same(part: str, model: nn.Module, made: nn.Module) -> None:
    shapes, others = ({name: tensor.shape for name, tensor in m.state_dict().items()} for m in (model, made))
    if shapes != others:
        names = sorted(name for name in shapes.keys() | others.keys() if shapes.get(name) != others.get(name))
        raise ValueError(
            f"{part} {type(model).__name__} was changed after it was made: its name and arguments give other weights, e.g. "
            f"{names[0]}; save its state_dict instead"
        )
