"""Which processes run and what they share, for tests that nothing outlives a run."""

import subprocess
from pathlib import Path

OURS = ("fixtures.worker.fork_server", "fixtures.worker.rank")


def running(pid):
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def of_the_suite():
    """Numbers of all processes that import a stack, are forked from one that did, or launch such."""
    listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return {line.split()[0] for line in listing.splitlines() if any(module in line for module in OURS)}


def shared_memory():
    """Names of DeepSpeed's buffers in shared memory, which killed ranks do not unlink."""
    return {path.name for path in Path("/dev/shm").glob("deepspeed_allreduce_buffer_*")}
