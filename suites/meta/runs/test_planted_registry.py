"""Every fault of the registry, planted in its cheapest cell: a check that is named for it turns red.

`make test` plants the quick ones, `make nightly` the others.
"""

import pytest

from suites.meta.faults.registry import struck_here
from suites.meta.harness.arithmetic import needs_bf16
from suites.meta.harness.striking import Striker


@pytest.fixture(scope="module")
def striker():
    striker = Striker()
    yield striker
    striker.close()


def parameter(fault):
    marks = [*([] if fault.quick else [pytest.mark.nightly]), *([needs_bf16] if "-bf16-" in fault.cell else [])]
    return pytest.param(fault, id=fault.name, marks=marks)


FAULTS = sorted(struck_here(), key=lambda fault: (fault.cell, fault.suite))  # models are loaded once


@pytest.mark.parametrize("fault", [*map(parameter, FAULTS)])
def test_a_fault_turns_its_check_red(striker, fault):
    sound, broken = striker.strike(fault)
    print("\n".join(map(str, broken.lines)))
    red = broken.against(sound)
    if fault.unseen:
        assert not red, f"{fault.name} is seen by {sorted(red)}: delete `unseen` of its entry"
    else:
        assert red & {*fault.checks}, f"{fault.name} turned {sorted(red)} red"
        assert fault.others is None or red <= {*fault.checks, *fault.others}, f"{sorted(red)}: others are not for it"
