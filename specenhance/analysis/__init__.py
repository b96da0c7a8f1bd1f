"""What a model does with a data set, and what its mask does: numbers, then pictures, then pages."""
