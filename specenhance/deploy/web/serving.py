"""Serve a page to a browser on this machine."""

from __future__ import annotations

import os
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["HOST", "server"]

HOST = "127.0.0.1"  # only this machine: browsers give the microphone only to pages of this machine and of https


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""

    def end_headers(self) -> None:
        """Have the browser ask each time: another model may be served here next."""
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")  # other pages may not read the model
        super().end_headers()


def server(folder: str | os.PathLike[str], port: int) -> ThreadingHTTPServer:
    """Make a server of a folder's files for browsers of this machine. Its method ``serve_forever`` runs it.

    Args:
        folder: the folder.
        port: the port. With 0 the system chooses a free one, see ``server_port``.

    Raises:
        OSError: if the port is in use.

    >>> with server(".", 0) as made:
    ...     made.server_port > 0
    True
    """
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Quiet, directory=os.fspath(folder)))
    except OSError as error:
        raise OSError(
            f"port {port}: cannot be used ({error.strerror}); choose another --port, or 0 for a free one"
        ) from error
