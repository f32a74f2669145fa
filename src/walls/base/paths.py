"""Where the project lies: the nearest folder above the working directory with a `dvc.yaml`."""

from pathlib import Path


def root(start: Path | None = None) -> Path:
    """The project's root as seen from `start` (default: the working directory).

    Papermill, nbval, Jupyter and a copy of the tree each work inside some checkout; this finds
    theirs. Raises FileNotFoundError where no folder above holds `dvc.yaml`.
    """
    start = Path(start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no dvc.yaml in {start} or above it: run this inside the project")


def runs(*parts: str) -> Path:
    """A path below `runs/`, the stages' outputs."""
    return root().joinpath("runs", *parts)


def weights(which: str, network: int = 0) -> Path:
    """The file of a network's weights: `which` is masked or baseline, `network` as in `of_network`.

    masked.safetensors, baseline.safetensors, masked-1.safetensors, …
    """
    return root() / "models" / f"{which}{f'-{network}' if network else ''}.safetensors"


def of_network(name: str, network: int) -> Path:
    """The folder below `runs/` for one of several networks that are alike but for their seed.

    Of the first, 0, `name` itself; of the others again/NAME-NUMBER.
    """
    return runs("again", f"{name}-{network}") if network else runs(name)
