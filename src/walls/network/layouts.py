"""Layouts of a network's features: channels last, or tokens, to maps **B** (N, C, h, w) and back.

What is no position of the map (class and register tokens) is kept apart as the head's context: it
is computed from the seen part of an image, as **B** above the wall is.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from walls.base.messages import reason


class Layout:
    """(N, C, h, w), as convolutional networks have it: **B** itself, without a context."""

    def to_map(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        """**B** (N, C, h, w), and the context: what the head reads besides it, or None."""
        return raw, None

    def to_raw(self, features: Tensor, context: Tensor | None) -> Tensor:
        """The network's own layout again."""
        return features


class ChannelsLast(Layout):
    """(N, h, w, C), as Swin has it."""

    def to_map(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        return raw.permute(0, 3, 1, 2), None

    def to_raw(self, features: Tensor, context: Tensor | None) -> Tensor:
        return features.permute(0, 2, 3, 1).contiguous()


class Tokens(Layout):
    """(N, `prefix` + h·w, C): class and register tokens, then patches row by row.

    `columns` patches make a row.
    """

    def __init__(self, prefix: int, columns: int):
        self.prefix = prefix
        self.columns = columns
        self.turned = False

    def as_in(self, raw: Tensor) -> "Tokens":
        """Itself, laid out in memory as the network's own features: a mean's last bits show it."""
        self.turned = raw.stride(1) < raw.stride(2)
        return self

    def to_map(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        features = raw[:, self.prefix :].transpose(1, 2).unflatten(2, (-1, self.columns))
        return features, raw[:, : self.prefix] if self.prefix else None

    def to_raw(self, features: Tensor, context: Tensor | None) -> Tensor:
        tokens = features.flatten(2).transpose(1, 2)
        if context is not None:
            tokens = torch.cat([context, tokens], dim=1)
        if self.turned:
            return tokens.transpose(1, 2).contiguous().transpose(1, 2)
        return tokens.contiguous()


class Rearranged(Layout):
    """What the user's `reshape` makes of features, as pytorch-grad-cam's reshape_transform.

    It is followed by the positions it reads: of any rearrangement of numbers, that gives the way
    back, and what was left out is the context.
    """

    def __init__(self, reshape: Callable[[Tensor], Tensor]):
        self.reshape = reshape
        # by the raw shape, and by the map's
        self._read: dict[torch.Size, tuple[Tensor, Tensor, torch.Size, torch.Size]] = {}
        self._written: dict[torch.Size, tuple[Tensor, Tensor, torch.Size, torch.Size]] = {}

    def to_map(self, raw: Tensor) -> tuple[Tensor, Tensor | None]:
        taken, left, _, shape = self._positions(raw)
        flat = raw.flatten(1)
        features = flat[:, taken.to(raw.device)].unflatten(1, shape)
        return features, flat[:, left.to(raw.device)] if len(left) else None

    def to_raw(self, features: Tensor, context: Tensor | None) -> Tensor:
        taken, left, shape, _ = self._written[features.shape[1:]]
        flat = features.new_zeros(len(features), len(taken) + len(left))
        flat = flat.index_copy(1, taken.to(features.device), features.flatten(1))
        if context is not None:
            flat = flat.index_copy(1, left.to(features.device), context)
        return flat.unflatten(1, shape)

    def _positions(self, raw: Tensor) -> tuple[Tensor, Tensor, torch.Size, torch.Size]:
        """Which numbers of one image's features the map takes, which it leaves, and both shapes."""
        shape = raw.shape[1:]
        if shape not in self._read:
            count = shape.numel()
            with torch.inference_mode(False):
                numbered = torch.arange(count, dtype=torch.float64).view(1, *shape)
                mapped = self._reshaped(numbered)
                taken = mapped.flatten().long()
            in_range = len(taken) > 0 and bool(((taken >= 0) & (taken < count)).all())
            whole = in_range and torch.equal(taken.double(), mapped.flatten())
            if not whole or len(taken.unique()) != len(taken):
                raise ValueError(
                    "reshape: changes the features' values; "
                    "takes a function that only rearranges them"
                )
            free = torch.ones(count, dtype=torch.bool)
            free[taken] = False
            self._read[shape] = taken, free.nonzero()[:, 0], shape, mapped.shape[1:]
            self._written[mapped.shape[1:]] = self._read[shape]
        return self._read[shape]

    def _reshaped(self, numbered: Tensor) -> Tensor:
        try:
            mapped = self.reshape(numbered)
        except Exception as error:  # a user's function
            raise ValueError(
                f"reshape: fails on features of {tuple(numbered.shape)} ({reason(error)}); "
                "takes a function from them to (N, C, h, w)"
            ) from None
        if not isinstance(mapped, Tensor) or mapped.ndim != 4 or mapped.shape[0] != 1:
            got = tuple(mapped.shape) if isinstance(mapped, Tensor) else type(mapped).__name__
            raise ValueError(
                f"reshape: makes {got} of features "
                f"{tuple(numbered.shape)}; takes a function to (N, C, h, w)"
            )
        return mapped


def layout_of(
    network: nn.Module, raw: object, reshape: Callable[[Tensor], Tensor] | None
) -> Layout:
    """The layout of the features `raw` that a square image gave in that network.

    Four dimensions are channels last where that alone makes the map square. Three are tokens: class
    and register tokens as timm counts them, or none where that alone makes a grid; of others none
    where h·w of them make a square, one where h·w + 1 do. Raises ValueError for any other, naming
    `reshape`.
    """
    if reshape is not None:
        if not isinstance(raw, Tensor):
            raise ValueError(
                f"layer: gives {type(raw).__name__}; takes a layer that gives one tensor"
            )
        return Rearranged(reshape)
    if isinstance(raw, Tensor) and raw.ndim == 4:
        first, second, third = raw.shape[1:]
        return ChannelsLast() if first == second != third else Layout()
    if isinstance(raw, Tensor) and raw.ndim == 3:
        counted = getattr(network, "num_prefix_tokens", None)
        grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
        # CaiT's class token, which is counted, comes behind its blocks.
        for prefix in (0, 1) if counted is None else (counted, 0):
            count = raw.shape[1] - prefix
            side = math.isqrt(max(0, count))
            rows, columns = grid if grid and grid[0] * grid[1] == count else (side, side)
            if columns > 1 and rows * columns == count:
                return Tokens(prefix, columns).as_in(raw)
    got = tuple(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__
    raise ValueError(
        f"layer: its features are {got}; takes (N, C, h, w), (N, h, w, C), "
        "tokens of a square grid, or reshape=, a function to (N, C, h, w)"
    )
