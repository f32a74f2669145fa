"""The paper's networks, split as f∘g: [VGG] with or without a wall, its certificate, its checkpoints.

g (`features`) ends in the last rectified activation map **B**; f (`head`) is everything after it. The wall is
structural: a masked head has no weights for the hidden rows of **B**, so nothing can leak through them.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Integral
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from walls import geometry, paths

# VGG16's convolutions; "M" is a 2×2 max-pooling. The paper drops the last pooling and narrows the last
# convolution to 256 channels ("256×14×14").
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 256)


class WallLinear(nn.Module):
    """The first dense layer W, without weights for the bottom `wall_rows` rows of **B**.

    Reads `B[:, :, :h - wall_rows]` of a (N, C, h, w) map and returns (N, dense). Initialised on the scale of the
    full layer (torch's uniform rule for fan-in C·h·w), so that a masked and a baseline head start alike.
    """

    def __init__(self, channels: int, height: int, width: int, dense: int, wall_rows: int = 0):
        super().__init__()
        if not 0 <= wall_rows < height:
            raise ValueError(f"wall_rows: got {wall_rows}; takes 0 to {height - 1} of the map's {height} rows")
        self.height = height
        self.wall_rows = wall_rows
        bound = 1 / math.sqrt(channels * height * width)
        self.weight = nn.Parameter(torch.empty(dense, channels, height - wall_rows, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(dense).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        channels, rows, columns = self.weight.shape[1:]
        if features.shape[1:] not in ((channels, rows, columns), (channels, self.height, columns)):
            got, takes = (" × ".join(map(str, shape)) for shape in (features.shape[1:], (channels, self.height, columns)))
            raise ValueError(f"images: their features are {got}; takes images of which the backbone makes {takes}")
        seen = features[:, :, : self.height - self.wall_rows]
        return nn.functional.linear(seen.flatten(1), self.weight.flatten(1), self.bias)

    def full_weight(self) -> Tensor:
        """The paper's W, (dense, C, h, w), with `W[:, :, -wall_rows:, :] = 0`."""
        return nn.functional.pad(self.weight.detach(), (0, 0, 0, self.wall_rows))


class PooledHead(nn.Module):
    """A head f that may end in one linear layer over pooled features, as most networks with global pooling have it.

    `by_channel`: f(**B**) = `last`(p), and p_v = `pooled`(**B**)_v depends on channel v alone. Then leaving channels out
    needs no pass of the head.
    """

    by_channel: bool = False
    last: nn.Linear

    def pooled(self, features: Tensor) -> Tensor:
        """p: (N, C)."""
        raise NotImplementedError


class Classifier(nn.Module):
    """A network split as f∘g, which computes its logits from the rows its head can see alone.

    `features` (g) maps images (N, 3, H, W) to **B** (N, C, h, w); `head` (f) maps **B** to logits (N, classes).
    Calling the model crops every layer to the rows needed (geometry.py): exact, cheaper, and with batch norm the
    only way to train that never reads the dead zone. Saliency maps take the full-height `features(images)`.
    """

    def __init__(self, features: nn.Module, head: nn.Module, wall_rows: int, config: dict | None = None):
        super().__init__()
        self.features = features
        self.head = head
        self.wall_rows = wall_rows
        self.config = config or {}
        self._zones: dict[int, geometry.DeadZone] = {}

    def zone(self, image_rows: int) -> geometry.DeadZone:
        """The dead zone for images of that height; ValueError where the wall leaves none."""
        if image_rows not in self._zones:
            self._zones[image_rows] = geometry.dead_zone(self.features, image_rows, self.wall_rows)
        return self._zones[image_rows]

    @property
    def channels(self) -> int:
        """Channels of an image: what the first convolution takes, 3 without one."""
        return next((layer.in_channels for layer in self.modules() if isinstance(layer, nn.Conv2d)), 3)

    def columns(self, image_rows: int) -> int:
        """Width of an image of that height: the same."""
        return image_rows

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.seen_features(images))

    def cut(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """**B** at full height, and what f reads besides it (a transformer's class token; here nothing)."""
        return self.features(images), None

    def logits(self, features: Tensor, context: Tensor | None = None) -> Tensor:
        """f(**B**): (N, classes), given what `cut` returned."""
        return self.head(features)

    def scores(self, parts: Sequence[Tensor]) -> Tensor:
        """Logits of the images of all parts, from the rows that the head can see; its weights are read once."""
        return self.head(torch.cat([self.seen_features(part) for part in parts]))

    def divide(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The rows above the dead zone, and the dead zone."""
        seen = self.zone(images.shape[2]).seen_rows
        return images[:, :, :seen], images[:, :, seen:]

    def join(self, seen: Tensor, dead: Tensor) -> Tensor:
        """Images of two such parts."""
        return torch.cat([seen, dead], dim=2)

    def edge(self, seen: Tensor) -> Tensor:
        """The last seen row, next to the dead zone."""
        return seen[:, :, -1:]

    def seen_features(self, images: Tensor) -> Tensor:
        """The rows of **B** above the wall, (N, C, h - wall_rows, w), without computing the others."""
        if not self.wall_rows:
            return self.features(images)
        rows = self.zone(images.shape[2]).rows
        x = images[:, :, : rows[0]]
        for layer, needed in zip(geometry.flatten(self.features), rows[1:], strict=True):
            x = _top_rows(layer, x, needed)
        return x


def _top_rows(layer: nn.Module, x: Tensor, needed: int) -> Tensor:
    """The first `needed` rows of `layer`'s output, given the input rows that they need."""
    plain = type(layer) is nn.Conv2d and not layer._forward_hooks and not layer._forward_pre_hooks
    if plain and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        top, side = layer.padding
        kernel, stride, dilation = layer.kernel_size[0], layer.stride[0], layer.dilation[0]
        if (needed - 1) * stride - top + dilation * (kernel - 1) + 1 == x.shape[2]:
            # Padding above alone gives just these rows; cropping a convolution's output would copy it.
            x = nn.functional.pad(x, (0, 0, top, 0))
            return nn.functional.conv2d(x, layer.weight, layer.bias, layer.stride, (0, side), layer.dilation, layer.groups)
    x = layer(x)
    return x if x.shape[2] == needed else x[:, :, :needed]


def vgg(
    width: float,
    dense: int,
    classes: int,
    batch_norm: bool,
    wall_rows: int,
    *,
    image_size: int = 224,
    dropout: float = 0.5,
) -> Classifier:
    """The paper's [VGG]: VGG16 without its last max-pooling, `width` times its channels, behind a wall.

    `width` 1 and `dense` 4096 are the paper's; `wall_rows` 9 its masked model, 0 its baseline.
    Convolutions start as torchvision's VGG (He, fan out); dense layers as torch's default.
    Raises ValueError for a size that is none, and where the wall leaves no dead zone, naming the heights that do.
    """
    for name, value, least in (("dense", dense, 1), ("classes", classes, 1), ("wall_rows", wall_rows, 0)):
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name}: got {value!r}; takes a whole number, {least} or more")
    if not 0 < width <= 64:
        raise ValueError(f"width: got {width!r}; takes a number above 0 and up to 64 (1 is VGG16)")
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout: got {dropout!r}; takes a number from 0 to 1")
    layers: list[nn.Module] = []
    channels = 3
    for entry in VGG16:
        if isinstance(entry, str):  # "M"
            layers.append(nn.MaxPool2d(2))
            continue
        out = max(1, round(entry * width))
        conv = nn.Conv2d(channels, out, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)
        layers += [conv, nn.BatchNorm2d(out)] if batch_norm else [conv]
        layers.append(nn.ReLU(inplace=True))  # as torchvision: a quarter of the time goes into its copies
        channels = out
    features = nn.Sequential(*layers)
    rows = geometry.dead_zone(features, image_size, wall_rows).map_rows
    head = nn.Sequential(
        WallLinear(channels, rows, rows, dense, wall_rows), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(dense, dense), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dense, classes),
    )  # fmt: skip
    config = {"architecture": "vgg", "width": width, "dense": dense, "classes": classes, "batch_norm": batch_norm,
              "wall_rows": wall_rows, "image_size": image_size, "dropout": dropout}  # fmt: skip
    return Classifier(features, head, wall_rows, config)


def seeded(seed: int, **kwargs) -> Classifier:
    """`vgg(**kwargs)` with weights drawn from `seed`, leaving torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return vgg(**kwargs)


@dataclass(frozen=True)
class Certificate:
    """What the very weights do with the dead zone, on the full-height computation (float32, CPU).

    `equal_*`: logits bit-identical after the dead zone was replaced by another image's, by noise, by finite
    values up to ±1e30; `dead_gradient`: the largest |∂logit/∂pixel| there; `edge_gradient`: the same in the last
    row above it (of a network behind a wall: the rows of its last seen row of **B**), which does matter.
    """

    image_rows: int
    seen_rows: int
    dead_rows: int
    images: int
    equal_replaced: bool
    equal_noise: bool
    equal_extreme: bool
    dead_gradient: float
    edge_gradient: float

    @property
    def holds(self) -> bool:
        """True where no logit depends on the dead zone and the row above it counts."""
        equal = self.equal_replaced and self.equal_noise and self.equal_extreme
        return self.dead_rows > 0 and equal and self.dead_gradient == 0 and self.edge_gradient > 0

    def require(self) -> "Certificate":
        """Itself; ValueError, naming what failed, where it doesn't hold."""
        if not self.holds:
            raise ValueError(f"the dead zone of {self.dead_rows} rows is not certified: {asdict(self)}")
        return self


def certify(model: Classifier, image_rows: int, images: Tensor | None = None, seed: int = 0) -> Certificate:
    """Show on these weights that no logit reads the dead zone, and that the row above it is read.

    `images`: normalised (N, 3, H, W); standard normal noise if None. Runs in evaluation mode on a float32 CPU,
    through **B** at full height (`cut`, `logits`): the cropped forward could not see the dead zone anyway.
    """
    random = torch.Generator().manual_seed(seed)
    zone = model.zone(image_rows)
    if images is None:
        images = torch.randn(8, model.channels, image_rows, model.columns(image_rows), generator=random)
    images = images.detach().float().cpu()
    copy = _frozen(model)

    def logits(x: Tensor) -> Tensor:
        return copy.logits(*copy.cut(x))

    def equal(dead: Tensor) -> bool:
        return zone.dead_rows > 0 and torch.equal(logits(copy.join(seen, dead)), before)

    seen, below = copy.divide(images)
    with torch.no_grad():
        before = logits(images)
        noise = torch.randn(below.shape, generator=random)
        replaced, noisy = equal(below.roll(1, 0).flip(3)), equal(noise)
        extreme = equal(noise.sign() * 10 ** (60 * torch.rand(noise.shape, generator=random) - 30))
    x = images.clone().requires_grad_()
    out = logits(x)
    (gradient,) = torch.autograd.grad(out, x, torch.randn(out.shape, generator=random))
    live, dead = copy.divide(gradient.abs())
    return Certificate(
        image_rows, zone.seen_rows, zone.dead_rows, len(images), replaced, noisy, extreme,
        float(dead.max()) if dead.numel() else 0.0, float(copy.edge(live).max()),
    )  # fmt: skip


def _frozen(module: nn.Module) -> nn.Module:
    """A float32 CPU copy in evaluation mode, without parameter gradients."""
    import copy

    return copy.deepcopy(module).float().cpu().eval().requires_grad_(False)


def save(model: Classifier, path: Path, **record) -> None:
    """Write the weights as safetensors with their configuration (and `record`) in the header, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with paths.whole(path) as partial:
        # One entry: safetensors writes several in no fixed order, and equal models must be equal files.
        save_file(tensors, partial, {"walls": json.dumps({"config": model.config, "record": record})})


def load(path: Path, **expected) -> Classifier:
    """The model of a checkpoint, in evaluation mode.

    `expected`: configuration entries (width, dense, classes, batch_norm, wall_rows, …) that it must have.
    Raises ValueError naming the first that differs, or the file where it is no checkpoint of ours.
    """
    try:
        if not Path(path).is_file():  # a pipe would be waited for
            raise OSError("no file")
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("walls", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:  # a header may lie about anything
        raise ValueError(f"{path}: not a readable checkpoint ({_in_short(error)}); "
                         "takes a .safetensors of this project") from None  # fmt: skip
    config = metadata.get("config") if isinstance(metadata, dict) else None
    if not isinstance(config, dict) or config.pop("architecture", None) != "vgg":
        raise ValueError(f"{path}: holds no configuration of a [VGG]; takes a .safetensors of this project")
    expected.pop("architecture", None)
    for name, value in expected.items():
        if config.get(name) != value:
            got = ascii(config.get(name))[:80]
            raise ValueError(f"{path}: a checkpoint of another configuration: {name} is {got}, not {value}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise ValueError(f"{path}: {ascii(name)[1:-1][:80]} holds numbers that are not finite; takes finite weights")
    try:
        with torch.device("meta"):  # no memory, before the shapes are known to fit
            shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in vgg(**config).state_dict().items()}
        for name in sorted(shapes.keys() | tensors.keys()):
            got = (tensors[name].shape, tensors[name].dtype) if name in tensors else None
            if got != shapes.get(name):
                raise ValueError(f"{name} is {_sized(got)}, not {_sized(shapes.get(name))}")
        model = seeded(0, **config)
        model.load_state_dict(tensors)
    except Exception as error:  # whatever stands in the configuration
        why = _in_short(error)
        raise ValueError(f"{path}: its weights don't fit its configuration ({why}); takes another copy") from None
    return model.eval()


def _sized(got: tuple[torch.Size, torch.dtype] | None) -> str:
    return f"{' × '.join(map(str, got[0])) or 'one number'} of {str(got[1]).removeprefix('torch.')}" if got else "missing"


def _in_short(error: Exception) -> str:
    """A library's reason, within a line."""
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).split("\n")[0][:200]
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class CNN(nn.Module):
    """The paper's [CNN] (Section 2.1) at initialisation: convolution, ReLU, max pooling, L dense layers, no biases.

    `image_size` (H, W); V `filters` of `kernel` × `kernel`; `pool` k'; `sizes` (d_1, …, d_L), d_L = 1 in the paper;
    the bottom `masked_rows` of the h' pooled rows have no weights (None: the lower half). All weights are drawn
    from N(0, tau²), float64, from `seed`. Split as f∘g: `features` maps images (N, 1, H, W) to **B** (N, V, h, w),
    `head` maps **B** to scores (N, d_L). ValueError where k' doesn't divide h and w, h' is odd and its lower half is
    meant, or no row is left.
    """

    def __init__(
        self,
        image_size: tuple[int, int],
        filters: int,
        kernel: int,
        pool: int,
        sizes: tuple[int, ...] = (1,),
        masked_rows: int | None = None,
        tau: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        for name, value in (("filters", filters), ("kernel", kernel), ("pool", pool), ("sizes", min(sizes, default=0))):
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name}: got {value!r}; takes a whole number, 1 or more")
        if not 0 < tau < math.inf:
            raise ValueError(f"tau: got {tau!r}; takes a standard deviation above 0")
        rows, columns = (side - kernel + 1 for side in image_size)
        if min(rows, columns) < 1 or rows % pool or columns % pool:
            raise ValueError(f"pool: got {pool}; takes a divisor of h = {rows} and w = {columns}")
        rows, columns = rows // pool, columns // pool
        if masked_rows is None and rows % 2:
            raise ValueError(f"masked_rows: h' = {rows} has no lower half; takes 0 to {rows - 1}")
        self.features = nn.Sequential(nn.Conv2d(1, filters, kernel, bias=False), nn.ReLU())
        first = WallLinear(filters, rows, columns, sizes[0], rows // 2 if masked_rows is None else masked_rows)
        first.bias = None
        layers: list[nn.Module] = [nn.MaxPool2d(pool), first]
        for wide, narrow in itertools.pairwise(sizes):
            layers += [nn.ReLU(), nn.Linear(wide, narrow, bias=False)]
        self.head = nn.Sequential(*layers)
        self.double()
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=tau, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))

    def dense_weights(self) -> list[Tensor]:
        """W^(1) … W^(L), the first as (d_1, V, h', w') with its zeros."""
        first, *others = [layer for layer in self.head if isinstance(layer, WallLinear | nn.Linear)]
        return [first.full_weight(), *(layer.weight.detach() for layer in others)]
