"""Files for LiteRT and ExecuTorch, where their converters are installed: ``make test-formats`` installs them."""

import hashlib
import json

import pytest
import timm
import torch

from specenhance import KaldiFbank, with_frontend
from specenhance.deploy import export as export_module
from specenhance.deploy.export import default_name, export
from specenhance.deploy.formats.registry import create_format
from specenhance.deploy.program import WaveformModel, fitted, record_fixed

FORMATS = ["tflite", "pte"]


@pytest.fixture(scope="module")
def model():
    """An untrained model whose logits differ between sounds."""
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", in_chans=1, num_classes=10)
    model = with_frontend(backbone, "tfe2", features=KaldiFbank(frames=64))
    with torch.no_grad():
        model.train()
        for level in (1e-3, 0.1, 0.5):
            model(level * torch.randn(8, 8000))  # batch norm learns the range of its input
        backbone.get_classifier().weight.mul_(30)
    model.classes = list(map(str, range(10)))
    return model.eval()


def converter(format):
    writer = create_format(format)
    try:
        writer.require()
    except ImportError as error:
        pytest.skip(str(error))
    return writer


@pytest.fixture(scope="module", params=FORMATS)
def written(request, model, tmp_path_factory):
    """A file of a format, and the function that it is."""
    writer = converter(request.param)
    path = tmp_path_factory.mktemp(request.param) / default_name(request.param)
    export(model, path, format=request.param, clip_seconds=0.5)
    return path, writer.load(path)


def clips(shared):
    from specenhance.audio import read_samples

    paths = sorted((shared / "arabic_speech_commands").glob("*/*.flac"))
    for path in paths[:: len(paths) // 120][:120]:
        yield fitted(torch.from_numpy(read_samples(path, 16000))[None], 8000)


def test_120_real_clips(written, model, shared):
    _, run = written
    worst, seen = 0.0, set()
    with torch.no_grad():
        for x in clips(shared):
            expected = model(x)
            worst = max(worst, export_module._difference(run(x), expected))
            seen.add(expected.argmax().item())
    assert worst < 1e-3
    assert len(seen) > 1  # the logits are not the same for every clip


def test_the_metadata_lie_beside_the_file(written):
    path, _ = written
    about = json.loads(path.with_name(f"{path.name}.labels.json").read_text())
    assert about["classes"] == list(map(str, range(10)))
    assert (about["samples"], about["sample_rate"], about["input"]) == (8000, 16000, "waveform")
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.labels.json"}


@pytest.mark.parametrize("format", FORMATS)
def test_spectrograms(format, model, tmp_path):
    writer = converter(format)
    run = writer.load(export(model, tmp_path / f"spec.{format}", format=format, input="spectrogram"))
    spec = torch.randn(1, 1, 64, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(run(spec), model.classify(spec), atol=1e-3, rtol=0)


@pytest.mark.parametrize("format", FORMATS)
def test_int8_is_for_onnx(format):
    with pytest.raises(ValueError, match=f"int8 with format = '{format}'"):
        export_module.check(format, "waveform", int8=True)


def test_a_program_of_one_size_has_no_operator_that_makes_a_constant(model):
    program = record_fixed(WaveformModel(model).eval(), torch.zeros(1, 8000))
    (node,) = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    assert tuple(node.meta["val"].shape) == (1, 8000)
    makers = {node.target for node in program.graph.nodes if node.op == "call_function" and not node.all_input_nodes}
    assert makers == set()
    x = 0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), model(x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_converter_is_named(format, monkeypatch):
    import sys

    name = {"tflite": "litert_torch", "pte": "executorch.exir"}[format]
    monkeypatch.setitem(sys.modules, name, None)
    package = {"tflite": "litert-torch", "pte": "executorch"}[format]
    with pytest.raises(ImportError, match=package):
        create_format(format).require()
