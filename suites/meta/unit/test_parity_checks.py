"""Answers of two devices, beside each other: what differs, and when that decides something."""

from types import SimpleNamespace

import numpy as np

from fixtures.checks.parity import check_parity
from fixtures.measure.parity import beside

LOGITS = np.linspace(-4, 4, 2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
SAME = beside(0, LOGITS, LOGITS)
TOLERANCES = {"parity": {"apart": 4}}


def moved(step, by, device=1):
    """(prefill, decode) of a device whose largest logit of the second prompt is moved at one step."""
    logits = LOGITS.copy()
    logits[1, step, 4] += np.float32(by)
    return beside(device, logits, LOGITS)


def lines(again=SAME, others=(), control=None, places=None):
    control = control or moved(0, 1)
    measured = SimpleNamespace(proofs=[], again=again, others=others, control=control, places=places or {}, error=None)
    return {line.check: line for line in check_parity(measured, TOLERANCES)}


def verdicts(found, *checks):
    return [found[check].verdict for check in checks]


def test_what_differs_is_counted_with_its_place_and_size():
    prefill, decode = moved(2, -6)
    assert (decode.differing, decode.total, decode.step, decode.tokens) == (1, 20, 2, 1)
    assert decode.distance == 6 / 4
    assert (prefill.differing, prefill.total, prefill.step) == (0, 10, None)
    assert moved(1, 1e-6)[1].tokens == 0
    assert moved(0, 1e-6)[0].step == 0


def test_logits_that_are_no_numbers_fail_even_where_both_devices_have_them():
    none = beside(1, np.full_like(LOGITS, np.nan), np.full_like(LOGITS, np.nan))
    assert [part.differing for part in none] == [part.total for part in none]
    found = lines(again=none, others=none)
    assert verdicts(found, "prefill_again", "decode_again", "prefill_equal", "decode_equal") == ["FAIL"] * 4


def test_prefill_and_decode_have_a_line_each():
    found = lines(others=moved(2, 1e-3))
    assert verdicts(found, "prefill_equal", "decode_equal") == ["PASS", "FAIL"]
    text = "device 1: 1 of 20 logits of another value from step 2 on, at most 0.00025 of"
    assert found["decode_equal"].measured.startswith(text)


def test_a_device_that_does_not_repeat_its_own_logits_decides_nothing_within_some_times_that():
    again = moved(2, 1e-3, device=0)
    assert verdicts(lines(again, moved(1, 2e-3)), "decode_equal") == ["INCONCLUSIVE"]
    assert verdicts(lines(again, moved(1, 1e-2)), "decode_equal") == ["FAIL"]
    assert verdicts(lines(again, moved(0, 1e-6)), "prefill_equal") == ["FAIL"]
    assert verdicts(lines(again, SAME), "prefill_equal", "decode_equal") == ["PASS", "PASS"]


def test_a_worker_on_another_device_than_its_own_is_named():
    assert verdicts(lines(places={"cuda:0": ["cuda:0"], "cuda:1": ["cuda:1"]}), "own_device") == ["PASS"]
    found = lines(places={"cuda:0": ["cuda:0"], "cuda:1": ["cuda:0"]})["own_device"]
    assert (found.verdict, found.measured) == ("FAIL", "cuda:0 instead of cuda:1")


def test_logits_that_no_prompt_changes_show_nothing():
    assert verdicts(lines(control=SAME), "control") == ["FAIL"]
