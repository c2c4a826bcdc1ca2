"""Runs that suites.meta.chaos.injection disturbs, in a chain of which each goes on with the one before."""

import contextlib
import os
import signal
import subprocess
import time

from fixtures.plugin.resume import REPORTED
from suites.meta.chaos import host
from suites.meta.chaos.checks import Finding, after_an_orderly_end, after_each, journal_of, refused
from suites.meta.chaos.resume import Chain
from suites.meta.faults.worker import MEBIBYTE
from suites.meta.harness.processes import shared_memory

TEMPORARY = 512 * MEBIBYTE  # size of the disk for temporary files
PATIENCE = 900.0  # seconds after which a run is said not to end
STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 2}
IN_USE = "is being written by another run; wait until that is over"


class Missed(Exception):
    """A run came to its end before what was to befall it; `found` are Findings about that end."""

    def __init__(self, found=()):
        super().__init__()
        self.found = [*found]


class DisturbedRun(Chain):
    """A chain of runs of a selection, in a folder of its own, with what each of them is given beside.

    `options` are those of every run, `clock` is a suites.meta.chaos.host.Clock or None.
    """

    def __init__(self, folder, selection, options=(), clock=None):
        super().__init__(folder, selection)
        self.options, self.clock = options, clock
        self.unrecorded, self.mounts = set(), []
        if host.may_mount():
            self.disk(self.temporary, TEMPORARY)

    def disk(self, folder, size):
        """Give the chain a disk of `size` bytes at a folder."""
        host.mounted(folder, size)
        self.mounts.append(folder)

    def begin(self, *more):
        """Start the run, or resume it."""
        self.log = self.folder / f"log-{self.starts}.txt"
        moved = self.clock.environment if self.clock else {}
        self.start(*self.options, *more, own_group=True, PYTHONUNBUFFERED="1", **moved)

    def reaches(self, records, delay):
        """Wait until so many records of tests are in the journal, and a little longer. Raises Missed."""
        end = time.monotonic() + PATIENCE
        reported = f"\n{REPORTED}"  # once all tests are collected and it is known which of them were finished before
        while self.tests() < records or reported not in self.log.read_text(errors="replace"):
            if time.monotonic() > end:
                raise Missed
            self.lasts(0.002)
        self.lasts(delay)

    def lasts(self, seconds):
        """Wait for so long. Raises Missed where the run ends meanwhile."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
            raise Missed

    def ended_by(self, number):
        """End the run by a signal, Ctrl-C's to its whole group; Findings. Raises Missed where it was over anyway."""
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGINT:
                os.killpg(self.process.pid, number)
            else:
                os.kill(self.process.pid, number)
        found = self.finished()
        output = self.log.read_text(errors="replace")
        if number == signal.SIGKILL:
            return found
        if "NEVER RAN" not in output and "\nexpected " in output:
            raise Missed(found)  # all tests were finished: what came too late looks like the end itself
        if self.process.returncode != STATUS[number]:
            reported = f"ended by {signal.Signals(number).name} its exit status is {self.process.returncode}"
            found.append(Finding("wrong", f"{reported}, it has to be {STATUS[number]}: {output[-800:]}"))
        return found + after_an_orderly_end(self) + self._reported(output)

    def _reported(self, output):
        """Findings where the last line of a run that was ended does not count what is finished."""
        records, found = journal_of(self)
        final = {record["nodeid"] for record in records if record["kind"] == "test" and record["final"]}
        right = f"; {len(self.selection) - len(final)} NEVER RAN"
        if not any(row.startswith("expected ") and row.endswith(right) for row in output.splitlines()):
            found.append(Finding("wrong", f"the end of the output does not say {right!r}: {output[-800:]}"))
        return found

    def finished(self):
        """Wait for the run to end; Findings that hold for any end."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            return [Finding("wrong", f"the run did not end; its output: {self.log.read_text()[-800:]}")]
        return after_each(self)

    def second_run(self):
        """Start another run in the same folder, which has to be refused; Findings. Raises Missed."""
        other = DisturbedRun.__new__(DisturbedRun)  # the same chain, but for what a run has of its own
        other.__dict__.update(self.__dict__, starts=0, folder=self.folder / "second")
        other.temporary = other.folder / "tmp"
        other.temporary.mkdir(parents=True, exist_ok=True)
        other.begin()
        try:
            while other.process.poll() is None:
                self.lasts(0.02)
        except Missed:
            other.process.kill()
            other.process.wait()
            raise
        output = other.log.read_text(errors="replace")
        left = [Finding("orphans", f"{path} is left") for path in other.temporary.iterdir()]
        return refused(other.process.returncode, output, IN_USE) + left

    def fired(self, number):
        """Whether a fault has struck."""
        return (self.folder / f"fired-{number}").exists()

    def orphans(self):
        """What is left of the runs that have ended (see suites.meta.chaos.host.orphans)."""
        return host.orphans()

    def shared_memory(self):
        """Names of what is left in shared memory."""
        return os.listdir("/dev/shm") if host.may_mount() else shared_memory() - self.shared

    def close(self):
        """End what still runs, and give the disks back."""
        host.orphans(0)
        for folder in self.mounts:
            host.unmounted(folder)
