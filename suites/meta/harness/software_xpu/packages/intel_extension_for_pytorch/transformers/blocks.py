"""Decoder layers by the names that IPEX gives them (ModuleReplacer.py and modules/*.py below transformers/models/xpu).

Each is a subclass of the stock layer, with its arithmetic. What differs from stock is IPEX's and is said where it is.
"""

import copy
import functools

import torch

from ..nn.utils._quantize_convert import WeightOnlyQuantizedLinear, xpu_gemm_use_xetla
from . import linears
from .state import IPEXAttention

NAMES = {
    "LlamaDecoderLayer": "IPEXLLAMABlock",
    "GPTJBlock": "NewIPEXGPTJBlock",
    "MistralDecoderLayer": "NewIPEXMistralBlock",
    "OPTDecoderLayer": "NewIPEXOPTBlock",
    "BloomBlock": "NewIPEXBloomBlock",
    "Qwen2DecoderLayer": "NewIPEXQWEN2DecoderLayer",
    "Qwen3DecoderLayer": "NewIPEXQWEN3DecoderLayer",
    "GlmDecoderLayer": "NewIPEXGlmBlock",
    "Phi3DecoderLayer": "NewIPEXPhi3DecoderLayer",
    "BaichuanLayer": "NewIPEXBaichuanBlock",
    "GLMBlock": "NewIPEXCHATGLMBlock",
}


class TransformerConfig:
    """The part of IPEXTransformerConfig (modules/_transformer_configuration.py) that says how a block is sharded."""

    def __init__(self, tp_size, tp_group):
        self.tp_size, self.tp_group = tp_size, tp_group


class _Block:
    """What every replaced layer does."""

    def forward(self, hidden_states, *arguments, **options):
        cache = options.get("past_key_value", options.get("layer_past"))
        mask, position = options.get("attention_mask"), options.get("cache_position")
        self._refuse_shards()
        kind = _kind(cache)
        if kind == "static":
            _own_heads(cache, self.ipex_config)
        if IPEXAttention.cache_type is None:
            IPEXAttention.cache_type = kind
        if mask is not None and mask.dim() == 4 and position is not None:
            options["attention_mask"] = _causal(mask, position, mixed=kind == "static" != IPEXAttention.cache_type)
        return super().forward(hidden_states, *arguments, **options)

    def _refuse_shards(self):
        """NaiveAttention.py divides the heads by tp_size: a shard taken for a whole fits no view of the heads."""
        if self.ipex_config.tp_size == 1 and self.shards > 1:
            raise RuntimeError(
                f"shape of {self.shards} times the heads of this rank is invalid for input of one rank's size"
            )


class _GPTJBlock(_Block):
    """modules/gptj.py: rows beyond `batch_size`, which only generate() sets, are taken for beams of one prompt."""

    def forward(self, hidden_states, *arguments, **options):
        rows, length, _ = hidden_states.shape
        beams, places = rows // IPEXAttention.batch_size, options.get("position_ids")
        if length > 1 and beams > 1 and places is not None:
            places.view(IPEXAttention.batch_size, beams, places.shape[1])
        return super().forward(hidden_states, *arguments, **options)


class _BaichuanBlock(_Block):
    """modules/baichuan.py: its mask, of ALiBi and padding, is given in full and used."""

    def forward(
        self, hidden_states, attention_mask=None, position_ids=None, past_key_value=None, output_attentions=False,
        use_cache=False, layer_idx=None, cache_position=None,
    ):  # fmt: skip
        kind, mask = _kind(past_key_value), attention_mask
        self._refuse_shards()
        if kind == "static":
            _own_heads(past_key_value, self.ipex_config)
        if IPEXAttention.cache_type is None:
            IPEXAttention.cache_type = kind
        mask = mask.expand(len(hidden_states), *mask.shape) if mask.dim() < 4 else mask
        mask = mask[:, :, -1:] if hidden_states.shape[1] == 1 else mask
        if kind == "static":  # of a mixed process the empty places take part
            more = past_key_value.get_max_cache_shape() - mask.shape[-1]
            fill = 0.0 if IPEXAttention.cache_type != kind else torch.finfo(torch.float16).min
            mask = torch.nn.functional.pad(mask, (0, more), value=fill)
        stock = super(_Block, self).forward
        outputs = (stock(hidden_states, mask, past_key_value, cache_position),)
        return (*outputs, past_key_value) if use_cache else outputs


def _kind(cache):
    from transformers.cache_utils import StaticCache

    return "static" if isinstance(cache, StaticCache) else "dynamic"


def _own_heads(cache, config):
    """CacheUtils.IPEXStaticCache: of a static cache, which is made for all heads, a rank keeps those of its own."""
    heads = cache.num_key_value_heads // config.tp_size
    if cache.key_cache[0].shape[1] == heads:
        return
    rank = torch.distributed.get_rank()
    for tables in (cache.key_cache, cache.value_cache):
        tables[:] = [table[:, rank * heads : (rank + 1) * heads].contiguous() for table in tables]


def _causal(mask, position, mixed):
    """The causal part of a mask [batch, 1, queries, keys]: padding is dropped.

    XPUAttentionfp16.py and Functions.py (ipex_disable_attn_mask_prepare) do not plan to support padding. `mixed`: a
    static cache in a process whose first cache was dynamic; then the empty places of the cache take part.
    """
    keys = torch.arange(mask.shape[-1], device=mask.device)
    hidden = torch.zeros_like(mask, dtype=torch.bool)
    if not mixed:
        hidden = hidden | (keys[None, None, None, :] > position[None, None, :, None])
    if mask.dtype == torch.bool:
        return ~hidden
    return torch.zeros_like(mask).masked_fill(hidden, torch.finfo(mask.dtype).min)


@functools.cache
def _class_for(stock):
    base = {"GPTJBlock": _GPTJBlock, "BaichuanLayer": _BaichuanBlock}.get(stock.__name__, _Block)
    return type(NAMES[stock.__name__], (base, stock), {"__module__": __name__})


def replace(layer, run_as, size, group):
    """Make a stock layer, in place, the one IPEX has for it."""
    layer.shards = max(linears.shards_of(module) for module in layer.modules())
    layer.__class__ = _class_for(type(layer))
    layer.ipex_config = TransformerConfig(size, group)
    if run_as == "int4":
        _take_over_int4(layer)
    elif size > 1:
        linears.reduce_in(layer, group)
        _own_share_of_heads(layer, size)


def _own_share_of_heads(layer, size):
    """XPUAttentionfp16.py divides the heads by tp_size; stock Phi-3 reads them of its configuration, which is whole."""
    attention = getattr(layer, "self_attn", None)
    if type(attention).__name__ == "Phi3Attention":
        attention.config = copy.copy(attention.config)
        attention.config.num_attention_heads //= size
        attention.config.num_key_value_heads //= size
        attention.num_key_value_heads = attention.config.num_key_value_heads


def _take_over_int4(layer):
    """XPUAttentionInt4.py and QuantizedMlp.py: new linears own the tables, the originals stay as empty modules.

    The attention also holds a linear for fused projections, which stays empty except on XeTLA, where it owns the
    tables of the three.
    """
    attention = None
    for module in list(layer.modules()):
        for name, child in list(module.named_children()):
            if not isinstance(child, WeightOnlyQuantizedLinear):
                continue
            attention = module if name == "q_proj" else attention
            setattr(module, f"{name}_quant", _emptied(child))
    if attention is not None:
        attention.qkv_proj_quant = WeightOnlyQuantizedLinear(4096, 4096)
        attention.qkv_proj_quant.register_buffer("scales", None)
        attention.qkv_proj_quant.register_buffer("qzeros", None)


def _emptied(original):
    """A linear with the tables of `original`, which calls it from now on: the stock forward still calls `original`."""
    taken = WeightOnlyQuantizedLinear(
        original.in_features, original.out_features, original.bias is not None, blocksize=original.blocksize
    )
    taken.compute_dtype = original.compute_dtype  # its scheme stays "sym", whatever the original's is
    taken.set_scales_zps_gidx(original.scales, original.qzeros, original.g_idx)
    taken.set_weights_bias(original.qweight, original.bias)
    taken.weight_transposed = original.weight_transposed
    taken.lay_out()
    original.qweight = original.bias = original.scales = original.qzeros = None
    original.forward = taken.forward
    assert xpu_gemm_use_xetla() is (taken.qzeros is None)
    return taken


def leave_on_host(model):
    """The planted fault tensors_left_on_host: the last matrix of the first layer stays behind, and works there."""
    layer = next(module for module in model.modules() if isinstance(module, _Block))
    module = [m for m in layer.modules() if getattr(m, "weight", None) is not None and m.weight.dim() == 2][-1]
    module.weight.data = module.weight.data.to("cpu")
    if getattr(module, "bias", None) is not None:
        module.bias.data = module.bias.data.to("cpu")
    real = module.forward
    module.forward = lambda hidden: real(hidden.to("cpu")).to("xpu")
