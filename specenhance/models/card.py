"""The model card of a saved model, made from ``templates/card.md``."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from torch import nn

from specenhance._names import markdown, markdown_code, shown

__all__ = ["model_card"]


def model_card(
    model: Any, config: dict[str, Any], repo_id: str, data: ModelCardData, weights_file: str, config_file: str
) -> ModelCard:
    """Make the model card of a model.

    Args:
        model: The :class:`specenhance.FrontendModel`.
        config: The configuration that is saved beside the card.
        repo_id: The model's name in the card's example, USER/NAME.
        data: The metadata of the card.
        weights_file: The name of the file that holds the weights.
        config_file: The name of the file that holds the configuration.

    >>> import timm
    >>> from specenhance import with_frontend
    >>> model = with_frontend(timm.create_model("test_resnet", in_chans=1), "tfe1")
    >>> config = {"backbone": {"model_name": "test_resnet"}, "frontend": {"name": "tfe1", "in_chans": 1}, "features": None}
    >>> card = model_card(model, config, "me/sounds", ModelCardData(tags=["timm"]), "model.safetensors", "config.json")
    >>> card.text.splitlines()[1]
    '# tfe1 before test_resnet'
    """
    backbone, frontend, features = dict(config["backbone"]), dict(config["frontend"]), config["features"]
    takes, variable = f"spectrograms `(batch, {frontend['in_chans']}, time, freq)`", "spectrogram"
    if features is not None:
        takes, variable = f"waveforms `(batch, samples)` at {model.features.sample_rate} Hz", "waveform"
        takes += f", of which {markdown_code(features['name'])} makes the spectrogram; {_listed(features)}"
    gives, output = "feature maps", "feature_maps"
    if hasattr(model, "num_classes"):
        gives, output = f"logits `(batch, {model.num_classes})`", "logits"
        if names := config.get("label_names"):
            gives += f", of the classes {', '.join(map(markdown, names))}"
    return ModelCard.from_template(
        data,
        template_str=resources.files("specenhance.models").joinpath("templates", "card.md").read_text(encoding="utf-8"),
        title=markdown(_called(config)),
        backbone=markdown_code(_called(backbone)),
        frontend=markdown_code(frontend["name"]),
        takes=takes,
        frontend_parameters=_parameters(model.frontend),
        frontend_arguments=_listed(frontend),
        backbone_parameters=_parameters(model.backbone),
        backbone_arguments=_listed(
            {key: value for key, value in backbone.items() if key not in ("pretrained_cfg_overlay", "ast")}
        ),
        gives=gives,
        repo_id=shown(json.dumps(repo_id, ensure_ascii=False)),
        output=output,
        variable=variable,
        weights_file=weights_file,
        config_file=config_file,
    )


def _called(description: dict[str, Any]) -> str:
    # A backbone that has a front end itself has no model_name.
    name = "AST" if "ast" in description else description.get("model_name")
    return name or f"{description['frontend']['name']} before {_called(description['backbone'])}"


def _listed(arguments: dict[str, Any]) -> str:
    return ", ".join(
        markdown_code(f"{key}={value!r}") for key, value in arguments.items() if key not in ("name", "model_name")
    )


def _parameters(module: nn.Module) -> str:
    """Count a module's parameters, with commas between thousands."""
    return f"{sum(parameter.numel() for parameter in module.parameters()):,}"
