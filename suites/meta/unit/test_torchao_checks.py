"""What a folder of torchao's must hold, and the lines of save and reload, against planted ones; no stack is loaded."""

import json
import types

import numpy as np
import pytest

from fixtures.checks import int4_torchao
from fixtures.checks.int4_torchao import TorchaoReloaded, TorchaoSaved
from fixtures.checks.tolerances import tolerances
from fixtures.io.parties import MACHINE, OPTIMISED
from fixtures.matrix import load_matrix
from fixtures.measure.int4_torchao import apart
from fixtures.weights.inspection import CheckpointError, check_folder
from fixtures.weights.reading import Tensors, write_tensors
from fixtures.weights.torchao_format import check_torchao, padded
from fixtures.worker.termination import RecipeError

OUT, WIDTH, GROUP = 8, 128, 64
LINEARS = [f"model.layers.0.{name}" for name in ("a", "b", "c", "d", "e", "f", "g")]
CELL = next(cell for cell in load_matrix().every_cell() if cell.id == "llama-2-7b-int4-cpu-single-torchao-int4")
PROOF = {"int4_linears": 7, "plain_linears": ["lm_head"], "dtype": "float32"}
LOGITS = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
TOKENS = np.array([[1, 2, 3]])
NORM = np.ones(WIDTH, np.float32)


def texts(**more):
    """Texts of torchao for the header of a file with LINEARS and a norm."""
    data = {"block_size": [1, GROUP], "shape": [OUT, WIDTH]}
    said = {"_type": "Int4OpaqueTensor", "_data": data, "_tensor_data_names": ["qdata", "scale_and_zero"]}
    found = {f"{name}.weight": json.dumps({**said, **more}) for name in LINEARS}
    found["norm.weight"] = json.dumps({"_type": "Tensor"})
    return {**found, "tensor_names": json.dumps([*found])}


def tensors():
    found = {"norm.weight": NORM}
    for name in LINEARS:
        found[f"{name}._weight_qdata"] = np.zeros((OUT, WIDTH // 2), np.uint8)
        found[f"{name}._weight_scale_and_zero"] = np.ones((WIDTH // GROUP, OUT, 2), np.float32)
    return found


def declared(group=GROUP, method="torchao"):
    kind = {"_type": "PrototypeInt4WeightOnlyConfig", "_data": {"group_size": group}}
    return {"quantization_config": {"quant_method": method, "quant_type": {"default": kind}}}


def write(folder, held=None, said=None, config=None):
    write_tensors(folder / "model.safetensors", held or tensors(), texts() if said is None else said)
    (folder / "config.json").write_text(json.dumps(declared() if config is None else config))
    check_folder(folder)
    return folder


def test_a_whole_folder_holds(tmp_path):
    check_torchao(write(tmp_path))


def lost(name):
    return {key: array for key, array in tensors().items() if key != f"{LINEARS[0]}._weight_{name}"}


@pytest.mark.parametrize(("changed", "words"), [
    ({"config": {}}, "no quantization_config"),
    ({"config": declared(method="gptq")}, "quant_method = 'gptq'"),
    ({"config": {"quantization_config": {"quant_method": "torchao", "quant_type": []}}}, "group_size = None"),
    ({"config": declared(group=32)}, "group_size = 32"),
    ({"held": lost("qdata")}, "_weight_qdata"),
    ({"held": lost("scale_and_zero")}, "_weight_scale_and_zero"),
    ({"held": {**tensors(), f"{LINEARS[1]}._weight_scale_and_zero": np.ones((1, OUT, 2), np.float32)}}, "need 2"),
    ({"said": {}}, "no text of torchao for 'tensor_names'"),
    ({"said": {**texts(), f"{LINEARS[0]}.weight": "{"}}, "no text of torchao"),
    ({"said": texts(_data={"block_size": [1, 32], "shape": [OUT, WIDTH]})}, r"blocks are \[1, 32\]"),
    ({"said": texts(_data={"block_size": [1, GROUP], "shape": [OUT]})}, r"the shape \[8\]"),
    ({"said": texts(_tensor_data_names=None)}, "no parts and attributes"),
    ({"said": texts(_type="Tensor")}, "nothing in it is quantised"),
])  # fmt: skip
def test_what_does_not_fit_is_one_sentence(tmp_path, changed, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        check_torchao(write(tmp_path, **changed))
    assert "\n" not in str(caught.value)


def test_tiles_of_cuda_are_filled_up():
    assert padded(12, 1100, "cuda") == (16, 2048)
    assert padded(12, 1100, "cpu") == padded(12, 1100, "xpu") == (12, 1100)


@pytest.fixture
def memory(tmp_path):
    """(Tensors on disk, what memory holds of them)."""
    found = Tensors(write(tmp_path))
    return found, {name: [found.kind(name)[0], [*found.kind(name)[1]], found.digest(name)] for name in found}


@pytest.mark.parametrize(("name", "change"), [
    ("norm.weight", lambda said: [said[0], said[1], "0" * 64]),
    ("norm.weight", lambda said: ["F16", said[1], said[2]]),
    ("norm.weight", lambda said: [said[0], [1, WIDTH], said[2]]),
])  # fmt: skip
def test_what_is_on_disk_is_held_against_memory(memory, name, change):
    disk, held = memory
    assert apart(held, disk) == []
    assert apart({**held, name: change(held[name])}, disk) == [name]


def test_missing_and_foreign_tensors_are_apart_and_tied_ones_are_not(memory):
    disk, held = memory
    assert apart({**held, "lm_head.weight": held["norm.weight"]}, disk) == []
    assert apart({**held, "lm_head.weight": ["F32", [1], "0" * 64]}, disk) == ["lm_head.weight"]
    assert apart({name: said for name, said in held.items() if name != "norm.weight"}, disk) == ["norm.weight"]


def stored(**more):
    found = {}
    for name in LINEARS:
        tables = {"integers": np.zeros((OUT, WIDTH), np.uint8), "scales": np.ones((OUT, 2), np.float32)}
        tables |= {"zeros": np.zeros((OUT, 2), np.float32), "group": np.array(GROUP), "bias": np.zeros(0)}
        found |= {f"{name}:{key}": array for key, array in {**tables, **more}.items()}
    return found


@pytest.fixture
def saved(tmp_path):
    folder = write(tmp_path)
    size = sum(array.nbytes for array in tensors().values())
    return TorchaoSaved(
        CELL, types.SimpleNamespace(layers=1), folder, "fp32",
        files={"model.safetensors": [size, "a"], "config.json": [9, "b"]},
        stored=stored(), stored_after=stored(), before=LOGITS, after=LOGITS, tokens=TOKENS, ids=[1, 2],
        before_proof=PROOF, proof=PROOF, tensors=Tensors(folder),
    )  # fmt: skip


def failing(lines):
    return [line.check for line in lines if line.verdict != "PASS"]


@pytest.mark.parametrize(("more", "checks"), [
    ({}, []),
    ({"before_proof": {**PROOF, "int4_linears": 6}}, ["quantised"]),
    ({"files": {"model.safetensors": [9000, "a"], "pytorch_model.bin": [9, "b"]}}, ["pickles", "size"]),
    ({"apart": ["norm.weight"]}, ["bits"]),
    ({"stored": stored(integers=np.zeros((OUT, 2 * WIDTH), np.uint8))}, ["size", "bits_after"]),
    ({"scale_dtype": "fp16"}, ["size"]),
    ({"proof": {**PROOF, "plain_linears": []}}, ["still_int4"]),
    ({"stored_after": stored(scales=np.full((OUT, 2), 2, np.float32))}, ["bits_after"]),
    ({"after": LOGITS + 1}, ["after_saving"]),
    ({"after": LOGITS * np.nan}, ["finite", "after_saving"]),
    ({"error": RecipeError("ValueError", "no")}, ["runs"]),
    ({"folder": None, "error": RecipeError("ValueError", "Unsupported tensor type")}, ["runs"]),
])  # fmt: skip
def test_every_check_of_a_save_can_fail(saved, more, checks):
    vars(saved).update(more)
    assert failing(int4_torchao.check_torchao_saved(saved, {}, tolerances())) == checks


REFUSED = RecipeError("NotImplementedError", "")


@pytest.mark.parametrize(("more", "checks"), [
    ({}, []),
    ({"changed": ["config.json"]}, ["intact"]),
    ({"refused": "it is cut short"}, ["checkpoint"]),
    ({"proof": {**PROOF, "plain_linears": ["lm_head", "model.layers.0.a"]}}, ["quantised"]),
    ({"stored": stored(zeros=np.ones((OUT, 2), np.float32))}, ["bits"]),
    ({"logits": LOGITS + np.float32(1e-6)}, ["logits"]),
    ({"logits": None, "tokens": None}, ["logits", "tokens"]),
    ({"tokens": np.array([[1, 2, 4]])}, ["tokens"]),
    ({"ids": []}, ["tokenizer"]),
    ({"touched": ["config.json"]}, ["untouched"]),
    ({"second_error": REFUSED}, ["second_save"]),
    ({"other_tensors": ["norm.weight"], "lone_tensors": ["a"], "other_files": ["config.json"]},
     ["second_save", "second_tensors", "second_files"]),
    ({"error": REFUSED, "logits": None, "tokens": None, "ids": [], "touched": None}, ["runs"]),
])  # fmt: skip
def test_every_check_of_a_reload_can_fail(saved, more, checks):
    found = TorchaoReloaded(CELL, saved, proof=PROOF, stored=stored(), logits=LOGITS, tokens=TOKENS, ids=[1, 2])
    found.files, found.touched = saved.files, []
    vars(found).update(more)
    assert failing(int4_torchao.check_torchao_reloaded(found, {}, tolerances())) == checks


def test_a_save_that_fails_says_what_torchao_said(saved):
    said = "Unsupported tensor type: <class 'Int4OpaqueTensor'>"
    saved.folder, saved.error = None, RecipeError("ValueError", said)
    for line in (
        *int4_torchao.check_torchao_saved(saved, {}, tolerances()),
        *int4_torchao.check_torchao_reloaded(TorchaoReloaded(CELL, saved), {}, tolerances()),
    ):
        assert said in line.measured
        assert line.party == OPTIMISED  # which is the stock stack of such a cell


def test_what_comes_of_files_that_changed_on_disk_is_the_machines(saved):
    found = TorchaoReloaded(CELL, saved, changed=["model.safetensors"], proof=PROOF, files=saved.files)
    found.ids, found.logits, found.tokens = [1, 2], LOGITS + 1, TOKENS
    parties = {line.check: line.party for line in int4_torchao.check_torchao_reloaded(found, {}, tolerances())}
    assert {check for check, party in parties.items() if party == MACHINE} == {"intact", "bits", "logits"}
