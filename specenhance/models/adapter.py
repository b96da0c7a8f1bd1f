"""``with_frontend``: features, a front end and a timm backbone as one model that keeps timm's model interface."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, no_type_check

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from specenhance.frontends.mask import MaskFrontend
from specenhance.frontends.registry import create_frontend
from specenhance.models import timm_interface
from specenhance.models.hub import HubMixin
from specenhance.models.timm_interface import check_channels, input_channels, is_timms, size_made_for

__all__ = ["FITS", "LAYOUTS", "FrontendModel", "with_frontend"]

LAYOUTS = ("time_freq", "freq_time")
FITS = ("error", "resize")

_ARGUMENTS = {"layout": "time_freq", "fit": "error"}  # arguments of a model that its backbone does not have

# The name that wrappers give the wrapped model: timm would take a backbone's attribute of this name for the whole model.
_NOT_THE_BACKBONES = frozenset({"module"})

# timm's tools for torch.fx keep a front end as one step. TorchScript can compile it.
register_notrace_module(MaskFrontend)


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
        backbone: Any timm model, e.g. ``timm.create_model("tf_efficientnetv2_b2", in_chans=1, num_classes=50)``.
        frontend: A name of :func:`specenhance.list_frontends`, or a module that maps a spectrogram ``(B, C, T, F)`` to one of
            the same shape.
        features: A module that maps waveforms ``(B, samples)`` to spectrograms ``(B, C, T, F)``. With it the model takes
            waveforms; without it the model takes spectrograms.
        layout: The order of the two axes that the backbone reads: ``"time_freq"`` (T rows, F columns) or ``"freq_time"``
            for a backbone that was trained the other way round. The model's own input stays ``(B, C, T, F)``.
        fit: ``"error"`` gives the backbone the enhanced spectrogram in its own size, and a size that the backbone refuses is
            an error. ``"resize"`` interpolates the enhanced spectrogram to the size that the backbone was made for.
        **frontend_kwargs: The arguments of a front end that is given by name, e.g. ``in_chans=1, kernel_size=17``.

    Returns:
        A model that trains as the backbone does and has timm's interface.

    Raises:
        ValueError: for an unknown name, layout or fit; for a backbone that cannot read its number of channels; for
            ``fit="resize"`` and a backbone that does not say what size it was made for.
        TypeError: for a front end or backbone of the wrong type, or arguments that the front end does not have.

    >>> import timm
    >>> backbone = timm.create_model("test_resnet", in_chans=1, num_classes=50)
    >>> model = with_frontend(backbone, "tfe4")
    >>> model(torch.rand(2, 1, 128, 64)).shape
    torch.Size([2, 50])
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

    The model takes spectrograms ``(B, C, T, F)``, or ``(B, T, F)`` as one channel. With ``features`` it takes waveforms
    ``(B, samples)``. A one-channel spectrogram is widened, as a view, for a backbone of more channels. The model gives what the
    backbone gives: logits ``(B, num_classes)``, or a list of feature maps if the backbone was made with ``features_only=True``.

    The model has timm's interface:

    - A public attribute that this class does not have is read from the backbone. It is also written there, unless it is a
      module or a tensor.
    - timm's methods that take no spectrogram (``reset_classifier``, ``set_input_size``, ...) are the backbone's.
    - timm's methods that take a spectrogram (``forward_features``, ``forward_intermediates``, ``get_intermediate_layers``) take
      this model's input. The backbone's method gets the enhanced spectrogram.
    - Any other method of the backbone is refused, because it would not see the front end. Call ``model.backbone.METHOD``.
    - ``hasattr`` is true for what the backbone has.
    - Names of parameters and modules are prefixed with ``backbone.``, as in this model's ``state_dict``.

    :class:`specenhance.models.hub.HubMixin` saves the model and loads it.

    >>> import timm
    >>> from specenhance import TFE
    >>> model = FrontendModel(timm.create_model("test_resnet", in_chans=1, num_classes=5), TFE(n=2))
    >>> model.num_classes, model.pretrained_cfg["classifier"]
    (5, 'backbone.fc')
    >>> model.reset_classifier(3)
    >>> model(torch.rand(2, 1, 64, 32)).shape
    torch.Size([2, 3])
    """

    # TorchScript compiles every property that is not listed here.
    __jit_unused_properties__ = (
        "_model_args",
        "_traits",
        "classes",
        "default_cfg",
        "feature_info",
        "in_chans",
        "pretrained_cfg",
    )

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
        if fit == "resize" and not is_timms(backbone):
            raise ValueError(
                f"fit='resize': {type(backbone).__name__} does not say what size it was made for, it has no pretrained_cfg "
                "as timm's models have; use fit='error' and give it spectrograms of its size"
            )
        check_channels(backbone)
        # Typed here, not on the class: TorchScript would compile a class's annotation.
        self.features: Any = features
        self.frontend: Any = frontend
        self.layout = layout
        self.fit = fit
        self._backbone_chans = input_channels(backbone)
        self._classes: list[str] | None = None
        # timm's name of the model, where timm made it by a name of specenhance.models.timm_names.
        self._architecture: str | None = None
        self.backbone: Any = backbone  # last: from here on, its names are set on it

    def __getattr__(self, name: str) -> Any:
        # Python calls this for a name that it has not found, and for a property that fails because the backbone lacks a name.
        modules = self.__dict__.get("_modules", {})
        if name in modules or name.startswith("_") or name in _NOT_THE_BACKBONES:
            return super().__getattr__(name)
        backbone = modules.get("backbone")
        if name in timm_interface.TIMMS and not hasattr(backbone, name):
            raise AttributeError(timm_interface.lacks(backbone, name))
        if not hasattr(backbone, name) or hasattr(type(self), name):
            return super().__getattr__(name)
        found = getattr(backbone, name)
        if name in timm_interface.TAKE_SPECTROGRAMS:
            return functools.wraps(found)(lambda x, *args, **kwargs: self._run(found, self.enhance(x), *args, **kwargs))
        if name == "init_weights":
            return functools.partial(self._init_weights, found)
        if inspect.isroutine(found) and name not in timm_interface.TAKE_NO_SPECTROGRAM:
            raise AttributeError(
                f"{type(self).__name__} has no method {name}; the backbone's own, model.backbone.{name}, does not see the "
                "front end: give it what model.enhance gives, if it takes a spectrogram"
            )
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        modules = self.__dict__.get("_modules", {})
        own = name in self.__dict__ or name in modules or hasattr(type(self), name) or name.startswith("_")
        if own or "backbone" not in modules or not hasattr(modules["backbone"], name):
            super().__setattr__(name, value)
        elif isinstance(value, (nn.Module, Tensor)) or isinstance(
            getattr(modules["backbone"], name), (nn.Module, Tensor)
        ):
            raise AttributeError(
                f"{name} is a part of the backbone; set it there, model.backbone.{name} = ..., or for another number of "
                "classes call model.reset_classifier(num_classes)"
            )
        else:
            setattr(modules["backbone"], name, value)

    # No annotations. A return type would be Any, and TorchScript would believe it; without one it infers the backbone's. An
    # argument's type would be the text "Tensor", and torch.fx would write that text into the code that it makes.
    @no_type_check
    def forward(self, x):
        """Map spectrograms ``(B, C, T, F)`` (with ``features``: waveforms ``(B, samples)``) to what the backbone gives.

        Raises:
            ValueError: for a shape that the front end or the backbone cannot take; the message names the cure.
            TypeError: for a spectrogram of another dtype than the backbone's.
        """
        if torch.jit.is_scripting():
            spec = self.frontend(_with_channels(x))
            return self.backbone(_as_read(spec, self._backbone_chans, self.layout, self._scripted_size))
        return self.classify(self.spectrogram(x))

    def spectrogram(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Give the spectrogram ``(B, C, T, F)`` that goes into the front end.

        Args:
            x: The model's input, as for :meth:`forward`.
            lengths: The number ``(B,)`` of real samples of each waveform, where waveforms are padded at the end.
        """
        if self.features is None:
            return _with_channels(x)
        return self.features(x) if lengths is None else self.features(x, lengths)

    def classify(self, spec: Tensor) -> Tensor:
        """Map spectrograms ``(B, C, T, F)`` to logits, whether or not the model has ``features``."""
        return self._run(self.backbone, self.frontend(spec))

    def enhance(self, x: Tensor) -> Tensor:
        """Give the enhanced spectrogram ``(B, C, T, F)`` of the model's input: the output of the front end."""
        return self.frontend(self.spectrogram(x))

    def _run(self, call: Callable[..., Any], spec: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Call the backbone on a spectrogram ``(B, C, T, F)``, in the layout and channels that it reads."""
        spec = _as_read(spec, self._backbone_chans, self.layout, self._size())
        if torch.compiler.is_compiling():
            return call(spec, *args, **kwargs)
        try:
            return call(spec, *args, **kwargs)
        except (AssertionError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError) or isinstance(spec, torch.fx.Proxy):
                raise
            expected = next((p.dtype for p in self.backbone.parameters() if p.is_floating_point()), spec.dtype)
            if spec.dtype != expected and not torch.is_autocast_enabled(spec.device.type):
                raise TypeError(
                    f"the model is {expected} and was given {spec.dtype} ({error}); convert what you give it, "
                    f"x.to({expected}), or the model, model.to({spec.dtype})"
                ) from error
            if not is_timms(self.backbone):
                raise
            got, axes = tuple(spec.shape[-2:]), "(T, F)" if self.layout == "time_freq" else "(F, T)"
            if got == size_made_for(self.backbone):
                raise
            raise ValueError(timm_interface.size_message(self.backbone, got, axes, error)) from error

    def _init_weights(self, of_backbone: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Initialise the front end, by its ``init_weights`` or its modules' ``reset_parameters``, and the backbone."""
        own = getattr(self.frontend, "init_weights", None)
        if own is not None:
            own()
        else:
            for module in self.frontend.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
        of_backbone(*args, **kwargs)

    def _size(self) -> tuple[int, int] | None:
        """The size (rows, columns) to which spectrograms are interpolated, if they are."""
        return size_made_for(self.backbone) if self.fit == "resize" else None

    def __prepare_scriptable__(self) -> FrontendModel:
        """Store the size, which TorchScript cannot ask the backbone for. torch.jit.script calls this."""
        if self.features is not None:
            raise NotImplementedError(
                "torch.jit.script takes a model from the spectrogram on: script with_frontend(model.backbone, model.frontend), "
                "or record the whole model by torch.jit.trace(model, waveform) or torch.export.export"
            )
        self._scripted_size = self._size()
        return self

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes in the order of the logits, saved with the model; None where they are not known.

        After ``reset_classifier`` to another number of classes they are not known. Setting them raises ValueError for another
        number of names than of classes.
        """
        return self._classes if self._classes and len(self._classes) == self.num_classes else None

    @classes.setter
    def classes(self, names: Sequence[str] | None) -> None:
        if names is not None and len(names) != self.num_classes:
            raise ValueError(f"classes: {len(names)} names for {self.num_classes} classes; give one for each, in order")
        self._classes = None if names is None else list(names)

    @property
    def in_chans(self) -> int:
        """The number of channels that the backbone reads."""
        return self._backbone_chans

    @property
    def feature_info(self) -> Any:
        """The backbone's description of its feature levels, as timm keeps it, with its module names prefixed."""
        return timm_interface.prefixed_feature_info(self.backbone.feature_info)

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """The backbone's pretrained configuration, a copy with its module names prefixed. To change it, set the whole of it.

        If timm made the model by a name of :mod:`specenhance.models.timm_names`, architecture and tag are that name's.
        """
        cfg = timm_interface.prefixed_cfg(self.backbone.pretrained_cfg)
        if self._architecture is not None:
            tag = ".".join(filter(None, (cfg.get("architecture"), cfg.get("tag"))))
            cfg |= {"architecture": self._architecture, "tag": tag}
        return cfg

    @pretrained_cfg.setter
    def pretrained_cfg(self, cfg: dict[str, Any]) -> None:
        self.backbone.pretrained_cfg = self.backbone.default_cfg = timm_interface.backbone_cfg(cfg, self._architecture)

    # timm's older name, and what timm stores with a model: its size and first convolution, and its arguments.
    default_cfg = property(lambda self: self.pretrained_cfg, lambda self, cfg: setattr(self, "pretrained_cfg", cfg))
    _traits = property(lambda self: timm_interface.prefixed_cfg(getattr(self.backbone, "_traits", {})))

    @property
    def _model_args(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name, default in _ARGUMENTS.items() if getattr(self, name) != default}
        return getattr(self.backbone, "_model_args", {}) | own

    @_model_args.setter
    def _model_args(self, arguments: dict[str, Any]) -> None:
        self.backbone._model_args = {name: value for name, value in arguments.items() if name not in _ARGUMENTS}

    def no_weight_decay(self) -> set[str]:
        """Name the parameters of the backbone and of the front end that must have no weight decay."""
        return {
            f"{child}.{name}"
            for child in ("backbone", "frontend", "features")
            if hasattr(getattr(self, child), "no_weight_decay")
            for name in getattr(self, child).no_weight_decay()
        }

    def group_matcher(self, coarse: bool = False) -> Any:
        """Give the backbone's parameter groups for timm's layer-wise learning rates, names prefixed.

        The parameters of the front end and of ``features`` are in the backbone's last group, its head. That group has the
        full rate, which new parameters in front of pretrained ones need.
        """
        return timm_interface.group_matcher(self.backbone, coarse)


@torch.fx.wrap  # torch.fx traces symbols without a shape
def _with_channels(x: Tensor) -> Tensor:
    """Give spectrograms (B, T, F) their channel axis."""
    return x.unsqueeze(1) if x.ndim == 3 else x


@torch.fx.wrap
def _as_read(spec: Tensor, chans: int, layout: str, size: tuple[int, int] | None) -> Tensor:
    """Bring spectrograms (B, C, T, F) to the layout, size (rows, columns) and channels that a backbone reads."""
    B, C, T, F = spec.shape
    if C not in [1, chans]:
        raise ValueError(
            f"the backbone takes {chans} channel(s), got a spectrogram (B, C, T, F) = ({B}, {C}, {T}, {F}); make the backbone "
            f"with in_chans={C}"
        )
    if layout == "freq_time":
        spec = spec.transpose(-1, -2)
    if size is not None:
        spec = _resize(spec, size)
    return spec if chans == C else spec.expand(-1, chans, -1, -1)


def _resize(spec: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate spectrograms (B, C, rows, columns) to a size, with antialiasing: else a long one would lose whole frames."""
    rows, columns = size
    if spec.shape[-2] == rows and spec.shape[-1] == columns:
        return spec
    exact = spec if spec.dtype == torch.float64 else spec.float()  # a CPU has no half precision for this
    return nn.functional.interpolate(exact, [rows, columns], mode="bilinear", antialias=True).to(spec.dtype)
