"""Modules that a user names on the command line, so that what they register is known by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module

__all__ = ["HINT", "import_modules", "imported_modules"]

HINT = "specenhance --import MODULE makes known what a module of yours registers"
"""What a message about an unknown name adds."""

_modules: list[str] = []


def import_modules(names: Iterable[str]) -> None:
    """Import modules, also from the current folder. A process that training starts imports them too.

    Args:
        names: their names, as ``import`` takes them.

    Raises:
        ImportError: for a module that cannot be imported; the message names it.
    """
    for name in names:
        here = os.getcwd()
        if here not in sys.path:
            sys.path.insert(0, here)
        try:
            import_module(name)
        except (ImportError, SyntaxError) as error:
            raise ImportError(f"--import {name}: {error}; {_cure(name)}") from error
        if name not in _modules:
            _modules.append(name)


def imported_modules() -> list[str]:
    """List the modules that :func:`import_modules` has imported."""
    return list(_modules)


def _cure(name: str) -> str:
    if name.endswith(".py") or os.sep in name:
        return "expected the name of a module, such as my_module for my_module.py in the current folder"
    return "expected a module that is installed, or lies in the current folder"
