"""Gives an imported torch its software XPU: torch.xpu, tensors on it, collectives and generators."""

import os
import types
import warnings

import torch

from . import card, collectives
from .card import PROCESS, visible
from .tensors import SoftwareXPU, card_wanted, checked

# Of a Max 1550: what torch.xpu.get_device_properties has beside names and memory. Not read from a card.
PROPERTIES = {
    "vendor": "Intel(R) Corporation",
    "version": "12.60.7",
    "max_compute_units": 512,
    "gpu_eu_count": 512,
    "gpu_subslice_count": 64,
    "max_work_group_size": 1024,
    "max_num_sub_groups": 64,
    "sub_group_sizes": [16, 32],
    "has_fp16": True,
    "has_atomic64": True,
    "has_bfloat16_conversions": True,
    "has_subgroup_matrix_multiply_accumulate": True,
    "has_subgroup_matrix_multiply_accumulate_tensor_float32": False,
    "has_subgroup_2d_block_io": True,
    "driver_version": "1.6.33276+16",
    "platform_name": "Intel(R) oneAPI Unified Runtime over Level-Zero",
    "type": "gpu",
    "architecture": 13136561920,
}
CLIENT = ("Arc", "Intel(R) Graphics", "B390")  # names of cards that are no Data Center GPU


def name_of(index):
    return card.settings()["cards"][visible()[index]]


def is_client(index):
    return any(part in name_of(index) for part in CLIENT)


def has_xmx(index):
    """Whether a card has matrix engines: Meteor Lake's graphics, which report no number, have none."""
    return name_of(index) != "Intel(R) Arc(TM) Graphics"


def has_2d_block_array(index):
    """Whether a card has 2D block loads: Max, B-series and Lunar Lake have, Arc A and Meteor Lake have not."""
    return has_xmx(index) and " Arc(TM) A" not in name_of(index)


def _index(device):
    if device is None:
        return PROCESS.current
    found = card_wanted(device)
    if found is None:
        raise ValueError(f"Expected a xpu device, but got: {device}")
    return found


def device_count():
    PROCESS.ask("device_count")
    return len(visible())


def is_available():
    PROCESS.ask("is_available")
    return bool(visible())


def get_device_properties(device=None):
    PROCESS.use()
    PROCESS.ask("get_device_properties")
    index = checked(_index(device))
    found = dict(PROPERTIES, name=name_of(index), total_memory=card.settings()["memory"])
    found.update(has_fp64=not is_client(index), local_mem_size=65536 if is_client(index) else 131072)
    found.update(has_subgroup_matrix_multiply_accumulate=has_xmx(index))
    found.update(device_id=card.settings()["ids"][visible()[index]])
    return types.SimpleNamespace(**found, uuid=f"{index:032x}")


def get_device_name(device=None):
    return get_device_properties(device).name


def get_device_capability(device=None):
    return vars(get_device_properties(device))


def current_device():
    PROCESS.use()
    return PROCESS.current


def set_device(device):
    PROCESS.current = checked(_index(device))


class Device:
    """torch.xpu.device: another current card within a block."""

    def __init__(self, device):
        self.index = _index(device)

    def __enter__(self):
        self.before, PROCESS.current = PROCESS.current, checked(self.index)

    def __exit__(self, *_):
        PROCESS.current = self.before


def synchronize(device=None):
    PROCESS.use()
    limit = card.fault("lost_device_after")
    if limit and PROCESS.operations > limit:
        raise RuntimeError(card.LOST)
    PROCESS.wait()


def empty_cache():
    """The stand-in caches nothing."""


def memory_allocated(device=None):
    return PROCESS.memory_of(_index(device)).held if PROCESS.initialised else 0


def max_memory_allocated(device=None):
    return PROCESS.memory_of(_index(device)).peak if PROCESS.initialised else 0


def reset_peak_memory_stats(device=None):
    if not PROCESS.initialised:  # unlike most functions, this one does not start the device's runtime
        raise RuntimeError("Invalid device argument 0: did you call init?")
    memory = PROCESS.memory_of(_index(device))
    memory.peak = memory.held


def memory_stats(device=None):
    held, peak = memory_allocated(device), max_memory_allocated(device)
    taken = PROCESS.memory_of(_index(device)).taken if PROCESS.initialised else 0
    allocated = {"current": held, "peak": peak, "allocated": taken}
    return {f"allocated_bytes.all.{name}": size for name, size in allocated.items()}


def mem_get_info(device=None):
    """(free, total); a client card's driver does not tell the free memory (public: pytorch issue 189811)."""
    PROCESS.use()
    index = checked(_index(device))
    if is_client(index):
        raise RuntimeError(
            f"The device ({name_of(index)}) doesn't support querying the available free memory. You can file an issue "
            "at https://github.com/pytorch/pytorch/issues to help us prioritize its implementation."
        )
    memory = PROCESS.memory_of(index)
    return memory.total - memory.by_all(), memory.total


class Stream:
    """The one queue of a card: everything is done when it is submitted."""

    def __init__(self, device=None, priority=0, **_):
        self.device, self.device_index = torch.device("xpu", _index(device)), _index(device)
        self.priority, self.stream_id = priority, 0

    def synchronize(self):
        synchronize(self.device)

    def query(self):
        return True

    def wait_stream(self, stream):
        """Nothing is ever behind."""

    def wait_event(self, event):
        """Nothing is ever behind."""

    def record_event(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class Event:
    """A moment, by the host's clock."""

    def __init__(self, enable_timing=False, **_):
        self.moment = None

    def record(self, stream=None):
        import time

        PROCESS.use()
        self.moment = time.monotonic_ns()

    def synchronize(self):
        synchronize()

    def query(self):
        return True

    def wait(self, stream=None):
        """Nothing is ever behind."""

    def elapsed_time(self, end):
        return (end.moment - self.moment) / 1e6


class Generator(torch._C.Generator):
    """torch.Generator, which on a card draws as on the host."""

    def __new__(cls, device="cpu"):
        index = card_wanted(device)
        made = super().__new__(cls, device="cpu" if index is not None else device)
        made.card = None if index is None else checked(index)
        return made

    @property
    def device(self):
        return super().device if self.card is None else torch.device("xpu", self.card)


def manual_seed(seed):
    """Seeds before the first use are queued, as on a card: they ask nothing of it."""
    if PROCESS.initialised:
        torch.default_generator.manual_seed(int(seed))


FUNCTIONS = {
    "_is_compiled": lambda: True,
    "_is_in_bad_fork": lambda: PROCESS.bad_fork,
    "_lazy_init": PROCESS.use,
    "_exchange_device": lambda index: _exchanged(index),
    "_maybe_exchange_device": lambda index: _exchanged(index),
    "init": PROCESS.use,
    "is_initialized": lambda: PROCESS.initialised and not PROCESS.bad_fork,
    "is_bf16_supported": lambda including_emulation=True: is_available(),
    "device": Device,
    "manual_seed": manual_seed,
    "manual_seed_all": manual_seed,
    "memory_reserved": memory_allocated,
    "max_memory_reserved": max_memory_allocated,
    "reset_accumulated_memory_stats": lambda device=None: None,
    "current_stream": Stream,
    "stream": lambda stream: stream,
    "set_stream": lambda stream: None,
    "get_arch_list": lambda: ["pvc", "bmg"],
    "get_rng_state": lambda device="xpu": torch.get_rng_state(),
    "set_rng_state": lambda state, device="xpu": torch.set_rng_state(state),
    # Attributes that IPEX adds to torch.xpu (intel_extension_for_pytorch/xpu/__init__.py) are the fake IPEX's.
}
for _function in (
    device_count, is_available, get_device_properties, get_device_name, get_device_capability, current_device,
    set_device, synchronize, empty_cache, memory_allocated, max_memory_allocated, reset_peak_memory_stats,
    memory_stats, mem_get_info, Stream, Event,
):  # fmt: skip
    FUNCTIONS[_function.__name__] = _function


def _exchanged(index):
    before = PROCESS.current
    if index >= 0:
        PROCESS.current = index
    return before


def pending():
    """Operations submitted since the last wait, for tests."""
    return PROCESS.pending


def install(torch_module):
    """Put the software XPU into `torch_module`."""
    os.register_at_fork(after_in_child=PROCESS.forked)
    for name, function in FUNCTIONS.items():
        setattr(torch_module.xpu, name, function)
    for module in (torch_module.xpu.memory, torch_module.xpu.random):
        for name in set(FUNCTIONS) & set(vars(module)):
            setattr(module, name, FUNCTIONS[name])
    torch_module.__version__ = torch_module.torch_version.TorchVersion("2.8.0+xpu")
    torch_module.version.__version__, torch_module.version.cuda = "2.8.0+xpu", None
    torch_module.version.xpu = "20250101"
    torch_module.Generator = Generator
    torch_module._C._xpu_getCurrentRawStream = lambda index: 0  # dynamo imports it where torch knows XPUs
    torch_module.accelerator.current_accelerator = lambda check_available=False: torch.device("xpu")
    collectives.install(torch_module)
    card.watch_clock()
    warnings.filterwarnings("ignore", message=".*XPU.*autocast.*")
    SoftwareXPU().__enter__()
