"""The downloader, on a local address."""

import hashlib

import pytest

from walls.sources import archives

CONTENT = b"an archive's bytes" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def url(tmp_path):
    return put(tmp_path / "far" / "x.zip", CONTENT).as_uri()


def test_it_arrives_once(tmp_path, url):
    target = tmp_path / "cache" / "walls" / "x.zip"
    assert archives.download(url, SHA256, len(CONTENT), target).read_bytes() == CONTENT
    (tmp_path / "far" / "x.zip").unlink()
    assert archives.download(url, SHA256, len(CONTENT), target) == target
    assert [path.name for path in target.parent.iterdir()] == ["x.zip"]


def test_other_bytes_are_refused_and_not_kept(tmp_path, url):
    target = tmp_path / "cache" / "x.zip"
    with pytest.raises(
        ValueError, match=r"gave other bytes than expected: SHA-256 .*takes a local copy"
    ) as error:
        archives.download(url, "0" * 64, len(CONTENT), target)
    assert "\n" not in str(error.value) and not list(target.parent.iterdir())


def test_a_damaged_copy_is_fetched_again(tmp_path, url):
    target = put(tmp_path / "cache" / "x.zip", CONTENT[:-1])
    archives.download(url, SHA256, len(CONTENT), target)
    assert target.read_bytes() == CONTENT


def test_no_more_than_announced_is_taken(tmp_path, url, monkeypatch):
    (tmp_path / "far" / "x.zip").write_bytes(bytes(8 << 20))
    sizes = []
    monkeypatch.setattr(archives, "_sha256", lambda path: sizes.append(path.stat().st_size))
    with pytest.raises(ValueError, match="other bytes"):
        archives.download(url, SHA256, 1 << 20, tmp_path / "cache" / "x.zip")
    assert sizes[0] <= 2 << 20


def test_an_address_that_does_not_answer(tmp_path):
    with pytest.raises(
        ValueError, match=r"gone\.zip can't be downloaded .*takes a local copy instead of null"
    ) as error:
        archives.download((tmp_path / "gone.zip").as_uri(), SHA256, 1, tmp_path / "cache" / "x.zip")
    assert "\n" not in str(error.value) and not list((tmp_path / "cache").iterdir())


def test_what_an_unpacked_archive_lacks_is_named(tmp_path):
    (tmp_path / "words.txt").write_text("")
    tree = archives.open_tree(tmp_path, "words.txt", ())
    with pytest.raises(ValueError, match=r"words\.csv can't be read \(no file of up to 64 MiB\)$"):
        tree.read("words.csv")
