"""Proposition 1, the lemmas and the definitions of CAM methods on [CNN], against autograd, integrals and libraries."""

import itertools

import numpy as np
import pytest
import torch
from helpers.theory_setting import HEIGHT, IMAGE, KERNEL, POOL, TAU, WIDTH
from scipy import integrate, stats

from walls.theory import (
    definition_checks,
    formulas,
)
from walls.theory.cnn import CNN
from walls.theory.laws import (
    definitions,
    feature_gradient,
    unit,
    xgradcam,
)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("filters", [1, 3])
def test_proposition_1_against_autograd_and_the_sum_over_paths(depth, filters):
    for seed in range(5):
        model = CNN(
            (HEIGHT, WIDTH), filters, KERNEL, POOL, (4,) * (depth - 1) + (1,), tau=TAU, seed=seed
        )
        b = model.features(torch.from_numpy(IMAGE)[None, None]).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model.head(b).sum(), b)
        weights = [w.numpy() for w in model.dense_weights()]
        net = formulas.forward(
            IMAGE, model.features[0].weight.detach().numpy()[:, 0], weights, POOL
        )
        a = model.features[0](torch.from_numpy(IMAGE)[None, None]).detach().numpy()[0]
        np.testing.assert_allclose(net["A"], a, atol=1e-14)
        np.testing.assert_allclose(net["B"], b.detach().numpy()[0], atol=1e-14)
        np.testing.assert_allclose(net["a"][-1], model.head(b).detach().numpy()[0], atol=1e-13)
        alpha = formulas.gradcam_coefficients(weights, net["a"], 48)
        scale = max(np.abs(alpha).max(), 1e-3)
        assert np.abs(alpha - gradient[0].mean((1, 2)).numpy()).max() <= 1e-12 * scale
        brute = 0
        for path in itertools.product(range(4), repeat=depth - 1):
            alive = np.prod([net["a"][layer][i] > 0 for layer, i in enumerate(path)])
            entry = weights[0][path[0] if path else 0].sum((1, 2))
            ends = [*path[1:], 0]  # from each neuron of the path to the next, at last to y
            steps = [weights[layer + 1][ends[layer], i] for layer, i in enumerate(path)]
            brute = brute + alive * np.prod(steps) * entry
        assert np.abs(alpha - brute / 48).max() <= 1e-12 * scale
        rho = formulas.score_gradient(weights, net["a"])
        np.testing.assert_allclose(
            feature_gradient(net["B"], rho, POOL), gradient[0].numpy(), atol=1e-13
        )


def test_covariance_by_its_definition_and_by_sampling():
    sigma = formulas.covariance(IMAGE, KERNEL, TAU)
    i, j, p, q = 1, 2, 3, 1
    entry = TAU**2 * np.trace(IMAGE[i : i + 3, j : j + 3].T @ IMAGE[p : p + 3, q : q + 3])
    assert sigma[i * 6 + j, p * 6 + q] == pytest.approx(entry, rel=1e-13)
    filters = TAU * np.random.default_rng(0).normal(size=(40_000, 1, 3, 3))
    image, kernels = torch.from_numpy(IMAGE)[None, None], torch.from_numpy(filters)
    a = torch.nn.functional.conv2d(image, kernels)[0].flatten(1).numpy()
    error = np.sqrt((np.outer(np.diag(sigma), np.diag(sigma)) + sigma**2) / len(a))
    assert (np.abs(a.T @ a / len(a) - sigma) <= 4.5 * error + 1e-12).all()
    assert np.linalg.matrix_rank(sigma) == 9


def test_lemmas_by_integration():
    for mu, tau in ((-1.0, 0.5), (0.0, 2.0), (1.5, 0.8)):
        mean = integrate.quad(
            lambda x, m=mu, t=tau: x * stats.norm.pdf(x, m, t), 0, 40, points=[2.0], epsabs=1e-13
        )[0]
        assert formulas.rectified_mean(mu, tau) == pytest.approx(mean, rel=1e-9)
    first, fourth = (
        integrate.quad(lambda x, n=n: x**n * stats.norm.pdf(x, 0, 1.7), 0, 40)[0] for n in (2, 4)
    )
    assert formulas.squared_rectified_moments(1.7) == pytest.approx(
        (first, fourth - first**2), rel=1e-9
    )
    assert formulas.convolution_variance([[1, 2], [0, 3]], 0.5) == pytest.approx(14 / 4)


def test_definitions_against_pytorch_grad_cam():
    for name, row in definition_checks.definitions(IMAGE, KERNEL, POOL, TAU, 3, filters=4).items():
        assert row["holds"], (name, row)
    model = CNN((HEIGHT, WIDTH), 4, KERNEL, POOL, tau=TAU, seed=3)
    coefficients, raw = definition_checks.library_map("LayerCAM", model, IMAGE)
    b = model.features(torch.from_numpy(IMAGE)[None, None])[0].detach().numpy()
    np.testing.assert_allclose(raw, (np.maximum(coefficients, 0) * b).sum(0), atol=1e-14)
    assert (raw[4:] == 0).all() and raw.any()


def test_coefficients_by_hand_and_how_far_the_library_is_from_them():
    """Definitions 2, 3 cell by cell, ∇_B f by autograd; the library's factors are hw = 48 and 1."""
    model = CNN((HEIGHT, WIDTH), 3, KERNEL, POOL, (4, 1), tau=TAU, seed=3)
    torch.nn.init.constant_(model.features[0].weight[2], -1)  # a dead filter
    b = model.features(torch.from_numpy(IMAGE)[None, None]).detach().requires_grad_()
    g, maps = torch.autograd.grad(model.head(b).sum(), b)[0][0].numpy(), b.detach()[0].numpy()
    weights = [w.numpy() for w in model.dense_weights()]
    ours = definitions(IMAGE, model.features[0].weight.detach().numpy()[:, 0], weights, POOL)
    share = [(maps[v] * g[v]).sum() / maps[v].sum() / 48 for v in (0, 1)]
    assert ours["XGradCAM"] == pytest.approx([*share, 0], rel=1e-12)
    pairs = zip(maps, g, strict=True)
    literal = [sum(x**3 / (2 * x**2 + m.sum() * x**3) / 48 for x in d[d > 0]) for m, d in pairs]
    np.testing.assert_allclose(ours["GradCAM++"], literal, rtol=1e-12)
    for name, row in definition_checks.definitions(IMAGE, KERNEL, POOL, TAU, 3, filters=4).items():
        if "Score" not in name:  # its deviation is no factor
            factor = pytest.approx(48 if "sum for mean" in row["cause"] else 1, rel=1e-3)
            assert row["factor"] == factor and row["difference as it is"] < 1e-3, name


def test_hirescam_and_layercam_vanish_behind_the_wall_at_any_depth():
    for seed, sizes in itertools.product(range(10), ((1,), (5, 1), (5, 4, 1))):
        model = CNN((HEIGHT, WIDTH), 3, KERNEL, POOL, sizes, masked_rows=1, tau=TAU, seed=seed)
        for method in ("HiResCAM", "LayerCAM"):
            coefficients, raw = definition_checks.library_map(method, model, IMAGE)
            assert (coefficients[:, 6:] == 0).all() and (raw[6:] == 0).all() and raw.any()
    assert definition_checks.library_map("GradCAM", model, IMAGE)[1].shape == (8, 6)


def test_dead_filters_and_constant_maps_become_zero():
    b = np.zeros((2, 3, 3))
    b[1] = 1
    assert unit(np.array([[[1.0, 3, 2]], [[4, 4, 4]]])).tolist() == [[[0, 1, 0.5]], [[0, 0, 0]]]
    assert xgradcam(np.ones((2, 3, 3)), b, b.sum((1, 2))).tolist() == [0, pytest.approx(1 / 9)]


def test_opticam_finds_a_maximum():
    rows = definition_checks.opticam(IMAGE, KERNEL, POOL, TAU, 0)
    for row in rows.values():
        assert row["holds"] and row["score"] > row["uniform β"]
    assert len(rows) == 2


def test_an_opticam_that_does_nothing_or_always_the_same_fails(monkeypatch):
    """No step; the first filter alone; a single step."""
    right = definition_checks.optimise
    lazy = [
        lambda model, x, features, *rest: features.mean(1),
        lambda model, x, features, *rest: features[:, 0],
        lambda model, x, features, target, steps, lr: right(model, x, features, target, 1, lr),
    ]
    for planted in lazy:
        monkeypatch.setattr(definition_checks, "optimise", planted)
        rows = definition_checks.opticam(IMAGE, KERNEL, POOL, TAU, 0)
        assert not all(row["holds"] for row in rows.values())
