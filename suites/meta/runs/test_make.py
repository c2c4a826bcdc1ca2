"""`make test` and `make nightly` together run what a representative model is asked; `make qualify` every Llama 2."""

import os
import re
import shlex
import subprocess

import pytest

from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import ROOT

CELLS = re.compile(r"^suites/test_\w+\.py::test_\w+\[\S+\]$", re.MULTILINE)
PRODUCT = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "suites").glob("test_*.py"))
APART = ("suites/test_against.py", "suites/test_move.py")  # they need another stack


def collected(folder, *words):
    """Node ids that a pytest command selects."""
    folder.mkdir(exist_ok=True)
    return {*CELLS.findall(fork_suite(folder, *words, "--platform", "cpu", "--collect-only", "-q").output)}


def commands(*targets):
    """The words after `pytest` of each command of make's targets that runs cells."""
    plain = {name: value for name, value in os.environ.items() if name not in ("ARGS", "MAKEFLAGS", "MFLAGS")}
    words = ["make", "-n", *targets]
    plan = subprocess.run(words, cwd=ROOT, env=plain, capture_output=True, text=True, check=True).stdout
    lines = [shlex.split(line) for line in plan.replace("\\\n", " ").splitlines() if " -m pytest " in line]
    return [words[words.index("pytest") + 1 :] for words in lines if "suites/meta" not in words]


@pytest.mark.nightly
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_make_test_leaves_out_make_nightly_runs(tmp_path, precision):
    ran = [collected(tmp_path, *words) for words in commands("test", "nightly", f"FLOAT={precision}")]
    wanted = collected(tmp_path, "-m", "representative", *(file for file in PRODUCT if file not in APART))
    assert wanted
    assert not wanted - set().union(*ran)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_make_qualify_has_answers_of_every_llama_2(tmp_path, precision):
    [words] = commands("qualify", f"FLOAT={precision}")
    ran = collected(tmp_path, *words)
    for model in ("7b", "13b", "70b"):
        assert f"suites/test_generation.py::test_generation[llama-2-{model}-{precision}-cpu-single]" in ran
    assert "suites/test_generation.py::test_generation[llama-2-7b-int4-cpu-single]" in ran
