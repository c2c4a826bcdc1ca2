"""A pytest plugin: this machine has an Intel GPU that no platform of the matrix is (said, not real)."""

from fixtures.matrix import Device
from fixtures.plugin import collection

DEVICE = Device("xpu", "Intel(R) Arc(TM) Pro B70 Graphics", 0xE223)


def pytest_configure():
    collection.device_types = lambda: ["xpu"]
    collection.devices = lambda device_type, python: (DEVICE,) if device_type == "xpu" else ()
