"""`walls check`: what it prints and writes, that the core alone runs it, and what it refuses."""

import json
import re
import resource
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import environment

from walls.network import zoo
from walls.project import commands
from walls.saliency.methods import METHODS
from walls.sanity.check import check
from walls.sanity.report import BLIND
from walls.sources import packaged

SQUEEZE = "torchvision:squeezenet1_1"  # small: 5 MB of weights
FILES = ("report.csv", "report.html", "report.json", "report.png")


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A folder of ten photographs, of which nobody says what they show."""
    folder = tmp_path_factory.mktemp("ten")
    for path in packaged.files()[:10]:
        shutil.copy(path, folder)
    (folder / "notes.txt").write_text("of our walk")
    return folder


@pytest.fixture(scope="module")
def grouped(tmp_path_factory, flat):
    """Four of them in two folders."""
    folder = tmp_path_factory.mktemp("grouped")
    for number, path in enumerate(sorted(flat.glob("*.jpg"))[:4]):
        own = folder / ("cats", "dogs")[number // 2]
        own.mkdir(exist_ok=True)
        shutil.copy(path, own)
    return folder


@pytest.mark.slow
def test_ten_photographs_in_a_folder_within_a_minute(flat, tmp_path):
    """The whole process, of the core's packages alone: what only the workshop has can't be found."""
    absent = ("dvc", "papermill", "jupyter", "nbconvert", "timm", "foolbox", "accelerate")
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
        "from walls.project.commands import main; sys.exit(main(sys.argv[1:]))"
    )
    asked = ["check", "torchvision:resnet18", "--weights", "none", "--images", str(flat)]
    asked += ["--methods", "GradCAM", "HiResCAM", "--out", "out/report"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", script, *asked],
        cwd=tmp_path,
        env=environment(commands.paths.root()),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The processor's seconds: a clock would measure what else runs on the machine.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
    lines = done.stdout.splitlines()
    assert lines[0] == "torchvision:resnet18, weights: random; 10 photographs."
    assert lines[1].startswith("The network can't see 224 of 448 rows of its image: on these very")
    (hirescam,) = (line for line in lines if line.startswith("HiResCAM"))
    assert hirescam.count("0.0 [0.0, 0.0]") == 4 and hirescam.endswith(f"10  {BLIND}")
    assert lines[-1] == "Written into out/report; open out/report/report.html"
    out = tmp_path / "out" / "report"
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    said = json.loads((out / "report.json").read_text())
    assert said["verdicts"]["HiResCAM"] == BLIND and said["certificate"]["holds"] is True
    table = pd.read_csv(out / "report.csv")
    assert len(table) == 2 * 4 * 10
    own = [row for row in said["activity"] if row["method"] == "GradCAM"]
    gradcam = {row["control"]: row["mean"] for row in own}
    (line,) = (line for line in lines if line.startswith("GradCAM "))
    assert gradcam["noise"] > 20 and f" {gradcam['noise']:.1f} [" in line


@pytest.mark.slow
def test_the_page_opens_from_the_disk(grouped, tmp_path, capsys):
    """It asks nobody for anything: every picture stands in it, and there is no script."""
    assert commands.main(asked(grouped, tmp_path / "out")) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    sources = re.findall(r'(?:src|href|url|action|data)\s*[=(]\s*"?([^">\s]+)', page)
    assert len(sources) == 4 and all(one.startswith("data:image/png;base64,") for one in sources)
    assert not re.search(r"://|<script|<link|<iframe|@import", page)
    out = capsys.readouterr().out
    assert "(2 classes, one per folder)" in out and SQUEEZE in page
    assert next(line for line in out.splitlines() if line.startswith("The network")) in page


def asked(images, out, *more):
    """A check of one quick method on a small network."""
    given = ["check", SQUEEZE, "--images", str(images), "--out", str(out), *more]
    return given + [
        word
        for option, value in (("--weights", "none"), ("--methods", "HiResCAM"))
        if option not in more
        for word in (option, value)
    ]


@pytest.mark.slow
def test_every_option_is_heard(grouped, tmp_path, capsys):
    """A local file's weights, another layer, a part of one photograph, |scores|, few of the costly."""
    network = zoo.get("torchvision:mobilenet_v3_small", "none", seed=5).network
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    given = ["check", "torchvision:mobilenet_v3_small", "--weights", str(tmp_path / "mine.pth")]
    given += ["--images", str(grouped), "--layer", "features.8", "--seen-rows", "112"]
    given += ["--methods", "GradCAM", "ScoreCAM", "--costly-images", "3", "--sign", "abs"]
    assert commands.main([*given, "--seed", "3", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "weights: " + str(tmp_path / "mine.pth") in out and "can't see 112 of 224 rows" in out
    said = json.loads((tmp_path / "out" / "report.json").read_text())
    counts = {(row["method"], row["control"]): row["images"] for row in said["activity"]}
    assert counts["ScoreCAM", "another class"] == 3 and ("ScoreCAM", "grey") not in counts
    assert counts["GradCAM", "grey"] == 4 and said["sign"] == "abs"
    recipe = zoo.get(given[1], "none").recipe
    images, labels, _ = packaged.photographs(str(grouped), recipe)
    few, how = {"ScoreCAM": 3}, {"layer": "features.8", "seen_rows": 112, "sign": "abs", "seed": 3}
    mine = check(
        network,
        ["GradCAM", "ScoreCAM"],
        images,
        labels,
        few=few,
        normalised=recipe.normalised,
        **how,
    )
    written = pd.read_csv(tmp_path / "out" / "report.csv")
    assert np.allclose(written["mu"], mine.table["mu"], atol=1e-6, equal_nan=True)
    assert written["mu"].max() > 0


@pytest.mark.slow
def test_a_network_of_other_classes(grouped, tmp_path, capsys):
    """Fine-tuned weights: their head has as many outputs as --classes says."""
    network = zoo.get(SQUEEZE, "none", seed=3, num_classes=7).network
    torch.save(network.state_dict(), tmp_path / "mine.pt")
    asked = [
        SQUEEZE,
        "--weights",
        tmp_path / "mine.pt",
        "--images",
        grouped,
        "--methods",
        "HiResCAM",
    ]
    asked = ["check", *map(str, asked), "--out", str(tmp_path / "out")]
    assert commands.main(asked) == 1 and "is (7,); takes (1000,)" in capsys.readouterr().err
    assert commands.main([*asked, "--classes", "7"]) == 0
    table = pd.read_csv(tmp_path / "out" / "report.csv")
    assert table["predicted"].between(0, 6).all() and (table["mu"].fillna(0) == 0).all()
    assert commands.main([*asked, "--classes", "1"]) == 1
    assert "--classes: got 1; takes 2 or more" in capsys.readouterr().err


@pytest.mark.slow
def test_classes_are_the_predicted_ones_or_each_its_own(flat, tmp_path, capsys):
    """Of photographs in no folder of their class: a random network predicts one class for all."""
    assert commands.main(asked(flat, tmp_path / "out")) == 0
    assert "(each photograph a class of its own, since" in capsys.readouterr().out
    found = pd.read_csv(tmp_path / "out" / "report.csv")
    assert found["class"].nunique() == 10 and found["predicted"].nunique() == 1
    given = ["check", "efficientnet-lite0", "--images", str(flat), "--out", str(tmp_path / "lite")]
    assert commands.main([*given, "--methods", "HiResCAM"]) == 0
    found = pd.read_csv(tmp_path / "lite" / "report.csv")
    assert (found["class"] == found["predicted"]).all() and found["class"].nunique() > 5
    told = f"({found['class'].nunique()} classes, as the network predicts"
    assert told in capsys.readouterr().out


def no_photograph(folder):
    (folder / "notes.txt").write_text("none")


def gone(folder):
    folder.rmdir()


def one_class(folder):
    (folder / "cats").mkdir()
    for path in packaged.files()[:2]:
        shutil.copy(path, folder / "cats")


def one_photograph(folder):
    shutil.copy(packaged.files()[0], folder)


def an_empty_class(folder):
    one_class(folder)
    (folder / "dogs").mkdir()


def both_kinds(folder):
    one_class(folder)
    one_photograph(folder)


def no_image(folder):
    one_photograph(folder)
    (folder / "zebra.jpg").write_text("a zebra")


@pytest.mark.parametrize(
    "make, told",
    [
        (no_photograph, "holds no photograph; takes a folder of photographs"),
        (one_class, "labels: got one class; takes images of two classes or more"),
        (one_photograph, "labels: got one class; takes images of two classes or more"),
        (an_empty_class, "dogs holds no photograph; takes a folder"),
        (both_kinds, "holds photographs beside the folder cats of them; takes"),
        (no_image, "zebra.jpg: not a readable image (none of JPEG, PNG"),
        (gone, "can't be read (No such file or directory); takes a folder"),
    ],
)
def test_folders_that_would_not_do(make, told, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    make(folder)
    refused(asked(folder, tmp_path / "out"), told, tmp_path / "out", capsys)


@pytest.mark.parametrize(
    "more, told",
    [
        (["--layer", "layer9"], "layer: got 'layer9', which the network doesn't have; takes"),
        (["--layer", "features.3.expand1x1"], "layer: got features.3.expand1x1, which is bypassed"),
        (["--methods", "GradCam"], "methods: got GradCam; takes GradCAM, "),
        (["--sign", "square"], "sign: got 'square'; takes relu, abs"),
        (["--weights", "no/such.pth"], "weights: no/such.pth: not readable (no file); takes "),
        (["--seen-rows", "224"], "seen_rows: got 224; takes 1 to 223 of the image's 224 rows"),
        (["--seen-rows", "100"], "seen_rows: got 100, which doesn't give whole rows"),
        (["--costly-images", "1"], "--costly-images: got 1; takes 2 or more"),
    ],
)
def test_options_that_would_not_do(more, told, grouped, tmp_path, capsys):
    refused(asked(grouped, tmp_path / "out", *more), told, tmp_path / "out", capsys)


@pytest.mark.parametrize(
    "network, told",
    [
        ("resnet18", "network: got 'resnet18'; takes efficientnet-lite0, "),
        ("torchvision:resnet81", "network: got torchvision:resnet81; takes a name of "),
        ("timm:resnet81", "network: got timm:resnet81; takes a name of timm.list_models()"),
        ("torchvision:resnet18@none", "weights: got 'none' beside"),
    ],
)
def test_networks_that_nobody_knows(network, told, grouped, tmp_path, capsys):
    given = ["check", network, *asked(grouped, tmp_path / "out")[2:]]
    refused(given, told, tmp_path / "out", capsys)


def test_a_place_that_takes_no_folder(grouped, tmp_path, capsys):
    file = tmp_path / "report"
    file.write_text("mine")
    for out in (file, file / "below"):
        refused(asked(grouped, out), f"--out: got {out}, but {file} is a file", None, capsys)
    assert file.read_text() == "mine"


def test_weights_that_can_not_be_downloaded(grouped, tmp_path, capsys):
    given = ["check", SQUEEZE, "--images", str(grouped), "--out", str(tmp_path / "out")]
    assert commands.main(given) == 1 and not (tmp_path / "out").exists()
    error = capsys.readouterr().err.splitlines()[-1]  # torch says before what it tries
    assert error.startswith(f"{SQUEEZE}: its weights can't be downloaded") and "@none" in error


def refused(arguments, told, out, capsys):
    """Exit code 1, one line on stderr that says what was wrong, and nothing written."""
    assert commands.main(arguments) == 1
    said, error = capsys.readouterr()
    assert said == "" and told in error and error.count("\n") == 1 and error.endswith("\n")
    assert out is None or not out.exists()


def test_the_methods_checked_by_default_are_there():
    assert set(commands.CHECKED) <= set(METHODS)
    assert commands.parser().parse_args(["check", "x"]).methods == commands.CHECKED
