"""The manifest, reading and augmentation."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from walls import data, sources
from walls.params import Data


def settings(**changes):
    base = {"name": "critters", "root": None, "classes": 3, "train_images": 7, "val_images": 6}
    return Data(**(base | changes))


def jpeg(value, mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, (64, 64), value).save(buffer, "JPEG")
    return buffer.getvalue()


def test_critters_manifest(tmp_path):
    manifest = data.build(settings(), 0, 64, tmp_path)
    assert manifest["label"].tolist() == [0, 1, 2, 0, 1, 2, 0] + [0, 1, 2] * 2
    assert manifest["class"].iloc[:3].tolist() == ["tiger", "rabbit", "tortoise"]
    read = data.read_manifest(tmp_path, "val")
    assert len(read) == 6 and data.read_image(read["path"][0]).shape == (3, 64, 64)
    assert read["animal"].all() and read["label"].tolist() == [0, 1, 2] * 2


def test_a_set_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    data.build(settings(), 0, 64, tmp_path / "set")
    (tmp_path / "set" / "mine.txt").write_text("not ours")
    rows = sources.rows
    monkeypatch.setattr(sources, "rows", lambda *arguments: rows(*arguments) and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        data.build(settings(classes=2), 0, 64, tmp_path / "set")
    assert data.read_manifest(tmp_path / "set")["class"].nunique() == 3
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    monkeypatch.undo()
    data.build(settings(classes=2), 0, 64, tmp_path / "set")
    folders = sorted(path.name for path in (tmp_path / "set" / "images" / "train").iterdir())
    assert folders == ["rabbit", "tiger"] and (tmp_path / "set" / "mine.txt").exists()


def test_names_that_look_like_numbers_stay_names(tmp_path):
    (tmp_path / "manifest.csv").write_text("split,label,class,animal,path\nval,0,007,True,a/NA\nval,1,8,False,/b/2\n")
    manifest = data.read_manifest(tmp_path, "val")
    assert manifest["class"].tolist() == ["007", "8"] and manifest["animal"].tolist() == [True, False]
    assert manifest["path"].tolist() == [str(tmp_path / "a" / "NA"), "/b/2"]  # an absolute path is a photograph's own


def test_no_images(tmp_path):
    assert data.build(settings(name="none", train_images=None, val_images=None), 0, 64, tmp_path / "set").empty
    assert data.read_manifest(tmp_path / "set").empty


@pytest.mark.parametrize("content", [b"", b"not an image", jpeg(9)[:200]])
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.jpg: not a readable image"):
        data.read_image(tmp_path / "bad.jpg")


@pytest.mark.parametrize("mode, value", [("L", 90), ("CMYK", (0, 0, 0, 165)), ("1", 1), ("P", 0)])
def test_other_colour_modes_become_rgb(tmp_path, mode, value):
    Image.new(mode, (8, 8), value).save(tmp_path / "image.tif")
    seen = data.read_image(tmp_path / "image.tif")
    expected = {"L": 90, "CMYK": 90, "1": 255, "P": 0}[mode]
    assert seen.shape == (3, 8, 8) and (seen.int() - expected).abs().max() <= 1


@pytest.mark.parametrize("name", ["image.png", "image.tif", "image.pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, name):
    values = np.array([[0, 257, 25700], [32896, 40000, 65535]], np.uint16)
    if name == "image.pgm":
        (tmp_path / name).write_bytes(b"P5 3 2 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(tmp_path / name)
    seen = data.read_image(tmp_path / name)
    assert seen[0].tolist() == [[0, 1, 100], [128, 156, 255]] and torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("values, message", [(np.full((2, 2), 70000, np.int32), "pixels of more than 16 bits"),
                                             (np.full((2, 2), 0.5, np.float32), "floating-point pixels")])  # fmt: skip
def test_pixels_without_a_scale_are_refused(tmp_path, values, message):
    Image.fromarray(values).save(tmp_path / "image.tif")
    with pytest.raises(ValueError, match=rf"image\.tif: not a readable image \({message}"):
        data.read_image(tmp_path / "image.tif")


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
