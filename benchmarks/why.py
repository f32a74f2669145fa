"""What moves three methods away from the paper's Table 1: EigenCAM, ScoreCAM and Opti-CAM, one experiment each.

    python -m benchmarks.why                        EigenCAM and Opti-CAM on this run's networks
    python -m benchmarks.why --parts scorecam       six trainings: an hour or two on two cores
    python -m benchmarks.why --images 6 --folder FOLDER      a rehearsal

Writes benchmarks/why.csv, a row per measurement, and the page benchmarks/why.md from it, as each step
ends; a step that has run of the same sources isn't run again, and a killed training goes on at its last
epoch. Reads what the stages wall, data, train and stacks left here.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.measure import activities, hardware, sources_commit
from benchmarks.spread import lines
from walls.base import params, paths
from walls.base.progress import track
from walls.images import stacked
from walls.images.transforms import normalise
from walls.network import checkpoints
from walls.network.classifier import Classifier
from walls.paper.table1 import PAPER_TABLE
from walls.saliency import opticam
from walls.saliency.maps import saliency_maps
from walls.training import job

HERE = Path(__file__).resolve().parent
CHANNELS = 256  # of the paper's features, more than their 14 × 14 positions
RATES, STEPS = (0.01, 0.1, 1.0), (10, 50, 200)
WIDTHS = (0.125, 0.25, 0.5)
# At params.yaml's rate a network without batch norm stays at chance.
PLAIN = {"lr": 0.01, "epochs": 10}
IMAGES = {"eigencam": 100, "opticam": 30, "scorecam": 30}


def projection(features: Tensor, channels: int) -> Tensor:
    """EigenCAM's sums before the ReLU, as pytorch-grad-cam has them (numpy's SVD): (N, h, w).

    The features' h·w points of C coordinates, centred, on their first right singular vector, with
    zero channels added up to `channels`: these change neither a distance nor an axis.
    """
    n, _, h, w = features.shape
    points = features.flatten(2).transpose(1, 2)
    points = points - points.mean(1, keepdim=True)
    points = nn.functional.pad(points, (0, max(0, channels - points.shape[2])))
    found = [one @ np.linalg.svd(one, full_matrices=True)[2][0] for one in points.numpy()]
    return torch.from_numpy(np.stack(found)).view(n, h, w)


def eigencam(model: Classifier, images: Tensor, dataset: str, network: int) -> list[dict]:
    """µ×100 with the features as they are, a tall matrix, and with zero channels, a wide one.

    `away`: the share of images whose axis points away from the features, whose sums with the mean
    activation of a position are then below 0.
    """
    features = torch.cat([model.features(one) for one in images.split(16)])
    rows = []
    for setting, channels in (("as it is", 0), (f"{CHANNELS} channels", CHANNELS)):
        sums = projection(features, channels)
        away = ((sums * features.mean(1)).sum((1, 2)) < 0).double().mean()
        mu = activities(model, sums.relu(), images)
        row = {"part": "eigencam", "dataset": dataset, "setting": setting, "network": network}
        rows.append(row | _spread(mu) | {"away": 100 * float(away)})
    return rows


def opti_cam(model: Classifier, images: Tensor, dataset: str) -> list[dict]:
    """µ×100 and the average drop of Opti-CAM by learning rate and steps, the settings it is tuned in."""
    targets = model.scores([images]).argmax(1)
    rows = []
    for lr, steps in track([(lr, steps) for lr in RATES for steps in STEPS], desc="Opti-CAM"):
        options = {"Opti-CAM": {"lr": lr, "steps": steps}}
        maps = saliency_maps(model, images, ["Opti-CAM"], targets, options=options, progress=_quiet)
        drop = opticam.average_drop(model, images, maps["Opti-CAM"], targets)
        mu = activities(model, maps["Opti-CAM"], images)
        row = {"part": "opticam", "dataset": dataset, "setting": f"lr {lr:g}, {steps} steps"}
        rows.append(row | _spread(mu) | {"drop": drop["average_drop"]})
    return rows


def score_cam(width: float, batch_norm: bool, pictures: dict[str, Tensor]) -> list[dict]:
    """ScoreCAM's µ×100 on a masked [VGG] of that width, trained as params.yaml says otherwise."""
    p = params.load()
    settings = p.model.model_copy(update={"width": width, "batch_norm": batch_norm})
    train = p.train if batch_norm else p.train.model_copy(update=PLAIN)
    own = job.job("masked", p.seed, p.image_size, p.data.classes, settings, train)
    with torch.enable_grad():
        history, _ = job.train(own.network, own.train_set, own.val_set, train, own.resume)
    setting = {
        "width": width,
        "batch_norm": batch_norm,
        "top1": 100 * float(history["top1"].iloc[-1]),
    }
    rows = []
    for dataset, images in pictures.items():
        maps = saliency_maps(own.network, images, ["ScoreCAM", "GradCAM"], progress=_quiet)
        for method, raw in maps.items():
            mu = activities(own.network, raw, images)
            row = {"part": "scorecam", "dataset": dataset, "setting": method}
            rows.append(row | _spread(mu) | setting)
    return rows


def page(table: pd.DataFrame, commit: str) -> str:
    """The parts that were measured, each with what it settles."""
    sections = []
    if len(own := table[table["part"] == "eigencam"]):
        sections.append(_eigencam_section(own))
    if len(own := table[table["part"] == "opticam"]):
        sections.append(_opticam_section(own))
    if len(own := table[table["part"] == "scorecam"]):
        sections.append(_scorecam_section(own))
    missing = [part for part in IMAGES if part not in set(table["part"])]
    if missing:
        sections.append(f"Not measured yet: {', '.join(missing)}.")
    return f"""# What moves three methods away from the paper's table

`python -m benchmarks.why` of {commit[:7]} on {hardware(torch.device("cpu"), f"torch {torch.__version__}", f"numpy {np.__version__}")}.
µ×100, mean ± standard deviation over images.

{(chr(10) * 2).join(sections)}
"""


def _eigencam_section(own: pd.DataFrame) -> str:
    rows = []
    for dataset in PAPER_TABLE:
        for setting in own["setting"].unique():
            part = own[(own["dataset"] == dataset) & (own["setting"] == setting)]
            away = f"{part['away'].mean():.0f}%"
            rows.append([dataset.upper(), setting, _cell(*_pooled(part)), away])
        rows.append([dataset.upper(), "the paper", _cell(*PAPER_TABLE[dataset]["EigenCAM"]), ""])
    shown = pd.DataFrame(rows, columns=["dataset", "features", "EigenCAM", "away"])
    return f"""## EigenCAM: a sign that the shape of a matrix decides

EigenCAM projects the centred features on their first singular vector, and the ReLU keeps one side. Which side is up to the SVD
routine: pytorch-grad-cam takes the vector as LAPACK returns it. The paper's features are 196 positions × {CHANNELS} channels, a wide
matrix; here they are 196 × 32, a tall one, for which LAPACK goes another way. Zero channels beside the 32 change no distance and no
axis, only the shape:

{shown.to_markdown(index=False)}

`away`: how many images' axis points away from the features. Over {own["network"].nunique()} networks. What looked like a property of the
trained networks is one of the routine: EigenCAM without a rule for its sign is not one method. (Table 1 has these networks' and images'
EigenCAM, too, in other batches, whose last bits turn the sign of a few images.)"""


def _opticam_section(own: pd.DataFrame) -> str:
    rows = []
    for setting in own["setting"].unique():
        row = [setting]
        for dataset in PAPER_TABLE:
            one = own[(own["dataset"] == dataset) & (own["setting"] == setting)].iloc[0]
            row += [_cell(one["mean"], one["std"]), f"{one['drop']:.1f}"]
        rows.append(row)
    columns = ["setting"]
    for dataset in PAPER_TABLE:
        columns += [f"µ×100, {dataset.upper()}", "average drop (%)"]
    shown = pd.DataFrame(rows, columns=columns)
    told = []
    for dataset in PAPER_TABLE:
        one = own[own["dataset"] == dataset]
        least, alike = one.loc[one["drop"].idxmin()], one["mean"].corr(one["drop"], "spearman")
        told.append(
            f"On {dataset.upper()} µ×100 is {one['mean'].min():.1f} to {one['mean'].max():.1f}, and "
            f"{least['mean']:.1f} at the least drop ({least['setting']}); its rank correlation with "
            f"the drop is {alike:.2f}."
        )
    return f"""## Opti-CAM: what its tuning changes

The paper tunes the learning rate and the number of steps to a low average drop; the drop of its own setting is not given. On the first
{int(own["maps"].max())} images of each dataset, one network:

{shown.to_markdown(index=False)}

It starts from a uniform map, which is spread over every position.
{chr(10).join(told)}
The paper has {_of_paper("Opti-CAM")[0]}; the lowest of these settings has {own["mean"].min():.1f}."""


def _scorecam_section(own: pd.DataFrame) -> str:
    rows = []
    paper = {"width": "1 (the paper)", "batch norm": "no", "top-1 (%)": ""}
    columns = list(product(("ScoreCAM", "GradCAM"), PAPER_TABLE))
    ordered = own.sort_values(["batch_norm", "width"], ascending=[False, True], kind="stable")
    for (width, norm), part in ordered.groupby(["width", "batch_norm"], sort=False):
        row = {"width": f"{width:g}", "batch norm": "yes" if norm else "no"}
        row["top-1 (%)"] = f"{part['top1'].iloc[0]:.1f}"
        for method, dataset in columns:
            one = part[(part["setting"] == method) & (part["dataset"] == dataset)].iloc[0]
            row[f"{method}, {dataset.upper()}"] = _cell(one["mean"], one["std"])
        rows.append(row)
    for method, dataset in columns:
        paper[f"{method}, {dataset.upper()}"] = _cell(*PAPER_TABLE[dataset][method])
    shown = pd.DataFrame([*rows, paper]).to_markdown(index=False)
    return f"""## ScoreCAM: width and batch norm

The masked network trained anew, one training each, as `params.yaml` says but for its width and batch norm; without batch norm it
stays at chance at that rate, and takes {PLAIN["epochs"]} epochs at {PLAIN["lr"]}. The first {int(own["maps"].max())} images of each dataset:

{shown}

{_moves(own)}"""


def _moves(own: pd.DataFrame) -> str:
    """How far width and batch norm move ScoreCAM, in µ×100 over both datasets, and its spread."""
    score = own[own["setting"] == "ScoreCAM"]
    means = score.pivot_table(index="width", columns="batch_norm", values="mean")
    if means.shape != (len(WIDTHS), 2) or means.isna().any(axis=None):
        return f"{means.count().sum()} of {2 * len(WIDTHS)} trainings so far."
    without = ", ".join(
        f"{change:+.1f} at width {width:g}"
        for width, change in (means[False] - means[True]).items()
    )
    wider = means.loc[WIDTHS[-1]] - means.loc[WIDTHS[0]]
    spread = score.groupby("batch_norm")["std"].agg(["min", "max"])
    apart = {norm: f"{low:.1f} to {high:.1f}" for norm, low, high in spread.itertuples()}
    paper_mean, paper_std = _of_paper("ScoreCAM")
    return f"""Without batch norm ScoreCAM's mean over both datasets moves by {without};
from width {WIDTHS[0]:g} to {WIDTHS[-1]:g} by {wider[True]:+.1f} with batch norm and {wider[False]:+.1f} without. By chance alone two trainings differ by
several points (the standard deviation over ten trainings stands in [ten.md](ten.md)). The lowest mean here is {score["mean"].min():.1f}; the
paper has {paper_mean}. The standard deviation over images is {apart[True]} with batch
norm and {apart[False]} without; in the paper {paper_std}."""


def _of_paper(method: str) -> list[str]:
    """The paper's means of a method on both datasets, in words, and its standard deviations."""
    pairs = zip(*(table[method] for table in PAPER_TABLE.values()), strict=True)
    return [" and ".join(map(str, pair)) for pair in pairs]


def _cell(mean: float, std: float) -> str:
    return f"{mean:.1f} ± {std:.1f}"


def _spread(mu: Tensor) -> dict:
    """Mean, standard deviation and number of the maps that are not zero."""
    values = mu[torch.isfinite(mu)].double().numpy()
    return {"mean": values.mean(), "std": values.std(ddof=1), "maps": len(values)}


def _pooled(part: pd.DataFrame) -> tuple[float, float]:
    """Mean and standard deviation over all images of several networks, from each one's."""
    n, mean = part["maps"].sum(), np.average(part["mean"], weights=part["maps"])
    squares = (
        (part["maps"] - 1) * part["std"] ** 2 + part["maps"] * (part["mean"] - mean) ** 2
    ).sum()
    return float(mean), float(np.sqrt(squares / (n - 1)))


def _quiet(_: int) -> None:
    pass


def _pictures(count: int) -> dict[str, Tensor]:
    size, found = params.load().image_size, {}
    for dataset in PAPER_TABLE:
        images = stacked.read(paths.runs("stacks"), dataset, size)[1][:count]
        found[dataset] = normalise(images, torch.float32)
    return found


def _steps(parts: list[str], images: int | None) -> Iterator[tuple[str, Callable[[], list[dict]]]]:
    """Name and work of every step of these parts."""

    def pictures(part: str) -> dict[str, Tensor]:
        return _pictures(images or IMAGES[part])

    def on_both(part: str, network: int, measure: Callable[..., list[dict]]) -> list[dict]:
        model = checkpoints.load(paths.weights("masked", network)).eval()
        found = pictures(part).items()
        return [row for dataset, shown in found for row in measure(model, shown, dataset)]

    def of_scorecam(width: float, batch_norm: bool) -> list[dict]:
        return score_cam(width, batch_norm, pictures("scorecam"))

    if "eigencam" in parts:
        for network in (0, *params.load().train.again):
            measure = partial(eigencam, network=network)
            yield f"eigencam {network}", partial(on_both, "eigencam", network, measure)
    if "opticam" in parts:
        yield "opticam", partial(on_both, "opticam", 0, opti_cam)
    if "scorecam" in parts:
        for width, batch_norm in product(WIDTHS, (True, False)):
            name = f"scorecam {width:g} {'with' if batch_norm else 'without'}"
            yield name, partial(of_scorecam, width, batch_norm)


def main(arguments: list[str]) -> int:
    """Measure what is left of the parts asked for, and write the page of all that are in the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.why", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--parts", nargs="+", choices=IMAGES, default=["eigencam", "opticam"])
    parser.add_argument("--images", type=int, help="of each dataset; default: 100, 30 and 30")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the page goes")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    file, commit = given.folder / "why.csv", sources_commit()
    for name, work in _steps(given.parts, given.images):
        table = lines(file, commit)
        if name in set(table["step"]):
            continue
        with torch.no_grad():
            rows = pd.DataFrame(work()).assign(commit=commit, step=name)
        table = pd.concat([table, rows]) if len(table) else rows
        table.round(4).to_csv(file, index=False, lineterminator="\n")
        _write(table, commit, given.folder)
        print(f"{name}: in {file}", flush=True)
    # Once more where nothing was left to measure: the page's words may have changed.
    _write(lines(file, commit), commit, given.folder)
    return 0


def _write(table: pd.DataFrame, commit: str, folder: Path) -> None:
    (folder / "why.md").write_text(page(table, commit), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
