"""Neighbours that disturb a host: model runs with two threads each, and processes that stream memory, in bursts.

`with neighbours(seed):` starts them and ends exactly those. `python -m suites.meta.studies.neighbours KIND SEED` is
one of them; it dies with the process that started it.
"""

import contextlib
import random
import subprocess
import sys
import time

from fixtures.worker.environment import ROOT
from fixtures.worker.fork_server import die_with_parent

BURST, PAUSE = (0.1, 3.0), (0.1, 2.0)  # seconds, drawn evenly
STREAMED = 256 * 2**20  # bytes, beyond any cache
READY = "ready"


@contextlib.contextmanager
def neighbours(seed, models=2, streams=1):
    """So many neighbours of each kind, whose bursts follow from `seed`, for as long as the block takes."""
    kinds = ["model"] * models + ["stream"] * streams
    started = []
    try:
        for number, kind in enumerate(kinds):
            command = [sys.executable, "-m", "suites.meta.studies.neighbours", kind, str(1000 * seed + number)]
            started.append(
                subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            )
        for process in started:
            if not any(line.strip() == READY for line in process.stdout):  # stacks print more
                raise RuntimeError(f"a neighbour ended before it began: {' '.join(process.args)}")
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()
            process.stdout.close()


def a_model():
    """A function that generates 16 tokens with a stock Llama of four layers, on two threads."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(2)
    sizes = dict(hidden_size=512, intermediate_size=1376, num_hidden_layers=4, num_attention_heads=8, vocab_size=4096)
    model = LlamaForCausalLM(LlamaConfig(**sizes)).eval()
    prompt = torch.arange(64)[None]
    return lambda: model.generate(prompt, max_new_tokens=16, do_sample=False, pad_token_id=0)


def a_stream():
    """A function that copies more memory than caches hold."""
    import numpy as np

    source, target = np.ones(STREAMED // 8), np.empty(STREAMED // 8)
    return lambda: np.copyto(target, source)


def main(kind, seed):
    die_with_parent()
    work, chance = {"model": a_model, "stream": a_stream}[kind](), random.Random(seed)
    work()
    print(READY, flush=True)
    while True:
        end = time.monotonic() + chance.uniform(*BURST)
        while time.monotonic() < end:
            work()
        time.sleep(chance.uniform(*PAUSE))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
