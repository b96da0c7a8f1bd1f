"""Learned time-frequency masks in front of any timm backbone, for sound classification.

The public names are loaded when first used, so that ``import specenhance`` and ``specenhance --help`` cost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from specenhance._version import __version__ as __version__

if TYPE_CHECKING:
    from specenhance.distillation.cache import CachedTeacher
    from specenhance.distillation.loss import DistillationLoss, Distiller
    from specenhance.distillation.teachers import FrozenTeacher, timm_teacher
    from specenhance.features import KaldiFbank, LogMel, TrainableMel
    from specenhance.frontends import TFA, TFE, Identity
    from specenhance.frontends.registry import create_frontend, list_frontends, register_frontend
    from specenhance.models.adapter import FrontendModel, with_frontend
    from specenhance.models.ast import ast_teacher
    from specenhance.training import load_model

__all__ = [
    "TFA",
    "TFE",
    "CachedTeacher",
    "DistillationLoss",
    "Distiller",
    "FrontendModel",
    "FrozenTeacher",
    "Identity",
    "KaldiFbank",
    "LogMel",
    "TrainableMel",
    "ast_teacher",
    "create_frontend",
    "list_frontends",
    "load_model",
    "register_frontend",
    "timm_teacher",
    "with_frontend",
]

_HOME = {
    "FrontendModel": "models.adapter",
    "with_frontend": "models.adapter",
    "DistillationLoss": "distillation.loss",
    "Distiller": "distillation.loss",
    "FrozenTeacher": "distillation.teachers",
    "ast_teacher": "models.ast",
    "timm_teacher": "distillation.teachers",
    "CachedTeacher": "distillation.cache",
    "KaldiFbank": "features",
    "LogMel": "features",
    "TrainableMel": "features",
    "TFA": "frontends",
    "TFE": "frontends",
    "Identity": "frontends",
    "create_frontend": "frontends.registry",
    "list_frontends": "frontends.registry",
    "register_frontend": "frontends.registry",
    "load_model": "training",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
