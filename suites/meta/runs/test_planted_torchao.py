"""torchao's INT4 weights with faults in save, folder and reload, one run: each gets its verdict.

torchao cannot save what a host computes with, so this run makes its class known to torchao, and takes the limit out of
the matrix that says so. Kernels, files and processes are the real ones.
"""

import re
import shutil

import pytest

from fixtures.io.parties import MACHINE, STOCK
from suites.meta.harness.inner import ROOT, nodes, plant, run_suite, stock_python

pytestmark = pytest.mark.nightly

# cell -> (suite, when, fault, the check that has to say so, words, party)
PLANTED = {
    "llama-2-7b": ("int4_save", "after", "torchao_save_rounds_a_scale", "bits", "_scale_and_zero", STOCK),
    "llama-2-13b": ("int4_save", "after", "torchao_save_spoils_the_model", "bits_after", "1 of", STOCK),
    "llama-2-70b": ("int4_save", "after", "torchao_save_writes_a_pickle", "pickles", ".bin", STOCK),
    "llama-3-8b": ("int4_save", "after", "torchao_save_writes_a_byte_an_integer", "size", "MiB", STOCK),
    "llama-3-70b": ("int4_reload", "in_folder", "torchao_integer_flipped", "bits", "1 of", MACHINE),
    "llama-3.2-1b": ("int4_reload", "in_folder", "torchao_scales_missing", "checkpoint", "no tensor", MACHINE),
    "llama-3.2-3b": ("int4_reload", "in_folder", "torchao_group_of_64_read_as_32", "checkpoint", "[1, 32]", MACHINE),
    "mistral-7b": ("int4_reload", "after", "torchao_reload_writes_to_the_folder", "untouched", "config.json", STOCK),
    "qwen2.5-7b": ("int4_reload", "after", "torchao_reload_doubles_a_scale", "logits", "relative difference", STOCK),
    "qwen3-4b": ("int4_reload", "after", "torchao_reload_leaves_a_linear_unquantised", "quantised", "13 INT4", STOCK),
}
NOT_INT4 = "qwen3-4b"  # of PLANTED: another verdict than FAIL
SOUND = ("gpt-j-6b", "qwen2-7b", "phi-3-mini-4k", "smollm2-135m")


def cell(model):
    return f"{model}-int4-cpu-single-torchao-int4"


def without_limits(folder):
    """The option for the shipped matrix without what it says that torchao cannot."""
    matrix = folder / "matrix"
    shutil.copytree(ROOT / "fixtures/matrix", matrix, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    path = matrix / "platforms.toml"
    text, count = re.subn(r'\[\[limits\]\]\nengines = \["torchao-int4"\]\n(.+\n)+', "", path.read_text())
    assert count == 1
    path.write_text(text)
    return f"--matrix-data={matrix}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    python = stock_python()
    folder = tmp_path_factory.mktemp("torchao")
    plants = [plant(cell(model), "first", "int4.torchao_knows_the_hosts_weights") for model in (*PLANTED, *SOUND)]
    plants += [plant(cell(model), when, f"int4.{fault}") for model, (_, when, fault, *_) in PLANTED.items()]
    tests = [node for model, (suite, *_) in PLANTED.items() for node in nodes(suite, [cell(model)], "quantization")]
    tests += [node for suite in ("int4_save", "int4_reload") for node in nodes(suite, map(cell, SOUND), "quantization")]
    options = "-p", "suites.meta.harness.planting", without_limits(folder), f"--stock-python={python}"
    return run_suite(folder / "run", *options, *plants, *tests, timeout=1800)


@pytest.mark.parametrize("model", PLANTED)
def test_a_fault_gets_its_verdict(run, model):
    suite, _, _, check, words, party = PLANTED[model]
    verdict = "NOT_OPTIMISED" if model == NOT_INT4 else "FAIL"
    name = f"test_{suite}[{cell(model)}]"
    assert run.verdict(name) == verdict, run.output
    line = next(row for row in run.tests[name][2].splitlines() if re.match(rf"\s*{check}\s", row))
    assert verdict in line, run.tests[name][2]
    assert words in line
    assert f"at fault: {party}" in line
    assert "Traceback" not in run.tests[name][2]


@pytest.mark.parametrize("model", SOUND)
def test_a_sound_model_comes_back(run, model):
    """But for a second save, which transformers cannot do."""
    assert run.verdict(f"test_int4_save[{cell(model)}]") == "PASS", run.output
    assert run.verdict(f"test_int4_reload[{cell(model)}]") == "WAIVED", run.output
    assert run.property(f"test_int4_reload[{cell(model)}]", "waiver") == "transformers-5-second-torchao-save"


def test_the_limit_is_what_torchao_says(tmp_path):
    """Without it the suite finds out by itself; the day that torchao saves it, this test says so."""
    python = stock_python()
    model = "smollm2-135m"
    tests, options = nodes("int4_save", [cell(model)], "quantization"), [f"--stock-python={python}"]
    limited = run_suite(tmp_path / "limited", *options, *tests)
    assert limited.verdict(f"test_int4_save[{cell(model)}]") == "UNSUPPORTED", limited.output
    asked = run_suite(tmp_path / "asked", without_limits(tmp_path), *options, *tests)
    line = asked.line(f"test_int4_save[{cell(model)}]", "runs")
    said = "ValueError: Unsupported tensor type: <class 'torchao.prototype.quantization.int4.Int4OpaqueTensor'>"
    assert said in line, asked.output
    assert "at fault: stock stack" in line
