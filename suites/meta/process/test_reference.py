"""The reference side: what breaks there is reported to the cell that needs it, and to no other."""

import numpy as np
import pytest

from fixtures.checks.logits import relative_errors
from fixtures.io.parties import STOCK
from fixtures.matrix import load_matrix
from fixtures.measure.reference import Reference, ReferenceFailed


def reference_of(runtime, name):
    model = next(model for model in load_matrix().models if model.id == name)
    reference = Reference(runtime, model, "cpu")
    yield reference
    reference.close()


@pytest.fixture(scope="module")
def reference(runtime):
    yield from reference_of(runtime, "opt-6.7b")


@pytest.fixture
def another(runtime):
    yield from reference_of(runtime, "llama-2-7b")


def test_calls_queued_on_a_kept_greedy_run_force_its_tokens(reference):
    """The fp32 model traced under its own greedy tokens gives the logits it chose them by."""
    reference.begin()
    reference._submit("again", "trace", name="fp32", runs=reference.runs, forced_by="fp32")
    _, logits = reference.greedy()
    assert (reference._until("again").arrays["logits"] == logits).all()


def test_a_penalty_that_the_checkpoint_asks_for_is_in_no_logits(reference):
    """`repetition_penalty` changes what generate() chooses, and not what the model computes."""
    reference.begin()
    reference.have("penalised", "fp32", fault_before="suites.meta.faults.model:penalty_asked")
    reference._submit("penalised run", "trace", name="penalised", runs=reference.runs, forced_by="fp32")
    _, logits = reference.greedy()
    assert (reference._until("penalised run").arrays["logits"] == logits).all()
    assert reference._until(("load", "penalised")).message["proof"]["overridden"] == {"repetition_penalty": 1.05}
    assert reference.proof()["overridden"] == {}


def test_a_stock_model_of_another_type_is_no_reference(another):
    another.have("wide", "bf16", fault_before="suites.meta.faults.model:loaded_as_fp32")
    with pytest.raises(ReferenceFailed, match="parameters are float32 where bfloat16 was asked for") as failed:
        another._until(("load", "wide"))
    assert failed.value.party == STOCK


def test_a_token_short_is_of_the_stack_that_returned_it(another):
    another.have("fp32", "fp32", fault_after="suites.meta.faults.generate:one_token_short")
    another._submit("short", "greedy", name="fp32", runs=another.runs[:1], new_tokens=3)
    with pytest.raises(ReferenceFailed, match=r"new tokens of shape \[1, 2\], not \[1, 3\]") as failed:
        another._until("short")
    assert failed.value.party == STOCK


def test_what_needs_more_positions_than_there_are_fails_loudly(reference):
    run = {"prompts": [[5] * 2040], "cache": "dynamic"}
    reference._submit("too long", "greedy", name="fp32", runs=[run], new_tokens=33)
    with pytest.raises(
        ReferenceFailed, match=r"need 2072 positions, and the model has 2048 \(max_position_embeddings\)"
    ):
        reference._until("too long")


def test_the_logits_that_fp32_is_held_against_come_by_the_candidates_road_in_fp64(reference):
    seen = reference.reference_logits("fp32")
    assert seen.logits.dtype == np.float64
    assert not np.array_equal(seen.logits, seen.logits.astype(np.float32)), "generate() rounded them"
    reference.have("fp64", "fp64")
    once = {"name": "fp64", "runs": reference.runs, "forced_by": "fp32"}
    reference._submit("one pass", "trace_in_one_pass", **once)
    one_pass = reference._until("one pass").arrays["logits"]
    assert relative_errors(seen.logits, one_pass).max() < 1e-6  # the two agree where one pass is valid
    assert relative_errors(seen.fp32, seen.third).max() < 1e-5


def test_a_precision_that_breaks_is_reported_to_whoever_asked_for_it(reference):
    reference.begin()
    reference.have("broken", "bf16", fault_before="suites.meta.faults.model:a_python_error")
    reference.settle()
    tokens, logits = reference.greedy()
    assert tokens.shape == logits.shape[:2]
    with pytest.raises(ReferenceFailed, match="did not get through: RuntimeError: planted"):
        reference.proof("broken")


def test_an_end_concerns_everybody(reference):
    reference._submit("end", "call", function="suites.meta.harness.worker_calls:exit_with", code=3)
    with pytest.raises(ReferenceFailed, match="exit 3 without an answer"):
        reference.settle()
    assert not reference.worker.alive
