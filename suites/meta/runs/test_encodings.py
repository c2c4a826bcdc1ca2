"""A terminal of another encoding shows every line, and what is kept on the disk is the same as under UTF-8."""

import doctest
import json
import os
import subprocess
import sys

import pytest

from fixtures.io import terminal
from suites.meta.harness.foreign_signs import MEASURED
from suites.meta.harness.inner import ROOT, generation, junit

NAME = generation("opt-6.7b-fp32-cpu-single")
PLAIN = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # without what Python does about the C locale by itself
SPELLED = rf"1.0 +- 0.2 of stock's error: na{chr(92)}xefve, {chr(92)}u6f22{chr(92)}u5b57"


def output_of(variables, *words):
    """(status, bytes) of a Python module started with these variables."""
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "LC_", "LANG", "PYTHONIO", "PYTHONUTF8"))
    }
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env={**clean, **variables},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize(("variables", "encoding", "shown"), [
    ({"PYTHONIOENCODING": "latin-1"}, "latin-1", "1.0 ± 0.2 of stock's error: naïve, \\u6f22\\u5b57"),
    ({"PYTHONIOENCODING": "ascii"}, "ascii", SPELLED),
    ({"LC_ALL": "C", **PLAIN}, "ascii", SPELLED),
    ({"LC_ALL": "C"}, "utf-8", MEASURED),
], ids=["latin-1", "ascii", "C without UTF-8", "C"])  # fmt: skip
def test_a_run_in_any_encoding(tmp_path, variables, encoding, shown):
    words = ["-p", "suites.meta.harness.foreign_signs", f"--results={tmp_path}", f"--junitxml={tmp_path / 'junit.xml'}"]
    status, output = output_of(variables, "pytest", *words, f"suites/test_generation.py::{NAME}")
    text = output.decode(encoding)
    assert status == 1, text
    assert f"  logits          FAIL          {shown}; allowed <= 0.5; at fault: optimised stack\n" in text
    assert "INTERNALERROR" not in text
    records = [json.loads(row) for row in (tmp_path / "journal.jsonl").read_text(encoding="ascii").splitlines()]
    assert [record["lines"][0]["measured"] for record in records if record["kind"] == "test"] == [MEASURED]
    assert MEASURED in junit(tmp_path / "junit.xml")[NAME][2]


@pytest.mark.parametrize("words", [["pytest", "--matrix"], ["pytest", "--waivers"], ["fixtures.doctor", "--help"]])
def test_what_is_only_printed_is_printed_under_ascii(words):
    status, output = output_of({"LC_ALL": "C", "PYTHONIOENCODING": "ascii", **PLAIN}, *words)
    assert (status, b"Traceback" in output) == (0, False), output.decode("ascii")


def test_the_examples_hold():
    assert doctest.testmod(terminal).failed == 0
