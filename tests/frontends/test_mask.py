"""Front ends whose modules somebody has changed: what is called, what is refused, and that the values are those of the call."""

import copy
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from specenhance import TFE, functional, with_frontend
from specenhance.mask_path import dispatch


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def make(backend: str = "auto") -> TFE:
    """A TFE(2) in float64 none of whose paths is off."""
    torch.manual_seed(0)
    frontend = TFE(n=2, channels=(1, 4, 1), kernel_size=5, backend=backend).double()
    for block in frontend.blocks:
        for path in (block.time, block.freq):
            nn.init.ones_(path.conv1.bias)
    return frontend


def convolutions(frontend: TFE) -> list[nn.Conv1d]:
    return [module for module in frontend.modules() if isinstance(module, nn.Conv1d)]


SPEC = random(2, 1, 11, 7, seed=1)


class LowRank(nn.Module):
    """A wrapper as LoRA's: the convolution, and a small one beside it."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.base = conv
        self.beside = nn.Conv1d(conv.in_channels, conv.out_channels, 1, bias=False, dtype=conv.weight.dtype)

    def forward(self, z: Tensor) -> Tensor:
        return self.base(z) + self.beside(z)


def twice(module: nn.Module, inputs: Any, output: Any) -> Any:
    return tuple(2 * x for x in output) if isinstance(output, tuple) else 2 * output


def patch_forward(frontend: TFE) -> None:
    conv = frontend.blocks[0].time.conv1
    forward = conv.forward
    conv.forward = lambda z: 2 * forward(z)


def low_rank(frontend: TFE) -> None:
    frontend.blocks[0].freq.conv2 = LowRank(frontend.blocks[0].freq.conv2)


def dilate(frontend: TFE) -> None:
    frontend.blocks[0].time.conv2 = nn.Conv1d(4, 4, 5, padding=4, dilation=2).double()


def old_weight_norm(frontend: TFE) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for conv in convolutions(frontend):
            nn.utils.weight_norm(conv)
    with torch.no_grad():
        for conv in convolutions(frontend):
            conv.weight_g.mul_(1.5)  # what weight says now is out of date


def new_weight_norm(frontend: TFE) -> None:
    for conv in convolutions(frontend):
        parametrizations.weight_norm(conv)
        with torch.no_grad():
            conv.parametrizations.weight.original0.mul_(1.5)


def pruned(frontend: TFE) -> None:
    for conv in convolutions(frontend):
        prune.l1_unstructured(conv, "weight", amount=0.5)
    with torch.no_grad():
        for conv in convolutions(frontend):
            conv.weight_orig.mul_(1.5)


CHANGES: dict[str, Callable[[TFE], Any]] = {
    "prune": pruned,
    "weight_norm": old_weight_norm,
    "parametrised weight_norm": new_weight_norm,
    "a hook on a convolution": lambda f: f.blocks[1].time.conv2.register_forward_hook(twice),
    "a hook on a path": lambda f: f.blocks[0].freq.register_forward_hook(twice),
    "a hook on a block": lambda f: f.blocks[0].register_forward_hook(twice),
    "a hook before a path": lambda f: f.blocks[0].time.register_forward_pre_hook(lambda module, args: (2 * args[0],)),
    "a forward of its own": patch_forward,
    "a low-rank wrapper": low_rank,
    "another convolution": dilate,
}


def literal(frontend: TFE, spec: Tensor) -> Tensor:
    """The paper's chain written out, every module called."""
    mask = spec
    for block in frontend.blocks:
        mask = functional.outer(*block(mask.mean(dim=-1), mask.mean(dim=-2)))
    return spec * mask


@pytest.mark.parametrize("name", CHANGES)
def test_a_module_that_was_changed_is_called(name: str) -> None:
    frontend = make()
    before = frontend(SPEC)
    CHANGES[name](frontend)
    expected = literal(frontend, SPEC)
    assert not torch.allclose(expected, before)
    torch.testing.assert_close(frontend(SPEC), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(SPEC * frontend.mask(SPEC), expected, rtol=1e-12, atol=1e-14)
    parameters = list(frontend.parameters())
    for found, wanted in zip(
        torch.autograd.grad(frontend(SPEC).square().sum(), parameters),
        torch.autograd.grad(literal(frontend, SPEC).square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", CHANGES)
def test_the_kernels_are_refused_where_weights_do_not_say_what_a_module_computes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "triton_missing", lambda: None)
    frontend = make("triton")
    CHANGES[name](frontend)
    with pytest.raises(
        ValueError, match=r"backend='triton' cannot run here: blocks\.\d.* is no plain \w+: .*'auto' or 'torch'"
    ):
        frontend(SPEC)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("module_dtype", [torch.float32, torch.bfloat16])
def test_calling_gives_what_reading_gives(dtype: torch.dtype, module_dtype: torch.dtype) -> None:
    frontend, spec = make().to(module_dtype), SPEC.to(dtype)
    read = frontend(spec)
    seen: list[Any] = []
    for module in frontend.blocks.modules():
        module.register_forward_hook(lambda module, *_: seen.append(module))
    called = frontend(spec)
    assert set(seen) == set(frontend.blocks.modules()) - {frontend.blocks}
    assert called.dtype == dtype
    tolerance = 8 * max(torch.finfo(dtype).eps, torch.finfo(module_dtype).eps)
    torch.testing.assert_close(called, read, rtol=tolerance, atol=tolerance)


def test_autocast_where_modules_are_called() -> None:
    frontend, spec = make().float(), SPEC.float()
    read = frontend(spec)
    frontend.blocks[0].register_forward_hook(lambda *_: None)
    with torch.autocast("cpu", torch.bfloat16):
        called = frontend(spec)
    assert called.dtype == torch.float32
    torch.testing.assert_close(called, read, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("register", ["register_module_forward_hook", "register_module_forward_pre_hook"])
def test_a_hook_on_every_module_meets_the_chains(register: str) -> None:
    frontend, seen = make(), []
    expected = frontend(SPEC)
    handle = getattr(nn.modules.module, register)(lambda module, *_: seen.append(module))
    try:
        torch.testing.assert_close(frontend(SPEC), expected, rtol=1e-12, atol=1e-14)
    finally:
        handle.remove()
    assert {frontend.blocks[0], frontend.blocks[1].freq, *convolutions(frontend)} <= set(seen)


def test_gradients_pass_the_hooks_that_wait_for_them() -> None:
    frontend, seen = make(), []
    path = frontend.blocks[1].freq
    path.register_full_backward_hook(lambda *_: seen.append("backward"))
    path.conv1.register_full_backward_pre_hook(lambda *_: seen.append("before"))
    frontend(SPEC.clone().requires_grad_()).sum().backward()
    assert sorted(seen) == ["backward", "before"]


def test_a_pruned_front_end_is_its_weights_without_those_cut_and_trains_as_such() -> None:
    frontend, plain = make(), make()
    for conv, other in zip(convolutions(frontend), convolutions(plain), strict=True):
        prune.random_unstructured(conv, "weight", amount=0.3)
        with torch.no_grad():
            other.weight.mul_(conv.weight_mask)
    torch.testing.assert_close(frontend(SPEC), plain(SPEC), rtol=1e-12, atol=1e-14)
    frontend(SPEC).square().sum().backward()
    for conv in convolutions(frontend):
        assert conv.weight_orig.grad is not None
        assert not conv.weight_orig.grad[conv.weight_mask == 0].any()
    for conv in convolutions(frontend):
        prune.remove(conv, "weight")
    torch.testing.assert_close(frontend(SPEC), plain(SPEC), rtol=1e-12, atol=1e-14)
    assert frontend._plain_weights() is not None, "what was removed slows nothing down"


@pytest.mark.parametrize("name", ["prune", "weight_norm", "parametrised weight_norm", "a low-rank wrapper"])
def test_state_and_copies_of_a_changed_front_end(name: str) -> None:
    frontend, other = make(), make()
    for module in (frontend, other):
        CHANGES[name](module)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    expected = other(SPEC)
    assert not torch.allclose(frontend(SPEC), expected)
    frontend.load_state_dict(other.state_dict())
    torch.testing.assert_close(frontend(SPEC), expected, rtol=0, atol=0)
    copied = copy.deepcopy(frontend)
    torch.testing.assert_close(copied(SPEC), expected, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.mul_(-1)
    assert not torch.allclose(copied(SPEC), expected)
    torch.testing.assert_close(frontend(SPEC), expected, rtol=0, atol=0)
    model = copy.deepcopy(with_frontend(nn.Flatten(), frontend))
    torch.testing.assert_close(model.enhance(SPEC), expected, rtol=0, atol=0)


@pytest.mark.skipif("onednn" not in torch.backends.quantized.supported_engines, reason="no quantised convolutions here")
@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated:DeprecationWarning")
def test_quantised_convolutions_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.ao import quantization

    monkeypatch.setattr(torch.backends.quantized, "engine", "onednn")
    frontend, spec = make().float().eval(), SPEC.float()
    expected = frontend(spec)
    frontend.blocks[0].time.conv2 = quantization.QuantWrapper(frontend.blocks[0].time.conv2)
    frontend.blocks[0].time.conv2.qconfig = quantization.get_default_qconfig("onednn")
    prepared = quantization.prepare(frontend)
    prepared(spec)
    quantised = quantization.convert(prepared)
    assert "quantized" in type(quantised.blocks[0].time.conv2.module).__module__
    assert not torch.equal(quantised(spec), expected)
    torch.testing.assert_close(quantised(spec), expected, rtol=0.05, atol=0.02)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch is built without torch.distributed")
def test_blocks_that_fully_shard_has_sharded() -> None:
    from torch import distributed
    from torch.distributed.fsdp import fully_shard

    frontend = make().float()
    expected, spec = copy.deepcopy(frontend), SPEC.float()
    distributed.init_process_group(
        "gloo", store=distributed.HashStore(), rank=0, world_size=1, timeout=timedelta(seconds=60)
    )
    try:
        mesh = distributed.init_device_mesh("cpu", (1,))
        for block in frontend.blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(frontend, mesh=mesh)
        torch.testing.assert_close(frontend(spec), expected(spec))
        frontend(spec).square().sum().backward()
        expected(spec).square().sum().backward()
        for found, wanted in zip(frontend.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(found.grad.full_tensor(), wanted.grad)
    finally:
        distributed.destroy_process_group()


def test_a_changed_front_end_compiles_into_one_graph() -> None:
    frontend = make()
    low_rank(frontend)
    frontend.blocks[1].time.register_forward_hook(twice)
    compiled = torch.compile(frontend, fullgraph=True, backend="eager")
    try:
        torch.testing.assert_close(compiled(SPEC), frontend(SPEC), rtol=1e-10, atol=1e-12)
    finally:
        torch.compiler.reset()
