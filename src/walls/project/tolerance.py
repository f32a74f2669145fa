"""How far an honest run may lie from the networks that were measured: what `walls verify` allows.

Another machine rounds otherwise, and a training makes another network of that, as another seed
does (benchmarks/spread.md). So a run's mean over its n networks must lie where the mean of n new
networks of the same kind lies, as the many of benchmarks/ten.csv say: Student's prediction
interval, m ± t · s · √(1/n + 1/N) for N networks of mean m and standard deviation s.
"""

import math
from collections.abc import Callable
from io import StringIO

import numpy as np
import pandas as pd
import yaml
from scipy import stats

LEVEL = 1 / 500  # how seldom an honest run's number lies outside of its interval
WIDE = 1 / 10_000  # the same for a standard deviation over images, of heavier tails than a mean
FEWEST = 6  # networks of ten.csv from which on it is taken; before, the runs of spread.csv
CELLS = ("mean", "std", "mean_raw")  # of by_network.csv
NUMBERS = r" top[15]$|, (mean|std|mean_raw)$"  # the columns that hold accuracies and cells
# In params.yaml, what no number of Table 1 and no accuracy of the default follows from.
FREE = ("heat", "sweep", "networks", "theory")
FREE_KEYS = {"train": ("again", "workers"), "cams": ("costly_images",)}

Read = Callable[[str], str]  # the text of a result, by its path in the project


def expected(theirs: Read, networks: int) -> dict[str, tuple[float, float]]:
    """Where each number of a run of so many masked networks must lie: {its name: (low, high)}.

    Names as in spread.csv: `masked top1` (in percent), `GradCAM, stack-mix, mean` (µ×100). Empty
    where the committed run is of other parameters than the default's, of which nothing is known.
    """
    if not _of_the_default(theirs):
        return {}
    found = {}
    for name, values in measured(theirs).items():
        count = 1 if name.startswith("baseline") else networks
        level = WIDE if name.endswith(", std") else LEVEL
        interval = prediction(values.dropna().to_numpy(), count, level)
        if interval:
            found[name] = interval
    return found


def prediction(values: np.ndarray, count: int, level: float = LEVEL) -> tuple[float, float] | None:
    """Where the mean of `count` new values lies with probability 1 - level, by Student's t.

    None of fewer than two values, and where all are the same: of those nothing follows.
    """
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    reach = stats.t.ppf(1 - level / 2, len(values) - 1) * values.std(ddof=1)
    reach *= math.sqrt(1 / count + 1 / len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


def measured(theirs: Read) -> pd.DataFrame:
    """The networks that were measured, one a row, with the columns that `expected` names.

    Those of ten.csv, or of spread.csv, where the seed, threads, precision or instructions differ;
    baselines are of spread.csv alone.
    """
    runs = pd.read_csv(StringIO(theirs("benchmarks/spread.csv"))).filter(regex=NUMBERS)
    many = wide(pd.read_csv(StringIO(theirs("benchmarks/ten.csv"))))
    if len(many) < FEWEST:
        return runs
    return pd.concat([many, runs.filter(like="baseline")], axis=1)


def wide(ten: pd.DataFrame) -> pd.DataFrame:
    """ten.csv with a network a row and a number a column."""
    if ten.empty:
        return pd.DataFrame()
    rows = {}
    for network, own in ten.groupby("network"):
        rows[network] = {f"masked {key}": own[key].iloc[0] for key in ("top1", "top5")}
        rows[network] |= cells(own)
    return pd.DataFrame.from_dict(rows, orient="index").reset_index(drop=True)


def cells(table: pd.DataFrame) -> dict[str, float]:
    """The cells of by_network.csv by name, averaged over its networks."""
    means = table.groupby(["method", "dataset"], sort=False)[list(CELLS)].mean()
    return {
        f"{method}, {dataset}, {cell}": row[cell]
        for (method, dataset), row in means.iterrows()
        for cell in CELLS
    }


def _of_the_default(theirs: Read) -> bool:
    """Whether the committed run is of the parameters that the networks were measured with."""
    try:
        run, default = (
            yaml.safe_load(theirs(name)) for name in ("params.yaml", "presets/critters.yaml")
        )
    except ValueError:  # a folder of results alone
        return False
    for content in (run, default):
        for section in FREE:
            content.pop(section, None)
        for section, keys in FREE_KEYS.items():
            for key in keys:
                content[section].pop(key, None)
    return run == default
