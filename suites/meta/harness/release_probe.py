"""Asks the installed transformers whether fixtures.transformers_api knows it. Prints "it does", or raises."""

import re
import sys

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

from fixtures import transformers_api as api

ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPE["original_max_position_embeddings"] = 64
SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64}


def main():
    config = LlamaConfig(**SIZES, rope_theta=5e5, rope_scaling=dict(ROPE), max_position_embeddings=512)
    found = api.entries(config)
    assert found["rope_theta"] == 5e5, found
    assert {key: found["rope_scaling"][key] for key in ROPE} == ROPE, found
    assert api.rope_scaling(config)["rope_type"] == "llama3"

    before = torch.get_rng_state()
    with api.without_initialising():
        model = AutoModelForCausalLM.from_config(config, **api.in_type(torch.bfloat16))
    assert torch.equal(before, torch.get_rng_state()), "weights were drawn"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    for parameter in model.parameters():
        parameter.data.normal_(std=0.1)

    assert api.generation_settings(GenerationConfig()) == {}
    apart = r"_.*|.*_token_id|transformers_version"
    assert all(re.fullmatch(apart, name) for name in api.generation_settings(model.generation_config))
    assert api.generation_settings(GenerationConfig(repetition_penalty=1.5)) == {"repetition_penalty": 1.5}
    assert api.generation_settings(GenerationConfig(use_cache=False)) == {"use_cache": False}

    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.inference_mode(), api.uncompiled():
        whole = model(input_ids=ids).logits
        assert torch.equal(model(input_ids=ids, **api.last_logits(model, 2)).logits, whole[:, -2:])
        assert api.knows_static_cache(model)
        options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
        assert torch.equal(model.generate(ids, **options), model.generate(ids, **options, **api.static_cache()))
    assert api.sharding("cpu", 1)
    sys.stdout.write("it does\n")


if __name__ == "__main__":
    main()
