"""The judge of paired launches on made-up ones: what is slower, what is sound, when it stops, what it cannot see."""

import math

import numpy as np
import pytest

from fixtures import pairing
from fixtures.accepted import Accepted
from fixtures.bench.latency import Latency
from fixtures.judge import pairs
from fixtures.judge.bounds import bounds
from fixtures.judge.latency import counted
from fixtures.judge.launches import METRICS
from fixtures.judge.pairs import Reference
from fixtures.pairing import FIXED, PairedLaunches, Way, ratio_metrics, references_of, share_of, share_of_suspect
from suites.meta.latency_rules import gate

BOUND = bounds()["pairs"]
FIRST, LAST = BOUND["rejects"]  # launches after which a cell may be called slower
LAYOUT = 77
ALPHA = share_of(BOUND["session_alpha"], 100)
SPREAD = 0.013  # of a launch's log-ratio
SIDE_BY_SIDE = Reference()
PACE = 0.04  # seconds of stock's steps when its ratio was accepted


def rounds(first, step, count=4, tokens=5):
    """Rounds whose prefill and every step take these seconds."""
    return [{"total": first + step * (tokens - 1), "tokens": [first + step * i for i in range(tokens)]}] * count


def drawn(slower, count, seed=0, spread=SPREAD):
    return list(np.log1p(slower) + np.random.default_rng(seed).normal(0, spread, count))


def launched(decodes, pace=0.0):
    """[launch_ratios] of launches that have these log-ratios, while the machine has this pace."""
    return [{"decode": value, "pace": pace} for value in decodes]


# -- many launches ----


def test_an_outlier_moves_neither_the_median_nor_the_interval():
    values = [*drawn(0.0, 9), 2.0]
    seen = pairs.estimate(values)
    assert abs(seen.median) < 0.01
    assert seen.high < 0.1
    assert seen.spread < 3 * SPREAD


def test_few_launches_can_detect_little():
    def seen(launches):
        many = [pairs.without_order(drawn(0, launches, seed)) for seed in range(40)]
        return np.median([pairs.smallest_detectable(values, SIDE_BY_SIDE, BOUND, ALPHA) for values in many])

    assert seen(2) == math.inf
    assert seen(6) > 0.08 > seen(10) > 0.03 > seen(20) > seen(33)


@pytest.mark.parametrize(("slower", "least"), [(0.03, 0.95), (0.02, 0.80)])
def test_a_slowdown_is_caught_as_often_as_it_should(slower, least):
    caught = np.mean(
        [gate({"decode": SIDE_BY_SIDE}, launched(drawn(slower, LAST, seed)), BOUND, ALPHA)[0] for seed in range(400)]
    )
    assert caught >= least


def test_identical_code_raises_no_alarm_and_is_dismissed_early():
    answers = [gate({"decode": SIDE_BY_SIDE}, launched(drawn(0.0, LAST, seed)), BOUND, ALPHA) for seed in range(400)]
    assert not any(slower for slower, _ in answers)
    assert np.mean([count for _, count in answers]) < 8


@pytest.mark.parametrize(("slower", "count", "verdict"), [
    (0.05, FIRST, "FAIL"),
    (0.0, LAST, "PASS"),
    (0.0, 6, "PASS"),  # surely below what is sought
    (0.021, 6, "INCONCLUSIVE"),  # neither shown nor excluded
    (0.20, 13, "INCONCLUSIVE"),  # time was up before it could be called slower
    (0.20, 32, "INCONCLUSIVE"),
])  # fmt: skip
def test_the_line_tells_the_verdict_and_what_it_rests_on(slower, count, verdict):
    launches = launched(drawn(slower, count, 3, 0.004))
    [line] = pairs.pair_lines(launches, {}, BOUND, ALPHA)
    assert (line.check, line.verdict) == ("decode", verdict)
    for words in (f"{count} launches", "smallest detectable", "budget 5 %", "["):
        assert words in line.measured


def test_an_uncertain_accepted_ratio_takes_more_to_be_exceeded():
    ratios = drawn(0.03, LAST)
    assert pairs.decision(ratios, SIDE_BY_SIDE, BOUND, ALPHA) == "slower"
    assert pairs.decision(ratios, Reference(0.0, 0.01), BOUND, ALPHA) != "slower"


def test_it_is_looked_at_only_after_the_planned_numbers_of_launches():
    clear = [0.5] * FIRST
    assert pairs.decision(clear[:15], SIDE_BY_SIDE, BOUND, ALPHA) is None
    assert pairs.decision(clear[:12], SIDE_BY_SIDE, BOUND, ALPHA) is None
    assert pairs.decision(clear[:FIRST], SIDE_BY_SIDE, BOUND, ALPHA) == "slower"


@pytest.mark.parametrize(("prefill", "decode", "over"), [(0.0, 0.0, True), (0.5, 0.0, False), (0.02, 0.02, False)])
def test_no_launch_is_made_once_everything_is_decided(prefill, decode, over):
    launches = [{"prefill": prefill, "decode": decode}] * 6
    assert pairs.finished(launches, {}, BOUND, ALPHA) is over
    assert pairs.finished(launches * 6, {}, BOUND, ALPHA)


@pytest.mark.parametrize(("pace", "slower", "answer"), [
    (0.0, 0.04, "slower"),
    (0.02, 0.04, "slower"),
    (0.3, 0.06, None),  # stock takes a third longer now, which a ratio need not follow
    (-0.3, 0.06, None),
    (0.3, 0.12, "slower"),
    (0.3, 0.0, None),  # nor is it known to be sound
    (0.0, 0.0, "sound"),
])  # fmt: skip
def test_what_another_pace_of_the_machine_may_do_to_a_ratio_is_no_slowdown(pace, slower, answer):
    launches = launched(drawn(slower, LAST), pace)
    held = Reference(pace=0.0).at_pace_of(launches, BOUND)
    assert pairs.decision(pairs.column(launches, "decode"), held, BOUND, ALPHA) == answer


@pytest.mark.parametrize(("launches", "shifts"), [(1, False), (16, True)])
def test_a_pace_that_changes_from_launch_to_launch_is_another_one_only_where_many_show_it(launches, shifts):
    held = Reference(pace=0.0, pace_spread=0.06, pace_error=0.01)
    assert bool(held.at_pace_of(launched([0.0] * launches, 0.1), BOUND).shift) is shifts
    assert Reference(pace=0.0).at_pace_of(launched([0.0], 0.1), BOUND).shift


@pytest.mark.parametrize(("pace", "slower", "over"), [(0.3, 0.05, True), (0.3, 0.3, False), (0.05, 0.02, False)])
def test_launches_of_quite_another_pace_end_at_the_first_look_unless_they_are_slower_than_that(pace, slower, over):
    launches = [one | {"prefill": 0.0} for one in launched(drawn(slower, 6), pace)]
    references = dict.fromkeys(METRICS, Reference(pace=0.0))
    assert pairs.finished(launches, references, BOUND, ALPHA) is over
    assert not pairs.finished(launches[:5], references, BOUND, ALPHA)
    if over:
        line = pairs.pair_lines(launches, references, BOUND, ALPHA)[1]
        assert (line.check, line.verdict) == ("decode", "INCONCLUSIVE")
        assert "another pace" in line.measured


def test_a_slowdown_that_another_pace_hides_from_the_runs_own_rounds_is_asked_about(asked):
    lines, _ = asked(COMPARING, 0.49, accepted(pace=0.8 * PACE), 0.5)
    assert str(lines[0]).startswith("paired: ")
    assert "more at the pace that the machine had then" in str(lines[0])


# -- which cells get launches ----


def latency(prefill, decode):
    quiet = dict(cores=[0], self=1, processes={}, governors=None, throttles=None, frequencies=None, swap_ins=0)
    times = [{**quiet, "monotonic": t, "wall": t, "cpu": {"busy": 0.0, "idle": t, "steal": 0.0}} for t in (1.0, 6.0)]
    measured = Latency(cell=None, grid=None)
    measured.conditions = tuple(times)
    measured.stock_rounds, measured.rounds = rounds(0.1, 0.01), rounds(0.1 * prefill, 0.01 * decode)
    return measured


def accepted(layout=LAYOUT, decode=0.5, pace=PACE):
    """A ratio in the fixed layout `layout`, and another one of layouts that were drawn."""
    values = {"ratio_to_stock": 0.5, "paired_layout": layout}
    values |= {
        f"paired_{name}": value
        for name, value in dict(prefill=0.4, decode=decode, launches=30, layouts=1, pace=pace).items()
    }
    values |= {
        f"drawn_{name}": value
        for name, value in dict(prefill=0.4, decode=0.6, launches=12, layouts=6, pace=PACE).items()
    }
    spreads = dict(paired_prefill=0.03, paired_decode=0.01, drawn_prefill=0.03, drawn_decode=0.01)
    return Accepted(values, True, spreads=spreads)


class Fixed:
    """A stage whose stacks lie where they always do, and which starts the ranks of cells itself."""

    def has_fixed_layout(self, cell):
        return True

    def is_launched(self, cell):
        return False


class Launches(PairedLaunches):
    """Asks nobody: says what it would have asked for, of few launches that are as slow as `closer`."""

    closer = 0.5

    def _confirm(self, pairing, way, references, why, undisturbed):
        return [f"{way.name}: {why}"], {}

    def _accept(self, measured):
        return ["accept"], {}


class FewLaunches:
    each = 1.0  # seconds of a launch

    def __init__(self, *_, layouts, before):
        self.seconds = 0.0

    def count(self, number):
        self.seconds += number * self.each
        return [{"prefill": math.log(0.4), "decode": math.log(Launches.closer), "pace": math.log(PACE)}] * number


@pytest.fixture
def asked(monkeypatch):
    """A function from settings, the decode's ratio by the screen, what was accepted, and the ratio by few launches."""
    monkeypatch.setattr(pairing, "Pairing", FewLaunches)

    def ask(settings, decode, before, closer=0.5):
        monkeypatch.setattr(Launches, "closer", closer)
        launches = Launches(Fixed(), bound=BOUND, layout=LAYOUT, **settings)
        return launches(latency(0.4, decode), {}, before, bounds())

    return ask


UPDATING = dict(updating=True, comparing=False)
COMPARING = dict(updating=False, comparing=True, launches=None)
RISES = (
    "prefill +0.0 %, decode +4.0 % by the screen; prefill +0.0 %, decode +5.0 % by 2 launches; "
    "prefill +0.0 %, decode +5.0 % by 4 launches; prefill +0.0 %, decode +5.0 % by 8 launches"
)


@pytest.mark.parametrize(("settings", "decode", "before", "answer"), [
    (dict(**UPDATING, launches=8), 0.5, accepted(), "accept"),
    (dict(**UPDATING, launches=None), 0.5, accepted(), None),
    (dict(updating=False, comparing=False, launches=None), 0.9, accepted(), None),
    (COMPARING, 0.52, accepted(), f"paired: {RISES}"),
    (COMPARING, 0.624, accepted(layout=LAYOUT + 1), f"drawn: {RISES}"),
    (COMPARING, 0.9, Accepted({"ratio_to_stock": 0.5}, True), None),
    (COMPARING, 0.9, Accepted(None, False, same_machine=False), None),
])  # fmt: skip
def test_suspects_get_launches_and_others_none(asked, settings, decode, before, answer):
    closer = 0.63 if before.values and before.values.get("paired_layout") == LAYOUT + 1 else 0.525
    lines, _ = asked(settings, decode, before, closer)
    assert (str(lines[0]) if lines else None) == answer


@pytest.mark.parametrize(("decode", "closer", "by"), [
    (0.49, 0.9, "by the screen"),
    (0.52, 0.5, "by 2 launches"),
    (0.52, 0.503, "by 4 launches"),
    (0.52, 0.5045, "by 8 launches"),
])  # fmt: skip
def test_what_a_screen_finds_as_fast_as_before_is_no_suspect(asked, decode, closer, by):
    [line], _ = asked(COMPARING, decode, accepted(), closer)
    assert (line.check, line.verdict) == ("screen", "PASS")
    assert line.measured.endswith(f"{by}: no suspect")


@pytest.mark.parametrize(("seconds", "launches"), [(1.0, 8), (3.5, 4), (9.0, 2), (40.0, 2)])
def test_a_screen_of_long_launches_is_of_few(asked, monkeypatch, seconds, launches):
    monkeypatch.setattr(FewLaunches, "each", seconds)
    lines, _ = asked(COMPARING, 0.52, accepted(), 0.6)
    assert str(lines[0]).endswith(f"by {launches} launches")


def test_accepting_without_launches_keeps_the_ratios_there_were():
    _, kept = Launches(Fixed(), bound=BOUND, layout=LAYOUT, **UPDATING, launches=None)(
        latency(0.4, 0.5), {}, accepted(), bounds()
    )
    assert kept["paired_decode"] == (0.5, 0.01, "1")


def accepted_launches(launches, way):
    """What a later run finds of these launches, made in this Way."""
    metrics = ratio_metrics([{"prefill": value, **one} for one in launched(launches) for value in [one["decode"]]], way)
    values = {name: value for name, (value, _, _) in metrics.items()}
    return Accepted(values, True, spreads={name: spread for name, (_, spread, _) in metrics.items()})


@pytest.mark.parametrize(("way", "spread", "shared"), [
    (FIXED, BOUND["settled"], 1 - 1 / 16),
    (Way("drawn", 4), BOUND["layout"], 1 / 4 - 1 / 16),
    (Way("drawn", 8), BOUND["layout"], 1 / 8 - 1 / 16),
])  # fmt: skip
def test_what_was_accepted_comes_back_with_its_error_and_that_of_its_few_layouts(way, spread, shared):
    decode = references_of(accepted_launches(drawn(0.0, 16), way), BOUND, way)["decode"]
    seen = pairs.estimate(pairs.without_order(drawn(0.0, 16)))
    assert decode.log_ratio == pytest.approx(seen.median)
    assert decode.error == pytest.approx(math.hypot(seen.error, spread * math.sqrt(shared)))
    assert (decode.layout, decode.layouts) == (spread, way.layouts)


def test_the_pace_of_what_was_accepted_comes_back_with_its_spread_and_error():
    paces = drawn(0.0, 16, spread=0.06)
    metrics = ratio_metrics([{"prefill": 0.0, "decode": 0.0, "pace": pace} for pace in paces], FIXED)
    values, spreads = ({name: entry[place] for name, entry in metrics.items()} for place in (0, 1))
    decode = references_of(Accepted(values, True, spreads=spreads), BOUND, FIXED)["decode"]
    seen = pairs.estimate(paces)
    assert (decode.pace, decode.pace_spread, decode.pace_error) == pytest.approx((seen.median, seen.spread, seen.error))


@pytest.mark.parametrize(("launches", "layouts", "used"), [(6, 6, 3), (7, 6, 4), (30, 6, 6), (30, 1, 1)])
def test_each_layout_is_used_twice_in_a_row(launches, layouts, used):
    assert pairs.layouts_used(launches, layouts) == used
    asked = pairs.Reference(0.0, 0.0, 0.01, layouts).error_beside(launches)
    assert asked == pytest.approx(0.01 * math.sqrt(1 / used - 1 / launches))


def test_launches_in_few_layouts_have_to_be_slower_by_more():
    seen, alpha = drawn(0.02, LAST), 1e-4
    few, many = (pairs.layout_references(BOUND, layouts)["decode"] for layouts in (1, 12))
    assert pairs.decision(seen, many, BOUND, alpha) == "slower"
    assert pairs.decision(seen, few, BOUND, alpha) is None


def test_who_started_first_is_no_slowdown():
    order = [0.02, -0.02] * 16 + [0.02]
    values = [a + b for a, b in zip(order, drawn(0.0, 33, spread=0.002), strict=True)]
    assert pairs.estimate(pairs.without_order(values)).spread < 0.004
    assert pairs.decision(values, SIDE_BY_SIDE, BOUND, ALPHA) == "sound"
    assert pairs.decision([value + 0.01 for value in values], SIDE_BY_SIDE, BOUND, ALPHA) == "slower"


def test_suspects_share_the_runs_false_alarms_however_many_they_are():
    shares = [len(METRICS) * share_of_suspect(0.01, number) for number in range(1, 1000)]
    assert sum(shares) < 0.01
    assert shares[0] == pytest.approx(0.005)
    assert sorted(shares, reverse=True) == shares


def test_the_runs_false_alarms_are_shared_among_its_cells_and_metrics():
    assert share_of(0.01, 50) == pytest.approx(1e-4)
    assert share_of(0.01, 0) == share_of(0.01, 1)


@pytest.mark.parametrize(("counters", "verdicts"), [
    ({"tokens": 12, "kernels": 100}, ["PASS", "PASS"]),
    ({"tokens": 12, "kernels": 99}, ["PASS", "PASS"]),
    ({"tokens": 12, "kernels": 101}, ["PASS", "FAIL"]),
    ({"tokens": 11, "kernels": 100}, ["FAIL", "PASS"]),  # fewer tokens are quicker, and wrong
    ({"tokens": 12}, ["PASS", "INCONCLUSIVE"]),
])  # fmt: skip
def test_counters_are_held_without_statistics(counters, verdicts):
    lines = counted(counters, {"count_tokens": 12.0, "count_kernels": 100.0, "floor": 0.1})
    assert [line.verdict for line in lines] == verdicts
