"""Tiny-ImageNet: its archive, packed and unpacked, and what is wrong with one."""

import hashlib
import zipfile

import pytest
import torch
from helpers.bad_input import UNREADABLE
from helpers.photographs import ALL, WNIDS, grey, photograph, picture, refused, settings, tiny
from helpers.shared_data import shared

from walls.images import loaders, reading, transforms
from walls.sources import archives, imagenet
from walls.sources.manifest import build


@pytest.mark.parametrize("unpacked", [False, True])
def test_tiny_imagenet(tmp_path, unpacked):
    root = tiny(tmp_path / "tiny.zip")
    if unpacked:
        zipfile.ZipFile(root).extractall(tmp_path / "unpacked")
        root = tmp_path / "unpacked"
    manifest = build(settings("tiny-imagenet", root), 0, 224, tmp_path / "out")
    assert manifest.groupby(["split", "label"]).size().tolist() == [3, 3, 3, 2, 2, 2]
    for row in (
        loaders.read_manifest(tmp_path / "out").rename(columns={"class": "name"}).itertuples()
    ):
        assert row.name == f"animal {grey(row.path)}"


def test_a_class_without_words_goes_by_its_wnid(tmp_path):
    found = imagenet.tiny_imagenet(tiny(tmp_path / "tiny.zip"))
    assert [found.name(key) for key in (WNIDS[0], "n99999999")] == ["animal 0", "n99999999"]


def test_another_seed_samples_other_classes(tmp_path):
    root = tiny(tmp_path / "tiny.zip")
    wanted = settings("tiny-imagenet", root, classes=2, train_images=2, val_images=4)
    chosen = [
        tuple(build(wanted, seed, 224, tmp_path / "out")["class"].unique())
        for seed in (0, 1, 2, 3, 0)
    ]
    assert len(set(chosen)) > 1 and chosen[0] == chosen[4]


def test_animals_alone(tmp_path):
    root = tiny(tmp_path / "tiny.zip")
    manifest = build(settings("tiny-imagenet", root, animals=True), 0, 224, tmp_path / "out")
    assert (
        sorted(manifest["class"].unique()) == ["animal 0", "animal 1", "animal 2"]
        and manifest["animal"].all()
    )
    refused(
        tmp_path,
        "takes up to 3, all the animals of",
        settings("tiny-imagenet", root, animals=True, classes=4),
    )
    wanted = settings("tiny-imagenet", root, classes=4, **ALL)
    everything = build(wanted, 0, 224, tmp_path / "b")
    assert (
        everything.groupby("class")["animal"].first().tolist() == [True, True, True, False]
        and len(everything) == 28
    )


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"classes": 5}, "data.classes: got 5; takes up to 4, all the classes of"),
        ({"train_images": 18}, "data.train_images: got 18, 6 a class; .* has 5 of n0"),
        ({"root": "no/such.zip"}, r"no/such\.zip is no readable zip \(no file\)"),
    ],
)
def test_what_tiny_imagenet_cannot_give(tmp_path, changes, message):
    root = tiny(tmp_path / "tiny.zip")
    refused(tmp_path, message, settings("tiny-imagenet", **({"root": root} | changes)))


@pytest.mark.parametrize(
    "content, message",
    [(b"PK", "no readable zip"), (b"", "no readable zip"), (None, "no words.txt")],
)
def test_what_is_no_tiny_imagenet(tmp_path, content, message):
    file = tmp_path / "x.zip"
    if content is None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("other/xwords.txt", "a\tb\n")
    else:
        file.write_bytes(content)
    refused(tmp_path, message, settings("tiny-imagenet", file))


@pytest.mark.parametrize(
    "name", ["tiny/train/../images/0.JPEG", "/etc/x.JPEG", "tiny\\..\\..\\x.JPEG", "C:x.JPEG"]
)
def test_a_path_that_leaves_the_archive(tmp_path, name):
    root = tiny(tmp_path / "tiny.zip", extra=[(name, picture())])
    refused(tmp_path, "which leaves the archive", settings("tiny-imagenet", root))


def test_a_damaged_member(tmp_path):
    root = tiny(tmp_path / "tiny.zip")
    raw = bytearray(root.read_bytes())
    spot = raw.index(b"n00000001/images/n00000001_1.JPEG") + 100
    raw[spot : spot + 20] = b"\0" * 20
    root.write_bytes(bytes(raw))
    refused(
        tmp_path,
        r"n00000001_1\.JPEG",
        settings("tiny-imagenet", root, classes=4, train_images=20, val_images=8),
    )


@pytest.mark.parametrize("content", [b"not an image", photograph()[:-900]])
def test_a_member_that_is_no_whole_image(tmp_path, content):
    root = tiny(
        tmp_path / "tiny.zip", extra=[("tiny-imagenet-200/train/n00000001/images/x.JPEG", content)]
    )
    wanted = settings("tiny-imagenet", root, classes=4, **ALL)
    refused(tmp_path, rf"tiny\.zip, train/n00000001/images/x\.JPEG{UNREADABLE}", wanted)


def test_zip_bombs(tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny-imagenet-200/words.txt", "n00000000\tx\n")
        archive.writestr("tiny-imagenet-200/train/n00000000/images/0.JPEG", bytes(20 << 20))
    refused(
        tmp_path,
        "bomb.zip would unpack to 20 MiB, over 100 times its size",
        settings("tiny-imagenet", bomb),
    )
    monkeypatch.setattr(archives, "LARGEST", 400)
    root = tiny(tmp_path / "tiny.zip")
    refused(tmp_path, "would unpack to", settings("tiny-imagenet", root))


def test_tiny_imagenet_without_a_root(tmp_path, monkeypatch):
    content = tiny(tmp_path / "far.zip").read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(imagenet, "TINY_URL", (tmp_path / "far.zip").as_uri())
    monkeypatch.setattr(imagenet, "TINY_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(imagenet, "TINY_BYTES", len(content))
    assert len(build(settings("tiny-imagenet"), 0, 224, tmp_path / "set")) == 15
    assert (tmp_path / "cache" / "see-through-walls" / "far.zip").read_bytes() == content


def test_the_public_archive(tmp_path):
    counts = {"animals": True, "classes": 59, "train_images": 59, "val_images": 118}
    wanted = settings("tiny-imagenet", shared("tiny-imagenet-animals.zip"), **counts)
    manifest = build(wanted, 0, 224, tmp_path / "set")
    assert (
        manifest["class"].nunique() == 59
        and manifest["animal"].all()
        and "tabby" in set(manifest["class"])
    )
    pixels = torch.stack(
        [
            transforms.fit(reading.read_image(tmp_path / "set" / p), 224)
            for p in manifest["path"].head(20)
        ]
    )
    assert pixels.shape == (20, 3, 224, 224) and pixels.float().std() > 20
