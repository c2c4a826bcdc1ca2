"""Each fault of one length, of company, of one call in many and of weights turns its check red, a sound model none."""

import pytest

from fixtures.checks.robustness import accepted_states, check_robustness
from fixtures.checks.tolerances import tolerances
from fixtures.matrix import load_matrix
from fixtures.measure.robustness import measure_robustness
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings
from fixtures.results.accepted import Accepted
from suites.meta.faults.registry import registry

pytestmark = pytest.mark.nightly

CELL = "llama-2-7b-fp32-cpu-single"
MODULE = "suites.meta.faults.robustness"
FAULTS = {name: fault for name, fault in registry().items() if MODULE.endswith(f".{fault.module}")}


@pytest.fixture(scope="module")
def measured_with():
    """`measured_with(fault)`: a Robustness of one worker's model with a Fault in place, None without."""
    runtime = Runtime(Settings())
    cell = next(cell for cell in load_matrix().cells(["cpu"]) if cell.id == CELL)

    def measured(fault):
        candidate = runtime.candidate(cell)
        if fault:
            candidate.worker.call("call", 60, function=f"{MODULE}:planted", fault=fault.name)
        try:
            return measure_robustness(runtime, cell, thorough=fault is None or fault.kind == "nondeterminism")
        finally:
            if fault and fault.kind == "weights":
                runtime.forget_candidate(cell)
            elif fault:
                candidate.worker.call("call", 60, function=f"{MODULE}:removed")

    yield measured
    runtime.close()


@pytest.fixture(scope="module")
def accepted(measured_with):
    """The Accepted of a sound model."""
    found, _ = accepted_states(measured_with(None))
    spreads = {name: spread for name, (_, spread, _) in found.items()}
    return Accepted({name: value for name, (value, *_) in found.items()}, True, spreads=spreads)


def lines_of(measured, accepted):
    found = {line.check: line for line in check_robustness(measured, tolerances(), accepted)}
    print("\n".join(map(str, found.values())))
    return found


def red(lines):
    return {check for check, line in lines.items() if line.verdict != "PASS"}


def test_a_sound_model_holds(measured_with, accepted):
    lines = lines_of(measured_with(None), accepted)
    assert red(lines) == set()
    assert len(lines) == 13, "every check has its line"


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(measured_with, accepted, name):
    fault = FAULTS[name]
    lines = lines_of(measured_with(fault), accepted)
    assert lines[fault.check].verdict == "FAIL", lines[fault.check]
    assert red(lines) <= {fault.check, *fault.others}, "no other check is for it"
