"""xccl, the backend of Intel GPUs, by gloo: host tensors are refused, as xccl knows none."""

import torch
import torch.distributed as dist

from .card import PROCESS
from .tensors import card_of, put

BY_GLOO = ("xccl", "ccl")
# Functions of torch.distributed whose tensors must lie on a card, with the places of those tensors.
CHECKED = ("all_reduce", "broadcast", "all_gather", "all_gather_into_tensor", "reduce_scatter_tensor", "gather")


def _backend(backend):
    """A backend's name with xccl replaced; "xpu:xccl,cpu:gloo" is gloo, too."""
    text = str(backend) if backend is not None else None
    return "gloo" if text and any(name in text for name in BY_GLOO) else backend


_groups = {"xccl": False}


def _initialise(real):
    def init_process_group(backend=None, *arguments, **options):
        _groups["xccl"] = backend is None or _backend(backend) != backend
        options.pop("device_id", None)
        return real(_backend(backend), *arguments, **options)

    return init_process_group


def _new_group(real):
    def new_group(ranks=None, timeout=None, backend=None, *arguments, **options):
        return real(ranks, timeout, _backend(backend), *arguments, **options)

    return new_group


def _get_backend(real):
    def get_backend(group=None):
        return "xccl" if _groups["xccl"] else real(group)

    return get_backend


def _on_the_card(real):
    def collective(*tensors, **options):
        found = [tensor for tensor in (*tensors, *options.values()) if isinstance(tensor, torch.Tensor)]
        if _groups["xccl"]:
            if any(card_of(tensor) is None for tensor in found):
                raise RuntimeError("No backend type associated with device type cpu")
            PROCESS.submit()
        result = real(*tensors, **options)
        for argument in (*tensors, *options.values()):
            if _groups["xccl"] and isinstance(argument, list):
                put(argument, PROCESS.current)
        return result

    return collective


def _barrier(real):
    def barrier(*arguments, **options):
        options.pop("device_ids", None)
        return real(*arguments, **options)

    return barrier


def install(torch_module):
    """Put the wrappers where torch.distributed's users find them."""
    wrappers = {"init_process_group": _initialise, "new_group": _new_group, "get_backend": _get_backend}
    wrappers |= {"barrier": _barrier} | dict.fromkeys(CHECKED, _on_the_card)
    for name, wrapper in wrappers.items():
        wrapped = wrapper(getattr(dist, name))
        for module in (dist, dist.distributed_c10d):
            setattr(module, name, wrapped)
    for module in (dist, dist.distributed_c10d):
        module.is_xccl_available = lambda: True
