"""timm's model interface as pure functions: methods, module names, parameter groups, sizes and channels.

A :class:`specenhance.FrontendModel` keeps its backbone under the name ``backbone``. So names of the backbone's modules and
parameters need the prefix ``backbone.`` in the whole model.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from timm.models import get_model_input_config
from torch import nn

__all__ = [
    "TAKE_NO_SPECTROGRAM",
    "TAKE_SPECTROGRAMS",
    "TIMMS",
    "backbone_cfg",
    "check_channels",
    "group_matcher",
    "input_channels",
    "is_timms",
    "lacks",
    "prefixed",
    "prefixed_cfg",
    "prefixed_feature_info",
    "size_made_for",
    "size_message",
]

# timm's methods of a model that take a spectrogram.
TAKE_SPECTROGRAMS = frozenset({"forward_features", "forward_intermediates", "get_intermediate_layers"})
# timm's methods of a model that take a feature map, or no tensor.
TAKE_NO_SPECTROGRAM = frozenset(
    {
        "convert_to_deploy", "fix_init_weight", "forward_head", "freeze_patch_emb", "get_classifier", "get_patch_size",
        "init_weights", "load_pretrained", "no_weight_decay_keywords", "pool", "prewarm_patch_interpolator",
        "prune_intermediate_layers", "reset_classifier", "set_clamp_enabled", "set_distilled_training",
        "set_grad_checkpointing", "set_input_size",
    }
)  # fmt: skip
TIMMS = frozenset(
    {"num_classes", "num_features", "head_hidden_size", "feature_info", "pretrained_cfg", "default_cfg"}
    | TAKE_SPECTROGRAMS
    | TAKE_NO_SPECTROGRAM
)

_PREFIX = "backbone."
_MODULE_NAMES_IN_CFG = ("first_conv", "classifier")  # keys of timm's configuration whose values are module names
_INNER_ANCHOR = re.compile(r"(?<![\[\\])\^")  # "^" as an anchor: neither "[^" nor "\^"


def input_channels(backbone: nn.Module) -> int:
    """Give the number of channels that a backbone reads.

    This is the backbone's ``in_chans`` if it has one, or else the number of its first 2-D convolution, or else 3.

    >>> import timm
    >>> input_channels(timm.create_model("test_resnet", in_chans=2))
    2
    """
    declared = getattr(backbone, "in_chans", None)
    if isinstance(declared, int):
        return declared
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3


def check_channels(backbone: nn.Module) -> None:
    """Check that a backbone can read its number of channels.

    timm makes one family for any number of channels that can only read three.

    Raises:
        ValueError: for a backbone of this family with another number of channels.

    >>> import timm
    >>> check_channels(timm.create_model("test_resnet", in_chans=1))
    """
    chans = input_channels(backbone)
    if chans != 3 and any(type(module).__name__ == "LearnableDct2d" for module in backbone.modules()):
        raise ValueError(
            f"{type(backbone).__name__} turns red, green and blue into luma and chroma, so it cannot read "
            f"in_chans={chans}; make it with in_chans=3: a one-channel spectrogram is widened to three"
        )


def is_timms(backbone: nn.Module) -> bool:
    """Tell whether a backbone has a pretrained configuration, as timm's models have.

    >>> import timm
    >>> is_timms(timm.create_model("test_resnet")), is_timms(nn.Conv2d(1, 1, 1))
    (True, False)
    """
    return bool(getattr(backbone, "pretrained_cfg", None))


def size_made_for(backbone: nn.Module) -> tuple[int, int]:
    """Give the input size (rows, columns) that a timm model was made for.

    >>> import timm
    >>> size_made_for(timm.create_model("test_resnet"))
    (160, 160)
    """
    return tuple(get_model_input_config(backbone)["input_size"][-2:])


def size_message(backbone: nn.Module, got: tuple[int, ...], axes: str, error: Exception) -> str:
    """Write the message for a size that a timm model has refused. It says what to do.

    Args:
        backbone: The timm model.
        got: The size (rows, columns) that it was given.
        axes: The names of these two axes, e.g. ``"(T, F)"``.
        error: The error that the model raised.

    >>> import timm
    >>> print(size_message(timm.create_model("test_resnet"), (1, 1), "(T, F)", RuntimeError("too small")))
    ResNet refused a spectrogram of (T, F) = (1, 1) (too small); if the size is at fault, give it another (its own is ...
    """
    name, size = type(backbone).__name__, size_made_for(backbone)
    spec = f"a spectrogram of {axes} = {got} ({error})"
    resize = "with_frontend(..., fit='resize')"
    if not get_model_input_config(backbone)["fixed_input_size"]:
        return (
            f"{name} refused {spec}; if the size is at fault, give it another (its own is {size}) or have the "
            f"spectrogram interpolated to {size}: {resize}"
        )
    cure = f"make it with timm.create_model(..., img_size={got})"
    if hasattr(backbone, "set_input_size"):
        cure += f" or call model.set_input_size(img_size={got})"
    return (
        f"{name} has a fixed input size, {size}, and refused {spec}; {cure}, or have the spectrogram interpolated to its "
        f"size: {resize}; docs/backbones.md says which families timm makes for another size"
    )


def lacks(backbone: Any, name: str) -> str:
    """Write the message for an attribute of timm's interface that a backbone does not have.

    Args:
        backbone: The backbone.
        name: The name of the attribute.

    >>> print(lacks(nn.Identity(), "forward_head"))
    the backbone, a Identity, has no forward_head: timm's models have it, unless they were made with features_only=True, ...
    """
    kind = type(backbone).__name__
    if name == "set_input_size":
        return (
            f"{kind} cannot change its input size; make it with timm.create_model(..., img_size=(T, F)) if its input size is "
            "fixed at all"
        )
    return (
        f"the backbone, a {kind}, has no {name}: timm's models have it, unless they were made with features_only=True, or it "
        "is for other families"
    )


def prefixed(names: Any) -> Any:
    """Put ``backbone.`` before a module name, or before each of several.

    >>> prefixed("conv1"), prefixed(("fc", "fc_dist"))
    ('backbone.conv1', ('backbone.fc', 'backbone.fc_dist'))
    """
    return f"{_PREFIX}{names}" if isinstance(names, str) else type(names)(map(prefixed, names))


def _without_prefix(names: Any) -> Any:
    return names.removeprefix(_PREFIX) if isinstance(names, str) else type(names)(map(_without_prefix, names))


def prefixed_cfg(cfg: dict[str, Any]) -> dict[str, Any]:
    """Copy a backbone's configuration, with ``backbone.`` before module names.

    >>> prefixed_cfg({"architecture": "resnet18", "first_conv": "conv1", "classifier": "fc"})
    {'architecture': 'resnet18', 'first_conv': 'backbone.conv1', 'classifier': 'backbone.fc'}
    """
    return _renamed(cfg, prefixed)


def prefixed_feature_info(info: Any) -> Any:
    """Copy timm's description of a backbone's feature levels, with ``backbone.`` before module names.

    >>> prefixed_feature_info([{"num_chs": 64, "module": "layer1"}])
    [{'num_chs': 64, 'module': 'backbone.layer1'}]
    """
    if not isinstance(info, list):
        return info
    return [{**level, "module": prefixed(level["module"])} if level.get("module") else level for level in info]


def backbone_cfg(cfg: dict[str, Any], architecture: str | None = None) -> dict[str, Any]:
    """Give the backbone's own configuration, from the configuration of the whole model or of the backbone.

    Args:
        cfg: The configuration. Its module names may have the prefix ``backbone.``.
        architecture: timm's name of the whole model, if timm made it. Then the tag is the name of the backbone.

    >>> backbone_cfg({"architecture": "tfe4", "tag": "resnet18.a1_in1k", "classifier": "backbone.fc"}, "tfe4")
    {'architecture': 'resnet18', 'tag': 'a1_in1k', 'classifier': 'fc'}
    """
    cfg = _renamed(cfg, _without_prefix)
    if architecture is not None and cfg.get("architecture") == architecture:
        name, _, tag = (cfg.get("tag") or "").partition(".")
        cfg |= {"architecture": name, "tag": tag or None}
    return cfg


def _renamed(cfg: dict[str, Any], rename: Callable[[Any], Any]) -> dict[str, Any]:
    return cfg | {key: rename(cfg[key]) for key in _MODULE_NAMES_IN_CFG if cfg.get(key)}


def group_matcher(backbone: Any, coarse: bool = False) -> Any:
    """Give a backbone's parameter groups for timm's layer-wise learning rates, with prefixed names.

    The parameters of ``frontend.`` and ``features.`` are in the backbone's last group, its head, which has the full rate.

    Args:
        backbone: The timm model.
        coarse: Whether a group is a stage instead of a block, as in timm.

    >>> import timm
    >>> group_matcher(timm.create_model("test_resnet"))["stem"]
    'backbone\\\\.(?:conv1|bn1|maxpool)'
    """
    from timm.models._manipulate import MATCH_PREV_GROUP
    from timm.optim import auto_group_layers

    own = getattr(backbone, "group_matcher", None)
    matcher = own(coarse=coarse) if own else auto_group_layers(backbone).get  # as timm does for such a model
    if callable(matcher):
        last = (float("inf"), *MATCH_PREV_GROUP)  # the last place, joined to the group before it
        return lambda name: matcher(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else last
    groups = {group: _prefixed_patterns(patterns) for group, patterns in matcher.items()}
    known = [pattern for patterns in groups.values() if patterns for pattern in _listed(patterns)]
    if all(any(re.match(pattern, prefixed(name)) for pattern in known) for name, _ in backbone.named_parameters()):
        # Otherwise no pattern matches the head, and timm makes the last group of all such parameters, the front end's too.
        groups["frontend"] = [(r"(?:frontend|features)\.", MATCH_PREV_GROUP)]
    return groups


def _listed(patterns: Any) -> list[str]:
    """List the patterns of one entry of timm's group matcher."""
    return [patterns] if isinstance(patterns, str) else [pattern for pattern, *_ in patterns]


def _prefixed_patterns(patterns: Any) -> Any:
    """Put the prefix into one entry of timm's group matcher: a pattern, a list of ``(pattern, suffix)``, or None."""
    if patterns is None:
        return None
    if isinstance(patterns, str):
        # timm matches from the start of a name, so "^" is not needed. After a prefix it would never match.
        return rf"backbone\.(?:{_INNER_ANCHOR.sub('', patterns)})"
    return [(_prefixed_patterns(pattern), *rest) for pattern, *rest in patterns]
