"""Prepare names for pictures: without invisible characters, in fonts that have their letters, and not too long."""

from __future__ import annotations

import contextlib
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import matplotlib
from matplotlib import font_manager

from specenhance._names import shown

__all__ = ["Lettering", "lettering", "width"]

# Families with letters that matplotlib's own font lacks. Linux, Windows and macOS bring some of them.
FAMILIES = (
    *(f"Noto Sans CJK {region}" for region in ("SC", "JP", "KR", "TC", "HK")),
    *("Source Han Sans", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "Meiryo", "MS Gothic", "Malgun Gothic", "Microsoft JhengHei"),
    *("PingFang SC", "Hiragino Sans", "Hiragino Sans GB", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Segoe UI", "Tahoma", "Geeza Pro", "Nirmala UI", "Leelawadee UI", "Ebrima", "Gadugi", "Sylfaen"),
    *("Segoe UI Symbol", "Segoe UI Emoji", "Noto Emoji", "Symbola", "FreeSans"),
)
PREFIX = "Noto Sans"  # it has a family for every script

_told: set[str] = set()  # letters that the warning has named


class Lettering(NamedTuple):
    """Names ready to be drawn.

    Attributes:
        texts: text of each name.
        style: properties of the matplotlib texts that draw the names. They choose fonts, and switch mathematics off.

    >>> Lettering(["a"], {"parse_math": False}).texts
    ['a']
    """

    texts: list[str]
    style: dict[str, Any]


def lettering(names: Sequence[object], columns: int = 40) -> Lettering:
    r"""Make names ready to be drawn.

    Invisible characters are escaped, and so is a letter that no installed font has. A warning names such letters once.

    Args:
        names: labels or file names.
        columns: maximum number of columns, see :func:`width`. A longer name loses its middle.

    >>> lettering(["a\nb", "x" * 50], columns=9).texts
    ['a\\nb', 'xxxx…xxxx']
    """
    texts = [_shortened(shown(name), columns) for name in names]
    own = tuple(matplotlib.rcParams["font.family"])
    letters = frozenset("".join(texts))
    more, nowhere = _families(letters, own)
    if nowhere and _look_again():
        _families.cache_clear()
        more, nowhere = _families(letters, own)
    if nowhere:
        _tell(nowhere)
        escapes = {ord(letter): letter.encode("unicode_escape").decode("ascii") for letter in nowhere}
        texts = [_shortened(text.translate(escapes), columns) for text in texts]
    return Lettering(texts, {"family": [*own, *more], "parse_math": False, "usetex": False})


def width(text: str) -> int:
    """Count the columns that a text takes: one for a letter, two for a wide letter (Chinese, Japanese, Korean).

    >>> width("ab"), width("水")
    (2, 2)
    """
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _shortened(text: str, columns: int) -> str:
    if width(text) <= columns:
        return text
    head, tail = text, text
    while width(head) > columns // 2:
        head = head[:-1]
    while width(tail) > columns - columns // 2 - 1:
        tail = tail[1:]
    return f"{head}…{tail}"


@cache
def _families(letters: frozenset[str], own: tuple[str, ...]) -> tuple[list[str], frozenset[str]]:
    """List the families to add to the user's own for some letters, and the letters that no family has."""
    missing = set(letters)
    for family in own:
        missing -= _had(missing, family)
    more = []
    for family in _candidates() if missing else ():
        if found := _had(missing, family):
            more.append(family)
            missing -= found
        if not missing:
            break
    return more, frozenset(missing)


def _candidates() -> Iterator[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    yield from (family for family in FAMILIES if family in installed)
    yield from sorted(name for name in installed if name.startswith(PREFIX) and name not in FAMILIES)


def _had(letters: Iterable[str], family: str) -> set[str]:
    """Give those of some letters that a family's font has."""
    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties(family=[family])))
    return {letter for letter in letters if font.get_char_index(ord(letter))}


@cache
def _look_again() -> bool:
    """Load fonts that were installed after matplotlib listed the fonts. Say whether there are any."""
    manager = font_manager.fontManager
    new = set(font_manager.findSystemFonts()) - {font.fname for font in manager.ttflist}
    for path in new:
        with contextlib.suppress(Exception):  # a broken font must not stop the drawing
            manager.addfont(path)
    return bool(new)


def _tell(letters: Iterable[str]) -> None:
    if not _told:
        _told.update(letters)
        some = ", ".join(
            f"{letter} ({letter.encode('unicode_escape').decode('ascii')})" for letter in sorted(_told)[:5]
        )
        logging.getLogger(__name__).warning(
            "no installed font has %s%s: pictures show such letters as codes; install a font that has them, "
            "such as Noto (Debian and Ubuntu: fonts-noto-core, fonts-noto-cjk)",
            some,
            ", ..." if len(_told) > 5 else "",
        )
