"""Section 2 and Appendices A to D: each formula against an oracle that shares no code with it."""

import itertools
import json
import time
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, stats

from walls.theory import (
    definition_checks,
    formulas,
    integrals,
    method_checks,
    model_checks,
    results,
    sampling,
    slips,
    theorem_checks,
)
from walls.theory.cnn import CNN
from walls.theory.laws import (
    FilterDraws,
    ablation_law,
    definitions,
    expected_scores,
    feature_gradient,
    positive_probability,
    rectified_share,
    unit,
    xgradcam,
)

# H, W, k, k' all different, so that no two sizes can be swapped unseen: h, w = 8, 6; h', w' = 4, 3.
HEIGHT, WIDTH, KERNEL, POOL = 10, 8, 3, 2
IMAGE = np.random.default_rng(5).uniform(0, 1, (HEIGHT, WIDTH))
IMAGE[5:, 5:] = 0  # some black patches
NORMS = np.array(
    [[np.sqrt((IMAGE[i : i + 3, j : j + 3] ** 2).sum()) for j in range(6)] for i in range(8)]
)
TAU = 0.7


@pytest.mark.parametrize("filters", [1, 2, 3, 21, 64, 1000])
def test_mean_chi_by_laplace_transform(filters):
    assert formulas.mean_chi(filters) == pytest.approx(integrals.mean_root(filters), rel=1e-7)


@pytest.mark.parametrize("filters", [1, 4, 21, 300])
def test_mean_chi_in_multiple_precision(filters):
    with mpmath.workdps(50):
        total = mpmath.mpf(0)
        for k in map(mpmath.mpf, range(1, filters + 1)):
            mean = mpmath.sqrt(2) * mpmath.gammaprod([(k + 1) / 2], [k / 2])  # E[χ_k]
            total += mpmath.binomial(filters, k) * mean
        exact = total / mpmath.mpf(2) ** filters
    assert formulas.mean_chi(filters) == pytest.approx(float(exact), rel=1e-12)


def test_mean_chi_for_a_hundred_thousand_filters():
    start = time.process_time()
    value = formulas.mean_chi(100_000)
    assert time.process_time() - start < 1
    assert value == pytest.approx(np.sqrt(50_000) * (1 - 5 / 800_000), rel=1e-9)


@pytest.mark.parametrize("masked_rows, cells", [(None, 6), (0, 12), (1, 9), (2, 6), (3, 3), (4, 0)])
def test_expected_gradcam_with_typed_sizes(masked_rows, cells):
    ours = formulas.expected_gradcam(IMAGE, 30, KERNEL, POOL, TAU, masked_rows)
    by_hand = TAU**2 * np.sqrt(cells) / (48 * np.sqrt(2 * np.pi)) * integrals.mean_root(30) * NORMS
    np.testing.assert_allclose(ours, by_hand, rtol=1e-7)


def test_lower_bound_with_typed_sizes():
    for filters in (21, 64):
        by_hand = (
            (filters - 20) / np.sqrt(filters) * np.sqrt(12 / (16 * np.pi)) * TAU**2 / 48 * NORMS
        )
        np.testing.assert_allclose(
            formulas.lower_bound(IMAGE, filters, KERNEL, POOL, TAU), by_hand, rtol=1e-13
        )


def test_bounds_and_limit_enclose_the_expectation():
    # Of one filter it says nothing.
    assert (formulas.moment_bound(IMAGE, 1, KERNEL, POOL, TAU) <= 0).all()
    for filters in (3, 21, 64, 1000, 100_000):
        setting = (IMAGE, filters, KERNEL, POOL, TAU)
        exact, limit = formulas.expected_gradcam(*setting), formulas.large_v_limit(*setting)
        ours = formulas.moment_bound(*setting)
        by_hand = (1 - 5 / (2 * filters)) * np.sqrt(filters * 6 / (4 * np.pi)) * TAU**2 / 48 * NORMS
        np.testing.assert_allclose(ours, by_hand, rtol=1e-13)
        assert (ours <= exact * (1 + 1e-9)).all() and (exact <= limit * (1 + 1e-9)).all()
        assert ours.max() > 0
        if filters > 20:
            assert (formulas.lower_bound(*setting) <= ours * (1 + 1e-12)).all()
    for bound in (formulas.large_v_limit, formulas.moment_bound):  # 9 cells seen instead of 6
        np.testing.assert_allclose(bound(*setting, 1), np.sqrt(9 / 6) * bound(*setting), rtol=1e-13)
    lit = exact > 0
    np.testing.assert_allclose(
        formulas.lower_bound(*setting)[lit] / exact[lit], 1 / np.sqrt(2), rtol=3e-4
    )
    np.testing.assert_allclose(limit[lit] / exact[lit], 1, rtol=1e-5)


def test_papers_bound_is_this_share_of_the_expectation():
    shares = {21: 0.03, 64: 0.49, 256: 0.65}
    for filters, share in shares.items():
        exact, bound = (
            f(IMAGE, filters, KERNEL, POOL, TAU)
            for f in (formulas.expected_gradcam, formulas.lower_bound)
        )
        assert (bound / np.where(exact > 0, exact, 1)).max() == pytest.approx(share, abs=0.005)


@pytest.mark.bulk
def test_expectation_against_whole_networks_by_autograd():
    """3,000 torch networks, gradient by backward: no formula of ours on this side."""
    x = torch.from_numpy(IMAGE)[None, None]
    for filters, masked, sizes in ((1, None, (1,)), (5, 1, (1,)), (6, None, (4, 1))):
        maps = []
        for seed in range(3000):
            model = CNN((HEIGHT, WIDTH), filters, KERNEL, POOL, sizes, masked, TAU, seed)
            b = model.features(x).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(model.head(b).sum(), b)
            maps.append((gradient.mean((2, 3), keepdim=True) * b.detach()).sum(1)[0].relu().numpy())
        mean, error = np.mean(maps, 0), np.std(maps, 0, ddof=1) / np.sqrt(3000)
        exact = formulas.expected_gradcam(
            IMAGE, filters, KERNEL, POOL, TAU, masked, widths=sizes[:-1]
        )
        assert (np.abs(mean - exact) <= 4 * error).all()
        assert (error[exact > 0] < 0.1 * exact[exact > 0]).all()


def test_monte_carlo_agrees_at_every_position_and_count_of_filters():
    for filters, draws in ((1, 200_000), (4, 60_000), (21, 20_000), (64, 5_000)):
        norm, error, y = sampling.feature_norms(IMAGE, filters, KERNEL, TAU, draws, 1, pixel=(2, 1))
        exact = formulas.mean_chi(filters) * TAU * NORMS
        assert (np.abs(norm - exact) <= 4 * error).all(), filters
        assert (error[exact > 0] < 0.005 * exact[exact > 0]).all()  # it would see 2%
        assert norm[2, 1] == pytest.approx(np.sqrt(y).mean()) and y.shape == (draws,)


def test_scores_given_the_filters_by_a_loop():
    """[CNN] of torch's with these filters and other weights, 2,000 times, against the same law."""
    filters = np.random.default_rng(2).normal(0, TAU, (3, KERNEL, KERNEL))
    b = np.maximum(np.einsum("ijpq,vpq->vij", formulas.patches(IMAGE, KERNEL), filters), 0)
    for masked, cells in ((None, 6), (3, 3)):
        exact = TAU * np.sqrt(cells) * np.linalg.norm(b, axis=0) / (48 * np.sqrt(2 * np.pi))
        mean, error, there = sampling.given_filters(
            IMAGE, filters, POOL, TAU, 20_000, 1, masked, pixel=(2, 1)
        )
        assert (np.abs(mean - exact) <= 4 * error).all()
        assert (error[exact > 0] < 0.01 * exact[exact > 0]).all()
        assert np.abs(there).mean() / 2 == pytest.approx(mean[2, 1]) and (there < 0).any()
        maps = []
        for seed in range(2000):
            model = CNN((HEIGHT, WIDTH), 3, KERNEL, POOL, (1,), masked, TAU, seed)
            features = torch.from_numpy(b)[None].requires_grad_()
            (gradient,) = torch.autograd.grad(model.head(features).sum(), features)
            maps.append((gradient.mean((2, 3))[0].numpy() @ b.reshape(3, -1)).reshape(8, 6))
        size = np.abs(maps) / 2
        spread = size.std(0, ddof=1) / np.sqrt(2000)
        assert (np.abs(size.mean(0) - exact) <= 4 * spread).all()


def test_uniform_weights_have_the_same_variance():
    random = torch.Generator().manual_seed(0)
    for law, fourth in (("normal", 3), ("uniform", 9 / 5)):
        w = sampling._entries((300_000,), TAU, law, random).double()
        assert float(w.mean()) == pytest.approx(0, abs=0.01)
        assert float((w**2).mean()) == pytest.approx(TAU**2, rel=0.01)
        assert float((w**4).mean()) == pytest.approx(fourth * TAU**4, rel=0.03)


def test_three_channels_have_the_norm_of_all_their_entries():
    image = np.random.default_rng(1).uniform(0, 1, (3, 6, 5))
    patches, index = sampling._patches(image, 2)
    by_hand = [[image[:, i : i + 2, j : j + 2] for j in range(4)] for i in range(5)]
    np.testing.assert_allclose(
        np.linalg.norm(patches.numpy(), axis=0)[index],
        [[np.linalg.norm(patch) for patch in row] for row in by_hand],
        rtol=1e-6,
    )


def test_depth_by_monte_carlo():
    sampled = sampling.path_norms(IMAGE, 6, KERNEL, POOL, TAU, 5, 4, 40_000, 2, start=1)
    for depth, (norm, error) in sampled.items():
        exact = formulas.expected_gradcam(IMAGE, 6, KERNEL, POOL, TAU, widths=(5,) * (depth - 1))
        exact = exact.ravel()[1::3] * 48 * np.sqrt(2 * np.pi) / TAU
        assert (np.abs(norm - exact) <= 4 * error).all(), depth
        assert (error[exact > 0] < 0.01 * exact[exact > 0]).all()


ODD = {"kernel": 2, "pool": 1, "filters": 30}  # with which h' = h = H - 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (ODD | {"image": np.ones((9, 8)), "masked_rows": 9}, "masked_rows: got 9"),
        ({"pool": 3}, "pool: got 3; takes a divisor"),
        ({"image": np.ones((10, 9))}, "pool: got 2; takes a divisor of h = 8 and w = 7"),
        ({"kernel": 9}, "kernel: got 9"),
        ({"kernel": 2.0}, "kernel: got 2.0"),
        (ODD | {"image": np.ones((11, 8)), "filters": 0}, "filters: got 0"),
        (
            ODD | {"image": np.ones((8, 8))},
            "masked_rows: h' = 7 is odd and has no lower half; takes 0 to 7",
        ),
        (
            {"image": 1.5 * IMAGE / IMAGE.max()},
            "image: got values outside [0, 1]; takes grey values from 0 to 1",
        ),
        ({"image": -IMAGE}, "image: "),
        ({"image": IMAGE * np.nan}, "image: "),
        ({"image": IMAGE[None]}, "image: got shape (1, 10, 8)"),
        ({"tau": 0.0}, "tau: got 0.0"),
        ({"masked_rows": -1}, "masked_rows: got -1"),
        ({"widths": (3, 0)}, "widths: got 0; takes a whole number of at least 1"),
    ],
)
def test_bad_input_is_named(arguments, words):
    good = {"image": IMAGE, "filters": 30, "kernel": KERNEL, "pool": POOL, "tau": TAU}
    with pytest.raises(ValueError) as error:
        formulas.expected_gradcam(**(good | arguments))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_the_smallest_and_the_largest_kernel():
    """k = 1: every pixel is a patch; k = H = W: the image is the only one."""
    image = np.arange(16).reshape(4, 4) / 16
    one, all_of_it = formulas.sizes(image, 1, 2), formulas.sizes(image, 4, 1, 0)
    assert (one.rows, one.columns, one.pooled_rows, one.masked_rows) == (4, 4, 2, 1)
    assert (all_of_it.rows, all_of_it.columns) == (1, 1)
    assert (formulas.patches(image, 4)[0, 0] == image).all()
    whole = formulas.patches((16 * image).astype(np.uint8), 1)
    assert whole.dtype == np.float64 and (whole[:, :, 0, 0] == 16 * image).all()
    with pytest.raises(ValueError) as error:
        formulas.sizes(image[None], 1, 2)
    assert str(error.value) == "image: got shape (1, 4, 4); takes a grayscale image (H, W)"
    with pytest.raises(ValueError, match=r"^image: got what is no array of numbers; "):
        formulas.as_image([["a"]])


def test_mean_chi_takes_a_count():
    with pytest.raises(ValueError, match=r"^count: got 0; "):
        formulas.mean_chi(0)


def test_bound_takes_more_than_twenty_filters():
    for filters in (1, 20):
        told = f"filters: got {filters}; the bound of Theorem 1 takes more than 20"
        with pytest.raises(ValueError, match=told):
            formulas.lower_bound(IMAGE, filters, KERNEL, POOL, TAU)
    for grey, name in ((1, "masked_rows"), (2, "image")):
        with pytest.raises(ValueError, match=f"^{name}: "):
            formulas.lower_bound(np.full((8, 8), grey), 30, 2, 1, TAU)


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


@pytest.mark.parametrize("s", [0.0, 1e-3, 0.08, 0.09, 1.0, 50.0, 3000.0])
def test_rectified_share_by_integration(s):
    def integrand(w: float) -> float:
        return w / (2 + s * w) * stats.norm.pdf(w, 0, TAU)

    precise = {"points": [1e-3, 1e-2, 0.1], "epsabs": 0, "epsrel": 1e-11, "limit": 500}
    value = integrate.quad(integrand, 0, 14 * TAU, **precise)[0]
    assert float(rectified_share(s, TAU)) == pytest.approx(value, rel=1e-9)


def test_laws_beyond_gradcam_against_sampled_networks():
    rows, tail = method_checks.beyond_gradcam(IMAGE, KERNEL, POOL, TAU, 20_000, 4, filters=3)
    for name, row in (rows | tail).items():
        assert row["holds"], (name, row)
    assert tail["AblationCAM, t = 1e+06"]["t P, law"] == pytest.approx(
        tail["AblationCAM, t = 3"]["limit E[γ]/π"], rel=1e-4
    )
    assert rows["AblationCAM"]["P(> 0)"] > 0.55 and rows["GradCAM"]["P, law"] == 0.5 * (1 - 2**-3)
    assert rows["XGradCAM"]["mean"] > 0 and rows["GradCAM++"]["mean"] > 0
    laws = [sampling.filter_draws(IMAGE, v, KERNEL, POOL, TAU, 20_000, 7, (6, 2)) for v in (2, 8)]
    few, many = (expected_scores(law)["GradCAM++"] for law in laws)
    assert many[0] / few[0] == pytest.approx(4, rel=0.05)  # linear in V


def test_ablationcam_is_cauchy_given_the_filters():
    b, c = np.array([[0.3, 1.0, 0.0]]), np.array([[1.0, 0.5, 2.0]])
    (location,), (scale,) = ablation_law(FilterDraws(b, c, c, 6, 48, TAU))
    weights = TAU * c * np.random.default_rng(0).normal(size=(100_000, 3))
    ratio = (weights * b).sum(1) / weights.sum(1)
    assert stats.kstest(ratio, "cauchy", (location, scale)).pvalue > 1e-3
    assert stats.kstest(ratio, "cauchy", (location, 1.05 * scale)).pvalue < 1e-3  # it would see 5%


def test_laws_given_two_draws_of_filters_by_hand():
    """Two filters, two draws, τ = 2, n = 5, hw = 50: each law's mean and error |x - x'|/2."""
    b = np.array([[3.0, 4], [0, 6]])
    c = np.array([[1.0, 2], [0, 0.5]])
    s = np.array([[8.0, 4], [0, 3]])
    draws, half = FilterDraws(b, c, s, 5, 50, 2.0), 1 / np.sqrt(2 * np.pi)

    def share(t: float) -> float:
        return integrate.quad(lambda w: w / (2 + t * w) * stats.norm.pdf(w, 0, 2), 0, 28)[0]

    psi = np.vectorize(share)(s)
    given = {
        "GradCAM": [2 * np.sqrt(5) / 50 * half * root for root in (5, 6)],
        "XGradCAM": [2 / 50 * half * root for root in (np.hypot(3 / 8, 4 * 2 / 4), 6 * 0.5 / 3)],
        "GradCAM++": [5 / 50 * np.dot(x, p) for x, p in zip(b, psi, strict=True)],
        "AblationCAM, undivided": [2 * half * root for root in (np.hypot(3, 8), 3)],
    }
    found = expected_scores(draws)
    for name in found | given:
        mean, error = sum(given[name]) / 2, abs(np.diff(given[name])[0]) / 2
        assert found[name] == pytest.approx((mean, error), rel=1e-7), name
    chances = positive_probability(draws)
    assert (chances["ScoreCAM"], chances["GradCAM++"]) == pytest.approx((3 / 4, 1 - (33 / 64) ** 2))
    location, scale = (law.tolist() for law in ablation_law(draws))
    assert location == [pytest.approx(3.8), 6] and scale == [pytest.approx(0.4), 0]


def lemma_1(rows: dict) -> dict:
    return {name: row for name, row in rows.items() if name.startswith("Lemma 1")}


def test_a_planted_error_fails_the_notebooks_own_checks(monkeypatch):
    cnn = (IMAGE, KERNEL, POOL, TAU)
    planted = [
        ("mean_chi", 1 + 1e-6, lambda: theorem_checks.theorem_1(*cnn, 1000, 0, (4, 64))[0]),
        ("mean_chi", 1 + 1e-6, lambda: theorem_checks.given_filters(*cnn, 1000, 0)),
        ("mean_chi", 1 + 1e-6, lambda: theorem_checks.depths(*cnn, 1000, 0)[0]),
        ("covariance", 1.2, lambda: dict([model_checks.network(*cnn, 5000, 0).popitem()])),
        ("gradcam_coefficients", 1 + 1e-9, lambda: model_checks.proposition_1(*cnn, 0)),
        (
            "rectified_mean",
            1 + 1e-6,
            lambda: lemma_1(model_checks.lemmas(IMAGE[:3, :3], TAU, 1000, 0)),
        ),
    ]
    planted += [(name, np.nan, rows) for name, _, rows in planted if name != "covariance"]
    for name, factor, rows in planted:
        assert all(row["holds"] for row in rows().values()), name
        right = getattr(formulas, name)
        with monkeypatch.context() as patch:
            patch.setattr(
                formulas, name, lambda *a, right=right, by=factor, **k: by * right(*a, **k)
            )
            assert not any(row["holds"] for row in rows().values()), name
    errors = np.array([0.1, 0.1, 0])
    worst = [results.errors(np.array([0.1, -0.5, d]), errors) for d in (0, 0.1, np.nan)]
    assert worst == [pytest.approx(5), 999, 999]


def test_what_the_figures_and_tables_show():
    setting, at = (IMAGE, KERNEL, POOL, TAU), model_checks.dead_pixel(IMAGE, KERNEL, POOL)
    upside_down = model_checks.dead_pixel(IMAGE[::-1], KERNEL, POOL)
    assert NORMS[at] == NORMS[6:].max() and min(at[0], upside_down[0]) >= 6  # all unseen
    lines = [formulas.expected_gradcam, formulas.large_v_limit]
    lines += [formulas.moment_bound, formulas.lower_bound]
    curves = theorem_checks.expectation_curves(*setting, at)
    for line, (filters, values) in zip(lines, curves.values(), strict=True):
        assert values[-9] == line(IMAGE, filters[-9], KERNEL, POOL, TAU)[at]
    rows = theorem_checks.large_v()
    exact, bound = (f(IMAGE, 100, KERNEL, POOL, TAU)[at] for f in (lines[0], lines[3]))
    assert rows["V = 100"]["Eq. 5 / exact"] == pytest.approx(bound / exact)
    assert all(row["holds"] for row in rows.values())
    maps = method_checks.method_maps(*setting, 30, 1, 3)
    scores = sampling.methods(IMAGE, 3, *setting[1:], 30, 1, range(48))
    for name, values in scores.items():
        middle = np.median if name == "AblationCAM" else np.mean
        np.testing.assert_array_equal(maps[name].ravel(), middle(values, axis=0))


def test_a_tail_that_misses_its_limit_does_not_hold(monkeypatch):
    law = method_checks.laws.ablation_tail
    monkeypatch.setattr(
        method_checks.laws,
        "ablation_tail",
        lambda draws, t: law(draws, t) * (1.02 if t > 100 else 1),
    )
    _, tail = method_checks.beyond_gradcam(IMAGE, KERNEL, POOL, TAU, 2_000, 4, filters=3)
    assert [row["holds"] for row in tail.values()] == [True] * 4 + [False] * 2


def test_windows_are_in_reading_order_only_by_their_width():
    """14 windows a row: dividing by k' = 2 has the first two right; where k' is w', it has all."""
    for sizes, share in (((14, 14, 2), 194 / 196), ((3, 4, 4), 0.0)):
        found = slips._misplaced(*sizes)
        assert found == {"paper": share, "ours": 0.0, "holds": True}


def test_slips_have_their_numbers():
    rows = slips.slips(IMAGE, KERNEL, POOL, TAU, 0)
    assert all(row["holds"] for row in rows.values())
    first = rows["Sec. 2.1: torch's convolution, variance × inputs"]
    assert (first["paper"], first["sampled"]) == pytest.approx((2, 1 / 3), rel=0.01)
    assert rows["Sec. 3.3: HiResCAM by one weight a map, off by"]["paper"] > 0.5
    variance = rows["Eq. 8: variance at τ = 2, without τ²"]
    assert variance["ours"] == pytest.approx(4 * variance["paper"])
    assert rows["Def. 3: share of 0/0; for exp(f), α"]["paper"] == 1
    assert rows["Prop. 1's proof: windows misplaced by i'"]["paper"] == pytest.approx(10 / 12)


def test_eq_3_taken_literally_loses_silent_windows():
    """A filter that answers nowhere: C' = 0, the literal gradient is 0, Proposition 1's isn't."""
    weights = [np.arange(1.0, 13.0).reshape(1, 1, 4, 3)]
    net = formulas.forward(IMAGE, -np.ones((1, 3, 3)), weights, POOL)
    assert not net["C"].any()
    assert formulas.gradcam_coefficients(weights, net["a"], 48) == pytest.approx([78 / 48])
    deeper, silent = [*weights, np.ones((1, 1))], [np.zeros(1), np.zeros(1)]
    assert formulas.gradcam_coefficients(deeper, silent, 48) == [0]  # 1{0 > 0} = 0


def test_figure_3_shows_a_score_where_nothing_is_seen():
    values, rows = definition_checks.figure_3(formulas.load_image("digits"), 2, 2, 1.0, 64, 1, 0)
    row = rows["GradCAM in the dead zone"]
    assert (row["dead rows of ξ"], row["dead rows of B"]) == (14, 14)
    assert row["logits unchanged"] and values[14:].max() > 0


def test_rows_are_written_and_shown(tmp_path: Path, capsys):
    rows = {
        "one": {"difference": 3e-9, "errors": 1.234, "holds": True},
        "two": {"exact": 0.123456789, "holds": False},
    }
    said = results.write({"part": rows}, tmp_path / "theory.json")
    assert said == "1 of 2 checks hold; not: part: two"
    written = json.loads((tmp_path / "theory.json").read_text())
    assert written["part: two"] == {"exact": 0.123457, "holds": False}
    assert written["failed"] == ["part: two"]
    results.show(rows)
    shown = "difference errors holds exact one < 1e-8 1.2 True - two - - False 0.123"
    assert capsys.readouterr().out.split() == shown.split()
