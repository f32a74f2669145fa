"""ImageNet: its layouts, its names, and which of its classes are animals."""

import zipfile

import numpy as np
import pytest
from helpers.photographs import ALL, WNIDS, grey, photograph, picture, put, refused, settings, tree
from helpers.shared_data import shared
from scipy.io import savemat

from walls.images import loaders
from walls.sources import imagenet, listing
from walls.sources.manifest import build


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


def two_lines(*_, **__):
    raise ValueError("the first\nthe second")


def test_imagenets_flat_validation_images_with_the_devkit(tmp_path, monkeypatch):
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
    with monkeypatch.context() as patched:
        patched.setattr("scipy.io.loadmat", two_lines)
        refused(tmp_path, r"can't be read together \(ValueError: the first\)$", wanted)
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
    for file in list(kit.iterdir()):  # and both files beside val itself
        file.rename(root / file.name)
    again = build(wanted, 0, 224, tmp_path / "again")
    assert again["path"].tolist() == build(wanted, 0, 224, tmp_path / "set")["path"].tolist()
    put(root / "val" / "ILSVRC2012_val_00000009.JPEG", picture())
    refused(tmp_path, r"ILSVRC2012_val_00000009\.JPEG is none of the 8 validation images", wanted)


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
