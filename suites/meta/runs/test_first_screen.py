"""What a run says first and last, on a CPU without AVX-512 and without accepted values."""

import pytest

from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import generation, nodes, run_suite

FP32, BF16 = (f"llama-2-7b-{precision}-cpu-single" for precision in ("fp32", "bf16"))
AVX2 = ("-p", "suites.meta.harness.avx2")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two cells on a CPU with AVX2 alone (said, not real), compared with an empty folder of accepted values."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "baselines").mkdir()
    return run_suite(folder, *AVX2, *nodes("generation", [FP32, BF16]), f"--baselines={folder / 'baselines'}")


def test_the_header_says_what_the_machine_can_do_and_what_is_accepted(run):
    assert "stack: torch " in run.output
    assert "this CPU computes fp32, int4; UNSUPPORTED: bf16 needs " in run.output
    assert "accepted values of this machine: generation 0 of " in run.output


def test_conformance_is_shown_without_accepted_values(run):
    assert run.status == 0, run.output
    assert run.verdict(generation(FP32)) == "PASS"
    assert run.property(generation(FP32), "regression") == "NO_BASELINE"
    assert run.verdict(generation(BF16)) == "UNSUPPORTED"


def test_the_end_counts_both_and_says_what_the_run_is(run):
    assert "expected 2 = 1 run (1 PASS) + 0 waived + 1 unsupported + 0 not compared" in run.output
    assert "regression: 1 of them conform without comparison with accepted values (1 NO_BASELINE)" in run.output
    assert "--update-baselines" in run.output
    assert "nothing failed: this run covered 2 of " in run.output
    assert "`pytest --gate` does" in run.output


def test_the_matrix_fits_a_terminal_of_80_columns(run):
    rows = [line for line in run.output.splitlines() if line.startswith("llama-2-7b ")]
    assert rows
    assert all(len(line) <= 80 for line in rows)


def test_every_llama_2_model_has_a_precision_there(tmp_path):
    run = fork_suite(tmp_path, *AVX2, "-m", "llama2 and fp32", "suites/test_generation.py", "--collect-only", "-q")
    for model in ("7b", "13b", "70b"):
        assert f"llama-2-{model}-fp32-cpu-single" in run.output
