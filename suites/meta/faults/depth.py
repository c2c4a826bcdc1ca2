"""Faults of depth: a decode step of IPEX's host build that does, holds or reads more or less the longer its context is.

registry.toml says what each stands for. Each takes the loaded model after the optimiser.
"""

import time

import torch

from .robustness import _after


def _before_decode(model, change):
    """`change(options, depth)` sees what the traced graph gets for each decode step behind `depth` tokens."""
    graph = model.trace_graph

    def changed(*inputs, **options):
        depth = options["past_key_values"][0][0].shape[-2]
        if depth > 1:
            change(options, depth)
        return graph(*inputs, **options)

    del model.trace_graph  # a registered module, which an attribute could not take the place of
    object.__setattr__(model, "trace_graph", changed)


def _copies(options):
    """A step's cache (sequence, keys, values, beams of each layer) with copies of its keys and values."""
    caches = options["past_key_values"]
    return tuple((seen, keys.clone(), values.clone(), *rest) for seen, keys, values, *rest in caches)


def cache_copied_past_1024(model):
    def change(options, depth):
        if depth >= 1024:
            options["past_key_values"] = _copies(options)

    _before_decode(model, change)


def cache_copied(model):
    _before_decode(model, lambda options, depth: options.update(past_key_values=_copies(options)))


def mask_of_all_pairs(model):
    _before_decode(model, lambda options, depth: torch.ones(depth, depth, dtype=torch.bool))


def searched_past_1024(model):
    def change(options, depth):
        end = time.perf_counter() + 1e-5 * depth * (depth >= 1024)
        while time.perf_counter() < end:
            pass

    _before_decode(model, change)


def cache_kept_twice(model):
    kept = []
    _before_decode(model, lambda options, depth: kept or kept.extend(layer[1:3] for layer in _copies(options)))
    _after(model, lambda ids: kept.clear())


def last_position_twice(model):
    def change(options, depth):
        options["position_ids"] = options["position_ids"].clamp(max=model.config.max_position_embeddings - 2)

    _before_decode(model, change)
