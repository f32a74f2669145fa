"""The theory's image: scikit-learn's digit, and MNIST's where it lies or is downloaded."""

import gzip
import shutil

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits

from walls.base import paths
from walls.theory import formulas, sampling


def test_digit():
    image = formulas.load_image("digits")
    assert image.shape == (29, 29) and image.min() == 0 and 0.95 < image.max() <= 1
    assert not image[0].any() and not image[:, -1].any() and image.dtype == np.float64
    at = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)  # a pixel's place among the eight
    digits = load_digits()
    rows = np.array([np.interp(at, np.arange(8), row) for row in digits.images[32] / 16])
    both = np.array([np.interp(at, np.arange(8), column) for column in rows.T]).T
    np.testing.assert_allclose(image[1:, :-1], both, atol=1e-15)
    assert digits.target[32] == 5
    with pytest.raises(ValueError, match="takes 'digits' or 'mnist'"):
        formulas.load_image("emnist")


def test_mnist_is_read_where_it_lies(tmp_path, monkeypatch):
    """The sixteenth image of the idx file, and nothing is downloaded."""
    (tmp_path / "dvc.yaml").touch()
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (17, 28, 28), np.uint8)
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz", "wb") as file:
        file.write(bytes(16) + pixels.tobytes())
    monkeypatch.chdir(tmp_path)
    image = formulas.load_image("mnist")
    assert image.dtype == np.float64
    np.testing.assert_array_equal(image, np.pad(pixels[15] / 255, ((1, 0), (0, 1))))


def test_mnist_is_downloaded_below_the_projects_root(tmp_path, monkeypatch):
    asked = []

    class Downloaded:
        def __init__(self, folder, train, download):
            asked.append((folder, train, download))
            self.data = torch.arange(20)[:, None, None].expand(20, 28, 28).to(torch.uint8)

    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torchvision.datasets, "MNIST", Downloaded)
    assert (formulas.load_image("mnist")[1:, :-1] == 15 / 255).all()
    assert asked == [(tmp_path / "data", False, True)]


def test_mnist_digit(tmp_path, monkeypatch):
    raw = paths.root().parent / "shared" / "data" / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    if not raw.is_file():
        pytest.skip(f"no MNIST beside this project ({raw}); the digits test covers the rest")
    (tmp_path / "dvc.yaml").touch()
    target = tmp_path / "data" / "MNIST" / "raw" / raw.name
    target.parent.mkdir(parents=True)
    shutil.copy(raw, target)
    monkeypatch.chdir(tmp_path)
    image = formulas.load_image("mnist")
    with gzip.open(raw) as file:
        pixels = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 28, 28)
    np.testing.assert_array_equal(image[1:, :-1], pixels[15] / 255)
    exact = formulas.mean_chi(64) * formulas.patch_norms(image, 2)
    norm, error, _ = sampling.feature_norms(image, 64, 2, 1.0, 2000, 0)
    assert exact[14:].max() > 0 and (np.abs(norm - exact) <= 4 * error).all()
