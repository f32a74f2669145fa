"""What the page to try shows of EfficientNet-Lite0 on foolbox's photographs, made once a process."""

from functools import cache

from walls.network import zoo
from walls.sanity.check import check
from walls.sanity.play import play
from walls.sources import packaged

METHODS = ["GradCAM", "HiResCAM", "EigenCAM"]


@cache
def played():
    """The network, its photographs with their labels and names, a check of them, play.json."""
    named = zoo.get("efficientnet-lite0")
    images, labels, names = packaged.photographs("packaged", named.recipe)
    report = check(named.network, METHODS, images, labels, progress=False)
    return named, (images, labels, names), report, play(named, images, report, names)
