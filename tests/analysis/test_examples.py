"""The examples in the docstrings of the analysis and the experiments."""

import doctest
import importlib
import pkgutil

import pytest

import specenhance.analysis
import specenhance.experiments

MODULES = [
    module.name
    for room in (specenhance.analysis, specenhance.experiments)
    for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
