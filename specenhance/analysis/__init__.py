"""Analyse a model and its mask on a data set: numbers, pictures and a page."""
