"""What a release needs beside the code: citation, changes, workflow, and links that lead somewhere."""

import os
import re
import shlex
from pathlib import Path

import pytest

from specenhance import __version__
from specenhance._toml import read_toml

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
PROJECT = read_toml(ROOT / "pyproject.toml", "project")["project"]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "kernels/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation.keys() >= {"message", "title", "authors", "type", "license", "version"}
    assert citation["title"] == PROJECT["name"]
    assert citation["version"] == PROJECT["version"] == __version__
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    for reference in citation["references"]:
        assert reference.keys() >= {"type", "title", "authors"}
        assert all(author.keys() >= {"family-names", "given-names"} for author in reference["authors"])


def test_the_changes_start_with_this_version_and_are_in_order():
    versions = re.findall(r"^## (\d+\.\d+\.\d+)\b", read("CHANGELOG.md"), re.M)
    assert versions[0] == PROJECT["version"]
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert numbers == sorted(set(numbers), reverse=True)


def runs(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_workflow_runs_what_there_is():
    workflow = yaml.safe_load(read(".github/workflows/checks.yml"))
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML reads the key "on" as true
    jobs = workflow["jobs"]
    assert runs(jobs["checks"]) == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert len(jobs["checks"]["strategy"]["matrix"]["python"]) == 3
    systems = jobs["imports"]["strategy"]["matrix"]["system"]
    assert {system.partition("-")[0] for system in systems} == {"ubuntu", "macos", "windows"}
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert oldest in jobs["imports"]["strategy"]["matrix"]["python"]
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.M))
    for job in jobs.values():
        assert job["timeout-minutes"] <= 120
        for command in runs(job):
            match shlex.split(command):
                case ["make", target]:
                    assert target in targets
                case ["python", "-m", "pip", "install", place]:
                    extras = re.fullmatch(r"\.\[(.*)\]", place).group(1).split(",")
                    assert set(extras) <= set(PROJECT["optional-dependencies"])
                case ["python", script, *_]:
                    assert (ROOT / script).is_file()
                case [script]:
                    assert (ROOT / script).is_file()
                case words:
                    pytest.fail(f"unknown command {words}")


def test_every_target_is_in_the_help():
    makefile = read("Makefile")
    (named,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.M)
    told = set(re.findall(r'@echo "make ([\w-]+) ', makefile))
    assert set(named.split()) - {"help"} == told
    assert set(named.split()) <= set(re.findall(r"^([\w-]+):", makefile, re.M))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_no_file_is_a_link():
    """A checkout on Windows has the text of a link in the place of the file."""
    for folder in ("specenhance", "kernels", "examples", "docs", "tests", "benchmarks", ".github", ".ci"):
        assert not [path for path in (ROOT / folder).rglob("*") if path.is_symlink()]
