"""The command line, ``specenhance COMMAND``: one file a family of commands.

A command parses its options, calls the library and prints. It imports the library when it runs, so that ``--help`` answers at
once.
"""

from specenhance.cli.program import app, main

__all__ = ["app", "main"]
