"""What to say where a package is missing: a cure that holds in a checkout and for an installed release."""

from __future__ import annotations

__all__ = ["missing"]


def missing(error: ImportError, use: str, *packages: str) -> ImportError:
    """Give the error to raise in place of ``error``.

    It names the packages themselves: an extra of this one would bring PyTorch to a machine that has none.

    Args:
        error: what the import raised.
        use: what needs the packages, such as ``"reading audio needs soundfile"``.
        packages: their names as pip knows them.
    """
    return ImportError(f"{error}; {use}: pip install {' '.join(packages)}")
