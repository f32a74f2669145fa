"""The network in what compiles it, or runs it on several devices."""

from collections.abc import Iterator

from torch import nn


def unwrapped(network: object) -> Iterator[object]:
    """What is given, then what each compiled or parallel network holds, the network itself last."""
    while True:
        yield network
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module
            continue
        compiled = getattr(network, "_orig_mod", None)  # torch.compile's
        if not isinstance(compiled, nn.Module):
            return
        network = compiled
