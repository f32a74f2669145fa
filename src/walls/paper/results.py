"""What notebook 7 collects and writes: the stages' figures, metrics, histories."""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file
from torch import Tensor

from walls.base import files, paths
from walls.images import stacked


@dataclass(frozen=True)
class Maps:
    """One dataset's images and what the evaluation made of them."""

    dataset: str
    classes: list[str]
    pictures: stacked.Pictures
    raw: dict[str, Tensor]  # {method: (N, h, w)}
    mu: pd.DataFrame  # an image per row, a method per column; in [0, 1], NaN for an empty map
    network: int = 0  # whose maps: the first's, or a further one's (train.again)

    @property
    def methods(self) -> list[str]:
        """The methods, as they were evaluated."""
        return list(self.raw)

    def typical(self) -> tuple[str, int]:
        """The first method with a map, and the image whose µ is nearest its third quartile."""
        method = next(name for name in self.methods if self.mu[name].notna().any())
        mu = self.mu[method]
        return method, int((mu - mu.quantile(0.75)).abs().idxmin())


def maps(dataset: str, image_size: int, network: int = 0) -> Maps:
    """The stages' results of one dataset and network.

    Of a further network a method may have maps of the first images alone; mu is NaN for the others.
    """
    runs, folder = paths.runs(), paths.of_network(f"cams-{dataset}", network)
    manifest, pictures = stacked.read(runs / "stacks", dataset, image_size)
    activity, raw = pd.read_csv(folder / "activity.csv"), load_file(folder / "maps.safetensors")
    mu = activity.pivot(index="image", columns="method", values="mu")
    order = {method: raw[method] for method in dict.fromkeys(activity["method"])}
    return Maps(dataset, list(manifest["class"]), pictures, order, mu, network)


def collect(runs: Path, folder: Path) -> list[str]:
    """Copy every stage's figures, and the numbers in them, to `folder`; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(runs.glob("*/figures/*.*"))
    for file in found:
        shutil.copyfile(file, folder / file.name)
    return [file.name for file in found]


def measured(datasets: Iterable[str], networks: Sequence[int] = (0,)) -> pd.DataFrame:
    """Every map's µ on these datasets: dataset, network, image, class, method, mu, mu_raw; long."""
    parts = []
    for dataset, network in product(datasets, networks):
        folder = paths.of_network(f"cams-{dataset}", network)
        activity = pd.read_csv(folder / "activity.csv")
        manifest, _ = stacked.read(paths.runs("stacks"), dataset, 1)
        classes = activity["image"].map(manifest["class"])
        parts.append(activity.assign(**{"class": classes, "network": network}))
    return pd.concat(parts, ignore_index=True)


def checks(networks: Sequence[int] = (0,)) -> dict[str, dict]:
    """What notebook 6 found out of every dataset and network: stack-mix, stack-mix-1, …"""
    folders = (paths.of_network(f"cams-{d}", n) for n in networks for d in stacked.DATASETS)
    return {
        folder.name.removeprefix("cams-"): json.loads((folder / "checks.json").read_text())
        for folder in folders
    }


def trainings(networks: Sequence[int] = (0,)) -> dict[str, dict]:
    """Of every network (masked, masked-1, …, baseline) what notebook 4 left.

    {record, history, predictions: {network: …}}.
    """
    which = [*(("masked", number) for number in networks), ("baseline", 0)]
    found: dict[str, dict] = {"record": {}, "history": {}, "predictions": {}}
    for kind, number in which:
        folder, name = paths.of_network(f"train-{kind}", number), paths.weights(kind, number).stem
        found["record"][name] = json.loads((folder / "record.json").read_text())
        for part in ("history", "predictions"):
            found[part][name] = pd.read_csv(folder / f"{part}.csv")
    return found


def write_metrics(folder: Path, **contents: object) -> None:
    """NAME.json below `folder` for every NAME given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        files.write_json(content, folder / f"{name}.json")


def write_history(histories: dict[str, pd.DataFrame], folder: Path) -> pd.DataFrame:
    """All networks' histories, an epoch per row (masked_train_loss, masked-1_top1, …).

    fig5.csv holds the same.
    """
    long = pd.concat([history.assign(model=which) for which, history in histories.items()])
    values = ["train_loss", "top1", "top5"]
    table = long.pivot(index="epoch", columns="model", values=values)
    table.columns = [f"{model}_{column}" for column, model in table.columns]
    files.write_csv(table, folder / "fig5.csv", digits=6, index=True)
    return table
