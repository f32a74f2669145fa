"""The processes that accelerate's launcher or torchrun starts to share an evaluation."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

# However long the slowest takes: whoever dies closes its connections, which is seen at once.
WAIT = timedelta(days=7)


@dataclass(frozen=True)
class Processes:
    """Which one of them this is, and how many there are."""

    rank: int = 0
    ranks: int = 1
    group: Any = None  # torch.distributed's, over which they tell each other what they found

    def gather(self, mine: Any) -> list[Any]:
        """What each of them found, in order, once all have come here; ValueError where one died."""
        if self.ranks == 1:
            return [mine]
        found = [None] * self.ranks
        try:
            torch.distributed.all_gather_object(found, mine, group=self.group)
        except RuntimeError:
            raise ValueError("evaluate: another process ended; run it again to go on") from None
        return found


@contextmanager
def launched() -> Iterator[Processes]:
    """The processes of this launch, or this one alone; each on a device of its own.

    The launcher stops the others where one dies: that is a KeyboardInterrupt here.
    """
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    group = None
    if state.num_processes > 1:  # results lie on the CPU, whatever computed them
        group = torch.distributed.new_group(backend="gloo", timeout=WAIT)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield Processes(state.process_index, state.num_processes, group)
    finally:
        signal.signal(signal.SIGTERM, before)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
