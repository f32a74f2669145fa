"""The proof on many: every network of benchmarks/networks.py, both forms.

As its committed table says.
"""

import warnings

import pandas as pd
import pytest
import torch

from benchmarks import networks

FILE = networks.HERE / "networks.csv"
if not FILE.is_file():
    pytest.skip("not made yet: python -m benchmarks.networks", allow_module_level=True)
TABLE = pd.read_csv(FILE, keep_default_na=False)
CHECKS = networks.CHECKS
QUICK = ["torchvision:squeezenet1_1", "timm:mobilenetv3_small_050"]


def measured(name: str) -> None:
    """Every check holds, in the forms that the table names.

    And a form isn't taken for the reason it gives.
    """
    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries' own deprecations
        rows = networks.rows_of(name)
    assert torch.get_num_threads() == threads
    for row in rows:
        told = TABLE[(TABLE["network"] == name) & (TABLE["form"] == row["form"])].iloc[0]
        assert row.get("why not", "") == told["why not"]
        assert row.get("seen", "") == told["seen"] and row.get("map", "") == told["map"]
        if not told["why not"]:
            assert all(row[check] for check in CHECKS), row
            assert all(told[check] == "True" for check in CHECKS)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.slow
def test_two_of_them(name):
    measured(name)


@pytest.mark.long  # ten minutes in all
@pytest.mark.parametrize("name", [name for name in networks.NAMES if name not in QUICK])
def test_every_one(name):
    measured(name)


def test_the_table_is_of_all_and_enough_of_them_pass():
    assert list(dict.fromkeys(TABLE["network"])) == networks.NAMES
    passed = TABLE[(TABLE[CHECKS] == "True").all(axis=1)]
    stacked = passed[passed["form"] == "stacked"]["network"]
    inside = passed[passed["form"] == "within"]["network"]
    assert (
        stacked.str.startswith("torchvision:").sum() >= 14
        and stacked.str.startswith("timm:").sum() >= 25
    )
    transformers = ("vit", "deit", "beit", "eva", "xcit", "cait", "swin")
    assert sum(name.split(":")[1].startswith(transformers) for name in stacked) >= 6
    assert sum(name.split(":")[1].startswith(("vit", "deit")) for name in inside) >= 2
    left = set(TABLE["network"]) - set(stacked)
    assert all((TABLE[TABLE["network"] == name]["why not"] != "").all() for name in left)


@pytest.mark.parametrize(
    "fault", ["one row more", "hidden part in the upper pass", "another network's layer"]
)
@pytest.mark.slow
def test_the_proof_sees_planted_faults(fault):
    """Each check is one that can fail."""
    model = networks.behind(networks.make("torchvision:squeezenet1_1"))
    images = torch.randn(2, 3, 448, 224, generator=torch.Generator().manual_seed(0))
    assert all(networks.prove(model, images).values())
    if fault == "one row more":
        model.head.rows = (14, 26)
        failing = {"cut", "noise", "gradient", "library"}
    elif fault == "hidden part in the upper pass":
        divide = model.parts.divide
        model.features.parts = type(model.parts)(
            model.network, model.parts.image, 224, "bottom", None
        )
        model.features.parts.divide = lambda x: (divide(x)[0] + 1e-3 * x.mean(), divide(x)[1])
        failing = {"cut", "noise", "gradient"}
    else:
        model.features.layer.register_forward_hook(lambda module, args, output: output.flip(2))
        failing = {"cut", "noise", "gradient"}
    found = {check for check, holds in networks.prove(model, images).items() if not holds}
    assert found >= failing - {"library"}, found
