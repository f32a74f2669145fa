"""The claims of the paper, and how each is judged.

A claim is one function from what the run found to what the paper says, what is found here, and the
verdict; with it stand its words, its place in the paper, what kind of verdict it can have, the
stages that repeat it and how exactly. Thresholds stand here and in networks.py, fixed before
any run. Adding a claim is adding a function:

    @claim("my-claim", "…", where="Section 3", kind=CERTIFIED, stages=("wall",), tolerance="exact")
    def my_claim(found: Findings) -> Judged:
        rows = found.wall["dead_rows"]
        return Judged("54 of 224", f"{rows} of 224", HOLDS if rows == 54 else FAILS)

That is: what the paper says, what is found here, the verdict. Intervals of any value are
`statistics.interval(values, classes, networks=…)`: networks and classes are drawn again. The kinds:
PROVED for every network, CERTIFIED by construction on these weights, OBSERVED on so many networks
and images, with tolerance="the verdict". Stages are named as by `dvc stage list`.

What the run found, and in which columns: `Findings` in ledger.py.
"""

from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from walls.paper import networks
from walls.paper.agreement import by_chance
from walls.paper.ledger import (  # noqa: F401  the ledger's words, where its claims stand
    CERTIFIED,
    CLAIMS,
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    OBSERVED,
    PROVED,
    UNTESTED,
    Claim,
    Findings,
    Judged,
    as_table,
    by_id,
    claim,
    counted,
    ledger,
)
from walls.paper.networks import ACTIVE, MOST
from walls.paper.table1 import PAPER_TABLE
from walls.saliency.statistics import interval
from walls.sanity.report import OBJECT

AGREE = 0.7  # Spearman's ρ between the two datasets' means
SMALL_DROP = 0.10  # top-1 that a wall may cost and still leave "a realistic network"
FOLLOWS = 0.9  # the share of images whose upper animal's class a network must name
LEVEL = 0.05  # significance of the tests


OF_MAPS = ("cams@stack-mix", "cams@stack-gen", "cams-again", "paper")  # stages of the maps


@claim(
    "theorem-1",
    "GradCAM is positive in expectation behind the wall at initialisation, above Eq. 5's bound",
    where="Theorem 1",
    kind=PROVED,
    stages=("theory", "paper"),
    tolerance="every check holds",
)
def theorem_1(found: Findings) -> Judged:
    """Every check of the theory holds."""
    checks = [part for part in found.theory.values() if isinstance(part, dict)]
    flags = [check["holds"] for check in checks if "holds" in check]
    verdict = UNTESTED if not flags else HOLDS if all(flags) else FAILS
    return Judged("proved", f"{sum(flags)} of {len(flags)} checks of the theory hold", verdict)


@claim(
    "dead-zone",
    "the dead zone is 54 rows, 24% of the image",
    where="Section 3.1",
    kind=CERTIFIED,
    stages=("wall", "paper"),
    tolerance="exact: certified bit by bit, on any machine",
)
def dead_zone(found: Findings) -> Judged:
    """The rows that are derived and certified, at the paper's setting."""
    return _geometry(found.wall, "dead_rows", "54 rows, 24%")


@claim(
    "hirescam-zero",
    "HiResCAM is zero in 61% of the image",
    where="Section 3.3",
    kind=CERTIFIED,
    stages=("wall", "paper"),
    tolerance="exact",
)
def hirescam_zero(found: Findings) -> Judged:
    """The rows in which an upscaled map that ends at the wall is zero."""
    return _geometry(found.wall, "hirescam_zero_rows", "136 rows, 61%")


@claim(
    "hirescam-dark",
    "HiResCAM shows no activity in the dead zone, on any image",
    where="Table 1",
    kind=CERTIFIED,
    stages=OF_MAPS,
    tolerance="exact",
)
def hirescam_dark(found: Findings) -> Judged:
    """µ is 0 on every image."""
    rows = found.activity[found.activity["method"] == "HiResCAM"].dropna(subset="mu")
    mu, zero = rows["mu"], rows.groupby("network")["mu"].max() == 0
    if mu.empty:
        return Judged("0.0 ± 0.0", "no images", UNTESTED)
    spread = f"{100 * mu.mean():.1f} ± {100 * mu.std():.1f}, at most {100 * mu.max():.1f}"
    ours = f"{spread}, of {len(mu)} maps; on {zero.sum()} of {_counted(len(zero))}"
    return Judged("0.0 ± 0.0", ours, HOLDS if (mu == 0).all() else FAILS)


def highlighted(found: Findings, method: str) -> Judged:
    """Most images are highlighted behind the wall.

    The share with µ > ACTIVE has its interval above MOST. Images of one class are alike, and one
    training is one network of many: for the interval classes and networks are drawn again.
    """
    said, verdicts, paper = [], [], []
    for dataset in PAPER_TABLE:
        paper.append("{:.1f} ± {:.1f}".format(*PAPER_TABLE[dataset][method]))
        own = found.activity["method"] == method
        rows = found.activity[own & (found.activity["dataset"] == dataset)]
        if rows.empty:
            continue
        # An empty map highlights nothing, here too.
        active = (rows["mu"] > ACTIVE).to_numpy()
        classes, whose = rows["class"].to_numpy(), rows["network"].to_numpy()
        low, high = interval(active.astype(float), classes, networks=whose)
        between = f"[{100 * low:.0f}%, {100 * high:.0f}%]"
        each = pd.Series(active).groupby(whose).mean()
        several = f"{len(each)} networks and " if len(each) > 1 else ""
        of_all = f"{active.sum()} of {len(rows)} images of {several}{len(set(classes))} classes"
        most = f"most on {(each > MOST).sum()} of {_counted(len(each))}"
        said.append(f"{dataset.upper()}: {of_all} {between}, {most}")
        settled = HOLDS if low > MOST else FAILS if high < MOST else INCONCLUSIVE
        verdicts.append(settled if rows["class"].nunique() > 1 else INCONCLUSIVE)
    alike = verdicts[0] if len(set(verdicts)) == 1 else INCONCLUSIVE
    verdict = alike if verdicts else UNTESTED
    ours = "; ".join(said) + networks.quoted(found.ten, method, list(PAPER_TABLE))
    return Judged("µ×100 = " + ", ".join(paper), ours if said else "no images", verdict)


for _method in PAPER_TABLE["stack-mix"]:
    if _method != "HiResCAM":
        claim(
            f"highlights-{_method.lower()}",
            f"{_method} highlights the dead zone (µ×100 > {100 * ACTIVE:.0f}) on most images",
            where="Table 1, Figure 7",
            kind=OBSERVED,
            stages=OF_MAPS,
            tolerance="the verdict",
        )(partial(highlighted, method=_method))


@claim(
    "datasets-agree",
    "both datasets rank the methods alike",
    where="Section 3.3",
    kind=OBSERVED,
    stages=OF_MAPS,
    tolerance="the verdict",
)
def datasets_agree(found: Findings) -> Judged:
    """Spearman's ρ of the methods' means on the two datasets is AGREE or more.

    Of the means over all networks, every one counting alike; how many agree by themselves is told.
    """
    own = found.activity[found.activity["method"].isin(PAPER_TABLE["stack-mix"])]
    each = own.groupby(["network", "method", "dataset"])["mu"].mean().unstack("dataset").dropna()
    means = each.groupby("method").mean()
    theirs = (
        [PAPER_TABLE[dataset][method][0] for method in PAPER_TABLE[dataset]]
        for dataset in PAPER_TABLE
    )
    paper = f"ρ = {stats.spearmanr(*theirs).statistic:.2f}"
    if means.shape[1] < 2 or len(means) < 4:
        return Judged(paper, "fewer than two datasets or four methods", UNTESTED)
    rho = stats.spearmanr(means["stack-mix"], means["stack-gen"]).statistic
    p = by_chance(means["stack-mix"], means["stack-gen"])
    alone = [stats.spearmanr(part).statistic >= AGREE for _, part in each.groupby("network")]
    verdict = HOLDS if rho >= AGREE and p < LEVEL else FAILS if rho < 0 else INCONCLUSIVE
    told = f"ρ = {rho:.2f} over {len(means)} methods (p = {p:.1g}, exact)"
    told += f"; {AGREE} or more on {sum(alone)} of {_counted(len(alone))}"
    return Judged(paper, told, verdict)


@claim(
    "accuracy",
    f"the wall costs top-1 accuracy, but at most {100 * SMALL_DROP:.0f} points",
    where="Section 3.1, Figure 5",
    kind=OBSERVED,
    stages=("train@masked", "train@baseline", "train-again", "paper"),
    tolerance="the verdict",
)
def accuracy(found: Findings) -> Judged:
    """The drop's 95% interval, over the images and over the masked networks, is in (0, SMALL_DROP].

    Of one masked network: McNemar's exact test of the images that one model alone gets right says
    whether there is a drop. It fails where the masked network wins, or the drop's lower limit is
    above SMALL_DROP. How many networks lose by that test is told.
    """
    paper, baseline = "66.5 against 71.5", (found.predictions["baseline"]["rank"] == 1).to_numpy()
    masked = [
        (table["rank"] == 1).to_numpy()
        for which, table in found.predictions.items()
        if which != "baseline"
    ]
    if not len(baseline):
        return Judged(paper, "no validation images", UNTESTED)
    lost = np.array([(baseline & ~own).sum() for own in masked])
    won = np.array([(own & ~baseline).sum() for own in masked])
    tests = [
        stats.binomtest(a, a + b).pvalue if a + b else 1.0 for a, b in zip(lost, won, strict=True)
    ]
    low, high = drop_interval(lost, won, len(baseline))
    moved = tests[0] < LEVEL if len(masked) == 1 else low > 0 or high < 0
    if not moved:
        verdict = INCONCLUSIVE
    elif won.sum() > lost.sum() or low > SMALL_DROP:
        verdict = FAILS
    else:
        verdict = HOLDS if high <= SMALL_DROP else INCONCLUSIVE
    losing = sum(p < LEVEL and a > b for p, a, b in zip(tests, lost, won, strict=True))
    points = f"{100 * np.mean(masked):.1f} against {100 * baseline.mean():.1f}"
    drop = f"a drop of {100 * low:.1f} to {100 * high:.1f} points (95%)"
    told = f"{lost.sum()} images lost, {won.sum()} won, a loss (McNemar, p < {LEVEL}) on {losing}"
    return Judged(paper, f"{points}, {drop}; {told} of {_counted(len(masked))}", verdict)


@claim(
    "ignores-lower",
    "the lower animal changes no logit",
    where="Section 3.2",
    kind=CERTIFIED,
    stages=OF_MAPS,
    tolerance="exact",
)
def ignores_lower(found: Findings) -> Judged:
    """Logits with another lower part, bit for bit (comparisons.follows_upper)."""
    counts = _swapped(found)
    if not counts:
        return Judged("by construction", "no images", UNTESTED)
    images, lower = (sum(count[key] for count in counts) for key in ("images", "lower_changed"))
    ours = f"with another lower part, {lower} of {images} images have other logits"
    verdict = HOLDS if lower == 0 else FAILS
    return Judged("by construction", f"{ours} ({_pairs(counts)})", verdict)


@claim(
    "follows-upper",
    "the prediction follows the upper animal",
    where="Section 3.2",
    kind=OBSERVED,
    stages=OF_MAPS,
    tolerance="the verdict",
)
def follows_upper(found: Findings) -> Judged:
    """The class of the upper animal is predicted, the image's own and another's put there.

    On every network and dataset for FOLLOWS of the images or more: it holds; for fewer on each of
    them: it fails.
    """
    counts = _swapped(found)
    if not counts:
        return Judged("by construction", "no images", UNTESTED)
    images, own, other = (
        sum(count[key] for count in counts) for key in ("images", "own_named", "other_named")
    )
    shares = [min(count["own_named"], count["other_named"]) / count["images"] for count in counts]
    ours = (
        f"its class is predicted for {own} of {images} images, and for {other} once another "
        f"image's upper part is there ({_pairs(counts)}, the least {100 * min(shares):.0f}%)"
    )
    high, low = min(shares) >= FOLLOWS, max(shares) < FOLLOWS
    return Judged("by construction", ours, HOLDS if high else FAILS if low else INCONCLUSIVE)


def _swapped(found: Findings) -> list[dict]:
    """What another lower, and another upper part changed, per network and dataset."""
    every = (check.get("follows_upper") for check in found.checks.values())
    return [counts for counts in every if counts]


def _pairs(counts: list[dict]) -> str:
    return f"{len(counts)} pair{'s' * (len(counts) > 1)} of a network and a dataset"


@claim(
    "real-network",
    "on a trained network that people use, GradCAM lights up the hidden object",
    where="Section 4",
    kind=OBSERVED,
    stages=("networks", "paper"),
    tolerance="the verdict",
)
def real_network(found: Findings) -> Judged:
    """GradCAM's verdict in notebook 9 is OBJECT, on every network there."""
    reports = {
        name: report for name, report in found.networks.items() if "GradCAM" in report["verdicts"]
    }
    if not reports:
        return Judged("asked for", "no network", UNTESTED)
    said, seen = [], []
    for name, report in reports.items():
        rows = {row["control"]: row for row in report["activity"] if row["method"] == "GradCAM"}
        means = ", ".join(f"{control} {row['mean']:.1f}" for control, row in rows.items())
        photographs = max(row["images"] for row in rows.values())
        said.append(f"{name}, {photographs} photographs: µ×100 with the {means}")
        seen.append(report["verdicts"]["GradCAM"] == OBJECT)
    verdict = HOLDS if all(seen) else INCONCLUSIVE if any(seen) else FAILS
    return Judged("asked for", "; ".join(said), verdict)


def drop_interval(lost: np.ndarray, won: np.ndarray, images: int) -> tuple[float, float]:
    """The 95% interval of a drop in accuracy, over the images and over several networks.

    `lost`, `won`: of each network, the images that the baseline or it alone has. Over the images
    `paired_difference`, its middles and half widths averaged, as the networks share the images;
    over the networks Student's t of their drops; the two half widths are added in squares.
    """
    limits = np.array([paired_difference(a, b, images) for a, b in zip(lost, won, strict=True)])
    middle, half = limits.mean(), np.ptp(limits, axis=1).mean() / 2
    if len(lost) > 1:
        error = stats.sem((lost - won) / images)
        half = np.hypot(half, stats.t.ppf(0.975, len(lost) - 1) * error)
    return float(middle - half), float(middle + half)


def _counted(count: int) -> str:
    return f"{count} network{'s' * (count != 1)}"


def paired_difference(lost: int, won: int, images: int) -> tuple[float, float]:
    """The 95% interval of a difference of two shares of the same images (Agresti and Min, 2005).

    `lost` and `won`: images that the one or the other alone has. Half an image is added to each of
    the four counts, so that it covers 95% for small counts too.
    """
    lost, won, total = lost + 0.5, won + 0.5, images + 2
    middle = (lost - won) / total
    error = np.sqrt(lost + won - (lost - won) ** 2 / total) / total
    return float(middle - 1.96 * error), float(middle + 1.96 * error)


def _geometry(wall: dict, key: str, paper: str) -> Judged:
    """A number of rows, equal to the paper's; tested at the paper's setting alone."""
    rows = wall[key]
    ours = f"{rows} rows, {100 * rows / wall['image_rows']:.0f}%"
    same_setting = (wall["image_rows"], wall["wall_rows"]) == (224, 9)
    right = ours == paper and wall["certified"]
    verdict = UNTESTED if not same_setting else HOLDS if right else FAILS
    return Judged(paper, ours, verdict)
