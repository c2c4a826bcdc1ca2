"""Records of a bundle that no run of this suite writes: one sentence, and nothing is taken for what it is not."""

import json
import types

import pytest

from fixtures.matrix import load_matrix
from fixtures.verify import signing
from fixtures.verify.archive import BundleError
from fixtures.verify.manifest import records_of
from fixtures.verify.rederive import AcceptedIn

CELLS = {cell.id: cell for cell in load_matrix().every_cell()}
RUN = {"schema": 3, "kind": "run", "run": "aa11", "tests": ["a"], "fingerprint": {}, "versions": {}}


@pytest.mark.parametrize(
    "change",
    [{"run": ["a"]}, {"run": None}, {"tests": 3}, {"tests": [3]}, {"fingerprint": 3}, {"versions": ["x"]}],
    ids=str,
)
def test_an_opening_record_that_is_none_is_one_sentence(change):
    assert records_of(json.dumps(RUN).encode()) == [RUN]
    with pytest.raises(BundleError, match=r"journal.jsonl: line 1 does not say what it is of a run"):
        records_of(json.dumps(RUN | change).encode())


@pytest.mark.parametrize("use", [signing.public_key, lambda path: signing.sealed(b"{}", path)])
def test_a_key_that_is_not_there_is_named(tmp_path, use):
    with pytest.raises(BundleError, match=r"absent.pem: there is no such key"):
        use(tmp_path / "absent.pem")


def test_accepted_values_of_another_engine_are_not_those_of_a_cell(tmp_path):
    accepted = AcceptedIn(tmp_path)
    values = {"logits": 1.0}
    accepted._values["generation", "cpu"] = [("llama-2-7b-bf16-cpu-single-eager", values)]
    given = types.SimpleNamespace(values=values)
    assert accepted._has("generation", CELLS["llama-2-7b-bf16-cpu-single-eager"], given)
    assert not accepted._has("generation", CELLS["llama-2-7b-bf16-cpu-single"], given)
