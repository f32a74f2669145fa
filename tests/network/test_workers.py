"""Parts shared out over a processor's cores: the same bits, torch's threads as they were."""

import threading

import pytest
import torch
from conftest import make_tiny, noise
from torch import nn

from walls.network import workers
from walls.network.behind import behind
from walls.network.workers import shared
from walls.saliency.cut import Cut
from walls.saliency.maps import saliency_maps
from walls.saliency.methods import _ablated

SETTINGS = {"Opti-CAM": {"steps": 2}, "RISE": {"masks": 40}}


@pytest.fixture(autouse=True)
def threads():
    """Three of torch's threads, whatever the machine has; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def with_threads(count, work):
    torch.set_num_threads(count)
    try:
        found = work()
        assert torch.get_num_threads() == count
        return found
    finally:
        torch.set_num_threads(3)


class Keeps(nn.Module):
    """What users write: a layer's output kept on the network, and read again later."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 6, 3, padding=1)
        self.last = nn.Linear(6, 4)
        self.notes: dict[str, torch.Tensor] = {}

    def forward(self, images):
        self.notes["sum"] = images.sum((1, 2, 3))
        self.kept = self.first(images).relu()
        maps = self.second(self.kept).relu()
        for _ in range(20):  # long enough for another part to come between
            maps = maps + self.kept[:, :6].sigmoid() - self.kept[:, :6].sigmoid()
        return self.last(maps.mean((2, 3))) + self.notes["sum"][:, None]


def networks():
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 9, 3, 2, 1), nn.ReLU()]
    flat = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(9 * 16 * 16, 4)).eval()
    images = torch.randn(3, 3, 128, 64, generator=torch.Generator().manual_seed(0))
    yield "[VGG]", make_tiny(), noise(3)
    yield "another", behind(flat, layer="3", image_rows=128), images[..., :64]


@pytest.mark.parametrize("name", ["[VGG]", "another"])
@pytest.mark.slow
def test_the_same_bits_whatever_the_number_of_workers(name):
    model, images = next((model, images) for own, model, images in networks() if own == name)
    if name == "another":
        assert model.single == (3, 64, 64)

    def found():
        names = ["ScoreCAM", "Opti-CAM", "RISE", "ReciproCAM"]
        maps = saliency_maps(model, images, names, options=SETTINGS)
        with torch.no_grad():
            return maps | {"ablated": _ablated(Cut(model, images, None, 32))}

    one, *others = (with_threads(count, found) for count in (1, 2, 3))
    assert all(values.abs().sum() > 0 for values in one.values())
    for other in others:
        for key, values in one.items():
            assert torch.equal(other[key], values), key


def test_every_part_is_computed_once_in_order_on_one_thread():
    done = []

    def work(model, part):
        done.append((part, torch.get_num_threads(), threading.get_ident()))
        torch.randn(200, 200) @ torch.randn(200, 200)
        return part * part

    assert shared(nn.Identity(), work, range(50)) == [part * part for part in range(50)]
    parts, counts, _ = zip(*done, strict=True)
    assert sorted(parts) == list(range(50)) and set(counts) == {1}
    assert threading.get_ident() not in {who for _, _, who in done}


def test_at_most_so_many_at_once():
    together, now = [], []

    def work(model, part):
        now.append(part)
        together.append(len(now))
        threading.Event().wait(0.01)
        now.remove(part)

    shared(nn.Identity(), work, range(12))
    assert max(together) == 3
    together.clear()
    shared(nn.Identity(), work, range(12), at_most=2)
    assert max(together) == 2


def test_a_single_part_has_all_threads():
    assert shared(nn.Identity(), lambda model, part: torch.get_num_threads(), [0]) == [3]
    assert shared(nn.Identity(), None, []) == []


def test_a_network_that_keeps_things_on_itself():
    """Workers on one network would read each other's: they have copies, with the same weights."""
    torch.manual_seed(0)
    network, parts = Keeps().eval(), torch.randn(24, 2, 3, 40, 40).unbind()
    with torch.no_grad():
        expected = [with_threads(1, lambda part=part: network(part)) for part in parts]
        network.kept, kept = None, network.kept
        assert kept is not None
        found = shared(network, lambda own, part: own(part), parts)
        met = threading.Barrier(3)
        own = shared(network, lambda own, part: (met.wait(5), own)[1], parts[:3])
    assert all(map(torch.equal, found, expected)) and network.kept is None
    assert network not in own and len(set(own)) == 3
    assert all(each.last.weight is network.last.weight for each in own)


def test_the_state_of_the_thread_that_asks():
    def state(model, part):
        layer = nn.functional.linear(torch.ones(1, 4), model.weight)
        return layer.dtype, layer.requires_grad

    for rounded in (False, True):
        for gradients in (False, True):
            with torch.autocast("cpu", torch.bfloat16, rounded), torch.set_grad_enabled(gradients):
                found = shared(nn.Linear(4, 4), state, range(6))
            kind = torch.bfloat16 if rounded else torch.float32
            assert found == [(kind, gradients)] * 6


@pytest.mark.parametrize("error", [ValueError("a part of it"), KeyboardInterrupt()])
def test_an_error_ends_it_and_the_threads_are_as_they_were(error):
    done = []

    def work(model, part):
        done.append(part)
        threading.Event().wait(0.005)
        if part == 4:
            raise error

    with pytest.raises(type(error)):
        shared(nn.Identity(), work, range(300))
    assert torch.get_num_threads() == 3 and len(done) < 20
    assert shared(nn.Identity(), lambda model, part: part, range(5)) == list(range(5))


def test_a_part_may_share_out_its_own():
    def work(model, part):
        return sum(shared(model, lambda own, each: each, range(part)))

    found = []
    thread = threading.Thread(
        target=lambda: found.extend(shared(nn.Identity(), work, range(6))), daemon=True
    )
    thread.start()
    thread.join(20)
    assert found == [0, 0, 1, 3, 6, 10]


def test_calls_from_several_threads_take_turns():
    """Each gives its own maps, and torch's threads are as many as before."""
    model, images = make_tiny(), noise(4)
    expected = saliency_maps(model, images, ["ScoreCAM"])["ScoreCAM"]
    found, counts = {}, {}

    def call(place):
        torch.get_num_threads()
        own = saliency_maps(model, images[place : place + 1], ["ScoreCAM"], progress=lambda n: None)
        found[place], counts[place] = own["ScoreCAM"][0], torch.get_num_threads()

    threads = [threading.Thread(target=call, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == dict.fromkeys(range(4), 3)
    for place, raw in found.items():
        torch.testing.assert_close(raw, expected[place], rtol=1e-3, atol=1e-4)


def test_a_fault_would_be_seen(monkeypatch):
    """Workers on the network itself: another part's values are read."""
    torch.manual_seed(0)
    network, parts = Keeps().eval(), torch.randn(24, 2, 3, 40, 40).unbind()
    met = threading.Barrier(2)

    def work(own, part):
        own.kept = part
        met.wait(5)  # both have written
        return torch.equal(own.kept, part)

    pairs = parts[:2]
    assert shared(network, work, pairs, at_most=2) == [True, True]
    monkeypatch.setattr(workers, "_copy", lambda module, made: module)
    assert sorted(shared(network, work, pairs, at_most=2)) == [False, True]
