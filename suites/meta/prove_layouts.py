"""How far two processes of one stack differ in speed, by where the kernel and the hash seed put their memory.

`python -m suites.meta.prove_layouts [--cell ID] [--pairs N] [--launches N]` starts pairs of zygotes of the same stack,
drawn as they come and then fixed, launches the cell's model from one beside the other's, and prints the median
difference of the decode for each pair. Launches of one pair share its draw; what remains between fixed pairs is noise.
"""

import argparse
import sys

import numpy as np

from fixtures.bench.against import Other
from fixtures.bench.latency import grid_for
from fixtures.bench.pairs import Pairing
from fixtures.bench.stage import Settings, Stage
from fixtures.judge.pairs import column, percent, without_order
from fixtures.matrix import load_matrix


def difference(cell, layout, launches):
    """Percent by which the decode of one zygote's launches takes longer than that of another one's."""
    settings = Settings(layout=layout)
    stage, other = Stage(settings), Other(settings, sys.executable)
    try:
        stage.reference(cell)
        other.stage.weights = stage.weights  # both read the same files
        pairing = Pairing(stage, cell, grid_for(cell), other)
        pairing.launch(0)  # the first one still imports
        return percent(np.median(without_order(column(pairing.count(launches), "decode"))))
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
    for name, layout in (("drawn", None), ("fixed", 0)):
        seen = [difference(cell, layout, options.launches) for _ in range(options.pairs)]
        print(
            f"{name}: {', '.join(f'{value:+.1f}' for value in seen)} %, spread {np.std(seen, ddof=1):.2f} %", flush=True
        )


if __name__ == "__main__":
    main()
