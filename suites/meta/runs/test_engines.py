"""Planted faults of stock engines: the stock stack is itself under test, and so is the move to it."""

import pytest

from fixtures.io.parties import STOCK
from suites.meta.harness.inner import generation, nodes, plant, run_suite, stock_python

pytestmark = pytest.mark.nightly


def without(table, fault):
    """A table of faults without one of them."""
    return {name: entry for name, entry in table.items() if name != fault}


# The same defects in each engine, as far as it can show them: {fault: (model, the check that has to say so)}.
MODEL_FAULTS = {
    "rope_base_off_by_five_percent": ("llama-2-7b", "logits"),
    "attention_scale_off_by_two_percent": ("llama-3.2-3b", "logits"),
    "norm_eps_off": ("llama-2-13b", "logits"),
    "cache_shifted": ("llama-3.2-1b", "logits"),
    "mask_dropped": ("mistral-7b", "left_padding"),
}
# A compiled cell has single prompts alone, so that it is the static cache's mask that can be wrong.
OF_COMPILE = {
    "static_slots_attended": ("mistral-7b", "logits"),
    "dispatch.one_recompilation_a_call": ("opt-6.7b", "recompiles"),
}
# In bf16, in which INT4 computes, a thousand times the epsilon is just below what is seen.
OF_TORCHAO = {
    "norm_eps_off_ten_thousandfold": ("llama-2-13b", "logits"),
    "int4.torchao_groups_swapped": ("qwen2-7b", "logits"),
}
ENGINES = {
    "fp32-cpu-single-eager": MODEL_FAULTS,
    "fp32-cpu-single-compile": without(MODEL_FAULTS, "mask_dropped") | OF_COMPILE,
    "int4-cpu-single-torchao-int4": without(MODEL_FAULTS, "norm_eps_off") | OF_TORCHAO,
}
# cell -> (when the recipe breaks it, the fault, the check that has to say so)
PLANTED = {
    f"{model}-{kind}": ("after" if fault.startswith("int4") else "before", fault, check)
    for kind, faults in ENGINES.items()
    for fault, (model, check) in faults.items()
}
PLANTED |= {
    "llama-2-7b-bf16-cpu-single-eager": ("before", "rope_base_doubled", "logits"),
    "llama-2-13b-bf16-cpu-single-eager": ("before", "attention_scale_off_by_two_percent", "logits"),
}
SOUND = [f"llama-3-8b-{kind}" for kind in ENGINES]
SLOWER, OFF = "llama-2-7b-fp32-cpu-single-eager", "llama-2-13b-fp32-cpu-single-eager"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    stock_python()
    plants = [plant(cell, when, fault) for cell, (when, fault, _) in PLANTED.items()]
    cells = nodes("generation", [*PLANTED, *SOUND])
    words = "-p", "suites.meta.harness.planting", "-p", "suites.meta.harness.short"
    return run_suite(tmp_path_factory.mktemp("run"), *words, *plants, *cells, timeout=1800)


@pytest.mark.parametrize("broken", PLANTED)
def test_a_fault_of_a_stock_engine_is_seen(run, broken):
    assert run.verdict(generation(broken)) == "FAIL"
    assert "FAIL" in run.line(generation(broken), PLANTED[broken][2])
    assert run.property(generation(broken), "party") == STOCK


@pytest.mark.parametrize("sound", SOUND)
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
