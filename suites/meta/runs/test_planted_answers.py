"""Every fault of what a model answers, planted once with small parameters (quick.toml)."""

import pytest

from suites.meta.faults.registry import struck_here
from suites.meta.harness.arithmetic import of_faults
from suites.meta.harness.quick_striking import QuickStriker
from suites.meta.harness.striking import assert_caught


@pytest.fixture(scope="module")
def striker(runtime):
    striker = QuickStriker(runtime)
    yield striker
    striker.close()


@pytest.mark.parametrize("fault", of_faults([each for each in struck_here() if each.suite == "generation"]))
def test_a_fault_turns_its_check_red(striker, fault):
    assert_caught(striker.also(fault), *striker.strike(fault))
