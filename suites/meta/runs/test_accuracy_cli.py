"""Accuracy from the command line and on disk: whatever cannot be used is one sentence."""

import json
import types

import pytest

from fixtures.checks.score_records import Scores
from fixtures.engine.stack_modules import modules_for
from fixtures.matrix import load_matrix
from fixtures.measure import tasks
from fixtures.results import ResultsError
from fixtures.results.accepted import AcceptedScores
from fixtures.results.scores import ScoreFiles
from suites.meta.harness.forked import fork_suite
from suites.meta.runs.test_cli import refused

TASK = "xpu_llm_cts_cloze"
SUITE = "suites/test_accuracy.py"
CELLS = {cell.id: cell for cell in load_matrix().all_cells()}
BF16, FP32 = (CELLS[f"smollm2-135m-{name}-cpu-single"] for name in ("bf16", "fp32"))


def lines(folder, text, name="lambada_standard"):
    (folder / f"{name}.jsonl").write_text(text)
    return ["--task-data", str(folder)]


@pytest.mark.parametrize(("text", "words"), [
    ('{"text": "a b"}\n{"text": ', ["lambada_standard.jsonl, line 2 is malformed JSON", "fix or delete"]),
    ('{"text": "a b"}\n\n["a"]\n', ["lambada_standard.jsonl, line 3 is no JSON object"]),
    ("\n", ["lambada_standard.jsonl holds no document"]),
])  # fmt: skip
def test_malformed_documents_are_one_sentence(tmp_path, text, words):
    refused(fork_suite(tmp_path, SUITE, *lines(tmp_path, text)), *words)


@pytest.mark.parametrize(("arguments", "words"), [
    (["--tasks", " , "], ["--tasks names no task"]),
    (["--task-data", "/no/such"], ["--task-data /no/such", "no such folder"]),
    (["--task-data", "suites"], ["holds no lambada_standard.jsonl"]),
    (["--tasks", "piqa", "--task-data", "suites"], ["holds no piqa.jsonl"]),
    (["--limit", "0"], ["--limit", "whole number"]),
    (["--num-fewshot", "-1"], ["--num-fewshot", "whole number"]),
])  # fmt: skip
def test_a_wrong_option_is_one_sentence(tmp_path, arguments, words):
    refused(fork_suite(tmp_path, SUITE, *arguments), *words)


def test_documents_too_large_to_read_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "LARGEST", 4)
    lines(tmp_path, '{"text": "a b"}')
    with pytest.raises(tasks.TaskError, match="is bigger than"):
        tasks.chosen(None, "lambada_standard", TASK, tmp_path, None)


def test_the_task_is_the_specifications_where_its_data_are_at_hand(tmp_path):
    lines(tmp_path, '{"text": "a b"}')
    assert [task.name for task in tasks.chosen(None, "lambada_standard", TASK, tmp_path, None)] == ["lambada_standard"]
    cache = {"HF_HOME": str(tmp_path / "home")}
    assert not tasks.in_hub_cache("lambada_standard", cache)
    (tmp_path / "home/hub/datasets--cimec--lambada").mkdir(parents=True)
    assert tasks.in_hub_cache("lambada_standard", cache)


def test_gpus_of_intel_give_every_positions_logits_to_scorers_alone():
    assert modules_for("xpu", "optimised", scoring=True)[0] == "LLM_ACC_TEST=1"
    assert not any(
        "=" in module for module in modules_for("xpu", "optimised") + modules_for("cpu", "optimised", scoring=True)
    )


# -- accepted scores ----


@pytest.fixture
def accepted(tmp_path):
    """A folder with the accepted score of one cell, and the path of its file."""
    files = ScoreFiles(tmp_path)
    scores = Scores(TASK, "1.0", "weights", "acc", 2, 0.5, None, [])
    rows = [[0, "ab", 1.0, -0.5], [1, "cd", 0.0, -2.5]]
    record = dict(task=TASK, version="1.0", metric="acc", model="weights", score=0.5, stderr=None, n=2)
    files.record("cpu", "amx", BF16.id, {**record, "task_digest": scores.digest, "documents": rows})
    reported = files.commit({"commit": "abc"})
    assert reported == [f"{BF16.id}@{TASK}: acc 0.5000 of 2 documents"]
    return tmp_path / "cpu/amx/accuracy" / f"{BF16.id}@{TASK}.json"


def test_accepted_scores_come_back_as_they_were(accepted):
    folder = accepted.parents[3]
    record = ScoreFiles(folder).find("cpu", "amx", BF16.id, TASK)
    assert record["documents"] == [[0, "ab", 1.0, -0.5], [1, "cd", 0.0, -2.5]]
    assert record["provenance"] == {"commit": "abc"}
    assert ScoreFiles(folder).find("cpu", "avx2", BF16.id, TASK) is None
    assert [found["key"] for found in ScoreFiles(folder).elsewhere("cpu", BF16.id, TASK)] == ["amx"]
    assert len(accepted.read_text().splitlines()) > 2 + 2, "one line for each document"


def test_scores_copied_from_another_model_are_refused(accepted):
    other = accepted.with_name(f"{FP32.id}@{TASK}.json")
    other.write_text(accepted.read_text())
    with pytest.raises(ResultsError, match=f"has cell = '{BF16.id}' where its place says '{FP32.id}'"):
        ScoreFiles(accepted.parents[3]).find("cpu", "amx", FP32.id, TASK)


@pytest.mark.parametrize(("change", "words"), [
    (lambda record: {**record, "n": 3}, "has n = 3 and another number of documents"),
    (lambda record: {**record, "documents": [[0, "ab", 1.0, -0.5], [1, 7, 0, 0]]}, "malformed document no. 1"),
    (lambda record: {**record, "score": "high"}, "score = 'high'"),
    (lambda record: {name: record[name] for name in record if name != "task_digest"}, "has no task_digest"),
    (lambda record: [], "no record of scores of schema 1"),
])  # fmt: skip
def test_accepted_scores_that_cannot_be_used_are_one_sentence(accepted, change, words):
    accepted.write_text(json.dumps(change(json.loads(accepted.read_text()))))
    with pytest.raises(ResultsError, match=words):
        ScoreFiles(accepted.parents[3]).find("cpu", "amx", BF16.id, TASK)


def test_documents_changed_in_an_accepted_score_are_reported_by_the_tasks_digest(accepted):
    here = types.SimpleNamespace(key=lambda suite, cell: "amx", origin=lambda provenance: "")
    lookup = AcceptedScores(ScoreFiles(accepted.parents[3]), False, here)
    record = json.loads(accepted.read_text())
    kept = Scores(TASK, "1.0", "weights", "acc", 2, 0.5, None, [{"digest": "ab"}, {"digest": "cd"}])
    accepted.write_text(json.dumps({**record, "task_digest": kept.digest}))
    assert lookup.find(BF16, BF16.id, TASK).digest == kept.digest
    accepted.write_text(json.dumps({**record, "task_digest": "0" * 16}))
    with pytest.raises(ResultsError, match="another task_digest than its documents give"):
        lookup.find(BF16, BF16.id, TASK)
