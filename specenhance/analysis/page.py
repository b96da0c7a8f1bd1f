"""What pages share: their templates, and pictures for light and dark, wide and narrow screens, inside the page itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.text import Text

from specenhance._names import markup

__all__ = ["Picture", "data_uri", "environment", "picture"]

DARK = "(prefers-color-scheme: dark)"
NARROW = "(max-width: 50rem)"  # where panels stand one below the other


class Picture(NamedTuple):
    """A picture of the page.

    Attributes:
        text: description of the picture.
        image: the picture for a wide screen and a light background, as a data URI.
        sources: pictures for other screens, each with its media query.
        error: reason why it could not be drawn. Empty if it was drawn.
    """

    text: str
    image: str = ""
    sources: Sequence[tuple[str, str]] = ()
    error: str = ""


def environment(*packages: str) -> Environment:
    """Make the environment of templates. Their filter ``name`` shows a name as visible text and escapes it.

    Args:
        *packages: packages whose folders ``templates`` are searched before the one here, which has the parts and the style.

    >>> environment().from_string("{{ text | name }}").render(text="<b>")
    '&lt;b&gt;'
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "specenhance.analysis")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        undefined=StrictUndefined,
    )
    made.filters["name"] = lambda name: Markup(markup(name))  # escaped, and visible: see specenhance._names
    return made


def picture(draw: Callable[..., Figure], text: str, narrow: Mapping[str, Any] | None = None) -> Picture:
    """Draw a figure for a light and a dark background and, with the arguments ``narrow``, for narrow screens.

    Args:
        draw: what makes the figure.
        text: description of the picture.
        narrow: arguments of ``draw`` for a narrow screen; None takes the same picture.

    Returns:
        The picture. If it could not be drawn, the reason is in ``error``: a page without one picture is better than no page.

    >>> picture(Figure, "an empty figure").error
    ''
    """
    try:
        light, dark = _drawn(draw())
        sources = [(DARK, dark)]
        if narrow is not None:
            narrow_light, narrow_dark = _drawn(draw(**narrow))
            sources = [(f"{NARROW} and {DARK}", narrow_dark), (NARROW, narrow_light), *sources]
    except Exception as error:
        return Picture(text, error=f"{type(error).__name__}: {error}")
    return Picture(text, light, sources)


def _drawn(figure: Figure) -> tuple[str, str]:
    """Give a figure as two pictures, for a light and for a dark background."""
    pictures = []
    for ink in (None, "#e8e8e8"):
        if ink is not None:
            figure.set_layout_engine("none")  # the layout of the first picture is kept
            for text in figure.findobj(Text):
                text.set_color(ink)
            for axes in figure.axes:
                axes.tick_params(which="both", colors=ink)
                for spine in axes.spines.values():
                    spine.set_edgecolor(ink)
                if (legend := axes.get_legend()) is not None:
                    legend.get_frame().set_facecolor("#222222")
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=90, transparent=True, format="webp", pil_kwargs={"lossless": True})
        pictures.append(data_uri("image/webp", drawn))
    return pictures[0], pictures[1]


def data_uri(kind: str, content: io.BytesIO) -> str:
    """Give content as a data URI, such as ``data:image/webp;base64,...``.

    Args:
        kind: its media type.
        content: its bytes.

    >>> data_uri("text/plain", io.BytesIO(b"a"))
    'data:text/plain;base64,YQ=='
    """
    return f"data:{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
