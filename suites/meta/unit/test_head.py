"""An output projection of another name than lm_head: read from its table, and met by every check that counts it."""

import dataclasses
import types

import numpy as np
import pytest

from fixtures.checks import int4
from fixtures.checks.distributed import predicted_talk
from fixtures.checks.generation import parameter_bytes
from fixtures.matrix import MatrixError, load_matrix
from fixtures.measure.int4_native import quantisable
from fixtures.weights.inspection import CheckpointError

ROW = """
[architectures.HeadlessForCausalLM]
model_type = "llama"
decoder_layer = "HeadlessLayer"
head = "embed_out"
linears = ["dense", "dense_4h_to_h"]
row_parallel = ["dense", "dense_4h_to_h", "%s"]
mechanisms = ["mask"]
config = { layers = "num_hidden_layers", hidden = "hidden_size" }
optimised = { cpu = ["Other"] }
"""


@pytest.fixture
def arch(matrix_folder):
    (matrix_folder / "architectures.toml").open("a").write(ROW % "embed_out")
    return load_matrix(matrix_folder).architectures["HeadlessForCausalLM"]


def cell_of(arch, tied=False):
    """A cell of a model of this class with two layers."""
    model = load_matrix().model("llama-2-7b")
    geometry = dataclasses.replace(model.geometry, layers=2, hidden=8, vocabulary=32, tied_embeddings=tied)
    model = dataclasses.replace(model, arch=arch, architecture=arch.name, geometry=geometry)
    return types.SimpleNamespace(model=model)


def test_the_head_is_a_key_of_the_table(arch, matrix_folder):
    assert arch.head == "embed_out"
    assert load_matrix().model("llama-2-7b").arch.head == "lm_head"
    (matrix_folder / "architectures.toml").open("a").write(ROW.replace("Headless", "Other") % "lm_head")
    with pytest.raises(MatrixError, match="unknown row-parallel linear 'lm_head'"):
        load_matrix(matrix_folder)


def test_a_sharded_head_adds_up_the_logits(arch):
    geometry = cell_of(arch).model.geometry
    assert predicted_talk(arch, geometry, "bfloat16") == {8 * 2: 2 * 2, 32 * 2: 1}


def test_a_sharded_head_is_split_among_the_ranks(arch):
    cell = cell_of(arch)
    stock = {"dtype": "float32", "parameter_bytes": 4000, "layer_linear_bytes": 1000}
    measured = types.SimpleNamespace(cell=cell, geometry=cell.model.geometry, stock_proof=stock, proofs=[{}])
    assert parameter_bytes(measured, "float32") == (4000, 1000 + 32 * 8 * 4)


@pytest.mark.parametrize(("plain", "verdict"), [("embed_out", "PASS"), ("lm_head", "NOT_OPTIMISED")])
def test_int4_leaves_the_head_alone(arch, plain, verdict):
    measured = types.SimpleNamespace(cell=cell_of(arch), geometry=types.SimpleNamespace(layers=2))
    assert int4.counted(measured, {"int4_linears": 4, "plain_linears": [plain]}).verdict == verdict


def test_the_native_path_quantises_the_head_or_what_it_is_tied_to(arch):
    layer, head, table = "gpt_neox.layers.0.mlp.dense_4h_to_h.weight", "embed_out.weight", "gpt_neox.embed_in.weight"
    tensors = {layer: np.zeros(1), table: np.ones(1), head: np.full(1, 2)}
    assert quantisable(cell_of(arch), tensors) == {layer: tensors[layer], head: tensors[head]}
    del tensors[head]
    assert quantisable(cell_of(arch, tied=True), tensors) == {layer: tensors[layer], head: tensors[table]}


def test_weights_without_the_head_are_one_sentence(arch):
    with pytest.raises(CheckpointError, match=r"have no tensor embed_out.weight; give .* as head in \[architectures"):
        quantisable(cell_of(arch), {"gpt_neox.embed_in.weight": np.ones(1)})


def test_a_head_is_no_embedding_whatever_its_name():
    from fixtures.weights.tensors import role

    geometry = dataclasses.asdict(load_matrix().model("llama-2-7b").geometry)
    known, other = (role(name, (32, 64), geometry, head=True) for name in ("lm_head.weight", "embed_out.weight"))
    assert known == other != role("embed_in.weight", (32, 64), geometry)
