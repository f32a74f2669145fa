"""showcase/tiny-imagenet-gpu, from what part d of a run left: page, figures, metrics."""

import io
import subprocess
import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.gpu import carried, control, networks, rows
from walls import cams, claims, plots, report

NAME = "tiny-imagenet-gpu"
SHADES = {
    "another of the class": plots.DEAD,
    "one of another class": plots.SEEN,
    "noise": "0.6",
    "grey": "0.85",
}
PAGE = """\
# The paper's networks at their full width, on a GPU

[VGG] with {width} times VGG16's channels and dense layers of {dense}, with batch norm, trained for
{epochs} epochs on {classes} classes, {train_images} images ({source});
224 × 224 pixels, 14 × 14 features, a wall of {rows} rows.

<!-- summary -->
<!-- /summary -->

![A photograph of two animals, its GradCAM map, and the map laid over it](figures/fig1.png)

<!-- results -->
<!-- /results -->

µ×100, mean ± standard deviation over {stacked} images of STACK-MIX.

Top-1 accuracy on {val_images} validation images: {top1}, where guessing has {guessing}.
The training was as long as a run of {run_minutes} minutes, measurements included, allowed
(minutes: {minutes}).

## What of it is the hidden object

The same upper parts above another photograph of the class (STACK-MIX itself), above one of another
class, above grey, above noise. {same_prediction} What the first column has beyond the second is the
hidden object's; what the second has beyond grey is any content's.

{control}

![µ×100 of every method, by what lies in the dead zone](figures/control.png)

![Maps of one upper part above each kind of lower part](figures/control-maps.png)

![Five photographs of two animals each and the maps of the paper's methods](figures/fig9.png)

The whole table is [figures/table1.md](figures/table1.md). The few photographs shown are of ImageNet
and Tiny-ImageNet, whose terms are non-commercial research.

## How it was made

By part d of `python -m benchmarks.gpu`, on {machine}; {versions}; {date}.
[params.yaml](params.yaml) is `presets/tiny-imagenet.yaml` with other values of `model.width`,
`model.dense`, `data.classes`, `train.epochs`, `train.batch_size`, `train.lr` ({lr}) and
`train.workers`; `data.root` was a zip of those classes and `stacks.photos` larger photographs of
some of them, so with your own paths there `dvc repro` makes the same. Training in {precision}.
Of commit `{commit}`.

It is not repeated with the rest (`.dvcignore` keeps DVC away), so it says what the code of that
commit found. What the GPU does with the dead zone and with every map, beside a processor, is in
[benchmarks/gpu.md](../../benchmarks/gpu.md).

## The paper's claims, on these networks

<!-- claims -->
<!-- /claims -->
"""


def write(folder: Path, root: Path, commit: str | None = None) -> Path:
    """Write the showcase below `root` and return its page. ValueError where the run has no Table 1.

    `commit`: what the run was made of, where run.json doesn't say; else the one checked out.
    """
    found = rows.read(folder)
    d, run = found["networks"], found["run"]
    if not (folder / "table1.csv").is_file() or "baseline" not in d.get("train", {}):
        raise ValueError(
            f"{folder}: holds no Table 1 of two trained networks; takes a run whose part d came "
            "to its end"
        )
    target = root / "showcase" / NAME
    figures, metrics = target / "figures", target / "metrics"
    for made in (figures, metrics):
        made.mkdir(parents=True, exist_ok=True)
    (target / "params.yaml").write_text(
        yaml.safe_dump(d["params"], sort_keys=False, allow_unicode=True), encoding="utf-8"
    )
    means = {
        "stack-mix": {
            name: mu for name, mu in d.get("activity", {}).items() if name != "uniform map"
        }
    }
    trained = {
        which: {k: v for k, v in scores.items() if k != "seconds"}
        for which, scores in d["train"].items()
    }
    claims.write_metrics(
        metrics,
        wall=d["wall"],
        train=trained,
        claims=d["claims"],
        activity=means,
        control=d["control"],
    )
    table = pd.read_csv(folder / "table1.csv")
    claims.write_table1(table, {"stack-gen": "photographs have no generator here."}, figures)
    draw(folder, d, table, figures)
    text = written(d, run, table, run.get("commit") or commit or head(root))
    (target / "README.md").write_text(report.filled(text, target), encoding="utf-8")
    return target / "README.md"


def draw(folder: Path, d: dict, table: pd.DataFrame, figures: Path) -> None:
    """The figures, as PNG: fig1, fig5, fig7, fig9, activity, methods and control."""
    plots.use_style(d["params"]["heat"])
    edge, size = d["wall"]["seen_rows"], d["wall"]["image_rows"]
    with zipfile.ZipFile(folder / "pictures.zip") as file:
        names = set(file.namelist())
        histories = {
            which: pd.read_csv(io.BytesIO(file.read(f"history-{which}.csv")))
            for which in d["train"]
        }
        kinds = [kind for kind in control.BELOW if f"activity-{carried.slug(kind)}.csv" in names]
        measured = {
            kind: pd.read_csv(io.BytesIO(file.read(f"activity-{carried.slug(kind)}.csv")))
            for kind in kinds
        }
    images, raw, classes = carried.shown(folder / "pictures.zip", control.SAME)
    mix = measured[control.SAME].assign(dataset="stack-mix")
    mu = mix.pivot(index="image", columns="method", values="mu")
    papers = [name for name in raw if name in claims.PAPER["stack-mix"]]
    claims.write_history(histories, figures)
    saved(plots.curves(histories), figures, "fig5")
    saved(
        plots.activity_plot(mix, claims.uniform_activity(d["wall"]["dead_share"])),
        figures,
        "activity",
    )
    one = int(
        (mu["GradCAM"][: len(images)] - mu["GradCAM"].quantile(0.75)).abs().fillna(np.inf).idxmin()
    )
    example = plots.example(
        images[one],
        raw["GradCAM"][one],
        cams.upscale(raw["GradCAM"][one][None], size)[0],
        d["wall"],
        "GradCAM",
    )
    saved(example, figures, "fig1")
    for name, count, methods in (
        ("fig7", 2, papers),
        ("fig9", 5, papers),
        ("methods", 1, list(raw)),
    ):
        count = min(count, len(images))
        laid = {method: cams.upscale(raw[method][:count], size) for method in methods}
        saved(plots.saliency_grid(images[:count], laid, classes[:count], edge, mu), figures, name)
    saved(
        control_plot(
            pd.DataFrame(d["control"]), 100 * claims.uniform_activity(d["wall"]["dead_share"])
        ),
        figures,
        "control",
    )
    saved(control_grid(folder, kinds, measured, edge, size), figures, "control-maps")


def control_plot(measured: pd.DataFrame, uniform: float) -> Figure:
    """µ×100 per method, a bar for what lies below the edge; dashed, a uniform map."""
    methods = [name for name in measured["method"].unique() if name not in ("HiResCAM", "LayerCAM")]
    kinds = [kind for kind in SHADES if kind in set(measured["below"])]
    means = measured.pivot(index="method", columns="below", values="mean").reindex(methods)[kinds]
    figure, ax = plt.subplots(figsize=(plots.WIDTH, 0.6 + 0.32 * len(methods)))
    tall = 0.8 / len(kinds)
    for place, kind in enumerate(kinds):
        ax.barh(
            np.arange(len(methods)) + (place + 0.5) * tall - 0.4,
            means[kind],
            tall,
            color=SHADES[kind],
            label=kind,
        )
    ax.axvline(uniform, color="0.3", linestyle="--", linewidth=0.8)
    ax.set_yticks(np.arange(len(methods)), methods)
    ax.invert_yaxis()
    ax.set_xlabel(f"activity in the dead zone, µ×100 (dashed: a uniform map, {uniform:.1f})")
    ax.legend(title="below the edge", loc="lower center", bbox_to_anchor=(0.5, 1), ncol=2)
    return figure


def control_grid(
    folder: Path, kinds: list[str], measured: dict[str, pd.DataFrame], edge: int, size: int
) -> Figure:
    """GradCAM of the same upper part above each kind of lower part, a row for each."""
    shown: list[Tensor] = []
    names, maps, mu = [], [], []
    for kind in kinds:
        images, raw, _ = carried.shown(folder / "pictures.zip", kind)
        shown.append(images[0])
        names.append(plots.broken(kind))
        maps.append(
            {
                name: cams.upscale(raw[name][:1], size)[0]
                for name in ("GradCAM", "GradCAM++", "HiResCAM")
                if name in raw
            }
        )
        mu.append(measured[kind][measured[kind]["image"] == 0].set_index("method")["mu"])
    laid = {name: [one[name] for one in maps] for name in maps[0]}
    return plots.saliency_grid(shown, laid, names, edge, pd.DataFrame(mu).reset_index(drop=True))


def saved(figure: Figure, folder: Path, name: str) -> None:
    """As every figure of a showcase: PNG alone."""
    plots.save(figure, folder, name)
    (folder / f"{name}.pdf").unlink()
    plt.close(figure)


def written(d: dict, run: dict, table: pd.DataFrame, commit: str) -> str:
    """The page, its blocks still empty."""
    p, train = d["params"], d["train"]
    photographs = p["data"]["name"] == "tiny-imagenet"
    fields = {
        "width": f"{p['model']['width']:g}",
        "dense": p["model"]["dense"],
        "epochs": d["epochs"],
        "classes": p["data"]["classes"],
        "train_images": f"{d['images']['train']:,}",
        "val_images": f"{d['images']['val']:,}",
        "source": "photographs of Tiny-ImageNet, 64 × 64 pixels scaled up"
        if photographs
        else "drawn",
        "rows": p["wall"]["rows"],
        "stacked": int(table["images"].max()),
        "top1": ", ".join(f"{which} {100 * s['top1']:.1f}%" for which, s in train.items()),
        "guessing": f"{100 / p['data']['classes']:.1f}%",
        "run_minutes": f"{run['minutes']:g}",
        "minutes": ", ".join(f"{which} {s['seconds'] / 60:.1f}" for which, s in train.items()),
        "same_prediction": same_prediction(d),
        "control": control_table(d["control"]),
        "machine": f"{run['device']}, {run['processor']}, {run['cores']} cores",
        "versions": ", ".join(run["versions"]),
        "date": run["date"],
        "precision": train["masked"]["precision"],
        "lr": f"{p['train']['lr']:g}",
        "commit": commit,
    }
    return PAGE.format(**fields)


def control_table(measured: list[dict]) -> str:
    """µ×100, mean ± standard deviation, a method per row, a kind of lower part per column."""
    table = pd.DataFrame(measured)
    kinds = [kind for kind in control.BELOW if kind in set(table["below"])]
    images = table.groupby("below")["images"].max()
    heads = " | ".join(f"{kind} ({images[kind]})" for kind in kinds)
    lines = [f"| µ×100, below (images) | {heads} |", "| --- |" + " ---: |" * len(kinds)]
    for method, group in table.groupby("method", sort=False):
        cells = {
            r.below: f"{r.mean:.1f} ± {r.std:.1f}"
            for r in group.itertuples()
            if not np.isnan(r.mean)
        }
        lines.append(f"| {method} | {' | '.join(cells.get(kind, '—') for kind in kinds)} |")
    return "\n".join(lines)


def same_prediction(d: dict) -> str:
    """Whether what lies below the edge ever changed the predicted class."""
    changed = [what for what, why in d["errors"].items() if why == networks.CHANGED]
    return (
        f"The predicted class changed ({', '.join(changed)})."
        if changed
        else "The predicted class is the same above all of them."
    )


def head(root: Path) -> str:
    """The commit that is checked out."""
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()
