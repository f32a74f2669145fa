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
