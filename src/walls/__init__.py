"""See Through Walls: dead zones, saliency maps and their activity.

The public face. Each name is resolved when it is first used, so that importing this is quick.
"""

import os
from importlib import import_module

__version__ = "0.2.0"

# Nobody is told that this runs. Hugging Face's libraries read it when they are imported, and
# whoever wants to may set it.
for _name in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_name, "1")

_HOMES = {
    "activity": "walls.saliency.activity",
    "behind": "walls.network.behind",
    "certify": "walls.network.certificate",
    "check": "walls.sanity.check",
    "dead_zone": "walls.network.geometry",
    "saliency_maps": "walls.saliency.maps",
    "upscale": "walls.saliency.activity",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'walls' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
