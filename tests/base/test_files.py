"""CSV files that a person edits: whatever is wrong is said with file, line and what is right."""

import re

import pytest

from walls.base.files import read_rows

COLUMNS = ["name", "why"]


@pytest.mark.parametrize(
    "content",
    [
        b'name,why\na,dark\n\nb,"too dark, and blurred"\n',
        b'\xef\xbb\xbfname,why\r\na,dark\r\n\r\nb,"too dark, and blurred"\r\n',  # as Excel saves it
    ],
)
def test_rows_come_with_their_lines(tmp_path, content):
    (tmp_path / "rows.csv").write_bytes(content)
    expected = [(2, ["a", "dark"]), (4, ["b", "too dark, and blurred"])]
    assert read_rows(tmp_path / "rows.csv", COLUMNS) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "rows.csv: empty; takes a first line name,why"),
        (b"\n\n", "rows.csv: empty; takes a first line name,why"),
        (
            b"name,why\na,too dark, and blurred\n",
            "rows.csv, line 2: got 3 values; takes name, why, and quotes around",
        ),
        (b"name,why\n\na\n", "rows.csv, line 3: got 1 values; takes name, why"),
        (
            b"name,why\na,b\nc,\xfcberbelichtet\n",
            "rows.csv, line 3: not UTF-8; takes a file saved as UTF-8",
        ),
        (b"\xff\xfen\x00a\x00", "rows.csv, line 1: not UTF-8"),
        (b"name;why\na;b\n", "rows.csv: got columns name;why; takes name, why"),
        (b"why,name\na,b\n", "rows.csv: got columns why, name; takes name, why"),
        (
            b'name,why\na,"never closed\nb,c\n',
            "rows.csv, line 3: unexpected end of data; takes a CSV",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        read_rows(tmp_path / "rows.csv", COLUMNS)
