"""A stand-in for a machine with Intel GPUs and IPEX 2.8.10+xpu: an interpreter whose torch has a software XPU.

It shows whether code asks, moves, synchronises and reads as it must on such a machine. It computes on the host, so it
shows nothing about a card's kernels, numbers, speed, drivers or compilers. `torch.profiler` sees no kernels on it.

`interpreter` makes the interpreter; a whole run is `<interpreter> -m pytest --platform max1550 ...` from the project's
root. Any process started with it has the card once it imports torch. What code asked of the card is recorded
(`queries`), and so are its faults.
"""

import dataclasses
import json
import os
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
MAX_1550 = "Intel(R) Data Center GPU Max 1550"
TORCH, IPEX = "2.8.0+xpu", "2.8.10+xpu"
# What a test may plant; lost_device_after:N breaks the card at a process's N-th operation.
FAULTS = (
    "optimize_swallows",  # a RuntimeError inside ipex.llm.optimize, which returns the model as it was
    "tensors_left_on_host",  # an optimised layer keeps a weight on the host and moves its input there and back
    "wrong_int4_engine",  # INT4 linears run on another engine than IPEX_COMPUTE_ENG asks for
    "tp_size_1",  # the optimiser takes a sharded model for a whole one, although it got DeepSpeed's engine
    "lost_device_after",
    "no_diffusers",  # the package is not installed
    "no_fork_guard",  # no fault of a card: forks may use it, so that a test sees what lies behind the guard
)
INTEL_VENDOR = "0x8086"
PCI_IDS = {MAX_1550: 0x0BD5, "Intel(R) Data Center GPU Max 1100": 0x0BDA, "Intel(R) Arc(TM) B580 Graphics": 0xE20B}


@dataclasses.dataclass(frozen=True)
class Query:
    """One record of the stand-in.

    `what` is the function of torch.xpu that was asked; "fork" of a process that had torch; "use after fork" refused;
    "clock" where the suite read a clock while `pending` operations were not waited for. `caller` is "file:line
    function", `asked_before` whether the process had asked for the card by then.
    """

    what: str
    pid: int
    caller: str = ""
    asked_before: bool = False
    pending: int = 0
    parent: int = 0


def interpreter(folder, cards=(MAX_1550,), memory=64 * 2**30, faults=()):
    """The path of an interpreter in `folder` that has one software XPU per name in `cards`, `memory` bytes each.

    It uses the packages of the interpreter that runs this. ValueError for an unknown fault.
    """
    for fault in faults:
        if fault.partition(":")[0] not in FAULTS:
            raise ValueError(f"unknown fault {fault!r}; known are {', '.join(FAULTS)}")
    folder = Path(folder).resolve()
    stack = folder / "stack"
    stack.mkdir(parents=True)
    settings = {
        "cards": list(cards),
        "ids": [PCI_IDS.get(card) for card in cards],
        "memory": memory,
        "faults": list(faults),
    }
    (folder / "card.json").write_text(json.dumps(settings))
    _nodes(folder, cards)
    _packages(stack, with_diffusers="no_diffusers" not in faults)
    return _environment(folder, stack)


def queries(python):
    """The [Query] records of an interpreter, in their order."""
    path = Path(python).parents[1] / "queries.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [Query(**json.loads(line)) for line in lines]


def _nodes(folder, cards):
    """Kernel nodes as sysfs has them, one of each card."""
    for number, card in enumerate(cards):
        device = folder / "sys/class/drm" / f"renderD{128 + number}" / "device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{INTEL_VENDOR}\n")
        (device / "device").write_text(f"{PCI_IDS.get(card, 0):#06x}\n")


def _packages(stack, with_diffusers):
    """The fake packages and the metadata of versions, which stand before the real ones on the path."""
    (stack / "software_xpu").symlink_to(HERE)
    (stack / "intel_extension_for_pytorch").symlink_to(HERE / "packages/intel_extension_for_pytorch")
    versions = {"torch": TORCH, "intel_extension_for_pytorch": IPEX}
    if with_diffusers:
        (stack / "diffusers").symlink_to(HERE / "packages/diffusers")
        versions["diffusers"] = "0.0.0"
    for name, version in versions.items():
        information = stack / f"{name}-{version}.dist-info"
        information.mkdir()
        real = metadata.metadata(name).items() if name == "torch" else ()
        rest = "".join(f"{key}: {value}\n" for key, value in real if key in ("Requires-Dist", "Provides-Extra"))
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{rest}")


def _environment(folder, stack):
    """A virtual environment around the running interpreter's packages; returns its python."""
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    version = ".".join(map(str, sys.version_info[:3]))
    (folder / "pyvenv.cfg").write_text(
        f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    )
    programs = folder / "bin"
    programs.mkdir()
    python = programs / "python"
    python.symlink_to(base)
    for path in Path(sys.executable).parent.iterdir():  # mpirun lies beside the interpreter
        if path.name.startswith(("mpi", "hydra")):
            (programs / path.name).symlink_to(path)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    site.mkdir(parents=True)
    lines = [str(stack), sysconfig.get_path("purelib"), "import software_xpu.hook"]
    (site / "software_xpu.pth").write_text("\n".join(lines) + "\n")
    return os.fspath(python)
