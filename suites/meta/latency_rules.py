"""What each rule would have said of measured launches: the gate with screen, accepted ratio and time limit, and others.

A session is drawn from launches: its accepted ratio from those of one group of processes, the screen and the launches
that confirm from those of another, as an accepted ratio and a later run never share their processes.
"""

import dataclasses
import functools
import math
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from scipy import stats

from fixtures.bench.plan import plan
from fixtures.judge.bounds import bounds
from fixtures.judge.launches import error_of_median, launch_ratios, middle_of, spread_of
from fixtures.judge.pairs import (
    Reference,
    column,
    decision,
    error_of_layouts,
    held_against,
    hopeless,
    of_metric,
    statistics_of,
    within_time,
    without_order,
)
from fixtures.pairing import share_of_suspect, too_long

DRAWS = 2000
SESSION_CELLS = 119  # latency cells of the host's whole matrix, which share the session's false alarms
OWN_ROUNDS = plan()["latency"]["host"]["iter"]  # of a run on a host, by which a cell is screened first
ACCEPTED = 48  # launches behind an accepted ratio
PARTS = 40  # of whole sessions, which processes share; as many on every machine, so that the numbers are the same
Z = float(stats.norm.isf(0.01))
RULES = {
    "screened": "the gate (screens, then launches)",
    "gate": "its launches, of any suspect",
    "min": "`--benchmark-compare-fail=min:5%`",
    "mean": "`--benchmark-compare-fail=mean:5%`",
    "z": "stored z-test at 1 %",
}


@dataclasses.dataclass(frozen=True)
class Launch:
    """One measured launch: its group, seconds of the gate's, and `rounds` as prove_latency.measure gives them."""

    group: int
    seconds: float
    rounds: dict

    def ratios(self, level):
        """launch_ratios to stock, without the prefill, which these sessions do not time."""
        return _of_decode(launch_ratios(self.rounds[level], self.rounds["stock"][level]))

    def of_a_run(self, level):
        """The same of as few rounds as a run itself makes, which lays no yardsticks."""
        sides = self.rounds[level], self.rounds["stock"][level]
        mine, theirs = ([{"tokens": seen["tokens"]} for seen in side[:OWN_ROUNDS]] for side in sides)
        return _of_decode(launch_ratios(mine, theirs))


def _of_decode(found):
    return {key: value for key, value in found.items() if not key.startswith("prefill")}


def gate(references, launches, bound, alpha):
    """(whether launches show the decode slower, how many it took) for [launch_ratios] in the order they were made.

    `references` {statistic of the decode: Reference}.
    """
    for look in (look for look in bound["looks"] if look <= len(launches)):
        seen = launches[:look]
        found = decision(*held_against(seen, references, bound)["decode"], alpha)
        if found is not None or hopeless(seen, references, bound):
            return found == "slower", look
    return False, len(launches)


def stored(rule, before, after):
    """Whether a rule over the rounds of one stored launch and one later one calls it slower."""
    a, b = (np.array([seen["total"] for seen in rounds]) for rounds in (before, after))
    if rule == "min":
        return b.min() > 1.05 * a.min()
    if rule == "mean":
        return b.mean() > 1.05 * a.mean()
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return (b.mean() - a.mean()) / error > Z


class Sessions:
    """Draws of sessions from launches in the order they were made, which alternates in who starts first.

    A group of launches is of the same two zygotes, in the fixed memory layout.
    """

    def __init__(self, launches, generator):
        self.launches, self.generator = launches, generator
        seconds = float(np.median([launch.seconds for launch in launches]))
        bound = within_time(of_metric(bounds()["pairs"], "decode"), seconds)
        first, *later = bound["closer"]
        self.bound = bound | {"closer": [first, *(look for look in later if not too_long(look[0], seconds, bound))]}
        self.groups = sorted({launch.group for launch in launches})
        self.most = self.bound["looks"][-1]
        self._ratios = {}

    def _of(self, level, group):
        """([launches that mine started first in], [stock first]) as launch_ratios."""
        if (level, group) not in self._ratios:
            found = [launch.ratios(level) for launch in self.launches if launch.group == group]
            self._ratios[level, group] = found[::2], found[1::2]
        return self._ratios[level, group]

    def _own(self, level, group):
        """What the own rounds of runs would tell, by launch."""
        key = "own", level, group
        if key not in self._ratios:
            self._ratios[key] = [launch.of_a_run(level) for launch in self.launches if launch.group == group]
        return self._ratios[key]

    def offsets(self):
        """How far the median log-ratio of identical code of each group lies from that of the groups."""
        found = self._middles("decode")
        return list(found - np.median(found))

    def paces(self):
        """By how much more time than the quickest of the groups stock took in each, as a log-ratio."""
        found = self._middles("pace")
        return list(found - min(found))

    def _middles(self, name):
        """The median over the launches of each group, of identical code."""
        groups = [
            [launch.ratios("0.0")[name] for launch in self.launches if launch.group == group] for group in self.groups
        ]
        return np.array([np.median(without_order(values)) for values in groups])

    def _drawn(self, level, group, count):
        """So many launch_ratios of a group, in turn mine first and stock first; none twice before all were drawn."""
        found, left = [], {}
        for number in range(count):
            if not left.get(number % 2):
                left[number % 2] = list(self.generator.permutation(self._of(level, group)[number % 2]))
            found.append(left[number % 2].pop())
        return found

    def _split(self):
        """(the group of which a session accepts, that of which a later one measures)."""
        drawn = self.generator.permutation(self.groups)
        return drawn[0], drawn[-1]

    def _asked(self, level, then, now):
        """(the References that were accepted, whether the cell is a suspect, launches that confirm) of one cell."""
        accepted = estimate_of(self._drawn("0.0", then, ACCEPTED), self.bound["settled"])
        # The run's own rounds are a launch's first; then come a few launches, and those that decide.
        own = self._own(level, now)
        few = self._drawn(level, now, self.bound["closer"][-1][0])
        looks = [([own[int(self.generator.integers(len(own)))]], self.bound["suspect"])]
        looks += [(few[:count], rise) for count, rise in self.bound["closer"]]
        suspect = all(self._risen(seen, accepted, rise) for seen, rise in looks)
        # Of another draw: what the screens left of one would lie the lower the higher lay what made a suspect.
        return accepted, suspect, self._drawn(level, now, self.most)

    def _risen(self, launches, accepted, rise):
        """Whether a screen of these launches leaves the cell suspect."""
        ratios, held, _ = held_against(launches, accepted, self.bound)["decode"]
        return sum(ratios) / len(ratios) - held.log_ratio + held.shift > math.log1p(rise)

    def _alpha(self, suspects):
        return share_of_suspect(self.bound["session_alpha"], suspects)

    def alarms(self, sessions):
        """How many of so many whole sessions of identical code raise any alarm."""
        parts = [Sessions(self.launches, generator) for generator in self.generator.spawn(PARTS)]
        with ProcessPoolExecutor() as pool:
            return sum(pool.map(Sessions._alarms, parts, [len(range(part, sessions, PARTS)) for part in range(PARTS)]))

    def _alarms(self, sessions):
        return sum(self._any_false(*self._split()) for _ in range(sessions))

    def _any_false(self, then, now):
        suspects = 0
        for _ in range(SESSION_CELLS):
            accepted, suspect, launches = self._asked("0.0", then, now)
            suspects += suspect
            if suspect and gate(accepted, launches, self.bound, self._alpha(suspects))[0]:
                return True
        return False

    def suspects(self, draws=DRAWS):
        """The share of identical cells that the screens make suspects."""
        return float(np.mean([self._asked("0.0", *self._split())[1] for _ in range(draws)]))

    def outcomes(self, level, suspects, draws=DRAWS):
        """{rule: [whether it called the cell slower at `level`, by draw]}, and [launches that the gate took].

        The cell is one of a session's, of which the identical ones before it are suspects at the rate `suspects`.
        """
        found, counts = {rule: [] for rule in RULES}, []
        for _ in range(draws):
            accepted, suspect, launches = self._asked(level, *self._split())
            before = self.generator.binomial(self.generator.integers(SESSION_CELLS), suspects)
            slower, count = gate(accepted, launches, self.bound, self._alpha(1 + before))
            found["gate"].append(slower)
            found["screened"].append(slower and suspect)
            counts.append(count)
            first, second = self.generator.choice(len(self.launches), 2, replace=False)
            rounds = self.launches[first].rounds["0.0"], self.launches[second].rounds[level]
            for rule in ("min", "mean", "z"):
                found[rule].append(stored(rule, *rounds))
        return found, counts


def estimate_of(launches, settled):
    """{statistic of the decode: Reference} that these launch_ratios would be accepted as.

    Pairs of zygotes spread by `settled`.
    """
    found, paces = {}, np.array(column(launches, "pace"))
    spread_of_pace = spread_of(paces)
    of_pace = middle_of(paces), spread_of_pace, error_of_median(spread_of_pace, len(paces))
    for key in statistics_of(launches):
        steady = without_order(column(launches, key))
        error = error_of_median(spread_of(steady), len(steady))
        error = math.hypot(error, error_of_layouts(settled, len(steady), 1))
        found[key] = Reference(middle_of(steady), error, settled, 1, *of_pace)
    return found


def evaluated(launches, levels, generator, resamples=20):
    """{level: {rule: (rate, low, high)}} of Launches, and {level: mean number of launches that the gate took}.

    low and high, the extremes of `resamples`, are of what the measured launches leave open: one group of more than
    two is left out, the launches of the others are drawn again, and sessions from those.
    """
    suspects = Sessions(launches, generator).suspects()
    with ProcessPoolExecutor() as pool:
        ask = functools.partial(_evaluated_at, launches, suspects, resamples)
        found = dict(zip(levels, pool.map(ask, levels, generator.spawn(len(levels))), strict=True))
    return {level: rates for level, (rates, _) in found.items()}, {level: count for level, (_, count) in found.items()}


def _evaluated_at(launches, suspects, resamples, level, generator):
    """({rule: (rate, low, high)}, mean number of launches that the gate took) at one level."""
    found, took = Sessions(launches, generator).outcomes(level, suspects)
    again = {rule: [] for rule in RULES}
    for _ in range(resamples):
        drawn = Sessions(redrawn(launches, generator), generator)
        for rule, seen in drawn.outcomes(level, suspects, DRAWS // 10)[0].items():
            again[rule].append(float(np.mean(seen)))
    rates = {rule: [float(np.mean(seen)), min(again[rule]), max(again[rule])] for rule, seen in found.items()}
    return rates, float(np.mean(took))


def redrawn(launches, generator):
    """Launches drawn again within their group and order of starting; of more than two groups one is left out."""
    groups, found = sorted({launch.group for launch in launches}), []
    if len(groups) > 2:
        groups.remove(generator.choice(groups))
    for group in groups:
        own = [launch for launch in launches if launch.group == group]
        for place in range(len(own)):
            alike = own[place % 2 :: 2]
            found.append(alike[generator.integers(len(alike))])
    return found
