"""Saving and loading models: ``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` of huggingface_hub's mixin.

A saved model has its weights as safetensors, a configuration and a model card. Nothing is pickled. The configuration has the
names and arguments from which ``timm.create_model``, ``create_frontend`` and ``create_features`` make the parts again.
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
    ``from_pretrained("USER/NAME")`` or ``from_pretrained(FOLDER)`` loads the model in evaluation mode.

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

    def save_pretrained(  # type: ignore[override]  # no argument push_to_hub
        self,
        save_directory: str | os.PathLike[str],
        *,
        config: dict[str, Any] | None = None,
        model_card_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Write the weights, the configuration and a model card into a folder. A model card that is there stays.

        Args:
            save_directory: The folder. It is made if it does not exist.
            config: Further entries of ``config.json``. The card also shows ``label_names``, the names of the classes in order.
            model_card_kwargs: ``repo_id``, the model's name in the card's example; by default the name of the folder.

        Raises:
            ValueError: for a part of the model that its name and arguments do not make again, and if the number of
                ``label_names`` is not the number of classes. Then nothing is written.
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
        """Upload what :meth:`save_pretrained` writes to the Hugging Face Hub.

        Args:
            repo_id: Name on the hub, USER/NAME.
            model_card_kwargs: As in :meth:`save_pretrained`; by default the name is ``repo_id``.
            **kwargs: Arguments of ``push_to_hub`` of huggingface_hub's mixin, such as ``config`` and ``private``.

        Returns:
            The URL of the commit.
        """
        return super().push_to_hub(
            repo_id, model_card_kwargs={"repo_id": repo_id, **(model_card_kwargs or {})}, **kwargs
        )

    def generate_model_card(self, config: dict[str, Any], repo_id: str) -> ModelCard:
        """Make the model card.

        Args:
            config: The configuration that :meth:`save_pretrained` writes.
            repo_id: The model's name in the card's example.

        >>> import timm
        >>> from specenhance import with_frontend
        >>> model = with_frontend(timm.create_model("test_resnet", in_chans=1), "tfe1")
        >>> config = {"backbone": {"model_name": "test_resnet"}, "frontend": {"name": "tfe1", "in_chans": 1}, "features": None}
        >>> model.generate_model_card(config, "me/sounds").data.library_name
        'specenhance'
        """
        data = ModelCardData(**self._hub_mixin_info.model_card_data.to_dict())
        return model_card(self, config, repo_id, data, WEIGHTS, CONFIG)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Load a model that :meth:`save_pretrained` wrote.

        Args:
            pretrained_model_name_or_path: A folder, or a name on the Hugging Face Hub, USER/NAME.
            **kwargs: Arguments of ``from_pretrained`` of huggingface_hub's mixin. ``map_location`` is the device, by default
                the CPU. ``fit`` and ``layout`` replace the saved values.

        Raises:
            ConnectionError: if the name is no folder and not in the cache, and the hub does not answer.
            FileNotFoundError: for a folder that does not exist or has no weights.
            ValueError: for a folder that does not hold such a model.
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
        """Make the model of a configuration and load its weights."""
        if config is None or backbone is None or frontend is None:
            raise ValueError(f"{model_id}: it has no {CONFIG} that save_pretrained of specenhance wrote")
        parts = {"backbone": backbone, "frontend": frontend, "features": features, "layout": layout, "fit": fit}
        model = _make_model(cls, parts)
        if names := config.get("label_names"):
            _check_label_names(model, names)
            model.classes = names
            model.thresholds = config.get("thresholds")
            if hasattr(model.backbone, "pretrained_cfg"):  # timm reads the names there
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
    """Give the names and arguments of a model's parts. Raise ValueError for a part that they do not make again."""
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
    with torch.random.fork_rng(devices=[]):  # saving must not change the random numbers of a training run
        with torch.device("meta"):
            _check_same("backbone", model.backbone, _make_backbone(config["backbone"]))
        _check_same("frontend", model.frontend, create_frontend(**config["frontend"]))
    if tied := _tied(model):
        config["tied"] = tied
    if model.thresholds:
        config["thresholds"] = model.thresholds
    names = model.classes or getattr(model.backbone, "pretrained_cfg", {}).get("label_names")
    return config | ({"label_names": names} if names and len(names) == getattr(model, "num_classes", None) else {})


def _check_label_names(model: Any, names: Any) -> None:
    if names is not None and len(names) != model.num_classes:
        raise ValueError(
            f"label_names: {len(names)} names for {model.num_classes} classes; give one for each, in order"
        )


def _tied(model: nn.Module) -> list[list[str]]:
    """List the groups of names that share one parameter, each group sorted."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return sorted(sorted(group) for group in names.values() if len(group) > 1)


def _tie(model: nn.Module, tied: list[list[str]]) -> None:
    """Make each group of names that :func:`_tied` lists share one parameter again."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for group in tied:
        if not all(name in parameters and parameters[name].shape == parameters[group[0]].shape for name in group):
            raise ValueError(f"{CONFIG}: tied parameters {group}, which are not all in the model or not of one shape")
        for name in group[1:]:
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, parameters[group[0]])


def _describe_backbone(backbone: Any) -> dict[str, Any]:
    if isinstance(backbone, HubMixin):  # a model that has a front end itself
        return _describe(backbone)
    if hasattr(backbone, "to_config"):
        return {"ast": backbone.to_config()}
    cfg = getattr(backbone, "pretrained_cfg", None) or {}
    if not timm.is_model(cfg.get("architecture") or ""):
        raise ValueError(
            f"backbone {type(backbone).__name__}: only one that timm.create_model made can be saved, by its name; save the "
            "state_dict of this one instead"
        )
    # The size may come from a pretrained tag. The tag itself is left out, because timm would download its weights.
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
        from specenhance.models.ast import AST  # here, because not every user has transformers

        return AST.from_config(description["ast"])
    name = description["model_name"]
    if not timm.is_model(name):
        raise ValueError(f"backbone {name!r} is none of timm {timm.__version__}'s models; a newer timm may have it")
    # A stranger's configuration must not load other weights than the safetensors beside it.
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
