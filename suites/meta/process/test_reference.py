"""The reference side: what breaks there is reported to the cell that needs it, and to no other."""

import pytest

from fixtures.matrix import load_matrix
from fixtures.measure.reference import Reference, ReferenceFailed


@pytest.fixture(scope="module")
def reference(runtime):
    model = next(model for model in load_matrix().models if model.id == "opt-6.7b")
    reference = Reference(runtime, model, "cpu")
    yield reference
    reference.close()


def test_a_precision_that_breaks_is_reported_to_whoever_asked_for_it(reference):
    reference.begin()
    reference.have("broken", "bf16", fault_before="suites.meta.faults.model:a_python_error")
    reference.settle()
    tokens, logits = reference.greedy()
    assert tokens.shape == logits.shape[:2]
    with pytest.raises(ReferenceFailed, match="did not get through: RuntimeError: planted"):
        reference.proof("broken")


def test_calls_queued_on_a_kept_greedy_run_force_its_tokens(reference):
    """The fp32 model traced under its own greedy tokens gives the logits it chose them by."""
    reference.begin()
    reference._submit("again", "trace", name="fp32", runs=reference.runs, forced_by="fp32")
    _, logits = reference.greedy()
    assert (reference._until("again").arrays["logits"] == logits).all()


def test_an_end_concerns_everybody(reference):
    reference._submit("end", "call", function="suites.meta.harness.worker_calls:exit_with", code=3)
    with pytest.raises(ReferenceFailed, match="exit 3 without an answer"):
        reference.settle()
    assert not reference.worker.alive
