"""showcase/tiny-imagenet-gpu, from what part d of a run left: page, figures, metrics."""

import io
import re
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.gpu import carried, control, networks, rows
from walls.base import files
from walls.figures import pictures, style
from walls.network.geometry import DeadZone
from walls.paper import plots, results, table1
from walls.project import documents
from walls.saliency import activity

NAME = "tiny-imagenet-gpu"
SHADES = {
    "another of the class": style.DEAD,
    "one of another class": style.SEEN,
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
class, above grey, above noise, on the images that the run came to above all of them.
{same_prediction}
What the first column has beyond the second is the hidden object's: the last column, image by image.
What the second has beyond grey is any content's.

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


def write(
    folder: Path, root: Path, commit: str | None = None, leave_out: Sequence[int] = ()
) -> Path:
    """Write the showcase below `root` and return its page. ValueError where the run has no Table 1.

    `commit`: what the run was made of, where run.json doesn't say; else the one checked out.
    `leave_out`: stacked images, by their places, that no figure is to show (such as of people).
    """
    found = rows.read(folder)
    d, run = found["networks"], found["run"]
    if not (folder / "table1.csv").is_file() or "baseline" not in d.get("train", {}):
        raise ValueError(
            f"{folder}: holds no Table 1 of two trained networks; takes a run whose part d came to "
            "its end"
        )
    whole = resolved(run.get("commit") or commit or "HEAD")
    target = root / "showcase" / NAME
    figures, metrics = target / "figures", target / "metrics"
    for made in (figures, metrics):
        made.mkdir(parents=True, exist_ok=True)
    parameters = yaml.safe_dump(d["params"], sort_keys=False, allow_unicode=True)
    (target / "params.yaml").write_text(parameters, encoding="utf-8")
    table = pd.read_csv(folder / "table1.csv")
    measured = read_activity(folder)
    compared, images = control.paired(measured)
    means = table[table["method"] != "uniform map"].set_index("method")["mean"].round(3)
    results.write_metrics(
        metrics,
        wall=d["wall"],
        train={w: {k: v for k, v in s.items() if k != "seconds"} for w, s in d["train"].items()},
        claims=d["claims"],
        activity={"stack-mix": means.to_dict()},
    )
    files.write_csv(compared, figures / "control.csv", digits=4)
    table1.write_table1(table, {"stack-gen": "photographs have no generator here."}, figures)
    shown = [place for place in range(carried.SHOWN) if place not in leave_out]
    draw(folder, d, measured, compared, shown, figures)
    text = written(d, run, table, control_table(compared, measured, images), whole)
    (target / "README.md").write_text(documents.filled(text, target), encoding="utf-8")
    return target / "README.md"


def read_activity(folder: Path) -> dict[str, pd.DataFrame]:
    """Every image's µ above each kind of lower part that the run came to."""
    found = {}
    with zipfile.ZipFile(folder / "pictures.zip") as file:
        for kind in control.BELOW:
            name = f"activity-{carried.slug(kind)}.csv"
            if name in file.namelist():
                found[kind] = pd.read_csv(io.BytesIO(file.read(name)))
    return found


def read_histories(folder: Path) -> dict[str, pd.DataFrame]:
    """Both networks' training, epoch by epoch."""
    with zipfile.ZipFile(folder / "pictures.zip") as file:
        return {
            which: pd.read_csv(io.BytesIO(file.read(f"history-{which}.csv")))
            for which in ("masked", "baseline")
        }


def draw(
    folder: Path,
    d: dict,
    measured: dict[str, pd.DataFrame],
    compared: pd.DataFrame,
    shown: list[int],
    figures: Path,
) -> None:
    """The figures, as PNG: fig1, fig5, fig7, fig9, activity, methods, control, control-maps."""
    style.use_style(d["params"]["heat"])
    wall = d["wall"]
    zone = DeadZone(
        (wall["seen_rows"], wall["map_rows"] - wall["wall_rows"]),
        (wall["image_rows"], wall["map_rows"]),
    )
    uniform = activity.uniform_activity(zone.dead_share)
    histories = read_histories(folder)
    results.write_history(histories, figures)
    saved(plots.training_curves(histories), figures, "fig5")
    mix = measured[control.SAME].assign(dataset="stack-mix")
    saved(plots.activity_plot(mix, uniform), figures, "activity")

    images, raw, classes = carried.shown(folder / "pictures.zip", control.SAME)
    shown = [place for place in shown if place < len(images)]
    mu = mix.pivot(index="image", columns="method", values="mu").loc[shown]
    middle = measured[control.SAME].groupby("method")["mu"].quantile(0.75)["GradCAM"]
    one = int((mu["GradCAM"] - middle).abs().fillna(np.inf).idxmin())
    drawn = plots.example(images[one], raw["GradCAM"][one], zone, "GradCAM")
    saved(drawn, figures, "fig1")
    every = [name for name in mix["method"].unique() if name in raw]
    papers = [name for name in every if name in table1.PAPER_TABLE["stack-mix"]]
    for name, number, names in (("fig7", 2, papers), ("fig9", 5, papers), ("methods", 1, every)):
        at = shown[:number]
        laid = {method: activity.upscale(raw[method][at], zone.image_rows) for method in names}
        labels = [classes[place] for place in at]
        saved(pictures.saliency_grid(images[at], laid, labels, zone, mu), figures, name)
    saved(control_plot(compared, 100 * uniform), figures, "control")
    saved(control_grid(folder, measured, zone, shown[0]), figures, "control-maps")


def control_plot(compared: pd.DataFrame, uniform: float) -> Figure:
    """µ×100 per method, a bar for what lies below the edge; dashed, a uniform map."""
    kinds = [kind for kind in SHADES if kind in compared]
    shown = compared[compared[kinds].to_numpy().max(axis=1) > 0]  # HiResCAM and its kin are empty
    figure, ax = plt.subplots(figsize=(style.WIDTH, 0.6 + 0.32 * len(shown)))
    tall = 0.8 / len(kinds)
    for place, kind in enumerate(kinds):
        heights = np.arange(len(shown)) + (place + 0.5) * tall - 0.4
        ax.barh(heights, shown[kind], tall, color=SHADES[kind], label=kind)
    ax.axvline(uniform, color="0.3", linestyle="--", linewidth=0.8)
    ax.set_yticks(np.arange(len(shown)), shown["method"])
    ax.invert_yaxis()
    ax.set_xlabel(f"activity in the dead zone, µ×100 (dashed: a uniform map, {uniform:.1f})")
    ax.legend(title="below the edge", loc="lower center", bbox_to_anchor=(0.5, 1), ncol=2)
    return figure


def control_grid(
    folder: Path, measured: dict[str, pd.DataFrame], zone: DeadZone, place: int
) -> Figure:
    """Maps of one image's upper part above each kind of lower part, a row for each."""
    images: list[Tensor] = []
    laid: dict[str, list[Tensor]] = {"GradCAM": [], "GradCAM++": [], "HiResCAM": []}
    mu = []
    for kind, table in measured.items():
        some, raw, _ = carried.shown(folder / "pictures.zip", kind)
        images.append(some[place])
        mu.append(table[table["image"] == place].set_index("method")["mu"])
        for name, maps in laid.items():
            maps.append(activity.upscale(raw[name][place][None], zone.image_rows)[0])
    names = [pictures.broken(kind) for kind in measured]
    return pictures.saliency_grid(
        images, laid, names, zone, pd.DataFrame(mu).reset_index(drop=True)
    )


def saved(figure: Figure, folder: Path, name: str) -> None:
    """As every figure of a showcase: PNG alone."""
    style.save(figure, folder, name)
    (folder / f"{name}.pdf").unlink()
    plt.close(figure)


def written(d: dict, run: dict, table: pd.DataFrame, compared: str, commit: str) -> str:
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
        "control": compared,
        "machine": f"{run['device']}, {run['processor']}, {run['cores']} cores",
        "versions": ", ".join(run["versions"]),
        "date": run["date"],
        "precision": train["masked"]["precision"],
        "lr": f"{p['train']['lr']:g}",
        "commit": commit,
    }
    return PAGE.format(**fields)


def control_table(compared: pd.DataFrame, measured: dict[str, pd.DataFrame], images: int) -> str:
    """Mean µ×100, a method per row, a kind of lower part per column, and what the first has more."""
    kinds = list(measured)
    heads = [f"µ×100 ({images} images)", *kinds, "the first beyond the second [95%]"]
    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(kinds) + 1)]
    for r in compared.to_dict("records"):
        cells = [f"{r[kind]:.1f}" for kind in kinds]
        beyond = f"{r['beyond']:+.1f} [{r['beyond_low']:+.1f}, {r['beyond_high']:+.1f}]"
        lines.append(f"| {r['method']} | {' | '.join([*cells, beyond])} |")
    return "\n".join([*lines, "", object_seen(compared)])


def object_seen(compared: pd.DataFrame) -> str:
    """Of which methods the hidden object makes a difference that its interval tells from none."""
    apart = (compared["beyond_low"] > 0) | (compared["beyond_high"] < 0)
    names = ", ".join(compared["method"][apart])
    if not names:
        return "Every interval holds 0: these images show no effect of the hidden object's class."
    return f"Intervals without 0, so that the hidden object's class has an effect: {names}."


def same_prediction(d: dict) -> str:
    """Whether what lies below the edge ever changed the predicted class."""
    changed = [what for what, why in d["errors"].items() if why == networks.CHANGED]
    return (
        f"The predicted class changed ({', '.join(changed)})."
        if changed
        else "The predicted class is the same above all of them."
    )


def resolved(commit: str) -> str:
    """A commit's whole name; ValueError where it is short for none of this repository."""
    if re.fullmatch(r"[0-9a-f]{40}", commit):
        return commit
    command = ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"--commit: got {commit}; takes a commit of this repository")
    return done.stdout.strip()
