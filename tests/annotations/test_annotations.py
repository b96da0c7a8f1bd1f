"""Tables of annotations come back exactly, or are refused; and tables of other programs are read."""

import csv
import re
import sys

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specenhance._names import shown
from specenhance.annotations import FORMATS, PER_SOUND, Annotation, format_of, read_annotations, write_annotations
from specenhance.annotations import parquet as parquet_tables

SUFFIX = {"csv": ".csv", "jsonl": ".jsonl", "parquet": ".parquet", "raven": "", "audacity": ""}
NASTY = ["=1+2", "'=1+2", "+cmd|' /C calc'!A0", "@SUM(A1)", "-", "a,b", 'say "hi"', " padded ", "", "'Ōʻō", "NA", "猫", "\\",
         "#x", "a\tb", "two\nlines", "\x1b[31m", "\u202e", "\r", "\x00", "\udc80", "a;b", "=\n"]  # fmt: skip

names = st.one_of(st.sampled_from(NASTY), st.text(max_size=12))
numbers = st.floats(0, 1e6, allow_subnormal=False)


@st.composite
def annotations(draw):
    start, end = sorted([draw(numbers), draw(numbers)])
    low, high = sorted([draw(numbers), draw(numbers)])
    return Annotation(draw(names.filter(bool)), start, end, draw(names), draw(st.floats(0, 1)), low, high)


@settings(deadline=None, max_examples=120)
@given(kept=st.lists(annotations(), max_size=4), format=st.sampled_from(["csv", "jsonl", "parquet"]))
def test_a_table_comes_back_exactly_or_is_refused(kept, format, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / f"a{SUFFIX[format]}"
    hidden = any(shown(name) != name for one in kept for name in (one.file, one.label))
    try:
        write_annotations(path, kept)
    except ValueError:
        assert hidden
        assert format != "jsonl"
        assert list(path.parent.iterdir()) == []
        return
    assert format != "csv" or not hidden
    assert list(read_annotations(path)) == kept


@settings(deadline=None, max_examples=80)
@given(one=annotations(), format=st.sampled_from(list(PER_SOUND)))
def test_a_table_of_one_sound_comes_back_exactly_or_is_refused(one, format, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    one = one._replace(file=str(folder / "in" / "a.wav"))
    (folder / "in").mkdir()
    (folder / "in" / "a.wav").touch()
    try:
        write_annotations(folder / "out", [one, one._replace(start=0.0)], format)
    except ValueError:
        assert shown(one.label) != one.label
        assert not (folder / "out").exists()
        return
    (back, second) = read_annotations(folder / "out", sounds=folder / "in")
    assert back == (one if format == "raven" else one._replace(probability=None))
    assert second.start == 0


def test_a_csv_opens_in_pandas_and_no_spreadsheet_runs_it(tmp_path):
    labels = [name for name in NASTY if shown(name) == name]
    write_annotations(
        tmp_path / "a.csv", [Annotation("in/a.wav", 0.5, i, label, 0.25) for i, label in enumerate(labels, 1)]
    )
    table = pandas.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert list(table.columns) == ["file", "start", "end", "label", "probability"]
    assert table["end"].tolist() == list(range(1, len(labels) + 1))
    assert not any(text.lstrip().startswith(("=", "+", "-", "@")) for text in table["label"])
    assert [text for text in table["label"] if text[:1] != "'"] == [
        text for text in labels if text[:1] not in "'=+-@" or not text
    ]


def test_parquet_opens_in_pandas(tmp_path):
    write_annotations(
        tmp_path / "a.parquet", [Annotation("a.wav", 0, 1, "two\nlines", 0.5), Annotation("a.wav", 1, 2, "=x")]
    )
    table = pandas.read_parquet(tmp_path / "a.parquet")
    assert table["label"].tolist() == ["two\nlines", "=x"]
    assert table["probability"].tolist()[0] == 0.5
    assert pandas.isna(table["probability"][1])


def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(ImportError, match="tables in Parquet need pyarrow: pip install pyarrow"):
        parquet_tables.pyarrow()


def test_a_selection_table_as_raven_writes_it(tmp_path):
    header = (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tBegin File\tAnnotation"
    )
    rows = [
        "1\tWaveform 1\t1\t1.5\t2.25\t1000.0\t4000.0\tb.wav\twren",
        "1\tSpectrogram 1\t1\t1.5\t2.25\t1000.0\t4000.0\tb.wav\twren",
        "2\tSpectrogram 1\t1\t3.0\t3.5\t500.0\t900.0\tb.wav\t",
    ]
    path = tmp_path / "b.Table.1.selections.txt"
    path.write_text("\r\n".join([header, *rows, ""]), newline="")
    sound = str(tmp_path / "b.wav")
    expected = [Annotation(sound, 1.5, 2.25, "wren", None, 1000, 4000), Annotation(sound, 3, 3.5, "", None, 500, 900)]
    assert list(read_annotations(path)) == expected
    assert list(read_annotations(path, "raven", label="Annotation")) == expected
    with pytest.raises(ValueError, match="no column Song; it has Selection"):
        list(read_annotations(path, label="Song"))


def test_a_selection_table_of_several_files_has_times_in_each(tmp_path):
    header = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\tSpecies"
    (tmp_path / "a.txt").write_text(f"{header}\n1\t61.5\t62.0\t/in/b.wav\t1.5\twren\n")
    assert list(read_annotations(tmp_path / "a.txt")) == [Annotation("/in/b.wav", 1.5, 2.0, "wren")]


def test_labels_as_audacity_writes_them(tmp_path):
    (tmp_path / "a.flac").touch()
    (tmp_path / "a.txt").write_text(
        "1.000000\t1.000000\tpoint\n\\\t6928.5\t6928.5\n2.0\t2.5\tno low\n\\\t-1.0\t6334.5\n3\t4\n"
    )
    sound = str(tmp_path / "a.flac")
    assert list(read_annotations(tmp_path / "a.txt")) == [
        Annotation(sound, 1, 1, "point", None, 6928.5, 6928.5),
        Annotation(sound, 2, 2.5, "no low", None, None, 6334.5),
        Annotation(sound, 3, 4, ""),
    ]


def test_a_table_of_birdnet_and_of_opensoundscape(tmp_path):
    (tmp_path / "a.csv").write_text(
        "Start (s),End (s),Scientific name,Common name,Confidence,File\n0.0,3.0,T t,Wren,0.5,x.wav\n"
    )
    assert list(read_annotations(tmp_path / "a.csv")) == [Annotation("x.wav", 0, 3, "Wren", 0.5)]
    (tmp_path / "b.csv").write_text("file,start_time,end_time,annotation\nx.wav, 0, 3, wren\n")
    assert list(read_annotations(tmp_path / "b.csv")) == [Annotation("x.wav", 0, 3, "wren")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.csv",
            "file,start,label\na.wav,0,x\n",
            "a.csv: no column for end: it has file, start, label; expected one of end",
        ),
        ("a.csv", "file,start,end,label\na.wav,1,x,dog\n", "line 2: end is 'x', expected a number"),
        ("a.csv", "file,start,end,label\na.wav,nan,2,dog\n", "line 2: start is nan and end is 2.0, expected seconds"),
        ("a.csv", "file,start,end,label\na.wav,3,2,dog\n", "the end not before the start; correct the row"),
        ("a.csv", "file,start,end,label\na.wav,,2,dog\n", "line 2: start is empty, expected seconds"),
        ("a.csv", "file,start,end,label\n,1,2,dog\n", "line 2: no file"),
        ("a.csv", "file,start,end,label\na.wav,1,2,dog,4\n", "line 2: more cells than the first line has names"),
        ("a.csv", "file,start,end,label,probability\na.wav,1,2,dog,4\n", "line 2: probability is 4.0"),
        ("a.csv", "", "no column for file: it has no columns"),
        ("a.jsonl", "[1]\n", "line 1: expected a JSON object"),
        ("a.jsonl", "{\n", "line 1: no JSON"),
        (
            "a.jsonl",
            '{"file": "a", "start": true, "end": 1, "label": "x"}\n',
            "line 1: start is True, expected a number",
        ),
        ("a.jsonl", '{"file": "a", "start": 0, "end": 1, "label": 7}\n', "line 1: label is 7, expected a text"),
        ("a.parquet", "no", "a.parquet: no Parquet file"),
        ("a.txt", "one\n", "line 1: expected start, end and label with tabs between"),
        ("a.txt", "0\t1\tx\n\\\t5\tx\n", "line 2: expected two frequencies in Hz"),
        ("a.doc", "", "expected a name that ends in .csv"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_with_its_line(name, text, message, tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        list(read_annotations(tmp_path / name))


def test_labels_whose_sound_is_not_there_say_what_is_needed(tmp_path):
    (tmp_path / "a.txt").write_text("0\t1\tx\n")
    with pytest.raises(FileNotFoundError, match=r"a\.txt: no sound file of the name a in .*sounds=FILE"):
        list(read_annotations(tmp_path / "a.txt"))
    assert [one.file for one in read_annotations(tmp_path / "a.txt", sounds="b.wav")] == ["b.wav"]
    with pytest.raises(FileNotFoundError, match="no such table"):
        list(read_annotations(tmp_path / "none.csv"))


def test_two_sounds_of_one_stem_have_a_table_each(tmp_path):
    for name in ("a.wav", "a.flac", "b/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    kept = [Annotation(str(tmp_path / name), 0, 1, name) for name in ("a.wav", "a.flac", "b/c.wav")]
    write_annotations(tmp_path / "out", kept, "audacity")
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.txt"))
    assert written == ["a.flac.txt", "a.wav.txt", "b/c.txt"]
    back = list(read_annotations(tmp_path / "out", sounds=tmp_path))
    assert sorted(back) == sorted(kept)
    with pytest.raises(FileExistsError, match="already there"):
        write_annotations(tmp_path / "out", kept, "audacity")


def test_a_format_is_known_by_the_suffix_or_the_name():
    assert [format_of(f"a{suffix}", format) for format, suffix in SUFFIX.items()] == list(FORMATS)
    with pytest.raises(ValueError, match=r"a\.csv: ends in \.csv, but its format is to be raven"):
        format_of("a.csv", "raven")
    with pytest.raises(ValueError, match="format = 'xml': expected one of csv"):
        format_of("a", "xml")


def test_the_rows_are_what_csv_says(tmp_path):
    write_annotations(tmp_path / "a.csv", [Annotation("a.wav", 0, 1.5, 'a "b"', None, 100.0)])
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["file", "start", "end", "label", "probability", "low", "high"],
            ["a.wav", "0.0", "1.5", 'a "b"', "", "100.0", ""],
        ]
