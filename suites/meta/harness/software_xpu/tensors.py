"""Tensors on the software XPU: ordinary host tensors whose storage is registered as lying on a card.

A function mode sees every call of torch from Python. It answers `.device`, moves tensors, refuses to mix devices,
counts operations and memory, and registers the storage of what an operation on a card returns. What runs inside one
call, in C++ or in Python, is not seen: it counts as one operation.
"""

import weakref

import torch
from torch.overrides import TorchFunctionMode

from .card import PROCESS

_on_card = {}  # address of a storage -> (card, what keeps its bytes counted)
TENSOR = torch.Tensor
# Calls that take tensors of several devices, as on a real one.
ANYWHERE = {TENSOR.copy_, TENSOR.to, TENSOR.cpu, TENSOR.xpu, TENSOR.type_as, TENSOR.data.__set__, TENSOR.new_tensor}
ANYWHERE |= {torch.tensor, torch.as_tensor, torch.result_type, torch._has_compatible_shallow_copy_type}
ANYWHERE |= {TENSOR.is_set_to, TENSOR.__deepcopy__, TENSOR.__setstate__}
# Calls after which the host has what the card computed: they wait for it.
WAITS = {TENSOR.item, TENSOR.tolist, TENSOR.cpu, TENSOR.__bool__, TENSOR.__float__, TENSOR.__int__, TENSOR.__index__}
WAITS |= {torch.equal, TENSOR.equal, torch.nonzero, TENSOR.nonzero, TENSOR.__repr__, TENSOR.is_nonzero}
TO_NUMPY = {TENSOR.numpy, TENSOR.__array__}
NO_OPERATION = {TENSOR.size, TENSOR.dim, TENSOR.numel, TENSOR.stride, TENSOR.is_contiguous, TENSOR.element_size}
NO_OPERATION |= {TENSOR.data_ptr, TENSOR.untyped_storage, TENSOR.storage, TENSOR.is_floating_point, TENSOR.is_complex}
NO_OPERATION |= {TENSOR.requires_grad_, TENSOR.__len__, TENSOR.storage_offset, TENSOR.__hash__, TENSOR.detach}
NO_OPERATION |= {torch.is_floating_point, torch.is_tensor, torch.numel, TENSOR.view, TENSOR.reshape, TENSOR.__format__}


class _Counted:
    """The bytes of one storage on a card; gives them back when the storage is gone."""

    def __init__(self, storage, index):
        size = storage.nbytes()
        self.address, self.index = storage._cdata, index
        self.size = _take(index, size)
        self.reference = weakref.ref(storage, self._gone)

    def _gone(self, _):
        if _on_card.get(self.address) is self:
            del _on_card[self.address]
        if self.index in PROCESS.memory:
            PROCESS.memory[self.index].give(self.size)


def _take(index, size):
    try:
        return PROCESS.memory_of(index).take(size)
    except MemoryError as error:
        wanted, total, by_all, held = error.args
        raise torch.OutOfMemoryError(
            f"XPU out of memory. Tried to allocate {_binary(wanted)}. GPU {index} has a total capacity of "
            f"{_binary(total)}. Of the allocated memory {_binary(held)} is allocated by PyTorch, and "
            f"{_binary(by_all - held)} by other processes."
        ) from None


def _binary(size):
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.2f} MiB"


def card_of(tensor):
    """Index of the card a tensor lies on, None for the host's. Costs no query."""
    try:
        found = _on_card.get(torch._C.TensorBase.untyped_storage(tensor)._cdata)
    except (RuntimeError, NotImplementedError):  # sparse and fake tensors have no storage
        return None
    return None if found is None else found.index


def put(result, index):
    """Register every tensor of a result as lying on a card; returns the result."""
    if isinstance(result, TENSOR):
        if result.device.type == "cpu" and card_of(result) is None:
            storage = result.untyped_storage()
            _on_card[storage._cdata] = _Counted(storage, index)
    elif isinstance(result, (tuple, list)):
        for part in result:
            put(part, index)
    elif isinstance(result, dict):
        for part in result.values():
            put(part, index)
    return result


def card_wanted(device):
    """Index of the card that a `device` argument names, None where it names none of them."""
    if isinstance(device, bool) or device is None:
        return None
    if isinstance(device, int):
        return device
    if isinstance(device, str):
        if not device.startswith("xpu"):
            return None
        device = torch.device(device)
    if getattr(device, "type", None) != "xpu":
        return None
    return PROCESS.current if device.index is None else device.index


def checked(index):
    """A card's index, once it is known to exist and to be usable by this process."""
    from .card import visible

    PROCESS.use()
    if not 0 <= index < len(visible()):
        raise RuntimeError(f"The device index is out of range. It must be in [0, {len(visible())}), but got {index}.")
    return index


def _tensors(arguments, depth=0):
    for argument in arguments:
        if isinstance(argument, TENSOR):
            yield argument
        elif depth < 3 and isinstance(argument, (tuple, list)):
            yield from _tensors(argument, depth + 1)
        elif depth < 3 and isinstance(argument, dict):
            yield from _tensors(argument.values(), depth + 1)


def _common(func, args, kwargs):
    """The card that the tensors of a call share, None for the host's; RuntimeError where they are mixed."""
    cards, host, scalar = set(), False, False
    for tensor in _tensors((*args, *kwargs.values())):
        card = card_of(tensor)
        if card is not None:
            cards.add(card)
        elif tensor.device.type == "cpu":
            scalar = scalar or tensor.dim() == 0
            host = host or tensor.dim() > 0
    if not cards:
        return None
    if func not in ANYWHERE and not _is_index(func, args) and (host or len(cards) > 1):
        found = [f"xpu:{card}" for card in sorted(cards)] + ["cpu"] * host
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {found[0]} and "
            f"{found[1]}! (when checking arguments of {getattr(func, '__name__', func)})"
        )
    return min(cards)


def _is_index(func, args):
    """Whether a call indexes a tensor on a card, by indices that may lie on the host, or copies into a part of one."""
    if func == TENSOR.__setitem__:
        return not any(card_of(index) is not None for index in _tensors([args[1]])) or card_of(args[0]) is not None
    return func == TENSOR.__getitem__ and card_of(args[0]) is not None


def _moved(tensor, index, result):
    """`result` of a move of `tensor` to card `index` (None: the host), in memory of its own where it moved."""
    source = card_of(tensor)
    if source == index:
        return result if index is None else put(result, index)
    if result.untyped_storage()._cdata == tensor.untyped_storage()._cdata:
        result = result.clone()
    if source is not None:
        PROCESS.submit()
        PROCESS.wait()
    return result if index is None else put(result, index)


def _to(args, kwargs):
    """Tensor.to: (arguments without the device, card or None, whether a device was named)."""
    args, kwargs = list(args), dict(kwargs)
    if len(args) > 1 and isinstance(args[1], TENSOR):
        other = args[1]
        args[1] = other.dtype
        return args, kwargs, card_of(other), True
    if "other" in kwargs:
        other = kwargs.pop("other")
        return [args[0], other.dtype, *args[1:]], kwargs, card_of(other), True
    if "device" in kwargs:
        named = kwargs["device"]
        index = card_wanted(named)
        if index is not None:
            kwargs["device"] = "cpu"
        return args, kwargs, index, named is not None
    if len(args) > 1 and isinstance(args[1], (str, int, torch.device)):
        index = card_wanted(args[1])
        if index is not None:
            args[1] = "cpu"
        return args, kwargs, index, True
    return args, kwargs, card_of(args[0]), False


class SoftwareXPU(TorchFunctionMode):
    """The mode of a whole process; it is entered once, when torch is imported."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            name = getattr(func, "__name__", "")
            if name == "__get__":
                return _attribute(func, args)
            special = SPECIAL.get(func)
            if special is not None:
                return special(func, args, kwargs)
            return _call(func, args, kwargs)


def _attribute(func, args):
    tensor = args[0]
    result = func(*args)
    card = card_of(tensor) if isinstance(tensor, TENSOR) else None
    if card is None:
        return result
    if isinstance(result, torch.device):
        return torch.device("xpu", card)
    owner = getattr(func, "__self__", None)
    if owner in FLAGS:
        return FLAGS[owner]
    return put(result, card) if isinstance(result, TENSOR) else result


FLAGS = {TENSOR.is_xpu: True, TENSOR.is_cpu: False}


def _call(func, args, kwargs):
    """Any other function: on the card where its tensors lie, or where `device` asks for it."""
    card = _common(func, args, kwargs)
    named = kwargs.get("device")
    index = card_wanted(named)
    if index is not None:
        kwargs = {**kwargs, "device": "cpu"}
        index = checked(index)
        if torch.device("cpu") != named:
            kwargs.pop("pin_memory", None)
    elif named is None:
        index = card
    if card is not None:
        if func in TO_NUMPY:
            raise TypeError(
                f"can't convert xpu:{card} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
                "memory first."
            )
        if func not in NO_OPERATION and not getattr(func, "__name__", "").startswith(("__set__", "is_", "_is_")):
            PROCESS.submit()
        if func in WAITS:
            PROCESS.wait()
    elif index is not None:
        PROCESS.submit()
    result = func(*args, **kwargs)
    return result if index is None else put(result, index)


def _call_to(func, args, kwargs):
    tensor = args[0]
    args, kwargs, index, named = _to(args, kwargs)
    if index is not None and named:
        checked(index)
        if card_of(tensor) is None:
            _room(tensor, index)
    return _moved(tensor, index, func(*args, **kwargs)) if named else _call(func, args, kwargs)


def _room(tensor, index):
    """Fail before the copy is made where it cannot fit."""
    PROCESS.submit()
    PROCESS.memory_of(index).give(_take(index, tensor.numel() * tensor.element_size()))


def _call_cpu(func, args, kwargs):
    return _moved(args[0], None, func(*args, **kwargs))


def _call_xpu(func, args, kwargs):
    device = args[1] if len(args) > 1 else kwargs.get("device")
    index = checked(PROCESS.current if device is None else card_wanted(device))
    _room(args[0], index)
    return _moved(args[0], index, args[0].to("cpu"))


def _get_device(func, args, kwargs):
    card = card_of(args[0])
    return func(*args, **kwargs) if card is None else card


def _copy(func, args, kwargs):
    """Tensor.copy_, after which the tensor lies where it lay."""
    cards = {card_of(tensor) for tensor in args[:2] if isinstance(tensor, TENSOR)}
    if cards != {None}:
        PROCESS.submit()
    if len(cards) > 1:
        PROCESS.wait()
    return func(*args, **kwargs)


def _from_data(func, args, kwargs):
    """torch.tensor: numbers of tensors in a list make a tensor on the host."""
    if isinstance(args[0] if args else None, (list, tuple)) and card_wanted(kwargs.get("device")) is None:
        if any(card_of(tensor) is not None for tensor in _tensors(args)):
            PROCESS.wait()
        return func(*args, **kwargs)
    return _call(func, args, kwargs)


def _pin(func, args, kwargs):
    return args[0].clone()


def _product(func, args, kwargs):
    """Products of 16-bit matrices are added up in 32 bits, as a card does; the host's are not, for single rows."""
    halves = {tensor.dtype for tensor in _tensors((*args, *kwargs.values()))} & {torch.float16, torch.bfloat16}
    card = _common(func, args, kwargs)
    if card is None or len(halves) != 1:
        return _call(func, args, kwargs)
    PROCESS.submit()
    wide = [argument.float() if isinstance(argument, TENSOR) else argument for argument in args]
    options = {name: value.float() if isinstance(value, TENSOR) else value for name, value in kwargs.items()}
    return put(func(*wide, **options).to(halves.pop()), card)


PRODUCTS = (torch._C._nn.linear, torch.matmul, TENSOR.matmul, TENSOR.__matmul__, torch.bmm, torch.addmm, torch.mm)
SPECIAL = dict.fromkeys(PRODUCTS, _product) | {
    TENSOR.to: _call_to,
    TENSOR.cpu: _call_cpu,
    TENSOR.xpu: _call_xpu,
    TENSOR.get_device: _get_device,
    TENSOR.copy_: _copy,
    torch.tensor: _from_data,
    TENSOR.pin_memory: _pin,
}
