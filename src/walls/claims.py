"""What the paper reports, beside what this run finds, and a verdict on each claim.

Thresholds stand here, fixed before any run. A verdict is one of: holds, fails, inconclusive, not tested here.
"""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from walls.activity import tabulate, uniform_activity

# Table 1 of the paper: µ×100, mean and standard deviation over 100 images.
PAPER = {
    "stack-mix": {
        "GradCAM": (22.7, 13.4), "GradCAM++": (28.8, 8.1), "XGradCAM": (23.8, 9.0), "ScoreCAM": (19.9, 10.3),
        "Opti-CAM": (32.7, 7.9), "AblationCAM": (21.0, 9.9), "EigenCAM": (51.7, 19.7), "HiResCAM": (0.0, 0.0),
    },
    "stack-gen": {
        "GradCAM": (21.6, 11.6), "GradCAM++": (28.5, 7.9), "XGradCAM": (22.8, 9.0), "ScoreCAM": (18.5, 10.6),
        "Opti-CAM": (32.0, 7.8), "AblationCAM": (20.8, 9.6), "EigenCAM": (55.8, 21.6), "HiResCAM": (0.0, 0.0),
    },
}  # fmt: skip

ACTIVE = 0.05  # an image whose µ exceeds this is highlighted behind the wall
MOST = 0.5  # the share of images that must be, with its 95% interval
AGREE = 0.7  # Spearman's ρ between the two datasets' means
SMALL_DROP = 0.10  # top-1 that a wall may cost and still leave "a realistic network"
LEVEL = 0.05  # significance of the tests

HOLDS, FAILS, INCONCLUSIVE, UNTESTED = "holds", "fails", "inconclusive", "not tested here"


def table1(activity: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Table 1: per dataset and method the mean µ×100 of this run, its spread and interval, and the paper's.

    `activity`: long, with dataset, method, mu, mu_raw. Columns as in figures/table1.csv.
    """
    table = tabulate(activity, seed)
    paper = [PAPER.get(row.dataset, {}).get(row.method, (math.nan, math.nan)) for row in table.itertuples()]
    return table.assign(paper_mean=[mean for mean, _ in paper], paper_std=[std for _, std in paper])


def with_uniform(table: pd.DataFrame, dead_share: float) -> pd.DataFrame:
    """The table with a uniform map's µ×100 as the last row of every dataset: what no information at all scores."""
    mu = 100 * uniform_activity(dead_share)
    parts = []
    for dataset, group in table.groupby("dataset", sort=False):
        images = int(group["images"].max())
        row = {"dataset": dataset, "method": "uniform map", "mean": mu, "std": 0.0, "ci_low": mu, "ci_high": mu,
               "mean_raw": mu, "images": images, "empty": 0, "paper_mean": math.nan, "paper_std": math.nan}  # fmt: skip
        parts += [group, pd.DataFrame([row])]
    return pd.concat(parts, ignore_index=True) if parts else table


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1 as the paper prints it, a method per row: per dataset this run's mean ± std, interval, and the paper's."""
    columns: dict[str, dict[str, str]] = {}
    for row in table.itertuples():
        name = row.dataset.upper()
        cells = {f"{name} ↓": _spread(row.mean, row.std),
                 f"95% interval ({name})": f"{row.ci_low:.1f} – {row.ci_high:.1f}",
                 f"paper ({name})": _spread(row.paper_mean, row.paper_std),
                 f"raw ({name})": f"{row.mean_raw:.1f}"}  # fmt: skip
        columns.setdefault(row.method, {}).update(cells)
    return pd.DataFrame.from_dict(columns, orient="index").rename_axis("method").reset_index()


def _spread(mean: float, std: float) -> str:
    return "—" if math.isnan(mean) else f"{mean:.1f} ± {std:.1f}"


def notes(table: pd.DataFrame, skipped: dict[str, str], raw: bool = True) -> str:
    """One paragraph below Table 1: how many images, how many empty maps, which dataset is missing and why."""
    said = "Activity in the dead zone, µ×100, mean ± standard deviation"
    parts = [said + ("; raw: without any min-subtraction." if raw else ".")]
    for dataset, group in table.groupby("dataset", sort=False):
        empty = ", ".join(f"{row.empty} of {row.method}" for row in group.itertuples() if row.empty)
        parts.append(f"{dataset.upper()}: {group['images'].max()} images, " + (f"all-zero maps left out: {empty}." if empty
                     else "no all-zero map."))  # fmt: skip
    parts += [f"{dataset.upper()}: {why}" for dataset, why in skipped.items()]
    return " ".join(parts)


def write_table1(table: pd.DataFrame, skipped: dict[str, str], folder: Path) -> None:
    """table1.csv (long), table1.md and table1.tex (as printed) and activity.csv (means) below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "table1.csv", index=False, float_format="%.4f", lineterminator="\n")
    printed = wide(table)
    means = table.pivot(index="method", columns="dataset", values="mean").reindex(table["method"].unique())
    means.to_csv(folder / "activity.csv", float_format="%.4f", lineterminator="\n")
    (folder / "table1.md").write_text(f"{printed.to_markdown(index=False)}\n\n{notes(table, skipped)}\n", encoding="utf-8")
    (folder / "table1.tex").write_text(latex(table, notes(table, skipped, raw=False)), encoding="utf-8")


def latex(table: pd.DataFrame, caption: str) -> str:
    """Table 1 for a paper, needing booktabs alone and no wider than LNCS's text: per dataset ours and the paper's."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in table.itertuples():
        dataset, method = f"{_latex(row.dataset.upper())} $\\downarrow$", _latex(row.method)
        for whose, spread in (("here", _spread(row.mean, row.std)), ("paper", _spread(row.paper_mean, row.paper_std))):
            cells.setdefault((dataset, whose), {})[method] = _latex(spread)
    printed = pd.DataFrame(cells).reindex(dict.fromkeys(map(_latex, table["method"]))).fillna("---")
    text = printed.style.to_latex(
        hrules=True, column_format="@{}l" + "r" * printed.shape[1] + "@{}", multicol_align="c", caption=_latex(caption),
        label="tab:activity", position_float="centering")  # fmt: skip
    return text.replace("\\begin{tabular}", "\\small\n\\begin{tabular}")


def _latex(text: str) -> str:
    """Text as LaTeX: its special characters escaped, the table's signs by their commands."""
    signs = {"±": "$\\pm$", "–": "--", "—": "---", "µ": "$\\mu$", "×": "$\\times$", "\\": "\\textbackslash{}",
             "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"} | {sign: f"\\{sign}" for sign in "%&#_${}"}  # fmt: skip
    return "".join(signs.get(letter, letter) for letter in text)


def ledger(
    wall: dict, activity: pd.DataFrame, checks: dict[str, dict], predictions: dict[str, pd.DataFrame], theory: dict
) -> list[dict]:
    """Every claim of the paper that this run can test, as {claim, where, paper, ours, verdict}.

    `wall`: metrics/wall.json; `activity`: as for `table1`; `checks`: the cams stages' checks per dataset;
    `predictions`: training.predict's table per model; `theory`: metrics/theory.json.
    """
    return [
        _theory(theory),
        _geometry(wall, "dead_rows", "the dead zone is 54 rows, 24% of the image", "Section 3.1", "54 rows, 24%"),
        _geometry(wall, "hirescam_zero_rows", "HiResCAM is zero in 61% of the image", "Section 3.3", "136 rows, 61%"),
        _hires(activity),
        *(_active(activity, method) for method in PAPER["stack-mix"] if method != "HiResCAM"),
        _agreement(activity),
        _accuracy(predictions),
        _follows(checks),
    ]


def _claim(claim: str, where: str, paper: str, ours: str, verdict: str) -> dict:
    return {"claim": claim, "where": where, "paper": paper, "ours": ours, "verdict": verdict}


def _theory(theory: dict) -> dict:
    flags = [check["holds"] for check in theory.values() if isinstance(check, dict) and "holds" in check]
    verdict = (HOLDS if all(flags) else FAILS) if flags else UNTESTED
    return _claim("GradCAM is positive in expectation behind the wall at initialisation, above Eq. 5's bound",
                  "Theorem 1", "proved", f"{sum(flags)} of {len(flags)} checks of the theory hold", verdict)  # fmt: skip


def _geometry(wall: dict, key: str, claim: str, where: str, paper: str) -> dict:
    rows = wall[key]
    ours = f"{rows} rows, {100 * rows / wall['image_rows']:.0f}%"
    same_setting = (wall["image_rows"], wall["wall_rows"]) == (224, 9)
    verdict = UNTESTED if not same_setting else HOLDS if ours == paper and wall["certified"] else FAILS
    return _claim(claim, where, paper, ours, verdict)


def _hires(activity: pd.DataFrame) -> dict:
    mu = activity[activity["method"] == "HiResCAM"]["mu"].dropna()
    claim = "HiResCAM shows no activity in the dead zone, on any image"
    if mu.empty:
        return _claim(claim, "Table 1", "0.0 ± 0.0", "no images", UNTESTED)
    ours = f"{100 * mu.mean():.1f} ± {100 * mu.std():.1f}, at most {100 * mu.max():.1f}, of {len(mu)} images"
    return _claim(claim, "Table 1", "0.0 ± 0.0", ours, HOLDS if (mu == 0).all() else FAILS)


def _active(activity: pd.DataFrame, method: str) -> dict:
    """Whether most images are highlighted behind the wall: the share with µ > ACTIVE, its interval above MOST."""
    said, verdicts, paper = [], [], []
    for dataset in PAPER:
        mu = activity[(activity["method"] == method) & (activity["dataset"] == dataset)]["mu"]
        paper.append("{:.1f} ± {:.1f}".format(*PAPER[dataset][method]))
        if mu.empty:
            continue
        # An empty map highlights nothing, here too.
        active = int((mu > ACTIVE).sum())
        low, high = stats.binomtest(active, len(mu)).proportion_ci(0.95, "exact")
        said.append(f"{dataset.upper()}: {active} of {len(mu)} images [{100 * low:.0f}%, {100 * high:.0f}%]")
        verdicts.append(HOLDS if low > MOST else FAILS if high < MOST else INCONCLUSIVE)
    verdict = UNTESTED if not verdicts else verdicts[0] if len(set(verdicts)) == 1 else INCONCLUSIVE
    return _claim(f"{method} highlights the dead zone (µ×100 > {100 * ACTIVE:.0f}) on most images", "Table 1, Figure 7",
                  "µ×100 = " + ", ".join(paper), "; ".join(said) or "no images", verdict)  # fmt: skip


def _agreement(activity: pd.DataFrame) -> dict:
    papers = activity[activity["method"].isin(PAPER["stack-mix"])]
    means = papers.groupby(["method", "dataset"])["mu"].mean().unstack("dataset").dropna()
    claim, where = "both datasets rank the methods alike", "Section 3.3"
    paper = stats.spearmanr(*([PAPER[d][m][0] for m in PAPER[d]] for d in PAPER)).statistic
    if means.shape[1] < 2 or len(means) < 4:
        return _claim(claim, where, f"ρ = {paper:.2f}", "fewer than two datasets or four methods", UNTESTED)
    rho, p = stats.spearmanr(means["stack-mix"], means["stack-gen"])
    verdict = HOLDS if rho >= AGREE and p < LEVEL else FAILS if rho < 0 else INCONCLUSIVE
    return _claim(claim, where, f"ρ = {paper:.2f}", f"ρ = {rho:.2f} over {len(means)} methods (p = {p:.1g})", verdict)


def _accuracy(predictions: dict[str, pd.DataFrame]) -> dict:
    """McNemar's exact test: on the images that one model alone gets right, does the baseline win more often?"""
    masked, baseline = (np.asarray(predictions[which]["rank"] == 1) for which in ("masked", "baseline"))
    claim, where = f"the wall costs top-1 accuracy, but at most {100 * SMALL_DROP:.0f} points", "Section 3.1, Figure 5"
    paper = "66.5 against 71.5"
    if not len(masked):
        return _claim(claim, where, paper, "no validation images", UNTESTED)
    lost, won = int((baseline & ~masked).sum()), int((masked & ~baseline).sum())
    p = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    drop = baseline.mean() - masked.mean()
    verdict = INCONCLUSIVE if p >= LEVEL else HOLDS if 0 < drop <= SMALL_DROP else FAILS
    ours = (f"{100 * masked.mean():.1f} against {100 * baseline.mean():.1f}; {lost} images lost, {won} won "
            f"(McNemar, p = {p:.2g})")  # fmt: skip
    return _claim(claim, where, paper, ours, verdict)


def _follows(checks: dict[str, dict]) -> dict:
    found = [check["follows_upper"] for check in checks.values() if check.get("follows_upper")]
    claim = "the prediction follows the upper animal: the lower one changes no logit, the upper one does"
    if not found:
        return _claim(claim, "Section 3.2", "by construction", "no images", UNTESTED)
    images, lower, upper, classes = (sum(f[k] for f in found) for k in
                                     ("images", "lower_changed", "upper_changed", "upper_changed_class"))  # fmt: skip
    ours = (f"another lower part: {lower} of {images} changed; another upper part: {upper} of {images}, "
            f"{classes} to another class")  # fmt: skip
    return _claim(claim, "Section 3.2", "by construction", ours, HOLDS if lower == 0 and upper == images else FAILS)


def write_metrics(folder: Path, **contents: object) -> None:
    """NAME.json below `folder` for every NAME given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def told(ledger: list[dict]) -> pd.DataFrame:
    """The ledger as a table: the verdict on each claim, where the paper makes it, what it reports, what this run finds."""
    return pd.DataFrame(ledger).rename(columns={"ours": "here"}).set_index("verdict").rename_axis(None)


def counted(ledger: list[dict]) -> str:
    """How many claims have which verdict, in one sentence."""
    verbs = {HOLDS: ("holds", "hold"), FAILS: ("fails", "fail"), INCONCLUSIVE: ("is inconclusive", "are inconclusive"),
             UNTESTED: ("is not tested here", "are not tested here")}  # fmt: skip
    said = (f"{n} {verbs[verdict][n > 1]}" for verdict, n in Counter(row["verdict"] for row in ledger).most_common())
    return f"Of the paper's {len(ledger)} claims, {', '.join(said)}."


def write_history(histories: dict[str, pd.DataFrame], folder: Path) -> pd.DataFrame:
    """Both models' histories side by side, an epoch per row (masked_train_loss, baseline_top1, …), also as fig5.csv."""
    long = pd.concat([history.assign(model=which) for which, history in histories.items()])
    table = long.pivot(index="epoch", columns="model", values=["train_loss", "top1", "top5"])
    table.columns = [f"{model}_{column}" for column, model in table.columns]
    table.to_csv(folder / "fig5.csv", float_format="%.6f", lineterminator="\n")
    return table
