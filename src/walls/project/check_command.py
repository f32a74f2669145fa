"""`walls check NETWORK`: the standard check from the command line, its table, and its files."""

import importlib.util
import os
from argparse import Namespace
from pathlib import Path

from walls.base.messages import reason, shown
from walls.network import zoo
from walls.saliency.methods import COSTLY
from walls.sanity import entries
from walls.sanity.check import Method, check, check_arguments
from walls.sanity.report import Report
from walls.sources.packaged import photographs


def run(asked: Namespace) -> None:
    """Check a named network on photographs; print the table, and write the report into a folder.

    ValueError, with nothing written, for what can't be read, isn't known, or doesn't fit.
    """
    methods = dict(map(_method, asked.methods))
    check_arguments(methods, sign=asked.sign)
    if asked.costly_images < 2:
        raise ValueError(f"--costly-images: got {asked.costly_images}; takes 2 or more")
    _require_folder(asked.out, "--out")
    if asked.submit:
        _require_folder(asked.submit, "--submit")
    if asked.classes is not None and asked.classes < 2:
        raise ValueError(f"--classes: got {asked.classes}; takes 2 or more")
    options = {} if asked.classes is None else {"num_classes": asked.classes}
    named = zoo.get(asked.network, asked.weights, seed=asked.seed, **options)
    images, labels, _ = photographs(asked.images, named.recipe)
    few = {name: asked.costly_images for name in methods if name in COSTLY}
    report = check(
        named.network,
        methods,
        images,
        labels,
        seen_rows=asked.seen_rows,
        layer=asked.layer,
        few=few,
        sign=asked.sign,
        normalised=named.recipe.normalised,
        seed=asked.seed,
    )
    page = report.save(asked.out, named.name)
    print(f"{named.name}, weights: {shown(named.weights)}; {len(images)} photographs.")
    print(_said(report, grouped=labels is not None))
    print(f"Written into {shown(asked.out)}; open {shown(page)}")
    if asked.submit:
        for file in entries.write(report, asked.submit, named.name):
            print(f"For the table of all methods: {shown(file)}")


def _method(given: str) -> tuple[str, Method | None]:
    """A method's name and, for FILE.py:FUNCTION, the function; ValueError where there is none."""
    file, colon, name = given.rpartition(".py:")
    if not colon:
        return given, None
    path = Path(f"{file}.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        raise ValueError(
            f"--methods: got {shown(given)}, but {shown(path)} fails ({reason(error)}); takes a "
            "file of Python that runs"
        ) from None
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(
            f"--methods: got {shown(given)}, but {shown(path)} has no function {shown(name)}"
        )
    return name, function


def _require_folder(out: Path, option: str) -> None:
    """ValueError where no folder of that name can be made, or written into."""
    there = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ValueError(
            f"{option}: got {shown(out)}, but {shown(there)} is a file; takes a folder"
        )
    if not os.access(there, os.W_OK):
        raise ValueError(
            f"{option}: got {shown(out)}, which can't be written; takes another folder"
        )


def _said(report: Report, grouped: bool) -> str:
    """The certificate, the table and its reading; `grouped`: whether classes were told."""
    classes = report.table["class"].nunique()
    if grouped:
        sorted_by = f"{classes} classes, one per folder"
    elif report.table["predicted"].nunique() > 1:
        sorted_by = f"{classes} classes, as the network predicts them"
    else:
        sorted_by = "each photograph a class of its own, since the network predicts one for all"
    return "\n".join(
        [
            report.certified(),
            "",
            "µ×100 of the hidden part by what lies there, and its 95% interval over classes "
            f"({sorted_by}); a map that is the same everywhere: {100 * report.uniform:.1f}.",
            report.wide().to_string(),
            "",
            report.sentence(),
        ]
    )
