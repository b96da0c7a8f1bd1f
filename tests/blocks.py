"""Random spectrograms and the weights of random Enhancer Blocks, in float64."""

from itertools import pairwise

import torch
from torch import Tensor

from specenhance.functional import BlockWeights, PathWeights

CHAINS = [(1, 1), (2, 2), (1, 3, 1), (2, 4, 3, 2), (1, 2, 3, 2, 1)]


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def make_blocks(channels: tuple[int, ...], kernel: int = 5, bias: bool = True, seed: int = 0) -> list[BlockWeights]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    def make_path(c_in: int, c_out: int) -> PathWeights:
        return PathWeights(
            2 * draw(c_out, c_in, kernel) / (c_in * kernel) ** 0.5,
            draw(c_out).abs() if bias else None,
            2 * draw(c_out, c_out, kernel) / (c_out * kernel) ** 0.5,
            draw(c_out) if bias else None,
        )

    return [BlockWeights(make_path(a, b), make_path(a, b)) for a, b in pairwise(channels)]


def flat(blocks: list[BlockWeights]) -> list[Tensor]:
    return [weight for block in blocks for path in block for weight in path if weight is not None]


def unflat(tensors: tuple[Tensor, ...]) -> list[BlockWeights]:
    paths = [PathWeights(*tensors[i : i + 4]) for i in range(0, len(tensors), 4)]
    return [BlockWeights(*paths[i : i + 2]) for i in range(0, len(paths), 2)]
