"""The command line: `walls COMMAND`, or `python -m walls COMMAND`.

Each command imports what it needs.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from walls.base import paths

STOPPED = 130
PATIENCE = 10  # seconds in which the first of several processes says what is wrong with all
CHECKED = ("GradCAM", "GradCAM++", "XGradCAM", "EigenCAM", "HiResCAM", "LayerCAM")
EXAMPLE = """\
example:
  walls check torchvision:resnet18 --methods GradCAM HiResCAM --images photos --out report
  walls check timm:convnext_tiny --weights convnext.safetensors --images photos

Two photographs stand one above the other. The network sees only the upper one: no logit can
depend on the lower one, and a map should show nothing of it. With --seen-rows, both parts are of
one photograph. Exit code: 0 done, 1 something can't be read, isn't known, or doesn't fit.
"""


def run(asked: argparse.Namespace) -> None:
    from walls.pipeline import runner

    runner.run(asked.stage)


def check_params(asked: argparse.Namespace) -> None:
    from walls.base import params

    params.load(asked.file)


def check(asked: argparse.Namespace) -> None:
    from walls.project import check_command

    check_command.run(asked)


def train(asked: argparse.Namespace) -> None:
    from walls.project import train

    train.whole(asked.which)


def evaluate(asked: argparse.Namespace) -> None:
    from walls.project import evaluate

    evaluate.whole(asked.which)


def unlock(asked: argparse.Namespace) -> None:
    from walls.pipeline import locks

    locks.unlock()


def readme(asked: argparse.Namespace) -> None:
    from walls.project import documents

    documents.fill()


def summary(asked: argparse.Namespace) -> None:
    from walls.project import summary

    summary.show()


def status(asked: argparse.Namespace) -> int:
    from walls.project import status

    return status.show(paths.root())


def record(asked: argparse.Namespace) -> None:
    from walls.project import documents

    documents.record()


def site(asked: argparse.Namespace) -> None:
    from walls.project import site

    root = paths.root()
    pages = site.build(root, root / "site")
    print(f"{len(pages)} pages; open site/index.html")


def pack(asked: argparse.Namespace) -> None:
    from walls.project import pack

    root = paths.root()
    target = root / "dist" / f"{pack.NAME}.tar.gz"
    size = pack.pack(root, target)
    print(f"{target.relative_to(root)}: {size / 1e6:.0f} MB")


def verify(asked: argparse.Namespace) -> int:
    from walls.project import verify

    return verify.verify(asked.folder, asked.other)


def parser() -> argparse.ArgumentParser:
    """Every command, what it takes, and what it does."""
    top = argparse.ArgumentParser(
        prog="walls",
        description="See Through Walls: does a saliency map light up what the network can't see?",
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(function, name: str, help: str, more: str = "") -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=f"{help}. {more}".strip())
        added.set_defaults(function=function)
        return added

    added = command(run, "run", "run one stage of the pipeline", "`dvc repro` calls it.")
    added.add_argument(
        "stage",
        metavar="STAGE",
        help="as dvc.yaml names it: check, theory, wall, data, train@masked, …, paper, render",
    )
    added = command(
        check_params,
        "params",
        "check a parameter file",
        "One line for every wrong value; exit code 1 where there is one.",
    )
    added.add_argument("file", metavar="FILE", nargs="?", type=Path, help="default: params.yaml")
    added = command(
        check, "check", "measure what saliency maps show of an image that a network can't see"
    )
    _take_check(added)
    added = command(
        train,
        "train",
        "train one network on every device there is",
        "Started by `accelerate launch -m walls train WHICH` or torchrun, after "
        "`dvc repro wall data`; the next `dvc repro` takes the finished weights.",
    )
    added.add_argument(
        "which", metavar="WHICH", help="masked or baseline, or masked-1 for 1 in train.again"
    )
    added = command(
        evaluate,
        "evaluate",
        "make one dataset's saliency maps on every device there is",
        "Started by `accelerate launch -m walls evaluate WHICH` or torchrun, after `dvc repro "
        "train stacks`; the next `dvc repro` takes the finished maps.",
    )
    added.add_argument("which", metavar="WHICH", help="stack-mix or stack-gen")
    command(summary, "summary", "print what the last run found, and what it took")
    command(
        readme, "readme", "write the run's numbers into README.md, ARTIFACT.md and the showcases"
    )
    command(
        status,
        "status",
        "say whether this code made the committed results",
        "By dvc.lock's hashes: in seconds, without a cache, running nothing. Exit code: "
        "0 it made them all, 1 it did not, with a line for each result.",
    )
    command(
        record,
        "record",
        "make the last run the committed one",
        "Writes its machine and times into ARTIFACT.md.",
    )
    command(site, "site", "build the web pages into site/")
    command(pack, "pack", "pack the sources and the cached results into dist/")
    added = command(
        verify,
        "verify",
        "compare a run with the committed results",
        "Without a folder, reruns the committed code in a clone, and deletes the clone. Exit "
        "code: 0 they agree, 1 they don't, 2 there is nothing to compare, 130 stopped.",
    )
    added.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        type=Path,
        help="a copy of the project whose results are compared, instead of a new run",
    )
    added.add_argument(
        "other",
        metavar="OTHER",
        nargs="?",
        type=Path,
        help="a copy whose results are taken instead of the committed ones",
    )
    command(unlock, "unlock", "remove the files of DVC that a killed run left unfinished")
    return top


def _take_check(added: argparse.ArgumentParser) -> None:
    """What `walls check` takes."""
    added.usage = "walls check [-h] NETWORK [options]"
    added.formatter_class = argparse.RawDescriptionHelpFormatter
    added.epilog = EXAMPLE
    takes = added.add_argument
    takes(
        "network",
        metavar="NETWORK",
        help="torchvision:NAME, timm:NAME, or efficientnet-lite0 (-lite1, -lite2)",
    )
    takes(
        "--weights",
        metavar="W",
        help="a local file, or none for random ones; default: those of its library",
    )
    takes(
        "--classes",
        metavar="N",
        type=int,
        help="number of classes of the weights; default: that of its library",
    )
    takes("--layer", metavar="L", help="its output gives the maps; default: the last feature maps")
    names = " ".join(CHECKED)
    own = "names, or FILE.py:FUNCTION for (network, images, targets) -> maps"
    takes("--methods", metavar="M", nargs="+", default=CHECKED, help=f"{own}; default: {names}")
    takes(
        "--images",
        metavar="FOLDER",
        default="packaged",
        help="photographs: CLASS/*.jpg or *.jpg; default: packaged, foolbox's twenty",
    )
    takes(
        "--seen-rows",
        metavar="N",
        type=int,
        help="rows of one image that are seen; default: two photographs",
    )
    takes(
        "--sign",
        metavar="S",
        default="relu",
        help="scores below 0 count as 0 (relu) or as their size (abs)",
    )
    takes(
        "--costly-images",
        metavar="N",
        type=int,
        default=6,
        help="photographs for ScoreCAM and Opti-CAM, which take minutes; default: 6",
    )
    takes("--seed", metavar="N", type=int, default=0, help="of all random numbers; default: 0")
    takes(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("report"),
        help="folder of the report; default: report",
    )
    takes(
        "--submit",
        metavar="DIR",
        type=Path,
        help="also write a file for every method, for the table of all methods (CONTRIBUTING.md)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 1 after one line for each thing that is wrong."""
    asked = parser().parse_args(arguments)
    try:
        return asked.function(asked) or 0
    except (ValueError, OSError) as error:
        if int(os.environ.get("RANK", 0)):
            # Of several processes the first prints, and its launcher stops the others; where the
            # fault is another's alone, that one prints after a while.
            time.sleep(PATIENCE)
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        what = getattr(asked, "stage", asked.command)
        print(f"{what}: stopped; run it again to go on", file=sys.stderr)
        return STOPPED
