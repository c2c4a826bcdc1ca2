"""Each fault of depth turns its check red, a sound model none."""

import dataclasses

import pytest

from fixtures.io.parties import MACHINE
from suites.meta.faults.registry import faults
from suites.meta.harness.striking import CHECKS, Striker

pytestmark = pytest.mark.nightly

SUITE, CELL = "depth", "llama-2-7b-fp32-cpu-single"
FAULTS = {name: fault for name, fault in faults().items() if fault.suite == "depth"}


@pytest.fixture(scope="module")
def striker():
    striker = Striker()
    yield striker
    striker.close()


def by_check(lines):
    found = {line.check: line for line in lines}
    print("\n".join(map(str, lines)))
    return found


def red(lines):
    """Checks that do not hold; times of a machine that others keep busy say nothing."""
    return {check for check, line in lines.items() if line.verdict != "PASS" and line.party != MACHINE}


def test_a_sound_model_holds(striker):
    accepted = striker.sound(SUITE, CELL).measured
    lines = by_check(striker.ask(SUITE, CELL, {}, accepted).lines)
    assert red(lines) == set()
    assert len(lines) == 9, "every check has its line"


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named(striker, name):
    fault = FAULTS[name]
    sound, broken = striker.strike(fault)
    lines, [check] = by_check(broken.lines), fault.checks
    if lines[check].party == MACHINE:  # the fault is larger than what other work does to two curves
        measured = broken.measured
        measured.curves = [dataclasses.replace(curve, disturbance="") for curve in measured.curves]
        lines |= {check: by_check(CHECKS[SUITE](measured, sound.measured))[check]}
    assert lines[check].verdict == "FAIL", lines[check]
    assert red(lines) <= {check, *fault.others}, "no other check is for it"
