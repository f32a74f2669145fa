"""Image sources, reading and augmentation."""

import io
import zipfile

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from walls import data
from walls.params import Data


def settings(**changes):
    base = {"name": "critters", "root": None, "classes": 3, "train_images": 7, "val_images": 6}
    return Data(**(base | changes))


def jpeg(value, mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, (64, 64), value).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def tiny_imagenet(tmp_path):
    """A zip laid out as the public one: 4 classes, 5 training and 2 validation images each, all of one grey per image."""
    file = tmp_path / "tiny.zip"
    with zipfile.ZipFile(file, "w") as archive:
        wnids = [f"n0000000{i}" for i in range(4)]
        archive.writestr("tiny-imagenet-200/words.txt", "".join(f"{w}\tanimal {w[-1]}, beast\n" for w in wnids))
        lines = []
        for i, w in enumerate(wnids):
            for j in range(5):
                archive.writestr(f"tiny-imagenet-200/train/{w}/images/{w}_{j}.JPEG", jpeg((40 * i, 10 * j, 0)))
            for j in range(2):
                archive.writestr(f"tiny-imagenet-200/val/images/val_{i}_{j}.JPEG", jpeg(40 * i, "L"))
                lines.append(f"val_{i}_{j}.JPEG\t{w}\t0\t0\t62\t62\n")
        archive.writestr("tiny-imagenet-200/val/val_annotations.txt", "".join(lines))
    return file


def test_critters_manifest(tmp_path):
    manifest = data.build(settings(), 0, 64, tmp_path)
    assert manifest["label"].tolist() == [0, 1, 2, 0, 1, 2, 0] + [0, 1, 2] * 2
    assert manifest["class"].iloc[:3].tolist() == ["tiger", "rabbit", "tortoise"]
    read = data.read_manifest(tmp_path, "val")
    assert len(read) == 6 and data.read_image(read["path"][0]).shape == (3, 64, 64)


@pytest.mark.parametrize("unpacked", [False, True])
def test_tiny_imagenet(tiny_imagenet, tmp_path, unpacked):
    root = tiny_imagenet
    if unpacked:
        zipfile.ZipFile(tiny_imagenet).extractall(tmp_path / "unpacked")
        root = tmp_path / "unpacked"
    wanted = settings(name="tiny-imagenet", root=str(root), train_images=9, val_images=6)
    manifest = data.build(wanted, 0, 224, tmp_path / "out")
    assert manifest.groupby(["split", "label"]).size().tolist() == [3, 3, 3, 2, 2, 2]
    for row in data.read_manifest(tmp_path / "out", "train").itertuples():
        wnid = int(row.path.split("n0000000")[1][0])  # the class's grey tells that image and label belong together
        assert (
            abs(int(data.read_image(row.path)[0, 0, 0]) - 40 * wnid) <= 2 and row.__getattribute__("_3") == f"animal {wnid}"
        )


def test_another_seed_samples_other_classes(tiny_imagenet, tmp_path):
    chosen = set()
    for seed in range(6):
        wanted = settings(name="tiny-imagenet", root=str(tiny_imagenet), classes=2, train_images=2, val_images=4)
        chosen.add(tuple(sorted(data.build(wanted, seed, 224, tmp_path / str(seed))["class"].unique())))
    assert len(chosen) > 1


@pytest.mark.parametrize("changes, message", [
    ({"classes": 5}, "data.classes: got 5; takes up to 4"),
    ({"train_images": 18}, "data.train_images: got 18, 6 a class; .* has 5 of n0"),
    ({"root": "no/such.zip"}, "no/such.zip is no readable zip"),
])  # fmt: skip
def test_what_tiny_imagenet_cannot_give(tiny_imagenet, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        data.build(settings(**({"name": "tiny-imagenet", "root": str(tiny_imagenet)} | changes)), 0, 224, tmp_path / "out")


@pytest.mark.parametrize("content, message", [(b"PK", "is no readable zip"), (None, "holds no words.txt")])
def test_what_is_no_tiny_imagenet(tmp_path, content, message):
    file = tmp_path / "x.zip"
    if content is None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("other/xwords.txt", "a\tb\n")
    else:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        data.build(settings(name="tiny-imagenet", root=str(file)), 0, 224, tmp_path / "out")


def test_a_damaged_member_is_named_and_none_leaves_the_folder(tiny_imagenet, tmp_path):
    with zipfile.ZipFile(tiny_imagenet, "a") as archive:
        for j in range(9):
            archive.writestr(f"tiny-imagenet-200/train/../images/{j}.JPEG", jpeg(9))
    wanted = settings(name="tiny-imagenet", root=str(tiny_imagenet), classes=4, train_images=20, val_images=8)
    data.build(wanted, 0, 224, tmp_path / "a" / "out")
    assert not (tmp_path / "a" / "images").exists() and not (tmp_path / "a" / "out" / "images" / "images").exists()
    raw = bytearray(tiny_imagenet.read_bytes())
    spot = raw.index(b"n00000002/images/n00000002_1.JPEG") + 100
    raw[spot : spot + 20] = b"\0" * 20
    tiny_imagenet.write_bytes(bytes(raw))
    with pytest.raises(ValueError, match=r"n00000002_1\.JPEG"):
        data.build(wanted, 0, 224, tmp_path / "b")


def test_the_public_archive(tmp_path):
    archive = ROOT.parent / "shared" / "data" / "tiny-imagenet-animals.zip"
    if not archive.is_file():
        pytest.skip(f"no {archive.name} beside the project")
    wanted = settings(name="tiny-imagenet", root=str(archive), classes=4, train_images=20, val_images=12)
    manifest = data.build(wanted, 0, 224, tmp_path)
    assert manifest["class"].nunique() == 4
    pixels = torch.stack([data.fit(data.read_image(tmp_path / p), 224) for p in manifest["path"]])
    assert pixels.shape == (32, 3, 224, 224) and pixels.float().std() > 20


@pytest.mark.parametrize("content", [b"", b"not an image", jpeg(9)[:200]])
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.jpg: not a readable image"):
        data.read_image(tmp_path / "bad.jpg")


@pytest.mark.parametrize("mode, value", [("L", 90), ("CMYK", (0, 0, 0, 165)), ("1", 1), ("P", 0)])
def test_other_colour_modes_become_rgb(tmp_path, mode, value):
    Image.new(mode, (8, 8), value).save(tmp_path / "image.tif")
    assert data.read_image(tmp_path / "image.tif").shape == (3, 8, 8)


def test_normalisation_is_imagenets():
    image = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    expected = (1 - torch.tensor(data.MEAN)) / torch.tensor(data.STD)
    torch.testing.assert_close(data.normalise(image)[0, :, 0, 0], expected)
    torch.testing.assert_close(data.denormalise(data.normalise(image)), torch.ones(1, 3, 2, 2))


def test_fit_leaves_what_fits_and_cuts_the_middle():
    image = torch.arange(3 * 8 * 8, dtype=torch.uint8).reshape(3, 8, 8)
    assert data.fit(image, 8) is image
    wide = torch.zeros(3, 224, 448, dtype=torch.uint8)
    wide[:, :, 200:248] = 255
    cut = data.fit(wide, 224).float().mean((0, 1))
    assert cut[112] == 255 and cut[0] == 0 and torch.allclose(cut, cut.flip(0), atol=1)


def test_augmentation_depends_on_seed_epoch_and_position_alone(tmp_path):
    data.build(settings(), 0, 64, tmp_path)
    manifest = data.read_manifest(tmp_path, "train")
    images = data.Images(manifest, 48, (0.5, 1.0), seed=1)
    images.epoch = 2
    forward = [images[i][0] for i in range(7)]
    torch.manual_seed(99)
    backward = [images[i][0] for i in reversed(range(7))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    images.epoch = 3
    assert not torch.equal(images[0][0], forward[0])


def test_loading_is_the_same_with_and_without_workers(tmp_path):
    data.build(settings(), 0, 64, tmp_path)
    images = data.Images(data.read_manifest(tmp_path, "train"), 48, (0.5, 1.0), seed=1)
    runs = [[(x, y) for x, y in data.loader(images, 2, workers, epoch=1)] for workers in (0, 2)]
    assert len(runs[0]) == 3 and all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(*runs, strict=True))
    orders = [torch.cat([y for _, y in data.loader(images, 2, 0, epoch)]).tolist() for epoch in (1, 2, 3)]
    assert len({tuple(order) for order in orders}) > 1


def test_streams_are_told_apart():
    draws = [data.stream(*key).random() for key in ((0, "a"), (0, "b"), (1, "a"), (0, "a", 1))]
    assert len(set(draws)) == 4 and draws[0] == data.stream(0, "a").random()
    assert np.isclose(np.mean([data.stream(0, "x", i).random() for i in range(2000)]), 0.5, atol=0.03)
