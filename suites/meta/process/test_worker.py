"""Workers end in every way a stack can make them end; each end gets its class, and the next worker starts."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fixtures.engine.ranks import environment as rank_environment
from fixtures.engine.ranks import remove_leftovers
from fixtures.measure.processes import free_port
from fixtures.worker import pool, protocol
from fixtures.worker.environment import base_environment
from fixtures.worker.output import KEPT
from fixtures.worker.pool import ForkServer, ForkServerFailed, Worker
from fixtures.worker.termination import RecipeError, WorkerEnded, classify, is_out_of_memory, kernel_oom_kills
from suites.meta.harness.light_service import LIGHT
from suites.meta.harness.processes import gone, running

CALLS = "suites.meta.harness.worker_calls:"

MODULE = "tabnanny"  # of the standard library, which nothing else here imports


@pytest.fixture
def fork_server(stock):
    return stock


@pytest.fixture
def worker(fork_server):
    worker = Worker(fork_server)
    yield worker
    worker.close()


@pytest.fixture
def group(fork_server):
    port = free_port()
    group = Worker(fork_server, [rank_environment(rank, 3, port) for rank in range(3)])
    yield group
    group.close()


def call(worker, function, deadline=30, **arguments):
    return worker.call("call", deadline, function=CALLS + function, **arguments).message["result"]


def termination(worker, function, deadline=30, **arguments):
    pids = [rank.pid for rank in worker.ranks]
    with pytest.raises(WorkerEnded) as caught:
        call(worker, function, deadline, **arguments)
    assert not any(map(running, pids)), "a worker that ended must leave no process behind"
    return caught.value.termination


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGBUS, signal.SIGABRT])
def test_a_signal_is_a_crash_with_its_name(worker, number):
    assert termination(worker, "end_by", number=int(number)).sentence() == f"CRASHED({number.name})"


@pytest.mark.parametrize("code", [0, 3])
def test_an_exit_without_an_answer_is_a_crash(worker, code):
    assert termination(worker, "exit_with", code=code).sentence() == f"CRASHED(exit {code} without an answer)"


def test_silence_past_the_deadline_is_a_hang_that_says_where_and_ends_the_worker(worker):
    start = time.monotonic()
    end = termination(worker, "sleep", deadline=1, seconds=30)
    assert end.sentence() == "HANG(no answer within 1 s)"
    assert time.monotonic() - start < 20
    assert re.fullmatch(r"  File .* in sleep", end.tail[-1])


def test_the_last_words_are_kept(worker):
    assert "goodbye, device" in termination(worker, "speak_then_die", words="goodbye, device").tail


def test_memory_that_runs_out_is_oom(worker):
    with pytest.raises(WorkerEnded) as caught:
        call(worker, "raise_error", kind="MemoryError", text="cannot allocate 3 GiB")
    assert caught.value.termination.verdict == "OOM"


@pytest.mark.parametrize(("kind", "text", "out"), [
    ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB", True),
    ("RuntimeError", "[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory", True),
    ("RuntimeError", "Native API failed: UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY", True),
    ("RuntimeError", "shape mismatch", False),
])  # fmt: skip
def test_out_of_memory_is_read_from_the_stacks_own_words(kind, text, out):
    assert is_out_of_memory(kind, text) is out


def test_a_sigkill_by_the_kernels_oom_killer_is_oom():
    status = int(signal.SIGKILL)  # a wait status whose low bits are the signal
    assert classify(status, kernel_oom_kills() - 1).verdict == "OOM"
    assert classify(status, kernel_oom_kills()).verdict == "CRASHED"


def test_an_exception_is_an_answer_and_the_worker_lives_on(worker):
    with pytest.raises(RecipeError, match="RuntimeError: planted") as caught:
        call(worker, "raise_error", kind="RuntimeError", text="planted")
    assert any("raise_error" in frame for frame in caught.value.frames)
    assert call(worker, "echo", value=[1, "two"]) == [1, "two"]


def test_a_flood_of_output_blocks_nobody(worker):
    assert call(worker, "flood", mebibytes=64) == 64


def test_of_a_flood_only_the_last_words_are_kept(worker):
    call(worker, "flood", mebibytes=64)
    assert len(worker.ranks[0].log.last()) == KEPT
    assert "goodbye" in termination(worker, "speak_then_die", words="\ngoodbye").tail


@pytest.mark.parametrize(("fault", "words"), [
    ("words_on_the_connection", "announced a header of"),
    ("noise_on_the_connection", "what is no message"),
    ("no_header_on_the_connection", "what is no message"),
    ("odd_array_on_the_connection", "what is no message"),
    ("endless_array_on_the_connection", "what is no message"),
    ("half_a_frame_and_on", "what is no message"),
    ("half_a_frame_and_death", "SIGSEGV"),
    ("an_answer_to_nothing", "it answered a call that was not made"),
    ("closes_its_connection", "closed its connection without an answer and went on"),
])  # fmt: skip
def test_what_is_no_answer_is_a_crash_and_not_waited_for(worker, fault, words):
    end = termination(worker, "fault", name=fault)
    assert end.verdict == "CRASHED"
    assert words in end.detail


def test_an_end_is_seen_though_a_grandchild_holds_the_connection(worker):
    assert termination(worker, "fault", name="leaves_a_grandchild_and_dies").sentence() == "CRASHED(SIGSEGV)"


@pytest.mark.parametrize("end", ["worker", "fork_server", "suite"])
@pytest.mark.parametrize("forked", [False, True])
def test_no_grandchild_outlives_its_worker(end, forked):
    base = fork_server = ForkServer([LIGHT])
    if forked:
        fork_server = ForkServer([LIGHT, MODULE], base=base)
    worker = Worker(fork_server)
    child = call(worker, "leave_a_child")
    assert running(child)
    if end == "worker":
        worker.close()
    elif end == "suite":
        base.control.shutdown(socket.SHUT_RDWR)  # as when the test process is killed
    else:
        os.kill(fork_server.pid, signal.SIGTERM)
    assert gone([child])
    for end in (worker, fork_server, base):
        end.close()


def test_a_fork_server_forked_from_another_has_what_that_has_and_more():
    base = ForkServer([LIGHT])
    forked = ForkServer([LIGHT, MODULE], base=base)
    workers = [Worker(base), Worker(forked)]
    service = LIGHT.removeprefix("@")
    seen = [call(worker, "imported", names=[service, MODULE]) for worker in workers]
    assert seen == [[service], [service, MODULE]]
    assert call(workers[1], "environment", names=["TMPDIR"]) == {"TMPDIR": forked.folder.name}
    os.kill(forked.pid, signal.SIGKILL)
    assert gone([workers[1].ranks[0].pid])
    assert forked.process.poll() is not None
    with pytest.raises(ForkServerFailed, match=f"the process that imported {MODULE} is gone"):
        forked.fork()
    assert call(workers[0], "echo", value=1) == 1, "the one it was forked from goes on"
    for end in (*workers, forked, base):
        end.close()


def test_a_fork_server_can_leave_an_import_to_its_workers():
    fork_server = ForkServer([f"!{MODULE}", f"+{MODULE}", LIGHT])
    worker = Worker(fork_server)
    assert call(worker, "imported", names=[MODULE]) == [MODULE]
    worker.close()
    fork_server.close()


def test_a_worker_can_be_closed_after_ctrl_c_cut_a_message_of_its_fork_server_short(monkeypatch):
    fork_server = ForkServer([LIGHT])
    worker, whole = Worker(fork_server), protocol.receive

    def interrupted(sock, deadline=None):
        if sock is not fork_server.control:
            return whole(sock, deadline)
        sock.recv(3)
        raise KeyboardInterrupt

    os.kill(worker.ranks[0].pid, signal.SIGKILL)
    with monkeypatch.context() as patch:
        patch.setattr(protocol, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fork_server.status_of(worker.ranks[0].pid)
    worker.close()
    fork_server.close()


def test_a_fork_server_whose_suite_is_gone_already_imports_nothing():
    code = (
        "import os, socket; from fixtures.worker import fork_server; ours, theirs = socket.socketpair(); ours.close();"
        "print(fork_server.serve(theirs, ['IMPORTED=1']), os.environ.get('IMPORTED'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["1", "None"], done.stderr


def test_the_next_worker_starts_after_a_crash(fork_server):
    for _ in range(3):
        first = Worker(fork_server)
        termination(first, "end_by", number=int(signal.SIGSEGV))
        second = Worker(fork_server)
        assert call(second, "echo", value="here") == "here"
        second.close()


def test_stock_workers_never_import_ipex(worker):
    assert call(worker, "where")["ipex"] is False


def test_workers_do_not_share_state(fork_server):
    pids = set()
    for _ in range(2):
        worker = Worker(fork_server)
        pids.add(call(worker, "where")["pid"])
        worker.close()
    assert len(pids) == 2


def test_secrets_do_not_reach_a_worker(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert not {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY"} & set(base_environment())


# -- groups of ranks ----


def test_every_rank_answers_and_rank_zero_speaks(group):
    reply = group.call("call", 30, function=CALLS + "where")
    assert [message["result"]["rank"] for message in reply.message["ranks"]] == ["0", "1", "2"]
    assert reply.message["result"]["rank"] == "0"


@pytest.mark.parametrize("then", ["answer", "wait"])
def test_a_dead_rank_is_named_and_takes_the_group_along(group, then):
    end = termination(group, "one_rank", rank=1, then=then)
    assert end.sentence() == "CRASHED(rank 1: SIGKILL)"


@pytest.mark.parametrize("rank", [0, 2])
def test_a_rank_that_never_arrives_is_reported_from_those_that_wait_for_it(group, rank):
    end = termination(group, "one_rank_sleeps", deadline=3, rank=rank)
    assert end.sentence() == f"HANG(rank {rank}: no answer within 3 s)"
    assert re.fullmatch(rf"\[{rank}\]   File .* in one_rank_sleeps", end.tail[-1])


def test_an_error_on_one_rank_ends_a_group_that_waits_for_it(group, monkeypatch):
    monkeypatch.setattr(pool, "GRACE", 1.0)
    pids = [rank.pid for rank in group.ranks]
    with pytest.raises(RecipeError, match="only here"):
        call(group, "one_rank_raises", deadline=60, rank=2)
    assert not any(map(running, pids))
    with pytest.raises(WorkerEnded):
        call(group, "echo", value=1)


def test_what_killed_ranks_leave_in_shared_memory_is_removed(fork_server):
    port = 64999
    buffers = [Path(f"/dev/shm/deepspeed_allreduce_buffer_0_127.0.0.1_{port}_{rank}") for rank in range(2)]
    other = Path(f"/dev/shm/deepspeed_allreduce_buffer_0_127.0.0.1_{port - 1}_0")
    for path in [*buffers, other]:
        path.touch()
    group = Worker(fork_server, [rank_environment(r, 2, port) for r in range(2)], tidy=lambda: remove_leftovers(port))
    termination(group, "one_rank", rank=0, then="wait")
    assert not any(path.exists() for path in buffers)
    assert other.exists()
    other.unlink()


def test_ranks_get_what_the_cpu_backend_needs(group):
    names = ["LOCAL_SIZE", "WORLD_SIZE", "MASTER_ADDR", "TORCH_LLM_ALLREDUCE"]
    assert call(group, "environment", names=names) == {
        "LOCAL_SIZE": "3", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "TORCH_LLM_ALLREDUCE": None,
    }  # fmt: skip


# -- fork servers and the protocol ----


def test_a_stack_that_cannot_be_imported_is_one_sentence():
    fork_server = ForkServer(["json", "no_such_stack"])
    with pytest.raises(ForkServerFailed, match="cannot import no_such_stack: ModuleNotFoundError"):
        fork_server.wait_ready()
    fork_server.close()


def test_a_missing_interpreter_is_one_sentence():
    with pytest.raises(ForkServerFailed, match=r"/no/python cannot be started .*; name a Python"):
        ForkServer(["json"], python="/no/python")


def test_workers_die_with_their_fork_server(fork_server):
    doomed = ForkServer([LIGHT])
    worker = Worker(doomed)
    pid = call(worker, "where")["pid"]
    os.kill(doomed.process.pid, signal.SIGKILL)
    doomed.process.wait()
    assert gone([pid])
    doomed.close()
    worker.close()  # kept for another test of its cell, it outlived what it was forked from


@pytest.mark.parametrize("array", [
    np.arange(12, dtype=np.float32).reshape(3, 4), np.array(3.5), np.zeros((0, 7), np.int64), np.arange(9)[::2],
])  # fmt: skip
def test_arrays_cross_the_connection_unchanged(array):
    ours, theirs = socket.socketpair()
    protocol.send(ours, {"text": "ü"}, {"a": array})
    message, arrays = protocol.receive(theirs, time.monotonic() + 5)
    assert message == {"text": "ü"}
    assert arrays["a"].dtype == array.dtype
    assert np.array_equal(arrays["a"], array)
    assert arrays["a"].shape == array.shape


def test_the_connection_tells_an_end_from_a_delay():
    ours, theirs = socket.socketpair()
    with pytest.raises(TimeoutError):
        protocol.receive(theirs, time.monotonic() + 0.05)
    ours.close()
    with pytest.raises(protocol.Closed):
        protocol.receive(theirs, time.monotonic() + 5)


def test_an_absurd_header_is_refused():
    ours, theirs = socket.socketpair()
    ours.sendall(protocol.LENGTH.pack(2**60))
    with pytest.raises(ValueError, match="the limit is"):
        protocol.receive(theirs, time.monotonic() + 5)


@pytest.mark.parametrize("header", [
    b"[1]", b"\xff\xfe", b"{}", b"[" * 100_000, b'{"message": [], "arrays": []}', b'{"message": {}, "arrays": [1]}',
    *(b'{"message": {}, "arrays": [["a", %s]]}' % array for array in (
        b'"zz", [2]', b'"<f4", [-2]', b'"<f4", ["2"]', b'"<f4", [1e300]', b'"|O", [2]', b'"<f4", [4398046511104, 4096]',
    )),
])  # fmt: skip
def test_what_is_no_message_is_refused(header):
    ours, theirs = socket.socketpair()
    ours.sendall(protocol.LENGTH.pack(len(header)) + header)
    with pytest.raises(ValueError, match="what is no message"):
        protocol.receive(theirs, time.monotonic() + 5)


@pytest.mark.benchmark(group="isolated worker: fork, import what the cell needs, first answer")
def test_start_of_an_isolated_worker(fork_server, benchmark):
    """The cost of isolation per cell; a fresh interpreter pays the imports shown as `fork server` instead."""
    fork_server.wait_ready()

    def start():
        worker = Worker(fork_server)
        answer = call(worker, "where")
        worker.close()
        return answer

    assert benchmark.pedantic(start, rounds=10)["pid"]
    benchmark.extra_info["import_seconds"] = fork_server.seconds
    benchmark.extra_info["python"] = sys.version


def test_the_port_of_a_rendezvous_is_none_that_a_connection_could_be_given():
    ports = {free_port(range(20_000, 32_768)) for _ in range(20)}
    assert {*ports} <= {*range(20_000, 32_768)}
    assert len(ports) > 10, "two groups that start at once must not meet"


def test_without_room_below_the_kernel_gives_a_port():
    assert 0 < free_port(range(0)) < 65_536
