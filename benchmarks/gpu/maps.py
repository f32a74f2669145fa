"""Part c: saliency maps on the device, ours against pytorch-grad-cam's and torch-cam's.

At the paper's geometry as benchmarks.cams compares them, and on EfficientNet-Lite0 with its
packaged ImageNet weights. Every library gets the same network and images in turn; what a library
doesn't have is left out of its sum and of ours.
"""

import contextlib
import io
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torchcam import methods as torchcam

from benchmarks import cams as peers
from benchmarks import measure as clocks
from benchmarks.gpu import exactness
from benchmarks.gpu.rows import LEAST
from benchmarks.gpu.run import Run
from walls.images import transforms
from walls.network import architecture, classifier

TORCHCAM = {
    "GradCAM": torchcam.GradCAM,
    "GradCAM++": torchcam.GradCAMpp,
    "XGradCAM": torchcam.XGradCAM,
    "LayerCAM": torchcam.LayerCAM,
    "ScoreCAM": torchcam.ScoreCAM,
}
TINY = {"width": 0.0625, "dense": 16, "classes": 10, "batch_norm": False, "wall_rows": 9}
LITE = "EfficientNet-Lite0"
MOST = 20  # turns of a group


def measure(run: Run) -> str:
    """Write maps.json; the result in a sentence."""
    found: dict = {
        "images": peers.IMAGES,
        "opticam_steps": peers.STEPS,
        "tf32": tf32(),
        "cut": {},
        "turns": [],
        "errors": {},
    }
    shares = {"the paper's geometry": 0.65, LITE: 1.0}
    for geometry, share in shares.items():
        made = run.attempt(
            geometry, partial(network_of, run, geometry, found["cut"]), found["errors"]
        )
        if made is None:
            continue
        without = (["Opti-CAM"] if geometry == LITE else []) + (
            ["ScoreCAM", "AblationCAM"] if run.tiny and geometry == LITE else []
        )
        groups = {name: names for name, names in peers.GROUPS.items() if name not in without}
        ends = run.clock() + share * run.left()
        for number, (group, names) in enumerate(groups.items()):
            seconds = (ends - run.clock()) / (len(groups) - number)
            rows = run.attempt(
                f"{geometry}, {group}",
                partial(turns, run, *made, names, peers.IMAGES[group], seconds),
                found["errors"],
            )
            found["turns"] += [{"geometry": geometry, "methods": group} | row for row in rows or []]
            run.keep("maps", found)
            run.free()
            if rows:
                ours = 1000 * np.median([row["ours"] for row in rows])
                ratio = np.median([row["grad_cam"] / row["ours"] for row in rows])
                run.say(
                    f"  {geometry}, {group}: {ours:.1f} ms an image, {ratio:.1f}× "
                    f"pytorch-grad-cam ({len(rows)} turns)"
                )
        made = None
        run.free()
    return summary(found)


def network_of(
    run: Run, geometry: str, cut: dict
) -> tuple[classifier.Classifier, nn.Module, nn.Module, Tensor]:
    """Ours, the same network as peers take it, the layer that they hook, and images."""
    images = exactness.stacked(4 if run.tiny else 16)
    if geometry != LITE:
        settings = TINY if run.tiny else peers.GEOMETRIES["paper"]
        model = architecture.seeded(0, **settings).eval().to(run.device)
        whole = peers.Whole(model)
        return model, whole, whole.features[-1], transforms.normalise(images).to(run.device)
    from walls.network import behind, zoo  # here: the paper's geometry needs neither, nor timm

    named = zoo.get("efficientnet-lite0")
    model = behind.behind(named.network).to(run.device)
    cut[LITE] = f"behind a wall by walls.behind, two images stacked ({named.weights} weights)"
    pairs = torch.cat([images, images.roll(1, 0)], dim=2)
    return model, model, model.layer, named.recipe.normalise(pairs / 255).to(run.device)


def turns(
    run: Run,
    model: classifier.Classifier,
    whole: nn.Module,
    layer: nn.Module,
    images: Tensor,
    names: list[str],
    count: int,
    seconds: float,
) -> list[dict]:
    """Seconds per image in every turn: ours, and the sum of each library's calls.

    For `seconds` and three turns at least, after one that isn't counted.

    `ours_of_torchcam`: ours for those methods alone that torch-cam has; None where it has none of
    them.
    """
    shared = [name for name in names if name in TORCHCAM]
    works: dict[str, Callable[[Tensor], object]] = {
        "ours": lambda some: peers.ours(names, model, some),
        "grad_cam": lambda some: [by_grad_cam(name, whole, layer, some) for name in names],
    }
    if shared:
        works["torchcam"] = lambda some: [by_torchcam(name, whole, layer, some) for name in shared]
        works["ours_of_torchcam"] = lambda some: peers.ours(shared, model, some)
    ends, rows = run.clock() + seconds, []
    for number in range(MOST + 1):
        at = number * count % (len(images) - count + 1)
        some = images[at : at + count]
        row = {
            name: clocks.clocked(lambda w=work, s=some: w(s), run.device) / count
            for name, work in works.items()
        }
        if number:
            rows.append({name: round(value, 6) for name, value in row.items()})
        if len(rows) >= LEAST and run.clock() + count * sum(row.values()) > ends:
            break
    return rows


def by_grad_cam(name: str, whole: nn.Module, layer: nn.Module, images: Tensor) -> None:
    """One method by pytorch-grad-cam's documented call; Opti-CAM by a plain loop of its own."""
    if name == "Opti-CAM":
        for image in images.split(1):
            peers.plain_opticam(whole, image)
    else:
        with contextlib.redirect_stderr(io.StringIO()), peers.PEERS[name](whole, [layer]) as cam:
            cam(images, targets=None)
    whole.zero_grad(set_to_none=True)


def by_torchcam(name: str, whole: nn.Module, layer: nn.Module, images: Tensor) -> None:
    """One method by torch-cam's documented call."""
    with TORCHCAM[name](whole, layer) as cam:
        scores = whole(images)
        cam(scores.argmax(1).tolist(), scores)


def tf32() -> dict[str, bool]:
    """Whether float32 is shortened in products and convolutions: torch's own settings."""
    return {
        "products": torch.backends.cuda.matmul.allow_tf32,
        "convolutions": torch.backends.cudnn.allow_tf32,
    }


def summary(found: dict) -> str:
    """The gradient family and ScoreCAM, against pytorch-grad-cam."""
    said = []
    for geometry in dict.fromkeys(row["geometry"] for row in found["turns"]):
        for group in ("gradient family", "ScoreCAM"):
            rows = [r for r in found["turns"] if (r["geometry"], r["methods"]) == (geometry, group)]
            if rows:
                said.append(f"{group} {np.median([r['grad_cam'] / r['ours'] for r in rows]):.1f}×")
        said[-1:] = [f"{said[-1]} ({geometry})"] if said else []
    return "pytorch-grad-cam / ours: " + (", ".join(said) or "nothing measured")
