"""Describe a model by facts that can be compared: its weights, its settings and its code, each under its name."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import re
import weakref
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Facts", "facts"]

PLAIN = (type(None), bool, int, float, complex, str, bytes, range, slice, re.Pattern, PurePath, np.dtype)
PLAIN_TORCH = (torch.dtype, torch.layout, torch.memory_format)
# The functions and classes of these packages are identified by their names. Their code changes only with a release.
LIBRARIES = {
    "builtins",
    "collections",
    "math",
    "operator",
    "numpy",
    "torch",
    "torchaudio",
    "torchvision",
    "nnAudio",
    "timm",
}
LIBRARIES |= {"transformers", "huggingface_hub", "specenhance"}
INTERNAL = set(vars(nn.Module()))  # PyTorch's own attributes of a module; its parts and hooks are visited one by one


class Facts(NamedTuple):
    """The facts about a model, and the parts that it gives none of.

    Attributes:
        known: A short text or a SHA-256 of each weight, buffer, setting and class, by its path.
        unknown: A description of each part that cannot be distinguished from others of its kind, such as a lambda, by its path.

    >>> Facts(known={"teacher.bias": "float32 (3,) ..."}, unknown={}).unknown
    {}
    """

    known: dict[str, str]
    unknown: dict[str, str]


def facts(thing: object, name: str, *, weights: bool = True) -> Facts:
    """Give the facts that the results of a model or a transform depend on.

    The facts about a module are its parameters, buffers (also those outside the ``state_dict``), attributes, forward hooks and
    submodules. The facts about a class that is not a known library's are the byte code of its methods, and the numbers and
    texts outside of the methods that they read. A Python function that is not a library's stays unknown, because it may read
    anything.

    Args:
        thing: A module, a function, or anything that a module may have as an attribute.
        name: The first part of the paths.
        weights: Whether to compare the values of tensors. This takes about a second for a few hundred megabytes.

    >>> facts(nn.ReLU(), "teacher").known["teacher"]
    'torch.nn.modules.activation.ReLU'
    >>> facts(lambda x: x, "transform").unknown
    {'transform': 'the function <lambda>'}
    """
    found = _Collector(weights)
    found.visit(name, thing)
    return Facts(found.known, found.unknown)


class _Collector:
    def __init__(self, weights: bool) -> None:
        self.weights = weights
        self.known: dict[str, str] = {}
        self.unknown: dict[str, str] = {}
        self.met: dict[int, tuple[str, object]] = {}  # by id; the object is kept, because its id could be used again
        self.inside: set[int] = set()  # ids of the containers around the visited value

    def visit(self, path: str, value: Any) -> None:
        match value:
            case Enum():
                self.known[path] = str(value)
            case torch.device():  # the device changes only the rounding
                self.known[path] = "device"
            case _ if isinstance(value, (*PLAIN, *PLAIN_TORCH)):
                self.known[path] = repr(value)
            case Tensor() | np.ndarray() | np.generic():
                self._array(path, value)
            case type():
                self.known[path] = _name(value)
            case weakref.ref():
                self.visit(path, value())
            case Mapping():
                self._parts(path, value, {f"{path}[{key!r}]": part for key, part in value.items()})
            case list() | tuple():
                self._parts(path, value, {f"{path}[{i}]": part for i, part in enumerate(value)})
            case set() | frozenset():
                self._parts(path, value, {f"{path}[{i}]": part for i, part in enumerate(sorted(value, key=repr))})
            case functools.partial():
                self._parts(
                    path, value, {f"{path}.{name}": getattr(value, name) for name in ("func", "args", "keywords")}
                )
            case MethodType():
                self._parts(path, value, {f"{path}.__self__": value.__self__, f"{path}.__name__": value.__name__})
            case BuiltinFunctionType():
                owner = value.__self__
                bound = owner is not None and not isinstance(owner, ModuleType | type)
                self._parts(path, value, {f"{path}.__self__": owner} if bound else {}, _name(value))
            case FunctionType():
                self._function(path, value)
            case nn.Module():
                self._object(path, value, _parts_of(value))
            case _ if dataclasses.is_dataclass(value):
                self._object(path, value, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
            case _ if hasattr(value, "__dict__") and type(value).__reduce__ is object.__reduce__:
                self._object(path, value, vars(value))
            case _:
                self.unknown[path] = f"of type {_name(type(value))}"

    def _parts(self, path: str, value: object, parts: Mapping[str, object], kind: str = "") -> None:
        self.known[path] = kind or type(value).__name__
        if id(value) not in self.inside:  # a list may contain itself
            self.inside.add(id(value))
            for name, part in parts.items():
                self.visit(name, part)
            self.inside.remove(id(value))

    def _object(self, path: str, value: object, parts: Mapping[str, object]) -> None:
        if id(value) in self.met:
            self.known[path] = f"the same as {self.met[id(value)][0]}"
            return
        self.met[id(value)] = (path, value)
        self.known[path] = _name(type(value))
        self._class(path, type(value))
        for name, part in parts.items():
            self.visit(f"{path}.{name}", part)

    def _array(self, path: str, value: Any) -> None:
        kind = f"{value.dtype} {tuple(value.shape)}"
        try:
            if isinstance(value, Tensor) and self.weights:
                value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            if value.dtype == object:
                raise TypeError
        except (RuntimeError, TypeError, NotImplementedError):  # sparse, quantised, on no device
            self.unknown[path] = f"of type {_name(type(value))}, {kind}"
            return
        digest = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest() if self.weights else ""
        self.known[path] = f"{kind} {digest}"

    def _function(self, path: str, function: FunctionType) -> None:
        if _is_library(function) and "<" not in function.__qualname__:  # <lambda>, <locals>
            self.known[path] = _name(function)
        else:
            self.unknown[path] = f"the function {function.__qualname__}"

    def _class(self, path: str, kind: type) -> None:
        for base in kind.__mro__:
            if _is_library(base) or id(base) in self.met:
                continue
            self.met[id(base)] = (path, base)
            for name, member in vars(base).items():
                function = inspect.unwrap(getattr(member, "__func__", None) or getattr(member, "fget", None) or member)
                place = f"{_name(base)}.{name}"
                if isinstance(function, FunctionType):
                    self.known[place] = hashlib.sha256("\n".join(_instructions(function.__code__)).encode()).hexdigest()
                    for outer, value in _read_from_around(function):
                        self.visit(f"{place}.{outer}", value)
                elif isinstance(member, PLAIN) and not name.startswith("__"):
                    self.known[place] = repr(member)


def _parts_of(module: nn.Module) -> dict[str, object]:
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    return {
        **{name: value for name, value in vars(module).items() if name not in INTERNAL},
        **{f"hook {i}": hook for i, hook in enumerate(hooks)},
        **{name: tensor for name, tensor in module._parameters.items() if tensor is not None},
        **{name: tensor for name, tensor in module._buffers.items() if tensor is not None},
        **module._modules,
    }


def _read_from_around(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Give the defaults of a function, the values of its closure, and the plain values among the globals that it names."""
    code = function.__code__
    yield from ((f"default {i}", value) for i, value in enumerate(function.__defaults__ or ()))
    yield from ((function.__kwdefaults__ or {}).items())
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        if name != "__class__":  # super()
            yield name, cell.cell_contents
    for name in code.co_names:
        if isinstance(value := function.__globals__.get(name), PLAIN) and value is not None:
            yield name, value


def _instructions(code: CodeType) -> Iterator[str]:
    """Give the instructions of a code object, without its place in a file."""
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames, code.co_freevars))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
        else:  # a set has no order
            yield repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant)


def _is_library(thing: Any) -> bool:
    return (getattr(thing, "__module__", None) or "").partition(".")[0] in LIBRARIES


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', None) or ''}.{thing.__qualname__}".lstrip(".")
