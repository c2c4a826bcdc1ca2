"""What test_worker selects a worker to do to itself. Runs inside the worker: `service` is its Service."""

import os
import signal
import sys
import time

from suites.meta.faults.worker import FAULTS


def echo(service, value):
    return value


def where(service):
    return {
        "pid": os.getpid(),
        "rank": os.environ.get("RANK"),
        "ipex": sys.modules.get("intel_extension_for_pytorch") is not None,
    }


def environment(service, names):
    return {name: os.environ.get(name) for name in names}


def imported(service, names):
    """Which of the modules this process has."""
    return [name for name in names if sys.modules.get(name)]


def end_by(service, number):
    os.kill(os.getpid(), number)


def exit_with(service, code):
    os._exit(code)


def sleep(service, seconds):
    time.sleep(seconds)


def speak_then_die(service, words):
    print(words, flush=True)
    os.kill(os.getpid(), signal.SIGABRT)


def flood(service, mebibytes):
    for _ in range(mebibytes):
        sys.stdout.write("x" * 2**20)
    return mebibytes


def numbers_in_layers(service, name):
    """Numbers that the decoder layers of a loaded model hold now."""
    from fixtures.engine.layerwise import decoder_layers

    found = decoder_layers(service.models[name].model).parameters()
    return sum(parameter.numel() for parameter in found if not parameter.is_meta)


def raise_error(service, kind, text):
    raise {"MemoryError": MemoryError, "RuntimeError": RuntimeError}[kind](text)


def one_rank(service, rank, then):
    """Only `rank` misbehaves; the others answer, or wait for it when `then` says so."""
    if os.environ["RANK"] == str(rank):
        os.kill(os.getpid(), signal.SIGKILL)
    if then == "wait":
        time.sleep(3600)
    return os.environ["RANK"]


def one_rank_sleeps(service, rank):
    """Only `rank` misbehaves, by its own doing; the others wait for it where ranks do."""
    import torch.distributed as dist

    if os.environ["RANK"] == str(rank):
        time.sleep(3600)
    dist.init_process_group("gloo")


def one_rank_raises(service, rank):
    if os.environ["RANK"] == str(rank):
        raise RuntimeError("only here")
    time.sleep(3600)


def fault(service, name):
    """A fault of the fault injection, by its name."""
    FAULTS[name](None, None)


def leave_a_child(service):
    """The number of a child in a session of its own that stays."""
    child = os.fork()
    if child == 0:
        os.setsid()
        time.sleep(3600)
    return child


def forget_static_cache(service, name, stock):
    """Make a loaded model one whose class knows no static cache; `stock` says whether it is one of the reference."""
    loaded = service.models[name]
    type(loaded.model)._supports_static_cache, loaded.stock = False, stock
