"""References compute beside suites that are not timed, and beside no other."""

import types

import pytest

from fixtures.contract.suites import questions
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

    def _begin(self, tests):
        self.begun.append(tests)


def begun_beside(cell, suite, selected=ORDER):
    """The (cell, suite) that come next of each model whose reference begins beside a suite of a cell."""
    runtime = Recorded(Settings())
    runtime.begun, runtime.selected = [], tuple(selected)
    runtime._work_ahead(cell, suite)
    return runtime.begun


@pytest.mark.parametrize(("cell", "suite", "begins"), [
    (FIRST, "dispatch", [FIRST.model]),  # before its own generation
    (FIRST, "generation", []),  # it begins for itself
    (MATE, "generation", []),  # a timing of the model comes
    (MATE, "latency", []),
    (FIRST, "robustness", [NEXT.model]),
    (MATE, "robustness", [NEXT.model]),
    (NEXT, "robustness", []),  # nothing comes
])  # fmt: skip
def test_what_begins_beside_a_suite(cell, suite, begins):
    found = begun_beside(cell, suite)
    assert [tests[0][0].model for tests in found] == begins
    assert all(mate.model == tests[0][0].model for tests in found for mate, _ in tests)


@pytest.mark.parametrize(("suites", "begins"), [
    (["dispatch", "generation"], (True,)),
    (["generate", "generation"], (False,)),  # it would wait for beams and long runs, and be broken by them
    (["latency", "generation"], ()),  # a timing would wait for it
    (["dispatch", "robustness"], ()),  # nobody needs it
])  # fmt: skip
def test_what_a_reference_begins_with(suites, begins, monkeypatch):
    asked = []

    class Reference:
        spans = ()

        def __init__(self, *_):
            pass

        def begin(self, precisions, beams, spans):
            asked.append(beams)

    runtime = Runtime(Settings())
    monkeypatch.setattr("fixtures.measure.runtime.Reference", Reference)
    monkeypatch.setattr(runtime.weights, "of", lambda *_: types.SimpleNamespace(miniature=True))
    for _ in range(2):  # once
        runtime._begin([(FIRST, suite) for suite in suites])
    assert tuple(asked) == begins


def test_every_suite_is_timed_or_not():
    timed = {"accuracy", "against", "depth", "int4_checkpoints", "latency", "move", "parity"}
    untimed = {*parameters()["untimed"]["suites"]}
    assert not timed & untimed
    assert timed | untimed == {*questions()}
