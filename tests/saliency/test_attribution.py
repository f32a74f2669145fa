"""Methods on the input: their values where they are known, and what a wall leaves of them."""

import numpy as np
import pytest
import torch
from conftest import make_tiny, noise
from torch import nn

from walls.network.classifier import Classifier
from walls.saliency import methods, perturbation
from walls.saliency.maps import saliency_maps

SIZE = 64
# Of a linear network, ξ·w: all of these are it, pixel by pixel.
ADDITIVE = ("InputXGradient", "IntegratedGradients", "DeepLift")


class Sums(nn.Module):
    """Logits w·B of features that are the image itself."""

    def __init__(self, classes=2):
        super().__init__()
        drawn = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(classes, 3, SIZE, SIZE, generator=drawn))

    def forward(self, features):
        return torch.einsum("nchw,kchw->nk", features, self.weight) + 1


def linear():
    features = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False))
    with torch.no_grad():
        features[0].weight.copy_(torch.eye(3)[:, :, None, None])
    return Classifier(features, Sums(), 0).double().eval()


def images(n=2):
    return torch.randn(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).double()


def cells(pixels, cell=32):
    """Sums over squares, laid over their pixels again."""
    n, h, w = pixels.shape
    sums = pixels.view(n, h // cell, cell, w // cell, cell).sum((2, 4))
    return sums.repeat_interleave(cell, 1).repeat_interleave(cell, 2)


@pytest.mark.parametrize("name", ADDITIVE)
def test_of_a_linear_network_it_is_image_times_weight(name):
    model, inputs, target = linear(), images(), torch.tensor([0, 1])
    maps = saliency_maps(model, inputs, [name], target)[name]
    torch.testing.assert_close(maps, (inputs * model.head.weight[target].detach()).sum(1))


def test_saliency_is_the_largest_weight_of_a_pixel():
    model, target = linear(), torch.tensor([0, 1])
    maps = saliency_maps(model, images(), ["Saliency"], target)["Saliency"]
    torch.testing.assert_close(maps, model.head.weight[target].detach().abs().amax(1))


def test_smoothgrad_of_a_constant_gradient_is_that_gradient():
    model, target = linear(), torch.tensor([0, 1])
    maps = saliency_maps(model, images(), ["SmoothGrad"], target)["SmoothGrad"]
    torch.testing.assert_close(maps, model.head.weight[target].detach().sum(1))


def test_gradient_shap_of_a_linear_network_is_the_mean_of_its_draws():
    """ξ with noise of deviation 0.09, minus 0, times w: the mean of 25, channel by channel."""
    model, inputs, target = linear(), images(), torch.tensor([0, 1])
    maps = saliency_maps(model, inputs, ["GradientShap"], target)["GradientShap"]
    weight = model.head.weight[target].detach()
    error = (maps - (inputs * weight).sum(1)) / (0.09 / 5 * weight.square().sum(1).sqrt())
    assert abs(float(error.mean())) < 4 / error.numel() ** 0.5
    assert float(error.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["FeatureAblation", "KernelShap"])
def test_of_a_linear_network_a_square_loses_its_pixels_share(name):
    """The Shapley value of a square is the same, and the regression on all coalitions exact."""
    model, inputs, target = linear(), images(), torch.tensor([0, 1])
    maps = saliency_maps(model, inputs, [name], target)[name]
    share = cells((inputs * model.head.weight[target].detach()).sum(1))
    torch.testing.assert_close(maps, share, rtol=1e-3, atol=1e-3)


def test_lime_is_the_shares_but_for_its_lasso():
    model, inputs, target = linear(), images(), torch.tensor([0, 1])
    maps = saliency_maps(model, inputs, ["Lime"], target, options={"Lime": {"samples": 400}})
    share = cells((inputs * model.head.weight[target].detach()).sum(1))
    assert float((maps["Lime"] - share).abs().max()) < 0.02 * float(share.abs().max())


def test_occlusion_of_a_linear_network_is_the_mean_share_of_the_windows():
    model, inputs, target = linear(), images(), torch.tensor([0, 1])
    options = {"Occlusion": {"window": 32, "stride": 32}}
    maps = saliency_maps(model, inputs, ["Occlusion"], target, options=options)["Occlusion"]
    torch.testing.assert_close(maps, cells((inputs * model.head.weight[target].detach()).sum(1)))


def test_guided_backprop_lets_positive_gradients_through_alone():
    """y = u·ReLU(v·ξ): the gradient is Σ u_k v_k where v_k·ξ > 0; guided, where u_k > 0 too."""
    torch.manual_seed(0)
    for activation in (nn.ReLU(inplace=True), nn.ReLU6(inplace=True)):
        features = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), activation)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        model, inputs = Classifier(features, head, 0).eval(), images(1).float()
        maps = saliency_maps(model, inputs, ["GuidedBackprop"], torch.tensor([1]))
        weight = features[0].weight[:, :, 0, 0]  # (8, 3)
        before = torch.einsum("kc,nchw->nkhw", weight, inputs)
        passes = (before > 0) & (before < 6) if isinstance(activation, nn.ReLU6) else before > 0
        outgoing = (head[-1].weight[1] / SIZE**2).clamp_min(0)
        gradient = torch.einsum("nkhw,k,kc->nchw", passes.float(), outgoing, weight)
        torch.testing.assert_close(maps["GuidedBackprop"], gradient.sum(1))
        assert activation.inplace  # as the caller had it


def test_rise_is_its_formula_on_its_own_masks():
    model, inputs, target = linear(), images(), torch.tensor([0, 1])
    with torch.no_grad():
        model.head.weight /= 100
    maps = saliency_maps(model, inputs, ["RISE"], target, options={"RISE": {"masks": 10}})["RISE"]
    for i, image in enumerate(inputs):
        drawn = perturbation.random_masks(
            10, (SIZE, SIZE), 0.5, perturbation.pixel_seed(image)
        ).double()
        with torch.no_grad():
            score = model(drawn[:, None] * image).softmax(1)[:, target[i]]
        wanted = torch.einsum("n,nhw->hw", score, drawn) / (10 * 0.5)
        torch.testing.assert_close(maps[i], wanted)


def test_rise_has_few_masked_images_in_memory():
    """However many there are: those of one part for every worker."""
    model, passed = linear(), []
    model.features.register_forward_hook(lambda layer, given, out: passed.append(len(out)))
    saliency_maps(model, images(1), ["RISE"], options={"RISE": {"masks": 50}}, batch_size=3)
    assert sum(passed) == 1 + 50 and max(passed) <= 3


@pytest.mark.parametrize("keep", [0.2, 0.5])
def test_rises_masks_have_their_expectation_at_every_pixel(keep):
    drawn = perturbation.random_masks(4000, (28, 14), keep, seed=3)
    assert drawn.shape == (4000, 28, 14) and 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    error = (drawn.mean(0) - keep) / (drawn.std(0) / 4000**0.5)
    assert float(error.abs().max()) < 4.5


@pytest.mark.long  # 4,000 passes
def test_rise_behind_a_wall_tends_to_the_mean_masked_score():
    """Where masks are independent of what is seen, E[p M] / E[M] = E[p]: a constant above 0."""
    model, image = make_tiny(), noise(1)
    maps = saliency_maps(model, image, ["RISE"], options={"RISE": {"masks": 2000}})["RISE"][0]
    drawn = perturbation.random_masks(2000, (224, 224), 0.5, perturbation.pixel_seed(image[0]))
    with torch.no_grad():
        target = int(model(image).argmax())
        parts = (drawn[:, None] * image[0]).split(100)
        score = torch.cat([model(part) for part in parts]).softmax(1)[:, target]
    hidden = maps[-20:]  # more than a square of 32 pixels below the last seen row
    expected = float(score.mean())
    error = float((score[:, None] * (drawn[:, -1] / 0.5 - 1)).std() / 2000**0.5)
    assert expected > 0 and float((hidden - expected).abs().max()) < 5 * error


@pytest.mark.parametrize("gaussian", [False, True])
def test_reciprocam_is_the_score_of_one_position_alone(gaussian):
    model, image = make_tiny(), noise(1)
    options = {"ReciproCAM": {"gaussian": gaussian}}
    maps = saliency_maps(model, image, ["ReciproCAM"], torch.tensor([2]), options=options)
    with torch.no_grad():
        features = model.features(image)
        one = torch.zeros_like(features)
        rows, columns = (slice(2, 5), slice(6, 9)) if gaussian else (slice(3, 4), slice(7, 8))
        kernel = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16 if gaussian else 1
        one[:, :, rows, columns] = features[:, :, rows, columns] * kernel
        empty = model.head(torch.zeros_like(features)).softmax(1)[0, 2]
        wanted = model.head(one).softmax(1)[0, 2]
    found = maps["ReciproCAM"][0]
    torch.testing.assert_close(found[3, 7], wanted)
    hidden = found[-9 + gaussian :]  # a Gaussian's neighbour is still seen
    torch.testing.assert_close(hidden, empty.expand_as(hidden), rtol=1e-5, atol=1e-7)
    assert float(found[:5].std()) > 0


@pytest.mark.parametrize("name", [n for n in methods.PIXELS if n in methods.ZERO])
def test_marked_zero_it_is_zero_in_the_dead_zone(name):
    maps = saliency_maps(make_tiny(), noise(2), [name])[name]
    assert maps.shape == (2, 224, 224)
    assert not maps[:, -54:].any() and maps[:, :-54].flatten(1).any(1).all()


@pytest.mark.parametrize("name", ["Occlusion", "FeatureAblation"])
def test_removing_a_hidden_square_changes_nothing(name):
    maps = saliency_maps(make_tiny(), noise(1), [name])[name]
    assert not maps[:, 192:].any()  # 160 to 191 is across the wall, which is at 170
    assert maps[:, :160].any()


@pytest.mark.parametrize("name", ["SmoothGrad", "GradientShap", "RISE", "KernelShap"])
def test_draws_are_the_images_own(name):
    """The same map alone and in a batch; the caller's generators are left as they were."""
    model, two = make_tiny(), noise(2)
    options = {"KernelShap": {"samples": 5}, "RISE": {"masks": 5}}
    own = {name: options[name]} if name in options else {}
    state, before = torch.get_rng_state(), np.random.get_state()[1].copy()
    both = saliency_maps(model, two, [name], options=own)[name]
    alone = saliency_maps(model, two[1:], [name], options=own)[name]
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-7)
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(before, np.random.get_state()[1])
