"""The card that all processes of one stand-in interpreter share: names, memory, faults and what was asked of it."""

import contextlib
import fcntl
import functools
import json
import mmap
import os
import sys
import time
from pathlib import Path

FOLDER = Path(sys.prefix)
HERE = os.path.dirname(os.path.realpath(__file__))
LOST = "level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)"
FORKED = (
    "Cannot re-initialize XPU in forked subprocess. To use XPU with multiprocessing, you must use the 'spawn' "
    "start method"
)
SLOTS, NUMBER = 64, 8  # processes that may share a card, and bytes of an integer
BLOCK = 512  # torch's allocator hands out multiples of it


@functools.cache
def settings():
    """{"cards", "memory", "faults"} of this interpreter."""
    return json.loads((FOLDER / "card.json").read_text())


def fault(name):
    """Whether a fault is planted; the number behind its colon where it has one."""
    for text in settings()["faults"]:
        planted, _, number = text.partition(":")
        if planted == name:
            return int(number) if number else True
    return False


def visible():
    """Indices of the cards that ZE_AFFINITY_MASK leaves, in its order."""
    count = len(settings()["cards"])
    mask = os.environ.get("ZE_AFFINITY_MASK")
    if mask is None:
        return list(range(count))
    chosen = [int(part.split(".")[0]) for part in mask.split(",") if part.split(".")[0].isdigit()]
    return [index for index in dict.fromkeys(chosen) if index < count]


class Process:
    """What this process did with the card."""

    def __init__(self):
        self.asked = False  # the runtime exists: from now on a fork is a bad one
        self.bad_fork = False
        self.initialised = False
        self.current = 0
        self.operations = 0
        self.pending = 0  # operations submitted since the last wait
        self.memory = {}

    def forked(self):
        """What the child of a fork finds."""
        record("fork", parent=os.getppid(), asked_before=self.asked)
        self.bad_fork = (self.bad_fork or self.asked) and not fault("no_fork_guard")
        self.initialised, self.memory = False, {}

    def ask(self, what):
        """Record a query that creates the runtime and registers the fork guard."""
        record(what, asked_before=self.asked)
        self.asked = True

    def use(self):
        """Be ready to use the card; RuntimeError in a process that inherited its runtime."""
        if self.initialised:
            return
        if self.bad_fork:
            record("use after fork", asked_before=True)
            raise RuntimeError(FORKED)
        self.ask("init")
        if not visible():
            raise RuntimeError("No XPU devices are available.")
        self.initialised = True

    def submit(self):
        """Count one operation on the card."""
        self.use()
        self.operations += 1
        self.pending += 1
        limit = fault("lost_device_after")
        if limit and self.operations > limit:
            raise RuntimeError(LOST)

    def wait(self):
        self.pending = 0

    def memory_of(self, index):
        if index not in self.memory:
            self.memory[index] = Memory(visible()[index])
        return self.memory[index]


class Memory:
    """Bytes of one card, held by this process and the others."""

    def __init__(self, card):
        self.total, self.held, self.peak, self.taken = settings()["memory"], 0, 0, 0
        path = FOLDER / f"memory{card}"
        with open(path, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(2 * SLOTS * NUMBER)
            self.book = mmap.mmap(file.fileno(), 2 * SLOTS * NUMBER)
            self.numbers = memoryview(self.book).cast("q")  # (process, bytes it holds) of each slot
            self.slot = next(slot for slot in range(0, 2 * SLOTS, 2) if not _alive(self.numbers[slot]))
            self.numbers[self.slot], self.numbers[self.slot + 1] = os.getpid(), 0
            fcntl.flock(file, fcntl.LOCK_UN)  # the mapping keeps the file open

    def by_all(self):
        """Bytes that all living processes hold."""
        numbers = self.numbers
        return sum(numbers[i + 1] for i in range(0, 2 * SLOTS, 2) if numbers[i + 1] and _alive(numbers[i]))

    def take(self, size):
        """Count `size` bytes more; MemoryError with the numbers where they do not fit."""
        size = -(-size // BLOCK) * BLOCK
        if sum(self.numbers[1::2]) + size > self.total and self.by_all() + size > self.total:
            raise MemoryError(size, self.total, self.by_all(), self.held)
        self.held += size
        self.taken += size
        self.peak = max(self.peak, self.held)
        self.numbers[self.slot + 1] = self.held
        return size

    def give(self, size):
        self.held -= size
        self.numbers[self.slot + 1] = self.held


def _alive(process):
    return process > 0 and Path(f"/proc/{process}").exists()


def record(what, **rest):
    """Append one record to queries.jsonl, whole or not at all."""
    line = {"what": what, "pid": os.getpid(), "caller": caller(), **rest}
    with contextlib.suppress(OSError), open(FOLDER / "queries.jsonl", "ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")


def caller():
    """ "file:line function" of the nearest frame that is neither the stand-in's nor of torch.xpu."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/torch/xpu/" not in name and "<frozen" not in name and not _of_the_card(name):
            return f"{name}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return ""


def _of_the_card(name):
    """Whether a file belongs to the card; the fake packages are its users."""
    path = os.path.realpath(name)
    return os.path.dirname(path) == HERE


def watch_clock():
    """Record where the suite reads time.perf_counter while operations are pending."""
    real = time.perf_counter

    def perf_counter():
        if PROCESS.pending and "/fixtures/engine/" in sys._getframe(1).f_code.co_filename:
            record("clock", pending=PROCESS.pending, asked_before=True)
        return real()

    time.perf_counter = perf_counter


PROCESS = Process()
