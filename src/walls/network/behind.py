"""Any network behind a wall: `behind(network, …)`, for `saliency_maps`, `certify`, `activity` and other CAM libraries.

The network sees one part of an image. Its backbone looks at the other part too, on its own; both features are put
together at `.layer`, where any CAM method finds them, and the head gets the seen part's rows alone. So no logit can depend
on the hidden part, whatever the network does with what it sees (DiFull's way: Rao et al., CVPR 2022).
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from walls.geometry import DeadZone
from walls.models import Classifier, PooledHead
from walls.network import cut_graph
from walls.network.cut_graph import Half, evaluating
from walls.network.layouts import Layout, Tokens, first_line, layout_of

SIDES = ("bottom", "top")
NAMED = 12  # layers in a message
USUAL = (3, 224, 224)  # an image of a network that doesn't say what it takes


def behind(
    network: nn.Module,
    seen_rows: int | None = None,
    *,
    layer: str | None = None,
    image_rows: int | None = None,
    reshape: Callable[[Tensor], Tensor] | None = None,
    side: str = "bottom",
) -> "Behind":
    """The network behind a wall: logits = N(seen part), features **B** = [g(seen part); g(hidden part)] at `.layer`.

    `seen_rows`: None, *stacked*: the image is two of the network's own size, one above the other, and the upper one is
    seen. A number, *within an image*: that many of its `image_rows` rows. `image_rows`: the whole image's height; None:
    (twice) the size that the network states, else 224.
    `layer`: the module whose output is **B**; None: `forward_features` of timm's networks, else the last module that
    gives a map. `reshape`: as pytorch-grad-cam's reshape_transform, where the features' layout isn't known: a
    rearrangement to (N, C, h, w). `side`: where the hidden part lies, "bottom" or "top".

    The network is neither copied nor changed, and computes in evaluation mode whatever its mode is. Of a compiled or a
    DataParallel network, the one inside is used.
    Raises ValueError, in one line: a layer that isn't there, is bypassed or can't be cut at, with those that would do; a
    seen part that doesn't give whole rows of **B**, with those that do; a network whose halves don't give its logits, that
    takes no such image, or that has hooks which the halves would pass by.
    """
    if side not in SIDES:
        raise ValueError(f"side: got {ascii(side)[:80]}; takes {' or '.join(SIDES)}")
    for name, value in (("seen_rows", seen_rows), ("image_rows", image_rows)):
        whole = isinstance(value, Integral) and not isinstance(value, bool) and value > 0
        if value is not None and not whole:
            raise ValueError(f"{name}: got {ascii(value)[:80]}; takes a whole number, 1 or more, or None")
    with torch.inference_mode(False), torch.no_grad():
        network = _inside(network)
        channels, rows, columns = own_size(network)
        if image_rows is None:
            image_rows = rows if seen_rows is not None else 2 * rows
        if seen_rows is None and image_rows % 2:
            raise ValueError(f"image_rows: got {image_rows}; takes an even number: two images, one above the other")
        single = image_rows if seen_rows is not None else image_rows // 2
        if seen_rows is not None and seen_rows >= image_rows:
            raise ValueError(f"seen_rows: got {seen_rows}; takes 1 to {image_rows - 1} of the image's {image_rows} rows")
        size = (channels, single, columns if single == rows else single)
        return Behind(network, seen_rows, layer, (channels, image_rows, size[2]), size, reshape, side)


class Behind(Classifier):
    """A network behind a wall (`behind`): a Classifier whose parts are computed each on its own.

    Calling it gives the logits of the seen part, and computes nothing else unless `.layer` is hooked: then **B** passes
    through it at full height. `head` reads **B** at full height or the seen rows alone; the head of a transformer needs its
    context too (`cut`, `logits`).
    """

    def __init__(
        self,
        network: nn.Module,
        seen_rows: int | None,
        layer: str | None,
        image: tuple[int, int, int],
        single: tuple[int, int, int],
        reshape: Callable[[Tensor], Tensor] | None,
        side: str,
    ):
        sample = _noise(network, single)
        layer = layer if layer is not None else _default_layer(network, sample)
        backbone, head, self_opened = _halves(network, layer, sample)
        raw = _try(network, backbone, sample[:1], "image_rows")
        layout = _layout(network, layer, raw, reshape, sample)
        whole, _ = layout.to_map(raw)
        stacked = seen_rows is None
        parts = _Parts(network, image, single[1] if stacked else seen_rows, side, None)
        if not stacked:
            parts = _within(parts, backbone, layout, whole.shape[2], sample)
        both = _Features(backbone, layout, parts)
        upper, context = both.part(sample[:1] if stacked else parts.divide(sample[:1])[0], hidden=False)
        rows = (upper.shape[2], whole.shape[2] * (2 if stacked else 1))
        super().__init__(both, _Head(head, layout, rows, side), rows[1] - rows[0])
        self.training = both.training = self.head.training = False
        self.parts = parts
        self.opened = self_opened
        self.hooked_before = {id(module) for module in network.modules() if module._forward_hooks}
        self.single = single
        self.dead_zone = DeadZone((parts.seen_rows, rows[0]), (image[1], rows[1]), side)
        self.config = {"architecture": "behind", "network": type(network).__name__, "layer": layer, "seen_rows": seen_rows,
                       "image_rows": image[1], "side": side}  # fmt: skip
        self._check(sample, layer)

    @property
    def network(self) -> nn.Module:
        """The network itself."""
        return self.features.backbone.network

    @property
    def layer(self) -> nn.Module:
        """Where both parts' features are put together: its output is **B**, at full height."""
        return self.features.layer

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.single[0]

    def columns(self, image_rows: int) -> int:
        """Width of an image."""
        return self.single[2]

    def zone(self, image_rows: int | None = None) -> DeadZone:
        """The hidden part, with two heights: the image's and **B**'s; `measured_rows` leaves out what upscaling mixes.

        Raises ValueError for images of another height.
        """
        if image_rows not in (None, self.dead_zone.image_rows):
            raise ValueError(_other_height(self.parts, image_rows))
        return self.dead_zone

    def forward(self, images: Tensor) -> Tensor:
        if _hooked(self.features) or _hooked(self.layer):
            return self.logits(*self.cut(images))
        self._warn_of_hooks_inside()
        seen, _ = self.divide(images)
        return self.parts.run(self.network, seen, hidden=False)

    def cut(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """**B** at full height, and what f reads besides it: a transformer's class and register tokens, or None."""
        _refuse_hooks(self.network, self.opened)
        contexts: list[Tensor | None] = []
        features = self.features(images, contexts)
        return features, contexts[0]

    def logits(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        """f(**B**): (N, classes), given what `cut` returned."""
        with evaluating(self.network):
            return self.head(features, context)

    def scores(self, parts: Sequence[Tensor]) -> Tensor:
        """Logits of the images of all parts, from the seen part alone."""
        return torch.cat([self(part) for part in parts])

    def seen_features(self, images: Tensor) -> Tensor:
        """The rows of **B** that the head reads."""
        return self.features.part(self.divide(images)[0], hidden=False)[0]

    def divide(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The seen part and the hidden part."""
        return self.parts.divide(images)

    def join(self, seen: Tensor, dead: Tensor) -> Tensor:
        """Images of two such parts."""
        return self.parts.join(seen, dead)

    def edge(self, seen: Tensor) -> Tensor:
        """The rows of the seen part's last row of **B**, next to the hidden part: some networks never read the very last."""
        rows = math.ceil(self.dead_zone.rows[0] / self.dead_zone.rows[1])
        return seen[:, :, :rows] if self.parts.side == "top" else seen[:, :, -rows:]

    def _check(self, sample: Tensor, layer: str | None) -> None:
        """That head(backbone(·)) gives the network's logits, and that they read **B**'s map; ValueError where not."""
        seen = sample if self.dead_zone.image_rows == 2 * self.single[1] else self.divide(sample)[0]
        own = self.parts.run(self.network, seen, hidden=False)
        if not isinstance(own, Tensor) or own.ndim != 2 or len(own) != len(seen):
            got = tuple(own.shape) if isinstance(own, Tensor) else type(own).__name__
            raise ValueError(f"network: gives {got} for {len(seen)} images; takes one that gives logits (N, classes)")
        features, context = self.features.part(seen, hidden=False)
        with torch.enable_grad():
            leaf = features.detach().clone().requires_grad_()
            tokens = None if context is None else context.detach().clone().requires_grad_()
            ours = self.logits(leaf, tokens)
            total = ours.float().square().sum()  # not their sum, which a last normalisation may keep
            inputs = [leaf] if tokens is None else [leaf, tokens]
            of_map, *of_tokens = torch.autograd.grad(total, inputs, allow_unused=True)
        difference = float((ours.detach() - own).abs().max())
        if not difference <= 1e-3 * max(1.0, float(own.abs().max())):
            raise ValueError(f"network: its logits differ by {difference:.3g} from head(backbone(image)) at "
                             f"{_named(layer)}; {_would_do(self.network, sample)}")  # fmt: skip
        reads_tokens = any(gradient is not None and gradient.any() for gradient in of_tokens)
        if reads_tokens and (of_map is None or not of_map.any()):
            raise ValueError(f"layer: at {_named(layer)} logits read the class token alone, no position of the map; "
                             f"{_would_do(self.network, sample, below=layer)}")  # fmt: skip

    def _warn_of_hooks_inside(self) -> None:
        """A warning, once a hook, for one on a module whose output is **B** in the network alone."""
        for name in self.features.names(self.config["layer"]):
            module = self.network.get_submodule(name)
            if module._forward_hooks and id(module) not in self.hooked_before:
                self.hooked_before.add(id(module))
                warnings.warn(f"network.{name} is hooked: behind a wall it shows the seen part alone; "
                              "hook model.layer for features of the whole image", stacklevel=3)  # fmt: skip


class _Parts:
    """How an image is divided, and how the network runs on a part of it."""

    def __init__(self, network: nn.Module, image: tuple[int, int, int], seen_rows: int, side: str, patch: int | None):
        self.image = image
        self.seen_rows = seen_rows
        self.side = side
        self.patch = patch  # rows of a patch, where the other part's tokens are dropped
        self.grid_columns = 0 if patch is None else int(network.patch_embed.grid_size[1])

    def divide(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.ndim != 4 or images.shape[2] != self.image[1]:
            raise ValueError(_other_height(self, images.shape[2] if images.ndim == 4 else tuple(images.shape)))
        if self.side == "top":
            rows = self.image[1] - self.seen_rows
            return images[:, :, rows:], images[:, :, :rows]
        return images[:, :, : self.seen_rows], images[:, :, self.seen_rows :]

    def join(self, seen: Tensor, hidden: Tensor) -> Tensor:
        return torch.cat([hidden, seen] if self.side == "top" else [seen, hidden], dim=2)

    def run(self, function: nn.Module, part: Tensor, hidden: bool) -> Tensor:
        """The network, or its backbone, on a part alone, in evaluation mode."""
        network = getattr(function, "network", function) if isinstance(function, Half) else function
        part = _own(part)  # a first layer in place would change the caller's images
        with evaluating(network):
            if self.patch is None:
                return function(part)
            above = hidden == (self.side == "top")  # whether this part is the upper one
            rest = self.image[1] - part.shape[2]
            part = nn.functional.pad(part, (0, 0, 0, rest) if above else (0, 0, rest, 0))
            first = 0 if above else rest // self.patch * self.grid_columns
            last = (self.image[1] // self.patch) * self.grid_columns - (rest // self.patch * self.grid_columns if above else 0)
            with _tokens_of(network, first, last):
                return function(part)


class _Features(nn.Module):
    """g: both parts' features, each computed on its own, put together at `layer`."""

    def __init__(self, backbone: Half, layout: Layout, parts: _Parts):
        super().__init__()
        self.backbone = backbone
        self.layer = nn.Identity()
        self.layout = layout
        self.parts = parts

    def part(self, part: Tensor, hidden: bool) -> tuple[Tensor, Tensor | None]:
        """One part's features (N, C, h, w) and their context. One pass a part: bits may depend on a batch's size."""
        return self.layout.to_map(self.parts.run(self.backbone, part, hidden))

    def forward(self, images: Tensor, contexts: list | None = None) -> Tensor:
        seen, hidden = self.parts.divide(images)
        features, context = self.part(seen, hidden=False)
        below, _ = self.part(hidden, hidden=True)
        if contexts is not None:
            contexts.append(context)
        return self.layer(self.parts.join(features, below))

    def names(self, layer: str | None) -> list[str]:
        """The modules of the network whose own output is **B** of a part: the layer, and what ends it."""
        names = [] if layer is None else [layer]
        while names and type(module := self.backbone.network.get_submodule(names[-1])) is nn.Sequential and len(module):
            names.append(f"{names[-1]}.{list(module._modules)[-1]}")
        return names


class _Head(PooledHead):
    """f: logits from the seen rows of **B**."""

    def __init__(self, head: Half, layout: Layout, rows: tuple[int, int], side: str):
        super().__init__()
        self.rest = head
        self.layout = layout
        self.rows = rows  # seen, and all
        self.side = side

    def forward(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        if features.ndim != 4 or features.shape[2] not in self.rows:
            got = tuple(features.shape)
            raise ValueError(f"features: got {got}; takes (N, C, h, w) with {self.rows[1]} rows, or the {self.rows[0]} seen")
        if context is None and isinstance(self.layout, Tokens) and self.layout.prefix:
            raise ValueError("context: got none; takes the class tokens that `cut` returned with the features")
        seen = features[:, :, -self.rows[0] :] if self.side == "top" else features[:, :, : self.rows[0]]
        # A first layer in place would change the caller's features.
        return self.rest(self.layout.to_raw(_own(seen), context))

    @property
    def by_channel(self) -> bool:
        """Whether f is one linear layer over features pooled channel by channel: found by trying, and kept."""
        if "_last" not in self.__dict__:
            self.__dict__["_last"] = None
            with torch.inference_mode(False), torch.no_grad(), evaluating(self.rest.network):
                self.__dict__["_last"] = self._find_last()
        return self.__dict__["_last"] is not None

    @property
    def last(self) -> nn.Linear:
        """The linear layer that ends f; after `by_channel` said so."""
        return self.rest.network.get_submodule(self.__dict__["_last"])

    def pooled(self, features: Tensor) -> Tensor:
        """p, the last linear layer's input: (N, C)."""
        return self._ends(self.__dict__["_last"], features)[0]

    def _ends(self, name: str, features: Tensor) -> tuple[Tensor, Tensor]:
        """The input of one linear layer, and the logits."""
        met: list[Tensor] = []
        module = self.rest.network.get_submodule(name)
        handle = module.register_forward_pre_hook(lambda module, args: met.append(args[0]))
        try:
            logits = self(features)
        finally:
            handle.remove()
        return (met[0] if len(met) == 1 else logits), logits

    def _find_last(self) -> str | None:
        """The name of the linear layer W with f = W·p + b, p by channel; None where f is something else."""
        if isinstance(self.layout, Tokens) and self.layout.prefix:
            return None
        names = [name for name, module in self.rest.network.named_modules() if type(module) is nn.Linear]
        weight = next(self.rest.network.parameters())
        for name in reversed(names):
            module = self.rest.network.get_submodule(name)
            random = torch.Generator().manual_seed(0)
            features = torch.randn(2, module.in_features, self.rows[0], self.rows[0], generator=random).to(weight)
            try:
                pooled, logits = self._ends(name, features)
                linear = pooled.shape == (2, module.in_features) and torch.equal(module(pooled), logits)
            except Exception:  # another number of channels: not the last layer
                continue
            if not linear:
                continue
            # Other values in some channels, both signs and other scales, leave the rest of p as it was, bit for bit.
            for scale in (1e-2, 1.0, 1e2):
                some = torch.rand(module.in_features, generator=random).to(weight) < 0.5
                other = torch.randn(features.shape, generator=random).to(weight) * scale
                changed = self._ends(name, torch.where(some[:, None, None], other, features))[0]
                if not torch.equal(changed[:, ~some], pooled[:, ~some]):
                    return None
            return name
        return None


def own_size(network: nn.Module) -> tuple[int, int, int]:
    """(C, H, W) of the images that a network states it takes; where it says nothing, its first convolution's channels, 224."""
    first = next((layer.in_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)), USUAL[0])
    channels = getattr(network, "in_chans", None) or first
    stated = getattr(getattr(network, "patch_embed", None), "img_size", None) or getattr(network, "image_size", None)
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


def _inside(network: nn.Module) -> nn.Module:
    """The network that a compiled or parallel one holds; ValueError for what is no network, or has hooks of its own."""
    while isinstance(network, nn.Module):
        _refuse_hooks(network, [""])
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module
        elif isinstance(getattr(network, "_orig_mod", None), nn.Module):  # torch.compile's
            network = network._orig_mod
        else:
            break
    if not isinstance(network, nn.Module):
        raise ValueError(f"network: got {type(network).__name__}; takes a torch.nn.Module")
    if isinstance(network, torch.jit.ScriptModule):
        raise ValueError("network: got TorchScript, whose layers can't be cut; takes the nn.Module that it was made from")
    return network


def _refuse_hooks(network: nn.Module, opened: Sequence[str]) -> None:
    """ValueError for hooks on a module that the halves run the inside of: they would be passed by."""
    for name in opened:
        if _own_hooks(network.get_submodule(name)):
            raise ValueError(f"network: {f'its {name}' if name else 'it'} has hooks of its own, which would be passed by where "
                             "it is cut; takes them on modules inside, or removed")  # fmt: skip


def _halves(network: nn.Module, layer: str | None, sample: Tensor) -> tuple[Half, Half, list[str]]:
    """Backbone, head, and the modules whose own call neither of them makes."""
    if layer is None:
        return Half(network, _forward_features), Half(network, _forward_head), [""]
    if not isinstance(layer, str) or not layer:
        raise ValueError(f"layer: got {ascii(layer)[:80]}; {_would_do(network, sample)}")
    try:
        backbone, head = cut_graph.cut(network, layer)
    except ValueError as error:
        raise ValueError(f"{error}; {_would_do(network, sample)}") from None
    opened = cut_graph.around(layer)
    _refuse_hooks(network, opened)
    return backbone, head, opened


def _layout(network: nn.Module, layer: str | None, raw: object, reshape: Callable | None, sample: Tensor) -> Layout:
    """`layout_of`, its message with the layers that have maps."""
    try:
        return layout_of(network, raw, reshape)
    except ValueError as error:
        if layer is None or reshape is not None:
            raise
        raise ValueError(f"layer: got {layer}; {_would_do(network, sample)} ({error})") from None


def _forward_features(network: nn.Module, images: Tensor) -> Tensor:
    return network.forward_features(images)


def _forward_head(network: nn.Module, features: Tensor) -> Tensor:
    return network.forward_head(features)


def _default_layer(network: nn.Module, sample: Tensor) -> str | None:
    """None for timm's own cut; the layer before a transformer's last block, where only its class token is read; the last map."""
    if callable(getattr(network, "forward_features", None)) and callable(getattr(network, "forward_head", None)):
        token = getattr(network, "num_prefix_tokens", 0) and getattr(network, "global_pool", "") == "token"
        blocks = getattr(network, "blocks", None)
        return f"blocks.{len(blocks) - 2}" if token and isinstance(blocks, nn.Sequential) and len(blocks) > 1 else None
    encoder = getattr(getattr(network, "encoder", None), "layers", None)
    if isinstance(encoder, nn.Sequential) and hasattr(network, "class_token") and len(encoder) > 1:  # torchvision's ViT
        return f"encoder.layers.{list(encoder._modules)[-2]}"
    name = cut_graph.last_map(network, sample)
    if name is None:
        raise ValueError(f"layer: got None; {_would_do(network, sample)}")
    return name


def _would_do(network: nn.Module, sample: Tensor, below: str | None = None) -> str:
    """The end of a message: what `layer` takes, outer layers before inner ones, late ones before early ones."""
    names = cut_graph.usable(network, sample)
    names = names[: names.index(below)] if below in names else names
    shown = sorted(names, key=lambda name: (name.count("."), -names.index(name)))[:NAMED]
    if shown:
        return f"takes {', '.join(name for name in names if name in shown)}{', …' if len(names) > NAMED else ''}"
    return "takes a layer's name of a network that torch.fx traces, or None of one with forward_features and forward_head"


def _named(layer: str | None) -> str:
    return "forward_features" if layer is None else layer


def _within(parts: _Parts, backbone: Half, layout: Layout, whole: int, sample: Tensor) -> _Parts:
    """The parts of one image, run as the network can: of another height, or by dropping tokens.

    Raises ValueError where it takes neither, or where the seen part doesn't give whole rows of **B**.
    """
    network, (channels, rows, columns) = backbone.network, parts.image
    if isinstance(layout, Tokens):
        embed = getattr(network, "patch_embed", None)
        if not hasattr(network, "patch_drop") or not hasattr(embed, "grid_size") or not hasattr(embed, "patch_size"):
            raise ValueError(f"seen_rows: got {parts.seen_rows}, but {type(network).__name__} takes no part of an image; "
                             "takes None: two whole images, one above the other")  # fmt: skip
        patch = int(embed.patch_size[0])
        if parts.seen_rows % patch:
            raise ValueError(_whole_rows(parts, [n * patch for n in range(1, rows // patch)]))
        return _Parts(network, parts.image, parts.seen_rows, parts.side, patch)

    def height(n: int) -> int:
        """Rows of **B** of a part of n image rows; 0 where the network takes none."""
        try:
            part = parts.run(backbone, sample[:1, :, :n], hidden=False)
        except Exception:
            return 0
        return layout.to_map(part)[0].shape[2]

    def fits(n: int) -> bool:
        return height(n) * rows == whole * n and height(n) + height(rows - n) == whole

    if not fits(parts.seen_rows):
        good = [rows * n // whole for n in range(1, whole) if rows * n % whole == 0 and fits(rows * n // whole)]
        raise ValueError(_whole_rows(parts, good))
    return parts


def _whole_rows(parts: _Parts, good: list[int]) -> str:
    got = f"seen_rows: got {parts.seen_rows}, which doesn't give whole rows of the features"
    if not good:
        return f"{got}, nor does any other number: the network takes no part of {parts.image[1]} rows; takes None (two images)"
    return f"{got}; takes {', '.join(map(str, good))} of {parts.image[1]}, or None (two images)"


def _other_height(parts: _Parts, got: object) -> str:
    return (f"images: got {got} rows; takes {parts.image[1]}, of which {parts.seen_rows} are seen "
            "(walls.behind(…, image_rows=) sets another height)")  # fmt: skip


def _try(network: nn.Module, backbone: Half, sample: Tensor, argument: str) -> Tensor:
    """Features of a sample image; ValueError where the network takes no such image."""
    try:
        with evaluating(network):
            return backbone(sample.clone())
    except Exception as error:  # whatever the network's own code raises
        size = " × ".join(map(str, sample.shape[1:]))
        raise ValueError(f"network: fails on an image of {size} ({first_line(error)}); takes {argument}= for another height") from None


def _noise(network: nn.Module, size: tuple[int, int, int]) -> Tensor:
    """Two images of noise, of the network's precision, where it is."""
    images = torch.randn(2, *size, dtype=torch.float32, generator=torch.Generator().manual_seed(0), device="cpu")
    tensors = (*network.parameters(), *network.buffers())
    return images.to(next((tensor for tensor in tensors if tensor.is_floating_point()), images))


def _own(x: Tensor) -> Tensor:
    """A copy in the layout that x has, so that no layer sees another one than without a wall."""
    last = x.shape[1] > 1 and x.stride(1) == 1
    return x.clone(memory_format=torch.channels_last if last else torch.contiguous_format)


@contextlib.contextmanager
def _tokens_of(network: nn.Module, first: int, last: int) -> Iterator[None]:
    """Patches first … last - 1 alone, where timm's transformers drop patches."""
    prefix = int(getattr(network, "num_prefix_tokens", 0))

    def keep(module: nn.Module, args: tuple, tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, :prefix], tokens[:, prefix + first : prefix + last]], dim=1)

    handle = network.patch_drop.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def _own_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks)


def _hooked(module: nn.Module) -> bool:
    """Whether a hook sees this module's output: one of its own, or one on all modules."""
    everywhere = (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks,
                  torch_module._global_backward_hooks, torch_module._global_backward_pre_hooks)  # fmt: skip
    return _own_hooks(module) or any(everywhere)
