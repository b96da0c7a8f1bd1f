"""``with_frontend``: features, a front end and a timm backbone as one model that keeps timm's model interface."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast, no_type_check

import torch
from timm.models import register_notrace_module
from torch import Tensor, nn

from specenhance.frontends.base import apply_frontend, needs_energies, out_channels, uses_real_frames
from specenhance.frontends.mask import MaskFrontend
from specenhance.frontends.registry import create_frontend
from specenhance.models import timm_interface
from specenhance.models.hub import HubMixin
from specenhance.models.timm_interface import check_channels, input_channels, is_timms, size_made_for

if TYPE_CHECKING:
    from specenhance.models.sounds import Sound

__all__ = ["FITS", "LAYOUTS", "FrontendModel", "with_frontend"]

LAYOUTS = ("time_freq", "freq_time")
FITS = ("error", "resize")

_ARGUMENTS = {"layout": "time_freq", "fit": "error"}  # arguments of this model that its backbone does not have

# A wrapper such as DistributedDataParallel has the wrapped model as ``module``. timm would take a backbone's attribute for it.
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
        frontend: A name of :func:`specenhance.list_frontends`, a chain of such names, e.g. ``"clipnorm+tfe4"``, or a module
            that maps a spectrogram ``(B, C, T, F)`` to one ``(B, C', T, F)``. The backbone reads C' channels; one channel is
            widened for a backbone that reads more.
        features: A module that maps waveforms ``(B, samples)`` to spectrograms ``(B, C, T, F)``. With it the model takes
            waveforms; without it the model takes spectrograms.
        layout: The order of the two axes that the backbone reads: ``"time_freq"`` (T rows, F columns) or ``"freq_time"``
            for a backbone that was trained the other way round. The model's own input stays ``(B, C, T, F)``.
        fit: ``"error"`` gives the backbone the enhanced spectrogram in its own size, and a size that the backbone refuses is
            an error. ``"resize"`` interpolates the enhanced spectrogram to the size that the backbone was made for.
        **frontend_kwargs: The arguments of a front end that is given by name, e.g. ``in_chans=1, kernel_size=17``.

    Returns:
        A model that has timm's interface and trains like the backbone.

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
        if "bins" not in frontend_kwargs and hasattr(features, "frequencies"):
            frontend_kwargs["bins"] = len(cast(Any, features).frequencies)
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

    :class:`specenhance.models.hub.HubMixin` saves and loads the model.

    Args:
        backbone: As in :func:`with_frontend`.
        frontend: The module that maps a spectrogram ``(B, C, T, F)`` to one of the same shape.
        features: As in :func:`with_frontend`.
        layout: As in :func:`with_frontend`.
        fit: As in :func:`with_frontend`.

    Raises:
        ValueError: as :func:`with_frontend`.

    >>> import timm
    >>> from specenhance import TFE, KaldiFbank
    >>> model = FrontendModel(timm.create_model("test_resnet", in_chans=1, num_classes=5), TFE(n=2))
    >>> model.num_classes, model.pretrained_cfg["classifier"]
    (5, 'backbone.fc')
    >>> model.reset_classifier(3)
    >>> model(torch.rand(2, 1, 64, 32)).shape
    torch.Size([2, 3])

    With ``features`` the model takes waveforms. Its parts can be called one after another:

    >>> model = FrontendModel(model.backbone, model.frontend, features=KaldiFbank(frames=96))
    >>> waveform = torch.zeros(2, 16000)
    >>> spec = model.spectrogram(waveform)
    >>> spec.shape, model.enhance(waveform).shape, model.classify(spec).shape
    (torch.Size([2, 1, 96, 128]), torch.Size([2, 1, 96, 128]), torch.Size([2, 3]))
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
        "thresholds",
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
        chans, given = input_channels(backbone), out_channels(frontend, 1)
        if given not in (1, chans):
            raise ValueError(
                f"the front end gives {given} channels, and the backbone reads {chans}; make the backbone with in_chans={given}"
            )
        if needs_energies(frontend) and features is not None:
            frontend.set_normalisation(features.mean, features.std)  # type: ignore[operator]
        # Annotated here, because TorchScript would compile an annotation of the class.
        self.features: Any = features
        self.frontend: Any = frontend
        self.layout = layout
        self.fit = fit
        self._backbone_chans = input_channels(backbone)
        self._classes: list[str] | None = None
        self._thresholds: list[float] | None = None
        # timm's name of this model, if timm made it by a name of specenhance.models.timm_names.
        self._architecture: str | None = None
        self.backbone: Any = backbone  # last, because from now on __setattr__ sets the backbone's names on the backbone

    def __getattr__(self, name: str) -> Any:
        # Python also calls this if a property raises AttributeError, because the backbone lacks a name.
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
        if name == "set_input_size":
            return functools.wraps(found)(lambda *args, **kwargs: self._set_input_size(found, *args, **kwargs))
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

    # No annotations. TorchScript infers the backbone's return type only if none is given. torch.fx would write the type of an
    # argument into the code that it makes, as the text "Tensor".
    @no_type_check
    def forward(self, x):
        """Compute what the backbone gives for the model's input, such as logits ``(B, num_classes)``.

        Args:
            x: Spectrograms ``(B, C, T, F)`` or ``(B, T, F)``. With ``features``, waveforms ``(B, samples)``.

        Raises:
            ValueError: for a shape that the front end or the backbone cannot take. The message says what to do.
            TypeError: for a spectrogram of another dtype than the backbone's.
        """
        if torch.jit.is_scripting():
            spec = self.frontend(_with_channels(x))
            return self.backbone(_as_read(spec, self._backbone_chans, self.layout, self._scripted_size))
        return self.classify(self.spectrogram(x), self.real_frames(x))

    def spectrogram(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the spectrogram ``(B, C, T, F)`` that goes into the front end.

        Args:
            x: The model's input, as for :meth:`forward`.
            lengths: Number of samples of each waveform before padding, ``(B,)``. None means that no waveform is padded.
        """
        if self.features is None:
            return _with_channels(x)
        return self.features(x) if lengths is None else self.features(x, lengths)

    def real_frames(self, x: Tensor, lengths: Tensor | None = None) -> Tensor | None:
        """Mark the frames of the spectrogram that are sound, for a front end that must know which are padding.

        Args:
            x: The model's input, as for :meth:`forward`.
            lengths: As for :meth:`spectrogram`.

        Returns:
            False for a frame of padding, ``(B, T)`` or ``(1, T)``. None if the front end does not need to know, or if the
            input is a spectrogram, of which nothing is known.
        """
        if not uses_real_frames(self.frontend) or not hasattr(self.features, "real_frames"):
            return None
        return self.features.real_frames(x, lengths)

    def classify(self, spec: Tensor, real: Tensor | None = None) -> Tensor:
        """Compute logits from spectrograms ``(B, C, T, F)``, also if the model has ``features``.

        Args:
            spec: The spectrograms.
            real: The result of :meth:`real_frames`. None means that no frame is padding.
        """
        return self._run(self.backbone, apply_frontend(self.frontend, spec, real))

    def enhance(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute the enhanced spectrogram ``(B, C, T, F)`` of the model's input. It is the output of the front end.

        Args:
            x: The model's input, as for :meth:`forward`.
            lengths: As for :meth:`spectrogram`.
        """
        return apply_frontend(self.frontend, self.spectrogram(x, lengths), self.real_frames(x, lengths))

    def embed(self, sounds: Sound | Sequence[Sound], batch_size: int = 32) -> Tensor:
        """Give the backbone's pooled features of sounds, see :func:`specenhance.models.sounds.embed`.

        Args:
            sounds: A waveform ``(samples,)``, the path of a sound file, or a list of such.
            batch_size: The number of sounds that are computed together.

        Returns:
            A tensor ``(num_features,)``, or for a list ``(sounds, num_features)``.

        Raises:
            TypeError, ValueError, FileNotFoundError, AudioError: as :func:`specenhance.inference.predict_proba`.

        >>> import timm
        >>> from specenhance import KaldiFbank
        >>> backbone = timm.create_model("test_resnet", in_chans=1, num_classes=5)
        >>> with_frontend(backbone, "tfe1", features=KaldiFbank(frames=98)).embed(torch.zeros(16000)).shape
        torch.Size([96])
        """
        from specenhance.models.sounds import embed

        return embed(self, sounds, batch_size)

    def _run(self, call: Callable[..., Any], spec: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Bring a spectrogram ``(B, C, T, F)`` to the backbone's layout, size and channels, and call the backbone on it."""
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
        """Initialise the front end, by its ``init_weights`` or else its modules' ``reset_parameters``, then the backbone."""
        own = getattr(self.frontend, "init_weights", None)
        if own is not None:
            own()
        else:
            for module in self.frontend.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
        of_backbone(*args, **kwargs)

    def _set_input_size(self, of_backbone: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Set the backbone's size, and bring the feature levels that were given out up to date."""
        result = of_backbone(*args, **kwargs)
        if hasattr(self.backbone, "feature_info"):
            _ = self.feature_info
        return result

    def _size(self) -> tuple[int, int] | None:
        """Give the size (rows, columns) to which spectrograms are interpolated, or None if they are not."""
        return size_made_for(self.backbone) if self.fit == "resize" else None

    def __prepare_scriptable__(self) -> FrontendModel:
        """Store the size, because TorchScript cannot ask the backbone for it. torch.jit.script calls this."""
        if self.features is not None:
            raise NotImplementedError(
                "torch.jit.script takes a model from the spectrogram on: script with_frontend(model.backbone, model.frontend), "
                "or record the whole model by torch.jit.trace(model, waveform) or torch.export.export"
            )
        self._scripted_size = self._size()
        return self

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes in the order of the logits, or None if they are unknown. They are saved with the model.

        They become unknown when ``reset_classifier`` changes the number of classes.

        Raises:
            ValueError: when names are set whose number is not the number of classes.
        """
        return self._classes if self._classes and len(self._classes) == self.num_classes else None

    @classes.setter
    def classes(self, names: Sequence[str] | None) -> None:
        if names is not None and len(names) != self.num_classes:
            raise ValueError(f"classes: {len(names)} names for {self.num_classes} classes; give one for each, in order")
        self._classes = None if names is None else list(names)

    @property
    def thresholds(self) -> list[float] | None:
        """The probability from which on each class counts as found, or None if a sound has exactly one class.

        A model with thresholds is multi-label: a sound has any number of classes. They are saved with the model, and become
        unknown when ``reset_classifier`` changes the number of classes.

        Raises:
            ValueError: when numbers are set that are not probabilities, one for each class.
        """
        return self._thresholds if self._thresholds and len(self._thresholds) == self.num_classes else None

    @thresholds.setter
    def thresholds(self, numbers: Sequence[float] | None) -> None:
        if numbers is not None and (len(numbers) != self.num_classes or not all(0 <= one <= 1 for one in numbers)):
            raise ValueError(
                f"thresholds: {len(numbers)} numbers for {self.num_classes} classes; give one from 0 to 1 for each, in order"
            )
        self._thresholds = None if numbers is None else [float(one) for one in numbers]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Give the probabilities ``(..., classes)`` of logits: softmax, or in a multi-label model the sigmoid of each.

        >>> import timm, torch
        >>> from specenhance import with_frontend
        >>> model = with_frontend(timm.create_model("test_resnet", in_chans=1, num_classes=2), "tfe1")
        >>> model.probabilities(torch.tensor([0.0, 0.0]))
        tensor([0.5000, 0.5000])
        """
        return logits.sigmoid() if self.thresholds else logits.softmax(-1)

    @property
    def in_chans(self) -> int:
        """The number of channels that the backbone reads."""
        return self._backbone_chans

    @property
    def feature_info(self) -> Any:
        """timm's description of the backbone's feature levels, with the prefix ``backbone.`` before module names.

        It is one list, because timm's ``FeatureInfo`` keeps the list that it is given: ``set_input_size`` changes its levels.
        """
        info = timm_interface.prefixed_feature_info(self.backbone.feature_info)
        given = self.__dict__.get("_feature_info")
        if not isinstance(info, list) or given is None or len(given) != len(info):
            self.__dict__["_feature_info"] = info if isinstance(info, list) else None
            return info
        for old, new in zip(given, info, strict=True):
            old.update(new)
        return given

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """A copy of the backbone's pretrained configuration, with the prefix ``backbone.`` before module names.

        To change the configuration, set this property. Changes of the copy have no effect. If timm made the model by a name of
        :mod:`specenhance.models.timm_names`, architecture and tag are those of this name.
        """
        cfg = timm_interface.prefixed_cfg(self.backbone.pretrained_cfg)
        if self._architecture is not None:
            tag = ".".join(filter(None, (cfg.get("architecture"), cfg.get("tag"))))
            cfg |= {"architecture": self._architecture, "tag": tag}
        return cfg

    @pretrained_cfg.setter
    def pretrained_cfg(self, cfg: dict[str, Any]) -> None:
        self.backbone.pretrained_cfg = self.backbone.default_cfg = timm_interface.backbone_cfg(cfg, self._architecture)

    # timm's older name of pretrained_cfg. _traits and _model_args are what timm itself stores with a model.
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
        """List the names of the parameters that must have no weight decay, of the backbone, front end and features.

        >>> import timm
        >>> model = with_frontend(timm.create_model("test_vit", in_chans=1), "tfe1")
        >>> "backbone.pos_embed" in model.no_weight_decay()
        True
        """
        return {
            f"{child}.{name}"
            for child in ("backbone", "frontend", "features")
            if hasattr(getattr(self, child), "no_weight_decay")
            for name in getattr(self, child).no_weight_decay()
        }

    def group_matcher(self, coarse: bool = False) -> Any:
        """Give the backbone's parameter groups for timm's layer-wise learning rates, with prefixed names.

        The parameters of the front end and of ``features`` are in the backbone's last group, its head. This group has the
        full learning rate, which new parameters need.

        Args:
            coarse: Whether a group is a stage instead of a block, as in timm.

        >>> import timm
        >>> model = with_frontend(timm.create_model("test_resnet", in_chans=1), "tfe1")
        >>> list(model.group_matcher())
        ['stem', 'blocks']
        """
        return timm_interface.group_matcher(self.backbone, coarse)


@torch.fx.wrap  # torch.fx traces symbols, which have no shape
def _with_channels(x: Tensor) -> Tensor:
    """Add the channel axis to spectrograms (B, T, F)."""
    return x.unsqueeze(1) if x.ndim == 3 else x


@torch.fx.wrap
def _as_read(spec: Tensor, chans: int, layout: str, size: tuple[int, int] | None) -> Tensor:
    """Bring spectrograms (B, C, T, F) to the layout, size (rows, columns) and number of channels that a backbone reads."""
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
    """Interpolate spectrograms (B, C, rows, columns) to a size. Without antialiasing a long one would lose whole frames."""
    rows, columns = size
    if spec.shape[-2] == rows and spec.shape[-1] == columns:
        return spec
    exact = spec if spec.dtype == torch.float64 else spec.float()  # PyTorch has no half precision for this on a CPU
    return nn.functional.interpolate(exact, [rows, columns], mode="bilinear", antialias=True).to(spec.dtype)
