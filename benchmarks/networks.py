"""Every network that `walls.behind` is proved on.

The cut, the wall and the layer, with random weights.

    python -m benchmarks.networks              all; writes benchmarks/networks.{csv,md}
    python -m benchmarks.networks resnet18     those whose name holds it, printed

Ten minutes on one core. Nothing is downloaded: the proof is about the network's code, and holds for
any weights. tests/network/test_behind_many.py asserts what the table shows.
"""

import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from walls.network import zoo
from walls.network.behind import Behind, behind
from walls.network.opening import own_size
from walls.saliency.activity import upscale
from walls.saliency.maps import saliency_maps

HERE = Path(__file__).resolve().parent
TORCHVISION = [
    "resnet18", "resnext50_32x4d", "vgg11_bn", "alexnet", "squeezenet1_1", "densenet121",
    "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "googlenet",
    "inception_v3", "regnet_y_400mf", "shufflenet_v2_x0_5", "mnasnet0_5", "swin_t", "swin_v2_t",
    "vit_b_32", "maxvit_t",
]  # fmt: skip
TIMM = [
    "resnet18", "seresnet18", "resnext26ts", "resnet10t", "convnext_atto", "convnextv2_atto",
    "tf_efficientnet_lite0", "efficientnet_b0", "mobilenetv3_small_050", "mobilenetv4_conv_small",
    "mnasnet_small", "regnetx_002", "regnety_002", "densenet121", "repvgg_a0", "hrnet_w18_small",
    "dla34", "dm_nfnet_f0", "mobilevit_xxs", "poolformer_s12", "fastvit_t8", "edgenext_xx_small",
    "ghostnet_100", "vgg11_bn", "xception41", "inception_v3", "cspresnet50", "res2net50_14w_8s",
    "efficientformer_l1", "pvt_v2_b0", "maxvit_rmlp_pico_rw_256", "mixer_s32_224", "coat_tiny",
    "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "vit_small_patch16_36x1_224",
    "vit_base_patch16_siglip_gap_224", "vit_base_patch16_siglip_224",
    "vit_small_patch14_reg4_dinov2", "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224",
    "beit_base_patch16_224", "eva02_tiny_patch14_224", "xcit_nano_12_p16_224", "cait_xxs24_224",
    "levit_128s",
]  # fmt: skip
HEIGHTS = (160, 192, 128, 112, 96, 88)  # seen rows that are tried within an image
CLASSES = 10
CHECKS = ["cut", "noise", "gradient", "reads", "library"]
NAMES = [f"torchvision:{name}" for name in TORCHVISION] + [f"timm:{name}" for name in TIMM]


def make(name: str, seed: int = 0) -> nn.Module:
    """The network with random weights through which an image still counts at the end.

    A head that starts at zero, or nearly, gets some; batch norm gets the statistics of a batch of
    noise.
    """
    library, model = name.split(":")
    small = {} if "dinov2" not in model else {"img_size": 224}
    options = {"num_classes": CLASSES} | small
    network = zoo.get(f"{library}:{model}", "none", seed=seed, **options).network
    random = torch.Generator().manual_seed(seed)
    for module in network.modules():
        few = isinstance(module, nn.Linear | nn.Conv2d) and CLASSES in module.weight.shape[:1]
        if few and float(module.weight.detach().abs().max()) < 0.1:
            nn.init.normal_(module.weight, std=0.2, generator=random)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms:
        module.momentum = None  # the batch's own statistics
        module.train()
    with torch.no_grad():
        network(torch.randn(4, *own_size(network), generator=random))
    return network.eval()


def prove(model: Behind, images: Tensor) -> dict[str, bool]:
    """What must hold behind a wall, each by the network's own call or by another library.

    `cut`: f(g(ξ)) at full height is the network's own N(seen part), to the last bit. `noise`: so it
    is when the hidden part becomes noise. `gradient`: exactly zero there, not in the seen part.
    `reads`: another seen part gives other logits. `library`: pytorch-grad-cam on `model.layer`
    gives a map of the whole image, and ours (1e-5 of its range, in float64: in float32 rounding
    alone moves Inception's by 7e-4).
    """
    network, random = model.network, torch.Generator().manual_seed(1)
    seen, hidden = model.divide(images)
    noise = torch.randn(hidden.shape, generator=random)
    with torch.no_grad():
        reference = network(seen.clone()) if model.parts.patch is None else model(images)
        through = model.logits(*model.cut(images))
        noisy = model.logits(*model.cut(model.join(seen, 10 * noise)))
        called = model(images)
        other = model(model.join(seen.flip(3), hidden))
    x = images.clone().requires_grad_()
    out = model.logits(*model.cut(x))
    (gradient,) = torch.autograd.grad(out, x, torch.randn(out.shape, generator=random))
    live, dead = model.divide(gradient)
    return {
        "cut": torch.equal(reference, through) and torch.equal(reference, called),
        "noise": torch.equal(through, noisy),
        "gradient": not dead.any() and bool(live.any()),
        "reads": not torch.equal(other, reference),
        "library": _by_library(model, images[:1]),
    }


def _by_library(model: Behind, images: Tensor) -> bool:
    model.network.double()
    try:
        return _same_map(model, images.double())
    finally:
        model.network.float()


def _same_map(model: Behind, images: Tensor) -> bool:
    every = torch.arange(model(images).shape[1])
    maps = saliency_maps(
        model, images.repeat(len(every), 1, 1, 1), ["GradCAM"], every, progress=lambda n: None
    )["GradCAM"]
    target = int(maps.flatten(1).amax(1).argmax())  # one whose map isn't empty
    with pytorch_grad_cam.GradCAM(model, [model.layer]) as cam:
        theirs = cam(images, targets=[ClassifierOutputTarget(target)])[0]
    ours = maps[target][None]
    upscaled = upscale(ours, tuple(images.shape[2:]))[0].numpy()
    return (
        ours.shape[1] == model.zone().map_rows
        and bool(ours.any())
        and bool(np.abs(theirs - upscaled).max() < 1e-5)
    )


def rows_of(name: str) -> list[dict]:
    """Both forms of one network: what was proved, or why it isn't taken."""
    network = make(name)
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    found = []
    for form in ("stacked", "within"):
        row = {"network": name, "parameters (M)": round(parameters, 1), "form": form}
        try:
            model = behind(network) if form == "stacked" else within(network)
            channels, size = model.channels, (model.zone().image_rows, model.columns(0))
            images = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))
            zone = model.zone()
            row |= {
                "layer": model.config["layer"] or "forward_features",
                "seen": f"{zone.seen_rows} of {zone.image_rows}",
                "map": f"{zone.rows[1]} of {zone.map_rows}",
            }
            row |= prove(model, images)
        except ValueError as error:
            row["why not"] = str(error)
        found.append(row)
    return found


def within(network: nn.Module) -> Behind:
    """The network behind a wall within its image, at the first of HEIGHTS that does."""
    for rows in HEIGHTS:
        try:
            return behind(network, rows)
        except ValueError as caught:
            error = caught
            if "nor does any" in str(caught) or "takes no part" in str(caught):
                break
    raise error


def page(table: pd.DataFrame) -> str:
    """The table as a page."""
    proved = table[CHECKS].fillna(False).astype(bool).all(axis=1)
    stacked, inside = (table["form"] == form for form in ("stacked", "within"))
    versions = ", ".join(f"{p} {version(p)}" for p in ("torch", "torchvision", "timm", "grad-cam"))
    lines = [
        "# Networks behind a wall",
        "",
        f"`python -m benchmarks.networks`; random weights, one thread, {versions}. Of "
        f"{stacked.sum()} networks, {(proved & stacked).sum()} pass every check as two stacked "
        f"images, {(proved & inside).sum()} within an image.",
        "",
        "Checks, each on two images: the cut network's logits equal the network's own, to the last "
        "bit; so they do when the hidden part becomes noise; their gradient there is exactly zero, "
        "and isn't elsewhere; another seen part gives other logits; pytorch-grad-cam on "
        "`model.layer` gives a map of the whole image, in float64 equal to ours within 1e-5.",
        "",
        "| network | parameters | stacked | within an image | layer | why not |",
        "| --- | ---: | --- | --- | --- | --- |",
    ]
    for name, rows in table.groupby("network", sort=False):
        cells = [_cell(rows[rows["form"] == form].iloc[0]) for form in ("stacked", "within")]
        layers = [*rows["layer"].dropna(), ""]
        why = "; ".join(dict.fromkeys(rows["why not"].dropna())).replace("|", "\\|")
        size = f"{rows['parameters (M)'].iloc[0]} M"
        lines.append(f"| {' | '.join([name, size, *cells, layers[0], why])} |")
    return "\n".join(lines) + "\n"


def _cell(row: pd.Series) -> str:
    if pd.isna(row["seen"]):
        return "no"
    failed = [check for check in CHECKS if not bool(row[check])]
    said = f"{row['seen']} rows"
    return f"{said}, fails: {', '.join(failed)}" if failed else f"yes, {said}"


def main(names: list[str]) -> None:
    """Measure, and write unless only some networks were asked for."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    rows = []
    for name in [n for n in NAMES if not names or any(part in n for part in names)]:
        for row in rows_of(name):
            print(row, flush=True)
            rows.append(row)
    if not names:
        columns = ["network", "parameters (M)", "form", "layer", "seen", "map", *CHECKS, "why not"]
        table = pd.DataFrame(rows).reindex(columns=columns)
        table.to_csv(HERE / "networks.csv", index=False, lineterminator="\n")
        (HERE / "networks.md").write_text(page(table))


if __name__ == "__main__":
    main(sys.argv[1:])
