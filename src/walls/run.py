"""The notebook runner: one stage of the pipeline, its notebook executed by papermill.

    python -m walls.run STAGE          check, theory, wall, data, train@masked, …, paper, render; as dvc.yaml names them
    python -m walls.run readme         put the run's numbers into README.md and ARTIFACT.md, between their markers
    python -m walls.run summary        what the run found, in five lines
    python -m walls.run unlock         remove what a kill has cut short of DVC's notes

The notebook gets the parameters that dvc.yaml lists for its stage, checked, and nothing else.
"""

import builtins
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import yaml

import walls
from walls import params, paths, progress, record

NOTEBOOKS = {"theory": "1_theory", "wall": "2_wall", "data": "3_data", "train": "4_train", "stacks": "5_stacks",
             "cams": "6_cams", "paper": "7_paper", "sweep": "8_sweep"}  # fmt: skip
EVEN = ("theory", "paper")  # stages of many cells, none much longer than others: their cells are their progress


def execute(stage: str) -> Path:
    """Run a stage's notebook with its parameters; the path of the executed, normalised notebook in `runs/`.

    Raises ValueError with the notebook's own message where a cell refuses its input or can't write; and where the same
    stage runs already.
    """
    import dvc.api
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    name, _, member = stage.partition("@")
    root = paths.root()
    stages = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    # What tells a matrix stage's runs apart is a parameter of its notebook.
    key, members = next(iter(stages.get(name, {}).get("matrix", {}).items()), ("", [""]))
    if name not in NOTEBOOKS or member not in members:
        raise ValueError(f"stage: got {stage or 'nothing'}; takes one that `dvc stage list` shows")
    params.load()
    values = dvc.api.params_show(stages=stage)
    if member:
        values[key] = member
    folder = paths.runs(stage.replace("@", "-"))
    folder.mkdir(parents=True, exist_ok=True)
    failed = folder.with_name(folder.name + ".failed.ipynb")
    started = time.monotonic()
    source = root / "notebooks" / f"{NOTEBOOKS[name]}.ipynb"
    count = 1 + sum(cell.cell_type == "code" for cell in nbformat.read(source, as_version=4).cells)  # and the parameters
    cells = progress.track(total=count, desc=stage, unit="cell", hidden=name not in EVEN)
    with _alone(stage), cells, tempfile.TemporaryDirectory() as scratch:
        executed = Path(scratch) / "executed.ipynb"
        try:
            # The kernel ends at once when its cells are done, or when Ctrl-C is pressed: it leaves no half files.
            papermill.execute_notebook(
                source, executed, values, kernel_name="python3", cwd=root, progress_bar=False, stdout_file=_Nowhere(),
                stderr_file=sys.stderr, shutdown_kernel="immediate", extra_arguments=["--log-level=ERROR"],
                on_cell_executed=lambda **_: cells.update())  # fmt: skip
        except PapermillExecutionError as error:
            shutil.move(executed, failed)
            print(f"{stage}: failed; how far it came stands in {failed.relative_to(root)}", file=sys.stderr)
            if issubclass(getattr(builtins, error.ename, Exception), ValueError | OSError):
                raise ValueError(error.evalue) from None
            raise
        except DeadKernelError:
            raise ValueError(f"{stage}: its kernel was killed, as when memory runs out; run it again to go on") from None
        notebook = nbformat.read(executed, as_version=4)
    failed.unlink(missing_ok=True)
    target = folder / f"{NOTEBOOKS[name]}{'-' + member if member else ''}.ipynb"
    _write(normalise(notebook), target)
    record.keep(stage, target, time.monotonic() - started)
    print(f"{stage}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return target


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An executed notebook without what differs from run to run: times, random ids, progress bars, widgets."""
    notebook.metadata = nbformat.from_dict({
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    })  # fmt: skip
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = [_output(output) for output in _merged(cell.outputs)]
    return notebook


def render() -> None:
    """Copy the last run's executed notebooks to `rendered/`, what a reader opens."""
    found = {file.name: file for file in sorted(paths.runs().glob("*/*_*.ipynb"))}
    missing = [name for name in NOTEBOOKS.values() if not any(file.startswith(name) for file in found)]
    if missing:
        raise ValueError(f"runs/ holds no executed {missing[0]}; takes a `dvc repro` first")
    target = paths.root() / "rendered"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name, file in found.items():
        _write(normalise(nbformat.read(file, as_version=4)), target / name)


def unlock() -> None:
    """Remove what a kill has cut short of DVC's notes: its list of the files in use, and dvc.lock. Says so.

    DVC writes both in place and reads no torn one; without them it takes finished stages from its cache. Whoever writes
    one holds its lock meanwhile, so that what another process is at stays.
    """
    from dvc import rwlock, schema
    from dvc.lock import LockError, make_lock
    from voluptuous import Invalid

    root = paths.root()
    folder = root / ".dvc" / "tmp"
    folder.mkdir(exist_ok=True)
    for file, lock, read in (
        (folder / "rwlock", "rwlock.lock", lambda text: rwlock.SCHEMA(json.loads(text))),
        (root / "dvc.lock", "lock", lambda text: schema.COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(text))),
    ):
        try:
            with make_lock(str(folder / lock), tmp_dir=str(folder)):
                if file.is_file():
                    try:
                        read(file.read_text(encoding="utf-8"))
                    except (ValueError, yaml.YAMLError, Invalid):
                        file.unlink()
                        print(f"{file.relative_to(root)}: cut short by a kill; removed", file=sys.stderr)
        except LockError:  # another DVC is at work
            continue


@contextmanager
def _alone(stage: str) -> Iterator[None]:
    """ValueError where another process runs the stage, such as one that outlived its `dvc repro`."""
    from dvc.lock import LockError, make_lock

    folder = paths.root() / ".dvc" / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    lock = make_lock(str(folder / f"{stage}.lock"))
    try:
        lock.lock()
    except LockError:
        raise ValueError(f"{stage}: another process runs it; takes the end of that one first") from None
    try:
        yield
    finally:
        lock.unlock()


class _Nowhere:
    """The notebook's printed results stay in the notebook; only its progress reaches the terminal."""

    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


def _merged(outputs: list) -> list:
    """Outputs without stderr and widgets, neighbouring prints joined (the kernel splits them by timing)."""
    kept: list = []
    for output in outputs:
        if output.get("name") == "stderr" or "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
            continue
        if kept and output.output_type == "stream" and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def _output(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    output.pop("transient", None)
    if "metadata" in output:
        output.metadata = nbformat.from_dict({})
    return output


def _write(notebook: nbformat.NotebookNode, path: Path) -> None:
    with paths.whole(path) as partial:
        nbformat.write(notebook, partial)


def main(arguments: list[str]) -> int:
    """Run one stage; 0, or 1 after one line per error."""
    source = paths.root() / "src"
    if source not in Path(walls.__file__).resolve().parents and str(source) not in os.environ.get("PYTHONPATH", ""):
        # A copy of the project runs its own code, not the installed checkout's.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH")]))
        os.execv(sys.executable, [sys.executable, "-m", "walls.run", *arguments])
    stage = " ".join(arguments)
    os.environ[progress.TERMINAL] = str(int(progress.at_a_terminal()))
    if stage == "check":
        return params.main(["--gate", str(paths.runs("check", "gate"))])
    try:
        if stage in ("readme", "summary"):
            from walls import report  # pandas, which no stage waits for

            getattr(report, stage)()
        else:
            {"render": render, "unlock": unlock}.get(stage, lambda: execute(stage))()
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{stage}: stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
