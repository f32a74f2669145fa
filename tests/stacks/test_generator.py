"""STACK-GEN by a text-to-image model: prompts, seeds, crops, each sample drawn once; a tiny real
pipeline.
"""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from matplotlib import pyplot as plt
from PIL import Image
from safetensors.torch import load_file
from torchvision.transforms.v2 import functional as tf

from walls.figures import pictures
from walls.images import loaders, reading, stacked
from walls.network.geometry import DeadZone
from walls.sources import manifest
from walls.sources.settings import Data
from walls.stacks import build as stacks
from walls.stacks import generator
from walls.stacks.generator import (
    NAME,
    STEPS,
    Crop,
    Painter,
    Sample,
    central,
    load_pipeline,
    read_crops,
    samples,
)
from walls.stacks.settings import Stacks

HEADER = "sample,top,left,size\n"
REJECTS = "dataset,seed,upper,lower,reason\n"
ZONE = DeadZone((48, 3), (64, 4))


class Fake:
    """A pipeline whose 96 × 128 image is noise of the generator alone; keeps what it was asked
    for.
    """

    def __init__(self):
        self.calls = []

    def __call__(self, prompt, num_inference_steps, generator):
        self.calls.append((prompt, num_inference_steps, generator.initial_seed()))
        pixels = torch.randint(0, 256, (96, 128, 3), generator=generator, dtype=torch.uint8)
        return SimpleNamespace(images=[Image.fromarray(pixels.numpy())])


@pytest.fixture
def fake(monkeypatch):
    pipeline = Fake()
    monkeypatch.setattr(generator, "load_pipeline", lambda model: pipeline)
    return pipeline


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    manifest.build(
        Data(name="critters", root=None, classes=3, train_images=3, val_images=12), 0, 64, folder
    )
    return folder


def painter(folder, crops="", model="some/model"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "crops.csv").write_text(HEADER + crops)
    return Painter(model, folder / "crops.csv", folder / "samples", folder.parent / "kept")


def build(source, folder, crops="", rejects="", seed=0, model="some/model", images=4):
    draws = painter(folder, crops, model)
    (folder / "rejects.csv").write_text(REJECTS + rejects)
    settings = Stacks(images=images, mix_dir=None, gen_dir=None, generator="diffusers", model=model)
    manifest = loaders.read_manifest(source, "val")
    table = stacks.build(settings, manifest, ZONE, seed, folder, folder / "rejects.csv", draws)
    return table[table["dataset"] == "stack-gen"].reset_index(drop=True)


def seen(folder, name):
    return reading.read_image(folder / "samples" / f"{name}.png")


def test_the_papers_prompt_for_every_class(source, tmp_path, fake):
    table = build(source, tmp_path / "run")
    assert [call[0] for call in fake.calls] == [
        f"A photo of {c} stacked on top of {c}" for c in table["class"]
    ]
    assert set(table["class"]) == set(loaders.read_manifest(source)["class"])
    assert {call[1] for call in fake.calls} == {STEPS}
    shark = Sample("m", "great white shark", 0, 0, 0)
    assert shark.prompt == "A photo of great white shark stacked on top of great white shark"


def test_seeds_follow_from_seed_index_and_attempt_alone():
    keys = [
        (seed, index, attempt) for seed in range(4) for index in range(5) for attempt in range(3)
    ]
    seeds = {key: Sample("m", "a fox", *key).seed for key in keys}
    assert len(set(seeds.values())) == len(keys) and all(
        0 <= seed < 2**32 for seed in seeds.values()
    )
    assert all(Sample("another", "an owl", *key).seed == seed for key, seed in seeds.items())


def test_the_seed_is_used_and_recorded(source, tmp_path, fake):
    table = build(source, tmp_path / "run")
    record = pd.read_csv(tmp_path / "run" / "samples" / "samples.csv")
    expected = [
        Sample("some/model", row["class"], 0, row["index"], row["attempt"])
        for row in table.to_dict("records")
    ]
    assert (
        [call[2] for call in fake.calls]
        == record["seed"].tolist()
        == [sample.seed for sample in expected]
    )
    assert record["prompt"].tolist() == [sample.prompt for sample in expected]
    assert set(record["model"]) == {"some/model"} and set(record["steps"]) == {STEPS}
    assert table["upper"].tolist() == table["lower"].tolist() == record["sample"].tolist()
    assert (
        (table["seed"] == 0).all()
        and table["index"].tolist() == [0, 1, 2, 3]
        and (table["attempt"] == 0).all()
    )


def test_a_name_stands_for_model_prompt_seed_and_steps(monkeypatch):
    base = ("m", "a fox", 0, 3, 0)
    names = {Sample(*base).name}
    for place, other in enumerate(("n", "an owl", 1, 4, 1)):
        names.add(Sample(*base[:place], other, *base[place + 1 :]).name)
    monkeypatch.setattr(generator, "STEPS", STEPS + 1)
    names.add(Sample(*base).name)
    assert len({name.split("-")[-1] for name in names}) == 7
    assert all(NAME.fullmatch(name) for name in names)
    assert NAME.fullmatch(Sample("m", "crane (n02012849) / été", 0, 1234, 0).name)


def test_a_sample_is_drawn_once(source, tmp_path, fake):
    first = build(source, tmp_path / "a")
    assert len(fake.calls) == 4 and not list((tmp_path / "kept").glob("*.partial"))
    again = build(source, tmp_path / "b")  # the pipeline empties a stage's folder: another one here
    assert len(fake.calls) == 4 and again.equals(first)
    for name in first["path"]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    build(source, tmp_path / "c", images=6)
    assert len(fake.calls) == 6
    build(source, tmp_path / "d", model="another/model")
    assert len(fake.calls) == 10


def test_half_a_sample_is_none(tmp_path, fake, monkeypatch):
    sample = Sample("m", "a fox", 0, 0, 0)

    def save(self, target, *args):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(Image.Image, "save", save)
        painter(tmp_path / "a").draw(sample, 64)
    assert painter(tmp_path / "a").draw(sample, 64).shape == (3, 64, 64) and len(fake.calls) == 2


def test_the_middle_is_cut_out_where_nobody_chose(tmp_path, fake):
    sample = Sample("some/model", "a fox", 0, 0, 0)
    image = painter(tmp_path / "run").draw(sample, 96)
    assert torch.equal(image, seen(tmp_path / "run", sample.name)[:, :, 16:112])
    assert central(96, 128) == Crop(0, 16, 96) and central(9, 5) == Crop(2, 0, 5)


def test_a_chosen_square_is_cut_out(tmp_path, fake):
    sample = Sample("some/model", "a fox", 0, 0, 0)
    draws = painter(tmp_path / "run", f"{sample.name},21,64,64\n")
    square = draws.draw(sample, 64)
    whole = seen(tmp_path / "run", sample.name)
    assert whole.shape == (3, 96, 128) and torch.equal(square, whole[:, 21:85, 64:128])
    half = draws.draw(sample, 32)
    assert torch.equal(half, tf.resize(whole[:, 21:85, 64:128], [32, 32], antialias=True))


def test_another_crop_draws_nothing_again(source, tmp_path, fake):
    before = build(source, tmp_path / "a")
    name = before["upper"][2]
    after = build(source, tmp_path / "b", crops=f"{name},32,0,64\n")
    assert len(fake.calls) == 4 and after.equals(before)
    (_, old), (_, new) = (stacked.read(tmp_path / run, "stack-gen", 64) for run in "ab")
    assert [torch.equal(a, b) for a, b in zip(old, new, strict=True)] == [True, True, False, True]
    assert torch.equal(new[2], seen(tmp_path / "b", name)[:, 32:, :64])


def test_a_refused_sample_is_replaced(source, tmp_path, fake):
    bad = build(source, tmp_path / "a")["upper"][1]
    table = build(source, tmp_path / "b", rejects=f"stack-gen,0,{bad},{bad},three foxes\n")
    assert len(fake.calls) == 5 and table["index"].tolist() == [0, 1, 1, 2, 3]
    assert table["reject"].tolist() == ["", "three foxes", "", "", ""] and table[
        "attempt"
    ].tolist() == [0, 0, 1, 0, 0]
    assert not (tmp_path / "b" / "samples" / f"{bad}.png").exists()
    assert len(samples(tmp_path / "b" / "samples")[0]) == 4


@pytest.mark.parametrize("row", ["{},0,65,64", "{},33,0,64", "{},0,0,97"])
def test_a_crop_that_leaves_its_sample_is_named(tmp_path, fake, row):
    sample = Sample("some/model", "a fox", 0, 7, 0)
    draws = painter(tmp_path / "run", row.format(sample.name))
    with pytest.raises(
        ValueError, match=rf"crops\.csv, line 2: got rows .*inside {sample.name}, which has 96 rows"
    ):
        draws.draw(sample, 64)


@pytest.mark.parametrize(
    "line",
    [
        "fox,0,0,64",
        "003-0-fox-0123abcd,x,0,64",
        "003-0-fox-0123abcd,-1,0,64",
        "003-0-fox-0123abcd,0,0,0",
        "003-0-fox-0123abcd,0,1.5,64",
        "003-0-fox-0123abcd,0,0",
        "003-0-fox-0123abcd,0,0,²",
    ],
)
def test_a_line_that_is_no_crop_is_named(tmp_path, line):
    (tmp_path / "crops.csv").write_text(HEADER + "002-0-fox-0123abcd,0,0,64\n" + line + "\n")
    with pytest.raises(
        ValueError,
        match=r"crops\.csv, line 3: (takes a sample's name, and whole numbers of pixels|got 3 values)",
    ):
        read_crops(tmp_path / "crops.csv")


def test_other_faults_of_the_crops(tmp_path):
    (tmp_path / "crops.csv").write_text(
        HEADER + "002-0-fox-0123abcd,0,0,64\n002-0-fox-0123abcd,0,0,65\n"
    )
    with pytest.raises(ValueError, match=r"line 3: 002-0-fox-0123abcd stands on line 2 already"):
        read_crops(tmp_path / "crops.csv")
    (tmp_path / "crops.csv").write_text("name,top,left,size\n")
    with pytest.raises(
        ValueError,
        match=r"crops\.csv: got columns name, top, left, size; takes sample, top, left, size",
    ):
        read_crops(tmp_path / "crops.csv")


def test_the_committed_crops_are_readable():
    read_crops(ROOT / "crops.csv")


def test_the_sheet_shows_the_square_and_its_dead_zone(source, tmp_path, fake):
    name = build(source, tmp_path / "a")["upper"][1]
    build(source, tmp_path / "b", crops=f"{name},20,60,64\n")
    figure = pictures.crop_sheet(*samples(tmp_path / "b" / "samples"), 5, ZONE)
    assert len(figure.axes) == 4 and figure.axes[1].get_title() == name
    boxes = [
        (*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in figure.axes[1].patches
    ]
    assert boxes == [(59.5, 67.5, 64, 16), (59.5, 67.5, 64, 16), (59.5, 19.5, 64, 64)]
    assert figure.axes[1].images[0].get_array().shape == (96, 128, 3)
    plt.close(figure)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "find_spec", lambda name: None)
    message = r"^stacks\.generator: diffusers needs diffusers and transformers; pip install diffusers transformers$"
    with pytest.raises(ValueError, match=message):
        painter(tmp_path / "run").draw(Sample("m", "a fox", 0, 0, 0), 64)
    monkeypatch.setattr(generator, "find_spec", lambda name: name == "diffusers" or None)
    with pytest.raises(ValueError, match=r"needs transformers; pip install transformers$"):
        load_pipeline("m")


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A folder with a StableDiffusionPipeline of random weights: 16 × 16 pixels, a vocabulary of
    letters.
    """
    diffusers = pytest.importorskip(
        "diffusers", reason="takes the extra packages: pip install diffusers transformers"
    )
    transformers = pytest.importorskip(
        "transformers", reason="takes the extra package: pip install transformers"
    )
    folder = tmp_path_factory.mktemp("model")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    )
    torch.manual_seed(0)
    text = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        norm_num_groups=4,
        sample_size=16,
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=2,
    )
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "tiny")
    return folder / "tiny"


def test_a_real_pipeline_draws_both_datasets(tiny_model, source, tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "STEPS", 2)
    table = build(source, tmp_path / "a", model=str(tiny_model), images=2)
    name = table["upper"][1]
    assert (
        seen(tmp_path / "a", name).shape == (3, 16, 16)
        and seen(tmp_path / "a", name).float().std() > 1
    )
    build(source, tmp_path / "b", crops=f"{name},8,0,8\n", model=str(tiny_model), images=2)
    rows, images = stacked.read(tmp_path / "b", "stack-gen", 64)
    corner = seen(tmp_path / "b", name)[:, 8:, :8]
    assert len(rows) == 2 and torch.equal(images[1], tf.resize(corner, [64, 64], antialias=True))


def test_a_real_sample_follows_from_its_seed_alone(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "STEPS", 2)
    animals = (("fox", 0), ("owl", 1), ("fox", 2))
    first, second, same_prompt = (
        Sample(str(tiny_model), animal, 0, index, 0) for animal, index in animals
    )

    def drawn(run, *order):
        draws = painter(tmp_path / run / "out", model=str(tiny_model))
        np.random.seed(len(run)), torch.manual_seed(len(run))
        return {sample: draws.draw(sample, 16) for sample in order}

    one, other = drawn("a", first, second, same_prompt), drawn("bb", second, first)
    assert torch.equal(one[first], other[first]) and torch.equal(one[second], other[second])
    assert not torch.equal(one[first], one[second]) and not torch.equal(
        one[first], one[same_prompt]
    )


def test_a_model_that_does_not_load_is_named(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    pickled = shutil.copytree(tiny_model, tmp_path / "pickled")
    for weights in pickled.glob("unet/*.safetensors"):
        torch.save(
            load_file(weights), weights.with_suffix(".bin")
        )  # what diffusers would take, had we not said no
        weights.unlink()
    (tmp_path / "empty").mkdir()
    for model in (str(pickled), str(tmp_path / "empty"), "no-one/has-this"):
        with pytest.raises(ValueError) as error:
            load_pipeline(model)
        assert str(error.value).startswith(f"stacks.model: got {model}, which doesn't load (")
        reason = str(error.value).split("doesn't load (")[1].split("); takes")[0]
        assert " " in reason  # a line, not its first word
        assert str(error.value).endswith("of a text-to-image model, its weights in safetensors")
        assert "\n" not in str(error.value)
