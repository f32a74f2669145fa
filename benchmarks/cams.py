"""Our saliency maps against other libraries': the same network and images, in turn, in one process.

    python -m benchmarks.cams            all of it; writes benchmarks/cams.{csv,json,md,png}
    python -m benchmarks.cams default    these parts again, in the others' place: paper, default,
                                         quarter (ScoreCAM, the cores idle and one of them busy),
                                         efficientnet-lite0 (cams_real.py), memory

An hour on two cores, nearly all of it the libraries' ScoreCAM and AblationCAM. What is compared is
of one part, and so of one run.
Every repetition takes other images (IMAGES of them), handed over in one call; seconds are
per image, and what is reported is the median and the interquartile range. Opti-CAM, which the
library doesn't have, is compared with a plain loop of Definition 6, one image at a time, with its
authors' demo settings.
"""

import json
import math
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks import cams_real
from benchmarks.measure import clocked, hardware, one_core_busy, quartiles
from benchmarks.peers import BLOCK, GRADIENT, LIBRARY, PEERS, Whole, by_grad_cam
from walls.base import files
from walls.figures import style
from walls.network import architecture, classifier
from walls.saliency.activity import activity, upscale
from walls.saliency.maps import saliency_maps
from walls.saliency.methods import PAPERS

HERE = Path(__file__).resolve().parent
GEOMETRIES = {
    "paper": {"width": 1, "dense": 4096, "classes": 1000, "batch_norm": False, "wall_rows": 9},
    "default": {"width": 0.125, "dense": 512, "classes": 10, "batch_norm": True, "wall_rows": 9},
    "quarter": {"width": 0.25, "dense": 512, "classes": 10, "batch_norm": True, "wall_rows": 9},
}
ALL = ("paper", "default")  # the geometries at which every method is compared
# The methods that are compared together, and on how many images at once.
GROUPS = {
    "gradient family": GRADIENT,
    "EigenCAM": ["EigenCAM"],
    "AblationCAM": ["AblationCAM"],
    "ScoreCAM": ["ScoreCAM"],
    "Opti-CAM": ["Opti-CAM"],
}
IMAGES = {"gradient family": 2, "EigenCAM": 2, "AblationCAM": 1, "ScoreCAM": 1, "Opti-CAM": 2}
REPETITIONS = {"paper": 3, "default": 5, "quarter": 5}
GROUPED = ["geometry", "methods", "peer"]
BUSY = "ScoreCAM, one core busy"
# How many times as fast as the library ScoreCAM is to be, by geometry and methods, at least.
BARS = {
    ("paper", "ScoreCAM"): 2.0,
    ("paper", BUSY): 2.0,
    ("default", "ScoreCAM"): 2.5,
    ("default", BUSY): 2.0,
    ("quarter", "ScoreCAM"): 2.5,
    ("quarter", BUSY): 2.0,
}
STEPS, LR = 50, 0.1  # Opti-CAM's, its authors' demo
VERSIONS = [f"{package} {version(package)}" for package in ("torch", "grad-cam", "torchcam")]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def plain_opticam(network: Whole, images: Tensor, steps: int = STEPS, lr: float = LR) -> Tensor:
    """Definition 6 as its authors' code does it, (N, h, w): Adam, a stop by the batch's summed loss.

    Pixels in [0, 1] are masked, and normalised as part of the network; the map is of the weights
    after the last update.
    """
    mean, std = network.normalised or ([0.0], [1.0])
    mean, std = (images.new_tensor(values)[:, None, None] for values in (mean, std))
    pixels = images * std + mean
    with torch.no_grad():
        features = network.features(images)
        logits = network.head(features)
        targets = logits.argmax(1, keepdim=True)
        before = logits.gather(1, targets)
    weights = torch.full_like(features[:, :, :1, :1], 0.5, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=lr)
    last = float("inf")
    for step in range(steps):
        combined = (weights.softmax(1) * features).sum(1, keepdim=True)
        mask = nn.functional.interpolate(combined, images.shape[2:], mode="bilinear")
        low, high = mask.amin((2, 3), keepdim=True), mask.amax((2, 3), keepdim=True)
        shown = pixels * (mask - low) / (high - low)
        loss = (before - network((shown - mean) / std).gather(1, targets)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % max(1, steps // 10) == 0:
            if loss.item() > last:
                break
            last = loss.item()
    return (weights.softmax(1) * features).sum(1).detach()


def theirs(name: str, network: Whole, images: Tensor) -> None:
    """One method by the peer's documented call."""
    if name == "Opti-CAM":
        for image in images.split(1):
            plain_opticam(network, image)
        network.zero_grad(set_to_none=True)
    else:
        by_grad_cam([name], network, network.features[-1], images)


def in_a_block(network: Whole, images: Tensor) -> None:
    """The library's AblationCAM as its own header advises, the whole backbone as the layer.

    So what lies before the layer isn't computed again for every channel.
    """
    by_grad_cam(["AblationCAM"], network, network.features, images)


def ours(names: Sequence[str], model: classifier.Classifier, images: Tensor) -> dict[str, Tensor]:
    """Any methods by our one call; ScoreCAM masks as the library's."""
    options = {"Opti-CAM": {"steps": STEPS, "lr": LR}, "ScoreCAM": {"hidden": "mean"}}
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
            whose = LIBRARY if group in PEERS or group == "gradient family" else "a plain loop"
            found.append(_row(group, whose, sum(map(peer.get, names)), own))
            if group == "gradient family":
                own = _seconds_per_image(some, ours, ["GradCAM"], model, some)
                found.append(_row("GradCAM", LIBRARY, peer["GradCAM"], own))
            if group == "AblationCAM":
                block = _seconds_per_image(some, in_a_block, network, some)
                found.append(_row(group, BLOCK, block, own))
        one = images[:1]
        own, library = _seconds_per_image(one, ours, PAPERS, model, one), map(peer.get, PAPERS)
        found.append(_row("Table 1's eight", LIBRARY, sum(library), own))
        for row in found:
            row |= {"geometry": geometry, "repetition": repetition}
        print(pd.DataFrame(found).round(2).to_string(index=False), file=sys.stderr, flush=True)
        rows += found
    return pd.DataFrame(rows)


def loaded(geometry: str, idle: bool = False) -> pd.DataFrame:
    """ScoreCAM's seconds per image while another process keeps one core busy (long).

    `idle`: also without it, in turn.
    """
    model = architecture.seeded(0, **GEOMETRIES[geometry]).eval().to(DEVICE)
    network = Whole(model)
    warm, *turns = _images(REPETITIONS[geometry] + 1).split(1)
    ours(["GradCAM"], model, warm)
    theirs("GradCAM", network, warm)
    rows = []
    for repetition, image in enumerate(turns):
        for methods, load in ("ScoreCAM", nullcontext), (BUSY, one_core_busy):
            if methods == BUSY or idle:
                with load():
                    peer = _seconds_per_image(image, theirs, "ScoreCAM", network, image)
                    own = _seconds_per_image(image, ours, ["ScoreCAM"], model, image)
                row = _row(methods, LIBRARY, peer, own)
                rows.append(row | {"geometry": geometry, "repetition": repetition})
                print(rows[-1], file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def judged(measured: pd.DataFrame) -> str:
    """ScoreCAM's bars and what its median ratio is, in a line each."""
    medians = measured[measured["peer"] == LIBRARY].groupby(GROUPED[:2])["ratio"].median()
    return "\n".join(
        f"- {methods}, {geometry}'s geometry: at least {bar:.1f}×; {medians[geometry, methods]:.1f}×, "
        f"{'met' if medians[geometry, methods] >= bar else 'not met'}."
        for (geometry, methods), bar in BARS.items()
        if (geometry, methods) in medians
    )


def _row(methods: str, peer: str, library: float, own: float) -> dict:
    """A group's seconds per image, whose they are compared with, and the ratio."""
    return {
        "methods": methods,
        "peer": peer,
        "library": library,
        "ours": own,
        "ratio": library / own,
    }


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
    for (geometry, methods, peer), group in measured.groupby(GROUPED, sort=False):
        cells = [
            quartiles(group[column], digits)
            for column, digits in (("library", 2), ("ours", 2), ("ratio", 1))
        ]
        maps = group["apart"].max()
        cells[-1] += "×"
        cells.append("" if math.isnan(maps) else f"{maps:.0e}")
        rows.append(f"| {' | '.join([geometry, methods, peer, str(len(group)), *cells])} |")
    at_once = ", ".join(f"{group} {n}" for group, n in IMAGES.items())
    geometries = pd.DataFrame(GEOMETRIES).T.rename_axis("geometry").to_markdown()
    gains = []
    for geometry, gain in rounding.items():
        said = ", ".join(f"{name} {value:.2f}" for name, value in gain.items())
        gains.append(
            f"bfloat16 (off by default), {geometry}'s geometry, Table 1's methods but ScoreCAM: "
            f"{said} (but EigenCAM's)."
        )
    table, reduced = "\n".join(rows), "\n".join(gains)
    return f"""# Saliency maps: other libraries against ours

{hardware(DEVICE, *VERSIONS)}; float32. Median seconds per image, interquartile range in brackets; the
ratio is library / ours, per repetition. Made by `python -m benchmarks.cams`.

| geometry | methods | against | n | library (s) | ours (s) | ratio | maps apart |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |
{table}

Geometries of [VGG], with random weights, on noise of 224×224 pixels:

{geometries}

{cams_real.NAME}: its ImageNet weights behind `walls.behind`, two photographs stacked to 448×224, the libraries on `model.layer`; one
map at once of AblationCAM and ScoreCAM, two of the others. [VGG]'s images at once: {at_once}; Table 1's eight 1.

The gradient family: {", ".join(GRADIENT)}; the library runs forward and backward for each.
GradCAM alone stands beside the family: a user who wants one map gains less than one who compares methods.
AblationCAM: with the target layer that GradCAM takes, as in the library's examples, and so most users' way; in
a block: the whole backbone as the layer, as the header of its AblationCAM advises, the way of who has read it.
ScoreCAM: ours masks the normalised image, as the library (`hidden` "mean"). One core busy: by a process that the
benchmark starts; ours shares out parts of the work, each on one thread, and no layer waits for that core.
Opti-CAM: at most {STEPS} steps at {LR}, pixels masked; its peer is a plain loop of Definition 6.
Table 1's eight: one call of ours; for the library, the sum of its calls.
Maps apart: the largest difference of any score, both maps from 0 to 1. torch-cam's ScoreCAM upscales its
masks without `align_corners`, so that its maps are others.

ScoreCAM is to be, at the median:

{judged(measured)}

{reduced}

Memory at the paper's geometry, 100 images, batches of 32: {gigabytes:.2f} GB beyond the weights.
"""


def plot(measured: pd.DataFrame) -> None:
    """The ratios as bars with their interquartile range, a geometry below the other."""
    style.use_style()
    parts = list(measured.groupby("geometry", sort=False))
    bars = [part.groupby(GROUPED[1:], sort=False).ngroups for _, part in parts]
    figure, axes = plt.subplots(
        len(parts),
        1,
        figsize=(style.WIDTH, 0.17 * sum(bars) + 0.5 * len(bars)),
        height_ratios=bars,
        sharex=True,
    )
    for ax, (geometry, part) in zip(axes, parts, strict=True):
        groups = part.groupby(GROUPED[1:], sort=False)["ratio"]
        middle = groups.median()
        low, high = groups.quantile(0.25), groups.quantile(0.75)
        names = [f"{methods}, {_short(peer)}" for methods, peer in middle.index]
        spread = [middle - low, high - middle]
        ax.barh(names, middle, xerr=spread, color=style.SEEN, error_kw={"linewidth": 0.8})
        ax.axvline(1, color="0.3", linewidth=0.8)
        title = geometry if geometry == cams_real.NAME else f"{geometry}'s geometry"
        ax.set(xscale="log", title=title)
        for y, (value, end) in enumerate(zip(middle, high, strict=True)):
            ax.text(end * 1.15, y, _times(value), va="center", fontsize=7)
        ax.set_ylim(len(names) - 0.4, -0.6)
    axes[0].set_xlim(0.4, measured["ratio"].max() * 6)
    axes[-1].set_xlabel("times faster than the other")
    figure.savefig(HERE / "cams.png", metadata={"Software": None})


def _times(ratio: float) -> str:
    """A ratio with as many digits as one reads."""
    return f"{ratio:.0f}×" if ratio >= 100 else f"{ratio:.1f}×"


def _short(peer: str) -> str:
    """A peer's name as a label has room for it."""
    return peer.replace("pytorch-grad-cam", "grad-cam")


def _seconds_per_image(images: Tensor, work: Callable, *arguments: object) -> float:
    return clocked(lambda: work(*arguments), DEVICE) / len(images)


def _images(n: int) -> Tensor:
    coarse = torch.randn(n, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    return 1.5 * nn.functional.interpolate(coarse, (224, 224), mode="bilinear").to(DEVICE)


def _peak() -> float:
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux


def measure(part: str) -> pd.DataFrame:
    """One part's rows: a geometry's, or those of a network in use (long)."""
    if part == cams_real.NAME:
        return cams_real.compare()
    if part in ALL:
        return pd.concat([compare(part), loaded(part)], ignore_index=True)
    return loaded(part, idle=True)


def main(arguments: list[str]) -> int:
    """Measure all parts, or some of them again, and write the page."""
    parts = [*GEOMETRIES, cams_real.NAME]
    if arguments == ["peak"]:
        print(f"{memory():.2f}")
        return 0
    unknown = [part for part in arguments if part not in (*parts, "memory")]
    if unknown:
        takes = ", ".join([*parts, "memory"])
        print(f"benchmarks.cams: got {unknown[0]}; takes {takes} or nothing", file=sys.stderr)
        return 1
    table, notes = HERE / "cams.csv", HERE / "cams.json"
    known = pd.read_csv(table) if arguments else pd.DataFrame({"geometry": []})
    said = json.loads(notes.read_text()) if arguments else {}
    for part in arguments or [*parts, "memory"]:
        if part == "memory":
            # Its own process: the peak of a process never falls again.
            command = [sys.executable, "-m", "benchmarks.cams", "peak"]
            said[part] = float(subprocess.check_output(command, text=True))
            continue
        known = pd.concat([known[known["geometry"] != part], measure(part)], ignore_index=True)
        if part in ALL:
            said[part] = reduced_precision(part)
    places = known["geometry"].map(parts.index)
    measured = known.loc[places.sort_values(kind="stable").index]
    files.write_csv(measured, table, digits=7)
    files.write_json(said, notes)
    rounding = {geometry: said[geometry] for geometry in ALL}
    (HERE / "cams.md").write_text(page(measured, rounding, said["memory"]), encoding="utf-8")
    plot(measured)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
