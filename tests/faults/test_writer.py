"""`files.whole` and `files.replaced`: a file or a folder's parts are there whole, or as they
were.
"""

import errno
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, environment

from walls.base import files

WRITER = """
import itertools, sys
from pathlib import Path
from walls.base import files

for letter in itertools.cycle("AB"):
    with files.whole(Path(sys.argv[1])) as partial:
        with open(partial, "w") as file:
            for _ in range(200):
                file.write(letter * 10_000)
"""


def written(folder):
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_a_file_is_replaced_once_it_is_on_the_disk(tmp_path, monkeypatch):
    file, seen = tmp_path / "new" / "file", []
    monkeypatch.setattr(
        files.os, "fsync", lambda number: seen.append((os.fstat(number).st_size, file.exists()))
    )
    for content in ("one", "three"):
        with files.whole(file) as partial:
            partial.write_text(content)
    assert seen == [(3, False), (5, True)] and written(tmp_path / "new") == {"file": "three"}


def test_an_error_leaves_what_was_there(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt), files.whole(tmp_path / "file") as partial:
        partial.write_text("ne")
        raise KeyboardInterrupt
    assert written(tmp_path) == {"file": "old"}


def test_parts_of_a_folder_are_replaced_together(tmp_path):
    folder, parts = tmp_path / "set", ("images", "list.csv")
    for content in ("old", "new"):
        with files.replaced(folder, *parts) as partial:
            assert list(partial.iterdir()) == []
            (partial / "images").mkdir()
            (partial / "images" / content).write_text(content)
            (partial / "list.csv").write_text(content)
        (folder / "notebook").write_text("another's")
    names = sorted(file.name for file in folder.rglob("*"))
    assert names == ["images", "list.csv", "new", "notebook"]
    with pytest.raises(KeyboardInterrupt), files.replaced(folder, *parts) as partial:
        (partial / "list.csv").write_text("newer")
        raise KeyboardInterrupt
    assert (folder / "list.csv").read_text() == "new" and (folder / "images" / "new").is_file()
    with files.replaced(folder, *parts) as partial:
        (partial / "list.csv").write_text("alone")
    assert written(folder) == {"list.csv": "alone", "notebook": "another's"}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_full_disk_is_named_with_the_file(tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    (tmp_path / "file").write_text("old")
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*file'"),
        files.whole(tmp_path / "file") as partial,
    ):
        partial.write_text("new")
    assert written(tmp_path) == {"file": "old"}


def test_a_file_in_the_folders_place(tmp_path):
    (tmp_path / "folder").touch()
    with pytest.raises(OSError, match="folder"), files.whole(tmp_path / "folder" / "file"):
        pass
    assert written(tmp_path) == {"folder": ""}


@pytest.mark.bulk
def test_a_killed_writer_leaves_no_half(tmp_path):
    """SIGKILL at 20 moments while one process rewrites 2 MB over and over: all A or all B each
    time.
    """
    file, moments, found = tmp_path / "file", random.Random(0), set()
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(file)], cwd=ROOT, env=environment(ROOT)
        )
        while not file.exists():
            time.sleep(0.01)
        time.sleep(moments.uniform(0.05, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        text = file.read_text()
        assert len(text) == 2_000_000 and len(set(text)) == 1
        found.add(text[0])
        assert {other.name for other in tmp_path.iterdir()} <= {"file", "file.partial"}
    assert found == {"A", "B"}
