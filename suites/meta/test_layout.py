"""Where stacks have their memory: fixed means the same for every start, drawn means another one."""

import sys

import pytest

from fixtures.bench.stage import Settings, Stage
from fixtures.matrix import load_matrix
from fixtures.worker.layout import identity
from fixtures.worker.pool import Worker, Zygote

CELLS = {cell.id: cell for cell in load_matrix().all_cells()}
SINGLE = CELLS["opt-6.7b-bf16-cpu-single"]
SHARDED = CELLS["opt-6.7b-bf16-cpu-autotp"]


def place(layout):
    """(where a worker's heap and hash of a text are, whether its zygote says that this is fixed)."""
    zygote = Zygote(("json",), sys.executable, layout)
    try:
        worker = Worker(zygote)
        found = worker.call("call", 60, function="suites.meta.worker_calls:memory_place").message["result"]
        worker.close()
        return tuple(found), zygote.fixed
    finally:
        zygote.close()


def test_the_fixed_layout_is_the_same_for_every_start():
    first, second = place(0), place(0)
    if not first[1]:
        pytest.skip("this kernel does not permit it, and the zygote says so")
    assert first == second


@pytest.mark.parametrize("layout", [None, 1])
def test_drawn_layouts_differ_and_are_not_called_fixed(layout):
    first, second = place(layout), place(layout)
    assert first[0] != second[0]
    assert not first[1]


def test_a_drawn_layout_has_the_hash_seed_of_its_number():
    assert place(1)[0][-1] == place(1)[0][-1] != place(2)[0][-1]


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
