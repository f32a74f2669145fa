"""[CNN] at initialisation: formulas, laws, sampling, checks, figures; no trained network."""

from typing import Any


def __getattr__(name: str) -> Any:
    """The formulas `expected_gradcam` and `lower_bound`, when they are asked for."""
    if name in ("expected_gradcam", "lower_bound"):
        from walls.theory import formulas

        return getattr(formulas, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
