"""Trained weights in files, with their configuration."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from walls.base import files
from walls.base.messages import reason
from walls.network.architecture import seeded, vgg
from walls.network.classifier import Classifier


def save(model: Classifier, path: Path, **record) -> None:
    """Write the weights as safetensors, atomically, with their configuration in the header.

    `record` goes there too.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    with files.whole(path) as partial:
        # One entry: safetensors writes several in no fixed order, and equal models must be equal
        # files.
        save_file(
            tensors, partial, {"walls": json.dumps({"config": model.config, "record": record})}
        )


def load(path: Path, **expected) -> Classifier:
    """The model of a checkpoint, in evaluation mode.

    `expected`: configuration entries (width, dense, classes, batch_norm, wall_rows, …) that it must
    have. Raises ValueError naming the first that differs, or the file where it is no checkpoint of
    ours.
    """
    try:
        if not Path(path).is_file():  # a pipe would be waited for
            raise OSError("no file")
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("walls", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:  # a header may lie about anything
        raise ValueError(
            f"{path}: not a readable checkpoint ({reason(error)}); "
            "takes a .safetensors of this project"
        ) from None
    config = metadata.get("config") if isinstance(metadata, dict) else None
    if not isinstance(config, dict) or config.pop("architecture", None) != "vgg":
        raise ValueError(
            f"{path}: holds no configuration of a [VGG]; takes a .safetensors of this project"
        )
    expected.pop("architecture", None)
    for name, value in expected.items():
        if config.get(name) != value:
            got = ascii(config.get(name))[:80]
            raise ValueError(
                f"{path}: a checkpoint of another configuration: {name} is {got}, not {value}"
            )
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise ValueError(
                f"{path}: {ascii(name)[1:-1][:80]} holds numbers "
                "that are not finite; takes finite weights"
            )
    try:
        with torch.device("meta"):  # no memory, before the shapes are known to fit
            shapes = {
                name: (tensor.shape, tensor.dtype)
                for name, tensor in vgg(**config).state_dict().items()
            }
        for name in sorted(shapes.keys() | tensors.keys()):
            got = (tensors[name].shape, tensors[name].dtype) if name in tensors else None
            if got != shapes.get(name):
                raise ValueError(f"{name} is {_sized(got)}, not {_sized(shapes.get(name))}")
        model = seeded(0, **config)
        model.load_state_dict(tensors)
    except Exception as error:  # whatever stands in the configuration
        why = reason(error)
        raise ValueError(
            f"{path}: its weights don't fit its configuration ({why}); takes another copy"
        ) from None
    return model.eval()


def _sized(got: tuple[torch.Size, torch.dtype] | None) -> str:
    return (
        f"{' × '.join(map(str, got[0])) or 'one number'} of {str(got[1]).removeprefix('torch.')}"
        if got
        else "missing"
    )
