"""Where the version of a device's driver is known, by which waivers may be limited."""

import subprocess
import sys

import pytest

from fixtures.matrix import load_matrix
from fixtures.plugin import collection
from fixtures.system import fingerprint


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
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert fingerprint.nvidia_driver(tmp_path / "absent") is None
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 535.104.05\necho 535.104.05\n")
    smi.chmod(0o755)
    assert fingerprint.nvidia_driver(tmp_path / "absent") == "535.104.05"


def test_a_device_brings_its_platform_and_driver(monkeypatch):
    """Planted as torch tells it on Intel GPUs, which are not at hand."""
    monkeypatch.setattr(collection, "_device_nodes", lambda: ["xpu"])
    monkeypatch.setattr(collection, "devices", lambda _: (("Intel(R) Data Center GPU Max 1550", "1.6.33276+16"),))
    assert collection.present_drivers(load_matrix()) == {"max1550": "1.6.33276+16"}
    assert collection.present_platforms(load_matrix())["max1550"] == "Intel(R) Data Center GPU Max 1550"


def test_a_device_tells_its_memory(monkeypatch):
    """Planted as torch tells it."""
    monkeypatch.setattr(collection, "_reported", lambda _: (("Intel(R) Arc(TM) B580 Graphics", "1.6", "12450000000"),))
    assert collection.total_memory("xpu") == 12_450_000_000
    assert collection.total_memory("cpu") is None
    assert collection.devices("xpu") == (("Intel(R) Arc(TM) B580 Graphics", "1.6"),)


def test_a_device_that_does_not_tell_its_memory_has_no_plan(monkeypatch):
    monkeypatch.setattr(collection, "_reported", lambda _: (("Intel(R) Graphics", "", ""),))
    assert collection.total_memory("xpu") is None


def test_devices_are_asked_by_their_properties(tmp_path):
    """The program that asks, run with a torch of its own that knows one device and raises on mem_get_info."""
    (tmp_path / "torch.py").write_text(
        "import types\n"
        "def mem_get_info(index): raise RuntimeError('not supported by this driver')\n"
        "properties = types.SimpleNamespace(driver_version='1.6', total_memory=2**34)\n"
        "xpu = types.SimpleNamespace(is_available=lambda: True, device_count=lambda: 1, mem_get_info=mem_get_info,\n"
        "    get_device_name=lambda i: 'Arc', get_device_properties=lambda i: properties)\n"
    )
    command = [sys.executable, "-c", collection.NAME_DEVICES, "xpu"]
    answer = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert answer.stdout == "Arc\t1.6\t17179869184\n"
