"""The suites under the transformers that the specification names: the verdicts are those under the newest release."""

import json
import subprocess

import pytest

from fixtures.contract.suites import questions
from suites.meta.harness.arithmetic import HAS_BF16
from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import ROOT, SHORT, nodes, run_suite, stock_python
from suites.meta.runs.test_cli import refused

RELEASE = "4.48.3"
PYTHON = ".venv-4.48/bin/python"  # as the documentation has it, from the project's root
SUITES = ("generation", "generate", "dispatch", "latency", "quantization", "distributed", "accuracy", "robustness")
STOCK = ".venv-stock/bin/python"
FLOAT = "bf16" if HAS_BF16 else "fp32"
ONE, INT4, GROUP = (f"llama-2-7b-{kind}" for kind in (f"{FLOAT}-cpu-single", "int4-cpu-single", "bf16-cpu-autotp"))
TRAINED = f"smollm2-135m-{FLOAT}-cpu-single"
# One cell of each suite, and its verdict; `make test` runs most of these cells under the newest release, too. Only
# dispatch differs, which is compared with the traces of one release; so few documents leave a score undecided.
NOT_COMPARED = ("INCOMPARABLE", "NO_BASELINE")
WANTED = {
    ("generation", "generation", ONE): ("PASS",),
    ("generate", "generate", ONE): ("WAIVED",),
    ("robustness", "robustness", ONE): ("PASS",),
    ("dispatch", "dispatch", ONE): NOT_COMPARED,
    ("latency", "latency", ONE): ("PASS",),
    ("int4_reload", "quantization", INT4): ("WAIVED",),
    ("tp_answers", "distributed", GROUP): ("PASS",),
    ("accuracy", "accuracy", TRAINED): ("INCONCLUSIVE",),
}
DOCUMENTS = 12
NEIGHBOUR = {"torch": "2.8.0", "numpy": "1.26.4", "intel-extension-for-pytorch": "2.8.0", "transformers": "4.57.6"}
TOO_NEW = f"qwen3-4b-{FLOAT}-cpu-single"


@pytest.fixture(scope="module")
def specified():
    """The option for workers under the specification's transformers."""
    if not (ROOT / PYTHON).exists():
        pytest.skip("transformers 4.48.3 is not installed in .venv-4.48: run `make .venv-4.48`")
    return f"--worker-python={PYTHON}"


def possible():
    return {key: wanted for key, wanted in WANTED.items() if HAS_BF16 or "-bf16-" not in key[2]}


def cells_of(suites):
    return [node for suite, file, cell in possible() if suite in suites for node in nodes(suite, [cell], file)]


@pytest.fixture(scope="module")
def run(specified, tmp_path_factory):
    """The cells that `make test` has time for: answers, and a checkpoint in a process of its own."""
    tests = cells_of(("generation", "int4_reload")) + nodes("generation", [TOO_NEW])
    return run_suite(tmp_path_factory.mktemp("specified"), *SHORT, specified, "-rA", *tests)


def test_no_suite_is_left_out():
    """Three compare what one run has once: releases, engines, devices; one is for `make nightly`."""
    files = {question.file.removeprefix("suites/test_").removesuffix(".py") for question in questions().values()}
    assert {*SUITES} == {file for _, file, _ in WANTED} == files - {"against", "move", "parity", "depth"}


def same_verdicts(run):
    assert run.status == 0, run.output
    assert "transformers 4.48.3" in run.output
    wanted = {f"test_{suite}[{cell}]": verdicts for (suite, _, cell), verdicts in possible().items()}
    found = {name: run.verdict(name) for name in wanted if name in run.tests}
    assert {name: found[name] for name in found if found[name] not in wanted[name]} == {}, run.output
    return found


def test_answers_and_a_reloaded_checkpoint_have_the_same_verdict(run):
    assert len(same_verdicts(run)) == 2


@pytest.mark.nightly
def test_one_cell_of_each_suite_has_the_same_verdict(specified, tmp_path):
    tests = cells_of({suite for suite, _, _ in possible()})
    found = same_verdicts(run_suite(tmp_path, specified, f"--limit={DOCUMENTS}", "-rA", *tests))
    assert len(found) == len(possible())


def test_a_model_that_is_newer_is_unsupported_with_the_release_it_needs(run):
    verdict, _, message, _ = run.tests[f"test_generation[{TOO_NEW}]"]
    assert verdict == "UNSUPPORTED"
    assert "qwen3-4b needs transformers 4.51.0; 4.48.3 is installed" in message


TABLES = """
from fixtures.weights.configuration import check_keys
from suites.meta.process.test_described import ROWS, entries_of

for model in ROWS.values():
    if model.why_too_new(RELEASE) is None:
        check_keys(entries_of(model))
print("every table describes its class")
"""


def test_every_architecture_describes_its_class_there_too(specified):
    code = f"RELEASE = {RELEASE!r}\n{TABLES}"
    done = subprocess.run([PYTHON, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "every table describes its class" in done.stdout, done.stderr


@pytest.mark.parametrize("environment", [".venv", pytest.param(".venv-4.48", marks=pytest.mark.nightly), ".venv-stock"])
def test_what_the_suite_knows_of_a_release_is_true_of_it(environment):
    python = ROOT / environment / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{environment} is not installed: run `make {environment}`")
    command = [python, "-m", "suites.meta.harness.release_probe"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    *_, last = done.stdout.splitlines() or [""]  # DeepSpeed, too, writes there while it is imported
    assert last == "it does", done.stderr


@pytest.mark.nightly
def test_the_stock_stack_is_compared_with_this_one(tmp_path):
    """Baichuan2's own code does not run there, which is known before anything is started."""
    stock_python()
    selected = [ONE, f"baichuan2-13b-{FLOAT}-cpu-single"]
    run = run_suite(tmp_path, f"--against={STOCK}", *nodes("against", selected), "--benchmark-disable", "-rA")
    assert run.status == 0, run.output
    assert "transformers 5.24.0" in run.output
    verdict, _, message, _ = run.tests[f"test_against[{selected[1]}]"]
    assert verdict == "UNSUPPORTED"
    assert "needs transformers before 5 (its own code takes no cache of transformers 5)" in message


@pytest.mark.nightly
def test_trained_weights_score_alike_in_the_stock_stack(tmp_path):
    """In fp32, where tokens or requests of another lm-eval would show; so few documents leave the score undecided."""
    stock_python()
    cell = "smollm2-135m-fp32-cpu-single-eager"
    run = run_suite(tmp_path, f"--stock-python={STOCK}", *nodes("accuracy", [cell]), f"--limit={DOCUMENTS}", "-rA")
    assert run.verdict(f"test_accuracy[{cell}]") == "INCONCLUSIVE", run.output


@pytest.mark.nightly
def test_representative_cells_have_the_same_verdicts(specified, tmp_path):
    selected = ["-m", f"representative and (int4 or {FLOAT})", *(f"suites/test_{name}.py" for name in SUITES)]
    selected += ["-k", "not (mpirun or torchrun or tp_deepspeed) or llama-2-7b"]
    newer = run_suite(tmp_path / "newer", *selected, timeout=3600)
    older = run_suite(tmp_path / "older", specified, *selected, timeout=3600)
    assert newer.tests.keys() == older.tests.keys()
    verdicts = {name: (newer.verdict(name), older.verdict(name)) for name in newer.tests}
    new = {name for name in verdicts if "qwen3" in name}
    assert {verdicts[name][1] for name in new} == {"UNSUPPORTED"}
    compared = [name for name in verdicts if name not in new and not name.startswith("test_dispatch")]
    assert {name: verdicts[name] for name in compared if verdicts[name][0] != verdicts[name][1]} == {}


@pytest.mark.nightly
def test_longer_contexts_cost_what_they_cost_under_the_newest_release(specified, tmp_path):
    run = run_suite(tmp_path, specified, *nodes("depth", [ONE]))
    # Others may keep this machine busy.
    assert run.verdict(f"test_depth[{ONE}]") in ("PASS", "INCONCLUSIVE"), run.output


@pytest.mark.nightly
def test_one_release_is_compared_with_the_other(specified, tmp_path):
    run = run_suite(tmp_path, f"--against={PYTHON}", *nodes("against", [ONE]), "--benchmark-disable", "-rA")
    assert run.status == 0, run.output
    assert "against its optimised classes of" in run.output
    assert "transformers 4.48.3" in run.output


@pytest.mark.parametrize(("option", "refusal"), [
    ("--worker-python", "--worker-python {}: "), ("--against", "--against {}: "),
])  # fmt: skip
def test_a_stack_with_too_new_a_transformers_ends_the_run_in_one_sentence(tmp_path, option, refusal):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps(NEIGHBOUR)}'\n")
    python.chmod(0o755)
    run = fork_suite(tmp_path, f"{option}={python}", "--platform=cpu", *nodes("generation", [ONE]))
    words = "intel-extension-for-pytorch 2.8.0 does not work with transformers 4.57.6: it needs transformers <4.52"
    refused(run, refusal.format(python) + words, "install transformers==4.51.3 there")
