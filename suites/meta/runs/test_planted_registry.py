"""Every fault of the registry, planted in its cheapest cell: a check that is named for it turns red.

`make test` plants them with smaller parameters (test_planted_answers.py and test_planted_calls.py).
"""

import pytest

from suites.meta.faults.registry import struck_here
from suites.meta.harness.arithmetic import of_faults
from suites.meta.harness.striking import Striker, assert_caught

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def striker():
    striker = Striker()
    yield striker
    striker.close()


@pytest.mark.parametrize("fault", of_faults(struck_here()))
def test_a_fault_turns_its_check_red(striker, fault):
    assert_caught(fault, *striker.strike(fault))
