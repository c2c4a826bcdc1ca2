"""Views of a journal: the last verdict of each test, as a table."""

import pytest

from fixtures.matrix import load_matrix
from fixtures.report.matrix import last_verdicts, main, table
from fixtures.report.results import main as results_page
from fixtures.report.results import page
from fixtures.report.summary import verdict_matrix
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
    (["/no/journal"], "/no/journal"),
    (["JOURNAL", "npu"], "npu"),
    (["JOURNAL", "cpu", "int4_rnu"], "int4_run"),
])  # fmt: skip
def test_a_wrong_argument_is_one_sentence(journal, capsys, arguments, words):
    arguments = [str(journal) if argument == "JOURNAL" else argument for argument in arguments]
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_without_a_journal_the_usage_is_shown(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "usage: python -m fixtures.report.matrix " in capsys.readouterr().err


def test_a_page_has_verdicts_and_costs(tmp_path):
    path = tmp_path / "journal.jsonl"
    origin = dict(machine="a-machine", numerics="amx", commit="c0ffee", versions={"torch": "2.8.0"})
    with Journal(path) as written:
        for number, (cell, suite) in enumerate(CELLS.items(), start=1):
            record = dict(kind="test", nodeid=cell, cell=cell, suite=suite, verdict="PASS", final=True)
            written.append({**record, **origin, "seconds": float(number), "finished": "2026-11-27T12:00:00+00:00"})
    lines = page(path, "cpu", load_matrix())
    assert lines[0] == "# Results of one run on a-machine"
    assert "| generation | 1 | 1 | 1.0 | 1.0 |" in lines
    assert "| llama-2-7b | PASS |" in lines


def test_a_journal_without_tests_makes_no_page(tmp_path, capsys):
    (tmp_path / "journal.jsonl").write_text("")
    assert results_page([str(tmp_path / "journal.jsonl"), "cpu"]) == 2
    assert "holds no finished test" in capsys.readouterr().err


def test_the_matrix_puts_the_worst_first_and_fits_80_columns():
    cells = [cell for cell in load_matrix().cells(["cpu"]) if cell.model.id in ("llama-2-7b", "phi-3-mini-128k")]
    suites = ("generation", "dispatch", "latency", "int4_run", "tp_plain", "accuracy")
    verdicts = ("PASS", "FAIL", "WAIVED", "UNSUPPORTED", "INCOMPARABLE")
    entries = [(suite, cell, verdicts[number % len(verdicts)]) for suite in suites for number, cell in enumerate(cells)]
    (head, _), *rows = verdict_matrix(entries)
    assert head.split() == ["generation", "dispatch", "latency", "int4", "tp", "accuracy"]
    assert rows[0][0].split()[:2] == ["llama-2-7b", "1F/5"]
    assert [letter for _, letter in rows] == ["F", "F"]
    assert max(len(text) for text, _ in rows) <= 80
