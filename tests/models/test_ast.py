"""AST: its sizes and its head changed as its authors do, DeiT's weights in it, folders written and read."""

import pytest
import timm
import torch
from transformers import ASTConfig, ASTForAudioClassification

import specenhance
from specenhance import FrozenTeacher, ast_teacher
from specenhance.models.ast import _from_deit, resize_positions

WIDTH, FRAMES, BINS, CLASSES = 16, 96, 64, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small AST as Hugging Face stores it: 9 patches in time, 5 in frequency."""
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_length=FRAMES, num_mel_bins=BINS, num_labels=CLASSES,
    )  # fmt: skip
    model = ASTForAudioClassification(config)
    torch.nn.init.normal_(model.audio_spectrogram_transformer.embeddings.position_embeddings)
    path = tmp_path_factory.mktemp("ast")
    model.save_pretrained(path)
    return path


def positions(ast):
    return ast.model.audio_spectrogram_transformer.embeddings.position_embeddings.detach()


def test_an_equal_size_and_head_change_nothing(folder):
    spec = torch.randn(2, 1, FRAMES, BINS)
    ast = ast_teacher(folder, CLASSES, frames=FRAMES, bins=BINS).eval()
    theirs = ASTForAudioClassification.from_pretrained(folder).eval()
    assert torch.equal(ast(spec), theirs(spec[:, 0]).logits)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ast.model.state_dict()[name], tensor), name


@pytest.mark.parametrize("frames", [96, 64, 16])  # 9, 5 and 1 patches
def test_shorter_input_cuts_the_positions_from_the_middle(folder, frames):
    ast = ast_teacher(folder, CLASSES, frames=frames, bins=BINS)
    old = positions(ast_teacher(folder, CLASSES, frames=FRAMES, bins=BINS))
    new = positions(ast)
    t = (frames - 16) // 10 + 1
    start = 9 // 2 - t // 2
    assert torch.equal(new[:, :2], old[:, :2])
    for f in range(5):
        for i in range(t):
            assert torch.equal(new[0, 2 + f * t + i], old[0, 2 + f * 9 + start + i])
    assert ast(torch.randn(1, 1, frames, BINS)).shape == (1, CLASSES)


def test_longer_input_interpolates_the_positions_in_time(folder):
    ast = ast_teacher(folder, CLASSES, frames=186, bins=BINS)  # 18 patches for 9
    old = positions(ast_teacher(folder, CLASSES, frames=FRAMES, bins=BINS))[0, 2:].view(5, 9, WIDTH)
    new = positions(ast)[0, 2:].view(5, 18, WIDTH)
    for i in range(18):
        place = min(max((i + 0.5) / 2 - 0.5, 0), 8)  # pixel centres, clamped at the ends
        left = int(place)
        share = place - left
        expected = (1 - share) * old[:, left] + share * old[:, min(left + 1, 8)]
        assert torch.allclose(new[:, i], expected, atol=1e-6)
    assert ast(torch.randn(1, 1, 186, BINS)).shape == (1, CLASSES)


def test_the_frequency_axis_goes_the_same_way():
    grid = torch.arange(12.0).view(3, 4)  # (f, t)
    given = torch.cat([torch.tensor([-1.0, -2.0]), grid.flatten()]).view(1, -1, 1)
    assert torch.equal(resize_positions(given, (3, 4), (3, 4)), given)
    cut = resize_positions(given, (3, 4), (1, 2))
    assert cut.flatten().tolist() == [-1, -2, 5, 6]
    taller = resize_positions(given, (3, 4), (6, 4))[0, 2:, 0].view(6, 4)
    assert torch.allclose(taller[:, 0], torch.tensor([0, 1, 3, 5, 7, 8.0]))
    assert torch.allclose(taller[:, 1] - taller[:, 0], torch.ones(6))


def test_published_sizes_are_cut_as_published():
    old = torch.randn(1, 2 + 12 * 101, 4)  # AST on AudioSet: 12 x 101 patches
    grid = old[:, 2:].view(12, 101, 4)
    for frames, t in ((512, 50), (128, 12)):
        assert (frames - 16) // 10 + 1 == t
        new = resize_positions(old, (12, 101), (12, t))[:, 2:].view(12, t, 4)
        assert torch.equal(new, grid[:, 50 - t // 2 : 50 - t // 2 + t])


def test_another_number_of_classes_gets_a_new_head_and_the_old_body(folder):
    torch.manual_seed(1)
    ast = ast_teacher(folder, 7, frames=FRAMES, bins=BINS)
    assert (ast.num_classes, ast.in_chans, ast.num_features) == (7, 1, WIDTH)
    assert ast(torch.randn(2, 1, FRAMES, BINS)).shape == (2, 7)
    theirs = ASTForAudioClassification.from_pretrained(folder).state_dict()
    for name, tensor in ast.model.state_dict().items():
        if "classifier" not in name:
            assert torch.equal(theirs[name], tensor), name


def test_what_is_saved_comes_back_with_its_classes(folder, tmp_path, capfd):
    ast = ast_teacher(folder, 3, frames=64, bins=BINS).eval()
    ast.save_pretrained(tmp_path / "kept", ["high", "low", "naïve"])
    again = ast_teacher(tmp_path / "kept", 3, frames=64, bins=BINS).eval()
    spec = torch.randn(2, 1, 64, BINS)
    assert torch.equal(ast(spec), again(spec))
    assert again.model.config.id2label == {0: "high", 1: "low", 2: "naïve"}
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["config.json", "model.safetensors"]
    assert capfd.readouterr().err == ""  # no bars
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        ast.save_pretrained(tmp_path / "kept", ["high", "low"])


def test_random_weights_have_the_architecture_alone(folder):
    ast = ast_teacher(folder, CLASSES, frames=FRAMES, bins=BINS, pretrained=False)
    trained = ast_teacher(folder, CLASSES, frames=FRAMES, bins=BINS)
    assert ast.model.config.hidden_size == WIDTH
    assert positions(ast).std().item() == pytest.approx(0.02, rel=0.1)
    assert not torch.equal(positions(ast), positions(trained))


def test_deits_weights_give_what_deit_gives():
    torch.manual_seed(0)
    deit = timm.create_model("deit_tiny_distilled_patch16_224", img_size=64, depth=2).eval()
    torch.nn.init.normal_(deit.pos_embed, std=0.1)
    ast = _from_deit(deit, stride=16).eval()  # DeiT's own stride: the same patches
    spec = torch.randn(2, 64, 64)
    image = spec.transpose(1, 2)[:, None].expand(2, 3, 64, 64)  # rows of frequency, three equal colours
    expected = deit.forward_features(image)[:, :2].mean(1)
    assert torch.allclose(ast.audio_spectrogram_transformer(spec).pooler_output, expected, atol=1e-5)


def test_a_distilled_deit_becomes_an_ast_of_the_published_grid():
    ast = ast_teacher("deit_tiny_distilled_patch16_224", 5, frames=128, bins=128, pretrained=False)
    assert positions(ast).shape == (1, 2 + 12 * 12, 192)
    assert ast.eval()(torch.randn(1, 1, 128, 128)).shape == (1, 5)


def test_it_teaches_and_stands_behind_a_front_end(folder):
    teacher = FrozenTeacher(ast_teacher(folder, CLASSES, frames=FRAMES, bins=BINS))
    assert teacher(torch.randn(2, 1, FRAMES, BINS)).shape == (2, CLASSES)
    model = specenhance.with_frontend(ast_teacher(folder, CLASSES, frames=FRAMES, bins=BINS), "tfe2")
    assert model.num_classes == CLASSES
    model(torch.randn(2, 1, FRAMES, BINS)).sum().backward()
    # Hugging Face's own model, by what it calls its logits
    theirs = ASTForAudioClassification.from_pretrained(folder)
    taught = FrozenTeacher(theirs, transform=lambda spec: spec[:, 0])(torch.randn(2, 1, FRAMES, BINS))
    assert taught.shape == (2, CLASSES)


def test_what_cannot_be_is_said(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"frames=15, bins=64: AST needs at least one patch, 16 of each"):
        ast_teacher(folder, CLASSES, frames=15, bins=BINS)
    with pytest.raises(ValueError, match="'test_vit': AST starts from a distilled DeiT"):
        ast_teacher("test_vit", CLASSES)
    ast = ast_teacher(folder, CLASSES, frames=FRAMES, bins=BINS)
    with pytest.raises(ValueError, match=r"this AST takes spectrograms \(B, 1, 96, 64\), got \(2, 1, 64, 96\)"):
        ast(torch.randn(2, 1, 64, 96))
    with pytest.raises(ValueError, match=r"could not be fetched .* give a local folder .*--no-pretrained"):
        ast_teacher(tmp_path / "none", CLASSES)


def test_a_hub_that_cannot_be_reached_is_an_error_with_its_cure(monkeypatch):
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("We couldn't connect to the hub\nand more")

    for module in ("models.ast", "models.online"):  # no test asks the real hub
        monkeypatch.setattr(f"specenhance.{module}.require_hub", lambda *_, **__: None)
    monkeypatch.setattr(ASTForAudioClassification, "from_pretrained", offline)
    with pytest.raises(
        ValueError, match=r"AST 'MIT/ast' could not be fetched \(We couldn't connect to the hub\); give"
    ):
        ast_teacher("MIT/ast", CLASSES)
    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(ValueError, match=r"'deit_base_distilled_patch16_384' could not be fetched.*--no-pretrained"):
        ast_teacher("deit_base_distilled_patch16_384", CLASSES)
