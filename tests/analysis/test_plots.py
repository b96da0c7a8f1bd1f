"""Pictures: their panels, axes and units, and that they come out as files."""

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from specenhance.analysis.plots import (
    plot_confusion,
    plot_curves,
    plot_enhancement,
    plot_factors,
    plot_masks,
    plot_spectrogram,
    save_figure,
)

FREQUENCIES = [100.0 * (i + 1) for i in range(11)]


def test_spectrogram_mask_and_enhanced_stand_side_by_side_in_seconds_and_hertz():
    spec, mask = torch.randn(50, 11), torch.rand(50, 11)
    figure = plot_enhancement(spec, spec * mask, mask, hop_seconds=0.01, frequencies=FREQUENCIES, title="a sound")
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["spectrogram", "mask", "enhanced"]
    assert figure.get_suptitle() == "a sound"
    for axes, values in zip(panels, (spec, mask, spec * mask), strict=True):
        (image,) = axes.images
        assert torch.equal(torch.from_numpy(image.get_array().data), values.T)  # rows are frequencies
        assert image.origin == "lower"
        assert tuple(image.get_extent()) == (0.0, 0.5, -0.5, 10.5)
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (s)", "frequency (Hz)")
        ticks = {
            int(tick): label.get_text() for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        }
        assert ticks == {i: f"{FREQUENCIES[i]:.0f}" for i in (0, 2, 4, 6, 8, 10)}


def test_a_front_end_without_a_mask_has_two_panels():
    spec = torch.randn(5, 11, dtype=torch.bfloat16, requires_grad=True)
    figure = plot_enhancement(spec, spec, None, hop_seconds=0.01, frequencies=FREQUENCIES)
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["spectrogram", "enhanced"]


def test_masks_share_one_scale_and_leave_out_what_is_no_number():
    masks = [torch.full((20, 11), 0.2), torch.full((20, 11), 0.6)]
    masks[0][15:] = float("nan")
    figure = plot_masks(masks, ["a", "b"], hop_seconds=0.01, frequencies=FREQUENCIES, label="mask", columns=3)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["a", "b"]
    for axes, mask in zip(panels, masks, strict=True):
        (image,) = axes.images
        assert image.get_clim() == pytest.approx((0.2, 0.6))
        assert torch.equal(torch.from_numpy(image.get_array().filled(-1)), mask.T.nan_to_num(-1))
        assert tuple(image.get_extent()) == (0.0, 0.2, -0.5, 10.5)
    (image,) = (
        plot_masks([masks[1] - 0.9], ["a"], hop_seconds=0.01, frequencies=FREQUENCIES, label="", centred=True)
        .axes[0]
        .images
    )
    assert image.get_clim() == pytest.approx((-0.3, 0.3))


def test_a_constant_mask_looks_constant():
    constant = 0.226 + 1e-6 * torch.rand(20, 11)  # but for rounding
    axes = {"hop_seconds": 0.01, "frequencies": FREQUENCIES}
    figures = [
        plot_masks([constant, constant], ["a", "b"], label="mask", **axes),
        plot_enhancement(constant, constant, constant, **axes),
        plot_spectrogram(constant, "mask", mask=True, **axes),
    ]
    images = [figures[0].axes[0].images[0], figures[0].axes[1].images[0], figures[1].axes[1].images[0]]
    for image in [*images, figures[2].axes[0].images[0]]:
        low, high = image.get_clim()
        assert high - low >= 0.01 * 0.226
        colours = image.cmap(image.norm(image.get_array()))
        assert abs(colours - colours[0, 0]).max() < 0.01  # one colour, and the same in each picture
        assert image.norm(image.get_array()).mean() == pytest.approx(0.5, abs=0.01)
    spread = torch.linspace(0.2, 0.6, 220).reshape(20, 11)
    assert plot_spectrogram(spread, "mask", mask=True, **axes).axes[0].images[0].get_clim() == pytest.approx((0.2, 0.6))


def test_factors_over_seconds_and_hertz():
    e_t, e_f = torch.rand(20), torch.rand(11)
    figure = plot_factors(e_t, e_f, 0 * e_t, 0 * e_f, hop_seconds=0.01, frequencies=FREQUENCIES)
    time, frequency = figure.axes
    assert time.lines[0].get_xdata().tolist() == pytest.approx([0.01 * t for t in range(20)])
    assert frequency.lines[0].get_xdata().tolist() == FREQUENCIES
    assert (time.get_xlabel(), frequency.get_xlabel()) == ("time (s)", "frequency (Hz)")


def test_a_confusion_matrix_shows_shares_of_the_true_class():
    figure = plot_confusion(torch.tensor([[3, 1], [0, 0]]), ["a", "b"])
    axes = figure.axes[0]
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0.0, 0.0]]
    assert axes.get_title() == "accuracy 75.0%"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]


NAMES = ["$5_to_$10", "a\nb", "\x1b[31m", "x" * 300, "$\\frac"]


def test_names_are_drawn_and_not_obeyed(tmp_path):
    n = len(NAMES)
    figures = [
        plot_confusion(torch.eye(n), NAMES),
        plot_masks([torch.rand(20, 11)] * n, NAMES, hop_seconds=0.01, frequencies=FREQUENCIES, label="mask"),
        *(
            plot_enhancement(
                torch.rand(20, 11), torch.rand(20, 11), None, hop_seconds=0.01, frequencies=FREQUENCIES, title=name
            )
            for name in NAMES
        ),
    ]
    for figure in figures:
        save_figure(figure, tmp_path / "a.png")
    labels = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert labels == ["$5_to_$10", r"a\nb", r"\x1b[31m", "x" * 20 + "…" + "x" * 19, r"$\frac"]
    assert [axes.get_title() for axes in figures[1].axes[:3]] == labels[:3]
    assert [figure.get_suptitle() for figure in figures[2:5]] == labels[:3]


@pytest.mark.parametrize("n", [2, 20])
def test_long_names_leave_the_confusion_matrix_its_place(n):
    figure = plot_confusion(torch.eye(n), ["x" * 40] * n)
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    assert axes.bbox.width / figure.dpi >= 2.5  # inches
    box = axes.get_tightbbox()
    assert Bbox.union([figure.bbox, box]).bounds == figure.bbox.bounds  # nothing is cut off


def test_one_column_puts_panels_one_below_the_other():
    spec = torch.rand(20, 11)
    axes = {"hop_seconds": 0.01, "frequencies": FREQUENCIES}
    for draw in (
        lambda **k: plot_curves([{"epoch": 0, "train_loss": 1.0, "train_accuracy": 0.5}], **k),
        lambda **k: plot_factors(*[spec[:, 0], spec[0]] * 2, **axes, **k),
    ):
        narrow, wide = (draw(columns=columns).get_size_inches() for columns in (1, 2))
        assert narrow == pytest.approx([wide[0] / 2, wide[1] * 2])


def test_curves_show_training_beside_validation():
    rows = [
        {"epoch": i, "train_loss": 2.0 - i, "val_loss": 2.5 - i, "train_accuracy": 0.1 * i, "val_accuracy": 0.2}
        for i in range(3)
    ]
    loss, accuracy = plot_curves(rows).axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[2.0, 1.0, 0.0], [2.5, 1.5, 0.5]]
    assert [list(line.get_xdata()) for line in accuracy.lines] == [[1, 2, 3]] * 2


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_suffix_chooses_the_format(tmp_path, suffix, start):
    path = tmp_path / "figures" / f"a.{suffix}"
    save_figure(plot_confusion(torch.eye(2), ["a", "b"]), path)
    assert path.read_bytes().startswith(start)
    with pytest.raises(ValueError, match="xyz"):
        save_figure(plot_confusion(torch.eye(2), ["a", "b"]), tmp_path / "a.xyz")
    assert not (tmp_path / "a.xyz").exists()
