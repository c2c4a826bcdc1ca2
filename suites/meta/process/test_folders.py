"""Private folders of runs: what a killed run left is removed by the next one, what a running one has is not."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fixtures.engine.ranks import drawn, remove_leftovers, remove_leftovers_noted_in
from fixtures.io.folders import PrivateFolder, sweep
from suites.meta.harness.inner import ROOT

PORT = 64998
KEEP_ONE = f"""
import time
from fixtures.engine.ranks import noted
from fixtures.io.folders import PrivateFolder
folder = PrivateFolder()
noted({PORT}, folder.name)
print(folder.name, flush=True)
time.sleep(60)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files of this test and what it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_and_its_shared_memory_outlive_a_killed_run_only_until_the_next_one(temporary):
    buffer = Path(f"/dev/shm/deepspeed_allreduce_buffer_0_127.0.0.1_{PORT}_0")
    buffer.touch()
    mine = PrivateFolder()
    process = subprocess.Popen([sys.executable, "-c", KEEP_ONE], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    theirs = Path(process.stdout.readline().strip())
    sweep(remove_leftovers_noted_in)
    assert theirs.is_dir(), "its run is alive"
    assert buffer.exists(), "its run is alive"
    process.kill()
    process.wait()
    sweep(remove_leftovers_noted_in)
    assert {*temporary.iterdir()} == {Path(mine.name)}
    assert not buffer.exists()
    mine.cleanup()
    assert not Path(mine.name).exists()


def test_weights_that_a_group_drew_are_removed_with_it_and_no_others(tmp_path):
    mine, other = (drawn(tmp_path, port) for port in (PORT, PORT + 1))
    for folder in (mine, other):
        folder.mkdir()
        (folder / "model.safetensors").touch()
    remove_leftovers(PORT, tmp_path)
    assert {*tmp_path.iterdir()} == {other}


def test_folders_of_others_are_left_alone(temporary):
    (temporary / "xpu-llm-cts-proof-1").mkdir()
    (temporary / "xpu-llm-cts-run-a-file").touch()
    (temporary / "xpu-llm-cts-run-a-link").symlink_to(temporary)
    sweep()
    assert len([*temporary.iterdir()]) == 3
