"""Accepting values and comparing with them, end to end: four real cells timed twice, baselines doctored in between."""

import json

import pytest

from suites.meta.harness.inner import generation, latency, nodes, run_suite
from suites.meta.runs.test_cli import refused

pytestmark = pytest.mark.nightly

SAME, SLOWER, MISSING, ELSEWHERE = CELLS = [
    "llama-2-7b-fp32-cpu-single",
    "llama-2-13b-fp32-cpu-single",
    "opt-6.7b-fp32-cpu-single",
    "opt-30b-fp32-cpu-single",
]
GRID = {"beam": "1", "output": "8", "iter": "5"}  # by the environment, as the specification's scripts have it
VARIANT = "@b1-bs1-in32-out8"


def accepted_file(folder):
    [path] = folder.glob("cpu/*/latency.json")
    return path


@pytest.fixture(scope="module")
def accepting(tmp_path_factory):
    """(folder of baselines, the run that accepted into it)."""
    folder = tmp_path_factory.mktemp("baselines")
    results = tmp_path_factory.mktemp("first")
    cells = nodes("latency", CELLS)
    run = run_suite(results, *cells, "--update-baselines", f"--baselines={folder}", environment=GRID)
    return folder, run, results


@pytest.fixture(scope="module")
def comparing(accepting, tmp_path_factory):
    """The run that compared, after one value was made unreachable, one deleted and one given to another machine.

    It also selects for a generation, whose baselines are torn.
    """
    folder, _, _ = accepting
    path = accepted_file(folder)
    data = json.loads(path.read_text())
    for metric in ("fastest", "ratio_to_stock"):
        data["cells"][SLOWER + VARIANT]["values"][metric]["value"] /= 10
    del data["cells"][MISSING + VARIANT]
    moved = data["cells"].pop(ELSEWHERE + VARIANT)
    path.write_text(json.dumps(data))
    other = folder / "cpu" / "another-machine-0" / "latency.json"
    other.parent.mkdir()
    other.write_text(json.dumps({**data, "key": "another-machine-0", "cells": {ELSEWHERE + VARIANT: moved}}))
    for level in ("generic", "avx2", "avx512", "avx512_bf16", "amx"):
        (folder / "cpu" / level).mkdir(exist_ok=True)
        (folder / "cpu" / level / "generation.json").write_text('{"schema": 1,')
    cells = nodes("latency", CELLS) + nodes("generation", [SAME])
    results = tmp_path_factory.mktemp("second")
    return run_suite(results, *cells, f"--baselines={folder}", "--benchmark-compare", environment=GRID)


def test_accepting_writes_every_cell_with_its_origin(accepting):
    folder, run, _ = accepting
    data = json.loads(accepted_file(folder).read_text())
    assert run.status == 0
    assert set(data["cells"]) == {cell + VARIANT for cell in CELLS}
    for cell in data["cells"].values():
        origin = data["provenance"][cell["provenance"]]
        assert {"commit", "machine", "versions", "command", "date"} <= set(origin)
        assert cell["n"] == 5
        assert {"end_to_end", "first_token", "next_token_mean", "next_token_p90", "next_token_p99"} <= set(
            cell["values"]
        )
        assert {"tokens_per_second", "peak_memory", "ratio_to_stock"} <= set(cell["values"])
        assert cell["values"]["end_to_end"]["spread"] > 0
    assert run.output.count("accepted: ") >= 4


def test_every_finished_cell_is_in_the_journal(accepting):
    _, _, results = accepting
    records = [json.loads(line) for line in (results / "journal.jsonl").read_text().splitlines()]
    opening, *tests, closing = records
    assert [opening["kind"], closing["kind"]] == ["run", "end"]
    assert [record["cell"] for record in tests] == CELLS
    assert all(record["metrics"]["fastest"][0] > 0 for record in tests)


@pytest.mark.parametrize(("name", "verdicts", "outcome"), [
    (SAME, {"PASS", "INCONCLUSIVE"}, None),  # one noisy figure alone may not fail a cell
    (SLOWER, {"INCONCLUSIVE"}, "skipped"),  # without replicates the wall clock of a host fails nothing
    (MISSING, {"NO_BASELINE"}, "skipped"),
    (ELSEWHERE, {"INCOMPARABLE"}, "skipped"),
])  # fmt: skip
def test_each_cell_is_compared_with_its_own_values(comparing, name, verdicts, outcome):
    seen, reported, message, _ = comparing.tests[latency(name)]
    assert seen in verdicts
    assert outcome in (None, reported)
    assert seen == "PASS" or seen in message, "JUnit has to say it, too"


def test_the_sum_says_what_was_not_compared(comparing):
    assert comparing.status == 1
    assert "1 FAIL" in comparing.output  # the torn baselines
    assert "INCONCLUSIVE" in next(line for line in comparing.output.splitlines() if line.startswith("expected "))
    assert "1 INCOMPARABLE" in comparing.output
    assert "1 NO_BASELINE" in comparing.output


def test_a_corrupt_baseline_is_one_sentence(comparing):
    assert comparing.verdict(generation(SAME)) == "FAIL"
    refused(comparing, "generation.json", "git checkout")
