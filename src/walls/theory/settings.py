"""The section `theory` of params.yaml."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from walls.base.fields import Count, Million, Section, takes

IMAGE_ROWS = 29  # the theory's digits, 28 × 28 and padded once


class Theory(Section):
    """[CNN] at initialisation."""

    image: takes("digits or mnist", Literal["digits", "mnist"])
    filters: takes("a whole number, 1 or more", Million)
    kernel: takes("a whole number, 1 or more", Count)
    pool: takes("a whole number, 1 or more", Count)
    depth: takes("a whole number, 1 or more", Annotated[int, Field(ge=1, le=100)])
    tau: takes("a number above 0", Annotated[float, Field(gt=0, le=1000)])
    draws: takes("a whole number, 2 or more", Annotated[int, Field(ge=2, le=10**9)])

    def conflicts(self, params: Any) -> Iterator[str]:
        """k' divides h, and h' has a lower half."""
        rows = IMAGE_ROWS - self.kernel + 1
        if rows < 1 or rows % (2 * self.pool):
            yield (
                f"theory.pool: got {self.pool} with a kernel of {self.kernel}; takes a number of "
                f"which twice divides {IMAGE_ROWS} - kernel + 1, so that h' is whole and even"
            )
