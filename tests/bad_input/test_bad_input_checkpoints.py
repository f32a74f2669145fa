"""Checkpoints, tried in bulk: ours (safetensors) and the authors' (a pickle of tensors)."""

import io
import json
import os
import pickle
import struct
import zipfile

import pytest
import torch
from helpers.bad_input import bulk, refused
from helpers.release import CONFIG, Code, flat
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from walls.network import architecture, checkpoints
from walls.training import authors

FAMILY = "checkpoints"
OURS = architecture.seeded(0, **CONFIG)
STATE = {name: tensor.clone() for name, tensor in OURS.state_dict().items()}
THEIRS = flat().state_dict()


def packed(state: dict, config: object = None, metadata: dict | None = None) -> bytes:
    header = (
        {"walls": json.dumps({"config": OURS.config if config is None else config})}
        if metadata is None
        else metadata
    )
    return save({name: tensor.contiguous() for name, tensor in state.items()}, header)


def pickled(content: object, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


@pytest.fixture
def attempt(tmp_path, capfd):
    """Load a checkpoint of that content, ours or theirs; the refusal. Nothing in it may run, or
    print.
    """

    def attempt(content: bytes, case: object = None, ours: bool = True, **expected) -> str | None:
        file = tmp_path / ("masked.safetensors" if ours else "params_vgg16_masked.pt")
        file.write_bytes(content)
        load = lambda: authors.checkpoint(
            tmp_path, "masked", **(expected if ours else CONFIG | expected)
        )
        message = refused(FAMILY, case or content, load, rf"^{file}: .+(; takes |, not )", tmp_path)
        file.unlink()
        assert "run!" not in "".join(capfd.readouterr())
        return message

    return attempt


WHOLE = packed(STATE)
START = 8 + struct.unpack("<Q", WHOLE[:8])[0]  # where the header ends
HEADER = json.loads(WHOLE[8:START])


def test_what_is_whole_is_taken(attempt):
    assert attempt(WHOLE) is None and attempt(pickled(THEIRS), ours=False) is None


# --- State dicts that don't fit

OTHERS = [
    torch.zeros(()),
    torch.zeros(0),
    torch.zeros(3),
    torch.zeros(1, 2, 3, 4, 5),
    torch.zeros(4, 3, 3, 3, dtype=torch.int64),
    torch.zeros(24, dtype=torch.complex64),
    torch.zeros(24, dtype=torch.bool),
    torch.full((24,), torch.nan),
]


def spoilt(state: dict, draw) -> dict:
    """A state dict with one thing wrong."""
    state = dict(state)
    name = draw.draw(st.sampled_from(sorted(state)))
    kind = draw.draw(
        st.sampled_from(["missing", "extra", "renamed", "other", "nan", "shape", "type"])
    )
    tensor = state[name].clone()
    if kind in ("missing", "renamed"):
        del state[name]
    if kind in ("extra", "renamed"):
        state[
            draw.draw(
                st.text(st.characters(codec="utf-8"), max_size=30).filter(
                    lambda text: text not in state
                )
            )
        ] = tensor
    elif kind == "other":
        state[name] = draw.draw(st.sampled_from(OTHERS)).clone()
    elif kind == "nan":
        place = draw.draw(st.integers(0, tensor.numel() - 1))
        tensor.view(-1)[place] = draw.draw(st.sampled_from([torch.nan, torch.inf, -torch.inf]))
        state[name] = tensor
    elif kind == "shape":
        state[name] = draw.draw(
            st.sampled_from(
                [tensor[None], tensor[:-1], torch.cat([tensor, tensor]), tensor.flatten()[:1]]
            )
        )
    elif kind == "type":
        state[name] = tensor.to(draw.draw(st.sampled_from([torch.int8, torch.int64, torch.bool])))
    return state


@bulk(80)
@given(st.data())
def test_our_state_with_a_fault(attempt, draw):
    state = spoilt(STATE, draw)
    assert attempt(packed(state))


@bulk(60)
@given(st.data())
def test_their_state_with_a_fault(attempt, draw):
    assert attempt(pickled(spoilt(THEIRS, draw)), ours=False)


def test_another_architecture(attempt):
    layers = {"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.weight": torch.zeros(10, 512)}
    assert "holds no configuration of a [VGG]" in attempt(
        packed(layers, {"architecture": "resnet18"}), "resnet"
    )
    assert attempt(packed(layers), "resnet as vgg") and attempt(
        pickled(layers), "their resnet", ours=False
    )
    wider = architecture.seeded(0, **CONFIG | {"width": 0.125})
    assert "not" in attempt(packed(wider.state_dict()), "wider than it says")
    assert attempt(packed(wider.state_dict(), wider.config), "wider than expected", width=0.0625)
    assert attempt(pickled(THEIRS), "batch norm", ours=False, batch_norm=True)
    assert attempt(pickled(flat(wall_rows=0).state_dict()), "no wall", ours=False)


# --- Headers that lie

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers()),
)


@bulk(60)
@given(st.sampled_from([*CONFIG, "architecture", "new"]), VALUES)
def test_a_configuration_that_lies(attempt, key, value):
    config = OURS.config | {key: value}
    message = attempt(packed(STATE, config), (key, value))
    assert (
        message
        or value == OURS.config.get(key)
        or key in ("dropout", "batch_norm", "image_size", "wall_rows")
    )


@bulk(20)
@given(st.one_of(VALUES, st.dictionaries(st.text(max_size=3), VALUES, max_size=3)))
def test_metadata_of_any_kind(attempt, value):
    assert attempt(packed(STATE, metadata={"walls": json.dumps(value)}), ("walls", value))
    assert attempt(packed(STATE, metadata={"walls": repr(value)}), ("no JSON", value))


def rewritten(change) -> bytes:
    header = json.loads(json.dumps(HEADER))
    change(header)
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + WHOLE[START:]


@bulk(60)
@given(
    st.sampled_from([name for name in HEADER if name != "__metadata__"]),
    st.sampled_from(["dtype", "shape", "data_offsets"]),
    st.one_of(
        VALUES,
        st.lists(st.integers(0, 10**6), max_size=5),
        st.sampled_from(
            [
                "F4",
                "F8_E4M3",
                "F16",
                "BF16",
                "I8",
                "F64",
                "C64",
                "U64",
                [2**62],
                [2**40, 2**40],
                [0, 0],
                [5, 1],
                [0, 2**63],
            ]
        ),
    ),
)
def test_a_header_that_lies(attempt, name, key, value):
    content = rewritten(lambda header: header[name].__setitem__(key, value))
    assert attempt(content, (name, key, value)) or value == HEADER[name][key]


@bulk(60)
@given(st.data())
def test_damaged_bytes(attempt, draw):
    raw = draw.draw(st.sampled_from([WHOLE, pickled(THEIRS)]))
    place = draw.draw(
        st.one_of(
            st.integers(0, START),
            st.integers(0, len(raw) - 1),
            st.integers(len(raw) - 400, len(raw) - 1),
        )
    )
    content = (
        raw[:place]
        + draw.draw(st.binary(max_size=12))
        + raw[place + draw.draw(st.integers(0, 12)) :]
    )
    attempt(content[: draw.draw(st.sampled_from([len(content), place]))], ours=raw is WHOLE)


@pytest.mark.parametrize("size", [0, 1, 2, 10**6, 10**9, 2**40, 2**63, 2**64 - 1])
def test_a_header_of_that_length(attempt, size):
    assert attempt(struct.pack("<Q", size) + WHOLE[8:], size)


# --- Pickles

OLD = {"_use_new_zipfile_serialization": False}


def bomb() -> bytes:
    """Their file, its tensors packed: 100 MB of zeros in 100 kB."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(pickled(THEIRS))) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, bytes(100 << 20) if name.endswith("/data/0") else old.read(name))
    return buffer.getvalue()


PICKLES = {
    "code": lambda: pickled(THEIRS | {"0.weight": Code()}),
    "code in the old format": lambda: pickled({"x": Code()}, **OLD),
    "a plain pickle": lambda: pickle.dumps({"x": Code()}),
    "a pickled list": lambda: pickle.dumps([1]),
    "a module": lambda: pickled(torch.nn.Linear(1, 1)),
    "a list": lambda: pickled([1]),
    "a number": lambda: pickled(3),
    "nothing": lambda: pickled(None),
    "a tensor": lambda: pickled(torch.zeros(3)),
    "nested": lambda: pickled({"state_dict": THEIRS}),
    "empty": lambda: pickled({}),
    "keys of numbers": lambda: pickled(dict(enumerate(THEIRS.values()))),
    "sparse": lambda: pickled(THEIRS | {"31.6.weight": THEIRS["31.6.weight"].to_sparse()}),
    "nowhere": lambda: pickled(THEIRS | {"31.6.weight": THEIRS["31.6.weight"].to("meta")}),
    "expanded": lambda: pickled(THEIRS | {"31.6.weight": torch.zeros(1).expand(10**9)}),
    "quantized": lambda: pickled(
        THEIRS | {"31.6.bias": torch.quantize_per_tensor(torch.zeros(5), 1, 0, torch.qint8)}
    ),
    "a zip": lambda: zipped_text(),
    "a safetensors file": lambda: WHOLE,
    "a bomb": bomb,
    "deep": lambda: b"\x80\x04" + b"(" * 10**6 + b".",
    "zeros": lambda: bytes(999),
}


def zipped_text() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../x", "x")
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle(attempt, name):
    assert attempt(PICKLES[name](), name, ours=False)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("kind", ["a pipe", "a folder", "a link to itself", "a device", "gone"])
def test_what_is_no_file(tmp_path, kind, ours):
    file = tmp_path / ("masked.safetensors" if ours else "params_vgg16_masked.pt")
    {
        "a pipe": lambda: os.mkfifo(file),
        "a folder": file.mkdir,
        "a link to itself": lambda: file.symlink_to(file.name),
        "a device": lambda: file.symlink_to("/dev/zero"),
        "gone": lambda: None,
    }[kind]()
    load = (
        (lambda: checkpoints.load(file)) if ours else (lambda: authors.load_release(file, **CONFIG))
    )
    assert refused(FAMILY, (kind, ours), load, rf"^{file}: not a readable", tmp_path)
