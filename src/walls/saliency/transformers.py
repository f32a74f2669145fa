"""Methods on a vision transformer's attention: maps (N, h, w) of its patches, never below 0.

Behind a wall attention never crosses to the hidden part: that of a whole image is a matrix of two
blocks, one for each part's tokens, and the head reads the seen part's tokens alone. So what starts
at the head and follows attention back, as rollout does, stays in the seen part; a score's gradient
for hidden attention is 0. All is exactly 0 there then, by construction. Not so where each part is
rolled out as an image by itself: the hidden part's attention is as large as the seen part's.

Symbols: A_l the attention of block l, (heads, T, T), after its softmax; y the target's logit; r
what the head reads of each token (its class token's 1, the mean's 1/T, or its own attention).
"""

import torch
from torch import Tensor, nn

from walls.saliency.attention import Attended, both_parts, pooled_by_attention, read_by_head
from walls.saliency.cut import Cut
from walls.saliency.registry import BY_CONSTRUCTION, method


@method(
    "AttentionRollout",
    by="Abnar and Zuidema, 2020",
    guarantee=BY_CONSTRUCTION,
    attention=True,
)
def attention_rollout(cut: Cut) -> Tensor:
    """r Π_l (½ mean_heads A_l + ½ I), last block first (Abnar and Zuidema, 2020).

    From what the head reads, which is nothing of the hidden part.
    """
    seen, hidden = both_parts(cut, "AttentionRollout")
    start = read_by_head(cut.model.network, seen, "AttentionRollout")
    nothing = torch.zeros_like(hidden.tokens[-1][:, :, 0]).detach()
    return _joined(cut, (seen, rolled_out(seen, start)), (hidden, rolled_out(hidden, nothing)))


@method("AttentionRollout (each part)", by="here", attention=True)
def attention_rollout_of_each_part(cut: Cut) -> Tensor:
    """AttentionRollout of each part as if it were the image, from its own class token.

    What hooks on a network show that looks at both parts. Each part's scores add up to what rollout
    leaves its patches, 1 less its class token's: no less for the hidden part than for the seen one.
    """
    name = "AttentionRollout (each part)"
    parts = both_parts(cut, name)
    network = cut.model.network
    rolled = [(part, rolled_out(part, read_by_head(network, part, name))) for part in parts]
    return _joined(cut, *rolled)


def rolled_out(part: Attended, start: Tensor) -> Tensor:
    """`start` (N, T) followed back through all blocks' attention: (N, T)."""
    row = start[:, None]
    for attention in reversed(part.attention):
        row = (row @ attention.detach().mean(1) + row) / 2
    return row[:, 0]


@method(
    "GradientWeightedAttention",
    by="Chefer et al., 2021",
    guarantee=BY_CONSTRUCTION,
    attention=True,
)
def gradient_weighted_attention(cut: Cut) -> Tensor:
    """r Π_l (I + mean_heads max(∂y/∂A_l ⊙ A_l, 0)), last block first (Chefer et al., 2021).

    The relevance R ← R + ĀR, from R = I, of their generic attention-model explainability. One pass
    and its gradient. Where the head pools by attention, r is mean_heads max(∂y/∂A ⊙ A, 0) of its
    own.
    """
    name = "GradientWeightedAttention"
    seen, hidden = both_parts(cut, name)
    with torch.enable_grad():
        score = seen.logits.gather(1, cut.targets[:, None]).sum()
    pooling = [] if seen.pooling is None else [seen.pooling]
    of = [*seen.attention, *hidden.attention, *pooling]
    gradients = _gradients(score, of)
    weighted = [
        (gradient * attention.detach()).clamp_min(0).mean(1)
        for gradient, attention in zip(gradients, of, strict=True)
    ]
    start = weighted.pop()[:, 0] if pooling else read_by_head(cut.model.network, seen, name)
    nothing = torch.zeros_like(hidden.tokens[-1][:, :, 0]).detach()
    depth, rows = len(seen.attention), []
    for first, row in ((0, start[:, None]), (depth, nothing[:, None])):
        for relevance in reversed(weighted[first : first + depth]):
            row = row + row @ relevance
        rows.append(row[:, 0])
    return _joined(cut, (seen, rows[0]), (hidden, rows[1]))


@method("LeGrad", by="Bousselham et al., 2024", guarantee=BY_CONSTRUCTION, attention=True)
def legrad(cut: Cut) -> Tensor:
    """The mean over blocks, heads and queries of max(∂s_l/∂A_l, 0) (Bousselham et al., 2024).

    s_l is the target's logit that the head gives of the mean of block l's tokens. Where the head
    pools by attention, s_l is what it gives of block l's tokens, and A_l that pooling's. One pass,
    and a gradient through each block. torch-cam's LeGrad is the same, of torchvision's ViT.
    """
    name = "LeGrad"
    seen, hidden = both_parts(cut, name)
    network, totals = cut.model.network, []
    for block, tokens in enumerate(seen.tokens):
        of = [seen.attention[block], hidden.attention[block]]
        with torch.enable_grad():
            if seen.pooling is None:
                logits = of_mean(network, tokens)
            else:
                logits, of[0] = pooled_by_attention(network, tokens)
            score = logits.gather(1, cut.targets[:, None]).sum()
        totals.append([gradient.clamp_min(0).mean((1, 2)) for gradient in _gradients(score, of)])
    scores = [torch.stack(part).mean(0) for part in zip(*totals, strict=True)]
    return _joined(cut, (seen, scores[0]), (hidden, scores[1]))


def of_mean(network: nn.Module, tokens: Tensor) -> Tensor:
    """Logits (N, classes) of the mean of a block's tokens (N, T, C).

    Every token is that mean, so that each way of pooling but attention gives it.
    """
    mean = tokens.mean(1, keepdim=True).expand_as(tokens)
    if callable(getattr(network, "forward_head", None)):
        return network.forward_head(network.norm(mean))
    return network.heads(network.encoder.ln(mean)[:, 0])  # torchvision's


def _gradients(score: Tensor, of: list[Tensor]) -> list[Tensor]:
    """∂score/∂ each; 0 of what it doesn't depend on."""
    return list(torch.autograd.grad(score, of, retain_graph=True, materialize_grads=True))


def _joined(cut: Cut, *parts: tuple[Attended, Tensor]) -> Tensor:
    """The patches' scores (N, T) of the seen and of the hidden part, as maps (N, h, w)."""
    columns = cut.features.shape[3]
    seen, hidden = (
        scores[:, None, part.prefix :].unflatten(2, (-1, columns)) for part, scores in parts
    )
    return cut.model.parts.join(seen, hidden)[:, 0]
