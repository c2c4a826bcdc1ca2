"""A slowdown that studies plant on an accelerator: a kernel that spins in each decode step, a share of its kernels."""

import functools

import numpy as np
import torch

from fixtures.engine import measure

PROBE = 2_000_000  # cycles of the kernel by which is known how long one takes
state = {"cycles": 0, "seconds": None}  # of a cycle


def spinning(model):
    """Each decode step launches one more kernel, once `set_spin` has said how long it spins."""
    honest = model.forward

    @functools.wraps(honest)  # generate() reads the signature
    def forward(*inputs, **options):
        ids = inputs[0] if inputs else options["input_ids"]
        if state["cycles"] and ids.shape[1] == 1:
            torch.cuda._sleep(state["cycles"])
        return honest(*inputs, **options)

    object.__setattr__(model, "forward", forward)


def set_spin(service, share, request, step):
    """Spin for `share` of `step`, the kernel seconds of a decode step; an operation of the worker."""
    state["cycles"] = 0
    if share and state["seconds"] is None:
        torch.cuda._sleep(PROBE)
        with service.models["candidate"].adapter.kernels() as kernels:
            for _ in range(3):
                torch.cuda._sleep(PROBE)
            torch.cuda.synchronize()
        state["seconds"] = float(np.median([duration for _, _, duration in kernels])) / 1e9 / PROBE
    if share:
        state["cycles"] = round(share * step / state["seconds"])
    return state["cycles"]


def step_of(service, request):
    """Kernel seconds of a decode step, and how many kernels each has; nothing planted. An operation of the worker."""
    state["cycles"] = 0
    loaded = service.models["candidate"]
    selected = {name: request[name] for name in ("prompt", "new_tokens", "beams", "batch")}
    stamps = [measure.timed_generate(loaded, **selected, device_time=True)["device"] for _ in range(2)]
    return float(np.median(np.diff(stamps, axis=1)))


def spinning_steadily(model):
    """Each decode step launches a kernel that spins for 42,000 cycles: 21 microseconds at 1.98 GHz."""
    spinning(model)
    state["cycles"] = 42_000
