"""Checkpoint folders against their rows, as transformers describes them: miniatures of every class, and spoilt ones."""

import dataclasses
import json
import shutil

import pytest

from fixtures.matrix import load_matrix
from fixtures.measure.settings import Settings
from fixtures.measure.weight_sources import WeightSources, what_is_built
from fixtures.weights.against_row import CheckpointDiffers
from fixtures.weights.reading import Tensors, write_tensors

ROWS = {model.architecture: model for model in load_matrix().models if model.representative}
LLAMA = "LlamaForCausalLM"


@pytest.fixture
def held(runtime, tmp_path, monkeypatch):
    """A function of (architecture, spoil): hold the miniature of a row, spoilt, against a row of its geometry."""
    sources = []

    def hold(architecture, spoil=lambda folder: None):
        model = ROWS[architecture]
        geometry, _ = what_is_built(runtime.settings, model, "cpu")
        folder = tmp_path / model.id
        shutil.copytree(runtime.weights.of(model, "cpu").folder, folder)
        spoil(folder)
        monkeypatch.setenv("XPU_LLM_CTS_CACHE", str(tmp_path / "cache"))  # which remembers the code of checkpoints
        settings = Settings(model_root=tmp_path, remote_code_revision=model.revision)
        sources.append(WeightSources(settings, runtime.processes))
        return sources[-1].of(dataclasses.replace(model, geometry=geometry), "cpu")

    yield hold
    for source in sources:
        source.close()


@pytest.mark.nightly
def test_a_miniature_is_what_a_row_of_its_geometry_says(held):
    assert held(LLAMA).trained


@pytest.mark.nightly
@pytest.mark.parametrize("architecture", ROWS)
def test_a_miniature_of_every_class_is_what_a_row_of_its_geometry_says(held, architecture):
    assert held(architecture).trained


def drop(folder, name):
    tensors = Tensors(folder)
    kept = {other: tensors[other].copy() for other in tensors if other != name}
    write_tensors(folder / "model.safetensors", kept)


def entries(folder, file="config.json", **changes):
    path = folder / file
    found = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


@pytest.mark.nightly
@pytest.mark.parametrize("name", [
    "model.layers.1.mlp.down_proj.weight", "model.layers.0.input_layernorm.weight", "model.norm.weight",
    "model.embed_tokens.weight", "lm_head.weight",
])  # fmt: skip
def test_a_tensor_that_is_missing_is_named_before_anything_is_loaded(held, name):
    with pytest.raises(CheckpointDiffers, match=f"has no tensor {name}, which LlamaForCausalLM needs"):
        held(LLAMA, lambda folder: drop(folder, name))


@pytest.mark.nightly
@pytest.mark.parametrize(("changes", "words"), [
    ({"rms_norm_eps": None}, "has no rms_norm_eps, for which LlamaConfig takes 1e-06, where llama-3-8b has 1e-05"),
    ({"partial_rotary_factor": 0.5}, "has partial_rotary_factor = 0.5, which LlamaForCausalLM reads"),
    ({"torch_dtype": "float16"}, "has torch_dtype = 'float16' where tensors are stored in float32"),
])  # fmt: skip
def test_what_only_the_class_knows_is_found(held, changes, words):
    with pytest.raises(CheckpointDiffers, match=words):
        held(LLAMA, lambda folder: entries(folder, **changes))


def test_a_token_beyond_the_vocabulary_is_named(held):
    def add(folder):
        found = json.loads((folder / "tokenizer.json").read_text())
        found["added_tokens"].append({**found["added_tokens"][0], "id": 1024, "content": "<new>"})
        entries(folder, "tokenizer.json", added_tokens=found["added_tokens"])

    with pytest.raises(CheckpointDiffers, match=r"has '<new>' with id 1024 where config.json has a vocabulary of 1024"):
        held(LLAMA, add)
