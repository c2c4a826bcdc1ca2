"""Runs of the suite inside its own tests: a pytest process of its own, its JUnit report and its last line."""

import dataclasses
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from fixtures.worker.environment import decides

ROOT = Path(__file__).resolve().parents[3]
STOCK_PYTHON = ROOT / ".venv-stock" / "bin" / "python"


def stock_python():
    """The interpreter of stock PyTorch; the test that needs it is skipped where it is not installed."""
    if not STOCK_PYTHON.exists():
        pytest.skip("stock PyTorch is not installed in .venv-stock: run `make .venv-stock`")
    return STOCK_PYTHON


@dataclasses.dataclass(frozen=True)
class Run:
    """What an inner run left: exit status, output, and JUnit's {test: (verdict, outcome, message, properties)}."""

    status: int
    output: str
    tests: dict

    def verdict(self, name):
        return self.tests[name][0]

    def property(self, name, key):
        """A property that the run recorded for a test, None where it did not."""
        return self.tests[name][3].get(key)

    def undisturbed(self, name):
        """Whether a test does not say that the machine was disturbed while it was timed."""
        return "wanted an undisturbed machine" not in self.tests[name][2]

    def line(self, name, check):
        """The line of one check in a test's failure or skip message."""
        return next((row.strip() for row in self.tests[name][2].splitlines() if row.strip().startswith(check)), "")


SHORT = ("-p", "suites.meta.harness.short")  # for runs that are about the run, not about the model


def run_suite(folder, *arguments, timeout=540, environment=None, cwd=ROOT, python=sys.executable):
    """Run pytest of an interpreter with `arguments` from the project's root; journal and JUnit go to `folder`."""
    words, variables = command_of(folder, arguments, environment)
    result = subprocess.run(
        [python, "-m", "pytest", *words],
        cwd=cwd,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return found(folder, result.returncode, result.stdout)


def command_of(folder, arguments, environment):
    """(words after `pytest`, environment variables) of an inner run; of ours, none that its messages would repeat.

    What finds libraries and devices stays.
    """
    words = [*arguments]
    if "--collect-only" not in arguments:
        words += [f"--junitxml={_report_in(folder)}", f"--results={folder}"]
    kept = ("_ROOT", "_PATH", "_VISIBLE_DEVICES", "_AFFINITY_MASK", "_SELECTOR")
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTEST") and (name.endswith(kept) or not decides(name))
    }
    return words, {**clean, "PYTHONPATH": str(ROOT), **(environment or {})}


def found(folder, status, output):
    """The Run that ended so, with what it reported in `folder`."""
    report = _report_in(folder)
    return Run(status, output, junit(report) if report.exists() else {})


def _report_in(folder):
    return Path(folder) / "junit.xml"


def junit(path):
    """{test: (verdict, outcome, message, properties)} of a JUnit report."""
    tests = {}
    for case in ElementTree.parse(path).iter("testcase"):
        properties = {p.get("name"): p.get("value") for p in case.iter("property")}
        outcome, message = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = child.tag
                message = f"{child.get('message') or ''}\n{child.text or ''}"
        tests[case.get("name")] = (properties.get("verdict"), outcome, message, properties)
    return tests


def generation(cell):
    return f"test_generation[{cell}]"


def dispatch(cell):
    return f"test_dispatch[{cell}]"


def latency(cell):
    return f"test_latency[{cell}]"


def nodes(suite, cells, file=None):
    """Node ids of one suite for several cells; `file` where it is not named after the suite."""
    return [f"suites/test_{file or suite}.py::test_{suite}[{cell}]" for cell in cells]


def plant(cell, when, fault):
    """The option that breaks a cell in an inner run with suites.meta.harness.planting."""
    return f"--plant={cell}={when}:{fault}"


def doctored(folder, change):
    """Change records of a journal by `change(record)`, in place."""
    path = folder / "journal.jsonl"
    records = [json.loads(row) for row in path.read_text().splitlines()]
    for record in records:
        change(record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
