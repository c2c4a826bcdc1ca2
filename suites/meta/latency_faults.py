"""A slowdown that the suite's own tests plant in a worker: a busy loop in each step, a share of the step's own work.

The loop is so many turns, not so many seconds: what slows the core slows it as it slows the step. The share comes from
the environment, or from `set_share` while the worker lives.
"""

import functools
import os
import statistics
import time

VARIABLE = "XPU_LLM_CTS_SLOWDOWN"
CALIBRATION = 24  # steps of one kind after which the loop's length stays as it is
TURNS = 2000  # of the busy loop, timed after each of these steps: the same core at the same moment
state = {"share": float(os.environ.get(VARIABLE, "0"))}


def set_share(service, share):
    """Change the share from now on; an operation of the worker (fixtures.engine.service.Service.call)."""
    state["share"] = share


def slowed(model):
    """Each step, from its start to that of the next, lasts longer by the share of its work.

    The prefill's share is that of its forward alone, which has no step before it.
    """
    state["share"] = float(os.environ.get(VARIABLE, "0"))
    # IPEX's own generation calls its traced graph, and never the model's forward.
    name = "trace_graph" if hasattr(model, "trace_graph") else "forward"
    honest, lengths, last = getattr(model, name), {"prefill": [], "decode": []}, {}

    @functools.wraps(honest)  # generate() reads the signature
    def forward(*inputs, **options):
        ids = inputs[0] if inputs else options["input_ids"]
        kind = "prefill" if ids.shape[1] > 1 else "decode"
        start = time.perf_counter()
        result = honest(*inputs, **options)
        took = begun = time.perf_counter()
        took -= start
        if kind == "decode":
            took = start - last["start"] - last["spun"]
        known = lengths[kind]
        if len(known) < CALIBRATION and (kind == "prefill" or last["kind"] == "decode"):
            known.append(took / _seconds_of_turns() * TURNS)
        if known:
            _turn(round(state["share"] * statistics.median(known)))
        last.update(start=start, spun=time.perf_counter() - begun, kind=kind)
        return result

    if name == "trace_graph":
        del model.trace_graph  # a registered module, which an attribute could not take the place of
    object.__setattr__(model, name, forward)


def _turn(times):
    for _ in range(times):
        pass


def _seconds_of_turns():
    start = time.perf_counter()
    _turn(TURNS)
    return time.perf_counter() - start


def slowed_by_a_quarter(model):
    """Every step lasts a quarter longer."""
    slowed(model)
    state["share"] = 0.25
