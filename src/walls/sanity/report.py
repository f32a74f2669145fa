"""What a check found: µ with its controls, a verdict on every method, and the files that say so."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from walls.base import files
from walls.network.certificate import Certificate
from walls.network.geometry import DeadZone
from walls.saliency import statistics
from walls.saliency.activity import uniform_activity
from walls.saliency.controls import ANOTHER, GREY, SAME
from walls.saliency.statistics import interval

COLUMNS = ["image", "class", "predicted", "method", "control", "mu", "mu_raw"]
BLIND = "blind behind the wall"
OBJECT = "sees the object"
CONTENT = "sees content"
ALWAYS = "lights up whatever lies there"
UNSETTLED = "not settled by these images"
SLIGHT = 0.05  # a mean µ that counts as lighting up


class SeesThroughWalls(AssertionError):
    """A method's map lights up what the network can't see."""


@dataclass(frozen=True)
class Report:
    """A check's table, a row per image, method and control, and what it says of each method."""

    table: pd.DataFrame  # COLUMNS; mu in [0, 1], NaN for an all-zero map
    certificate: Certificate
    zone: DeadZone
    methods: list[str]
    controls: list[str]
    images: dict[str, Tensor] = field(repr=False)  # {control: (few, C, H, W)}, to be drawn
    maps: dict[tuple[str, str], Tensor] = field(repr=False)  # {(method, control): (few, h, w)}
    sign: str = "relu"
    seed: int = 0

    @property
    def uniform(self) -> float:
        """µ of a map that is the same everywhere, in [0, 1]."""
        return uniform_activity(self.zone.measured_rows / self.zone.image_rows)

    @property
    def classes(self) -> list[int]:
        """Each image's class, in order."""
        return self.table.drop_duplicates("image").sort_values("image")["class"].tolist()

    def summary(self) -> pd.DataFrame:
        """A row per method and control: mean µ×100, its 95% interval over classes, and counts."""
        rows = []
        for (method, control), part in self.table.groupby(["method", "control"], sort=False):
            values, raw, classes = (part[key].to_numpy() for key in ("mu", "mu_raw", "class"))
            cells = statistics.summary(values, raw, self.seed, classes)
            rows.append({"method": method, "control": control, **cells})
        return pd.DataFrame(rows)

    def verdict(self, method: str) -> str:
        """What the map of a method follows in the hidden part, by 95% intervals over classes.

        blind behind the wall: µ is 0 on every image, whatever lies there. lights up whatever lies
        there: µ is above 5 even with grey. Else, sees the object: µ with another object of the
        class exceeds µ with one of another class. Else, sees content: µ with another class exceeds
        µ with grey. not settled by these images: none of these. An empty map counts as 0.
        Raises ValueError for a method that was not checked.
        """
        own = self.table[self.table["method"] == method]
        if own.empty:
            raise ValueError(f"method: got {method}; takes {', '.join(self.methods)}")
        mu = own.pivot(index="image", columns="control", values="mu").fillna(0.0)
        classes = own.drop_duplicates("image").set_index("image")["class"].loc[mu.index].to_numpy()
        if not mu.to_numpy().any():
            return BLIND
        if GREY in mu and interval(mu[GREY].to_numpy(), classes, self.seed)[0] > SLIGHT:
            return ALWAYS
        if self._above(mu, SAME, ANOTHER, classes):
            return OBJECT
        return CONTENT if self._above(mu, ANOTHER, GREY, classes) else UNSETTLED

    def _above(self, mu: pd.DataFrame, one: str, other: str, classes: np.ndarray) -> bool:
        """Whether the mean difference, image by image, is above 0 with its whole interval."""
        if one not in mu or other not in mu:
            return False
        low, _ = interval((mu[one] - mu[other]).to_numpy(), classes, self.seed)
        return low > 0

    def verdicts(self) -> dict[str, str]:
        """The verdict on every method."""
        return {method: self.verdict(method) for method in self.methods}

    def require(self, method: str) -> "Report":
        """Itself; raises SeesThroughWalls, an AssertionError, for a method that isn't blind."""
        found = self.verdict(method)
        if found != BLIND:
            own = self.table[self.table["method"] == method]
            worst = own.loc[own["mu"].idxmax()]
            raise SeesThroughWalls(
                f"{method}: {found}; up to {100 * worst['mu']:.1f}% of the map's norm lies where "
                f"the network can't see (image {worst['image']}, {worst['control']} there)"
            )
        return self

    def sentence(self) -> str:
        """Which methods have which verdict, and the highest mean µ×100 with the same class."""
        groups: dict[str, list[str]] = {}
        for method, found in self.verdicts().items():
            groups.setdefault(found, []).append(method)
        said = "; ".join(f"{found}: {', '.join(names)}" for found, names in groups.items())
        summary = self.summary()
        same = summary[summary["control"] == SAME]
        if same.empty or same["mean"].isna().all():
            return f"{said}."
        top = same.loc[same["mean"].idxmax()]
        return f"{said}. Highest with the same class: {top['method']}, µ×100 = {top['mean']:.1f}."

    def certified(self) -> str:
        """The certificate in a sentence: what the network can't see, and how that was shown."""
        zone, images = self.zone, self.certificate.images
        return (
            f"The network can't see {zone.dead_rows} of {zone.image_rows} rows of its image: on "
            "these very weights every logit is the same to the last bit whatever finite values "
            f"stand there ({images} images), and the gradient there is "
            f"{self.certificate.dead_gradient:g}."
        )

    def scope(self) -> str:
        """How many images and classes, how many stand above themselves; which rows µ is of."""
        rows, classes = self.zone.measured, self.classes
        alone = sum(classes.count(one) == 1 for one in classes)
        return (
            f"{len(classes)} images of {len(set(classes))} classes; {alone} are alone of their "
            f"class and stand above themselves, mirrored. µ is of rows {rows.start} to "
            f"{rows.stop - 1}; a map that is the same everywhere has µ×100 = "
            f"{100 * self.uniform:.1f}."
        )

    def wide(self) -> pd.DataFrame:
        """Mean µ×100 and its interval as text, a method a row, a control a column; the verdict."""
        found = self.summary()
        cells = found.apply(cell, axis=1)
        table = found.assign(cell=cells).pivot(index="method", columns="control", values="cell")
        table = table.reindex(index=self.methods, columns=self.controls).fillna("")
        table["images"] = found.groupby("method")["images"].max()
        table["verdict"] = pd.Series(self.verdicts())
        return table.rename_axis(None).rename_axis(columns=None)

    def as_json(self) -> dict[str, Any]:
        """All of it but the pictures, for a file."""
        rows = self.summary().round(4).replace({math.nan: None}).to_dict("records")
        return {
            "certificate": asdict(self.certificate) | {"holds": self.certificate.holds},
            "image_rows": self.zone.image_rows,
            "seen_rows": self.zone.seen_rows,
            "measured_rows": self.zone.measured_rows,
            "uniform": round(100 * self.uniform, 4),
            "sign": self.sign,
            "verdicts": self.verdicts(),
            "activity": rows,
        }

    def save(self, folder: Path | str, title: str = "a network") -> Path:
        """Write report.json, .csv, .png and .html into `folder`, and return the page's path."""
        from walls.sanity import page

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(self.as_json(), folder / "report.json")
        files.write_csv(self.table, folder / "report.csv", digits=6)
        page.write(self, folder, title)
        return folder / "report.html"


def cell(row: Mapping[Any, Any] | pd.Series) -> str:
    """A row of `summary` or of a report's JSON as text: its mean and interval."""
    if pd.isna(row["mean"]):
        return "empty maps"
    return f"{row['mean']:.1f} [{row['ci_low']:.1f}, {row['ci_high']:.1f}]"
