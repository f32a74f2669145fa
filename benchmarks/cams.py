"""Our saliency maps against pytorch-grad-cam's: the same network, the same images, in turn, in one
process.

    python -m benchmarks.cams            all of it; writes benchmarks/cams.{csv,md,png}
    python -m benchmarks.cams default    one part alone (paper, default or memory), printed

Twenty minutes on two cores, nearly all of it the library's ScoreCAM and AblationCAM at the paper's
geometry. Every repetition takes other images (IMAGES of them), handed over in one call; seconds are
per image, and what is reported is the median and the interquartile range. Opti-CAM, which the
library doesn't have, is compared with a plain loop of Definition 6, one image at a time, with its
authors' demo settings.
"""

import contextlib
import io
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytorch_grad_cam as library
import torch
from torch import Tensor, nn

from benchmarks.measure import clocked, hardware, quartiles
from walls.base import files
from walls.figures import style
from walls.network import architecture, classifier
from walls.saliency.activity import activity, upscale
from walls.saliency.maps import saliency_maps
from walls.saliency.methods import PAPERS

HERE = Path(__file__).resolve().parent
PEERS = {
    "GradCAM": library.GradCAM,
    "GradCAM++": library.GradCAMPlusPlus,
    "XGradCAM": library.XGradCAM,
    "HiResCAM": library.HiResCAM,
    "LayerCAM": library.LayerCAM,
    "EigenCAM": library.EigenCAM,
    "AblationCAM": library.AblationCAM,
    "ScoreCAM": library.ScoreCAM,
}
GRADIENT = ["GradCAM", "GradCAM++", "XGradCAM", "HiResCAM", "LayerCAM"]
GEOMETRIES = {
    "paper": {"width": 1, "dense": 4096, "classes": 1000, "batch_norm": False, "wall_rows": 9},
    "default": {"width": 0.125, "dense": 512, "classes": 10, "batch_norm": True, "wall_rows": 9},
}
# The methods that are compared together, and on how many images at once.
GROUPS = {
    "gradient family": GRADIENT,
    "EigenCAM": ["EigenCAM"],
    "AblationCAM": ["AblationCAM"],
    "ScoreCAM": ["ScoreCAM"],
    "Opti-CAM": ["Opti-CAM"],
}
IMAGES = {"gradient family": 2, "EigenCAM": 2, "AblationCAM": 1, "ScoreCAM": 1, "Opti-CAM": 2}
REPETITIONS = {"paper": 3, "default": 5}
STEPS, LR = 50, 0.1  # Opti-CAM's, its authors' demo
VERSIONS = [f"{package} {version(package)}" for package in ("torch", "grad-cam")]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Whole(nn.Module):
    """The network as a user hands it to the library: head(features(x)), full height."""

    def __init__(self, model: classifier.Classifier):
        super().__init__()
        self.features, self.head = model.features, model.head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def plain_opticam(network: Whole, images: Tensor, steps: int = STEPS, lr: float = LR) -> Tensor:
    """Definition 6 as its authors' code does it: Adam, a stop by the batch's summed loss; maps (N,
    h, w).
    """
    with torch.no_grad():
        features = network.features(images)
        logits = network.head(features)
        targets = logits.argmax(1, keepdim=True)
        before = logits.gather(1, targets)
    weights = torch.full((*features.shape[:2], 1, 1), 0.5, device=images.device, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=lr)
    last = float("inf")
    for step in range(steps):
        combined = (weights.softmax(1) * features).sum(1, keepdim=True)
        mask = nn.functional.interpolate(combined, images.shape[2:], mode="bilinear")
        low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
        loss = (before - network(images * (mask - low) / (high - low)).gather(1, targets)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 10) == 0:
            if loss.item() > last:
                break
            last = loss.item()
    return combined[:, 0].detach()


def theirs(name: str, network: Whole, images: Tensor) -> None:
    """One method by the peer's documented call."""
    if name == "Opti-CAM":
        for image in images.split(1):
            plain_opticam(network, image)
    else:
        with (
            contextlib.redirect_stderr(io.StringIO()),
            PEERS[name](network, [network.features[-1]]) as cam,
        ):
            cam(images, targets=None)
    network.zero_grad(set_to_none=True)


def ours(names: Sequence[str], model: classifier.Classifier, images: Tensor) -> dict[str, Tensor]:
    """Any methods by our one call."""
    options = {"Opti-CAM": {"steps": STEPS, "lr": LR}}
    return saliency_maps(model, images, names, options=options)


def compare(geometry: str) -> pd.DataFrame:
    """Seconds per image, ours and the library's, per group of methods and repetition (long)."""
    model = architecture.seeded(0, **GEOMETRIES[geometry]).eval().to(DEVICE)
    network = Whole(model)
    most = max(IMAGES.values())
    warm, *turns = _images(most * (REPETITIONS[geometry] + 1)).split(most)
    ours(["GradCAM", "EigenCAM", "AblationCAM"], model, warm)
    theirs("GradCAM", network, warm)
    rows = []
    for repetition, images in enumerate(turns):
        found, peer = [], {}
        for group, names in GROUPS.items():
            some = images[: IMAGES[group]]
            for name in names:
                peer[name] = _seconds_per_image(some, theirs, name, network, some)
            own = _seconds_per_image(some, ours, names, model, some)
            found.append({"methods": group, "library": sum(map(peer.get, names)), "ours": own})
        one = images[:1]
        own, library = _seconds_per_image(one, ours, PAPERS, model, one), map(peer.get, PAPERS)
        found.append({"methods": "Table 1's eight", "library": sum(library), "ours": own})
        for row in found:
            ratio = row["library"] / row["ours"]
            row |= {"geometry": geometry, "repetition": repetition, "ratio": ratio}
        print(pd.DataFrame(found).round(2).to_string(index=False), file=sys.stderr, flush=True)
        rows += found
    return pd.DataFrame(rows)


def reduced_precision(geometry: str, images: int = 4) -> dict[str, float]:
    """What bfloat16 gains and costs: the time of Table 1's methods but ScoreCAM (2 steps of
    Opti-CAM), the change of μ×100.

    The largest change of any but EigenCAM, whose sign another rounding may turn.
    """
    model, batch = architecture.seeded(0, **GEOMETRIES[geometry]).eval().to(DEVICE), _images(images)
    zone, names = model.zone(224), [name for name in PAPERS if name != "ScoreCAM"]

    def maps() -> dict[str, Tensor]:
        return saliency_maps(model, batch, names, options={"Opti-CAM": {"steps": 2}})

    found, times = {}, {}
    for kind in ("float32", "bfloat16"):
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=kind == "bfloat16"):
            maps()
            times[kind] = clocked(lambda kind=kind: found.update({kind: maps()}), DEVICE)
    changes = []
    for name in names:
        if name != "EigenCAM":
            maps_of = (found[kind][name].cpu() for kind in ("float32", "bfloat16"))
            exact, rough = (activity(upscale(raw, 224), zone) for raw in maps_of)
            changes.append(float((exact - rough).abs().nan_to_num().max()))
    return {
        "speed-up": times["float32"] / times["bfloat16"],
        "largest change of µ×100": 100 * max(changes),
    }


def memory() -> float:
    """GB beyond the weights, at the paper's geometry: the peak over 100 images in batches of 32.

    The gradient family, EigenCAM and AblationCAM see all 100; Opti-CAM takes one step of one batch
    of 32, ScoreCAM one image's 256 masks, 32 at a time: what they hold at once doesn't grow with
    more of either.
    """
    model = architecture.seeded(0, **GEOMETRIES["paper"]).eval().to(DEVICE)
    images = _images(100)
    before = _peak()
    saliency_maps(model, images, [*GRADIENT, "EigenCAM", "AblationCAM"])
    saliency_maps(model, images[:32], ["Opti-CAM"], options={"Opti-CAM": {"steps": 1}})
    saliency_maps(model, images[:1], ["ScoreCAM"])
    return _peak() - before


def page(measured: pd.DataFrame, rounding: dict[str, dict], gigabytes: float) -> str:
    """The committed page."""
    rows = []
    for (geometry, methods), group in measured.groupby(["geometry", "methods"], sort=False):
        cells = (
            quartiles(group[column], digits)
            for column, digits in (("library", 2), ("ours", 2), ("ratio", 1))
        )
        rows.append(f"| {geometry} | {methods} | {len(group)} | {' | '.join(cells)}× |")
    at_once = ", ".join(f"{group} {n}" for group, n in IMAGES.items())
    geometries = "; ".join(f"{name}: {network}" for name, network in GEOMETRIES.items())
    gains = []
    for geometry, gain in rounding.items():
        said = ", ".join(f"{name} {value:.2f}" for name, value in gain.items())
        gains.append(
            f"bfloat16 (off by default), {geometry}'s geometry, Table 1's methods but ScoreCAM: "
            f"{said} (but EigenCAM's)."
        )
    table, reduced = "\n".join(rows), "\n".join(gains)
    return f"""# Saliency maps: pytorch-grad-cam against ours

{hardware(DEVICE, *VERSIONS)}; float32. Median seconds per image, interquartile range in brackets; the
ratio is library / ours, per repetition. Made by `python -m benchmarks.cams`.

| geometry | methods | n | library (s) | ours (s) | ratio |
| --- | --- | ---: | ---: | ---: | ---: |
{table}

Images at once: {at_once}; Table 1's eight 1.
Geometries: {geometries}, 224×224 pixels.
The gradient family: {", ".join(GRADIENT)}; the library runs forward and backward for each.
Opti-CAM: at most {STEPS} steps at {LR}; its peer is a plain loop of Definition 6.
Table 1's eight: one call of ours; for the library, the sum of its calls.

{reduced}

Memory at the paper's geometry, 100 images, batches of 32: {gigabytes:.2f} GB beyond the weights.
"""


def plot(measured: pd.DataFrame) -> None:
    """The ratios as bars with their interquartile range, a geometry each."""
    style.use_style()
    figure, axes = plt.subplots(1, 2, figsize=(style.WIDTH, style.WIDTH / 2.8), sharey=True)
    for ax, (geometry, part) in zip(axes, measured.groupby("geometry", sort=False), strict=False):
        groups = part.groupby("methods", sort=False)["ratio"]
        middle = groups.median()
        spread = [middle - groups.quantile(0.25), groups.quantile(0.75) - middle]
        ax.barh(middle.index, middle, xerr=spread, color=style.SEEN, error_kw={"linewidth": 0.8})
        ax.axvline(1, color="0.3", linewidth=0.8)
        ax.set(xscale="log", xlabel="times faster than the library", title=f"{geometry}'s geometry")
        for y, value in enumerate(middle):
            ax.text(value * 1.15, y, f"{value:.1f}×", va="center", fontsize=8)
        ax.set_xlim(0.8, middle.max() * 4)
    axes[0].invert_yaxis()
    figure.savefig(HERE / "cams.png", metadata={"Software": None})


def _seconds_per_image(images: Tensor, work: Callable, *arguments: object) -> float:
    return clocked(lambda: work(*arguments), DEVICE) / len(images)


def _images(n: int) -> Tensor:
    coarse = torch.randn(n, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    return 1.5 * nn.functional.interpolate(coarse, (224, 224), mode="bilinear").to(DEVICE)


def _peak() -> float:
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux


def main(arguments: list[str]) -> int:
    """Run a part, or all of it and write the page."""
    if arguments == ["memory"]:
        print(f"{memory():.2f}")
    elif arguments and arguments[0] in GEOMETRIES:
        print(compare(arguments[0]).drop(columns="geometry").round(3).to_string(index=False))
    elif arguments:
        print(
            f"benchmarks.cams: got {arguments[0]}; takes {', '.join(GEOMETRIES)}, memory or "
            "nothing",
            file=sys.stderr,
        )
        return 1
    else:
        # Its own process: the peak of a process never falls again.
        gigabytes = float(
            subprocess.check_output([sys.executable, "-m", "benchmarks.cams", "memory"], text=True)
        )
        measured = pd.concat([compare(geometry) for geometry in GEOMETRIES], ignore_index=True)
        rounding = {geometry: reduced_precision(geometry) for geometry in GEOMETRIES}
        files.write_csv(measured, HERE / "cams.csv", digits=4)
        (HERE / "cams.md").write_text(page(measured, rounding, gigabytes), encoding="utf-8")
        plot(measured)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
