"""Where stacks have their memory: every process that imports one has it elsewhere, and its forks have it there, too."""

import sys

import pytest

from fixtures.bench.latency import grid_for
from fixtures.bench.pairs import Pairing
from fixtures.bench.stage import Settings, Stage
from fixtures.ledger import Baselines, Value
from fixtures.matrix import load_matrix
from fixtures.worker.layout import identity
from fixtures.worker.pool import Worker, Zygote

CELLS = {cell.id: cell for cell in load_matrix().all_cells()}
SINGLE = CELLS["opt-6.7b-fp32-cpu-single"]
SHARDED = CELLS["opt-6.7b-bf16-cpu-autotp"]


def places(layout, workers=1):
    """Where each worker of one zygote has its heap, and what its hash of a text is; and whether that is fixed."""
    zygote, found = Zygote(("json",), sys.executable, layout), []
    try:
        for _ in range(workers):
            worker = Worker(zygote)
            answer = worker.call("call", 60, function="suites.meta.worker_calls:memory_place")
            found.append(answer.message["result"])
            worker.close()
        return found, zygote.fixed
    finally:
        zygote.close()


def test_the_fixed_layout_is_the_same_for_every_start():
    (first, fixed), (second, _) = places(0), places(0)
    if not fixed:
        pytest.skip("this kernel does not permit it, and the zygote says so")
    assert first == second


@pytest.mark.parametrize("layout", [None, 1])
def test_each_start_is_another_draw_that_its_forks_share(layout):
    ([first, again], fixed), ([second], _) = places(layout, 2), places(layout)
    assert first == again
    assert first != second
    assert not fixed


def test_a_layout_has_the_hash_seed_of_its_number():
    hashes = [places(layout)[0][0][-1] for layout in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_an_accepted_layout_is_known_again(tmp_path):
    layout, accepted = identity(sys.executable, {}, {}), Baselines(tmp_path)
    accepted.stage("latency", "cpu", "some-machine", SINGLE.id, {"paired_layout": Value(float(layout), None, "id")}, 1)
    accepted.commit({"command": "pytest"})
    assert Baselines(tmp_path).find("latency", "cpu", "some-machine", SINGLE.id).values["paired_layout"].value == layout


@pytest.fixture(scope="module")
def stage():
    """A stage of fixed layout, with what a cell of one process imports."""
    stage = Stage(Settings(layout=0, launcher="mpirun"))
    stage.zygote(stage.modules(SINGLE))
    stage.worker("cpu", "stock").close()
    stage.settle()
    yield stage
    stage.close()


def test_launched_ranks_lie_where_they_like_and_leave_other_cells_alone(stage):
    stage.groups["mpirun"] = stage.zygote(stage.modules(SINGLE))  # stands for ranks that serve other cells
    assert stage.has_fixed_layout(SINGLE)
    assert not stage.has_fixed_layout(SHARDED)
    stage.groups.clear()


def test_nothing_that_was_not_imported_is_called_fixed():
    assert not Stage(Settings(layout=0)).has_fixed_layout(SINGLE)


@pytest.mark.parametrize("other", [("python3", {"torch": "2.8.0"}, {}), ("python", {"torch": "2.9.0"}, {}), (
    "python", {"torch": "2.8.0"}, {"HOME": "/x"})])  # fmt: skip
def test_another_stack_or_environment_is_another_layout(other):
    known = "python", {"torch": "2.8.0"}, {}
    assert identity(*known) == identity(*known) != identity(*other)


class Noted(Stage):
    """A stage that notes which layout it was asked for, and starts nothing."""

    def __init__(self, **settings):
        super().__init__(Settings(layout=0, **settings))
        self.noted = []

    def weights_for(self, model, device_type):
        return type("Weights", (), {"miniature": True})

    def reference(self, cell):
        return type("Prompts", (), {"ids": list(range(4096))})

    def zygote(self, modules):
        self.noted.append(self.layout)


@pytest.mark.parametrize(("layouts", "taken"), [(3, [1, 1, 2, 2, 3, 3, 1, 1]), (1, [0] * 8)])
def test_launches_take_turns_in_layouts_twice_in_a_row(layouts, taken):
    stage = Noted()
    pairing = Pairing(stage, SINGLE, grid_for(SINGLE), layouts=layouts)
    for number in range(8):
        pairing.import_for(number)
    assert stage.noted == [layout for layout in taken for _ in ("optimised", "stock")]


def test_launches_go_on_where_those_before_ended(monkeypatch):
    pairing, made = Pairing(Noted(), SINGLE, grid_for(SINGLE)), []
    monkeypatch.setattr(pairing, "lanes", lambda: [None])
    monkeypatch.setattr(
        pairing, "_launched", lambda number, lanes: made.append(number) or pairing.conditions.append(number) or [{}]
    )
    pairing.count(2)
    pairing.count(2)
    assert made == [0, 1, 2, 3]


def test_ranks_of_a_launcher_keep_its_layout():
    stage = Noted(launcher="mpirun")
    assert Pairing(stage, SHARDED, grid_for(SHARDED)).layouts == 1
    assert Pairing(stage, SINGLE, grid_for(SINGLE)).layouts > 1


def test_memory_that_is_short_is_made_room_in_but_for_what_is_needed(monkeypatch):
    stage, ended = Stage(Settings()), []
    for modules, layout in (("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)):
        stage.zygotes[modules, layout] = type(
            "Process", (), {"close": lambda self, key=(modules, layout): ended.append(key)}
        )()
    stage.make_room(["a"])
    assert not ended
    monkeypatch.setattr("fixtures.bench.stage.memory_available", lambda: 1e6)
    stage.make_room(["a"])
    assert ended == [("b", 1), ("b", 2)]
    assert set(stage.zygotes) == {("a", 0), ("a", 1), ("b", 0)}
