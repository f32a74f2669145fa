"""A network split as f∘g, and the wall: a dense layer without weights for the hidden rows of **B**.

g (`features`) ends in the last rectified activation map **B**; f (`head`) is everything after it.
The wall is structural: a masked head has no weights for the hidden rows of **B**, so nothing can
leak through them.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from walls.network import geometry


class WallLinear(nn.Module):
    """The first dense layer W, without weights for the bottom `wall_rows` rows of **B**.

    Reads `B[:, :, :h - wall_rows]` of a (N, C, h, w) map and returns (N, dense). Initialised on the
    scale of the full layer (torch's uniform rule for fan-in C·h·w), so that a masked and a baseline
    head start alike.
    """

    def __init__(self, channels: int, height: int, width: int, dense: int, wall_rows: int = 0):
        super().__init__()
        if not 0 <= wall_rows < height:
            raise ValueError(
                f"wall_rows: got {wall_rows}; takes 0 to {height - 1} of the map's {height} rows"
            )
        self.height = height
        self.wall_rows = wall_rows
        bound = 1 / math.sqrt(channels * height * width)
        self.weight = nn.Parameter(
            torch.empty(dense, channels, height - wall_rows, width).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(dense).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        channels, rows, columns = self.weight.shape[1:]
        if features.shape[1:] not in ((channels, rows, columns), (channels, self.height, columns)):
            got, takes = (
                " × ".join(map(str, shape))
                for shape in (features.shape[1:], (channels, self.height, columns))
            )
            raise ValueError(
                f"images: their features are {got}; takes "
                f"images of which the backbone makes {takes}"
            )
        seen = features[:, :, : self.height - self.wall_rows]
        return nn.functional.linear(seen.flatten(1), self.weight.flatten(1), self.bias)

    def full_weight(self) -> Tensor:
        """The paper's W, (dense, C, h, w), with `W[:, :, -wall_rows:, :] = 0`."""
        return nn.functional.pad(self.weight.detach(), (0, 0, 0, self.wall_rows))


class PooledHead(nn.Module):
    """A head f that may end in one linear layer over pooled features, as after global pooling.

    `by_channel`: f(**B**) = `last`(p), and p_v = `pooled`(**B**)_v depends on channel v alone. Then
    leaving channels out needs no pass of the head.
    """

    last: nn.Linear

    @property
    def by_channel(self) -> bool:
        """Whether p_v depends on channel v alone."""
        return False

    def pooled(self, features: Tensor) -> Tensor:
        """p: (N, C)."""
        raise NotImplementedError


Normalised = tuple[Sequence[float], Sequence[float]]  # mean and std, a number a channel each


class Classifier(nn.Module):
    """A network split as f∘g, which computes its logits from the rows its head can see alone.

    `features` (g) maps images (N, 3, H, W) to **B** (N, C, h, w); `head` (f) maps **B** to logits
    (N, classes). In training, and where `scores` are asked for, every layer is cropped to the rows
    needed (geometry.py): exact, cheaper, and with batch norm the only way to train that never reads
    the dead zone. Otherwise the features have their full height, so that whatever hooks a layer
    sees all of it. `normalised`: (mean, std) that turn pixels in [0, 1] into its images; None: not
    known, images are taken for pixels. Raises ValueError where `wall_rows` isn't that of the head's
    `WallLinear`.
    """

    def __init__(
        self,
        features: nn.Module,
        head: nn.Module,
        wall_rows: int,
        config: dict | None = None,
        *,
        normalised: Normalised | None = None,
    ):
        super().__init__()
        for layer in head.modules():
            if isinstance(layer, WallLinear) and layer.wall_rows != wall_rows:
                raise ValueError(
                    f"wall_rows: got {wall_rows}, and the head's WallLinear has "
                    f"{layer.wall_rows}; takes the same number twice"
                )
        self.features = features
        self.head = head
        self.wall_rows = wall_rows
        self.config = config or {}
        self.normalised = normalised
        self._zones: dict[int, geometry.DeadZone] = {}

    def zone(self, image_rows: int) -> geometry.DeadZone:
        """The dead zone for images of that height; ValueError where the wall leaves none."""
        if image_rows not in self._zones:
            self._zones[image_rows] = geometry.dead_zone(self.features, image_rows, self.wall_rows)
        return self._zones[image_rows]

    @property
    def channels(self) -> int:
        """Channels of an image: what the first convolution takes, 3 without one."""
        convolutions = (layer for layer in self.modules() if isinstance(layer, nn.Conv2d))
        return next((layer.in_channels for layer in convolutions), 3)

    def black(self, images: Tensor) -> Tensor:
        """A black pixel as it is in `images`, (1, C, 1, 1): -mean / std.

        0 where the normalisation isn't known. Raises ValueError for one that can't be.
        """
        if self.normalised is None:
            return images.new_zeros(1, images.shape[1], 1, 1)
        channels = images.shape[1]
        try:
            mean, std = (images.new_tensor(tuple(values)) for values in self.normalised)
            fits = mean.shape == std.shape == (channels,) and bool((std > 0).all())
        except (TypeError, ValueError):
            fits = False
        if not fits:
            got = ascii(self.normalised)[:80]
            takes = f"(mean, std), {channels} numbers each, std above 0"
            raise ValueError(f"normalised: got {got}; takes {takes}")
        return (-mean / std)[None, :, None, None]

    def columns(self, image_rows: int) -> int:
        """Width of an image of that height: the same."""
        return image_rows

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            return self.scores([images])
        return self.logits(*self.cut(images))

    def cut(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """**B** at full height, and what f reads besides it.

        That is a transformer's class token; here None.
        """
        return self.features(_unharmed(images, self.features)), None

    def logits(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        """f(**B**): (N, classes), given what `cut` returned."""
        return self.head(_unharmed(features, self.head))

    def scores(self, parts: Sequence[Tensor]) -> Tensor:
        """Logits of all parts' images, from the rows that the head sees.

        Its weights are read once.
        """
        rows = self.seen_features if self._reads_cropped else lambda images: self.cut(images)[0]
        return self.head(torch.cat([rows(part) for part in parts]))

    @property
    def _reads_cropped(self) -> bool:
        """Whether the head takes the rows above the wall alone: it reads them by WallLinear."""
        layers = geometry.flatten(self.head)
        first = next((layer for layer in layers if not geometry.rowwise(layer)), None)
        return not self.wall_rows or isinstance(first, WallLinear)

    def divide(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The rows above the dead zone, and the dead zone."""
        seen = self.zone(images.shape[2]).seen_rows
        return images[:, :, :seen], images[:, :, seen:]

    def join(self, seen: Tensor, dead: Tensor) -> Tensor:
        """Images of two such parts."""
        return torch.cat([seen, dead], dim=2)

    def edge(self, seen: Tensor) -> Tensor:
        """The last seen row, next to the dead zone."""
        return seen[:, :, -1:]

    def seen_features(self, images: Tensor) -> Tensor:
        """The rows of **B** above the wall, (N, C, h - wall_rows, w), alone."""
        if not self.wall_rows:
            return self.features(images)
        rows = self.zone(images.shape[2]).rows
        x = _unharmed(images, self.features)[:, :, : rows[0]]
        for layer, needed in zip(geometry.flatten(self.features), rows[1:], strict=True):
            x = _top_rows(layer, x, needed)
        return x


def _unharmed(tensor: Tensor, module: nn.Module) -> Tensor:
    """Itself, or a copy where the module's first layer works in place."""
    first = next(layer for layer in module.modules() if next(layer.children(), None) is None)
    return tensor.clone() if getattr(first, "inplace", False) else tensor


def _top_rows(layer: nn.Module, x: Tensor, needed: int) -> Tensor:
    """The first `needed` rows of `layer`'s output, given the input rows that they need."""
    plain = type(layer) is nn.Conv2d and not layer._forward_hooks and not layer._forward_pre_hooks
    if plain and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        top, side = layer.padding
        kernel, stride, dilation = layer.kernel_size[0], layer.stride[0], layer.dilation[0]
        if (needed - 1) * stride - top + dilation * (kernel - 1) + 1 == x.shape[2]:
            # Padding above alone gives just these rows; cropping a convolution's output would copy
            # it.
            x = nn.functional.pad(x, (0, 0, top, 0))
            return nn.functional.conv2d(
                x, layer.weight, layer.bias, layer.stride, (0, side), layer.dilation, layer.groups
            )
    x = layer(x)
    return x if x.shape[2] == needed else x[:, :, :needed]
