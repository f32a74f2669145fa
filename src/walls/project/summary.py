"""What the last run found and took, for those who read no notebook: a few lines in the terminal."""

from walls.base import paths
from walls.pipeline import log
from walls.project.blocks import dead_zone_words, headlines, metrics, verdicts_words


def show() -> None:
    """Print what the last run found, what it took here, and which file to open."""
    root = paths.root()
    wall, train, claims = (metrics(root, name) for name in ("wall", "train", "claims"))
    scores = {which: found["top1"] for which, found in train.items() if found["top1"] is not None}
    top1 = ", ".join(f"{which} {100 * score:.1f}%" for which, score in scores.items())
    print(f"The bottom {dead_zone_words(wall)}: no logit depends on them.")
    print(f"Activity there, µ×100: {'; '.join(headlines(root)) or 'not tested here'}.")
    print(f"Top-1 accuracy: {top1 or 'not tested here'}.")
    print(f"Claims: {verdicts_words(claims)}.")
    print(f"It took {log.took()}")
    print(
        "Open rendered/7_paper.ipynb (every figure and claim), "
        "figures/table1.md (the table), or `make site`."
    )
