"""How often each rule sees a slowdown of the decode step, and how often it cries wolf on identical code.

`python -m suites.meta.prove_latency [--quick] [--cells ID,...] [--launches N] [--out DIR]` launches a cell's optimised
model beside itself, one side slowed by a busy loop in every step (suites.meta.latency_faults), on the host as it is and
beside a bursty neighbour, and prints the table as Markdown. Raw times go to DIR/launches.jsonl, from which `--table`
makes the table again without measuring.

All rules see the same launches. Each launch times side A and side B in alternation, B at every level in turn, so a
level costs rounds and not launches. What happens over many launches is drawn from those measured, with replacement.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from fixtures.bench.candidate import Candidate
from fixtures.bench.latency import grid_for
from fixtures.bench.pairs import Pairing, Side
from fixtures.bench.stage import Settings, Stage
from fixtures.judge.bounds import bounds
from fixtures.judge.pairs import Reference, decision, launch_ratios, of_metric
from fixtures.matrix import load_matrix
from fixtures.pairing import share_of

LEVELS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.10)
CELLS = ("llama-2-7b-bf16-cpu-single", "smollm2-135m-bf16-cpu-single")
# Half a second of work and half a second of rest, on one core at a time.
NEIGHBOUR = """
import time
while True:
    end = time.time() + 0.5
    while time.time() < end:
        pass
    time.sleep(0.5)
"""
DRAWS = 2000
SEED = 11
SESSION_CELLS = 119  # latency cells of the host's whole matrix, which share the session's false alarms
Z = float(stats.norm.isf(0.01))


def measure(stage, cell, number, rounds, warmup=3, levels=LEVELS):
    """Launch `number`: {level: {"A": rounds, "B": slowed rounds}} in the order ABBA; B starts first at odd ones."""
    pairing = Pairing(stage, cell, grid_for(cell))
    sides = {}
    try:
        for name in "AB" if number % 2 == 0 else "BA":
            sides[name] = Side(Candidate(stage, cell, stage.world(cell)))
            if pairing.cores:
                sides[name].pin(pairing.cores)
        for side in sides.values():
            side.model.loaded()
            side.stop()
        for _ in range(warmup):
            for side in sides.values():
                side.timed(**pairing.ask)
        found = {level: {"A": [], "B": []} for level in levels}
        for turn in range(rounds):
            for level in levels:
                _slow(sides["A"], 0.0)  # the same is done to both sides
                _slow(sides["B"], level)
                for name in "AB" if turn % 2 == 0 else "BA":
                    found[level][name].append(sides[name].timed(**pairing.ask))
        return found
    finally:
        for side in sides.values():
            side.model.close()


def _slow(side, share):
    with side.awake():
        side.model.worker.call("call", 60, function="suites.meta.latency_faults:set_share", share=share)


def collect(cells, launches, out):
    """Measure every cell quiet and beside the neighbour; appends {"cell", "neighbour", "launch"} lines to `out`."""
    known = {cell.id: cell for cell in load_matrix().all_cells()}
    stage = Stage(Settings())
    try:
        for cell_id in cells:
            cell = known[cell_id]
            stage.settings.faults[cell_id] = {"fault_after": "suites.meta.latency_faults:slowed"}
            stage.reference(cell)
            rounds = 6 if stage.weights_for(cell.model, "cpu").trained else 12  # about as many as a second holds
            stage.settle()
            for neighbour in (False, True):
                with _Neighbour(neighbour), out.open("a") as file:
                    for number in range(launches):
                        launch = measure(stage, cell, number, rounds)
                        record = {
                            "cell": cell_id,
                            "neighbour": neighbour,
                            "launch": {str(k): v for k, v in launch.items()},
                        }
                        file.write(json.dumps(record) + "\n")
                        file.flush()
                        print(
                            f"[{cell_id} {'busy' if neighbour else 'quiet'} {number + 1}/{launches}]", file=sys.stderr
                        )
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


# -- the rules ----


def gate(reference, ratios, bound, alpha):
    """(whether launches show it slower, how many it took) for log-ratios in the order they were made."""
    for count in bound["looks"]:
        answer = decision(ratios[:count], reference, bound, alpha)
        if answer is not None:
            return answer == "slower", count
    return False, bound["looks"][-1]


def totals(rounds):
    return np.array([seen["total"] for seen in rounds])


def stored(rule, before, after):
    """Whether a rule over the rounds of one stored launch and one later one calls it slower."""
    a, b = totals(before), totals(after)
    if rule == "min":
        return b.min() > 1.05 * a.min()
    if rule == "mean":
        return b.mean() > 1.05 * a.mean()
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return (b.mean() - a.mean()) / error > Z


RULES = {
    "min": "`--benchmark-compare-fail=min:5%`",
    "mean": "`--benchmark-compare-fail=mean:5%`",
    "z": "stored z-test at 1 %",
}


def rates(launches, level, generator):
    """{rule: share of draws that call B slower at `level`}, and the gate's mean number of launches."""
    bound = of_metric(bounds()["pairs"], "decode")
    side_by_side = Reference()
    alpha = share_of(bound["session_alpha"], SESSION_CELLS)
    ratios = np.array(
        [launch_ratios(launch[str(level)]["B"], launch[str(level)]["A"])["decode"] for launch in launches]
    )
    answers = [
        gate(side_by_side, list(generator.choice(ratios, bound["looks"][-1])), bound, alpha) for _ in range(DRAWS)
    ]
    found = {"gate": float(np.mean([slower for slower, _ in answers]))}
    pairs = [generator.choice(len(launches), 2, replace=False) for _ in range(DRAWS)]
    for rule in RULES:
        found[rule] = float(
            np.mean([stored(rule, launches[i][str(level)]["A"], launches[j][str(level)]["B"]) for i, j in pairs])
        )
    return found, float(np.mean([count for _, count in answers])), ratios


def evaluated(path):
    """{(cell, neighbour): (launches, {level: what `rates` gives})} of launches.jsonl."""
    generator, groups = np.random.default_rng(SEED), {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        groups.setdefault((record["cell"], record["neighbour"]), []).append(record["launch"])
    return {
        key: (launches, {level: rates(launches, level, generator) for level in LEVELS})
        for key, launches in groups.items()
    }


def table(groups):
    """Lines of Markdown for what `evaluated` gives."""
    heads = [f"+{level:.0%}" if level else "identical" for level in LEVELS]
    yield f"| cell | neighbour | rule | {' | '.join(heads)} | launches (identical, +3%) |"
    yield f"|---|---|---|{'---|' * len(heads)}---|"
    for (cell, neighbour), (launches, columns) in groups.items():
        where = f"| {cell.removesuffix('-cpu-single')} | {'bursty' if neighbour else 'none'}"
        counts = f"{columns[0.0][1]:.1f}, {columns[0.03][1]:.1f}"
        names = {"gate": f"paired launches (n = {len(launches)})", **RULES}
        for rule, name in names.items():
            row = " | ".join(f"{columns[level][0][rule]:.1%}" for level in LEVELS)
            yield f"{where} | {name} | {row} | {counts if rule == 'gate' else ''} |"
        spread = stats.median_abs_deviation(columns[0.0][2], scale="normal")
        yield f"{where} | spread of a launch: {spread:.2%} | | | | | | | |"


COLOURS = {"gate": "#1b7837", "min": "#c0392b", "mean": "#e08214", "z": "#6a51a3"}
WIDE, HIGH, LEFT, TOP = 430, 230, 46, 34  # of a panel, and its axes, in pixels


def drawing(groups):
    """An SVG text: a panel for each cell and neighbour, a curve for each rule of how much it sees at which slowdown."""
    across = 2
    down = -(-len(groups) // across)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{across * WIDE}" height="{down * HIGH + 24}" '
    yield 'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
    for place, ((cell, neighbour), (_, columns)) in enumerate(groups.items()):
        yield f'<g transform="translate({place % across * WIDE},{place // across * HIGH})">'
        yield from _panel(f"{cell}, {'bursty neighbour' if neighbour else 'no neighbour'}", columns)
        yield "</g>"
    for place, (rule, colour) in enumerate(COLOURS.items()):
        name = {"gate": "paired launches", **RULES}[rule].replace("`", "")
        x, y = 20 + place * 210, down * HIGH + 14
        yield f'<line x1="{x}" x2="{x + 18}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="2.5"/>'
        yield f'<text x="{x + 22}" y="{y}">{name.replace("--benchmark-compare-fail=", "stored ")}</text>'
    yield "</svg>"


def _panel(title, columns):
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
        points = " ".join(at(level, columns[level][0][rule]) for level in LEVELS)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5" opacity="0.85"/>'


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="eight launches of the first cell")
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--launches", type=int, default=30)
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
    groups = evaluated(path)
    print("\n".join(table(groups)))
    if options.svg:
        options.svg.write_text("\n".join(drawing(groups)) + "\n")
    print(f"raw times: {path}")


if __name__ == "__main__":
    main()
