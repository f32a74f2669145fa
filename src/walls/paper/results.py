"""What notebook 7 collects and writes: the stages' figures, metrics, histories."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file
from torch import Tensor

from walls.base import files
from walls.images import stacked


@dataclass(frozen=True)
class Maps:
    """One dataset's images and what the evaluation made of them."""

    dataset: str
    classes: list[str]
    pictures: stacked.Pictures
    raw: dict[str, Tensor]  # {method: (N, h, w)}
    mu: pd.DataFrame  # an image per row, a method per column; in [0, 1], NaN for an empty map

    @property
    def methods(self) -> list[str]:
        """The methods, as they were evaluated."""
        return list(self.raw)

    def typical(self) -> tuple[str, int]:
        """The first method with a map, and the image whose µ is nearest its third quartile."""
        method = next(name for name in self.methods if self.mu[name].notna().any())
        mu = self.mu[method]
        return method, int((mu - mu.quantile(0.75)).abs().idxmin())


def maps(runs: Path, dataset: str, image_size: int) -> Maps:
    """The stages' results of one dataset, from their folders below `runs`."""
    folder = runs / f"cams-{dataset}"
    manifest, pictures = stacked.read(runs / "stacks", dataset, image_size)
    activity, raw = pd.read_csv(folder / "activity.csv"), load_file(folder / "maps.safetensors")
    mu = activity.pivot(index="image", columns="method", values="mu")
    order = {method: raw[method] for method in dict.fromkeys(activity["method"])}
    return Maps(dataset, list(manifest["class"]), pictures, order, mu)


def collect(runs: Path, folder: Path) -> list[str]:
    """Copy every stage's figures, and the numbers in them, to `folder`; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(runs.glob("*/figures/*.*"))
    for file in found:
        shutil.copyfile(file, folder / file.name)
    return [file.name for file in found]


def measured(runs: Path, datasets: Iterable[str]) -> pd.DataFrame:
    """Every image's µ on these datasets, long: dataset, image, class, method, mu, mu_raw."""
    parts = []
    for dataset in datasets:
        activity = pd.read_csv(runs / f"cams-{dataset}" / "activity.csv")
        manifest, _ = stacked.read(runs / "stacks", dataset, 1)
        parts.append(activity.assign(**{"class": activity["image"].map(manifest["class"])}))
    return pd.concat(parts, ignore_index=True)


def write_metrics(folder: Path, **contents: object) -> None:
    """NAME.json below `folder` for every NAME given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        files.write_json(content, folder / f"{name}.json")


def write_history(histories: dict[str, pd.DataFrame], folder: Path) -> pd.DataFrame:
    """Both models' histories side by side, an epoch per row (masked_train_loss, baseline_top1, …).

    fig5.csv holds the same.
    """
    long = pd.concat([history.assign(model=which) for which, history in histories.items()])
    values = ["train_loss", "top1", "top5"]
    table = long.pivot(index="epoch", columns="model", values=values)
    table.columns = [f"{model}_{column}" for column, model in table.columns]
    files.write_csv(table, folder / "fig5.csv", digits=6, index=True)
    return table
