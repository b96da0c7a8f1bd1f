"""Names of teachers and of losses in a recipe. Without PyTorch, because a recipe is checked before it is loaded."""

from __future__ import annotations

__all__ = ["FEATURES", "SEPARATOR", "names_of"]

SEPARATOR = " + "
"""What stands between the names of several teachers."""

FEATURES = ("feature_mse", "feature_cosine")
"""Losses that compare features, not logits."""


def names_of(teacher: str) -> list[str]:
    """Split the names of several teachers.

    Args:
        teacher: The names with :data:`SEPARATOR` between them. Empty for no teacher.

    >>> names_of("runs/a + ast:folder"), names_of("")
    (['runs/a', 'ast:folder'], [])
    """
    return [name.strip() for name in teacher.split(SEPARATOR)] if teacher else []
