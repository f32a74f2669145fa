"""The registry's marks: what each says of a method is so."""

import re
import subprocess
import sys

import pytest
import torch
from conftest import make_tiny, noise

from walls.paper.table1 import PAPER_TABLE
from walls.saliency import methods
from walls.saliency.maps import saliency_maps


@pytest.mark.parametrize("dataset", PAPER_TABLE)
def test_the_papers_methods_are_those_of_its_table(dataset):
    assert methods.PAPERS == list(PAPER_TABLE[dataset])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [name for name in methods.ZERO if name not in methods.ATTENTION])
@pytest.mark.slow
def test_marked_zero_it_is_zero_behind_the_wall_and_nowhere_else(name, seed):
    maps = saliency_maps(make_tiny(seed=seed), noise(3, seed=seed), [name])[name]
    seen, hidden = maps[:, :-9], maps[:, -9:]
    assert not hidden.any()
    assert seen.any()


@pytest.mark.slow
def test_costly_ones_take_more_than_five_passes_an_image_and_the_others_one_or_two():
    """Beside the one to **B**, which is shared."""
    model, images = make_tiny(), noise(1)
    options = {name: {"samples": 20} for name in ("KernelShap", "Lime")}
    options |= {"RISE": {"masks": 20}, "Occlusion": {"window": 64, "stride": 64}}
    passed = []
    model.features[0].register_forward_hook(lambda layer, given, out: passed.append(len(out)))
    for name in [*methods.CAMS, *methods.PIXELS]:
        passed.clear()
        own = {name: options[name]} if name in options else {}
        with torch.no_grad():
            saliency_maps(model, images, [name], options=own)
        assert (sum(passed) > 6) == (name in methods.COSTLY), (name, sum(passed))
        most = 3 if name in methods.PIXELS else 1
        assert name in methods.COSTLY or sum(passed) <= most, (name, sum(passed))


def test_whoever_proposed_a_method_stands_in_its_docstring_too():
    for name, function in methods.METHODS.items():
        by, text = methods.BY[name], " ".join((function.__doc__ or "").split())
        if re.search(r"\d{4}", by):
            surname, year = by.split()[0].strip(","), by[-4:]
            assert surname in text and year in text, name


IMPORTED = """
import sys
for first in ("attribution", "transformers", "by_library", "methods"):
    for name in [name for name in sys.modules if name.startswith("walls")]:
        del sys.modules[name]
    __import__(f"walls.saliency.{first}")
    import walls.saliency.methods as m
    print(*m.METHODS, sep="|")
    print(*m.PAPERS[:2], *m.CAMS[:2], sep="|")
"""


@pytest.mark.slow
def test_the_order_is_the_files_whichever_is_imported_first():
    """The paper's methods first; in a process of its own, where nothing of ours is imported yet."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True
    )
    one = ["|".join(methods.METHODS), "GradCAM|GradCAM++|GradCAM|GradCAM++"]
    assert done.stdout.splitlines() == 4 * one
