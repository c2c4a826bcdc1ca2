"""A table of an architecture that does not describe its class: one sentence that names the table and the word."""

import pytest

from fixtures.io.errors import MatrixError
from fixtures.matrix import config_entries, load_matrix
from fixtures.weights.configuration import check_keys, configuration
from fixtures.weights.miniature import shrink

ROWS = {model.architecture: model for model in load_matrix().models if model.arch.model_type != "baichuan"}
LLAMA = ROWS["LlamaForCausalLM"]


def entries_of(model):
    small = shrink(model.geometry, "head_dim" in dict(model.arch.config))
    return {"model_type": model.arch.model_type, **config_entries(model, small)}


@pytest.fixture(scope="module")
def llama():
    import torch
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(configuration(entries_of(LLAMA)))


@pytest.mark.parametrize("model", ROWS.values(), ids=ROWS)
def test_the_shipped_tables_give_no_key_that_their_class_does_not_know(model):
    check_keys(entries_of(model))


def test_a_key_that_the_class_does_not_know_is_named():
    rule = r"^architectures.toml: \[architectures.LlamaForCausalLM\] gives 'num_hiden_layers' .* LlamaConfig knows no"
    with pytest.raises(MatrixError, match=rf"{rule} such key; did you mean 'num_hidden_layers'"):
        check_keys({**entries_of(LLAMA), "num_hiden_layers": 2})


def test_a_sound_table_describes_its_class(llama):
    from fixtures.engine.described import check_described

    check_described(llama, LLAMA.arch.linears, LLAMA.arch.decoder_layer, LLAMA.arch.head)


@pytest.mark.parametrize(("more", "words"), [
    ({"linears": ["q_proj", "down_prj"]}, "'down_prj' in linears, and .*; did you mean 'down_proj'"),
    ({"decoder_layer": "LamaDecoderLayer"}, "decoder_layer 'LamaDecoderLayer', .*; did you mean 'LlamaDecoderLayer'"),
    ({"head": "embed_out"}, "no module 'embed_out', the output projection, .*; give its name as head"),
])  # fmt: skip
def test_a_word_that_the_model_does_not_have_is_named(llama, more, words):
    from fixtures.engine.described import check_described

    with pytest.raises(MatrixError, match=rf"^architectures.toml: \[architectures.LlamaForCausalLM\] .*{words}"):
        check_described(llama, **{"linears": LLAMA.arch.linears, **more})
