"""The attention of a vision transformer behind a wall: of each part of an image, by itself.

Whatever goes through torch's scaled_dot_product_attention or MultiheadAttention is written out, so
that its probabilities, and gradients for them, can be had: timm's and torchvision's networks as
they are, nothing of them replaced.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from walls.network.behind import Behind
from walls.saliency.cut import Cut

TAKES = "takes timm's or torchvision's ViT, or one like it, behind a wall (walls.behind)"


class Explicit(TorchFunctionMode):
    """Attention written out: A = softmax(QKᵀ/√d + M), kept in `met`, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[Tensor] = []  # (N, heads, queries, keys)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is functional.scaled_dot_product_attention:
            return self._attended(*args, **(kwargs or {}))
        if func is functional.multi_head_attention_forward:
            return self._multi_head(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attended(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,  # 0 in evaluation mode
        is_causal: bool = False,
        scale: float | None = None,
        **other: object,
    ) -> Tensor:
        if is_causal or any(other.values()):
            raise ValueError("attention: got a causal or grouped one; takes plain attention")
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        scores = (query * scale) @ key.transpose(-2, -1)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        probabilities = scores.softmax(-1)
        if torch.is_grad_enabled() and not probabilities.requires_grad:
            probabilities.requires_grad_()  # of weights that have no gradients
        self.met.append(probabilities)
        return probabilities @ value

    def _multi_head(self, query, key, value, width, heads, weight, bias, *more, **settings):
        """torch's MultiheadAttention of tokens (T, N, C) to themselves, as torchvision has it."""
        bias_k, bias_v, _, _, out_weight, out_bias = more[:6]
        masks = (settings.get("attn_mask"), settings.get("key_padding_mask"), bias_k, bias_v)
        if query is not key or key is not value or any(mask is not None for mask in masks):
            raise ValueError("attention: got one to others or with a mask; takes self-attention")
        each = functional.linear(query, weight, bias).unflatten(-1, (3, heads, -1))
        mixed = self._attended(*each.permute(2, 1, 3, 0, 4))  # (N, heads, T, d)
        joined = mixed.permute(2, 0, 1, 3).flatten(2)
        return functional.linear(joined, out_weight, out_bias), None


@dataclass(frozen=True)
class Attended:
    """What a transformer did with one part of N images: T tokens, the first `prefix` no patches."""

    attention: list[Tensor]  # A of each block, (N, heads, T, T)
    pooling: Tensor | None  # A of a head that pools by attention, (N, heads, 1, T)
    tokens: list[Tensor]  # after each block, (N, T, C)
    logits: Tensor  # (N, classes)
    prefix: int


def both_parts(cut: Cut, name: str) -> tuple[Attended, Attended]:
    """What the network did with the seen part, and with the hidden part on its own.

    Gradients are kept. Raises ValueError, beginning with the method's `name`, for a network that
    isn't behind a wall, has no blocks of attention, or in which not every token attends to all.
    """
    model = cut.model
    network = model.network if isinstance(model, Behind) else model
    blocks = blocks_of(network)
    if not isinstance(model, Behind) or not blocks:
        raise ValueError(_other(name, network))
    pairs = zip(model.divide(cut.images), (False, True), strict=True)
    columns, rows = cut.features.shape[3], cut.features.shape[2]
    seen_rows = model.zone().rows[1]
    found = []
    for part, hidden in pairs:
        count = (rows - seen_rows if hidden else seen_rows) * columns
        found.append(_attended(model, part, hidden, count, blocks, name))
    return found[0], found[1]


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """timm's `blocks`, torchvision's `encoder.layers`; none of another network."""
    blocks = getattr(network, "blocks", None)
    if blocks is None:
        blocks = getattr(getattr(network, "encoder", None), "layers", None)
    return list(blocks) if isinstance(blocks, nn.Sequential | nn.ModuleList) else []


def _attended(
    model: Behind, part: Tensor, hidden: bool, patches: int, blocks: list[nn.Module], name: str
) -> Attended:
    tokens: list[Tensor] = []
    with torch.enable_grad(), ExitStack() as stack:
        stack.enter_context(_fused(model.network))
        for block in blocks:
            handle = block.register_forward_hook(lambda block, args, out: tokens.append(out))
            stack.callback(handle.remove)
        explicit = stack.enter_context(Explicit())
        logits = model.parts.run(model.network, part, hidden)
    met = explicit.met
    attention, last = met[: len(blocks)], met[len(blocks) :]
    count = tokens[-1].shape[1] if isinstance(tokens[-1], Tensor) and tokens[-1].ndim == 3 else 0
    square = all(
        len(one) == len(part) and one.ndim == 4 and one.shape[2:] == (count, count)
        for one in attention
    )
    pools = all(one.ndim == 4 and one.shape[2:] == (1, count) for one in last)
    if len(attention) < len(blocks) or not square or not pools or len(last) > 1 or count < patches:
        raise ValueError(_other(name, model.network))
    return Attended(attention, last[0] if last else None, tokens, logits, count - patches)


def _other(name: str, network: nn.Module) -> str:
    got = type(network).__name__
    return f"{name}: got {got}, without blocks in which every token attends to all; {TAKES}"


def pooled_by_attention(network: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of some block's tokens by a head that pools by attention, and that attention."""
    with torch.enable_grad(), _fused(network), Explicit() as explicit:
        logits = network.forward_head(network.norm(tokens))
    return logits, explicit.met[-1]


def read_by_head(network: nn.Module, part: Attended, name: str) -> Tensor:
    """How much of each token the head reads, (N, T), of sum 1.

    The class token alone, or it and DeiT's second one; the mean of the patches; a head's own
    attention. Raises ValueError, beginning with the method's `name`, for another pooling.
    """
    if part.pooling is not None:
        return part.pooling.mean(1)[:, 0].detach()
    torchvisions = "token" if hasattr(network, "class_token") else ""
    kind = getattr(network, "global_pool", torchvisions)
    read = torch.zeros_like(part.tokens[-1][:, :, 0]).detach()
    if kind == "token":
        read[:, : 2 if hasattr(network, "head_dist") else 1] = 1
    elif kind == "avg":
        read[:, 0 if getattr(network, "pool_include_prefix", False) else part.prefix :] = 1
    else:
        got = type(network).__name__
        raise ValueError(
            f"{name}: got {got}, whose pooling is {ascii(kind)[:40]}; "
            "takes a class token, a mean, or attention pooling ('token', 'avg', 'map')"
        )
    return read / read.sum(1, keepdim=True)


@contextmanager
def _fused(network: nn.Module) -> Iterator[None]:
    """All attention of timm's goes through torch's function; afterwards as it did before."""
    others = [module for module in network.modules() if not getattr(module, "fused_attn", True)]
    for module in others:
        module.fused_attn = True
    try:
        yield
    finally:
        for module in others:
            module.fused_attn = False
