"""The network in what compiles it, or runs it on several devices."""

from collections.abc import Iterator

from torch import nn


def unwrapped(network: object) -> Iterator[object]:
    """What is given, then what each compiled or parallel network holds, the network itself last."""
    while True:
        yield network
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module
        elif isinstance(getattr(network, "_orig_mod", None), nn.Module):  # torch.compile's
            network = network._orig_mod
        else:
            return
