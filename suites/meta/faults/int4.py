"""Faults of INT4 that the suite's own tests plant: in the stack before it quantises, and in a saved folder.

Functions of the first kind take the place of the loaded model (None, nothing is loaded yet) and patch the stack inside
the worker; those of the second take the folder.
"""

import json
import os
from pathlib import Path

import numpy as np

from fixtures.weights.torchao_format import padded

# -- in the stack: the first linear it packs gets wrong tables ----


def _tamper(change):
    from intel_extension_for_pytorch.nn.modules import WeightOnlyQuantizedLinear as Linear

    honest, done = Linear.from_float_and_int4_weight.__func__, []

    def pack(cls, *, qweight, scales, zero_points, **options):
        if not done:
            done.append(True)
            qweight, scales, zero_points, options = change(
                qweight.clone(), scales.clone(), zero_points.clone(), options
            )
        return honest(cls, qweight=qweight, scales=scales, zero_points=zero_points, **options)

    Linear.from_float_and_int4_weight = classmethod(pack)


def scale_of_one_group_doubled(_):
    def change(qweight, scales, zeros, options):
        scales[0, 0] *= 2
        return qweight, scales, zeros, options

    _tamper(change)


def zero_point_off_by_one(_):
    def change(qweight, scales, zeros, options):
        zeros[0, 0] += 1
        return qweight, scales, zeros, options

    _tamper(change)


def two_groups_swapped(_):
    def change(qweight, scales, zeros, options):
        scales[:, [0, 1]] = scales[:, [1, 0]]
        return qweight, scales, zeros, options

    _tamper(change)


def nibbles_swapped(_):
    def change(qweight, scales, zeros, options):
        low, high = qweight & 0x0F0F0F0F, (qweight >> 4) & 0x0F0F0F0F
        return (low << 4) | high, scales, zeros, options

    _tamper(change)


def group_of_64_read_as_32(_):
    def change(qweight, scales, zeros, options):
        return qweight, scales.repeat(1, 2), zeros.repeat(1, 2), {**options, "group_size": 32}

    _tamper(change)


def silently_unquantised(_):
    """As the CPU build does with an architecture that it does not list: the model comes back as it was."""
    import transformers
    from neural_compressor.transformers import AutoModelForCausalLM

    def plain(folder, quantization_config=None, device_map=None, **options):
        return transformers.AutoModelForCausalLM.from_pretrained(folder, **options)

    AutoModelForCausalLM.from_pretrained = plain


def head_quantised_too(_):
    from neural_compressor.transformers import RtnConfig

    honest = RtnConfig.__init__

    def init(self, *arguments, **options):
        honest(self, *arguments, **{**options, "quant_lm_head": True})

    RtnConfig.__init__ = init


def engine_left_set(_):
    os.environ["IPEX_COMPUTE_ENG"] = "4"


# -- in a saved folder ----


def _tensors(folder):
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def _write(folder, tensors):
    from safetensors.numpy import save_file

    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def truncated(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _flip(folder, termination):
    tensors = _tensors(folder)
    name = sorted(name for name in tensors if name.endswith(termination))[0]
    tensors[name] = tensors[name].copy()
    tensors[name].view(np.uint8).reshape(-1)[5] ^= 1
    _write(folder, tensors)


def byte_of_integers_flipped(folder):
    _flip(folder, ".qweight")


def byte_of_scales_flipped(folder):
    _flip(folder, ".scales")


def byte_of_zeros_flipped(folder):
    _flip(folder, ".qzeros")


def _without(folder, termination):
    tensors = _tensors(folder)
    del tensors[sorted(name for name in tensors if name.endswith(termination))[0]]
    _write(folder, tensors)


def scales_of_one_linear_missing(folder):
    _without(folder, ".scales")


def norm_missing(folder):
    _without(folder, "norm.weight")


def norm_of_another_width(folder):
    """Nothing that the suite looks at beforehand: the stack itself has to stumble over it."""
    tensors = _tensors(folder)
    name = sorted(name for name in tensors if name.endswith("norm.weight"))[0]
    tensors[name] = tensors[name][:-1].copy()
    _write(folder, tensors)


def _configure(folder, **entries):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"].update(entries)
    path.write_text(json.dumps(config))


def wrong_group_size(folder):
    _configure(folder, group_size=32)


def foreign_method(folder):
    _configure(folder, quant_method="bitsandbytes")


def config_missing(folder):
    (folder / "config.json").unlink()


# -- in a model that torchao quantised: the tables of its first linear ----


def _torchao_weight(model):
    return next(module.weight for module in model.modules() if hasattr(getattr(module, "weight", None), "qdata"))


def torchao_scale_doubled(model):
    _torchao_weight(model).scale_and_zero[0, 0, 0] *= 2


def torchao_zero_moved(model):
    table = _torchao_weight(model).scale_and_zero
    table[0, 0, 1] += table[0, 0, 0]


def torchao_groups_swapped(model):
    table = _torchao_weight(model).scale_and_zero
    table[[0, 1]] = table[[1, 0]]


def torchao_integers_swapped(model):
    packed = _torchao_weight(model).qdata
    packed[[0, 1]] = packed[[1, 0]]


# -- in a model of torchao that is saved and loaded again. On a host it can be neither, as long as torchao does not know
# the class of its weights there (`[[limits]]` of platforms.toml), so its classes are made known first.


def torchao_knows_the_hosts_weights(_):
    """No fault: what torchao.utils.TorchAOBaseTensor says is to be done to save a class, and its configuration."""
    from torchao.core import config
    from torchao.prototype.quantization.int4 import Int4OpaqueTensor
    from torchao.prototype.safetensors import safetensors_utils

    safetensors_utils.ALLOWED_CLASSES["Int4OpaqueTensor"] = Int4OpaqueTensor
    safetensors_utils.ALLOWED_TENSORS_SUBCLASSES.append("Int4OpaqueTensor")
    config.ALLOWED_AO_MODULES.add("torchao.prototype.quantization.int4")


def _packs_as_on(device_type, tensor, packed):
    """No fault: a host draws weights in the form of another device, for which it has no packing."""
    from fixtures.engine import torchao_int4

    documented = torchao_int4.configuration
    torchao_int4.configuration = lambda _, group: documented(device_type, group)
    tensor.from_hp = classmethod(
        lambda cls, weight, block, **_: cls(*packed(*weight.shape, block[1]), block, weight.shape)
    )


def torchao_packs_as_on_xpu(_):
    import torch
    from torchao.quantization import Int4PlainInt32Tensor

    def packed(out, width, group):
        zeros = torch.randint(0, 16, (width // group, out), dtype=torch.int8)
        return torch.randint(-(2**31), 2**31, (out, width // 8), dtype=torch.int32), torch.rand(zeros.shape), zeros

    _packs_as_on("xpu", Int4PlainInt32Tensor, packed)


def torchao_packs_as_on_cuda(_):
    import torch
    from torchao.quantization import Int4TilePackedTo4dTensor

    def packed(out, width, group):
        out, width = padded(out, width, "cuda")
        tiles = torch.randint(-(2**31), 2**31, (out // 8, width // 128, 32, 4), dtype=torch.int32)
        return tiles, torch.rand(width // group, out, 2, dtype=torch.bfloat16)

    _packs_as_on("cuda", Int4TilePackedTo4dTensor, packed)


def _after_saving(model, change):
    """Call `change(folder)` at the end of each save of a model."""
    honest = model.save_pretrained

    def save_pretrained(folder, **options):
        honest(folder, **options)
        change(Path(folder))

    model.save_pretrained = save_pretrained


def _rewrite(folder, change):
    """Change the tensors and the texts of a folder by `change(tensors, texts)`."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = folder / "model.safetensors"
    with safe_open(path, "pt") as file:
        texts, tensors = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors, texts)
    save_file(tensors, path, metadata=texts)


def _first(tensors, ending):
    return sorted(name for name in tensors if name.endswith(ending))[0]


def torchao_save_rounds_a_scale(model):
    def change(tensors, _):
        tensors[_first(tensors, "_scale_and_zero")][0, 0, 0] *= 1 + 2**-7  # one step of bf16

    _after_saving(model, lambda folder: _rewrite(folder, change))


def torchao_save_spoils_the_model(model):
    _after_saving(model, lambda folder: torchao_scale_doubled(model))


def torchao_save_writes_a_pickle(model):
    _after_saving(model, lambda folder: (folder / "pytorch_model.bin").write_bytes(b"no pickle, either"))


def torchao_save_writes_a_byte_an_integer(model):
    def change(tensors, _):
        for name in [name for name in tensors if name.endswith("_weight_qdata")]:
            tensors[name] = tensors[name].repeat_interleave(2, dim=-1)

    _after_saving(model, lambda folder: _rewrite(folder, change))


def torchao_integer_flipped(folder):
    import torch

    def change(tensors, _):
        tensors[_first(tensors, "_weight_qdata")].view(torch.uint8).reshape(-1)[5] ^= 1

    _rewrite(folder, change)


def torchao_scales_missing(folder):
    _rewrite(folder, lambda tensors, _: tensors.pop(_first(tensors, "_scale_and_zero")))


def torchao_group_of_64_read_as_32(folder):
    def change(_, texts):
        name = _first(texts, "q_proj.weight")
        texts[name] = texts[name].replace("[1, 64]", "[1, 32]")

    _rewrite(folder, change)


def _once_reloaded(change):
    """A fault of a model that comes from its own save; the one that is saved stays sound."""

    def plant(model):
        if model.hf_quantizer.pre_quantized:
            change(model)

    return plant


@_once_reloaded
def torchao_reload_writes_to_the_folder(model):
    path = Path(model.name_or_path) / "config.json"
    path.write_text(path.read_text() + "\n")


@_once_reloaded
def torchao_reload_doubles_a_scale(model):
    torchao_scale_doubled(model)


@_once_reloaded
def torchao_reload_leaves_a_linear_unquantised(model):
    import torch

    layer = model.model.layers[0].self_attn
    weight = layer.q_proj.weight
    plain = torch.nn.Linear(weight.shape[1], weight.shape[0], layer.q_proj.bias is not None, dtype=weight.dtype)
    layer.q_proj = plain.requires_grad_(False)
