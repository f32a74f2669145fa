"""The snippets of README.md and docs/your-network.md run, give our maps, and add a method as they say."""

import ast
import contextlib
import io
import re

import numpy as np
import pytest
import torch
from conftest import copy_tree, run
from helpers.pages_of_results import README, YOURS

from walls.saliency import activity, maps, registry

SNIPPETS = re.findall(r"```python\n(.*?)```", YOURS, re.DOTALL)
(FIRST,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.bulk
def test_the_readmes_snippets_run(monkeypatch, tmp_path):
    """In order and in one namespace, as a reader would type them."""
    monkeypatch.setitem(registry.METHODS, "MaxCAM", None)  # for as long as this takes
    monkeypatch.setattr(registry, "CAMS", list(registry.CAMS))
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for snippet in SNIPPETS:
            exec(snippet, namespace)
    assert FIRST == SNIPPETS[0]
    assert len(SNIPPETS) == 8 and all(len(s.splitlines()) <= 11 for s in SNIPPETS)
    *table, lit, dead_rows, activities, shape = printed.getvalue().splitlines()
    assert "0.0 [0.0, 0.0]" in table[-1] and table[-1].endswith("blind behind the wall")
    assert (tmp_path / "report" / "report.html").is_file()
    assert [name for name, shown in ast.literal_eval(lit).items() if shown] == ["GradCAM"]
    assert dead_rows == "54" and "'HiResCAM': tensor([0., 0.]" in activities
    assert shape == "torch.Size([2, 14, 14])"


@pytest.fixture(scope="module")
def libraries():
    """What the three examples of other libraries leave, in float64, and our GradCAM of the same."""
    before, namespace = torch.get_default_dtype(), {}
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    try:
        setup = "\n".join(SNIPPETS[0].splitlines()[:4])  # the network and the images
        for snippet in (setup, *SNIPPETS[2:5]):
            exec(snippet, namespace)
        model, pairs, classes = (namespace[name] for name in ("model", "pairs", "classes"))
        raw = maps.saliency_maps(model, pairs, ["GradCAM"], classes)["GradCAM"]
    finally:
        torch.set_default_dtype(before)
    assert raw.dtype == torch.float64 and raw.shape == (4, 14, 7)
    assert (raw[:, 7:].amax((1, 2)) > 0).all()  # behind the wall, where no logit looks
    return namespace, raw


@pytest.mark.bulk
@pytest.mark.xdist_group("libraries")
def test_the_readmes_pytorch_grad_cam_gives_our_maps(libraries):
    namespace, raw = libraries
    ours = activity.upscale(raw, (448, 224)).numpy()
    np.testing.assert_allclose(namespace["heat"], ours, rtol=0, atol=1e-5)


@pytest.mark.bulk
@pytest.mark.xdist_group("libraries")
def test_the_readmes_captum_gives_our_maps(libraries):
    namespace, raw = libraries
    theirs = namespace["signed"].detach()[:, 0].clamp_min(0)
    torch.testing.assert_close(theirs, raw, rtol=1e-5, atol=1e-5 * float(raw.max()))


@pytest.mark.bulk
@pytest.mark.xdist_group("libraries")
def test_the_readmes_torch_cam_gives_our_maps(libraries):
    namespace, raw = libraries
    low, high = raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True)
    ours = (raw - low) / (high - low)
    torch.testing.assert_close(namespace["scaled"], ours, rtol=0, atol=1e-5)


@pytest.mark.bulk
def test_the_readmes_assertion_holds_or_says_why_not():
    """In a CAM library's tests: of a method that is blind behind the wall, and one that isn't."""
    namespace: dict = {}
    exec("import torch, torchvision, walls\n" + SNIPPETS[1], namespace)
    assert len(SNIPPETS[1].splitlines()) == 5
    (test,) = (one for name, one in namespace.items() if name.startswith("test_"))

    def library_with(name):
        namespace["my_cam"] = lambda network, images, targets: maps.saliency_maps(
            network, images, [name], targets
        )[name]
        torch.manual_seed(0)
        return test

    assert library_with("HiResCAM")() is None
    with pytest.raises(AssertionError, match=r"MyCAM: sees content; up to .*% of the map's norm"):
        library_with("GradCAM")()


@pytest.mark.long
@pytest.mark.pipeline
def test_a_method_moved_to_the_others_leaves_the_tests_green(tmp_path):
    """As the README says: its function in methods.py, its name in params.yaml. Of the tests, those
    that speak of methods.
    """
    project = copy_tree(tmp_path / "project")
    function, name = re.search(r'@method\("(\w+)"\).*?(?=\n\n)', SNIPPETS[-1], re.DOTALL).group(
        0, 1
    )
    file, params = project / "src/walls/saliency/methods.py", project / "params.yaml"
    file.write_text(f"{file.read_text()}\n\n{function}\n")
    before = params.read_text()
    params.write_text(before.replace("RandomCAM]", f"RandomCAM, {name}]"))
    assert f'"{name}"' in file.read_text() and params.read_text() != before
    run(project, "python", "-m", "walls", "params")
    # The whole list, whatever it holds; of `walls check`'s tests, the one that takes it.
    naming = re.compile(r"methods\.(METHODS|CAMS)|methods import (METHODS|CAMS)|cams\.methods")
    chosen = "not test_check_command or by_default"
    tests = [path for path in project.glob("tests/*/test_*.py") if naming.search(path.read_text())]
    assert {"test_cams.py", "test_params.py", "test_plots.py"} <= {path.name for path in tests}
    lane = "not long and not pipeline and not browser and not bulk"
    run(project, "python", "-m", "pytest", "-q", "-m", lane, "-k", chosen, *map(str, tests))
