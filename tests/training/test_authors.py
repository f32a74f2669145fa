"""The authors' release: their state dicts as our models, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import fork, noise, run
from helpers.release import CONFIG, Code, flat
from PIL import Image
from safetensors.torch import load_file

from walls.network import architecture, certificate, checkpoints
from walls.training import authors


@pytest.fixture
def state():
    return flat().state_dict()


def file(tmp_path, state, which="masked"):
    torch.save(state, tmp_path / f"params_vgg16_{which}.pt")
    return tmp_path / f"params_vgg16_{which}.pt"


def test_their_keys_are_as_they_say(state):
    some = {"0.weight", "0.bias", "28.bias", "31.0.weight", "31.3.bias", "31.6.weight"}
    assert some <= set(state) and len(state) == 32


@pytest.mark.parametrize("which, wall_rows", [("masked", 9), ("baseline", 0)])
def test_the_same_logits_and_features(tmp_path, which, wall_rows):
    theirs = flat(wall_rows=wall_rows)
    file(tmp_path, theirs.state_dict(), which)
    ours = authors.checkpoint(tmp_path, which, **CONFIG | {"wall_rows": wall_rows})
    images = noise(2)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-6)
        # Their CAM layer is index -3, the last ReLU.
        assert torch.equal(ours.features(images), theirs[:30](images))
    assert torch.equal(ours.head[0].full_weight().flatten(1), theirs[-1][0].weight)
    assert not ours.training
    if wall_rows:
        assert ours.head[0].weight.shape == (24, 16, 5, 14)
        assert certificate.certify(ours, 224, images).holds


def test_our_own_files_come_first(tmp_path, state):
    file(tmp_path, state)
    own = architecture.seeded(3, **CONFIG)
    checkpoints.save(own, tmp_path / "masked.safetensors")
    assert torch.equal(
        authors.checkpoint(tmp_path, "masked", **own.config).head[0].weight, own.head[0].weight
    )
    with pytest.raises(ValueError, match=r"baseline\.safetensors: "):
        authors.checkpoint(tmp_path, "baseline", **own.config)


def spoilt(key, change):
    def spoil(state):
        state[key] = change(state[key].clone())
        return state

    return spoil


def without(key):
    return lambda state: {name: tensor for name, tensor in state.items() if name != key}


def leaking(weight):
    """One weight just below the wall's edge, of the smallest size there is."""
    weight.view(24, 16, 14, 14)[3, 2, 5, 0] = 1e-45
    return weight


@pytest.mark.parametrize(
    "spoil, message",
    [
        (spoilt("31.0.weight", leaking), "1 weights behind the wall of 9 rows are not zero"),
        (
            spoilt("28.bias", lambda t: t.fill_(float("nan"))),
            r"28\.bias holds numbers",
        ),
        (
            spoilt("31.6.weight", lambda t: t / 0),
            r"31\.6\.weight holds numbers that are not finite",
        ),
        (
            spoilt("28.weight", lambda t: t[:, :-1]),
            r"28\.weight is 16 × 31 × 3 × 3 of float32; takes 16 × 32 × 3 × 3",
        ),
        (
            spoilt("31.0.weight", lambda t: t[:, : 16 * 49]),
            r"31\.0\.weight is 24 × 784 of float32; takes 24 × 3136",
        ),
        (
            spoilt("0.weight", lambda t: t.long()),
            r"0\.weight is 4 × 3 × 3 × 3 of int64; takes 4 × 3 × 3 × 3",
        ),
        (without("31.3.bias"), r"holds no 31\.3\.bias"),
        (lambda state: state | {"30.weight": torch.zeros(1)}, r"holds an unexpected 30\.weight"),
        (lambda state: {"state_dict": state}, "holds more than named tensors"),
        (lambda state: [state], "holds more than named tensors"),
        (
            lambda state: state | {"0.weight": Code()},
            "not a readable state dict, or one with code in it; takes tensors alone",
        ),
    ],
)
def test_what_is_refused(tmp_path, state, capsys, spoil, message):
    path = file(tmp_path, spoil(dict(state)))
    with pytest.raises(ValueError, match=message) as error:
        authors.load_release(path, **CONFIG)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert "run!" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"PK no zip", b"\x80\x04."])
def test_what_is_no_file_of_theirs(tmp_path, content):
    (tmp_path / "params_vgg16_masked.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"params_vgg16_masked\.pt: "):
        authors.load_release(tmp_path / "params_vgg16_masked.pt", **CONFIG)


def test_the_baseline_is_not_the_masked_model(tmp_path):
    path = file(tmp_path, flat(wall_rows=0).state_dict(), "masked")
    with pytest.raises(ValueError, match=f"{24 * 16 * 9 * 14} weights"):
        authors.load_release(path, **CONFIG)


def test_batch_norm_is_not_theirs(tmp_path, state):
    with pytest.raises(ValueError, match=r"takes model\.batch_norm false"):
        authors.load_release(file(tmp_path, state), **CONFIG | {"batch_norm": True})


@pytest.mark.long
@pytest.mark.pipeline
def test_the_pipeline_from_their_files(smoke_run, tmp_path):
    """Table 1 without training and without images of its own, from a release made here at the smoke
    preset's size.
    """
    folder = fork(smoke_run, tmp_path / "project")
    settings = folder / "params.yaml"
    text = settings.read_text()
    for old, new in (
        ("batch_norm: true", "batch_norm: false"),
        ("checkpoint: null", "checkpoint: release"),
        ("again: [1]", "again: []"),
        ("name: critters", "name: none"),
        ("train_images: 96", "train_images: null"),
        ("val_images: 24", "val_images: null"),
        ("mix_dir: null", "mix_dir: release/stackmix"),
        ("gen_dir: null", "gen_dir: release/stackgen"),
        ("generator: critters", "generator: folder"),
    ):
        assert old in text
        text = text.replace(old, new)
    settings.write_text(text)
    (folder / "release").mkdir()
    for which, wall_rows in (("masked", 7), ("baseline", 0)):
        theirs = flat(dense=32, classes=3, wall_rows=wall_rows, rows=8, seed=5).state_dict()
        file(folder / "release", theirs, which)
    random = np.random.default_rng(0)
    for name, size in (("stackmix", 128), ("stackgen", 300)):
        (folder / "release" / name).mkdir()
        for index in range(4):
            image = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
                (size, size)
            )
            image.save(folder / "release" / name / f"{index}.png")
    run(folder, "dvc", "repro")
    table = pd.read_csv(folder / "figures" / "table1.csv")
    assert set(table["dataset"]) == {"stack-mix", "stack-gen"} and (table["images"] == 4).all()
    assert (table[table["method"] == "HiResCAM"]["mean"].dropna() == 0).all()
    first = flat(dense=32, classes=3, rows=8, wall_rows=7, seed=5)[0]
    assert torch.equal(
        load_file(folder / "models" / "masked.safetensors")["features.0.weight"], first.weight
    )
    train = json.loads((folder / "metrics" / "train.json").read_text())
    assert train["masked"]["top1"] is None and train["masked"]["precision"] == "checkpoint"
    claims = json.loads((folder / "metrics" / "claims.json").read_text())
    (accuracy,) = (claim for claim in claims if "top-1 accuracy" in claim["claim"])
    assert accuracy["verdict"] == "not tested here"
    assert (
        "Top-1 accuracy: not tested here." in run(folder, "python", "-m", "walls", "summary").stdout
    )
    assert "Skipped: without training images" in (folder / "rendered" / "8_sweep.ipynb").read_text()
    assert pd.read_csv(folder / "figures" / "sweep.csv").empty
    assert json.loads((folder / "figures" / "sweep.json").read_text())["skipped"].startswith(
        "Skipped: without training"
    )
