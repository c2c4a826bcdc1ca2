"""Faults of INT4 that the suite's own tests plant: in the stack before it quantises, and in a saved folder.

Functions of the first kind take the place of the loaded model (None, nothing is loaded yet) and patch the stack inside
the worker; those of the second take the folder.
"""

import json
import os

import numpy as np

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
