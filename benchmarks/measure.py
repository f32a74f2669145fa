"""What the benchmarks measure with: a clock, a spread, the machine they ran on."""

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date

import numpy as np
import torch

from walls.base import paths
from walls.network.classifier import Classifier
from walls.pipeline import log
from walls.saliency.activity import measured


def clocked(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that `work` takes, the device's part included."""
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


@contextmanager
def one_core_busy() -> Iterator[None]:
    """Meanwhile a process of its own keeps one core busy."""
    spin = "print('on', flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as child:
        try:
            child.stdout.readline()
            yield
        finally:
            child.kill()


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def activities(model: Classifier, maps: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """µ×100 of raw maps (N, h, w) of a network behind a wall, for images (N, 3, H, W): (N,)."""
    rows, columns = images.shape[2:]
    return 100 * measured(maps, (rows, columns), model.zone(rows))[0]


def quartiles(values: np.ndarray, digits: int = 1) -> str:
    """Median [first quartile, third quartile]."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{median:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def hardware(device: torch.device, *packages: str) -> str:
    """The machine and the versions (`packages` as they should be said), in a line."""
    cpu = f"{log.processor()}, {torch.get_num_threads()} threads"
    gpu = f"{torch.cuda.get_device_name()}, with " if device.type == "cuda" else ""
    return f"{gpu}{cpu}; Python {platform.python_version()}, {', '.join(packages)}; {date.today().isoformat()}"


def sources_commit() -> str:
    """The last commit that touched what the results are made of."""
    sources = [
        "src",
        ":!src/walls/project",
        ":!src/walls/pipeline",
        "notebooks",
        "dvc.yaml",
        "params.yaml",
        "rejects.csv",
        "crops.csv",
    ]
    command = ["git", "log", "-1", "--format=%H", "--", *sources]
    return subprocess.run(
        command, cwd=paths.root(), capture_output=True, check=True, encoding="utf-8"
    ).stdout.strip()
