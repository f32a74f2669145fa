"""The ledger: what a claim is, and every claim's verdict as one table.

The claims themselves stand in claims.py, which fills CLAIMS.

Three kinds of verdict: *proved*, for every network; *certified here*, by construction and on these
very weights; *observed here*, on so many networks and images. What is observed must come back as
the same verdict, and may move to inconclusive and back.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from walls.paper import networks

PROVED, CERTIFIED, OBSERVED = "proved", "certified here", "observed here"
HOLDS, FAILS, INCONCLUSIVE, UNTESTED = "holds", "fails", "inconclusive", "not tested here"


@dataclass(frozen=True)
class Findings:
    """What the run found.

    `wall`: metrics/wall.json; `activity`, a row per dataset, network, image, class and method with
    mu (µ in [0, 1], NaN without a map; Table 1 shows 100·µ) and mu_raw (without min-subtraction);
    `checks`: the cams stages' checks per dataset and network; `predictions`: loop.predict's table
    per network (masked, masked-1, …, baseline); `theory`: metrics/theory.json; `networks`:
    runs/networks/networks.json, a report of each of notebook 9's; `ten`: benchmarks/ten.csv
    (networks.ten).
    """

    wall: dict
    activity: pd.DataFrame
    checks: dict[str, dict]
    predictions: dict[str, pd.DataFrame]
    theory: dict
    networks: dict[str, dict] = field(default_factory=dict)
    ten: pd.DataFrame = field(default_factory=lambda: networks.ten(Path("nowhere")))


@dataclass(frozen=True)
class Judged:
    """What the paper says, what is found here, and the verdict."""

    paper: str
    ours: str
    verdict: str


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and what it takes to repeat it."""

    id: str
    statement: str
    where: str  # in the paper
    kind: str  # PROVED, CERTIFIED or OBSERVED
    stages: tuple[str, ...]  # that repeat it
    tolerance: str  # how exactly it must come back
    judge: Callable[[Findings], Judged]


CLAIMS: list[Claim] = []


def claim(
    id: str,
    statement: str,
    *,
    where: str,
    kind: str,
    stages: tuple[str, ...],
    tolerance: str,
) -> Callable:
    """Register a function Findings → Judged as a claim, in the ledger's order."""

    def register(judge: Callable[[Findings], Judged]) -> Callable[[Findings], Judged]:
        CLAIMS.append(Claim(id, statement, where, kind, stages, tolerance, judge))
        return judge

    return register


def by_id(id: str) -> Claim:
    """The claim of that id, as metrics/claims.json has it; ValueError if there is none."""
    found = [one for one in CLAIMS if one.id == id]
    if not found:
        raise ValueError(f"claims: got {id}; takes {', '.join(one.id for one in CLAIMS)}")
    return found[0]


def ledger(found: Findings) -> list[dict]:
    """Every claim as {id, claim, where, kind, paper, ours, verdict}: metrics/claims.json."""
    rows = []
    for one in CLAIMS:
        judged = one.judge(found)
        known = {"id": one.id, "claim": one.statement, "where": one.where, "kind": one.kind}
        rows.append(known | vars(judged))
    return rows


def as_table(ledger: list[dict]) -> pd.DataFrame:
    """The ledger as a table: verdict, claim, its place, its kind, what is reported and found."""
    table = pd.DataFrame(ledger).drop(columns="id").rename(columns={"ours": "here"})
    return table.set_index("verdict").rename_axis(None)


def counted(ledger: list[dict]) -> str:
    """How many claims have which verdict, in one sentence."""
    verbs = {
        HOLDS: ("holds", "hold"),
        FAILS: ("fails", "fail"),
        INCONCLUSIVE: ("is inconclusive", "are inconclusive"),
        UNTESTED: ("is not tested here", "are not tested here"),
    }
    kinds = Counter(row["kind"] for row in ledger if row["verdict"] == HOLDS)
    counts = Counter(row["verdict"] for row in ledger).most_common()
    said = (f"{number} {verbs[verdict][number > 1]}" for verdict, number in counts)
    held = ", ".join(f"{kinds[kind]} {kind}" for kind in (PROVED, CERTIFIED, OBSERVED))
    return f"Of {len(ledger)} claims, {', '.join(said)}; of those that hold, {held}."
