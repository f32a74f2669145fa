"""The section `networks` of params.yaml."""

import os
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import Field

from walls.base.fields import Section, Text, abridged, home, takes


class Networks(Section):
    """Which trained networks are put behind a wall, on which photographs, and what is checked."""

    names: takes(
        "a list of networks: efficientnet-lite0, -lite1, -lite2, timm:NAME or torchvision:NAME",
        list[Text],
    )
    images: takes("packaged, or a folder of photographs CLASS/*.jpg", Text)
    photographs: takes(
        "a whole number of photographs, 2 or more, or null for all",
        Annotated[int, Field(ge=2, le=10**6)] | None,
    ) = None
    seen_rows: takes(
        "a number of image rows that the network sees, or null to stack two whole photographs",
        Annotated[int, Field(ge=1, le=4096)] | None,
    )
    methods: takes("a list of names of methods.py, each once", list[Text])
    costly_images: takes(
        "a whole number, 1 or more: the images that ScoreCAM and Opti-CAM take",
        Annotated[int, Field(ge=1, le=10**6)],
    )

    def conflicts(self, params: Any) -> Iterator[str]:
        """Every method is one of methods.py, the photographs are there, a network is named."""
        from walls.saliency.methods import METHODS

        if not self.names:
            yield f"networks.names: got []; takes {self.described('names')}"
        if self.images != "packaged" and not os.path.isdir(home(self.images)):
            yield f"networks.images: got {self.images}; takes {self.described('images')}"
        unknown = [name for name in self.methods if name not in METHODS]
        if unknown:
            close = get_close_matches(unknown[0], METHODS, 1)
            hint = "".join(f"did you mean {name}? " for name in close)
            yield f"networks.methods: got {unknown[0]}; {hint}takes {', '.join(METHODS)}"
        elif not self.methods or len(set(self.methods)) < len(self.methods):
            got = abridged(self.methods)
            yield f"networks.methods: got {got}; takes one or more names, each once"
