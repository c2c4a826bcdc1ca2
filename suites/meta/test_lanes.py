"""Launches at the same time: on how many cores, in which order and layout, and what ends them where one fails."""

import threading
import types

import pytest

from fixtures.bench import pairs
from fixtures.bench.pairs import Lane, Pairing
from fixtures.bench.plan import plan

TABLE = plan()["pairs"]


def pairing(monkeypatch, threads=1, world=1, device_type="cpu", cores=(0, 1, 2, 3), foreign=None, small=True):
    """A Pairing of a made-up cell on a machine of these cores, of which `foreign` were busy just before."""
    found = Pairing.__new__(Pairing)
    found.cell = types.SimpleNamespace(
        id="a cell", model="a model", platform=types.SimpleNamespace(device_type=device_type)
    )
    found.stage = types.SimpleNamespace(
        world=lambda cell: world,
        threads=lambda weights: threads,
        weights_for=lambda model, device_type: None,
        announce=lambda text: None,
        settings=types.SimpleNamespace(side_by_side=lambda cell: small),
    )
    found.seconds, found.conditions, found.before = 0.0, [], None if foreign is None else ("before", "after")
    monkeypatch.setattr(pairs.os, "sched_getaffinity", lambda pid: set(cores))
    monkeypatch.setattr(pairs, "foreign_load", lambda before, after: foreign)
    return found


@pytest.mark.parametrize(("machine", "lanes"), [
    ({}, [{3}, {2}]),
    ({"cores": (0, 1), "foreign": 0.1}, [{1}, {0}]),
    ({"cores": (0, 1), "foreign": 0.5}, [{1}]),  # somebody else has use for the other core
    ({"cores": (0, 1), "foreign": 2.0}, [{1}]),
    ({"cores": (5,)}, [{5}]),
    ({"small": False}, [{3}]),
    ({"threads": 4}, [None]),
    ({"world": 2}, [None]),
    ({"device_type": "cuda"}, [{0, 1, 2, 3}]),
])  # fmt: skip
def test_a_launch_has_a_core_that_nobody_else_keeps_busy(monkeypatch, machine, lanes):
    assert pairing(monkeypatch, **machine).lanes() == lanes


@pytest.mark.parametrize(("made", "wanted", "batches"), [
    (0, 6, [(0, 2), (2, 2), (4, 2)]),
    (0, 3, [(0, 2), (2, 1)]),
    (1, 4, [(1, 1), (2, 2), (4, 1)]),  # the first is the second of its layout
])  # fmt: skip
def test_launches_of_one_layout_are_made_together(monkeypatch, made, wanted, batches):
    pair, seen = pairing(monkeypatch), []

    def launched(number, lanes):
        seen.append((number, len(lanes)))
        pair.conditions += [("before", "after")] * len(lanes)
        return [number + place for place in range(len(lanes))]

    monkeypatch.setattr(pairs, "foreign_load", lambda before, after: 0.0)
    pair.conditions = [("before", "after")] * made
    pair.import_for, pair._launched = lambda number: None, launched
    assert pair.count(wanted) == list(range(made, made + wanted))
    assert seen == batches


class Model:
    """Something like a Candidate that says what is done to it."""

    def __init__(self, name, told):
        self.name, self.told, self.closed = name, told, threading.Event()
        self.worker = types.SimpleNamespace(ranks=[])
        told.append(name)

    def loaded(self):
        return self

    def close(self):
        self.closed.set()


def lane(number, told, play):
    names = f"mine {number}", f"theirs {number}"
    return Lane(*(lambda name=name: Model(name, told) for name in names), {number}, number % 2 == 0, play)


def test_each_lane_starts_with_another_side_and_has_its_own_answer():
    told = []
    found = pairs.launch([lane(n, told, lambda mine, theirs, first: (mine.model.name, first)) for n in range(2)])
    assert told == ["mine 0", "theirs 0", "theirs 1", "mine 1"]
    assert found == [("mine 0", True), ("mine 1", False)]


@pytest.mark.parametrize("mine_first_fails", [True, False])
def test_a_lane_that_fails_ends_the_wait_of_the_others(mine_first_fails):
    waits, ended = threading.Event(), []

    def play(mine, theirs, mine_first):
        if mine_first is mine_first_fails:
            waits.wait(20)
            raise ValueError("the stack broke")
        waits.set()
        ended.append(mine.model.closed.wait(20))

    with pytest.raises(ValueError, match="the stack broke"):
        pairs.launch([lane(number, [], play) for number in range(2)])
    assert ended == [True]
