"""Are the miniatures sharp? A small fault in any mechanism of any family must stand out of bf16 noise."""

import functools

import numpy as np
import pytest

from fixtures.checks.logits import ratios, relative_errors
from fixtures.matrix import load_matrix
from fixtures.measure.reference import Reference

SHARP = 1.5  # what the noise ratio must exceed
FAULTS = {
    "rope": "rope_base_off_by_five_percent",
    "scale": "attention_scale_off_by_two_percent",
    "mask": "mask_dropped",
    "cache": "cache_shifted",
}
RUNS = (1, 4, 5)  # of the plan: 257 alone, 512 beside a padded 300, 120 beside five padded ones
STEPS = 17  # prefill and 16 decode steps show what 32 do
FEEL = {"rope": [0, 1], "scale": [4, 5], "mask": [2, 4, 5], "cache": [0, 1, 2]}  # prompts of those runs, by mechanism
MODELS = [m for m in load_matrix().models if m.representative and m.weights == "miniature"]
CASES = [(model, mechanism) for model in MODELS for mechanism in FAULTS if mechanism in model.arch.mechanisms]


@pytest.fixture(scope="module")
def traced(runtime):
    """(model, fault or None) -> bf16 logits of stock classes on the chosen runs, with what they are held against."""
    held = {}

    def reference(model):
        if model.id not in held:
            while held:
                held.popitem()[1].close()
            held[model.id] = Reference(runtime, model, "cpu")
            held[model.id].runs = [held[model.id].runs[index] for index in RUNS]
            held[model.id].new_tokens = STEPS
        return held[model.id]

    @functools.cache
    def trace(model, fault):
        arm = reference(model)
        tokens, reference_logits = arm.greedy()
        name = fault or "bf16"
        hook = {"fault_before": f"suites.meta.faults.model:{fault}"} if fault else {}
        arm.have(name, "bf16", **hook)
        arm.settle()
        reply = arm.worker.call("trace", 300, {"tokens": tokens}, name=name, runs=arm.runs)
        return reply.arrays["logits"], reference_logits

    yield trace
    while held:
        held.popitem()[1].close()


def fault_ratio(traced, model, mechanism):
    """Mean error of the faulted model in units of the sound one's, over the prompts that feel the mechanism.

    Position shows in long prompts; a scale in short ones, where ALiBi's own rounding in bf16 is still small.
    """
    sound, reference_logits = traced(model, None)
    faulted, _ = traced(model, FAULTS[mechanism])
    values = ratios(faulted, reference_logits, relative_errors(sound, reference_logits))
    return float(np.mean(values[FEEL[mechanism]]))


@pytest.mark.nightly
@pytest.mark.parametrize(("model", "mechanism"), CASES, ids=[f"{model.family}-{name}" for model, name in CASES])
def test_a_small_fault_stands_out_of_the_noise(traced, model, mechanism):
    assert fault_ratio(traced, model, mechanism) > SHARP


def test_every_family_is_there():
    assert {model.family for model in MODELS} == {m.family for m in load_matrix().specified}
