"""INT4 by torchao in a worker of the stock stack: what it holds, what its kernels compute, and planted faults."""

import pytest

from fixtures.checks.int4 import against_oracle, fitting_schemes, kernel_errors, kernel_line
from fixtures.checks.tolerances import tolerances
from fixtures.engine.stack_modules import modules_for
from fixtures.matrix import load_matrix
from fixtures.measure.parameters import parameters
from fixtures.weights.int4_format import read_stored
from fixtures.worker.pool import ForkServer, Worker
from suites.meta.harness.inner import ROOT

pytestmark = pytest.mark.nightly

PYTHON = ROOT / ".venv-stock" / "bin" / "python"
MATRIX = load_matrix()
ENGINE, MODEL = MATRIX.engines["torchao-int4"], MATRIX.model("llama-3-8b")
BOUND, SCHEME = tolerances()["int4"], "float zero"
FAULTS = "suites.meta.faults.int4:torchao_"


@pytest.fixture(scope="module")
def worker():
    if not PYTHON.exists():
        pytest.skip("stock PyTorch is not installed in .venv-stock: run `make .venv-stock`")
    fork_server = ForkServer(modules_for("cpu", "optimised", engine=ENGINE), str(PYTHON))
    worker = Worker(fork_server, [{}])
    yield worker
    worker.close()
    fork_server.close()


@pytest.fixture
def load(runtime, worker):
    """load(group, fault): {linear: Quantised} of the miniature, quantised in groups, and its float weights."""

    def loaded(group=64, fault=None):
        more = {"engine": ENGINE.recipe, "group": group, "fault_after": fault and FAULTS + fault}
        spec = runtime.weights.spec(MODEL, "cpu", "optimised", "int4", **more)
        proof = worker.call("load", 300, name="candidate", spec=spec).message["proof"]
        assert proof["plain_linears"] == [MODEL.arch.head]
        stored = read_stored(worker.call("int4_stored", 300, name="candidate").arrays)
        assert {found.group for found in stored.values()} == {group}
        return stored, runtime.weights.tensors_of(runtime.weights.of(MODEL, "cpu"))

    return loaded


@pytest.mark.parametrize("group", [32, 64, 128])
def test_every_integer_is_that_of_the_scheme_and_kernels_compute_with_it(worker, load, group):
    stored, parents = load(group)
    lines = against_oracle(stored, parents, SCHEME, BOUND)
    assert [line.verdict for line in lines] == ["PASS", "PASS"], lines
    assert fitting_schemes(stored, parents, BOUND) == [SCHEME]
    table = parameters()["int4"]
    request = {"names": list(stored)[:7], "rows": table["rows"], "seed": table["seed"]}
    outputs = worker.call("int4_outputs", 300, name="candidate", **request).arrays
    line = kernel_line(kernel_errors(stored, outputs, BOUND["width"]), BOUND["kernel"]["none"])
    assert line.verdict == "PASS", line


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("scale_doubled", "scales"),
        ("zero_moved", "scales"),
        ("groups_swapped", "scales"),
        ("integers_swapped", "integers"),
    ],
)
def test_a_planted_fault_is_reported(load, fault, check):
    stored, parents = load(fault=fault)
    assert check in [line.check for line in against_oracle(stored, parents, SCHEME, BOUND) if line.verdict == "FAIL"]
