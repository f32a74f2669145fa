"""What network is meant, and its two halves: by timm's interface, or its traced graph.

Also the messages that name the layers which would do.
"""

from collections.abc import Callable, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from walls.base.messages import reason
from walls.network import cut_graph
from walls.network.cut_graph import Half
from walls.network.layouts import Layout, layout_of
from walls.network.state import evaluating
from walls.network.wrapped import unwrapped

NAMED = 12  # layers in a message
USUAL = (3, 224, 224)  # an image of a network that doesn't say what it takes


def own_size(network: nn.Module) -> tuple[int, int, int]:
    """(C, H, W) of the images that a network says it takes.

    Where it says nothing, C is what its first convolution takes, and H and W are 224.
    """
    first = next(
        (layer.in_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)), USUAL[0]
    )
    channels = getattr(network, "in_chans", None) or first
    stated = getattr(getattr(network, "patch_embed", None), "img_size", None) or getattr(
        network, "image_size", None
    )
    if isinstance(stated, tuple | list) and len(stated) == 2:
        return channels, int(stated[0]), int(stated[1])
    if isinstance(stated, Integral):
        return channels, int(stated), int(stated)
    configured = getattr(network, "pretrained_cfg", None)
    if isinstance(configured, dict) and len(configured.get("input_size") or ()) == 3:
        return channels, *configured["input_size"][1:]
    if type(network).__name__ == "Inception3":  # torchvision's, which doesn't say so itself
        return channels, 299, 299
    return channels, *USUAL[1:]


def stated(network: nn.Module, channels: int) -> tuple[tuple, tuple] | None:
    """(mean, std) of the images that one of timm's networks says it takes; None of any other."""
    configured = getattr(network, "pretrained_cfg", None)
    if not isinstance(configured, dict):
        return None
    mean, std = configured.get("mean") or (), configured.get("std") or ()
    return (tuple(mean), tuple(std)) if len(mean) == len(std) == channels else None


def inside(network: nn.Module) -> nn.Module:
    """The network that a compiled or parallel one holds.

    Raises ValueError for what is no network, or has hooks of its own.
    """
    for module in unwrapped(network):
        if isinstance(module, nn.Module):
            refuse_hooks(module, [""])
    network = module
    if not isinstance(network, nn.Module):
        raise ValueError(f"network: got {type(network).__name__}; takes a torch.nn.Module")
    if isinstance(network, torch.jit.ScriptModule):
        raise ValueError(
            "network: got TorchScript, whose layers can't be "
            "cut; takes the nn.Module that it was made from"
        )
    return network


def halves(network: nn.Module, layer: str | None, sample: Tensor) -> tuple[Half, Half, list[str]]:
    """Backbone, head, and the modules whose own call neither of them makes."""
    if layer is None:
        return Half(network, _forward_features), Half(network, _forward_head), [""]
    if not isinstance(layer, str) or not layer:
        raise ValueError(f"layer: got {ascii(layer)[:80]}; {would_do(network, sample)}")
    try:
        backbone, head = cut_graph.cut(network, layer)
    except ValueError as error:
        raise ValueError(f"{error}; {would_do(network, sample)}") from None
    opened = cut_graph.around(layer)
    refuse_hooks(network, opened)
    return backbone, head, opened


def found_layout(
    network: nn.Module, layer: str | None, raw: object, reshape: Callable | None, sample: Tensor
) -> Layout:
    """`layout_of`, its message with the layers that have maps."""
    try:
        return layout_of(network, raw, reshape)
    except ValueError as error:
        if layer is None or reshape is not None:
            raise
        raise ValueError(f"layer: got {layer}; {would_do(network, sample)} ({error})") from None


def default_layer(network: nn.Module, sample: Tensor) -> str | None:
    """Where to cut a network when nobody says: the last map.

    None: timm's own cut. Of a transformer whose last block only its class token leaves: before it.
    """
    if callable(getattr(network, "forward_features", None)) and callable(
        getattr(network, "forward_head", None)
    ):
        token = (
            getattr(network, "num_prefix_tokens", 0)
            and getattr(network, "global_pool", "") == "token"
        )
        blocks = getattr(network, "blocks", None)
        return (
            f"blocks.{len(blocks) - 2}"
            if token and isinstance(blocks, nn.Sequential) and len(blocks) > 1
            else None
        )
    encoder = getattr(getattr(network, "encoder", None), "layers", None)
    if (
        isinstance(encoder, nn.Sequential) and hasattr(network, "class_token") and len(encoder) > 1
    ):  # torchvision's ViT
        return f"encoder.layers.{list(encoder._modules)[-2]}"
    name = cut_graph.last_map(network, sample)
    if name is None:
        raise ValueError(f"layer: got None; {would_do(network, sample)}")
    return name


def would_do(network: nn.Module, sample: Tensor, below: str | None = None) -> str:
    """The end of a message: what `layer` takes, outer and late layers before the others."""
    names = cut_graph.usable(network, sample)
    if below in names:  # what comes before the layer's own last part
        inside = [
            name
            for name in names
            if name.startswith(f"{below}.") and name.count(".") == below.count(".") + 1
        ]
        names = [name for name in names[: names.index((inside or [below])[-1])] if name != below]
    shown = sorted(names, key=lambda name: (name.count("."), -names.index(name)))[:NAMED]
    if shown:
        listed = ", ".join(name for name in names if name in shown)
        return f"takes {listed}{', …' if len(names) > NAMED else ''}"
    return (
        "takes a network that torch.fx traces, or None "
        "of one with forward_features and forward_head"
    )


def named(layer: str | None) -> str:
    return "forward_features" if layer is None else layer


def features_of(network: nn.Module, backbone: Half, sample: Tensor, argument: str) -> Tensor:
    """Features of a sample image; ValueError where the network takes no such image."""
    try:
        with evaluating(network):
            return backbone(sample.clone())
    except Exception as error:  # whatever the network's own code raises
        size = " × ".join(map(str, sample.shape[1:]))
        raise ValueError(
            f"network: fails on an image of {size} "
            f"({reason(error)}); takes {argument}= for another height"
        ) from None


def noise(network: nn.Module, size: tuple[int, int, int]) -> Tensor:
    """Two images of noise, of the network's precision, where it is."""
    images = torch.randn(
        2, *size, dtype=torch.float32, generator=torch.Generator().manual_seed(0), device="cpu"
    )
    tensors = (*network.parameters(), *network.buffers())
    return images.to(next((tensor for tensor in tensors if tensor.is_floating_point()), images))


def refuse_hooks(network: nn.Module, opened: Sequence[str]) -> None:
    """ValueError for hooks on a module whose inside the halves run: they would be passed by."""
    for name in opened:
        if own_hooks(network.get_submodule(name)):
            raise ValueError(
                f"network: {f'its {name}' if name else 'it'} has hooks of its own, which would be "
                "passed by where it is cut; takes them on modules inside, or removed"
            )


def own_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def hooked(module: nn.Module) -> bool:
    """Whether a hook sees this module's output: one of its own, or one on all modules."""
    everywhere = (
        torch_module._global_forward_hooks,
        torch_module._global_forward_pre_hooks,
        torch_module._global_backward_hooks,
        torch_module._global_backward_pre_hooks,
    )
    return own_hooks(module) or any(everywhere)


def _forward_features(network: nn.Module, images: Tensor) -> Tensor:
    return network.forward_features(images)


def _forward_head(network: nn.Module, features: Tensor) -> Tensor:
    return network.forward_head(features)
