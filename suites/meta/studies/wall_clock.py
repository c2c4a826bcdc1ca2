"""What the timing gate sees of a planted slowdown on a host, and how often it alarms on identical code.

`python -m suites.meta.studies.wall_clock --sessions 8 --every 400 --out DIR` measures sessions, each once quiet and
once beside neighbours: a set of replicates from fresh fork servers, in which the candidate is timed with every planted
slowdown in turn, beside stock rounds of its own. `--table DIR` prints the table of what was measured.
"""

import argparse
import contextlib
import json
import time
from pathlib import Path

import numpy as np

from fixtures.checks.tolerances import tolerances
from fixtures.compare.decision import decide, mean_of, percent, sessions_of
from fixtures.compare.policy import rule_of
from fixtures.compare.replicates import Replicates
from fixtures.measure.latency import grid_for
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings
from suites.meta.studies import cell_of
from suites.meta.studies.neighbours import neighbours

CELL = "llama-2-7b-fp32-cpu-single"
LEVELS = (0.0, 0.02, 0.03, 0.05, 0.10)  # of a decode step
FAULT = {"fault_after": "suites.meta.faults.latency:slowed"}
DRAWS, RESAMPLES, SEED = 800, 1000, 20260101
ACCEPTED = 3  # sessions behind an accepted ratio


class Levels(Replicates):
    """Replicates that time the candidate at every level; `levels` keeps {level: log-ratios} of each replicate."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.levels = []

    def ratios(self, arms):
        found = {}
        for level in LEVELS:
            with arms["candidate"].awake() as model:
                function = "suites.meta.faults.latency:set_share"
                model.worker.call("call", model.deadline, function=function, share=level)
            found[level] = super().ratios(arms)
        self.levels.append(found)
        return found[0.0]


def session(cell, blocks):
    """[{"first", "disturbance", "decode": {level: log-ratio}}] of a set of two replicates a block."""
    runtime, rows = Runtime(Settings(faults={cell.id: FAULT})), []
    try:
        made = Levels(runtime, cell, grid_for(cell))
        for _ in range(blocks):
            with made.block():
                for first in (True, False):
                    seen = made.replicate(first)
                    decode = {str(level): ratios["decode"] for level, ratios in made.levels[-1].items()}
                    rows.append({"first": first, "disturbance": seen.disturbance, "decode": decode})
    finally:
        runtime.close()
    return rows


def measure(cell_id, sessions, every, out, blocks=6):
    """Write one JSON file a session into the folder `out`; a pair of sessions begins every so many seconds."""
    cell = cell_of(cell_id)
    out.mkdir(parents=True, exist_ok=True)
    for number in range(sessions):
        begun = time.monotonic()
        for kind in ("quiet", "busy"):
            with neighbours(number) if kind == "busy" else contextlib.nullcontext():
                rows = session(cell, blocks)
            (out / f"{kind}-{number:02}.json").write_text(json.dumps({"cell": cell_id, "rows": rows}))
            disturbed = sum(bool(row["disturbance"]) for row in rows)
            print(
                f"session {number + 1} of {sessions}, {kind}: {disturbed} of {len(rows)} replicates disturbed",
                flush=True,
            )
        if number + 1 < sessions:
            time.sleep(max(0.0, every - (time.monotonic() - begun)))


def sets_of(folder, kind):
    """[{level: [(log-ratio, candidate_first)]}] by session, and the share of sets with a disturbed replicate."""
    files = [json.loads(path.read_text())["rows"] for path in sorted(folder.glob(f"{kind}-*.json"))]
    found = [{level: [(row["decode"][str(level)], row["first"]) for row in rows] for level in LEVELS} for rows in files]
    return found, float(np.mean([any(row["disturbance"] for row in rows) for rows in files])) if files else 0.0


def found_at(sets, level, rule, generator):
    """(share of draws by the session of their first set in which both sets say slower, [minimum detectable])."""
    hits, detectable = [[] for _ in sets], []
    for draw in range(DRAWS):
        first = draw % len(sets)
        second, *others = generator.permutation([place for place in range(len(sets)) if place != first])[: 1 + ACCEPTED]
        accepted = sessions_of([mean_of(sets[place][0.0]) for place in others])
        seen = [decide(sets[place][level], accepted, rule) for place in (first, second)]
        hits[first].append(all(one.verdict == "slower" for one in seen))
        detectable.append(seen[0].detectable)
    return [float(np.mean(of_session)) for of_session in hits], detectable


def table(folder):
    """The Markdown table of the sessions in a folder; brackets: 95 % by resampling the sessions of the first sets."""
    rule, rows = rule_of(tolerances(), cell_of(CELL), "decode"), []
    for kind in ("quiet", "busy"):
        sets, disturbed = sets_of(folder, kind)
        if len(sets) < 2 + ACCEPTED:
            continue
        draw, cells = np.random.default_rng(SEED), []
        for level in LEVELS:
            shares, detectable = found_at(sets, level, rule, draw)
            low, high = np.quantile(np.mean(draw.choice(shares, (RESAMPLES, len(shares))), axis=1), [0.025, 0.975])
            cells.append(f"{np.mean(shares):.0%} [{low:.0%}, {high:.0%}]")
        spread = float(np.median([np.std([value for value, _ in one[0.0]], ddof=1) for one in sets]))
        screened = float(np.mean([value > np.log1p(rule["screen"]) for one in sets for value in _centred(one, sets)]))
        rows.append(
            f"| {kind} | {len(sets)} | {spread:.1%} | {' | '.join(cells)} | {percent(np.median(detectable)):.1f} % "
            f"| {disturbed:.0%} | {screened:.0%} |"
        )
    levels = " | ".join("identical" if not level else f"+{level:.0%}" for level in LEVELS)
    head = f"| host | sessions | spread | {levels} | minimum detectable | disturbed sets | past the screen |"
    return "\n".join([head, "|---" * (6 + len(LEVELS)) + "|", *rows])


def _centred(one, sets):
    """Log-ratios of identical code above the mean over all sessions."""
    middle = float(np.mean([value for of_set in sets for value, _ in of_set[0.0]]))
    return [value - middle for value, _ in one[0.0]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", default=CELL)
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--every", type=float, default=400, help="seconds from the start of one pair to the next")
    parser.add_argument("--out", type=Path, default=Path("results/wall-clock"))
    parser.add_argument("--table", type=Path, help="print the table of a folder, and measure nothing")
    options = parser.parse_args()
    if not options.table:
        measure(options.cell, options.sessions, options.every, options.out)
    print(table(options.table or options.out))


if __name__ == "__main__":
    main()
