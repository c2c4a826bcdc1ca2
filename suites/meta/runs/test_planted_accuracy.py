"""The packaged model scored with one fault at a time, on real workers: every fault gets its line, sound cells none."""

import dataclasses
import json
import subprocess
import sys

import pytest

from fixtures.checks.scores import check_accuracy
from fixtures.checks.tolerances import tolerances
from fixtures.matrix import load_matrix
from fixtures.measure import accuracy
from fixtures.measure.accuracy import Questions, measure_accuracy
from fixtures.measure.parameters import parameters
from fixtures.measure.tasks import TaskError, chosen
from suites.meta.harness.arithmetic import PRECISIONS, needs_bf16
from suites.meta.harness.inner import ROOT

pytestmark = pytest.mark.nightly

TASK = "xpu_llm_cts_cloze"
LIMIT = 96  # documents
HALF = LIMIT // 2
FEW = 24  # for what shows in any of them
CELLS = {cell.id: cell for cell in load_matrix().all_cells() if cell.model.id == "smollm2-135m"}
FP32, MINE, INT4, RANKS = (
    CELLS[f"smollm2-135m-{name}"]
    for name in ("fp32-cpu-single", f"{PRECISIONS[-1]}-cpu-single", "int4-cpu-single", "bf16-cpu-autotp")
)
# (cell, when, fault): the checks that have to fail, and in how many documents.
PLANTED = [
    (FP32, "before", "attention_logits_of_one_layer_scaled", {"loglik_spread"}, FEW),
    (MINE, "before", "outputs_of_one_layer_scaled", {"loglik_spread"}, LIMIT),
    (MINE, "before", "last_prompt_token_dropped", {"score", "loglik", "loglik_spread"}, FEW),
    (MINE, "before", "target_scored_one_position_early", {"score", "loglik", "loglik_spread"}, FEW),
    pytest.param(RANKS, "before", "a_rank_has_other_documents", {"ranks_agree"}, FEW, marks=needs_bf16),
    pytest.param(RANKS, "before", "a_rank_reports_other_scores", {"ranks_agree"}, FEW, marks=needs_bf16),
    (INT4, "first", "one_bad_group_in_every_linear", {"arithmetic_loglik_spread"}, FEW),
]

# lm-eval's command line as it is, in a process that cannot import IPEX: accelerate would, and IPEX patches classes.
# DeepSpeed takes its time and is not used.
LM_EVAL = (
    "import sys; sys.modules.update(intel_extension_for_pytorch=None, deepspeed=None); "
    "from lm_eval.__main__ import cli_evaluate; cli_evaluate()"
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the answers of sound cells stay, as an interrupted run's do: they are measured once for all tests."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def eight_at_a_time(monkeypatch):
    """Questions of eight documents, so that a few documents make several."""
    monkeypatch.setitem(parameters()["accuracy"], "chunk", 8)


def questions(folder, names=None, data=None, limit=LIMIT):
    """Questions of a run in which nothing of the default task's data is at hand."""
    fallback = parameters()["accuracy"]["fallback"]
    return Questions(tuple(chosen(names or (fallback,), fallback, fallback, data, None)), limit, folder)


def failing(runtime, cell, selected, fault=None):
    """The checks that fail for a cell with a planted `fault` (when, name), and its lines."""
    if fault:
        runtime.settings.faults[cell.id] = {f"fault_{fault[0]}": f"suites.meta.faults.accuracy:{fault[1]}"}
    try:
        lines = check_accuracy(measure_accuracy(runtime, cell, selected), tolerances())
    finally:
        runtime.settings.faults.clear()
        runtime.forget_candidate(cell)
    return {line.check for line in lines if line.verdict == "FAIL"}, lines


@pytest.mark.parametrize("scored", [MINE, pytest.param(RANKS, marks=needs_bf16), INT4])
def test_a_sound_cell_fails_nowhere(runtime, kept, scored):
    seen, lines = failing(runtime, scored, questions(kept))
    assert not seen, "\n".join(map(str, lines))
    spread = "arithmetic_loglik_spread" if scored is INT4 else "loglik_spread"
    assert {"score", "resolution", "loglik", spread, "runs"} <= {line.check for line in lines}


@pytest.mark.parametrize(("scored", "when", "fault", "checks", "documents"), PLANTED)
def test_a_planted_fault_turns_red(runtime, tmp_path, scored, when, fault, checks, documents):
    seen, lines = failing(runtime, scored, questions(tmp_path, limit=documents), (when, fault))
    assert checks <= seen, "\n".join(map(str, lines))


def test_a_task_that_gives_its_answers_away_hits_the_ceiling(runtime, tmp_path):
    words = ["lantern", "bridge", "kettle", "river", "garden", "window", "candle", "doctor", "market", "winter"]
    texts = [f"The word is {word}. Again, the word is {word}. Once more, the word is {word}" for word in words]
    (tmp_path / "xpu_llm_cts_cloze.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    seen, lines = failing(runtime, MINE, questions(tmp_path, data=tmp_path))
    assert "ceiling" in seen, "\n".join(map(str, lines))


def test_an_interrupted_run_goes_on_where_it_was(runtime, tmp_path, eight_at_a_time):
    selected = questions(tmp_path / "unfinished", limit=24)
    chunks = []

    def interrupt(text):
        chunks.append(text)
        if len(chunks) == 3:
            raise KeyboardInterrupt

    runtime.announce = interrupt
    with pytest.raises(KeyboardInterrupt):
        measure_accuracy(runtime, MINE, selected)
    # What was scored is not scored again: a value changed on disk comes back.
    kept = next((tmp_path / "unfinished").iterdir())
    records = [json.loads(line) for line in kept.read_text().splitlines()]
    assert len(records) == 16
    records[0]["loglik"] = -777.0
    kept.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"document": 16, "dig')
    chunks.clear()
    runtime.announce = chunks.append
    mine, _ = measure_accuracy(runtime, MINE, selected).tasks[TASK]
    assert mine.records[0]["loglik"] == -777.0
    assert [text for text in chunks if text.startswith(MINE.id)] == [
        f"{MINE.id}: 16 of 24 documents of xpu_llm_cts_cloze"
    ]
    assert [record["document"] for record in mine.records] == list(range(24))
    assert len([json.loads(line) for line in kept.read_text().splitlines()]) == 24, "the torn line is gone"


def test_a_reference_that_does_not_fit_is_replaced_by_its_accepted_scores(runtime, kept, monkeypatch):
    honest = measure_accuracy(runtime, MINE, questions(kept))
    accepted = honest.tasks[TASK][1]

    def too_big(*_):
        raise accuracy.ReferenceFailed("the stock model did not get through: OOM")

    monkeypatch.setattr(accuracy, "_stock_scores", too_big)
    measured = measure_accuracy(runtime, MINE, questions(kept), lambda cell, task: accepted)
    assert measured.stored == {TASK}
    lines = {line.check: line for line in check_accuracy(measured, tolerances())}
    assert "against stored scores" in lines["task"].measured
    assert lines["score"].verdict == "PASS"
    unpaired = dataclasses.replace(accepted, records=[])
    measured = measure_accuracy(runtime, MINE, questions(kept), lambda cell, task: unpaired)
    lines = {line.check: line for line in check_accuracy(measured, tolerances())}
    assert "unpaired" in lines["score"].measured
    assert lines["resolution"].verdict == "INCONCLUSIVE"
    others = dataclasses.replace(accepted, model="other weights")
    for stored in (lambda *_: None, lambda *_: others):
        with pytest.raises(accuracy.ReferenceFailed):
            measure_accuracy(runtime, MINE, questions(kept), stored)


def test_solved_examples_do_not_depend_on_what_was_asked_before(runtime, tmp_path, kept, eight_at_a_time):
    selected = Questions(tuple(chosen((TASK,), TASK, TASK, None, 1)), 12, tmp_path)  # two questions of each side
    measured = measure_accuracy(runtime, MINE, selected)
    mine, theirs = measured.tasks[TASK]
    others = theirs, *measured.stock.values()  # stock in the cell's own precision, where that is not the reference's
    assert {scores.digest for scores in others} == {mine.digest}
    assert mine.digest != measure_accuracy(runtime, MINE, questions(kept, limit=12)).tasks[TASK][0].digest


@pytest.mark.parametrize(("name", "document", "words"), [
    ("lambada_standart", {"text": "a b c"}, "no task 'lambada_standart'; did you mean .*lambada_standard"),
    ("lambada_standard", {"passage": "a b c"}, "document 1 of .*lambada_standard.jsonl is none of task"),
])  # fmt: skip
def test_a_task_that_cannot_be_opened_is_one_sentence(runtime, tmp_path, name, document, words):
    (tmp_path / f"{name}.jsonl").write_text(json.dumps(document))
    with pytest.raises(TaskError, match=words):
        measure_accuracy(runtime, MINE, questions(tmp_path, (name,), tmp_path))


def test_lm_evals_own_command_line_gives_the_same_score(runtime, tmp_path, kept):
    theirs = measure_accuracy(runtime, MINE, questions(kept, limit=HALF)).tasks[TASK][1]
    folder = runtime.weights.of(MINE.model, "cpu").folder
    command = [sys.executable, "-c", LM_EVAL, "--model", "hf", "--model_args", f"pretrained={folder},dtype=float32"]
    command += ["--include_path", "fixtures/tasks", "--tasks", TASK, "--limit", str(HALF), "--device", "cpu"]
    command += ["--batch_size", "4", "--output_path", str(tmp_path / "out")]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    report = json.loads(next((tmp_path / "out").rglob("results*.json")).read_text())["results"][TASK]
    assert theirs.score == report["acc,none"]
    assert theirs.stderr == report["acc_stderr,none"]
