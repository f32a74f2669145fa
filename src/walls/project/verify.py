"""Whether another run says what the committed results say. The working tree stays as it is."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from walls.base import paths
from walls.project.comparison import Check, committed, compare, in_folder

NOTHING = 2  # exit code: nothing could be compared


def verify(folder: Path | None, other: Path | None) -> int:
    """Compare a run in `folder` with the committed results, or `other`'s.

    Without a folder the project is run anew in a clone.

    Prints the comparison; the exit code.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    scratch = None
    try:
        root = paths.root()
        theirs = in_folder(other) if other else committed(root)
        if folder is None:
            scratch = Path(tempfile.mkdtemp(prefix="see-through-walls-"))
            theirs = committed(root, rerun(root, scratch / "project"))
        checks = compare(theirs, in_folder(folder or scratch / "project"))
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return NOTHING
    except KeyboardInterrupt:
        print("verify: stopped; nothing was compared", file=sys.stderr)
        return 130
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    print(report(checks))
    return 0 if all(check.agrees for check in checks) else 1


def report(checks: list[Check]) -> str:
    """The comparison as a table per topic, and a last line that says how it ended."""
    table = pd.DataFrame(checks).astype({"committed": str, "here": str})
    table["agrees"] = table["agrees"].map({True: "yes", False: "NO"})
    parts = [
        f"## {topic}\n"
        "\n"
        f"{group.drop(columns='topic').to_markdown(index=False, disable_numparse=True)}"
        for topic, group in table.groupby("topic", sort=False)
    ]
    wrong = [f"{check.topic}, {check.what}" for check in checks if not check.agrees]
    end = (
        f"{len(wrong)} of {len(checks)} don't agree: {'; '.join(wrong)}."
        if wrong
        else f"All {len(checks)} agree."
    )
    return "\n\n".join([*parts, end])


def rerun(root: Path, folder: Path) -> str:
    """Clone what is committed in `root` into `folder` and run all of it there; the commit.
    ValueError where it fails.
    """
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, encoding="utf-8"
    )
    if head.returncode:
        raise ValueError(
            f"{root}: no git checkout ({head.stderr.strip()}); "
            "takes one, or the folder of another run"
        )
    commit = head.stdout.strip()
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(root), str(folder)], check=True)
    subprocess.run(
        ["git", "-c", "advice.detachedHead=false", "checkout", "--quiet", commit],
        cwd=folder,
        check=True,
    )
    # By force: a cache that all projects share would hand back the very results that are to be
    # checked.
    if repro(folder):
        raise ValueError("the rerun failed, for the reason above; nothing was compared")
    return commit


def repro(folder: Path) -> int:
    """`dvc repro --force` in a copy of the project; its exit code.

    Stopped before its end, it stops all it has started.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--force"]
    with subprocess.Popen(command, cwd=folder, env=environment(folder), process_group=0) as running:
        try:
            return running.wait()
        except BaseException:
            os.killpg(running.pid, signal.SIGINT)  # as the terminal would, of whose group it isn't
            running.wait()
            raise


def environment(folder: Path) -> dict[str, str]:
    """The environment in which a copy of the project runs its own code with this interpreter."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return os.environ | {"PYTHONPATH": str(folder / "src"), "PATH": path}
