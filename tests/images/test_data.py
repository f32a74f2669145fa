"""The manifest, reading and augmentation."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.bad_input import UNREADABLE
from PIL import Image
from pydantic import ValidationError
from torchvision.io import write_png
from torchvision.transforms.v2 import RandomResizedCrop

from walls.base import seeds
from walls.images import loaders, reading, transforms
from walls.sources import critters, kinds, manifest
from walls.sources import settings as data_settings
from walls.sources.manifest import build
from walls.sources.settings import Data


def settings(**changes):
    base = {"name": "critters", "root": None, "classes": 3, "train_images": 7, "val_images": 6}
    return Data(**(base | changes))


def jpeg(value, mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, (64, 64), value).save(buffer, "JPEG")
    return buffer.getvalue()


def test_critters_manifest(tmp_path):
    manifest = build(settings(), 0, 64, tmp_path)
    assert manifest["label"].tolist() == [0, 1, 2, 0, 1, 2, 0] + [0, 1, 2] * 2
    assert manifest["class"].iloc[:3].tolist() == ["tiger", "rabbit", "tortoise"]
    read = loaders.read_manifest(tmp_path, "val")
    assert len(read) == 6 and reading.read_image(read["path"][0]).shape == (3, 64, 64)
    assert read["animal"].all() and read["label"].tolist() == [0, 1, 2] * 2


def test_a_set_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    build(settings(), 0, 64, tmp_path / "set")
    (tmp_path / "set" / "mine.txt").write_text("not ours")
    write = critters.write
    monkeypatch.setattr(critters, "write", lambda *arguments: write(*arguments) and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(settings(classes=2), 0, 64, tmp_path / "set")
    assert loaders.read_manifest(tmp_path / "set")["class"].nunique() == 3
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    monkeypatch.undo()
    build(settings(classes=2), 0, 64, tmp_path / "set")
    folders = sorted(path.name for path in (tmp_path / "set" / "images" / "train").iterdir())
    assert folders == ["rabbit", "tiger"] and (tmp_path / "set" / "mine.txt").exists()


def test_a_source_is_one_function_under_its_name(tmp_path, monkeypatch):
    """As kinds.py says: params.yaml takes the name, and the training learns of the crops."""
    monkeypatch.setattr(kinds, "SOURCES", sources := dict(kinds.SOURCES))
    for module in (data_settings, manifest):
        monkeypatch.setattr(module, "SOURCES", sources)

    @kinds.source("greys", root="needed", crop_area=(0.5, 0.75))
    def greys(request):
        for label in range(request.settings.classes):
            yield "val", label, f"grey {label}", False, f"{request.root}/{label}.png"

    wanted = settings(name="greys", root="photos", classes=2)
    found = build(wanted, 0, 64, tmp_path, pairs=False)
    assert found["path"].tolist() == [str(Path("photos").absolute() / f"{n}.png") for n in (0, 1)]
    assert found["class"].tolist() == ["grey 0", "grey 1"] and not found["animal"].any()
    assert json.loads((tmp_path / "source.json").read_text()) == {
        "name": "greys",
        "crop_area": [0.5, 0.75],
        "turned": True,
    }
    (conflict,) = settings(name="greys", root="gone").conflicts(None)
    assert conflict == (
        "data.root: got gone, which is no folder; takes the path of a folder of images with "
        "data.name greys"
    )
    del sources["greys"]
    with pytest.raises(ValidationError):
        settings(name="greys")


def test_names_that_look_like_numbers_stay_names(tmp_path):
    (tmp_path / "manifest.csv").write_text(
        "split,label,class,animal,path\nval,0,007,True,a/NA\nval,1,8,False,/b/2\n"
    )
    (tmp_path / "source.json").write_text('{"turned": true}')
    manifest = loaders.read_manifest(tmp_path, "val")
    assert manifest["class"].tolist() == ["007", "8"] and manifest["animal"].tolist() == [
        True,
        False,
    ]
    assert manifest["path"].tolist() == [
        str(tmp_path / "a" / "NA"),
        "/b/2",
    ]  # an absolute path is a photograph's own


def test_no_images(tmp_path):
    assert build(
        settings(name="none", train_images=None, val_images=None), 0, 64, tmp_path / "set"
    ).empty
    assert loaders.read_manifest(tmp_path / "set").empty


@pytest.mark.parametrize("content", [b"", b"not an image", jpeg(9)[:200]])
def test_what_is_no_image_is_named(tmp_path, content):
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.jpg{UNREADABLE}"):
        reading.read_image(tmp_path / "bad.jpg")


@pytest.mark.parametrize("mode, value", [("L", 90), ("CMYK", (0, 0, 0, 165)), ("1", 1), ("P", 0)])
def test_other_colour_modes_become_rgb(tmp_path, mode, value):
    Image.new(mode, (8, 8), value).save(tmp_path / "image.tif")
    seen = reading.read_image(tmp_path / "image.tif")
    expected = {"L": 90, "CMYK": 90, "1": 255, "P": 0}[mode]
    assert seen.shape == (3, 8, 8) and (seen.int() - expected).abs().max() <= 1


@pytest.mark.parametrize("name", ["image.png", "image.tif", "image.pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, name):
    values = np.array([[0, 257, 25700], [32896, 40000, 65535]], np.uint16)
    if name == "image.pgm":
        (tmp_path / name).write_bytes(b"P5 3 2 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(tmp_path / name)
    seen = reading.read_image(tmp_path / name)
    assert seen[0].tolist() == [[0, 1, 100], [128, 156, 255]] and torch.equal(seen[0], seen[2])


@pytest.mark.parametrize(
    "values, message",
    [
        (np.full((2, 2), 70000, np.int32), "pixels of more than 16 bits"),
        (np.full((2, 2), 0.5, np.float32), "floating-point pixels"),
    ],
)
def test_pixels_without_a_scale_are_refused(tmp_path, values, message):
    Image.fromarray(values).save(tmp_path / "image.tif")
    with pytest.raises(ValueError, match=rf"image\.tif{UNREADABLE}") as error:
        reading.read_image(tmp_path / "image.tif")
    assert f"({message}" in str(error.value)


def test_the_decoders_give_pillows_pixels(tmp_path):
    """torchvision's where it is used, over every kind of file that comes by; Pillow's own
    conversion is the measure.
    """
    random = np.random.default_rng(0)
    colour = Image.fromarray(random.integers(0, 256, (50, 61, 3), np.uint8)).resize(
        (123, 91), Image.Resampling.BICUBIC
    )
    clear = colour.copy()
    clear.putalpha(90)
    files = {
        "a.jpg": colour,
        "grey.jpg": colour.convert("L"),
        "cmyk.jpg": colour.convert("CMYK"),
        "a.png": colour,
        "grey.png": colour.convert("L"),
        "palette.png": colour.convert("P"),
        "clear.png": clear,
        "bits.png": colour.convert("1"),
        "a.webp": colour,
        "a.gif": colour.convert("P"),
        "a.tif": colour,
    }
    for name, image in files.items():
        image.save(tmp_path / name)
        expected = np.array(Image.open(tmp_path / name).convert("RGB"))
        assert np.array_equal(
            reading.read_image(tmp_path / name).permute(1, 2, 0).numpy(), expected
        ), name
    colour.save(tmp_path / "transparent.png", transparency=(0, 0, 0))
    colour.save(tmp_path / "progressive.jpg", progressive=True, quality=60, subsampling=2)
    write_png(
        torch.from_numpy(np.array(colour)).permute(2, 0, 1), str(tmp_path / "ä torchvisions.png")
    )
    # 16 bits a channel, which Pillow can read and not write
    rows = b"".join(
        b"\0" + row.astype(">u2").tobytes()
        for row in random.integers(0, 2**16, (5, 4, 3), np.uint16)
    )
    chunks = (
        (b"IHDR", struct.pack(">2I5B", 4, 5, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    packed = (
        struct.pack(">I", len(c)) + name + c + struct.pack(">I", zlib.crc32(name + c))
        for name, c in chunks
    )
    (tmp_path / "deep colour.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    for name in ("transparent.png", "progressive.jpg", "ä torchvisions.png", "deep colour.png"):
        expected = np.array(Image.open(tmp_path / name).convert("RGB"))
        assert np.array_equal(
            reading.read_image(tmp_path / name).permute(1, 2, 0).numpy(), expected
        ), name
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"a\.jpg{UNREADABLE}"):
        reading.read_image(tmp_path / "a.jpg")


def test_normalisation_is_imagenets():
    """Red, green, blue; 0 and 255 by ImageNet's mean and deviation, to five digits."""
    image = torch.tensor([0, 255], dtype=torch.uint8).expand(1, 3, 1, 2)
    found = transforms.normalise(image)[0, :, 0]
    black, white = [-2.117904, -2.035714, -1.804444], [2.248908, 2.428571, 2.64]
    torch.testing.assert_close(found, torch.tensor([black, white]).T, rtol=0, atol=1e-5)


def test_fit_leaves_what_fits_and_cuts_the_middle():
    image = torch.arange(3 * 8 * 8, dtype=torch.uint8).reshape(3, 8, 8)
    assert transforms.fit(image, 8) is image
    wide = torch.zeros(3, 224, 448, dtype=torch.uint8)
    wide[:, :, 200:248] = 255
    cut = transforms.fit(wide, 224).float().mean((0, 1))
    assert cut[112] == 255 and cut[0] == 0 and torch.allclose(cut, cut.flip(0), atol=1)


def test_augmentation_depends_on_seed_epoch_and_position_alone(tmp_path):
    build(settings(), 0, 64, tmp_path)
    manifest = loaders.read_manifest(tmp_path, "train")
    images = loaders.Images(manifest, 48, (0.5, 1.0), seed=1)
    forward = [images[2, i] for i in range(7)]
    torch.manual_seed(99)
    backward = [images[2, i] for i in reversed(range(7))][::-1]
    assert all(
        torch.equal(a[0], b[0]) and a[1:] == b[1:] for a, b in zip(forward, backward, strict=True)
    )
    assert not torch.equal(images[3, 0][0], forward[0][0])
    assert {flip for _, _, flip in forward} == {False, True}


def test_a_crop_is_drawn_as_torchvisions():
    image = torch.zeros(3, 90, 120, dtype=torch.uint8)
    random = seeds.stream(0, "crop")
    ours = np.array([transforms.crop_box(random, 90, 120, (0.3, 1.0)) for _ in range(4000)], float)
    torch.manual_seed(0)
    theirs = np.array(
        [
            RandomResizedCrop.get_params(image, (0.3, 1.0), transforms.CROP_ASPECT)
            for _ in range(4000)
        ],
        float,
    )
    error = 4 * np.sqrt((ours.var(0) + theirs.var(0)) / 4000)
    assert (abs(ours.mean(0) - theirs.mean(0)) < error).all() and (
        abs(ours.std(0) / theirs.std(0) - 1) < 0.08
    ).all()
    for height, width in ((10, 200), (200, 10)):  # nothing fits: the middle
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        box = transforms.crop_box(random, height, width, (0.9, 1.0))
        assert box == RandomResizedCrop.get_params(image, (0.9, 1.0), transforms.CROP_ASPECT)


def test_on_the_device_a_batch_is_flipped_where_drawn_and_normalised():
    images = torch.arange(2 * 3 * 2 * 2, dtype=torch.uint8).reshape(2, 3, 2, 2)
    out = transforms.on_device(
        images, torch.tensor([False, True]), torch.device("cpu"), torch.float64
    )
    expected = torch.stack([images[0], images[1].flip(2)]).double() / 255
    mean, std = (
        torch.tensor(c, dtype=torch.float64).reshape(3, 1, 1)
        for c in (transforms.MEAN, transforms.STD)
    )
    torch.testing.assert_close(out, (expected - mean) / std)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_loading_is_the_same_with_and_without_workers(tmp_path):
    build(settings(), 0, 64, tmp_path)
    images = loaders.Images(loaders.read_manifest(tmp_path, "train"), 48, (0.5, 1.0), seed=1)
    runs = [list(loaders.loader(images, 2, workers, (1, 2, 3))) for workers in (0, 2)]
    assert len(runs[0]) == 9  # three whole batches an epoch
    assert all(
        torch.equal(a, b)
        for one, other in zip(*runs, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    orders = [torch.cat([y for _, y, _ in runs[0][i : i + 3]]).tolist() for i in (0, 3, 6)]
    assert len({tuple(order) for order in orders}) > 1
    later = list(loaders.loader(images, 2, 0, (2, 3)))  # as a resumed run reads
    assert all(torch.equal(a[0], b[0]) for a, b in zip(later, runs[0][3:], strict=True))


def test_processes_and_parts_share_the_batches_of_one(tmp_path):
    build(settings(train_images=18), 0, 64, tmp_path)
    images = loaders.Images(loaders.read_manifest(tmp_path, "train"), 48, (0.5, 1.0), seed=1)
    whole = [batch for batch, _, _ in loaders.loader(images, 8, 0, (1, 2))]
    shares = [
        list(loaders.loader(images, 8, 0, (1, 2), rank=rank, ranks=2, accumulate=2))
        for rank in (0, 1)
    ]
    assert len(whole) == 4 and [len(share) for share in shares] == [8, 8]
    for number, batch in enumerate(whole):
        parts = [shares[rank][2 * number + part][0] for part in (0, 1) for rank in (0, 1)]
        assert torch.equal(torch.cat(parts), batch)
    in_order = [
        torch.cat([labels for _, labels, _ in loaders.loader(images, 4, 0, rank=r, ranks=2)])
        for r in (0, 1)
    ]
    assert [share.tolist() for share in in_order] == [
        images.labels[0::2].tolist(),
        images.labels[1::2].tolist(),
    ]


def test_streams_are_told_apart():
    draws = [seeds.stream(*key).random() for key in ((0, "a"), (0, "b"), (1, "a"), (0, "a", 1))]
    assert len(set(draws)) == 4 and draws[0] == seeds.stream(0, "a").random()
    assert np.isclose(
        np.mean([seeds.stream(0, "x", i).random() for i in range(2000)]), 0.5, atol=0.03
    )
