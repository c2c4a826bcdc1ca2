"""Faults of a device's adapter, planted in a worker before anything is loaded (`first`)."""

import os

import torch

from fixtures.engine import measure
from fixtures.engine.adapters.accelerator import Accelerator


def nothing_waits_for_the_device(model):
    """`synchronize` returns at once, so that clocks are read while the device still computes."""
    Accelerator.synchronize = lambda self: None


def static_beams_garbled(model):
    """A beam search with the static cache returns other tokens; all else is sound."""
    sound = measure.beam_search

    def beam_search(loaded, prompts, new_tokens, beams, cache="dynamic"):
        found = sound(loaded, prompts, new_tokens, beams, cache)
        return found.flip(1) if cache == "static" else found

    measure.beam_search = beam_search


def second_device_computes_otherwise(model):
    """The last norm of a worker on the second device is a part in two hundred larger."""
    if os.environ.get("LOCAL_RANK") == "1":
        norm = [module for module in model.modules() if "norm" in type(module).__name__.lower()][-1]
        with torch.no_grad():
            norm.weight.mul_(1.005)
