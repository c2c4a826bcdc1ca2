"""The latency gate end to end: a ratio accepted from replicates, the same cell slowed, and a stack beside itself."""

import json
import sys

import pytest

from suites.meta.harness.inner import latency, nodes, plant, run_suite

pytestmark = pytest.mark.nightly

CELL = "opt-6.7b-fp32-cpu-single"
GRID = {"beam": "1", "output": "12", "iter": "4"}
REPLICATES = "--replicates=4"


@pytest.fixture(scope="module")
def accepted(tmp_path_factory):
    """A folder of baselines with the cell's ratio over sessions; skips where others keep this machine busy."""
    folder = tmp_path_factory.mktemp("baselines")
    options = ["--update-baselines", REPLICATES, f"--baselines={folder}"]
    run = run_suite(tmp_path_factory.mktemp("accept"), *nodes("latency", [CELL]), *options, environment=GRID)
    assert run.status == 0, run.output
    if not run.undisturbed(latency(CELL)):
        pytest.skip(run.tests[latency(CELL)][2])
    return folder


@pytest.fixture(scope="module")
def slowed(accepted, tmp_path_factory):
    """(the run that compared a slowed cell, its folder)."""
    folder = tmp_path_factory.mktemp("slowed")
    broken = ["-p", "suites.meta.harness.planting", plant(CELL, "after", "latency.slowed_to_double")]
    options = [f"--baselines={accepted}", "-o", f"cache_dir={folder / 'cache'}", "--spec-lines", "--benchmark-compare"]
    run = run_suite(folder, *broken, *nodes("latency", [CELL]), *options, REPLICATES, environment=GRID)
    if not run.undisturbed(latency(CELL)):
        pytest.skip(run.tests[latency(CELL)][2])  # others keep this machine busy
    return run, folder


def values_of(folder):
    """What was accepted of the cell."""
    [path] = folder.glob("cpu/*/latency.json")
    [cell] = json.loads(path.read_text())["cells"].values()
    return cell["values"]


def test_accepting_keeps_the_ratio_with_its_spread_over_sessions(accepted):
    values = values_of(accepted)
    assert values["paired_sessions"]["value"] == 3
    assert values["paired_decode"]["spread"] > 0
    assert values["count_tokens"]["value"] == int(GRID["output"])


def test_a_slowdown_fails_its_own_test_and_names_the_metric(slowed):
    run, _ = slowed
    assert run.tests[latency(CELL)][:2] == ("FAIL", "failure"), run.output
    line = run.line(latency(CELL), "decode")
    assert "FAIL" in line
    for words in ("%", "4 replicates", "minimum detectable", "budget 10 %", "a first set of 4"):
        assert words in line
    reproduce = next(line for line in run.output.splitlines() if "reproduce: " in line)
    assert "--benchmark-compare" in reproduce
    assert REPLICATES in reproduce


def test_the_failure_is_what_the_next_run_asks_first(slowed):
    _, folder = slowed
    again = run_suite(
        folder, "--lf", "-o", f"cache_dir={folder / 'cache'}", "suites/test_latency.py", "--collect-only", "-q"
    )
    listed = [line for line in again.output.splitlines() if "test_latency[" in line]
    assert listed == [f"suites/test_latency.py::{latency(CELL)}"]


def test_the_lines_of_the_specifications_scripts_are_printed(slowed):
    run, _ = slowed
    for words in ("Inference latency: ", "First token average latency: ", "Average 2... latency: "):
        assert words in run.output


def test_a_stack_beside_itself_is_as_fast_and_as_close(tmp_path):
    run = run_suite(tmp_path, *nodes("against", [CELL]), f"--against={sys.executable}", REPLICATES, environment=GRID)
    name = f"test_against[{CELL}]"
    # A machine that is busy with something else may leave it undecided, which is no pass and no fail.
    assert run.verdict(name) in ("PASS", "INCONCLUSIVE"), run.output
    if not run.undisturbed(name):
        pytest.skip(run.tests[name][2])
    metrics = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[-2])["metrics"]
    assert 0.8 < metrics["against_decode"][0] < 1.25


@pytest.mark.parametrize(("python", "words"), [
    ("/no/such/python", "there is no such program"),
    ("/bin/ls", "has no stack"),
])  # fmt: skip
def test_an_interpreter_that_cannot_be_used_is_one_sentence(tmp_path, python, words):
    run = run_suite(tmp_path, "suites/test_against.py", f"--against={python}")
    [line] = [line for line in run.output.splitlines() if "--against" in line]
    assert words in line
    assert run.status != 0
    assert "Traceback" not in run.output
