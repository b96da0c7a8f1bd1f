"""One repair of Triton's interpreter, made only when the kernels are imported under ``TRITON_INTERPRET=1``.

Triton (at least 3.6) turns a scalar into a loop bound by ``int()`` of a one-element array, which NumPy 2.4 refuses. The repair
takes the array's element instead.
"""

from __future__ import annotations

import triton


def interpreted() -> bool:
    """Say whether kernels that are defined now are interpreted; if so, repair the interpreter's loops."""
    if not triton.knobs.runtime.interpret:
        return False
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor
    if not hasattr(patch, "takes_the_element"):

        def patch_lang_tensor(tensor, scope):
            patch(tensor, scope)
            scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

        patch_lang_tensor.takes_the_element = True  # type: ignore[attr-defined]
        interpreter._patch_lang_tensor = patch_lang_tensor
    return True
