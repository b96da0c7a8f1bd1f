"""Front ends by name: made, listed, registered, and found in another package by its entry point."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import specenhance
from specenhance import TFA, TFE, Identity, create_frontend, list_frontends, register_frontend
from specenhance._imports import HINT
from specenhance.frontends.registry import FRONTENDS


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    list_frontends()
    monkeypatch.setattr(FRONTENDS, "_entries", dict(FRONTENDS._entries))


class Gain(nn.Module):
    def __init__(self, in_chans: int = 1, gain: float = 2.0) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.gain = gain

    def forward(self, spec: torch.Tensor) -> torch.Tensor:
        return self.gain * spec


class OtherGain(Gain):
    pass


def make_gain(n: int, in_chans: int = 1) -> Gain:
    return Gain(in_chans, float(n))


def test_the_names_that_are_there() -> None:
    assert {"identity", "tfa", "tfe1", "tfe2", "tfe4"} <= set(list_frontends())
    assert list_frontends() == sorted(set(list_frontends()))
    assert not [name for name in list_frontends() if "{" in name]
    for name in list_frontends():
        assert isinstance(create_frontend(name), nn.Module)


@pytest.mark.parametrize(
    ("name", "kind", "channels"),
    [
        ("identity", Identity, None),
        ("tfa", TFA, (1, 1)),
        ("tfe1", TFE, (1, 1)),
        ("tfe3", TFE, (1, 32, 32, 1)),
        ("tfe12", TFE, (1, 16, *(32,) * 9, 16, 1)),
    ],
)
def test_a_name_makes_its_front_end(name: str, kind: type[nn.Module], channels: tuple[int, ...] | None) -> None:
    frontend = create_frontend(name)
    assert type(frontend) is kind
    assert getattr(frontend, "channels", None) == channels
    assert create_frontend(name, in_chans=3).in_chans == create_frontend(name, 3).in_chans == 3


def test_keyword_arguments_reach_the_front_end() -> None:
    frontend = create_frontend("tfe2", in_chans=3, kernel_size=5, channels=(3, 8, 3), backend="torch")
    assert (frontend.channels, frontend.kernel_size, frontend.backend) == ((3, 8, 3), 5, "torch")
    assert create_frontend("tfe2", kernel_size=17, channels=None).channels == (1, 32, 1)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("tfe", "'tfe1'"),
        ("tef4", "'tfe4'"),
        ("TFE4", "'tfe4'"),
        ("tfe_2", "'tfe2'"),
        ("tfe-4", "'tfe4'"),
        ("idenity", "'identity'"),
        ("Identity", "'identity'"),
        ("ftfa", "'tfa'"),
    ],
)
def test_an_unknown_name_answers_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"unknown front end '{name}': did you mean [^?]*{nearest}") as caught:
        create_frontend(name)
    assert f"known: {', '.join(list_frontends())}, and tfe<n>" in str(caught.value)
    assert str(caught.value).endswith(f"for any n >= 1 ({HINT})")


def test_a_name_near_to_none_answers_with_all() -> None:
    with pytest.raises(ValueError, match=r"unknown front end 'zzz': known: .*identity.*tfe4") as caught:
        create_frontend("zzz")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "tfe0", "tfe-1", "tfe01", "tfe4 ", " tfe4", "tfe4\n", "tfe{n}", "tfe²"])
def test_what_is_nearly_a_name_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="unknown front end"):
        create_frontend(name)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("identity", {"kernel_size": 3}, "front end 'identity': .*'kernel_size'; it takes in_chans$"),
        ("tfa", {"n": 2}, "front end 'tfa': .*'n'; it takes in_chans, kernel_size, backend$"),
        ("tfe4", {"kernel": 3}, "'kernel'; it takes in_chans, n, kernel_size, channels, backend$"),
        ("tfe2", {"n": 3}, "front end 'tfe2': the name says n already"),
    ],
)
def test_arguments_that_a_front_end_does_not_take(name: str, kwargs: dict[str, int], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        create_frontend(name, **kwargs)


def test_a_registered_class_is_found_listed_and_used() -> None:
    assert register_frontend("gain.v-1_b")(Gain) is Gain
    assert "gain.v-1_b" in list_frontends()
    made = create_frontend("gain.v-1_b", in_chans=2, gain=3.0)
    assert type(made) is Gain
    assert (made.in_chans, made.gain) == (2, 3.0)
    assert type(specenhance.with_frontend(nn.Conv2d(1, 1, 1), "gain.v-1_b", gain=4.0).frontend) is Gain


def test_a_name_with_a_number_stands_for_any() -> None:
    register_frontend("gain{n}db", listed=(3, 6))(make_gain)
    assert {"gain3db", "gain6db"} <= set(list_frontends())
    assert "gain12db" not in list_frontends()
    assert create_frontend("gain12db", in_chans=2).gain == 12.0
    for wrong in ("gain0db", "gain12", "gaindb", "gain1.5db"):
        with pytest.raises(ValueError, match=r"unknown front end .*, and tfe<n>.* gain<n>db for any n >= 1"):
            create_frontend(wrong)


def test_dots_in_a_numbered_name_are_dots() -> None:
    register_frontend("a.{n}")(make_gain)
    assert create_frontend("a.5").gain == 5.0
    with pytest.raises(ValueError, match="unknown"):
        create_frontend("ab5")


@pytest.mark.parametrize("name", ["", "Gain", "my gain", "gain{m}", "{n}{n}", "gain{n", "gäin", "gain\n"])
def test_names_that_are_malformed(name: str) -> None:
    with pytest.raises(ValueError, match="expected lower-case letters"):
        register_frontend(name)


@pytest.mark.parametrize("name", ["identity", "tfa", "tfe{n}", "tfe4", "tfe9"])
def test_a_built_in_name_is_taken(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"front end '{name}' is already registered by specenhance\.frontends\..*other"
    ):
        register_frontend(name)(Gain)
    assert not isinstance(create_frontend(name.replace("{n}", "9")), Gain)


def test_a_name_is_taken_once() -> None:
    register_frontend("gain")(Gain)
    with pytest.raises(ValueError, match=rf"'gain' is already registered by {__name__}\.Gain; choose another name"):
        register_frontend("gain")(OtherGain)
    assert type(create_frontend("gain")) is Gain


def test_the_same_definition_may_come_again_and_the_newer_holds() -> None:
    def define() -> type[Gain]:
        @register_frontend("again")
        class Again(Gain):
            pass

        return Again

    first, second = define(), define()
    assert first is not second
    assert type(create_frontend("again")) is second


def test_a_partial_is_a_factory() -> None:
    double = functools.partial(Gain, gain=2.0)
    for _ in range(2):
        register_frontend("double")(double)
    assert create_frontend("double").gain == 2.0
    with pytest.raises(ValueError, match=r"'double' is already registered by .*partial"):
        register_frontend("double")(functools.partial(Gain, gain=3.0))


def python(script: str, *folders: Path) -> str:
    path = os.pathsep.join([*map(str, folders), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_built_in_name_is_taken_even_before_the_built_in_ones_are_loaded() -> None:
    out = python("""
from torch import nn
from specenhance import register_frontend
try:
    @register_frontend("identity")
    class Mine(nn.Module): pass
except ValueError as error:
    print(error)
from specenhance import create_frontend
print(type(create_frontend("identity")), type(create_frontend("tfe4")))
""")
    assert "'identity' is already registered by specenhance.frontends.identity.Identity" in out
    assert "frontends.identity.Identity'> <class 'specenhance.frontends.tfe.TFE'>" in out


PACKAGE = """
import torch
from specenhance import register_frontend
print("loaded")

class Halve(torch.nn.Module):
    def __init__(self, in_chans=1, by=2.0):
        super().__init__()
        self.by = by

    def forward(self, spec):
        return spec / self.by

@register_frontend("acme_decorated")
class Decorated(Halve):
    pass
"""


def test_another_packages_front_end_is_found_by_its_entry_point(tmp_path: Path) -> None:
    (tmp_path / "acme_frontends.py").write_text(PACKAGE)
    metadata = tmp_path / "acme_frontends-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-frontends\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[specenhance.frontends]\n"
        "acme_halve = acme_frontends:Halve\n"
        "acme_decorated = acme_frontends:Decorated\n"
        "tfa = acme_frontends:Halve\n"
        "\n[console_scripts]\nacme = acme_frontends:main\n"
    )
    out = python(
        """
import sys, torch
from specenhance import create_frontend, list_frontends
print(list_frontends())
create_frontend("tfe2")
try:
    create_frontend("acme_halv")
except ValueError as error:
    print(error)
assert "acme_frontends" not in sys.modules, "loaded before it was asked for"
halve = create_frontend("acme_halve", by=4.0)
print(type(halve), halve(torch.ones(1, 1, 1, 1)).item(), type(create_frontend("acme_halve")) is type(halve))
print(type(create_frontend("acme_decorated")), type(create_frontend("tfa")))
print(list_frontends())
""",
        tmp_path,
    ).splitlines()
    assert out[0] == out[-1] == str(sorted({"acme_decorated", "acme_halve", *list_frontends()}))
    assert out[1].startswith("unknown front end 'acme_halv': did you mean 'acme_halve'")
    assert out.count("loaded") == 1
    assert out[3] == "<class 'acme_frontends.Halve'> 0.25 True"
    assert out[4] == "<class 'acme_frontends.Decorated'> <class 'specenhance.frontends.tfa.TFA'>"
