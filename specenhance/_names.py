"""Names as they are shown: labels, files and folders may be called anything, and none of it may act as an instruction.

A name is kept exact in JSON and in the model's own files. Everywhere else it goes through one of these functions: on a
terminal and in a picture :func:`shown`, on a page :func:`markup`, in Markdown :func:`markdown` or :func:`markdown_code`, in a
table for spreadsheets :func:`cell`, in a file's name :func:`file_name`.
"""

from __future__ import annotations

import html
import re
import unicodedata

__all__ = ["cell", "file_name", "markdown", "markdown_code", "markup", "shown"]

JOINERS = "\u200c\u200d"  # invisible too, but Persian, Hindi and emoji are spelled with them
FORMULA = tuple("=+-@")
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(1, 10))}  # on Windows
LONGEST = 120  # bytes of a file's name; file systems take 255, and others add to it


def shown(name: object) -> str:
    r"""Give a name on one line of visible text: ``\n``, ``\x1b``, ``\u202e`` for what would break a line or act on a terminal.

    Escaped are control and format characters (the bidirectional marks and overrides among them), line and paragraph
    separators, halves of surrogate pairs (as in file names that are no UTF-8), private and unassigned characters. A
    backslash stays as it is, since Windows' paths are full of them.

    Source: Unicode's general categories; Unicode Technical Standard 55 on what bidirectional overrides hide.
    """
    text = str(name)
    return text if text.isascii() and text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if character in JOINERS or (category[0] != "C" and category not in ("Zl", "Zp")):
        return character
    return character.encode("unicode_escape").decode("ascii")


def markup(name: object) -> str:
    """Give a name as HTML, for text or for an attribute in quotes."""
    return html.escape(shown(name))


def markdown(name: object) -> str:
    """Give a name as Markdown, for a line of text or for a cell of a table; a table's ``|`` is escaped too.

    Source: CommonMark 0.31 on backslash escapes; an underscore between letters is none of its marks.
    """
    text = re.sub(r"[\\`*\[\]<>|&~$!]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", shown(name))
    return re.sub(r"^(\d*)([.)#+=:-])", r"\1\\\2", text)  # what starts a list, a heading, a rule


def markdown_code(name: object) -> str:
    """Give a name as code in Markdown, not for a table: between more backticks than it holds in a row itself."""
    text = shown(name)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if not text.strip() or text.startswith(("`", " ")) or text.endswith(("`", " ")) else ""
    return f"{fence}{space}{text}{space}{fence}"


def cell(name: object) -> str:
    """Give a name as a cell of a CSV that no spreadsheet runs: an apostrophe goes before one that starts as a formula.

    Source: OWASP, "CSV Injection".
    """
    text = shown(name)
    return f"'{text}" if unicodedata.normalize("NFKC", text).lstrip().startswith(FORMULA) else text


def file_name(name: object) -> str:
    """Give a name as a part of a path that every file system takes; two names may give the same one.

    Letters and digits of any script stay, and within it ``-``, ``.``, ``_`` and spaces; anything else becomes ``_``.
    """
    text = re.sub(r"[^\w.\- ]", "_", unicodedata.normalize("NFC", str(name)))
    while len(text.encode("utf-8")) > LONGEST:
        text = text[:-1]
    text = re.sub(r"^[. -]+|[. ]+$", "_", text)  # hidden in Unix, an option to its commands, cut off by Windows
    return f"_{text}" if not text or text.split(".")[0].upper() in RESERVED else text
