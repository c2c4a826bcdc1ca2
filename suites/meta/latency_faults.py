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
    """Each step lasts longer by the share of what it took at its quickest, from the start of one to that of the next.

    The prefill's share is that of its forward alone, which has no step before it.
    """
    state["share"] = float(os.environ.get(VARIABLE, "0"))
    # IPEX's own generation calls its traced graph, and never the model's forward.
    name = "trace_graph" if hasattr(model, "trace_graph") else "forward"
    honest, quickest, seen, last = getattr(model, name), {}, {}, {}

    @functools.wraps(honest)  # generate() reads the signature
    def forward(*inputs, **options):
        ids = inputs[0] if inputs else options["input_ids"]
        kind = "prefill" if ids.shape[1] > 1 else "decode"
        start = time.perf_counter()
        result = honest(*inputs, **options)
        took = time.perf_counter() - start
        if kind == "decode":
            took = start - last["start"] - last["spun"]
        if seen.get(kind, 0) < CALIBRATION and (kind == "prefill" or last["kind"] == "decode"):
            seen[kind] = seen.get(kind, 0) + 1
            quickest[kind] = min(took, quickest.get(kind, took))
        spin = state["share"] * quickest.get(kind, 0.0)
        end = time.perf_counter() + spin
        while time.perf_counter() < end:
            pass
        last.update(start=start, spun=spin, kind=kind)
        return result

    if name == "trace_graph":
        del model.trace_graph  # a registered module, which an attribute could not take the place of
    object.__setattr__(model, name, forward)


def slowed_by_a_quarter(model):
    """Every step lasts a quarter longer."""
    slowed(model)
    state["share"] = 0.25
