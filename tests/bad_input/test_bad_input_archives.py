"""Archives, tried in bulk: what leaves them, bombs, lies in their directory, and what is no
archive.
"""

import io
import os
import stat
import struct
import warnings
import zipfile

import pytest
from helpers.bad_input import bulk, refused
from helpers.photographs import ALL, WNIDS, picture, settings
from hypothesis import given
from hypothesis import strategies as st

from walls.sources import archives, manifest

pytestmark = pytest.mark.bulk
FAMILY = "archives"
TOP = "tiny-imagenet-200"


def zipped(
    extra=(), top: str = f"{TOP}/", compression=zipfile.ZIP_STORED, leave: str = ""
) -> bytes:
    """The public archive in small, and members (name or ZipInfo, content) beside it; without those
    that hold `leave`.
    """
    buffer = io.BytesIO()
    members = [("words.txt", "".join(f"{key}\tthing\n" for key in WNIDS[:2]))]
    for i, key in enumerate(WNIDS[:2]):
        members += [(f"train/{key}/images/{key}_0.JPEG", picture((40 * i, 0, 0)))]
        members += [(f"val/images/{key}_{j}.JPEG", picture((40 * i, 0, j))) for j in range(2)]
    members += [
        (
            "val/val_annotations.txt",
            "".join(f"{key}_{j}.JPEG\t{key}\n" for key in WNIDS[:2] for j in range(2)),
        )
    ]
    with (
        zipfile.ZipFile(buffer, "w", compression) as archive,
        warnings.catch_warnings(action="ignore"),
    ):
        for name, content in [
            *((top + name, content) for name, content in members if not leave or leave not in name),
            *extra,
        ]:
            archive.writestr(name, content)
    return buffer.getvalue()


GOOD, SQUEEZED = zipped(), zipped(compression=zipfile.ZIP_DEFLATED)


def attempt(tmp_path, content: bytes, case: object = None) -> str | None:
    """Build a set from an archive of that content; the refusal. What is taken stays inside the
    set.
    """
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "tiny.zip").write_bytes(content)
    wanted = settings("tiny-imagenet", tmp_path / "tiny.zip", **ALL | {"classes": 2})
    build = lambda: manifest.build(wanted, 0, 64, tmp_path / "out" / "set")
    message = refused(
        FAMILY,
        case or content,
        build,
        rf"^data\.(root|classes): |^{tmp_path}/tiny\.zip, ",
        tmp_path,
    )
    assert {path.name for path in tmp_path.iterdir()} == {"out", "tiny.zip"} and {
        path.name for path in (tmp_path / "out").iterdir()
    } <= {"set"}
    return message


def test_what_is_whole_is_taken(tmp_path):
    assert attempt(tmp_path, GOOD) is None and attempt(tmp_path, SQUEEZED) is None


# --- Paths that leave
# -----------------------------------------------------------------------------------------------

PARTS = st.sampled_from(
    ["a", "..", ".", "", "train", "C:", "~", "x.JPEG", "a\nb", "\u202e", "...", " "]
)
AWAY = st.sampled_from(
    [
        "../x",
        "/etc/x",
        "a/../../x",
        "..\\x",
        "\\x",
        "C:\\x",
        "c:x",
        "//host/x",
        "\\\\host\\x",
        "a/..",
        "..",
    ]
)


@bulk(60)
@given(AWAY, st.lists(PARTS, max_size=3))
def test_a_path_that_leaves(tmp_path, away, parts):
    name = (
        f"{TOP}/{'/'.join([*parts, away])}"
        if away.startswith(("..", "a/"))
        else away + "/".join(parts)
    )
    message = attempt(tmp_path, zipped([(name, picture())]), name)
    assert message and "leaves" in message


@bulk(30)
@given(st.lists(PARTS, min_size=1, max_size=6))
def test_any_path(tmp_path, parts):
    name = f"{TOP}/train/{WNIDS[0]}/images/{'/'.join(parts)}"
    attempt(tmp_path, zipped([(name, picture())]), name)


# --- Damage
# -----------------------------------------------------------------------------------------------------------


@bulk(100)
@given(st.sampled_from([GOOD, SQUEEZED]), st.data())
def test_a_damaged_archive(tmp_path, raw, draw):
    # The directory at the end is where a reader is led astray.
    place = draw.draw(
        st.one_of(
            st.integers(0, len(raw) - 1),
            st.integers(len(raw) - 1500, len(raw) - 1),
            st.integers(0, 200),
        )
    )
    length = draw.draw(st.integers(0, 30))
    junk = draw.draw(
        st.one_of(
            st.binary(min_size=length, max_size=length),
            st.sampled_from([b"", b"\xff" * 8, b"\0" * 4]),
        )
    )
    attempt(tmp_path, raw[:place] + junk + raw[place + length :])


@bulk(40)
@given(st.sampled_from([GOOD, SQUEEZED]), st.floats(0, 0.99), st.booleans())
def test_a_truncated_archive(tmp_path, raw, share, front):
    cut = int(share * len(raw))
    message = attempt(tmp_path, raw[len(raw) - cut :] if front else raw[:cut])
    assert message


@bulk(30)
@given(
    st.binary(max_size=100),
    st.sampled_from(
        [b"", b"PK\3\4", b"PK\5\6" + bytes(18), b"\x1f\x8b", b"7z\xbc\xaf\x27\x1c", b"Rar!"]
    ),
)
def test_what_is_no_archive(tmp_path, content, head):
    assert attempt(tmp_path, head + content)


# --- Lies
# -------------------------------------------------------------------------------------------------------------


def described(name: str, **values) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    return info


def lying(offset: int, value: int, size: str = "<I") -> bytes:
    """The first image's entry in the directory, one of its fields changed."""
    raw = bytearray(SQUEEZED)
    entry = raw.index(b"PK\1\2", raw.index(b"PK\1\2") + 4)  # the second: after words.txt
    struct.pack_into(size, raw, entry + offset, value)
    return bytes(raw)


IMAGE = f"{TOP}/train/{WNIDS[0]}/images/"
LINK = described(IMAGE + "link.JPEG", external_attr=(stat.S_IFLNK | 0o777) << 16, create_system=3)
CASES = {
    "a link": zipped([(LINK, "../../../../etc/passwd")]),
    "a link by another name": zipped([(LINK, "/dev/zero")]),
    "a device": zipped(
        [(described(IMAGE + "d.JPEG", external_attr=(stat.S_IFCHR | 0o666) << 16), "")]
    ),
    "a bomb": zipped([(IMAGE + "b.JPEG", bytes(30 << 20))], compression=zipfile.ZIP_DEFLATED),
    "a bomb of LZMA": zipped([(IMAGE + "b.JPEG", bytes(30 << 20))], compression=zipfile.ZIP_LZMA),
    "a bomb of bzip2": zipped([(IMAGE + "b.JPEG", bytes(30 << 20))], compression=zipfile.ZIP_BZIP2),
    "a large member": zipped([(IMAGE + "b.JPEG", bytes(65 << 20))]),
    "encrypted": lying(8, 1, "<H"),
    "an unknown compression": lying(10, 97, "<H"),
    "LZMA that isn't": lying(10, 14, "<H"),
    "bzip2 that isn't": lying(10, 12, "<H"),
    "stored that isn't": lying(10, 0, "<H"),
    "another sum": lying(16, 1),
    "smaller than it is": lying(24, 10),
    "a little larger": lying(24, 900),
    "4 GB": lying(24, 2**32 - 2),
    "packed to 4 GB": lying(20, 2**32 - 2),
    "packed to nothing": lying(20, 0),
    "elsewhere": lying(42, 2**31),
    "on another member": lying(42, 0),
    "a name of 65535": lying(28, 65535, "<H"),
    "an extra of 65535": lying(30, 65535, "<H"),
    "on disk 9": lying(34, 9, "<H"),
    "of version 99": lying(6, 99, "<H"),
    "ZIP64": lying(24, 2**32 - 1),
    "a name twice": zipped([(IMAGE + f"{WNIDS[0]}_0.JPEG", b"other")]),
    "words twice": zipped([(f"{TOP}/words.txt", b"\xff\0")]),
    "annotations twice": zipped([(f"{TOP}/val/val_annotations.txt", b"x\ty\n")]),
    "no words": zipped(leave="words"),
    "no annotations": zipped(leave="annotations"),
    "no training images": zipped(leave="train"),
    "no images": zipped(leave="JPEG"),
    "one class": zipped(leave=WNIDS[1]),
    "a long name": zipped([(IMAGE + "x" * 300 + ".JPEG", picture())]),
    "a deep one": zipped([(f"{TOP}/" + "a/" * 5000 + "x.JPEG", picture())]),
    "a name of lines": zipped([(IMAGE + "a\nb\x1b[31m.JPEG", b"x")]),
    "no image": zipped([(IMAGE + "x.JPEG", b"GIF89a")]),
    "an empty image": zipped([(IMAGE + "x.JPEG", b"")]),
    "a zip in it": zipped([(IMAGE + "x.JPEG", GOOD)]),
    "another top": zipped(top="other/"),
    "no top": zipped(top=""),
    "a deep top": zipped(top="a/b/c/"),
    "many members": zipped([(f"{TOP}/{i}", "") for i in range(3000)]),
    "an empty zip": b"PK\5\6" + bytes(18),
    "before it": b"#!/bin/sh\n" + GOOD,
    "after it": GOOD + b"x" * 99,
    "twice": GOOD + GOOD,
    "words on a pipe's name": zipped([(f"{TOP}/train/p|", "x")]),
    "case": zipped([(IMAGE + f"{WNIDS[0]}_0.jpeg", picture())]),
    "annotations that leave": zipped(
        [(f"{TOP}/val/val_annotations.txt", f"../../x\t{WNIDS[0]}\n")], leave="annotations"
    ),
}
TAKEN = {
    "another top",
    "no top",
    "many members",
    "before it",
    "after it",
    "twice",
    "words on a pipe's name",
    "case",
    "a little larger",
    "a deep one",
    "on disk 9",
    "words twice",
}
EITHER = {"packed to 4 GB"}  # later releases of a Python look for entries that overlap


@pytest.mark.parametrize("name", CASES)
def test_a_lie(tmp_path, name):
    message = attempt(tmp_path, CASES[name], name)
    assert name in EITHER or bool(message) == (name not in TAKEN), message


@pytest.mark.parametrize(
    "kind", ["a pipe", "a device", "a folder of nothing", "a link to itself", "gone", "a socket"]
)
def test_what_is_no_file(tmp_path, kind):
    root = tmp_path / "tiny.zip"
    (tmp_path / "out").mkdir()
    {
        "a pipe": lambda: os.mkfifo(root),
        "a device": lambda: root.symlink_to("/dev/zero"),
        "a folder of nothing": root.mkdir,
        "a link to itself": lambda: root.symlink_to(root.name),
        "gone": lambda: None,
        "a socket": lambda: os.mknod(root, 0o140600),
    }[kind]()
    build = lambda: manifest.build(settings("tiny-imagenet", root), 0, 64, tmp_path / "out" / "set")
    assert refused(FAMILY, kind, build, r"^data\.root: .*takes the public archive", tmp_path)


@bulk(20)
@given(st.binary(max_size=40))
def test_a_download_of_other_bytes(tmp_path, content):
    (tmp_path / "far.zip").write_bytes(content)
    (tmp_path / "cache").mkdir(exist_ok=True)
    fetch = lambda: archives.download(
        (tmp_path / "far.zip").as_uri(), "0" * 64, 9, tmp_path / "cache" / "x.zip"
    )
    assert refused(
        FAMILY,
        ("download", content),
        fetch,
        r"^data\.root: .*gave other bytes than expected",
        tmp_path,
    )
