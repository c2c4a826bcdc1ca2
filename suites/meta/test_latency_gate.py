"""The latency gate end to end: a ratio accepted in paired launches, the same cell slowed, and a stack beside itself."""

import json
import math
import sys

import pytest

from fixtures.bench.latency import grid_for
from fixtures.bench.pairs import Pairing
from fixtures.bench.stage import Settings, Stage
from fixtures.judge.launches import launch_ratios
from fixtures.judge.pairs import estimate
from fixtures.matrix import load_matrix
from suites.meta import prove_latency
from suites.meta.inner import latency, nodes, plant, run_suite

CELL = "opt-6.7b-fp32-cpu-single"
GRID = {"beam": "1", "output": "12", "iter": "4"}
LAUNCHES = 8
FEW, MOST_LAUNCHES = 6, 40
LEAST = 1e-9  # a slowdown that is none


@pytest.fixture(scope="module")
def accepted(tmp_path_factory):
    """A folder of baselines with the cell's ratio over launches."""
    folder = tmp_path_factory.mktemp("baselines")
    asked = ["--update-baselines", f"--launches={LAUNCHES}", f"--baselines={folder}"]
    run = run_suite(tmp_path_factory.mktemp("accept"), *nodes("latency", [CELL]), *asked, environment=GRID)
    assert run.status == 0, run.output
    return folder


@pytest.fixture(scope="module")
def slowed(accepted, tmp_path_factory):
    """(the run that compared a slowed cell, its folder)."""
    folder = tmp_path_factory.mktemp("slowed")
    broken = ["-p", "suites.meta.planting", plant(CELL, "after", "latency_faults.slowed_by_a_quarter")]
    asked = [f"--baselines={accepted}", "-o", f"cache_dir={folder / 'cache'}", "--spec-lines", "--benchmark-compare"]
    return run_suite(folder, *broken, *nodes("latency", [CELL]), *asked, environment=GRID), folder


def values_of(folder):
    """What was accepted of the cell."""
    [path] = folder.glob("cpu/*/latency.json")
    [cell] = json.loads(path.read_text())["cells"].values()
    return cell["values"]


def test_accepting_keeps_the_ratio_of_launches_with_its_spread(accepted):
    values = values_of(accepted)
    assert values["drawn_launches"]["value"] == 2 * values["drawn_layouts"]["value"]
    # Where the kernel lets memory be laid out alike, there is a second ratio, of that layout.
    assert values.get("paired_launches", {"value": LAUNCHES})["value"] == LAUNCHES
    assert values["drawn_decode"]["spread"] > 0
    assert values["count_tokens"]["value"] == int(GRID["output"])


def test_a_slowdown_fails_its_own_test_and_names_the_metric(accepted, slowed):
    run, _ = slowed
    assert run.tests[latency(CELL)][:2] == ("FAIL", "failure"), run.output
    line = run.line(latency(CELL), "decode")
    assert "FAIL" in line
    for words in ("%", "launches", "smallest detectable", "budget 5 %"):
        assert words in line
    assert "paired launches decide" in run.line(latency(CELL), "screen")
    if "paired_layout" in values_of(accepted):  # this kernel lets memory be laid out alike, and the stack is the same
        assert "memory layouts" not in run.line(latency(CELL), "screen")
    assert "--benchmark-compare" in next(line for line in run.output.splitlines() if "reproduce: " in line)


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


def test_a_planted_slowdown_is_measured_for_what_it_is():
    """The proof of the gate in short: a busy loop of a tenth of each step, and none, in the same launches.

    There are as many as the noise of this machine makes necessary.
    """
    cell = next(cell for cell in load_matrix().all_cells() if cell.id == CELL)
    stage = Stage(Settings(faults={CELL: {"fault_after": "suites.meta.latency_faults:slowed"}}))
    seen, ratios = {}, {LEAST: [], 0.1: []}
    try:
        pairing = Pairing(stage, cell, grid_for(cell), layouts=1)
        pairing.count(2)  # imports both stacks
        while not seen or (max(one.error for one in seen.values()) > 0.01 and len(ratios[LEAST]) < MOST_LAUNCHES):
            for launch in prove_latency.measure(pairing, len(ratios[LEAST]), pairing.lanes(), levels=(0.0, *ratios)):
                for level, values in ratios.items():
                    values.append(launch_ratios(launch[level], launch[0.0])["decode_typical"])
            if len(ratios[LEAST]) >= FEW:
                seen = {level: estimate(values) for level, values in ratios.items()}
    finally:
        stage.close()
    assert abs(math.expm1(seen[LEAST].median)) < 0.04
    assert 0.06 < math.expm1(seen[0.1].median) < 0.14


def test_a_stack_beside_itself_is_as_fast_and_as_close(tmp_path):
    cell = "opt-6.7b-fp32-cpu-single"
    run = run_suite(tmp_path, *nodes("against", [cell]), f"--against={sys.executable}", environment=GRID)
    name = f"test_against[{cell}]"
    # A machine that is busy with something else may leave it undecided, which is no pass and no fail.
    assert run.verdict(name) in ("PASS", "INCONCLUSIVE"), run.output
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
