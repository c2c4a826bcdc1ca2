"""The reference by layers: the same logits as the model that is loaded whole, for every family."""

import numpy as np
import pytest

from fixtures.matrix import load_matrix
from fixtures.measure.reference import Reference

MODELS = [model for model in load_matrix().models if model.representative and model.weights == "miniature"]
# A host's float GEMM adds in an order that depends on where its operands lie in memory: a few units of the last place.
FP32 = 1e-6


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: model.family)
def reference(request, runtime):
    reference = Reference(runtime, request.param, "cpu")
    yield reference
    reference.close()


def both(reference, operation, precision, arrays=None, dequantised=False, **request):
    """Answers to one operation of a model loaded whole and of one by layers."""
    found = []
    for name, form in (("whole", {"aligned": True}), ("layers", {"layerwise": "host"})):
        form["dequantised"] = dequantised
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
    whole, layers = both(reference, "beams", "fp32", dequantised=True, **request)
    assert np.array_equal(whole["tokens"], layers["tokens"])
    assert largest_difference("logprob", whole, layers) < FP32


def test_one_pass_in_fp64_is_the_same_to_the_bit(reference):
    runs, tokens = [{"prompts": reference.beam_prompts[:4]}], {"tokens": np.arange(24).reshape(4, 6)}
    whole, layers = both(reference, "trace_in_one_pass", "fp64", tokens, runs=runs)
    assert np.array_equal(whole["logits"], layers["logits"])
