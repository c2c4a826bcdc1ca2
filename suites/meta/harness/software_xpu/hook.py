"""Runs at the start of every process of the stand-in interpreter: completes modules once they have been imported."""

import importlib
import importlib.abc
import importlib.machinery
import sys
from pathlib import Path


def _torch(module):
    importlib.import_module("software_xpu.install").install(module)


def _devices(module):
    module.DRM_NODES = Path(sys.prefix) / "sys/class/drm"


COMPLETED = {"torch": _torch, "fixtures.worker.devices": _devices}


class _Loader(importlib.abc.Loader):
    """The real loader, and afterwards the completion of what it loaded."""

    def __init__(self, real, complete):
        self.real, self.complete = real, complete

    def create_module(self, spec):
        return self.real.create_module(spec)

    def exec_module(self, module):
        module.__loader__ = module.__spec__.loader = self.real  # what reads sources asks the loader
        self.real.exec_module(module)
        self.complete(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname not in COMPLETED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, COMPLETED[fullname])
        return spec


sys.meta_path.insert(0, _Finder())
