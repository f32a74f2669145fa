"""benchmarks.gpu: what travels to the machine, and the settings there."""

import lzma
import zipfile
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from benchmarks.gpu import (
    archive,
    preset,
)
from walls.sources import folders, imagenet

ANIMALS, OTHER = ("n01443537", "n01629819", "n02124075"), "n02769748"


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """A small zip laid out as Tiny-ImageNet's: three animals and a backpack."""
    path = tmp_path_factory.mktemp("public") / "tiny-imagenet-200.zip"
    lines = []
    with zipfile.ZipFile(path, "w") as file:
        for number, wnid in enumerate((*ANIMALS, OTHER)):
            for image in range(4):
                name = f"tiny-imagenet-200/train/{wnid}/images/{wnid}_{image}.JPEG"
                file.writestr(name, jpeg(10 * number + image))
            for image in range(2):
                file.writestr(
                    f"tiny-imagenet-200/val/images/val_{2 * number + image}.JPEG",
                    jpeg(100 + 2 * number + image),
                )
                lines.append(f"val_{2 * number + image}.JPEG\t{wnid}\t0\t0\t63\t63\n")
        file.writestr("tiny-imagenet-200/val/val_annotations.txt", "".join(lines))
        file.writestr(
            "tiny-imagenet-200/words.txt",
            "".join(f"{wnid}\tname of {wnid}, other\n" for wnid in (*ANIMALS, OTHER)),
        )
    return path


def test_an_archive_is_read_as_the_public_one_is(public, tmp_path):
    """All animals, none of the rest, every byte; the same file again from the same source."""
    packed = tmp_path / "few.zip.xz"
    assert archive.make(public, packed, 1) == list(ANIMALS)
    listing = imagenet.tiny_imagenet(archive.unpack(packed, tmp_path / "few.zip"))
    whole = imagenet.tiny_imagenet(public)
    for split, count in (("train", 4), ("val", 2)):
        assert listing.files[split] == {wnid: whole.files[split][wnid] for wnid in ANIMALS}
        assert all(len(files) == count for files in listing.files[split].values())
    assert [listing.name(wnid) for wnid in ANIMALS] == [f"name of {wnid}" for wnid in ANIMALS]
    with zipfile.ZipFile(tmp_path / "few.zip") as made, zipfile.ZipFile(public) as given:
        images = [name for name in made.namelist() if name.endswith(".JPEG")]
        assert len(images) == 18 and all(made.read(name) == given.read(name) for name in images)
    archive.make(public, tmp_path / "again.zip.xz", 1)
    assert (tmp_path / "again.zip.xz").read_bytes() == packed.read_bytes()


def test_an_archive_is_no_larger_than_asked_and_takes_the_wanted_first(public, tmp_path):
    packed = tmp_path / "few.zip.xz"
    archive.make(public, packed, 1)
    size = packed.stat().st_size
    assert archive.make(public, packed, 0.7 * size / 1e6, [ANIMALS[2]]) == [ANIMALS[0], ANIMALS[2]]
    assert packed.stat().st_size <= 0.7 * size
    with pytest.raises(
        ValueError, match=r"megabytes: got 0.001, which hold 0 classes .*takes two or more"
    ):
        archive.make(public, packed, 0.001)


def test_photographs_of_the_archives_classes_alone(public, tmp_path):
    archive.make(public, tmp_path / "few.zip.xz", 1)
    given = tmp_path / "photographs.zip"
    with zipfile.ZipFile(given, "w") as file:
        for name in (
            f"val/{ANIMALS[0]}/1.JPEG",
            f"val/{ANIMALS[0]}/2.JPEG",
            f"val/{ANIMALS[1]}/3.JPEG",
            f"val/{OTHER}/4.JPEG",
            f"val/{OTHER}/5.JPEG",
            f"val/{ANIMALS[0]}/notes.txt",
        ):
            file.writestr(name, name)
    assert archive.photographs(given, tmp_path / "larger", tmp_path / "few.zip.xz") == {
        ANIMALS[0]: 2
    }
    assert folders.images_by_class(tmp_path / "larger") == {
        ANIMALS[0]: [str(tmp_path / "larger" / ANIMALS[0] / f"{n}.JPEG") for n in (1, 2)]
    }


def test_the_settings_are_the_presets_but_for_what_is_named(public, tmp_path):
    archive.make(public, tmp_path / "few.zip.xz", 1)
    p = preset.settings(
        archive.unpack(tmp_path / "few.zip.xz", tmp_path / "few.zip"), None, tiny=False
    )
    assert (p.model.width, p.model.dense, p.model.batch_norm, p.model.dropout) == (
        1.0,
        4096,
        True,
        0.2,
    )
    assert (p.data.classes, p.data.animals, p.train.weight_decay, p.train.schedule) == (
        3,
        True,
        5e-4,
        "onecycle",
    )
    assert "KPCA-CAM" in p.cams.methods and p.wall.rows == 9 and p.stacks.generator is None


def test_the_archive_is_of_plain_xz(public, tmp_path):
    """Anybody's xz unpacks it."""
    archive.make(public, tmp_path / "few.zip.xz", 1)
    with zipfile.ZipFile(BytesIO(lzma.decompress((tmp_path / "few.zip.xz").read_bytes()))) as file:
        assert file.testzip() is None and file.read(
            "tiny-imagenet-200/wnids.txt"
        ).decode().split() == list(ANIMALS)
