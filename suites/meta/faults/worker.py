"""Faults of workers: every way to end, to go silent, or to disturb, at a chosen moment.

A fault is named like `sigsegv__n17_c3_o1_r1`: number 17, at the third generate() (without c: where the recipe calls the
hook), only the first time in a chain of runs (o), only in rank 1 of a group (r). Whenever one strikes it leaves a file
`fired-NUMBER` in the folder of its chain. Nothing here is imported by the suite itself.
"""

import ctypes
import functools
import itertools
import json
import mmap
import os
import resource
import signal
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path

import psutil

FAULTS = {}
OOM_GROUP = "xpu-llm-cts-injection-"  # followed by the number of the process that made it
MEBIBYTE = 2**20
FLOOD = 768 * MEBIBYTE  # more than the folder for temporary files of a chain takes
FOREVER = 3600  # seconds


def fault(function):
    """Register a fault: a function of (model, again), `again()` being the generate() at hand once more."""
    FAULTS[function.__name__] = function
    return function


def __getattr__(name):
    plain, _, options = name.partition("__")
    if plain not in FAULTS:
        raise AttributeError(name)
    given = {option[0]: int(option[1:]) for option in options.split("_") if option}
    return functools.partial(_planted, plain, given)


def _planted(name, given, model):
    if "r" in given and os.environ.get("RANK") != str(given["r"]):
        return
    if "c" not in given:
        _strike(name, given, model, None)
        return
    generate, calls = model.generate, itertools.count(1)

    def counted(*arguments, **options):
        if next(calls) == given["c"]:
            _strike(name, given, model, lambda: generate(*arguments, **options))
        return generate(*arguments, **options)

    model.generate = counted


def _strike(name, given, model, again):
    # A worker's folder for temporary files is in that of its run, which is in the chain's.
    mark = Path(tempfile.gettempdir()).parents[1] / f"fired-{given['n']}"
    if given.get("o") and mark.exists():
        return
    mark.touch()
    FAULTS[name](model, again)


def _native(code):
    """Run x86-64 machine code, holding the interpreter's lock."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex(code))
    ctypes.PYFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()


# -- signals ----


@fault
def sigsegv(model, again):
    ctypes.string_at(0)


@fault
def sigbus(model, again):
    """Read a page of a mapped file that was cut off, as when a disk fills under a checkpoint."""
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        file.truncate(0)
        page[0]


@fault
def sigabrt(model, again):
    os.abort()


@fault
def sigfpe(model, again):
    _native("31c9 31c0 99 f7f9")  # divides by zero


@fault
def sigill(model, again):
    _native("0f0b")


@fault
def sigkill(model, again):
    os.kill(os.getpid(), signal.SIGKILL)


# -- memory ----


@fault
def oom_killed(model, again):
    """Take more memory than a control group of the injection allows: the kernel's OOM killer ends the worker."""
    Path(oom_group(), "cgroup.procs").write_text(str(os.getpid()))
    bytearray(1024 * MEBIBYTE)
    raise RuntimeError("the control group did not hold")


def oom_group():
    """The control group of the fault injection that this process descends from."""
    pid = os.getpid()
    while pid > 1:
        for kind in ("memory", ""):
            folder = Path("/sys/fs/cgroup", kind, f"{OOM_GROUP}{pid}")
            if folder.exists():
                return folder
        pid = psutil.Process(pid).ppid()
    raise RuntimeError("no control group was made for this fault injection")


@fault
def memory_refused(model, again):
    """Address space runs out in the stack's own allocator."""
    import torch

    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + 64 * MEBIBYTE, resource.RLIM_INFINITY))
    torch.empty(8 * 1024 * MEBIBYTE, dtype=torch.uint8)


# -- silence ----


@fault
def sleeps(model, again):
    time.sleep(FOREVER)


@fault
def deadlocks_in_native_code(model, again):
    """Lock a mutex twice, with the interpreter's lock held: no thread of the worker goes on."""
    mutex = (ctypes.c_char * 64)()
    lock = ctypes.PyDLL(None).pthread_mutex_lock
    lock(mutex)
    lock(mutex)


@fault
def spins_in_native_code(model, again):
    _native("ebfe")


@fault
def never_stops(model, again):
    while True:
        again()


@fault
def is_stopped(model, again):
    os.kill(os.getpid(), signal.SIGSTOP)


# -- output ----


@fault
def floods(model, again):
    """Write more than there is room for, then go on."""
    for _ in range(FLOOD // (2 * MEBIBYTE)):
        _shout()


@fault
def floods_for_ever(model, again):
    while True:
        _shout()


def _shout():
    for descriptor in (1, 2):
        left = memoryview((b"x" * 1023 + b"\n") * 1024)
        while left:
            left = left[os.write(descriptor, left) :]


# -- the connection ----


def _connection():
    """The connection of the worker this runs in."""
    frame = sys._getframe()
    while not (frame.f_code.co_name == "serve" and "connection" in frame.f_locals):
        frame = frame.f_back
    return frame.f_locals["connection"]


def _say(header, more=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    _connection().sendall(struct.pack(">Q", len(text)) + text + more)


@fault
def closes_its_connection(model, again):
    os.close(_connection().fileno())
    time.sleep(FOREVER)


@fault
def shuts_its_connection_down(model, again):
    """And computes on."""
    _connection().shutdown(socket.SHUT_RDWR)


@fault
def exits_without_an_answer(model, again):
    os._exit(0)


@fault
def words_on_the_connection(model, again):
    """What a library writes to a descriptor that is not its own."""
    _connection().sendall(b"Loading checkpoint shards: 100%|##########| 2/2\n" * 40)


@fault
def noise_on_the_connection(model, again):
    _say(bytes(range(256)))


@fault
def no_header_on_the_connection(model, again):
    _say([1, 2, 3])


@fault
def odd_array_on_the_connection(model, again):
    _say({"message": {}, "arrays": [["logits", "no such type", [2]]]})


@fault
def endless_array_on_the_connection(model, again):
    _say({"message": {}, "arrays": [["logits", "<f4", [2**45]]]})


@fault
def an_answer_to_nothing(model, again):
    _say({"message": {"seconds": 1.0, "proof": {}}, "arrays": []})


@fault
def half_a_frame_and_death(model, again):
    _connection().sendall(struct.pack(">Q", 64) + b'{"message": ')
    os.kill(os.getpid(), signal.SIGSEGV)


@fault
def half_a_frame_and_silence(model, again):
    _connection().sendall(struct.pack(">Q", 64) + b'{"message": ')
    time.sleep(FOREVER)


@fault
def half_a_frame_and_on(model, again):
    _connection().sendall(struct.pack(">Q", 64) + b'{"message": ')


# -- grandchildren ----


def _grandchild(own_session):
    """Leave a process that holds the worker's connection and its output, in an environment of its own."""
    if os.fork() == 0:
        if own_session:
            os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.execve("/bin/sleep", ["sleep", str(FOREVER)], {})
        os._exit(0)


@fault
def leaves_a_grandchild_and_goes_on(model, again):
    _grandchild(own_session=True)


@fault
def leaves_a_grandchild_and_dies(model, again):
    _grandchild(own_session=True)
    os.kill(os.getpid(), signal.SIGSEGV)


@fault
def leaves_a_child_and_hangs(model, again):
    if os.fork() == 0:
        time.sleep(FOREVER)
    time.sleep(FOREVER)


# -- what is no end ----


@fault
def raises(model, again):
    raise RuntimeError("planted")


@fault
def kills_its_parent(model, again):
    """As the OOM killer may: it looks for the biggest, and knows nothing of who is whose parent."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(FOREVER)


@fault
def loses_its_device(model, again):
    """No device of this project's hosts can be lost: what the driver says then is planted."""
    raise RuntimeError("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)")
