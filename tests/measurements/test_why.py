"""benchmarks/why.py: what zero channels change of EigenCAM, and how networks are pooled."""

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import why


def test_zero_channels_change_a_sign_at_most():
    features = torch.rand(3, 8, 5, 6, generator=torch.Generator().manual_seed(0))
    tall, wide = why.projection(features, 0), why.projection(features, 64)
    for one, other, b in zip(tall, wide, features, strict=True):
        same = torch.allclose(one, other, atol=1e-5)
        assert same or torch.allclose(one, -other, atol=1e-5)
        points = b.flatten(1).T - b.flatten(1).T.mean(0)
        largest = torch.linalg.eigvalsh(points.T @ points)[-1]  # its variance is the largest one
        assert float(one.square().sum()) == pytest.approx(float(largest), rel=1e-4)


def test_networks_pooled_are_all_their_images():
    random = np.random.default_rng(0)
    parts = [random.normal(m, 2, n) for m, n in ((10, 7), (14, 9))]
    rows = [{"mean": p.mean(), "std": p.std(ddof=1), "maps": len(p)} for p in parts]
    whole = np.concatenate(parts)
    assert why._pooled(pd.DataFrame(rows)) == pytest.approx((whole.mean(), whole.std(ddof=1)))


def test_scorecams_moves_are_differences_of_means(tmp_path):
    """Read back as the page reads them: the other parts' rows leave these columns empty."""
    rows = [
        {"setting": "ScoreCAM", "dataset": dataset, "width": width, "batch_norm": norm}
        | {"mean": 20 + 8 * width + (0 if norm else -4 * width) + shift}
        | {"std": (20 if norm else 10) + width}
        for width in why.WIDTHS
        for norm in (True, False)
        for dataset, shift in (("stack-mix", -1), ("stack-gen", 1))
    ]
    file = tmp_path / "why.csv"
    pd.DataFrame([*rows, {"setting": "as it is"}]).to_csv(file, index=False)
    table = pd.read_csv(file)
    told = why._moves(table)
    assert "-0.5 at width 0.125, -1.0 at width 0.25, -2.0 at width 0.5" in told
    assert "by +3.0 with batch norm and +1.5 without" in told
    assert "The lowest mean here is 19.5; the\npaper has 19.9 and 18.5." in told
    assert (
        "is 20.1 to 20.5 with batch\nnorm and 10.1 to 10.5 without; in the paper 10.3 and" in told
    )
    assert why._moves(table.iloc[:4]) == "2 of 6 trainings so far."
    assert why._moves(table.iloc[:6]) == "3 of 6 trainings so far."
