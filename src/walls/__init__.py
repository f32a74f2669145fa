"""See Through Walls: dead zones, saliency maps and their activity."""

import os

# Nobody is told that this runs. Hugging Face's libraries read it when they are imported, and whoever wants to may set it.
for _name in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_name, "1")
