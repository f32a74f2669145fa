"""How many bad inputs a whole run tries; the modules test_bad_input_*.py before this one count
them.
"""

import pytest
from bad_input import REFUSED, clear

FAMILIES = {"archives", "arguments", "checkpoints", "images", "params.yaml"}


def test_two_thousand_bad_inputs_were_refused():
    if set(REFUSED) != FAMILIES:
        pytest.skip("counts a run of all of them")
    assert sum(REFUSED.values()) >= 2000 and min(REFUSED.values()) >= 200


@pytest.mark.parametrize(
    "message",
    [
        "",
        "it failed",
        "seed: got 1\nTraceback",
        "seed: got \x1b[31m",
        "seed: [Errno 2]",
        "seed: " + "x" * 9999,
    ],
)
def test_what_is_no_clear_refusal(message):
    with pytest.raises(AssertionError):
        clear(message, "^seed: ")
