"""Each fault of what runs turns its check red and names the operation; sound models differ in nothing."""

import dataclasses
import types

import pytest

from fixtures.checks.dispatch import check_dispatch
from fixtures.matrix import load_matrix
from fixtures.measure import placement
from fixtures.measure.candidate import Candidate
from fixtures.measure.dispatch import Dispatch, difference_from, trace_of
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings
from fixtures.results.accepted import AcceptedTraces
from fixtures.results.recording import Recorder
from fixtures.results.traces import TraceFiles
from suites.meta.harness.arithmetic import HAS_BF16, needs_bf16

pytestmark = pytest.mark.nightly

BEAMS = 4
FLOAT = "bf16" if HAS_BF16 else "fp32"
GRAPH, FULL = f"llama-2-7b-{FLOAT}-cpu-single", "llama-2-7b-fp32-cpu-single"
INT4, RANKS = "llama-2-7b-int4-cpu-single", "llama-2-7b-bf16-cpu-autotp"
PLAIN, STATIC = {"plain": True}, {"plain": True, "cache": "static"}
ON_GRAPHS, OF_COPIES = "layer 1 of 2, by position", "came: 1 x clone i64[1,1]"


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault: in which cell, loaded how, what its line must say, and checks beside its own that may turn red."""

    cell: str
    how: dict
    check: str
    said: tuple
    others: tuple = ()
    function: str | None = None
    when: str = "after"
    environment: dict = dataclasses.field(default_factory=dict)


CALLS = ("python_calls",)  # an operation that Python calls is a Python call, too
FAULTS = {
    "one_copy_more": Fault(GRAPH, {}, "operations", ("decode 1: operation", "clone i64[1,1]", OF_COPIES), CALLS),
    "linear_in_fp32": Fault(
        f"llama-2-7b-{FLOAT}-cpu-single",
        PLAIN,
        "operations",
        ("prefill: operation", "layer 1 of 2: model.layers.1.mlp.down_proj", "_to_copy bf16[1,L,1024]"),
        (*CALLS, "kernels"),
    ),
    "attention_by_the_math_path": Fault(
        GRAPH, PLAIN, "operations", ("layer 0 of 2: model.layers.0.self_attn", "_math"), ("kernels",)
    ),
    "second_layer_not_optimised": Fault(
        GRAPH, {}, "operations", (ON_GRAPHS, "where torch_ipex::", "went: "), (*CALLS, "kernels"), when="before"
    ),
    "int4_linear_dequantises_first": Fault(
        INT4,
        {},
        "operations",
        ("layer 1 of 2: model.layers.1.mlp.down_proj", "went: 1 x torch_ipex::ipex_woq_linear"),
        (*CALLS, "kernels"),
    ),
    "static_cache_is_dynamic": Fault(INT4, {"cache": "static"}, "operations", ("index_copy_",), (*CALLS, "kernels")),
    "one_all_reduce_more": Fault(
        RANKS, {}, "operations", ("collective inference_all_reduce bfloat16 16 bytes",), CALLS
    ),
    "all_reduce_in_fp32": Fault(
        RANKS,
        PLAIN,
        "operations",
        ("model.layers.1.mlp.down_proj", "came: 1 x collective inference_all_reduce float32 75776 bytes"),
        (*CALLS, "kernels"),
    ),
    "one_recompilation_a_step": Fault(
        FULL, PLAIN, "graphs", ("prefill: 1 graphs compiled where 0",), (*CALLS, "operations")
    ),
    "fifty_python_calls_more": Fault(GRAPH, {}, "python_calls", ("decode 1: ", "(+50)", "decode 2")),
    "one_norm_fewer": Fault(
        GRAPH, PLAIN, "operations", ("layer 1 of 2: model.layers.1.", "went: ", "pow f32[1,L,512]"), (*CALLS, "kernels")
    ),
    "instruction set of oneDNN": Fault(
        FULL,
        {},
        "kernels",
        ("prefill: kernel 1 of", "avx2", "where inner_product brgemm:avx512"),
        function="",
        environment={"ONEDNN_MAX_CPU_ISA": "AVX2"},
    ),
    "instruction set of libxsmm": Fault(
        GRAPH,
        {},
        "kernels",
        ("libxsmm is set to clx where ",),
        function="",
        environment={"LIBXSMM_TARGET": "clx"},
    ),
}


@pytest.fixture(scope="module")
def tracer(tmp_path_factory):
    """(candidate by a cell's name and how it is loaded, accepted traces of sound ones by the same): made once."""
    runtime = Runtime(Settings())
    cells = {cell.id: cell for cell in load_matrix().cells(["cpu"])}
    accepted = {}

    def load(name, how, **more):
        more |= {key: value for key, value in how.items() if key != "cache"}
        cell = cells[name]
        return Candidate(runtime, cell, placement.world(cell), **more).loaded()

    def traced(name, how, **more):
        candidate = load(name, how, **more)
        try:
            return trace_of(runtime, candidate, BEAMS, how.get("cache"))
        finally:
            candidate.close()

    def sound(name, how):
        key = (name, *sorted(how.items()))
        if key not in accepted:
            files = TraceFiles(tmp_path_factory.mktemp("baselines"))
            store = traces_in(files)
            measured = Dispatch(cells[name], traced(name, how))
            store.record(cells[name], check_dispatch(measured, None, accepting=True), measured, lambda check: False)
            store.recorder.take(keep=True)
            files.commit({})
            accepted[key], comparable = store.find(cells[name])
            assert comparable
        return accepted[key]

    yield types.SimpleNamespace(runtime=runtime, cells=cells, load=load, traced=traced, sound=sound)
    runtime.close()


def traces_in(files):
    """AcceptedTraces that accept into `files`, under one key."""
    key = types.SimpleNamespace(key=lambda suite, cell: "here")
    return AcceptedTraces(files, True, key, Recorder(None, None, files))


def marks(fault):
    return needs_bf16 if "-bf16-" in fault.cell or fault.check == "kernels" else ()


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(FAULTS[name])) for name in FAULTS])
def test_a_planted_fault_is_named(tracer, name):
    fault = FAULTS[name]
    function = name if fault.function is None else fault.function
    planted = {f"fault_{fault.when}": f"suites.meta.faults.dispatch:{function}"} if function else {}
    accepted = tracer.sound(fault.cell, fault.how)
    trace = tracer.traced(fault.cell, fault.how, environment=fault.environment, **planted)
    lines = {line.check: line for line in check_dispatch(Dispatch(tracer.cells[fault.cell], trace), accepted)}
    print("\n".join(map(str, lines.values())))
    assert lines[fault.check].verdict == "FAIL", lines[fault.check]
    for words in fault.said:
        assert words in lines[fault.check].measured
    red = {check for check, line in lines.items() if line.verdict != "PASS"}
    assert red <= {fault.check, *fault.others}, lines


@pytest.mark.parametrize("name", [pytest.param(GRAPH), pytest.param(INT4), pytest.param(RANKS, marks=needs_bf16)])
def test_a_sound_model_in_another_process_differs_in_nothing(tracer, name):
    accepted = tracer.sound(name, {})
    candidate = tracer.load(name, {})
    try:
        assert difference_from(accepted, tracer.runtime, candidate, BEAMS) is None
        prompts = [list(range(5, 77)), list(range(9, 81))]
        candidate.call("greedy", runs=[{"prompts": prompts, "cache": "dynamic"}], new_tokens=9)
        candidate.call("beams", prompts=prompts[:1], new_tokens=5, beams=2)
        assert difference_from(accepted, tracer.runtime, candidate, BEAMS) is None, "what ran before must not matter"
    finally:
        candidate.close()
