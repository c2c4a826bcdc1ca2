"""Answers of two devices, beside each other: what differs, and when that decides something."""

from types import SimpleNamespace

import numpy as np

from fixtures.checks.parity import check_parity
from fixtures.measure.parity import beside

LOGITS = np.linspace(-4, 4, 2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
TOKENS = LOGITS.argmax(-1)
SAME = beside(0, (LOGITS, TOKENS), (LOGITS, TOKENS))


def moved(step, by):
    """The Beside of a second device whose largest logit of the second prompt is moved at one step."""
    logits = LOGITS.copy()
    logits[1, step, 4] += np.float32(by)
    return beside(1, (logits, logits.argmax(-1)), (LOGITS, TOKENS))


def lines(again=SAME, others=(), control=None):
    measured = SimpleNamespace(proofs=[], again=again, others=others, control=control or moved(0, 1), error=None)
    return [(line.check, line.verdict, line.measured) for line in check_parity(measured, {})]


def verdict_of(check, found):
    return [(verdict, text) for name, verdict, text in found if name == check]


def test_what_differs_is_counted_with_its_place_and_size():
    found = moved(2, -6)
    assert (found.differing, found.total, found.step, found.tokens) == (1, 30, 2, 1)
    assert found.distance == 6 / 4
    assert moved(1, 1e-6).tokens == 0
    assert SAME.differing == 0
    assert SAME.step is None


def test_a_logit_that_is_no_number_differs_from_everything():
    logits = np.full_like(LOGITS, np.nan)
    found = beside(1, (logits, TOKENS), (logits, TOKENS))
    assert found.differing == found.total
    assert verdict_of("parity", lines(others=[found]))[0][0] == "FAIL"


def test_the_same_bits_pass_and_each_other_device_has_a_line():
    found = verdict_of("parity", lines(others=[SAME, moved(2, 1e-3)]))
    assert [verdict for verdict, _ in found] == ["PASS", "FAIL"]
    assert found[1][1].startswith("device 1: 1 of 30 logits of another value from step 2 on, at most 0.00025 of")


def test_a_device_that_does_not_repeat_its_own_bits_decides_nothing():
    again = beside(0, (LOGITS + 1, TOKENS), (LOGITS, TOKENS))
    assert verdict_of("parity", lines(again, [moved(0, 1)]))[0][0] == "INCONCLUSIVE"
    assert verdict_of("parity", lines(again, [SAME]))[0][0] == "PASS"


def test_logits_that_no_prompt_changes_show_nothing():
    assert verdict_of("control", lines(control=SAME))[0][0] == "FAIL"
