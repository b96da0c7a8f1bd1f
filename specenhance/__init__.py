"""Learned time-frequency masks in front of any timm backbone, for sound classification.

The public names are loaded when first used, so that ``import specenhance`` and ``specenhance --help`` cost nothing.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specenhance.adapter import FrontendModel, with_frontend
    from specenhance.audio_transformer import ast_teacher
    from specenhance.distill import DistillationLoss, Distiller
    from specenhance.features import KaldiFbank, LogMel, TrainableMel
    from specenhance.frontends import TFA, TFE, Identity
    from specenhance.registry import create_frontend, list_frontends, register_frontend
    from specenhance.teacher_cache import CachedTeacher
    from specenhance.teachers import FrozenTeacher, timm_teacher
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
    "FrontendModel": "adapter",
    "with_frontend": "adapter",
    "DistillationLoss": "distill",
    "Distiller": "distill",
    "FrozenTeacher": "teachers",
    "ast_teacher": "audio_transformer",
    "timm_teacher": "teachers",
    "CachedTeacher": "teacher_cache",
    "KaldiFbank": "features",
    "LogMel": "features",
    "TrainableMel": "features",
    "TFA": "frontends",
    "TFE": "frontends",
    "Identity": "frontends",
    "create_frontend": "registry",
    "list_frontends": "registry",
    "register_frontend": "registry",
    "load_model": "training",
}

try:
    __version__ = version("specenhance")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
