"""Grids of runs: the paper's tables, and the comparison of front ends."""
