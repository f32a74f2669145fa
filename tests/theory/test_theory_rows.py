"""The rows and curves that notebook 1 shows: of the formulas, and failing where a formula is wrong."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.theory_setting import IMAGE, KERNEL, NORMS, POOL, TAU

from walls.theory import (
    definition_checks,
    formulas,
    method_checks,
    model_checks,
    results,
    sampling,
    slips,
    theorem_checks,
)


def lemma_1(rows: dict) -> dict:
    return {name: row for name, row in rows.items() if name.startswith("Lemma 1")}


def test_a_planted_error_fails_the_notebooks_own_checks(monkeypatch):
    cnn = (IMAGE, KERNEL, POOL, TAU)
    planted = [
        ("mean_chi", 1 + 1e-6, lambda: theorem_checks.theorem_1(*cnn, 1000, 0, (4, 64))[0]),
        ("mean_chi", 1 + 1e-6, lambda: theorem_checks.given_filters(*cnn, 1000, 0)),
        ("mean_chi", 1 + 1e-6, lambda: theorem_checks.depths(*cnn, 1000, 0)[0]),
        ("covariance", 1.2, lambda: dict([model_checks.network(*cnn, 5000, 0).popitem()])),
        ("gradcam_coefficients", 1 + 1e-9, lambda: model_checks.proposition_1(*cnn, 0)),
        (
            "rectified_mean",
            1 + 1e-6,
            lambda: lemma_1(model_checks.lemmas(IMAGE[:3, :3], TAU, 1000, 0)),
        ),
    ]
    planted += [(name, np.nan, rows) for name, _, rows in planted if name != "covariance"]
    for name, factor, rows in planted:
        assert all(row["holds"] for row in rows().values()), name
        right = getattr(formulas, name)
        with monkeypatch.context() as patch:
            patch.setattr(
                formulas, name, lambda *a, right=right, by=factor, **k: by * right(*a, **k)
            )
            assert not any(row["holds"] for row in rows().values()), name
    errors = np.array([0.1, 0.1, 0])
    worst = [results.errors(np.array([0.1, -0.5, d]), errors) for d in (0, 0.1, np.nan)]
    assert worst == [pytest.approx(5), 999, 999]


def test_what_the_figures_and_tables_show():
    setting, at = (IMAGE, KERNEL, POOL, TAU), model_checks.dead_pixel(IMAGE, KERNEL, POOL)
    upside_down = model_checks.dead_pixel(IMAGE[::-1], KERNEL, POOL)
    assert NORMS[at] == NORMS[6:].max() and min(at[0], upside_down[0]) >= 6  # all unseen
    lines = [formulas.expected_gradcam, formulas.large_v_limit]
    lines += [formulas.moment_bound, formulas.lower_bound]
    curves = theorem_checks.expectation_curves(*setting, at)
    for line, (filters, values) in zip(lines, curves.values(), strict=True):
        assert values[-9] == line(IMAGE, filters[-9], KERNEL, POOL, TAU)[at]
    rows = theorem_checks.large_v()
    exact, bound = (f(IMAGE, 100, KERNEL, POOL, TAU)[at] for f in (lines[0], lines[3]))
    assert rows["V = 100"]["Eq. 5 / exact"] == pytest.approx(bound / exact)
    assert all(row["holds"] for row in rows.values())
    maps = method_checks.method_maps(*setting, 30, 1, 3)
    scores = sampling.methods(IMAGE, 3, *setting[1:], 30, 1, range(48))
    for name, values in scores.items():
        middle = np.median if name == "AblationCAM" else np.mean
        np.testing.assert_array_equal(maps[name].ravel(), middle(values, axis=0))


def test_a_tail_that_misses_its_limit_does_not_hold(monkeypatch):
    law = method_checks.laws.ablation_tail
    monkeypatch.setattr(
        method_checks.laws,
        "ablation_tail",
        lambda draws, t: law(draws, t) * (1.02 if t > 100 else 1),
    )
    _, tail = method_checks.beyond_gradcam(IMAGE, KERNEL, POOL, TAU, 2_000, 4, filters=3)
    assert [row["holds"] for row in tail.values()] == [True] * 4 + [False] * 2


def test_windows_are_in_reading_order_only_by_their_width():
    """14 windows a row: dividing by k' = 2 has the first two right; where k' is w', it has all."""
    for sizes, share in (((14, 14, 2), 194 / 196), ((3, 4, 4), 0.0)):
        found = slips._misplaced(*sizes)
        assert found == {"paper": share, "ours": 0.0, "holds": True}


def test_slips_have_their_numbers():
    rows = slips.slips(IMAGE, KERNEL, POOL, TAU, 0)
    assert all(row["holds"] for row in rows.values())
    first = rows["Sec. 2.1: torch's convolution, variance × inputs"]
    assert (first["paper"], first["sampled"]) == pytest.approx((2, 1 / 3), rel=0.01)
    assert rows["Sec. 3.3: HiResCAM by one weight a map, off by"]["paper"] > 0.5
    variance = rows["Eq. 8: variance at τ = 2, without τ²"]
    assert variance["ours"] == pytest.approx(4 * variance["paper"])
    assert rows["Def. 3: share of 0/0; for exp(f), α"]["paper"] == 1
    assert rows["Prop. 1's proof: windows misplaced by i'"]["paper"] == pytest.approx(10 / 12)


def test_eq_3_taken_literally_loses_silent_windows():
    """A filter that answers nowhere: C' = 0, the literal gradient is 0, Proposition 1's isn't."""
    weights = [np.arange(1.0, 13.0).reshape(1, 1, 4, 3)]
    net = formulas.forward(IMAGE, -np.ones((1, 3, 3)), weights, POOL)
    assert not net["C"].any()
    assert formulas.gradcam_coefficients(weights, net["a"], 48) == pytest.approx([78 / 48])
    deeper, silent = [*weights, np.ones((1, 1))], [np.zeros(1), np.zeros(1)]
    assert formulas.gradcam_coefficients(deeper, silent, 48) == [0]  # 1{0 > 0} = 0


def test_figure_3_shows_a_score_where_nothing_is_seen():
    values, rows = definition_checks.figure_3(formulas.load_image("digits"), 2, 2, 1.0, 64, 1, 0)
    row = rows["GradCAM in the dead zone"]
    assert (row["dead rows of ξ"], row["dead rows of B"]) == (14, 14)
    assert row["logits unchanged"] and values[14:].max() > 0


def test_rows_are_written_and_shown(tmp_path: Path, capsys):
    rows = {
        "one": {"difference": 3e-9, "errors": 1.234, "holds": True},
        "two": {"exact": 0.123456789, "holds": False},
    }
    said = results.write({"part": rows}, tmp_path / "theory.json")
    assert said == "1 of 2 checks hold; not: part: two"
    written = json.loads((tmp_path / "theory.json").read_text())
    assert written["part: two"] == {"exact": 0.123457, "holds": False}
    assert written["failed"] == ["part: two"]
    results.show(rows)
    shown = "difference errors holds exact one < 1e-8 1.2 True - two - - False 0.123"
    assert capsys.readouterr().out.split() == shown.split()


def test_a_table_opens_under_a_line_that_says_how_many_hold():
    one = {"a": {"difference": 3e-9, "errors": 1.2, "holds": True}}
    two = {"b": {"difference": 2e-5, "holds": True}, "c < d": {"errors": 5.0, "holds": False}}
    shown = results.Checks("Two", two)
    assert repr(shown).splitlines()[0] == "Two: 1 of 2 checks hold; not: c < d"
    opened = shown._repr_html_()
    assert opened.startswith("<details><summary>Two: 1 of 2 checks hold; not: c &lt; d</summary>")
    assert re.findall(r"<th>(.*?)</th>", opened)[-2:] == ["b", "c &lt; d"]
    every = results.Overview({"One": one, "Two": two})
    assert (
        repr(every).splitlines()[0].startswith("All sections: 2 of 3 checks hold; not: Two: c < d")
    )
    lines = [line.split() for line in repr(every).splitlines()[1:]]
    assert lines[0] == ["checks", "hold", "difference", "errors"]
    assert lines[1] == ["One", "1", "1", "<", "1e-8", "1.2"]
    assert lines[2] == ["Two", "2", "1", "<", "1e-4", "5"]
