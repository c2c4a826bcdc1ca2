"""One model of each family by stock PyTorch, with short prompts; `make nightly` has whole cells of two of them."""

import sys

import pytest

from fixtures.matrix import load_matrix
from suites.meta.harness.inner import SHORT, generation, nodes, run_suite

NARROW = ("-p", "suites.meta.harness.narrow")
CELLS = [
    cell.id
    for cell in load_matrix().cells(["cpu"], ["eager"])
    if cell.model.representative and (cell.precision, cell.mode) == ("fp32", "single")
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    stock = f"--stock-python={sys.executable}"
    return run_suite(tmp_path_factory.mktemp("eager"), *SHORT, *NARROW, stock, *nodes("generation", CELLS))


@pytest.mark.parametrize("cell", CELLS)
def test_a_model_of_each_family_gives_the_references_answers(run, cell):
    assert run.verdict(generation(cell)) == "PASS", run.output
