"""The registry's marks: what each says of a method is so."""

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
@pytest.mark.parametrize("name", methods.ZERO)
def test_marked_zero_it_is_zero_behind_the_wall_and_nowhere_else(name, seed):
    maps = saliency_maps(make_tiny(seed=seed), noise(3, seed=seed), [name])[name]
    seen, hidden = maps[:, :-9], maps[:, -9:]
    assert not hidden.any()
    assert seen.flatten(1).any(1).all()


def test_costly_ones_take_many_passes_an_image_and_the_others_one():
    model, images = make_tiny(), noise(2)
    passed = []
    model.features[0].register_forward_hook(lambda layer, given, out: passed.append(len(out)))
    for name in methods.METHODS:
        passed.clear()
        with torch.no_grad():
            saliency_maps(model, images, [name])
        assert (sum(passed) > 5 * len(images)) == (name in methods.COSTLY), (name, sum(passed))
        assert name in methods.COSTLY or sum(passed) == len(images), name
