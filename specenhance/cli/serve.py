"""``serve``: a model in a web page on this machine."""

from __future__ import annotations

import signal
import tempfile
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from specenhance.cli.console import say, told

__all__ = ["COMMANDS", "serve"]


def serve(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|PAGE", help="A run folder, or a page that 'specenhance export --format web' wrote."
        ),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port. 0 takes a free one.")] = 8000,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser.")] = True,
) -> None:
    """Serve a page that listens with a run's model to the browsers of this machine, until Ctrl-C."""
    with told(), ExitStack() as stack:
        from specenhance.deploy.web.page import is_page
        from specenhance.deploy.web.serving import HOST, server

        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the temporary page is removed
        page = run if is_page(run) else Path(stack.enter_context(tempfile.TemporaryDirectory())) / "page"
        made = stack.enter_context(server(page, port))  # before the work: the port may be in use
        if page != run:
            from specenhance.training.exporting import export_run

            export_run(run, page, format="web")
        address = f"http://{HOST}:{made.server_port}/"
        say(f"{address}, until Ctrl-C")
        if open_:
            webbrowser.open(address)
        try:
            made.serve_forever()
        except KeyboardInterrupt:
            say("stopped")


COMMANDS = {"serve": serve}
