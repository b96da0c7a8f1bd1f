"""Conditions under which a model is measured: what the world does to a sound, one file a condition. Without PyTorch."""

from specenhance.conditions.registry import create_condition, list_conditions, register_condition

__all__ = ["create_condition", "list_conditions", "register_condition"]
