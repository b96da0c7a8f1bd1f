"""Fused Triton kernels for the masks of specenhance: pool, a chain of 1-D convolutions, outer product.

The one public door is :func:`enhance`; :func:`refusal` says beforehand why a call would be refused. README.md beside this
file has the stages, their tiles and how to add a configuration. Importing this module imports triton.
"""

from specenhance_kernels.limits import MAX_CHANNELS, MAX_KERNEL, refusal
from specenhance_kernels.ops import enhance

__all__ = ["MAX_CHANNELS", "MAX_KERNEL", "enhance", "refusal"]
