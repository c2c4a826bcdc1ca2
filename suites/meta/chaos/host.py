"""What fault injection needs of the host: disks of its own, a control group, a clock that can be moved, its children.

Where the host does not let it have one, `None` or an empty answer says so, and what needs it is left out, by name.
"""

import contextlib
import ctypes
import mmap
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import psutil

from suites.meta.faults.worker import MEBIBYTE, OOM_GROUP
from suites.meta.harness.processes import running

PR_SET_CHILD_SUBREAPER = 36
ALONE = "XPU_LLM_CTS_INJECTION_ALONE"  # set where this process has a file system table of its own
LETTING_GO = 10.0  # seconds that the processes of a run that was ended may take to be gone
GROUP_LIMIT = 64 * MEBIBYTE


# -- disks ----


def with_own_mounts():
    """Go on in a process whose mounts nobody else sees and which are gone with it, if this user may have one."""
    if ALONE in os.environ:
        return
    for more in ([], ["--user", "--map-root-user"]):
        command = ["unshare", *more, "--mount", "--propagation", "private"]
        probe = subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
        if probe.returncode == 0:
            os.environ[ALONE] = "1"
            os.execvp(command[0], [*command, sys.executable, *sys.orig_argv[1:]])


def may_mount():
    """Whether disks of one's own can be had."""
    return ALONE in os.environ


def mounted(folder, size):
    """Put an empty disk of `size` bytes at a folder, made where missing."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)


def unmounted(folder):
    """Take the disk at a folder away again."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def read_only(folder, how=True):
    """Make the disk at a folder one that cannot be written to, or one that can."""
    subprocess.run(["mount", "-o", f"remount,{'ro' if how else 'rw'}", str(folder)], check=True)


def filled(folder, free):
    """Fill the disk at a folder, but for `free` pages; returns the file to remove."""
    room = os.statvfs(folder)
    filler = Path(folder, "filler")
    filler.write_bytes(bytes(max(0, room.f_bavail - free) * room.f_frsize))
    return filler


def own_shared_memory():
    """Have a /dev/shm that nobody else writes to."""
    if may_mount():
        mounted("/dev/shm", 4096 * MEBIBYTE)


# -- memory ----


def oom_group():
    """The folder of a control group of little memory, for suites.meta.faults.worker to enter; None without."""
    for kind, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        folder = Path("/sys/fs/cgroup", kind, f"{OOM_GROUP}{os.getpid()}")
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / limit).write_text(str(GROUP_LIMIT))
            with contextlib.suppress(OSError):  # without swap there is nothing to forbid
                (folder / "memory.swap.max").write_text("0")
            return folder
        except OSError:
            folder.rmdir()
    return None


def without_group(folder):
    """Remove a control group that oom_group made."""
    if folder is not None:
        with contextlib.suppress(OSError):
            folder.rmdir()


# -- the clock ----


class Clock:
    """The time of day of processes that are started with `environment`: `back(seconds)` moves it while they run."""

    def __init__(self, folder):
        self.library, self._file = Path(folder, "clock.so"), Path(folder, "clock")
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(self.library), str(source)], check=True)
        self._file.write_bytes(bytes(8))
        with self._file.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 8)
        self.environment = {"LD_PRELOAD": str(self.library), "INJECTED_CLOCK": str(self._file)}

    def back(self, seconds):
        """Move it back, by so many seconds more."""
        (moved,) = struct.unpack("q", self._page)
        self._page[:] = struct.pack("q", moved - seconds)


def clock(folder):
    """A Clock, None where there is no compiler."""
    return Clock(folder) if shutil.which("cc") else None


# -- children ----


def adopt():
    """Become the parent of all that runs leave behind: what children this process has are theirs, and nobody else's."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def children():
    """Numbers of this process's children and theirs that run, whatever they call themselves."""
    return {process.pid for process in psutil.Process().children(recursive=True) if running(process.pid)}


def orphans(seconds=LETTING_GO):
    """{number: command line} of the children that are left after a while, all of which are then killed."""
    end = time.monotonic() + seconds
    while (left := children()) and time.monotonic() < end:
        time.sleep(0.02)
    reported = {}
    for pid in left:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            reported[pid] = " ".join(process.cmdline())[:100]
            process.kill()
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return reported
