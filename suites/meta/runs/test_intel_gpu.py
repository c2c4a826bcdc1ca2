"""What a run says of an Intel GPU that no platform is, and what it records of the environment. No stack is loaded."""

import json

import pytest

from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import nodes

BF16 = "llama-2-7b-bf16-cpu-single"  # UNSUPPORTED on a CPU with AVX2 alone, so that no worker starts
STRANGE = ("-p", "suites.meta.harness.avx2", "-p", "suites.meta.harness.unknown_device")
ENVIRONMENT = {
    "SYCL_CACHE_PERSISTENT": "1",
    "UR_TOKEN": "a-secret-value",
    "CCL_LOG_LEVEL": "a-secret-value",
    "CPATH": "/",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run = fork_suite(folder, *STRANGE, *nodes("generation", [BF16]), environment=ENVIRONMENT)
    return run, json.loads((folder / "journal.jsonl").read_text().splitlines()[0])


def test_a_device_of_no_platform_is_reported_first_and_last(run):
    lines = [
        line for line in run[0].output.splitlines() if "'Intel(R) Arc(TM) Pro B70 Graphics' (PCI id 0xe223)" in line
    ]
    assert run[0].status == 0, run[0].output
    assert [line.startswith("NOT COVERED: ") for line in lines] == [False, True]
    assert all("fixtures/matrix/platforms.toml" in line for line in lines)


def test_the_opening_record_has_the_environment_without_secrets(run):
    record = run[1]
    assert record["kind"] == "run"
    assert record["environment"]["SYCL_CACHE_PERSISTENT"] == "1"
    assert record["environment"]["CCL_LOG_LEVEL"] == "[redacted]"
    assert not {"UR_TOKEN", "CPATH"} & {*record["environment"]}
    assert "Pro B70" in record["not_covered"][0]


def test_asking_for_a_platform_that_is_not_there_says_what_is(tmp_path):
    run = fork_suite(tmp_path, *STRANGE, "--platform", "b60", "suites/test_generation.py")
    assert run.status == 4
    assert "this machine has no b60" in run.output
    assert "Pro B70 Graphics' (PCI id 0xe223)" in run.output
