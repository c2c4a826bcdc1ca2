"""Groups of ranks under the real launchers: who is reported what, what happens when one fails, and what it leaves."""

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from fixtures.engine.ranks import environment
from fixtures.measure.processes import free_port
from fixtures.plugin.collection import check_hosts
from fixtures.worker import launchers, protocol
from fixtures.worker.launchers import LaunchedGroup, command_line, reported_by
from fixtures.worker.pool import ForkServerFailed, Worker
from fixtures.worker.termination import WorkerEnded
from suites.meta.harness.inner import ROOT
from suites.meta.harness.light_service import LIGHT
from suites.meta.harness.processes import gone, of_the_suite

pytestmark = pytest.mark.nightly

CALLS = "suites.meta.harness.worker_calls:"
STACK = (LIGHT,)  # the launcher's work is tested


def cannot_listen(*_):
    raise OSError("AF_UNIX path too long")


def test_a_launcher_that_cannot_listen_says_why(monkeypatch):
    monkeypatch.setattr(LaunchedGroup, "_listen", cannot_listen)
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        LaunchedGroup("torchrun", 2, STACK, sys.executable, free_port())


@pytest.fixture
def start():
    """Start a group that is closed afterwards; nothing of it may be left then."""
    groups, before = [], of_the_suite()

    def started(launcher, ranks=2, **options):
        groups.append(LaunchedGroup(launcher, ranks, STACK, sys.executable, free_port(), **options))
        return groups[-1]

    yield started
    for group in groups:
        group.close()
    assert gone(of_the_suite() - before)


def worker_of(group):
    fork_servers, port = group.meet(), free_port()
    count = len(fork_servers)
    return Worker(
        fork_servers, [environment(fork_server.reported["rank"], count, port) for fork_server in fork_servers]
    )


def call(worker, function, deadline=60, **arguments):
    reply = worker.call("call", deadline, function=CALLS + function, **arguments)
    return [message["result"] for message in reply.message["ranks"]]


# -- what launchers tell ----


@pytest.mark.parametrize(("variables", "reported"), [
    ({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, ("RANK", 1, 4, 1, 2)),
    ({"PMI_RANK": "3", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}, ("PMI_RANK", 3, 4, 1, 2)),
    ({"PALS_RANKID": "0", "PALS_SIZE": "2", "PALS_LOCAL_RANKID": "0", "PALS_LOCAL_SIZE": "2"},
     ("PALS_RANKID", 0, 2, 0, 2)),
    ({"RANK": "", "PMI_RANK": "1"}, ("PMI_RANK", 1, None, None, None)),
    ({"RANK": "first"}, ("RANK", None, None, None, None)),
    ({}, ("", None, None, None, None)),
])  # fmt: skip
def test_a_rank_is_read_from_the_variables_of_each_launcher(variables, reported):
    found = reported_by(variables)
    assert tuple(found[name] for name in ("variable", "rank", "world", "local_rank", "local_world")) == reported


def test_the_specifications_command_line_is_used():
    words = command_line("mpirun", sys.executable, 2, 29500)
    assert os.path.basename(words[0]) == "mpirun"
    assert words[1:4] == ["-np", "2", "--prepend-rank"]


@pytest.mark.parametrize("launcher", launchers.WITH_HOSTFILE)
def test_a_hostfile_is_handed_on_unchanged(launcher):
    assert "/etc/my hosts" in command_line(launcher, sys.executable, 2, 29500, "/etc/my hosts")


@pytest.mark.parametrize(("text", "line"), [
    ("node-1:2\n-oProxyCommand=reboot slots=2\n", "line 2 begins with '-oProxyCommand=reboot'"),
    ("`reboot` slots=1\n", "line 1 begins with"),
    ("node-1\0\n", "line 1 begins with"),
])  # fmt: skip
def test_a_host_that_ssh_would_take_for_an_option_is_refused(tmp_path, text, line):
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(pytest.UsageError, match=line):
        check_hosts(tmp_path / "hosts")


def test_hosts_of_both_formats_are_handed_on(tmp_path):
    (tmp_path / "hosts").write_text("# two\nnode-1:2\n\nme@node-2.example slots=2\n[fe80::1]:4  # three\n")
    check_hosts(tmp_path / "hosts")


def test_ranks_of_one_host_talk_on_loopback():
    assert environment(0, 2, 29500)["GLOO_SOCKET_IFNAME"] == "lo"
    assert "GLOO_SOCKET_IFNAME" not in environment(0, 2, 29500, host="node-1")


# -- real groups ----


@pytest.mark.parametrize("launcher", launchers.LAUNCHERS)
def test_every_launcher_brings_its_ranks(start, launcher):
    group = start(launcher)
    worker = worker_of(group)
    assert [answer["rank"] for answer in call(worker, "where")] == ["0", "1"]
    assert [fork_server.pid for fork_server in group.fork_servers] == [
        psutil.Process(rank.pid).ppid() for rank in worker.ranks
    ]
    names = ["LOCAL_SIZE", "WORLD_SIZE", "TORCH_LLM_ALLREDUCE", launchers.TOKEN]
    expected = {"LOCAL_SIZE": "2", "WORLD_SIZE": "2", "TORCH_LLM_ALLREDUCE": None, launchers.TOKEN: None}
    assert call(worker, "environment", names=names) == [expected] * 2
    worker.close()


def test_ranks_of_a_hostfile_meet_over_tcp(start, tmp_path):
    """By mpirun: DeepSpeed's launcher wants to reach even this machine by ssh."""
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost:2\n")
    worker = worker_of(start("mpirun", hostfile=str(hosts)))
    assert [answer["rank"] for answer in call(worker, "where")] == ["0", "1"]
    since = time.monotonic()
    with pytest.raises(WorkerEnded) as caught:
        call(worker, "one_rank", rank=1, then="wait")
    assert caught.value.termination.sentence() == "CRASHED(rank 1: SIGKILL)"
    assert time.monotonic() - since < 8


def test_a_dead_rank_leaves_its_launcher_to_the_next_group(start):
    group = start("torchrun")
    first = worker_of(group)
    with pytest.raises(WorkerEnded) as caught:
        call(first, "one_rank", rank=1, then="wait")
    assert caught.value.termination.sentence() == "CRASHED(rank 1: SIGKILL)"
    assert gone([rank.pid for rank in first.ranks], 0)
    since = time.monotonic()
    second = worker_of(group)
    assert time.monotonic() - since < 10
    assert [answer["rank"] for answer in call(second, "where")] == ["0", "1"]
    second.close()


def test_a_killed_launcher_takes_its_ranks_along(start):
    before = of_the_suite()
    group = start("torchrun")
    worker = worker_of(group)
    os.kill(group.process.pid, signal.SIGKILL)
    group.process.wait()
    with pytest.raises(WorkerEnded):
        call(worker, "sleep", seconds=60)
    assert not group.alive
    assert gone(of_the_suite() - before)


def test_nothing_outlives_a_suite_that_was_killed():
    before = of_the_suite()
    code = (
        "import os, sys; from fixtures.worker.launchers import LaunchedGroup; from fixtures.measure import runtime;"
        "LaunchedGroup('torchrun', 2, ['json'], sys.executable, runtime.free_port()).meet(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert gone(of_the_suite() - before)


# -- what goes wrong at the start ----


def test_a_launcher_that_starts_fewer_ranks_is_one_sentence(start, monkeypatch):
    honest = launchers.LAUNCHERS["torchrun"]
    monkeypatch.setitem(launchers.LAUNCHERS, "torchrun", lambda python, ranks, *rest: honest(python, 1, *rest))
    with pytest.raises(ForkServerFailed, match=r"torchrun was to start 2 ranks and started rank 0 of 1; look for"):
        start("torchrun").meet()


def test_a_launcher_that_ends_at_once_gives_its_last_words(start, monkeypatch):
    monkeypatch.setitem(launchers.LAUNCHERS, "mpirun", lambda *_: ["/bin/sh", "-c", "echo no such host >&2; exit 7"])
    with pytest.raises(ForkServerFailed, match="mpirun ended with status 7: no such host"):
        start("mpirun").meet()


def test_a_missing_launcher_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ForkServerFailed, match=r"there is no mpirun beside .* or on the path; install impi-rt"):
        LaunchedGroup("mpirun", 2, STACK, str(tmp_path / "python"), free_port())


def test_a_stranger_at_the_door_is_turned_away(start, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost:2\n")
    group = start("mpirun", hostfile=str(hosts))
    for message in ({"token": "guess", "kind": "rank", "reported": {}}, {}, {"token": "é"}, [1]):
        stranger = socket.create_connection(group.listener.getsockname()[:2])
        protocol.send(stranger, message)
    for length, text in ((2**62, b""), (4000, b"[" * 4000), (1, b"1"), (2, b"\xff\xff")):
        stranger = socket.create_connection(group.listener.getsockname()[:2])
        stranger.sendall(protocol.LENGTH.pack(length) + text)
    socket.create_connection(group.listener.getsockname()[:2]).close()
    assert [fork_server.reported["rank"] for fork_server in group.meet()] == [0, 1]
