"""What a wall costs a trained network's predictions, at the top, at the bottom, in the middle.

The paper's masked network loses little, "because ImageNet images are centered". A wall at the top
of the same height, and a grey band of it at the top, middle and bottom, say whether that is why.
"""

from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from walls.network.behind import SIDES, behind
from walls.saliency.statistics import interval

WALL, GREY = "wall", "grey band"
TOP, MIDDLE, BOTTOM = "top", "middle", "bottom"
PLACES = (TOP, MIDDLE, BOTTOM)
SHARES = (1 / 7, 2 / 7, 3 / 7)  # of an image: 32, 64 and 96 of 224 rows
MEASURES = ("agrees", "logit_drop", "drop")


def costs(
    network: nn.Module,
    images: Tensor,
    labels: Sequence[int] | None = None,
    shares: Sequence[float] = SHARES,
    batch_size: int = 16,
) -> pd.DataFrame:
    """What becomes of the prediction for each image as rows of it are hidden, `shares` of them.

    `how`: "wall", `walls.behind` within an image, on either side; "grey band", these rows set to 0,
    the mean colour of normalised `images` (N, C, H, W). With y the logit of the class predicted
    from the whole image and p its probability, a row has `hidden_rows`, `how`, `place`, `image`,
    `class` (its label; None: the predicted class), `agrees` (the class is still predicted),
    `logit_drop` (y - y') and `drop` (p - p'). Raises ValueError where no wall fits the network, as
    `walls.behind` says.
    """
    whole = _logits(network, images, batch_size)
    targets = whole.argmax(1)
    classes = targets.tolist() if labels is None else list(labels)
    rows, refused = [], None
    for hidden in [round(share * images.shape[2]) for share in shares]:
        for place in SIDES:
            try:
                seen = images.shape[2] - hidden
                model = behind(network, seen, image_rows=images.shape[2], side=place)
            except ValueError as error:
                refused = error
                continue
            rows += _rows(whole, _logits(model, images, batch_size), targets, hidden, WALL, place)
        for place, band in _bands(images.shape[2], hidden):
            masked = images.clone()
            masked[:, :, band] = 0
            rows += _rows(whole, _logits(network, masked, batch_size), targets, hidden, GREY, place)
    table = pd.DataFrame(rows)
    if refused is not None and not (table["how"] == WALL).any():
        raise refused
    return table.assign(**{"class": table["image"].map(dict(enumerate(classes)))})


def _bands(height: int, hidden: int) -> Iterator[tuple[str, slice]]:
    """Where `hidden` rows lie at the top, in the middle and at the bottom."""
    for place, first in zip(PLACES, (0, (height - hidden) // 2, height - hidden), strict=True):
        yield place, slice(first, first + hidden)


def _logits(network: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    with torch.no_grad():
        parts = images.contiguous(memory_format=torch.channels_last).split(batch_size)
        return torch.cat([network(part) for part in parts]).double()


def _rows(
    before: Tensor, after: Tensor, targets: Tensor, hidden: int, how: str, place: str
) -> list[dict[str, object]]:
    """A row per image: the prediction before and after."""
    (y, p), (changed, left) = (
        [values.gather(1, targets[:, None])[:, 0] for values in (logits, logits.softmax(1))]
        for logits in (before, after)
    )
    measured = (after.argmax(1) == targets, y - changed, p - left)
    columns = [values.tolist() for values in measured]
    own = {"hidden_rows": hidden, "how": how, "place": place}
    return [
        own | {"image": image} | dict(zip(MEASURES, values, strict=True))
        for image, values in enumerate(zip(*columns, strict=True))
    ]


def summary(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A row per height, kind and place: each measure's mean, and its 95% interval over classes."""
    rows = []
    for (hidden, how, place), part in table.groupby(["hidden_rows", "how", "place"], sort=False):
        row = {"hidden_rows": hidden, "how": how, "place": place, "images": len(part)}
        for name in MEASURES:
            values = part[name].to_numpy(dtype=float)
            low, high = interval(values, part["class"].to_numpy(), seed)
            row |= {name: values.mean(), f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def difference(
    table: pd.DataFrame,
    measure: str,
    hidden: int,
    one: str,
    other: str,
    how: str = WALL,
    seed: int = 0,
) -> tuple[float, float, float]:
    """The mean of `measure` at one place less that at the other, image by image; its interval."""
    own = table[(table["hidden_rows"] == hidden) & (table["how"] == how)]
    values = own.pivot(index="image", columns="place", values=measure).astype(float)
    classes = own.drop_duplicates("image").set_index("image")["class"].loc[values.index]
    apart = (values[one] - values[other]).to_numpy()
    low, high = interval(apart, classes.to_numpy(), seed)
    return float(apart.mean()), low, high


def sentence(table: pd.DataFrame, seed: int = 0) -> str:
    """Of every height, what stays at either side, and how far the places are apart."""
    found = summary(table, seed).set_index(["hidden_rows", "how", "place"])
    said = []
    for hidden in table["hidden_rows"].unique():
        parts = []
        for how, one, other in ((WALL, TOP, BOTTOM), (GREY, TOP, BOTTOM), (GREY, MIDDLE, BOTTOM)):
            if (hidden, how, one) not in found.index or (hidden, how, other) not in found.index:
                continue
            rows = [100 * found.loc[(hidden, how, place), "agrees"] for place in (one, other)]
            apart = difference(table, "drop", hidden, one, other, how, seed)
            mean, low, high = (100 * value for value in apart)
            parts.append(
                f"{how}, {one} against {other}: the class stays for {rows[0]:.0f}% against "
                f"{rows[1]:.0f}%, the loss of probability differs by {mean:.1f} points "
                f"[{low:.1f}, {high:.1f}]"
            )
        said.append(f"{hidden} rows hidden: {'; '.join(parts)}.")
    return f"{table['image'].nunique()} photographs.\n" + "\n".join(said)
