"""Notebook 0: one photograph's maps and certificate, and five rows of what notebook 9 measured."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from walls.network.zoo import Named
from walls.saliency.controls import ANOTHER, CONTROLS, GREY, NOISE, SAME, partners
from walls.sanity.check import check
from walls.sanity.report import Report, cell

METHODS = ("GradCAM", "HiResCAM")  # of the one photograph
ROWS = ("GradCAM", "GradCAM++", "EigenCAM", "HiResCAM")  # of the table, before the uniform map
UNIFORM = "the same everywhere"


class Caption(str):
    """Markdown, which a notebook shows as such."""

    def _repr_markdown_(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Start:
    """A named network, what stage `networks` found of it, and a check of its first photograph.

    `measured`: its part of networks.json; `classes`: the photographs', in order; `report`: of the
    first photograph and those that lie below it, with METHODS; `shows`: what the network says the
    first one is.
    """

    name: str
    measured: dict[str, Any]
    classes: list[int]
    report: Report
    shows: str

    @property
    def mirrored(self) -> int:
        """Photographs that are alone of their class: below them lie they themselves, mirrored."""
        return partners(self.classes)[0].count(None)


def measured(folder: Path, name: str) -> tuple[dict[str, Any], list[int]]:
    """Of one network what `folder`/networks.json says, and the photographs' classes, in order.

    Raises ValueError where stage `networks` hasn't left it there.
    """
    file, table = folder / "networks.json", folder / "networks.csv"
    if not (file.is_file() and table.is_file()):
        raise ValueError(f"{file.name}: not there; takes a `dvc repro networks` first")
    found = json.loads(file.read_text(encoding="utf-8"))
    if name not in found:
        raise ValueError(f"networks.names: got {name}; takes one of {', '.join(found)}")
    rows = pd.read_csv(table)
    rows = rows[rows["network"] == name].drop_duplicates("image").sort_values("image")
    return found[name], rows["class"].tolist()


def needed(classes: Sequence[int]) -> list[int]:
    """The first photograph, and those that `controls.below` lays below it, in order."""
    alike, unlike = partners(classes)
    return sorted({0, alike[0], unlike[0]} - {None})  # type: ignore[type-var]


def start(
    folder: Path, named: Named, images: Tensor, seen_rows: int | None = None, seed: int = 0
) -> Start:
    """What stage `networks` found of a network, and a check of the first of its photographs.

    `folder`: that stage's output; `images` (N, C, H, W), normalised, and `seen_rows` as it had
    them, or further images after those. Raises ValueError where it isn't there or is of more
    photographs, and as `check`.
    """
    found, classes = measured(folder, named.name)
    if len(images) < len(classes):
        got = f"got {len(images)} photographs"
        raise ValueError(f"networks.images: {got}; takes the {len(classes)} of {folder.name}/")
    few = needed(classes)
    report = check(
        named.network,
        METHODS,
        images[few],
        [classes[one] for one in few],
        seen_rows=seen_rows,
        normalised=named.recipe.normalised,
        seed=seed,
        progress=False,
    )
    predicted = int(report.table["predicted"].iloc[0])
    shows = named.classes[predicted] if named.classes else f"class {predicted}"
    return Start(named.name, found, classes, report, shows)


def activity(report: Report, method: str, control: str) -> str:
    """µ×100 of the first photograph's map, in words."""
    table = report.table
    own = (table["method"] == method) & (table["control"] == control) & (table["image"] == 0)
    mu = table.loc[own, "mu"].iloc[0]
    return "an empty map" if pd.isna(mu) else f"{100 * mu:.1f}"


def headline_caption(one: Start) -> Caption:
    """What the first figure shows, with its numbers, as a caption."""
    zone = one.report.zone
    same, another = (activity(one.report, "GradCAM", control) for control in (SAME, ANOTHER))
    alone = one.classes.count(one.classes[0]) == 1
    there = "the same photograph lies there, mirrored" if alone else "one of its class lies there"
    return Caption(
        f"*A photograph above two others, and GradCAM's map of what {one.name} predicts, "
        f"“{one.shows}”.* The network cannot see the hatched part, {zone.dead_rows} of "
        f"{zone.image_rows} rows; the prediction is the same in both. Where "
        f"{there}, the map lights it up: µ×100 = {same}. Where another class lies there: "
        f"{another}. A map that is the same everywhere has {100 * one.report.uniform:.1f}."
    )


def certificate(one: Start) -> str:
    """What was done to the hidden part, and that no logit changed."""
    found = one.report.certificate
    return (
        f"{found.dead_rows} of {found.image_rows} rows are hidden. Are all logits of "
        f"{found.images} images equal to the last bit when these rows are replaced\n"
        f"by another photograph? {found.equal_replaced}\n"
        f"by noise? {found.equal_noise}\n"
        f"by values of up to 10^30? {found.equal_extreme}\n"
        f"The largest gradient of a logit there is {found.dead_gradient:g}; in the last row that "
        f"is seen, {found.edge_gradient:.1f}."
    )


def table(one: Start) -> pd.DataFrame:
    """Mean µ×100 of at most five rows, [its 95% interval], a column a control; the verdict."""
    found = one.measured
    cells = {(row["method"], row["control"]): row for row in found["activity"]}
    rows = {
        method: {
            control: cell(cells[method, control]) if (method, control) in cells else ""
            for control in CONTROLS
        }
        | {"verdict": found["verdicts"][method]}
        for method in ROWS
        if method in found["verdicts"]
    }
    rows[UNIFORM] = dict.fromkeys(CONTROLS, f"{found['uniform']:.1f}") | {"verdict": ""}
    return pd.DataFrame.from_dict(rows, orient="index")


def table_caption(one: Start) -> Caption:
    """What the table's rows and columns are, and of how many photographs, as a caption."""
    found = one.measured
    images = len(one.classes)
    first = found["image_rows"] - found["measured_rows"]
    return Caption(
        f"*Mean µ×100 in the hidden part, [95% interval], over {images} photographs of "
        f"{len(set(one.classes))} classes; a column says what lies there.* Measured in rows "
        f"{first} to {found['image_rows'] - 1}: above that, upscaling mixes in what is seen. "
        f"“Same class” is another photograph of the class; {one.mirrored} photographs have none, "
        "and stand above themselves, mirrored."
    )


def maps_caption(one: Start) -> Caption:
    """What the second figure shows, with its numbers, as a caption."""
    said = []
    for method in METHODS:
        mus = [activity(one.report, method, control) for control in CONTROLS]
        values = ", ".join(mus) if len(set(mus)) > 1 else f"{mus[0]} each time"
        said.append(f"{method}'s µ×100 is {values}")
    return Caption(
        f"*The same photograph above four hidden parts: {SAME}, {ANOTHER}, {NOISE}, {GREY}.* The "
        f"prediction is “{one.shows}” with the same logits in all four. From left to right, "
        f"{'; '.join(said)}."
    )


def verdict(one: Start) -> str:
    """The page in two sentences, with notebook 9's means."""
    found = one.measured
    cells = {(row["method"], row["control"]): row for row in found["activity"]}
    said = []
    for method in METHODS:
        means = [(c, cells[method, c]["mean"]) for c in CONTROLS if (method, c) in cells]
        words = [f"{mean:.1f} ({c})" for c, mean in means if mean is not None]
        if words and any(mean for _, mean in means):
            said.append(f"{method} {', '.join(words)}")
        elif words:
            said.append(f"{method} 0.0 whatever lies there")
    certified = "certified" if found["certificate"]["holds"] else "NOT certified"
    return (
        f"{one.name}, {len(one.classes)} photographs: no logit depends on the lower "
        f"{found['certificate']['dead_rows']} of {found['image_rows']} rows ({certified}). Mean "
        f"µ×100 there: {'; '.join(said)}; a map that is the same everywhere {found['uniform']:.1f}."
    )
