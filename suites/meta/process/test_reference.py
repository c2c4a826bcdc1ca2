"""The reference side: what breaks there is reported to the cell that needs it, and to no other."""

import dataclasses

import numpy as np
import pytest

from fixtures.checks.logits import relative_errors
from fixtures.io.parties import STOCK, SUITE
from fixtures.matrix import load_matrix
from fixtures.matrix.precisions import ORACLE, scheme
from fixtures.measure.reference import Reference, ReferenceFailed, alone

WIDEST = {"fp32": "fp64", "int4": f"{ORACLE}{scheme('cpu', False)}"}  # precision -> the model that it is held against
OTHER_CACHE = {"dynamic": "static", "static": "dynamic"}
SWITCH = 64  # tokens


def reference_of(runtime, name, **geometry):
    model = next(model for model in load_matrix().models if model.id == name)
    model = dataclasses.replace(model, geometry=dataclasses.replace(model.geometry, **geometry))
    reference = Reference(runtime, model, "cpu")
    yield reference
    reference.close()


def logits_by(reference, operation, name, runs):
    """Logits of the stock model `name` for these runs under the tokens that fp32 chose."""
    reference._have_named(name)
    key = operation, name, len(reference.known)
    reference._submit(key, operation, name=name, runs=runs, forced_by="fp32")
    return reference._until(key).arrays["logits"]


@pytest.fixture(scope="module")
def reference(runtime):
    yield from reference_of(runtime, "opt-6.7b")


@pytest.fixture
def another(runtime):
    yield from reference_of(runtime, "llama-2-7b")


@pytest.fixture
def switching(runtime):
    """The reference of a model whose rope factors change past SWITCH tokens."""
    yield from reference_of(runtime, "phi-3.5-mini", original_positions=SWITCH)


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


def test_an_exception_of_the_suites_own_code_while_stock_computes_is_the_suites(another):
    another.have("fp32", "fp32")
    beyond = np.full((1, 3), 10**6)  # no such token: what forces it raises inside generate()
    another._submit("forced", "trace", {"tokens": beyond}, name="fp32", runs=another.runs[:1])
    with pytest.raises(ReferenceFailed, match=r"^this suite failed on the stock model of llama-2-7b: ") as failed:
        another._until("forced")
    assert failed.value.party == SUITE


def test_what_needs_more_positions_than_there_are_fails_loudly(reference):
    reference.have("fp32", "fp32")
    run = {"prompts": [[5] * 2040], "cache": "dynamic"}
    reference._submit("too long", "greedy", name="fp32", runs=[run], new_tokens=33)
    with pytest.raises(
        ReferenceFailed, match=r"need 2072 positions, and the model has 2048 \(max_position_embeddings\)"
    ):
        reference._until("too long")


def test_fp32_is_held_against_fp64_as_it_was_computed(reference):
    seen = reference.reference_logits("fp32")
    assert seen.logits.dtype == np.float64
    assert not np.array_equal(seen.logits, seen.logits.astype(np.float32)), "generate() rounded them"
    assert relative_errors(seen.fp32, seen.third).max() < 1e-5


@pytest.mark.parametrize("precision", ["fp32", pytest.param("int4", marks=pytest.mark.nightly)])
def test_the_logits_that_a_precision_is_held_against_come_by_the_candidates_road(reference, precision):
    """They are those that the widest model's own generate() gives with either cache, and one pass without a cache."""
    seen, name = reference.reference_logits(precision), WIDEST[precision]
    runs = alone(reference.runs) if precision == "fp32" else reference.runs
    swapped = [{**run, "cache": OTHER_CACHE[run["cache"]]} for run in runs]
    assert np.array_equal(seen.logits, logits_by(reference, "trace", name, runs))
    assert relative_errors(seen.logits, logits_by(reference, "trace", name, swapped)).max() < 1e-5
    assert relative_errors(seen.logits, logits_by(reference, "trace_in_one_pass", name, runs)).max() < 1e-5


def test_one_pass_across_a_switch_of_rope_factors_gives_what_generate_gives_with_a_cache(switching):
    runs = [{"prompts": [switching.ids[: SWITCH - before]], "cache": "dynamic"} for before in (8, 0)]
    switching.have("fp32", "fp32")
    switching._submit("decoded", "greedy", name="fp32", keep="fp32", runs=runs, new_tokens=24)
    one_pass = logits_by(switching, "trace_in_one_pass", "fp32", runs)
    decoded = switching._until("decoded").arrays["logits"]
    off = np.linalg.norm(one_pass - decoded, axis=-1) / np.linalg.norm(decoded, axis=-1)
    assert off.max() < 2e-5  # of every step, before the switch and past it


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
