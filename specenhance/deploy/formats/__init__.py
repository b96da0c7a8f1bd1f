"""Formats of exported files. Each module holds one format."""
