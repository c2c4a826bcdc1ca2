"""Where the version of a device's driver is known, by which waivers may be limited."""

import json
import subprocess
import sys

import pytest

from fixtures.matrix import Device, load_matrix
from fixtures.plugin import collection
from fixtures.system import fingerprint
from fixtures.worker import devices as worker_devices
from fixtures.worker.devices import total_memory


@pytest.mark.parametrize(
    "reported",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Wed Feb 26 01:53:17 UTC 2025\nGCC version: 12\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (U22) with gcc 12.2.0 \n",
    ],
)
def test_the_driver_is_read_from_the_kernel(tmp_path, reported):
    """Planted: there is no NVIDIA device where this runs."""
    (tmp_path / "version").write_text(reported)
    assert fingerprint.nvidia_driver(tmp_path / "version") == "570.86.15"


def test_the_driver_is_asked_of_nvidia_smi_where_the_kernel_does_not_tell(tmp_path, monkeypatch):
    """Planted, too: a program of that name."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fingerprint.nvidia_driver(tmp_path / "absent") is None
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 535.104.05\necho 535.104.05\n")
    smi.chmod(0o755)
    assert fingerprint.nvidia_driver(tmp_path / "absent") == "535.104.05"


MAX = Device("xpu", "Intel(R) Data Center GPU Max 1550", driver="1.6.33276+16")
GPU_STACK = {"torch": "2.8.0+xpu", "intel-extension-for-pytorch": "2.8.10+xpu"}


@pytest.fixture
def planted(monkeypatch):
    """A function that plants devices and versions of a stack as torch tells them on Intel GPUs; none is at hand."""

    def plant(*found, versions=GPU_STACK, nodes=("xpu",)):
        monkeypatch.setattr(collection, "device_types", lambda: list(nodes))
        monkeypatch.setattr(collection, "devices", lambda kind, python: tuple(d for d in found if d.type == kind))
        monkeypatch.setattr(collection, "versions_of", lambda python: versions)

    return plant


def test_a_device_brings_its_platform_and_driver(planted):
    planted(MAX)
    assert collection.present_drivers(load_matrix()) == {"max1550": "1.6.33276+16"}
    assert collection.present_platforms(load_matrix()) == {"max1550": MAX.name}


def test_the_host_is_there_with_the_cpu_build_alone(planted):
    planted(MAX, versions=GPU_STACK | {"intel-extension-for-pytorch": "2.8.0"})
    assert collection.present_platforms(load_matrix()) == {"cpu": "cpu", "max1550": MAX.name}
    planted(MAX, versions={"torch": "2.8.0"})
    assert "cpu" not in collection.present_platforms(load_matrix())


def test_a_device_without_a_kernel_node_is_found_by_the_build_and_by_name(planted):
    """In WSL, and in containers without /sys."""
    planted(MAX, nodes=())
    assert "max1550" in collection.present_platforms(load_matrix())
    planted(MAX, nodes=(), versions={})
    assert "max1550" not in collection.present_platforms(load_matrix())
    assert collection.chosen_platforms(load_matrix(), "max1550", False) == ["max1550"]


def test_a_device_of_no_platform_is_reported_with_what_to_add(planted):
    planted(Device("xpu", "Intel(R) Arc(TM) Pro B70 Graphics", 0xE223))
    (line,) = collection.strangers(load_matrix())
    assert "'Intel(R) Arc(TM) Pro B70 Graphics' (PCI id 0xe223)" in line
    assert "device_names" in line and "fixtures/matrix/platforms.toml" in line  # noqa: PT018
    with pytest.raises(pytest.UsageError, match=r"this machine has no b60 \(it has none\).*Pro B70 Graphics"):
        collection.chosen_platforms(load_matrix(), "b60", False)
    planted(MAX)
    assert not [*collection.strangers(load_matrix())]


def test_a_gpu_build_that_sees_no_device_is_reported(planted):
    planted()
    assert [*collection.strangers(load_matrix())] == [
        "torch 2.8.0+xpu sees no Intel GPU; run python -m fixtures.doctor to see why"
    ]


def test_devices_are_asked_of_the_interpreter_of_the_stack(tmp_path):
    """Planted: an interpreter that says what it has."""
    python = tmp_path / "python"
    answer = '{"name": "Intel(R) Arc(TM) B580 Graphics", "driver": "1", "xmx": true, "memory": 12450000000, "id": null}'
    python.write_text(f"#!/bin/sh\necho a warning\necho 'device {answer}'\n")
    python.chmod(0o755)
    (device,) = collection.devices("xpu", str(python))
    assert device == Device("xpu", "Intel(R) Arc(TM) B580 Graphics", None, True, None, "1", 12_450_000_000)
    assert collection.devices("xpu", str(tmp_path / "absent")) == ()
    assert total_memory("xpu", str(python)) == 12_450_000_000
    assert total_memory("xpu", str(tmp_path / "absent")) is None
    assert total_memory("cpu", str(python)) is None


def test_a_device_that_does_not_tell_its_memory_has_no_plan(monkeypatch):
    monkeypatch.setattr(worker_devices, "devices", lambda *_: (MAX,))
    assert total_memory("xpu") is None


def test_devices_are_asked_by_their_properties(tmp_path):
    """The program that asks, run with a torch of its own that knows one device and raises on mem_get_info."""
    (tmp_path / "torch.py").write_text(
        "import types\n"
        "def mem_get_info(index): raise RuntimeError('not supported by this driver')\n"
        "properties = types.SimpleNamespace(driver_version='1.6', total_memory=2**34)\n"
        "xpu = types.SimpleNamespace(is_available=lambda: True, device_count=lambda: 1, mem_get_info=mem_get_info,\n"
        "    get_device_name=lambda i: 'Arc', get_device_properties=lambda i: properties)\n"
    )
    command = [sys.executable, "-c", worker_devices.NAME_DEVICES, "xpu"]
    answer = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout.removeprefix("device "))["memory"] == 2**34


@pytest.mark.parametrize("cell", load_matrix().cells(["max1550"])[:1], ids=lambda cell: cell.id)
def test_a_cell_that_is_only_a_parameter_asks_for_no_device(cell, request):
    assert collection.cell_of(request.node) is None
