"""Statistics of launches: which one counts, and when they are looked at where time is short."""

import types

import numpy as np
import pytest

from fixtures.bench.pairs import Pairing
from fixtures.judge import pairs
from fixtures.judge.pairs import Reference
from suites.meta.test_pairs_judge import BOUND, FIRST, SIDE_BY_SIDE, drawn


@pytest.mark.parametrize(("least", "typical", "chosen"), [(0.05, 0.01, "decode_typical"), (0.01, 0.05, "decode")])
def test_of_the_two_statistics_of_a_launch_the_sharper_one_counts(least, typical, chosen):
    seen = zip(drawn(0.0, FIRST, 1, least), drawn(0.03, FIRST, 2, typical), strict=True)
    launches = [{"decode": one, "decode_typical": other, "pace": 0.0} for one, other in seen]
    references = dict.fromkeys(("decode", "decode_typical"), SIDE_BY_SIDE)
    assert pairs.sharper(launches, "decode", references) == chosen
    # What was accepted of one alone is held against that one, and few launches by what was accepted.
    assert pairs.sharper(launches, "decode", {"decode": SIDE_BY_SIDE}) == "decode"
    assert pairs.sharper(launches[:4], "decode", references | {"decode": Reference(0.0, 0.01)}) == "decode_typical"
    assert pairs.sharper(launches[:10], "decode", references | {"decode": Reference(0.0, 0.01)}) == "decode_typical"
    [line] = pairs.pair_lines(launches, references, BOUND, 0.05)
    assert (line.verdict == "FAIL") is (chosen == "decode_typical")
    assert ("by typical tokens" in line.measured) is (chosen == "decode_typical")


@pytest.mark.parametrize(
    "values", [[2.0], [3.0, 1.0], [5.0, -1.0, 2.0], drawn(0.0, 22), drawn(0.0, 33), [0.0, np.nan, 1.0]]
)
def test_the_middle_is_the_median(values):
    np.testing.assert_equal(pairs.middle_of(values), np.median(values))


@pytest.mark.parametrize(("seconds", "looks", "rejects"), [
    (1.1, BOUND["looks"], BOUND["rejects"]),
    (1.5, [6, 10, 16, 22, 33, 38], [33, 38]),
    (2.1, [6, 10, 16, 22, 27], [22, 27]),
    (4.0, [6, 10, 14], [10, 14]),
    (9.0, [6], [6]),
])  # fmt: skip
def test_the_last_looks_are_where_time_is_up(seconds, looks, rejects):
    bound = pairs.within_time(BOUND, seconds)
    assert (bound["looks"], bound["rejects"]) == (looks, rejects)
    assert bound["spent"] == BOUND["spent"][-len(rejects) :]


@pytest.fixture
def launching(monkeypatch):
    """A function from the seconds of a launch, its lanes and an alpha: what until_decided gives, and the seconds."""
    clock = [0.0]
    monkeypatch.setattr("fixtures.bench.pairs.time.monotonic", lambda: clock[0])

    def ask(seconds, lanes, alpha):
        def launch(number, lanes):
            clock[0] += seconds
            ratios = [0.1 + 0.001 * (number + place) for place in range(len(lanes))]
            return [{"prefill": 0.0, "decode": ratio, "pace": 0.0} for ratio in ratios]

        pair = Pairing.__new__(Pairing)
        pair.conditions, pair.seconds, pair.cell = [], 0.0, types.SimpleNamespace(id="a cell")
        pair.stage = types.SimpleNamespace(announce=lambda text: None)
        pair.import_for, pair.lanes, pair._launched = lambda number: None, lambda: lanes, launch
        return *pair.until_decided(BOUND, alpha, {}), clock[0]

    return ask


def test_launches_that_take_long_are_decided_when_time_is_up(launching):
    launches, bound, seconds = launching(6.0, [{0}, {1}], 0.01)
    assert len(launches) in bound["rejects"]
    assert seconds <= BOUND["seconds"]
    assert pairs.pair_lines(launches, {}, bound, 0.01)[1].verdict == "FAIL"


def test_launches_of_which_time_holds_fewer_than_the_first_look_asks_for_get_one(launching):
    launches, bound, _ = launching(13.0, [{0}], 0.05)
    assert (len(launches), bound["rejects"]) == (5, [4])  # the last one began before time was up
    assert pairs.pair_lines(launches, {}, bound, 0.05)[1].verdict == "FAIL"
