"""A folder per class: how it is split, names, links, and files that are no whole image."""

import os
import time

import pytest
from helpers.bad_input import UNREADABLE
from helpers.photographs import ALL, WNIDS, photograph, picture, put, refused, settings, tiny, tree

from walls.images import loaders, reading
from walls.sources import listing
from walls.sources.kinds import SOURCES
from walls.sources.manifest import build


def test_classes_without_images(tmp_path):
    root = tiny(tmp_path / "tiny.zip", val=1)
    refused(
        tmp_path,
        "one validation image of class animal 0; takes two",
        settings("tiny-imagenet", root, val_images=None),
    )
    root = tree(tmp_path / "imagenet")
    (root / "train" / "n00000009").mkdir()
    refused(tmp_path, "has no train image of class n00000009", settings("imagenet", root))
    put(root / "train" / "n00000009" / "a.JPEG", picture())
    refused(tmp_path, "has no val image of class n00000009", settings("imagenet", root))
    put(root / "train" / "cats" / "a.JPEG", picture())
    refused(tmp_path, "cats is no WNID", settings("imagenet", root))
    refused(tmp_path, "nowhere/train can't be read", settings("imagenet", tmp_path / "nowhere"))


def test_a_folder_is_split_by_the_seed(tmp_path):
    root = tree(tmp_path / "photos", ("",), ["ant", "bee, honey", "007"], 10)
    for extra in (".DS_Store", "notes.txt", "ant/.hidden.jpg", "ant/readme.md"):
        put(root / extra, b"x")
    split = {}
    for seed in (0, 1):
        build(settings("folder", root, **ALL), seed, 224, tmp_path / str(seed))
        split[seed] = {
            part: set(loaders.read_manifest(tmp_path / str(seed), part)["path"])
            for part in listing.SPLITS
        }
        assert len(split[seed]["train"]) == 24 and len(split[seed]["val"]) == 6
        assert not split[seed]["train"] & split[seed]["val"]
    assert split[0]["val"] != split[1]["val"]
    manifest = loaders.read_manifest(tmp_path / "0")
    assert manifest["class"].unique().tolist() == ["007", "ant", "bee, honey"]
    put(root / "ant" / "zzz.jpg", picture())  # one more image displaces at most one
    build(settings("folder", root, **ALL), 0, 224, tmp_path / "more")
    assert len(split[0]["val"] - set(loaders.read_manifest(tmp_path / "more", "val")["path"])) <= 1
    refused(
        tmp_path,
        "007 holds too few images .10.; takes 10 to validate on and one to train on",
        settings("folder", root, val_images=30, train_images=None),
    )
    refused(
        tmp_path,
        "data.train_images: got 27, 9 a class; .* has 8 of 007",
        settings("folder", root, train_images=27),
    )


@pytest.mark.parametrize(
    "content, name",
    [
        (b"", "x.jpg"),
        (b"not an image", "x.jpg"),
        (photograph()[:-900], "x.jpg"),
        (photograph()[:300], "x.jpg"),
        (photograph()[:4000] + bytes(4000), "x.jpg"),
        (photograph()[:20], "x.JPEG"),
        (photograph(kind="PNG")[:-900], "x.png"),
        (photograph(kind="BMP")[:-900], "x.bmp"),
        (photograph(kind="TIFF")[:-900], "x.tif"),
        (photograph(kind="WEBP")[:-900], "x.webp"),
        (picture(kind="GIF")[:-9], "x.gif"),
    ],
)
def test_what_is_no_whole_image_is_refused_by_name(tmp_path, content, name):
    root = tree(tmp_path / "photos", ("",), ["ant", "bee", "cat"])
    put(root / "bee" / name, content)
    refused(tmp_path, f"photos/bee/{name}{UNREADABLE}", settings("folder", root, **ALL))


@pytest.mark.parametrize(
    "content, name",
    [
        (photograph(), "x.jpg"),
        (photograph() + b"\0" * 40, "x.jpg"),
        (photograph(kind="PNG"), "x.png"),
        (photograph(kind="PNG"), "x.jpg"),
        (photograph(kind="WEBP"), "x.webp"),
        (picture(90, "L"), "x.jpg"),
        (picture((1, 2, 3, 4), "CMYK"), "x.JPEG"),
        (picture(1, "1", "TIFF"), "x.tif"),
        (picture(4, "P", "GIF"), "x.gif"),
        (picture((1, 2, 3, 0), "RGBA", "PNG"), "x.png"),
    ],
)
def test_what_is_whole_is_taken(tmp_path, content, name):
    root = tree(tmp_path / "photos", ("",), ["ant", "bee", "cat"])
    put(root / "bee" / name, content)
    build(settings("folder", root, **ALL), 0, 224, tmp_path / "set")
    paths = loaders.read_manifest(tmp_path / "set")["path"].tolist()
    assert (
        str(root / "bee" / name) in paths and reading.read_image(root / "bee" / name).shape[0] == 3
    )


def test_links(tmp_path):
    root = tree(tmp_path / "photos", ("",), ["ant", "bee"])
    (root / "cat").symlink_to(root / "ant")  # collections are often put together of links
    (root / "ant" / "self").symlink_to(root)
    wanted = settings("folder", root, **ALL)
    assert len(build(wanted, 0, 224, tmp_path / "set")) == 12
    (root / "ant" / "loop.jpg").symlink_to("loop.jpg")
    refused(tmp_path, r"loop\.jpg: can't be read", wanted)
    (root / "ant" / "loop.jpg").unlink()
    (root / "ant" / "gone.jpg").symlink_to("nowhere.jpg")
    refused(tmp_path, r"gone\.jpg: can't be read", wanted)
    (root / "ant" / "gone.jpg").unlink()
    (root / "dog").symlink_to("dog")
    refused(tmp_path, "photos/dog can't be read", wanted)


def test_a_class_folder_without_images(tmp_path):
    root = tree(tmp_path / "photos", ("",), ["ant", "bee", "cat"])
    (root / "dog").mkdir()
    refused(tmp_path, "photos/dog holds no image; takes CLASS/IMAGE", settings("folder", root))
    put(root / "dog" / "one.jpg", picture())
    refused(
        tmp_path,
        "dog holds too few images .1.; takes 1 to validate on and one",
        settings("folder", root, **ALL),
    )


def test_a_name_that_is_not_text(tmp_path):
    root = tree(tmp_path / "photos", ("",), ["ant", "bee", "cat"])
    try:
        put(root / "bee" / os.fsdecode(b"x\xff.jpg"), picture())
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    refused(tmp_path, r"x\\udcff\.jpg': not a name in UTF-8", settings("folder", root, **ALL))


def test_classes_of_one_name_are_told_apart(tmp_path):
    root = tree(tmp_path / "imagenet")
    words = zip(WNIDS, ("crane", "ant", "crane", "bee"), strict=True)
    (root / "LOC_synset_mapping.txt").write_text(
        "".join(f"{wnid} {name}\n" for wnid, name in words)
    )
    manifest = build(
        settings("imagenet", root, classes=4, train_images=4, val_images=8),
        0,
        224,
        tmp_path / "set",
    )
    assert manifest["class"].unique().tolist() == [
        "crane (n00000000)",
        "ant",
        "crane (n02655020)",
        "bee",
    ]


def test_nine_thousand_photographs_are_indexed_in_ten_seconds(tmp_path):
    content = photograph()
    for label in range(30):
        first = put(tmp_path / "photos" / f"class {label:02d}" / "000.jpg", content)
        for index in range(1, 300):
            os.link(first, first.with_name(f"{index:03d}.jpg"))
    wanted = settings("folder", tmp_path / "photos", classes=30, **ALL)
    started = time.process_time()
    assert len(build(wanted, 0, 224, tmp_path / "set")) == 9000
    assert time.process_time() - started < 10
    images = loaders.Images(
        loaders.read_manifest(tmp_path / "set", "train"), 64, SOURCES["folder"].crop_area
    )
    pixels, labels, _ = next(iter(loaders.loader(images, 4, 0, [1])))
    assert (
        pixels.shape == (4, 3, 64, 64)
        and len(images) == 7200
        and pixels.float().std() > 20
        and labels.max() < 30
    )
