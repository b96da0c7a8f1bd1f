"""Formats of exported files, one file a format."""
