"""Faults of the classes that compute: rope, attention, key-value cache, norms, linears, company of other rows.

As in suites.meta.faults.model, functions take the loaded model. They patch stock classes of the worker, which ends with
the fault, so that any mechanism can be struck; an entry of the registry that needs them is `plain`.
"""

import functools
import itertools
import random

import torch

WARP = 32  # threads; silent corruption recurs with this period


def _attention(change):
    """Attention is `change(honest, query, key, value, mask, options)`, all [batch, heads, length, head_dim]."""
    honest = torch.nn.functional.scaled_dot_product_attention

    def attention(query, key, value, attn_mask=None, **options):
        return change(honest, query, key, value, attn_mask, options)

    torch.nn.functional.scaled_dot_product_attention = attention


def _outputs(model, end, change):
    """What modules whose name ends with `end` return becomes `change(inputs, output)`."""
    found = [module for name, module in model.named_modules() if name.endswith(end)]
    assert found, f"no module {end}: the fault would not be planted"
    for module in found:
        module.register_forward_hook(lambda _, inputs, output: change(inputs[0], output))


def _rope(model, positions=lambda ids: ids, tables=lambda cos, sin: (cos, sin)):
    """The rotary tables are made of other `positions` [batch, length], or come out as `tables(cos, sin)`."""
    rotary = model.model.rotary_emb
    honest = rotary.forward
    rotary.forward = lambda x, ids: tables(*honest(x, positions(ids)))


# -- rope ----


def rope_interleaved(model):
    """Neighbouring dims are rotated as pairs, as GPT-J's are, where the model means halves."""
    from transformers.models.llama import modeling_llama

    modeling_llama.rotate_half = lambda x: torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


def rope_of_three_quarters_of_the_dims(model):
    def partial(cos, sin):
        cos, sin = cos.clone(), sin.clone()
        quarter = cos.shape[-1] // 8
        for part in (slice(-quarter, None), slice(cos.shape[-1] // 2 - quarter, cos.shape[-1] // 2)):
            cos[..., part], sin[..., part] = 1, 0
        return cos, sin

    _rope(model, tables=partial)


def rope_one_position_behind_in_decode(model):
    _rope(model, lambda ids: ids - 1 if ids.shape[-1] == 1 else ids)


def rope_ends_past_512(model):
    _rope(model, lambda ids: ids.clamp(max=511))


def rope_positions_in_bf16(model):
    """Positions past 256 are rounded, as half-precision frequencies do it."""
    _rope(model, lambda ids: ids.to(torch.bfloat16).long())


def rope_scaling_ignored(model):
    half = model.model.rotary_emb.inv_freq.shape[0]
    model.model.rotary_emb.inv_freq = model.config.rope_theta ** (-torch.arange(half, dtype=torch.float32) / half)


def rope_scaling_switched_late(model):
    """The factors of long contexts come in 16 tokens after the length at which they should."""
    model.config.original_max_position_embeddings += 16


# -- attention ----


def every_future_token_seen(model):
    _attention(lambda honest, q, k, v, mask, more: honest(q, k, v, mask, **{**more, "is_causal": False}))


def one_future_token_seen(model):
    def leak(honest, q, k, v, mask, more):
        if mask is None and more.get("is_causal"):
            mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril(1)
            more = {**more, "is_causal": False}
        return honest(q, k, v, mask, **more)

    _attention(leak)


def parts_of_softmax_weighted_alike(model):
    """Past 512 keys two parts are merged without the sums of their exponentials."""

    def merged(honest, q, k, v, mask, more):
        if k.shape[-2] <= 512 or q.shape[-2] > 1:
            return honest(q, k, v, mask, **more)
        parts = (slice(None, 512), slice(512, None))
        return sum(honest(q, k[..., p, :], v[..., p, :], None if mask is None else mask[..., p]) for p in parts) / 2

    _attention(merged)


def queries_read_other_groups(model):
    """Query head i reads key head i % groups, where heads of one group are neighbours."""
    groups = model.config.num_key_value_heads

    def mapped(honest, q, k, v, mask, more):
        heads = torch.arange(k.shape[1])
        order = (heads % groups) * (k.shape[1] // groups)
        return honest(q, k[:, order], v[:, order], mask, **more)

    _attention(mapped)


def scores_in_bf16(model):
    def rounded(honest, q, k, v, mask, more):
        return honest(q.bfloat16().to(q.dtype), k.bfloat16().to(k.dtype), v, mask, **more)

    _attention(rounded)


def first_key_dropped(model):
    """The first key, which models lean on, is not read in decode."""

    def dropped(honest, q, k, v, mask, more):
        if q.shape[-2] > 1 or k.shape[-2] < 2:
            return honest(q, k, v, mask, **more)
        return honest(q, k[..., 1:, :], v[..., 1:, :], None if mask is None else mask[..., 1:], **more)

    _attention(dropped)


def window_one_too_long(model):
    model.config.sliding_window += 1


def window_ignored(model):
    model.config.sliding_window = None


def alibi_slopes_two_percent_steep(model):
    honest = model.transformer.build_alibi_tensor
    model.transformer.build_alibi_tensor = lambda *arguments, **options: honest(*arguments, **options) * 1.02


# -- key-value cache ----


def _cached(change):
    """What caches return becomes `change(keys, values, new tokens, layer)`."""
    from transformers import cache_utils

    for kind in (cache_utils.DynamicCache, cache_utils.StaticCache):

        def update(self, keys, values, layer, options=None, honest=kind.update):
            return change(*honest(self, keys, values, layer, options), keys.shape[-2], layer)

        kind.update = update


def values_of_another_call(model):
    """The first value is that of the first call, as if a block of the cache were not written anew."""
    stale = {}

    def change(keys, values, new, layer):
        first = stale.setdefault((layer, values.shape[0]), values[..., :1, :].clone())
        return keys, torch.cat((first, values[..., 1:, :]), dim=-2)

    _cached(change)


def key_of_one_step_copied(model):
    """Every 16th key is its neighbour's."""

    def change(keys, values, new, layer):
        keys = keys.clone()
        keys[..., 16::16, :] = keys[..., 15:-1:16, :]
        return keys, values

    _cached(change)


def values_in_eight_bits(model):
    def change(keys, values, new, layer):
        scale = values.abs().amax(-1, keepdim=True).clamp(min=1e-9) / 127
        return keys, (values / scale).round() * scale

    _cached(change)


def beams_not_reordered(model):
    from transformers import DynamicCache

    DynamicCache.reorder_cache = lambda self, beams: None


def positions_after_padding_count_it(model):
    """The prompt's positions leave padding out, those of later tokens do not."""

    def late(ids, found):
        if found["input_ids"].shape[1] == 1:
            found["position_ids"] = torch.full_like(found["position_ids"], ids.shape[1] - 1)
        return found

    honest = model.prepare_inputs_for_generation
    model.prepare_inputs_for_generation = functools.wraps(honest)(lambda ids, *a, **b: late(ids, honest(ids, *a, **b)))


# -- precision ----


def sums_kept_in_bf16(model):
    """Every linear of a layer adds up blocks of 64 products in bf16."""
    _sums_in_bf16(model, "_proj")


def sums_of_the_down_projection_kept_in_bf16(model):
    _sums_in_bf16(model, "down_proj")


def _sums_in_bf16(model, end):
    for name, module in model.named_modules():
        if name.endswith(end):
            module.forward = functools.partial(_summed, module.weight.data)


def _summed(weight, x):
    total = torch.zeros(*x.shape[:-1], weight.shape[0], dtype=torch.bfloat16)
    for start in range(0, x.shape[-1], 64):
        total += torch.nn.functional.linear(x[..., start : start + 64], weight[:, start : start + 64]).bfloat16()
    return total.to(x.dtype)


def head_in_bf16(model):
    _outputs(model, "lm_head", lambda x, y: y.bfloat16().to(y.dtype))


def activations_overflow_to_a_limit(model):
    """What exceeds half of a layer's largest number is cut off."""
    _outputs(model, "down_proj", lambda x, y: y.clamp(-y.abs().max() / 2, y.abs().max() / 2))


def not_a_number_in_one_column(model):
    """In decode, one number of one layer's output."""
    _outputs(model, "layers.1.mlp.down_proj", lambda x, y: _poked(y, float("nan")) if x.shape[1] == 1 else y)


def _poked(y, value):
    y = y.clone()
    y[..., 5] = value
    return y


def columns_corrupted_now_and_then(model):
    """In one call of 50, a column of each warp has its three highest bits of the mantissa flipped."""
    turn = itertools.count()

    def corrupted(y):
        bits = y.float().contiguous().view(torch.int32).clone()
        bits[..., 3::WARP] ^= 0b111 << 20
        return bits.view(torch.float32).to(y.dtype)

    _outputs(model, "layers.1.mlp.down_proj", lambda x, y: y if next(turn) % 50 != 7 else corrupted(y))


# -- shapes, company, chance ----


def one_row_wrong_by_a_percent(model):
    """A GEMM whose kernel for one row is another one."""
    _outputs(model, "down_proj", lambda x, y: y * 1.01 if x.shape[0] * x.shape[1] == 1 else y)


def length_five_past_64_wrong(model):
    """Prompts of 64 n + 5 tokens, as of a kernel whose last tile is short."""
    _outputs(model, "down_proj", lambda x, y: y * 1.1 if x.shape[1] % 64 == 5 else y)


def second_row_reads_the_first(model):
    def mixed(x, y):
        if y.shape[0] > 1:
            y = y.clone()
            y[1] = 0.9 * y[1] + 0.1 * y[0]
        return y

    _outputs(model, "layers.1.self_attn.o_proj", mixed)


def noise_in_one_call_of_a_hundred(model):
    """One forward of a hundred, drawn by a seed, is off by a thousandth."""
    drawn = random.Random(7)
    _outputs(
        model, "lm_head", lambda x, y: y + y.std() * 1e-3 * torch.randn_like(y) if drawn.randrange(100) == 0 else y
    )


def calls_write_into_weights(model):
    """Every prefill adds to one weight of a norm, as a store out of bounds does."""

    def stored(x, y):
        if x.shape[1] > 1:
            model.model.norm.weight.data[7] += 0.05
        return y

    _outputs(model, "layers.1.mlp.down_proj", stored)  # the head gets no more than the last position


def memory_of_weights_doubled(model):
    model.copies_of_weights = [parameter.data.clone() for parameter in model.parameters()]
