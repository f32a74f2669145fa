"""The image sources: layouts, sampling, and what is wrong with other people's files."""

import hashlib
import io
import os
import time
import zipfile

import numpy as np
import pytest
import torch
from bad_input import UNREADABLE
from conftest import ROOT
from PIL import Image
from scipy.io import savemat

from walls.images import loaders, reading, transforms
from walls.sources import archives, imagenet, listing
from walls.sources.kinds import SOURCES
from walls.sources.manifest import build
from walls.sources.settings import Data

ALL = {"train_images": None, "val_images": None}
WNIDS = [
    "n00000000",
    "n00000001",
    "n02655020",
    "n02666196",
]  # the last animal of ImageNet, and the class after it


def settings(name, root=None, **changes):
    base = {"animals": False, "classes": 3, "train_images": 9, "val_images": 6}
    return Data(name=name, root=str(root) if root else None, **(base | changes))


def picture(value=(9, 9, 9), mode="RGB", kind="JPEG", size=(64, 64)):
    buffer = io.BytesIO()
    Image.new(mode, size, value).save(buffer, kind)
    return buffer.getvalue()


def photograph(seed=0, kind="JPEG"):
    """An image that takes some bytes."""
    buffer = io.BytesIO()
    Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    ).save(buffer, kind)
    return buffer.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def grey(path):
    """Which class an image was made for: those of class i are of the grey 40·i."""
    return round(float(reading.read_image(path)[0].float().mean()) / 40)


def tiny(file, train=5, val=2, extra=()):
    """A zip laid out as the public one, directory entries included."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny-imagenet-200/", "")
        archive.writestr(
            "tiny-imagenet-200/words.txt",
            "".join(f"{w}\tanimal {i}, beast\n" for i, w in enumerate(WNIDS)),
        )
        lines = []
        for i, wnid in enumerate(WNIDS):
            archive.writestr(f"tiny-imagenet-200/train/{wnid}/images/", "")
            for j in range(train):
                archive.writestr(
                    f"tiny-imagenet-200/train/{wnid}/images/{wnid}_{j}.JPEG",
                    picture((40 * i, 10 * j, 0)),
                )
            for j in range(val):
                archive.writestr(
                    f"tiny-imagenet-200/val/images/val_{i}_{j}.JPEG", picture(40 * i, "L")
                )
                lines.append(f"val_{i}_{j}.JPEG\t{wnid}\t0\t0\t62\t62\n")
        archive.writestr("tiny-imagenet-200/val/val_annotations.txt", "".join(lines))
        for name, content in extra:
            archive.writestr(name, content)
    return file


def tree(root, splits=("train", "val"), classes=WNIDS, count=4):
    """ImageNet's standard tree; with `splits=("",)`, a plain folder per class."""
    for split in splits:
        for i, key in enumerate(classes):
            for j in range(count):
                put(root / split / key / f"{split}_{i}_{j}.JPEG", picture((40 * i, 0, 0)))
    return root


def refused(tmp_path, message, wanted, seed=0):
    """Building says so in one line, and leaves nothing behind."""
    (tmp_path / "nothing").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=message) as error:
        build(wanted, seed, 224, tmp_path / "nothing" / "set")
    assert "\n" not in str(error.value) and not list((tmp_path / "nothing").iterdir())


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
        ({"classes": 5}, "data.classes: got 5; takes up to 4"),
        ({"train_images": 18}, "data.train_images: got 18, 6 a class; .* has 5 of n0"),
        ({"root": "no/such.zip"}, "no/such.zip is no readable zip"),
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


def test_imagenet_refers_to_its_images(tmp_path):
    root = tree(tmp_path / "imagenet")
    (root / "synset_words.txt").write_text(
        "".join(f"{w} beast {i}, thing\n" for i, w in enumerate(WNIDS))
    )
    wanted = settings("imagenet", root, classes=4, train_images=None, val_images=8)
    manifest = build(wanted, 0, 224, tmp_path / "set")
    assert {path.name for path in (tmp_path / "set").iterdir()} == {"manifest.csv", "source.json"}
    assert len(manifest) == 16 + 8 and manifest.groupby("class")["animal"].first().tolist() == [
        True,
        True,
        True,
        False,
    ]
    for row in (
        loaders.read_manifest(tmp_path / "set").rename(columns={"class": "name"}).itertuples()
    ):
        assert (
            row.label == grey(row.path)
            and row.name == f"beast {row.label}"
            and str(root / row.split) in row.path
        )


def flat(root, names):
    """Validation images without folders: two a class, `names(number, class)`."""
    numbers = list(range(1, 2 * len(WNIDS) + 1))
    for number in numbers:
        put(
            root / "val" / names(number, number % len(WNIDS)),
            picture((40 * (number % len(WNIDS)), 0, 0)),
        )
    return numbers


def test_imagenets_flat_validation_images_with_wnids_in_their_names(tmp_path):
    root = tree(tmp_path / "imagenet", ("train",))
    flat(root, lambda n, i: f"ILSVRC2012_val_{n:08d}_{WNIDS[i]}.JPEG")
    build(
        settings("imagenet", root, classes=4, train_images=4, val_images=None),
        0,
        224,
        tmp_path / "set",
    )
    val = loaders.read_manifest(tmp_path / "set", "val")
    assert len(val) == 8 and [grey(path) for path in val["path"]] == val["label"].tolist()


def test_imagenets_flat_validation_images_with_the_devkit(tmp_path):
    root = tree(tmp_path / "imagenet", ("train",))
    numbers = flat(root, lambda n, i: f"ILSVRC2012_val_{n:08d}.JPEG")
    wanted = settings("imagenet", root, classes=4, train_images=4, val_images=None)
    refused(
        tmp_path,
        "val is flat, its names hold no WNIDs, .* holds no ILSVRC2012_validation_ground_truth.txt",
        wanted,
    )
    kit = root / "ILSVRC2012_devkit_t12" / "data"
    ids = [7, 3, 900, 1]  # the devkit's own numbering, which isn't the WNIDs' order
    put(
        kit / "ILSVRC2012_validation_ground_truth.txt",
        "".join(f"{ids[n % 4]}\n" for n in numbers).encode(),
    )
    put(kit / "meta.mat", b"no mat file")
    refused(
        tmp_path,
        "meta.mat and ILSVRC2012_validation_ground_truth.txt can't be read together",
        wanted,
    )
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    savemat(
        kit / "meta.mat",
        {
            "synsets": np.array(
                [(i, w, "x", 0) for i, w in zip(ids, WNIDS, strict=True)], dtype=kinds
            )
        },
    )
    build(wanted, 0, 224, tmp_path / "set")
    val = loaders.read_manifest(tmp_path / "set", "val")
    assert len(val) == 8 and [grey(path) for path in val["path"]] == val["label"].tolist()
    put(root / "val" / "ILSVRC2012_val_00000009.JPEG", picture())
    refused(tmp_path, r"ILSVRC2012_val_00000009\.JPEG is none of the 8 validation images", wanted)


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


def test_tiny_imagenet_without_a_root(tmp_path, monkeypatch):
    content = tiny(tmp_path / "far.zip").read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(imagenet, "TINY_URL", (tmp_path / "far.zip").as_uri())
    monkeypatch.setattr(imagenet, "TINY_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(imagenet, "TINY_BYTES", len(content))
    assert len(build(settings("tiny-imagenet"), 0, 224, tmp_path / "set")) == 15
    assert (tmp_path / "cache" / "see-through-walls" / "far.zip").read_bytes() == content


def shared(name):
    file = ROOT.parent / "shared" / "data" / name
    if not file.is_file():
        pytest.skip(f"no {name} beside the project")
    return file


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


def test_imagenets_own_photographs(tmp_path):
    """ImageNet's layout around real validation images: the classes, and which of them are
    animals.
    """
    with zipfile.ZipFile(shared("imagenet-val-subset.zip")) as archive:
        names = [n for n in archive.namelist() if n.endswith(".JPEG")]
        wanted = ["n01440764", "n02655020", "n02666196"]
        kept = [n for n in names if n.split("/")[2] in wanted] or pytest.skip("other classes")
        archive.extractall(tmp_path, [*kept, "imagenet/synset_words.txt"])
        order = [
            line.split()[0]
            for line in archive.read("imagenet/synset_words.txt").decode().splitlines()
        ]
    assert [imagenet.is_animal(wnid) for wnid in order] == [True] * 398 + [False] * 602
    root = tmp_path / "imagenet"
    for wnid in wanted:
        for split in listing.SPLITS:
            for spare in range(2):
                put(root / split / wnid / f"{split}{spare}.JPEG", photograph())
    manifest = build(settings("imagenet", root, **ALL), 0, 224, tmp_path / "set")
    assert manifest.groupby("class")["animal"].first().to_dict() == {
        "tench": True,
        "puffer": True,
        "abacus": False,
    }
    assert (manifest["split"] == "val").sum() == len(kept) + 6
