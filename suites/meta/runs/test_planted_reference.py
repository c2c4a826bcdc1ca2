"""Runs of the suite whose reference is broken, or whose checkpoint asks for a penalty: the right party is named."""

import pytest

from suites.meta.harness.arithmetic import needs_bf16, possible
from suites.meta.harness.inner import generation, latency, nodes, plant, run_suite

pytestmark = pytest.mark.nightly

MASK = ("llama-2-7b-fp32-cpu-single", "llama-2-7b-bf16-cpu-single")
PENALTY, HIDDEN = "llama-3-8b-int4-cpu-single", "llama-3-8b-fp32-cpu-single"
WIDE = "mistral-7b-bf16-cpu-single"
TIMED = "opt-6.7b-fp32-cpu-single"
SWITCH = {
    precision: [f"{model}-{precision}-cpu-single" for model in ("phi-3.5-mini", "phi-3-mini-128k")]
    for precision in ("fp32", "bf16")
}
PLANTED = {
    "stock:llama-2-7b": ("before", "static_mask_zeroed"),
    "stock:llama-3-8b": ("before", "penalty_asked"),
    PENALTY: ("before", "penalty_asked"),
    HIDDEN: ("before", "penalty_asked_and_query_off"),
    "stock:mistral-7b": ("before", "loaded_as_fp32"),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    plants = [plant(name, when, fault) for name, (when, fault) in PLANTED.items()]
    cells = possible([*MASK, PENALTY, HIDDEN, WIDE, *SWITCH["fp32"], *SWITCH["bf16"]])
    folder = tmp_path_factory.mktemp("run")
    return run_suite(folder, "-p", "suites.meta.harness.planting", *plants, *nodes("generation", cells))


@pytest.mark.parametrize("cell", [MASK[0], pytest.param(MASK[1], marks=needs_bf16)])
def test_a_mask_that_stock_lost_is_not_blamed_on_the_optimised_stack(run, cell):
    assert run.verdict(generation(cell)) == "FAIL"
    line = run.line(generation(cell), "reference")
    assert "FAIL" in line
    assert "at fault: stock stack" in line
    assert "INCONCLUSIVE" in run.line(generation(cell), "static_cache")
    assert "at fault: optimised stack" not in run.tests[generation(cell)][2]


def test_a_penalty_of_the_checkpoint_is_no_failure(run):
    assert run.verdict(generation(PENALTY)) == "PASS"


def test_a_penalty_of_the_checkpoint_hides_no_fault(run):
    assert run.verdict(generation(HIDDEN)) == "FAIL"
    line = run.line(generation(HIDDEN), "logits")
    assert "at fault: optimised stack" in line
    settings = run.line(generation(HIDDEN), "settings")
    assert "the checkpoint asks for repetition_penalty = 1.05" in settings


@needs_bf16
def test_a_stock_model_of_another_type_is_named(run):
    assert run.verdict(generation(WIDE)) == "FAIL"
    assert "its parameters are float32 where bfloat16 was asked for" in run.tests[generation(WIDE)][2]
    assert run.property(generation(WIDE), "party") == "stock stack"


def test_nothing_is_timed_against_a_stock_model_of_another_type(tmp_path):
    planted = ["-p", "suites.meta.harness.planting", plant("stock:opt-6.7b", "before", "loaded_as_bf16")]
    run = run_suite(tmp_path, *planted, *nodes("latency", [TIMED]), "--benchmark-compare", f"-ocache_dir={tmp_path}")
    message = run.tests[latency(TIMED)][2]
    assert run.verdict(latency(TIMED)) == "FAIL"
    assert "its parameters are bfloat16 where float32 was asked for" in message
    assert run.property(latency(TIMED), "party") == "stock stack"
    assert not any(run.line(latency(TIMED), check) for check in ("measured", "latency", "ratio_to_stock")), message


@pytest.mark.parametrize("cell", [*SWITCH["fp32"], *(pytest.param(cell, marks=needs_bf16) for cell in SWITCH["bf16"])])
def test_a_decode_across_the_switch_of_rope_factors_is_a_known_defect(run, cell):
    assert run.verdict(generation(cell)) == "WAIVED"
    assert "ipex-cpu-longrope-switch" in run.tests[generation(cell)][2]
