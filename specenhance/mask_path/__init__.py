"""The mask of :mod:`specenhance.functional`, computed fast.

:mod:`~specenhance.mask_path.dispatch` chooses between PyTorch and the fused Triton kernels.
:mod:`~specenhance.mask_path.cpu` computes the factors of a mask, faster than the formula on a CPU.
:mod:`~specenhance.mask_path.product` multiplies the factors onto a spectrogram, with a gradient that needs less memory.

Call the functions by their module (``dispatch.enhance``): ``torch.fx`` keeps a function as one step only under that name.
"""
