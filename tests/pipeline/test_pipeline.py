"""The real pipeline, smoke-sized, in a copy of the tree: what reruns, what doesn't, and what nbval
says.
"""

import json
import re
import shutil

import pandas as pd
import pytest
import torch
from conftest import ROOT, copy_tree, fork, pdf_faults, run
from safetensors.torch import load_file

from walls.base import params
from walls.images import stacked, transforms
from walls.network import checkpoints
from walls.pipeline.log import executed
from walls.saliency.controls import REDRAWN, SAME
from walls.training import job

pytestmark = pytest.mark.pipeline


def ran(text):
    """The stages that DVC says it runs, in order."""
    return re.findall(r"^Running stage '(.+)':$", text, re.MULTILINE)


def would_run(folder, *targets):
    return ran(run(folder, "dvc", "repro", "--dry", *targets).stdout)


@pytest.fixture
def restored(smoke):
    """The smoke copy, with params.yaml put back afterwards, and what a stage that failed took away."""
    before = (smoke / "params.yaml").read_text()
    yield smoke
    (smoke / "params.yaml").write_text(before)
    run(smoke, "dvc", "checkout")


def edit(folder, old, new):
    file = folder / "params.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_every_output_is_there(smoke):
    table = pd.read_csv(smoke / "figures" / "table1.csv")
    assert set(table["dataset"]) == {"stack-mix", "stack-gen"} and (table["images"] == 6).all()
    assert (table[table["method"] == "HiResCAM"]["mean"].dropna() == 0).all()
    wall = json.loads((smoke / "metrics" / "wall.json").read_text())
    assert wall == {
        "image_rows": 128,
        "map_rows": 8,
        "wall_rows": 7,
        "seen_rows": 106,
        "dead_rows": 22,
        "dead_share": 22 / 128,
        "hirescam_zero_rows": 104,
        "certified": True,
    }
    train = json.loads((smoke / "metrics" / "train.json").read_text())
    scores = {"top1", "top5", "train_loss", "epochs", "images_seen", "precision", "device"}
    assert train["masked"]["images_seen"] == 192 and set(train["masked"]) == scores
    edges = pd.read_csv(smoke / "runs" / "stacks" / "manifest.csv")["edge"]
    assert (edges == 106).all()
    for figure in (1, 2, 3, 4, 5, 6, 7, 8, 9):
        for kind in ("pdf", "png"):
            assert (smoke / "figures" / f"fig{figure}.{kind}").stat().st_size > 3000
    assert [fault for path in (smoke / "figures").glob("*.pdf") for fault in pdf_faults(path)] == []
    swept = pd.read_csv(smoke / "figures" / "sweep.csv")
    assert (
        swept["wall_rows"].tolist() == [6] * 8 + [7] * 8
        and swept["dead_rows"].tolist() == [6] * 8 + [22] * 8
    )
    assert (swept["images"] == 2).all() and (
        swept[swept["method"] == "HiResCAM"]["mean"].dropna() == 0
    ).all()
    assert all(
        (smoke / "figures" / f"sweep.{kind}").stat().st_size > 3000
        for kind in ("pdf", "png", "json")
    )
    history = pd.read_csv(smoke / "figures" / "fig5.csv")
    assert history["epoch"].tolist() == [1, 2] and history["masked_train_loss"].notna().all()


def test_the_measured_activity_from_the_maps(smoke):
    """µ of every image by hand: min-max, bilinear, min-max, the bottom 22 of 128 rows; and the
    predicted classes.
    """
    model = checkpoints.load(smoke / "models" / "masked.safetensors")
    for dataset in ("stack-mix", "stack-gen"):
        measured = pd.read_csv(smoke / "runs" / f"cams-{dataset}" / "activity.csv").set_index(
            ["method", "image"]
        )
        for name, raw in load_file(smoke / "runs" / f"cams-{dataset}" / "maps.safetensors").items():
            scaled = (raw - raw.amin((1, 2), keepdim=True)) / (
                raw.amax((1, 2), keepdim=True) - raw.amin((1, 2), keepdim=True)
            )
            for column, maps in (("mu", scaled), ("mu_raw", raw)):
                up = torch.nn.functional.interpolate(
                    maps[:, None].double(), (128, 128), mode="bilinear"
                )[:, 0]
                if column == "mu":
                    up = up - up.amin((1, 2), keepdim=True)
                expected = up[:, 106:].norm(dim=(1, 2)) / up.norm(dim=(1, 2))
                for image, value in enumerate(expected.tolist()):
                    assert measured.loc[(name, image), column] == pytest.approx(
                        value, abs=1e-4, nan_ok=True
                    ), (name, image)
        _, images = stacked.read(smoke / "runs" / "stacks", dataset, 128)
        with torch.no_grad():
            predicted = model(transforms.normalise(images[:])).argmax(1).tolist()
        assert measured.loc["GradCAM"]["predicted"].tolist() == predicted


def test_the_control_is_of_the_first_networks_images(smoke):
    """Its first column is Table 1's part of that network; the others have the same upper parts."""
    table = pd.read_csv(smoke / "figures" / "control.csv").set_index(["dataset", "method"])
    each = pd.read_csv(smoke / "figures" / "by_network.csv")
    first = each[each["network"] == 0].set_index(["dataset", "method"])["mean"]
    same = table[table["control"] == SAME]
    assert {"ScoreCAM", "Opti-CAM"}.isdisjoint(same.index.get_level_values("method"))
    assert same["mean"].to_numpy() == pytest.approx(
        first[same.index].to_numpy(), abs=1e-3, nan_ok=True
    )
    controls = table.groupby("dataset")["control"].unique().map(set)
    assert controls["stack-gen"] - controls["stack-mix"] == {REDRAWN}
    dark = table.xs("HiResCAM", level="method")["mean"].dropna()
    assert len(dark) and (dark == 0).all()
    assert table["area"].dropna().between(3, 40).all() and table["on"].notna().any()
    for dataset in ("stack-mix", "stack-gen"):
        under = pd.read_csv(smoke / "runs" / f"cams-{dataset}" / "control.csv")
        assert (under.groupby("image")["predicted"].nunique() == 1).all()
    rows, images = stacked.read(smoke / "runs" / "stacks", "stack-gen", 128)
    bare = stacked.without(smoke / "runs" / "stacks", rows, 128)
    assert torch.equal(images[:][:, :, :106], bare[:][:, :, :106])
    assert (images[:] != bare[:]).flatten(1).any(1).all()


def test_another_network_trains_no_finished_one_again(restored):
    """Added to the list, it is trained and evaluated, and what collects all of them runs again."""
    edit(restored, "again: [1]", "again: [1, 2]")
    assert set(would_run(restored, "train-again")) == {"check", "train-again@masked-2"}
    # DVC's dry run stops at maps of weights that aren't there yet; its status knows the rest.
    stale = json.loads(run(restored, "dvc", "status", "--json").stdout)
    added = {"train-again@masked-2", "cams-again@stack-mix-2", "cams-again@stack-gen-2"}
    assert set(stale) == {"check", "paper"} | added


def test_a_further_network_differs_in_its_seed_alone(smoke, monkeypatch):
    """Its job is the first one's with seed + 1; both are in the table, which counts them alike."""
    monkeypatch.chdir(smoke)
    p = params.load()
    rest = (p.image_size, p.data.classes, p.model, p.train)
    again = job.job("masked", p.seed, *rest, network=1)
    other, first = (job.job("masked", p.seed + n, *rest) for n in (1, 0))
    assert again.resume == other.resume != first.resume and again.train_set.seed == p.seed + 1
    weights = (one.network.state_dict()["features.0.weight"] for one in (again, other, first))
    a, b, c = weights
    assert torch.equal(a, b) and not torch.equal(a, c)
    fewer = p.train.model_copy(update={"again": []})
    alone = job.job("masked", p.seed, *rest[:3], fewer, network=1)
    assert alone.resume == again.resume  # whichever others there are
    own = pd.read_csv("figures/by_network.csv").groupby(["dataset", "method"])
    table = pd.read_csv("figures/table1.csv").set_index(["dataset", "method"])
    assert table["networks"].eq(2).all() and own["network"].nunique().eq(2).all()
    for key, group in own:
        if group["mean"].notna().all():
            assert table.loc[key, "mean"] == pytest.approx(group["mean"].mean(), abs=1e-3), key
    assert own["images"].get_group(("stack-mix", "ScoreCAM")).tolist() == [6, 3]
    train = json.loads((smoke / "metrics" / "train.json").read_text())
    assert list(train) == ["masked", "masked-1", "baseline"]


def test_a_second_repro_does_nothing(smoke):
    assert would_run(smoke) == []
    assert "up to date" in run(smoke, "dvc", "status").stdout
    assert run(smoke, "git", "status", "--porcelain").stdout == ""


def test_another_wall_reruns_what_follows_from_it(restored):
    edit(restored, "rows: 7", "rows: 6")
    run(restored, "dvc", "repro", "wall")
    expected = {
        "train@masked",
        "train-again@masked-1",
        "stacks",
        "cams@stack-mix",
        "cams@stack-gen",
        "cams-again@stack-mix-1",
        "cams-again@stack-gen-1",
        "sweep",
        "paper",
        "render",
    }
    assert set(would_run(restored)) == expected
    edit(restored, "rows: 6", "rows: 7")
    back = run(restored, "dvc", "repro", "wall")
    assert "Stage 'wall' is cached" in back.stdout and would_run(restored) == []


def test_a_comment_reruns_the_check_alone(restored):
    edit(restored, "seed: 0", "seed: 0  # still 0")
    assert would_run(restored) == ["check"]
    run(restored, "dvc", "repro")
    assert (
        run(restored, "git", "status", "--porcelain", "rendered", "figures", "metrics").stdout == ""
    )
    edit(restored, "seed: 0  # still 0", "seed: 0")
    run(restored, "dvc", "repro")
    assert would_run(restored) == []


# What one more line in a file of src/walls sets off, as the maker of each thing lives apart from its
# readers: besides check and start, which take seconds, the stages whose sources it belongs to.
# Whether anything follows from them is asked when they have run.
ALWAYS = {"check", "start"}
SET_OFF = {
    "sources/species.py": {"data", "stacks"},
    "stacks/build.py": {"stacks"},
    "stacks/generator.py": {"stacks"},
    "paper/plots.py": {"paper"},
    "theory/cnn.py": {"theory"},
    "sweep/settings.py": {"sweep"},
    "project/site.py": set(),
}


@pytest.fixture
def edited(smoke):
    """Appends a line to a file of the smoke copy's src/walls; all is put back afterwards."""
    before = {}

    def edited(name):
        file = smoke / "src" / "walls" / name
        before[file] = file.read_bytes()
        file.write_bytes(before[file] + b"# one more line\n")

    yield edited
    for file, content in before.items():
        file.write_bytes(content)


@pytest.mark.parametrize("name", SET_OFF)
def test_an_edit_reruns_what_uses_it(smoke, edited, name):
    edited(name)
    assert set(would_run(smoke)) == ALWAYS | SET_OFF[name]


@pytest.mark.long
@pytest.mark.parametrize("name", ["sources/species.py", "paper/plots.py"])
def test_unchanged_bytes_stop_a_rerun(smoke, edited, name):
    """Nothing after the stages that an edit sets off: not a training, and not what is committed."""
    before = (smoke / "dvc.lock").read_bytes()
    edited(name)
    assert set(ran(run(smoke, "dvc", "repro").stdout)) == ALWAYS | SET_OFF[name]
    changed = run(smoke, "git", "status", "--porcelain").stdout.split()
    assert changed == ["M", "dvc.lock", "M", f"src/walls/{name}"]
    (smoke / "dvc.lock").write_bytes(before)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("rows: 7", "rows: seven", "wall.rows: got 'seven'; takes "),
        ("epochs: 2", "epoch: 2", "train.epoch: unknown key"),
        ("seed: 0", "seed: 0\nseed: 1", "seed"),
    ],
)
def test_a_wrong_value_stops_the_run_and_touches_nothing(restored, old, new, message):
    before = {p: p.stat().st_mtime_ns for p in restored.glob("runs/**/*.ipynb")}
    assert set(before) == set(executed(restored).values())
    edit(restored, old, new)
    done = run(restored, "dvc", "repro", check=False)
    assert done.returncode != 0 and message in done.stdout + done.stderr
    assert {p: p.stat().st_mtime_ns for p in restored.glob("runs/**/*.ipynb")} == before


def test_a_useless_wall_stops_at_the_check(restored):
    edit(restored, "rows: 7", "rows: 3")
    done = run(restored, "dvc", "repro", check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("wall.rows")]
    assert done.returncode != 0 and "Running stage 'wall'" not in done.stdout
    assert lines == [
        "wall.rows: got 3; takes from 6 to 7 rows at image_size 128: others leave no dead zone or "
        "hide everything"
    ]
    edit(restored, "rows: 3", "rows: 7")
    run(restored, "dvc", "repro")
    assert would_run(restored) == []
    assert run(restored, "git", "status", "--porcelain").stdout == ""


@pytest.mark.long
def test_rerunning_gives_the_same_bytes(smoke, tmp_path):
    """Forced again, every rendered file and figure is the same. So are, elsewhere, what paper and
    stacks (above), cams (test_pack.py), render and training (faults/) make; and nbval executes
    every notebook again (below).
    """
    kept = tmp_path / "kept"
    for folder in ("runs/wall", "runs/sweep", "figures", "metrics"):
        shutil.copytree(smoke / folder, kept / folder)
    for stage in ("wall", "sweep"):
        run(smoke, "dvc", "repro", "--single-item", "--force", stage)
    for file in kept.rglob("*.*"):
        assert file.read_bytes() == (smoke / file.relative_to(kept)).read_bytes(), file.name
    assert run(smoke, "git", "status", "--porcelain").stdout == ""


def test_dvc_says_something_useful(smoke):
    assert "train@masked" in run(smoke, "dvc", "dag").stdout
    assert "dead_rows" in run(smoke, "dvc", "metrics", "show").stdout
    shown = json.loads(run(smoke, "dvc", "exp", "show", "--json").stdout)
    assert '"dead_rows": 22' in json.dumps(shown) and '"rows": 7' in json.dumps(shown)
    edit(smoke, "rows: 7", "rows: 6")
    assert "wall.rows" in run(smoke, "dvc", "params", "diff").stdout
    run(smoke, "git", "checkout", "params.yaml")
    plots = run(smoke, "dvc", "plots", "show").stdout
    assert "index.html" in plots and (smoke / "dvc_plots" / "index.html").stat().st_size > 5000
    shutil.rmtree(smoke / "dvc_plots")


def nbval(folder, *arguments, finds_a_fault=False):
    options = ("-q", "-p", "no:cacheprovider", "-o", "addopts=", "--nbval-current-env")
    command = ("python", "-m", "pytest", *options, "--nbval-cell-timeout=600")
    done = run(folder, *command, *arguments, check=False)
    assert done.returncode == finds_a_fault, done.stdout[-6000:]
    return done.stdout


@pytest.mark.parametrize(
    "which",
    ["some", pytest.param("every", marks=pytest.mark.long)],  # half a minute; five
)
def test_nbval_over_the_smoke_runs_notebooks(smoke, which):
    names = [f"rendered/{path.name}" for path in sorted((smoke / "rendered").iterdir())]
    assert set(names) == {f"rendered/{path.name}" for path in executed(smoke).values()}
    if which == "some":
        kept = ("5_stacks", "6_cams-stack-gen")
        names = [name for name in names if name.endswith(tuple(f"/{k}.ipynb" for k in kept))]
        assert len(names) == len(kept)
    assert "passed" in nbval(smoke, "--nbval-lax", *names)
    assert run(smoke, "git", "status", "--porcelain").stdout == "" and would_run(smoke) == []


@pytest.mark.parametrize(
    "stage, name", [("wall", "2_wall"), pytest.param("theory", "1_theory", marks=pytest.mark.long)]
)
def test_nbval_strict_over_the_committed_notebooks(tmp_path, stage, name):
    folder = copy_tree(tmp_path / "project")
    (folder / "runs" / stage).mkdir(parents=True)
    assert "passed" in nbval(folder, "--nbval", f"rendered/{name}.ipynb")
    assert run(folder, "git", "status", "--porcelain").stdout == ""


def test_nbval_finds_a_forged_number(tmp_path):
    folder = copy_tree(tmp_path / "project")
    (folder / "runs" / "wall").mkdir(parents=True)
    file = folder / "rendered" / "2_wall.ipynb"
    wall = json.loads((ROOT / "metrics" / "wall.json").read_text())
    forged = file.read_text().replace(f"{wall['dead_rows']} rows", f"{wall['dead_rows'] + 1} rows")
    assert forged != file.read_text()
    file.write_text(forged)
    assert "1 failed" in nbval(folder, "--nbval", "rendered/2_wall.ipynb", finds_a_fault=True)


def test_the_wrong_stage_is_named(smoke):
    done = run(smoke, "python", "-m", "walls", "run", "train", check=False)
    told = "stage: got train; takes one that `dvc stage list` shows\n"
    assert (done.returncode, done.stderr) == (1, told)


@pytest.mark.long
def test_without_a_generator_stack_gen_is_skipped(smoke_run, tmp_path):
    folder = fork(smoke_run, tmp_path / "project")
    edit(folder, "generator: critters", "generator: null")
    assert would_run(folder)[:2] == ["check", "stacks"]
    # What is of STACK-MIX alone stays as it is.
    gen = ("cams@stack-gen", "cams-again@stack-gen-1")
    for stage in ("check", "stacks", *gen, "paper", "render"):
        run(folder, "walls", "run", stage)
    table = pd.read_csv(folder / "figures" / "table1.csv")
    assert (
        set(table["dataset"]) == {"stack-mix"}
        and "skipped" in (folder / "figures" / "table1.md").read_text()
    )
    assert "skipped" in (folder / "rendered" / "6_cams-stack-gen.ipynb").read_text()
