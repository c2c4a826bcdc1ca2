"""Twenty faults at once: the fault injection of `make fault injection` in short."""

import re
import subprocess
import sys

import pytest

from suites.meta.chaos.checks import ENDS
from suites.meta.chaos.draw import CALLS, EVENTS, draw
from suites.meta.faults.worker import FAULTS
from suites.meta.harness.inner import ROOT

pytestmark = pytest.mark.nightly

INJECTIONS = 20
# Of many faults of different kinds, most of which are quick; any other seed must do as well.
SEED = 768


@pytest.fixture(scope="module")
def injection():
    """The output of a short fault injection, and its exit status."""
    command = [sys.executable, "-m", "suites.meta.chaos.injection", f"--injections={INJECTIONS}", f"--seed={SEED}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    return run.stdout + run.stderr, run.returncode


def test_nothing_is_lost_misjudged_left_or_corrupt(injection):
    output, status = injection
    assert status == 0, output
    assert re.search(rf"\| all \| {INJECTIONS} \| \| 0 \| 0 \| 0 \| 0 \|", output), output
    assert f"{INJECTIONS} injections (seed {SEED}) and 3 sound cells beside them" in output


def test_a_draw_follows_from_its_seed():
    assert draw(1, 200) == draw(1, 200) != draw(2, 200)


@pytest.mark.parametrize("seed", range(1, 6))
def test_every_fault_is_in_a_long_draw(seed):
    injections = [injection for round_ in draw(seed, 200) for injection in round_.injections]
    assert {*range(1, 201)} == {injection.number for injection in injections}
    assert {injection.fault for injection in injections} == {*ENDS, *EVENTS} - {"loses_its_device"}
    assert all(1 <= injection.call <= CALLS for injection in injections if injection.call)


def test_what_a_host_does_not_have_is_not_drawn():
    without = {"oom_killed", "results_full", "clock_back"}
    injections = [injection for round_ in draw(1, 200, without) for injection in round_.injections]
    assert len(injections) == 200
    assert not without & {injection.fault for injection in injections}


def test_every_fault_has_its_end():
    assert {*FAULTS} == {*ENDS}
