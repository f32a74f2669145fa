"""A network cut in two by its traced graph: backbone g up to **B**, head f from there on.

Only the modules around the layer are traced; every other module is called as it is, with its hooks
and whatever its own code does. Nothing is copied: both halves run on the network itself.
"""

import collections
import contextlib
import inspect
import math
import operator
import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, fx, nn

from walls.base.messages import reason
from walls.network.state import evaluating

POOLINGS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout, nn.Identity)


class Half(nn.Module):
    """One half of a network: a function of (network, tensor), by whatever way it was found."""

    def __init__(self, network: nn.Module, function: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.network = network
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.network, x)


class _Tracer(fx.Tracer):
    """Traces the modules named in `opened` alone; all others are called whole."""

    def __init__(self, opened: set[str]):
        # A network uses torchvision's operations only where they are imported, which takes seconds.
        operations = sys.modules.get("torchvision.ops", math)
        super().__init__(autowrap_modules=(math, operations))
        self.opened = opened

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return name not in self.opened


def around(layer: str) -> list[str]:
    """The names of the modules that hold a layer, the network's own ("") first."""
    parts = layer.split(".")
    return ["", *(".".join(parts[:n]) for n in range(1, len(parts)))]


def cut(network: nn.Module, layer: str) -> tuple[Half, Half]:
    """Backbone and head: what the network does up to that module's output, and from there on.

    Raises ValueError for a layer that isn't there, isn't called just once, or is bypassed (logits
    read something else of the image too), and for a network that can't be traced.
    """
    names = {id(module): name for name, module in reversed(list(network.named_modules()))}
    try:
        module = network.get_submodule(layer) if layer else None
    except AttributeError:
        module = None
    if module is None:
        raise ValueError(f"layer: got {ascii(layer)[:80]}, which the network doesn't have")
    layer = names[id(module)]  # one that stands under two names is traced under the first
    try:
        graph = _trace(network, set(around(layer)))
    except Exception as error:  # whatever the network's own code does with a stand-in for its image
        raise ValueError(
            f"layer: got {layer}, but the network around it can't be traced ({reason(error)})"
        ) from None
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if len(calls) != 1:
        raise ValueError(f"layer: got {layer}, which is called {len(calls)} times for an image")
    head = _from(graph, calls[0])
    if head is None:
        raise ValueError(
            f"layer: got {layer}, which is bypassed: logits read something else of the image too"
        )
    backbone = _up_to(graph, calls[0])
    return Half(network, _compiled(backbone)), Half(network, _compiled(head))


def usable(network: nn.Module, images: Tensor, depth: int = 3) -> list[str]:
    """The layers that can be cut at and have maps or tokens, in the order of their calls."""
    try:
        names = list(_cuts(network, "", depth))
    except Exception:  # can't be traced at all
        return []
    shapes: dict[str, tuple[int, ...]] = {}

    def record(name: str) -> Callable:
        def hook(module: nn.Module, args: tuple, output: object) -> None:
            shapes[name] = tuple(output.shape) if isinstance(output, Tensor) else ()

        return hook

    handles = [network.get_submodule(name).register_forward_hook(record(name)) for name in names]
    try:
        with torch.no_grad(), evaluating(network):
            network(images)
    except Exception:  # another size of image, say: the names are a help, no more
        return names
    finally:
        for handle in handles:
            handle.remove()
    return [name for name in names if _is_map(shapes.get(name, ()))]


def last_map(network: nn.Module, images: Tensor) -> str | None:
    """The last layer called by the network itself whose map is more than pooled or passed on."""
    for name in reversed(usable(network, images, depth=0)):
        if not isinstance(network.get_submodule(name), POOLINGS):
            return name
    return None


def _is_map(shape: tuple[int, ...]) -> bool:
    if len(shape) == 4:
        return min(sorted(shape[1:])[:2]) > 1
    return len(shape) == 3 and shape[1] > 3


def _cuts(network: nn.Module, inside: str, depth: int) -> Iterator[str]:
    """The layers called inside a module that the whole network can be cut at, outer ones first."""
    graph = _trace(network, {*around(inside), inside} if inside else {""})
    calls = collections.Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op != "call_module" or calls[node.target] > 1 or _from(graph, node) is None:
            continue
        name = str(node.target)
        if inside and not name.startswith(inside + "."):
            continue
        yield name
        if depth and next(network.get_submodule(name).children(), None) is not None:
            with contextlib.suppress(Exception):  # a block that can't be traced is called whole
                yield from _cuts(network, name, depth - 1)


def _trace(network: nn.Module, opened: set[str]) -> fx.Graph:
    """The graph of the network's forward in evaluation mode, for an image alone.

    Other arguments are fixed at their defaults.
    """
    parameters = list(inspect.signature(type(network).forward).parameters.values())[2:]
    fixed = {p.name: p.default for p in parameters if p.default is not p.empty}
    with evaluating(network):
        return _Tracer(opened).trace(network, concrete_args=fixed or None)


def _from(graph: fx.Graph, node: fx.Node) -> fx.Graph | None:
    """The graph from `node`'s output to the logits; None where it needs more of the image."""
    rest = fx.Graph()
    image = next(n for n in graph.nodes if n.op == "placeholder")
    new = {node: rest.placeholder("features")}
    (output,) = (n for n in graph.nodes if n.op == "output")
    needed, waiting = set(), [output]
    while waiting:
        one = waiting.pop()
        if one is node or one in needed:
            continue
        if one is image:
            return None
        needed.add(one)
        if not _is_batch_size(one):
            waiting.extend(one.all_input_nodes)
    for old in graph.nodes:
        if old in needed and _is_batch_size(old):
            # How many images there are, **B** knows too.
            new[old] = rest.call_method("size", (new[node], 0))
        elif old in needed:
            new[old] = rest.node_copy(old, lambda n: new[n])
    return rest


def _up_to(graph: fx.Graph, node: fx.Node) -> fx.Graph:
    """The graph from the image to `node`'s output; checks of the image on the way stay."""
    first = fx.Graph()
    new: dict[fx.Node, fx.Node] = {}
    needed = {node}
    for old in reversed(graph.nodes):
        if old in needed or old.target is torch._assert:
            needed.update(old.all_input_nodes)
            needed.add(old)
    for old in graph.nodes:
        argument = old.op == "placeholder" and new  # one with a default, fixed when tracing
        if (
            (old in needed or not new)
            and not argument
            and all(n in new for n in old.all_input_nodes)
        ):
            new[old] = first.node_copy(old, lambda n: new[n])
        if old is node:
            break
    first.output(new[node])
    return first


def _is_batch_size(node: fx.Node) -> bool:
    """Whether a node is x.size(0) or x.shape[0]."""
    if node.op == "call_method" and node.target == "size":
        return node.args[1:] == (0,)
    if node.op == "call_function" and node.target is operator.getitem and node.args[1] == 0:
        of = node.args[0]
        shape = (
            isinstance(of, fx.Node)
            and of.op == "call_function"
            and of.target is getattr
            and of.args[1] == "shape"
        )
        return shape or (
            isinstance(of, fx.Node)
            and of.op == "call_method"
            and of.target == "size"
            and len(of.args) == 1
        )
    return False


def _compiled(graph: fx.Graph) -> Callable[[nn.Module, Tensor], Tensor]:
    """The graph as a function of (network, tensor)."""
    graph.lint()
    code = graph.python_code("self")
    scope = dict(code.globals)
    exec(code.src, scope)  # fx's own code for its graph, as GraphModule runs it
    return scope["forward"]
