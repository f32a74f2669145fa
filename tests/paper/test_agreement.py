"""Agreement with the paper's Table 1, by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from walls.paper.agreement import NORMAL, agreement
from walls.paper.table1 import PAPER_TABLE


def table(means, std=6.0, error=1.5, dataset="stack-mix"):
    rows = [
        {"dataset": dataset, "method": method, "mean": mean, "std": std}
        | {"ci_low": mean - NORMAL * error, "ci_high": mean + NORMAL * error}
        for method, mean in means.items()
    ]
    return pd.DataFrame(rows)


def test_the_papers_own_table_agrees_with_itself():
    means = {method: mean for method, (mean, _) in PAPER_TABLE["stack-mix"].items()}
    found = agreement(table(means), "stack-mix")
    assert found.rank == pytest.approx(1) and found.rank_unproved == pytest.approx(1)
    assert (found.table[["difference", "spreads", "intervals"]] == 0).all().all()
    assert list(found.table["method"]) == list(means)
    assert found.sentence().endswith("is not (in half intervals): no method.")
    assert found.chance == pytest.approx(2 / math.factorial(7))  # this order and its reverse


def test_distances_and_ranks_by_hand():
    """GradCAM 22.7 ± 13.4, ScoreCAM 19.9 ± 10.3, EigenCAM 51.7 ± 19.7 in the paper."""
    found = agreement(
        table({"EigenCAM": 30.0, "Mine": 99.0, "GradCAM": 12.7, "ScoreCAM": 29.9}), "stack-mix"
    )
    own = found.table.set_index("method")
    assert list(own.index) == ["GradCAM", "ScoreCAM", "EigenCAM"]
    assert own.loc["GradCAM", "difference"] == pytest.approx(-10)
    assert own.loc["GradCAM", "spreads"] == pytest.approx(-10 / math.hypot(6, 13.4))
    half = math.hypot(1.5, 1.34) * NORMAL
    assert own.loc["GradCAM", "intervals"] == pytest.approx(-10 / half)
    assert own.loc["ScoreCAM", "spreads"] == pytest.approx(10 / math.hypot(6, 10.3))
    # Ranks here 1, 2, 3; the paper's 2, 1, 3: ρ = 1 - 6·2 / (3·8).
    assert found.rank == found.rank_unproved == pytest.approx(0.5)
    assert found.chance == pytest.approx(1)  # no order of three is nearer to none than this
    assert "may be none, by its 95% interval: no method; is not" in found.sentence()
    assert "EigenCAM (4.5)" in found.sentence()  # 21.7 / (1.96·√(1.5² + 1.97²))
    wide = agreement(table({"EigenCAM": 30.0, "GradCAM": 12.7}, error=6), "stack-mix").sentence()
    assert "by its 95% interval: GradCAM; is not (in half intervals): EigenCAM (1.8)." in wide


def test_what_is_at_zero_in_both_is_no_agreement():
    means = {"GradCAM": 30.0, "GradCAM++": 20.0, "XGradCAM": 10.0, "HiResCAM": 0.0}
    found = agreement(table(means, error=0), "stack-mix")
    # The paper's order is X and GradCAM swapped against ours: 22.7, 28.8, 23.8.
    assert found.rank_unproved == pytest.approx(1 - 6 * (4 + 1 + 1) / (3 * 8))
    assert found.rank == pytest.approx(1 - 6 * (4 + 1 + 1) / (4 * 15))
    assert found.table.set_index("method").loc["HiResCAM", "intervals"] == 0


def test_other_images_and_what_is_missing():
    found = agreement(table({"GradCAM": 20.0}, dataset="photographs"), "photographs", "stack-gen")
    assert found.table["paper"].tolist() == [21.6] and math.isnan(found.rank)
    empty = table({"GradCAM": math.nan, "HiResCAM": 0.0, "GradCAM++": 1.0, "XGradCAM": 2.0})
    found = agreement(empty, "stack-mix")
    assert np.isnan(found.table.loc[0, "intervals"]) and found.rank == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"^paper: got photographs; takes stack-mix, stack-gen"):
        agreement(table({"GradCAM": 20.0}, dataset="photographs"), "photographs")
    with pytest.raises(ValueError, match=r"^table: got no method of the paper's for stack-mix"):
        agreement(table({"Mine": 20.0}), "stack-mix")


def test_the_committed_table():
    """The default run's: the order agrees in part, and HiResCAM exactly."""
    committed = pd.read_csv(ROOT / "figures" / "table1.csv")
    for dataset in PAPER_TABLE:
        found = agreement(committed, dataset)
        assert len(found.table) == 8 and 0 < found.rank_unproved < found.rank < 1
        assert found.table.set_index("method").loc["HiResCAM", "difference"] == 0
