"""Figures that others published and that recipes name; no module is needed to read them."""

__all__ = ["NORMALISATION"]

NORMALISATION = {
    "audioset": (-4.2677393, 4.5689974),
    "esc50": (-6.6268077, 5.358466),
    "speech_commands": (-6.845978, 5.5654526),
}
"""Mean and standard deviation of :class:`specenhance.KaldiFbank`'s log energies on a data set, as published with AST."""
