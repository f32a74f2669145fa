"""The artefact as one file: sources, dvc.lock and every cached output it names.

So that it can be evaluated without training.

Unpacked, after `make setup`, it is a git repository without remotes, whose `dvc repro` has nothing
to run. Of the same commit and the same cache it has the same bytes.
"""

import gzip
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

NAME = "see-through-walls"


def pack(root: Path, target: Path) -> int:
    """Write the archive of the commit at `root` to `target`; its size in bytes.

    Raises ValueError where something isn't committed or an output that dvc.lock names isn't in
    DVC's cache.
    """
    changed = _git(root, "status", "--porcelain").splitlines()
    if changed:
        raise ValueError(
            f"{changed[0][3:]}: not committed; takes a tree that `git status` calls clean"
        )
    outputs = cached(root)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / NAME
        # No template, logs or index: they would differ from copy to copy.
        _git(
            root,
            "-c",
            "pack.threads=1",
            "clone",
            "--quiet",
            "--depth=1",
            "--template=",
            root.as_uri(),
            str(folder),
        )
        _git(folder, "remote", "remove", "origin")
        for file in sorted({file for files in outputs.values() for file in files}):
            copy = folder.joinpath(".dvc", "cache", "files", "md5", *file.parts[-2:])
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy)
        shutil.rmtree(folder / ".git" / "logs", ignore_errors=True)
        (folder / ".git" / "index").unlink()
        _git(folder, "read-tree", "HEAD")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        # One level of compression for the whole: nearly all is PNG, PDF and git's own packs.
        with open(partial, "wb") as raw, gzip.GzipFile("", "wb", 1, raw, 0) as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
                for path in sorted(folder.rglob("*")):
                    tar.add(
                        path,
                        f"{NAME}/{path.relative_to(folder).as_posix()}",
                        recursive=False,
                        filter=_anonymous,
                    )
        partial.replace(target)
    return target.stat().st_size


def cached(root: Path) -> dict[str, list[Path]]:
    """The files of DVC's cache that hold each output of dvc.lock, a folder's listing first:
    {output: files}.

    Raises ValueError naming the first output that isn't there whole.
    """
    from dvc.repo import Repo

    found = {}
    with Repo(str(root)) as repo:
        cache = repo.cache.local
        for out in repo.index.outs:
            if not out.use_cache:  # git has it
                continue
            tree = out.get_obj()  # None where its listing isn't there
            members = (
                [oid.value for _, _, oid in tree]
                if tree is not None and out.hash_info.isdir
                else []
            )
            oids = [out.hash_info.value, *members]
            if tree is None or not all(map(cache.exists, oids)):
                raise ValueError(f"{out}: not in DVC's cache; run `dvc repro` first")
            found[str(out)] = [Path(cache.oid_to_path(oid)) for oid in oids]
    return found


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """No owner and no time."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = (
        0o755 if entry.isdir() or entry.mode & 0o100 else 0o444 if not entry.mode & 0o200 else 0o644
    )
    return entry


def _git(folder: Path, *arguments: str) -> str:
    """The output of a git command; ValueError with its last words where it fails."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(
            f"git {arguments[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
        )
    return done.stdout
