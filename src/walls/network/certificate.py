"""The certificate: shown on the very weights that no logit depends on the dead zone."""

import copy
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from walls.network.classifier import Classifier
from walls.network.state import own_state


@dataclass(frozen=True)
class Certificate:
    """What the very weights do with the dead zone, on the full-height computation (CPU).

    `equal_*`: logits bit-identical after the dead zone was replaced by another image's, by noise,
    by finite values up to ±1e30; `dead_gradient`: the largest |∂logit/∂pixel| there;
    `edge_gradient`: the same in the last row above it, which does matter.
    """

    image_rows: int
    seen_rows: int
    dead_rows: int
    images: int
    equal_replaced: bool
    equal_noise: bool
    equal_extreme: bool
    dead_gradient: float
    edge_gradient: float

    @property
    def holds(self) -> bool:
        """True where no logit depends on the dead zone and the row above it counts."""
        equal = self.equal_replaced and self.equal_noise and self.equal_extreme
        return self.dead_rows > 0 and equal and self.dead_gradient == 0 and self.edge_gradient > 0

    def require(self) -> "Certificate":
        """Itself; ValueError, naming what failed, where it doesn't hold."""
        if not self.holds:
            raise ValueError(
                f"the dead zone of {self.dead_rows} rows is not certified: {asdict(self)}"
            )
        return self


def certify(
    model: Classifier,
    image_rows: int,
    images: Tensor | None = None,
    seed: int = 0,
    *,
    dtype: torch.dtype = torch.float32,
) -> Certificate:
    """Show on these weights that no logit reads the dead zone, and that the row above it is read.

    `images`: normalised (N, 3, H, W); standard normal noise if None. Runs in evaluation mode on the
    CPU in `dtype`, through **B** at full height (`cut`, `logits`): the cropped forward could not
    see the dead zone anyway. The gradient mode and default dtype that the caller set change
    nothing. Raises ValueError for a `dtype` that isn't of floating point.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype: got {ascii(dtype)[:80]}; takes torch.float32, bfloat16, …")
    with own_state(torch.float32):
        return _certified(model, image_rows, images, seed, dtype)


def _certified(
    model: Classifier, image_rows: int, images: Tensor | None, seed: int, dtype: torch.dtype
) -> Certificate:
    """The certificate, where gradients exist and new numbers are float32."""
    random = torch.Generator().manual_seed(seed)
    zone = model.zone(image_rows)
    if images is None:
        shape = (8, model.channels, image_rows, model.columns(image_rows))
        images = torch.randn(shape, generator=random)
    images = images.detach().clone().to(dtype).cpu()  # one made in inference mode has no gradients
    frozen = _frozen(model, dtype)

    def logits(x: Tensor) -> Tensor:
        return frozen.logits(*frozen.cut(x))

    def equal(dead: Tensor) -> bool:
        return zone.dead_rows > 0 and torch.equal(logits(frozen.join(seen, dead)), before)

    seen, below = frozen.divide(images)
    with torch.no_grad():
        before = logits(images)
        noise = torch.randn(below.shape, generator=random).to(dtype)
        replaced, noisy = equal(below.roll(1, 0).flip(3)), equal(noise)
        powers = 10 ** (60 * torch.rand(noise.shape, generator=random) - 30)
        extreme = equal(
            noise.sign() * powers.clamp_max(min(1e30, torch.finfo(dtype).max)).to(dtype)
        )
    x = images.clone().requires_grad_()
    out = logits(x)
    (gradient,) = torch.autograd.grad(out, x, torch.randn(out.shape, generator=random).to(dtype))
    live, dead = frozen.divide(gradient.abs())
    return Certificate(
        image_rows,
        zone.seen_rows,
        zone.dead_rows,
        len(images),
        replaced,
        noisy,
        extreme,
        float(dead.max()) if dead.numel() else 0.0,
        float(frozen.edge(live).max()),
    )


def _frozen(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A CPU copy in `dtype`, in evaluation mode, without parameter gradients."""
    # What a user's hook keeps on a layer hangs in a graph, and can't be copied as it is.
    kept = [value for layer in module.modules() for value in vars(layer).values()]
    tensors = [value for value in kept if isinstance(value, Tensor) and not value.is_leaf]
    memo = {id(tensor): tensor.detach() for tensor in tensors}
    return copy.deepcopy(module, memo).to(dtype).cpu().eval().requires_grad_(False)
