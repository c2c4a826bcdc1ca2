"""References compute beside suites that are not timed, and beside no other."""

import pytest

from fixtures.matrix import load_matrix
from fixtures.measure.parameters import parameters
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings

CELLS = {cell.id: cell for cell in load_matrix().cells(["cpu"])}
FIRST, MATE, NEXT = (CELLS[f"{name}-cpu-single"] for name in ("opt-6.7b-fp32", "opt-6.7b-bf16", "bloom-7b1-fp32"))
SUITES = ("dispatch", "generation", "latency", "robustness")
ORDER = [(cell, suite) for cells in ((FIRST, MATE), (NEXT,)) for suite in SUITES for cell in cells]


class Recorded(Runtime):
    """A Runtime that starts no process."""

    def _begin(self, cell):
        self.begun.append(cell.id)
        return cell.id


def begun_beside(cell, suite, selected=ORDER):
    """Ids of the cells whose reference begins beside a suite of a cell."""
    runtime = Recorded(Settings())
    runtime.begun, runtime.selected = [], tuple(selected)
    runtime._work_ahead(cell, suite)
    return runtime.begun


@pytest.mark.parametrize(("cell", "suite", "begins"), [
    (FIRST, "dispatch", [FIRST.id]),  # before its own generation
    (FIRST, "generation", [FIRST.id]),  # the mate's comes
    (MATE, "generation", []),  # a timing of the model comes
    (MATE, "latency", []),
    (FIRST, "robustness", [NEXT.id]),
    (MATE, "robustness", [NEXT.id]),
    (NEXT, "robustness", []),  # nothing comes
])  # fmt: skip
def test_what_begins_beside_a_suite(cell, suite, begins):
    assert begun_beside(cell, suite) == begins


def test_nothing_begins_for_a_model_that_is_not_asked_for_answers():
    without = [(cell, suite) for cell, suite in ORDER if suite != "generation"]
    assert begun_beside(MATE, "robustness", without) == []


def test_a_suite_that_is_timed_is_none_of_those():
    timed = {"accuracy", "against", "depth", "latency", "move", "parity"}
    assert not timed & {*parameters()["untimed"]["suites"]}
