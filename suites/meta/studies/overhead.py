"""What measuring costs: generates timed through worker, protocol and clock, beside a bare loop on the same model.

`python -m suites.meta.studies.overhead CELL [PAIRS]` asks one worker in alternation for a `generate()` as the latency
suite times it (a clock that waits for the device at every token) and for a plain one with a clock around it alone.
"""

import sys
import time

import numpy as np
import torch

from fixtures.engine.measure import left_pad
from fixtures.matrix import load_matrix
from fixtures.measure.latency import grid_for
from fixtures.measure.parameters import cut
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings

WARMUP = 3  # pairs


def bare(service, prompt, new_tokens, beams, batch):
    """One `generate()` as a plain script times it, {"total", "tokens"} in seconds; runs inside the worker.

    Stamps come from a stopping criterion that looks at the clock and waits for nothing.
    """
    loaded = service.models["candidate"]
    ids, mask = (part.to(loaded.adapter.device) for part in left_pad([prompt] * batch, loaded.pad))
    options = dict(max_new_tokens=new_tokens, do_sample=False, num_beams=beams, pad_token_id=loaded.pad)
    stamps = []

    def stamp(input_ids, scores, **_):
        stamps.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    loaded.adapter.synchronize()
    start = time.perf_counter()
    with torch.inference_mode():
        loaded.model.generate(ids, attention_mask=mask, stopping_criteria=[stamp], **options)
    loaded.adapter.synchronize()
    return {"total": time.perf_counter() - start, "tokens": [seen - start for seen in stamps]}


def quickest(rounds):
    """Seconds of the decode steps, of each position the least over the rounds."""
    return float(np.diff([seen["tokens"] for seen in rounds], axis=1).min(axis=0).sum())


def main(cell_id, pairs=20):
    cell = next(cell for cell in load_matrix().all_cells() if cell.id == cell_id)
    runtime = Runtime(Settings(), print)
    try:
        candidate = runtime.candidate(cell)
        grid = grid_for(cell)
        ids = runtime.weights.tokens_of_text(cell.model, cell.platform.device_type, candidate.worker)
        ask = dict(prompt=cut(ids, 0, grid.input), new_tokens=grid.output, beams=grid.beam, batch=grid.bs)
        plain = dict(function="suites.meta.studies.overhead:bare", **ask)
        rows = []
        for number in range(pairs + WARMUP):
            for arm in ("timed", "bare") if number % 2 else ("bare", "timed"):
                if arm == "bare":
                    alone = candidate.worker.call("call", candidate.deadline, **plain).message["result"]
                    continue
                start = time.perf_counter()
                timed = candidate.call("timed", **ask).message
                seen = time.perf_counter() - start  # by this process: what the protocol adds is not in `timed`
            rows += [(timed, alone, seen)] if number >= WARMUP else []
        timed, alone, seen = zip(*rows, strict=True)
        totals = [np.array([one["total"] for one in arm]) for arm in (timed, alone)]
        low, clock, high = 100 * (np.quantile(totals[0] / totals[1], [0.25, 0.5, 0.75]) - 1)
        protocol = 100 * (np.median(np.array(seen) / totals[0]) - 1)
        print(f"{cell_id}, {grid.slug}, {pairs} pairs, {np.median(totals[1]):.4f} s a generate:")
        print(f"timed generates take {clock:+.2f} % (quartiles {low:+.2f}, {high:+.2f}) longer than bare ones")
        print(f"their decode steps, each at its quickest, {quickest(timed) / quickest(alone) - 1:+.2%}")
        print(f"the protocol adds {protocol:.2f} % of a generate around them, outside of what is timed")
    finally:
        runtime.close()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
