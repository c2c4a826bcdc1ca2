"""Runs of the suite whose reference is broken, or whose checkpoint asks for a penalty: the right party is named."""

import pytest

from suites.meta.harness.arithmetic import needs_bf16, possible
from suites.meta.harness.inner import generation, nodes, plant, run_suite

pytestmark = pytest.mark.nightly

MASK = ("llama-2-7b-fp32-cpu-single", "llama-2-7b-bf16-cpu-single")
PENALTY, HIDDEN = "llama-3-8b-int4-cpu-single", "llama-3-8b-fp32-cpu-single"
WIDE = "mistral-7b-bf16-cpu-single"
SWITCH = ("phi-3.5-mini-fp32-cpu-single", "phi-3.5-mini-bf16-cpu-single")
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
    cells = possible([*MASK, PENALTY, HIDDEN, WIDE, *SWITCH])
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


@pytest.mark.parametrize("cell", [SWITCH[0], pytest.param(SWITCH[1], marks=needs_bf16)])
def test_a_decode_across_the_switch_of_rope_factors_is_a_known_defect(run, cell):
    assert run.verdict(generation(cell)) == "WAIVED"
    assert "ipex-cpu-longrope-switch" in run.tests[generation(cell)][2]
