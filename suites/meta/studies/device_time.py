"""What the timing gate sees of a slowdown on an accelerator, beside rules that use wall time, from the same replicates.

`python -m suites.meta.studies.device_time --cell llama-3.2-1b-fp16-cuda-single-eager --pairs 60 --out DIR` measures
pairs of fresh processes: the candidate is timed with every planted slowdown in turn, beside stock rounds of its own, in
kernel time and by the wall clock. `--table DIR` prints the table of what was measured; it needs no accelerator.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from fixtures.checks.tolerances import tolerances
from fixtures.compare.decision import decide, mean_of, percent, sessions_of
from fixtures.compare.policy import rule_of
from fixtures.compare.replicates import Replicates
from fixtures.compare.statistics import log_ratios
from fixtures.measure.latency import grid_for
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings
from suites.meta.studies import cell_of

LEVELS = (0.0, 0.005, 0.01, 0.02, 0.05)  # of the kernel time of a decode step
FAULT = {"fault_after": "suites.meta.faults.spin:spinning"}
CALLS = "suites.meta.faults.spin:"
GRID = {"beam": "1", "input": "512", "output": "16", "warmup": "1"}
ROUNDS = {"device": 1, "wall": 2}  # of either side at each level
BY_WALL = (0.0, 0.01, 0.05)  # levels that are timed by the wall clock, too
DRAWS, SEED, SET, ACCEPTED = 1000, 20260101, 12, 3


class Levels(Replicates):
    """Replicates that time the candidate at every level; `rows` keeps what each of them saw."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.rows = []

    def ratios(self, arms):
        self.warm_up(arms)
        with arms["candidate"].awake() as model:
            call = lambda name, **more: model.worker.call(  # noqa: E731
                "call", model.deadline, function=CALLS + name, request=self.request, **more
            )
            step = call("step_of").message["result"]
        row = {"step": step, "device": {}, "wall": {}, "totals": {}}
        for level in LEVELS:
            with arms["candidate"].awake():
                call("set_spin", share=level, step=step)
            row["device"][str(level)] = log_ratios(*self._rounds(arms, "device"))["decode"]
            if level in BY_WALL:
                mine, theirs = self._rounds(arms, "wall")
                row["wall"][str(level)] = log_ratios(mine, theirs)["decode"]
                row["totals"][str(level)] = [seen["total"] for seen in mine]
        self.rows.append(row)
        return {"decode": row["device"]["0.0"]}

    def _rounds(self, arms, clock):
        rounds, request = {name: [] for name in arms}, {**self.request, "device_time": clock == "device"}
        for number in range(ROUNDS[clock]):
            for name in arms if number % 2 == 0 else reversed(arms):
                rounds[name].append(arms[name].timed(**request))
        return rounds["candidate"], rounds["other"]


def measure(cell_id, pairs, out, seconds):
    """Write one JSON file with a row for each pair into the folder `out`; stops early after so many seconds."""
    cell = cell_of(cell_id)
    runtime, rows, begun = Runtime(Settings(faults={cell.id: FAULT})), [], time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    try:
        made = Levels(runtime, cell, grid_for(cell, environment=GRID))
        while len(rows) < pairs and time.monotonic() - begun < seconds:
            with made.block():
                for first in (True, False) * 2:
                    seen = made.replicate(first)
                    rows.append({"first": first, "disturbance": seen.disturbance, **made.rows[-1]})
            path = out / f"{cell_id}-{int(begun)}.json"
            path.write_text(json.dumps({"cell": cell_id, "rows": rows}))
            reported = ", ".join(f"{level} {100 * value:+.2f} %" for level, value in rows[-1]["device"].items())
            print(f"{len(rows)} of {pairs} pairs, {time.monotonic() - begun:.0f} s: {reported}", flush=True)
    finally:
        runtime.close()


def sessions(rows, clock, level, rule, draw):
    """Shares of drawn sessions of the gate's size that it fails; accepted and both sets are of different rows."""
    orders = [[row for row in rows if row["first"] is first] for first in (True, False)]
    hits = 0
    for _ in range(DRAWS):
        needed = SET // 2 * (2 + ACCEPTED)
        picked = [draw.choice(len(one), needed, replace=len(one) < needed) for one in orders]
        sets = [
            [
                (of_order[place][clock][str(level if number < 2 else 0.0)], of_order[place]["first"])
                for of_order, places in zip(orders, picked, strict=True)
                for place in places[number * SET // 2 : (number + 1) * SET // 2]
            ]
            for number in range(2 + ACCEPTED)
        ]
        accepted = sessions_of([mean_of(one) for one in sets[2:]])
        hits += all(decide(one, accepted, rule).verdict == "slower" for one in sets[:2])
    return hits / DRAWS


def stored(rows, level, statistic, draw, threshold=0.05):
    """Share of comparisons of a run's totals with a stored run's that exceed a threshold, as pytest-benchmark does."""
    pick = draw.integers(len(rows), size=(DRAWS, 2))
    pairs = [(rows[a]["totals"][str(level)], rows[b]["totals"]["0.0"]) for a, b in pick if a != b]
    return float(np.mean([statistic(now) > (1 + threshold) * statistic(before) for now, before in pairs]))


def table(folder):
    """The Markdown table of the pairs in a folder, one block a cell."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        data = json.loads(path.read_text())
        found.setdefault(data["cell"], []).extend(data["rows"])
    lines = []
    names = " | ".join("identical" if not level else f"+{100 * level:g} %" for level in LEVELS)
    lines += [f"| cell | rule | sd of identical code | {names} |", "|---" * (3 + len(LEVELS)) + "|"]
    for cell, rows in found.items():
        draw, rule = np.random.default_rng(SEED), rule_of(tolerances(), cell_of(cell), "decode")
        for clock, title in (("device", "the gate, kernel time"), ("wall", "the gate's rule, wall time")):
            spread = float(np.std([row[clock]["0.0"] for row in rows], ddof=1))
            known = LEVELS if clock == "device" else BY_WALL
            cells = [f"{sessions(rows, clock, level, rule, draw):.1%}" if level in known else "" for level in LEVELS]
            lines.append(f"| {cell}, {len(rows)} pairs | {title} | {100 * spread:.2f} % | {' | '.join(cells)} |")
        for name, statistic in (("min", min), ("mean", np.mean)):
            cells = [f"{stored(rows, level, statistic, draw):.1%}" if level in BY_WALL else "" for level in LEVELS]
            totals = np.log([statistic(row["totals"]["0.0"]) for row in rows])
            lines.append(f"| | `{name}:5%` on wall time | {100 * np.std(totals, ddof=1):.2f} % | {' | '.join(cells)} |")
        means = {level: np.mean([row["device"][str(level)] - row["device"]["0.0"] for row in rows]) for level in LEVELS}
        lines.append(
            f"| | measured rise, kernel time | | {' | '.join(f'{percent(m):+.2f} %' for m in means.values())} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", default="llama-3.2-1b-fp16-cuda-single-eager")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no pair after so many seconds")
    parser.add_argument("--out", type=Path, default=Path("results/device-time"))
    parser.add_argument("--table", type=Path, help="print the table of a folder, and measure nothing")
    options = parser.parse_args()
    if not options.table:
        measure(options.cell, options.pairs, options.out, options.seconds)
    print(table(options.table or options.out))


if __name__ == "__main__":
    main()
