"""How the committed run came about: what each stage took, and on what machine.

Kept in `.resume/run.json`, a log that git and DVC leave alone, since it differs from run to run. An
entry counts only as long as the stage's executed notebook is the one it was written for.
"""

import hashlib
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import yaml

from walls.base import files, paths
from walls.pipeline import stages

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "dvc", "papermill")


def entries() -> dict[str, dict]:
    """Every stage's last entry, by its name; empty where there is none.

    An entry is {notebook, seconds, memory, machine}.
    """
    try:
        return json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):  # a log cut short is none
        return {}


def keep(stage: str, notebook: Path, seconds: float) -> None:
    """Note what a stage took, beside the digest of the notebook that it left."""
    entry = {
        "notebook": digest(notebook),
        "seconds": round(seconds, 1),
        "memory": _peak(),
        "machine": machine(),
    }
    with files.whole(_file()) as partial:
        files.write_json(entries() | {stage: entry}, partial)


def digest(notebook: Path) -> str:
    """The first eight letters of a file's MD5, DVC's own hash."""
    return hashlib.md5(notebook.read_bytes()).hexdigest()[:8]


def machine() -> str:
    """Processor, threads, system and versions, in a line."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS") or cores
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{processor()}, {threads} threads; {system}, {versions}"


def processor() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def took() -> str:
    """The last run's stages, their seconds and memory, in a sentence."""
    stages = executed(paths.root())  # which there are now; others ran before under another name
    noted = {stage: entry for stage, entry in entries().items() if stage in stages}
    if not noted:
        return "a time that was not recorded."
    minutes = sum(entry["seconds"] for entry in noted.values()) / 60
    most = max(entry["memory"] for entry in noted.values())
    each = ", ".join(f"{stage} {entry['seconds']:.0f} s" for stage, entry in noted.items())
    return f"{minutes:.0f} min and at most {most} MB: {each} (.resume/run.json)."


def table() -> str | None:
    """The run as text and a table, a stage per row.

    It is None unless the log holds every stage of the run that lies in `runs/`.

    All stages must have run on the same machine, with the same versions.
    """
    root, noted = paths.root(), entries()
    notebooks = executed(root)
    lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    for stage, file in notebooks.items():
        if stage not in noted or not file.is_file() or noted[stage]["notebook"] != digest(file):
            return None
    noted = {stage: noted[stage] for stage in notebooks}
    if len({entry["machine"] for entry in noted.values()}) > 1:
        return None
    train = json.loads((root / "metrics" / "train.json").read_text(encoding="utf-8"))
    kinds = {f"{scores['precision']} on {scores['device']}" for scores in train.values()}
    lines = [
        f"{noted[stage]['machine']}. Training: {', '.join(sorted(kinds))}.",
        "",
        "| `dvc repro --force --single-item …` | wall time | memory | output | executed notebook |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    sizes = {stage: sum(out["size"] for out in lock[stage]["outs"]) / 1e6 for stage in notebooks}
    for stage, entry in noted.items():
        lines.append(
            f"| `{stage}` | {entry['seconds']:.0f} s | {entry['memory']} MB | {sizes[stage]:.1f} "
            f"MB | [{notebooks[stage].stem}](rendered/{notebooks[stage].name}) "
            f"`{entry['notebook']}` |"
        )
    total, most = (
        sum(e["seconds"] for e in noted.values()) / 60,
        max(e["memory"] for e in noted.values()),
    )
    lines.append(
        f"| all: `dvc repro --force` | {total:.0f} min "
        f"| {most} MB | {sum(sizes.values()):.0f} MB | |"
    )
    lines += ["", "Memory: of the largest process, at its peak."]
    return "\n".join(lines)


def executed(root: Path) -> dict[str, Path]:
    """Each stage that runs a notebook, in `dvc.yaml`'s order.

    With each comes the executed notebook that it leaves in `runs/`.
    """
    found, definitions = {}, stages.definitions(root)
    for stage in stages.every(root):
        deps = definitions[stage.partition("@")[0]]["deps"]
        for source in (Path(dep) for dep in deps if dep.startswith("notebooks/")):
            name = stages.notebook(stage, source.stem)
            found[stage] = root / "runs" / stages.folder(stage) / name
    return found


def _file() -> Path:
    return paths.root() / ".resume" / "run.json"


def _peak() -> int:
    """Peak MB of the largest of this process's finished children; 0 on Windows.

    Most often that is the notebook's kernel.
    """
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // (
        10**6 if sys.platform == "darwin" else 1000
    )
