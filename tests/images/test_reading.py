"""Photographs as cameras store them: turned, in every format that Pillow reads, and scaled."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, PngImagePlugin
from torchvision import transforms as recipes

from walls.images import loaders, reading, stacked, transforms
from walls.network.geometry import DeadZone
from walls.sources import folders, manifest
from walls.sources.kinds import SOURCES
from walls.sources.settings import Data
from walls.stacks.build import mixing

# How a picture must be turned to be stored under that EXIF orientation (EXIF 2.32, 4.6.4 A).
STORED = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
}


def photograph() -> Image.Image:
    """Red above, blue below; the left edge green, so that no turn gives the same."""
    pixels = np.zeros((96, 96, 3), np.uint8)
    pixels[:48, :, 0] = pixels[48:, :, 2] = 250
    pixels[:, :16] = (0, 250, 0)
    return Image.fromarray(pixels)


def store(path, orientation=1, kind="JPEG"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = photograph()
    if orientation != 1:
        turned = turned.transpose(STORED[orientation])
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    turned.save(path, kind, exif=exif, **options)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_photographs_stand_upright(tmp_path, orientation, kind):
    path = tmp_path / "turned.x"
    store(path, orientation, kind)
    expected = torch.from_numpy(np.array(photograph())).permute(2, 0, 1).float()
    assert (reading.read_image(path).float() - expected).abs().mean() < 3  # JPEG's own loss
    assert (reading.read_image(path, turn=False).float() - expected).abs().mean() > 30


def test_a_plain_jpeg_takes_the_faster_decoder(tmp_path, monkeypatch):
    photograph().save(tmp_path / "plain.jpg", quality=95)
    photograph().save(tmp_path / "lossless.png")
    store(tmp_path / "turned.jpg", 3)
    asked, slower = [], reading.decode
    monkeypatch.setattr(
        reading, "decode", lambda path, **rest: asked.append(path.name) or slower(path, **rest)
    )
    for file in sorted(tmp_path.iterdir()):
        reading.read_image(file)
    assert asked == ["lossless.png", "turned.jpg"]


def test_damaged_exif_turns_nothing(tmp_path):
    path = tmp_path / "damaged.jpg"
    photograph().save(path, quality=95, exif=b"Exif\0\0nonsense")
    assert reading.read_image(path)[0, 0, 40] > 200


@pytest.mark.parametrize(("name", "upright"), [("folder", True), ("imagenet", False)])
def test_every_reader_turns_what_its_source_turns(tmp_path, name, upright):
    """Training, tuning and STACK-MIX: as stored for imagenet alone, as its usual loaders do."""
    assert SOURCES[name].turned is upright
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "source.json").write_text(f'{{"turned": {str(upright).lower()}}}')
    paths = [tmp_path / f"{number}.jpg" for number in range(2)]
    for path in paths:
        store(path, 3)
    table = pd.DataFrame(
        {"split": "val", "label": 0, "class": "a", "animal": True, "path": map(str, paths)}
    )
    table.to_csv(tmp_path / "set" / "manifest.csv", index=False)
    read = loaders.read_manifest(tmp_path / "set", "val")
    red_above = lambda image: bool(image[0, 10, 40:80].float().mean() > 200)
    assert red_above(loaders.Images(read, 96)[0][0]) is upright
    zone = DeadZone((48, 3), (96, 6))
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "manifest.csv").write_text("upper,lower\n")
    assert red_above(stacked.outside(read, tmp_path / "stacks", 96, 1, 0)[0]) is upright
    place = type("Place", (), {"label": 0, "index": 0})
    assert red_above(mixing(read, zone, 0)(place, 0).make()) is upright


def test_images_of_a_manifest_that_says_nothing_are_turned(tmp_path):
    """As a person who looks at them sees them."""
    store(tmp_path / "0.jpg", 3)
    table = pd.DataFrame({"label": [0], "path": [str(tmp_path / "0.jpg")]})
    assert loaders.Images(table, 96)[0][0][0, 10, 40:80].float().mean() > 200


def test_the_set_says_whether_it_is_turned(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "root" / name).mkdir(parents=True)
        for number in range(3):
            store(tmp_path / "root" / name / f"{number}.jpg", 6)
    wanted = Data(
        name="folder",
        root=str(tmp_path / "root"),
        animals=False,
        classes=2,
        train_images=2,
        val_images=4,
    )
    manifest.build(wanted, 0, 96, tmp_path / "set")
    images = loaders.Images(loaders.read_manifest(tmp_path / "set", "val"), 96)
    assert images.turned.all() and images[0][0][0, 10, 60] > 200


@pytest.mark.parametrize(
    ("ending", "kind"),
    [("jfif", "JPEG"), ("jp2", "JPEG2000"), ("avif", "AVIF"), ("jpe", "JPEG"), ("pnm", "PPM")],
)
def test_formats_that_pillow_reads_are_taken(tmp_path, ending, kind):
    photograph().save(tmp_path / f"a.{ending}", kind)
    assert folders.images_in(tmp_path) == [str(tmp_path / f"a.{ending}")]
    assert reading.read_image(tmp_path / f"a.{ending}")[0, 10, 60] > 230


def test_what_is_left_out_is_counted_and_named(tmp_path, capsys):
    for name in ("a.jpg", "b.heic", "c.HEIC", "notes.txt", ".DS_Store", "README"):
        (tmp_path / name).write_bytes(b"x")
    folders.tell_left_out("data.root", folders.files_in(tmp_path))
    assert capsys.readouterr().out == (
        "data.root: left out 4 files that are not read: 2 .heic, 1 .txt, 1 no ending\n"
    )
    folders.tell_left_out("data.root", [tmp_path / "a.jpg"])
    assert capsys.readouterr().out == ""


def test_a_folder_of_bare_photographs_is_refused_by_what_it_lacks(tmp_path):
    store(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"data.root: no class folders in .*; takes CLASS/IMAGE"):
        folders.photographs(tmp_path, 0, None)


@pytest.mark.parametrize("shape", [(300, 400), (227, 227), (500, 333), (90, 120)])
def test_scaled_to_the_authors_pixels(shape):
    """Resize(256), CenterCrop(224), ToTensor of a Pillow image, as their loader and torchvision's."""
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    chain = [recipes.Resize(256), recipes.CenterCrop(224), recipes.PILToTensor()]
    theirs = recipes.Compose(chain)(Image.fromarray(noise))
    ours = transforms.fit(torch.from_numpy(noise).permute(2, 0, 1), 224)
    assert torch.equal(ours, theirs)


def test_two_photographs_a_class_do_where_stacks_are_ready(tmp_path):
    """One to train on, one to validate on; STACK-MIX would pair two of them."""
    for name in ("a", "b"):
        (tmp_path / "root" / name).mkdir(parents=True)
        for number in range(2):
            store(tmp_path / "root" / name / f"{number}.jpg")
    settings = Data(
        name="folder",
        root=str(tmp_path / "root"),
        animals=False,
        classes=2,
        train_images=None,
        val_images=None,
    )
    found = manifest.build(settings, 0, 96, tmp_path / "set", pairs=False)
    assert found["split"].value_counts().to_dict() == {"train": 2, "val": 2}
    with pytest.raises(ValueError, match="one validation image of class a; takes two"):
        manifest.build(settings, 0, 96, tmp_path / "set")


def test_a_png_is_decoded_once(tmp_path, monkeypatch):
    """Pillow decodes it whole to find an EXIF orientation: a training would read all images twice."""
    photograph().save(path := tmp_path / "one.png")
    decoded, decoder = [], PngImagePlugin.PngImageFile.load_prepare
    monkeypatch.setattr(
        PngImagePlugin.PngImageFile, "load_prepare", lambda own: decoded.append(1) or decoder(own)
    )
    assert reading.read_image(path).shape == (3, 96, 96) and len(decoded) == 1
