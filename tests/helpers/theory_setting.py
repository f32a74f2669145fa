"""The image and the sizes of [CNN] at which the theory's formulas are tested."""

import numpy as np

# H, W, k, k' all different, so that no two sizes can be swapped unseen: h, w = 8, 6; h', w' = 4, 3.
HEIGHT, WIDTH, KERNEL, POOL = 10, 8, 3, 2
IMAGE = np.random.default_rng(5).uniform(0, 1, (HEIGHT, WIDTH))
IMAGE[5:, 5:] = 0  # some black patches
NORMS = np.array(
    [[np.sqrt((IMAGE[i : i + 3, j : j + 3] ** 2).sum()) for j in range(6)] for i in range(8)]
)
TAU = 0.7
