"""How far a table of methods agrees with the paper's Table 1: in order, and method by method."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from walls.paper.table1 import PAPER_TABLE

IMAGES = 100  # of the paper, in each dataset
NORMAL = 1.959964  # half a 95% interval, in standard errors
COLUMNS = ["method", "ours", "paper", "difference", "spreads", "intervals"]


@dataclass(frozen=True)
class Agreement:
    """One dataset's agreement with the paper.

    `table`: a row per method of both, `COLUMNS`: µ×100 here and there, here less there, and that
    difference in units of both spreads (√(s² + s'²), s and s' standard deviations over images) and
    of half its 95% interval, above 1 where that leaves 0 out (the root of the sum of both means'
    squared half intervals: Zou and Donner, 2008). `rank`: Spearman's ρ of the means over these
    methods; `rank_unproved`: without those that both have at 0, as HiResCAM, which is 0 by proof;
    `chance`: how likely a ρ as far from 0 as that is among all orders. NaN for fewer than three
    methods, or where all means of a side are equal.
    """

    dataset: str
    table: pd.DataFrame
    rank: float
    rank_unproved: float
    chance: float

    def sentence(self) -> str:
        """ρ, and of which methods the difference from the paper is told from none."""
        size = self.table.set_index("method")["intervals"].abs().dropna().sort_values()
        inside = [name for name, value in size.items() if value <= 1]
        outside = [f"{name} ({value:.1f})" for name, value in size.items() if value > 1]
        return (
            f"{self.dataset.upper()}: rank correlation {self.rank_unproved:.2f} over the methods "
            f"that aren't 0 in both (p = {self.chance:.2g}, exact; {self.rank:.2f} over all "
            f"{len(self.table)}). The difference from the paper may be none, by its 95% interval: "
            f"{', '.join(inside) or 'no method'}; is not (in half intervals): "
            f"{', '.join(outside) or 'no method'}."
        )


def agreement(table: pd.DataFrame, dataset: str, paper: str | None = None) -> Agreement:
    """Of a dataset in a table like figures/table1.csv, against the paper's own table.

    `table`: dataset, method, mean, std, ci_low, ci_high, the 95% interval of the mean, whatever it
    was resampled over (images, classes, networks); half of the paper's is 1.96 times its standard
    deviation over the root of its 100 images. `paper`: which of the paper's
    two datasets to compare with, by default the one of that name; photographs of another kind have
    none of their own. Raises ValueError for a dataset that isn't there, and for no method of both.
    """
    paper = paper or dataset
    if paper not in PAPER_TABLE:
        raise ValueError(f"paper: got {paper}; takes {', '.join(PAPER_TABLE)}")
    own = table[table["dataset"] == dataset].drop_duplicates("method").set_index("method")
    both = [method for method in PAPER_TABLE[paper] if method in own.index]
    if not both:
        known = ", ".join(PAPER_TABLE[paper])
        raise ValueError(f"table: got no method of the paper's for {dataset}; takes {known}")
    own = own.loc[both]
    theirs = np.array([PAPER_TABLE[paper][method] for method in both])
    half = (own["ci_high"] - own["ci_low"]).to_numpy() / 2
    difference = own["mean"].to_numpy() - theirs[:, 0]
    columns = (
        both,
        own["mean"].to_numpy(),
        theirs[:, 0],
        difference,
        _over(difference, np.hypot(own["std"].to_numpy(), theirs[:, 1])),
        _over(difference, np.hypot(half, NORMAL * theirs[:, 1] / np.sqrt(IMAGES))),
    )
    found = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
    moving = found[(found["ours"] != 0) | (found["paper"] != 0)]
    rank, rank_unproved = _rank(found), _rank(moving)
    chance = float("nan")
    if not np.isnan(rank_unproved):
        known = moving.dropna(subset=["ours", "paper"])
        chance = by_chance(known["ours"], known["paper"])
    return Agreement(dataset, found, rank, rank_unproved, chance)


def by_chance(one: pd.Series, other: pd.Series) -> float:
    """How likely a ρ as far from 0 is among all orders: exact, as eight methods have few."""
    ranks, fixed = stats.rankdata(one), stats.rankdata(other)
    return stats.permutation_test(
        (ranks,),
        lambda ordered, axis: (ordered * fixed).sum(axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue


def _over(difference: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """In these units; 0 where both sides are equal and have no spread."""
    with np.errstate(divide="ignore"):
        return np.where(difference == 0, 0.0, difference / np.where(unit == 0, np.nan, unit))


def _rank(table: pd.DataFrame) -> float:
    known = table.dropna(subset=["ours", "paper"])
    if len(known) < 3 or known["ours"].nunique() < 2 or known["paper"].nunique() < 2:
        return float("nan")
    return float(stats.spearmanr(known["ours"], known["paper"]).statistic)
