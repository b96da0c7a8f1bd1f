"""timm models behind a front end, by name: ``timm.create_model("tfe4.tf_efficientnetv2_b2", in_chans=1, num_classes=35)``.

Importing this module makes these names known to timm, for every front end of the registry. timm reads a name as
``ARCHITECTURE.TAG``. Here the architecture is the front end, and the tag is the backbone, with or without its own tag:
``tfe4.tf_efficientnetv2_b2`` or ``tfe4.tf_efficientnetv2_b2.in1k``. So one entry point per front end serves all backbones.
timm's lists have tags only on request: ``timm.list_models("tfe4.*")`` is empty, but
``timm.list_models("tfe4.*", include_tags=True)`` has all names.

>>> model = timm.create_model("tfe1.test_resnet", in_chans=1, num_classes=3)
>>> type(model).__name__, type(model.frontend).__name__, type(model.backbone).__name__
('FrontendModel', 'TFE', 'ResNet')

timm's own scripts (``train.py``, ``validate.py``, ... of its repository) know the names if this module runs them::

    python -m specenhance.models.timm_names train.py --model tfe4.resnet18 --data-dir images ...
    torchrun --nproc-per-node 2 -m specenhance.models.timm_names train.py --model tfe4.resnet18 ...
"""

from __future__ import annotations

import logging
import runpy
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
from timm.models import DefaultCfg, PretrainedCfg, register_model
from timm.models._hub import load_state_dict_from_hf, load_state_dict_from_path
from torch import Tensor

from specenhance.frontends.base import out_channels
from specenhance.frontends.registry import create_frontend, list_frontends
from specenhance.models.adapter import FrontendModel, with_frontend
from specenhance.models.timm_interface import backbone_cfg, input_channels

__all__ = ["register_timm_models"]

_log = logging.getLogger(__name__)

default_cfgs: dict[str, DefaultCfg] = {}  # timm's register_model reads this name


def register_timm_models(*frontends: str) -> None:
    """Make the names ``FRONTEND.BACKBONE`` known to timm, for every backbone that timm knows now.

    Importing this module does this for all of :func:`specenhance.list_frontends`. Call this function for a front end that is
    registered later, or whose number is not listed (``"tfe7"``).

    Args:
        *frontends: Names of front ends.

    Raises:
        ValueError: for a name that the registry does not know, that is the name of a timm model already, or that has a dot,
            because timm reads what follows a dot as a tag.

    >>> register_timm_models("tfe3")
    >>> len(timm.create_model("tfe3.test_resnet", in_chans=1).frontend.blocks)
    3
    """
    for name in frontends:
        if "." in name:
            raise ValueError(f"front end {name!r}: timm reads what follows a dot as a tag; give it a name without one")
        if timm.is_model(name) and name not in default_cfgs:
            raise ValueError(f"front end {name!r} is the name of a timm model already; give it another name")
        create_frontend(name)  # raises for an unknown name
    _register(*frontends)


def _register(*frontends: str) -> None:
    backbones = _backbone_cfgs()
    for name in frontends:
        if name not in default_cfgs:
            default_cfgs[name] = DefaultCfg(tags=deque(backbones), cfgs=backbones)
            register_model(_entrypoint(name))
            __all__.remove(name)  # timm adds it, but the module has no such attribute


def _backbone_cfgs() -> dict[str, PretrainedCfg]:
    """Give the pretrained configuration of every timm model, under its name and under its name with each tag."""
    modules = [module for module in timm.list_modules() if module != __name__.rpartition(".")[2]]
    names = {*timm.list_models(module=modules), *timm.list_models(module=modules, include_tags=True)}
    return {name: timm.get_pretrained_cfg(name) or PretrainedCfg(architecture=name) for name in sorted(names)}


def _entrypoint(frontend: str) -> Callable[..., FrontendModel]:
    def create(
        pretrained: bool = False,
        pretrained_cfg: str | dict[str, Any] | PretrainedCfg | None = None,
        layout: str = "time_freq",
        fit: str = "error",
        **kwargs: Any,
    ) -> FrontendModel:
        name, cfg = _backbone(frontend, pretrained_cfg)
        whole = _stored_state(cfg, kwargs.get("cache_dir")) if pretrained else {}
        made_for = cfg.get("input_size", (3,))[0]
        if whole:  # timm adapts the backbone's weights to the arguments, as for any model
            cfg = {**cfg, "source": "", "state_dict": _part(whole, "backbone.")}
        backbone = timm.create_model(name, pretrained=pretrained, pretrained_cfg=cfg or None, **kwargs)
        # timm's in_chans is the number of channels of the input, so the front end has as many as the backbone.
        chans = input_channels(backbone)
        made = create_frontend(frontend, in_chans=chans)
        if out_channels(made, chans) not in (1, chans):  # it makes channels of its own, such as delta
            made = create_frontend(frontend, in_chans=1)
        if whole:
            backbone.pretrained_cfg.pop("state_dict")  # timm would keep it in memory
            if made_for == chans:
                made.load_state_dict(_part(whole, "frontend."))
            else:
                _log.warning("the front end starts anew: its weights are for in_chans=%s, not %s", made_for, chans)
        made.to(device=kwargs.get("device"), dtype=kwargs.get("dtype"))
        model = with_frontend(backbone, made, layout=layout, fit=fit)
        model._architecture = frontend
        return model

    create.__name__ = create.__qualname__ = frontend
    return create


def _backbone(frontend: str, given: str | dict[str, Any] | PretrainedCfg | None) -> tuple[str, dict[str, Any]]:
    """Find the backbone in the ``pretrained_cfg`` that timm passes to an entry point.

    ``create_model`` passes the backbone's name. A script or a folder passes a configuration.

    Returns:
        The backbone's name and its configuration, which is empty if timm passed only the name.
    """
    cfg: dict[str, Any] = {}
    if isinstance(given, PretrainedCfg):
        given = given.to_dict()
    if isinstance(given, dict):
        architecture = given.get("architecture") or frontend  # timm does not store it
        cfg = backbone_cfg(
            given | {"architecture": architecture}, architecture if architecture in default_cfgs else None
        )
        given = cfg.get("architecture")
    if not given or not timm.is_model(given):
        raise ValueError(
            f"{frontend!r} alone is no model, and {given!r} no timm model to put behind it; name one, e.g. "
            f"timm.create_model('{frontend}.tf_efficientnetv2_b2'); timm.list_models() has all"
        )
    return given, cfg


def _stored_state(cfg: dict[str, Any], cache_dir: str | None) -> dict[str, Tensor]:
    """Read the weights of a whole model that timm's ``save_for_hf`` stored. Give no weights otherwise."""
    match cfg.get("source"):
        case "local-dir":
            return load_state_dict_from_path(cfg["file"])
        case "hf-hub":
            return load_state_dict_from_hf(cfg["hf_hub_id"], cache_dir=cache_dir)
    return {}


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _run_script() -> None:
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        sys.exit(
            "usage: python -m specenhance.models.timm_names SCRIPT ARGUMENTS; SCRIPT is one of timm's, e.g. train.py of "
            f"its repository{f'; there is no file {sys.argv[1]!r}' if len(sys.argv) > 1 else ''}"
        )
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)  # as Python does for a script
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    import specenhance.models.timm_names  # noqa: F401  # registers the names; this module is __main__, another one

    _run_script()
else:
    # A name that timm cannot take is left out. No create_frontend here: it would load the entry points of other packages.
    _register(*(name for name in list_frontends() if "." not in name and not timm.is_model(name)))
