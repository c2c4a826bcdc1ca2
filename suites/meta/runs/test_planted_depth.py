"""Each fault of depth turns its check red, a sound model none."""

import dataclasses

import pytest

from fixtures.checks.depth import accepted_curve, check_depth
from fixtures.checks.tolerances import tolerances
from fixtures.io.parties import MACHINE
from fixtures.matrix import load_matrix
from fixtures.measure.depth import measure_depth
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings
from fixtures.results.accepted import Accepted
from suites.meta.faults.registry import faults

pytestmark = pytest.mark.nightly

CELL = next(cell for cell in load_matrix().cells(["cpu"]) if cell.id == "llama-2-7b-fp32-cpu-single")
FAULTS = {name: fault for name, fault in faults().items() if fault.suite == "depth"}


@pytest.fixture(scope="module")
def lines_with():
    """`lines_with(fault, accepted)`: (Depth, {check: line}) of a worker's model with a fault in place, None without."""
    runtime = Runtime(Settings())

    def lines(fault, accepted):
        runtime.forget_candidate(CELL)
        planted = {"fault_after": f"suites.meta.faults.depth:{fault}"} if fault else {}
        runtime.settings.faults.update({CELL.id: planted})
        measured = measure_depth(runtime, CELL, accepted)
        return measured, lines_of(measured, accepted)

    yield lines
    runtime.close()


@pytest.fixture(scope="module")
def accepted(lines_with):
    """The Accepted of a sound model."""
    measured, _ = lines_with(None, Accepted(None, True))
    return Accepted({name: value for name, (value, *_) in accepted_curve(measured)[0].items()}, True)


def lines_of(measured, accepted):
    found = {line.check: line for line in check_depth(measured, tolerances(), accepted)}
    print("\n".join(map(str, found.values())))
    return found


def red(lines):
    """Checks that do not hold; times of a machine that others keep busy say nothing."""
    return {check for check, line in lines.items() if line.verdict != "PASS" and line.party != MACHINE}


def test_a_sound_model_holds(lines_with, accepted):
    _, lines = lines_with(None, accepted)
    assert red(lines) == set()
    assert len(lines) == 9, "every check has its line"


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(lines_with, accepted, name):
    fault = FAULTS[name]
    measured, lines = lines_with(name, accepted)
    [check] = fault.checks
    if lines[check].party == MACHINE:  # the fault is larger than what other work does to two curves
        measured.curves = [dataclasses.replace(curve, disturbance="") for curve in measured.curves]
        lines |= {check: lines_of(measured, accepted)[check]}
    assert lines[check].verdict == "FAIL", lines[check]
    assert red(lines) <= {check, *fault.others}, "no other check is for it"
