"""Part a: the dead zone and the saliency maps, on the device against a processor.

The dead zone: logits, and the features they are made of, computed at full height, on the device,
before and after everything below the edge was replaced, bit by bit, in every precision and memory
layout; and, so that the comparison can fail, after the row above the edge was. The maps: every
method's, upscaled, in [0, 1], and their µ×100, against the same call on the processor in float32
(and in float64).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict

import torch
from torch import Tensor

from benchmarks.gpu.run import Run
from walls.images import transforms
from walls.network import architecture, certificate, checkpoints, classifier
from walls.saliency import activity, methods
from walls.saliency.maps import saliency_maps
from walls.sources import critters

PRECISIONS = ("float32", "float32, TF32", "bfloat16")
LAYOUTS = {"NCHW": torch.contiguous_format, "channels-last": torch.channels_last}
SMALL = {"width": 0.125, "dense": 512, "classes": 10, "batch_norm": True, "wall_rows": 9}
PAPERS = {"width": 1.0, "dense": 4096, "classes": 1000, "batch_norm": False, "wall_rows": 9}
TINY = {"width": 0.0625, "dense": 16, "classes": 10, "batch_norm": True, "wall_rows": 9}
SIZE = 224
# What is compared with what: the device's precision, the processor's type.
PAIRS = {
    "float32": torch.float32,
    "float32, TF32": torch.float32,
    "bfloat16": torch.float32,
    "float64": torch.float64,
}
SCORECAM = "ScoreCAM"  # on a processor it takes as long as all the others


def measure(run: Run) -> str:
    """Write exactness.json; the result in a sentence."""
    found: dict = {"networks": {}, "sealed": [], "maps": [], "errors": {}}
    images = stacked(2 if run.tiny else 8)
    for name, network, count, steps in networks(run):
        zone = network.zone(SIZE)
        found["networks"][name] = {
            "config": network.config,
            "maps of": count,
            "opticam_steps": steps,
        }
        on_processor = certificate.certify(network, SIZE, transforms.normalise(images), 0)
        found["networks"][name]["certificate, on the processor"] = asdict(on_processor) | {
            "holds": on_processor.holds
        }
        run.keep("exactness", found)
        rows = run.attempt(
            f"{name}: dead zone",
            lambda n=network, z=zone: sealed(n, images, z.seen_rows, run.device),
            found["errors"],
        )
        found["sealed"] += [{"network": name} | row for row in rows or []]
        run.keep("exactness", found)
        run.say(f"  {name}: {summary(rows or [])}")
    for name, network, count, steps in networks(run):
        for row in compared(
            run, network, transforms.normalise(images[:count]), steps, found["errors"]
        ):
            found["maps"].append({"network": name, "images": count} | row)
            run.keep("exactness", found)
        run.say(f"  {name}: maps of {len(methods.CAMS)} methods compared")
    return f"{summary(found['sealed'])}; {widest(found['maps'])}"


def networks(run: Run) -> Iterator[tuple[str, classifier.Classifier, int, int]]:
    """A name, a network, how many images' maps are compared, Opti-CAM's steps."""
    if run.weights:
        yield "trained, 1/8 of VGG16's width", checkpoints.load(run.weights), 4, 50
    else:
        kind = TINY if run.tiny else SMALL
        yield (
            "seeded, 1/8 of VGG16's width",
            architecture.seeded(0, **kind).eval(),
            *((2, 2) if run.tiny else (4, 50)),
        )
    if not run.tiny:
        yield "seeded, the paper's", architecture.seeded(0, **PAPERS).eval(), 1, 5


def stacked(count: int) -> Tensor:
    """Drawn images of two animals each, above and below the edge: uint8 (count, 3, 224, 224)."""
    drawn = [
        torch.from_numpy(critters.draw_stack(0, index, index % 10, 170, SIZE))
        for index in range(count)
    ]
    return torch.stack(drawn).permute(0, 3, 1, 2)


def sealed(
    network: classifier.Classifier, images: Tensor, edge: int, device: torch.device
) -> list[dict]:
    """Per precision and layout: which changes below `edge` left every bit as it was.

    Computed at full height: the logits, and the features that they are made of, where 16 bits hide
    less. `images`: uint8 (N, 3, H, W). `again`: the same images twice, without which nothing
    follows from the others. `largest_change` (of a logit) and `feature_change`: over all changes
    below the edge. The gradients: the largest |∂(Σ logit²)/∂pixel|.
    """
    random = torch.Generator().manual_seed(0)
    above = transforms.normalise(images)[:, :, :edge]
    noise = torch.randn(len(images), 3, images.shape[2] - edge, images.shape[3], generator=random)
    wide = noise.sign() * 10 ** (60 * torch.rand(noise.shape, generator=random) - 30)
    below = {
        "again": transforms.normalise(images)[:, :, edge:],
        "replaced": transforms.normalise(images.roll(1, 0).flip(3))[:, :, edge:],
        "noise": noise,
        "extreme": wide,
    }
    model = deepcopy(network).to(device).eval().requires_grad_(False)
    rows = []
    for precision in PRECISIONS:
        for layout, kind in LAYOUTS.items():
            model.features.to(memory_format=kind)

            def outputs(x: Tensor, kind: torch.memory_format = kind) -> tuple[Tensor, Tensor]:
                features = model.features(x.contiguous(memory_format=kind))
                seen = features[:, :, : features.shape[2] - network.wall_rows]
                return model.head(features).float(), seen.float()

            with rounding(precision, device):
                original = torch.cat([above, below["again"]], 2).to(device)
                upper, edged = original.clone(), original.clone().requires_grad_()
                upper[:, :, edge - 1] = upper[:, :, edge - 1].roll(1, 0)
                with torch.no_grad():
                    before = outputs(original)
                    after = {
                        name: outputs(torch.cat([above, part], 2).to(device))
                        for name, part in below.items()
                    }
                    moved = outputs(upper)
                (gradient,) = torch.autograd.grad(outputs(edged)[0].square().sum(), edged)
            changes = [
                [largest(x, y) for x, y in zip(out, before, strict=True)]
                for name, out in after.items()
                if name != "again"
            ]
            rows.append(
                {
                    "precision": precision,
                    "layout": layout,
                    "images": len(images),
                    **{name: all(map(torch.equal, out, before)) for name, out in after.items()},
                    "largest_change": max(change[0] for change in changes),
                    "largest_logit": float(before[0].abs().max()),
                    "feature_change": max(change[1] for change in changes),
                    "largest_feature": float(before[1].max()),
                    "row_above_counts": not all(map(torch.equal, moved, before)),
                    "dead_gradient": float(gradient[:, :, edge:].abs().max()),
                    "edge_gradient": float(gradient[:, :, edge - 1].abs().max()),
                }
            )
    return rows


def largest(one: Tensor, other: Tensor) -> float:
    """The largest absolute difference; infinity where one isn't finite."""
    return float((one - other).abs().nan_to_num(torch.inf).max())


def compared(
    run: Run, network: classifier.Classifier, images: Tensor, steps: int, errors: dict
) -> Iterator[dict]:
    """Per method and pair: the largest difference of an upscaled map's pixels and of µ×100.

    `images`: normalised. Also how far the processor's own float32 is from its float64, which no
    device can be blamed for.
    """
    names = list(methods.CAMS)
    targets = network(images).argmax(1)
    exact: dict[torch.dtype, dict[str, Tensor]] = {}
    names = working(run, network, images, names, errors)
    began = run.clock()
    exact[torch.float32] = maps(network, images, names, targets, steps)
    took = run.clock() - began
    run.say(f"    on the processor, float32: {took:.1f} s")
    for pair, kind in PAIRS.items():
        if kind not in exact:
            few = names if took < 5 else [name for name in names if name != SCORECAM]
            if 2.5 * took > run.left():
                errors[f"{network.config['width']:g}: float64"] = "left out: no time"
                return
            exact[kind] = maps(deepcopy(network).double(), images.double(), few, targets, steps)
            for name in few:
                yield row(
                    name,
                    "processor: float32 to float64",
                    network,
                    exact[torch.float32][name],
                    exact[kind][name],
                )
        moved = deepcopy(network).to(run.device, kind)
        with rounding(pair, run.device):
            here = run.attempt(
                pair,
                lambda m=moved, k=kind: maps(
                    m, images.to(run.device, k), list(exact[k]), targets.to(run.device), steps
                ),
                errors,
            )
        for name, values in (here or {}).items():
            yield row(name, pair, network, values, exact[kind][name])


def working(
    run: Run, network: classifier.Classifier, images: Tensor, names: list[str], errors: dict
) -> list[str]:
    """The methods that the device computes without an error, tried on one image; a warm-up."""
    moved, one, done = deepcopy(network).to(run.device).eval(), images[:1].to(run.device), []
    for name in names:
        found = run.attempt(
            f"{name} on the device",
            lambda n=name: saliency_maps(
                moved, one, [n], options={"Opti-CAM": {"steps": 1}}, progress=lambda maps: None
            ),
            errors,
        )
        done += [name] if found else []
    return done


def maps(
    model: classifier.Classifier, images: Tensor, names: list[str], targets: Tensor, steps: int
) -> dict[str, Tensor]:
    """Raw maps on the processor, in float64, whatever computed them."""
    with torch.no_grad():
        found = saliency_maps(
            model,
            images,
            names,
            targets,
            options={"Opti-CAM": {"steps": steps}},
            progress=lambda maps: None,
        )
    return {name: values.double().cpu() for name, values in found.items()}


def row(name: str, pair: str, network: classifier.Classifier, one: Tensor, other: Tensor) -> dict:
    """Two computations of one method's maps, compared as a user sees them."""
    up = [activity.upscale(values, SIZE) for values in (one, other)]
    mu = [activity.activity(values, network.zone(SIZE).dead_rows) for values in up]
    return {
        "method": name,
        "pair": pair,
        "map": float((up[0] - up[1]).abs().max()),
        "mu": float(100 * (mu[0] - mu[1]).abs().nan_to_num().max()),
        "empty": int(mu[0].isnan().sum()),
        "empty there": int(mu[1].isnan().sum()),
        "behind the wall": float(up[0][:, -network.zone(SIZE).dead_rows :].max()),
    }


@contextmanager
def rounding(precision: str, device: torch.device) -> Iterator[None]:
    """What a device may round to: TF32, in convolutions and products, or bfloat16 by autocast."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
        precision == "float32, TF32"
    )
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def summary(rows: list[dict]) -> str:
    """In how many settings every logit kept its bits."""
    kept = sum(row["replaced"] and row["noise"] and row["extreme"] for row in rows)
    return f"every bit is kept in {kept} of {len(rows)} settings"


def widest(rows: list[dict]) -> str:
    """How far float32 on the device is from float32 on the processor, over all methods."""
    plain = [row for row in rows if row["pair"] == "float32"]
    if not plain:
        return "no maps compared"
    worst = max(plain, key=lambda row: row["mu"])
    return f"float32 µ×100 within {worst['mu']:.2g} of the processor's ({worst['method']})"
