"""Two real runs of the same cells: `--compare-runs` names the cell that was broken and the one that was slowed."""

import re

import pytest

from fixtures.report.changes import KINDS
from suites.meta.harness.arithmetic import possible
from suites.meta.harness.inner import generation, latency, nodes, plant, run_suite

pytestmark = pytest.mark.nightly

BROKEN, SLOWED, SOUND = (f"llama-2-7b-{precision}-cpu-single" for precision in ("fp32", "int4", "bf16"))
CELLS = possible([BROKEN, SLOWED, SOUND])
GRID = {"beam": "1", "output": "12", "iter": "4"}
# Where the status stands, and the headings of what other work on the machine left undecided in one of the runs.
NOT_TIMED = ("", KINDS["not compared"], KINDS["other"])
# Fivefold, so that other work during the first run does not hide it.
FAULTS = [plant(BROKEN, "before", "rope_base_doubled"), plant(SLOWED, "after", "latency.slowed_fivefold")]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """{heading: tests below it} of the comparison, with its status under "".

    Before are accepted values of this machine, without which a run does not see whether the machine was disturbed.
    """
    accepted, before, after = (tmp_path_factory.mktemp(name) for name in ("accepted", "before", "after"))
    values = f"--baselines={accepted}"
    run_suite(accepted, *nodes("latency", CELLS), values, "--update-baselines", "--accept-anyway", environment=GRID)
    both = [*nodes("generation", CELLS), *nodes("latency", CELLS), values, "--benchmark-compare"]
    run_suite(before, *both, environment=GRID)
    run_suite(after, "-p", "suites.meta.harness.planting", *FAULTS, *both, environment=GRID)
    compared = run_suite(accepted, "--compare-runs", str(before / "journal.jsonl"), str(after / "journal.jsonl"))
    print(compared.output)
    heading, found = "", {"": compared.status}
    for line in compared.output.splitlines():
        heading = line.rpartition(" (")[0] if re.fullmatch(r"\w.* \(\d+\)", line) else heading
        if test := re.match(r"  suites/\S+::(\S+\]): ", line):
            found.setdefault(heading, set()).add(test[1])
    return found


def test_the_broken_and_the_slowed_cell_are_named_and_no_other(said):
    named = {test for heading, tests in said.items() if heading not in NOT_TIMED for test in tests}
    assert said[""] == 1
    assert said[KINDS["new failure"]] == {generation(BROKEN)}
    if KINDS["slower"] not in said:
        assert latency(SLOWED) in said[KINDS["perhaps slower"]]
        pytest.skip("others kept this machine busy: the slowed cell was named, as perhaps their doing")
    assert said[KINDS["slower"]] == {latency(SLOWED)}
    assert named == {generation(BROKEN), latency(SLOWED)}
