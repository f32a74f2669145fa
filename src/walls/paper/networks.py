"""One training is one draw: every network's own numbers, and those of the ten of benchmarks/."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from walls.saliency.statistics import tabulate

ACTIVE = 0.05  # an image whose µ exceeds this is highlighted behind the wall
MOST = 0.5  # the share of images that must be, with its 95% interval
OWN = ["mean", "std", "mean_raw", "images", "empty"]


def by_network(measured: pd.DataFrame) -> pd.DataFrame:
    """Per dataset, network and method the mean µ×100 and how many images light up: by_network.csv.

    `measured`: long, with dataset, network, class, method, mu, mu_raw. Columns: dataset, network,
    method, Table 1's mean, std, mean_raw, images, empty, and `lit`: the share of images, in
    percent, with a µ above ACTIVE (an empty map lights up nothing).
    """
    parts = []
    for network, group in measured.groupby("network", sort=True):
        table = tabulate(group.drop(columns="network")).set_index(["dataset", "method"])
        lit = 100 * (group["mu"] > ACTIVE).groupby([group["dataset"], group["method"]]).mean()
        own = table[OWN].assign(lit=lit, network=network).reset_index()
        parts.append(own[["dataset", "network", "method", *OWN, "lit"]])
    return pd.concat(parts, ignore_index=True)


def most(table: pd.DataFrame, method: str, datasets: Sequence[str]) -> pd.Series:
    """Whether a method lights up on most images of each of these datasets, by network.

    `table`: by_network's, or the ten's.
    """
    own = table[(table["method"] == method) & table["dataset"].isin(datasets)]
    return own.groupby("network")["lit"].min() > 100 * MOST


def means(measured: pd.DataFrame) -> dict[str, dict[str, float]]:
    """{dataset: {method: mean µ×100}} over all networks, every one counting alike."""
    table = tabulate(measured).set_index("method")
    return {d: own["mean"].round(3).to_dict() for d, own in table.groupby("dataset", sort=False)}


def ten(root: Path) -> pd.DataFrame:
    """The networks of a run of many seeds (benchmarks/ten.csv): by_network's columns and more.

    No row where it hasn't been run.
    """
    columns, file = ["dataset", "network", "method", *OWN, "lit"], root / "benchmarks" / "ten.csv"
    found = pd.read_csv(file) if file.is_file() else pd.DataFrame()
    return found if len(found) else pd.DataFrame(columns=columns)


def quoted(table: pd.DataFrame, method: str, datasets: Sequence[str]) -> str:
    """What the ten say of a method, after what this run says; empty where they haven't run it."""
    lit = most(table, method, datasets)
    if not len(lit):
        return ""
    return f"; of {len(lit)} networks (benchmarks/ten.md) {int(lit.sum())} do"
