"""What one launch tells: least times and typical tokens, freed of what slowed the core, and when it goes on."""

import math

import numpy as np
import pytest

from fixtures.bench.pairs import rounds as made_rounds
from fixtures.bench.pairs import wants_more
from fixtures.bench.plan import plan
from fixtures.engine.forcing import StepClock
from fixtures.judge.launches import error_within, launch_ratios, slope
from suites.meta.test_pairs_judge import rounds

TABLE = plan()["pairs"]


def test_a_launch_compares_the_quickest_of_each_position():
    noisy = [*rounds(0.1, 0.01, 1), {"total": 9.0, "tokens": [0.1, 0.11, 5.0, 5.01, 5.02]}]
    found = launch_ratios(noisy, rounds(0.05, 0.005))
    twice = dict.fromkeys(("prefill", "prefill_typical", "decode", "decode_typical"), math.log(2))
    assert found == pytest.approx(twice | {"pace": math.log(0.02)})


def test_one_token_has_a_prefill_and_no_decode():
    found = launch_ratios(rounds(0.1, 0.01, tokens=1), rounds(0.1, 0.01, tokens=1))
    assert set(found) == {"prefill", "prefill_typical", "pace"}


def test_steps_that_a_clock_cannot_resolve_give_no_decode():
    found = launch_ratios(rounds(0.1, 0.0), rounds(0.1, 0.0))
    assert set(found) == {"prefill", "prefill_typical", "pace"}


def test_a_step_that_a_clock_cannot_resolve_is_left_out():
    seen = [{"tokens": [0.1, 0.1, 0.2, 0.3]}] * 3
    assert launch_ratios(seen, seen)["decode_typical"] == 0.0


def test_the_typical_token_is_held_against_that_of_the_round_beside():
    """A machine that gets slower by half from round to round leaves it where it is."""
    pace = [1.0, 1.5, 2.25]
    mine, theirs = ([rounds(0.1 * p, 0.01 * s * p, 1)[0] for p in pace] for s in (1.1, 1.0))
    assert launch_ratios(mine, theirs)["decode_typical"] == pytest.approx(math.log(1.1))
    no_quiet_moment = launch_ratios([mine[1], mine[1], mine[2]], theirs)
    assert no_quiet_moment["decode"] == pytest.approx(math.log(1.1 * 1.5))
    assert no_quiet_moment["decode_typical"] == pytest.approx(math.log(1.1))


def test_the_devices_own_clock_counts_where_both_sides_have_it():
    host, device = rounds(0.1, 0.01), rounds(0.1, 0.02)
    both = [{**seen, "device": other["tokens"]} for seen, other in zip(host, device, strict=True)]
    assert launch_ratios(both, host)["decode"] == pytest.approx(0.0)
    plain = [{**seen, "device": seen["tokens"]} for seen in host]
    assert launch_ratios(both, plain)["decode"] == pytest.approx(math.log(2))


def on_a_shared_core(step, share, seed, count=14, tokens=12, own=1.0):
    """Rounds on a core that is slower at times, of which the steps feel so large a share; with yardsticks.

    These always take `own` times as long after a step of this side.
    """
    generator = np.random.default_rng(seed)
    quiet = np.repeat(generator.random((count, tokens // 4 + 1)) < 0.2, 4, axis=1)[:, : tokens + 1]
    slow = 0.6 * generator.random((count, 1)) * ~quiet + generator.normal(0, 0.01, (count, tokens + 1))
    steps = step * np.exp(share * (slow[:, 1:] + slow[:, :-1]) / 2 + generator.normal(0, 0.01, (count, tokens)))
    laid = own * 5e-5 * np.exp(slow + generator.normal(0, 0.01, slow.shape))
    return [
        {"tokens": list(stamps), "yardsticks": list(found)}
        for stamps, found in zip(np.cumsum(steps, axis=1), laid, strict=True)
    ]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_yardsticks_free_a_launch_of_what_slowed_the_core(share):
    seen = [(on_a_shared_core(1.03, share, 2 * n), on_a_shared_core(1.0, share, 2 * n + 1)) for n in range(40)]
    freed = [launch_ratios(*both)["decode_typical"] for both in seen]
    bare = [[[{"tokens": seen["tokens"]} for seen in side] for side in both] for both in seen]
    plain = [launch_ratios(*both)["decode_typical"] for both in bare]
    assert np.mean(freed) == pytest.approx(math.log(1.03), abs=0.003)
    assert np.std(freed) < np.std(plain) / 4


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_side_that_slows_its_own_core_is_not_freed_of_that(share):
    seen = [(on_a_shared_core(1.03, share, 2 * n, own=1.2), on_a_shared_core(1.0, share, 2 * n + 1)) for n in range(40)]
    assert np.mean([launch_ratios(*both)["decode_typical"] for both in seen]) == pytest.approx(
        math.log(1.03), abs=0.005
    )


def test_a_yardstick_that_was_interrupted_frees_its_steps_of_no_more_than_others():
    mine, theirs = (on_a_shared_core(1.0, 1.0, seed) for seed in (1, 2))
    before = launch_ratios(mine, theirs)["prefill_typical"]
    for seen in mine[:9]:
        seen["yardsticks"][0] *= 100
    assert launch_ratios(mine, theirs)["prefill_typical"] == pytest.approx(before, abs=0.6)


def test_a_step_clock_stands_still_while_a_yardstick_is_timed(monkeypatch):
    clock = [0.0]

    def later(seconds):
        clock[0] += seconds
        return seconds

    monkeypatch.setattr("fixtures.engine.forcing.time.perf_counter", lambda: clock[0])
    steps = StepClock(lambda: None, yardstick=lambda: later(5.0))
    steps.lay_yardstick()
    start = steps.now()
    for _ in range(3):
        later(1.0)
        steps(None, None)
    assert [stamp - start for stamp in steps.stamps] == [1.0, 2.0, 3.0]
    assert steps.yardsticks == [5.0] * 4


class Asked:
    """A side that notes its turn."""

    def __init__(self, name, turns, seconds):
        self.name, self.turns, self.seconds = name, turns, seconds

    def timed(self, **ask):
        self.turns.append(self.name)
        return rounds(0.1, self.seconds, count=1)[0]


@pytest.mark.parametrize(("mine_first", "order"), [(True, "ABBAABBAABBA"), (False, "BAABBAABBAAB")])
def test_the_sides_of_a_launch_take_turns(mine_first, order):
    turns = []
    table = TABLE | {"rounds": 6, "seconds": 0.0, "longest": 0.0, "warmup": 0}
    mine, theirs = made_rounds(Asked("A", turns, 0.02), Asked("B", turns, 0.01), mine_first, {}, table)
    assert "".join(turns) == order
    assert launch_ratios(mine, theirs)["decode"] == pytest.approx(math.log(2))


@pytest.mark.parametrize(("true", "told"), [(0.6, 0.6), (-0.4, 0.0), (1.8, 1.0)])
def test_a_core_that_is_slower_makes_no_step_quicker_nor_slower_than_itself(true, told):
    x = np.random.default_rng(1).normal(size=200)
    y = true * x
    y[:4] += 50.0  # interrupted
    assert slope(x, y) == pytest.approx(told, abs=0.02)


def test_a_yardstick_that_never_changes_tells_nothing():
    assert slope(np.zeros(5), np.ones(5)) == 0.0


@pytest.mark.parametrize(("made", "seconds", "spread", "more"), [
    (TABLE["rounds"] - 1, 9.0, 0.0, True),
    (TABLE["rounds"], TABLE["seconds"] - 0.1, 0.0, True),
    (TABLE["most"], TABLE["seconds"] - 0.1, 0.0, False),
    (TABLE["most"], TABLE["seconds"] - 0.1, 0.1, True),
    (TABLE["rounds"], TABLE["seconds"], 0.0, False),
    (TABLE["rounds"], TABLE["seconds"], 0.1, True),
    (TABLE["rounds"], 2.0, 0.1, False),
])  # fmt: skip
def test_a_launch_goes_on_while_its_own_rounds_differ(made, seconds, spread, more):
    theirs = rounds(0.1, 0.01, count=made)
    mine = [rounds(0.1, 0.01 * math.exp(spread * (-1) ** n), count=1)[0] for n in range(made)]
    assert wants_more(mine, theirs, seconds, TABLE | {"longest": 2.0}) is more


def test_the_error_within_a_launch_is_that_of_its_rounds_medians():
    mine = [rounds(0.1, 0.01 * math.exp(value), count=1)[0] for value in (-0.02, -0.01, 0.0, 0.01, 0.02)]
    expected = math.sqrt(math.pi / 2) * 1.4826 * 0.01 / math.sqrt(5)
    assert error_within(mine, rounds(0.1, 0.01, count=5)) == pytest.approx(expected)
