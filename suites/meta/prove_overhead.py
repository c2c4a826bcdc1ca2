"""What measuring costs: generates timed through worker, protocol and clock, beside a bare loop on the same model.

`python -m suites.meta.prove_overhead CELL [PAIRS]` asks one worker in alternation for a `generate()` as the latency
suite times it (a clock that waits for the device at every token) and for a plain one with a clock around it alone.
"""

import sys
import time

import numpy as np
import torch

from fixtures.bench.latency import grid_for
from fixtures.bench.plan import cut, plan
from fixtures.bench.stage import Settings, Stage
from fixtures.engine.measure import left_pad
from fixtures.judge.pairs import estimate, percent
from fixtures.matrix import load_matrix


def bare(service, prompt, new_tokens, beams, batch):
    """Seconds of one `generate()` without any of the suite's own; runs inside the worker."""
    loaded = service.models["candidate"]
    ids, mask = (part.to(loaded.adapter.device) for part in left_pad([prompt] * batch, loaded.pad))
    options = dict(max_new_tokens=new_tokens, do_sample=False, num_beams=beams, pad_token_id=loaded.pad)
    loaded.adapter.synchronize()
    start = time.perf_counter()
    with torch.inference_mode():
        loaded.model.generate(ids, attention_mask=mask, **options)
    loaded.adapter.synchronize()
    return time.perf_counter() - start


def main(cell_id, pairs=20):
    cell = next(cell for cell in load_matrix().all_cells() if cell.id == cell_id)
    stage = Stage(Settings(), print)
    try:
        candidate = stage.candidate(cell)
        grid = grid_for(cell)
        ids = stage.tokens_of_text(cell.model, cell.platform.device_type, candidate.worker)
        ask = dict(prompt=cut(ids, 0, grid.input), new_tokens=grid.output, beams=grid.beam, batch=grid.bs)
        plain = dict(function="suites.meta.prove_overhead:bare", **ask)
        ratios = []
        for number in range(pairs + plan()["pairs"]["warmup"]):
            start = time.perf_counter()
            timed = candidate.ask("timed", **ask).message["total"]
            seen = time.perf_counter() - start  # by this process: what the protocol adds is not in `timed`
            alone = candidate.worker.call("call", candidate.deadline, **plain).message["result"]
            if number >= plan()["pairs"]["warmup"]:
                ratios.append((timed / alone, seen / timed))
        clock, protocol = (estimate(np.log(column)) for column in zip(*ratios, strict=True))
        print(f"{cell_id}, {grid.slug}, {pairs} pairs, {alone:.4f} s a generate:")
        told = f"{percent(clock.median):+.2f} % [{percent(clock.low):+.2f}, {percent(clock.high):+.2f}]"
        print(f"timed generates take {told} of the bare ones")
        print(f"the protocol adds {percent(protocol.median):.2f} % of a generate around them, outside of what is timed")
    finally:
        stage.close()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
