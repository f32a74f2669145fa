"""Maps at the image's size: pytorch-grad-cam's scaling, twice the minimum, empty maps."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam.utils.image import scale_cam_image

from walls.saliency.activity import interpolate, upscale


def test_upscale_is_the_librarys_scaling():
    maps = torch.rand(5, 14, 14, generator=torch.Generator().manual_seed(0)) + 0.5
    expected = scale_cam_image(np.maximum(scale_cam_image(maps.numpy(), (224, 224)), 0))
    torch.testing.assert_close(upscale(maps, 224), torch.from_numpy(expected), rtol=0, atol=1e-6)


def test_upscale_subtracts_the_minimum():
    maps = torch.rand(2, 14, 14, dtype=torch.float64)
    up = upscale(maps + 3, 224)
    torch.testing.assert_close(up, upscale(maps, 224), rtol=0, atol=1e-6)
    assert up.amin((1, 2)).abs().max() < 1e-12 and up.amax((1, 2)).min() > 1 - 1e-6


def test_upscale_subtracts_both_minima():
    # Without the first subtraction the library's 1e-7 weighs on a shallow map, and it peaks at
    # 0.906.
    shallow = 1 + 1e-6 * torch.rand(
        2, 14, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    assert upscale(shallow, 224).amax((1, 2)).min() > 0.999
    # Bilinear upscaling misses the minimum of a map that has it in one corner cell's middle only
    # after the second.
    steep = torch.zeros(1, 2, 2, dtype=torch.float64)
    steep[0, 0, 0] = 1
    assert upscale(steep, (3, 3)).amin() == 0


def test_interpolate_to_a_single_cell_is_the_mean():
    maps = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
    assert interpolate(maps, 1).tolist() == [[[3.0]]]
    assert interpolate(maps, (1, 2)).tolist() == [[[2.0, 4.0]]]


@pytest.mark.parametrize("shape", [(2, 0, 5), (2, 5, 0), (2, 5), (1, 2, 5, 5)])
def test_what_is_no_map_is_refused(shape):
    with pytest.raises(ValueError) as error:
        upscale(torch.zeros(shape), 224)
    takes = "takes (N, h, w) of floating-point numbers"
    assert str(error.value) == f"maps: got {shape} of torch.float32; {takes}"


def test_interpolate_leaves_the_scores():
    torch.testing.assert_close(
        interpolate(torch.full((1, 3, 3), 2.5), (9, 7)), torch.full((1, 9, 7), 2.5)
    )


def test_empty_maps_stay_empty():
    assert (upscale(torch.zeros(1, 14, 14), 224) == 0).all()
