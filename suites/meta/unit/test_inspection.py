"""A checkpoint folder is looked at before anything loads it: whatever does not fit is one sentence."""

import json

import numpy as np
import pytest

from fixtures.weights.inspection import CheckpointError, check_folder, differing, digests
from fixtures.weights.reading import Tensors, local_folder, write_tensors


@pytest.fixture
def folder(tmp_path):
    """A whole checkpoint of one tensor."""
    (tmp_path / "config.json").write_text('{"hidden_size": 4096}')
    write_tensors(tmp_path / "model.safetensors", {"a": np.arange(6, dtype=np.float32).reshape(2, 3)})
    return tmp_path


def test_what_was_written_is_read(folder):
    check_folder(folder)
    tensors = Tensors(folder)
    assert list(tensors) == ["a"]
    assert (tensors["a"] == np.arange(6).reshape(2, 3)).all()
    assert tensors.bytes("a") == 24


def test_tensors_are_the_same_by_type_shape_and_bits(tmp_path):
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    others = {"copy": table, "flat": table.reshape(-1), "other": table + 1, "half": table.astype(np.float16)}
    write_tensors(tmp_path / "model.safetensors", {"table": table, **others})
    tensors = Tensors(tmp_path)
    assert [name for name in others if tensors.same("table", name)] == ["copy"]


def header(folder, **entry):
    """Rewrite the header of the folder's file."""
    text = json.dumps({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **entry}}).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 24)


@pytest.mark.parametrize(("entry", "words"), [
    ({"shape": [2, 4]}, "gives 'a' a place that does not fit its shape"),
    ({"data_offsets": [-8, 24]}, "gives 'a' the place"),
    ({"data_offsets": [0]}, "gives 'a' the place"),
    ({"shape": [2, 6], "data_offsets": [0, 48]}, "its header promises"),
])  # fmt: skip
def test_a_header_that_does_not_fit_is_refused(folder, entry, words):
    header(folder, **entry)
    with pytest.raises(CheckpointError, match=words):
        Tensors(folder)


@pytest.mark.parametrize(("name", "text", "words"), [
    ("config.json", "[1]", "is no JSON object"),
    ("config.json", "[" * 100_000, "nested more than 64 levels deep"),
    ("model.safetensors.index.json", '{"weight_map": null}', "no weight_map"),
    ("model.safetensors.index.json", '{"weight_map": {"a": "../b"}}', "outside the folder"),
])  # fmt: skip
def test_a_json_file_of_another_shape_is_refused(folder, name, text, words):
    (folder / name).write_text(text)
    with pytest.raises(CheckpointError, match=words):
        check_folder(folder)


def test_a_changed_byte_changes_the_digest(folder):
    before = digests(folder)
    assert differing(before, digests(folder)) == []
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    (folder / "new").write_text("")
    assert differing(before, digests(folder)) == ["model.safetensors", "new"]


def test_a_hub_id_that_is_not_cached_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match="not in the hub's cache"):
        local_folder("no-such/model")
