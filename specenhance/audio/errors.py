"""The error for a file that holds no usable sound."""

from pathlib import Path

__all__ = ["AudioError", "damaged", "ends_early"]

CURE = "copy it again, or take what is there by --allow-truncated (allow_truncated=True)"


class AudioError(ValueError):
    """A file holds no usable sound. The message has the path, what is wrong, and what to do."""


def ends_early(path: Path, there: float, stated: float) -> AudioError:
    """Make the error for a file that holds fewer seconds of sound than its header states.

    Args:
        path: The file.
        there: Length that the file holds, in seconds.
        stated: Length that its header states, in seconds.

    >>> print(ends_early(Path("a.wav"), there=1.0, stated=2.0))
    a.wav: ends after 1.00 s, before its header says (2.00 s); copy it again, or take what is there by ...
    """
    return AudioError(f"{path}: ends after {there:.2f} s, before its header says ({stated:.2f} s); {CURE}")


def damaged(path: Path, after: float, reason: str) -> AudioError:
    """Make the error for a file that a decoder cannot read to its end.

    Args:
        path: The file.
        after: Length that was decoded before, in seconds.
        reason: What the decoder says.

    >>> print(damaged(Path("a.flac"), after=1.0, reason="lost sync"))
    a.flac: cannot be decoded after 1.00 s (lost sync): it is damaged or cut short; copy it again, or ...
    """
    return AudioError(f"{path}: cannot be decoded after {after:.2f} s ({reason}): it is damaged or cut short; {CURE}")
