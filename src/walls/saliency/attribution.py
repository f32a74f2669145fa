"""Methods on the input, most of them captum's: a score for every pixel, signed, (N, H, W).

Behind a wall a logit's gradient is zero at every hidden pixel, and changing one changes no logit.
So all that is made of gradients is exactly 0 there. Occlusion and FeatureAblation are, but for
squares that lie across the wall. KernelShap and Lime fit a linear model to random samples: they are
0 there in the limit of many alone.

A map is of its image by itself: what is drawn at random is seeded by the image's own pixels. Scores
of the three channels are added, but for Saliency.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from walls.saliency.cut import Cut
from walls.saliency.registry import BUT_ACROSS, BY_CONSTRUCTION, IN_THE_LIMIT, method
from walls.saliency.tensors import numpy_seeded, pixel_seed

CELL = 32  # pixels a side of the squares that stand for superpixels
SAMPLES = 200  # of KernelShap and Lime, a pass each

Attribute = Callable[..., Tensor]  # an image (1, C, H, W), its `target` -> (1, C, H, W)


@method("Saliency", by="Simonyan et al., 2014", guarantee=BY_CONSTRUCTION, pixels=True)
def saliency(cut: Cut) -> Tensor:
    """max_c |∂y/∂ξ_c| (Simonyan et al., 2014). One pass and its gradient."""
    from captum.attr import Saliency

    found = Saliency(cut.model)
    return _each(cut, found.attribute, channels=_largest)  # its scores are |∂y/∂ξ|


@method("InputXGradient", by="Shrikumar et al., 2016", guarantee=BY_CONSTRUCTION, pixels=True)
def input_x_gradient(cut: Cut) -> Tensor:
    """ξ ⊙ ∂y/∂ξ (Shrikumar et al., 2016). One pass and its gradient."""
    from captum.attr import InputXGradient

    return _each(cut, InputXGradient(cut.model).attribute)


@method(
    "IntegratedGradients",
    by="Sundararajan et al., 2017",
    passes="50",
    guarantee=BY_CONSTRUCTION,
    costly=True,
    pixels=True,
)
def integrated_gradients(cut: Cut, steps: int = 50) -> Tensor:
    """ξ ⊙ ∫₀¹ ∂y/∂ξ(tξ) dt, from black mean colour to ξ (Sundararajan et al., 2017).

    By captum's Gauss-Legendre rule: `steps` passes with their gradients.
    """
    from captum.attr import IntegratedGradients

    own = IntegratedGradients(cut.model)
    return _each(cut, own.attribute, n_steps=steps, internal_batch_size=cut.batch_size)


@method(
    "SmoothGrad",
    by="Smilkov et al., 2017",
    passes="25",
    guarantee=BY_CONSTRUCTION,
    costly=True,
    pixels=True,
)
def smoothgrad(cut: Cut, samples: int = 25, noise: float = 0.15) -> Tensor:
    """The mean of ∂y/∂ξ over images with noise of deviation `noise`·(max ξ - min ξ).

    Smilkov et al. (2017), by captum's NoiseTunnel: `samples` passes with their gradients.
    """
    from captum.attr import NoiseTunnel, Saliency

    own = NoiseTunnel(Saliency(cut.model))

    def attribute(image: Tensor, target: int) -> Tensor:
        deviation = noise * float(image.max() - image.min())
        return own.attribute(
            image,
            nt_type="smoothgrad",
            nt_samples=samples,
            nt_samples_batch_size=min(samples, cut.batch_size),
            stdevs=deviation,
            target=target,
            abs=False,
        )

    return _each(cut, attribute)


@method(
    "GradientShap",
    by="Lundberg and Lee, 2017",
    passes="25",
    guarantee=BY_CONSTRUCTION,
    costly=True,
    pixels=True,
)
def gradient_shap(cut: Cut, samples: int = 25) -> Tensor:
    """The mean of ∂y/∂ξ at random points between 0 and ξ with noise, times ξ (Lundberg, Lee, 2017).

    By captum: `samples` passes with their gradients.
    """
    from captum.attr import GradientShap

    own, zero = GradientShap(cut.model), torch.zeros_like(cut.images[:1])
    return _each(cut, own.attribute, baselines=zero, n_samples=samples, stdevs=0.09)


@method("DeepLift", by="Shrikumar et al., 2017", passes="2", guarantee=BY_CONSTRUCTION, pixels=True)
def deep_lift(cut: Cut) -> Tensor:
    """(ξ - 0) times the multipliers of DeepLift's rescale rule (Shrikumar et al., 2017).

    By captum, whose rule knows ReLU, ELU, Sigmoid, Tanh, Softplus and max-pooling; other layers,
    ReLU6 and SiLU among them, pass their gradient on. One pass of ξ and of 0.
    """
    from captum.attr import DeepLift

    with _open(cut.model):
        return _each(cut, DeepLift(cut.model).attribute)


@method("GuidedBackprop", by="Springenberg et al., 2015", guarantee=BY_CONSTRUCTION, pixels=True)
def guided_backprop(cut: Cut) -> Tensor:
    """∂y/∂ξ with every ReLU passing positive gradients alone (Springenberg et al., 2015).

    By captum, of ReLU6 too; other activations pass their gradient on. One pass and its gradient.
    """
    with _open(cut.model):
        return _each(cut, _guided(cut.model).attribute)


@method("GuidedGradCam", by="Selvaraju et al., 2017", guarantee=BY_CONSTRUCTION, pixels=True)
def guided_gradcam(cut: Cut) -> Tensor:
    """GuidedBackprop ⊙ GradCAM, the latter upscaled (Selvaraju et al., 2017).

    GradCAM lights up the dead zone; guided gradients are zero there, and so is the product.
    """
    from walls.saliency.activity import interpolate
    from walls.saliency.methods import gradcam

    height, width = cut.images.shape[2:]
    return guided_backprop(cut) * interpolate(gradcam(cut).clamp_min(0), (height, width))


@method(
    "Occlusion",
    by="Zeiler and Fergus, 2014",
    passes="one a window",
    costly=True,
    pixels=True,
    guarantee=BUT_ACROSS,
)
def occlusion(cut: Cut, window: int = 32, stride: int = 16) -> Tensor:
    """What y loses where a square is set to 0, the mean of all squares at a pixel.

    Zeiler and Fergus (2014), by captum: a pass for every place of the `window`, which moves by
    `stride` pixels.
    """
    from captum.attr import Occlusion

    own, channels = Occlusion(cut.model), cut.images.shape[1]
    size, step = (channels, window, window), (channels, stride, stride)
    return _each(cut, own.attribute, _alike, sliding_window_shapes=size, strides=step)


@method(
    "FeatureAblation",
    by="captum",
    passes="one a square",
    costly=True,
    pixels=True,
    guarantee=BUT_ACROSS,
)
def feature_ablation(cut: Cut, cell: int = CELL) -> Tensor:
    """What y loses where one square of a grid is set to 0. By captum: a pass a square."""
    from captum.attr import FeatureAblation

    return _cells(cut, FeatureAblation(cut.model).attribute, cell)


@method(
    "KernelShap",
    by="Lundberg and Lee, 2017",
    passes="200",
    costly=True,
    pixels=True,
    guarantee=IN_THE_LIMIT,
)
def kernel_shap(cut: Cut, cell: int = CELL, samples: int = SAMPLES) -> Tensor:
    """Shapley values of the squares of a grid, by a weighted regression (Lundberg, Lee, 2017).

    A hidden square is a null player: its value is 0. The regression on `samples` random coalitions
    gives it 0 in the limit of many. By captum: a pass a sample.
    """
    from captum.attr import KernelShap

    return _cells(cut, KernelShap(cut.model).attribute, cell, n_samples=samples)


@method(
    "Lime",
    by="Ribeiro et al., 2016",
    passes="200",
    costly=True,
    pixels=True,
    guarantee=IN_THE_LIMIT,
)
def lime(cut: Cut, cell: int = CELL, samples: int = SAMPLES) -> Tensor:
    """A sparse linear model of y over the squares of a grid (Ribeiro et al., 2016).

    By captum, with its Lasso and its kernel: a pass a sample.
    """
    from captum.attr import Lime

    return _cells(cut, Lime(cut.model).attribute, cell, n_samples=samples)


def _added(scores: Tensor) -> Tensor:
    return scores.sum(1)


def _largest(scores: Tensor) -> Tensor:
    return scores.amax(1)


def _alike(scores: Tensor) -> Tensor:
    """Of squares of all channels together: each channel has the square's score."""
    return scores[:, 0]


def _each(
    cut: Cut,
    attribute: Attribute,
    channels: Callable[[Tensor], Tensor] = _added,
    **settings: object,
) -> Tensor:
    """The maps (N, H, W) of all images, each attributed by itself and with draws of its own.

    `channels` makes (1, H, W) of an image's scores (1, C, H, W); `settings` are captum's.
    """
    maps = []
    for image, target in zip(cut.images.split(1), cut.targets.tolist(), strict=True):
        with _seeded(image), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum's, that it sets hooks and gradients
            scores = attribute(image.detach().clone(), target=target, **settings)
        maps.append(channels(scores.detach()))
    return torch.cat(maps).to(cut.images.dtype)


def _cells(cut: Cut, attribute: Attribute, cell: int, **settings: int) -> Tensor:
    """As `_each`, of squares of `cell` pixels a side, all channels of one together."""
    if cell < 1:
        raise ValueError(f"cell: got {cell}; takes 1 or more pixels")
    height, width = cut.images.shape[2:]
    row, column = torch.arange(height) // cell, torch.arange(width) // cell
    number = row[:, None] * (int(column[-1]) + 1) + column
    mask = number.to(cut.images.device)[None, None]
    return _each(cut, attribute, _alike, feature_mask=mask, **settings)


@contextmanager
def _seeded(image: Tensor) -> Iterator[None]:
    """torch's and NumPy's global generators at seeds of the image's; afterwards as they were."""
    seed, devices = pixel_seed(image), range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices), numpy_seeded(seed):
        torch.manual_seed(seed)
        yield


@contextmanager
def _open(model: nn.Module) -> Iterator[None]:
    """No layer works in place, so that it can be hooked; afterwards each does again."""
    layers = [layer for layer in model.modules() if getattr(layer, "inplace", False)]
    for layer in layers:
        layer.inplace = False
    try:
        yield
    finally:
        for layer in layers:
            layer.inplace = True


def _guided(model: nn.Module):
    """captum's GuidedBackprop, which knows ReLU alone, for ReLU6 too."""
    from captum.attr import GuidedBackprop

    class Guided(GuidedBackprop):
        def _register_hooks(self, module: nn.Module) -> None:
            if isinstance(module, nn.ReLU | nn.ReLU6):
                hook = module.register_full_backward_hook(self._backward_hook)
                self.backward_hooks.append(hook)

    return Guided(model)
