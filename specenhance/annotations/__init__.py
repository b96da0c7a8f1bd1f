"""What is heard when in a sound file: annotations, written and read as CSV, JSON lines, Parquet, Raven's and Audacity's tables.

This package needs the standard library only, and pyarrow for Parquet.
"""

from specenhance.annotations.annotation import Annotation
from specenhance.annotations.tables import FORMATS, PER_SOUND, Format, format_of, read_annotations, write_annotations

__all__ = ["FORMATS", "PER_SOUND", "Annotation", "Format", "format_of", "read_annotations", "write_annotations"]
