"""A busy host alarms nobody: latencies beside neighbours, with accepted values to which every cell is far slower.

The long form, with values that this machine accepted, is suites.meta.studies.calm.
"""

import pytest

from fixtures.results import Baselines, Value, machine_fingerprint
from suites.meta.harness.arithmetic import possible
from suites.meta.harness.inner import latency, nodes, run_suite
from suites.meta.studies.neighbours import neighbours

SHARDED = possible(["llama-2-7b-bf16-cpu-autotp"])
CELLS = ["llama-2-7b-fp32-cpu-single", *SHARDED]
TENTH = {"fastest": Value(1e-4, None, "s"), "ratio_to_stock": Value(0.02, None, "1")}
RATIO = {"paired_prefill": Value(0.02, 1e-4, "1"), "paired_decode": Value(0.02, 1e-4, "1")}


@pytest.mark.nightly
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_beside_neighbours_is_inconclusive_with_the_cause_and_does_not_alarm(cell, tmp_path):
    accepted = Baselines(tmp_path)
    values = {**TENTH, **RATIO, "paired_sessions": Value(3.0, None, "1")}
    accepted.record("latency", "cpu", machine_fingerprint().slug, f"{cell}@b4-bs1-in32-out12", values, 4)
    accepted.commit({"command": "planted by suites/meta"})
    with neighbours(seed=1):
        compared = f"--baselines={tmp_path}", "--replicates=4", "--benchmark-compare"
        run = run_suite(tmp_path / "run", *nodes("latency", [cell]), *compared)
    assert run.verdict(latency(cell)) == "INCONCLUSIVE", run.output
    assert run.undisturbed(latency(cell)) is False, run.tests[latency(cell)]
    assert run.status == 0, run.output
