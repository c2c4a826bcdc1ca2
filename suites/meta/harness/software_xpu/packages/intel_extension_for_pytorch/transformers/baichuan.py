"""Baichuan2 (modules/baichuan.py, and baichuan_forward_hook of modules/Functions.py).

Functions of IPEX take the place of the model's own: they ask the module for its mask of ALiBi, keep the mask of
padding, and know no `cache_position` of the caller's.
"""

import torch
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast

HIDDEN = -65504.0


def forward(
    self, input_ids=None, attention_mask=None, past_key_values=None, inputs_embeds=None, use_cache=False,
    output_attentions=False, output_hidden_states=False, return_dict=True,
):  # fmt: skip
    """BaichuanModel_forward: the whole mask, also where one token is decoded."""
    past = 0 if past_key_values is None else past_key_values.get_seq_length()
    hidden = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
    length = past + hidden.shape[1]
    position = torch.arange(past, length, device=hidden.device)
    mask = self.get_alibi_mask(hidden, length)
    if attention_mask is not None:
        seen = attention_mask.to(mask.dtype)
        both = torch.tril(seen[:, :, None] * seen[:, None, :] > 0)
        _, rows, columns = mask.shape
        mask = mask + (~both[:, None].expand(len(seen), 1, rows, columns)).to(mask.dtype) * HIDDEN
    assert not self.gradient_checkpointing
    for index, layer in enumerate(self.layers):
        options = {"output_attentions": output_attentions, "use_cache": use_cache, "layer_idx": index}
        outputs = layer(hidden, attention_mask=mask, past_key_value=past_key_values, cache_position=position, **options)
        hidden, *rest = outputs
    cache = rest[-1] if use_cache else None
    return BaseModelOutputWithPast(last_hidden_state=self.norm(hidden), past_key_values=cache)


def inputs(self, input_ids, past_key_values=None, attention_mask=None, inputs_embeds=None, **options):
    """Baichuan_prepare_inputs_for_generation."""
    past_key_values = DynamicCache() if past_key_values is None else past_key_values
    if past_key_values.get_seq_length() != 0:
        input_ids = input_ids[:, -1:]
    cache = {"past_key_values": past_key_values, "use_cache": options.get("use_cache")}
    return {"input_ids": input_ids, "attention_mask": attention_mask, **cache}
