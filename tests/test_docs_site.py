"""The documentation builds as a site without a warning, and what it shows and links to is there."""

import html
import inspect
import pkgutil
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *(path for room in ("docs", "examples/results", "benchmarks") for path in ROOT.glob(f"{room}/**/*.md")),
]
PICTURES = sorted(
    path.relative_to(ROOT).as_posix()
    for room in ("docs", "examples/results", "benchmarks/plots")
    for path in ROOT.glob(f"{room}/**/*")
    if path.suffix in (".png", ".svg", ".jpg")
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, as ``make docs`` builds it."""
    for package in ("sphinx", "myst_parser", "furo", "sphinx_copybutton"):
        pytest.importorskip(package)
    out = tmp_path_factory.mktemp("site")
    options = ["--builder", "html", "--fail-on-warning", "--keep-going", "--quiet"]
    folders = ["-c", str(ROOT / "docs"), "-d", str(out / ".doctrees"), str(ROOT), str(out)]
    done = subprocess.run([sys.executable, "-m", "sphinx", *options, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def links(page):
    """What a page of the site leads to or shows."""
    return [html.unescape(link) for link in re.findall(r'\b(?:href|src)="([^"]*)"', page.read_text(encoding="utf-8"))]


@cache
def anchors(page):
    return set(re.findall(r'\bid="([^"]*)"', page.read_text(encoding="utf-8")))


def test_every_page_is_on_the_site_and_can_be_reached(site):
    pages = [path.relative_to(ROOT).with_suffix(".html") for path in PAGES]
    reached, new = set(), [(site / "index.html").resolve(), (site / "docs" / "index.html").resolve()]
    while new:
        page = new.pop()
        reached.add(page)
        found = {
            (page.parent / unquote(urlsplit(link).path)).resolve() for link in links(page) if not urlsplit(link).scheme
        }
        new += [path for path in found - reached - set(new) if path.suffix == ".html"]
    assert [page.as_posix() for page in pages if (site / page).resolve() not in reached] == []


def test_no_link_and_no_picture_of_the_site_leads_nowhere(site):
    lost = []
    for page in (path for path in site.rglob("*.html") if "_modules" not in path.parts):
        for link in links(page):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)) if parts.path else page
            there = target.exists() and (
                not parts.fragment or target.suffix != ".html" or unquote(parts.fragment) in anchors(target)
            )
            if not there:
                lost.append(f"{page.relative_to(site)}: {link}")
    assert lost == []


def public_modules(name="specenhance"):
    yield name
    for module in pkgutil.iter_modules(getattr(import_module(name), "__path__", [])):
        path = f"{name}.{module.name}"
        if not module.name.startswith("_") and path != "specenhance.cli":  # commands, which have a page of their own
            yield from public_modules(path)


def test_the_reference_has_every_public_module_and_name(site):
    described = {anchor for page in (site / "docs" / "api").glob("*.html") for anchor in anchors(page)}
    missing = []
    for name in public_modules():
        module = import_module(name)
        if name != "specenhance" and f"module-{name}" not in described:
            missing.append(name)
        for export in getattr(module, "__all__", ()):
            thing = getattr(module, export)
            named = inspect.isclass(thing) or inspect.isroutine(thing)
            if named and f"{thing.__module__}.{thing.__qualname__}" not in described:
                missing.append(f"{name}.{export}")
    assert missing == []


def test_the_site_has_every_command_with_its_options(site):
    from typer.main import get_command

    from specenhance.cli import app

    page = html.unescape(re.sub(r"<[^>]+>", "", (site / "docs" / "commands.html").read_text(encoding="utf-8")))
    for name, command in get_command(app).commands.items():
        assert f"specenhance {name} " in page
        for option in command.params:
            assert option.param_type_name == "argument" or option.hidden or max(option.opts, key=len) in page


@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_has_a_command_and_a_page(picture):
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M)
    commands = [command for pictures, command in rows if f"`{picture}`" in pictures]
    assert len(commands) == 1
    assert re.search(r"`(specenhance|python|make) ", commands[0])
    shown = [
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert (ROOT / picture).resolve() in shown
    assert all(path.is_file() for path in shown)
