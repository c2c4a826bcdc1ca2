"""How far two processes of one stack differ in speed, by where the kernel and the hash seed put their memory.

`python -m suites.meta.prove_layouts [--cell ID] [--pairs N] [--launches N]` starts pairs of zygotes of the same stack,
laid out as they come and then alike, launches the cell's model from one beside the other's, and prints the median
difference of prefill and decode for each pair. Launches of one pair share its draw.
"""

import argparse
import sys

import numpy as np

from fixtures.bench.against import Other
from fixtures.bench.latency import grid_for
from fixtures.bench.pairs import Pairing
from fixtures.bench.stage import Settings, Stage
from fixtures.judge.launches import METRICS
from fixtures.judge.pairs import column, percent, without_order
from fixtures.matrix import load_matrix


def differences(cell, layout, launches):
    """[prefill, decode]: percent by which one zygote's launches take longer than those of another one."""
    settings = Settings(layout=layout)
    stage, other = Stage(settings), Other(settings, sys.executable)
    try:
        stage.reference(cell)
        other.stage.weights = stage.weights  # both read the same files
        seen = Pairing(stage, cell, grid_for(cell), other, layouts=1).count(launches)
        return [percent(np.median(without_order(column(seen, name)))) for name in METRICS]
    finally:
        stage.close()
        other.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cell", default="opt-6.7b-bf16-cpu-single")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--launches", type=int, default=8)
    options = parser.parse_args()
    cell = next(cell for cell in load_matrix().all_cells() if cell.id == options.cell)
    for way, layout in (("drawn", None), ("fixed", 0)):
        found = np.array([differences(cell, layout, options.launches) for _ in range(options.pairs)])
        for name, seen in zip(METRICS, found.T, strict=True):
            told = ", ".join(f"{value:+.1f}" for value in seen)
            print(f"{way}, {name}: {told} %, spread {np.std(seen, ddof=1):.2f} %", flush=True)


if __name__ == "__main__":
    main()
