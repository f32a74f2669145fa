"""torch's global state, which is the caller's, kept out of what is computed here."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn


@contextmanager
def own_state(dtype: torch.dtype) -> Iterator[None]:
    """Gradients exist and new tensors are of `dtype`, whatever the caller set; then as it was.

    New tensors are in the processor's memory, unless it is said otherwise where they are made.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("cpu"), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(before)


def differentiable(model: nn.Module) -> nn.Module:
    """Itself; a copy where weights were made in inference mode, which no gradient passes."""
    made = chain(model.parameters(), model.buffers())
    return copy.deepcopy(model) if any(tensor.is_inference() for tensor in made) else model


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """The network in evaluation mode, and afterwards in the mode it was in."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield network
    finally:
        for module in training:
            module.training = True
