"""A whole run on a device that is too small: the verdict says so, or how the cell was run all the same."""

import pytest

from fixtures.matrix import load_matrix
from fixtures.matrix.memory import GIB, Plan, Sizes, required
from fixtures.measure import placement
from fixtures.weights.miniature import shrink
from suites.meta.harness.inner import generation, nodes, run_suite

CELL = next(cell for cell in load_matrix().all_cells() if cell.id == "llama-2-7b-fp32-cpu-single")
PLUGIN = ["-p", "suites.meta.harness.small_device"]


def run_on(folder, memory):
    return run_suite(folder, *PLUGIN, *nodes("generation", [CELL.id]), environment={"DEVICE_MEMORY": str(memory)})


def test_a_cell_that_does_not_fit_is_unsupported_by_both_numbers(tmp_path):
    run = run_on(tmp_path, GIB)
    verdict, outcome, message, _ = run.tests[generation(CELL.id)]
    assert (run.status, verdict, outcome) == (0, "UNSUPPORTED", "skipped")
    assert "needs 1.8 GiB, has 1.0 GiB on the device" in message


@pytest.mark.nightly
def test_a_cell_that_fits_one_after_the_other_passes_and_says_so(tmp_path):
    small = shrink(CELL.model.geometry, "head_dim" in dict(CELL.model.arch.config))
    sizes = Sizes(CELL, placement.works("generation", small), small, drawn=False, stored=4)
    run = run_on(tmp_path, required(sizes, "generation", Plan(in_turn=True)))
    assert run.verdict(generation(CELL.id)) == "PASS"
    assert "one after the other (all at once needs" in (tmp_path / "journal.jsonl").read_text()
