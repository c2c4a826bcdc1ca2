"""Replaces layers (Converter.py, ModuleReplacer.py, modules/Functions.py below transformers/models/xpu)."""

import functools
import types

import torch
from software_xpu import card

from . import baichuan, blocks, linears
from .state import IPEXAttention


def converted(model, run_as):
    """`model`, or DeepSpeed's engine around it, on the card and with its layers replaced. `run_as`: dtype or "int4"."""
    size, group = _parallel(model)
    if size == 1:
        # Converter.convert_model: a model that is not sharded by an engine is moved and cast. Upstream casts buffers,
        # too, but its rotary tables are new ones of its own; the stock ones, which stay here, must not lose digits.
        model = model.to("xpu")
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(torch.float16 if run_as == "int4" else run_as)
    whole = getattr(model, "module", model)
    _replace_functions(whole)
    _replace_layers(whole, run_as, size, group)
    _own_rotary_tables(whole)
    return model


def _own_rotary_tables(model):
    """RoPE.py makes tables of its own from the configuration, in 32 bits; here the stock ones are made so.

    What it rotates keeps its type, where stock GPT-J hands keys on in 32 bits.
    """
    for module in model.modules():
        if hasattr(module, "rope_init_fn"):
            frequencies, module.attention_scaling = module.rope_init_fn(module.config, module.inv_freq.device)
            module.inv_freq = module.original_inv_freq = frequencies
        elif type(module).__name__ == "GPTJAttention":
            from transformers.models.gptj.modeling_gptj import create_sinusoidal_positions

            old = module.embed_positions
            table = create_sinusoidal_positions(len(old), module.rotary_dim or module.embed_dim)
            module.embed_positions = table.to(old.device, torch.float32)
            own = {**type(module).forward.__globals__, "apply_rotary_pos_emb": _rotated_in_its_type}
            module.forward = types.MethodType(types.FunctionType(type(module).forward.__code__, own), module)


def _rotated_in_its_type(tensor, *tables):
    from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb

    return apply_rotary_pos_emb(tensor, *tables).to(tensor.dtype)


def _parallel(model):
    """(tensor-parallel size, group) that DeepSpeed's engine tells; (1, None) for anything else, sharded or not.

    Converter.ds_autotp_enabled tests for deepspeed.InferenceEngine and nothing else.
    """
    try:
        import deepspeed
    except ImportError:
        return 1, None
    if not isinstance(model, deepspeed.InferenceEngine) or card.fault("tp_size_1"):
        return 1, None
    parallel = model._config.tensor_parallel
    return parallel.tp_size, parallel.tp_group


def _replace_layers(model, run_as, size, group):
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child).__name__ in blocks.NAMES:
                blocks.replace(child, run_as, size, group)
            elif name == "lm_head":
                setattr(module, name, linears.head_of(child, size, group, model.config.model_type))
    if card.fault("tensors_left_on_host"):
        blocks.leave_on_host(model)


# Classes that ipex_static_cache teaches a static cache.
STATIC_CACHE = ("Phi3ForCausalLM", "BaichuanForCausalLM", "BloomForCausalLM", "GPTJForCausalLM", "Qwen2ForCausalLM")
STATIC_CACHE += ("OPTForCausalLM",)


def _replace_functions(model):
    """Functions.py: ipex_prepare_model_inputs, ipex_beam_search_new and ipex_static_cache, baichuan_forward_hook."""
    for name, make in (("_prepare_model_inputs", _inputs), ("_beam_search", _beam_search)):
        if hasattr(model, name):
            setattr(model, name, functools.partial(make, getattr(model, name)))
    if type(model).__name__ in STATIC_CACHE:
        model._supports_static_cache = model._supports_cache_class = True
    if type(model).__name__ == "BaichuanForCausalLM":
        model.prepare_inputs_for_generation = functools.partial(baichuan.inputs, model)
        model.model.forward = functools.partial(baichuan.forward, model.model)


def _inputs(real, *arguments, **options):
    found = real(*arguments, **options)
    IPEXAttention.batch_size = found[0].shape[0]
    return found


def _beam_search(real, input_ids, *arguments, **options):
    """_ipex_beam_search_: with a static cache IPEX's own search runs, which makes a tensor of the eos ids."""
    from transformers.cache_utils import StaticCache

    if not isinstance(options.get("past_key_values"), StaticCache):
        return real(input_ids, *arguments, **options)
    torch.tensor(options["generation_config"]._eos_token_tensor)  # RuntimeError where there is none
    IPEXAttention.beam_idx = torch.arange(input_ids.shape[0])
    return real(input_ids, *arguments, **options)
