"""A training's inputs, from the files that the stages wall and data leave."""

import json

import pytest
import torch
from helpers.training_runs import SETTINGS, drawn_images, equal

from walls.network import certificate, checkpoints
from walls.training import job
from walls.training.settings import Model, Train

NARROW = Model(width=0.0625, dense=8, batch_norm=True, dropout=0.5, checkpoint=None)
SEVERAL = Train(**SETTINGS | {"again": [1]})


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A project's folder with both stages' outputs, as far as a training reads them."""
    (tmp_path / "dvc.yaml").touch()
    drawn_images(tmp_path / "data" / "set")
    (tmp_path / "runs" / "wall").mkdir(parents=True)
    for which, rows in (("masked", 7), ("baseline", 0)):
        facts = {"wall_rows": rows, "seen_rows": 106 if rows else 128}
        (tmp_path / "runs" / "wall" / f"{which}.json").write_text(json.dumps(facts))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jobs(which="masked", seed=3, settings=SEVERAL, network=0):
    return job.job(which, seed, 128, 2, NARROW, settings, network)


def test_a_job_is_what_its_stages_left(tree):
    masked, baseline = jobs(), jobs("baseline")
    assert masked.facts == {"wall_rows": 7, "seen_rows": 106}
    assert baseline.facts == {"wall_rows": 0, "seen_rows": 128}
    assert certificate.certify(masked.network, 128).holds
    assert not certificate.certify(baseline.network, 128).dead_rows
    for found in (masked, baseline):
        train, val = found.train_set, found.val_set
        assert (len(train), len(val)) == (12, 6) and train.size == val.size == 128
        assert all("/set/images/train/" in path for path in train.paths.tolist())
        assert all("/set/images/val/" in path for path in val.paths.tolist())
        assert train.crop_area == [0.6, 1.0] and val.crop_area is None and train.seed == 3
        assert found.network.head[-1].out_features == 2


def test_a_further_network_is_another_seeds_first(tree):
    first, further, other = jobs(), jobs(network=1), jobs(seed=4)
    assert equal(further.network, other.network) and not equal(further.network, first.network)
    assert further.train_set.seed == 4
    assert further.resume == other.resume != first.resume


def test_a_training_goes_on_only_where_all_that_it_follows_from_is_the_same(tree):
    first = jobs().resume
    assert first.parent == tree / ".resume" and first == jobs().resume
    assert first == jobs(settings=SEVERAL.model_copy(update={"again": [1, 2]})).resume
    changed = [jobs("baseline"), jobs(settings=SEVERAL.model_copy(update={"lr": 0.5}))]
    image = next((tree / "data" / "set" / "images" / "train").rglob("*.png"))
    image.write_bytes(image.read_bytes() + b"\0")
    changed.append(jobs())
    (tree / "runs" / "wall" / "masked.json").write_text('{"wall_rows": 7, "seen_rows": 100}')
    changed.append(jobs())
    assert len({first, *(found.resume for found in changed)}) == 5


@pytest.mark.parametrize(
    "missing, told",
    [
        ("runs/wall/masked.json", r"^runs/wall/masked\.json: not there; takes a `dvc repro wall` first$"),
        ("data/set/manifest.csv", r"^data/set/manifest\.csv: not there; takes a `dvc repro data` first$"),
    ],
)  # fmt: skip
def test_a_stage_that_has_not_run_is_named(tree, missing, told):
    (tree / missing).unlink()
    with pytest.raises(ValueError, match=told):
        jobs()


def test_obtained_weights_are_the_trained_ones(tree):
    found = jobs()
    before = {name: tensor.clone() for name, tensor in found.network.state_dict().items()}
    history, record = job.obtain(found.network, "masked", None, *found[1:3], SEVERAL, found.resume)
    assert len(history) == record["epochs"] == 3
    assert not torch.equal(before["head.0.weight"], found.network.head[0].weight)
    assert found.resume.is_dir()
    job.finish(found.resume)
    assert not found.resume.exists()


def test_weights_from_elsewhere_come_with_an_empty_history(tree):
    trained = jobs(seed=8).network
    for which in ("masked", "baseline"):
        checkpoints.save(trained, tree / "models" / f"{which}.safetensors")
    found = jobs()
    assert not equal(found.network, trained)
    history, record = job.obtain(
        found.network, "masked", str(tree / "models"), *found[1:3], SEVERAL, found.resume
    )
    assert equal(found.network, trained) and not found.resume.exists()
    assert list(history.columns) == ["epoch", "train_loss", "top1", "top5"] and history.empty
    assert (record["precision"], record["epochs"], record["images_seen"]) == ("checkpoint", 0, 0)
