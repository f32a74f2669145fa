"""The two datasets: cut at the dead zone's edge, two images of one class, rejects replaced."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from PIL import Image
from torchvision import transforms

from walls.base.seeds import stream
from walls.images import loaders, reading, stacked
from walls.images.loaders import read_manifest
from walls.images.reading import read_image
from walls.network.geometry import DeadZone
from walls.sources import critters, manifest
from walls.sources.settings import Data
from walls.stacks import build as stacks
from walls.stacks.settings import Stacks

HEADER = "dataset,seed,upper,lower,reason\n"
ZONE = DeadZone((170, 5), (224, 14))  # the paper's
HIGHER = DeadZone((138, 3), (224, 14))  # behind a wall of 11


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    manifest.build(
        Data(name="critters", root=None, classes=3, train_images=3, val_images=18), 0, 224, folder
    )
    return folder


def build(source, folder, zone=ZONE, rejects="", seed=0, **changes):
    settings = {"images": 7, "mix_dir": None, "gen_dir": None, "generator": "critters"} | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rejects.csv").write_text(HEADER + rejects)
    manifest = loaders.read_manifest(source, "val")
    return stacks.build(Stacks(**settings), manifest, zone, seed, folder, folder / "rejects.csv")


def photograph(source, name):
    (path,) = (source / "images" / "val").rglob(name)
    return reading.read_image(path)


def test_stack_mix_is_equation_6(source, tmp_path):
    build(source, tmp_path)
    table, images = stacked.read(tmp_path, "stack-mix", 224)
    for row, image in zip(table.to_dict("records"), images, strict=True):
        upper, lower = photograph(source, row["upper"]), photograph(source, row["lower"])
        assert torch.equal(image[:, :170], upper[:, :170]) and torch.equal(
            image[:, 170:], lower[:, 170:]
        )
        assert row["upper"] != row["lower"] and not torch.equal(upper, lower)
        assert row["upper"].split("/")[0] == row["lower"].split("/")[0] == row["class"]


def test_a_class_that_is_a_number_is_read_as_its_name(source, tmp_path):
    """The authors' class folders are 0 to 397: notebook 5 stopped at its titles."""
    build(source, tmp_path)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(re.sub("rabbit|tiger|tortoise", "007", manifest.read_text()))
    rows, _ = stacked.read(tmp_path, "stack-mix", 224)
    assert set(rows["class"]) == {"007"} and set(rows["label"]) == {0, 1, 2}


def test_stack_mix_draws_every_place_anew(source):
    """More images than classes: a class comes again, with another pair."""
    maker = stacks.mixing(read_manifest(source, "val"), ZONE, 0)
    pairs = {
        (draw.upper, draw.lower)
        for i in range(8)
        if (draw := maker(stacks.Place(i, 0, "tiger"), 0))
    }
    assert len(pairs) > 4


def test_a_pair_is_drawn_from_its_seed_place_and_attempt(source):
    """So that another machine, or another order, cuts the same photographs together."""
    own = read_manifest(source, "val").query("label == 1")
    for place, attempt in ((0, 0), (3, 0), (3, 2)):
        upper, lower = stream(5, "stack-mix", place, attempt).choice(len(own), 2, replace=False)
        draw = stacks.mixing(own, ZONE, 5)(stacks.Place(place, 1, ""), attempt)
        for found, number in ((draw.upper, upper), (draw.lower, lower)):
            assert own["path"].iloc[number].endswith(found)


def test_another_wall_moves_the_edge_in_both(source, tmp_path):
    build(source, tmp_path / "a")
    build(source, tmp_path / "b", zone=HIGHER)
    for dataset in stacked.DATASETS:
        (first, images), (second, moved) = (
            stacked.read(tmp_path / copy, dataset, 224) for copy in ("a", "b")
        )
        images, moved = images[:], moved[:]
        assert set(first["edge"]) == {170} and set(second["edge"]) == {138}
        assert all(first["upper"] == second["upper"])
        assert (images != moved).flatten(1).any(1).all()
        if dataset == "stack-mix":
            assert torch.equal(images[:, :, :138], moved[:, :, :138]) and torch.equal(
                images[:, :, 170:], moved[:, :, 170:]
            )


def test_both_hold_the_same_classes(source, tmp_path):
    table = build(source, tmp_path)
    mix, gen = (table[table["dataset"] == d] for d in stacked.DATASETS)
    assert (
        mix["class"].tolist() == gen["class"].tolist()
        and len(mix) == 7
        and set(mix["class"]) == {"tiger", "rabbit", "tortoise"}
    )


def test_the_same_seed_the_same_images(source, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        build(source, tmp_path / name, seed=seed)
    a, b, c = (stacked.read(tmp_path / name, "stack-mix", 224)[1][:] for name in "abc")
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_longer_dataset_begins_with_the_shorter(source, tmp_path):
    build(source, tmp_path / "a", images=4)
    build(source, tmp_path / "b", images=9)
    for dataset in stacked.DATASETS:
        assert torch.equal(
            stacked.read(tmp_path / "b", dataset, 224)[1][:4],
            stacked.read(tmp_path / "a", dataset, 224)[1][:],
        )


def test_a_refused_image_is_replaced_and_stays_in_the_manifest(source, tmp_path):
    before = build(source, tmp_path / "a")
    bad = before.iloc[2]
    after = build(
        source, tmp_path / "b", rejects=f"stack-mix,0,{bad['upper']},{bad['lower']},two tails\n"
    )
    (row,) = after[after["reject"] != ""].to_dict("records")
    assert (row["index"], row["reject"], row["path"]) == (2, "two tails", "")
    kept = after[(after["dataset"] == "stack-mix") & (after["path"] != "")]
    assert len(kept) == 7 and (kept.iloc[2]["upper"], kept.iloc[2]["lower"]) != (
        bad["upper"],
        bad["lower"],
    )
    assert kept.iloc[2]["attempt"] == 1


@pytest.mark.parametrize(
    "line", ["stack-mux,0,a,b,why\n", "stack-mix,x,a,b,why\n", "stack-mix,0,a,b,\n"]
)
def test_wrong_rejects_are_named(tmp_path, line):
    (tmp_path / "rejects.csv").write_text(HEADER + line)
    with pytest.raises(ValueError, match=r"rejects\.csv, line 2: takes stack-mix or stack-gen"):
        stacks.read_rejects(tmp_path / "rejects.csv")


def test_the_committed_rejects_are_readable():
    stacks.read_rejects(ROOT / "rejects.csv")


def test_no_pair_comes_twice(source, tmp_path):
    table = build(source, tmp_path, images=60, generator=None)
    mix = table[table["dataset"] == "stack-mix"]
    assert len(mix) == 60 and not mix.duplicated(["upper", "lower"]).any()
    with pytest.raises(ValueError, match=r"repeat an earlier one; takes more data\.val_images"):
        build(
            source, tmp_path / "more", images=100, generator=None
        )  # 6 images of a class make 30 pairs, 3 classes 90


def test_without_a_generator_stack_gen_is_empty(source, tmp_path):
    build(source, tmp_path, generator=None)
    assert (
        len(stacked.read(tmp_path, "stack-gen", 224)[1]) == 0
        and len(stacked.read(tmp_path, "stack-mix", 224)[1]) == 7
    )


def test_drawn_scenes_are_there_without_the_hidden_animal_too(source, tmp_path):
    """The accepted attempt's own, image by image; cut and ready images have none."""
    rejects = 'stack-gen,0,"scene 1, attempt 0","scene 1, attempt 0",two tails\n'
    build(source, tmp_path, rejects=rejects)
    rows, images = stacked.read(tmp_path, "stack-gen", 224)
    bare = stacked.without(tmp_path, rows, 224)
    assert len(bare) == len(images) == 7 and rows["attempt"][1] == 1
    for row, image, own in zip(rows.to_dict("records"), images, bare, strict=True):
        scene = (0, row["index"], row["label"], 170, 224, row["attempt"])
        for drawn, lower in ((image, True), (own, False)):
            expected = critters._stack(*scene, lower=lower)
            assert np.array_equal(drawn.permute(1, 2, 0).numpy(), expected)
    assert len(list((tmp_path / stacked.WITHOUT).iterdir())) == 7
    mixed, _ = stacked.read(tmp_path, "stack-mix", 224)
    assert stacked.without(tmp_path, mixed, 224) is None
    assert stacked.without(tmp_path, rows.drop(columns="without"), 224) is None  # of an older run
    rows.loc[3, "without"] = ""
    assert stacked.without(tmp_path, rows, 224) is None
    build(source, tmp_path, generator=None)
    assert not (tmp_path / stacked.WITHOUT).exists()


def test_ready_images_are_taken_as_they_are(source, tmp_path):
    ready = tmp_path / "ready" / "rabbit"
    ready.mkdir(parents=True)
    Image.fromarray(np.full((224, 224, 3), 77, np.uint8)).save(ready / "one.png")
    build(source, tmp_path / "out", mix_dir=str(tmp_path / "ready"))
    table, images = stacked.read(tmp_path / "out", "stack-mix", 224)
    assert table["label"].tolist() == [1] and (images[:] == 77).all()


def test_pictures_read_what_is_asked_for(source, tmp_path):
    build(source, tmp_path)
    table, images = stacked.read(tmp_path, "stack-mix", 224)
    assert len(images) == 7 and torch.equal(images[2:4], torch.stack([images[2], images[3]]))
    assert (
        torch.equal(images[-1], read_image(tmp_path / table["path"].iloc[-1]))
        and len(images[7:]) == 0
    )


def test_what_lies_outside_the_datasets(source, tmp_path):
    table = build(source, tmp_path)
    validation = read_manifest(source, "val")
    used = {*table["upper"], *table["lower"]}
    found = stacked.outside(validation, tmp_path, 224, 100, 0)
    names = ["/".join(file.parts[-2:]) for file in found.files]
    photographs = [name for name in used if "scene" not in name]
    assert len(names) == len(set(names)) == len(validation) - len(photographs) and not used & set(
        names
    )
    assert stacked.outside(validation, tmp_path, 224, 3, 0).files == found.files[:3]


def test_ready_stack_mix_images_are_of_the_right_size(source, tmp_path):
    (tmp_path / "ready").mkdir()
    Image.new("RGB", (230, 224)).save(tmp_path / "ready" / "wide.png")
    with pytest.raises(
        ValueError,
        match=r"stacks\.mix_dir: .*wide\.png is 230 × 224; takes 224 × 224, cut at row 170",
    ):
        build(source, tmp_path / "out", mix_dir=str(tmp_path / "ready"))


def test_both_datasets_are_written_or_neither(source, tmp_path):
    build(source, tmp_path / "out")
    before = {file: file.read_bytes() for file in sorted((tmp_path / "out").rglob("*.*"))}
    (tmp_path / "ready").mkdir()
    Image.new("RGB", (224, 224)).save(tmp_path / "ready" / "good.png")
    (tmp_path / "ready" / "half.png").write_bytes(
        (tmp_path / "ready" / "good.png").read_bytes()[:60]
    )
    with pytest.raises(ValueError, match=r"half\.png"):
        build(source, tmp_path / "out", gen_dir=str(tmp_path / "ready"), seed=1)
    assert {file: file.read_bytes() for file in sorted((tmp_path / "out").rglob("*.*"))} == before
    assert not (tmp_path / "out.partial").exists()


def test_ready_stack_gen_images_go_through_the_papers_preprocessing(source, tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "ready").mkdir()
    for name, size in (("b.png", (512, 512)), ("a.jpg", (700, 400))):
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(size)
        coarse.save(tmp_path / "ready" / name)
    table = build(source, tmp_path / "out", gen_dir=str(tmp_path / "ready"), generator="folder")
    rows, images = stacked.read(tmp_path / "out", "stack-gen", 224)
    # The authors' own, on Pillow's images: Resize(256), CenterCrop(224); by name, in a flat folder.
    theirs = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()]
    )
    for image, name in zip(images, ("a.jpg", "b.png"), strict=True):
        expected = theirs(Image.open(tmp_path / "ready" / name).convert("RGB"))
        assert (image.int() - expected.int()).abs().max() <= 1
    assert rows["class"].tolist() == ["a", "b"] and rows["label"].tolist() == [-1, -1]
    assert (table["dataset"] == "stack-mix").sum() == 7


def test_ready_images_need_no_others(source, tmp_path):
    (tmp_path / "ready").mkdir()
    Image.new("RGB", (224, 224), (9, 9, 9)).save(tmp_path / "ready" / "one.png")
    (tmp_path / "ready" / "._one.png").write_bytes(b"what macOS puts beside it")
    (tmp_path / "rejects.csv").write_text(HEADER)
    settings = Stacks(images=2, mix_dir=str(tmp_path / "ready"), gen_dir=None, generator=None)
    none = loaders.read_manifest(source, "val").iloc[:0]
    table = stacks.build(settings, none, ZONE, 0, tmp_path, tmp_path / "rejects.csv")
    assert (
        table["dataset"].tolist() == ["stack-mix"]
        and (stacked.read(tmp_path, "stack-mix", 224)[1][:] == 9).all()
    )


def test_only_animals_are_stacked(source, tmp_path):
    manifest = loaders.read_manifest(source, "val")
    manifest["animal"] = manifest["class"] != "rabbit"
    (tmp_path / "rejects.csv").write_text(HEADER)
    settings = Stacks(images=6, mix_dir=None, gen_dir=None, generator=None)
    table = stacks.build(settings, manifest, ZONE, 0, tmp_path, tmp_path / "rejects.csv")
    assert sorted(table["class"]) == ["tiger"] * 3 + ["tortoise"] * 3
    with pytest.raises(
        ValueError, match=r"none of the classes is an animal; takes data\.animals true"
    ):
        stacks.build(
            settings, manifest.assign(animal=False), ZONE, 0, tmp_path, tmp_path / "rejects.csv"
        )


def test_the_papers_sampling():
    """100 of ImageNet's first 398 classes, each once; the 602 others never."""
    labels = np.repeat(np.arange(1000), 2)
    manifest = pd.DataFrame(
        {"label": labels, "class": [f"class {n}" for n in labels], "animal": labels < 398}
    )
    for seed in (0, 1):
        places = stacks._places(manifest, 100, seed)
        drawn = [place.label for place in places]
        assert len(set(drawn)) == 100 and max(drawn) < 398 and max(drawn) > 300
        assert [place.index for place in places] == list(range(100))
        assert [place.name for place in places] == [f"class {label}" for label in drawn]
    assert drawn != [place.label for place in stacks._places(manifest, 100, 0)]


def test_one_image_of_a_class_cannot_be_stacked(tmp_path):
    manifest = pd.DataFrame(
        {"label": [0, 0, 1], "class": ["a", "a", "b"], "path": ["x", "y", "z"]}
    ).assign(split="val", animal=True)
    (tmp_path / "rejects.csv").write_text(HEADER)
    settings = Stacks(images=2, mix_dir=None, gen_dir=None, generator=None)
    with pytest.raises(ValueError, match="class b has one validation image"):
        stacks.build(settings, manifest, ZONE, 0, tmp_path, tmp_path / "rejects.csv")


def test_larger_photographs_take_the_place_of_a_classs_images(source, tmp_path):
    (tmp_path / "out").mkdir()
    pixels = {}
    for key, count in (("rabbit", 2), ("tiger", 1), ("unknown", 2)):  # one tiger can't be paired
        (tmp_path / "photos" / key).mkdir(parents=True)
        for n in range(count):
            random, name = torch.Generator().manual_seed(n), f"{key}/{n}.png"
            pixels[name] = torch.randint(256, (3, 224, 224), dtype=torch.uint8, generator=random)
            image = Image.fromarray(pixels[name].permute(1, 2, 0).numpy())
            image.save(tmp_path / "photos" / name)
    build(source, tmp_path / "out", photos=str(tmp_path / "photos"), generator=None)
    table, images = stacked.read(tmp_path / "out", "stack-mix", 224)
    assert set(table["class"]) == {"rabbit", "tiger", "tortoise"}
    for row, image in zip(table.to_dict("records"), images, strict=True):
        assert (row["upper"] in pixels) == (row["lower"] in pixels) == (row["class"] == "rabbit")
        if row["upper"] in pixels:
            assert torch.equal(
                image, stacks.stack(pixels[row["upper"]], pixels[row["lower"]], ZONE)
            )
    shutil.rmtree(tmp_path / "photos" / "rabbit")
    with pytest.raises(
        ValueError, match=r"stacks\.photos: .* has two photographs of none of the classes"
    ):
        build(source, tmp_path / "out", photos=str(tmp_path / "photos"))
