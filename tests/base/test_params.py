"""params.yaml: every wrong value gets one line that names it; DVC's reading of YAML."""

import pytest
import torch
import yaml
from conftest import ROOT, run

from walls.base import params
from walls.images import transforms
from walls.network import architecture, geometry
from walls.project import commands
from walls.sources.kinds import SOURCES
from walls.training import loop
from walls.training.settings import walls_of

TEXT = (ROOT / "presets" / "critters.yaml").read_text()


def load(tmp_path, text):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    return params.load(file)


@pytest.mark.parametrize("preset", sorted(p.stem for p in (ROOT / "presets").glob("*.yaml")))
def test_every_preset_is_valid(preset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("imagenet", "authors/model", "authors/data/stackmix", "authors/data/stackgen"):
        (tmp_path / folder).mkdir(parents=True)
    for which in ("masked", "baseline"):
        (tmp_path / "authors" / "model" / f"params_vgg16_{which}.pt").touch()
    assert params.load(ROOT / "presets" / f"{preset}.yaml").wall.rows >= 1


def test_the_papers_training_to_the_letter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    p = params.load(ROOT / "presets" / "imagenet.yaml")
    assert p.model.model_dump() == {
        "width": 1,
        "dense": 4096,
        "batch_norm": False,
        "dropout": 0.5,
        "checkpoint": None,
    }
    wanted = {
        "epochs": 90,
        "batch_size": 256,
        "lr": 0.03,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "schedule": "step",
        "precision": "float16",
    }
    assert {key: getattr(p.train, key) for key in wanted} == wanted
    assert (SOURCES["imagenet"].crop_area, transforms.CROP_ASPECT) == ((0.1, 1.0), (0.8, 1.25))
    assert (p.wall.rows, p.image_size, p.seed, p.stacks.images, p.stacks.generator) == (
        9,
        224,
        0,
        100,
        None,
    )
    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), p.train.lr)
    rates = loop.schedule(optimizer, p.train, steps=1)
    seen = [
        (optimizer.step(), optimizer.param_groups[0]["lr"], rates.step())[1]
        for _ in range(p.train.epochs)
    ]
    assert seen == pytest.approx([0.03] * 30 + [0.003] * 30 + [0.0003] * 30)


def test_values_are_read(tmp_path):
    p = load(tmp_path, TEXT)
    assert (p.wall.rows, p.model.width, p.train.weight_decay, p.data.root) == (
        9,
        0.125,
        0.0005,
        None,
    )


@pytest.mark.parametrize("old, new, message", [
    ("rows: 9", "rows: nine", "wall.rows: got 'nine'; takes a whole number of feature rows, 1 or more"),
    ("rows: 9", "rows: 0", "wall.rows: got 0; takes a whole"),
    ("rows: 9", "rows: 9.5", "wall.rows: got 9.5; takes a whole"),
    ("rows: 9", "row: 9", "wall.row: unknown key; did you mean rows?"),
    ("batch_norm: true", "batch_norm: yes", "model.batch_norm: got 'yes'; takes true or false"),
    ("momentum: 0.9", "momentum: 1", "train.momentum: got 1; takes a number from 0 to below 1"),
    ("lr: 0.05", "lr: .inf", "train.lr: got inf; takes a number above 0"),
    ("lr: 0.05", "lr: .nan", "train.lr: got nan; takes a number above 0"),
    ("classes: 10", "classes: 11", "data.classes: got 11; takes 2 to 10 with critters"),
    ("name: critters", "name: tiny-imagenet", "stacks.generator: got critters; takes diffusers, folder or null with tiny-"),
    ("name: critters", "name: imagenet", "data.root: got null; takes the path of a folder of images with"),
    ("name: critters", "name: folder", "data.root: got null; takes the path of a folder of images with"),
    ("name: critters", "name: none", "model.checkpoint: got null; takes a folder of trained models with data.name none"),
    ("name: critters", "name: none", "stacks.mix_dir: got null; takes a folder of ready images with data.name none"),
    ("name: critters", "name: imagenette", "data.name: got 'imagenette'; takes critters, tiny-imagenet, imag"),
    ("root: null", "root: no/such.zip", "data.root: got no/such.zip, which isn't there"),
    ("animals: false", "animals: cats", "data.animals: got 'cats'; takes true for ImageNet's animal classes alone"),
    ("train_images: 3000", "train_images: null", "data.train_images: got null; takes a number with critters"),
    ("val_images: 500", "val_images: null", "data.val_images: got null; takes a number with critters"),
    ("val_images: 500", "val_images: all", "data.val_images: got 'all'; takes a whole number, at least two images"),
    ("train_images: 3000", "train_images: 9", "data.train_images: got 9; takes at least one per class, 10"),
    ("generator: critters", "generator: folder", "stacks.gen_dir: got null; takes a folder of ready STACK-GEN images"),
    ("generator: critters", "generator: dalle", "stacks.generator: got 'dalle'; takes critters, diffusers, folder"),
    ("generator: critters", "generator: diffusers", "stacks.model: got null; takes a text-to-image model's Hugging Face"),
    ("model: null ", "model: a/b ", "stacks.model: got a/b; takes null with the generator critters, and a model with diff"),
    ("model: null ", "model: 7 ", "stacks.model: got 7; takes a text-to-image model's Hugging Face name or folder"),
    ("model: null ", "model: '' ", "stacks.model: got ''; takes a text-to-image model's Hugging Face name or folder"),
    ("val_images: 500", "val_images: 19", "data.val_images: got 19; takes at least two per class, 20"),
    ("RandomCAM]", "RandomCAM, HiResCAM]", "cams.methods: got ['GradCAM'"),
    ("RandomCAM]", "RandomCAMM]", "cams.methods: got RandomCAMM; did you mean RandomCAM? takes GradCAM, "),
    ("RandomCAM]", "7]", "cams.methods: got 7; takes a list of names of methods.py, each once"),
    ("seed: 0", "seed: 0\nseed: 1", "repeated key seed"),
    ("seed: 0", "seed: [0", "not readable as YAML"),
    ("batch_size: 32", "batch_size: 3001", "train.batch_size: got 3001; takes up to 3000"),
    ("accumulate: 1 ", "accumulate: 3 ", "train.accumulate: got 3; takes a divisor of train.batch_size, 32"),
    ("accumulate: 1 ", "accumulate: 0 ", "train.accumulate: got 0; takes a whole number, 1 or more"),
    ("kernel: 2 ", "kernel: 3 ", "theory.pool: got 2 with a kernel of 3; takes a number of which twice divides"),
    ("again: [1, 2] ", "again: [1, 1] ", "train.again: got [1, 1]; takes a list of whole numbers from 1 to 999, each once"),
    ("again: [1, 2] ", "again: [0] ", "train.again: got 0; takes a list of whole numbers from 1"),
    ("again: [1, 2] ", "again: 3 ", "train.again: got 3; takes a list of whole numbers from 1"),
    ("costly_images: 30 ", "costly_images: 0 ", "cams.costly_images: got 0; takes a whole number of images, 1 or more, or null"),
    ("images: 24 ", "images: 1 ", "sweep.images: got 1; takes a whole number, 2 or more"),
    ("epochs: 5               #", "epochs: 0 #", "sweep.epochs: got 0; takes a whole number, 1 or more"),
    ("checkpoint: null", "checkpoint: no/such", "model.checkpoint: got no/such, without masked.safetensors"),
    ("mix_dir: null", "mix_dir: no/such", "stacks.mix_dir: got no/such, which is no folder"),
    ("photos: null", "photos: no/such", "stacks.photos: got no/such, which is no folder; takes a folder CLASS/*.jpg"),
    ("seed: 0", "seed: 0\n5: 3", "5: unknown key"),
    ("theory:", "theorie:", "theory: got nothing (the key is missing); takes a section with image"),
])  # fmt: skip
def test_a_wrong_value_is_named(tmp_path, old, new, message):
    assert old in TEXT
    with pytest.raises(ValueError) as error:
        load(tmp_path, TEXT.replace(old, new, 1))
    assert message in str(error.value)


def test_a_batch_may_hold_every_image(tmp_path):
    text = TEXT.replace("train_images: 3000", "train_images: 60")
    assert (
        load(tmp_path, text.replace("batch_size: 32", "batch_size: 60", 1)).train.batch_size == 60
    )
    with pytest.raises(ValueError, match=r"train\.batch_size: got 61; takes up to 60"):
        load(tmp_path, text.replace("batch_size: 32", "batch_size: 61", 1))


def test_animals_of_a_folder_are_nobodys_knowledge(tmp_path):
    text = TEXT.replace("name: critters", "name: folder").replace("root: null", f"root: {tmp_path}")
    text = text.replace("generator: critters", "generator: null")
    assert (
        load(tmp_path, text.replace("train_images: 3000", "train_images: null")).data.train_images
        is None
    )
    with pytest.raises(
        ValueError, match=r"^data\.root: got no/such, which is no folder; takes the path of a"
    ):
        load(tmp_path, text.replace(f"root: {tmp_path}", "root: no/such"))
    with pytest.raises(ValueError, match=r"^data\.animals: got true; takes false with folder"):
        load(tmp_path, text.replace("animals: false", "animals: true"))


def test_a_file_from_before_animals_means_the_same(tmp_path):
    assert load(tmp_path, TEXT.replace("  animals: false", "  # no")).data.animals is False


def test_a_model_draws_for_every_source_with_classes(tmp_path):
    text = TEXT.replace("generator: critters", "generator: diffusers").replace(
        "model: null ", "model: owner/name "
    )
    assert load(tmp_path, text).stacks.model == "owner/name"
    assert (
        load(tmp_path, text.replace("name: critters", "name: tiny-imagenet")).stacks.generator
        == "diffusers"
    )
    with pytest.raises(
        ValueError,
        match=r"^stacks\.gen_dir: got .*; takes null with the generator diffusers, which draws",
    ):
        load(tmp_path, text.replace("gen_dir: null", f"gen_dir: {tmp_path}"))
    with pytest.raises(
        ValueError,
        match=r"stacks\.generator: got diffusers; takes folder or null with data\.name none",
    ):
        load(tmp_path, text.replace("name: critters", "name: none"))


def test_a_file_from_before_the_model_means_the_same(tmp_path):
    assert load(tmp_path, TEXT.replace("  model: null", "  # no")).stacks.model is None


@pytest.mark.parametrize(
    "names",
    [
        ("masked.safetensors", "baseline.safetensors"),
        ("params_vgg16_masked.pt", "params_vgg16_baseline.pt"),
    ],
)
def test_checkpoints_are_ours_or_the_authors(tmp_path, names):
    text = TEXT.replace("checkpoint: null", f"checkpoint: {tmp_path}")
    (tmp_path / names[0]).touch()
    with pytest.raises(
        ValueError,
        match=r"without baseline\.safetensors or params_vgg16_baseline\.pt; takes a folder with",
    ):
        load(tmp_path, text)
    (tmp_path / names[1]).touch()
    alone = text.replace("again: [1, 2]", "again: []")
    assert load(tmp_path, alone).model.checkpoint == str(tmp_path)
    (tmp_path / names[0].replace("masked", "masked-1")).touch()
    with pytest.raises(
        ValueError, match=r"^train\.again: got \[1, 2\], but .* masked-2\.saf"
    ) as error:
        load(tmp_path, text)
    assert "\n" not in str(error.value)
    (tmp_path / names[0].replace("masked", "masked-2")).touch()
    assert load(tmp_path, text).train.again == [1, 2]


def test_one_line_per_wrong_field(tmp_path):
    wrong = (
        TEXT.replace("rows: 9", "rows: nine")
        .replace("dense: 512", "dense: -1")
        .replace("epochs: 5", "epoch: 5", 1)
    )
    with pytest.raises(ValueError) as error:
        load(tmp_path, wrong)
    names = [line.split(":")[0] for line in str(error.value).splitlines()]
    assert sorted(names) == ["model.dense", "train.epoch", "train.epochs", "wall.rows"]


def test_numbers_mean_what_they_mean_to_dvc(tmp_path):
    p = load(tmp_path, TEXT.replace("lr: 0.05", "lr: 1e-3").replace("seed: 0", "seed: 010"))
    assert p.train.lr == 0.001 and p.seed == 10  # PyYAML: the string '1e-3' and the octal 8


def test_the_command(tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text(TEXT.replace("rows: 9", "rows: nine"))
    done = run(ROOT, "python", "-m", "walls", "params", str(tmp_path / "bad.yaml"), check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("wall.rows: got 'nine'")
    (tmp_path / "good.yaml").write_text(TEXT)
    assert commands.main(["params", str(tmp_path / "good.yaml")]) == 0
    assert capsys.readouterr() == ("", "")


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        params.load(tmp_path / "params.yaml")


def test_a_notebook_run_by_hand_takes_params_yaml(tmp_path, monkeypatch, capsys):
    """Its parameters cell holds defaults: they must not stand silently in the pipeline's place."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["wall"]["rows"], content["seed"] = 7, 5
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    defaults = {"seed": 0, "image_size": 224, "wall": {"rows": 9}, "which": "masked"}
    cell = dict(defaults)
    params.by_hand(cell)
    assert cell == defaults | {"wall": {"rows": 7}, "seed": 5}
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["seed", "wall"]
    params.by_hand(cell)  # once they are its values, there is nothing to say
    assert capsys.readouterr().out == ""
    monkeypatch.setenv(params.RUNNING, "wall")
    cell = dict(defaults)
    params.by_hand(cell)
    assert cell == defaults


def test_a_wall_without_a_dead_zone_is_refused_by_the_check(tmp_path):
    for rows, size in ((5, 224), (14, 224), (15, 224), (9, 128)):
        text = TEXT.replace("rows: 9 ", f"rows: {rows} ").replace(
            "image_size: 224", f"image_size: {size}"
        )
        heights = (
            "from 6 to 13 rows at image_size 224"
            if size == 224
            else "from 6 to 7 rows at image_size 128"
        )
        with pytest.raises(
            ValueError, match=rf"^wall\.rows: got {rows}; takes {heights}: others leave"
        ):
            load(tmp_path, text)


def test_the_checks_walls_are_those_of_the_layers():
    """Without torch, at every image size: geometry.every_wall of [VGG]'s own layers."""
    narrow = architecture.vgg(0.01, 1, 2, False, 0).features
    for size in range(32, 420):
        assert list(walls_of(size)) == geometry.every_wall(narrow, size), size
