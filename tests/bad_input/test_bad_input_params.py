"""params.yaml, tried in bulk: types, ranges, unknown keys, YAML's traps, broken files and odd
ones.
"""

import json
import re

import pytest
import yaml
from conftest import ROOT
from helpers.bad_input import bulk, clear, count, refused
from hypothesis import example, given
from hypothesis import strategies as st

from walls.base import params
from walls.project import commands

pytestmark = pytest.mark.bulk
TEXT = (ROOT / "presets" / "smoke.yaml").read_text()
BASE = yaml.safe_load(TEXT.replace("5e-4", "5.0e-4"))
FIELDS = [("seed",), ("image_size",)] + [
    (name, key) for name, part in BASE.items() if isinstance(part, dict) for key in part
]
FAMILY = "params.yaml"
LINE = re.compile(
    r"^(params\.yaml|\S.*): (got .+; (did you mean .+\? )?takes .+|got .+, (without|which) .+; takes .+|"
    r"unknown key; (did you mean .+\?|takes .+)|not readable as YAML: .+|no such file; takes .+|"
    r"\d+ more errors; takes .+)$"
)


@pytest.fixture
def attempt(tmp_path):
    """Check a file of that content: the refusal's lines by the field that they name, or nothing."""
    file = tmp_path / "params.yaml"

    def attempt(content: str | bytes, case: object = None) -> dict[str, str]:
        file.write_bytes(
            content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        )
        message = refused(FAMILY, case or content, lambda: params.load(file), LINE, tmp_path)
        return {line.split(": ")[0]: line for line in message.split("\n")} if message else {}

    return attempt


def changed(field: tuple[str, ...], literal: str) -> str:
    """The smoke preset with other text as the value of one field."""
    lines = []
    for section, part in BASE.items():
        if isinstance(part, dict):
            lines.append(f"{section}:")
            lines += [
                f"  {key}: {literal if (section, key) == field else json.dumps(value)}"
                for key, value in part.items()
            ]
        else:
            lines.append(f"{section}: {literal if (section,) == field else json.dumps(part)}")
    return "\n".join(lines) + "\n"


# --- Wrong types and ranges: what every field must refuse
# ---------------------------------------------------------

NOT_TEXT = st.one_of(
    st.integers(),
    st.booleans(),
    st.floats(),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text("abc", max_size=3), st.integers(), max_size=2),
)
WORDS = st.text(st.characters(codec="utf-8"), max_size=20)
THINGS = st.one_of(
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text("abc"), st.none(), max_size=2)
)
FRACTIONS = st.floats(allow_nan=True, allow_infinity=True)
NO_INTEGER = st.one_of(WORDS, THINGS, st.booleans(), FRACTIONS)
NO_NUMBER = st.one_of(WORDS, THINGS, st.booleans(), st.just(float("nan")), st.just(float("inf")))
NO_SWITCH = st.one_of(WORDS, THINGS, st.none(), st.integers(), FRACTIONS)
NEGATIVE = st.integers(max_value=-1)
WRONG = {
    "seed": NO_INTEGER | NEGATIVE | st.integers(min_value=2**32),
    "image_size": NO_INTEGER | st.integers(max_value=31),
    "rows": NO_INTEGER | NEGATIVE | st.just(0),
    "width": NO_NUMBER | st.floats(max_value=0) | st.floats(min_value=4.1),
    "dense": NO_INTEGER | NEGATIVE | st.integers(min_value=10**6 + 1),
    "dropout": NO_NUMBER | st.floats(min_value=1),
    "momentum": NO_NUMBER | st.floats(min_value=1),
    "lr": NO_NUMBER | st.floats(max_value=0),
    "opticam_lr": NO_NUMBER | st.floats(max_value=0),
    "tau": NO_NUMBER | st.floats(max_value=0),
    "weight_decay": NO_NUMBER | st.floats(max_value=-1e-300),
    "again": WORDS | NEGATIVE | FRACTIONS | st.lists(NEGATIVE | WORDS, min_size=1),
    "batch_norm": NO_SWITCH,
    "animals": NO_SWITCH,
    "compile": NO_SWITCH,
    "workers": NO_INTEGER | NEGATIVE | st.integers(min_value=1001),
    "name": WORDS | NOT_TEXT | st.none(),
    "schedule": WORDS | NOT_TEXT | st.none(),
    "precision": WORDS | NOT_TEXT,
    "image": WORDS | NOT_TEXT,
    "generator": NOT_TEXT | WORDS,
    "model": NOT_TEXT,
    "root": NOT_TEXT | WORDS,
    "checkpoint": NOT_TEXT | WORDS,
    "mix_dir": NOT_TEXT | WORDS,
    "photos": NOT_TEXT | WORDS,
    "gen_dir": NOT_TEXT | WORDS,
    "methods": NO_SWITCH | st.lists(NOT_TEXT | WORDS, min_size=1),
}


@bulk(350)
@given(data=st.data())
def test_a_wrong_value_names_its_field(attempt, data):
    field = data.draw(st.sampled_from(FIELDS))
    value = data.draw(WRONG.get(field[-1], NO_INTEGER | NEGATIVE))
    literal = (
        json.dumps(value)
        .replace("NaN", ".nan")
        .replace("-Infinity", "-.inf")
        .replace("Infinity", ".inf")
    )
    lines = attempt(changed(field, literal), (field, literal))
    assert lines and all(name.startswith(".".join(field)) for name in lines), lines


def test_without_a_change_it_is_taken(attempt):
    assert not attempt(changed((), "")) and not attempt(TEXT)
    count(FAMILY, "unchanged", False)


# --- Unknown and missing keys
# -----------------------------------------------------------------------------------


@bulk(60)
@given(
    section=st.sampled_from(["", *(name for name in BASE if isinstance(BASE[name], dict))]),
    key=st.one_of(WORDS, st.integers(), st.floats(), st.booleans(), st.none()),
)
@example(section="", key="[key]")
@example(section="wall", key="a\nb")
@example(section="cams", key="x" * 50_000)
def test_an_unknown_key_is_named(attempt, section, key):
    content = json.loads(json.dumps(BASE))
    (content[section] if section else content)[key if isinstance(key, str) else "?"] = 1
    if key in BASE if not section else key in BASE[section]:
        return
    text = yaml.safe_dump(content, allow_unicode=True, width=10**6)
    if not isinstance(key, str):
        text = re.sub(
            r"^( *)'?\?'?: 1$",
            lambda m: f"{m[1]}{yaml.safe_dump(key).split(chr(10))[0]}: 1",
            text,
            flags=re.M,
        )
    lines = attempt(text, (section, key))
    assert len(lines) == 1 and (section in next(iter(lines))), lines


@bulk(20)
@given(fields=st.lists(st.sampled_from(FIELDS), min_size=1, max_size=5, unique=True))
def test_missing_keys_are_named(attempt, fields):
    optional = [("data", "animals"), ("stacks", "model"), ("stacks", "photos")]
    optional += [("train", "again"), ("cams", "costly_images"), ("networks", "photographs")]
    fields = [field for field in fields if field not in optional]
    content = json.loads(json.dumps(BASE))
    for field in fields:
        del (content if len(field) == 1 else content[field[0]])[field[-1]]
    assert sorted(attempt(yaml.safe_dump(content))) == sorted(".".join(field) for field in fields)


# --- YAML's traps
# -------------------------------------------------------------------------------------------------

TRAPS = """
1e-3|yes|no|on|off|010|0o10|0x10|0b11|1_000|.inf|-.inf|.nan|~||"9"|'9'|[9]|{9: 9}|{rows: 9}|- 9|? 9|9 9|9, 9|9;|
9 #|!!python/object/apply:os.system [ls]|!!python/name:os.system|!!python/object/new:type [x]|!!str 9|
!!int "abc"|!!int "9"|!!float "x"|!!bool "x"|!!null "x"|!!binary aGk=|!!binary "?"|!!timestamp "x"|
!!timestamp 2020-01-01|!!set {a}|!!omap [a: 1]|!!omap {a: 1}|!!pairs {a: 1}|!!map 3|!!seq 3|!!str {a: 1}|!foo 9|
!<tag:x> 9|2020-01-01|2020-13-45|2020-02-30|12:30:45|190:20:30|&a 9|*a|&a *a|&a [*a]|&a {a: *a}|<<|=|%|@x|`x|&|
*|!|!!|>|>-|-|:|?|]|}|[|{|"|'|"\\x00"|"\\n"|"\\ud800"|"\\U00110000"|"\\q"|0x|0x_|0b_|0b2|0o9|1e400|-1e400|1e|
1.e1|.5|5.|+9|-0|--9|9.0|1e2|1,5|½|９|٩|∞|{a: b, a: c}|{[a]: b}|{{a: b}: c}|{? a}|[[[[[[9]]]]]]|9\t|\t9|9 \t# x|
"9|'9|null|Null|NULL|true|True|TRUE|y|n|Yes|NaN|inf|1:2|a: b|a:b|- - 9|---|...|a\\nb|C:\\x|~nobody/x|${HOME}|
$(ls)|{{ x }}|/dev/null|/dev/zero|/|.|..|//|\\\\host\\x|é|e\u0301|\u202e9|\u200b9|\xa09|\ufeff9""".replace(
    "\n", ""
).split("|")


@bulk(300)
@given(
    field=st.sampled_from(FIELDS),
    trap=st.sampled_from([*TRAPS, "1" * 5000, "0x" + "f" * 5000, "[" * 500, "x" * 5000]),
)
def test_a_trap_is_read_or_refused(attempt, field, trap):
    lines = attempt(changed(field, trap), (field, trap))
    assert all(name.split(".")[0] in {*BASE, "params"} for name in lines), lines


@pytest.mark.parametrize(
    "literal, value", [("1e-3", 0.001), ("010", 10.0), ("0x10", 16.0), ("1_0", 10.0), ("0o10", 8.0)]
)
def test_what_a_trap_means(tmp_path, literal, value):
    (tmp_path / "params.yaml").write_text(changed(("train", "lr"), literal))
    assert params.load(tmp_path / "params.yaml").train.lr == value
    count(FAMILY, ("means", literal), False)


# --- Files that are broken, or none
# ---------------------------------------------------------------------------------


@bulk(100)
@given(data=st.data())
def test_a_broken_file(attempt, data):
    raw = TEXT.encode()
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 40)))
    junk = data.draw(
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from(
                [
                    b"",
                    b"\t",
                    b"\n\t",
                    b"\r",
                    b"\0",
                    b"\xff\xfe",
                    b": ",
                    b"- ",
                    b"  ",
                    b"\n",
                    b"#",
                    b"&a ",
                    b"*a ",
                    b"<<: ",
                    b"---\n",
                    b"...\n",
                    b"%YAML 9\n",
                ]
            ),
        )
    )
    attempt(raw[:start] + junk + raw[end:])


@bulk(60)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60),
        st.text("[]{}:,-?&*!|>'\"%@`#ab \n\t", max_size=40),
    )
)
def test_what_is_no_params_file(attempt, content):
    assert attempt(content)


ODD = {
    "itself": "&a {wall: *a, seed: *a}",
    "a list in itself": "&a [*a]",
    "many keys": "".join(f"k{i}: 1\n" for i in range(2000)),
    "BOM": "\ufeff" + TEXT,
    "UTF-16": TEXT.encode("utf-16"),
    "Latin-1": b"seed: \xe9",
    "two documents": TEXT + "---\n" + TEXT,
    "twice": TEXT + TEXT,
    "tabs": TEXT.replace("  ", "\t"),
    "JSON": json.dumps(BASE),
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(99),
    "zeros": bytes(1000),
    "empty": "",
    "a comment": "# x",
    "old Mac": TEXT.replace("\n", "\r"),
    "Windows": TEXT.replace("\n", "\r\n"),
    "YAML 1.1": "%YAML 1.1\n---\n" + TEXT,
    "a list": "- seed\n- 0",
    "a word": "seed",
    "a number": "9",
    "null": "null",
    "false": "false",
    "a set": "!!set {seed}",
    "a date": "2020-01-01",
    "code": "!!python/object/apply:os.system ['touch hacked']",
    "keys that are no text": "1: 1\n~: 2",
    "a list as key": "? [a, b]\n: 1",
    "bytes as key": "? !!binary aGk=\n: 1",
    "an anchor twice": "&x seed: &x 0\nwall: *x",
}
TAKEN = {"BOM", "JSON", "old Mac", "Windows", "YAML 1.1"}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file(attempt, name, capfd):
    assert bool(attempt(ODD[name], name)) == (name not in TAKEN)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["gone", "folder", "loop", "unreadable name"])
def test_no_file_at_all(tmp_path, kind):
    path = tmp_path / ("x" * 300 if kind == "unreadable name" else "params.yaml")
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    assert refused(
        FAMILY,
        kind,
        lambda: params.load(path),
        r"(no such file|can't be read .*); takes a params\.yaml",
        tmp_path,
    )


# --- By the command
# -------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of nothing but parameters, and the working directory in it."""
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@bulk(20)
@given(
    field=st.sampled_from(FIELDS),
    trap=st.sampled_from(["{}", "!!int x", "[", '"\\n"', "*a", "2020-13-45"]),
)
def test_the_gate_stays_shut(project, capsys, field, trap):
    """The stage check says what is wrong, and lets no other stage run."""
    (project / "params.yaml").write_text(changed(field, trap))
    assert commands.main(["run", "check"]) == 1
    count(FAMILY, ("gate", field, trap), True)
    out, errors = capsys.readouterr()
    clear(errors.rstrip("\n"), LINE, (field, trap))
    assert not out and {path.name for path in project.iterdir()} == {"dvc.yaml", "params.yaml"}


def test_the_gate_opens(project, capsys):
    (project / "params.yaml").write_text(TEXT)
    assert commands.main(["run", "check"]) == 0 and capsys.readouterr() == ("", "")
    assert (project / "runs" / "check" / "gate").read_text() == "params.yaml is well-formed\n"
