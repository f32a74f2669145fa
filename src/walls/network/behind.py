"""Any network behind a wall, for `saliency_maps`, `certify`, `activity` and other CAM libraries.

The network sees one part of an image. Its backbone looks at the other part too, on its own; both
features are put together at `.layer`, where any CAM method finds them, and the head gets the seen
part's rows alone. So no logit can depend on the hidden part, whatever the network does with what it
sees (DiFull's way: Rao et al., CVPR 2022).
"""

import math
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn

from walls.network.classifier import Classifier, Normalised
from walls.network.geometry import DeadZone
from walls.network.opening import (
    default_layer,
    features_of,
    found_layout,
    halves,
    hooked,
    inside,
    named,
    noise,
    own_size,
    refuse_hooks,
    stated,
    would_do,
)
from walls.network.parts import Features, Head, Parts, other_height, within
from walls.network.state import evaluating

SIDES = ("bottom", "top")


def behind(
    network: nn.Module,
    seen_rows: int | None = None,
    *,
    layer: str | None = None,
    image_rows: int | None = None,
    reshape: Callable[[Tensor], Tensor] | None = None,
    side: str = "bottom",
    normalised: Normalised | None = None,
) -> "Behind":
    """The network behind a wall: logits = N(seen part), features **B** of both parts at `.layer`.

    **B** = [g(seen part); g(hidden part)], each part looked at on its own; the head reads the seen
    rows. `seen_rows`: None, *stacked*: the image is two of the network's own size, one above the
    other, and the upper one is seen. A number, *within an image*: that many of its `image_rows`
    rows. `image_rows`: the whole image's height; None: (twice) the size that the network states,
    else 224. `layer`: the module whose output is **B**; None: `forward_features` of timm's
    networks, else the last module that gives a map. `reshape`: as pytorch-grad-cam's
    reshape_transform, where the features' layout isn't known: a rearrangement to (N, C, h, w).
    `side`: where the hidden part lies, "bottom" or "top". `normalised`: (mean, std) by which
    pixels in [0, 1] become its images, for methods that hide pixels; None: what timm's networks
    state, else not known (`Classifier.black`).

    The network is neither copied nor changed, and computes in evaluation mode whatever its mode is.
    Of a compiled or a DataParallel network, the one inside is used. A hook on one of the network's
    own modules sees each part alone; hook `.layer` for the whole image.
    Raises ValueError, in one line: a layer that isn't there, is bypassed or can't be cut at, with
    those that would do; a seen part that doesn't give whole rows of **B**, with those that do; a
    network whose halves don't give its logits, that takes no such image, or that has hooks which
    the halves would pass by.
    """
    if side not in SIDES:
        raise ValueError(f"side: got {ascii(side)[:80]}; takes {' or '.join(SIDES)}")
    for name, value in (("seen_rows", seen_rows), ("image_rows", image_rows)):
        whole = isinstance(value, Integral) and not isinstance(value, bool) and value > 0
        if value is not None and not whole:
            raise ValueError(
                f"{name}: got {ascii(value)[:80]}; takes a whole number, 1 or more, or None"
            )
    with torch.inference_mode(False), torch.no_grad():
        network = inside(network)
        channels, rows, columns = own_size(network)
        if image_rows is None:
            image_rows = rows if seen_rows is not None else 2 * rows
        if seen_rows is None and image_rows % 2:
            raise ValueError(
                f"image_rows: got {image_rows}; takes an even "
                "number: two images, one above the other"
            )
        single = image_rows if seen_rows is not None else image_rows // 2
        if seen_rows is not None and seen_rows >= image_rows:
            raise ValueError(
                f"seen_rows: got {seen_rows}; takes 1 to "
                f"{image_rows - 1} of the image's {image_rows} rows"
            )
        size = (channels, single, columns if single == rows else single)
        return Behind(
            network,
            seen_rows,
            layer,
            (channels, image_rows, size[2]),
            size,
            reshape,
            side,
            normalised or stated(network, channels),
        )


class Behind(Classifier):
    """A network behind a wall (`behind`): a Classifier whose parts are computed each on its own.

    Calling it gives the logits of the seen part, and computes nothing else unless `.layer` is
    hooked or replaced: then **B** passes through it at full height. `head` reads **B** at full
    height or the seen rows alone; the head of a transformer needs its context too (`cut`,
    `logits`).
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
        normalised: Normalised | None = None,
    ):
        sample = noise(network, single)
        layer = layer if layer is not None else default_layer(network, sample)
        backbone, head, opened = halves(network, layer, sample)
        raw = features_of(network, backbone, sample[:1], "image_rows")
        layout = found_layout(network, layer, raw, reshape, sample)
        whole, _ = layout.to_map(raw)
        stacked = seen_rows is None
        parts = Parts(network, image, single[1] if stacked else seen_rows, side, None)
        if not stacked:
            parts = within(parts, backbone, layout, whole.shape[2], sample)
        both = Features(backbone, layout, parts)
        upper, context = both.part(
            sample[:1] if stacked else parts.divide(sample[:1])[0], hidden=False
        )
        rows = (upper.shape[2], whole.shape[2] * (2 if stacked else 1))
        reader = Head(head, layout, rows, whole.shape[3], context is not None, side)
        super().__init__(both, reader, rows[1] - rows[0], normalised=normalised)
        self.training = both.training = self.head.training = False
        self.parts = parts
        self.opened = opened
        self.hooked_before = {id(module) for module in network.modules() if module._forward_hooks}
        self.single = single
        self.dead_zone = DeadZone((parts.seen_rows, rows[0]), (image[1], rows[1]), side)
        self.config = {
            "architecture": "behind",
            "network": type(network).__name__,
            "layer": layer,
            "seen_rows": seen_rows,
            "image_rows": image[1],
            "side": side,
        }
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
        """The hidden part, with two heights: the image's and **B**'s.

        `measured_rows` leaves out what upscaling mixes. ValueError for images of another height.
        """
        if image_rows not in (None, self.dead_zone.image_rows):
            raise ValueError(other_height(self.parts, image_rows))
        return self.dead_zone

    def forward(self, images: Tensor) -> Tensor:
        # As pytorch-grad-cam's AblationCAM does.
        replaced = type(self.layer) is not nn.Identity
        if replaced or hooked(self.features) or hooked(self.layer):
            return self.logits(*self.cut(images))
        self._warn_of_hooks_inside()
        seen, _ = self.divide(images)
        return self.parts.run(self.network, seen, hidden=False)

    def cut(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """**B** at full height, and what f reads besides it.

        That is a transformer's class and register tokens, or None.
        """
        refuse_hooks(self.network, self.opened)
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
        """The image rows of the seen part's last row of **B**, next to the hidden part.

        Several rows, since some networks never read the very last.
        """
        rows = math.ceil(self.dead_zone.rows[0] / self.dead_zone.rows[1])
        return seen[:, :, :rows] if self.parts.side == "top" else seen[:, :, -rows:]

    def _check(self, sample: Tensor, layer: str | None) -> None:
        """ValueError where head(backbone(·)) isn't the network, or reads no position of **B**.

        And for a mean and std that can't be.
        """
        self.black(sample)
        seen = sample if self.dead_zone.image_rows == 2 * self.single[1] else self.divide(sample)[0]
        own = self.parts.run(self.network, seen, hidden=False)
        if not isinstance(own, Tensor) or own.ndim != 2 or len(own) != len(seen):
            got = tuple(own.shape) if isinstance(own, Tensor) else type(own).__name__
            raise ValueError(
                f"network: gives {got} for {len(seen)} images; "
                "takes one that gives logits (N, classes)"
            )
        features, context = self.features.part(seen, hidden=False)
        with torch.enable_grad():
            leaf = features.detach().clone().requires_grad_()
            tokens = None if context is None else context.detach().clone().requires_grad_()
            ours = self.logits(leaf, tokens)
            # Of squares: a last normalisation may keep the plain sum.
            total = ours.float().square().sum()
            inputs = [leaf] if tokens is None else [leaf, tokens]
            of_map, *of_tokens = torch.autograd.grad(total, inputs, allow_unused=True)
        difference = float((ours.detach() - own).abs().max())
        if not difference <= 1e-3 * max(1.0, float(own.abs().max())):
            raise ValueError(
                f"network: its logits differ by {difference:.3g} from head(backbone(image)) at "
                f"{named(layer)}; {would_do(self.network, sample)}"
            )
        reads_tokens = any(gradient is not None and gradient.any() for gradient in of_tokens)
        if reads_tokens and (of_map is None or not of_map.any()):
            raise ValueError(
                f"layer: at {named(layer)} logits read the class token alone, not the map; "
                f"{would_do(self.network, sample, below=layer)}"
            )

    def _warn_of_hooks_inside(self) -> None:
        """A warning, once a hook, for one on a module whose output is a part's **B**."""
        for name in self.features.names(self.config["layer"]):
            module = self.network.get_submodule(name)
            if module._forward_hooks and id(module) not in self.hooked_before:
                self.hooked_before.add(id(module))
                warnings.warn(
                    f"network.{name} is hooked: behind a wall it shows the seen part alone; "
                    "hook model.layer for features of the whole image",
                    stacklevel=3,
                )
