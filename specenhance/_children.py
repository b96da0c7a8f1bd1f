"""Processes that work for another one: they end when it ends."""

from __future__ import annotations

import os
import threading
from multiprocessing import parent_process

__all__ = ["end_with_parent"]


def end_with_parent() -> None:
    """End this process at once when the one that started it is gone: else it would hold work that the next call takes up."""
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
