"""Names in pictures: none is read as mathematics, none is a box, and a letter that no font has is told once."""

import os
import subprocess
import sys
import warnings

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

from specenhance._names import shown
from specenhance.analysis import lettering as module
from specenhance.analysis.lettering import lettering, width


def drawn(name: str) -> list[str]:
    """Draw a name, and give the warnings that it caused."""
    figure = Figure(figsize=(3, 1))
    (text,), style = lettering([name])
    figure.text(0, 0.5, text, **style)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FigureCanvasAgg(figure).draw()
    return [str(warning.message) for warning in caught]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.text(st.characters(exclude_categories=()) | st.sampled_from("$\\_^{}%#&~ "), max_size=20))
@example("$5_to_$10")
@example("$\\frac{1}{0}$")
@example("\x1b[31m\udce9\u202e\n")
def test_any_name_can_be_drawn_without_a_warning(name):
    assert drawn(name) == []


@pytest.mark.parametrize("name", ["$5_to_$10", r"\$5", "a_b^c", "100 %"])
def test_a_name_is_drawn_as_it_is_and_not_as_mathematics(name):
    (text,), style = lettering([name])
    assert text == name
    with rc_context({"text.usetex": True}):
        made = Figure().text(0, 0, text, **style)
    assert not made.get_parse_math()
    assert not made.get_usetex()


PALATAL = "\u1d81"  # in STIXGeneral, which matplotlib brings, and not in its own DejaVu Sans


def test_letters_that_the_own_font_lacks_come_from_another(monkeypatch):
    monkeypatch.setattr(module, "FAMILIES", ("Nowhere", "STIXGeneral"))
    module._families.cache_clear()
    (text,), style = lettering([f"a{PALATAL}"])
    assert text == f"a{PALATAL}"
    assert style["family"] == ["sans-serif", "STIXGeneral"]
    assert lettering(["a"]).style["family"] == ["sans-serif"]
    with rc_context({"font.family": ["serif"]}):
        assert lettering([f"a{PALATAL}"]).style["family"] == ["serif", "STIXGeneral"]  # the user's own stays the first
    module._families.cache_clear()


def test_chinese_japanese_korean_and_arabic_are_drawn_in_their_letters():
    if not {font.name for font in fontManager.ttflist} & set(module.FAMILIES[:13]):
        pytest.skip("no font for Chinese is installed: fonts-noto-cjk has one")
    names = ["猫が鳴く", "强", "صوت المطر", "می‌خواهم"]
    assert lettering(names).texts == names
    for name in names:
        assert drawn(name) == []


# In a process of its own: what is installed, and what was told, is kept for a process.
BARE = """
import logging, sys, warnings
warnings.simplefilter("error")
logging.basicConfig(format="%(message)s")
from specenhance.analysis.lettering import lettering
from specenhance.analysis.plots import plot_confusion, save_figure
import torch
for labels in (["猫", "b"], ["犬と猫", "猫"]):
    print(*lettering(labels).texts)
    save_figure(plot_confusion(torch.eye(2), labels), sys.argv[1])
"""


def test_a_letter_that_no_font_has_is_shown_as_its_code_with_one_warning(tmp_path):
    environment = {**os.environ, "MPL_IGNORE_SYSTEM_FONTS": "1", "MPLCONFIGDIR": str(tmp_path), "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", BARE, str(tmp_path / "a.png")]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [r"\u732b b", r"\u72ac\u3068\u732b \u732b"]
    (told,) = [line for line in done.stderr.splitlines() if "font cache" not in line]
    assert told.startswith(r"no installed font has 猫 (\u732b)")
    assert "fonts-noto-cjk" in told


def test_a_long_name_loses_its_middle():
    assert lettering(["a" * 30 + "b" * 30]).texts == ["a" * 20 + "…" + "b" * 19]
    assert width("a…猫e\u0301") == 5
    for name in ("x" * 41, "猫" * 21, "日本語" * 20):
        assert 36 <= width(module._shortened(shown(name), 40)) <= 40
    assert lettering(["x" * 40, "猫" * 20]).texts[0] == "x" * 40
