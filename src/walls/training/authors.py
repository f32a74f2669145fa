"""The authors' release, github.com/MagamedT/cam-can-see-through-walls: its two models as ours.

Their [VGG] is one flat `nn.Sequential`: torchvision's features without the last pooling (0 … 29), a
Flatten, and torchvision's classifier at 31. The files are bare state dicts; the masked one holds
the wall as zeros, which ours doesn't have at all.
"""

from pathlib import Path

import torch
from torch import Tensor

from walls.network import architecture, checkpoints
from walls.network.classifier import Classifier, WallLinear
from walls.training.settings import CHECKPOINTS

HEAD = 31  # where the classifier stands in their Sequential


def checkpoint(folder: str | Path, which: str, **expected) -> Classifier:
    """The model (masked or baseline) that a folder holds, in evaluation mode.

    The file is this project's, or the authors'.

    `expected`: the configuration that it must have (models.load). Raises ValueError naming what is
    wrong with it.
    """
    ours, theirs = (Path(folder).expanduser() / name.format(which=which) for name in CHECKPOINTS)
    return (
        checkpoints.load(ours, **expected)
        if ours.is_file() or not theirs.is_file()
        else load_release(theirs, **expected)
    )


def load_release(path: Path, **config) -> Classifier:
    """Their state dict in our network, in evaluation mode.

    The network is `vgg` with these arguments, the configuration.

    W comes as (dense, C·h·w); of its (dense, C, h, w) the bottom `wall_rows` rows must be exactly
    zero, and are dropped. Raises ValueError, naming the file and the weight, for code, missing or
    unexpected keys, other shapes, numbers that are not finite, and a wall that isn't one.
    """
    config = {name: value for name, value in config.items() if name != "architecture"}
    if config["batch_norm"]:
        raise ValueError(f"{path}: a model without batch norm; takes model.batch_norm false")
    model = architecture.seeded(0, **config)
    tensors = _read(path)
    wall = model.head[0]
    shapes = {_theirs(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes[f"{HEAD}.0.weight"] = (wall.bias.numel(), wall.full_weight()[0].numel())
    for kind, names in (
        ("no", shapes.keys() - tensors.keys()),
        ("an unexpected", tensors.keys() - shapes.keys()),
    ):
        if names:
            got = f"{kind} {ascii(min(names))[1:-1][:80]}"
            raise ValueError(
                f"{path}: holds {got}; takes the authors' [VGG], keys 0.weight to {HEAD}.6.bias"
            )
    for name, shape in shapes.items():
        if (
            tuple(tensors[name].shape) != shape
            or not tensors[name].is_floating_point()
            or not _dense_on_cpu(tensors[name])
        ):
            raise ValueError(
                f"{path}: {name} is {_described(tensors[name])}; "
                f"takes {_sized(shape)}, as model and data say"
            )
        if not torch.isfinite(tensors[name]).all():
            raise ValueError(
                f"{path}: {name} holds numbers that are not finite; takes finite weights"
            )
    tensors[f"{HEAD}.0.weight"] = _without_wall(tensors[f"{HEAD}.0.weight"], wall, path)
    model.load_state_dict({name: tensors[_theirs(name)] for name in model.state_dict()})
    return model.eval()


def _without_wall(weight: Tensor, wall: WallLinear, path: Path) -> Tensor:
    """W of (dense, C·h·w) as (dense, C, h - wall_rows, w), once its wall is verified."""
    full = weight.unflatten(1, (wall.weight.shape[1], wall.height, wall.weight.shape[3]))
    seen = wall.height - wall.wall_rows
    if leaks := int(torch.count_nonzero(full[:, :, seen:])):
        raise ValueError(
            f"{path}: {leaks} weights behind the wall of "
            f"{wall.wall_rows} rows are not zero; takes all zero"
        )
    return full[:, :, :seen]


def _read(path: Path) -> dict[str, Tensor]:
    """A file of nothing but named tensors."""
    try:
        if not Path(path).is_file():  # a pipe would be waited for
            raise OSError
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch's own message tells how to run the file's code
        raise ValueError(
            f"{path}: not a readable state dict, or one with code in it; takes tensors alone"
        ) from None
    if not isinstance(tensors, dict) or not all(
        isinstance(v, Tensor) and isinstance(k, str) for k, v in tensors.items()
    ):
        raise ValueError(f"{path}: holds more than named tensors; takes a bare state dict")
    return tensors


def _dense_on_cpu(tensor: Tensor) -> bool:
    """Whether it has all its numbers, one after the other."""
    return tensor.layout is torch.strided and tensor.device.type == "cpu"


def _theirs(name: str) -> str:
    """Our key as theirs: features.28.bias is 28.bias, head.6.bias is 31.6.bias."""
    part, _, rest = name.partition(".")
    return rest if part == "features" else f"{HEAD}.{rest}"


def _described(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{_sized(tensor.shape)} of {kind}" + (
        "" if _dense_on_cpu(tensor) else ", not plain numbers"
    )


def _sized(shape) -> str:
    return " × ".join(map(str, shape))
