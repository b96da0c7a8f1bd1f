"""What is raised for a file that is there but holds no usable sound."""

from pathlib import Path

__all__ = ["AudioError", "damaged", "ends_early"]

CURE = "copy it again, or take what is there by --allow-truncated (allow_truncated=True)"


class AudioError(ValueError):
    """A file that holds no usable sound; the message has the path, what is wrong, and the cure."""


def ends_early(path: Path, there: float, stated: float) -> AudioError:
    """Make the error for a file that holds fewer seconds than its header states."""
    return AudioError(f"{path}: ends after {there:.2f} s, before its header says ({stated:.2f} s); {CURE}")


def damaged(path: Path, after: float, reason: str) -> AudioError:
    """Make the error for a file that a decoder refused after so many seconds."""
    return AudioError(f"{path}: cannot be decoded after {after:.2f} s ({reason}): it is damaged or cut short; {CURE}")
