"""``with_frontend``: features, a front end and a timm backbone as one model that keeps timm's model interface."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import get_model_input_config
from torch import Tensor, nn

from specenhance.hub import HubMixin
from specenhance.registry import create_frontend

__all__ = ["FITS", "LAYOUTS", "FrontendModel", "input_channels", "with_frontend"]

LAYOUTS = ("time_freq", "freq_time")
FITS = ("error", "resize")

# What timm's configuration of a model says in names of its modules.
_MODULE_NAMES_IN_CFG = ("first_conv", "classifier")

_INNER_ANCHOR = re.compile(r"(?<![\[\\])\^")  # "^" as an anchor: neither "[^" nor "\^"


def with_frontend(
    backbone: nn.Module,
    frontend: str | nn.Module,
    *,
    features: nn.Module | None = None,
    layout: str = "time_freq",
    fit: str = "error",
    **frontend_kwargs: Any,
) -> FrontendModel:
    """Put a front end in front of a backbone.

    Args:
        backbone: any timm model, e.g. ``timm.create_model("tf_efficientnetv2_b2", in_chans=1, num_classes=50)``.
        frontend: a name of :func:`specenhance.list_frontends`, or a module that maps a spectrogram ``(B, C, T, F)`` to
            one of the same shape.
        features: a module that maps waveforms ``(B, samples)`` to spectrograms ``(B, C, T, F)``; with it the model takes
            waveforms, without it spectrograms.
        layout: the order of the two axes that the backbone reads: ``"time_freq"`` (T rows, F columns) or ``"freq_time"``
            for a backbone that was trained the other way round. The model's own input stays ``(B, C, T, F)``.
        fit: ``"error"`` gives the backbone the enhanced spectrogram as it is, and a size that it cannot take is an error;
            ``"resize"`` interpolates the enhanced spectrogram to the size that the backbone was made for.
        **frontend_kwargs: for a front end given by name, e.g. ``in_chans=1, kernel_size=17``.

    Returns:
        A model that trains as the backbone does and answers timm's tools as the backbone does.

    Raises:
        ValueError: for an unknown name, layout or fit; for a backbone that cannot read its number of channels; for
            ``fit="resize"`` and a backbone that does not say what size it was made for.
        TypeError: for a front end or backbone of the wrong type, or arguments that the front end does not take.
    """
    if not isinstance(backbone, nn.Module):
        raise TypeError(
            f"backbone: expected a module such as timm.create_model(...) gives, got {type(backbone).__name__}"
        )
    if isinstance(frontend, str):
        frontend = create_frontend(frontend, **frontend_kwargs)
    elif not isinstance(frontend, nn.Module):
        raise TypeError(f"frontend: expected a name or a module, got {type(frontend).__name__}")
    elif frontend_kwargs:
        raise TypeError(f"{sorted(frontend_kwargs)} go to a front end given by name; this one is already made")
    return FrontendModel(backbone, frontend, features=features, layout=layout, fit=fit)


class FrontendModel(nn.Module, HubMixin):
    """Features (if any), then a front end, then a backbone; made by :func:`with_frontend`.

    Takes spectrograms ``(B, C, T, F)``, or ``(B, T, F)`` as one channel; with ``features``, waveforms ``(B, samples)``.
    A one-channel spectrogram in front of a backbone of more channels is widened as a view. Gives what the backbone gives:
    logits ``(B, num_classes)``, or the list of feature maps of a backbone that was made with ``features_only=True``.

    timm's model interface is here with the backbone's meaning; parameter and module names in it are prefixed with
    ``backbone.``, as they stand in this model's ``state_dict``. :class:`specenhance.hub.HubMixin` saves the model and loads it.
    """

    backbone: Any  # a timm model: its interface is wider than nn.Module's
    frontend: Any
    features: Any

    def __init__(
        self,
        backbone: nn.Module,
        frontend: nn.Module,
        *,
        features: nn.Module | None = None,
        layout: str = "time_freq",
        fit: str = "error",
    ) -> None:
        super().__init__()
        if layout not in LAYOUTS:
            raise ValueError(f"layout={layout!r}: expected one of {', '.join(LAYOUTS)}")
        if fit not in FITS:
            raise ValueError(f"fit={fit!r}: expected one of {', '.join(FITS)}")
        if fit == "resize" and not _is_timms(backbone):
            raise ValueError(
                f"fit='resize': {type(backbone).__name__} does not say what size it was made for, it has no pretrained_cfg "
                "as timm's models have; use fit='error' and give it spectrograms of its size"
            )
        _check_channels(backbone)
        self.features = features
        self.frontend = frontend
        self.backbone = backbone
        self.layout = layout
        self.fit = fit
        self._backbone_chans = input_channels(backbone)

    def __getattr__(self, name: str) -> Any:
        # Where one of the properties below fails, for what the backbone lacks, Python comes here and drops their message.
        if isinstance(getattr(type(self), name, None), property):
            raise AttributeError(self._lacks(name))
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Any:
        """Map spectrograms ``(B, C, T, F)`` (with ``features``: waveforms ``(B, samples)``) to what the backbone gives.

        Raises:
            ValueError: for a shape that the front end or the backbone cannot take; the message names the cure.
        """
        return self.classify(self.spectrogram(x))

    def spectrogram(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Give the spectrogram ``(B, C, T, F)`` that the front end is to meet.

        Args:
            x: what :meth:`forward` takes.
            lengths: for waveforms padded at the end, how many samples ``(B,)`` of each are sound.
        """
        if self.features is None:
            return x.unsqueeze(1) if x.ndim == 3 else x
        return self.features(x) if lengths is None else self.features(x, lengths)

    def classify(self, spec: Tensor) -> Tensor:
        """Map spectrograms ``(B, C, T, F)`` to logits, whether or not the model has ``features``."""
        return self._run(self.backbone, self.frontend(spec))

    def enhance(self, x: Tensor) -> Tensor:
        """Give the enhanced spectrogram ``(B, C, T, F)`` of the model's input, as the front end leaves it."""
        return self.frontend(self.spectrogram(x))

    def forward_features(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Give the backbone's last feature map, before pooling and classifier, of the model's input ``x``."""
        return self._run(self._of_backbone("forward_features"), self.enhance(x), *args, **kwargs)

    def forward_head(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Pool and classify a feature map that :meth:`forward_features` gave."""
        return self._of_backbone("forward_head")(x, *args, **kwargs)

    def forward_intermediates(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Give the backbone's intermediate feature maps of the model's input ``x``; arguments as in timm."""
        return self._run(self._of_backbone("forward_intermediates"), self.enhance(x), *args, **kwargs)

    def _run(self, call: Callable[..., Any], spec: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Call the backbone on a spectrogram ``(B, C, T, F)``, in the layout and channels that it reads."""
        if spec.shape[1] not in (1, self._backbone_chans):
            raise ValueError(
                f"the backbone takes {self._backbone_chans} channel(s), got a spectrogram (B, C, T, F) = "
                f"{tuple(spec.shape)}; make the backbone with in_chans={spec.shape[1]}"
            )
        if self.layout == "freq_time":
            spec = spec.transpose(-1, -2)
        if self.fit == "resize":
            spec = _resize(spec, _size_made_for(self.backbone))
        if spec.shape[1] != self._backbone_chans:
            spec = spec.expand(-1, self._backbone_chans, -1, -1)
        if torch.compiler.is_compiling():
            return call(spec, *args, **kwargs)
        try:
            return call(spec, *args, **kwargs)
        except (AssertionError, RuntimeError) as error:
            if not _is_timms(self.backbone) or isinstance(error, torch.OutOfMemoryError):
                raise
            got, size = tuple(spec.shape[-2:]), _size_made_for(self.backbone)
            if got == size:
                raise
            raise ValueError(self._size_message(got, size, error)) from error

    def _size_message(self, got: tuple[int, ...], size: tuple[int, int], error: Exception) -> str:
        name = type(self.backbone).__name__
        spec = f"a spectrogram of {'(T, F)' if self.layout == 'time_freq' else '(F, T)'} = {got} ({error})"
        resize = "with_frontend(..., fit='resize')"
        if not get_model_input_config(self.backbone)["fixed_input_size"]:
            return (
                f"{name} refused {spec}; if the size is at fault, give it another (its own is {size}) or have the "
                f"spectrogram interpolated to {size}: {resize}"
            )
        cure = f"make it with timm.create_model(..., img_size={got})"
        if hasattr(self.backbone, "set_input_size"):
            cure += f" or call model.set_input_size(img_size={got})"
        return (
            f"{name} has a fixed input size, {size}, and refused {spec}; {cure}, or have the spectrogram interpolated to its "
            f"size: {resize}; docs/backbones.md says which families timm makes for another size"
        )

    def _lacks(self, name: str) -> str:
        return (
            f"the backbone, a {type(self.backbone).__name__}, has no {name}: timm's models have it, unless they "
            "were made with features_only=True"
        )

    def _of_backbone(self, name: str) -> Any:
        if not hasattr(self.backbone, name):
            raise AttributeError(self._lacks(name))
        return getattr(self.backbone, name)

    @property
    def in_chans(self) -> int:
        """Channels that the backbone reads."""
        return self._backbone_chans

    @property
    def num_classes(self) -> int:
        """Classes of the backbone's classifier."""
        return self.backbone.num_classes

    @property
    def num_features(self) -> int:
        """Channels of the backbone's last feature map."""
        return self.backbone.num_features

    @property
    def head_hidden_size(self) -> int:
        """Width of what enters the backbone's classifier."""
        return self.backbone.head_hidden_size

    @property
    def feature_info(self) -> Any:
        """The backbone's description of its feature levels, as timm keeps it, with its module names prefixed."""
        info = self.backbone.feature_info
        if not isinstance(info, list):
            return info
        return [{**level, "module": _prefixed(level["module"])} if level.get("module") else level for level in info]

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """The backbone's pretrained configuration, a copy with its module names prefixed."""
        cfg = dict(self.backbone.pretrained_cfg)
        return cfg | {key: _prefixed(cfg[key]) for key in _MODULE_NAMES_IN_CFG if cfg.get(key)}

    @property
    def default_cfg(self) -> dict[str, Any]:
        """timm's older name of :attr:`pretrained_cfg`."""
        return self.pretrained_cfg

    def get_classifier(self) -> nn.Module:
        """Give the backbone's classifier."""
        return self._of_backbone("get_classifier")()

    def reset_classifier(self, num_classes: int, *args: Any, **kwargs: Any) -> None:
        """Replace the backbone's classifier by a new one of ``num_classes``; further arguments as in timm."""
        self._of_backbone("reset_classifier")(num_classes, *args, **kwargs)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the backbone's activations in backward instead of keeping them."""
        self._of_backbone("set_grad_checkpointing")(enable)

    def set_input_size(self, *args: Any, **kwargs: Any) -> None:
        """Change a fixed-size backbone's input size, ``img_size=(T, F)`` (in the backbone's own layout), as in timm.

        Raises:
            AttributeError: if the backbone has no such method; make it anew with ``img_size=`` then.
        """
        if not hasattr(self.backbone, "set_input_size"):
            raise AttributeError(
                f"{type(self.backbone).__name__} cannot change its input size; make it with "
                "timm.create_model(..., img_size=(T, F)) if its input size is fixed at all"
            )
        self.backbone.set_input_size(*args, **kwargs)

    def no_weight_decay(self) -> set[str]:
        """Name the parameters, of the backbone and of the front end, that ask for no weight decay."""
        return {
            f"{child}.{name}"
            for child in ("backbone", "frontend", "features")
            if hasattr(getattr(self, child), "no_weight_decay")
            for name in getattr(self, child).no_weight_decay()
        }

    def group_matcher(self, coarse: bool = False) -> Any:
        """Give the backbone's parameter groups for timm's layer-wise learning rates, names prefixed.

        The parameters of the front end and of ``features`` go with the backbone's last group, its head, at the full rate,
        which is what new parameters before pretrained ones need.
        """
        from timm.models._manipulate import MATCH_PREV_GROUP
        from timm.optim import auto_group_layers

        if hasattr(self.backbone, "group_matcher"):
            matcher = self.backbone.group_matcher(coarse=coarse)
        else:
            matcher = auto_group_layers(self.backbone).get  # as timm itself does for such a model
        if callable(matcher):
            last = (float("inf"), *MATCH_PREV_GROUP)  # behind all others, and to timm no group of its own
            return lambda name: matcher(name.removeprefix("backbone.")) if name.startswith("backbone.") else last
        groups = {group: _prefixed_spec(spec) for group, spec in matcher.items()}
        patterns = [pattern for spec in groups.values() if spec for pattern in _patterns(spec)]
        if all(any(re.match(p, f"backbone.{name}") for p in patterns) for name, _ in self.backbone.named_parameters()):
            # Else what no pattern matches is timm's last group: the head, and with it what stands before the backbone.
            groups["frontend"] = [(r"(?:frontend|features)\.", MATCH_PREV_GROUP)]
        return groups


def input_channels(backbone: nn.Module) -> int:
    """How many channels a backbone reads: timm's ``in_chans``, else what its first convolution takes, else 3."""
    declared = getattr(backbone, "in_chans", None)
    if isinstance(declared, int):
        return declared
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3


def _is_timms(backbone: nn.Module) -> bool:
    return bool(getattr(backbone, "pretrained_cfg", None))


def _size_made_for(backbone: nn.Module) -> tuple[int, int]:
    """The input size, (rows, columns), that a timm model was made for."""
    return tuple(get_model_input_config(backbone)["input_size"][-2:])


def _resize(spec: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate spectrograms (B, C, rows, columns) to a size; antialiased, or a long one would lose whole frames."""
    if spec.shape[-2:] == size:
        return spec
    exact = spec if spec.dtype == torch.float64 else spec.float()  # a CPU knows this in no half precision
    return F.interpolate(exact, size, mode="bilinear", antialias=True).to(spec.dtype)


def _check_channels(backbone: nn.Module) -> None:
    """Refuse the one family that timm makes for any number of channels and that reads three alone."""
    chans = input_channels(backbone)
    if chans != 3 and any(type(module).__name__ == "LearnableDct2d" for module in backbone.modules()):
        raise ValueError(
            f"{type(backbone).__name__} turns red, green and blue into luma and chroma, so it cannot read "
            f"in_chans={chans}; make it with in_chans=3: a one-channel spectrogram is widened to three"
        )


def _prefixed(names: Any) -> Any:
    """Prefix a module name, or each of several, with ``backbone.``."""
    return f"backbone.{names}" if isinstance(names, str) else type(names)(f"backbone.{name}" for name in names)


def _patterns(spec: Any) -> list[str]:
    """List the patterns of one entry of timm's group matcher."""
    return [spec] if isinstance(spec, str) else [pattern for pattern, *_ in spec]


def _prefixed_spec(spec: Any) -> Any:
    """Prefix one entry of timm's group matcher: a pattern, or several of ``(pattern, suffix)``, or None."""
    if spec is None:
        return None
    if isinstance(spec, str):
        # timm matches from the start of a name, so an inner "^" says nothing new, and after a prefix it never matches.
        return rf"backbone\.(?:{_INNER_ANCHOR.sub('', spec)})"
    return [(_prefixed_spec(pattern), *rest) for pattern, *rest in spec]
