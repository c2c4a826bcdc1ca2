"""INT4 with faults in the stack and in saved checkpoints, one run: each gets its verdict, and the run goes on."""

import pytest

from suites.meta.harness.inner import nodes, plant, run_suite

pytestmark = pytest.mark.nightly

# Faults of the stack, judged by flow (a): cell -> (when, fault, verdict, the check that has to say so).
STACK = {
    "llama-2-7b": ("first", "int4.scale_of_one_group_doubled", "FAIL", "scales"),
    "llama-2-13b": ("first", "int4.zero_point_off_by_one", "FAIL", "integers"),
    "llama-2-70b": ("first", "int4.two_groups_swapped", "FAIL", "scales"),
    "llama-3-8b": ("first", "int4.nibbles_swapped", "FAIL", "integers"),
    "llama-3-70b": ("first", "int4.group_of_64_read_as_32", "FAIL", "integers"),
    "llama-3.2-1b": ("after", "one_linear_left_unquantised", "NOT_OPTIMISED", "quantised"),
    "llama-3.2-3b": ("first", "int4.silently_unquantised", "NOT_OPTIMISED", "quantised"),
    "llama-3.3-70b": ("first", "int4.head_quantised_too", "NOT_OPTIMISED", "quantised"),
}
# Faults in the folder or the second worker, judged by flow (c): cell -> (when, fault, verdict, check, words).
DISK = {
    "phi-3-mini-4k": ("in_folder", "int4.truncated", "FAIL", "checkpoint", "model.safetensors holds"),
    "phi-3-mini-128k": ("in_folder", "int4.byte_of_integers_flipped", "FAIL", "bits", "1 of"),
    # A low bit of an fp32 scale, which loading rounds to fp16: nothing but the digest can tell.
    "phi-3.5-mini": ("in_folder", "int4.byte_of_scales_flipped", "FAIL", "intact", "model.safetensors"),
    "mistral-7b": ("in_folder", "int4.byte_of_zeros_flipped", "FAIL", "intact", "model.safetensors"),
    "gpt-j-6b": ("in_folder", "int4.wrong_group_size", "FAIL", "checkpoint", "group_size = 32"),
    "qwen2-7b": ("in_folder", "int4.foreign_method", "FAIL", "checkpoint", "quant_method = 'bitsandbytes'"),
    "qwen2-7b-instruct": ("in_folder", "int4.config_missing", "FAIL", "checkpoint", "config.json is missing"),
    "qwen2.5-7b": ("in_folder", "int4.scales_of_one_linear_missing", "FAIL", "checkpoint", ".scales"),
    # A norm that nothing fills holds what was in memory: not a number on one host, another number on the next.
    "qwen3-4b": ("in_folder", "int4.norm_missing", "FAIL", "logits", "relative difference"),
    "qwen3-8b": ("in_folder", "int4.norm_of_another_width", "CRASHED", "runs", "size mismatch"),
}
UNQUANTISED = "llama-3.2-3b"  # of STACK; must not be saved as INT4 either


def cell(model):
    return f"{model}-int4-cpu-single"


def test_name(suite, model):
    return f"test_{suite}[{cell(model)}]"


test_name.__test__ = False


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    plants = [plant(cell(model), when, fault) for model, (when, fault, *_) in {**STACK, **DISK}.items()]
    selected = [("int4_run", STACK), ("int4_reload", DISK), ("int4_save", [UNQUANTISED])]
    cells = [node for suite, models in selected for node in nodes(suite, map(cell, models), "quantization")]
    return run_suite(tmp_path_factory.mktemp("int4"), "-p", "suites.meta.harness.planting", *plants, *cells)


@pytest.mark.parametrize("model", STACK)
def test_a_fault_of_the_stack_gets_its_verdict(run, model):
    _, _, verdict, check = STACK[model]
    name = test_name("int4_run", model)
    assert run.verdict(name) == verdict
    assert verdict in run.line(name, check), run.tests[name][2]


@pytest.mark.parametrize("model", DISK)
def test_a_corrupt_checkpoint_is_one_sentence(run, model):
    _, _, verdict, check, words = DISK[model]
    name = test_name("int4_reload", model)
    assert run.verdict(name) == verdict
    line = run.line(name, check)
    assert verdict in line, run.tests[name][2]
    assert words in line
    assert "Traceback" not in run.tests[name][2]


def test_the_run_goes_on_and_adds_up(run):
    assert run.status == 1
    assert f"expected {len(STACK) + len(DISK) + 1} = " in run.output
    assert "NEVER RAN" not in run.output


def test_an_unquantised_model_is_not_saved_as_int4(run):
    assert run.verdict(test_name("int4_save", UNQUANTISED)) == "NOT_OPTIMISED"
