"""Answers of two devices, beside each other: what differs, and when that decides something."""

from types import SimpleNamespace

import numpy as np

from fixtures.checks.parity import check_parity
from fixtures.measure.parity import beside

LOGITS = np.linspace(-4, 4, 2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
TOKENS = LOGITS.argmax(-1)
SAME = beside(0, (LOGITS, TOKENS), (LOGITS, TOKENS))


def moved(step, by):
    """(prefill, decode) of a second device whose largest logit of the second prompt is moved at one step."""
    logits = LOGITS.copy()
    logits[1, step, 4] += np.float32(by)
    return beside(1, (logits, logits.argmax(-1)), (LOGITS, TOKENS))


def lines(again=SAME, others=(), control=None):
    measured = SimpleNamespace(proofs=[], again=again, others=others, control=control or moved(0, 1), error=None)
    return {line.check: line for line in check_parity(measured, {})}


def verdicts(found, *checks):
    return [found[check].verdict for check in checks]


def test_what_differs_is_counted_with_its_place_and_size():
    prefill, decode = moved(2, -6)
    assert (decode.differing, decode.total, decode.step, decode.tokens) == (1, 20, 2, 1)
    assert decode.distance == 6 / 4
    assert (prefill.differing, prefill.total, prefill.step) == (0, 10, None)
    assert moved(1, 1e-6)[1].tokens == 0
    assert moved(0, 1e-6)[0].step == 0


def test_a_logit_that_is_no_number_differs_from_everything():
    logits = np.full_like(LOGITS, np.nan)
    found = beside(1, (logits, TOKENS), (logits, TOKENS))
    assert [part.differing for part in found] == [part.total for part in found]
    assert verdicts(lines(others=found), "prefill", "decode") == ["FAIL", "FAIL"]


def test_prefill_and_decode_have_a_line_each():
    found = lines(others=moved(2, 1e-3))
    assert verdicts(found, "prefill", "decode") == ["PASS", "FAIL"]
    assert found["decode"].measured.startswith(
        "device 1: 1 of 20 logits of another value from step 2 on, at most 0.00025"
    )


def test_a_device_that_does_not_repeat_its_own_bits_decides_nothing():
    again = beside(0, (LOGITS + 1, TOKENS), (LOGITS, TOKENS))
    assert verdicts(lines(again, moved(0, 1)), "prefill") == ["INCONCLUSIVE"]
    assert verdicts(lines(again, SAME), "prefill", "decode") == ["PASS", "PASS"]


def test_logits_that_no_prompt_changes_show_nothing():
    assert verdicts(lines(control=SAME), "control") == ["FAIL"]
