"""Numbers that people can read, in every line that prints a change, a margin or points."""

import doctest
import math
import re

import numpy as np
import pytest

from fixtures.checks.latency import screen
from fixtures.checks.logits import regression
from fixtures.checks.scores import Paired, score_lines
from fixtures.checks.verdicts import bounded
from fixtures.io import numbers

LONG = re.compile(r"\d{5,}(\.\d+)? ?%|nan|inf\b")


def test_the_examples_hold():
    assert doctest.testmod(numbers).failed == 0


@pytest.mark.parametrize("value", [0.0, 0.9, 4.5, 31.0, 7.2e5, 1e30, math.inf, math.nan])
def test_a_margin_is_no_endless_number(value):
    line = bounded("logits", value, 3.0, "of stock's error", spread=value / 10)
    assert not LONG.search(str(line)), line
    assert line.verdict == ("PASS" if value <= 3 else "FAIL")
    with np.errstate(invalid="ignore"):
        line = regression(np.array([value, value]), 1.0, {"rise": 0.1})
    assert not LONG.search(str(line)), line


@pytest.mark.parametrize("value", [1.0, 400.0, math.nan])
def test_a_slowdown_is_no_endless_number(value):
    metrics = {"fastest": (value, None, "s"), "ratio_to_stock": (value, None, "1")}
    accepted = {"fastest": 1.0, "ratio_to_stock": 0.001}
    for same_machine in (True, False):
        for line in screen(metrics, accepted, same_machine, {"rise": 0.1}, True):
            assert not LONG.search(str(line)), line


def test_a_drop_of_27_points_is_printed_as_that():
    bound = dict(alpha=0.001, power=0.95, allowed=0.02, rise=0.03, budget=0.05)
    score, resolution = score_lines("", Paired(360, 99, 0), (0.7, 0.975), bound)
    assert "drop +27.5 points [" in score.measured
    assert score.allowed == "no drop beyond 2 points at 0.001"
    assert re.search(r"a drop of \d+\.\d points would have been seen", resolution.measured)
    assert resolution.allowed == "<= 5 points"
