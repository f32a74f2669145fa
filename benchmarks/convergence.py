"""From initialisation to convergence: what training does to the activity in the dead zone.

    python -m benchmarks.convergence            writes benchmarks/convergence.{csv,md,png}
    python -m benchmarks.convergence --images 6 --networks 4 --folder FOLDER    a rehearsal

The masked [VGG] of params.yaml is trained again, exactly as its stage trains it, and looked at
before the first step and after 1, 2, 4, 8, … steps: µ×100 of every method but the costly ones, on
the first images of both datasets. At initialisation stands Theorem 1's network, [CNN], beside it,
with more and more filters. Reads what the stages wall, data and stacks left here.
"""

import argparse
import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

from benchmarks.measure import activities, hardware, sources_commit
from walls.base import params, paths
from walls.figures import style
from walls.images import stacked
from walls.images.transforms import on_device
from walls.network.classifier import Classifier
from walls.paper.table1 import PAPER_TABLE
from walls.saliency.maps import saliency_maps
from walls.saliency.registry import COSTLY
from walls.theory import formulas
from walls.theory.cnn import CNN
from walls.training import job, loop

HERE = Path(__file__).resolve().parent
IMAGES, NETWORKS = 50, 100
FILTERS = (1, 4, 16, 64, 256, 1024)
CLASSES = 10  # logits of [CNN]; its map is of the predicted one
SHOWN = ("GradCAM", "GradCAM++", "XGradCAM", "AblationCAM", "EigenCAM", "HiResCAM", "RandomCAM")


def at_initialisation(networks: int, seed: int) -> pd.DataFrame:
    """GradCAM's µ on [CNN]'s raw maps (h, w): by drawn networks, and of the expected map.

    `expected`: µ of E[[GC]], which is that of ‖m‖₂ (Theorem 1), whatever V.
    """
    image = formulas.load_image("digits")
    size = formulas.sizes(image, 2, 2)
    whole = formulas.expected_gradcam(image, 256, 2, 2, 1.0)
    expected = np.linalg.norm(whole[size.wall :]) / np.linalg.norm(whole)
    pixels = torch.from_numpy(image)[None, None]
    rows = []
    for filters in FILTERS:
        found = []
        for number in range(networks):
            model = CNN(image.shape, filters, 2, 2, (CLASSES,), seed=seed + 1000 * number)
            b = model.features(pixels).detach().requires_grad_()
            logits = model.head(b)[0]
            (gradient,) = torch.autograd.grad(logits.max(), b)
            alpha = gradient.mean((2, 3), keepdim=True)
            cam = (alpha * b).sum(1).relu().detach()[0]
            if cam.any():
                found.append(float(cam[size.wall :].norm() / cam.norm()))
        mu = 100 * np.array(found)
        rows.append({"filters": filters, "mean": mu.mean(), "std": mu.std(ddof=1), "maps": len(mu)})
    return pd.DataFrame(rows).assign(expected=100 * expected)


class Watch:
    """µ×100 of every method on every image, whenever training has taken 0, 1, 2, 4, … steps."""

    def __init__(self, model: Classifier, images: dict, methods: list[str], last: int):
        self.model, self.images, self.methods = model, images, methods
        self.at = {0, last} | {2**power for power in range(last.bit_length())}
        self.rows: list[dict] = []

    def __call__(self, steps: int) -> None:
        """Look at the network after that many steps; nothing of the training is changed."""
        if steps not in self.at:
            return
        weight = next(self.model.parameters())
        self.model.eval()
        for dataset, pictures in self.images.items():
            batch = on_device(
                pictures, torch.zeros(len(pictures), dtype=torch.bool), weight.device, weight.dtype
            )
            maps = saliency_maps(self.model, batch, self.methods, progress=lambda _: None)
            for method, raw in maps.items():
                mu = activities(self.model, raw.float(), batch)
                for number, value in enumerate(mu.tolist()):
                    self.rows.append(
                        {
                            "steps": steps,
                            "dataset": dataset,
                            "method": method,
                            "image": number,
                            "mu": value,
                        }
                    )
        self.model.train()


def trained(images: int, folder: Path) -> tuple[pd.DataFrame, bool]:
    """The masked network's training, watched; and whether it gave the stage's weights."""
    p = params.load()
    own = job.job("masked", p.seed, p.image_size, p.data.classes, p.model, p.train)
    pictures = {
        dataset: stacked.read(paths.runs("stacks"), dataset, p.image_size)[1][:images]
        for dataset in PAPER_TABLE
    }
    methods = [name for name in p.cams.methods if name not in COSTLY]
    last = p.train.epochs * (len(own.train_set) // p.train.batch_size)
    watch = Watch(own.network, pictures, methods, last)
    # A folder of its own: with checkpoints it would not be watched from the start.
    loop.train(own.network, own.train_set, own.val_set, p.train, folder / "resume", watch)
    committed = load_file(paths.weights("masked"))
    found = own.network.state_dict()
    same = all(torch.equal(found[name], committed[name]) for name in committed)
    return pd.DataFrame(watch.rows), same


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and deviation over the images, a row per step, dataset and method."""
    keys = ["steps", "dataset", "method"]
    found = table.groupby(keys, sort=False)["mu"].agg(["mean", "std", "count"]).reset_index()
    return found.rename(columns={"count": "maps"})


def curves(start: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Left, [CNN] at initialisation by its filters; then [VGG] by training steps, by dataset."""
    style.use_style()
    figure, axes = plt.subplots(1, 3, figsize=(style.WIDTH, style.WIDTH / 2.6), sharey=True)
    axes[0].errorbar(
        start["filters"], start["mean"], start["std"], fmt="o", markersize=3, color="0.2"
    )
    axes[0].plot(start["filters"], start["expected"], "--", color=style.SEEN)
    axes[0].set(xscale="log", xlabel="filters", ylabel="µ×100", ylim=(0, 100))
    axes[0].set_title("[CNN], untrained", fontsize=style.SMALL + 1)
    for ax, dataset in zip(axes[1:], PAPER_TABLE, strict=True):
        own = table[table["dataset"] == dataset]
        for method in (name for name in SHOWN if name in set(own["method"])):
            line = own[own["method"] == method]
            ax.plot(line["steps"], line["mean"], marker="o", markersize=2, label=method)
        ax.set_xscale("symlog", linthresh=1)
        ax.set(xlabel="steps of training", xlim=(0, None))
        ax.set_title(f"[VGG], {dataset.upper()}", fontsize=style.SMALL + 1)
    axes[2].legend(fontsize=style.SMALL - 1, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def page(start: pd.DataFrame, table: pd.DataFrame, same: bool, images: int, commit: str) -> str:
    """What training removes and what it leaves, in numbers."""
    first, last = table["steps"].min(), table["steps"].max()
    rows = []
    for (dataset, method), own in table.groupby(["dataset", "method"], sort=False):
        own = own.set_index("steps")
        ends = [f"{own.loc[at, 'mean']:.1f} ± {own.loc[at, 'std']:.1f}" for at in (first, last)]
        least = own["mean"].idxmin()
        rows.append([dataset, method, *ends, f"{own.loc[least, 'mean']:.1f} (step {least})"])
    columns = ["dataset", "method", "before training", f"after {last} steps", "least"]
    shown = pd.DataFrame(rows, columns=columns)
    gradcam = table[table["method"] == "GradCAM"].set_index(["dataset", "steps"])["mean"]
    ends = "; ".join(
        f"{dataset.upper()}: {gradcam[dataset, first]:.1f} before training, {gradcam[dataset, last]:.1f} after"
        for dataset in PAPER_TABLE
    )
    weights = (
        "are those of that commit's run, bit for bit: looking changed nothing."
        if same
        else "are **not** those of that commit's run."
    )
    return f"""# From initialisation to convergence

`python -m benchmarks.convergence` of {commit[:7]} on {hardware(torch.device("cpu"), f"torch {torch.__version__}")}.
{" ".join((__doc__ or "").split(chr(10) + chr(10))[2].split())}

![µ by filters at initialisation, and by training steps](convergence.png)

*µ×100 in the dead zone. Left: GradCAM for the predicted of {CLASSES} classes on [CNN] at initialisation, mean and standard deviation
over {int(start["maps"].max())} networks by its number of filters; dashed, µ of Theorem 1's expected map, {start["expected"].iloc[0]:.1f}, whatever the number.
Middle and right: the masked [VGG] while it trains, mean over {images} images.*

GradCAM, mean µ×100 ({images} images). {ends}. So the wall is seen through from the first moment; training takes some of it away, and leaves the rest.
The weights at the end {weights}

{shown.to_markdown(index=False)}

One network, one seed. What other seeds give after training: `figures/by_network.csv`. `convergence.csv` has every step.
"""


def main(arguments: list[str]) -> int:
    """Measure both sides, draw them and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.convergence", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--images", type=int, default=IMAGES, help=f"default: {IMAGES}")
    parser.add_argument("--networks", type=int, default=NETWORKS, help=f"default: {NETWORKS}")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the page goes")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    commit, seed = sources_commit(), params.load().seed
    start = at_initialisation(given.networks, seed)
    resume = given.folder / ".convergence"
    table, same = trained(given.images, resume)
    shutil.rmtree(resume, ignore_errors=True)
    found = summary(table)
    whole = pd.concat([start.assign(network="[CNN]"), found.assign(network="masked [VGG]")])
    whole.round(4).to_csv(given.folder / "convergence.csv", index=False, lineterminator="\n")
    curves(start, found).savefig(given.folder / "convergence.png", dpi=150)
    text = page(start, found, same, given.images, commit)
    (given.folder / "convergence.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
