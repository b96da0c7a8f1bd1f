"""The report: one page that needs nothing else, whose figures are those of the model, the same for the same run."""

import base64
import io
import json
import re
import shutil
import subprocess
from datetime import datetime, timezone
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from specenhance.analysis import masks
from specenhance.analysis import report as report_module
from specenhance.analysis.findings import Findings, examine
from specenhance.analysis.intervals import wilson
from specenhance.cli import app
from specenhance.data import AudioDataset
from specenhance.training.build import build_split
from specenhance.training.reporting import report_run as report
from specenhance.training.run import train
from specenhance.training.store import load_stored


class Page(HTMLParser):
    """What a page loads and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.alternatives: list[str | None] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        found = dict(attrs)
        self.sources += [found[name] for name in ("src", "srcset", "href") if found.get(name)]
        if tag == "img":
            self.alternatives.append(found.get("alt"))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def run(quick, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    train(quick.replace(epochs=2, frontend="tfe1"), folder, device="cpu")
    return folder


@pytest.fixture(scope="module")
def page(run):
    return Page(report(run).read_text())


def test_the_page_needs_nothing_else(page):
    assert page.sources
    assert all(source.startswith("data:") for source in page.sources)
    assert "script" not in page.tags
    assert len(page.alternatives) > 5
    assert all(page.alternatives)
    assert page.tags.count("html") == page.tags.count("main") == page.tags.count("h1") == 1


def test_the_sounds_are_the_clips(run, page):
    sounds = [source for source in page.sources if source.startswith("data:audio")]
    clips = [build_split(load_stored(run).recipe, "test").waveform(i).numpy() for i in range(6)]
    for source in sounds:
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(source.partition(",")[2])), dtype="float32")
        assert rate == 16000
        assert any(len(samples) == len(clip) and np.abs(samples - clip).max() < 1e-4 for clip in clips)
    assert sounds


def test_the_page_says_how_good_the_model_is(run, page):
    found = examine(load_stored(run).model, build_split(load_stored(run).recipe, "test"))
    right = int((found.predicted == found.labels).sum())
    low, high = wilson(right, 6)
    assert f"{right / 6:.2%} (95% interval {low:.1%} to {high:.1%}" in page.text
    assert "72 in the front end" in page.text


def test_the_page_names_the_run_its_date_its_data_and_the_versions(run, page):
    assert f"Run {run.name}" in page.text
    assert str(run) in page.text
    assert load_stored(run).recipe.root in page.text
    finished = datetime.fromtimestamp((run / "result.json").stat().st_mtime, timezone.utc)
    assert f"{finished:%Y-%m-%d %H:%M} UTC" in page.text
    versions = json.loads((run / "result.json").read_text())["versions"]
    assert all(f"{library} {version}" in page.text for library, version in versions.items())


def test_a_run_without_a_result_has_a_page(run, tmp_path):
    for name in ("recipe.toml", "config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    page = Page(report(tmp_path, worst=0).read_text())
    assert "UTC" not in page.text
    assert f"Run {tmp_path.name}" in page.text


@pytest.mark.parametrize("threshold", [0.0, 1e3])
def test_a_constant_mask_is_said_plainly_with_what_to_try(run, tmp_path, monkeypatch, threshold):
    for module in (masks, report_module):
        monkeypatch.setattr(module, "CONSTANT", threshold)
    text = Page(report(run, tmp_path / "p.html", worst=0).read_text()).text
    constant = threshold > 0
    assert ("The mask is constant: it does not change from clip to clip." in text) is constant
    assert (f"Try {masks.TO_TRY}" in text) is constant
    assert ("The mask changes from clip to clip" in text) is not constant
    assert ("The mean mask of each class" in text) is not constant  # no pictures of rounding


def test_a_picture_that_cannot_be_drawn_loses_no_page(run, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no <ink>\n")

    monkeypatch.setattr(report_module, "plot_confusion", fail)
    page = Page(report(run, tmp_path / "p.html", worst=0).read_text())
    assert "Not drawn: Confusion matrix" in page.text
    assert r"(RuntimeError: no <ink>\n)" in page.text
    assert "Most confused" in page.text


MEASURE = """<!doctype html><title>?</title><body style="margin:0"><iframe style="border:0" width="{width}" height="9000"
 src="{page}"></iframe><script>
document.querySelector("iframe").onload = (event) => {{
  const inside = event.target.contentDocument, beyond = [];
  for (const part of inside.querySelectorAll("img, table, h1, h3, p, audio")) {{
    const box = part.getBoundingClientRect();
    if (box.left < 0 || box.right > {width} || box.width == 0) beyond.push(part.tagName + " " + box.left + ":" + box.right);
  }}
  const used = inside.querySelector("img").currentSrc, wide = inside.querySelector("img").src;
  document.title = "cut: " + beyond.join() + "; scrolls: " + (inside.documentElement.scrollWidth > {width})
    + "; wide picture: " + (used == wide);
}};
</script>"""


@pytest.mark.parametrize(("width", "wide"), [(390, False), (500, False), (1100, True), (1500, True)])
def test_nothing_is_cut_off_at_any_width(run, page, tmp_path, width, wide):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium to look with")
    frame = tmp_path / "frame.html"
    frame.write_text(MEASURE.format(width=width, page=(run / "report.html").as_uri()))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    command = [browser, *options, f"--user-data-dir={tmp_path / 'browser'}", "--window-size=1600,1000", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    (title,) = re.findall("<title>(.*)</title>", done.stdout)
    assert title == f"cut: ; scrolls: false; wide picture: {str(wide).lower()}"


def test_wilsons_interval():
    stats = pytest.importorskip("scipy.stats")
    for right, clips in ((0, 10), (7, 10), (990, 1050), (5, 5)):
        expected = stats.binomtest(right, clips).proportion_ci(method="wilson")
        np.testing.assert_allclose(wilson(right, clips), expected, atol=1e-6)


def test_the_same_run_gives_the_same_page(run, tmp_path):
    assert report(run, tmp_path / "a.html").read_bytes() == report(run, tmp_path / "b.html").read_bytes()


def test_mean_masks_leave_padding_out(run, tmp_path):
    rng = np.random.default_rng(0)
    for label, lengths in (("a", (4000, 2000)), ("b", (1200,))):
        for i, samples in enumerate(lengths):
            path = tmp_path / "test" / label / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * rng.standard_normal(samples), 16000)
    model = load_stored(run).model
    paths = sorted((tmp_path / "test").glob("*/*.wav"))
    data = AudioDataset(["a", "b"], [int(path.parent.name == "b") for path in paths], paths)
    mask = examine(model, data).mask
    literal = torch.full((2, 24, 32), float("nan"), dtype=torch.float64)
    for label in range(2):
        for t in range(24):
            values = []
            for waveform, of in (data[i] for i in range(len(data))):
                if of == label and 400 + 160 * t <= len(waveform):
                    padded = torch.nn.functional.pad(waveform, (0, 4000 - len(waveform)))
                    spec = model.spectrogram(padded[None], torch.tensor([len(waveform)]))
                    with torch.no_grad():
                        values.append(model.frontend.mask(spec)[0, 0, t].double())
            if values:
                literal[label, t] = torch.stack(values).mean(0)
    torch.testing.assert_close(mask.classes, literal, equal_nan=True, atol=1e-6, rtol=0)
    assert mask.classes[1, 10].isnan().all()


def test_names_are_escaped(quick, tmp_path, tones):
    root = tmp_path / "sounds"
    for split in ("train", "validation", "test"):
        for old, new in (("low", "<b>low & 'quiet'"), ("high", 'high" onerror="x')):
            (root / split / new).mkdir(parents=True)
            for path in (tones / split / old).iterdir():
                (root / split / new / path.name).write_bytes(path.read_bytes())
    recipe = quick.replace(root=root, epochs=1, frontend="tfe1", mean=None, std=None)
    train(recipe, tmp_path / "run", device="cpu")
    text = report(tmp_path / "run").read_text()
    assert "<b>" not in text
    page = Page(text)
    assert "<b>low & 'quiet'" in page.text
    assert 'high" onerror="x' in page.text
    assert "b" not in page.tags


def test_a_front_end_without_a_mask_says_so(quick, tmp_path):
    train(quick.replace(epochs=1, frontend="identity"), tmp_path / "run", device="cpu")
    assert "identity has no mask." in Page(report(tmp_path / "run").read_text()).text


def test_chosen_clips_and_the_command(run, tmp_path, write):
    clip = write(tmp_path / "my clip.wav", seconds=0.3)
    done = CliRunner().invoke(
        app, ["report", str(run), "--out", str(tmp_path / "p.html"), "--clip", str(clip), "--worst", "0"]
    )
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "p.html")
    page = Page((tmp_path / "p.html").read_text())
    assert "my clip.wav" in page.text
    assert page.tags.count("article") == 1


def test_two_chosen_clips_of_one_name_are_both_shown(run, tmp_path, write):
    clips = [write(tmp_path / folder / "a.wav", seconds=0.3, frequency=f) for folder, f in (("x", 300), ("y", 900))]
    text = report(run, tmp_path / "p.html", clips=clips, worst=0).read_text()
    assert len({source for source in Page(text).sources if source.startswith("data:audio")}) == 2


@pytest.mark.parametrize(
    ("args", "message"),
    [(["--out", "page.pdf"], "ends in .html"), (["--clip", "none.wav"], "no such audio file")],
)
def test_wrong_arguments(run, args, message):
    done = CliRunner().invoke(app, ["report", str(run), *args])
    assert done.exit_code == 1
    assert message in done.stderr


def test_a_run_that_has_not_finished(tmp_path):
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 1
    assert "no training run" in done.stderr


def test_the_confusion_matrix_counts_true_by_predicted():
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    found = Findings(probabilities, torch.tensor([0, 1, 1]), None)
    assert found.confusion.tolist() == [[1, 0], [1, 1]]
