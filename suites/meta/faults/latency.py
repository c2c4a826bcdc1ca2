"""A slowdown that the suite's own tests plant in a worker: a busy loop in each step, a share of what that step takes.

What slows the core at a moment slows the step and lengthens the loop, as it would lengthen more work. The share comes
from the environment, or from `set_share` while the worker lives.
"""

import functools
import os
import statistics
import time

VARIABLE = "XPU_LLM_CTS_SLOWDOWN"
CALIBRATION = 24  # steps by which is known how much longer one takes than its forward
state = {"share": float(os.environ.get(VARIABLE, "0"))}


def set_share(service, share):
    """Change the share from now on; an operation of the worker (fixtures.engine.service.Service.call)."""
    state["share"] = share


def slowed(model):
    """Each step, from its start to that of the next, lasts longer by the share.

    The prefill's share is that of its forward alone, which has no step before it.
    """
    state["share"] = float(os.environ.get(VARIABLE, "0"))
    # IPEX's own generation calls its traced graph, and never the model's forward.
    name = "trace_graph" if hasattr(model, "trace_graph") else "forward"
    honest, lengths, last = getattr(model, name), [], {"kind": "prefill"}

    @functools.wraps(honest)  # generate() reads the signature
    def forward(*inputs, **options):
        ids = inputs[0] if inputs else options["input_ids"]
        kind = "prefill" if ids.shape[1] > 1 else "decode"
        start = time.perf_counter()
        if kind == last["kind"] == "decode" and len(lengths) < CALIBRATION:
            lengths.append((start - last["start"] - last["spun"]) / last["took"])
        result = honest(*inputs, **options)
        took = time.perf_counter() - start
        spun = state["share"] * took * (statistics.median(lengths) if lengths and kind == "decode" else 1.0)
        end = start + took + spun
        while time.perf_counter() < end:
            pass
        last.update(start=start, took=took, spun=spun, kind=kind)
        return result

    if name == "trace_graph":
        del model.trace_graph  # a registered module, which an attribute could not take the place of
    object.__setattr__(model, name, forward)


def slowed_to_double(model):
    """Every step lasts twice as long."""
    slowed(model)
    state["share"] = 1.0


def slowed_fivefold(model):
    """Every step lasts five times as long."""
    slowed(model)
    state["share"] = 4.0
