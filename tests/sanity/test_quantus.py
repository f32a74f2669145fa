"""µ as a metric of Quantus: against its own metric, the standard check, and maps that are known."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from walls.network.behind import behind
from walls.saliency.controls import SAME
from walls.sanity.check import check

THERE = find_spec("quantus") is not None
NEEDED = pytest.mark.skipif(not THERE, reason="takes Quantus, which `make test-long` installs")
pytestmark = [pytest.mark.long, NEEDED]
if THERE:
    import quantus as library

    from walls.sanity.quantus import DeadZoneActivity, explain


@pytest.fixture(scope="module")
def case():
    """A small network behind a wall, six pairs of images, and the classes it predicts."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU())
    network = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    model = behind(network, layer="0", image_rows=64)
    halves = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    pairs = torch.cat([halves, halves.flip(3)], dim=2)
    return model, halves, pairs.numpy(), model(pairs).argmax(1).numpy()


def mask(model):
    """1 where only hidden features count, (1, H, W)."""
    rows = torch.zeros(1, 64, 32)
    rows[:, model.zone().measured] = 1
    return rows.numpy()


def test_our_methods_have_the_mu_of_the_standard_check(case):
    """Each image alone in its class, so that the same class below is itself, mirrored."""
    model, halves, pairs, classes = case
    methods = ["GradCAM", "GradCAM++", "HiResCAM"]
    report = check(model, methods, halves, range(6), controls=[SAME], progress=False)
    for method in methods:
        found = DeadZoneActivity()(
            model=model,
            x_batch=pairs,
            y_batch=classes,
            explain_func=explain,
            explain_func_kwargs={"method": method},
            batch_size=4,
        )
        wanted = report.table.loc[report.table["method"] == method, "mu"].to_numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    assert wanted.max() == 0 and report.table["mu"].max() > 0.3


def test_it_is_quantus_own_measure_of_the_squared_map(case):
    """Relevance mass accuracy of Λ² in the dead zone is µ²."""
    model, _, pairs, classes = case
    maps = np.random.default_rng(0).random((6, 1, 64, 32))
    given = {"model": model, "x_batch": pairs, "y_batch": classes}
    zone = np.repeat(mask(model)[None], 6, axis=0)
    mass = library.RelevanceMassAccuracy(normalise=False, disable_warnings=True)
    theirs = mass(**given, a_batch=maps**2, s_batch=zone)
    ours = DeadZoneActivity()(**given, a_batch=maps, s_batch=1 - zone)  # which isn't read
    np.testing.assert_allclose(np.square(ours), theirs, rtol=1e-9)
    again = DeadZoneActivity(normalise=True, return_aggregate=True)(**given, a_batch=3 * maps)
    assert again == pytest.approx([np.mean(ours)])


def test_maps_that_are_known(case):
    """Below alone, above alone, empty, and of negative scores, as 0 or by their size."""
    model, _, pairs, classes = case
    below = mask(model)
    above = 1 - below
    maps = np.stack([below, above, 0 * below, above - below, below - 2 * above, above])
    given = {"model": model, "x_batch": pairs, "y_batch": classes, "a_batch": maps}
    share = below.mean()
    found = DeadZoneActivity()(**given)
    np.testing.assert_allclose(found, [1, 0, np.nan, 0, 1, 0])
    found = DeadZoneActivity(abs=True)(**given)
    partly = np.sqrt(share / (share + 4 * (1 - share)))
    np.testing.assert_allclose(found, [1, 0, np.nan, np.sqrt(share), partly, 0])
    assert DeadZoneActivity(return_aggregate=True)(**given) == pytest.approx([2 / 5])
    colours = np.stack([below, 2 * below, 2 * above], axis=1).repeat(6, 0).reshape(6, 3, 64, 32)
    found = DeadZoneActivity()(**given | {"a_batch": colours})
    np.testing.assert_allclose(found, np.sqrt(5 * share / (5 * share + 4 * (1 - share))))


def test_a_users_own_explanation(case):
    """Called as Quantus calls it. A gradient at the pixels is 0 in the dead zone; noise isn't."""
    model, _, pairs, classes = case
    heard = []

    def noise(model, inputs, targets, seed=0):
        heard.append((type(model).__name__, inputs.shape, len(targets), seed))
        return np.random.default_rng(seed).random((len(inputs), 64, 32))

    given = {"model": model, "x_batch": pairs, "y_batch": classes}
    found = DeadZoneActivity()(**given, explain_func=noise, explain_func_kwargs={"seed": 3})
    assert heard == [("Behind", (6, 3, 64, 32), 6, 3)]
    np.testing.assert_allclose(found, np.sqrt(mask(model).mean()), atol=0.05)
    saliency = {"explain_func": library.explain, "explain_func_kwargs": {"method": "Saliency"}}
    assert DeadZoneActivity(abs=True)(**given, **saliency) == [0.0] * 6


def test_beside_other_metrics(case):
    """As `quantus.evaluate` calls several: maps by method, a mean each."""
    model, _, pairs, classes = case
    found = library.evaluate(
        metrics={"µ": DeadZoneActivity(return_aggregate=True)},
        xai_methods={
            name: explain(model, pairs, classes, method=name) for name in ("GradCAM", "HiResCAM")
        },
        model=model,
        x_batch=pairs,
        y_batch=classes,
    )
    assert found["HiResCAM"]["µ"] == [0.0] and found["GradCAM"]["µ"][0] > 0.3
    assert DeadZoneActivity.score_direction.value == "lower"


def test_what_is_refused(case):
    model, _, pairs, classes = case
    given = {"y_batch": classes, "a_batch": np.random.default_rng(0).random((6, 64, 32))}
    metric = DeadZoneActivity()
    with pytest.raises(ValueError, match="model: got Sequential; takes a network behind a wall"):
        metric(model=model.network, x_batch=pairs, **given)
    model.head.rows = (9, 16)
    try:
        with pytest.raises(ValueError, match="not certified"):
            metric(model=model, x_batch=pairs, **given)
    finally:
        model.head.rows = (8, 16)
    with pytest.raises(ValueError, match="images: got 32 rows; takes 64"):
        metric(
            model=model, x_batch=pairs[:, :, :32], **given | {"a_batch": given["a_batch"][:, :32]}
        )
    with pytest.raises(ValueError, match="NaN scores; takes saliency"):
        metric(model=model, x_batch=pairs, **given | {"a_batch": given["a_batch"] * np.nan})
    with pytest.raises(ValueError, match="methods: got GradCam; takes GradCAM"):
        explain(model, pairs, classes, method="GradCam")
