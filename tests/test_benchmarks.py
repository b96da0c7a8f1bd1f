"""The arithmetic of the benchmarks: ratios, what has fallen, exponents, what is heard in a stream."""

import json
import sys
from pathlib import Path

import pytest
import torch

from specenhance.training import recipe_for

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_ratio_is_taken_round_by_round():
    from side_by_side import ratio, spread

    times = {"slow": [2.0, 40.0, 2.0], "fast": [1.0, 10.0, 1.0]}  # a busy second round slows both
    assert ratio(times, "slow", "fast") == (2.0, 2.0, 3.0)
    assert spread([5.0]) == (5.0, 5.0, 5.0)


def test_candidates_take_turns():
    from side_by_side import WARM_UP, take_turns

    calls = []
    times = take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 4)
    assert {name: len(values) for name, values in times.items()} == {"a": 4, "b": 4}
    for i in range(4 + WARM_UP):
        assert sorted(calls[2 * i : 2 * i + 2]) == ["a", "b"]
    assert calls != ["a", "b"] * (4 + WARM_UP)


def test_peak_memory_counts_what_is_held_at_once():
    from side_by_side import peak_memory

    def call():
        a = torch.ones(1_000_000)
        del a
        return torch.ones(250_000) + torch.ones(250_000)

    assert 4_000_000 <= peak_memory(call) < 4_100_000


def test_what_has_fallen_is_named():
    from suite import fallen

    recorded = {"kept": [9, 10, 11], "noisy": [9, 10, 11], "fallen": [9, 10, 11], "gone": [1, 1, 1]}
    now = {"kept": [7, 8, 9], "noisy": [3, 6, 8], "fallen": [5, 6, 7], "new": [1, 1, 1]}
    assert fallen(recorded, now) == ["fallen: 6.00 (up to 7.00), recorded 10.00", "gone: not measured any more"]


def test_the_step_that_the_data_path_is_held_against_trains_a_model():
    from data_path import training_step

    torch.manual_seed(0)
    plain = {"time_mask": 0, "freq_mask": 0, "shift": 0, "noise": 0.0}
    recipe = recipe_for("synthetic", backbone="test_resnet", frontend="tfe1", frames=24, bins=32, **plain)
    step = training_step(recipe, torch.randn(4, 1, 24, 32), torch.tensor([0, 1, 2, 0]), 3)
    losses = [step() for _ in range(40)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_the_exponent_is_fitted_to_the_larger_half():
    from growth import fitted

    sizes = [1, 2, 4, 8, 16, 32]
    assert fitted(sizes, [5, 5, 5, 8**1.5, 16**1.5, 32**1.5]) == pytest.approx(1.5)


def test_what_is_heard_is_compared_with_what_was_there():
    from listening import score

    from specenhance.audio.listen import Event

    clips = [(1.0, 2.0, 0), (4.0, 5.0, 1), (7.0, 8.0, 0)]
    found = [
        Event(0.75, 2.0, 0, 0.9),  # heard
        Event(4.0, 5.25, 0, 0.9),  # wrong
        Event(2.5, 3.75, 1, 0.9),  # false: in a pause
        Event(6.0, 9.5, 0, 0.9),  # false: far longer than the clip
        Event(2.5, 3.75, 2, 0.9),  # background
    ]
    assert score(found, clips, background=2) == (1, 1, 1 + 1)


def test_the_page_says_what_the_figures_say():
    from suite import markdown

    recorded = json.loads((BENCHMARKS / "results.json").read_text(encoding="utf-8"))
    assert markdown(recorded) == (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8")


def test_figures_are_shown_and_written_as_they_are(tmp_path, capsys):
    from command import Argument, Benchmark, main
    from side_by_side import Spread

    def measure(name, rounds=3):
        row = {"name": name, "ms": Spread(1.0, 2.0, 3.0), "of it": 0.5, "where": {"a": 1.25}, "not": None}
        return {"rows": [row, {"name": "second", "ms": Spread(rounds, rounds, rounds)}]}

    forms = {"ms": ".1f", "of it": ".0%", "where": ".1f"}
    benchmark = Benchmark("A table", "?", measure, forms, arguments=[Argument("name")])
    main(benchmark, ["first", "--rounds", "4", "--json", str(tmp_path / "a.json")])
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("A table", "first", "2.0 (1.0 to 3.0)", "50%", "a: 1.2", "4.0"))
    assert "None" not in printed
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert written["rows"][0]["ms"] == [1.0, 2.0, 3.0]
    assert written["settings"] == {"name": "first", "rounds": 4}
    assert written["machine"]["threads"] == 2
