"""Names are data: whatever a label or a file is called, nothing that shows it does what it says. Drawn by hypothesis."""

import csv
import io
import os
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from specenhance._names import JOINERS, cell, file_name, markdown, markdown_code, markup, shown

EVERYTHING = st.characters(exclude_categories=())  # halves of surrogate pairs too
TELLING = st.sampled_from(
    [
        *"\\`*_[]<>|&~$!#+-=:.)(1 '\"@\t\r\n",
        "\x1b[31m",
        "\x1b]0;t\x07",
        "\u202e",
        "\u200f",
        "\u2028",
        "&amp;",
        "<b>",
        "``",
        "\uff1d",
    ]
)
names = st.lists(EVERYTHING | TELLING | st.text("abc ", max_size=3), max_size=12).map("".join)
common = settings(deadline=None, derandomize=True, max_examples=300)


@common
@given(names)
@example("\x1b[31mred\x1b[0m \x1b]0;title\x07")
@example("line\nbreak\rreturn\u2028separator\x85next")
@example("user\u202etxt.exe \u2066isolate\u200fmark")
@example("caf\udce9")  # a file name that is no UTF-8
def test_a_name_is_shown_on_one_line_of_visible_text(name):
    text = shown(name)
    assert len(f"<{text}>".splitlines()) == 1
    assert all(unicodedata.category(c)[0] != "C" or c in JOINERS for c in text)
    text.encode("utf-8")  # raises for half a surrogate pair
    assert shown(text) == text


@common
@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs"))))
@example("C:\\sounds\\a.wav")
@example("می‌خواهم 猫 🧑‍🚀 $5_to_$10")
def test_what_is_visible_is_shown_as_it_is(name):
    assert shown(name) == name


@pytest.mark.parametrize(
    ("name", "text"), [("\x1b[31m", r"\x1b[31m"), ("a\nb\tc", r"a\nb\tc"), ("\u202e", r"\u202e"), ("\udce9", r"\udce9")]
)
def test_what_is_not_is_shown_as_python_writes_it(name, text):
    assert shown(name) == text


class _Text(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, attrs))

    def handle_data(self, data):
        self.text += data


@common
@given(names)
@example("</p><script>alert(1)</script>")
@example("\" onerror='x")
def test_a_page_shows_a_name_and_nothing_else(name):
    page = _Text(f'<p title="{markup(name)}">{markup(name)}</p>')
    assert page.tags == [("p", [("title", shown(name))])]
    assert page.text == shown(name)


def _rendered(source: str) -> list[tuple[str, str]]:
    """What a Markdown reader makes of a source: (type, content) of each inline token."""
    markdown_it = pytest.importorskip("markdown_it")
    blocks = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(source)
    return [(token.type, token.content) for block in blocks if block.type == "inline" for token in block.children or ()]


@common
@given(names.filter(lambda name: shown(name).strip()))
@example("_a_ __b__ a_b $5_to_$10 ~~c~~ <br> &lt; [x](y) ![z](w) |d| `e`")
@example("1. one")
@example("- item")
@example("# heading")
@example("---")
@example("=1+2")
@example("a\\|b\\")
def test_markdown_shows_a_name_and_nothing_else_in_text_and_in_tables(name):
    def read(source: str) -> str:
        tokens = _rendered(source)
        assert {kind for kind, _ in tokens} <= {"text", "text_special"}
        return "".join(content for _, content in tokens)

    assert read(markdown(name)).strip() == shown(name).strip()
    assert read(f"of the classes {markdown(name)}.") == f"of the classes {shown(name)}."
    cells = _rendered(f"| a | b |\n|---|---|\n| x{markdown(name)}x | y |\n")
    assert "".join(content for _, content in cells) == f"abx{shown(name)}xy"


@common
@given(names.filter(bool))
@example("`")
@example("a``b`")
@example(" padded ")
@example("<b>&amp;|\\*")
def test_markdown_code_shows_a_name_and_nothing_else(name):
    tokens = [token for token in _rendered(f"see {markdown_code(name)}.") if token[0] != "text"]
    ((kind, content),) = tokens
    assert kind == "code_inline"
    assert content.strip(" ") == shown(name).strip(" ")


@common
@given(names)
@example("=cmd|' /C calc'!A0")
@example("@SUM(1)")
@example("+1")
@example("-2+3")
@example("\t=1")
@example("  =1")
@example("\uff1d1")
@example('a",=1')
@example("")
def test_a_spreadsheet_takes_no_name_for_a_formula(name):
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_NONNUMERIC).writerows([[cell(name), 3], [cell(name), 4]])
    rows = list(csv.reader(io.StringIO(text.getvalue())))
    assert rows == [[cell(name), "3"], [cell(name), "4"]]
    assert unicodedata.normalize("NFKC", cell(name)).lstrip()[:1] not in tuple("=+-@\t\r\n")
    assert cell(name).removeprefix("'") == shown(name).removeprefix("'")
    assert (cell(name) == shown(name)) or shown(name).strip()


@common
@given(names | st.sampled_from(["", ".", "..", "CON", "nul.txt", "local-dir:../a/b", "x" * 400, "猫" * 100, "a. ."]))
def test_every_file_system_takes_a_file_name(tmp_path_factory, name):
    text = file_name(name)
    assert not set(text) & set('<>:"/\\|?*\0')
    assert 0 < len(os.fsencode(text)) <= 130
    assert text[0] not in ". -"
    assert text[-1] not in ". "
    assert shown(text) == text
    assert text.split(".")[0].upper() not in ("CON", "PRN", "AUX", "NUL", "COM1", "LPT9")
    path = tmp_path_factory.getbasetemp() / text
    path.touch()
    assert path.is_file()


def test_ordinary_names_stay():
    for name in ("tfe4.tf_efficientnetv2_b2", "mobilenetv3_small_050", "5 km", "猫", "صوت", "a-b"):
        assert (cell(name), file_name(name), shown(name)) == (name,) * 3
    assert markdown("mobilenetv3_small_050") == "mobilenetv3_small_050"
