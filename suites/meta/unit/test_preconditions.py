"""What a run needs of the machine is found out before it starts, in one sentence that names what to change."""

import collections
import os
import subprocess
import types

import pytest

from fixtures.io.parties import MACHINE
from fixtures.matrix import load_matrix
from fixtures.measure import preconditions
from fixtures.measure.preconditions import PreconditionFailed, check_folders, check_shared_memory
from fixtures.plugin import header, processes
from fixtures.plugin.session import RUN
from fixtures.system import fingerprint
from fixtures.system.fingerprint import commit_of, why_no_commit

SHARDED = next(cell for cell in load_matrix().all_cells() if cell.platform.name == "cpu" and cell.mode == "autotp")
Room = collections.namedtuple("Room", "free")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A function that gives made weights another folder."""

    def named(folder):
        monkeypatch.setenv("XPU_LLM_CTS_CACHE", str(folder))

    named(tmp_path / "cache")
    return named


def problem(call, *arguments):
    """The sentence of what a check of the machine does not find."""
    with pytest.raises(PreconditionFailed) as failed:
        call(*arguments)
    assert failed.value.party == MACHINE
    return str(failed.value)


def test_folders_that_can_be_written_are_made(cache, tmp_path):
    check_folders(tmp_path / "results")
    assert (tmp_path / "cache").is_dir()


def test_a_home_that_cannot_be_written_names_the_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("XPU_LLM_CTS_CACHE", raising=False)
    monkeypatch.setenv("HOME", "/proc/nohome")
    text = problem(check_folders, tmp_path)
    assert text.startswith("the folder of made weights, /proc/nohome/.cache/xpu-llm-cts, cannot be written (")
    assert text.endswith("name another one in XPU_LLM_CTS_CACHE")


@pytest.mark.parametrize(("full", "words"), [
    ("cache", ["of made weights", "XPU_LLM_CTS_CACHE"]),
    ("temporary", ["of temporary files", "TMPDIR"]),
    ("results", ["of the journal", "--results"]),
])  # fmt: skip
def test_a_full_disk_names_the_folder_and_where_to_name_another(monkeypatch, cache, tmp_path, full, words):
    folders = {name: tmp_path / name for name in ("cache", "temporary", "results")}
    monkeypatch.setattr(preconditions.tempfile, "gettempdir", lambda: str(folders["temporary"]))
    monkeypatch.setattr(
        preconditions.shutil, "disk_usage", lambda folder: Room(2**20 if folder == folders[full] else 2**40)
    )
    text = problem(check_folders, folders["results"])
    assert "has 1 MiB of room, and " in text
    assert all(word in text for word in words)


def free(mebibytes):
    """What the kernel says of a file system with so much room."""
    return lambda folder: collections.namedtuple("Found", "f_bavail f_frsize")(mebibytes, 2**20)


def test_two_ranks_do_not_fit_in_the_shared_memory_of_a_plain_container(monkeypatch, tmp_path):
    monkeypatch.setattr(preconditions.os, "statvfs", free(64))
    text = problem(check_shared_memory, SHARDED, 2, tmp_path)
    assert "has 64 MiB of room, and DeepSpeed's all-reduce among 2 ranks needs 132; start the container with" in text
    check_shared_memory(SHARDED, 1, tmp_path)
    monkeypatch.setattr(preconditions.os, "statvfs", free(132))
    check_shared_memory(SHARDED, 2, tmp_path)


def test_what_the_group_of_a_cell_holds_is_room_for_its_next_suite(monkeypatch, tmp_path):
    monkeypatch.setattr(preconditions.os, "statvfs", free(64))
    for rank in range(2):
        buffer = tmp_path / f"deepspeed_allreduce_buffer_0_127.0.0.1_29500_{rank}"
        with open(buffer, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, 66 * 2**20)
    check_shared_memory(SHARDED, 2, tmp_path)


@pytest.mark.parametrize(("suite", "ranks"), [("tp_answers", 4), ("tp_deepspeed", 2), ("latency", 2)])
def test_room_is_asked_for_as_many_ranks_as_a_suite_starts(monkeypatch, suite, ranks):
    asked = []
    monkeypatch.setattr(processes, "check_shared_memory", lambda cell, ranks: asked.append(ranks))
    cell = next(cell for cell in load_matrix().cells(["cpu"]) if cell.id == "llama-2-13b-bf16-cpu-autotp")
    plan = types.SimpleNamespace(note=lambda cell: "")
    run = types.SimpleNamespace(
        settings=types.SimpleNamespace(hostfile=None), runtime=types.SimpleNamespace(place=lambda *arguments: plan)
    )
    processes.Processes.place(run, cell, suite, None)
    assert asked == [ranks]


def test_no_shared_memory_at_all_is_a_sentence(tmp_path):
    assert "No such file" in problem(check_shared_memory, SHARDED, 2, tmp_path / "none")


def test_a_clone_that_git_can_read_has_a_commit(tmp_path):
    assert why_no_commit(tmp_path) == ""  # no clone at all
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert "git cannot tell the commit of this clone" in why_no_commit(tmp_path)  # it has none yet


@pytest.mark.parametrize(("answer", "words"), [
    ((128, "", "fatal: detected dubious ownership in repository at '/x'\nmore"), "git config --global --add safe.dir"),
    ((None, "", "git cannot be started: No such file or directory"), "install git"),
    ((128, "", "fatal: bad object HEAD"), "(fatal: bad object HEAD); let git read it"),
])  # fmt: skip
def test_a_clone_that_git_cannot_read_says_what_to_do(monkeypatch, tmp_path, answer, words):
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(fingerprint, "_asked", lambda *_: answer)
    assert words in why_no_commit(tmp_path)


def test_a_run_says_that_git_cannot_read_its_clone_and_goes_on(monkeypatch, tmp_path):
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    monkeypatch.setattr(header, "ROOT", tmp_path)
    for name in ("_untested", "_machine", "_stock", "_accepted"):
        monkeypatch.setattr(header, name, lambda run, name=name: [name])
    run = types.SimpleNamespace(selection=types.SimpleNamespace(versions={}, dry=False))
    _, _, said, *later = header.pytest_report_header(types.SimpleNamespace(stash={RUN: run}))
    assert said.startswith("git cannot tell the commit of this clone, and records will name none (fatal: ")
    assert said.endswith("; let git read it")
    assert later == ["_machine", "_stock", "_accepted"]
    assert commit_of(tmp_path) == "unknown"  # what records have then
