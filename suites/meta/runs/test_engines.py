"""Planted faults of stock engines: the stock stack is itself under test, and so is the move to it."""

import pytest

from fixtures.io.parties import STOCK
from suites.meta.harness.arithmetic import parameters, possible
from suites.meta.harness.inner import generation, nodes, plant, run_suite

pytestmark = pytest.mark.nightly

# cell -> (when the recipe breaks it, the fault, the check that has to say so)
PLANTED = {
    "llama-2-7b-fp32-cpu-single-eager": ("before", "rope_base_off_by_five_percent", "logits"),
    "llama-2-7b-bf16-cpu-single-eager": ("before", "rope_base_doubled", "logits"),
    "llama-2-13b-bf16-cpu-single-eager": ("before", "attention_scale_off_by_two_percent", "logits"),
    "llama-2-13b-fp32-cpu-single-eager": ("before", "norm_eps_off", "logits"),
    "llama-3.2-1b-fp32-cpu-single-eager": ("before", "cache_shifted", "logits"),
    "mistral-7b-fp32-cpu-single-eager": ("before", "mask_dropped", "left_padding"),
    "llama-2-7b-fp32-cpu-single-compile": ("before", "rope_base_off_by_five_percent", "logits"),
    "opt-6.7b-fp32-cpu-single-compile": ("before", "dispatch.one_recompilation_a_call", "recompiles"),
}
SOUND = ["llama-3-8b-fp32-cpu-single-eager"]
SLOWER, OFF = "llama-2-7b-fp32-cpu-single-eager", "llama-2-13b-fp32-cpu-single-eager"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    plants = [plant(cell, when, fault) for cell, (when, fault, _) in PLANTED.items()]
    cells = nodes("generation", possible([*PLANTED, *SOUND]))
    return run_suite(tmp_path_factory.mktemp("run"), "-p", "suites.meta.harness.planting", *plants, *cells)


@pytest.mark.parametrize("broken", parameters(PLANTED))
def test_a_fault_of_a_stock_engine_is_seen(run, broken):
    assert run.verdict(generation(broken)) == "FAIL"
    assert "FAIL" in run.line(generation(broken), PLANTED[broken][2])
    assert run.property(generation(broken), "party") == STOCK


@pytest.mark.parametrize("sound", parameters(SOUND))
def test_a_sound_cell_beside_them_passes(run, sound):
    assert run.verdict(generation(sound)) == "PASS"


@pytest.fixture(scope="module")
def move(tmp_path_factory):
    plants = [
        plant(SLOWER, "before", "dispatch.eight_clones_more"),
        plant(OFF, "before", "attention_scale_off_by_one_percent"),
    ]
    words = "-p", "suites.meta.harness.planting", *plants, "--move=ipex:eager", "--replicates=4"
    return run_suite(tmp_path_factory.mktemp("move"), *words, *nodes("move", [SLOWER, OFF]))


def line_of(move, cell):
    """The line of a cell in the section on the move."""
    return next(line for line in move.output.partition(" move ")[2].splitlines() if f" {cell}: " in line)


def test_a_move_to_an_engine_with_more_operations_names_them(move):
    assert "clone" in line_of(move, SLOWER).partition("more: ")[2].partition("less")[0]


def test_a_move_to_an_engine_with_another_attention_scale_is_not_safe(move):
    assert line_of(move, OFF).startswith(f"FAIL {OFF}: fails by move_logits")
    assert "not yet from ipex to eager, because " in move.output
