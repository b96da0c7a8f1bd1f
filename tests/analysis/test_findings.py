"""What is found out about a model: without a run, and from no more of a clip than the model's frames look at."""

import subprocess
import sys

import pytest
import timm
import torch

from specenhance import KaldiFbank, with_frontend
from specenhance.analysis.findings import Findings, examine
from specenhance.analysis.report import report
from specenhance.data import AudioDataset, collate


class Long(AudioDataset):
    """Noises, most of them longer than the model's frames."""

    def __init__(self, count: int) -> None:
        super().__init__(["a", "b", "c"], [i % 3 for i in range(count)])
        self.asked: list[float] = []

    def waveform(self, i: int) -> torch.Tensor:
        return 0.1 * torch.randn(2000 + 1500 * (i % 4), generator=torch.Generator().manual_seed(i))

    def excerpt(self, i: int, seconds: float, place: float = 0.0) -> torch.Tensor:
        self.asked.append(seconds)
        return super().excerpt(i, seconds, place)


@pytest.fixture
def model():
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", in_chans=1, num_classes=3)
    return with_frontend(backbone, "tfe1", features=KaldiFbank(frames=24, num_mel_bins=32))


def test_no_more_is_read_than_the_frames_look_at(model):
    data = Long(7)
    found = examine(model, data, batch_size=3)
    assert data.asked == [(400 + 23 * 160) / 16000] * 7
    whole = collate([data[i] for i in range(7)])
    with torch.no_grad():
        samples = model.features.samples
        spec = model.spectrogram(whole.waveform[:, :samples], whole.length.clamp(max=samples))
        expected = model.classify(spec).softmax(1)
    torch.testing.assert_close(found.probabilities, expected)
    assert found.labels.tolist() == data.labels
    torch.testing.assert_close(examine(model, data, batch_size=64).mask.all, found.mask.all)


def test_a_model_and_a_data_set_are_enough_for_a_page(model, tmp_path):
    page = report(model, Long(5), tmp_path / "page.html", title="<mine>", facts={"data": "noise & more"}, worst=1)
    text = page.read_text(encoding="utf-8")
    assert "<title>Run &lt;mine&gt;</title>" in text
    assert "noise &amp; more" in text
    assert "TFE + " in text
    assert "Learning curves" not in text


def test_what_cannot_be_examined_is_refused(model):
    with pytest.raises(ValueError, match="no clips"):
        examine(model, Long(0))
    with pytest.raises(ValueError, match="give it features"):
        examine(with_frontend(model.backbone, "tfe1"), Long(1))


def test_one_class_has_a_confusion_matrix():
    assert Findings(torch.ones(3, 1), torch.zeros(3, dtype=torch.int64), None).confusion.tolist() == [[3]]


def test_analysis_imports_nothing_of_training():
    code = (
        "import sys; import specenhance.analysis.report, specenhance.analysis.findings, specenhance.analysis.masks; "
        "print([name for name in sys.modules if name.startswith(('specenhance.training', 'lightning.'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
