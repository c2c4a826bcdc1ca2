"""Secrets never reach what is kept or shown, and workers never see them."""

import sys

import pytest

from fixtures.io.redaction import REDACTED, is_secret, redacted
from fixtures.results import Journal, provenance
from fixtures.worker.environment import base_environment
from fixtures.worker.pool import ForkServer, Worker
from suites.meta.harness.inner import ROOT, run_suite
from suites.meta.harness.light_service import LIGHT

TOKEN = "hf_" + "aB3dE5gH7j" * 3
SECRETS = {
    "HF_TOKEN": TOKEN,
    "HUGGING_FACE_HUB_TOKEN": "an-older-token",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
    "db_password": "correct horse",
    # These begin like variables that workers do get.
    "CCL_API_KEY": "key-of-ccl",
    "HF_HOME_TOKEN": "token-of-home",
}


@pytest.fixture
def environment(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("text", "kept"), [
    (f"401 for {TOKEN} at the hub", f"401 for {REDACTED} at the hub"),
    (f"https://user:{TOKEN}@host/x", f"https://{REDACTED}@host/x"),
    ("ssh://me:pa:ss@host:22/x and http://h/a@b", f"ssh://{REDACTED}@host:22/x and http://h/a@b"),
    ("api_org_" + "x" * 24, REDACTED),
    ("--task-data=/data/correct horse/x", f"--task-data=/data/{REDACTED}/x"),
    ("hf_short and hf_home and 12345678", "hf_short and hf_home and 12345678"),
])  # fmt: skip
def test_a_secret_is_taken_out_of_a_text(text, kept):
    assert redacted(text, SECRETS) == kept


def test_the_longer_of_two_secrets_is_taken_out_whole():
    assert redacted("my-secret-key", {"A_KEY": "my-secret", "B_KEY": "my-secret-key"}) == REDACTED


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "HOME", "PATH", "OMP_NUM_THREADS"])
def test_ordinary_variables_hold_no_secret(name):
    assert not is_secret(name)


def test_short_values_are_left_alone():
    assert redacted("KEY is 1 and true", {"A_KEY": "1", "B_TOKEN": "true"}) == "KEY is 1 and true"


def test_a_journal_holds_no_secret(environment, tmp_path):
    with Journal(tmp_path / "journal") as journal:
        journal.append({"lines": [{"measured": f"said {TOKEN}"}], "an-older-token": ("key-of-ccl", tmp_path / TOKEN)})
    text = (tmp_path / "journal").read_text()
    assert not [value for value in SECRETS.values() if value in text]
    assert text.count(REDACTED) == 4


def test_provenance_holds_no_secret(environment):
    origin = provenance({}, f"pytest --task-data /data/{TOKEN}", ROOT)
    assert origin["command"] == f"pytest --task-data /data/{REDACTED}"


def test_a_worker_has_no_secret(environment):
    assert not [name for name in base_environment() if is_secret(name) and name != "HF_HUB_DISABLE_IMPLICIT_TOKEN"]
    fork_server = ForkServer((LIGHT,), sys.executable)
    try:
        worker = Worker(fork_server)
        names = [*SECRETS, "HF_HUB_DISABLE_IMPLICIT_TOKEN"]
        selected = dict(function="suites.meta.harness.worker_calls:environment", names=names)
        found = worker.call("call", 60, **selected).message["result"]
        worker.close()
    finally:
        fork_server.close()
    assert found == {**dict.fromkeys(SECRETS), "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}


INNER = """
import os, pytest

@pytest.fixture
def spoilt():
    raise OSError("fixture " + os.environ["HF_TOKEN"])

def test_says():
    print("out", os.environ["HF_TOKEN"])
    assert os.environ["HF_TOKEN"] == ""

def test_skips():
    pytest.skip("skip " + os.environ["HF_TOKEN"])

def test_fixture(spoilt):
    pass
"""


def test_a_report_holds_no_secret(tmp_path, environment):
    """Tracebacks, captured output and reasons of any test, as the terminal and JUnit show them."""
    (tmp_path / "test_inner.py").write_text(INNER)
    plugins = [f"-pfixtures.plugin.{name}" for name in ("options", "hooks", "fixtures")]
    run = run_suite(tmp_path, "-rA", *plugins, "-c", str(ROOT / "pytest.ini"), str(tmp_path / "test_inner.py"))
    texts = [run.output, (tmp_path / "junit.xml").read_text()]
    assert run.status == 1
    for text in texts:
        assert TOKEN not in text
        for words in (f"out {REDACTED}", f"skip {REDACTED}", f"fixture {REDACTED}"):
            assert words in text
