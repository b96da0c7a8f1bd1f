"""A model over many and long sounds: what it finds, as tables; embeddings, and the search in them.

This package needs NumPy and what reads sound, not PyTorch. The model is given as a function that opens it.
"""

from specenhance.detection.detections import detected
from specenhance.detection.predicting import predict_sounds
from specenhance.detection.sounds import find_sounds
from specenhance.detection.thresholds import read_thresholds

__all__ = ["detected", "find_sounds", "predict_sounds", "read_thresholds"]
