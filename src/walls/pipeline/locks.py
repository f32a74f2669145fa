"""What a killed run leaves behind of DVC's own files, and one process a stage."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from walls.base import paths


def unlock() -> None:
    """Remove what a kill has cut short of DVC's notes: its list of the files in use, and dvc.lock.

    DVC writes both in place and reads no torn one; without them it takes finished stages from its
    cache. Whoever writes one holds its lock meanwhile, so that what another process is at stays.
    Says on stderr what it removed.
    """
    from dvc import rwlock, schema
    from dvc.lock import LockError, make_lock
    from voluptuous import Invalid

    root = paths.root()
    folder = root / ".dvc" / "tmp"
    folder.mkdir(exist_ok=True)
    readers = {
        (folder / "rwlock", "rwlock.lock"): lambda text: rwlock.SCHEMA(json.loads(text)),
        (root / "dvc.lock", "lock"): lambda text: schema.COMPILED_LOCKFILE_SCHEMA(
            yaml.safe_load(text)
        ),
    }
    for (file, lock), read in readers.items():
        try:
            with make_lock(str(folder / lock), tmp_dir=str(folder)):
                if not file.is_file():
                    continue
                try:
                    read(file.read_text(encoding="utf-8"))
                except (ValueError, yaml.YAMLError, Invalid):
                    file.unlink()
                    name = file.relative_to(root)
                    print(f"{name}: cut short by a kill; removed", file=sys.stderr)
        except LockError:  # another DVC is at work
            continue


@contextmanager
def alone(stage: str) -> Iterator[None]:
    """ValueError where another process runs the stage.

    Such a process may have outlived its `dvc repro`.
    """
    from dvc.lock import LockError, make_lock

    folder = paths.root() / ".dvc" / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    lock = make_lock(str(folder / f"{stage}.lock"))
    try:
        lock.lock()
    except LockError:
        raise ValueError(
            f"{stage}: another process runs it; wait until that one has ended"
        ) from None
    try:
        yield
    finally:
        lock.unlock()
