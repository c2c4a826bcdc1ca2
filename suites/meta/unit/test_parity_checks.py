"""Answers of two devices, beside each other: what differs, and when that decides something."""

import dataclasses
import itertools
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest

from fixtures.checks.parity import check_parity
from fixtures.matrix import load_matrix
from fixtures.measure import parity
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
    measured = SimpleNamespace(
        proofs=[],
        again=again,
        others=others,
        control=control,
        unsteady=[],
        unsteady_others=[],
        places=places or {},
        error=None,
    )
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


class Model:
    """A model that adds in another order every time, unless its attention is eager. No device is at hand."""

    calls = itertools.count(1)

    def __init__(self, runtime, cell, environment, attention="", **more):
        self.steady = attention == "eager"
        self.proofs = [{"places": [f"cuda:{environment['LOCAL_RANK']}"], "dtype": "float16"}]

    def loaded(self):
        return self

    def call(self, operation, arrays=None, runs=None, new_tokens=None):
        if operation == "greedy":
            return SimpleNamespace(arrays={"tokens": np.zeros((5, new_tokens), np.int64)})
        logits = np.full((5, 3, 8), float(runs[0]["prompts"][0][0]), np.float32)
        logits[0, 1, 3] += 0 if self.steady else 1e-3 * next(self.calls)
        return SimpleNamespace(arrays={"logits": logits})

    def close(self):
        """Nothing runs."""


@pytest.mark.parametrize(("engine", "verdict"), [("eager", "PASS"), ("ipex", "INCONCLUSIVE")])
def test_stock_classes_that_do_not_repeat_themselves_are_asked_with_eager_attention(monkeypatch, engine, verdict):
    monkeypatch.setattr(parity, "Candidate", Model)
    runtime = MagicMock(device_count=lambda kind: 2)
    runtime.weights.of.return_value.geometry.vocabulary = 100
    cells = (cell for cell in load_matrix().every_cell() if (cell.engine.name, cell.mode) == (engine, "single"))
    cell = next(cell for cell in cells if cell.platform.device_type != "cpu" and cell.precision == "fp16")
    measured = parity.measure_parity(runtime, cell)
    found = check_parity(dataclasses.replace(measured, proofs=[]), TOLERANCES)
    assert {line.check: line.verdict for line in found}["decode_equal"] == verdict
    assert [seen.differing for seen in measured.unsteady] == ([0, 1] if engine == "eager" else [])
    said = [line.verdict for line in found if line.measured.startswith("as the model comes, ")]
    assert said == ["PASS"] * (4 if engine == "eager" else 0)


def test_a_device_far_from_an_unsteady_first_one_fails_whatever_eager_attention_gives():
    first = SimpleNamespace(proofs=[], again=SAME, others=SAME, control=moved(0, 1), places={}, error=None)
    first.unsteady, first.unsteady_others = moved(2, 1e-3, device=0), moved(1, 1e-2)
    found = [line.verdict for line in check_parity(first, TOLERANCES) if line.check == "decode_equal"]
    assert found == ["FAIL", "PASS"]
