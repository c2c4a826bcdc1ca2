"""Which processes run and what they share, for tests that nothing outlives a run."""

import time
from pathlib import Path

import psutil

OURS = ("fixtures.worker.fork_server", "fixtures.worker.rank")


def running(pid):
    """Whether a process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def gone(pids, seconds=10):
    """Whether processes end by themselves."""
    end = time.monotonic() + seconds
    while any(map(running, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(running, pids))


def of_the_suite():
    """Numbers of all processes that import a stack, are forked from one that did, or launch such."""
    lines = {process.pid: " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])}
    return {pid for pid, line in lines.items() if any(module in line for module in OURS)}


def shared_memory():
    """Names of DeepSpeed's buffers in shared memory, which killed ranks do not unlink."""
    return {path.name for path in Path("/dev/shm").glob("deepspeed_allreduce_buffer_*")}
