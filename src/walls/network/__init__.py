"""Networks split as f∘g: dead zones, the wall, [VGG], the certificate, checkpoints.

No images are read here, and nothing is trained.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """`walls.network.vgg`, when it is asked for: settings are read without torch."""
    if name == "vgg":
        from walls.network.architecture import vgg

        return vgg
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
