"""Faults of a device's adapter, planted in a worker before anything is loaded (`first`)."""

from fixtures.engine.adapters.accelerator import Accelerator


def nothing_waits_for_the_device(model):
    """`synchronize` returns at once, so that clocks are read while the device still computes."""
    Accelerator.synchronize = lambda self: None
