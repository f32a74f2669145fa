"""More of what users bring, of the kinds that public bug reports name: a table of inputs, and what is right.

What is taken gives the values of the plain call; what isn't is a ValueError that names the argument.
"""

import contextlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import copy_tree, noise
from helpers.small_networks import small
from PIL import Image
from torch import nn

from walls.base.files import read_rows
from walls.images.reading import read_image
from walls.network import zoo
from walls.network.behind import behind
from walls.network.certificate import certify
from walls.network.classifier import Classifier
from walls.saliency.activity import activity, upscale
from walls.saliency.maps import saliency_maps
from walls.sanity.check import check

IMAGES = noise(2, 32)
NAMES = ("GradCAM", "ScoreCAM", "Opti-CAM", "AblationCAM", "RandomCAM")
FEW = {"Opti-CAM": {"steps": 2}}


def maps_of(model=None, images=IMAGES, targets=None, methods=NAMES, **settings):
    model = small() if model is None else model
    given = {"options": {name: own for name, own in FEW.items() if name in methods}} | settings
    return saliency_maps(model, images, methods, targets, progress=lambda maps: None, **given)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, raw in expected.items():
        torch.testing.assert_close(found[name], raw, rtol=1e-5, atol=1e-7, msg=name)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def normed(model):
    """Weights that are computed anew in every call."""
    nn.utils.parametrizations.weight_norm(model.features[0])
    nn.utils.parametrizations.spectral_norm(model.features[3])
    return model.eval()


def shares_a_layer():
    """One convolution in two places."""
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 8, 3, padding=1)
    first = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()]
    model = small()
    features = [*first, layer, nn.ReLU(), nn.MaxPool2d(2), layer, nn.ReLU()]
    last = [nn.Conv2d(8, 16, 1), nn.ReLU()]
    return Classifier(nn.Sequential(*features, *last), model.head, 9).double().eval()


# --- What is taken: a network and images, and the plain call that has the same maps

TAKEN = {
    "half-precision images": lambda: (
        maps_of(images=IMAGES.half().numpy()),
        maps_of(images=IMAGES.half().float()),
    ),
    "pixels as bytes": lambda: (
        maps_of(images=(IMAGES.abs() * 50).byte().numpy()),
        maps_of(images=(IMAGES.abs() * 50).byte().float()),
    ),
    "a read-only file of numbers": lambda: (maps_of(images=mapped(IMAGES.numpy())), maps_of()),
    "a default device of another kind": lambda: (within(torch.device("meta")), maps_of()),
    "deterministic algorithms": lambda: (within(deterministic()), maps_of()),
    "weights normed in every call": lambda: (
        maps_of(normed(small())),
        maps_of(plain(normed(small()))),
    ),
    "one layer in two places": lambda: (maps_of(shares_a_layer()), one_by_one(shares_a_layer())),
    "compiled, and in DataParallel": lambda: (
        maps_of(nn.DataParallel(torch.compile(nn.DataParallel(small())))),
        maps_of(),
    ),
    "frozen and training": lambda: (maps_of(small().requires_grad_(False).train()), maps_of()),
    "one image at a time": lambda: (
        maps_of(small().double(), batch_size=1),
        maps_of(small().double()),
    ),
    "a list of images of several kinds": lambda: (
        maps_of(images=[IMAGES[0].numpy(), IMAGES[1].double()]),
        maps_of(),
    ),
}


def mapped(values):
    values = np.array(values)
    values.flags.writeable = False
    return values


def within(context):
    model = small()
    with context:
        return maps_of(model)


def plain(model):
    """The same network with the weights that it computes, as plain ones."""
    copy = small()
    for name in (0, 3):
        copy.features[name].weight.data = model.features[name].weight.detach().clone()
        copy.features[name].bias.data = model.features[name].bias.detach().clone()
    copy.head = model.head
    return copy


def one_by_one(model):
    """Every image alone, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = [maps_of(model, image) for image in IMAGES.split(1)]
    finally:
        torch.set_num_threads(before)
    return {name: torch.cat([maps[name] for maps in alone]) for name in NAMES}


@pytest.mark.parametrize("case", TAKEN)
@pytest.mark.slow
def test_what_is_taken(case):
    threads = torch.get_num_threads()
    found, expected = TAKEN[case]()
    same(found, expected)
    assert torch.get_num_threads() == threads


# --- What is refused, and how its line begins

REFUSED = {
    "Pillow's images": (
        lambda: maps_of(images=[Image.new("RGB", (32, 32))]),
        "images: got ",
    ),
    "targets as a set": (lambda: maps_of(targets={3, 1}), "targets: got a set that is no array"),
    "targets one-hot": (
        lambda: maps_of(targets=torch.eye(4, dtype=torch.int64)[:2]),
        "targets: got (2, 4); takes one of each image",
    ),
    "a method in small letters": (
        lambda: maps_of(methods=["gradcam"]),
        "methods: got gradcam; takes GradCAM, ",
    ),
    "no batch": (lambda: maps_of(batch_size=0), "batch_size: got 0; takes 1 or more"),
    "grey images": (
        lambda: maps_of(images=IMAGES[:, :1]),
        "images: got (2, 1, 32, 32); takes (N, 3",
    ),
    "infinite pixels": (
        lambda: maps_of(images=IMAGES.where(IMAGES < 1, torch.inf)),
        "images: image 0 holds NaN or infinity",
    ),
    "a mean and std of one channel": (
        lambda: with_recipe(((0.5,), (0.5,))),
        "normalised: got ((0.5,), (0.5,)); takes (mean, std), 3 numbers each, std above 0",
    ),
    "a std of 0": (
        lambda: with_recipe(((0.5, 0.5, 0.5), (0.5, 0, 0.5))),
        "normalised: got ((0.5, 0.5, 0.5), (0.5, 0, 0.5)); takes (mean, std)",
    ),
    "the dead zone as a share": (
        lambda: activity(upscale(torch.rand(1, 8, 8), 32), 0.25),
        "activity: got ",
    ),
    "a dead zone beyond the image": (
        lambda: activity(upscale(torch.rand(1, 8, 8), 32), 33),
        "activity: got ",
    ),
}


def with_recipe(normalised):
    model = small()
    model.normalised = normalised
    return maps_of(model, methods=["ScoreCAM"])


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(case):
    call, told = REFUSED[case]
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value).startswith(told) and "\n" not in str(error.value)


def test_where_a_networks_normalisation_is_known_from():
    """What timm's networks state, unless it is told; what nobody tells is not known."""
    named = zoo.get("efficientnet-lite0", "none")
    half = ((0.5,) * 3, (0.5,) * 3)
    assert behind(named.network).normalised == named.recipe.normalised == half
    own = ((0.1, 0.2, 0.3), (0.4, 0.5, 1.0))
    model = behind(named.network, normalised=own)
    black = model.black(torch.zeros(1, 3, 4, 4)).flatten()
    torch.testing.assert_close(black, torch.tensor([-0.25, -0.4, -0.3]))
    resnet = zoo.get("torchvision:resnet18", "none").network
    assert behind(resnet).normalised is None
    with pytest.raises(ValueError, match=r"^normalised: got .*; takes \(mean, std\), 3 numbers"):
        behind(resnet, normalised=((0.5,), (0.5,)))
    with pytest.raises(ValueError, match="takes it where that is made"):
        check(model, ["GradCAM"], torch.zeros(2, 3, 224, 224), normalised=own)


# --- Files


def written(folder, kind):
    """An image that is red above and blue below, as users' files are; its path."""
    picture = Image.new("RGB", (40, 40), (250, 0, 0))
    picture.paste((0, 0, 250), (0, 20, 40, 40))
    path = folder / f"picture.{'JPG' if kind == 'capitals' else 'png'}"
    if kind == "capitals":
        picture.save(path, "JPEG", quality=95)
    elif kind == "a JPEG that calls itself PNG":
        picture.save(path, "JPEG", quality=95)
    elif kind == "a palette with transparency":
        picture.convert("P").save(path, transparency=0)
    elif kind == "CMYK":
        picture.convert("CMYK").save(path, "TIFF")
    elif kind == "the first of an animation":
        picture.save(path, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 40))])
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "capitals",
        "a JPEG that calls itself PNG",
        "a palette with transparency",
        "CMYK",
        "the first of an animation",
    ],
)
def test_pictures_as_users_have_them(tmp_path, kind):
    pixels = read_image(written(tmp_path, kind)).float()
    assert pixels.shape == (3, 40, 40)
    (red, _, blue), (above, _, below) = pixels[:, 10, 20], pixels[:, 30, 20]
    assert red > 230 and blue < 20 and above < 20 and below > 230


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"file;reason\na;dark\n",
            "rejects.csv: got columns file;reason; takes file, reason",
        ),
        ("file,reason\na,dark\n".encode("utf-16"), "rejects.csv, line 1: not UTF-8"),
        (b"file\treason\na\tdark\n", "rejects.csv: got columns file"),
        (b"reason,file\ndark,a\n", "rejects.csv: got columns reason, file; takes file, reason"),
    ],
    ids=["semicolons", "another encoding", "tabs", "columns in another order"],
)
def test_tables_from_a_spreadsheet(tmp_path, content, told):
    (tmp_path / "rejects.csv").write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_rows(tmp_path / "rejects.csv", ["file", "reason"])
    assert str(error.value).startswith(told)


# --- The certificate, and a checkout that takes no file


def test_the_certificate_of_normed_weights():
    """Under another default device too."""
    model = normed(small())
    with torch.device("meta"):
        certificate = certify(model, 32)
    assert certificate.holds and certificate.dead_rows == model.zone(32).dead_rows > 0


@pytest.mark.parametrize("stage", ["check", pytest.param("wall", marks=pytest.mark.long)])
@pytest.mark.slow
def test_a_read_only_checkout_is_named(tmp_path, stage):
    """One line and exit code 1, before anything runs."""
    folder = copy_tree(tmp_path / "project")
    subprocess.run(["chmod", "-R", "a-w", folder], check=True)
    command = [sys.executable, "-m", "walls", "run", stage]
    if (folder / "try").parent.stat().st_uid == 0:  # who may write anywhere, without that right
        if not (setpriv := shutil.which("setpriv")):
            pytest.skip("root writes anywhere")
        command = [setpriv, "--bounding-set=-dac_override,-dac_read_search", *command]
    own = {"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin"}
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True)
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{folder / 'runs'}: can't be written (Permission denied); takes a checkout that can, such "
        "as a copy of this one\n"
    )
    assert not (folder / "runs").exists()
