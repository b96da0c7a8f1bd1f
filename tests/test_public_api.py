"""What ``import specenhance`` offers, and what it and each public name load."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import specenhance

NAMES = sorted(set(specenhance.__all__) - {"load_model", "ast_teacher"})  # which need the extras
HEAVY = ["triton", "lightning", "transformers", "matplotlib", "torchmetrics", "tensorboard", "onnx", "typer", "rich"]

# What each step loads besides what torch, timm and the steps before it load.
SCRIPT = """
import json, sys

class Hide:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *args):
        return None if name.partition(".")[0] in blocked else self.finder.find_spec(name, *args)

blocked = set(json.loads(sys.argv[1]))
sys.meta_path[:] = [Hide(finder) for finder in sys.meta_path]
for name in blocked:
    try:
        __import__(name)
        raise SystemExit(f"{name} is not hidden")
    except ModuleNotFoundError:
        pass
seen = set(sys.modules)
def loaded():
    global seen
    new, seen = set(sys.modules) - seen, set(sys.modules)
    return sorted({name.partition(".")[0] for name in new})

steps = {}
import specenhance
steps["import"] = loaded()
import torch, timm
loaded()
for name in json.loads(sys.argv[2]):
    getattr(specenhance, name)
    steps[name] = loaded()
if json.loads(sys.argv[3]):
    model = specenhance.with_frontend(timm.create_model("test_efficientnet", in_chans=1, num_classes=3), "tfe2")
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 3)
    assert specenhance.list_frontends()
    assert specenhance.KaldiFbank()(torch.randn(1, 16000)).shape == (1, 1, 98, 128)
    steps["use"] = loaded()
print(json.dumps(steps))
"""


def steps(blocked: list[str], names: list[str], use: bool) -> dict[str, list[str]]:
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    arguments = [json.dumps(argument) for argument in (blocked, names, use)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_import_and_every_name_load_no_heavy_library() -> None:
    found = steps([], NAMES, use=False)
    assert list(found) == ["import", *NAMES]
    for step, modules in found.items():
        assert not set(modules) & {*HEAVY, "torchaudio", "nnAudio", "soundfile", "soxr"}, step
    assert not set(found["import"]) & {"torch", "timm", "numpy"}, "the command's help is to answer at once"


def test_everything_works_where_the_heavy_libraries_cannot_be_imported() -> None:
    assert "use" in steps([*HEAVY, "torchaudio", "nnAudio", "soundfile", "soxr"], NAMES, use=True)


def test_the_public_names() -> None:
    assert set(specenhance.__all__) == {
        *("with_frontend", "FrontendModel", "create_frontend", "list_frontends", "register_frontend"),
        *("TFE", "TFA", "Identity", "KaldiFbank", "LogMel", "TrainableMel", "load_model"),
        *("DistillationLoss", "Distiller", "FrozenTeacher", "CachedTeacher", "ast_teacher", "timm_teacher"),
    }
    assert set(specenhance.__all__) <= set(dir(specenhance))
    assert "__version__" in dir(specenhance)
    assert dir(specenhance) == sorted(dir(specenhance))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_what_its_module_defines_and_is_documented(name: str) -> None:
    value = getattr(specenhance, name)
    assert value.__name__ == name
    assert value.__module__.startswith("specenhance.")
    assert value.__doc__
    assert getattr(specenhance, name) is value


def test_an_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'specenhance' has no attribute 'with_frontends'"):
        specenhance.with_frontends  # noqa: B018
    assert not hasattr(specenhance, "nonsense")
    with pytest.raises(ImportError):
        from specenhance import nonsense  # noqa: F401


def test_the_version_is_a_version() -> None:
    assert specenhance.__version__[0].isdigit()
