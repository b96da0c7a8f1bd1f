"""The reference, written from the library itself: the directives ``room``, ``names`` and ``registry``.

A room's new file and a registry's new name are on the site at the next build, without a line in ``docs/``.
"""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

REGISTRIES = {
    "frontends": ("specenhance.frontends.registry", "FRONTENDS"),
    "features": ("specenhance.features.registry", "FEATURES"),
    "data": ("specenhance.data.registry", "DATA"),
    "teachers": ("specenhance.distillation.registry", "TEACHERS"),
    "formats": ("specenhance.deploy.formats.registry", "FORMATS"),
    "conditions": ("specenhance.conditions.registry", "CONDITIONS"),
}


def modules(name: str) -> list[str]:
    """List the public modules of a room, those of its folders too; the room itself is not among them."""
    found = []
    for module in pkgutil.iter_modules(getattr(import_module(name), "__path__", [])):
        if not module.name.startswith("_"):
            path = f"{name}.{module.name}"
            found += modules(path) if module.ispkg else [path]
    return found


def summary(thing: Any) -> str:
    """Give the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def home(path: str) -> str | None:
    """Give the full name by which the reference describes a thing, whatever other names modules give it."""
    for cut in range(path.count("."), 0, -1):
        parts = path.split(".")
        try:
            thing = import_module(".".join(parts[:cut]))
            for attribute in parts[cut:]:
                thing = getattr(thing, attribute)
        except (ImportError, AttributeError):
            continue
        name = getattr(thing, "__qualname__", None)
        return f"{thing.__module__}.{name}" if name else None
    return None


class Written(SphinxDirective):
    """A directive that is replaced by reStructuredText."""

    required_arguments = 1

    def lines(self, argument: str) -> list[str]:
        """Write the lines."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse the lines where the directive stands."""
        lines = StringList(self.lines(self.arguments[0]), source=f"{type(self).__name__} {self.arguments[0]}")
        return self.parse_text_to_nodes(lines, allow_section_headings=True)


class Room(Written):
    """A section for each public module of a room, or for the one module that is named."""

    def lines(self, argument: str) -> list[str]:
        """Write a heading and an ``automodule`` for each module."""
        package = hasattr(import_module(argument), "__path__")
        lines = [".. automodule:: " + argument, "   :no-members:", ""] if package else []
        for module in modules(argument) if package else [argument]:
            title = module.removeprefix("specenhance.").removeprefix(argument.removeprefix("specenhance.") + ".")
            lines += [title, "-" * len(title), "", f".. automodule:: {module}", ""]
        return lines


class Names(Written):
    """A table of the names that a module exports, each with a link and its summary."""

    def lines(self, argument: str) -> list[str]:
        """Write the table."""
        module = import_module(argument)
        rows = [(f":py:obj:`{name} <{argument}.{name}>`", summary(getattr(module, name))) for name in module.__all__]
        return table(("name", "what it is"), rows)


class RegistryTable(Written):
    """A table of what a registry of the library knows, without what other packages add."""

    def lines(self, argument: str) -> list[str]:
        """Write the table."""
        module, name = REGISTRIES[argument]
        registry = getattr(import_module(module), name)
        registry.names()  # loads the room
        rows = []
        for key, entry in sorted(registry._entries.items()):
            factory = entry.factory
            if factory.__module__.startswith("specenhance."):
                known = f"``{key.replace('{n}', '<n>')}``"
                rows.append((known, f":py:obj:`~{factory.__module__}.{factory.__qualname__}`", summary(factory)))
        return table(("name", "made by", "what it is"), rows)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Write a list-table."""
    lines = [".. list-table::", "   :header-rows: 1", "   :class: wrapped", ""]
    for row in (head, *rows):
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
    return [*lines, ""]


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element) -> nodes.Element | None:
    """Find a name by which another module exports a thing, such as ``specenhance.with_frontend``."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("specenhance"):
        return None
    described = home(target)
    domain = env.domains.python_domain
    if described is None or described == target or described not in domain.objects:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", described, node, text)


def redirect(app: Sphinx, error: Exception | None) -> None:
    """Lead from the top of the site to its first page."""
    if error is None and app.builder.format == "html":
        page = f'<!doctype html><meta http-equiv="refresh" content="0; url={app.config.root_doc}.html"><title>specenhance</title>'
        (app.outdir / "index.html").write_text(page + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of all this."""
    app.add_directive("room", Room)
    app.add_directive("names", Names)
    app.add_directive("registry", RegistryTable)
    app.connect("missing-reference", resolve)
    app.connect("build-finished", redirect)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
