"""This project on a GPU, measured.

python -m benchmarks.gpu --out DIR --minutes 8 --archive FILE --photographs DIR
                                    on the machine with the GPU
python -m benchmarks.gpu --out DIR --tiny
                                    a rehearsal on a processor, minutes
python -m benchmarks.gpu --make-archive SOURCE TARGET --megabytes 40
                                    what --archive takes
python -m benchmarks.gpu --make-photographs SOURCE TARGET ARCHIVE
                                    what --photographs takes
python -m benchmarks.gpu --page DIR
                                    gpu.md and gpu.csv from a run
python -m benchmarks.gpu --showcase DIR
                                    showcase/tiny-imagenet-gpu from a run
"""

import argparse
import platform
import sys
import tempfile
import zipfile
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.gpu import archive, exactness, networks, preset, steps
from benchmarks.gpu.run import Run, go, table
from walls.pipeline import log

PACKAGES = ("torch", "torchvision", "numpy", "grad-cam", "torchcam", "timm", "accelerate")


def peers(run: Run) -> str:
    """Part c."""
    from benchmarks.gpu import (
        maps,
    )  # here, not above: where a peer is missing, the other parts must run

    return maps.measure(run)


# What each part is called, its share of 480 seconds, what runs it.
PARTS = {
    "a": ("the dead zone and the maps", 60, exactness.measure),
    "b": ("the training step", 110, steps.measure),
    "c": ("saliency maps against peers", 80, peers),
    "d": ("networks, Table 1, control", 230, networks.measure),
}


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="measure, and write what was found there: seven files",
    )
    parser.add_argument(
        "--minutes", type=float, default=8, help="how long the whole run may take (default: 8)"
    )
    parser.add_argument(
        "--parts",
        default="abcd",
        help="which parts to run (default: abcd); the time is shared among them",
    )
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="FILE",
        help="images for part d, of --make-archive; else drawn ones",
    )
    parser.add_argument(
        "--photographs",
        type=Path,
        metavar="DIR",
        help="larger photographs, WNID/*.JPEG, for STACK-MIX",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="a trained masked network (.safetensors) for part a",
    )
    parser.add_argument("--commit", help="the commit that is measured, to be named on the pages")
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="smallest sizes: every line runs, nothing is worth reading",
    )
    parser.add_argument(
        "--make-archive",
        nargs=2,
        type=Path,
        metavar=("SOURCE", "TARGET"),
        help="pack animal classes of a copy of Tiny-ImageNet's archive, those of --larger first",
    )
    parser.add_argument(
        "--megabytes",
        type=float,
        default=40,
        help="of the archive that is made, at most (default: 40)",
    )
    parser.add_argument(
        "--larger",
        type=Path,
        metavar="ZIP",
        help="photographs …/WNID/*.JPEG, whose classes go first",
    )
    parser.add_argument(
        "--make-photographs",
        nargs=3,
        type=Path,
        metavar=("SOURCE", "TARGET", "ARCHIVE"),
        help="unpack from a zip the photographs of the classes that an archive holds",
    )
    parser.add_argument(
        "--page",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="write benchmarks/gpu.md and gpu.csv from what --out "
        "left; of several, each part from the last one that ran it",
    )
    parser.add_argument(
        "--showcase",
        type=Path,
        metavar="DIR",
        help="write showcase/tiny-imagenet-gpu from what --out left",
    )
    parser.add_argument(
        "--leave-out",
        nargs="+",
        type=int,
        default=[],
        metavar="N",
        help="stacked images, counted from 0, that the showcase is not to show",
    )
    return parser.parse_args(arguments)


def measure(given: argparse.Namespace) -> int:
    """Run the parts; 0, or 1 where one of them failed."""
    unknown = set(given.parts) - set(PARTS)
    if unknown or not given.parts:
        raise ValueError(
            f"--parts: got {given.parts or 'nothing'}; takes letters of {''.join(PARTS)}"
        )
    for name in ("archive", "photographs", "weights"):
        path = getattr(given, name)
        if path is not None and not path.exists():
            raise ValueError(f"--{name}: got {path}, which isn't there; takes what --help says")
    given.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, _process() as pool:
        run = Run(
            given.out,
            Path(scratch),
            device,
            60 * given.minutes,
            given.tiny,
            given.archive,
            given.photographs,
            given.weights,
        )
        about = {"commit": given.commit, "tiny": given.tiny, "minutes": given.minutes} | machine(
            device
        )
        run.say(
            f"{about['device']}; {about['processor']}, {about['cores']} cores; "
            f"{', '.join(about['versions'])}"
        )
        if set(given.parts) & {"b", "d"}:
            where = [path and path.absolute() for path in (given.archive, given.photographs)]
            run.prepared = pool.submit(preset.prepare, Path(scratch) / "images", *where, given.tiny)
        done = go(
            run, {letter: part for letter, part in PARTS.items() if letter in given.parts}, about
        )
        print(f"\n{table(done)}\n", flush=True)
        run.say(
            f"written to {given.out}: "
            + ", ".join(
                f"{file.name} {file.stat().st_size / 1e6:.2f} MB"
                for file in sorted(given.out.iterdir())
            )
        )
    return int(any(part["error"] for part in done["parts"].values()))


def machine(device: torch.device) -> dict:
    """What the run was made on."""
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} not there")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    memory = (
        torch.cuda.get_device_properties(0).total_memory / 2**30 if device.type == "cuda" else None
    )
    return {
        "device": name,
        "device_memory_gib": memory,
        "processor": log.processor(),
        "cores": steps.cores(),
        "versions": versions,
        "cudnn": torch.backends.cudnn.version(),
        "date": date.today().isoformat(),
    }


def _process() -> ProcessPoolExecutor:
    """One process beside this one, started anew: a fork would share what the GPU's driver holds."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def main(arguments: list[str]) -> int:
    """Do what is asked; 0, or 1 after a line on what is wrong, or where a part failed."""
    given = parsed(arguments)
    try:
        if given.make_archive:
            source, target = given.make_archive
            first = []
            if given.larger:
                with zipfile.ZipFile(given.larger) as photographs:
                    first = list(archive.by_class(photographs))
            chosen = archive.make(source, target, given.megabytes, first)
            print(f"{target}: {len(chosen)} classes, {target.stat().st_size / 1e6:.1f} MB")
            return 0
        if given.make_photographs:
            counts = archive.photographs(*given.make_photographs)
            print(
                f"{given.make_photographs[1]}: {sum(counts.values())} photographs of "
                f"{len(counts)} classes"
            )
            return 0
        if given.page:
            from benchmarks.gpu import page

            print("\n".join(map(str, page.write(given.page, Path(__file__).resolve().parents[1]))))
            return 0
        if given.showcase:
            from benchmarks.gpu import showcase

            root = Path(__file__).resolve().parents[2]
            print(showcase.write(given.showcase, root, given.commit, given.leave_out))
            return 0
        if given.out:
            return measure(given)
        raise ValueError(
            "nothing to do; takes --out, --page, --showcase, --make-archive or --make-photographs "
            "(--help)"
        )
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        print(f"benchmarks.gpu: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
