"""A busy host alarms nobody: latencies beside neighbours, with accepted values to which every cell is far slower.

The long form, with values that this machine accepted, is suites.meta.studies.calm.
"""

import pytest

from fixtures.results import Baselines, Value, machine_fingerprint
from suites.meta.harness.arithmetic import possible
from suites.meta.harness.inner import latency, nodes, run_suite
from suites.meta.studies.neighbours import neighbours

CELLS = possible(["llama-2-7b-fp32-cpu-single", "llama-2-7b-bf16-cpu-autotp"])
TENTH = {"fastest": Value(1e-4, None, "s"), "ratio_to_stock": Value(0.02, None, "1")}
RATIO = {"paired_prefill": Value(0.02, 1e-4, "1"), "paired_decode": Value(0.02, 1e-4, "1")}


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A run beside neighbours."""
    folder = tmp_path_factory.mktemp("baselines")
    accepted = Baselines(folder)
    for cell in CELLS:
        values = {**TENTH, **RATIO, "paired_sessions": Value(3.0, None, "1")}
        accepted.record("latency", "cpu", machine_fingerprint().slug, f"{cell}@b4-bs1-in32-out12", values, 4)
    accepted.commit({"command": "planted by suites/meta"})
    options = [f"--baselines={folder}", "--benchmark-compare"]
    with neighbours(seed=1):
        return run_suite(tmp_path_factory.mktemp("busy"), *nodes("latency", CELLS), *options)


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_beside_neighbours_is_inconclusive_with_the_cause_and_never_fails(busy, cell):
    assert busy.verdict(latency(cell)) == "INCONCLUSIVE", busy.output
    assert busy.undisturbed(latency(cell)) is False, busy.tests[latency(cell)]


def test_the_run_does_not_alarm(busy):
    assert busy.status == 0, busy.output
