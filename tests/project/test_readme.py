"""The documents: generated blocks are of the committed run, the other numbers are the code's."""

import json
import math
import re
import tomllib

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from helpers.pages_of_results import ARTIFACT, PRESETS, README, YOURS, block, cells, committed

from walls.network import architecture, geometry
from walls.pipeline import stages
from walls.project import blocks, documents, estimates
from walls.saliency import methods
from walls.sources import imagenet, packaged


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_generated_blocks_are_the_committed_runs(name):
    text = (ROOT / name).read_text()
    assert documents.filled(text, ROOT, name) == text


def test_every_block_has_its_place():
    found = [
        name
        for text in (README, ARTIFACT, PRESETS)
        for slash, name in documents.MARKER.findall(text)
        if not slash
    ]
    elsewhere = ["methods", "networks", "results"]  # in the showcases' pages
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
    shown = f"GradCAM {same} where it shows the same class as the seen one, {another} where it"
    assert shown in first
    assert f", {grey} where it shows grey; HiResCAM 0.0 in all of these; " in first
    assert "](figures/network.png)" in first
    above = README[: README.index("## Try it on your network")]
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


def test_the_limits_name_what_is_not_settled_and_what_the_controls_say():
    """Verdict by verdict; GradCAM's four controls behind the wall; pairs that aren't mirrored."""
    verdicts, control, pairs = block(README, "limits").splitlines()
    found = committed("claims")
    for claim in found:
        method, lit, _ = claim["claim"].partition(" highlights the dead zone")
        name = rf"with .*\b{re.escape(method)}[,;.]" if lit else re.escape(claim["claim"])
        assert bool(re.search(name, verdicts)) == (claim["verdict"] == "inconclusive"), claim["id"]
    assert (
        f"{sum(claim['verdict'] == 'holds' for claim in found)} of {len(found)} claims" in verdicts
    )
    table = pd.read_csv(ROOT / "figures" / "control.csv")
    own = table.query("dataset == 'stack-mix' and method == 'GradCAM'")["mean"]
    assert re.findall(r"(\d+\.\d) with", control) == [f"{mean:.1f}" for mean in own]
    gap = own.iloc[0] - own.iloc[1]
    assert re.search(rf"makes {gap:.1f} \[", control)
    report = committed("networks", ROOT / "showcase" / "imagenet")["stacked"]["efficientnet-lite0"]
    means = {(row["method"], row["control"]): row["mean"] for row in report["activity"]}
    for method in ("GradCAM", "XGradCAM", "AblationCAM", "ScoreCAM"):
        same, another = (means[method, control] for control in ("same class", "another class"))
        assert re.search(rf" {method} {same:.1f} / {another:.1f}[,.]", pairs)


def test_most_packaged_photographs_are_alone_of_their_class():
    """As the limits say."""
    labels = [packaged.NAME.fullmatch(file.name)[2] for file in packaged.files()]
    alone = [label for label in labels if labels.count(label) == 1]
    assert len(labels) == 20 and len(alone) == 18


def test_the_worst_of_ten_trainings_is_told():
    each = pd.read_csv(ROOT / "benchmarks" / "ten.csv").groupby("network")["top1"].first()
    baseline = 100 * committed("train")["baseline"]["top1"]
    told = block(ARTIFACT, "ten")
    assert f"Of {len(each)} masked networks" in told and f"the worst has {min(each):.1f}%" in told
    assert f") {sum(top1 >= baseline - 10 for top1 in each)} lose at most 10 points" in told


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
        json.dumps([committed("claims")[0] | {"id": "pigs"}])
    )
    with pytest.raises(ValueError, match="claims: got pigs"):
        blocks.claims(tmp_path)


def test_presets_are_all_there_and_estimated_by_hand():
    shown = block(PRESETS, "presets")
    assert {path.stem for path in (ROOT / "presets").iterdir()} == set(blocks.PRESETS)
    assert all(f"(../presets/{name}.yaml)" in shown for name in blocks.PRESETS)
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
    assert size in blocks.PRESETS["tiny-imagenet"][1]
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
    docs = ROOT / "docs"
    for text, folder in ((README, ROOT), (ARTIFACT, ROOT), (PRESETS, docs), (YOURS, docs)):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            assert target.startswith("https://") or (folder / target).exists(), target


def test_the_readme_is_read_in_five_minutes():
    assert len(README.splitlines()) <= 150
