"""The paper's [CNN] (Section 2.1) as a network of torch's."""

import itertools
import math
from numbers import Integral

import torch
from torch import Tensor, nn

from walls.network.classifier import WallLinear


class CNN(nn.Module):
    """The paper's [CNN] (Section 2.1): convolution, ReLU, max pooling, L dense layers, no biases.

    `image_size` (H, W); V `filters` of `kernel` × `kernel`; `pool` k'; `sizes` (d_1, …, d_L), d_L =
    1 in the paper; the bottom `masked_rows` of the h' pooled rows have no weights (None: the lower
    half). All weights are drawn from N(0, tau²), float64, from `seed`. Split as f∘g: `features`
    maps images (N, 1, H, W) to **B** (N, V, h, w), `head` maps **B** to scores (N, d_L). ValueError
    where k' doesn't divide h and w, h' is odd and its lower half is meant, or no row is left.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        filters: int,
        kernel: int,
        pool: int,
        sizes: tuple[int, ...] = (1,),
        masked_rows: int | None = None,
        tau: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        for name, value in (
            ("filters", filters),
            ("kernel", kernel),
            ("pool", pool),
            ("sizes", min(sizes, default=0)),
        ):
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name}: got {value!r}; takes a whole number, 1 or more")
        if not 0 < tau < math.inf:
            raise ValueError(f"tau: got {tau!r}; takes a standard deviation above 0")
        rows, columns = (side - kernel + 1 for side in image_size)
        if min(rows, columns) < 1 or rows % pool or columns % pool:
            raise ValueError(f"pool: got {pool}; takes a divisor of h = {rows} and w = {columns}")
        rows, columns = rows // pool, columns // pool
        if masked_rows is None and rows % 2:
            raise ValueError(f"masked_rows: h' = {rows} has no lower half; takes 0 to {rows - 1}")
        self.features = nn.Sequential(nn.Conv2d(1, filters, kernel, bias=False), nn.ReLU())
        first = WallLinear(
            filters, rows, columns, sizes[0], rows // 2 if masked_rows is None else masked_rows
        )
        first.bias = None
        layers: list[nn.Module] = [nn.MaxPool2d(pool), first]
        for wide, narrow in itertools.pairwise(sizes):
            layers += [nn.ReLU(), nn.Linear(wide, narrow, bias=False)]
        self.head = nn.Sequential(*layers)
        self.double()
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=tau, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def dense_weights(self) -> list[Tensor]:
        """W^(1) … W^(L), the first as (d_1, V, h', w') with its zeros."""
        first, *others = [layer for layer in self.head if isinstance(layer, WallLinear | nn.Linear)]
        return [first.full_weight(), *(layer.weight.detach() for layer in others)]
