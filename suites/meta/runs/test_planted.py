"""One run of the suite with broken models among sound ones: every fault gets its verdict, every other cell runs."""

import pytest

from fixtures.results import numerics_key
from suites.meta.harness.arithmetic import parameters, possible
from suites.meta.harness.inner import ROOT, generation, nodes, plant, run_suite
from suites.meta.harness.processes import of_the_suite

pytestmark = pytest.mark.nightly

DEADLINE = 8  # seconds, several times what the slowest sound answer takes
# cell -> (when the recipe breaks it, the fault, the verdict of the cell, the check that has to say so)
PLANTED = {
    "llama-2-7b-fp32-cpu-single": ("before", "rope_base_doubled", "FAIL", "logits"),
    "llama-2-7b-bf16-cpu-single": ("before", "rope_base_doubled", "FAIL", "logits"),
    "llama-2-13b-bf16-cpu-single": ("before", "head_zeroed", "FAIL", "logits"),
    "llama-3-8b-bf16-cpu-single": ("before", "weights_rounded_to_six_bits", "FAIL", "logits"),
    "llama-3.2-1b-bf16-cpu-single": ("after", "ipex_cache_shifted", "FAIL", "logits"),
    "llama-3.2-1b-fp32-cpu-single": ("before", "not_a_number", "FAIL", "finite"),
    "mistral-7b-bf16-cpu-single": ("before", "optimise_is_a_no_op", "NOT_OPTIMISED", "optimised"),
    "mistral-7b-fp32-cpu-single": ("after", "mask_dropped", "FAIL", "left_padding"),
    "qwen2-7b-bf16-cpu-single": ("before", "query_off_by_half_a_percent", "FAIL", "regression"),
    "qwen2-7b-fp32-cpu-single": ("before", "hang", "HANG", "runs"),
    "qwen2-7b-int4-cpu-single": ("after", "one_linear_left_unquantised", "NOT_OPTIMISED", "quantised"),
    "opt-6.7b-fp32-cpu-single": ("before", "segfault", "CRASHED", "runs"),
    "opt-6.7b-bf16-cpu-single": ("before", "sigkill", "CRASHED", "runs"),
    "opt-30b-fp32-cpu-single": ("before", "silent_exit", "CRASHED", "runs"),
    "opt-30b-bf16-cpu-single": ("before", "out_of_memory", "OOM", "runs"),
    "gpt-j-6b-fp32-cpu-single": ("before", "a_python_error", "FAIL", "runs"),
}
# Of INT4 and by another suite: test -> (when, fault).
ENGINE, NATIVE = "test_int4_reload[llama-2-7b-int4-cpu-single]", "test_int4_native[llama-2-13b-int4-cpu-single]"
INT4 = {ENGINE: ("first", "int4.engine_left_set"), NATIVE: ("before", "optimise_is_a_no_op")}
SOUND = ["llama-2-13b-fp32-cpu-single", "llama-3-8b-fp32-cpu-single", "gpt-j-6b-bf16-cpu-single"]
ASKED = possible([*PLANTED, *SOUND])
DETAILS = {
    "segfault": "CRASHED(SIGSEGV)",
    "sigkill": "CRASHED(SIGKILL)",
    "hang": f"HANG(no answer within {DEADLINE} s)",
    "silent_exit": "CRASHED(exit 0 without an answer)",
    "out_of_memory": "OOM(MemoryError)",
    "a_python_error": "RuntimeError: planted",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    plants = [plant(cell, when, fault) for cell, (when, fault, *_) in PLANTED.items()]
    plants += [plant(test.partition("[")[2][:-1], when, fault) for test, (when, fault) in INT4.items()]
    cells = nodes("generation", ASKED) + [f"suites/test_quantization.py::{test}" for test in INT4]
    before = of_the_suite()
    folder = tmp_path_factory.mktemp("run")
    result = run_suite(folder, "-p", "suites.meta.harness.planting", *plants, f"--deadline={DEADLINE}", *cells)
    result.tests["left behind"] = of_the_suite() - before
    return result


def accepted_here():
    """Whether baselines/ has ratios for this machine's arithmetic, without which nothing can rise above them."""
    return (ROOT / "baselines" / "cpu" / numerics_key("cpu") / "generation.json").exists()


@pytest.mark.parametrize("broken", parameters(PLANTED))
def test_a_planted_fault_gets_its_verdict(run, broken):
    _, fault, verdict, check = PLANTED[broken]
    if check == "regression" and not accepted_here():
        pytest.skip("no accepted ratios for this machine's arithmetic: pytest --update-baselines")
    assert run.verdict(generation(broken)) == verdict
    line = run.line(generation(broken), check)
    assert verdict in line, f"{check} should have said {verdict}:\n{run.tests[generation(broken)][2]}"
    assert DETAILS.get(fault, "") in line
    assert f"reproduce: pytest 'suites/test_generation.py::test_generation[{broken}]'" in run.output


@pytest.mark.parametrize("sound", parameters(SOUND))
def test_every_other_cell_still_runs(run, sound):
    assert run.verdict(generation(sound)) == "PASS", "conformance needs no accepted values"


def test_a_wrong_engine_and_a_native_no_op_are_seen(run):
    assert "FAIL          IPEX_COMPUTE_ENG 4 in force" in run.line(ENGINE, "engine")
    assert run.verdict(NATIVE) == "NOT_OPTIMISED"


def test_a_run_with_faults_fails_and_adds_up(run):
    assert run.status == 1
    assert f"expected {len(ASKED) + len(INT4)} = " in run.output
    assert "NEVER RAN" not in run.output


def test_no_process_outlives_the_run(run):
    assert run.tests["left behind"] == set()
