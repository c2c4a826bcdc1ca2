"""Faults that the suite's own tests plant in a model inside a worker: each breaks one mechanism a little or wholly.

Every function takes the loaded model and returns it (or None to keep it). They run where the recipe calls them:
before the optimiser (`fault_before`) or after it (`fault_after`).
"""

import ctypes
import functools
import os
import signal
import tempfile
import time
from pathlib import Path

import torch

# -- faults of position ----


def _scale_rope_base(model, factor):
    """As if the rope base were `factor` times as large: inverse frequencies base**(-2i/d) move with their index."""
    model.config.rope_theta = getattr(model.config, "rope_theta", 10000.0) * factor  # IPEX reads this one
    for module in model.modules():
        if hasattr(module, "inv_freq"):
            half = module.inv_freq.shape[0]
            index = torch.arange(half, dtype=torch.float32, device=module.inv_freq.device) / half
            module.inv_freq = module.inv_freq * factor**-index
            module.original_inv_freq = module.inv_freq
        if hasattr(module, "embed_positions") and hasattr(module, "rotary_dim"):  # GPT-J keeps a table of sines
            module.embed_positions = _sinusoids(module.embed_positions.shape, 10000.0 * factor)


def _sinusoids(shape, base):
    positions, dims = shape
    inverse = base ** (-torch.arange(0, dims, 2) / dims)
    angles = torch.arange(positions)[:, None] * inverse
    return torch.cat((torch.sin(angles), torch.cos(angles)), dim=1)


def rope_base_doubled(model):
    _scale_rope_base(model, 2.0)


def rope_base_off_by_five_percent(model):
    _scale_rope_base(model, 1.05)


# -- faults of attention ----


def _scale_attention(model, factor):
    changed = 0
    for module in model.modules():
        for name in ("scaling", "inv_norm_factor"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, getattr(module, name) * factor)
                changed += 1
        is_opt = type(module).__name__.startswith("OPT")
        if is_opt and hasattr(module, "q_proj"):  # its SDPA path has a scale of its own
            module.q_proj.register_forward_hook(lambda _, inputs, query: query * factor)
        if hasattr(module, "scale_attn"):  # GPT-J divides
            module.scale_attn = module.scale_attn.double() / factor
            changed += 1
    assert changed, "no attention scale found: the fault would not be planted"


def attention_scale_off_by_two_percent(model):
    _scale_attention(model, 1.02)


def query_off_by_half_a_percent(model):
    """The same through the weights, which an optimiser that has its own scale cannot ignore."""
    for name, module in model.named_modules():
        if name.endswith("q_proj"):
            module.weight.data = module.weight.data * 1.005


def head_zeroed(model):
    """The first head of the first layer contributes nothing."""
    layer = model.get_submodule("model.layers.0.self_attn.o_proj")
    head_dim = model.config.head_dim
    layer.weight.data[:, :head_dim] = 0


def mask_dropped(model):
    """Padding is attended to, as if the attention mask were lost on its way."""
    generate = model.generate

    def without_mask(input_ids, attention_mask=None, **options):
        return generate(input_ids, attention_mask=torch.ones_like(input_ids), **options)

    model.generate = without_mask


def cache_shifted(model):
    """Stock models: cached values sit one slot behind their keys at every decode step."""
    forward = model.forward

    @functools.wraps(forward)  # generate() reads the signature
    def shifted_forward(*inputs, **options):
        cache = options.get("cache", options.get("past_key_values"))  # transformers 5.24 calls it by the shorter name
        if cache is not None and not hasattr(cache, "honest_update"):
            cache.honest_update = cache.update
            cache.update = lambda *a, **k: _late(cache.honest_update(*a, **k), a[0])
        return forward(*inputs, **options)

    model.forward = shifted_forward


def _late(pair, new_keys):
    keys, values = pair
    return (keys, values.roll(1, dims=-2)) if new_keys.shape[-2] == 1 else pair


def ipex_cache_shifted(model):
    """The same for IPEX's own cache tuples (sequence, keys, values, beams), laid out [slot, batch, head, dim]."""
    graph = model.trace_graph

    def shifted_graph(*inputs, **options):
        shifted = []
        for cache in options.get("past_key_values") or ():
            past = cache[0].shape[-2]
            values = cache[2]
            if past > 1:
                values = values.clone()
                values[:past] = cache[2][:past].roll(1, dims=0)
            shifted.append((cache[0], cache[1], values, *cache[3:]))
        if shifted:
            options["past_key_values"] = tuple(shifted)
        return graph(*inputs, **options)

    del model.trace_graph
    object.__setattr__(model, "trace_graph", shifted_graph)


# -- faults of precision and path ----


def weights_rounded_to_six_bits(model):
    """Linear weights keep six significant bits where bf16 has eight."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            mantissa, exponent = torch.frexp(module.weight.data.float())
            rounded = torch.ldexp((mantissa * 64).round() / 64, exponent)
            module.weight.data = rounded.to(module.weight.dtype)


def optimise_is_a_no_op(model):
    import intel_extension_for_pytorch as ipex

    ipex.llm.optimize = lambda model, **options: model


def one_linear_left_unquantised(model):
    from torch import nn

    for parent in model.modules():
        for name, child in parent.named_children():
            if "WeightOnly" in type(child).__name__:
                setattr(parent, name, nn.Linear(child.in_features, child.out_features))
                return


def not_a_number(model):
    """One weight is NaN."""
    next(model.parameters()).data.view(-1)[0] = float("nan")
    model.get_output_embeddings().weight.data[0, 0] = float("nan")


# -- ends ----


def segfault(model):
    ctypes.string_at(0)


def sigkill(model):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(model):
    time.sleep(3600)


def sigkill_once(model):
    """Dies the first time in a run, and never again: a run's workers share a folder for temporary files."""
    try:
        (Path(tempfile.gettempdir()) / "died").touch(exist_ok=False)
    except FileExistsError:
        return
    sigkill(model)


def device_lost(model):
    raise RuntimeError("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)")


def silent_exit(model):
    os._exit(0)


def out_of_memory(model):
    raise MemoryError


def a_python_error(model):
    raise RuntimeError("planted")


# -- faults of the checkpoint's settings, and of the stock model ----


def penalty_asked(model):
    """As a checkpoint whose generation_config.json asks for a repetition penalty."""
    model.generation_config.repetition_penalty = 1.05


def penalty_asked_and_query_off(model):
    """The same, with every softmax two percent too sharp."""
    penalty_asked(model)
    for name, module in model.named_modules():
        if name.endswith("q_proj"):
            module.weight.data = module.weight.data * 1.02


def loaded_as_fp32(model):
    """As if the type that was asked for were ignored."""
    return model.float()


def loaded_as_bf16(model):
    """The same of fp32, which every CPU has."""
    return model.bfloat16()


def static_mask_zeroed(model):
    """With a static cache every slot is attended to, those that are still empty too."""
    update = model.model._update_causal_mask

    def zeroed(*inputs, **options):
        mask = update(*inputs, **options)
        static = any(type(value).__name__ == "StaticCache" for value in (*inputs, *options.values()))
        return torch.zeros_like(mask) if static and mask is not None else mask

    model.model._update_causal_mask = zeroed


def static_slots_attended(model):
    """The same under transformers 5, which makes the mask of a static cache before each forward pass."""
    prepare = model.prepare_inputs_for_generation

    @functools.wraps(prepare)  # generate() reads the signature
    def attended(*inputs, **options):
        prepared = prepare(*inputs, **options)
        mask = prepared.get("attention_mask")
        if mask is not None and mask.ndim == 4:
            prepared["attention_mask"] = torch.ones_like(mask) if mask.dtype is torch.bool else torch.zeros_like(mask)
        return prepared

    model.prepare_inputs_for_generation = attended


def _scale_norm_eps(model, factor):
    for module in model.modules():
        for name in ("variance_epsilon", "eps"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, getattr(module, name) * factor)


def norm_eps_off(model):
    """The epsilon of every norm is ten times as large."""
    _scale_norm_eps(model, 10)


def norm_eps_off_ten_thousandfold(model):
    _scale_norm_eps(model, 10_000)


def attention_scale_off_by_one_percent(model):
    _scale_attention(model, 1.01)
