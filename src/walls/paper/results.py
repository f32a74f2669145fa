"""What notebook 7 collects and writes: the stages' figures, metrics, histories."""

import shutil
from pathlib import Path

import pandas as pd

from walls.base import files


def collect(runs: Path, folder: Path) -> list[str]:
    """Copy every stage's figures, and the numbers in them, to `folder`; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(runs.glob("*/figures/*.*"))
    for file in found:
        shutil.copyfile(file, folder / file.name)
    return [file.name for file in found]


def write_metrics(folder: Path, **contents: object) -> None:
    """NAME.json below `folder` for every NAME given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        files.write_json(content, folder / f"{name}.json")


def write_history(histories: dict[str, pd.DataFrame], folder: Path) -> pd.DataFrame:
    """Both models' histories side by side, an epoch per row (masked_train_loss, baseline_top1, …).

    Also written as fig5.csv.
    """
    long = pd.concat([history.assign(model=which) for which, history in histories.items()])
    values = ["train_loss", "top1", "top5"]
    table = long.pivot(index="epoch", columns="model", values=values)
    table.columns = [f"{model}_{column}" for column, model in table.columns]
    files.write_csv(table, folder / "fig5.csv", digits=6, index=True)
    return table
