"""A pytest plugin for inner runs: `--power-cut=N` ends the run at its Nth write to the disk, as a power cut would.

Counted are the calls that put something on the disk in the folders of results and of baselines: fsync of files and
folders, and os.replace. At the Nth the process is killed, before the call or after it, and what no fsync had put on the
disk by then is lost: files keep a part of what was added since, new names and replaced ones may be the old ones again.
`--power-seed` decides what a disk would. A cut is modelled, the write that it hits and everything before it are real.
"""

import contextlib
import os
import random
import signal
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--power-cut", type=int, default=0)
    parser.addoption("--power-seed", type=int, default=0)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    folders = [config.getoption("results"), config.getoption("baselines")]
    _Disk(folders, config.getoption("power_cut"), random.Random(config.getoption("power_seed"))).watch()


class _Disk:
    """What would be on the disk: how much of each file, which names of each folder, and what names stood for before."""

    def __init__(self, folders, cut, chance):
        self.folders, self.left, self.chance = [Path(folder) for folder in folders], cut, chance
        self.fsync, self.replace = os.fsync, os.replace
        self.sizes = {_key(path): path.stat().st_size for path in self._files()}
        self.names = {*self._files()}
        self.before = {}  # path -> its content before a replacement that its folder does not yet have for sure

    def watch(self):
        os.fsync, os.replace = self._fsync, self._replace

    def _files(self):
        return [path for folder in self.folders for path in folder.rglob("*") if path.is_file()]

    def _ours(self, path):
        return any(Path(path).resolve().is_relative_to(folder.resolve()) for folder in self.folders)

    def _fsync(self, descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if not self._ours(path):
            return self.fsync(descriptor)
        after = self._now()
        self.fsync(descriptor)
        if path.is_dir():
            self.names |= {*path.iterdir()}
            self.before = {name: content for name, content in self.before.items() if name.parent != path}
        else:
            self.sizes[_key(path)] = path.stat().st_size
        if after:
            self._cut()
        return None

    def _replace(self, source, target, **more):
        if not self._ours(target):
            return self.replace(source, target, **more)
        after, target = self._now(), Path(target)
        self.before.setdefault(target, target.read_bytes() if target.exists() else None)
        self.replace(source, target, **more)
        self.names.discard(target)
        if after:
            self._cut()
        return None

    def _now(self):
        """Count a call; where it is the one that is hit, cut before it, or return that it is to be after it."""
        self.left -= 1
        if self.left:
            return False
        if self.chance.random() < 0.5:
            self._cut()
        return True

    def _cut(self):
        for path, content in self.before.items():
            if self.chance.random() < 0.5:
                continue  # the disk was quick
            path.unlink() if content is None else path.write_bytes(content)
            if content is not None:
                self.sizes[_key(path)] = len(content)
                self.names.add(path)
        for path in self._files():
            on_disk, size = self.sizes.get(_key(path), 0), path.stat().st_size
            if size > on_disk:
                os.truncate(path, self.chance.randint(on_disk, size))
            if path not in self.names and path not in self.before and self.chance.random() < 0.5:
                with contextlib.suppress(OSError):
                    path.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def _key(path):
    """A file, whatever its name."""
    status = path.stat()
    return status.st_dev, status.st_ino
