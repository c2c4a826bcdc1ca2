"""What a sharded run leaves open while it runs: sockets that listen, temporary files, shared memory."""

import ipaddress
import os
import stat
import threading
import time
from pathlib import Path

import psutil
import pytest

from suites.meta.harness.arithmetic import needs_bf16
from suites.meta.harness.inner import run_suite

pytestmark = [needs_bf16, pytest.mark.nightly]  # groups of ranks are claimed in no other precision
CELL = "suites/test_distributed.py::test_tp_sharding[opt-6.7b-bf16-cpu-autotp]"
SHARED = Path("/dev/shm")


class Watch(threading.Thread):
    """Looks again and again, until reported to stop: addresses that descendants listen on, modes of new files."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.over = folder, threading.Event()
        self.before = set(os.listdir(SHARED))
        self.listening, self.modes = set(), {}

    def run(self):
        while not self.over.is_set():
            for process in psutil.Process().children(recursive=True):
                try:
                    connections = process.net_connections("inet")
                except psutil.Error:  # it ended meanwhile
                    continue
                self.listening |= {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
            shared = [SHARED / name for name in os.listdir(SHARED) if name not in self.before]
            for path in (*self.folder.iterdir(), *shared):
                try:
                    self.modes[path] = path.lstat().st_mode
                except OSError:
                    continue
            time.sleep(0.05)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """(Watch, Run) of a sharded cell."""
    folder, results = tmp_path_factory.mktemp("tmp"), tmp_path_factory.mktemp("results")
    watch = Watch(folder)
    watch.start()
    run = run_suite(results, CELL, environment={"TMPDIR": str(folder)})
    watch.over.set()
    watch.join()
    assert run.status == 0, run.output
    return watch


def test_ranks_meet_on_loopback_alone(watched):
    assert watched.listening, "nothing was seen to listen, and ranks have to meet somewhere"
    assert all(ipaddress.ip_address(address).is_loopback for address in watched.listening), watched.listening


def test_temporary_files_are_private(watched):
    assert {path: stat.filemode(mode) for path, mode in watched.modes.items() if mode & 0o077} == {}
    assert any(path.parent == watched.folder for path in watched.modes)
    assert any(path.parent == SHARED for path in watched.modes), "the ranks' all-reduce was not seen"


def test_nothing_is_left_behind(watched):
    assert list(watched.folder.iterdir()) == []
