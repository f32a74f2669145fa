"""Which class is explained: the theorem for global pooling and the law of the predicted class."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from walls.network.behind import behind
from walls.theory import formulas, integrals, laws, sampling
from walls.theory.cnn import CNN
from walls.theory.laws import FilterDraws

TAU = 0.7
IMAGE = np.random.default_rng(5).uniform(0, 1, (10, 8))


def test_pooled_scores_by_hand():
    """One position with features (3, 4), three without: hw = 4, s = τ·5/4."""
    features = np.zeros((2, 2, 2))
    features[:, 1, 0] = 3, 4
    mean, variance = formulas.pooled_scores(features, TAU)
    assert mean[1, 0] == pytest.approx(TAU * 5 / 4 / math.sqrt(2 * math.pi))
    assert variance[1, 0] == pytest.approx((TAU * 5 / 4) ** 2 * (0.5 - 1 / (2 * math.pi)))
    assert np.count_nonzero(mean) == np.count_nonzero(variance) == 1
    with pytest.raises(ValueError, match=r"^features: got shape \(2, 2\); takes one image's"):
        formulas.pooled_scores(features[0], TAU)


@pytest.mark.parametrize("seen", [16, 32, 48])
def test_random_classes_by_a_loop(seen):
    """Every class's GradCAM map by backward, one at a time: α is w/(hw) however much is seen."""
    torch.manual_seed(0)
    linear = nn.Linear(6, 400)
    layers = [nn.Conv2d(3, 6, 3, 16, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear]
    model = behind(nn.Sequential(*layers).double(), seen, image_rows=64, layer="1")
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    found = sampling.pooled_classes(model, linear, image, TAU, 400, 1)
    features = torch.from_numpy(found["features"])[None]
    maps = []
    for one in range(400):
        leaf = features.clone().requires_grad_()
        model.logits(leaf)[0, one].backward()
        maps.append((leaf.grad.mean((2, 3), keepdim=True) * features).sum(1)[0].numpy())
    maps = np.array(maps)
    np.testing.assert_allclose(found["alpha"], linear.weight.detach().numpy() / 16, atol=1e-15)
    np.testing.assert_allclose(found["mean"], np.abs(maps).mean(0) / 2, rtol=1e-12)
    np.testing.assert_allclose(found["square"], (maps**2).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["positive"], (maps > 0).mean(0), rtol=1e-12)
    error = np.abs(maps / 2).std(0, ddof=1) / 20
    np.testing.assert_allclose(found["error"], error, rtol=1e-9)
    exact, variance = formulas.pooled_scores(found["features"], TAU)
    assert exact.shape == (4, 4) and (exact[3] > 0).any()  # hidden in all three
    assert (np.abs(found["mean"] - exact) <= 4 * error).all()
    rectified = np.maximum(np.concatenate([maps, -maps]), 0).var(0)
    np.testing.assert_allclose(rectified[exact > 0], variance[exact > 0], rtol=0.35)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.77, 0.99])
def test_largest_logit_in_closed_form(rho):
    one = np.ravel(laws.largest_logit(np.array([rho]), 1))
    two = np.ravel(laws.largest_logit(np.array([rho]), 2))
    assert one == pytest.approx((0.5, 1), abs=1e-12)
    assert two == pytest.approx(
        (0.5 + math.asin(rho / 2**0.5) / math.pi, 1 + rho / 2**0.5), abs=1e-9
    )
    for classes in (2, 10, 1000):
        found = np.ravel(laws.largest_logit(np.array([rho]), classes))
        assert found == pytest.approx(integrals.largest_logit(rho, classes), rel=1e-8)


@pytest.mark.parametrize("classes", [3, 5])
def test_largest_logit_as_a_normal_orthant(classes):
    """P = K · P(X > 0, y₁ - y₂ > 0, …), by scipy's multivariate normal distribution."""
    rho = 0.77
    covariance = np.ones((classes, classes)) + np.eye(classes)  # of the differences
    covariance[0, :], covariance[:, 0], covariance[0, 0] = rho, rho, 1
    orthant = stats.multivariate_normal(np.zeros(classes), covariance, seed=0).cdf(
        np.zeros(classes)
    )
    chance = laws.largest_logit(np.array([rho]), classes)[0][0]
    assert chance == pytest.approx(classes * orthant, abs=1e-3)


def test_largest_logit_at_the_ends():
    chance, factor = laws.largest_logit(np.array([0.0, 1.0]), 10)
    assert chance == pytest.approx((0.5, 1 - 2**-10), abs=1e-6)
    draws = np.random.default_rng(0).normal(size=(200_000, 10)).max(1)
    expected = np.maximum(draws, 0).mean() * math.sqrt(2 * math.pi)
    assert factor == pytest.approx((1, expected), rel=5e-3)
    assert (np.diff(laws.largest_logit(np.linspace(0, 1, 20), 10)) > 0).all()


def test_alignment_and_fixed_class_by_hand():
    """b = (3, 4), C = (1, 1) and (2, 0): u = (3, 3, 4, 4), C' = (1, 1, 2, 0)."""
    b, total = np.array([[3.0, 4], [0, 0]]), np.array([[2.0, 2], [1, 1]])
    c = np.array([[math.sqrt(2), 2], [1, 1]])
    draws = FilterDraws(b, c, c, 2, 50, 2.0, total)
    assert laws.alignment(draws).tolist() == [pytest.approx(14 / math.sqrt(50 * 6)), 0]
    assert laws.fixed_class(draws).tolist() == [
        pytest.approx(2 / 50 * math.sqrt(50) / math.sqrt(2 * math.pi)),
        0,
    ]


@pytest.mark.bulk
def test_the_predicted_class_of_whole_networks():
    """3,000 [CNN]s of torch's with five logits, the predicted one's gradient by backward."""
    x, pixel = torch.from_numpy(IMAGE)[None, None], (6, 2)
    scores = []
    for seed in range(3000):
        model = CNN((10, 8), 4, 3, 2, (5,), tau=TAU, seed=seed)
        b = model.features(x).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model.head(b).max(), b)
        scores.append(float((gradient.mean((2, 3)) * b.detach()[0, :, *pixel]).sum()))
    found, law = sampling.predicted(IMAGE, 4, 3, 2, TAU, (1, 5), 20_000, 1, pixel)
    chance, factor = laws.largest_logit(laws.alignment(law), 5)
    fixed = laws.fixed_class(law)
    for sample in (np.array(scores), found[5]):
        positive, mean = (sample > 0).mean(), np.maximum(sample, 0)
        p = float((chance * (fixed > 0)).mean())
        assert abs(positive - p) <= 4 * math.sqrt(p * (1 - p) / len(sample))
        error = mean.std() / math.sqrt(len(mean)) + (factor * fixed).std() / math.sqrt(20_000)
        assert abs(mean.mean() - (factor * fixed).mean()) <= 4 * error
    exact = formulas.expected_gradcam(IMAGE, 4, 3, 2, TAU)[pixel]
    assert fixed.mean() == pytest.approx(exact, rel=0.02)
    assert np.maximum(found[1], 0).mean() == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("filters", [21, 64, 256])
def test_share_above_half_by_sampling_and_inversion(filters):
    ours = formulas.share_above_half(filters)
    z = np.random.default_rng(0).normal(size=(20_000, filters))
    share = ((np.maximum(z, 0) ** 2).sum(1) >= filters / 4).mean()
    assert abs(share - ours) <= 4 * math.sqrt(max(ours * (1 - ours), 1e-6) / 20_000)
    assert ours == pytest.approx(integrals.share_above_half(filters), abs=1e-6)
    assert ours == pytest.approx({21: 0.859, 64: 0.981, 256: 1.0}[filters], abs=5e-4)


def test_uniform_filters():
    """Moments by hand for one entry, m = 1, uniform on [-a, a], a = √3τ; the mean by sampling."""
    a = math.sqrt(3) * TAU
    mean, variance = formulas.uniform_moments([[1.0]], TAU)
    assert mean == pytest.approx(a**2 / 6) and variance == pytest.approx(
        a**4 / 10 - (a**2 / 6) ** 2
    )
    assert integrals.uniform_mean(np.ones((1, 1)), TAU) == pytest.approx(a / 4, rel=1e-4)
    patch = np.array([[0.9, 0.2], [0.4, 0.7]])
    sample = np.random.default_rng(0).uniform(-a, a, (400_000, 4)) @ patch.ravel()
    rectified = np.maximum(sample, 0)
    assert integrals.uniform_mean(patch, TAU) == pytest.approx(rectified.mean(), rel=6e-3)
    found = formulas.uniform_moments(patch, TAU)
    assert found == pytest.approx(((rectified**2).mean(), (rectified**2).var()), rel=0.01)
