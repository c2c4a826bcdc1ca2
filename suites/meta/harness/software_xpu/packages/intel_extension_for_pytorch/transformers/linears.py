"""Linears outside and inside of blocks (modules/Layers.py below transformers/models/xpu)."""

import torch
import torch.distributed

from ..nn.utils._quantize_convert import WeightOnlyQuantizedLinear
from .state import ACC_TEST


def shards_of(module):
    """Ranks over which DeepSpeed split a linear, 1 for any other module."""
    return getattr(module, "tp_world_size", 1) if "Linear" in type(module).__name__ else 1


class IpexFastAllReduceLinear(torch.nn.Module):
    """Stands for DeepSpeed's LinearAllreduce once IPEX knows the engine: torch's all-reduce over the engine's group."""

    def __init__(self, module, group):
        super().__init__()
        self.module, self.mp_group = module, group

    def forward(self, hidden):
        output = torch.nn.functional.linear(hidden, self.module.weight)
        torch.distributed.all_reduce(output, group=self.mp_group)
        return output if self.module.bias is None else output + self.module.bias


def reduce_in(layer, group):
    """Replace every row-parallel linear of a layer."""
    for module in list(layer.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ == "LinearAllreduce":
                setattr(module, name, IpexFastAllReduceLinear(child, group))


class IPEXLmHeadLinearAllreduceWithPadding(torch.nn.Module):
    """The output projection of the last position alone, unless LLM_ACC_TEST stood in the environment at import.

    It keeps the original as `module`, without its weight, which is a plain tensor from then on.
    """

    def __init__(self, module, size, group):
        super().__init__()
        self.module, self.size, self.group = module, size, group
        self.acc_test = ACC_TEST
        self.weight = None
        self.port_data()

    def port_data(self):
        self.weight = self.module.weight.transpose(-1, -2).contiguous().detach()
        self.bias = self.module.bias
        self.module.weight = None
        self.module.bias = None

    def project(self, hidden):
        output = torch.matmul(hidden, self.weight)
        return output if self.bias is None or self.size > 1 else output + self.bias

    def forward(self, hidden):
        if not self.acc_test:
            hidden = hidden[:, -1:, :]
        if self.size == 1:
            return self.project(hidden)
        if getattr(self.module, "mp_group", None) is None:  # DeepSpeed left it whole
            return self.project(hidden) if self.bias is None else self.project(hidden) + self.bias
        width = self.weight.shape[0]
        first = width * self.module.tp_index
        output = self.project(hidden[:, :, first : first + width].contiguous())
        torch.distributed.all_reduce(output, group=self.group)
        return output if self.bias is None else output + self.bias


class IPEXLmHeadLinearAllreduceWithPaddingInt4(IPEXLmHeadLinearAllreduceWithPadding):
    """The same around an INT4 linear, which keeps its tables."""

    def port_data(self):
        self.bias = self.module.bias

    def project(self, hidden):
        return self.module(hidden)


class IPEXLmHeadLinearAllreduceWithPaddingBaichuan(IPEXLmHeadLinearAllreduceWithPadding):
    """Baichuan2's normalised head: IPEX normalises the weight once."""

    def port_data(self):
        self.weight = torch.nn.functional.normalize(self.module.weight).transpose(-1, -2).contiguous().detach()
        self.bias = getattr(self.module, "bias", None)


def head_of(module, size, group, model_type):
    """IPEX's module in place of an lm_head."""
    if isinstance(module, WeightOnlyQuantizedLinear):
        return IPEXLmHeadLinearAllreduceWithPaddingInt4(module, size, group)
    if model_type == "baichuan":
        return IPEXLmHeadLinearAllreduceWithPaddingBaichuan(module, size, group)
    return IPEXLmHeadLinearAllreduceWithPadding(module, size, group)
