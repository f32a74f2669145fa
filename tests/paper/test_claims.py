"""Table 1 and the verdicts: fixed thresholds, both sides of each."""

import json
import math
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from walls.paper import claims, table1
from walls.paper import ledger as book
from walls.paper.networks import by_network
from walls.pipeline import stages

WALL = {
    "image_rows": 224,
    "wall_rows": 9,
    "dead_rows": 54,
    "hirescam_zero_rows": 136,
    "certified": True,
}


def activity(**mu):
    """A long table with the same µ values per method in both datasets, ten images a class."""
    rows = [
        (d, 0, n, n // 10, m.replace("pp", "++"), v, v)
        for d in table1.PAPER_TABLE
        for m, values in mu.items()
        for n, v in enumerate(values)
    ]
    columns = ["dataset", "network", "image", "class", "method", "mu", "mu_raw"]
    return pd.DataFrame(rows, columns=columns)


def networks(*tables):
    """The activity of several networks as one table."""
    return pd.concat([table.assign(network=n) for n, table in enumerate(tables)], ignore_index=True)


def test_the_papers_table():
    assert table1.PAPER_TABLE["stack-mix"]["GradCAM"] == (22.7, 13.4) and table1.PAPER_TABLE[
        "stack-gen"
    ]["Opti-CAM"] == (32.0, 7.8)
    assert [len(table) for table in table1.PAPER_TABLE.values()] == [8, 8]


def test_table1():
    table = table1.with_uniform(table1.table1(activity(GradCAM=[0.1, 0.3])), 54 / 224)
    assert (
        table.columns.tolist()
        == (
            "dataset method mean std ci_low ci_high mean_raw images empty classes networks networks_std maps "
            "paper_mean paper_std"
        ).split()
    )
    first, uniform = table.iloc[0], table.iloc[1]
    assert (
        first["mean"] == pytest.approx(20)
        and first["std"] == pytest.approx(20 / math.sqrt(2))
        and first["paper_mean"] == 22.7
    )
    assert (uniform["method"], round(uniform["mean"], 2)) == ("uniform map", 49.1)


def test_a_reader_sees_the_papers_methods_and_opens_the_others():
    found = table1.table1(activity(GradCAM=[0.1, 0.3], RandomCAM=[0.4, 0.4]))
    shown = table1.Shown(table1.with_uniform(found, 54 / 224))
    before, opened = shown._repr_html_().split("<details>")
    rows = [re.findall(r"<th>(.*?)</th>", part) for part in (before, opened)]
    assert rows[0][-2:] == ["GradCAM", "uniform map"] and rows[1][-1] == "RandomCAM"
    assert "RandomCAM" not in before and "<summary>Methods that the paper" in opened
    assert "20.0 ± 14.1" in before and "40.0 ± 0.0" in opened and "40.0 ± 0.0" in repr(shown)
    alone = table1.Shown(table1.with_uniform(table1.table1(activity(GradCAM=[0.1, 0.3])), 0.25))
    assert "details" not in alone._repr_html_()


def test_the_printed_table(tmp_path):
    table1.write_table1(table1.table1(activity(GradCAM=[0.1, 0.3, math.nan])), {}, tmp_path)
    markdown, latex = ((tmp_path / f"table1.{kind}").read_text() for kind in ("md", "tex"))
    assert (
        "20.0 ± 14.1" in markdown
        and "22.7 ± 13.4" in markdown
        and "left out: 1 of GradCAM" in markdown
    )
    assert r"20.0 $\pm$ 14.1" in latex and r"STACK-MIX $\downarrow$" in latex and latex.isascii()
    assert pd.read_csv(tmp_path / "table1.csv")["empty"].tolist() == [1, 1]


LONG = {
    name: [0.5, 0.1, math.nan] for name in ("GradCAM", "EigenCAM (other sign)", "Mine_2 & 50% #1")
}


MARKS = (
    "begin{table}",
    "caption{",
    "label{tab:activity}",
    "begin{tabular}",
    "toprule",
    "midrule",
    "bottomrule",
    "end{tabular}",
    "end{table}",
)


def columns(line: str) -> int:
    """How many columns a row of a LaTeX table takes."""
    spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
    return len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) - len(spans)


def test_the_latex_tables_structure():
    for text in (
        table1.latex(table1.table1(activity(**LONG)), "50% of_all"),
        (ROOT / "figures" / "table1.tex").read_text(),
    ):
        for mark in MARKS:
            assert text.count("\\" + mark) == 1, mark
        assert (
            text.isascii()
            and text.count("{") == text.count("}")
            and not re.search(r"(?<!\\)[%#_]", text)
        )
        declared = re.search(r"begin\{tabular\}\{(?:@\{\})?(l[lrc]*)", text)[1]
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(declared) == 5 and {columns(row) for row in rows} == {5} and len(rows) >= 4
    assert r"Mine\_2 \& 50\% \#1 & " in table1.latex(table1.table1(activity(**LONG)), "")


@pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="no LaTeX here: the table's structure alone was checked",
)
def test_the_latex_table_compiles_within_the_column(tmp_path):
    text = "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage{booktabs}",
            r"\setlength{\textwidth}{12.2cm}",
            r"\begin{document}",
            table1.latex(table1.table1(activity(**LONG)), "50% of µ_x, ± – — × ~ ^ \\ $ { }"),
            (ROOT / "figures" / "table1.tex").read_text(),
            r"\end{document}",
        ]
    )
    (tmp_path / "minimal.tex").write_text(text)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "minimal"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "Overfull" not in done.stdout, done.stdout[-2000:]


def judged(claim, **found):
    """What the claim of that id says of findings that are empty but for some."""
    empty = {
        "wall": WALL,
        "activity": activity(),
        "checks": {},
        "predictions": ranks([], []),
        "theory": {},
    }
    (known,) = (known for known in claims.CLAIMS if known.id == claim)
    return known.judge(claims.Findings(**empty | found))


def ranks(masked, baseline):
    return {"masked": pd.DataFrame({"rank": masked}), "baseline": pd.DataFrame({"rank": baseline})}


@pytest.mark.parametrize(
    "theory, verdict",
    [
        ({"Theorem 1": {"holds": True}, "failed": []}, "holds"),
        ({"Theorem 1": {"holds": True}, "Lemma 2": {"holds": False}}, "fails"),
        ({}, "not tested here"),
    ],
)
def test_the_theorem(theory, verdict):
    found = judged("theorem-1", theory=theory)
    holding = sum(check["holds"] for check in theory.values() if "holds" in check)
    assert found.verdict == verdict and found.ours.startswith(f"{holding} of ")


@pytest.mark.parametrize(
    "mu, verdict",
    [
        ([0.3] * 100, "holds"),
        ([0.3] * 55 + [0.0] * 45, "inconclusive"),
        ([0.05] * 100, "fails"),
        ([math.nan] * 90 + [0.3] * 10, "fails"),
        ([], "not tested here"),
    ],
)
def test_a_method_is_active(mu, verdict):
    assert judged("highlights-gradcam", activity=activity(GradCAM=mu)).verdict == verdict
    assert judged("highlights-gradcam++", activity=activity(GradCAMpp=mu)).verdict == verdict


def test_images_of_one_class_are_not_so_many_images():
    """70 of 100 images light up: seven in each of ten classes, or all of seven classes."""
    spread = activity(GradCAM=([0.3] * 7 + [0.0] * 3) * 10)
    clustered = activity(GradCAM=[0.3] * 70 + [0.0] * 30)
    found = [judged("highlights-gradcam", activity=table) for table in (spread, clustered)]
    assert [one.verdict for one in found] == ["holds", "inconclusive"]
    assert found[1].ours.startswith("STACK-MIX: 70 of 100 images of 10 classes [40%, ")
    one = activity(GradCAM=[0.3] * 10)  # of one class nothing follows for others
    assert judged("highlights-gradcam", activity=one).verdict == "inconclusive"


def test_networks_and_classes_both_decide():
    """Every network's own share is told; one of three that is dark makes a claim inconclusive."""
    lit, dark = activity(GradCAM=[0.3] * 100), activity(GradCAM=[0.0] * 100)
    found = judged("highlights-gradcam", activity=networks(lit, lit, lit))
    said = "300 of 300 images of 3 networks and 10 classes [100%, 100%], most on 3 of 3 networks"
    assert found.verdict == "holds" and found.ours == f"STACK-MIX: {said}; STACK-GEN: {said}"
    found = judged("highlights-gradcam", activity=networks(lit, lit, dark))
    assert found.verdict == "inconclusive" and "most on 2 of 3 networks" in found.ours
    assert judged("highlights-gradcam", activity=networks(dark, dark)).verdict == "fails"


def test_a_network_of_fewer_images_counts_as_much():
    lit, dark = activity(GradCAM=[0.3] * 100), activity(GradCAM=[0.0] * 30)
    table = table1.table1(networks(lit, dark))
    assert table["mean"].tolist() == pytest.approx([15, 15]) and table["maps"].tolist() == [130] * 2
    said = table1.notes(table, {})
    assert "STACK-MIX: 2 networks, 10 classes, 100 images (of GradCAM 30 but for the first" in said
    assert "intervals resample networks and classes" in said
    assert "of one network" in table1.notes(table1.table1(lit), {})


def test_the_ten_are_quoted():
    """Per network: on most images of both datasets, or not."""
    rows = [
        (d, n, "GradCAM", lit)
        for d, shares in (("stack-mix", (90, 40, 60, 70)), ("stack-gen", (90, 90, 50, 51)))
        for n, lit in enumerate(shares)
    ]
    table = pd.DataFrame(rows, columns=["dataset", "network", "method", "lit"])
    lit = activity(GradCAM=[0.3] * 100, XGradCAM=[0.3] * 100)
    found = judged("highlights-gradcam", activity=lit, ten=table)
    assert found.ours.endswith("; of 4 networks (benchmarks/ten.md) 2 do")
    assert "ten.md" not in judged("highlights-xgradcam", activity=lit, ten=table).ours
    assert "ten.md" not in judged("highlights-gradcam", activity=lit).ours


def test_every_networks_own_numbers():
    some = networks(activity(GradCAM=[0.1, 0.3]), activity(GradCAM=[0.02, 0.04, math.nan, 0.3]))
    table = by_network(some).set_index(["dataset", "network"]).loc["stack-mix"]
    assert table["mean"].tolist() == pytest.approx([20, 12]) and table["images"].tolist() == [2, 4]
    assert table["lit"].tolist() == [100, 25] and table["empty"].tolist() == [0, 1]


def test_the_datasets_may_disagree():
    table = activity(GradCAM=[0.3] * 50)
    table.loc[table["dataset"] == "stack-gen", "mu"] = 0.0
    assert judged("highlights-gradcam", activity=table).verdict == "inconclusive"


@pytest.mark.parametrize(
    "mu, verdict", [([0.0, 0.0], "holds"), ([0.0, 1e-12], "fails"), ([math.nan], "not tested here")]
)
def test_hirescam(mu, verdict):
    assert judged("hirescam-dark", activity=activity(HiResCAM=mu)).verdict == verdict


@pytest.mark.parametrize(
    "wall, verdict",
    [
        ({}, "holds"),
        ({"dead_rows": 53, "hirescam_zero_rows": 135}, "fails"),
        ({"certified": False}, "fails"),
        ({"wall_rows": 7, "dead_rows": 22, "hirescam_zero_rows": 104}, "not tested here"),
    ],
)
@pytest.mark.parametrize(
    "claim, paper", [("dead-zone", "54 rows, 24%"), ("hirescam-zero", "136 rows, 61%")]
)
def test_the_geometry(claim, paper, wall, verdict):
    found = judged(claim, wall=WALL | wall)
    assert (found.verdict, found.paper) == (verdict, paper)


@pytest.mark.parametrize(
    "lost, won, both, verdict",
    [
        (20, 5, 475, "holds"),
        (6, 4, 490, "inconclusive"),
        (5, 1, 18, "inconclusive"),
        (45, 5, 450, "inconclusive"),  # a drop of 8 points, which may be 11
        (65, 5, 430, "inconclusive"),
        (100, 0, 400, "fails"),
        (2, 30, 468, "fails"),
        (0, 0, 0, "not tested here"),
    ],
)
def test_accuracy(lost, won, both, verdict):
    masked = [2] * lost + [1] * won + [1] * both
    baseline = [1] * lost + [2] * won + [1] * both
    found = judged("accuracy", predictions=ranks(masked, baseline))
    assert found.verdict == verdict
    assert not masked or f"{lost} images lost, {won} won" in found.ours


@pytest.mark.parametrize(
    "own, other, verdict",
    [((10, 9), (9, 9), "holds"), ((10, 8), (9, 9), "inconclusive"), ((8, 10), (9, 8), "fails")],
)
def test_follows_the_upper_animal(own, other, verdict):
    """Nine of ten on each of two datasets; on one of them; on neither."""
    checks = {
        name: {"follows_upper": {"images": 10, "own_named": mine, "other_named": theirs}}
        for name, mine, theirs in zip(("stack-mix", "stack-gen"), own, other, strict=True)
    }
    found = judged("follows-upper", checks=checks | {"stack-mix-1": {}})
    assert found.verdict == verdict
    assert found.ours.startswith(f"its class is predicted for {sum(own)} of 20 images, and for")
    assert judged("follows-upper", checks={"stack-mix": {}}).verdict == "not tested here"


@pytest.mark.parametrize("lower, verdict", [(0, "holds"), (1, "fails")])
def test_ignores_the_lower_animal(lower, verdict):
    checks = {"stack-mix": {"follows_upper": {"images": 10, "lower_changed": lower}}}
    assert judged("ignores-lower", checks=checks).verdict == verdict


def test_agreement_of_rankings():
    same = activity(GradCAM=[0.1], GradCAMpp=[0.2], XGradCAM=[0.3], ScoreCAM=[0.4], EigenCAM=[0.5])
    others = activity(a=[0.9], b=[0.8], c=[0.1])  # methods the paper doesn't rank change nothing
    others.loc[others["dataset"] == "stack-gen", "mu"] = [0.0, 0.1, 0.9]
    same = pd.concat([same, others], ignore_index=True)
    found = judged("datasets-agree", activity=same)
    # Of the 5! orders, this and its reverse.
    assert found.ours.startswith("ρ = 1.00 over 5 methods (p = 0.02, exact)")
    assert found.verdict == "holds"
    turned = same[same["method"].isin(table1.PAPER_TABLE["stack-mix"])].reset_index(drop=True)
    second = turned["dataset"] == "stack-gen"
    turned.loc[second, "mu"] = turned.loc[second, "mu"].to_numpy()[::-1]
    assert judged("datasets-agree", activity=turned).verdict == "fails"
    assert judged("datasets-agree", activity=turned[~second]).verdict == "not tested here"


def test_the_accuracy_of_several_networks():
    """Each loses 4 points: a drop; one that loses 20 makes it as unsure as they differ."""

    def found(*lost):
        tables = {
            f"masked-{n}" if n else "masked": [2] * k + [1] * (500 - k) for n, k in enumerate(lost)
        }
        return judged(
            "accuracy",
            predictions={
                which: pd.DataFrame({"rank": ranks})
                for which, ranks in (tables | {"baseline": [1] * 500}).items()
            },
        )

    same = found(20, 20, 20)
    assert same.verdict == "holds" and same.ours.startswith("96.0 against 100.0, a drop of 2")
    assert "60 images lost, 0 won, a loss (McNemar, p < 0.05) on 3 of 3 networks" in same.ours
    assert found(20, 20, 100).verdict == "inconclusive"
    assert "on 2 of 3 networks" in found(20, 20, 2).ours


def test_the_drop_of_several_networks_covers_it():
    """Networks that differ, and images that all of them share: 95% hold the true mean drop."""
    random, inside, alone = np.random.default_rng(0), [], []
    for _ in range(1500):
        hard = random.uniform(size=400)  # an image's own, for every network
        wrong = [hard < p for p in random.normal(0.06, 0.015, 3)]
        lost, won = np.array([own.sum() for own in wrong]), np.zeros(3, int)
        low, high = claims.drop_interval(lost, won, 400)
        inside.append(low <= 0.06 <= high)
        low, high = claims.drop_interval(lost[:1], won[:1], 400)
        alone.append(low <= 0.06 <= high)
    assert 0.93 <= np.mean(inside) <= 0.995 and np.mean(alone) < 0.9


def test_the_drops_interval_covers_it():
    """Drawn again and again at known shares: 95% of the intervals hold the true difference."""
    random = np.random.default_rng(0)
    for images, lost, won in ((500, 0.06, 0.03), (100, 0.05, 0.0), (200, 0.12, 0.02)):
        drawn = random.multinomial(images, (lost, won, 1 - lost - won), size=4000)
        found = [claims.paired_difference(a, b, images) for a, b, _ in drawn]
        inside = np.mean([low <= lost - won <= high for low, high in found])
        assert 0.93 <= inside <= 0.985, (images, lost, won, inside)


# The runs that judged the claims: this one, and the showcases that trained networks.
JUDGED = [file.parents[1] for file in ROOT.glob("showcase/*/metrics/claims.json")]
RUNS = {".": ROOT, **{folder.name: folder for folder in JUDGED}}


def committed(run):
    return json.loads((RUNS[run] / "metrics" / "claims.json").read_text())


def test_a_claim_knows_itself():
    """Its id is its own; its stages are the pipeline's; its words say how exactly it comes back."""
    pipeline = set(stages.every(ROOT)) | set(stages.definitions(ROOT))
    assert len({known.id for known in claims.CLAIMS}) == len(claims.CLAIMS)
    assert len({known.statement for known in claims.CLAIMS}) == len(claims.CLAIMS)
    for known in claims.CLAIMS:
        assert re.fullmatch(r"[a-z0-9+-]+", known.id)
        assert known.where and known.tolerance and known.stages, known.id
        assert set(known.stages) <= pipeline, known.id
        assert (known.tolerance == "the verdict") == (known.kind == claims.OBSERVED), known.id
        assert known.kind in (claims.PROVED, claims.CERTIFIED, claims.OBSERVED)


def test_the_committed_ledger_is_every_claim_in_order():
    rows = [(row["id"], row["claim"], row["where"], row["kind"]) for row in committed(".")]
    known = [(known.id, known.statement, known.where, known.kind) for known in claims.CLAIMS]
    assert len(rows) >= 15 and rows == known


@pytest.mark.parametrize("run", [run for run in RUNS if run != "."])
def test_a_showcases_claims_are_the_papers(run):
    """A showcase may be older than a claim and its words; nearly all are still said so."""
    rows = [(row["claim"], row["where"]) for row in committed(run)]
    known = [(known.statement, known.where) for known in claims.CLAIMS]
    assert len(rows) >= 14 and len([row for row in rows if row in known]) >= len(rows) - 1


def test_an_id_without_a_claim_is_refused():
    with pytest.raises(ValueError, match=r"^claims: got pigs; takes theorem-1, dead-zone, "):
        claims.by_id("pigs")


def test_a_claim_is_one_function(monkeypatch):
    """As claims.py says: it stands in the ledger, with its words, after the others."""
    monkeypatch.setattr(book, "CLAIMS", list(book.CLAIMS))

    @claims.claim(
        "pigs",
        "pigs fly",
        where="Section 9",
        kind=claims.CERTIFIED,
        stages=("paper",),
        tolerance="exact",
    )
    def pigs(found):
        return claims.Judged("they do", f"{found.wall['dead_rows']} of them", claims.FAILS)

    rows = claims.ledger(claims.Findings(WALL, activity(), {}, ranks([], []), {}))
    assert [row["claim"] for row in rows] == [known.statement for known in book.CLAIMS]
    assert rows[-1] == {
        "id": "pigs",
        "claim": "pigs fly",
        "where": "Section 9",
        "kind": "certified here",
        "paper": "they do",
        "ours": "54 of them",
        "verdict": "fails",
    }
    assert claims.by_id("pigs").statement == "pigs fly"


def test_the_committed_table_is_of_the_committed_claims():
    """figures/table1.csv, metrics/activity.json and metrics/claims.json tell the same story."""
    table = pd.read_csv(ROOT / "figures" / "table1.csv")
    means = json.loads((ROOT / "metrics" / "activity.json").read_text())
    for row in table[table["method"] != "uniform map"].itertuples():
        assert means[row.dataset][row.method] == pytest.approx(row.mean, abs=2e-3)
    wall = json.loads((ROOT / "metrics" / "wall.json").read_text())
    uniform = table[table["method"] == "uniform map"]["mean"]
    assert np.allclose(uniform, 100 * math.sqrt(wall["dead_rows"] / wall["image_rows"]), atol=1e-3)
    verdicts = {
        c["claim"]: c["verdict"] for c in json.loads((ROOT / "metrics" / "claims.json").read_text())
    }
    assert (
        set(verdicts.values()) <= {"holds", "fails", "inconclusive", "not tested here"}
        and len(verdicts) >= 13
    )


def network_report(verdict):
    rows = [
        {"method": "GradCAM", "control": control, "mean": mean, "images": 20}
        for control, mean in (("same class", 60.0), ("another class", 7.25))
    ]
    return {"verdicts": {"GradCAM": verdict}, "activity": rows}


def test_a_real_network():
    seen, blind = network_report("sees the object"), network_report("blind behind the wall")
    found = judged("real-network", networks={"one": seen})
    assert found.verdict == claims.HOLDS
    assert found.ours == "one, 20 photographs: µ×100 with the same class 60.0, another class 7.2"
    assert judged("real-network", networks={"one": seen, "two": blind}).verdict == "inconclusive"
    assert judged("real-network", networks={"two": blind}).verdict == claims.FAILS
    assert judged("real-network").verdict == claims.UNTESTED
