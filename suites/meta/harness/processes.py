"""Which processes run and what they share, for tests that nothing outlives a run."""

import time
from pathlib import Path

import psutil

from suites.meta.harness.inner import ROOT

OURS = ("fixtures.worker.fork_server", "fixtures.worker.rank")


def running(pid):
    """Whether a process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def gone(pids, seconds=30):
    """Whether processes end by themselves."""
    end = time.monotonic() + seconds
    while any(map(running, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(running, pids))


def of_the_suite():
    """Numbers of this checkout's processes that import a stack, are forked from one that did, or launch such."""
    lines = {process: " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])}
    found = [process for process, line in lines.items() if any(module in line for module in OURS)]
    return {process.pid for process in found if _of_this_checkout(process)}


def _of_this_checkout(process):
    """Whether a process was started by this checkout: others may run the suite on the same machine."""
    try:
        paths = process.environ().get("PYTHONPATH", "")
    except psutil.Error:
        return False
    return str(ROOT) in paths.split(":")


def shared_memory():
    """Names of DeepSpeed's buffers in shared memory, which killed ranks do not unlink."""
    return {path.name for path in Path("/dev/shm").glob("deepspeed_allreduce_buffer_*")}
