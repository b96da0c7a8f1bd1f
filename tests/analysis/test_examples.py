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
    assert not doctest.testmod(importlib.import_module(name)).failed


# Their examples draw, train or start a cluster.
SLOW = {
    f"specenhance.{name}"
    for name in (
        "analysis.report",
        "experiments.compare",
        "experiments.cluster",
        "experiments.page",
        "experiments.tune",
    )
}


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    found = {name for name in MODULES if any(test.examples for test in finder.find(importlib.import_module(name)))}
    assert found == set(MODULES) - SLOW
