"""How often each rule sees a slowdown of the decode step, and how often it cries wolf on identical code.

`python -m suites.meta.prove_latency [--quick] [--cells ID,...] [--launches N] [--out DIR]` launches a cell's optimised
model beside the stock one, as the gate does, slowed by a busy loop in every step (suites.meta.latency_faults), on the
host as it is and beside a bursty neighbour, and prints the table as Markdown. Raw times go to DIR/launches.jsonl, from
which `--table` makes the table again without measuring.

All rules see the same launches. Each launch times the stock model and the optimised one in turns, that one at every
level, so a level costs rounds and not launches. The zygotes are started anew for every group of launches. What sessions
would have made of them is drawn in suites.meta.latency_rules.
"""

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import stats

from fixtures.bench.latency import grid_for
from fixtures.bench.pairs import Pairing, table_of, wants_more
from fixtures.bench.stage import Settings, Stage
from fixtures.judge.launches import TYPICAL
from fixtures.judge.pairs import percent
from fixtures.matrix import load_matrix
from suites.meta.arithmetic import PRECISIONS
from suites.meta.latency_rules import RULES, Launch, Sessions, evaluated

LEVELS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.1)
CELL = f"llama-2-7b-{PRECISIONS[-1]}-cpu-single"
# Half a second of work and half a second of rest, on one core at a time.
NEIGHBOUR = """
import os, time
parent = os.getppid()
while os.getppid() == parent:
    end = time.time() + 0.5
    while time.time() < end:
        pass
    time.sleep(0.5)
"""
SEED = 11
WARMUP = 3  # calls, by which the busy loop is calibrated, too
GROUP = 40  # launches of the same two zygotes: those of a session, screens included
GATES = 4  # launches as the gate makes them, by which their time is known
WHOLE_SESSIONS = 400


def measure(pairing, number, lanes, levels=LEVELS):
    """Launches from `number` on, one on each of `lanes`.

    Each is {level: rounds of the optimised model slowed by that share, "stock": {level: rounds beside}}.

    Each level has a launch of the gate within this one: its time, and its order of rounds. The levels take turns after
    every round of both sides, and which of them comes first rotates.
    """
    play = functools.partial(_levels, ask=pairing.ask, levels=levels, table=table_of(lanes))
    return pairing.played(number, lanes, play)


def _levels(mine, theirs, mine_first, ask, levels, table):
    for side in (mine, theirs):
        for _ in range(WARMUP):
            side.timed(**ask)
    found = {**{level: [] for level in levels}, "stock": {level: [] for level in levels}}
    turn, start = 0, time.monotonic()
    base = levels[0]
    while wants_more(found[base], found["stock"][base], (time.monotonic() - start) / len(levels), table):
        first = turn % len(levels)
        for place, level in enumerate((*levels[first:], *levels[:first])):
            in_order = ((turn * len(levels) + place) % 2 == 0) is mine_first
            for slowed in (True, False) if in_order else (False, True):
                _slow(mine if slowed else theirs, level if slowed else 0.0)  # the same is done to both sides
                (found if slowed else found["stock"])[level].append((mine if slowed else theirs).timed(**ask))
        turn += 1
    return found


def _slow(side, share):
    with side.awake():
        side.model.worker.call("call", 60, function="suites.meta.latency_faults:set_share", share=share)


def collect(cells, launches, out):
    """Measure every cell quiet and beside the neighbour; appends a line of JSON for each launch to `out`."""
    known = {cell.id: cell for cell in load_matrix().all_cells()}
    for cell in (known[cell_id] for cell_id in cells):
        for neighbour in (False, True):
            groups = -(-launches // GROUP)
            size = 2 * -(-launches // (2 * groups))  # either side starts first in half of them
            for group in range(groups):
                of_group = range(group * size, (group + 1) * size)
                _collect_group(cell, neighbour, group, of_group, groups * size, out)


def _collect_group(cell, neighbour, group, numbers, launches, out):
    stage = Stage(Settings(layout=0, faults={cell.id: {"fault_after": "suites.meta.latency_faults:slowed"}}))
    try:
        pairing = Pairing(stage, cell, grid_for(cell), layouts=1)
        pairing.count(2)  # imports both stacks
        with _Neighbour(neighbour), out.open("a") as file:
            pairing.count(2)  # tells how many lanes there are
            start = time.monotonic()
            pairing.count(GATES)
            seconds = (time.monotonic() - start) / GATES
            left = list(numbers)
            while left:
                found = measure(pairing, left[0], pairing.lanes()[: len(left)])
                left = left[len(found) :]
                for launch in found:
                    record = {"cell": cell.id, "neighbour": neighbour, "group": group, "seconds": seconds}
                    file.write(json.dumps(record | {"launch": launch}) + "\n")
                file.flush()
                told = f"{cell.id} {'busy' if neighbour else 'quiet'} {numbers.stop - len(left)}/{launches}"
                print(f"[{told}]", file=sys.stderr)
    finally:
        stage.close()


class _Neighbour:
    def __init__(self, wanted):
        self.wanted, self.process = wanted, None

    def __enter__(self):
        if self.wanted:
            self.process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR])

    def __exit__(self, *_):
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def read(path):
    """{(cell, neighbour): [Launch]} of launches.jsonl."""
    groups = {}
    for line in path.read_text().splitlines():
        seen = json.loads(line)
        launch = Launch(seen["group"], seen["seconds"], seen["launch"])
        groups.setdefault((seen["cell"], seen["neighbour"]), []).append(launch)
    return groups


def judged(groups):
    """{(cell, neighbour): (launches, rates, counts)} of what `read` gives; see latency_rules.evaluated."""
    generator = np.random.default_rng(SEED)
    return {
        key: (launches, *evaluated(launches, [str(level) for level in LEVELS], generator))
        for key, launches in groups.items()
    }


def table(groups):
    """Lines of Markdown for what `judged` gives."""
    heads = [f"+{level:.0%}" if level else "identical" for level in LEVELS]
    yield f"| cell | neighbour | rule | {' | '.join(heads)} | launches (identical, +3%) |"
    yield f"|---|---|---|{'---|' * len(heads)}---|"
    for (cell, neighbour), (_, rates, counts) in groups.items():
        where = f"| {cell.removesuffix('-cpu-single')} | {'bursty' if neighbour else 'none'}"
        took = f"{counts['0.0']:.1f}, {counts['0.03']:.1f}"
        for rule, name in RULES.items():
            row = " | ".join(_rate(*rates[str(level)][rule]) for level in LEVELS)
            yield f"{where} | {name} | {row} | {took if rule == 'gate' else ''} |"


def _rate(rate, low, high):
    return f"{rate:.1%} [{low:.0%}, {high:.0%}]"


def _within(ratios):
    """Robust deviation of log-ratios by launch within each order of starting."""
    return np.mean([stats.median_abs_deviation(ratios[place::2], scale="normal") for place in (0, 1)])


def notes(groups):
    """A line for each cell and neighbour: how the launches spread, and how many whole sessions cried wolf."""
    for (cell, neighbour), (launches, _, _) in groups.items():
        sessions = Sessions(launches, np.random.default_rng(SEED))
        ratios, typical = (
            np.array([launch.ratios("0.0")[key] for launch in launches]) for key in ("decode", "decode" + TYPICAL)
        )
        orders = [np.median(ratios[place::2]) for place in (0, 1)]
        alarms = sessions.alarms(WHOLE_SESSIONS)
        lie = ", ".join(f"{percent(offset):+.1f}" for offset in sessions.offsets())
        pace = ", ".join(f"{percent(slower):.0f}" for slower in sessions.paces())
        yield (
            f"{cell}, {'bursty' if neighbour else 'no'} neighbour: {len(launches)} launches in {len(sessions.groups)} "
            f"groups, which lie at {lie} %, where stock takes {pace} % more than in the quickest, spread "
            f"{_within(ratios):.2%} (typical tokens {_within(typical):.2%}), {abs(orders[0] - orders[1]):.2%} between "
            f"the orders of starting, at most {sessions.most} in the time of a suspect; {sessions.suspects():.1%} of "
            f"identical cells suspect; "
            f"{alarms} of {WHOLE_SESSIONS} sessions of identical code raise an alarm"
            f"{'; accepted and judged by the same processes' if len(sessions.groups) == 1 else ''}"
        )


COLOURS = {"screened": "#1b7837", "gate": "#7fbf7b", "min": "#c0392b", "mean": "#e08214", "z": "#6a51a3"}
WIDE, HIGH, LEFT, TOP = 430, 230, 46, 34  # of a panel, and its axes, in pixels


def drawing(groups):
    """An SVG text: a panel for each cell and neighbour, a curve for each rule of how much it sees at which slowdown."""
    across = 2
    down = -(-len(groups) // across)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{across * WIDE}" height="{down * HIGH + 24}" '
    yield 'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
    for place, ((cell, neighbour), (_, rates, _)) in enumerate(groups.items()):
        yield f'<g transform="translate({place % across * WIDE},{place // across * HIGH})">'
        yield from _panel(f"{cell}, {'bursty neighbour' if neighbour else 'no neighbour'}", rates)
        yield "</g>"
    for place, (rule, colour) in enumerate(COLOURS.items()):
        name = RULES[rule].replace("`", "")
        x, y = 20 + place * 170, down * HIGH + 14
        yield f'<line x1="{x}" x2="{x + 18}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="2.5"/>'
        yield f'<text x="{x + 22}" y="{y}">{name.replace("--benchmark-compare-fail=", "stored ")}</text>'
    yield "</svg>"


def _panel(title, rates):
    wide, high = WIDE - LEFT - 16, HIGH - TOP - 42

    def at(level, share):
        return f"{LEFT + level / max(LEVELS) * wide:.1f},{TOP + (1 - share) * high:.1f}"

    yield f'<text x="{LEFT}" y="20" font-weight="bold">{title}</text>'
    for share in (0, 0.5, 1):
        y = TOP + (1 - share) * high
        yield f'<line x1="{LEFT}" x2="{LEFT + wide}" y1="{y}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{share:.0%}</text>'
    for level in LEVELS:
        x = LEFT + level / max(LEVELS) * wide
        yield f'<text x="{x:.1f}" y="{TOP + high + 15}" text-anchor="middle">{level * 100:g}</text>'
    yield f'<text x="{LEFT + wide / 2}" y="{TOP + high + 30}" text-anchor="middle">true slowdown of a step, %</text>'
    for rule, colour in COLOURS.items():
        points = " ".join(at(level, rates[str(level)][rule][0]) for level in LEVELS)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5" opacity="0.85"/>'


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="eight launches of the first cell")
    parser.add_argument("--cells", default=CELL)
    parser.add_argument("--launches", type=int, default=120)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="make the table from an earlier run's launches.jsonl"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw it, too")
    options = parser.parse_args()
    path = options.table
    if path is None:
        folder = options.out or Path(tempfile.mkdtemp(prefix="xpu-llm-cts-proof-"))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "launches.jsonl"
        cells = options.cells.split(",")
        collect(cells[:1] if options.quick else cells, 8 if options.quick else options.launches, path)
    groups = judged(read(path))
    print("\n".join([*table(groups), *notes(groups)]))
    if options.svg:
        options.svg.write_text("\n".join(drawing(groups)) + "\n")
    print(f"raw times: {path}")


if __name__ == "__main__":
    main()
