"""One stage of the pipeline: its notebook, executed by papermill.

The notebook gets the parameters that dvc.yaml lists for its stage, checked, and nothing else.
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat

from walls.base import params, paths, progress
from walls.base.messages import reason, shown
from walls.pipeline import kernel, log, notebooks, stages
from walls.pipeline.locks import alone

NOTEBOOKS = {
    "start": "0_start",
    "theory": "1_theory",
    "wall": "2_wall",
    "data": "3_data",
    "train": "4_train",
    "train-again": "4_train",
    "stacks": "5_stacks",
    "cams": "6_cams",
    "cams-again": "6_cams",
    "paper": "7_paper",
    "sweep": "8_sweep",
    "networks": "9_networks",
}
# Stages of many cells, none much longer than the others: their cells are their progress.
EVEN = ("theory", "paper")
GATE = "params.yaml is well-formed\n"


def run(stage: str) -> None:
    """Run a stage as dvc.yaml names it; ValueError with one line for every thing that is wrong."""
    os.chdir(paths.root())  # asked for in a folder of it, too
    os.environ[progress.TERMINAL] = str(int(progress.at_a_terminal()))
    if stage == "check":
        check()
    elif stage == "render":
        notebooks.render(log.executed(paths.root()))
    else:
        execute(stage)


def check() -> None:
    """Check params.yaml and write the gate that every other stage depends on.

    Its content is constant: a stage that depends on it reruns only when a key that it reads
    changed. What lies there of networks that are no longer asked for goes: stages read the folder.
    """
    params.load()
    _require_writable(paths.root())
    for folder in stages.left(paths.root()):
        shutil.rmtree(folder)
    for gate in (paths.runs("check", "gate"), paths.runs("again", "gate")):
        gate.parent.mkdir(parents=True, exist_ok=True)
        gate.write_text(GATE)


def execute(stage: str) -> Path:
    """Run a stage's notebook; the path of the executed, normalised notebook in `runs/`.

    Raises ValueError with the notebook's own message where a cell refuses its input or can't write;
    and where the same stage runs already.
    """
    import dvc.api

    root = paths.root()
    source, values = _asked(stage, root)
    checked: Any = params.load(sections=stages.reads(stage, root))
    _require_writable(root)
    values |= dvc.api.params_show(stages=stage)
    for section in stages.sections(stage, root):
        # A key that params.yaml leaves out has its default in the notebook, too.
        given: dict[str, object] = values[section]  # type: ignore[assignment]
        whole = getattr(checked, section).model_dump()
        given |= {key: value for key, value in whole.items() if key not in given}
    folder = paths.runs(stages.folder(stage))
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with alone(stage):
        notebook = _executed(stage, root / "notebooks" / f"{source}.ipynb", values, root)
    target = folder / stages.notebook(stage, source)
    notebooks.write(notebooks.stable(notebook), target)
    seconds = time.monotonic() - started
    log.keep(stage, target, seconds)
    print(f"{stage}: {seconds:.0f} s", file=sys.stderr)
    return target


def _require_writable(root: Path) -> None:
    """ValueError naming the folder, of those that every stage writes into, that takes no file."""
    for folder in (root / "runs", root / ".dvc" / "tmp"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ValueError(
                f"{shown(folder)}: can't be written ({reason(error)}); takes a checkout that can, "
                "such as a copy of this one"
            ) from None


def _asked(stage: str, root: Path) -> tuple[str, dict[str, object]]:
    """A stage's notebook, and the parameters that tell it which of a matrix it is."""
    source = NOTEBOOKS.get(stage.partition("@")[0])
    every = stages.every(root)
    if source is None or stage not in every:
        got = stage or "nothing"
        raise ValueError(f"stage: got {got}; takes one that `dvc stage list` shows")
    return source, every[stage]


def _executed(stage: str, source: Path, values: dict, root: Path) -> nbformat.NotebookNode:
    """The notebook after papermill ran it; of one that fails, what it came to stays in `runs/`."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    # A copy of the project runs its own code in the kernel and its children, wherever they work.
    search = [str(root / "src"), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, search))
    os.environ[params.RUNNING] = stage
    failed = paths.runs(f"{stage.replace('@', '-')}.failed.ipynb")
    code = [cell for cell in nbformat.read(source, as_version=4).cells if cell.cell_type == "code"]
    count = 1 + len(code)  # and the parameters
    cells = progress.track(total=count, desc=stage, unit="cell", hidden=stage not in EVEN)
    with cells, tempfile.TemporaryDirectory() as scratch, open(os.devnull, "w") as nowhere:
        executed = Path(scratch) / "executed.ipynb"
        try:
            # The kernel ends at once when its cells are done, or when Ctrl-C is pressed: it leaves
            # no half files. Results stay in the notebook; its progress reaches the terminal.
            papermill.execute_notebook(
                source,
                executed,
                values,
                kernel_name=kernel.offer(Path(scratch)),
                cwd=root,
                progress_bar=False,
                stdout_file=nowhere,
                stderr_file=sys.stderr,
                shutdown_kernel="immediate",
                on_cell_executed=lambda **_: cells.update(),
            )
        except PapermillExecutionError as error:
            shutil.move(executed, failed)
            place = failed.relative_to(root)
            print(f"{stage}: failed; the cells that ran are in {place}", file=sys.stderr)
            if error.ename in [kind.__name__ for kind in kernel.REFUSALS]:
                raise ValueError(error.evalue) from None
            raise
        except DeadKernelError:
            raise ValueError(
                f"{stage}: its kernel was killed, perhaps for lack of memory; run it again to go on"
            ) from None
        failed.unlink(missing_ok=True)
        return nbformat.read(executed, as_version=4)
