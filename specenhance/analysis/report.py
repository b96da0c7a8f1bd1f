"""Write a page on a model and a data set: curves, confusions, the worst clips with players, and the mean mask."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
import torch
from torch import Tensor

from specenhance._files import write_text
from specenhance.analysis.findings import Findings, examine
from specenhance.analysis.masks import CONSTANT, TO_TRY
from specenhance.analysis.multi_label import MultiLabelScore
from specenhance.analysis.page import Picture, data_uri, environment, picture
from specenhance.analysis.plots import (
    plot_average_precision,
    plot_confusion,
    plot_curves,
    plot_factors,
    plot_masks,
    plot_spectrogram,
)
from specenhance.conditions import create_condition
from specenhance.conditions.altered import Altered
from specenhance.data import AudioDataset, read_audio
from specenhance.data.base import classes_of
from specenhance.frontends.base import apply_frontend, factors_of
from specenhance.functional import outer
from specenhance.models.adapter import FrontendModel

__all__ = ["report"]


class Clip(NamedTuple):
    """A clip of the page.

    Attributes:
        name: name of the clip.
        true: true classes of the clip, and the probability of each. None if they are not known.
        best: the classes of highest probability, with their probabilities.
        sound: sound of the clip, as a data URI.
        pictures: its spectrogram, its mask if there is one, and its enhanced spectrogram.
    """

    name: str
    true: list[tuple[str, float]] | None
    best: list[tuple[str, float]]
    sound: str
    pictures: list[Picture]


def report(
    model: FrontendModel,
    data: AudioDataset,
    out: str | os.PathLike[str],
    *,
    title: str = "model",
    kind: str = "Run",
    split: str = "test",
    frontend: str | None = None,
    backbone: str | None = None,
    facts: Mapping[str, str] | None = None,
    history: Sequence[Mapping[str, float]] | None = None,
    result: Mapping[str, Any] | None = None,
    clips: Sequence[str | os.PathLike[str]] = (),
    worst: int = 8,
    batch_size: int = 64,
    conditions: Sequence[str] = (),
    group: str = "",
) -> Path:
    """Write a page on a model: one HTML file that holds all its pictures and sounds.

    The same arguments give the same page. A picture that cannot be drawn leaves a line that says why.

    Args:
        model: from waveforms to logits, with features of a fixed number of frames. It is put into evaluation mode.
        data: the clips that are classified. Its classes are the model's, in the model's order.
        out: the file to write; its name ends in ``.html``.
        title: name of the model, such as the name of its run.
        kind: word before the title.
        split: name of the data's part of its data set.
        frontend: name of the front end. None takes the name of its class.
        backbone: name of the backbone. None takes the name of its class.
        facts: further rows of the first table, such as ``{"data": "esc50, 50 classes"}``.
        history: one row of figures for each epoch of the training, as in ``metrics.csv``. None draws no curves.
        result: result of the training. Its ``versions`` of libraries are shown.
        clips: audio files whose mask is shown. Without any, some clips of the data are shown that the model classifies right.
        worst: number of wrongly classified clips to show.
        batch_size: number of clips that are classified at once.
        conditions: conditions under which the accuracy is measured too, such as ``"noise:20"``.
        group: what must be taken together in intervals, such as ``"speaker"``, see :func:`specenhance.data.groups.kind_of`.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError, AudioError: for a clip that does not exist or cannot be read.
        ValueError: if ``out`` does not end in ``.html``, and as :func:`specenhance.analysis.findings.examine`.

    Example (it draws for a few seconds, so it does not run as a test)::

        report(model, SyntheticSounds("test"), "report.html", facts={"data": "synthetic, 10 classes"})
    """
    path = Path(out)
    if path.suffix not in (".html", ".htm") or path.is_dir():
        raise ValueError(f"out = {str(path)!r}: expected a file's name that ends in .html, such as report.html")
    sounds = [(Path(clip).name, read_audio(clip, data.sample_rate)) for clip in clips]
    heard = [(text, Altered(data, create_condition(text))) for text in conditions]
    found = examine(model, data, batch_size, group)
    frontend = frontend or type(model.frontend).__name__
    names = f"{frontend} + {backbone or type(model.backbone).__name__}"
    rows = {
        f"{'scores' if found.score else 'accuracy'} on {len(found.labels):,} {split} clips": _accuracy(found),
        "model": f"{names}: {_parameters(model):,} parameters, of them {_parameters(model.frontend):,} in the front end",
        **(facts or {}),
    }
    if result and result.get("versions"):
        rows["versions"] = ", ".join(f"{library} {version}" for library, version in result["versions"].items())
    wrong = found.worst(worst)
    page = environment().get_template("report.html.j2")
    text = page.render(
        kind=kind,
        called=title,
        title=f"{kind} {title}",
        facts=rows,
        conditions=[(text, _accuracy(examine(model, altered, batch_size, group))) for text, altered in heard],
        curves=None if history is None else _curves(history),
        **(_of_classes(data.classes, found.score) if found.score else _confusions(data.classes, found)),
        worst=[_found(model, data, found, i) for i in wrong],
        none_wrong=worst > 0,
        frontend=frontend,
        mask=found.mask,
        masks=_masks(model, data.classes, found),
        constant=CONSTANT,
        to_try=TO_TRY,
        chosen=[_chosen(model, data.classes, name, waveform) for name, waveform in sounds],
        examples=[] if sounds else [_found(model, data, found, i) for i in found.examples(4)],
    )
    write_text(path, text)
    return path


def _accuracy(found: Findings) -> str:
    if found.score:
        return found.score.text().rpartition(" of ")[0]
    return f"{found.accuracy:.2%} ({found.interval.text()})"


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _curves(history: Sequence[Mapping[str, float]]) -> Picture:
    return picture(
        partial(plot_curves, [dict(row) for row in history]),
        "Loss and accuracy over the epochs.",
        narrow={"columns": 1},
    )


def _confusions(classes: Sequence[str], found: Findings) -> dict[str, Any]:
    """Give the picture and the tables of confusions."""
    return {
        "scores": None,
        "confusion": picture(
            partial(plot_confusion, found.confusion, classes),
            "Confusion matrix: the part of each true class's clips that is taken for each class.",
        ),
        "confused": [
            (classes[pair.true], classes[pair.predicted], f"{pair.clips} of {pair.of}") for pair in found.confused(10)
        ],
        "each_class": [
            (classes[row.true], f"{row.clips} of {row.of}", f"{row.clips / row.of:.0%}" if row.of else "")
            for row in found.each_class()
        ],
    }


def _of_classes(classes: Sequence[str], score: MultiLabelScore) -> dict[str, Any]:
    """Give the picture and the table of a multi-label model's classes, the lowest average precision first."""
    rows = sorted(
        zip(classes, score.each_class(), strict=True), key=lambda row: (not row[1].clips, row[1].average_precision)
    )
    known = [(name, row) for name, row in rows if row.clips]
    return {
        "scores": picture(
            partial(plot_average_precision, [name for name, _ in known], [row.average_precision for _, row in known]),
            "Average precision of each class, the lowest first.",
        ),
        "each_class": [
            (name, f"{row.clips:,}", *("" if math.isnan(value) else f"{value:.0%}" for value in row[1:]))
            for name, row in rows
        ],
    }


def _axes(model: FrontendModel) -> dict[str, Any]:
    features = model.features
    return {"hop_seconds": features.hop_seconds, "frequencies": [float(f) for f in features.frequencies]}


def _masks(model: FrontendModel, classes: Sequence[str], found: Findings) -> list[Picture]:
    """Draw the mean masks. Those of the classes are drawn only if the mask changes, because they would show only rounding."""
    mask = found.mask
    if mask is None:
        return []
    axes = _axes(model)
    pictures = [
        picture(
            partial(plot_factors, mask.e_t, mask.e_f, mask.spread_t, mask.spread_f, **axes),
            "The mean of the mask's two factors over the clips, in a band of one standard deviation between clips.",
            narrow={"columns": 1},
        ),
        picture(
            partial(plot_masks, [mask.all], ["all clips"], label="mask", columns=1, **axes),
            "The mean mask over all clips.",
        ),
    ]
    if mask.change.constant:
        return pictures
    label = "difference to all clips"
    return [
        *pictures,
        picture(
            partial(plot_masks, list(mask.classes), classes, label="mask", **axes),
            "The mean mask of each class's clips, on one scale.",
            narrow={"columns": 2},
        ),
        picture(
            partial(plot_masks, list(mask.difference), classes, label=label, centred=True, **axes),
            "The mean mask of each class less that of all clips, on one scale.",
            narrow={"columns": 2},
        ),
    ]


def _found(model: FrontendModel, data: AudioDataset, found: Findings, i: int) -> Clip:
    """Give a clip of the data set."""
    name = "/".join(data.paths[i].parts[-2:]) + data.fragment(i) if data.paths else data.name(i)
    return _clip(model, data.classes, name, data.waveform(i), found.probabilities[i], classes_of(data.labels[i]))


@torch.no_grad()
def _chosen(model: FrontendModel, classes: Sequence[str], name: str, waveform: Tensor) -> Clip:
    """Give a clip of a file."""
    device = next(model.parameters()).device
    probabilities = model.probabilities(model(waveform[None].to(device)))[0].cpu()
    return _clip(model, classes, name, waveform, probabilities, None)


@torch.no_grad()
def _clip(
    model: FrontendModel,
    classes: Sequence[str],
    name: str,
    waveform: Tensor,
    probabilities: Tensor,
    labels: tuple[int, ...] | None,
) -> Clip:
    best = probabilities.topk(min(3, len(classes)))
    batch = waveform[None].to(next(model.parameters()).device)
    spec, real = model.spectrogram(batch), model.real_frames(batch)
    panels = [("spectrogram", spec[0, 0]), ("enhanced", apply_frontend(model.frontend, spec, real)[0, 0])]
    factors = factors_of(model.frontend, spec, real)
    if factors is not None:
        panels.insert(1, ("mask", outer(*factors)[0, 0]))
    axes = _axes(model)
    sound = io.BytesIO()
    soundfile.write(sound, waveform.clamp(-1, 1).numpy(), model.features.sample_rate, format="FLAC", subtype="PCM_16")
    return Clip(
        name=name,
        true=None if labels is None else [(classes[label], float(probabilities[label])) for label in labels],
        best=[(classes[i], float(value)) for value, i in zip(best.values, best.indices.tolist(), strict=True)],
        sound=data_uri("audio/flac", sound),
        pictures=[
            picture(partial(plot_spectrogram, values, panel, mask=panel == "mask", **axes), f"{panel} of {name}")
            for panel, values in panels
        ],
    )
