"""Feature matching: the distance against numpy, float64, and timm's own task; which features are compared."""

import numpy as np
import pytest
import timm
import torch
from timm.task import FeatureDistillationTask
from torch import nn

from specenhance import ast_teacher, with_frontend
from specenhance.distillation.feature import FeatureLoss, PooledFeatures, feature_distance, last_layer, pooled
from specenhance.distillation.teachers import FrozenTeacher, Reordered

B, C, S, T = 6, 3, 8, 4


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    shapes = ((B, C), (B, S), (B, T))
    logits, student, teacher = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return logits, student, teacher, torch.tensor([0, 2, 1, 1, 0, 2])


def distance(s, t, kind):
    if kind == "mse":
        return ((s - t) ** 2).sum() / s.size
    return np.mean([1 - a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for a, b in zip(s, t, strict=True)])


@pytest.mark.parametrize("kind", ["mse", "cosine"])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_is_the_formula(batch, kind, weight):
    logits, student, teacher, target = batch
    loss = FeatureLoss(nn.CrossEntropyLoss(), (S, T), weight, kind).double()
    found = loss(logits, student, teacher.requires_grad_(), target)
    matrix, bias = (p.detach().numpy() for p in loss.projector.parameters())
    expected = distance(student.numpy() @ matrix.T + bias, teacher.detach().numpy(), kind)
    label = nn.functional.cross_entropy(logits, target).item()
    assert found.distill.item() == pytest.approx(expected, rel=1e-12)
    assert found.total.item() == pytest.approx(weight * label + (1 - weight) * expected, rel=1e-12)
    found.total.backward()
    assert teacher.grad is None
    assert loss.projector.weight.grad is not None  # also at 1, where it is 0
    assert loss(logits, student, teacher, target, weight=0.5).total.item() == pytest.approx((label + expected) / 2)


def test_features_of_one_width_need_no_projector(batch):
    logits, student, _, target = batch
    loss = FeatureLoss(nn.CrossEntropyLoss(), (S, S))
    assert not list(loss.parameters())
    assert loss(logits, student, student, target).distill == 0


def test_what_cannot_be_compared_is_refused(batch):
    with pytest.raises(ValueError, match=r"features are \(6, 8\), the teacher's \(6, 4\)"):
        feature_distance(batch[1], batch[2])
    with pytest.raises(ValueError, match="distance = 'l1': expected one of mse, cosine"):
        FeatureLoss(nn.CrossEntropyLoss(), (S, T), distance="l1")
    with pytest.raises(ValueError, match=r"weight=2"):
        FeatureLoss(nn.CrossEntropyLoss(), (S, T), 2)
    with pytest.raises(ValueError, match=r"Sequential does not say .*get_classifier\(\).*kd_loss = 'paper'"):
        last_layer(nn.Sequential(nn.Linear(2, 2)))


def test_timms_task_gives_the_same_loss():
    torch.manual_seed(0)
    student = timm.create_model("test_resnet", in_chans=1, num_classes=C).eval()
    teacher = timm.create_model("test_vit", in_chans=1, num_classes=C, img_size=32).eval()
    task = FeatureDistillationTask(
        student, teacher, criterion=nn.CrossEntropyLoss(), task_loss_weight=0.3, verbose=False
    ).eval()
    spec, target = torch.randn(B, 1, 32, 32), torch.tensor([0, 2, 1, 1, 0, 2])
    theirs = task(spec, target)
    loss = FeatureLoss(nn.CrossEntropyLoss(), (96, 64), 0.3)
    loss.projector.load_state_dict(task.trainable_module.projection.state_dict())
    with pooled(student) as features:
        logits = student(spec)
    ours = loss(logits, features[0], PooledFeatures(teacher)(spec), target)
    assert ours.total.item() == pytest.approx(theirs["loss"].item(), rel=1e-5)
    assert ours.distill.item() == pytest.approx(theirs["kd_loss"].item(), rel=1e-5)


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "mobilenetv3_small_050", "efficientnet_b0", "convnext_atto", "resnetv2_50"]
)
def test_the_features_of_timms_models_are_those_before_their_logits(name):
    model = timm.create_model(name, in_chans=1, num_classes=C, **({"img_size": 64} if "vit" in name else {})).eval()
    spec = torch.randn(2, 1, 64, 64)
    expected = model.forward_head(model.forward_features(spec), pre_logits=True)
    found = PooledFeatures(with_frontend(model, "identity"))(spec)
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_features_of_an_ast_are_its_pooled_tokens():
    ast = ast_teacher("deit_tiny_distilled_patch16_224", 3, frames=32, bins=32, pretrained=False).eval()
    spec = torch.randn(2, 1, 32, 32)
    expected = ast.model.audio_spectrogram_transformer(spec[:, 0]).pooler_output
    assert torch.equal(FrozenTeacher(PooledFeatures(Reordered(ast, [2, 0, 1])))(spec), expected)


def test_nothing_is_left_on_the_model():
    model = timm.create_model("test_resnet", in_chans=1, num_classes=C)
    with pytest.raises(RuntimeError, match="anything"), pooled(model):
        raise RuntimeError("anything")
    assert not model.fc._forward_pre_hooks
