"""The parts of an image, each looked at on its own; their features together; the head."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from walls.network.classifier import PooledHead
from walls.network.cut_graph import Half
from walls.network.layouts import Layout, Tokens
from walls.network.state import evaluating


class Parts:
    """How an image is divided, and how the network runs on a part of it."""

    def __init__(
        self,
        network: nn.Module,
        image: tuple[int, int, int],
        seen_rows: int,
        side: str,
        patch: int | None,
    ):
        self.image = image
        self.seen_rows = seen_rows
        self.side = side
        self.patch = patch  # rows of a patch, where the other part's tokens are dropped
        self.grid_columns = 0 if patch is None else int(network.patch_embed.grid_size[1])

    def divide(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The seen part and the hidden part; ValueError for images of another height."""
        if images.ndim != 4 or images.shape[2] != self.image[1]:
            raise ValueError(
                other_height(self, images.shape[2] if images.ndim == 4 else tuple(images.shape))
            )
        if self.side == "top":
            rows = self.image[1] - self.seen_rows
            return images[:, :, rows:], images[:, :, :rows]
        return images[:, :, : self.seen_rows], images[:, :, self.seen_rows :]

    def join(self, seen: Tensor, hidden: Tensor) -> Tensor:
        """Both again: images, or features."""
        return torch.cat([hidden, seen] if self.side == "top" else [seen, hidden], dim=2)

    def run(self, function: nn.Module, part: Tensor, hidden: bool) -> Tensor:
        """The network, or its backbone, on a part alone, in evaluation mode."""
        network = getattr(function, "network", function) if isinstance(function, Half) else function
        part = own(part)  # a first layer in place would change the caller's images
        with evaluating(network):
            if self.patch is None:
                return function(part)
            above = hidden == (self.side == "top")  # whether this part is the upper one
            rest = self.image[1] - part.shape[2]
            whole = nn.functional.pad(part, (0, 0, 0, rest) if above else (0, 0, rest, 0))
            dropped = rest // self.patch * self.grid_columns
            tokens = self.image[1] // self.patch * self.grid_columns
            kept = slice(0, tokens - dropped) if above else slice(dropped, tokens)
            with _tokens_of(network, kept):
                return function(whole)


class Features(nn.Module):
    """g: both parts' features, each computed on its own, put together at `layer`."""

    def __init__(self, backbone: Half, layout: Layout, parts: Parts):
        super().__init__()
        self.backbone = backbone
        self.layer = nn.Identity()
        self.layout = layout
        self.parts = parts

    def part(self, part: Tensor, hidden: bool) -> tuple[Tensor, Tensor | None]:
        """One part's features (N, C, h, w) and their context.

        Each part in a pass of its own: a result's last bits may depend on the batch's size.
        """
        return self.layout.to_map(self.parts.run(self.backbone, part, hidden))

    def forward(self, images: Tensor, contexts: list | None = None) -> Tensor:
        seen, hidden = self.parts.divide(images)
        features, context = self.part(seen, hidden=False)
        below, _ = self.part(hidden, hidden=True)
        if contexts is not None:
            contexts.append(context)
        return self.layer(self.parts.join(features, below))

    def names(self, layer: str | None) -> list[str]:
        """The network's modules that give a part's **B**: the layer, and what ends it."""
        names = [] if layer is None else [layer]
        while (
            names
            and type(module := self.backbone.network.get_submodule(names[-1])) is nn.Sequential
            and len(module)
        ):
            names.append(f"{names[-1]}.{list(module._modules)[-1]}")
        return names


UNTRIED = "untried"  # so far nobody asked which linear layer ends f


class Head(PooledHead):
    """f: logits from the seen rows of **B**."""

    def __init__(
        self,
        head: Half,
        layout: Layout,
        rows: tuple[int, int],
        columns: int,
        context: bool,
        side: str,
    ):
        super().__init__()
        self.rest = head
        self.layout = layout
        self.rows = rows  # seen, and all
        self.columns = columns
        self.context = context  # whether it reads more than **B**
        self.side = side
        self._last: str | None = UNTRIED

    def forward(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        if features.ndim != 4 or features.shape[2] not in self.rows:
            got = tuple(features.shape)
            raise ValueError(
                f"features: got {got}; takes (N, C, h, w) with "
                f"{self.rows[1]} rows, or the {self.rows[0]} seen"
            )
        if context is None and self.context:
            raise ValueError(
                "context: got none; takes the class tokens that `cut` returned with the features"
            )
        seen = (
            features[:, :, -self.rows[0] :]
            if self.side == "top"
            else features[:, :, : self.rows[0]]
        )
        # A first layer in place would change the caller's features.
        return self.rest(self.layout.to_raw(own(seen), context))

    @property
    def by_channel(self) -> bool:
        """Whether f is linear in features pooled channel by channel: found by trying, and kept."""
        if self._last is UNTRIED:
            self._last = None
            with torch.inference_mode(False), torch.no_grad(), evaluating(self.rest.network):
                self._last = self._find_last()
        return self._last is not None

    @property
    def last(self) -> nn.Linear:
        """The linear layer that ends f; after `by_channel` said so."""
        return self.rest.network.get_submodule(self._last)

    def pooled(self, features: Tensor) -> Tensor:
        """p, the last linear layer's input: (N, C)."""
        return self._ends(self._last, features)[0]

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
        """The name of the linear layer W with f = W·p + b, p by channel; None for another f."""
        if self.context:
            return None
        names = [
            name for name, module in self.rest.network.named_modules() if type(module) is nn.Linear
        ]
        weight = next(self.rest.network.parameters())
        for name in reversed(names):
            module = self.rest.network.get_submodule(name)
            random = torch.Generator().manual_seed(0)
            features = torch.randn(
                2, module.in_features, self.rows[0], self.columns, generator=random
            ).to(weight)
            try:
                pooled, logits = self._ends(name, features)
                linear = pooled.shape == (2, module.in_features) and torch.equal(
                    module(pooled), logits
                )
            except Exception:  # another number of channels: not the last layer
                continue
            if not linear:
                continue
            # Other values in some channels, of any sign and scale, leave the rest of p as it was.
            for scale in (1e-2, 1.0, 1e2):
                some = torch.rand(module.in_features, generator=random).to(weight) < 0.5
                other = torch.randn(features.shape, generator=random).to(weight) * scale
                changed = self._ends(name, torch.where(some[:, None, None], other, features))[0]
                if not torch.equal(changed[:, ~some], pooled[:, ~some]):
                    return None
            return name
        return None


def within(parts: Parts, backbone: Half, layout: Layout, whole: int, sample: Tensor) -> Parts:
    """The parts of one image, run as the network can: of another height, or by dropping tokens.

    Raises ValueError where it takes neither, or where the seen part doesn't give whole rows of
    **B**.
    """
    network, rows = backbone.network, parts.image[1]
    if isinstance(layout, Tokens):
        embed = getattr(network, "patch_embed", None)
        drops = isinstance(getattr(network, "patch_drop", None), nn.Module)
        if (
            not drops
            or getattr(embed, "grid_size", None) is None
            or getattr(embed, "patch_size", None) is None
        ):
            raise ValueError(_no_part(parts, network))
        patch = int(embed.patch_size[0])
        if parts.seen_rows % patch:
            raise ValueError(_whole_rows(parts, [n * patch for n in range(1, rows // patch)]))
        dropping = Parts(network, parts.image, parts.seen_rows, parts.side, patch)
        try:
            raw = dropping.run(backbone, parts.divide(sample[:1])[0], hidden=False)
        except Exception:  # one that keeps positions elsewhere too
            raise ValueError(_no_part(parts, network)) from None
        if raw.shape[1] != layout.prefix + parts.seen_rows // patch * layout.columns:
            raise ValueError(_no_part(parts, network))
        layout.as_in(raw)
        return dropping

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
        good = [
            rows * n // whole
            for n in range(1, whole)
            if rows * n % whole == 0 and fits(rows * n // whole)
        ]
        raise ValueError(_whole_rows(parts, good))
    return parts


def _no_part(parts: Parts, network: nn.Module) -> str:
    return (
        f"seen_rows: got {parts.seen_rows}, but {type(network).__name__} takes no part of an "
        "image; takes None: two whole images, one above the other"
    )


def _whole_rows(parts: Parts, good: list[int]) -> str:
    got = f"seen_rows: got {parts.seen_rows}, which doesn't give whole rows of the features"
    if not good:
        return f"{got}, nor does any other number of {parts.image[1]}; takes None (two images)"
    return f"{got}; takes {', '.join(map(str, good))} of {parts.image[1]}, or None (two images)"


def other_height(parts: Parts, got: object) -> str:
    return (
        f"images: got {got} rows; takes {parts.image[1]}, of which {parts.seen_rows} are seen "
        "(walls.behind(…, image_rows=) sets another height)"
    )


def own(x: Tensor) -> Tensor:
    """A copy in the layout that x has, so that no layer sees another one than without a wall."""
    last = x.shape[1] > 1 and x.stride(1) == 1
    return x.clone(memory_format=torch.channels_last if last else torch.contiguous_format)


@contextlib.contextmanager
def _tokens_of(network: nn.Module, kept: slice) -> Iterator[None]:
    """Some patches' tokens alone, where timm's transformers drop patches; the class tokens stay."""
    prefix = int(getattr(network, "num_prefix_tokens", 0))

    def keep(module: nn.Module, args: tuple, tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, :prefix], tokens[:, prefix:][:, kept]], dim=1)

    handle = network.patch_drop.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()
