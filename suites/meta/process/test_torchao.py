"""INT4 by torchao in a worker of the stock stack: what it holds, what its kernels compute, and planted faults."""

import subprocess

import pytest

from fixtures.checks.int4 import against_oracle, fitting_schemes, kernel_of
from fixtures.checks.tolerances import tolerances
from fixtures.engine.stack_modules import modules_for
from fixtures.matrix import load_matrix
from fixtures.measure.int4_torchao import apart
from fixtures.measure.parameters import parameters
from fixtures.weights.inspection import check_folder
from fixtures.weights.int4_format import read_stored
from fixtures.weights.reading import Tensors
from fixtures.weights.torchao_format import check_torchao, saved_weights
from fixtures.worker.environment import base_environment
from fixtures.worker.pool import ForkServer, Worker
from fixtures.worker.termination import RecipeError
from suites.meta.harness.inner import ROOT, stock_python

pytestmark = pytest.mark.nightly

MATRIX = load_matrix()
ENGINE, MODEL = MATRIX.engines["torchao-int4"], MATRIX.model("llama-3-8b")
BOUND, SCHEME = tolerances()["int4"], "float zero bf16"
FAULTS = "suites.meta.faults.int4:torchao_"


@pytest.fixture(scope="module")
def start():
    """A function that starts a fresh worker."""
    python = stock_python()
    fork_server, workers = ForkServer(modules_for("cpu", "optimised", engine=ENGINE), str(python)), []

    def started():
        workers.append(Worker(fork_server, [{}]))
        return workers[-1]

    yield started
    for worker in workers:
        worker.close()
    fork_server.close()


@pytest.fixture(scope="module")
def worker(start):
    return start()


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


def test_what_is_imported_before_the_fork_has_not_looked_for_torchao():
    """On accelerators it is kept out until then, and transformers remembers its answer."""
    python = stock_python()
    code = (
        "import sys; sys.modules['torchao'] = None; import fixtures.engine.service; "
        "from transformers.utils.import_utils import is_torchao_available as look; print(look.cache_info().currsize)"
    )
    done = subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "0"


def test_torchao_leaves_the_folder_of_what_was_compiled(worker):
    """It imports torch's compiler, which settles on a folder for good."""
    found = worker.call("call", 60, function="suites.meta.harness.torchao_steps:compiled_folder").message["result"]
    assert found == base_environment()["TORCHINDUCTOR_CACHE_DIR"]


@pytest.mark.parametrize("group", [32, 64, 128])
def test_every_integer_is_that_of_the_scheme_and_kernels_compute_with_it(worker, load, group):
    stored, parents = load(group)
    lines = against_oracle(stored, parents, SCHEME, BOUND)
    assert [line.verdict for line in lines] == ["PASS", "PASS"], lines
    assert fitting_schemes(stored, parents, BOUND) == [SCHEME]
    table = parameters()["int4"]
    request = {"names": list(stored)[:7], "rows": table["rows"], "seed": table["seed"]}
    outputs = worker.call("int4_outputs", 300, name="candidate", **request).arrays
    line = kernel_of(stored, outputs, "bf16", BOUND)
    assert line.verdict == "PASS", line


@pytest.mark.parametrize("spread", [1.0, 0.02, 2e-4])
def test_the_steps_for_intel_gpus_are_those_of_the_oracle(worker, spread):
    """torchao's own functions run on the host here; no Intel GPU rounded anything."""
    request = {"function": "suites.meta.harness.torchao_steps:differences", "spread": spread}
    found = worker.call("call", 60, **request).message["result"]
    assert (found["integers"], found["scales"], found["zeros"], found["small"]) == (0, 0, 0, 0)


def test_groups_that_span_too_little_for_fp16_are_lost_on_intel_gpus(worker):
    """A finding about torchao 0.18 (docs/engines.md): delete both when a later release passes."""
    request = {"function": "suites.meta.harness.torchao_steps:differences", "spread": 2e-5}
    found = worker.call("call", 60, **request).message["result"]
    assert (found["scales"], found["zeros"], found["apart"]) == (0, 0, 0)
    assert found["lost"] == found["small"] > 0


@pytest.mark.parametrize(
    ("device_type", "form"), [("xpu", "Int4PlainInt32Tensor"), ("cuda", "Int4TilePackedTo4dTensor")]
)
def test_the_form_of_a_device_is_saved_and_comes_back_in_a_fresh_process(runtime, start, tmp_path, device_type, form):
    """Files and processes are real; numbers are drawn, since a host can neither pack nor compute in these forms."""
    saving, fresh = start(), start()
    common = {"engine": ENGINE.recipe, "group": 64, "aligned": True}
    drawn = f"suites.meta.faults.int4:torchao_packs_as_on_{device_type}"
    spec = runtime.weights.spec(MODEL, "cpu", "optimised", "int4", **common, fault_first=drawn)
    assert saving.call("load", 300, name="candidate", spec=spec).message["proof"]["int4_linears"] > 0
    memory = saving.call("to_be_saved", 300, name="candidate").message["tensors"]
    weights, folder = runtime.weights.of(MODEL, "cpu"), tmp_path / "saved"
    tokenizer = {"tokenizer": weights.folder, "source": weights.tokenizer_source}
    saving.call("save", 300, name="candidate", folder=str(folder), **tokenizer)
    check_folder(folder)
    check_torchao(folder)
    said = [text["_type"] for text in saved_weights(folder).values()]
    assert {kind for kind in said if kind.startswith("Int4")} == {form}
    assert apart(memory, Tensors(folder)) == []
    source = {"folder": str(folder), "local": True, "saved": True}
    spec = runtime.weights.spec(MODEL, "cpu", "optimised", "int4", **common, **source)
    fresh.call("load", 300, name="candidate", spec=spec)
    assert fresh.call("to_be_saved", 300, name="candidate").message["tensors"] == memory
    # transformers-5-second-torchao-save of baselines/waivers.toml
    with pytest.raises(RecipeError, match="NotImplementedError"):
        fresh.call("save", 300, name="candidate", folder=str(tmp_path / "again"), **tokenizer)


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
