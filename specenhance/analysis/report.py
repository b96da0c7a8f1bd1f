"""What a run learned, as one page: curves, confusions, the worst clips with players, and what its mask does."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

from specenhance._files import write_text
from specenhance._names import markup
from specenhance.analysis.masks import CONSTANT, TO_TRY, MaskChange, mask_change, real_frames
from specenhance.analysis.plots import plot_confusion, plot_curves, plot_factors, plot_masks, plot_spectrogram
from specenhance.data import AudioDataset, read_audio
from specenhance.models.adapter import FrontendModel
from specenhance.training.batches import loader
from specenhance.training.build import open_split
from specenhance.training.recipe import Recipe
from specenhance.training.store import HISTORY, RESULT, load_stored, read_history

__all__ = ["Findings", "MeanMask", "examine", "report"]


@dataclass
class MeanMask:
    """A model's mask over the clips of a split; frames that are padding in a clip are left out of it.

    Attributes:
        classes: mean mask of each class's clips ``(classes, T, F)``, no number where no clip has a frame.
        all: of all clips ``(T, F)``.
        e_t: mean factor over time ``(T,)``.
        e_f: mean factor over frequency ``(F,)``.
        spread_t: standard deviation between clips ``(T,)``.
        spread_f: standard deviation between clips ``(F,)``.
        change: how much the mask changes, the first channel's.
    """

    classes: Tensor
    all: Tensor
    e_t: Tensor
    e_f: Tensor
    spread_t: Tensor
    spread_f: Tensor
    change: MaskChange


@dataclass
class Findings:
    """What is found out about a model on the clips of a split.

    Attributes:
        probabilities: of each class, for each clip ``(clips, classes)``.
        labels: ``(clips,)`` int64.
        mask: None for a front end without one.
    """

    probabilities: Tensor
    labels: Tensor
    mask: MeanMask | None

    @property
    def predicted(self) -> Tensor:
        """The likeliest class of each clip ``(clips,)``."""
        return self.probabilities.argmax(1)

    @property
    def confusion(self) -> Tensor:
        """Counts ``(true, predicted)``."""
        n = self.probabilities.shape[1]
        return torch.bincount(self.labels * n + self.predicted, minlength=n * n).reshape(n, n)


@torch.no_grad()
def examine(model: FrontendModel, data: AudioDataset, recipe: Recipe) -> Findings:
    """Classify the clips of a data set, and average the mask over them."""
    probabilities, labels = [], []
    sums: _MaskSums | None = None
    for batch in loader(data, recipe, train=False):
        spec = model.spectrogram(batch.waveform, batch.length)
        probabilities.append(model.classify(spec).softmax(1))
        labels.append(batch.label)
        if hasattr(model.frontend, "factors"):
            sums = sums or _MaskSums(len(data.classes))
            e_t, e_f = model.frontend.factors(spec)
            sums.add(e_t, e_f, real_frames(model, batch), batch.label)
    return Findings(torch.cat(probabilities), torch.cat(labels), None if sums is None else sums.mean())


class _MaskSums:
    def __init__(self, classes: int) -> None:
        self.classes: Any = classes
        self.masks: Any = 0.0
        self.frames: Any = 0.0
        self.t: list[Tensor] = []
        self.f: list[Tensor] = []
        self.real: list[Tensor] = []

    def add(self, e_t: Tensor, e_f: Tensor, real: Tensor, label: Tensor) -> None:
        e_t, e_f = e_t[:, 0].double(), e_f[:, 0].double()  # (B, T) and (B, F), of the first channel
        one_hot = torch.nn.functional.one_hot(label, self.classes).double()
        self.masks = self.masks + torch.einsum("bk,bt,bf->ktf", one_hot, e_t * real, e_f)
        self.frames = self.frames + torch.einsum("bk,bt->kt", one_hot, real)
        self.t.append(e_t)
        self.f.append(e_f)
        self.real.append(real)

    def mean(self) -> MeanMask:
        e_t, e_f, real = torch.cat(self.t), torch.cat(self.f), torch.cat(self.real)
        clips = real.sum(0)
        mean_t = (e_t * real).sum(0) / clips
        spread_t = (((e_t - mean_t.nan_to_num()).square() * real).sum(0) / clips).sqrt()
        return MeanMask(
            classes=self.masks / self.frames[:, :, None],
            all=self.masks.sum(0) / self.frames.sum(0)[:, None],
            e_t=mean_t,
            e_f=e_f.mean(0),
            spread_t=spread_t,
            spread_f=e_f.std(0, correction=0),
            change=mask_change(e_t[:, None], e_f[:, None], real),
        )


def report(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    split: str = "test",
    clips: Sequence[str | os.PathLike[str]] = (),
    worst: int = 8,
    root: Path | None = None,
    csv: Path | None = None,
) -> Path:
    """Write the page of a finished run: one HTML file with all its pictures and sounds in it. The same run gives the same page.

    A picture that cannot be drawn leaves a line that says why.

    Args:
        run: the run folder.
        out: the file; ``report.html`` in the run folder if left out.
        split: the clips to look at, ``"train"``, ``"validation"`` or ``"test"``.
        clips: audio files whose mask is shown; a few clips of the split that the model gets right if left out.
        worst: how many of the clips to show that the model is most wrong about.
        root: the data set's folder, if it has moved.
        csv: the data set's table, if it has moved.

    Returns:
        The file.

    Raises:
        FileNotFoundError, ValueError: as :func:`specenhance.training.store.load_stored` and the data set do.
        ValueError: if ``out`` does not end in ``.html``.
    """
    run = Path(run)
    path = run / "report.html" if out is None else Path(out)
    if path.suffix not in (".html", ".htm") or path.is_dir():
        raise ValueError(f"out = {str(path)!r}: expected a file's name that ends in .html, such as report.html")
    model, classes, recipe = load_stored(run)
    recipe = recipe.moved_to(root, csv)
    data = open_split(recipe, split, classes)
    sounds = [(Path(clip).name, read_audio(clip, recipe.sample_rate)) for clip in clips]
    found = examine(model, data, recipe)
    write_text(path, _page(run, model, classes, recipe, split, data, found, sounds, worst))
    return path


def _page(
    run: Path,
    model: FrontendModel,
    classes: list[str],
    recipe: Recipe,
    split: str,
    data: AudioDataset,
    found: Findings,
    sounds: list[tuple[str, Tensor]],
    worst: int,
) -> str:
    name = run.resolve().name
    sections = [
        _head(run, model, recipe, split, found),
        _curves(run),
        _confusion(classes, found),
        _worst(model, classes, data, found, worst),
        _mean_masks(model, classes, recipe, found),
        _chosen(model, classes, data, found, sounds),
    ]
    return PAGE.format(title=markup(f"Run {name}"), name=_marked(name), style=STYLE, sections="\n".join(sections))


def _head(run: Path, model: FrontendModel, recipe: Recipe, split: str, found: Findings) -> str:
    right, clips = int((found.predicted == found.labels).sum()), len(found.labels)
    low, high = wilson(right, clips)
    parameters = sum(p.numel() for p in model.parameters())
    ours = sum(p.numel() for p in model.frontend.parameters())
    finished = (
        datetime.fromtimestamp((run / RESULT).stat().st_mtime, timezone.utc) if (run / RESULT).is_file() else None
    )
    versions = json.loads((run / RESULT).read_text(encoding="utf-8")).get("versions", {}) if finished else {}
    rows = {
        f"accuracy on {clips:,} {split} clips": f"{right / clips:.2%} (95% interval {low:.1%} to {high:.1%}, Wilson's)",
        "model": f"{recipe.frontend} + {recipe.backbone}: {parameters:,} parameters, of them {ours:,} in the front end",
        "spectrogram": f"{recipe.features}, {recipe.frames} frames x {recipe.bins} bins at {recipe.sample_rate} Hz",
        "training": f"{recipe.epochs} epochs, batch {recipe.batch_size}, {recipe.optimizer} at {recipe.lr:g}, "
        f"{recipe.schedule}, seed {recipe.seed}",
        "data": f"{recipe.data}, {found.probabilities.shape[1]} classes"
        + (f", fold {recipe.fold}" if recipe.fold else ""),
    }
    if recipe.root:
        rows["data folder"] = recipe.root
    if recipe.csv:
        rows["table"] = recipe.csv
    if recipe.teacher:
        rows["teacher"] = f"{recipe.teacher}, weight of the labels {recipe.kd_weight}"
    rows["run folder"] = str(run.resolve())
    if finished is not None:
        rows["finished"] = f"{finished:%Y-%m-%d %H:%M} UTC"
    if versions:
        rows["versions"] = ", ".join(f"{library} {version}" for library, version in versions.items())
    return _table("The run", ["", ""], list(rows.items()), header=False)


def wilson(right: int, clips: int) -> tuple[float, float]:
    """Give the 95% interval of the probability that a clip is classified right (Wilson 1927)."""
    z, p = 1.959964, right / clips
    middle, half = p + z**2 / (2 * clips), z * (p * (1 - p) / clips + z**2 / (4 * clips**2)) ** 0.5
    return (middle - half) / (1 + z**2 / clips), (middle + half) / (1 + z**2 / clips)


def _curves(run: Path) -> str:
    if not (run / HISTORY).is_file():
        return ""
    rows = read_history(run)
    return _section(
        "Learning curves",
        _figure(partial(plot_curves, rows), "Loss and accuracy over the epochs.", narrow={"columns": 1}),
    )


def _confusion(classes: list[str], found: Findings) -> str:
    matrix = found.confusion
    wrong = matrix.clone().fill_diagonal_(0)
    pairs = []
    for flat in wrong.flatten().argsort(descending=True, stable=True)[:10].tolist():
        true, predicted = divmod(flat, len(classes))
        if wrong[true, predicted]:
            pairs.append(
                (
                    classes[true],
                    classes[predicted],
                    f"{int(wrong[true, predicted])} of {int(matrix[true].sum())}",
                )
            )
    each = [
        (
            name,
            f"{int(row[i])} of {int(row.sum())}",
            f"{int(row[i]) / int(row.sum()):.0%}" if row.sum() else "",
        )
        for i, (name, row) in enumerate(zip(classes, matrix, strict=True))
    ]
    each.sort(key=lambda row: (row[2] == "", float(row[2].rstrip("%") or 0)))
    return _section(
        "What is taken for what",
        _figure(
            partial(plot_confusion, matrix, classes),
            "Confusion matrix: the part of each true class's clips that is taken for each class.",
        ),
        _table("Most confused", ["true", "taken for", "clips"], pairs, level=3),
        "<details><summary>Every class, worst first</summary>",
        _table("", ["class", "right", "part"], each),
        "</details>",
    )


def _worst(model: FrontendModel, classes: list[str], data: AudioDataset, found: Findings, worst: int) -> str:
    true = found.probabilities.gather(1, found.labels[:, None])[:, 0]
    wrong = [i for i in true.argsort(stable=True).tolist() if found.predicted[i] != found.labels[i]][:worst]
    if not wrong:
        return _section("The worst clips", "<p>None is wrong.</p>" if worst else "")
    text = "<p>Those whose true class got the lowest probability.</p>"
    cards = [
        _card(model, classes, _name(data, i), data.waveform(i), found.probabilities[i], int(found.labels[i]))
        for i in wrong
    ]
    return _section("The worst clips", text, *cards)


def _mean_masks(model: FrontendModel, classes: list[str], recipe: Recipe, found: Findings) -> str:
    mask = found.mask
    if mask is None:
        return _section("The mask", f"<p>{markup(recipe.frontend)} has no mask.</p>")
    axes: dict[str, Any] = {
        "hop_seconds": model.features.hop_seconds,
        "frequencies": [float(f) for f in model.features.frequencies],
    }
    finite = mask.all[mask.all.isfinite()]
    facts = f"Over all clips the mean mask lies between {finite.min():.3f} and {finite.max():.3f}."
    parts = [
        _figure(
            partial(plot_factors, mask.e_t, mask.e_f, mask.spread_t, mask.spread_f, **axes),
            "The mean of the mask's two factors over the clips, in a band of one standard deviation between clips.",
            narrow={"columns": 1},
        ),
        _figure(
            partial(plot_masks, [mask.all], ["all clips"], label="mask", columns=1, **axes),
            "The mean mask over all clips.",
        ),
    ]
    if not mask.change.constant:  # else pictures of rounding
        difference = mask.classes - mask.all
        largest = difference[difference.isfinite()].abs().max().item()
        facts += f" No class's mean mask is further than {largest:.4f} from it."
        parts += [
            _figure(
                partial(plot_masks, list(mask.classes), classes, label="mask", **axes),
                "The mean mask of each class's clips, on one scale.",
                narrow={"columns": 2},
            ),
            _figure(
                partial(plot_masks, list(difference), classes, label="difference to all clips", centred=True, **axes),
                "The mean mask of each class less that of all clips, on one scale.",
                narrow={"columns": 2},
            ),
        ]
    return _section(
        "The mask", f"<p>{_verdict(mask.change)}</p><p>{facts} Frames that are padding are left out.</p>", *parts
    )


def _verdict(change: MaskChange) -> str:
    """Say whether the mask does anything, and if not, what to try."""
    if not change.constant:
        return (
            f"The mask changes from clip to clip: its factors' standard deviation is {change.clips:.1%} of their mean."
        )
    return (
        "<strong>The mask is constant: it does not change from clip to clip.</strong> Its factors' standard deviation is "
        f"{change.clips:.2%} of their mean; below {CONSTANT:.0%} counts as constant. The front end does the same to every "
        f"sound, whatever is in it. Try {TO_TRY}."
    )


def _chosen(
    model: FrontendModel, classes: list[str], data: AudioDataset, found: Findings, sounds: list[tuple[str, Tensor]]
) -> str:
    if sounds:
        cards = []
        for name, waveform in sounds:
            with torch.no_grad():
                probabilities = model(waveform[None])[0].softmax(0)
            cards.append(_card(model, classes, name, waveform, probabilities, None))
        return _section("Chosen clips", *cards)
    right = [int(i) for i in (found.predicted == found.labels).nonzero()]
    of_class = {int(found.labels[i]): i for i in reversed(right)}  # the first of each class
    step = max(1, len(of_class) // 4)
    picked = [of_class[label] for label in sorted(of_class)[::step]][:4]
    cards = [
        _card(model, classes, _name(data, i), data.waveform(i), found.probabilities[i], int(found.labels[i]))
        for i in picked
    ]
    return _section("Some clips that it gets right", *cards)


def _name(data: AudioDataset, i: int) -> str:
    return "/".join(data.paths[i].parts[-2:]) if data.paths else f"clip {i}"


@torch.no_grad()
def _card(
    model: FrontendModel, classes: list[str], name: str, waveform: Tensor, probabilities: Tensor, label: int | None
) -> str:
    """Show a clip: its name, a player, what it is taken for, and its spectrogram, mask and enhanced spectrogram."""
    best = probabilities.topk(min(3, len(classes)))
    told = ", ".join(
        f"{_marked(classes[i])} {probability:.1%}"
        for probability, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )
    if label is not None:
        told = f"{_marked(classes[label])} (probability {probabilities[label]:.1%}), taken for {told}"
    spec = model.spectrogram(waveform[None])
    enhanced = model.frontend(spec)
    mask = model.frontend.mask(spec)[0, 0] if hasattr(model.frontend, "mask") else None
    features = model.features
    panels = [("spectrogram", spec[0, 0]), ("enhanced", enhanced[0, 0])]
    if mask is not None:
        panels.insert(1, ("mask", mask))
    axes = {"hop_seconds": features.hop_seconds, "frequencies": [float(f) for f in features.frequencies]}
    pictures = [
        _picture(partial(plot_spectrogram, values, panel, mask=values is mask, **axes), f"{panel} of {name}")
        for panel, values in panels
    ]
    sound = io.BytesIO()
    soundfile.write(sound, waveform.clamp(-1, 1).numpy(), features.sample_rate, format="FLAC", subtype="PCM_16")
    source = f"data:audio/flac;base64,{base64.b64encode(sound.getvalue()).decode()}"
    return (
        f'<article><h3>{_marked(name)}</h3><p>{told}</p><audio controls aria-label="{markup(name)}" src="{source}"></audio>'
        f'<div class="row">{"".join(pictures)}</div></article>'
    )


def _marked(name: str) -> str:
    """Give a name as HTML text that a script which runs from right to left does not reorder around it."""
    return f"<bdi>{markup(name)}</bdi>"


def _section(title: str, *parts: str) -> str:
    return "\n".join([f"<section><h2>{title}</h2>", *parts, "</section>"])


def _table(
    title: str, names: Sequence[str], rows: Sequence[Sequence[str]], *, header: bool = True, level: int = 2
) -> str:
    parts = [f"<h{level}>{title}</h{level}>"] if title else []
    parts.append('<div class="wide" tabindex="0"><table>')
    if header:
        parts.append(f"<thead><tr>{''.join(f'<th scope=col>{name}</th>' for name in names)}</tr></thead>")
    for first, *others in rows:
        cells = "".join(f"<td>{_marked(cell)}</td>" for cell in others)
        parts.append(f"<tr><th scope=row>{_marked(first)}</th>{cells}</tr>")
    return "\n".join([*parts, "</table></div>"])


def _figure(draw: Callable[..., Figure], text: str, narrow: dict[str, Any] | None = None) -> str:
    return f"<figure>{_picture(draw, text, narrow)}<figcaption>{markup(text)}</figcaption></figure>"


def _picture(draw: Callable[..., Figure], text: str, narrow: dict[str, Any] | None = None) -> str:
    """Draw a figure for light and for dark and, with other arguments, for narrow screens: the reader's browser takes one."""
    try:
        light, dark = _drawn(draw())
        sources = [(DARK, dark)]
        if narrow is not None:
            narrow_light, narrow_dark = _drawn(draw(**narrow))
            sources = [(f"{NARROW} and {DARK}", narrow_dark), (NARROW, narrow_light), *sources]
    except Exception as error:  # a page without one of its pictures is worth more than none
        return f"<p>Not drawn: {markup(text)} ({markup(f'{type(error).__name__}: {error}')})</p>"
    given = "".join(f'<source media="{media}" srcset="{source}">' for media, source in sources)
    return f'<picture>{given}<img src="{light}" alt="{markup(text)}"></picture>'


def _drawn(figure: Figure) -> tuple[str, str]:
    """Give a figure as two pictures, for a light ground and for a dark one."""
    pictures = []
    for ink in (None, "#e8e8e8"):
        if ink is not None:
            figure.set_layout_engine("none")  # it has its places by now
            for text in figure.findobj(Text):
                text.set_color(ink)
            for axes in figure.axes:
                axes.tick_params(which="both", colors=ink)
                for spine in axes.spines.values():
                    spine.set_edgecolor(ink)
                if (legend := axes.get_legend()) is not None:
                    legend.get_frame().set_facecolor("#222222")
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=90, transparent=True, format="webp", pil_kwargs={"lossless": True})
        pictures.append(f"data:image/webp;base64,{base64.b64encode(drawn.getvalue()).decode()}")
    return pictures[0], pictures[1]


DARK = "(prefers-color-scheme: dark)"
NARROW = "(max-width: 50rem)"  # where panels stand one below the other

STYLE = """
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1b1b1b; --faint: #5c5c5c; --line: #d5d5d5; --card: #f6f6f6; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #161616; --ink: #e8e8e8; --faint: #a8a8a8; --line: #3c3c3c; --card: #202020; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; } h2 { margin-top: 2.5rem; } h3 { font-size: 1rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; } th, td { overflow-wrap: anywhere; padding: .3rem .8rem .3rem 0;
  text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } th[scope=row] { min-width: 7rem; } thead + tbody td:last-child { white-space: nowrap; }
figure { margin: 1rem 0; } figcaption { color: var(--faint); font-size: .9rem; }
img { max-width: 100%; height: auto; display: block; } .row { display: flex; flex-wrap: wrap; gap: .5rem; }
.row picture { flex: 1 1 18rem; max-width: 26rem; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 0 1rem 1rem; margin: 1rem 0; }
audio { width: 100%; max-width: 30rem; } details { margin: 1rem 0; } summary { cursor: pointer; }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>Run {name}</h1>
{sections}
</main>
</body>
</html>
"""
