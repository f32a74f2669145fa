"""50,000 stacked images through STACK-MIX and the gradient family: the cost of each, the memory, a
kill half-way.

    python -m benchmarks.scale                  writes benchmarks/scale.{csv,md,png}
    python -m benchmarks.scale --images 1000    a rehearsal, printed

Half an hour on two cores, and 4 GB of disk in .resume/ while it runs. The images are the default's
drawn animals, 2,000 of them, which make 398,000 pairs; the network is the default's, an eighth of
VGG16's width, with fresh weights: what a map costs doesn't depend on their values. Both steps run
in processes of their own, each in one call for all images, looked at from outside once a second.
The evaluation is killed (SIGKILL) half-way and started again; some of its images are computed anew
in a fresh process and compared. Last, the page reckons what all of ImageNet's validation images
would take, from the paces in cams.csv and gpu.csv.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import psutil
import torch
from scipy import stats

from benchmarks.cams import DEVICE, GEOMETRIES, GRADIENT, VERSIONS
from benchmarks.measure import hardware
from walls.base import files, paths
from walls.figures import style
from walls.images import loaders, stacked
from walls.network import architecture, classifier
from walls.paper.table1 import PAPER_TABLE
from walls.saliency import evaluation
from walls.saliency.settings import Cams
from walls.sources import manifest
from walls.sources.settings import Data
from walls.stacks import build as stacks
from walls.stacks.settings import Stacks

HERE = Path(__file__).resolve().parent
SIZE, SEED = 224, 0
PHOTOGRAPHS = 2000  # validation images to cut stacked ones from
AGAIN = 512  # stacked images that are computed once more
SETTINGS = Cams(
    methods=GRADIENT, batch_size=32, precision="float32", opticam_steps=1, opticam_lr=0.1
)
IMAGENET, GPUS = 50_000, (1, 8, 64)
# Seconds until a process has loaded torch and its network, a GPU's first kernels mostly: assumed.
STARTING = 30
READER = "loader, photographs, JPEG, 500 × 375"  # in gpu.csv


def network() -> classifier.Classifier:
    """The default's, with fresh weights, behind the paper's wall."""
    return architecture.seeded(SEED, **GEOMETRIES["default"]).eval()


def draw(folder: Path, images: int) -> None:
    """The images to cut from, and STACK-MIX cut from them."""
    source = Data(name="critters", root=None, classes=10, train_images=10, val_images=PHOTOGRAPHS)
    if not (folder / "set" / "manifest.csv").is_file():
        manifest.build(source, SEED, SIZE, folder / "set")
    settings = Stacks(images=images, mix_dir=None, gen_dir=None, generator=None)
    (folder / "stacks").mkdir(parents=True, exist_ok=True)
    photographs = loaders.read_manifest(folder / "set", "val")
    zone, rejects = network().zone(SIZE), paths.root() / "rejects.csv"
    stacks.build(settings, photographs, zone, SEED, folder / "stacks", rejects)


def evaluate(
    folder: Path, first: int, last: int | None, resume: Path | None
) -> tuple[pd.DataFrame, dict]:
    """The gradient family on the stacked images from `first` to before `last`."""
    _, pictures = stacked.read(folder / "stacks", "stack-mix", SIZE)
    some = stacked.Pictures(pictures.files[first:last], SIZE)
    model = network()
    return evaluation.evaluate(model, some, SETTINGS, model.zone(SIZE), resume)


def watched(command: list[str], done: Callable[[], int], until: int | None = None) -> pd.DataFrame:
    """Run a part of this module, looking once a second: seconds, images done, memory (RSS, bytes).
    Killed at `until`.
    """
    started, rows = time.monotonic(), []
    command = [sys.executable, "-m", "benchmarks.scale", *command]
    with subprocess.Popen(command, cwd=HERE.parent) as process:
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                rows.append((time.monotonic() - started, done(), seen.memory_info().rss))
            except psutil.Error:  # it has just ended
                break
            if until is not None and rows[-1][1] >= until:
                process.kill()
            time.sleep(1)
    if process.returncode and until is None:
        sys.exit(f"benchmarks.scale: {' '.join(command[3:])} failed")
    return pd.DataFrame(rows, columns=["seconds", "images", "bytes"])


def fit(part: pd.DataFrame) -> dict[str, float]:
    """Straight lines through what was seen while images were made: seconds and bytes per image, and
    how straight.

    `bend`: the seconds per image in the last fifth over those in the first; 1 where the cost is
    linear.
    """
    work = part[
        (part["images"] > part["images"].iloc[0]) & (part["images"] < part["images"].iloc[-1])
    ]
    seconds = stats.linregress(work["images"], work["seconds"])
    memory = stats.linregress(work["images"], work["bytes"])
    fifth = len(work) // 5
    first, last = (
        stats.linregress(some["images"], some["seconds"]).slope
        for some in (work[:fifth], work[-fifth:])
    )
    at_last = stats.linregress(work["images"][-fifth:], work["bytes"][-fifth:])
    return {
        "images": int(work["images"].iloc[-1] - work["images"].iloc[0]),
        "seconds": seconds.slope,
        "r2": seconds.rvalue**2,
        "bend": last / first,
        "bytes": memory.slope,
        "bytes at last": at_last.slope,
        "at first": work["bytes"].iloc[0],
        "peak": part["bytes"].max(),
    }


def run(folder: Path, images: int) -> tuple[pd.DataFrame, int]:
    """Both steps, the second one killed half-way; what was seen (long), and how many images were
    computed again.
    """
    resume = folder / "resume"
    drawn = [folder / part / "stack-mix" for part in ("stacks.partial", "stacks")]
    parts = {"STACK-MIX": watched(["draw", str(images)], lambda: sum(map(_count, drawn)))}
    command, batch = ["evaluate", str(images)], SETTINGS.batch_size
    parts["maps, until the kill"] = watched(
        command, lambda: batch * _count(resume), until=images // 2
    )
    left = _count(resume)
    parts["maps, after it"] = watched(command, lambda: batch * _count(resume))
    if left == _count(resume):
        sys.exit("benchmarks.scale: the kill came too late; takes more --images")
    subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", "again", str(images)],
        cwd=HERE.parent,
        check=True,
    )
    table = pd.concat([part.assign(step=step) for step, part in parts.items()], ignore_index=True)
    return table, json.loads((folder / "again.json").read_text())


def again(folder: Path, images: int) -> int:
    """Compute the images around the kill anew; how many, SystemExit where a map or an activity
    differs in a bit.
    """
    first = (images // 2 - AGAIN // 2) // SETTINGS.batch_size * SETTINGS.batch_size
    before = _count(folder / "resume")
    found, maps = evaluate(folder, first, first + AGAIN, folder / "resume")
    if _count(folder / "resume") > before:
        sys.exit("benchmarks.scale: the kept batches around the kill were not found again")
    fresh, once_more = evaluate(folder, first, first + AGAIN, None)
    differ = [name for name, raw in once_more.items() if not torch.equal(raw, maps[name])]
    if differ or not fresh.equals(found):
        sys.exit(f"benchmarks.scale: {', '.join(differ) or 'an activity'} differs after the kill")
    return fresh["image"].nunique()


def plan() -> str:
    """Minutes of Table 1's methods on ImageNet's validation images on 1, 8 and 64 GPUs, as a table."""
    cores = pd.read_csv(HERE / "cams.csv").query("geometry == 'paper'")
    gpu = pd.read_csv(HERE / "gpu.csv")
    read = 1 / gpu[(gpu["subject"] == READER) & (gpu["setting"] == "1 workers")]["median"].iloc[0]
    own = gpu[(gpu["setting"] == "the paper's geometry") & (gpu["what"] == "ours")]
    paces = (own.set_index("subject")["median"] / 1000).to_dict()
    seconds = {name: cores[cores["methods"] == name]["ours"].median() for name in paces}
    for found in (paces, seconds):
        found["all of them"] = sum(found.values())
    rows = []
    for name, pace in paces.items():
        row = {
            "methods": name,
            "two cores, s an image": f"{seconds[name]:.2f}",
            "one H200, ms an image": f"{1000 * pace:.1f}",
        }
        for n in GPUS:
            row[f"{n} × H200, min"] = f"{(STARTING + IMAGENET / n * (pace + read)) / 60:,.1f}"
        rows.append(row)
    costly = 100 * sum(paces[name] for name in ("ScoreCAM", "Opti-CAM")) / paces["all of them"]
    return f"""{IMAGENET:,} images, Table 1's methods, VGG16 at its whole width, float32.

{markdown(rows)}

The gradient family: {", ".join(GRADIENT)}, in one call. Paces: medians of
[cams.md](cams.md) on two cores and of [gpu.md](gpu.md) on one H200, each measured in one run, on one or two images at a time.
Before an image is computed it is read, in {1000 * read:.1f} ms of one process (a JPEG of 500 × 375, measured there); all of them
together read it once. Two things are assumed: {STARTING} s to start, and that several GPUs share the images evenly.
ScoreCAM and Opti-CAM are {costly:.0f}% of the cost on a GPU."""


def page(table: pd.DataFrame, same: int, images: int) -> str:
    """The committed page."""
    result, activities = len(GRADIENT) * 14 * 14 * 4, len(GRADIENT) * 2 * 8
    rows = []
    for step, part in table.groupby("step", sort=False):
        f = fit(part)
        rows.append(
            {
                "step": step,
                "images": f"{f['images']:,}",
                "ms an image": f"{1000 * f['seconds']:.2f}",
                "r²": f"{f['r2']:.5f}",
                "last fifth / first": f"{f['bend']:.2f}",
                "MB at first": f"{f['at first'] / 1e6:,.0f}",
                "bytes more an image": f"{f['bytes']:,.0f}",
                "in the last fifth": f"{f['bytes at last']:,.0f}",
                "MB at most": f"{f['peak'] / 1e6:,.0f}",
            }
        )
    return f"""# Scale

`python -m benchmarks.scale` on {hardware(DEVICE, *VERSIONS)}.

## {images:,} stacked images

STACK-MIX from {PHOTOGRAPHS:,} drawn animals, then {", ".join(GRADIENT)} by the default's network, 32 images at a time,
float32; looked at once a second.

{markdown(rows)}

A line was fitted to the seconds and one to the memory. The maps that are handed back take {result:,} bytes an image
({len(GRADIENT)} × 14 × 14 × 4) and the activities {activities}: room made before the first batch, which the system counts as
it is filled. Memory that grows by no more than that is flat: what a batch takes is free for the next.
After the kill the same command took the finished batches from `.resume/` and went on; {same} images around the kill,
computed in a fresh process without them, have the same maps and activities to the last bit.

![Seconds and memory against images](scale.png)

## All of ImageNet's validation images, on paper

{plan()}

{how()}
"""


def how() -> str:
    """The command, and what it does."""
    methods = {*GRADIENT, *PAPER_TABLE["stack-mix"]}
    kept = IMAGENET * len(methods) * 14 * 14 * 4 / 1e9
    return f"""How: `accelerate launch --num_processes N -m walls evaluate stack-mix`, a process a GPU, after `dvc repro train stacks` with
the images in `stacks.mix_dir`. Each process computes every n-th batch and keeps it in `.resume/`, in a file named after its
pixels, the weights, the settings, the code and the machine (torch, threads, device): where one dies the others stop, and the
same command goes on. In the end the first one's `.resume/` holds all maps and activities, where the next `dvc repro` finds
them ({kept:.1f} GB; the batches' files as much)."""


def plot(table: pd.DataFrame) -> None:
    """Seconds and memory against images, a line per step."""
    style.use_style()
    figure, axes = plt.subplots(
        1, 2, figsize=(style.WIDTH, style.WIDTH / 2.6), layout="constrained"
    )
    for colour, (step, part) in zip(
        (style.SEEN, style.DEAD, "0.5"), table.groupby("step", sort=False), strict=True
    ):
        for ax, values in zip(axes, (part["seconds"] / 60, part["bytes"] / 1e6), strict=True):
            ax.plot(part["images"] / 1000, values, color=colour, label=step)
    axes[0].set(xlabel="thousand images", ylabel="minutes")
    axes[1].set(xlabel="thousand images", ylabel="memory, MB", ylim=(0, None))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.savefig(HERE / "scale.png", metadata={"Software": None})


def markdown(rows: list[dict]) -> str:
    """A table of texts, all but the first column to the right."""
    table = pd.DataFrame(rows)
    return table.to_markdown(
        index=False, disable_numparse=True, colalign=["left", *["right"] * (table.shape[1] - 1)]
    )


def _count(folder: Path) -> int:
    return sum(file.suffix != ".partial" for file in folder.iterdir()) if folder.is_dir() else 0


def main(arguments: list[str]) -> int:
    """All of it, or the part that a process of its own does."""
    folder = paths.root() / ".resume" / "scale"
    if len(arguments) == 2 and arguments[0] in ("draw", "evaluate", "again"):
        part, images = arguments[0], int(arguments[1])
        if part == "draw":
            draw(folder, images)
        elif part == "evaluate":
            evaluate(folder, 0, None, folder / "resume")
        else:
            (folder / "again.json").write_text(json.dumps(again(folder, images)))
        return 0
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--images",
        type=int,
        default=50_000,
        help="stacked images; fewer for a rehearsal, printed",
    )
    images = parser.parse_args(arguments).images
    shutil.rmtree(folder, ignore_errors=True)
    table, same = run(folder, images)
    said = page(table, same, images)
    if images < 50_000:
        print(said)
    else:
        files.write_csv(table, HERE / "scale.csv", digits=3)
        (HERE / "scale.md").write_text(said, encoding="utf-8")
        plot(table)
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
