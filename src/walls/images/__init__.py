"""Image files and finished stacked images as tensors: reading, transforms, loaders.

What makes images does not live here, but in `sources` and `stacks`.
"""
