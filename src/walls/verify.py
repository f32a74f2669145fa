"""Whether another run says what the committed results say.

    python -m walls.verify                  run what is committed anew, in a clone that is deleted again, and compare
    python -m walls.verify FOLDER           compare the results in another copy of the project instead
    python -m walls.verify FOLDER OTHER     the same with those in OTHER in place of the committed ones

Exit code: 0 they agree, 1 they don't, 2 there is nothing to compare, 130 stopped. The working tree stays as it is.

What is derived or drawn must be equal on every machine. What is trained can't be: another processor rounds float32 and
bfloat16 differently, and a training makes another network of that, so it must agree as closely as two honest runs do.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import yaml
from scipy import stats

from walls import claims, paths

# How far two honest runs lie apart, as `python -m benchmarks.spread` measures and prints it: points for an accuracy, µ×100
# for a line of Table 1. What isn't listed here may lie apart by the width of its own committed 95% interval, of its images
# alone, but at least by what is not yet called highlighted: a method may have been dark by chance on all of the images.
SPREAD: dict[str, float] = {
    "masked top1": 10.1,
    "baseline top1": 5.2,
    "GradCAM, stack-mix": 15.9,
    "GradCAM++, stack-mix": 19.3,
    "XGradCAM, stack-mix": 15.4,
    "ScoreCAM, stack-mix": 14.7,
    "Opti-CAM, stack-mix": 16.5,
    "AblationCAM, stack-mix": 18.6,
    "EigenCAM, stack-mix": 51.4,
    "EigenCAM (sign fixed), stack-mix": 47.7,
    "EigenCAM (other sign), stack-mix": 19.8,
    "EigenGradCAM, stack-mix": 50.2,
    "KPCA-CAM, stack-mix": 47.7,
    "FEM, stack-mix": 38.8,
    "FinerCAM, stack-mix": 34.7,
    "RandomCAM, stack-mix": 20.6,
    "GradCAM, stack-gen": 27.2,
    "GradCAM++, stack-gen": 27.0,
    "XGradCAM, stack-gen": 28.5,
    "ScoreCAM, stack-gen": 26.0,
    "Opti-CAM, stack-gen": 16.6,
    "AblationCAM, stack-gen": 29.0,
    "EigenCAM, stack-gen": 41.0,
    "EigenCAM (sign fixed), stack-gen": 52.0,
    "EigenCAM (other sign), stack-gen": 19.6,
    "EigenGradCAM, stack-gen": 41.9,
    "KPCA-CAM, stack-gen": 54.6,
    "FEM, stack-gen": 36.5,
    "FinerCAM, stack-gen": 33.7,
    "RandomCAM, stack-gen": 19.8,
}
DIGITS = 1e-5  # relative, of the theory's values: they are written with six digits, and the last may be rounded otherwise
DARK = ("HiResCAM", "LayerCAM", "GradCAMElementWise")  # zero behind the wall, whatever the network
EMPTY = 0.05  # the share of images whose maps may be all zero for one network and not for another
# Claims that a trained network decides: their verdict may move to inconclusive or away from it, never from holds to fails.
TRAINED = ("highlights the dead zone", "rank the methods alike", "costs top-1 accuracy")
# In metrics/theory.json: sampled, optimised, or the rounding itself. `holds` says whether they fit, and must be equal.
SAMPLED = {"sampled", "errors", "errors, all positions", "P(> 0)", "median", "mean", "t P, sampled", "p-value",
           "difference", "difference as it is", "score", "uniform β", "best on a grid", "gap", "positive there",
           "μ of the raw map"}  # fmt: skip
CELLS = ["mean", "std", "ci_low", "ci_high", "mean_raw"]

Read = Callable[[str], str]  # the text of a result, by its path in the project


class Check(NamedTuple):
    """One line of the comparison."""

    topic: str
    what: str
    committed: object
    here: object
    allowed: str
    agrees: bool


def committed(root: Path, revision: str = "HEAD") -> Read:
    """The results as git holds them; ValueError where it doesn't."""

    def read(name: str) -> str:
        done = subprocess.run(["git", "show", f"{revision}:{name}"], cwd=root, capture_output=True, encoding="utf-8")
        if done.returncode:
            raise ValueError(f"{name}: not committed here ({done.stderr.strip()}); takes a git checkout of the project")
        return done.stdout

    return read


def lying(folder: Path) -> Read:
    """The results as they lie in a copy of the project; ValueError where they don't."""

    def read(name: str) -> str:
        try:
            return (folder / name).read_text(encoding="utf-8")
        except OSError:
            raise ValueError(f"{folder / name}: not there; takes a copy of the project after `dvc repro`") from None

    return read


def compare(theirs: Read, ours: Read) -> list[Check]:
    """Every claim of the committed run (`theirs`) beside another's (`ours`); ValueError where their parameters differ."""
    a, b = (yaml.safe_load(read("params.yaml")) for read in (theirs, ours))
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            raise ValueError(f"params.yaml: {key} differs; takes a run of the same parameters")
    parts = (geometry, certificates, theory, images, zeros, accuracies, table1, verdicts)
    return [check for part in parts for check in part(theirs, ours)]


def geometry(theirs: Read, ours: Read) -> Iterator[Check]:
    """The dead zone and what follows from it: equal."""
    a, b = _metrics("wall", theirs, ours)
    for key in a | b:
        yield _equal("geometry", key, a.get(key, "missing"), b.get(key, "missing"))


def certificates(theirs: Read, ours: Read) -> Iterator[Check]:
    """What the notebooks say about the wall on the fresh weights (all of notebook 2) and on the trained ones: equal."""
    for name, key in (("2_wall", ""), ("6_cams-stack-mix", "Certified"), ("6_cams-stack-gen", "Certified")):
        a, b = ([line for line in _printed(read(f"rendered/{name}.ipynb")) if key in line] for read in (theirs, ours))
        here = "the same" if a == b else next((line for line in b if line not in a), "fewer lines")
        yield Check("certificates", f"rendered/{name}.ipynb", _counted(len(a), "line"), here, "equal", a == b)


def theory(theirs: Read, ours: Read) -> Iterator[Check]:
    """The theory's exact values, part by part, and which of its checks hold: equal, to `DIGITS`."""
    a, b = map(_exact, _metrics("theory", theirs, ours))
    parts: dict[str, list] = {}
    for name in a | b:
        x, y = a.get(name, "missing"), b.get(name, "missing")
        parts.setdefault(name.split(":")[0], []).append((name, x, y, _close(x, y)))
    for part, found in parts.items():
        wrong = "; ".join(f"{name} {y} for {x}" for name, x, y, same in found if not same)
        yield Check("theory", part, _counted(len(found), "value"), wrong or "the same", f"{DIGITS:g} of each", not wrong)


def images(theirs: Read, ours: Read) -> Iterator[Check]:
    """The images, by DVC's digest of their files: equal, so every pixel is."""
    a, b = (yaml.safe_load(read("dvc.lock"))["stages"]["data"]["outs"] for read in (theirs, ours))
    x, y = ({out["path"]: out for out in outs}["data/set"] for outs in (a, b))
    yield _equal("images", f"data/set, {x['nfiles']} files", x["md5"], y["md5"])


def zeros(theirs: Read, ours: Read) -> Iterator[Check]:
    """The activity of HiResCAM and the other methods that can have none: exactly 0."""
    a, b = _tables(theirs, ours)
    for key, row in a.iterrows():
        if key[1] in DARK:
            here = b.loc[key, CELLS] if key in b.index else None
            yield Check("zeros", " ".join(key), "0", "missing" if here is None else f"{here.abs().max():g}", "equal",
                        here is not None and not row[CELLS].any() and bool((here == 0).all()))  # fmt: skip


def accuracies(theirs: Read, ours: Read) -> Iterator[Check]:
    """Top-1 and top-5 within their tolerance; as many epochs and images; the precision is told."""
    a, b = _metrics("train", theirs, ours)
    shown = yaml.safe_load(theirs("params.yaml"))["data"]["val_images"]
    for which in a | b:
        x, y = a.get(which, {}), b.get(which, {})
        for key in ("top1", "top5"):
            yield _accuracy(f"{which} {key}", x.get(key), y.get(key), shown)
        yield from (_equal("accuracy", f"{which} {key}", x.get(key), y.get(key)) for key in ("epochs", "images_seen"))
        yield Check("accuracy", f"{which} precision", x.get("precision"), y.get("precision"), "any", True)


def table1(theirs: Read, ours: Read) -> Iterator[Check]:
    """Every cell of Table 1, a line per dataset and method."""
    a, b = _tables(theirs, ours)
    for key in [*a.index, *b.index.difference(a.index)]:
        if key not in a.index or key not in b.index:
            told = ["no such line" if key not in table.index else "a line" for table in (a, b)]
            yield Check("Table 1", " ".join(key), *told, "equal", False)
            continue
        x, y = a.loc[key], b.loc[key]
        least = 0 if key[1] in (*DARK, "uniform map") else 100 * claims.ACTIVE
        allowed = SPREAD.get(f"{key[1]}, {key[0]}", max(x["ci_high"] - x["ci_low"], least))
        apart = {cell: abs(x[cell] - y[cell]) for cell in CELLS if not (math.isnan(x[cell]) and math.isnan(y[cell]))}
        wrong = [f"{cell} {y[cell]:.4g}" for cell, far in apart.items() if not far <= allowed + 1e-4]  # four decimals
        fixed = ["images", "paper_mean", "paper_std"]
        wrong += [f"{cell} {y[cell]:.4g}" for cell in fixed if not _close(float(x[cell]), float(y[cell]))]
        if abs(x["empty"] - y["empty"]) > EMPTY * x["images"]:
            wrong.append(f"{y['empty']:.0f} empty maps")
        told = f"{y['mean']:.1f} ± {y['std']:.1f}" + "".join(f"; {cell}" for cell in wrong)
        yield Check("Table 1", " ".join(key), f"{x['mean']:.1f} ± {x['std']:.1f}", told, f"± {allowed:.1f}", not wrong)


def verdicts(theirs: Read, ours: Read) -> Iterator[Check]:
    """The verdict on every claim of the paper."""
    a, b = ({row["claim"]: row["verdict"] for row in rows} for rows in _metrics("claims", theirs, ours))
    for claim in a | b:
        x, y = a.get(claim, "missing"), b.get(claim, "missing")
        trained = any(words in claim for words in TRAINED)
        near = trained and claims.INCONCLUSIVE in (x, y) and {x, y} <= {claims.HOLDS, claims.FAILS, claims.INCONCLUSIVE}
        yield Check("verdict", claim, x, y, "one step" if trained else "equal", x == y or near)


def report(checks: list[Check]) -> str:
    """The comparison as a table per topic, and a last line that says how it ended."""
    table = pd.DataFrame(checks).astype({"committed": str, "here": str})
    table["agrees"] = table["agrees"].map({True: "yes", False: "NO"})
    parts = [f"## {topic}\n\n{group.drop(columns='topic').to_markdown(index=False, disable_numparse=True)}"
             for topic, group in table.groupby("topic", sort=False)]  # fmt: skip
    wrong = [f"{check.topic}, {check.what}" for check in checks if not check.agrees]
    end = f"{len(wrong)} of {len(checks)} don't agree: {'; '.join(wrong)}." if wrong else f"All {len(checks)} agree."
    return "\n\n".join([*parts, end])


def rerun(root: Path, folder: Path) -> str:
    """Clone what is committed in `root` into `folder` and run all of it there; the commit. ValueError where it fails."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, encoding="utf-8")
    if head.returncode:
        raise ValueError(f"{root}: no git checkout ({head.stderr.strip()}); takes one, or the folder of another run")
    commit = head.stdout.strip()
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(root), str(folder)], check=True)
    subprocess.run(["git", "-c", "advice.detachedHead=false", "checkout", "--quiet", commit], cwd=folder, check=True)
    # By force: a cache that all projects share would hand back the very results that are to be checked.
    if repro(folder):
        raise ValueError("the rerun failed, as it says above; takes one that ends")
    return commit


def repro(folder: Path) -> int:
    """`dvc repro --force` in a copy of the project; its exit code. Stopped before its end, it stops all it has started."""
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


def _metrics(name: str, *reads: Read) -> list:
    return [json.loads(read(f"metrics/{name}.json")) for read in reads]


def _tables(*reads: Read) -> list[pd.DataFrame]:
    return [pd.read_csv(StringIO(read("figures/table1.csv"))).set_index(["dataset", "method"]) for read in reads]


def _printed(notebook: str) -> list[str]:
    """The lines that a notebook's cells printed."""
    outputs = [output for cell in json.loads(notebook)["cells"] for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", "")) for output in outputs).splitlines()


def _exact(found: dict) -> dict[str, object]:
    """{"check, name": value} of what metrics/theory.json holds, without what was sampled."""
    flat = {}
    for check, values in found.items():
        for name, value in values.items() if isinstance(values, dict) else [("", values)]:
            if name not in SAMPLED:
                flat[f"{check}, {name}".strip(", ")] = value
    return flat


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _close(x: object, y: object) -> bool:
    if isinstance(x, float) and isinstance(y, float):
        return math.isclose(x, y, rel_tol=DIGITS) or (math.isnan(x) and math.isnan(y))
    return x == y


def _equal(topic: str, what: str, x: object, y: object) -> Check:
    return Check(topic, what, x, y, "equal", x == y)


def _accuracy(what: str, x: float | None, y: float | None, shown: int | None) -> Check:
    if x is None or y is None:
        return _equal("accuracy", what, x, y)
    interval = stats.binomtest(round(x * (shown or 500)), shown or 500).proportion_ci(0.95, "exact")
    allowed = SPREAD.get(what, 100 * (interval.high - interval.low))
    return Check("accuracy", what, f"{x:.1%}", f"{y:.1%}", f"± {allowed:.1f} points", 100 * abs(x - y) <= allowed + 1e-9)


def main(arguments: list[str]) -> int:
    """Compare, print; the exit code."""
    if len(arguments) > 2 or any(argument.startswith("-") for argument in arguments):
        print(f"verify: got {' '.join(arguments)}; takes nothing, a folder, or two", file=sys.stderr)
        return 2
    scratch = None
    try:
        root = paths.root()
        theirs = lying(Path(arguments[1])) if len(arguments) == 2 else committed(root)
        if not arguments:
            scratch = Path(tempfile.mkdtemp(prefix="see-through-walls-"))
            theirs = committed(root, rerun(root, scratch / "project"))
        checks = compare(theirs, lying(Path(arguments[0]) if arguments else scratch / "project"))
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("verify: stopped; nothing was compared", file=sys.stderr)
        return 130
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    print(report(checks))
    return 0 if all(check.agrees for check in checks) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    sys.exit(main(sys.argv[1:]))
