"""Each fault of generate() turns its check red, and a sound model nothing but what its stack is known for."""

import dataclasses

import pytest

from fixtures.checks.generate import check_generate
from fixtures.checks.tolerances import tolerances
from fixtures.matrix import load_matrix
from fixtures.measure.generate import measure_generate
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings
from suites.meta.harness.inner import generation, nodes, plant, run_suite

pytestmark = pytest.mark.nightly

CELL = "llama-2-7b-fp32-cpu-single"
FAULTS = "suites.meta.faults.generate"
KNOWN = {"sampled_eos"}  # of IPEX's host build


@dataclasses.dataclass(frozen=True)
class Fault:
    """The check that a fault turns red, what its line says, and the checks that it may turn red beside it."""

    check: str
    said: str
    others: tuple = ()


STOPS = ("eos", "several_eos", "sampled_eos", "no_pad", "negative_pad")
PLANTED = {
    "one_token_short": Fault("new_tokens", "returned 7", ("rows", *STOPS, "min_new_tokens", "padded_beams")),
    "prompts_left_out": Fault("shape", "did not return the prompts", ("new_tokens", "text", "padded_beams")),
    "rows_reversed": Fault(
        "rows",
        "not those of the same prompt alone, in 4 of 4 rows",
        (*STOPS, "min_new_tokens", "distribution", "padded_beams"),
    ),
    "runs_past_its_end": Fault("eos", "not those up to the end", (*STOPS, "min_new_tokens")),
    "only_the_first_end_counts": Fault("several_eos", "not those up to the first of the ends", ("no_pad",)),
    "ends_in_place_of_padding": Fault("eos", "with 0 behind", ("several_eos", "sampled_eos", "min_new_tokens")),
    "min_new_tokens_ignored": Fault("min_new_tokens", "ends among the first 4 tokens"),
    "zero_in_place_of_no_padding": Fault("no_pad", "behind"),
    "negative_padding_refused": Fault("negative_pad", "raised IndexError"),
    "seed_ignored": Fault("seed", "sampled tokens differ between two calls"),
    "temperature_ignored": Fault("distribution", "p = "),
    "top_k_ignored": Fault("distribution", "outside the top_k"),
    "sampling_is_greedy": Fault("distribution", "p = "),
    "padding_seen_by_beams": Fault("padded_beams", "fall short"),
    "a_tensor_kept_by_call": Fault("held", "1.0 tensors stay alive", ("first_lengths", "seen_lengths")),
    "bytes_kept_by_call": Fault("held", "bytes stay on the host", ("seen_lengths",)),
    "a_table_kept_by_length": Fault("first_lengths", "bytes stay on the host"),
    "compiled_by_length": Fault("first_lengths", "8 graphs in all are compiled"),
    "text_without_capitals": Fault("text", "compare the tokenizer's files"),  # the last: it stays in the worker
}


@pytest.fixture(scope="module")
def lines_with():
    """`lines_with(fault)`: {check: line} of one worker's model with a fault in place, None without."""
    runtime = Runtime(Settings())
    cell = next(cell for cell in load_matrix().cells(["cpu"]) if cell.id == CELL)

    def lines(fault):
        candidate = runtime.candidate(cell)
        if fault:
            candidate.worker.call("call", 60, function=f"{FAULTS}:planted", fault=fault)
        try:
            found = {line.check: line for line in check_generate(measure_generate(runtime, cell), tolerances())}
        finally:
            if fault:
                candidate.worker.call("call", 60, function=f"{FAULTS}:removed")
        print("\n".join(map(str, found.values())))
        return found

    yield lines
    runtime.close()


def red(lines):
    return {check for check, line in lines.items() if line.verdict != "PASS"}


def test_a_sound_model_keeps_the_contract(lines_with):
    lines = lines_with(None)
    assert red(lines) == KNOWN
    assert len(lines) == 18, "every check has its line"


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_named(lines_with, name):
    fault, lines = PLANTED[name], lines_with(name)
    assert lines[fault.check].verdict == "FAIL", lines[fault.check]
    assert fault.said in lines[fault.check].measured
    assert red(lines) <= {fault.check, *fault.others} | KNOWN, "no other check is for it"


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A whole run whose generate() is one token short, of the suites that force tokens and of this one."""
    tests = [*nodes("generation", [CELL]), *nodes("generate", [CELL])]
    fault = plant(CELL, "after", "generate.one_token_short")
    return run_suite(tmp_path_factory.mktemp("short"), "-p", "suites.meta.harness.planting", fault, *tests)


def test_a_token_short_is_a_sentence_in_every_suite(short):
    assert short.verdict(f"test_generate[{CELL}]") == "FAIL"
    assert "returned 7" in short.line(f"test_generate[{CELL}]", "new_tokens")
    assert short.verdict(generation(CELL)) == "FAIL"
    runs = short.line(generation(CELL), "runs")
    assert "generate() returned new tokens of shape [1, 127], not [1, 128]" in runs  # of the long run, the first one
    assert "at fault: optimised stack" in runs
    assert "NEVER RAN" not in short.output
    assert short.status == 1
