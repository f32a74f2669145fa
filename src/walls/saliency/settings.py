"""The section `cams` of params.yaml."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Literal

from walls.base.fields import Count, Million, Positive, Section, Text, abridged, takes


class Cams(Section):
    """Which saliency maps, and how they are computed."""

    methods: takes("a list of names of methods.py, each once", list[Text])
    batch_size: takes("a whole number, 1 or more", Million)
    precision: takes("float32, float64 or bfloat16", Literal["float32", "float64", "bfloat16"])
    opticam_steps: takes("a whole number, 1 or more", Million)
    opticam_lr: takes("a number above 0", Positive)
    # Of further networks alone (train.again): the first one's notebooks don't get it.
    costly_images: takes("a whole number of images, 1 or more, or null for all", Count | None) = (
        None
    )

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """The methods' own settings, as `saliency_maps` takes them."""
        return {"Opti-CAM": {"steps": self.opticam_steps, "lr": self.opticam_lr}}

    def conflicts(self, params: Any) -> Iterator[str]:
        """Every method is one of methods.py that takes [VGG], and named once."""
        from walls.saliency.methods import ATTENTION, METHODS

        known = [name for name in METHODS if name not in ATTENTION]
        unknown = [name for name in self.methods if name not in known]
        if unknown:
            close = get_close_matches(unknown[0], known, 1)
            hint = "".join(f"did you mean {name}? " for name in close)
            yield f"cams.methods: got {unknown[0]}; {hint}takes {', '.join(known)}"
        elif not self.methods or len(set(self.methods)) < len(self.methods):
            yield f"cams.methods: got {abridged(self.methods)}; takes one or more names, each once"
