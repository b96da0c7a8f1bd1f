"""Backbones behind front ends: one model, its names, its files."""
