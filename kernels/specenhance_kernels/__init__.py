"""Fused Triton kernels for the masks of specenhance: pool, a chain of 1-D convolutions, outer product.

:func:`enhance` is the one public function that computes. :func:`refusal` says why it would refuse a call. README.md in the
folder above has the stages, their tiles and how to add a configuration. This module imports triton.
"""

from specenhance_kernels.limits import MAX_CHANNELS, MAX_KERNEL, refusal
from specenhance_kernels.ops import enhance

__all__ = ["MAX_CHANNELS", "MAX_KERNEL", "enhance", "refusal"]
