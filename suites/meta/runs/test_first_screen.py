"""What a run says first and last, on a CPU without AVX-512 and without accepted values."""

import re

import pytest

from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import ROOT, SHORT, generation, nodes, plant, run_suite
from suites.meta.harness.sample import sample_of, shape_of

FP32, BF16 = (f"llama-2-7b-{precision}-cpu-single" for precision in ("fp32", "bf16"))
BROKEN = "llama-2-13b-fp32-cpu-single"
PLANTED = ("-p", "suites.meta.harness.planting", plant(BROKEN, "before", "rope_base_doubled"))
AVX2 = ("-p", "suites.meta.harness.avx2")


nightly = pytest.mark.nightly  # one run of three cells; what a machine without AVX-512 selects is seen by itself


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three cells on a CPU with AVX2 alone (said, not real), one broken, and an empty folder of accepted values."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "baselines").mkdir()
    cells = nodes("generation", [FP32, BF16, BROKEN])
    return run_suite(folder, *AVX2, *SHORT, *PLANTED, *cells, f"--baselines={folder / 'baselines'}")


@nightly
def test_the_header_says_what_the_machine_can_do_and_what_is_accepted(run):
    assert "stack: torch " in run.output
    assert "this CPU computes fp32, int4; UNSUPPORTED: bf16 needs " in run.output
    assert "accepted values of this machine: generation 0 of " in run.output
    assert "no waivers, so that known defects fail: copy baselines/waivers.toml to " in run.output


@nightly
def test_conformance_is_shown_without_accepted_values(run):
    assert run.tests[generation(FP32)][:2] == ("PASS", "passed")
    assert run.property(generation(FP32), "regression") == "NO_BASELINE"
    assert run.verdict(generation(BF16)) == "UNSUPPORTED"


@nightly
def test_the_end_counts_both_and_says_what_the_run_is(run):
    assert "expected 3 = 2 run (1 FAIL, 1 PASS) + 0 waived + 1 unsupported + 0 not compared" in run.output
    assert "regression: 1 of them conform without comparison with accepted values (1 NO_BASELINE)" in run.output
    assert "--update-baselines" in run.output
    assert "1 failed or never ran: this run covered 3 of " in run.output
    assert "`pytest --gate` does" in run.output


@nightly
def test_the_matrix_fits_a_terminal_of_80_columns(run):
    rows = [line for line in run.output.splitlines() if re.match(r"llama-2-\S+ ", line)]
    assert len(rows) == 2
    assert all(len(line) <= 80 for line in rows)


def test_every_llama_2_model_has_a_precision_there(tmp_path):
    run = fork_suite(tmp_path, *AVX2, "-m", "llama2 and fp32", "suites/test_generation.py", "--collect-only", "-q")
    for model in ("7b", "13b", "70b"):
        assert f"llama-2-{model}-fp32-cpu-single" in run.output


@nightly
def test_the_sample_in_the_documents_is_what_a_run_prints(run, tmp_path):
    page = (ROOT / "docs/sample-run.md").read_text()
    shown = re.search(r"```text\n\$ .*\n(?s:(.*?))```", page)[1]
    (tmp_path / "sample.txt").write_text(sample_of(run.output))
    assert shape_of(shown) == shape_of(sample_of(run.output)), f"put {tmp_path / 'sample.txt'} into docs/sample-run.md"
