"""What a worker says of torchao: how it rounds for Intel GPUs, by its own functions on a host, and what it leaves."""

import torch

from fixtures.weights.int4_format import round_to_nearest

GROUP = 64


def differences(service, spread):
    """{"integers", "scales", "zeros"} that differ from the suite's own, of weights with a standard deviation `spread`.

    Some groups have weights of one sign only. "lost" counts groups of which an integer differs, "small" those with a
    scale that fp16 has no reciprocal for, and "apart" those that are only one of the two.
    """
    from torchao.quantization.quant_primitives import MappingType, choose_qparams_affine, quantize_affine

    weight = torch.randn(256, 1024, generator=torch.Generator().manual_seed(3)) * spread
    weight[64:128] += 4 * spread
    weight[128:192] -= 4 * spread
    half, block = weight.half(), [1, GROUP]
    arguments = MappingType.ASYMMETRIC, block, torch.int32, 0, 15, 1e-6, None, torch.int32
    scales, zeros = choose_qparams_affine(half, *arguments)
    integers = quantize_affine(half, block, scales, zeros, torch.int32, 0, 15)
    mine = round_to_nearest(weight.numpy(), GROUP, "asymmetric fp16")
    pairs = {"integers": (integers, mine.integers), "scales": (scales, mine.scales), "zeros": (zeros, mine.zeros)}
    differ = {name: table.float().reshape(own.shape).numpy() != own for name, (table, own) in pairs.items()}
    lost = differ["integers"].reshape(len(weight), -1, GROUP).any(-1)
    small = (1 / scales).isinf().reshape(lost.shape).numpy()
    counts = {name: int(table.sum()) for name, table in differ.items()}
    return counts | {"lost": int(lost.sum()), "small": int(small.sum()), "apart": int((lost != small).sum())}


def compiled_folder(service):
    """Where torch's compiler keeps what it compiled."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return cache_dir()
