"""The page on a run: what stands on it, and what its journal's evidence becomes there."""

import base64
import gzip
import json
import re
import shutil

import pytest

from fixtures.checks.verdicts import VERDICTS
from fixtures.matrix import load_matrix
from fixtures.report import page, tests
from fixtures.report.view import view_of
from suites.meta.harness import bundles
from suites.meta.harness.inner import ROOT
from suites.meta.harness.journals import every_verdict, line, record, view

MATRIX = load_matrix()
ONE = "llama-2-7b-fp16-max1550-single"


def evidence_of(html):
    packed = re.search(r'id="packed">([^<]*)<', html)[1]
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_every_verdict_stands_on_the_page_in_words(tmp_path):
    html = page.render(view(tmp_path, every_verdict()))
    for verdict in VERDICTS:
        assert f">{verdict.replace('_', ' ')}<" in html


def test_a_page_asks_the_network_for_nothing(tmp_path):
    html = page.render(view(tmp_path, every_verdict()))
    assert not re.search(r"""(?:src|href)=["'](?!#)|@import|url\(|https?://""", html)


def test_a_cell_has_its_evidence(tmp_path):
    latency = record("latency", ONE, lines=[line(check="decode", measured="2.1 ms a token")])
    html = page.render(view(tmp_path, [record("generation", ONE, "FAIL"), latency]))
    found = evidence_of(html)[ONE]
    for words in (
        "0.9 of stock&#39;s error",
        "2.1 ms a token",
        "72 percent of what is allowed",
        "2 ms ± 0.1",
        "pytest",
    ):
        assert words in found


def test_cells_of_two_engines_have_columns_of_their_own(tmp_path):
    other = "llama-2-7b-fp16-b580-single"
    found = view(tmp_path, [record("generation", other), record("generation", f"{other}-eager", "FAIL")])
    [grid] = found.grids
    assert [column[-1] for column in grid.columns] == ["ipex", "eager"]
    assert [group.worst for group in grid.rows[0][-1]] == ["PASS", "FAIL"]
    assert found.facets()["engine"] == ["ipex", "eager"]
    assert 'data-engine="eager"' in page.render(found)


def test_evidence_as_runs_keep_it_is_plotted(tmp_path):
    shutil.copytree(ROOT / "baselines", tmp_path / "baselines")
    kept = bundles.journal(tmp_path, tmp_path / "baselines")
    found = evidence_of(page.render(view_of(kept, MATRIX, ())))
    shown = re.findall(r"<figcaption>(relative errors: .*?)</figcaption>", found[bundles.PASSES])
    assert len(shown) == len({*shown}) > 2, "one plot of each row of numbers, however often it was used"


def test_errors_over_prompt_length_are_plotted(tmp_path):
    errors = {"~": "LengthErrors", "check": "lengths", "errors": {"~": "value", "at": 0}}
    values = [{"~": "tuple", "items": [3.0, 1.0, 2.0]}, errors]
    kept = record("robustness", ONE, evidence={"calls": [], "values": values})
    assert "errors of lengths: 3 values, 1 to 3" in evidence_of(page.render(view(tmp_path, [kept])))[ONE]


@pytest.mark.parametrize("evidence", [
    {"calls": [{"reduced": [["x", [], {"~": "value", "at": 9}]]}], "values": []},
    {"calls": [{"reduced": [["x", [], {"~": "array", "shape": [2, 1], "values": [1, 2]}]]}]},
    {"calls": [{}]},
])  # fmt: skip
def test_evidence_without_a_row_of_numbers_has_no_plot(tmp_path, evidence):
    found = evidence_of(page.render(view(tmp_path, [record("generation", ONE, evidence=evidence)])))
    assert "<figure>" not in found[ONE]


def test_what_a_worker_says_is_text_and_never_markup(tmp_path):
    html = page.render(
        view(tmp_path, [record("generation", ONE, "FAIL", lines=[line("FAIL", measured="<script>x</script>")])])
    )
    assert "<script>x" not in html + evidence_of(html)[ONE]


def test_the_same_journal_gives_the_same_bytes(tmp_path):
    assert page.render(view(tmp_path, every_verdict())) == page.render(view(tmp_path / "again", every_verdict()))


def test_a_thousand_cells_stay_below_three_megabytes(tmp_path):
    cells = MATRIX.all_cells()
    suites = ("generation", "generate", "dispatch", "latency")
    records = [
        record(suite, cell.id, lines=[line(check=f"check{n}") for n in range(16)]) for cell in cells for suite in suites
    ]
    html = page.render(view(tmp_path, records))
    assert len(html.encode()) * max(1, 1000 / len(cells)) < 3e6


def test_the_command_that_repeats_a_test_accepts_nothing():
    options = {"--platform": "auto", "--weights": "auto", "--update-baselines": "True", "--threads": "2", "bs": "4"}
    test = tests.Test(record("latency", ONE, options=options), None)
    assert test.command == f"bs=4 pytest 'suites/test_latency.py::test_latency[{ONE}]' --threads=2"
