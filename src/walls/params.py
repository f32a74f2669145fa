"""The one file a user edits, checked: every key of `params.yaml`, its type and its range.

python -m walls.params                 check params.yaml, say what is wrong, one line per field
python -m walls.params FILE            the same for another file
python -m walls.params --gate FILE     check params.yaml, then write the gate that every stage depends on
"""

import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from walls import paths

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

# A model's file in `model.checkpoint`: this project's, or the authors' release.
CHECKPOINTS = ("{which}.safetensors", "params_vgg16_{which}.pt")
THEORY_ROWS = 29  # the theory's digits, 28 × 28 and padded once


def takes(text: str, kind) -> object:
    """A field's type together with the words that say what it takes."""
    return Annotated[kind, Field(description=text)]


class Section(BaseModel):
    """Strict: no key beyond the listed, no number from a string."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Wall(Section):
    rows: takes("a whole number of feature rows, 1 or more", Count)


class Model(Section):
    width: takes("a number above 0 and up to 4 (1 is VGG16)", Annotated[float, Field(gt=0, le=4)])
    dense: takes("a whole number, 1 or more", Count)
    batch_norm: takes("true or false", bool)
    dropout: takes("a number from 0 to below 1", Rate)
    checkpoint: takes("a folder with masked.safetensors and baseline.safetensors, or with the authors' "
                      "params_vgg16_masked.pt and params_vgg16_baseline.pt, or null to train", str | None)  # fmt: skip


class Data(Section):
    name: takes("critters, tiny-imagenet, imagenet, folder or none",
                Literal["critters", "tiny-imagenet", "imagenet", "folder", "none"])  # fmt: skip
    root: takes("the path of a local archive or folder, or null (critters, tiny-imagenet)", str | None)
    animals: takes("true for ImageNet's animal classes alone (its first 398), or false", bool) = False
    classes: takes("a whole number, 2 or more (critters: up to 10)", Annotated[int, Field(ge=2)])
    train_images: takes("a whole number, at least one image per class, or null for all", Count | None)
    val_images: takes("a whole number, at least two images per class, or null for all", Count | None)


class Train(Section):
    epochs: takes("a whole number, 1 or more", Count)
    batch_size: takes("a whole number, 2 or more", Annotated[int, Field(ge=2)])
    accumulate: takes("a whole number, 1 or more", Count)
    lr: takes("a number above 0", Positive)
    momentum: takes("a number from 0 to below 1", Rate)
    weight_decay: takes("a number, 0 or more", Annotated[float, Field(ge=0, allow_inf_nan=False)])
    schedule: takes("onecycle, cosine, step or constant", Literal["onecycle", "cosine", "step", "constant"])
    precision: takes("auto, float32, bfloat16 or float16", Literal["auto", "float32", "bfloat16", "float16"])
    compile: takes("true or false", bool)
    workers: takes("a whole number, 0 or more", Annotated[int, Field(ge=0)])


class Stacks(Section):
    images: takes("a whole number, 2 or more", Annotated[int, Field(ge=2)])
    mix_dir: takes("a folder of ready STACK-MIX images, or null to build them", str | None)
    gen_dir: takes("a folder of ready STACK-GEN images, or null to draw them", str | None)
    generator: takes("critters, diffusers, folder (the images of gen_dir), or null where the images have no generator",
                     Literal["critters", "diffusers", "folder"] | None)  # fmt: skip
    model: takes("a text-to-image model's Hugging Face name or folder with the generator diffusers, else null",
                 Annotated[str, Field(min_length=1)] | None) = None  # fmt: skip
    photos: takes("a folder CLASS/*.jpg of photographs to cut STACK-MIX from, for the classes it holds, or null",
                  str | None) = None  # fmt: skip


class Cams(Section):
    methods: takes("a list of names of methods.py, each once", list[str])
    batch_size: takes("a whole number, 1 or more", Count)
    precision: takes("float32, float64 or bfloat16", Literal["float32", "float64", "bfloat16"])
    opticam_steps: takes("a whole number, 1 or more", Count)
    opticam_lr: takes("a number above 0", Positive)


class Theory(Section):
    image: takes("digits or mnist", Literal["digits", "mnist"])
    filters: takes("a whole number, 1 or more", Count)
    kernel: takes("a whole number, 1 or more", Count)
    pool: takes("a whole number, 1 or more", Count)
    depth: takes("a whole number, 1 or more", Count)
    tau: takes("a number above 0", Positive)
    draws: takes("a whole number, 2 or more", Annotated[int, Field(ge=2)])


class Params(Section):
    seed: takes("a whole number, 0 or more", Annotated[int, Field(ge=0)])
    image_size: takes("a whole number of pixels, 32 or more", Annotated[int, Field(ge=32)])
    wall: takes("a section", Wall)
    model: takes("a section", Model)
    data: takes("a section", Data)
    train: takes("a section", Train)
    stacks: takes("a section", Stacks)
    cams: takes("a section", Cams)
    theory: takes("a section", Theory)


def load(path: Path | str | None = None) -> Params:
    """The checked content of a parameter file (default: the project's `params.yaml`).

    Read with DVC's own parser, so that `1e-3`, `yes` and `010` mean what they mean to the pipeline.
    Raises ValueError: one line per wrong field, with its name, what it got and what it takes.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import parse_yaml

    path = Path(path) if path is not None else paths.root() / "params.yaml"
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; takes a params.yaml (see presets/)") from None
    except (DvcException, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: not readable as YAML: {_cause(error)}") from None
    return check(content)


def check(content: object) -> Params:
    """The checked parameters; ValueError as for `load`."""
    if not isinstance(content, dict):
        raise ValueError(f"params.yaml: got {content!r}; takes the sections {', '.join(Params.model_fields)}")
    lines = []
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        lines = list(dict.fromkeys(_line(item) for item in error.errors()))
    else:
        lines = list(_crosschecks(params))
    if lines:
        raise ValueError("\n".join(lines))
    return params


def method_names() -> list[str]:
    """The names that methods.py registers, read from its source: checking parameters must not wait for torch."""
    source = Path(__file__).with_name("methods.py").read_text(encoding="utf-8")
    return re.findall(r'^@method\("(.+)"\)$', source, re.MULTILINE)


def _crosschecks(p: Params):
    """One line for every pair of values that don't go together."""
    data, stacks = p.data, p.stacks
    if data.name == "critters" and data.classes > 10:
        yield f"data.classes: got {data.classes}; takes 2 to 10 with critters"
    if data.name in ("imagenet", "folder") and (data.root is None or not Path(data.root).expanduser().is_dir()):
        got = "null" if data.root is None else f"{data.root}, which is no folder"
        yield f"data.root: got {got}; takes the path of a folder of images with data.name {data.name}"
    elif data.root is not None and not Path(data.root).expanduser().exists():
        yield f"data.root: got {data.root}, which isn't there; takes the path of a local archive or folder"
    if data.name == "folder" and data.animals:
        yield "data.animals: got true; takes false with folder, of whose classes nobody knows which are animals"
    for key, least in (("train_images", 1), ("val_images", 2)):
        count = getattr(data, key)
        if count is None and data.name == "critters":
            yield f"data.{key}: got null; takes a number with critters, of which there is no end"
        elif count is not None and count < least * data.classes:
            yield f"data.{key}: got {count}; takes at least {('one', 'two')[least - 1]} per class, {least * data.classes}"
    per_epoch = data.train_images and data.train_images // data.classes * data.classes
    if per_epoch is not None and p.train.batch_size > per_epoch:
        yield f"train.batch_size: got {p.train.batch_size}; takes up to {per_epoch}, the training images"
    if p.train.batch_size % p.train.accumulate:
        yield f"train.accumulate: got {p.train.accumulate}; takes a divisor of train.batch_size, {p.train.batch_size}"
    if data.name == "none":
        if p.model.checkpoint is None:
            yield "model.checkpoint: got null; takes a folder of trained models with data.name none, which has no images"
        if stacks.mix_dir is None:
            yield "stacks.mix_dir: got null; takes a folder of ready images with data.name none, which has none to cut"
    if stacks.photos is not None and stacks.mix_dir is not None:
        yield f"stacks.photos: got {stacks.photos}; takes null with stacks.mix_dir, whose images are ready"
    for name in ("mix_dir", "gen_dir", "photos"):
        folder = getattr(stacks, name)
        if folder is not None and not Path(folder).expanduser().is_dir():
            yield f"stacks.{name}: got {folder}, which is no folder; takes {_described(('stacks', name))}"
    for which in ("masked", "baseline") if p.model.checkpoint is not None else ():
        names = [name.format(which=which) for name in CHECKPOINTS]
        if not any((Path(p.model.checkpoint).expanduser() / name).is_file() for name in names):
            yield (f"model.checkpoint: got {p.model.checkpoint}, without {' or '.join(names)}; "
                   f"takes {_described(('model', 'checkpoint'))}")  # fmt: skip
    rows = THEORY_ROWS - p.theory.kernel + 1
    if rows < 1 or rows % (2 * p.theory.pool):
        yield (f"theory.pool: got {p.theory.pool} with a kernel of {p.theory.kernel}; takes a number of which twice divides "
               f"{THEORY_ROWS} - kernel + 1, so that h' is whole and even")  # fmt: skip
    if stacks.generator == "critters" and data.name != "critters":
        others = "folder or null" if data.name == "none" else "diffusers, folder or null"
        yield f"stacks.generator: got critters; takes {others} with {data.name}, whose classes it can't draw"
    if stacks.generator == "diffusers":
        if data.name == "none":
            yield "stacks.generator: got diffusers; takes folder or null with data.name none, which has no classes to name"
        if stacks.model is None:
            yield f"stacks.model: got null; takes {_described(('stacks', 'model'))}"
        if stacks.gen_dir is not None:
            yield f"stacks.gen_dir: got {stacks.gen_dir}; takes null with the generator diffusers, which draws the images"
    elif stacks.model is not None:
        got, generator = stacks.model, stacks.generator or "null"
        yield f"stacks.model: got {got}; takes null with the generator {generator}, and a model with diffusers"
    if stacks.generator == "folder" and stacks.gen_dir is None:
        yield "stacks.gen_dir: got null; takes a folder of ready STACK-GEN images with the generator folder"
    known = method_names()
    unknown = [name for name in p.cams.methods if name not in known]
    if unknown:
        hint = "".join(f"did you mean {name}? " for name in get_close_matches(unknown[0], known, 1))
        yield f"cams.methods: got {unknown[0]}; {hint}takes {', '.join(known)}"
    elif not p.cams.methods or len(set(p.cams.methods)) < len(p.cams.methods):
        yield f"cams.methods: got {p.cams.methods}; takes one or more names, each once"


def _line(item: dict) -> str:
    """One pydantic error as one line."""
    where = tuple(part for part in item["loc"] if isinstance(part, str) and part in _names())
    if item["type"] in ("extra_forbidden", "invalid_key"):
        *section, key = (part for part in item["loc"] if part != "[key]")
        known = list((_section(section) or Params).model_fields)
        close = get_close_matches(str(key), known, 1)
        hint = f"did you mean {close[0]}?" if close else f"takes {', '.join(known)}"
        return f"{'.'.join(map(str, item['loc']))}: unknown key; {hint}"
    got = "nothing (the key is missing)" if item["type"] == "missing" else f"{item['input']!r}"[:80]
    return f"{'.'.join(where)}: got {got}; takes {_described(where)}"


def _names() -> set[str]:
    return {name for section in (Params, *_sections().values()) for name in section.model_fields}


def _sections() -> dict[str, Any]:
    return {n: f.annotation for n, f in Params.model_fields.items() if isinstance(f.annotation, type)
            and issubclass(f.annotation, Section)}  # fmt: skip


def _section(where) -> type[Section] | None:
    return _sections().get(where[0]) if where else Params


def _described(where: tuple[str, ...]) -> str:
    owner = _section(where[:-1]) or Params
    field = owner.model_fields[where[-1]]
    if where[-1] in _sections() and len(where) == 1:
        return "a section with " + ", ".join(_sections()[where[-1]].model_fields)
    return field.description


def _cause(error: BaseException) -> str:
    """The innermost reason of a parser's error, on one line, with the line it stands on."""
    while error.__cause__ is not None:
        error = error.__cause__
    mark = getattr(error, "problem_mark", None)
    problem = (getattr(error, "problem", None) or str(error)).split("\n")[0]
    if "duplicate key" in problem:
        problem = "repeated key " + problem.split('"')[1] + "; takes each key once"
    return f"{problem} (line {mark.line + 1})" if mark else problem


def main(arguments: list[str]) -> int:
    """Check a parameter file; with `--gate FILE` also write the gate."""
    gate = None
    if arguments[:1] == ["--gate"]:
        gate, arguments = arguments[1], arguments[2:]
    try:
        load(*arguments)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if gate:
        # Constant content: a stage that depends on the gate reruns only when a key that it reads has changed.
        Path(gate).parent.mkdir(parents=True, exist_ok=True)
        Path(gate).write_text("params.yaml is well-formed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
