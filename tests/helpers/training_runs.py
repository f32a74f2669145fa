"""Short trainings of a tiny network on drawn animals."""

import torch

from walls.images import loaders
from walls.network import architecture
from walls.sources import manifest
from walls.sources.settings import Data
from walls.training import loop
from walls.training.settings import Train

SETTINGS = {
    "epochs": 3,
    "batch_size": 4,
    "accumulate": 1,
    "lr": 0.02,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "onecycle",
    "precision": "float32",
    "compile": False,
    "workers": 0,
}


def drawn_images(folder):
    """12 training images and 6 to validate on, 128 pixels."""
    manifest.build(
        Data(name="critters", root=None, classes=2, train_images=12, val_images=6), 0, 128, folder
    )
    train = loaders.Images(loaders.read_manifest(folder, "train"), 128, (0.6, 1.0), seed=0)
    return train, loaders.Images(loaders.read_manifest(folder, "val"), 128)


def network():
    return architecture.seeded(
        0, width=0.0625, dense=8, classes=2, batch_norm=True, wall_rows=7, image_size=128
    )


def fit(images, resume, **changes):
    model = network()
    history, record = loop.train(model, *images, Train(**(SETTINGS | changes)), resume)
    return model, history, record


def equal(one, other):
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def plain_images(folder):
    """8 training images and 5 to validate on, 128 pixels."""
    manifest.build(
        Data(name="critters", root=None, classes=2, train_images=8, val_images=5), 0, 128, folder
    )
    return read_plain(folder)


def read_plain(folder):
    train = loaders.Images(loaders.read_manifest(folder, "train"), 128, (0.5, 1.0), seed=0)
    return train, loaders.Images(loaders.read_manifest(folder, "val"), 128)


def plain_run(images, resume, **changes):
    """20 steps, two an epoch, in float64 without batch norm and dropout: the losses and the
    weights.
    """
    model = architecture.seeded(
        0,
        width=0.0625,
        dense=8,
        classes=2,
        batch_norm=False,
        wall_rows=7,
        image_size=128,
        dropout=0.0,
    )
    usual = SETTINGS | {"epochs": 10, "batch_size": 4, "schedule": "constant", "lr": 1.0}
    history, _ = loop.train(model.double(), *images, Train(**usual | changes), resume)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return history["train_loss"].to_numpy(), weights.numpy()
