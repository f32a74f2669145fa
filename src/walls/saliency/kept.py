"""What an evaluation has finished, kept in a folder: batch by batch, and in the end all of it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from walls.base import files

FINISHED = "finished.safetensors"


class Kept:
    """A folder of finished batches; without one (None) nothing is kept, nor found.

    A batch is found by its pixels and by `follows`, what else its values follow from. A killed
    evaluation goes on on its own kind of `machine` alone, and so ends with that one's bits; a
    finished one is taken wherever it was made, as finished weights are.
    """

    def __init__(self, folder: Path | None, follows: str, machine: str):
        self.folder, self.follows, self.machine = folder, follows, machine
        whole = folder / FINISHED if folder else None
        self.whole = safe_open(whole, "pt") if whole and whole.is_file() else None
        self.places: dict[str, tuple[int, int]] = {}
        if self.whole:
            self.places = json.loads(self.whole.metadata()["batches"])

    def name(self, batch: Tensor) -> str:
        """What a batch is found by; empty where nothing is kept."""
        return digest(self.follows, tuple(batch.shape), batch) if self.folder else ""

    def find(self, name: str) -> dict[str, Tensor] | None:
        """A finished batch's values, or None."""
        if name in self.places:
            first, last = self.places[name]
            return {key: self.whole.get_slice(key)[first:last] for key in self.whole.keys()}
        file = self._file(name)
        return load_file(file) if file and file.is_file() else None

    def keep(self, name: str, found: dict[str, Tensor]) -> None:
        """Write a batch's values, whole or not at all."""
        if file := self._file(name):
            with files.whole(file) as partial:
                save_file(found, partial)

    def finish(self, names: Sequence[str], size: int, found: dict[str, Tensor]) -> None:
        """Write the values of all batches, `size` images each, under the batches' `names`."""
        if self.folder:
            places = {name: (i * size, (i + 1) * size) for i, name in enumerate(names)}
            with files.whole(self.folder / FINISHED) as partial:
                save_file(found, partial, {"batches": json.dumps(places)})

    def _file(self, name: str) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / f"{digest(name, self.machine)}.safetensors"


def digest(*parts: object) -> str:
    """A name for tensors and whatever else has a repr."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            found.update(part.cpu().contiguous().numpy().tobytes())
        else:
            found.update(repr(part).encode())
    return found.hexdigest()[:32]
