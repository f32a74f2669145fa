"""Parts of one job shared out over a processor's cores, each part on one thread of torch's.

Where a layer is shared out instead, its threads wait for each other: one core that another program
keeps busy then holds all of them up, at every layer.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M")
T = TypeVar("T")
R = TypeVar("R")
# torch's number of threads is the whole process's: who calls from several threads takes turns.
_TURN = threading.RLock()
_HERE = threading.local()  # .working: whether this thread works on a part already


@contextmanager
def one_thread() -> Iterator[int]:
    """torch computes on one thread, here and in threads that begin; yields how many it had."""
    with _TURN:
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            yield before
        finally:
            torch.set_num_threads(before)


def shared(
    model: M, work: Callable[[M, T], R], parts: Sequence[T], at_most: int | None = None
) -> list[R]:
    """`work(model, part)` of every part, in their order.

    On a processor: by as many workers as torch has threads here, `at_most` those. A worker computes
    on one thread, under this thread's gradient mode and autocast, with its own copy of the modules
    and of what they keep, and the same weights (as nn.DataParallel's replicas). So a part's bits
    don't depend on the number of workers. A single part, and whatever is on another device, is
    computed here, one after the other. torch's number of threads is as it was afterwards.
    """
    parts = list(parts)
    if len(parts) < 2 or getattr(_HERE, "working", False) or not _on_processor(model):
        return [work(model, part) for part in parts]
    with one_thread() as threads:
        workers = min(threads, len(parts), at_most or threads)
        if workers == 1:
            return [work(model, part) for part in parts]
        return _by_several(model, work, parts, workers)


def _by_several(model: M, work: Callable[[M, T], R], parts: list[T], workers: int) -> list[R]:
    """As `shared`: each worker takes the next part that nobody has taken."""
    found: list[R | None] = [None] * len(parts)
    numbers, stopped = iter(range(len(parts))), threading.Event()
    as_here = _state()

    def take(own: M) -> None:
        _HERE.working = True
        torch.get_num_threads()  # only now does a new thread take the number set for all
        try:
            with as_here():
                for number in numbers:
                    if stopped.is_set():
                        break
                    found[number] = work(own, parts[number])
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(workers, "walls") as pool:
        try:
            for future in [pool.submit(take, _copy(model, {})) for _ in range(workers)]:
                future.result()
        finally:
            stopped.set()  # also when Ctrl-C is pressed
    return found


def _state() -> Callable[[], ExitStack]:
    """What sets another thread's gradient mode and autocast to this one's."""
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    rounded = {
        "device_type": "cpu",
        "dtype": torch.get_autocast_dtype("cpu"),
        "enabled": torch.is_autocast_enabled("cpu"),
        "cache_enabled": torch.is_autocast_cache_enabled(),
    }

    def as_here() -> ExitStack:
        stack = ExitStack()
        stack.enter_context(torch.inference_mode(inference))
        stack.enter_context(torch.set_grad_enabled(gradients))
        stack.enter_context(torch.autocast(**rounded))
        return stack

    return as_here


def _on_processor(model: object) -> bool:
    """Whether all of a network's weights are in the processor's memory."""
    if not isinstance(model, nn.Module):
        return True
    return all(tensor.device.type == "cpu" for tensor in (*model.parameters(), *model.buffers()))


def _copy(module: M, made: dict[int, nn.Module]) -> M:
    """The modules, and the dictionaries that they keep things in, again; all else is the same."""
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        return module
    if id(module) not in made:
        made[id(module)] = own = object.__new__(type(module))
        for name, value in vars(module).items():
            kept = value.copy() if type(value) in (dict, OrderedDict, list, set) else value
            own.__dict__[name] = kept
        for name, child in module._modules.items():
            own._modules[name] = _copy(child, made)
    return made[id(module)]
