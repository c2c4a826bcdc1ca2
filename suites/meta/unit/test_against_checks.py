"""Whether one stack is further from the reference logits than another one, on made-up logits."""

import types

import numpy as np
import pytest

from fixtures.checks.against import closeness, excess

ALPHA, BOUND = 0.001, {"rise": 0.05, "conformance": 1.25}
PROMPTS, STEPS, VOCABULARY = 12, 4, 50


def off_by(reference_logits, sizes):
    """Logits whose error is `sizes` [prompts] of each prompt's own length."""
    direction = np.random.default_rng(3).normal(size=reference_logits.shape)
    direction /= np.linalg.norm(direction, axis=(1, 2), keepdims=True)
    return (
        reference_logits
        + np.reshape(sizes, (-1, 1, 1)) * np.linalg.norm(reference_logits, axis=(1, 2), keepdims=True) * direction
    )


def reported(here, there, beside_stock=False):
    """The line for two stacks whose errors are so many times stock's, one number a prompt."""
    reference_logits = np.random.default_rng(1).normal(size=(PROMPTS, STEPS, VOCABULARY))
    stock = off_by(reference_logits, np.full(PROMPTS, 0.01))
    measured = types.SimpleNamespace(
        reference_logits=types.SimpleNamespace(stock=stock, against=reference_logits, logits=reference_logits),
        prompts=[types.SimpleNamespace(padded=False, past_window=False)] * PROMPTS,
        logits=off_by(reference_logits, 0.01 * np.array(here)),
        other_logits=off_by(reference_logits, 0.01 * np.array(there)),
    )
    return closeness(measured, excess(BOUND, beside_stock), ALPHA)


@pytest.mark.parametrize(("rise", "scatter", "verdict"), [
    (0.0, 0.02, "PASS"),
    (0.04, 0.02, "PASS"),
    (-0.5, 0.02, "PASS"),
    (0.2, 0.02, "FAIL"),
    (0.2, 0.6, "INCONCLUSIVE"),  # prompts differ by more than that
    (np.nan, 0.0, "FAIL"),
])  # fmt: skip
def test_further_from_the_reference_logits_is_a_failure_where_prompts_agree_on_it(rise, scatter, verdict):
    zigzag = scatter * np.array([1, -1] * (PROMPTS // 2))
    line = reported(1 + rise + zigzag, np.ones(PROMPTS))
    assert (line.check, line.verdict) == ("against_logits", verdict)


@pytest.mark.parametrize(("rise", "verdict"), [(0.2, "PASS"), (0.3, "FAIL")])
def test_beside_stock_classes_what_conforms_is_close_enough(rise, verdict):
    line = reported(np.full(PROMPTS, 1 + rise), np.ones(PROMPTS), beside_stock=True)
    assert (line.verdict, line.allowed) == (verdict, "<= +0.25")
