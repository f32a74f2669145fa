"""Section 2 and Theorem 1: each formula against an oracle that shares no code with it."""

import time

import mpmath
import numpy as np
import pytest
import torch
from helpers.theory_setting import HEIGHT, IMAGE, KERNEL, NORMS, POOL, TAU, WIDTH

from walls.theory import (
    formulas,
    integrals,
    sampling,
)
from walls.theory.cnn import CNN


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


@pytest.mark.slow
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
