"""Each front end against an independent implementation, in float64, and against the rules that all of them keep."""

import math

import numpy as np
import pytest
import scipy.signal
import timm
import torch
import torchaudio

from specenhance import KaldiFbank, create_frontend, list_frontends, with_frontend
from specenhance.frontends.pcen import smooth
from specenhance.testing import check_frontend

MORE = ("clipnorm+tfe4", "pcen+freqnorm", "delta+eca", "rfn+coord", "binnorm+delta+cbam")


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3 - 4


@pytest.mark.parametrize("name", [*list_frontends(), *MORE])
def test_every_front_end_keeps_the_rules(name):
    check_frontend(name)


@pytest.mark.parametrize("name", [*list_frontends(), "delta+coordattn"])
def test_on_two_channels(name):
    check_frontend(name, in_chans=2)


REAL = torch.tensor([[True] * 9, [True] * 4 + [False] * 5])


def by_numpy(spec, real, axes):
    """Normalise each clip's real frames by their own moments, clip by clip, as NumPy has it."""
    out = np.zeros(spec.shape)
    for b in range(len(spec)):
        frames = spec[b].numpy()[:, real[b].numpy()]
        out[b][:, real[b].numpy()] = (frames - frames.mean(axes, keepdims=True)) / np.sqrt(
            frames.var(axes, keepdims=True) + 1e-5
        )
    return out


@pytest.mark.parametrize(("name", "axes"), [("clipnorm", (1, 2)), ("binnorm", (1,))])
def test_normalisations(name, axes):
    spec = noise(2, 3, 9, 5)
    found = create_frontend(name, in_chans=3)(spec, REAL)
    np.testing.assert_allclose(found.numpy(), by_numpy(spec, REAL, axes), rtol=1e-12, atol=1e-12)


def test_clipnorm_is_pytorchs_instance_norm():
    spec = noise(2, 3, 9, 5)
    torch.testing.assert_close(
        create_frontend("clipnorm", 3)(spec), torch.nn.InstanceNorm2d(3)(spec), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("relax", [0, 0.3, 1])
def test_relaxed_normalisation(relax):
    spec = noise(2, 3, 9, 5)
    expected = relax * by_numpy(spec, REAL, (0, 1, 2)) + (1 - relax) * by_numpy(spec, REAL, (0, 1))
    found = create_frontend("rfn", 3, relax=relax)(spec, REAL)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_freqnorm_is_the_batch_norm_of_panns():
    spec = noise(4, 1, 9, 5)
    ours, theirs = create_frontend("freqnorm", bins=5).double(), torch.nn.BatchNorm2d(5).double()
    with torch.no_grad():
        ours.norm.weight.copy_(noise(5)), theirs.weight.copy_(ours.norm.weight)
        ours.norm.bias.copy_(noise(5, seed=1)), theirs.bias.copy_(ours.norm.bias)
    for _ in range(2):  # as PANNs has it: the bins become channels
        expected = theirs(spec.transpose(1, 3)).transpose(1, 3)
        torch.testing.assert_close(ours(spec), expected, rtol=1e-12, atol=1e-12)
        ours.eval(), theirs.eval()


def test_a_spectrogram_of_other_bins_is_refused():
    for name in ("freqnorm", "pcen"):
        with pytest.raises(ValueError, match="F=7 bins, and the front end was made for 5: make it with bins=7"):
            create_frontend(name, bins=5)(torch.zeros(1, 1, 4, 7))


@pytest.mark.parametrize(("window", "T"), [(5, 9), (3, 9), (9, 4), (5, 1)])
def test_differences_are_torchaudios(window, T):
    spec = noise(2, 2, T, 5)
    first = torchaudio.functional.compute_deltas(spec.transpose(2, 3), window).transpose(2, 3)
    second = torchaudio.functional.compute_deltas(first.transpose(2, 3), window).transpose(2, 3)
    found = create_frontend("delta", 2, window=window)(spec)
    torch.testing.assert_close(found, torch.cat([spec, first, second], 1), rtol=1e-12, atol=1e-12)


def test_coordinates():
    found = create_frontend("coord", 2)(noise(2, 2, 3, 4))
    assert found[:, 2].flatten().tolist() == pytest.approx([-1, -1 / 3, 1 / 3, 1] * 6)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_eca_by_its_formula():
    spec, made = noise(2, 4, 3, 5), create_frontend("eca", 4).double()
    taps = made.layer.conv.weight.detach().numpy().ravel()
    means = np.pad(spec.mean((2, 3)).numpy(), ((0, 0), (1, 1)))
    gate = sigmoid(sum(taps[k] * means[:, k : k + 4] for k in range(3)))
    np.testing.assert_allclose(made(spec).detach().numpy(), spec.numpy() * gate[:, :, None, None], rtol=1e-12)


def test_cbam_by_its_formula():
    spec, made = noise(2, 3, 6, 5), create_frontend("cbam", 3).double().eval()
    layer = made.layer
    first, second = (w.detach().numpy()[:, :, 0, 0] for w in (layer.channel.fc1.weight, layer.channel.fc2.weight))
    x = spec.numpy()
    shared = [np.maximum(pooled @ first.T, 0) @ second.T for pooled in (x.mean((2, 3)), x.max((2, 3)))]
    x = x * sigmoid(sum(shared))[:, :, None, None]
    planes = np.stack([x.mean(1), x.max(1)], 1)
    kernel = layer.spatial.conv.conv.weight.detach().numpy()[0]
    summed = np.stack(
        [sum(scipy.signal.correlate(clip[c], kernel[c], mode="same") for c in range(2)) for clip in planes]
    )
    norm = layer.spatial.conv.bn
    summed = summed / math.sqrt(1 + norm.eps)  # its running moments are 0 and 1
    np.testing.assert_allclose(made(spec).detach().numpy(), x * sigmoid(summed)[:, None], rtol=1e-10)


def test_coordinate_attention_by_its_formula():
    spec, made = noise(2, 3, 6, 5), create_frontend("coordattn", 3).double().eval()
    layer, x = made.layer, spec.numpy()
    w = {name: getattr(layer, name).weight.detach().numpy()[:, :, 0, 0] for name in ("conv1", "conv_h", "conv_w")}

    def hidden(means):  # (B, C, L)
        z = np.einsum("rc,bcl->brl", w["conv1"], means) / math.sqrt(1 + layer.bn1.eps)
        return z * np.clip(z + 3, 0, 6) / 6

    gate_t = sigmoid(np.einsum("cr,brl->bcl", w["conv_h"], hidden(x.mean(3))))
    gate_f = sigmoid(np.einsum("cr,brl->bcl", w["conv_w"], hidden(x.mean(2))))
    expected = x * gate_t[:, :, :, None] * gate_f[:, :, None, :]
    np.testing.assert_allclose(made(spec).detach().numpy(), expected, rtol=1e-10)


def pcen_by_a_loop(energies, s, alpha, delta, root, eps=1e-6, state=None):
    """Equation (1) of Wang et al., frame by frame."""
    smoothed, out = (energies[:, :, 0] if state is None else state), []
    for t in range(energies.shape[2]):
        smoothed = (1 - s) * smoothed + s * energies[:, :, t]
        out.append((energies[:, :, t] / (eps + smoothed) ** alpha + delta) ** root - delta**root)
    return np.stack(out, 2)


def with_random_parameters(bins):
    made = create_frontend("pcen", bins=bins).double()
    with torch.no_grad():
        for i, parameter in enumerate(made.parameters()):
            parameter.add_(0.5 * torch.randn(bins, dtype=torch.float64, generator=torch.Generator().manual_seed(i)))
    s, *others = (p.detach().numpy() for p in (made.s_logit, made.alpha_log, made.delta_log, made.root_log))
    return made, (sigmoid(s), *(np.exp(p) for p in others))


@pytest.mark.parametrize("T", [1, 2, 31, 32, 33, 64, 200, 512])
def test_pcen_by_a_loop(T):
    spec = noise(2, 1, T, 5)
    made, parameters = with_random_parameters(5)
    expected = pcen_by_a_loop(np.exp(spec.numpy()), *parameters)
    np.testing.assert_allclose(made(spec).detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_pcen_is_librosas():
    """librosa's smoother starts from the state that a constant input of 1 leaves; so does ours, if told."""
    librosa = pytest.importorskip("librosa")
    energies = noise(1, 1, 300, 4).exp()
    s, eps = 0.04, 1e-6
    expected = librosa.pcen(energies[0, 0].T.numpy(), b=s, gain=0.9, bias=1.5, power=0.4, eps=eps)
    made = create_frontend("pcen", bins=4, s=s, alpha=0.9, delta=1.5, root=0.4, eps=eps).double()
    # After the first frame librosa's M is s E_0 + (1 - s).
    found, _ = made.stream(energies.log(), torch.ones(1, 1, 4, dtype=torch.float64))
    np.testing.assert_allclose(found[0, 0].T.detach().numpy(), expected, rtol=1e-6)


def test_pcen_of_a_stream_is_that_of_the_whole():
    spec = noise(2, 1, 150, 5)
    made, _ = with_random_parameters(5)
    parts, state = [], None
    for part in spec.split([1, 40, 64, 45], dim=2):
        out, state = made.stream(part, state)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, 2), made(spec), rtol=1e-10, atol=1e-12)


def test_pcen_knows_the_features_normalisation():
    features = KaldiFbank(frames=40, num_mel_bins=32, mean=-7.0, std=3.0)
    raw = KaldiFbank(frames=40, num_mel_bins=32)
    backbone = timm.create_model("test_resnet", in_chans=1)
    wave = 0.1 * torch.randn(2, 8000)
    for name in ("pcen", "pcen+clipnorm"):
        one, other = (with_frontend(backbone, name, features=made).enhance(wave) for made in (features, raw))
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_fixed_pcen_has_no_parameter_that_learns():
    assert not any(p.requires_grad for p in create_frontend("pcen", learned=False).parameters())
    assert len(list(create_frontend("pcen").parameters())) == 4


@pytest.mark.parametrize("T", [1, 8, 9, 70])
def test_gradients_of_the_smoother(T):
    inputs = (noise(1, 1, T, 2).exp(), torch.tensor([0.9, 0.1]).double().log(), noise(1, 1, 2).exp())
    inputs = tuple(x.requires_grad_() for x in inputs)
    assert torch.autograd.gradcheck(smooth, inputs)
    assert torch.autograd.gradgradcheck(smooth, inputs)
    assert torch.autograd.gradcheck(smooth, inputs, check_forward_ad=True, check_backward_ad=False)


def test_gradients_of_pcen():
    made, _ = with_random_parameters(3)
    assert torch.autograd.gradcheck(made, (noise(1, 1, 40, 3).requires_grad_(),), atol=1e-6)


@pytest.mark.parametrize("name", ["clipnorm", "binnorm"])
def test_a_constant_spectrogram_is_exactly_zero(name):
    for value in (-1.3271, 0.1, 3.7e4):
        for real in (None, torch.arange(50)[None] < 37):
            assert not create_frontend(name)(torch.full((1, 1, 50, 128), value), real).any()
