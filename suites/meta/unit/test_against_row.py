"""A checkpoint that is not what its row says: one sentence for each difference, before anything is loaded."""

import json

import pytest

from fixtures.matrix import config_entries, load_matrix
from fixtures.weights import against_row
from fixtures.weights.against_row import CheckpointDiffers, check_config, check_described

ROWS = {model.id: model for model in load_matrix().models}
LLAMA, LLAMA3, PHI, QWEN, MISTRAL, GPTJ = (
    ROWS[row] for row in ("llama-2-7b", "llama-3.2-1b", "phi-3-mini-128k", "qwen2-7b", "mistral-7b", "gpt-j-6b")
)


def config_of(model):
    return {"model_type": model.arch.model_type, "torch_dtype": "bfloat16", **config_entries(model)}


def sentences(folder, model, generation=None, **changes):
    """What is said of a folder with the config of `model`, changed; an entry of None is left out."""
    entries = {**config_of(model), **changes}
    written = {key: value for key, value in entries.items() if key not in changes or value is not None}
    (folder / "config.json").write_text(json.dumps(written))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    try:
        check_config(folder, model)
    except CheckpointDiffers as error:
        return list(error.sentences)
    return []


@pytest.mark.parametrize("model", ROWS.values(), ids=ROWS)
def test_a_config_as_its_row_has_it_is_taken(tmp_path, model):
    assert sentences(tmp_path, model) == []


SCALING = LLAMA3.geometry.rope_scaling_dict()
LONG = PHI.geometry.rope_scaling_dict()


@pytest.mark.parametrize(("model", "changes", "words"), [
    (LLAMA, {"architectures": ["MistralForCausalLM"]}, "architectures = ['MistralForCausalLM'] where llama-2-7b has"),
    (LLAMA, {"architectures": None}, "has no architectures where llama-2-7b has ['LlamaForCausalLM']"),
    (LLAMA, {"model_type": "mistral"}, "model_type = 'mistral' where llama-2-7b has 'llama'"),
    (LLAMA, {"hidden_size": 2048}, "hidden_size = 2048 where llama-2-7b has 4096"),
    (LLAMA, {"rope_theta": 500000.0}, "rope_theta = 500000.0 where llama-2-7b has 10000.0"),
    (LLAMA, {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling = {'type': 'linear', 'factor': 2.0}"),
    (LLAMA3, {"rope_scaling": {**SCALING, "factor": 8.0}}, "rope_scaling.factor = 8.0 where llama-3.2-1b has 32.0"),
    (PHI, {"rope_scaling": {**LONG, "short_factor": [1.0] * 48}}, "rope_scaling.short_factor[0] = 1.0 where phi-3"),
    (LLAMA, {"rms_norm_eps": 1e-6}, "rms_norm_eps = 1e-06 where llama-2-7b has 1e-05"),
    (LLAMA, {"tie_word_embeddings": True}, "tie_word_embeddings = True where llama-2-7b has False"),
    (LLAMA, {"num_attention_heads": 16}, "num_attention_heads = 16 where llama-2-7b has 32"),
    (LLAMA, {"num_key_value_heads": 8}, "num_key_value_heads = 8 where llama-2-7b has 32"),
    (MISTRAL, {"sliding_window": 4096}, "sliding_window = 4096 where mistral-7b has None"),
    (QWEN, {"use_sliding_window": True}, "use_sliding_window = True where qwen2-7b has False"),
    (LLAMA, {"vocab_size": 32001}, "vocab_size = 32001 where llama-2-7b has 32000"),
    (LLAMA, {"max_position_embeddings": 2048}, "max_position_embeddings = 2048 where llama-2-7b has 4096"),
    (LLAMA, {"hidden_act": "gelu"}, "hidden_act = 'gelu' where llama-2-7b has 'silu'"),
    (LLAMA, {"attention_bias": True}, "attention_bias = True where llama-2-7b has False"),
    (LLAMA, {"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quant_method = 'gptq' where llama-2-7b has"),
    (LLAMA, {"eos_token_id": 32000}, "eos_token_id = 32000 where the 32000 tokens of llama-2-7b have ids up to 31999"),
])  # fmt: skip
def test_each_difference_is_one_sentence_with_file_key_and_both_values(tmp_path, model, changes, words):
    (said,) = sentences(tmp_path, model, **changes)
    assert said.startswith(f"{tmp_path / 'config.json'} has ")
    assert words in said
    assert "; " in said


@pytest.mark.parametrize(("model", "changes"), [
    (LLAMA, {"rope_theta": 10000}),
    (LLAMA, {"hidden_act": "swish"}),
    (LLAMA, {"head_dim": None, "rope_scaling": None}),
    (LLAMA, {"pad_token_id": -1, "eos_token_id": [2, 3], "initializer_range": 0.02, "use_cache": True}),
    (PHI, {"rope_scaling": {**LONG, "type": "su"}}),
    (PHI, {"rope_scaling": {**LONG, "rope_type": "longrope"}}),
    (LLAMA3, {"rope_scaling": {**SCALING, "type": "llama3"}}),
    (QWEN, {"sliding_window": 131072, "max_window_layers": 28}),
    (GPTJ, {"n_inner": None}),
])  # fmt: skip
def test_the_same_meaning_written_otherwise_is_taken(tmp_path, model, changes):
    assert sentences(tmp_path, model, **changes) == []
    (tmp_path / "config.json").write_text(json.dumps({**config_of(model), **changes}))  # null in place of nothing
    check_config(tmp_path, model)


def test_every_difference_is_said_at_once(tmp_path):
    found = sentences(tmp_path, LLAMA, {"eos_token_id": [2, 128009]}, rope_theta=1e6, vocab_size=7)
    assert [said.split(" where ")[0].split("json has ")[1] for said in found] == [
        "vocab_size = 7", "rope_theta = 1000000.0", "eos_token_id = [2, 128009]",
    ]  # fmt: skip
    assert "generation_config.json" in found[-1]


# -- what transformers makes of a folder ----

TENSORS = {"model.embed_tokens.weight": [8, 4], "model.layers.0.mlp.down_proj.weight": [4, 8], "lm_head.weight": [8, 4]}


def said_of(folder, model=LLAMA, stored=TENSORS, kind="BF16", same=True, written=None, **changes):
    """What is said of a folder of `stored` tensors of one type; `changes` are those of the description."""
    (folder / "config.json").write_text(json.dumps(config_of(model) if written is None else written))
    described = {
        "config": config_of(model),
        "config_class": "LlamaConfig",
        "class": "LlamaForCausalLM",
        "read": {},
        "tensors": TENSORS,
        "tied": [],
        "prefix": "model",
        "ignored": [],
        "tokenizer": {"largest": 31999, "token": "z"},
        **changes,
    }
    kinds = {name: (kind, tuple(shape)) for name, shape in stored.items()}
    try:
        check_described(folder, model, described, kinds, lambda first, other: same)
    except CheckpointDiffers as error:
        return list(error.sentences)
    return []


def without(name, **more):
    return {key: shape for key, shape in {**TENSORS, **more}.items() if key != name}


def test_a_folder_as_its_row_has_it_is_taken(tmp_path):
    assert said_of(tmp_path) == []
    bare = {name.removeprefix("model."): shape for name, shape in TENSORS.items()}
    assert said_of(tmp_path, stored=bare) == []
    old = {**TENSORS, "model.layers.0.self_attn.rotary_emb.inv_freq": [2]}
    assert said_of(tmp_path, stored=old) == []


@pytest.mark.parametrize("name", TENSORS)
def test_a_missing_tensor_is_named(tmp_path, name):
    (said,) = said_of(tmp_path, stored=without(name))
    assert said == f"{tmp_path} has no tensor {name}, which LlamaForCausalLM needs; fetch the whole checkpoint"


TIED = {"tied": [["model.embed_tokens.weight", "lm_head.weight"]]}


def test_a_tied_head_may_be_missing_and_its_table_may_not(tmp_path):
    assert said_of(tmp_path, stored=without("lm_head.weight"), **TIED) == []
    neither = {name: TENSORS[name] for name in list(TENSORS)[1:2]}
    assert "no tensor model.embed_tokens.weight, lm_head.weight" in said_of(tmp_path, stored=neither, **TIED)[0]


def test_a_tied_head_with_other_numbers_is_named(tmp_path):
    assert said_of(tmp_path, **TIED) == []
    (said,) = said_of(tmp_path, same=False, **TIED)
    assert "has lm_head.weight with other numbers than model.embed_tokens.weight" in said


@pytest.mark.parametrize(("more", "words"), [
    ({"stored": without("", **{"model.q_proj.bias": [4]})}, "the tensor model.q_proj.bias, for which LlamaForCausalLM"),
    ({"stored": {**TENSORS, "lm_head.weight": [9, 4]}}, "lm_head.weight of shape [9, 4] where LlamaForCausalLM needs"),
    ({"kind": "F8_E4M3"}, "model.embed_tokens.weight as F8_E4M3 where LlamaForCausalLM needs floating point"),
    ({"kind": "F16"}, "torch_dtype = 'bfloat16' where tensors are stored in float16; write 'float16'"),
    ({"tokenizer": {"largest": 32002, "token": "<new>"}}, "has '<new>' with id 32002 where config.json has a"),
    ({"read": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor = 0.5, which LlamaForCausalLM reads"),
])  # fmt: skip
def test_what_the_files_hold_otherwise_is_named(tmp_path, more, words):
    assert words in said_of(tmp_path, **more)[0]


def test_what_config_leaves_out_is_what_its_class_takes(tmp_path):
    """A row's own value must not win in silence: the class loads with its default."""
    left_out = {key: value for key, value in config_of(LLAMA3).items() if key != "rope_theta"}
    implied = {"config": {**config_of(LLAMA3), "rope_theta": 10000.0}}
    (said,) = said_of(tmp_path, LLAMA3, written=left_out, **implied)
    assert "has no rope_theta, for which LlamaConfig takes 10000.0, where llama-3.2-1b has 500000.0" in said
    assert said_of(tmp_path, LLAMA, written=left_out, config=config_of(LLAMA)) == []


@pytest.mark.parametrize("key", ["attention_dropout", "pad_token_id", "use_cache", "pretraining_tp", "embd_pdrop"])
def test_what_changes_no_answer_needs_no_row(tmp_path, key):
    assert said_of(tmp_path, read={key: 1}) == []


def test_many_differences_are_cut(tmp_path):
    wide = {f"model.layers.{n}.mlp.down_proj.weight": [4, 8] for n in range(20)}
    said = said_of(tmp_path, tensors=wide, stored={name: [4, 9] for name in wide})
    assert len(said) == against_row.SHOWN + 1
    assert said[-1] == "16 tensors more differ"
    assert "and 16 more, which" in said_of(tmp_path, tensors=wide, stored={})[0]
