"""What holds for every test and every example in a docstring: none leaves anything behind for the next."""

import logging
from collections.abc import Iterator

import pytest

from specenhance.conditions.registry import CONDITIONS
from specenhance.data.registry import DATA
from specenhance.deploy.formats.registry import FORMATS
from specenhance.distillation.registry import TEACHERS
from specenhance.features.registry import FEATURES
from specenhance.frontends.registry import FRONTENDS

REGISTRIES = (FRONTENDS, FEATURES, DATA, TEACHERS, FORMATS, CONDITIONS)


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    """Undo ``logging.basicConfig``: its handler would write to a test's captured output when that is closed."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.setLevel(level)
    for handler in [h for h in root.handlers if isinstance(h, logging.StreamHandler) and h not in handlers]:
        root.removeHandler(handler)


@pytest.fixture(autouse=True)
def _examples_register_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take back the names that a docstring's example registers."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    for registry in REGISTRIES:
        registry.names()  # loads the library's own
    before = [dict(registry._entries) for registry in REGISTRIES]
    yield
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry._entries = entries
