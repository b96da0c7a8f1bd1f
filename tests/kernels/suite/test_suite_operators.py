"""The operators: PyTorch's own checks, compiling, export, autocast, what is saved and computed, and refusals."""

import pytest
import torch
from torch import nn

import specenhance_kernels
from specenhance.frontends.mask import MaskFrontend
from specenhance_kernels import ops
from specenhance_kernels.limits import refusal

SHAPE = (2, 1, 9, 7)


def flat(module: MaskFrontend) -> list[torch.Tensor]:
    return [weight for block in module.weights() for path in block for weight in path]


@pytest.mark.parametrize("standardise", [False, True])
def test_opcheck(small, device, standardise):
    spec = torch.randn(SHAPE, device=device, requires_grad=True)
    forward = (spec, flat(small), torch.float32, standardise)
    torch.library.opcheck(torch.ops.specenhance.enhance.default, forward)
    saved = torch.ops.specenhance.enhance(*forward)[1]
    weights = [weight.detach() for weight in flat(small)]
    backward = (
        torch.randn(SHAPE, device=device),
        spec.detach(),
        saved,
        weights,
        torch.float32,
        standardise,
        True,
        True,
    )
    torch.library.opcheck(torch.ops.specenhance.enhance_backward.default, backward)


@pytest.mark.parametrize(("dynamic", "compilations"), [(None, 2), (True, 1)])
def test_compiles_whole_and_not_again_for_a_new_batch_size(small, device, dynamic, compilations):
    # With dynamic=None the first batch size is compiled in, and the second compiles once more, for any.
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("inductor")
    compiled = torch.compile(small, fullgraph=True, dynamic=dynamic, backend=counter)
    for batch in (2, 3, 4):
        spec = torch.randn(batch, *SHAPE[1:], device=device, requires_grad=True)
        expected = torch.autograd.grad(small(spec).square().sum(), [spec, *small.parameters()])
        got = torch.autograd.grad(compiled(spec).square().sum(), [spec, *small.parameters()])
        torch.testing.assert_close(got, expected)
    assert counter.frame_count == compilations


def test_export(small, device):
    batch = torch.export.Dim("batch", min=1, max=64)
    spec = torch.randn(SHAPE, device=device)
    program = torch.export.export(small, (spec,), dynamic_shapes={"spec": {0: batch}})
    spec = torch.randn(5, *SHAPE[1:], device=device)
    torch.testing.assert_close(program.module()(spec), small(spec))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast(small, device, dtype):
    spec = torch.randn(SHAPE, device=device).to(dtype)
    expected = MaskFrontend(small.channels, small.kernel_size, "torch").to(device)
    expected.load_state_dict(small.state_dict())
    with torch.autocast(device.type, torch.bfloat16):
        out = small(spec)
        out.float().square().sum().backward()
        torch.testing.assert_close(out, expected(spec), rtol=2**-6, atol=2**-6)
    assert out.dtype == dtype
    assert all(weight.grad.dtype == torch.float32 for weight in small.parameters())


def test_autocast_reaches_the_matrix_products(small, device, monkeypatch):
    seen = []
    arithmetic = ops.arithmetic
    monkeypatch.setattr(ops, "arithmetic", lambda operand, where: seen.append(operand) or arithmetic(operand, where))
    with torch.autocast(device.type, torch.bfloat16):
        out = small(torch.randn(SHAPE, device=device))
    out.sum().backward()  # outside autocast, as it should be: what forward used is remembered
    assert seen == [torch.bfloat16] * 2


def test_spectrogram_gradient_only_where_needed(small, device, monkeypatch):
    calls = []
    monkeypatch.setattr(ops, "spec_grad", lambda *arguments: calls.append("spec_grad"))
    small(torch.randn(SHAPE, device=device)).sum().backward()
    assert calls == []
    monkeypatch.setattr(ops, "weight_grad", lambda *arguments: calls.append("weight_grad"))
    small.requires_grad_(False)
    small(torch.randn(SHAPE, device=device, requires_grad=True)).sum().backward()
    assert calls == ["spec_grad"]


def test_launches(device, monkeypatch):
    counted = {}

    def count(module, name):
        original = getattr(module, name)

        class Counted:
            def __getitem__(self, grid):
                counted[name] = counted.get(name, 0) + 1
                return original[grid]

        monkeypatch.setattr(module, name, Counted())

    import specenhance_kernels as k

    for module, names in (
        (k.pool, ["pool_kernel"]),
        (k.chain, ["block_forward_kernel", "block_backward_kernel"]),
        (k.apply, ["weigh_kernel", "factor_grad_kernel"]),
        (k.weights, ["weight_grad_kernel", "sum_segments_kernel"]),
        (k.standardise, ["moments_kernel", "standardise_backward_kernel"]),
    ):
        for name in names:
            count(module, name)
    for standardise in (False, True):
        counted.clear()
        module = MaskFrontend((1, 2, 2, 2, 1), 3, "triton", standardise).to(device)
        out = module(torch.randn(SHAPE, device=device))
        assert sum(counted.values()) == (10 if standardise else 6)  # n + 2, and n
        counted.clear()
        out.sum().backward()
        assert sum(counted.values()) == (
            13 if standardise else 10
        )  # 2 n + 2, and n - 1: the spectrogram needs no gradient


def test_saved_is_the_spectrogram_itself_and_1d_data(device):
    B, C, T, F = 2, 1, 256, 192
    module = MaskFrontend((1, 1), 3, "triton").to(device)
    spec = torch.randn(B, C, T, F, device=device)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        module(spec)
    planes = [tensor for tensor in saved if tensor.numel() >= spec.numel()]
    assert [tensor.data_ptr() for tensor in planes] == [spec.data_ptr()]
    assert sum(tensor.numel() for tensor in saved) < 1.5 * spec.numel()


def test_second_derivative_is_a_clear_error(small, device):
    spec = torch.randn(SHAPE, device=device, requires_grad=True)
    (first,) = torch.autograd.grad(small(spec).sum(), spec, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative.*backend='torch'"):
        first.sum().backward()


@pytest.mark.parametrize("standardise", [False, True])
def test_ten_steps_of_training_as_the_torch_backend(device, standardise):
    spec, label = torch.randn(4, 1, 20, 16, device=device), torch.arange(4, device=device) % 3
    losses = {}
    for backend in ("torch", "triton"):
        torch.manual_seed(1)
        frontend = MaskFrontend((1, 3, 1), 5, backend, standardise)
        model = nn.Sequential(frontend, nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).to(
            device
        )
        model(spec)
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        losses[backend] = []
        for _ in range(10):
            loss = nn.functional.cross_entropy(model(spec), label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses[backend].append(loss.item())
    assert losses["torch"][-1] < 0.8 * losses["torch"][0]
    assert losses["triton"] == pytest.approx(losses["torch"], abs=1e-4)


@pytest.mark.parametrize(
    ("channels", "kernel", "dtype", "words"),
    [
        ((1, 129, 1), 3, torch.float32, "129 channels wide.*up to 128"),
        ((1, 1), 33, torch.float32, "33 taps.*odd number up to 31"),
        ((1, 1), 3, torch.float64, "spectrogram is torch.float64.*convert"),
    ],
)
def test_refusals_have_a_reason(device, channels, kernel, dtype, words):
    spec = torch.randn(SHAPE, device=device, dtype=dtype)
    module = MaskFrontend(channels, kernel, "triton").to(device, dtype)
    with pytest.raises(ValueError, match=words):
        module(spec)
    with pytest.raises(ValueError, match=words):
        specenhance_kernels.enhance(spec, flat(module))
    module.backend = "auto"
    assert module(spec).shape == spec.shape


def test_refusals_of_weights(small, device):
    spec, weights = torch.randn(SHAPE, device=device), flat(small)
    assert refusal(spec, weights) is None
    assert "expected 8 a block" in refusal(spec, weights[:-1])
    assert "no bias" in refusal(spec, [weights[0], None, *weights[2:]])
    assert "all in one of" in refusal(spec, [*weights[:-1], weights[-1].half()])
    assert "expected (4, 1, 3)" in refusal(spec, [weights[0][:, :0], *weights[1:]])
    assert "gives 4 channels" in refusal(spec, weights[:8])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: a CUDA graph cannot be captured")
def test_cuda_graph(small, device):
    spec = torch.randn(SHAPE, device=device, requires_grad=True)
    model = torch.cuda.make_graphed_callables(small, (spec,))
    torch.testing.assert_close(model(spec), MaskFrontend.forward(small, spec))
