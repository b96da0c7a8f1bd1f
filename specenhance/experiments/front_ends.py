"""Do the front ends help? One backbone learns real speech with each, and is tested on clean, noisy, soft and loud clips.

    python -m specenhance.experiments.front_ends train ROOT --out DIR
    python -m specenhance.experiments.front_ends report ROOT --out DIR

The protocol, fixed before the first run:

- Data: a folder laid out as Speech Commands V2. Its lists name the validation clips and the test clips.
- Model: mobilenetv3_small_050 from scratch behind identity, tfa, tfe1, tfe2, tfe4 and tfe8, 128 frames x 128 bins.
- Budget: EPOCHS epochs of the data set's default recipe. The epoch that is best on the validation clips is tested.
- Seeds 0 to 4. A seed gives every front end the same backbone weights, order of clips and augmentation: runs are paired by it.
- Result: test accuracy. Mean and 95% interval over seeds (Student's t); paired difference to identity with its 95% interval.
- Test: two-sided paired t-test of each front end against identity, Holm's correction over the five, at 0.05.
- Robustness, not tested for significance: the same models and clips with white noise added at 20, 10, 5 and 0 dB below a
  clip's own power (noise seeded by the clip, the same for all models), and with the level changed by +12 and -12 dB.

Runs are kept in DIR and resumed; two processes may share the work by --seeds.

The first 30 runs left most masks of a chain constant. So one more front end was then tried by the same protocol, its own test
beside the five: tfe4_live, a TFE(4) that starts with filters that sum to 0 and a gain that lets a clip's variation through.

    python -m specenhance.experiments.front_ends train ROOT --out DIR --frontends tfe4_live

report writes tables (Markdown), figures (JSON) and pictures into DIR/report; it needs the first 30 runs, and takes the others
in if they are there.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor

from specenhance import FrontendModel, register_frontend
from specenhance._files import write_text
from specenhance.analysis.plots import save_figure
from specenhance.experiments.grid import Run, run_grid, summary
from specenhance.experiments.statistics import holm
from specenhance.frontends import TFE
from specenhance.training.batches import loader
from specenhance.training.build import build_split
from specenhance.training.recipe import Recipe, recipe_for
from specenhance.training.store import load_stored, read_history

__all__ = ["CONDITIONS", "FRONTENDS", "louder", "noisy", "report", "tables", "tfe4_live", "train_all"]

Change = Callable[[Tensor, int], Tensor]  # of a waveform (samples,) and its clip's number
Found = Mapping[str, Mapping[int, dict[str, Any]]]  # of each front end and seed, what examine gives

FRONTENDS = ("identity", "tfa", "tfe1", "tfe2", "tfe4", "tfe8")
SEEDS = range(5)
EPOCHS = 6
BACKBONE = "mobilenetv3_small_050"
CONSTANT = 1e-3  # a factor whose standard deviation is smaller is called constant


def tfe4_live(in_chans: int = 1, gain: float = 3.0) -> TFE:
    """Make a TFE(4) whose masks depend on the clip from the start.

    Its filters sum to 0, its biases are 0, and the gain raises the filters' standard deviation.

    Args:
        in_chans: number of channels of the spectrogram.
        gain: factor on the standard deviation that keeps the size of a signal.

    >>> tfe4_live().blocks[0].time.conv1.weight.sum().abs().item() < 1e-5
    True
    """
    frontend = TFE(n=4, in_chans=in_chans)
    with torch.no_grad():
        for convolution in frontend.modules():
            if isinstance(convolution, torch.nn.Conv1d) and convolution.bias is not None:
                weight = convolution.weight
                weight.normal_(std=gain / math.sqrt(weight[0].numel()))
                weight -= weight.mean(dim=(1, 2), keepdim=True)
                convolution.bias.zero_()
    return frontend


def recipe(root: Path, frontend: str, seed: int) -> Recipe:
    """Give the recipe of one run."""
    return recipe_for(
        "speech_commands", root=root.resolve(), backbone=BACKBONE, frontend=frontend, epochs=EPOCHS, seed=seed
    )


def folder(out: Path, frontend: str, seed: int) -> Path:
    """Say where one run is kept."""
    return out / f"{frontend}-{seed}"


def train_all(root: Path, out: Path, frontends: Sequence[str] = FRONTENDS, seeds: Sequence[int] = SEEDS) -> None:
    """Train the runs that are not trained yet, seed by seed: an early stop leaves whole pairs.

    Args:
        root: a folder laid out as Speech Commands V2.
        out: the folder of all runs.
        frontends: names of the front ends.
        seeds: the seeds of each.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.experiments.grid.run_grid`.
    """
    _register()
    runs = [
        Run(frontend, seed, folder(out, frontend, seed), recipe(root, frontend, seed))
        for seed in seeds
        for frontend in frontends
    ]
    for _ in run_grid(runs, device="cpu"):
        pass


def _register() -> None:
    """Make the front ends of this comparison known by name, once it is run: nobody who only imports this file wants them."""
    register_frontend("tfe4_live")(tfe4_live)


def noisy(snr: float) -> Change:
    """Give a change that adds white noise to a clip.

    Args:
        snr: power of the clip over the power of the noise, in dB.

    Returns:
        A function of a waveform ``(samples,)`` and its clip's number. The number seeds the noise.

    >>> noisy(20)(torch.ones(4), 0).shape
    torch.Size([4])
    """

    def change(waveform: Tensor, clip: int) -> Tensor:
        noise = torch.randn(waveform.shape, generator=torch.Generator().manual_seed(clip))
        power = waveform.square().mean() / noise.square().mean()
        return waveform + noise * (power * 10 ** (-snr / 10)).sqrt()

    return change


def louder(decibels: float) -> Change:
    """Give a change of level. Samples are floating point: none is clipped.

    >>> louder(20)(torch.ones(2), 0)
    tensor([10., 10.])
    """
    return lambda waveform, clip: waveform * 10 ** (decibels / 20)


CONDITIONS: dict[str, Change] = {
    "clean": lambda waveform, clip: waveform,
    **{f"noise {snr} dB": noisy(snr) for snr in (20, 10, 5, 0)},
    "+12 dB": louder(12),
    "-12 dB": louder(-12),
}


def spectrograms(recipe: Recipe, model: FrontendModel) -> tuple[dict[str, Tensor], Tensor]:
    """Make the spectrograms ``(clips, 1, T, F)`` of the testing list under each condition, and their labels."""
    data = build_split(recipe, "test")
    made: dict[str, list[Tensor]] = {name: [] for name in CONDITIONS}
    labels, first = [], 0
    for batch in loader(data, recipe, train=False):
        for name, change in CONDITIONS.items():
            waveform = batch.waveform.clone()
            for i, length in enumerate(batch.length.tolist()):
                waveform[i, :length] = change(waveform[i, :length], first + i)
            made[name].append(model.spectrogram(waveform, batch.length))
        labels.append(batch.label)
        first += len(batch.label)
    return {name: torch.cat(parts) for name, parts in made.items()}, torch.cat(labels)


@torch.no_grad()
def examine(run: Path, specs: dict[str, Tensor], labels: Tensor) -> dict[str, Any]:
    """Measure the accuracy of one run under each condition, in percent, and the mask's factors on the clean clips."""
    model = load_stored(run).model
    found: dict[str, Any] = {"accuracy": {}}
    for name, spec in specs.items():
        predicted = torch.cat([model.classify(part).argmax(1) for part in spec.split(64)])
        found["accuracy"][name] = 100 * (predicted == labels).double().mean().item()
    found["validation"] = [100 * row["val_accuracy"] for row in read_history(run)]
    if hasattr(model.frontend, "factors"):
        for axis, e in zip("tf", model.frontend.factors(specs["clean"]), strict=True):
            e = e[:, 0]
            found[f"e_{axis}"] = {
                "mean": e.mean().item(),
                "spread along it": e.std(1).mean().item(),
                "spread between clips": e.std(0).mean().item(),
                "curve": [round(value, 5) for value in e.mean(0).tolist()],
            }
    return found


def tables(found: Found) -> str:
    """Write the results as tables in Markdown: accuracies, robustness and masks.

    Args:
        found: what :func:`examine` gives, for each front end and each seed.
    """
    clean = {name: [run["accuracy"]["clean"] for run in runs.values()] for name, runs in found.items()}
    rivals = [name for name in found if name != "identity"]
    differences = {name: [a - b for a, b in zip(clean[name], clean["identity"], strict=True)] for name in rivals}
    p = {name: float(stats.ttest_rel(clean[name], clean["identity"]).pvalue) for name in rivals}
    corrected = holm({name: p[name] for name in rivals if name in FRONTENDS})
    lines = [
        "| front end | accuracy of each seed | mean, 95% interval | less identity, 95% interval | p | p, Holm |",
        "|---|---|---|---|---|---|",
    ]
    for name, values in clean.items():
        cells = [name, ", ".join(f"{value:.2f}" for value in values), summary(values).text(), "", "", ""]
        if name in rivals:
            cells[3:] = [
                summary(differences[name]).text("+.2f"),
                f"{p[name]:.2f}",
                f"{corrected[name]:.2f}" if name in corrected else "",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"| front end | {' | '.join(CONDITIONS)} |", "|---" * (1 + len(CONDITIONS)) + "|"]
    for name, runs in found.items():
        cells = []
        for condition in CONDITIONS:
            values = [run["accuracy"][condition] for run in runs.values()]
            text = f"{statistics.mean(values):.1f}"
            if name != "identity":
                less = [a - b["accuracy"][condition] for a, b in zip(values, found["identity"].values(), strict=True)]
                text += f" ({summary(less).text('+.1f')})"
            cells.append(text)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "| front end | mean of the mask | e_t: spread along time | between clips | e_f: spread along frequency | between clips "
        "| constant factors |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in rivals:
        e_t, e_f = ([run[axis] for run in found[name].values()] for axis in ("e_t", "e_f"))
        level = statistics.mean(a["mean"] * b["mean"] for a, b in zip(e_t, e_f, strict=True))
        spreads = [
            f"{statistics.mean(e[kind] for e in factor):.4f}"
            for factor in (e_t, e_f)
            for kind in ("spread along it", "spread between clips")
        ]
        same = sum(e["spread between clips"] < CONSTANT for e in e_t + e_f)
        flat = sum(max(e["spread along it"], e["spread between clips"]) < CONSTANT for e in e_t + e_f)
        count = f"{flat} of {2 * len(e_t)}; {same} the same for every clip"
        lines.append(f"| {name} | {level:.3f} | {' | '.join(spreads)} | {count} |")
    return "\n".join(lines) + "\n"


def draw_curves(found: Found) -> Figure:
    """Draw the validation accuracy over the epochs, the mean over seeds and its range."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, runs in found.items():
        epochs = range(1, EPOCHS + 1)
        columns = list(zip(*(run["validation"] for run in runs.values()), strict=True))
        (line,) = axes.plot(epochs, [statistics.mean(column) for column in columns], marker=".", label=name)
        axes.fill_between(epochs, [*map(min, columns)], [*map(max, columns)], color=line.get_color(), alpha=0.08)
    axes.set(xlabel="epoch", ylabel="validation accuracy (%)", title=f"mean and range of {len(SEEDS)} seeds")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def draw_masks(found: Found, model: FrontendModel) -> Figure:
    """Draw each run's mean mask over the clean clips, as its ratio to its own mean, all on one scale."""
    named = {name: list(runs.values()) for name, runs in found.items() if name not in ("identity", "tfa")}
    figure = Figure(figsize=(2.1 * len(SEEDS) + 1, 1.9 * len(named) + 0.6), layout="constrained")
    hop, frequencies = model.features.hop_seconds, model.features.frequencies
    grid = figure.subplots(len(named), len(SEEDS), squeeze=False, sharex=True, sharey=True)
    for row, (name, runs) in zip(grid, named.items(), strict=True):
        for axes, run, seed in zip(row, runs, SEEDS, strict=True):
            e_t, e_f = (torch.tensor(run[axis]["curve"]) for axis in ("e_t", "e_f"))
            mask = e_f[:, None] * e_t / (e_f.mean() * e_t.mean())
            T, F = len(e_t), len(e_f)
            shown = axes.imshow(
                mask,
                origin="lower",
                aspect="auto",
                cmap="RdBu_r",
                vmin=0.5,
                vmax=1.5,
                extent=(0, T * hop, -0.5, F - 0.5),
            )
            axes.set_title(f"{name}, seed {seed}", fontsize=9)
            ticks = [round(i * (F - 1) / 3) for i in range(4)]
            axes.set_yticks(ticks, [f"{frequencies[i]:.0f}" for i in ticks], fontsize=8)
            axes.tick_params(axis="x", labelsize=8)
    figure.supxlabel("time (s)", fontsize=9)
    figure.supylabel("frequency (Hz)", fontsize=9)
    figure.colorbar(shown, ax=grid, label="mean mask / its mean", shrink=0.6)
    return figure


def report(root: Path, out: Path) -> None:
    """Examine every run in ``out``, and write tables, figures and pictures into its folder ``report``.

    Args:
        root: a folder laid out as Speech Commands V2.
        out: the folder of all runs.

    Raises:
        FileNotFoundError: where one of the first 30 runs is missing.
    """
    _register()
    found: dict[str, dict[int, dict[str, Any]]] = {}
    stored = load_stored(folder(out, "identity", 0))
    with torch.no_grad():
        specs, labels = spectrograms(stored.recipe.replace(root=root.resolve()), stored.model)
    live = folder(out, "tfe4_live", SEEDS[-1]) / "result.json"
    for name in (*FRONTENDS, *(["tfe4_live"] if live.is_file() else [])):
        found[name] = {seed: examine(folder(out, name, seed), specs, labels) for seed in SEEDS}
        print(name, *(f"{run['accuracy']['clean']:.2f}" for run in found[name].values()), flush=True)
    into = out / "report"
    into.mkdir(exist_ok=True)
    write_text(into / "front_ends.json", json.dumps(found) + "\n")
    write_text(into / "tables.md", tables(found))
    save_figure(draw_curves(found), into / "curves.png")
    save_figure(draw_masks(found, stored.model), into / "masks.png")
    print(tables(found))


def main() -> None:
    """Train, or report what is trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "report"))
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frontends", nargs="+", default=list(FRONTENDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)
    if arguments.step == "train":
        train_all(arguments.root, arguments.out, arguments.frontends, arguments.seeds)
    else:
        report(arguments.root, arguments.out)


if __name__ == "__main__":
    main()
