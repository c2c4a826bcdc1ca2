"""Views of a journal: the last verdict of each test, as a table."""

import pytest

from fixtures.matrix import load_matrix
from fixtures.report.matrix import last_verdicts, main, table
from fixtures.results import Journal

CELLS = {"llama-2-7b-bf16-cpu-single": "generation", "llama-2-7b-int4-cpu-single": "int4_run"}


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as written:
        for verdict in ("FAIL", "PASS"):
            for cell, suite in CELLS.items():
                written.append({"suite": suite, "cell": cell, "verdict": verdict})
    return path


def test_the_last_verdict_counts(journal):
    lines = table(last_verdicts(journal), load_matrix(), "cpu")
    assert lines[0] == "| model | answers bf16 | int4 run |"
    assert lines[2:] == ["| llama-2-7b | PASS | PASS |"]


def test_suites_can_be_chosen(journal, capsys):
    assert main([str(journal), "cpu", "int4_run"]) == 0
    assert "answers" not in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "usage"),
    (["/no/journal"], "/no/journal"),
    (["JOURNAL", "npu"], "npu"),
    (["JOURNAL", "cpu", "int4_rnu"], "int4_run"),
])  # fmt: skip
def test_a_wrong_argument_is_one_sentence(journal, capsys, arguments, words):
    arguments = [str(journal) if argument == "JOURNAL" else argument for argument in arguments]
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
