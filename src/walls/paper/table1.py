"""Table 1: the paper's numbers beside this run's."""

import math
from pathlib import Path

import pandas as pd

from walls.base import files
from walls.figures import style
from walls.saliency.activity import uniform_activity
from walls.saliency.statistics import tabulate

UNIFORM = "uniform map"
# Table 1 of the paper: µ×100, mean and standard deviation over 100 images.
PAPER_TABLE = {
    "stack-mix": {
        "GradCAM": (22.7, 13.4),
        "GradCAM++": (28.8, 8.1),
        "XGradCAM": (23.8, 9.0),
        "ScoreCAM": (19.9, 10.3),
        "Opti-CAM": (32.7, 7.9),
        "AblationCAM": (21.0, 9.9),
        "EigenCAM": (51.7, 19.7),
        "HiResCAM": (0.0, 0.0),
    },
    "stack-gen": {
        "GradCAM": (21.6, 11.6),
        "GradCAM++": (28.5, 7.9),
        "XGradCAM": (22.8, 9.0),
        "ScoreCAM": (18.5, 10.6),
        "Opti-CAM": (32.0, 7.8),
        "AblationCAM": (20.8, 9.6),
        "EigenCAM": (55.8, 21.6),
        "HiResCAM": (0.0, 0.0),
    },
}


def table1(activity: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Table 1: per dataset and method the mean µ×100.

    This run's mean has its spread and interval, and the paper's stands beside it.

    `activity`: long, with dataset, class, method, mu, mu_raw, and network. Columns as in
    figures/table1.csv; the intervals are over classes and networks.
    """
    table = tabulate(activity, seed)
    paper = [
        PAPER_TABLE.get(row.dataset, {}).get(row.method, (math.nan, math.nan))
        for row in table.itertuples()
    ]
    return table.assign(paper_mean=[mean for mean, _ in paper], paper_std=[std for _, std in paper])


def with_uniform(table: pd.DataFrame, dead_share: float) -> pd.DataFrame:
    """The table with a uniform map's µ×100 as every dataset's last row.

    It is what no information at all scores.
    """
    mu = 100 * uniform_activity(dead_share)
    parts = []
    for dataset, group in table.groupby("dataset", sort=False):
        images = int(group["images"].max())
        row = {
            "dataset": dataset,
            "method": UNIFORM,
            "mean": mu,
            "std": 0.0,
            "ci_low": mu,
            "ci_high": mu,
            "mean_raw": mu,
            "images": images,
            "empty": 0,
            "paper_mean": math.nan,
            "paper_std": math.nan,
        }
        if "networks" in table:
            row |= {"networks_std": 0.0, **group[["classes", "networks", "maps"]].max().to_dict()}
        parts += [group, pd.DataFrame([row])]
    return pd.concat(parts, ignore_index=True) if parts else table


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1 as the paper prints it, a method per row.

    A dataset has three columns: this run's mean ± std, its interval, and the paper's mean ± std.
    """
    columns: dict[str, dict[str, str]] = {}
    for row in table.itertuples():
        name = row.dataset.upper()
        cells = {
            f"{name} ↓": spread(row.mean, row.std),
            f"95% interval ({name})": f"{row.ci_low:.1f} – {row.ci_high:.1f}",
            f"paper ({name})": spread(row.paper_mean, row.paper_std),
            f"raw ({name})": f"{row.mean_raw:.1f}",
        }
        columns.setdefault(row.method, {}).update(cells)
    return pd.DataFrame.from_dict(columns, orient="index").rename_axis("method").reset_index()


class Shown:
    """Table 1 as notebook 7 shows it: the paper's methods; a line opens those beyond it.

    `table`: as of `with_uniform`, whose row stands below the paper's methods.
    """

    def __init__(self, table: pd.DataFrame):
        rows = wide(table).set_index("method").rename_axis(None)
        known = {method for methods in PAPER_TABLE.values() for method in methods} | {UNIFORM}
        self.paper, self.others = rows[rows.index.isin(known)], rows[~rows.index.isin(known)]

    def __repr__(self) -> str:
        return f"{self.paper}\n\n{self.others}" if len(self.others) else str(self.paper)

    def _repr_html_(self) -> str:
        if self.others.empty:
            return self.paper.to_html(border=0)
        line = "Methods that the paper doesn't have"
        return f"{self.paper.to_html(border=0)}\n{style.opens(line, self.others)}"


def spread(mean: float, std: float) -> str:
    return "—" if math.isnan(mean) else f"{mean:.1f} ± {std:.1f}"


def notes(table: pd.DataFrame, skipped: dict[str, str], raw: bool = True) -> str:
    """One paragraph below Table 1.

    It says how many networks, classes, images and empty maps there are, and which dataset is
    missing and why.
    """
    several = "networks" in table and table["networks"].max() > 1
    both = "over images and networks" if several else "over images"
    said = f"Activity in the dead zone, µ×100, mean ± standard deviation {both}"
    parts = [said + ("; raw: without any min-subtraction." if raw else ".")]
    if "networks" in table:
        drawn = "resample networks and classes" if several else "resample classes, of one network"
        parts.append(f"The 95% intervals {drawn}.")
    for dataset, group in table.groupby("dataset", sort=False):
        empty = ", ".join(f"{row.empty} of {row.method}" for row in group.itertuples() if row.empty)
        parts.append(
            f"{dataset.upper()}: {_counted(group)}, "
            + (f"all-zero maps left out: {empty}." if empty else "no all-zero map.")
        )
    parts += [f"{dataset.upper()}: {why}" for dataset, why in skipped.items()]
    return " ".join(parts)


def _counted(group: pd.DataFrame) -> str:
    """How many networks, classes and images one dataset's rows are made of."""
    images = int(group["images"].max())
    if "networks" not in group:
        return f"{images} images"
    networks, classes = int(group["networks"].max()), int(group["classes"].max())
    told = f"{networks} network{'s' * (networks > 1)}, {classes} classes, {images} images"
    fewer = group[group["maps"] < images * group["networks"]]
    if fewer.empty:
        return told
    few = int(fewer["maps"].iloc[0] - images) // (networks - 1)
    return f"{told} (of {' and '.join(fewer['method'])} {few} but for the first network)"


def write_table1(table: pd.DataFrame, skipped: dict[str, str], folder: Path) -> None:
    """table1.csv, table1.md, table1.tex and activity.csv below `folder`.

    The first is long, the next two as printed, the last has means.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files.write_csv(table, folder / "table1.csv", digits=4)
    printed = wide(table)
    means = table.pivot(index="method", columns="dataset", values="mean").reindex(
        table["method"].unique()
    )
    files.write_csv(means, folder / "activity.csv", digits=4, index=True)
    (folder / "table1.md").write_text(
        f"{printed.to_markdown(index=False)}\n\n{notes(table, skipped)}\n", encoding="utf-8"
    )
    (folder / "table1.tex").write_text(
        latex(table, notes(table, skipped, raw=False)), encoding="utf-8"
    )


def latex(table: pd.DataFrame, caption: str) -> str:
    """Table 1 for a paper: per dataset ours and the paper's.

    It needs booktabs alone and is no wider than LNCS's text.
    """
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in table.itertuples():
        dataset, method = f"{_latex(row.dataset.upper())} $\\downarrow$", _latex(row.method)
        for whose, shown in (
            ("here", spread(row.mean, row.std)),
            ("paper", spread(row.paper_mean, row.paper_std)),
        ):
            cells.setdefault((dataset, whose), {})[method] = _latex(shown)
    printed = pd.DataFrame(cells).reindex(dict.fromkeys(map(_latex, table["method"]))).fillna("---")
    text = printed.style.to_latex(
        hrules=True,
        column_format="@{}l" + "r" * printed.shape[1] + "@{}",
        multicol_align="c",
        caption=_latex(caption),
        label="tab:activity",
        position_float="centering",
    )
    return text.replace("\\begin{tabular}", "\\small\n\\begin{tabular}")


def _latex(text: str) -> str:
    """Text as LaTeX: its special characters escaped, the table's signs by their commands."""
    signs = {
        "±": "$\\pm$",
        "–": "--",
        "—": "---",
        "µ": "$\\mu$",
        "×": "$\\times$",
        "\\": "\\textbackslash{}",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
    } | {sign: f"\\{sign}" for sign in "%&#_${}"}
    return "".join(signs.get(letter, letter) for letter in text)
