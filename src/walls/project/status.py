"""Whether the committed results are of the committed code: dvc.lock against the files, no cache."""

from pathlib import Path

import yaml

IGNORED = ("data/", "models/", "runs/")  # git doesn't hold them: the lock alone says what they were


def stale(folder: Path) -> list[str]:
    """What isn't as dvc.lock says, a line each.

    A line names a stage, and the file, parameter or command of its that has changed.
    """
    from dvc.repo import Repo

    found = []
    for stage in Repo(str(folder)).index.stages:
        found += [f"{stage.name}: its command has changed"] if stage.changed_stage() else []
        for item in [*stage.deps, *stage.outs]:
            for name, state in item.workspace_status().items():
                if isinstance(state, dict):  # {parameter: state} of params.yaml
                    changed = (f"{key} in {name} is {how}" for key, how in state.items())
                    found += [f"{stage.name}: {one}" for one in changed]
                elif state != "deleted" or not name.startswith(IGNORED):
                    found.append(f"{stage.name}: {name} is {state}")
    return found


def disagreeing(lock: dict) -> list[str]:
    """Stages that used something else than the stage before them made, by the lock alone."""
    made = {
        out["path"]: (name, out["md5"])
        for name, stage in lock["stages"].items()
        for out in stage.get("outs", [])
    }
    found = []
    for name, stage in lock["stages"].items():
        for dep in stage.get("deps", []):
            maker, digest = made.get(dep["path"], ("", dep["md5"]))
            if digest != dep["md5"]:
                found.append(f"{name}: {dep['path']} isn't the one that {maker} made")
    return found


def show(folder: Path) -> int:
    """Print what is not of the code that lies here; 0 where all is, else 1."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))
    found = [*stale(folder), *disagreeing(lock)]
    for line in found:
        print(line)
    count = len(lock["stages"])
    if found:
        print("This code did not make all of the results: `make repro` makes them anew.")
    else:
        print(f"This code made figures/, metrics/ and rendered/, by dvc.lock ({count} stages).")
    return 1 if found else 0
