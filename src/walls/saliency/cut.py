"""One batch in a network split as f∘g: what every saliency method may use, computed once each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from walls.network.classifier import Classifier
from walls.network.folding import folded
from walls.network.workers import shared

# Where only logits are asked for: images at once through the convolutions of a processor, which
# keeps so few activations in reach of its cache, and features at once through the head.
PART = 4
AT_ONCE = 8


@dataclass(frozen=True)
class Cut:
    """N images, their features **B** = g(ξ), and what f makes of them, when first asked for.

    Raises ValueError, naming the weight, where features, logits or gradient are not finite, and for
    a target that is no class.
    """

    model: Classifier
    images: Tensor  # (N, 3, H, W), normalised
    given: Tensor | None  # (N,), the classes asked for; None: the predicted ones
    batch_size: int  # how many images may go through the network at once

    @property
    def features(self) -> Tensor:
        """**B**: (N, C, h, w); rectified in [VGG]. One pass of the backbone."""
        return self._cut[0]

    def head(self, features: Tensor, images: Tensor | None = None) -> Tensor:
        """f of changed features: logits (M, classes).

        `images`: the image that each of them is of, where there isn't one of each.
        """
        return self._logits(self.model, features, images)

    def _logits(self, model: Classifier, features: Tensor, images: Tensor | None) -> Tensor:
        context = self._cut[1]
        whose = context if context is None or images is None else context[images]
        return model.logits(features, whose)

    @property
    def logits(self) -> Tensor:
        """f(**B**): (N, classes)."""
        return self._head[0]

    @property
    def targets(self) -> Tensor:
        """The class that each map explains: (N,)."""
        return self._head[1]

    @property
    def gradient(self) -> Tensor:
        """g = ∇_B y: (N, C, h, w)."""
        return self._head[2]

    @property
    def score(self) -> Tensor:
        """y, the target's logit: (N,)."""
        return self.logits.gather(1, self.targets[:, None])[:, 0]

    @cached_property
    def scorer(self) -> Classifier:
        """The network as it scores other images: the same logits, but for rounding, sooner."""
        return folded(self.model)

    def scores(
        self, made: Callable[[Tensor], Tensor], pairs: Tensor, probability: bool = False
    ) -> Tensor:
        """The targets' logits of other images, (M,), from the rows that the head can see alone.

        `made`: what makes them of some of `pairs` (M, 2), whose first column says of which image
        each is; a few at a time, so that never all are in memory. `probability`: the softmax's
        instead of the logit. On a processor the pairs are shared out (workers.py).
        """

        def logits(model: Classifier, some: Tensor) -> Tensor:
            images = made(some).contiguous(memory_format=torch.channels_last)
            return model.scores(images.split(PART) if images.device.type == "cpu" else [images])

        return self._of_targets(self.scorer, logits, pairs, probability)

    def head_scores(
        self, made: Callable[[Tensor], Tensor], pairs: Tensor, probability: bool = False
    ) -> Tensor:
        """The targets' logits or probabilities of changed features, (M,): all as for `scores`."""

        def logits(model: Classifier, some: Tensor) -> Tensor:
            return self._logits(model, made(some), some[:, 0])

        return self._of_targets(self.model, logits, pairs, probability)

    def _of_targets(
        self,
        model: Classifier,
        logits: Callable[[Classifier, Tensor], Tensor],
        pairs: Tensor,
        probability: bool,
    ) -> Tensor:
        """The target's among the logits of all pairs, a few at a time; or its probability."""
        every = self.targets  # and the cut: made before several workers ask for them
        on_processor = self.images.device.type == "cpu"
        at_once = min(AT_ONCE, self.batch_size) if on_processor else self.batch_size

        def scores(model: Classifier, some: Tensor) -> Tensor:
            found = logits(model, some)
            found = found.softmax(1) if probability else found
            return found.gather(1, every[some[:, 0], None])[:, 0].to(self.images.dtype)

        parts = pairs.split(at_once) if len(pairs) else []
        nothing = self.images.new_empty(0)
        most = max(1, self.batch_size // at_once)
        return torch.cat([nothing, *shared(model, scores, parts, most)])

    @cached_property
    def principal(self) -> Tensor:
        """Features, as h·w points of C coordinates, on their first principal axis: (N, h, w)."""
        points = self.features.flatten(2).transpose(1, 2)  # (N, h·w, C)
        points = points - points.mean(1, keepdim=True)
        axis = torch.linalg.svd(points, full_matrices=False).Vh[:, 0]  # (N, C)
        return torch.einsum("npc,nc->np", points, axis).view(len(points), *self.features.shape[2:])

    @cached_property
    def graph(self) -> tuple[Tensor, Tensor]:
        """**B** as a leaf, and the logits (N, classes) of it: for other scores' gradients."""
        with torch.enable_grad():
            leaf = self.features.detach().requires_grad_()
            logits = self.head(leaf.clone())  # its first layer may work in place
        if not isinstance(logits, Tensor) or logits.ndim != 2 or 0 in logits.shape[1:]:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"model: its head gives {got}; takes logits (N, classes)")
        with torch.enable_grad():
            return leaf, _finite(logits.to(self.images.dtype), self.model, "logits")

    @cached_property
    def _cut(self) -> tuple[Tensor, Tensor | None]:
        """**B**, and what f reads besides it."""
        with torch.no_grad():
            # In the faster layout, and the network's own: its first layer may work in place.
            images = self.images.clone(memory_format=torch.channels_last)
            features, context = self.model.cut(images)
        # Under autocast too, **B** and the maps keep their precision.
        features = features.to(self.images.dtype).contiguous()
        if features.ndim != 4:
            got = tuple(features.shape)
            raise ValueError(f"model: its features are {got}; takes maps (N, C, h, w)")
        return _finite(features, self.model, "features"), context

    @cached_property
    def _head(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, targets, gradient: one pass of the head and one gradient for **B** alone."""
        leaf, logits = self.graph
        targets = logits.argmax(1) if self.given is None else self.given
        if ((targets < 0) | (targets >= logits.shape[1])).any():
            raise ValueError(f"targets: got {targets.tolist()}; takes 0 to {logits.shape[1] - 1}")
        with torch.enable_grad():
            score = logits.gather(1, targets[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, leaf, retain_graph=True)
        return logits.detach(), targets, _finite(gradient, self.model, "gradient")


def _finite(values: Tensor, model: nn.Module, what: str) -> Tensor:
    """Themselves; ValueError naming the first weight that isn't finite, or what overflowed."""
    if torch.isfinite(values).all():
        return values
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"model: {name} holds NaN or infinity; takes finite weights")
    takes = "smaller pixels or a wider precision"
    raise ValueError(f"{what}: not finite, though images and weights are; takes {takes}")
