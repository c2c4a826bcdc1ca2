"""A slowdown that the suite's own tests plant in a worker: a busy loop in each step, as long as a share of the step.

The share comes from the environment, or from `set_share` while the worker lives.
"""

import functools
import os
import time

VARIABLE = "XPU_LLM_CTS_SLOWDOWN"
CALIBRATION = 24  # steps of one kind after which the loop's length no longer follows the single step
state = {"share": float(os.environ.get(VARIABLE, "0"))}


def set_share(service, share):
    """Change the share from now on; an operation of the worker (fixtures.engine.service.Service.call)."""
    state["share"] = share


def slowed(model):
    """Each forward lasts longer by the share of what such a step took at its quickest: prefill and decode apart."""
    state["share"] = float(os.environ.get(VARIABLE, "0"))
    honest, quickest, seen = model.forward, {}, {}

    @functools.wraps(honest)  # generate() reads the signature
    def forward(*inputs, **options):
        ids = inputs[0] if inputs else options["input_ids"]
        kind = min(ids.shape[1], 2)
        start = time.perf_counter()
        result = honest(*inputs, **options)
        took = time.perf_counter() - start
        if seen.get(kind, 0) < CALIBRATION:
            seen[kind] = seen.get(kind, 0) + 1
            quickest[kind] = min(took, quickest.get(kind, took))
        end = time.perf_counter() + state["share"] * quickest[kind]
        while time.perf_counter() < end:
            pass
        return result

    model.forward = forward
