"""Which processes run and what they share, for tests that nothing outlives a run."""

import subprocess
from pathlib import Path

from suites.meta.harness.inner import ROOT

OURS = ("fixtures.worker.fork_server", "fixtures.worker.rank")


def running(pid):
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def of_the_suite():
    """Numbers of this checkout's processes that import a stack, are forked from one that did, or launch such."""
    listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    found = {line.split()[0] for line in listing.splitlines() if any(module in line for module in OURS)}
    return {pid for pid in found if _of_this_checkout(pid)}


def _of_this_checkout(pid):
    """Whether a process was started by this checkout: others may run the suite on the same machine."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    paths = next((v.partition(b"=")[2] for v in variables if v.startswith(b"PYTHONPATH=")), b"")
    return bytes(ROOT) in paths.split(b":")


def shared_memory():
    """Names of DeepSpeed's buffers in shared memory, which killed ranks do not unlink."""
    return {path.name for path in Path("/dev/shm").glob("deepspeed_allreduce_buffer_*")}
