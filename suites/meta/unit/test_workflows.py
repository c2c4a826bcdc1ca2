"""The workflows of docs/ci.md: they are sound YAML, and their steps do what the document says, on a stub of pytest."""

import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

from suites.meta.harness.inner import ROOT
from suites.meta.harness.journals import record, write

ONE = "llama-2-7b-fp16-max1550-single"
PYTHON = "/opt/xpu-llm-cts/.venv-xpu/bin/python"
# Stands for the installed Python: a run copies a journal and ends as it is asked to, other modules are the real ones.
STUB = """#!/bin/bash
[ "$2" = pytest ] || exec {python} "$@"
echo "$@" >> {folder}/asked
mkdir -p results && cp {folder}/night.jsonl results/journal.jsonl
exit $(cat {folder}/status)
"""


def workflows():
    """{name: workflow} of every YAML block of the document."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs/ci.md").read_text(), re.DOTALL | re.MULTILINE)
    return {found["name"]: found for found in map(yaml.safe_load, blocks)}


@pytest.mark.parametrize("name", ["qualify", "nightly", "test"])
def test_a_workflow_has_jobs_whose_steps_run_or_use_something(name):
    workflow = workflows()[name]
    assert workflow[True], "`on` is read as a boolean by YAML"
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_a_run_that_failed_uploads_what_it_wrote():
    [job] = workflows()["qualify"]["jobs"].values()
    gate, upload = (step for step in job["steps"] if step.get("name") == "Gate" or "path" in step.get("with", {}))
    assert upload["if"] == "always()"
    written = re.findall(r"=(\S+\.(?:xml|json))|--report=(\S+)", gate["run"])
    assert all((file or f"{page}/index.html") in upload["with"]["path"] for file, page in written)


@pytest.fixture
def nightly(tmp_path):
    """A function that runs the job of one night: the status of each step by its name, and what was printed."""
    stub, last = tmp_path / "python", tmp_path / "kept" / "journal.jsonl"
    stub.write_text(STUB.format(python=sys.executable, folder=tmp_path))
    stub.chmod(0o755)
    [job] = workflows()["nightly"]["jobs"].values()

    def night(records, status):
        (tmp_path / "night.jsonl").unlink(missing_ok=True)
        write(tmp_path / "night.jsonl", records)
        (tmp_path / "status").write_text(str(status))
        checkout, ended, printed = tmp_path / "checkout", {}, ""
        shutil.rmtree(checkout, ignore_errors=True)  # as actions/checkout does
        checkout.mkdir()
        for step in (step for step in job["steps"] if "run" in step):
            wanted = step.get("if", "success()")
            after_all = wanted == "always() && steps.run.outcome == 'success'"
            assert after_all or wanted == "success()"
            if (ended["Run"] if after_all else any(ended.values())) != 0 and ended:
                continue
            command = step["run"].replace(PYTHON, str(stub))
            variables = {**os.environ, "LAST": str(last), "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                ["bash", "-e", "-c", command], cwd=checkout, env=variables, capture_output=True, text=True, check=False
            )
            ended[step["name"]], printed = done.returncode, printed + done.stdout + done.stderr
        return SimpleNamespace(ended=ended, printed=printed, last=last)

    return night


COMPARED, KEPT = "Compare with the night before", {"Keep": 0}


def test_a_night_alerts_where_something_became_worse_and_an_interrupted_one_is_not_kept(nightly):
    sound, broken = [record("generation", ONE)], [record("generation", ONE, "FAIL")]
    assert nightly(sound, 0).ended == {"Run": 0, COMPARED: 0, **KEPT}
    assert nightly(sound, 0).ended[COMPARED] == 0
    kept = nightly(broken, 143)
    assert kept.ended == {"Run": 1}
    assert "FAIL" not in kept.last.read_text()
    worse = nightly(broken, 1)
    assert worse.ended == {"Run": 0, COMPARED: 1, **KEPT}
    assert f"test_generation[{ONE}]: PASS to FAIL" in worse.printed
