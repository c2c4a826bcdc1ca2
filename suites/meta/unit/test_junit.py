"""What JUnit says of a test beside passed and failed: its properties."""

from types import SimpleNamespace

import pytest

from fixtures.checks.verdicts import CellVerdict, Line
from fixtures.io.parties import STOCK
from fixtures.plugin.outcome import junit_properties

TIMES = {"fastest": (0.031, None, "s"), "first_token": (0.008, 0.0001, "s"), "ratio_to_stock": (0.59, 0.01, "1")}


@pytest.mark.parametrize(("settled", "metrics", "found"), [
    (CellVerdict("PASS", (Line("logits", "PASS", "m"),)), {}, []),
    (CellVerdict("FAIL", (Line("logits", "FAIL", "m", party=STOCK),)), {}, [("party", "stock stack")]),
    (CellVerdict("PASS", (Line("logits", "PASS", "m"), Line("regression", "NO_BASELINE", "m"))), {},
     [("regression", "NO_BASELINE")]),
    (CellVerdict("PASS", (Line("latency", "PASS", "m"),)), TIMES,
     [("metric.fastest", "0.031 s"), ("metric.first_token", "0.008 ± 0.0001 s"),
      ("metric.ratio_to_stock", "0.59 ± 0.01")]),
])  # fmt: skip
def test_a_test_has_its_verdict_what_was_measured_and_what_repeats_it(settled, metrics, found):
    assert junit_properties(settled, metrics, "pytest x") == [
        ("verdict", settled.verdict),
        *found,
        ("reproduce", "pytest x"),
    ]


def test_every_waiver_in_use_is_named():
    used = tuple(SimpleNamespace(id=name) for name in ("one", "two"))
    settled = CellVerdict("WAIVED", (Line("logits", "WAIVED", "m"),), used)
    assert [pair for pair in junit_properties(settled, {}, "") if pair[0] == "waiver"] == [
        ("waiver", "one"),
        ("waiver", "two"),
    ]
