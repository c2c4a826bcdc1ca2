"""Devices and the platforms they belong to: recorded names and ids, and what a device can do."""

import tomllib

import pytest

from fixtures.matrix import Device, load_matrix
from fixtures.matrix.loader import FOLDER

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


def test_every_platform_of_an_intel_gpu_was_recorded(matrix):
    assert {p.name for p in matrix.platforms if p.device_type == "xpu"} == {
        row["platform"] for row in RECORDED if "platform" in row
    }
