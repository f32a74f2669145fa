"""One batch in a network split as f∘g: what every saliency method may use, each part computed once, when first asked for."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from walls.models import Classifier


@dataclass(frozen=True)
class Split:
    """N images, their features **B** = g(ξ), and what f makes of them.

    Raises ValueError, naming the weight, where features, logits or gradient are not finite, and for a target that is
    no class.
    """

    model: Classifier
    images: Tensor  # (N, 3, H, W), normalised
    given: Tensor | None  # (N,), the classes asked for; None: the predicted ones
    batch_size: int  # how many images may go through the network at once
    opticam_steps: int
    opticam_lr: float

    @cached_property
    def features(self) -> Tensor:
        """**B**, rectified: (N, C, h, w). One pass of the backbone."""
        with torch.no_grad():
            features = self.model.features(self.images.contiguous(memory_format=torch.channels_last))  # the faster layout
        # Under autocast too, **B** and the maps keep their precision.
        return _finite(features.to(self.images.dtype).contiguous(), self.model, "features")

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

    def scores(self, images: Tensor, targets: Tensor) -> Tensor:
        """The targets' logits of other images, (M,), computed from the rows that the head can see alone."""
        logits = self.model(images.contiguous(memory_format=torch.channels_last))
        return logits.gather(1, targets[:, None])[:, 0].to(self.images.dtype)

    @cached_property
    def _head(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, targets, gradient: one pass of the head and one gradient for **B** alone."""
        with torch.enable_grad():
            leaf = self.features.detach().requires_grad_()
            logits = _finite(self.model.head(leaf).to(self.images.dtype), self.model, "logits")
            targets = logits.argmax(1) if self.given is None else self.given
            if ((targets < 0) | (targets >= logits.shape[1])).any():
                raise ValueError(f"targets: got {targets.tolist()}; takes 0 to {logits.shape[1] - 1}")
            (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), leaf)
        return logits.detach(), targets, _finite(gradient, self.model, "gradient")


def _finite(values: Tensor, model: nn.Module, what: str) -> Tensor:
    """Themselves; ValueError naming the first parameter or buffer that holds NaN or infinity, or what overflowed."""
    if torch.isfinite(values).all():
        return values
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"model: {name} holds NaN or infinity; takes finite weights")
    raise ValueError(f"{what}: not finite, though images and weights are; takes smaller pixels or a wider precision")
