"""The pipeline's stages, as dvc.yaml names them: which there are, and where each leaves what."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import yaml

from walls.base import params
from walls.base.fields import abridged

AGAIN = "-again"  # the stages of further networks; what they make lies in one folder, runs/again


def definitions(root: Path) -> dict[str, dict]:
    """The stages of `dvc.yaml`."""
    return yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def every(root: Path) -> dict[str, dict[str, object]]:
    """Every stage, a matrix's one by one, in `dvc.yaml`'s order.

    {stage: {key of the matrix: its value}}, the values being what its notebook gets beside the
    parameters. A list may come from params.yaml, as `${train.again}`: ValueError where it has none.
    """
    found: dict[str, dict[str, object]] = {}
    content = params.read(root / "params.yaml")
    for name, stage in definitions(root).items():
        matrix = {key: _values(values, content) for key, values in stage.get("matrix", {}).items()}
        for values in product(*matrix.values()):
            member = "-".join(map(str, values))
            found[f"{name}@{member}" if matrix else name] = dict(zip(matrix, values, strict=True))
    return found


def sections(stage: str, root: Path) -> list[str]:
    """The sections of params.yaml that a stage takes whole, by `dvc.yaml`."""
    return [name for name in _parameters(stage, root) if name in params.ROOMS]


def reads(stage: str, root: Path) -> list[str]:
    """The sections of params.yaml that a stage takes whole or in part, by `dvc.yaml`."""
    read = {name.partition(".")[0] for name in _parameters(stage, root)}
    return [name for name in params.ROOMS if name in read]


def folder(stage: str) -> str:
    """The folder below `runs/` that a stage writes: `train@masked` has train-masked.

    Those of further networks share one: `train-again@masked-1` has again/train-masked-1.
    """
    name, _, member = stage.partition("@")
    if name.endswith(AGAIN):
        return f"again/{name.removesuffix(AGAIN)}-{member}"
    return stage.replace("@", "-")


def notebook(stage: str, source: str) -> str:
    """The file of a stage's executed notebook, of the notebook `source` (without its ending).

    `train@masked` leaves 4_train-masked.ipynb, `train-again@masked-1` 4_train-masked-1.ipynb.
    """
    member = stage.partition("@")[2]
    return f"{source}-{member}.ipynb" if member else f"{source}.ipynb"


def left(root: Path) -> Iterator[Path]:
    """What lies in `runs/again` of networks that params.yaml no longer asks for."""
    asked = {Path(folder(stage)).name for stage in every(root) if AGAIN in stage}
    for path in sorted((root / "runs" / "again").glob("*-*")):
        if path.is_dir() and path.name not in asked:
            yield path


def _parameters(stage: str, root: Path) -> list[str]:
    """What a stage takes of params.yaml: sections, `train.epochs` and the like, keys above them."""
    return definitions(root)[stage.partition("@")[0]].get("params", [])


def _values(values: object, content: object) -> list:
    """A matrix's list: as it stands, or by its name in params.yaml."""
    if isinstance(values, str):
        name = values.removeprefix("${").removesuffix("}")
        values = content
        for key in name.split("."):
            values = values.get(key) if isinstance(values, dict) else None
        if not isinstance(values, list):
            raise ValueError(f"{name}: got {abridged(values)}; takes a list")
    return list(values)  # type: ignore[call-overload]
