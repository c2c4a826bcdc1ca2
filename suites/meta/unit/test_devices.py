"""Devices and the platforms they belong to: recorded names and ids, and what a device can do."""

import sys
import tomllib

import pytest

from fixtures.matrix import Device, load_matrix
from fixtures.matrix.loader import FOLDER
from fixtures.worker import devices as worker_devices

RECORDED = tomllib.loads((FOLDER / "device_names.toml").read_text())["devices"]


@pytest.fixture(scope="module")
def matrix():
    return load_matrix()


@pytest.mark.parametrize(
    ("device", "platform"),
    [
        (Device("xpu", "Intel(R) Arc(TM) 140V GPU (16GB)"), "lunar-lake"),
        (Device("xpu", "Intel(R) Arc(TM) Graphics"), "core-ultra"),
        (Device("xpu", "Intel(R) Arc(TM) Graphics", xmx=True, block_2d=True), "lunar-lake"),
        (Device("xpu", "Intel(R) Arc(TM) Graphics", xmx=True, block_2d=False), "arrow-lake"),
        (Device("xpu", "Intel(R) Graphics [0x0BD5]"), "max1550"),
        (Device("xpu", "Intel(R) Data Center GPU Max 1550", xmx=False, block_2d=False), None),
        (Device("cuda", "Intel(R) Graphics [0x64a0]"), "cuda"),
        (Device("cpu", "AMD EPYC"), "cpu"),
        (Device("cuda", "NVIDIA H100 80GB HBM3"), "cuda"),
    ],
)
def test_a_device_is_known_by_its_name_its_id_and_what_it_can_do(matrix, device, platform):
    found = matrix.platform_of(device)
    assert (found.name if found else None) == platform


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: f"{row['name']} {row.get('id', '')}".strip())
def test_a_recorded_device_is_of_its_platform(matrix, row):
    id = int(row["id"], 16) if "id" in row else None
    found = matrix.platform_of(Device("xpu", row["name"], id, row.get("xmx"), row.get("block_2d")))
    assert (found.name if found else None) == row.get("platform")
    assert row["source"].strip()


@pytest.mark.parametrize(("device_type", "why"), [
    ("npu", "has no torch.npu"),
    ("xpu", "torch.xpu.is_available() of its torch"),
])  # fmt: skip
def test_a_device_that_torch_does_not_tell_has_a_reason(tmp_path, monkeypatch, device_type, why):
    """A torch with nothing but an absent xpu, so that no stack has to be there."""
    (tmp_path / "torch.py").write_text(
        "import types\n__version__ = '9'\nxpu = types.SimpleNamespace(is_available=lambda: False)\n"
    )
    monkeypatch.setattr(worker_devices, "base_environment", lambda: {"PYTHONPATH": str(tmp_path)})
    assert worker_devices._asked.__wrapped__(device_type, sys.executable)[0] == ()
    assert why in worker_devices._asked.__wrapped__(device_type, sys.executable)[1]


def test_a_vendors_plug_in_is_imported_before_torch_is_asked(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("__version__ = '9'\n")
    (tmp_path / "plug_in.py").write_text(
        "import torch, types\nnames = dict(is_available=lambda: True, device_count=lambda: 1, "
        "get_device_name=lambda i: 'N1', get_device_properties=lambda i: None)\n"
        "torch.npu = types.SimpleNamespace(**names)\n"
    )
    monkeypatch.setattr(worker_devices, "base_environment", lambda: {"PYTHONPATH": str(tmp_path)})
    monkeypatch.setitem(worker_devices.PLUGINS, "npu", "plug_in")
    found, why = worker_devices._asked.__wrapped__("npu", sys.executable)
    assert ([device.name for device in found], why) == (["N1"], "")
    monkeypatch.setitem(worker_devices.PLUGINS, "npu", "no_such_plug_in")
    assert "No module named 'no_such_plug_in'" in worker_devices._asked.__wrapped__("npu", sys.executable)[1]


def test_every_platform_of_an_intel_gpu_was_recorded(matrix):
    assert {p.name for p in matrix.platforms if p.device_type == "xpu"} == {
        row["platform"] for row in RECORDED if "platform" in row
    }
