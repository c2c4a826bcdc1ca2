"""The reference by layers: the same logits as the model that is loaded whole, for every family."""

import dataclasses

import numpy as np
import pytest

from fixtures.matrix import config_entries, load_matrix
from fixtures.measure.reference import Reference

pytestmark = pytest.mark.nightly

MODELS = [model for model in load_matrix().models if model.representative and model.weights == "miniature"]
# A host's float GEMM adds in an order that depends on where its operands lie in memory: a few units of the last place.
FP32 = 1e-6
CALLS = "suites.meta.harness.worker_calls"


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model.family)
def reference(request, runtime):
    reference = Reference(runtime, request.param, "cpu")
    yield reference
    reference.close()


def both(reference, operation, precision, arrays=None, form=None, waiting="host", **request):
    """Answers to one operation of a model loaded whole and of one by layers; `form` has more of their spec."""
    found = []
    for name, how in (("whole", {"aligned": True}), ("layers", {"layerwise": waiting})):
        form = {**(form or {}), "aligned": False, "layerwise": None, **how}
        spec = reference.runtime.weights.spec(reference.model, "cpu", "stock", precision, **form)
        reference.worker.call("load", 300, name=name, spec=spec)
        found.append(reference.worker.call(operation, 300, arrays, name=name, **request).arrays)
    return found


def largest_difference(name, whole, layers):
    return np.abs(whole[name] - layers[name]).max() / np.abs(whole[name]).max()


def test_bf16_decodes_the_same_logits_to_the_bit(reference):
    """Prefill and decode steps; dynamic and static cache; padded and not."""
    whole, layers = both(reference, "greedy", "bf16", runs=reference.runs[1:6:2], new_tokens=5)
    assert np.array_equal(whole["logits"], layers["logits"])


def test_fp32_decodes_the_same_tokens_and_logits(reference):
    whole, layers = both(reference, "greedy", "fp32", runs=reference.runs[1:6:2], new_tokens=5)
    assert np.array_equal(whole["tokens"], layers["tokens"])
    assert largest_difference("logits", whole, layers) < FP32


def test_beams_of_dequantised_weights_are_found_and_scored_alike(reference):
    request = {"prompts": reference.beam_prompts[:2], "new_tokens": 4, "beams": 4, "scored": True}
    whole, layers = both(reference, "beams", "fp32", form={"dequantised": "symmetric"}, **request)
    assert np.array_equal(whole["tokens"], layers["tokens"])
    assert largest_difference("logprob", whole, layers) < FP32


def test_one_pass_in_fp64_is_the_same_to_the_bit(reference):
    runs, tokens = [{"prompts": reference.beam_prompts[:4]}], {"tokens": np.arange(24).reshape(4, 6)}
    whole, layers = both(reference, "trace_in_one_pass", "fp64", tokens, runs=runs)
    assert np.array_equal(whole["logits"], layers["logits"])


def test_weights_that_are_drawn_are_drawn_alike_each_time(reference):
    model, built = reference.model, reference.runtime.weights.of(reference.model, "cpu").geometry
    if model.remote_code:
        pytest.skip("no synthetic form: the class is not one of transformers")
    entries = {"model_type": model.arch.model_type, **config_entries(model, built)}
    form = {"synthetic": True, "entries": entries, "geometry": dataclasses.asdict(built)}
    request = {"runs": reference.runs[1:2], "new_tokens": 3}
    whole, layers = both(reference, "greedy", "bf16", form=form, waiting="drawn", **request)
    assert np.array_equal(whole["logits"], layers["logits"])


def test_layers_hold_nothing_once_they_have_run(reference):
    both(reference, "greedy", "bf16", runs=reference.runs[:1], new_tokens=2)
    held = {
        name: reference.worker.call("call", 60, function=f"{CALLS}:numbers_in_layers", name=name).message["result"]
        for name in ("whole", "layers")
    }
    assert held["layers"] == 0 < held["whole"]
