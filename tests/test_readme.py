"""The documents: generated blocks are of the committed run, the other numbers are the code's, the
snippets run.
"""

import contextlib
import io
import json
import math
import re
import tomllib

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT, copy_tree, run

from walls.network import architecture, geometry
from walls.project import documents, estimates, stages
from walls.project.log import digest, executed, machine, os
from walls.saliency import activity, maps, methods
from walls.sources import imagenet

README, ARTIFACT = ((ROOT / name).read_text() for name in documents.DOCUMENTS)


def committed(name, root=ROOT):
    return json.loads((root / "metrics" / f"{name}.json").read_text())


def block(text, name):
    return re.search(
        rf"^<!-- {name} -->\n(.*?)\n?<!-- /{name} -->$", text, re.DOTALL | re.MULTILINE
    )[1]


def cells(text, first):
    """The cells of a table's row that starts with `first`."""
    (row,) = (line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_generated_blocks_are_the_committed_runs(name):
    text = (ROOT / name).read_text()
    assert documents.filled(text, ROOT, name) == text


def test_every_block_has_its_place():
    found = [
        name
        for text in (README, ARTIFACT)
        for slash, name in documents.MARKER.findall(text)
        if not slash
    ]
    elsewhere = ["networks", "results"]  # in the showcases' pages
    assert sorted(found + elsewhere) == sorted(documents.KNOWN)


UNPAIRED = "x: the block summary is not closed, or not opened"
OTHERS = "<!-- results -->\n<!-- /results -->"


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "<!-- tabel1 -->\n<!-- /tabel1 -->",
            "x: nothing writes the block tabel1; takes real, first, ",
        ),
        ("<!-- summary -->\n", UNPAIRED),
        ("<!-- /summary -->\n", UNPAIRED),
        (f"<!-- summary -->\n{OTHERS}\n<!-- /summary -->", UNPAIRED),
    ],
)
def test_a_marker_without_generator_or_partner_is_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        documents.filled(text, ROOT, "x")


def real():
    """{(method, control): its row} of notebook 9's network, and its whole report."""
    report = committed("networks")["efficientnet-lite0"]
    return {(row["method"], row["control"]): row for row in report["activity"]}, report


def test_the_first_screen_holds_what_one_looks_for():
    """GradCAM's µ on a real network, within twenty lines; above the first command the dead zone's
    height, GradCAM's µ here and the paper's. From the files that they come from.
    """
    table = pd.read_csv(ROOT / "figures" / "table1.csv").set_index(["dataset", "method"])
    ours, paper = table.loc[("stack-mix", "GradCAM"), ["mean", "paper_mean"]]
    wall, cells = committed("wall"), real()[0]
    same, another, grey = (
        f"{cells['GradCAM', control]['mean']:.1f}"
        for control in ("same class", "another class", "grey")
    )
    first = "\n".join(README.splitlines()[:20])
    assert f"GradCAM {same} where that shows the class of the seen one, {another} where" in first
    assert f", {grey} where that is grey; HiResCAM 0.0, 0.0, 0.0 and 0.0; " in first
    assert "](figures/network.png)" in first
    above = README[: README.index("## Run it")]
    assert f"the bottom {wall['dead_rows']} of {wall['image_rows']} image rows" in above
    assert f"GradCAM {ours:.1f} (the paper: {paper:.1f}) on STACK-MIX" in above and paper == 22.7


def test_the_first_table_is_the_paper_ours_and_a_network_in_use():
    """Side by side, each method of the paper; the costly ones with how many photographs."""
    table, shown = pd.read_csv(ROOT / "figures" / "table1.csv"), block(README, "first")
    found, report = real()
    assert len(shown.splitlines()) == 2 + 8 + 1 + 2
    heads = shown.splitlines()[0]
    assert [word in heads for word in ("the paper", "here", "efficientnet-lite0")] == [True] * 3
    for row in table[table["dataset"] == "stack-mix"].itertuples():
        if not math.isnan(row.paper_mean):
            real_ones = [found[row.method, control] for control in ("same class", "another class")]
            few = f" ({real_ones[0]['images']})" if row.method in methods.COSTLY else ""
            assert cells(shown, row.method) == [
                row.method,
                f"{row.paper_mean:.1f} ± {row.paper_std:.1f}",
                f"{row.mean:.1f} ± {row.std:.1f}",
                *(f"{one['mean']:.1f} ± {one['std']:.1f}{few}" for one in real_ones),
            ]
    uniform = f"{report['uniform']:.1f}"
    assert cells(shown, "uniform map")[3:] == [uniform, uniform]


def test_every_claim_has_its_stages_and_its_verdict():
    known = set(stages.every(ROOT)) | set(stages.definitions(ROOT))
    rows, claims = block(ARTIFACT, "claims").splitlines()[2:], committed("claims")
    assert len(rows) == len(claims)
    for claim, row in zip(claims, rows, strict=True):
        assert (
            claim["claim"] in row
            and claim["ours"] in row
            and row.endswith(f"| {claim['verdict']} |")
        )
        assert set(re.findall("`(.*?)`", row.split(" | ")[3])) <= known


def test_a_new_claim_wants_its_stages(tmp_path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "claims.json").write_text(
        json.dumps([committed("claims")[0] | {"claim": "pigs fly"}])
    )
    with pytest.raises(ValueError, match="pigs fly"):
        documents.claims(tmp_path)


def test_presets_are_all_there_and_estimated_by_hand():
    shown = block(README, "presets")
    assert {path.stem for path in (ROOT / "presets").iterdir()} == set(documents.PRESETS)
    assert all(f"(presets/{name}.yaml)" in shown for name in documents.PRESETS)
    imagenet = estimates.read(ROOT / "presets" / "imagenet.yaml")
    need = estimates.needs(imagenet)
    assert need.passes == 2 * 90 * 1_281_167
    # VGG16's 13 convolutions at their sizes, the last one narrowed, and three dense layers; a
    # multiply-add is 2.
    plan = [
        *((3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112)),
        *((128, 256, 56), (256, 256, 56), (256, 256, 56)),
        *((256, 512, 28), (512, 512, 28), (512, 512, 28)),
        *((512, 512, 14), (512, 512, 14), (512, 256, 14)),
    ]
    forward = 2 * (
        sum(9 * i * o * s * s for i, o, s in plan)
        + 256 * 14 * 14 * 4096
        + 4096 * 4096
        + 4096 * 1000
    )
    baseline, masked = (
        estimates.operations(estimates.network(imagenet, rows), 224) for rows in (0, 9)
    )
    assert baseline == forward and 1.5 < baseline / masked < 1.55
    assert need.operations == 3 * 90 * 1_281_167 * (baseline + masked)
    # An image of the masked network takes what was measured; one of the baseline as much more as it
    # takes operations.
    measured = (ROOT / "benchmarks" / "gpu.csv").read_text()
    pace = float(re.search(r"^b,ours,images/s,bfloat16,\d+,([\d.]+),", measured, re.MULTILINE)[1])
    hours = 90 * 1_281_167 * (1 + baseline / masked) / pace / 3600
    assert f"| {hours:.0f} GPU hours |" in shown


def test_an_estimate_is_near_what_was_measured():
    """The default's memory while training, against benchmarks/training.md's peaks in MB; its
    operations, three masked networks' and the baseline's, against the masked one's seconds on
    15,000 images.
    """
    need = estimates.needs(estimates.read(ROOT / "presets" / "critters.yaml"))
    measured = (ROOT / "benchmarks" / "training.md").read_text()
    peaks = re.search(r"1 worker: ([\d, ]+)\.", measured)[1].split(", ")
    assert need.memory == pytest.approx(1e6 * max(map(int, peaks)), rel=0.2)
    together = re.search(r"^\| loader and step together +\| ([\d.]+)", measured, re.MULTILINE)[1]
    pace = 15000 / float(together)
    assert 4 * pace < estimates.cores_seconds(need.operations, ROOT / "benchmarks") < 5 * pace


def test_the_numbers_outside_of_blocks():
    """What the README says of the code: the heights, the presets, Python, the archive's size."""
    text = README
    for name in documents.BLOCKS:
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", "", text, flags=re.DOTALL)
    features = architecture.vgg(0.0625, 8, 2, False, 9).features
    heights = [rows for rows in range(1, 14) if _leaves_a_dead_zone(features, rows)]
    assert f"Heights {heights[0]} to {heights[-1]} leave a dead zone" in text
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert params["model"]["width"] == 1 / 8 and "a VGG16 an eighth as wide" in text
    size = f"downloaded ({imagenet.TINY_BYTES / 1e6:.0f} MB)"
    assert size in documents.PRESETS["tiny-imagenet"][1]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (
        project["requires-python"] == ">=3.11"
        and "Python 3.11 or newer" in text
        and "Python 3.11 or newer" in ARTIFACT
    )
    assert not re.search(r"\d\.\d ±|\d%|of 224", text)  # results stand in blocks


def _leaves_a_dead_zone(features, rows):
    try:
        return geometry.dead_zone(features, 224, rows).dead_rows > 0
    except ValueError:
        return False


def test_links_lead_somewhere():
    for text in (README, ARTIFACT):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.pipeline
def test_the_summary_is_six_lines(smoke):
    lines = run(smoke, "python", "-m", "walls", "summary").stdout.splitlines()
    wall, claims = (committed(name, smoke) for name in ("wall", "claims"))
    gradcam = committed("activity", smoke)["stack-mix"]["GradCAM"]
    assert len(lines) == 6 and lines[2].startswith("Top-1 accuracy: masked")
    assert (
        lines[0]
        == f"The bottom {wall['dead_rows']} of 128 image rows, 17%: no logit depends on them."
    )
    assert f"GradCAM {gradcam:.1f} (the paper: 22.7) on STACK-MIX" in lines[1]
    assert sum(map(int, re.findall(r"(\d+) ", lines[3]))) == len(claims)
    noted = json.loads((smoke / ".resume" / "run.json").read_text())
    minutes = sum(entry["seconds"] for entry in noted.values()) / 60
    assert lines[4].startswith(f"It took {minutes:.0f} min and at most ")
    assert all(f"{stage} {entry['seconds']:.0f} s" in lines[4] for stage, entry in noted.items())
    for name in re.findall(r"[\w/]+\.(?:ipynb|md)", lines[5]):
        assert (smoke / name).is_file()


@pytest.mark.pipeline
def test_a_run_is_recorded_by_a_command_of_its_own(smoke):
    """Every stage's seconds, memory and notebook. `walls readme` leaves them alone, so that a rerun
    leaves the tree clean; and a log that isn't whole is none.
    """
    page = smoke / "ARTIFACT.md"
    log = json.loads((smoke / ".resume" / "run.json").read_text())
    notebooks = executed(smoke)
    assert set(log) == set(notebooks) and all(file.is_file() for file in notebooks.values())
    assert {file.name for file in notebooks.values()} == {
        file.name for file in (smoke / "rendered").iterdir()
    }
    before = block(page.read_text(), "run")
    assert run(smoke, "python", "-m", "walls", "readme").stderr == ""
    assert block(page.read_text(), "run") == before
    assert run(smoke, "python", "-m", "walls", "record").stderr == ""
    shown = block(page.read_text(), "run")
    assert f"torch {torch.__version__.split('+')[0]}" in shown and "float32 on cpu" in shown
    for stage, file in notebooks.items():
        row = cells(shown, f"`{stage}`")
        assert row[1] == f"{log[stage]['seconds']:.0f} s"
        assert 50 < int(row[2].removesuffix(" MB")) < 20000
        link = f"[{file.stem}](rendered/{file.name})"
        assert row[4] == f"{link} `{digest(smoke / 'rendered' / file.name)}`"
    (smoke / ".resume" / "run.json").write_text(
        json.dumps(log | {"wall": log["wall"] | {"notebook": "00000000"}})
    )
    done = run(smoke, "python", "-m", "walls", "record", check=False)
    assert done.returncode == 1 and done.stderr.startswith("the log of this run is not whole; ")
    assert block(page.read_text(), "run") == shown
    (smoke / ".resume" / "run.json").write_text(json.dumps(log))
    run(smoke, "git", "checkout", "README.md", "ARTIFACT.md")


def test_a_machine_that_tells_no_affinity(monkeypatch):
    """macOS: all its processors are counted."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert ", 10 threads; " in machine()


def test_the_recorded_run_is_the_committed_one():
    """The block that can't be made again names every stage, and the very notebooks that are
    committed.
    """
    shown = block(ARTIFACT, "run")
    for stage, file in executed(ROOT).items():
        assert cells(shown, f"`{stage}`")[4].endswith(
            f"`{digest(ROOT / 'rendered' / file.name)}`"
        ), stage


SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.bulk
def test_the_readmes_snippets_run(monkeypatch, tmp_path):
    """In order and in one namespace, as a reader would type them."""
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    monkeypatch.setattr(maps, "METHODS", methods.METHODS)
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for snippet in SNIPPETS:
            exec(snippet, namespace)
    assert len(SNIPPETS) == 7 and all(len(s.splitlines()) <= 11 for s in SNIPPETS)
    *table, dead_rows, activities, shape = printed.getvalue().splitlines()
    assert "0.0 [0.0, 0.0]" in table[-1] and table[-1].endswith("blind behind the wall")
    assert (tmp_path / "report" / "report.html").is_file()
    assert dead_rows == "54" and "'HiResCAM': tensor([0., 0.]" in activities
    assert shape == "torch.Size([2, 14, 14])"


@pytest.fixture(scope="module")
def libraries():
    """What the three examples of other libraries leave, in float64, and our GradCAM of the same."""
    before, namespace = torch.get_default_dtype(), {}
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    try:
        setup = "\n".join(SNIPPETS[0].splitlines()[:4])  # the network and the images
        for snippet in (setup, *SNIPPETS[2:5]):
            exec(snippet, namespace)
        model, pairs, classes = (namespace[name] for name in ("model", "pairs", "classes"))
        raw = maps.saliency_maps(model, pairs, ["GradCAM"], classes)["GradCAM"]
    finally:
        torch.set_default_dtype(before)
    assert raw.dtype == torch.float64 and raw.shape == (4, 14, 7)
    assert (raw[:, 7:].amax((1, 2)) > 0).all()  # behind the wall, where no logit looks
    return namespace, raw


@pytest.mark.bulk
def test_the_readmes_pytorch_grad_cam_gives_our_maps(libraries):
    namespace, raw = libraries
    ours = activity.upscale(raw, (448, 224)).numpy()
    np.testing.assert_allclose(namespace["heat"], ours, rtol=0, atol=1e-5)


@pytest.mark.bulk
def test_the_readmes_captum_gives_our_maps(libraries):
    namespace, raw = libraries
    theirs = namespace["signed"].detach()[:, 0].clamp_min(0)
    torch.testing.assert_close(theirs, raw, rtol=1e-5, atol=1e-5 * float(raw.max()))


@pytest.mark.bulk
def test_the_readmes_torch_cam_gives_our_maps(libraries):
    namespace, raw = libraries
    low, high = raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True)
    ours = (raw - low) / (high - low)
    torch.testing.assert_close(namespace["scaled"], ours, rtol=0, atol=1e-5)


@pytest.mark.bulk
def test_the_readmes_assertion_holds_or_says_why_not():
    """In a CAM library's tests: of a method that is blind behind the wall, and one that isn't."""
    namespace: dict = {}
    exec("import torch, torchvision, walls\n" + SNIPPETS[1], namespace)
    assert len(SNIPPETS[1].splitlines()) == 5
    (test,) = (one for name, one in namespace.items() if name.startswith("test_"))

    def library_with(name):
        namespace["my_cam"] = lambda network, images, targets: maps.saliency_maps(
            network, images, [name], targets
        )[name]
        torch.manual_seed(0)
        return test

    assert library_with("HiResCAM")() is None
    with pytest.raises(AssertionError, match=r"MyCAM: sees content; up to .*% of the map's norm"):
        library_with("GradCAM")()


@pytest.mark.pipeline
def test_a_method_moved_to_the_others_leaves_the_tests_green(tmp_path):
    """As the README says: its function in methods.py, its name in params.yaml. Of the tests, those
    that speak of methods.
    """
    project = copy_tree(tmp_path / "project")
    function, name = re.search(r'@method\("(\w+)"\).*?(?=\n\n)', SNIPPETS[-1], re.DOTALL).group(
        0, 1
    )
    file, params = project / "src/walls/saliency/methods.py", project / "params.yaml"
    file.write_text(file.read_text().replace("\n\nclass _Head", f"\n\n{function}\n\n\nclass _Head"))
    before = params.read_text()
    params.write_text(before.replace("RandomCAM]", f"RandomCAM, {name}]"))
    assert f'"{name}"' in file.read_text() and params.read_text() != before
    run(project, "python", "-m", "walls", "params")
    naming = re.compile(r"METHODS|cams\.methods")
    tests = [path for path in project.glob("tests/test_*.py") if naming.search(path.read_text())]
    assert {"test_cams.py", "test_params.py", "test_plots.py"} <= {path.name for path in tests}
    lane = "not long and not pipeline and not browser and not bulk"
    run(project, "python", "-m", "pytest", "-q", "-m", lane, *map(str, tests))
