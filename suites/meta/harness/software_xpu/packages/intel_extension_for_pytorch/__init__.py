"""A stand-in for Intel Extension for PyTorch 2.8.10+xpu, written for the suite's own tests.

It behaves as upstream's tag v2.8.10+xpu does in the ways that the suite must cope with. Each module names the upstream
files that it models, below intel_extension_for_pytorch/ of that tag. It has none of upstream's kernels.

Importing it asks for devices (xpu/__init__.py, utils/utils.py `has_xpu`), and so registers the fork guard.
"""

import os

import torch

from . import _C  # noqa: F401

__version__ = "2.8.10+xpu"

HAS_XPU = torch.xpu.is_available()
os.environ["UR_L0_ENABLE_RELAXED_ALLOCATION_LIMITS"] = "1"  # upstream's __init__.py sets it, too late for itself

from . import llm, nn, quantization, xpu  # noqa: E402, F401
