"""Stock engines with short prompts and narrow miniatures: a model of each family eagerly, one compiled, one by torchao.

`make nightly` has whole eager cells, and faults of each.
"""

import pytest

from fixtures.matrix import load_matrix
from suites.meta.harness.inner import generation, nodes, run_suite, stock_python

NARROW = ("-p", "suites.meta.harness.narrow")
EAGER = [
    cell.id
    for cell in load_matrix().cells(["cpu"], ["eager"])
    if cell.model.representative and (cell.precision, cell.mode) == ("fp32", "single")
]
COMPILED = "llama-2-7b-fp32-cpu-single-compile"
TORCHAO = "llama-2-7b-int4-cpu-single-torchao-int4"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    stock = stock_python()
    cells = [*EAGER, COMPILED, TORCHAO]
    tests = [*nodes("generation", cells), *nodes("int4_run", [TORCHAO], "quantization")]
    return run_suite(tmp_path_factory.mktemp("stock"), *NARROW, f"--stock-python={stock}", *tests)


@pytest.mark.parametrize("cell", EAGER)
def test_an_eager_cell_gives_the_references_answers(run, cell):
    expected = "UNSUPPORTED" if cell.startswith("baichuan2") else "PASS"  # whose own code transformers 5 cannot run
    assert run.verdict(generation(cell)) == expected, run.output


@pytest.mark.parametrize("cell", [COMPILED, TORCHAO])
def test_a_cell_of_another_engine_does(run, cell):
    assert run.verdict(generation(cell)) == "PASS", run.output


def test_integers_and_kernels_of_torchao_are_right(run):
    assert run.verdict(f"test_int4_run[{TORCHAO}]") == "PASS", run.output
