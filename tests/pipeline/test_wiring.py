"""What each stage was fed: its results once more from the files, read and normalised without ours.

A test of a function sees no notebook that takes the wrong split, weights, class, rows or order.
"""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from walls.base import params
from walls.network import checkpoints
from walls.training import job

pytestmark = pytest.mark.pipeline
SIZE, SEEN = 128, 106
# Of every network: its weights, and the folders of its training and of its maps.
NETWORKS = {
    "masked": ("train-masked", "cams-{}"),
    "masked-1": ("again/train-masked-1", "again/cams-{}-1"),
    "baseline": ("train-baseline", None),
}
DATASETS = ("stack-mix", "stack-gen")


def pixels(file):
    """(3, H, W) uint8, as Pillow reads it."""
    return torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)


def inputs(images):
    """As the paper's network takes them: red, green, blue in [0, 1], ImageNet's mean and deviation."""
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    return (torch.stack(images).float() / 255 - mean) / deviation


def weights(smoke, name):
    return checkpoints.load(smoke / "models" / f"{name}.safetensors")


def split(smoke, name):
    """The manifest's rows of one split, with files."""
    table = pd.read_csv(smoke / "data" / "set" / "manifest.csv")
    table = table[table["split"] == name].reset_index(drop=True)
    return table.assign(file=[smoke / "data" / "set" / path for path in table["path"]])


@pytest.mark.parametrize("name", NETWORKS)
def test_accuracy_is_of_the_plain_validation_images(smoke, name):
    rows, model = split(smoke, "val"), weights(smoke, name)
    folder = smoke / "runs" / NETWORKS[name][0]
    found = pd.read_csv(folder / "predictions.csv")
    assert found["path"].tolist() == [file.name for file in rows["file"]]
    assert found["label"].tolist() == rows["label"].tolist()
    with torch.no_grad():
        logits = model.head(model.features(inputs([pixels(file) for file in rows["file"]])))
    labels = torch.tensor(rows["label"].tolist())
    own = logits.gather(1, labels[:, None])
    assert found["predicted"].tolist() == logits.argmax(1).tolist()
    assert found["rank"].tolist() == (logits >= own).sum(1).tolist()
    right = float((logits.argmax(1) == labels).double().mean())
    assert json.loads((folder / "record.json").read_text())["top1"] == pytest.approx(right)


def test_a_trainings_two_sets(smoke, monkeypatch):
    """Random crops and flips of the training images; the validation images as they are."""
    monkeypatch.chdir(smoke)
    values = params.load()
    found = job.job("masked", 0, SIZE, values.data.classes, values.model, values.train)
    for images, name in ((found.train_set, "train"), (found.val_set, "val")):
        rows = split(smoke, name)
        assert images.paths.tolist() == [str(file) for file in rows["file"]]
        same = [torch.equal(images[0, i][0], pixels(rows["file"][i])) for i in range(9)]
        flips = [images[0, i][2] for i in range(9)]
        assert not any(same) and any(flips) if name == "train" else all(same) and not any(flips)


def test_the_networks_differ_in_their_seed(smoke):
    first, second = (weights(smoke, name).state_dict() for name in ("masked", "masked-1"))
    drawn = [name for name, values in first.items() if values.ndim > 1]
    apart = [float((first[name] - second[name]).abs().max()) for name in drawn]
    assert len(drawn) > 10 and min(apart) > 1e-2  # and not by rounding alone


def test_stack_mix_is_two_validation_images_of_a_class(smoke):
    table = pd.read_csv(smoke / "runs" / "stacks" / "manifest.csv")
    table = table[(table["dataset"] == "stack-mix") & table["path"].notna()]
    images = split(smoke, "val").set_index("path")
    assert len(table) == 6
    for row in table.rename(columns={"class": "class_"}).itertuples():
        upper, lower = (images.loc[f"images/val/{name}"] for name in (row.upper, row.lower))
        assert upper["class"] == lower["class"] == row.class_ and row.label == upper["label"]
        stacked = pixels(smoke / "runs" / "stacks" / row.path)
        assert torch.equal(stacked[:, :SEEN], pixels(upper["file"])[:, :SEEN])
        assert torch.equal(stacked[:, SEEN:], pixels(lower["file"])[:, SEEN:])


@pytest.mark.parametrize("name", ["masked", "masked-1"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_gradcam_by_hand_of_the_predicted_class(smoke, dataset, name):
    """Definition 1 by autograd through the whole network, at full height, on the files' pixels."""
    model, runs = weights(smoke, name), smoke / "runs"
    table = pd.read_csv(runs / "stacks" / "manifest.csv")
    table = table[(table["dataset"] == dataset) & table["path"].notna()].sort_values("index")
    stacked = inputs([pixels(runs / "stacks" / path) for path in table["path"]])
    features = model.features(stacked).detach().requires_grad_()
    logits = model.head(features)
    logits.amax(1).sum().backward()
    maps = (features.grad.mean((2, 3), keepdim=True) * features).sum(1).relu().detach()
    scaled = maps - maps.amin((1, 2), keepdim=True)
    scaled = scaled / scaled.amax((1, 2), keepdim=True)
    up = nn.functional.interpolate(scaled[:, None].double(), (SIZE, SIZE), mode="bilinear")[:, 0]
    up = up - up.amin((1, 2), keepdim=True)
    expected = up[:, SEEN:].norm(dim=(1, 2)) / up.norm(dim=(1, 2))
    folder = runs / NETWORKS[name][1].format(dataset)
    found = pd.read_csv(folder / "activity.csv").set_index(["method", "image"]).loc["GradCAM"]
    assert found["predicted"].tolist() == logits.argmax(1).tolist()
    np.testing.assert_allclose(found["mu"], expected.detach(), atol=1e-4, equal_nan=True)


def test_table_1_is_of_all_networks_and_its_own_dataset(smoke):
    table = pd.read_csv(smoke / "figures" / "table1.csv").set_index(["dataset", "method"])
    for dataset in DATASETS:
        parts = [
            smoke / "runs" / NETWORKS[name][1].format(dataset) for name in ("masked", "masked-1")
        ]
        tables = [pd.read_csv(folder / "activity.csv") for folder in parts]
        means = 100 * pd.concat([one.groupby("method")["mu"].mean() for one in tables], axis=1)
        for method, mean in means.mean(axis=1).items():
            assert table.loc[(dataset, method), "mean"] == pytest.approx(
                mean, abs=1e-3, nan_ok=True
            )


def test_figure_5_has_each_networks_own_curves(smoke):
    drawn = pd.read_csv(smoke / "figures" / "fig5.csv")
    for which in ("masked", "baseline"):
        history = pd.read_csv(smoke / "runs" / f"train-{which}" / "history.csv")
        assert drawn[f"{which}_train_loss"].tolist() == pytest.approx(
            history["train_loss"].tolist()
        )
        assert drawn[f"{which}_top1"].tolist() == pytest.approx(history["top1"].tolist())
