"""The reference, written from the library itself: the directives ``room``, ``names`` and ``commands``.

A room's new file and a registry's new name are on the site at the next build, without a line in ``docs/``.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from pygments.lexers.special import TextLexer
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

import specenhance
from specenhance._registry import Registry

REGISTRIES = {
    "specenhance.frontends": ("specenhance.frontends.registry", "FRONTENDS"),
    "specenhance.features": ("specenhance.features.registry", "FEATURES"),
    "specenhance.data": ("specenhance.data.registry", "DATA"),
    "specenhance.distillation": ("specenhance.distillation.registry", "TEACHERS"),
    "specenhance.deploy": ("specenhance.deploy.formats.registry", "FORMATS"),
    "specenhance.conditions": ("specenhance.conditions.registry", "CONDITIONS"),
}


def modules(name: str) -> list[str]:
    """List the public modules of a room and of its folders, the room first."""
    found = [name]
    for module in pkgutil.iter_modules(getattr(import_module(name), "__path__", [])):
        if not module.name.startswith("_"):
            found += modules(f"{name}.{module.name}")
    return found


def summary(thing: Any) -> str:
    """Give the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def find(path: str) -> tuple[bool, str | None]:
    """Find a thing by its dotted path: whether it exists, and the full name by which the reference describes it."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            thing = import_module(".".join(parts[:cut]))
            for attribute in parts[cut:]:
                thing = getattr(thing, attribute)
        except (ImportError, AttributeError):
            continue
        name = getattr(thing, "__qualname__", None)
        return True, f"{thing.__module__}.{name}" if name else path
    return False, None


def borrowed(name: str) -> list[str]:
    """List what a module exports of other modules: the reference describes it there."""
    module = import_module(name)
    return [
        export
        for export in getattr(module, "__all__", ())
        if getattr(getattr(module, export), "__module__", name) != name
        and hasattr(getattr(module, export), "__qualname__")
    ]


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
    """What a room is, a table of the names that it registers, and a section for each public module. Or that of one module."""

    def lines(self, argument: str) -> list[str]:
        """Write an ``automodule`` for each module, under a heading where it is not the room itself."""
        lines = []
        for module in modules(argument):
            if module != argument or not hasattr(import_module(argument), "__path__"):
                title = module.removeprefix("specenhance.").removeprefix(argument.removeprefix("specenhance.") + ".")
                lines += [title, "-" * len(title), ""]
            lines += [f".. automodule:: {module}", f"   :exclude-members: {', '.join(borrowed(module))}", ""]
            if module in REGISTRIES:
                home, name = REGISTRIES[module]
                lines += known(getattr(import_module(home), name))
        return lines


class Names(Written):
    """A table of the names that a module exports, each with a link and its summary."""

    def lines(self, argument: str) -> list[str]:
        """Write the table."""
        module = import_module(argument)
        rows = [(f":py:obj:`{name} <{argument}.{name}>`", summary(getattr(module, name))) for name in module.__all__]
        return table(("name", "what it is"), rows)


def known(registry: Registry[Any]) -> list[str]:
    """Write a table of what a registry of the library knows, without what other packages add."""
    registry.names()  # loads the room
    rows = []
    for name, entry in sorted(registry._entries.items()):
        factory = entry.factory
        if factory.__module__.startswith("specenhance."):
            made_by = f":py:obj:`~{factory.__module__}.{factory.__qualname__}`"
            rows.append((f"``{name.replace('{n}', '<n>')}``", made_by, summary(factory)))
    return table(("name", "made by", "what it is"), rows)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Write a list-table."""
    lines = [".. list-table::", "   :header-rows: 1", "   :class: wrapped", ""]
    for row in (head, *rows):
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
    return [*lines, ""]


class Commands(Written):
    """A section for each command of the command line: its usage, what it does, and its options."""

    required_arguments = 0
    has_content = False

    def run(self) -> list[nodes.Node]:
        """Parse what is written of each command."""
        lines = StringList(self.lines(), source="commands")
        return self.parse_text_to_nodes(lines, allow_section_headings=True)

    def lines(self, argument: str = "") -> list[str]:
        """Write the sections, in the order of ``specenhance --help``."""
        from typer.main import get_command

        from specenhance.cli import app

        lines = []
        for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
            context = command.make_context(name, [], resilient_parsing=True)
            usage = " ".join(command.collect_usage_pieces(context))
            title = f"specenhance {name}"
            lines += [title, "-" * len(title), "", "::", "", f"   {title} {usage}", ""]
            for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
                lines += [plain(paragraph), ""]
            rows = [option.get_help_record(context) for option in command.params if not option.hidden]
            lines += table(("option", "what it is"), [(f"``{names}``", plain(text)) for names, text in rows])
        return lines


def plain(text: str) -> str:
    """Escape what reStructuredText would obey, and set options as code: two hyphens of a text become a dash."""
    words = re.split(r"(--[a-z][\w-]*)", " ".join(text.split()))
    return "".join(
        f"\\ ``{word}``\\ " if word.startswith("--") else re.sub(r"([\\*`|_])", r"\\\1", word) for word in words
    )


def leave_out(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of a named tuple where the class describes them, and constructors of pydantic."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def attribute(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from reading a type out of the sentence "What it is: a list" of an attribute or a constant."""
    if what in ("attribute", "data", "property") and lines and ":" in lines[0]:
        lines[:0] = ["..", ""]


def settle(app: Sphinx, doctree: nodes.document) -> None:
    """Prepare references before Sphinx resolves them.

    A folder of the repository is shown without a link: the site has no page of it. A bare name is that of the docstring's own
    module, where this has one: other modules may have one of the same name.
    """
    here = Path(doctree["source"]).parent
    for node in list(doctree.findall(pending_xref)):
        target = node["reftarget"]
        if node["reftype"] == "myst" and (here / target).is_dir():
            node.replace_self(node.children)
        elif node.get("refdomain") == "py" and "." not in target and node.get("py:module"):
            described = find(f"{node['py:module']}.{target}")[1]
            if described and described.startswith("specenhance."):
                node["reftarget"] = described


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.Element) -> nodes.Element | None:
    """Find what Sphinx does not: names that another module exports, and names in scope of a docstring.

    A thing that exists and that the reference does not describe, such as a private one, is shown without a link.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    module, scope = node.get("py:module"), node.get("py:class")
    paths = [
        target,
        *(f"{module}.{target}" for _ in [0] if module),
        *(f"{module}.{scope}.{target}" for _ in [0] if scope),
    ]
    if "." not in target:  # one of a private module, such as an exception that a function lets through
        private = [name for _, name, _ in pkgutil.iter_modules(specenhance.__path__) if re.match("_[a-z]", name)]
        paths += [f"specenhance.{name}.{target}" for name in private]
    exists = False
    for path in paths:
        if path.startswith("specenhance."):
            there, described = find(path)
            exists = exists or there
            if described in domain.objects:
                return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", described, node, text)
    ends = [name for name in domain.objects if name.endswith(f".{target}")]
    if len(ends) == 1:  # a name that a module imports for type checkers only
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", ends[0], node, text)
    return text if exists else None


def redirect(app: Sphinx, error: Exception | None) -> None:
    """Lead from the top of the site to its first page."""
    if error is None and app.builder.format == "html":
        first = f"{app.config.root_doc}.html"
        page = f'<!doctype html>\n<meta http-equiv="refresh" content="0; url={first}">\n<a href="{first}">specenhance</a>\n'
        (app.outdir / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of all this."""
    app.add_directive("room", Room)
    app.add_directive("names", Names)
    app.add_directive("commands", Commands)
    app.add_lexer("csv", TextLexer)
    app.connect("autodoc-skip-member", leave_out)
    app.connect("autodoc-process-docstring", attribute, priority=400)  # before napoleon
    app.connect("doctree-read", settle)
    app.connect("missing-reference", resolve)
    app.connect("build-finished", redirect)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
