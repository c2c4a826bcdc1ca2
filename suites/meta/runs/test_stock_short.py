"""Stock engines with short prompts and narrow miniatures: a model of each family eagerly, and one by torchao.

`make nightly` has whole cells of them, and compiled ones.
"""

import sys

import pytest

from fixtures.matrix import load_matrix
from suites.meta.harness.inner import ROOT, SHORT, generation, nodes, run_suite

NARROW = ("-p", "suites.meta.harness.narrow")
EAGER = [
    cell.id
    for cell in load_matrix().cells(["cpu"], ["eager"])
    if cell.model.representative and (cell.precision, cell.mode) == ("fp32", "single")
]
TORCHAO = "llama-2-7b-int4-cpu-single-torchao-int4"
STOCK = ROOT / ".venv-stock" / "bin" / "python"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    stock = f"--stock-python={sys.executable}"
    return run_suite(tmp_path_factory.mktemp("stock"), *NARROW, stock, *nodes("generation", EAGER))


@pytest.mark.parametrize("cell", EAGER)
def test_a_cell_gives_the_references_answers(run, cell):
    assert run.verdict(generation(cell)) == "PASS", run.output


def test_integers_and_kernels_of_torchao_are_right(tmp_path):
    if not STOCK.exists():
        pytest.skip("stock PyTorch is not installed in .venv-stock: run `make .venv-stock`")
    run = run_suite(tmp_path, *SHORT, f"--stock-python={STOCK}", *nodes("int4_run", [TORCHAO], "quantization"))
    assert run.verdict(f"test_int4_run[{TORCHAO}]") == "PASS", run.output
