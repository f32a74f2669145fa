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


def run(asked: argparse.Namespace) -> None:
    from walls.project import runner

    runner.run(asked.stage)


def check_params(asked: argparse.Namespace) -> None:
    from walls.base import params

    params.load(asked.file)


def train(asked: argparse.Namespace) -> None:
    from walls.project import train

    train.whole(asked.which)


def evaluate(asked: argparse.Namespace) -> None:
    from walls.project import evaluate

    evaluate.whole(asked.which)


def unlock(asked: argparse.Namespace) -> None:
    from walls.project import locks

    locks.unlock()


def readme(asked: argparse.Namespace) -> None:
    from walls.project import documents

    documents.fill()


def summary(asked: argparse.Namespace) -> None:
    from walls.project import summary

    summary.show()


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
        train,
        "train",
        "train one network on every device there is",
        "Started by `accelerate launch -m walls train WHICH` or torchrun, after "
        "`dvc repro wall data`; the next `dvc repro` takes the finished weights.",
    )
    added.add_argument("which", metavar="WHICH", help="masked or baseline")
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
        "Without folders, runs what is committed anew, in a clone that is deleted again. "
        "Exit code: 0 they agree, 1 they don't, 2 there is nothing to compare, 130 stopped.",
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
        help="a copy whose results stand in place of the committed ones",
    )
    command(unlock, "unlock", "remove what a killed run has cut short of DVC's notes")
    return top


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
