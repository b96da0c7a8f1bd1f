"""Wheel and source distribution: what is in them, and what an installed wheel does outside the source tree.

The environment of the test has the packages that specenhance needs, so nothing is downloaded. ``make test-wheel`` installs
everything anew, and trains a model.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = (
    "specenhance",
    "kernels",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CITATION.cff",
    "MANIFEST.in",
)


def called(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the source distribution from a copy of the tree, and a wheel from each."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("built")
    tree, out = folder / "tree", folder / "out"
    tree.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / part, tree / part)
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}
    build = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check"]
    called(*build, "--sdist", "--outdir", out, tree, env=environment)
    (sdist,) = out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    called(*build, "--wheel", "--outdir", out / "from_sdist", unpacked, env=environment)
    called(*build, "--wheel", "--outdir", out, tree, env=environment)
    (wheel,) = out.glob("*.whl")
    (from_sdist,) = (out / "from_sdist").glob("*.whl")
    return sdist, wheel, from_sdist


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_every_file_of_the_packages_and_no_other(built):
    found = {name for name in contents(built[1]) if ".dist-info/" not in name}
    expected = set()
    for package in (ROOT / "specenhance", ROOT / "kernels" / "specenhance_kernels"):
        files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        expected |= {path.relative_to(package.parent).as_posix() for path in files}
    assert found == expected
    for name in ("specenhance/py.typed", "specenhance_kernels/py.typed", "specenhance/training/recipes/esc50.toml"):
        assert name in found
    assert any(name.endswith(".html.j2") for name in found)


def test_the_source_distribution_builds_the_same_wheel(built):
    sdist, wheel, from_sdist = built
    assert wheel.name == from_sdist.name
    assert contents(wheel) == contents(from_sdist)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"} <= names
    assert not any(name.startswith("tests/") for name in names)


def test_the_metadata_are_those_of_a_package_to_publish(built):
    wheel = built[1]
    (name,) = (name for name in contents(wheel) if name.endswith(".dist-info/METADATA"))
    metadata = contents(wheel)[name].decode()
    version = wheel.name.split("-")[1]
    for line in (
        f"Version: {version}",
        "License-Expression: Apache-2.0",
        "Requires-Python: >=3.10",
        "License-File: LICENSE",
    ):
        assert f"\n{line}\n" in metadata
    assert "Description-Content-Type: text/markdown" in metadata


def test_an_installed_wheel_works_outside_the_tree(built, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    called(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name
    site = Path(called(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", env=environment).strip())
    # A plain line adds the folder but does not read its own .pth files, so a source tree installed there stays unknown.
    (site / "packages_that_are_needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    called(*pip, "--disable-pip-version-check", "--ignore-installed", built[1], env=environment)
    shutil.copy(ROOT / "tests" / "smoke.py", tmp_path)
    said = called(python, tmp_path / "smoke.py", tmp_path, "--quick", cwd=tmp_path, env=environment)
    assert str(site / "specenhance") in said
    assert said.endswith("all steps work\n")
